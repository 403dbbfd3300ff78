// SPDX-License-Identifier: GPL-2.0-only

//! What a tap is: an interface, a mode, policies, a detour ring's end and counters. Passive; what
//! happens on it is in `detour`, `serve`, `revert` and `reclaim`.
//!
//! The way up has a lock of its own here, because several CPUs detour at once; it is held while a
//! cell is booked and not while the packet is copied. The way back is under the lock of the session
//! (`serve`). Order: session, then tap.

use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

use crate::region::Region;
use crate::rings::RingPages;
use crate::stats::bump;
use crate::stats::Counter;
use crate::stats::DetourCounts;
use crate::stats::Miss;
use crate::stats::MissCounts;
use crate::sys::word::SharedWord;
use crate::uapi::ring::Look;
use crate::uapi::ring::PrivateProducer;
use crate::uapi::ring::Word;
use crate::uapi::stats::TapStats;
use crate::uapi::tap::Gso;
use crate::uapi::tap::Mode;
use crate::uapi::tap::OnExit;
use crate::uapi::tap::OnFull;
use crate::uapi::tap::IFNAME_MAX;

/// What a program asked for, checked.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) on_full: OnFull,
    pub(crate) on_exit: OnExit,
    pub(crate) gso: Gso,
    /// Bytes of a packet to copy; `u32::MAX` for all.
    pub(crate) snaplen: u32,
    pub(crate) max_bytes: u64,
    pub(crate) ring_cells: u32,
}

/// Who and where, for people and tools.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) id: u32,
    pub(crate) session: u32,
    pub(crate) pid: u32,
    pub(crate) ifindex: u32,
    pub(crate) netns: u32,
    pub(crate) ifname: [u8; IFNAME_MAX],
}

/// The way up, under the tap's lock.
struct Up {
    open: bool,
    producer: PrivateProducer<SharedWord>,
    /// Never goes back, unlike the counters.
    next_number: u64,
    counts: DetourCounts,
}

/// A cell of the detour ring that a packet has booked.
#[derive(Clone, Copy)]
pub(crate) struct Booked {
    /// Position in the ring.
    pub(crate) position: u32,
    /// Place in the order of detours.
    pub(crate) number: u64,
}

/// A tap.
#[pin_data]
pub(crate) struct Tap {
    pub(crate) label: Label,
    pub(crate) options: Options,
    pub(crate) region: Arc<Region>,
    pub(crate) detour: RingPages,
    pub(crate) revert: RingPages,
    #[pin]
    up: SpinLock<Up>,
    /// Bytes of packets that have ended: the other half of `max_bytes`, kept by the way back.
    ended_bytes: Atomic<u64>,
    pub(crate) passed: MissCounts,
    pub(crate) dropped: MissCounts,
    pub(crate) cut_off: Counter,
}

