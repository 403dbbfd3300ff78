// SPDX-License-Identifier: GPL-2.0-only

//! How large rings, region and `max_bytes` have to be for a measured flow: SEPCOM's model as far as it holds here.
//!
//! SEPCOM (Chen, Su, Feng and Zhang, Valuetools 2007, section 4) keeps packets in n units of one buffer that a
//! timer of the driver walks through, all of them, every α; a look at a unit takes `C_scan`. A unit's time t_M is
//! therefore ρα/2n + ρ·`C_scan`·(n + 1)/2 + C (equation 7), which has a minimum at n = √(α/`C_scan`), and n is
//! bounded from above (9), where the walk takes too long, and from below (10): n > p·α, since that many packets
//! come between two walks.
//!
//! Our server does not walk. A ring says by its position where the next entry is, so a round costs what it finds, and
//! one look at one cell where there is nothing: `C_scan` is that look, and is paid once for a ring instead of n
//! times. The term that grows with n is gone, and with it the upper bound and the best n: more cells cost memory and
//! nothing else. The lower bound stays. p is the highest rate, as the paper wants it, and α what the server really
//! took. To it comes the time for which a program may be away without a packet missing it, since a program of ours is
//! scheduled, and does not answer as the paper's does, in a constant β:
//!
//! - cells ≥ p·(α + away). The detour ring fills while the program is away; what it then gives back at once waits in
//!   the revert ring for the next round.
//! - packets held ≥ p·(max(α, out) + away). An mbuf, and the packet behind it, is taken until the kernel has it back,
//!   wherever it is meanwhile; out is the paper's β with all waiting, as Little's law has it.
//!
//! All in whole packets, packets a second and nanoseconds, rounded up: whoever reads the figures gets the same
//! sums.

use crate::measure::{Missed, Traffic};
use nettap::uapi::mbuf::{DATA_OFFSET, MBUFS_MAX};
use nettap::uapi::stats::RegionStats;
use nettap::uapi::tap::{CHAIN_MAX, RING_MAX, RING_MIN};
use std::time::Duration;

/// What there is of something, and what has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// There is.
    pub now: u64,
    /// Has to be.
    pub needed: u64,
    /// How long `now` lasts at the highest rate when nothing is given back.
    pub lasts: Duration,
}

impl Size {
    /// Of something of which `rate` a second go.
    pub fn new(now: u64, needed: u64, rate: u64) -> Self {
        let ns = u128::from(now) * 1_000_000_000 / u128::from(rate.max(1));
        Self {
            now,
            needed,
            lasts: Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)),
        }
    }

    /// Whether there is less than has to be.
    pub fn is_short(&self) -> bool {
        self.now < self.needed
    }

    /// The next power of two that does, within limits: what to set in place of what there is.
    pub fn advised(&self, least: u64, most: u64) -> Option<u64> {
        let enough = self.needed.max(least).checked_next_power_of_two();
        let advised = enough.unwrap_or(most).min(most);
        (advised > self.now).then_some(advised)
    }
}

/// Packets that come in a time, rounded up.
pub fn come(rate: u64, time: Duration) -> u64 {
    let packets = (u128::from(rate) * time.as_nanos()).div_ceil(1_000_000_000);
    u64::try_from(packets).unwrap_or(u64::MAX)
}

/// Mbufs that a packet of so many bytes fills, in a region with mbufs of this size.
pub fn mbufs_a_packet(length: u64, snaplen: u32, mbuf_size: u32) -> u64 {
    let snaplen = match snaplen {
        0 => u64::MAX,
        bytes => u64::from(bytes),
    };
    let capacity = u64::from(mbuf_size.saturating_sub(DATA_OFFSET)).max(1);
    let mbufs = length.min(snaplen).div_ceil(capacity);
    mbufs.clamp(1, u64::from(CHAIN_MAX))
}