impl Tap {
    /// A tap that is open, with nothing attached to it yet.
    pub(crate) fn new(
        label: Label,
        options: Options,
        region: Arc<Region>,
        detour: RingPages,
        revert: RingPages,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            label,
            options,
            region,
            detour,
            revert,
            up <- new_spinlock!(
                Up {
                    open: true,
                    producer: PrivateProducer::new(),
                    next_number: 0,
                    counts: DetourCounts::default(),
                },
                "nettap_up"
            ),
            ended_bytes: Atomic::new(0),
            passed: MissCounts::new(),
            dropped: MissCounts::new(),
            cut_off: Counter::new(),
        })
    }

    /// Books a cell for a packet that holds `truesize` bytes of memory and counts it as detoured. The
    /// caller fills the cell, or pads it and calls [`Tap::unbook`]. `None`: the tap has ended.
    /// Bottom halves are off.
    pub(crate) fn book(&self, truesize: u32, wire: u32, gso: bool) -> Option<Result<Booked, Miss>> {
        let mut up = self.up.lock();
        if !up.open {
            return None;
        }
        let truesize = u64::from(truesize);
        let held = up
            .counts
            .truesize
            .wrapping_sub(self.ended_bytes.load(Relaxed));
        if held.saturating_add(truesize) > self.options.max_bytes {
            return Some(Err(Miss::Bytes));
        }
        let size = self.detour.size();
        let Some(position) = up.producer.book(size, self.detour.program_position()) else {
            return Some(Err(Miss::Ring));
        };
        let number = up.next_number;
        up.next_number = number.wrapping_add(1);
        bump(&mut up.counts.detoured, 1);
        bump(&mut up.counts.bytes, u64::from(wire));
        bump(&mut up.counts.gso, u64::from(gso));
        bump(&mut up.counts.truesize, truesize);
        // The programs' position is as the producer last saw it; look again only for a new record.
        if u64::from(position.wrapping_sub(up.producer.seen())) >= up.counts.high_water {
            let room = up.producer.room(size, self.detour.program_position());
            let used = u64::from(size.wrapping_sub(room));
            up.counts.high_water = up.counts.high_water.max(used);
        }
        Some(Ok(Booked { position, number }))
    }

    /// Takes back the counting of a packet whose cell was padded.
    pub(crate) fn unbook(&self, truesize: u32, wire: u32, gso: bool) {
        let mut up = self.up.lock();
        let counts = &mut up.counts;
        counts.detoured = counts.detoured.wrapping_sub(1);
        counts.bytes = counts.bytes.wrapping_sub(u64::from(wire));
        counts.gso = counts.gso.wrapping_sub(u64::from(gso));
        counts.truesize = counts.truesize.wrapping_sub(u64::from(truesize));
    }

    /// A packet has ended: its bytes are free for others. Called under the session's lock only.
    pub(crate) fn credit(&self, truesize: u32) {
        let ended = self.ended_bytes.load(Relaxed);
        self.ended_bytes
            .store(ended.wrapping_add(u64::from(truesize)), Relaxed);
    }

    /// Lets packets pass from here on if `ended` of the packets detoured so far are all of them: then
    /// none is overtaken. Bottom halves are off.
    pub(crate) fn close_when(&self, ended: u64) -> bool {
        let mut up = self.up.lock();
        if up.counts.detoured == ended {
            up.open = false;
        }
        !up.open
    }

    /// From here on packets pass. Bottom halves are off.
    pub(crate) fn close(&self) {
        self.up.lock().open = false;
    }

    /// Packets detoured so far. Bottom halves are off.
    pub(crate) fn detoured(&self) -> u64 {
        self.up.lock().counts.detoured
    }

    /// Whether the detour ring has something for a consumer.
    pub(crate) fn is_ready(&self) -> bool {
        let position = self.detour.program_position().load();
        let cells = self.detour.cells();
        matches!(cells.look(position), Look::Full(_) | Look::Padding)
    }

    /// Writes what the way up knows into a record. Bottom halves are off.
    pub(crate) fn export(&self, to: &mut TapStats) {
        let label = &self.label;
        to.id = label.id;
        to.session = label.session;
        to.pid = label.pid;
        to.ifindex = label.ifindex;
        to.netns = label.netns;
        to.ifname = label.ifname;
        let options = &self.options;
        to.mode = options.mode.raw();
        to.on_full = options.on_full as u32;
        to.on_exit = options.on_exit as u32;
        to.gso = options.gso as u32;
        to.snaplen = if options.snaplen == u32::MAX {
            0
        } else {
            options.snaplen
        };
        to.ring_cells = options.ring_cells;
        to.max_bytes = options.max_bytes;

        let mut up = self.up.lock();
        let size = self.detour.size();
        let room = up.producer.room(size, self.detour.program_position());
        to.ring_used = size.wrapping_sub(room);
        to.detoured = up.counts.detoured;
        to.detoured_bytes = up.counts.bytes;
        to.detoured_gso = up.counts.gso;
        to.held_bytes = up
            .counts
            .truesize
            .wrapping_sub(self.ended_bytes.load(Relaxed));
        to.ring_high_water = up.counts.high_water;
        to.scribbled_detour = up.producer.scribbled();
        drop(up);

        to.passed_ring = self.passed.ring.get();
        to.passed_mbufs = self.passed.mbufs.get();
        to.passed_bytes = self.passed.bytes.get();
        to.passed_other = self.passed.other.get();
        to.dropped_ring = self.dropped.ring.get();
        to.dropped_mbufs = self.dropped.mbufs.get();
        to.dropped_bytes = self.dropped.bytes.get();
        to.dropped_other = self.dropped.other.get();
        to.cut_off = self.cut_off.get();
    }
}