/// What a tap's traffic asks for.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// p: packets a second, at the highest.
    pub rate: u64,
    /// α, as measured, or the longest that it can be.
    pub alpha: Duration,
    /// How long the program may be away.
    pub away: Duration,
    /// p·α: SEPCOM's lower bound; n has to be above.
    pub bound: u64,
    /// Cells of each ring.
    pub cells: Size,
    /// Packets out, until a program that was away has caught up.
    pub packets: u64,
    /// Mbufs of each.
    pub mbufs_a_packet: u64,
    /// Bytes of them in the kernel; nothing: no reading saw one.
    pub bytes: Option<Size>,
}

impl Model {
    /// Of a tap; nothing: it had no traffic.
    pub fn of(
        traffic: &Traffic,
        mbuf_size: u32,
        longest_alpha: Duration,
        away: Duration,
    ) -> Option<Self> {
        if traffic.peak == 0 {
            return None;
        }
        let (tap, rate) = (&traffic.tap, traffic.peak);
        let alpha = traffic.alpha.unwrap_or(longest_alpha);
        let cells = come(rate, alpha.saturating_add(away));
        let packets = come(rate, alpha.max(traffic.out).saturating_add(away));
        let bytes = traffic.held.map(|held| {
            let needed = packets.saturating_mul(held);
            Size::new(tap.max_bytes, needed, rate.saturating_mul(held))
        });
        Some(Self {
            rate,
            alpha,
            away,
            bound: come(rate, alpha),
            cells: Size::new(u64::from(tap.ring_cells), cells, rate),
            packets,
            mbufs_a_packet: mbufs_a_packet(traffic.length, tap.snaplen, mbuf_size),
            bytes,
        })
    }
}

/// Mbufs of a region for all taps that share it, beside those that programs have for new packets.
pub fn mbufs<'a>(region: &RegionStats, models: impl Iterator<Item = &'a Model>) -> Size {
    let (mut needed, mut rate) = (0u64, 0u64);
    for model in models {
        let each = model.mbufs_a_packet;
        needed = needed.saturating_add(model.packets.saturating_mul(each));
        rate = rate.saturating_add(model.rate.saturating_mul(each));
    }
    let others = u64::from(region.allocated);
    let now = u64::from(region.mbufs);
    Size {
        now,
        needed: needed.saturating_add(others),
        ..Size::new(now.saturating_sub(others), 0, rate)
    }
}

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Cells of the tap's rings.
    Ring(u64),
    /// Mbufs of the region.
    Mbufs(u64),
    /// The tap's `max_bytes`.
    MaxBytes(u64),
    /// The largest ring is too small: more sessions, each with a ring of its own.
    Share,
    /// There was room enough, and packets missed the program all the same: it was away for longer.
    Program,
}

/// What should change for a tap, the settings first.
pub fn advice(model: &Model, mbufs: Option<&Size>, missed: &Missed) -> Vec<Advice> {
    let mut all = Vec::new();
    let most = u64::from(RING_MAX);
    if model.cells.is_short() {
        let cells = model.cells.advised(u64::from(RING_MIN), most);
        all.extend(cells.map(Advice::Ring));
        if model.cells.needed > most {
            all.push(Advice::Share);
        }
    }
    if let Some(mbufs) = mbufs.filter(|mbufs| mbufs.is_short()) {
        let advised = mbufs.advised(1, u64::from(MBUFS_MAX));
        all.extend(advised.map(Advice::Mbufs));
    }
    if let Some(bytes) = model.bytes.filter(Size::is_short) {
        all.extend(bytes.advised(1024, 1 << 62).map(Advice::MaxBytes));
    }
    let enough = |size: Option<&Size>| size.is_none_or(|size| !size.is_short());
    let unexplained = [
        missed.ring != 0 && enough(Some(&model.cells)),
        missed.mbufs != 0 && enough(mbufs),
        missed.bytes != 0 && enough(model.bytes.as_ref()),
        missed.stalled != 0,
    ];
    if unexplained.contains(&true) {
        all.push(Advice::Program);
    }
    all
}
