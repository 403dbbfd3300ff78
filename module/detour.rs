// SPDX-License-Identifier: GPL-2.0-only

//! The way up: packet → mbufs → detour ring → whoever sleeps on it.
//!
//! Softirq, or bottom halves off; RCU read side. Nothing sleeps, and what is taken is given back on
//! every exit: an mbuf by the drop of its [`Chain`](crate::region::Chain), a booked cell by padding.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::region::Chain;
use crate::serve::Serving;
use crate::stats::Miss;
use crate::sys::hook::Way;
use crate::sys::skb::Extent;
use crate::sys::skb::MbufPart;
use crate::sys::skb::Nature;
use crate::sys::skb::Skb;
use crate::tap::Booked;
use crate::tap::NotBooked;
use crate::tap::Tap;
use crate::uapi::mbuf::MBUF_SNAPPED;
use crate::uapi::mbuf::NO_MBUF;
use crate::uapi::tap::CHAIN_MAX;

/// A tap as its intake sees it: with whom it is served.
pub(crate) struct Inlet {
    pub(crate) tap: Arc<Tap>,
    pub(crate) serving: Arc<Serving>,
}

/// A packet that was not detoured comes back with the reason; no reason: the tap's gate is closed.
pub(crate) struct Missed {
    pub(crate) skb: Option<Skb>,
    pub(crate) miss: Option<Miss>,
}

/// Gives a packet of a flow to a tap, `snap` bytes of it at most, and sees to it that somebody looks.
#[inline(never)]
pub(crate) fn detour(
    inlet: &Inlet,
    skb: Skb,
    way: Way,
    flow: u32,
    snap: u32,
) -> Result<(), Missed> {
    detour_here(inlet, skb, way, flow, snap)
}

/// The same, inline, for the way that nearly all packets come.
#[inline(always)]
pub(crate) fn detour_here(
    inlet: &Inlet,
    skb: Skb,
    way: Way,
    flow: u32,
    snap: u32,
) -> Result<(), Missed> {
    let tap = &*inlet.tap;
    let extent = skb.extent(way);
    let wanted = extent.wire_len.min(tap.policies.snaplen()).min(snap);
    // Nearly always a packet fits into one mbuf, which the tap has at hand.
    if wanted <= tap.region.capacity() {
        detour_one(inlet, skb, way, extent, flow, wanted)
    } else {
        detour_long(inlet, skb, way, extent, flow, wanted)
    }
}

#[inline(always)]
fn detour_one(
    inlet: &Inlet,
    skb: Skb,
    way: Way,
    extent: Extent,
    flow: u32,
    wanted: u32,
) -> Result<(), Missed> {
    let tap = &*inlet.tap;
    let (booked, single) = match tap.book_one(extent) {
        Ok(booked) => booked,
        Err(why) => return Err(not_booked(skb, why)),
    };
    let to = single.offset();
    let captured = skb.capture(extent, wanted, &tap.origin, tap.region.pages(), to);
    let skb = match kept(tap, skb, captured, way) {
        Ok(skb) => skb,
        Err(skb) => return Err(not_kept(inlet, skb, booked, extent)),
    };
    let to = tap.detour_to(booked.number, flow);
    let entry = single.detour(to, skb, wanted, extent.truesize);
    tap.detour.kernel_cells().fill(booked.position, entry);
    inlet.serving.kick(tap, booked.number);
    Ok(())
}

/// The same for a packet that needs several mbufs.
#[inline(never)]
fn detour_long(
    inlet: &Inlet,
    skb: Skb,
    way: Way,
    extent: Extent,
    flow: u32,
    wanted: u32,
) -> Result<(), Missed> {
    let tap = &*inlet.tap;
    let Some(chain) = tap.region.take(tap.region.mbufs_for(wanted).min(CHAIN_MAX)) else {
        return Err(not_booked(skb, NotBooked::Miss(Miss::Mbufs)));
    };
    let booked = match tap.book(extent) {
        Ok(booked) => booked,
        Err(why) => return Err(not_booked(skb, why)),
    };
    let captured = capture(tap, &skb, extent, &chain, wanted);
    let skb = match kept(tap, skb, captured, way) {
        Ok(skb) => skb,
        Err(skb) => return Err(not_kept(inlet, skb, booked, extent)),
    };
    let to = tap.detour_to(booked.number, flow);
    let entry = chain.detour(to, skb, extent.truesize);
    tap.detour.kernel_cells().fill(booked.position, entry);
    inlet.serving.kick(tap, booked.number);
    Ok(())
}

/// A packet that was captured and is safe to keep; else it may be lost.
#[inline(always)]
fn kept(tap: &Tap, skb: Skb, captured: Result<Nature>, way: Way) -> Result<Skb, Option<Skb>> {
    let Ok(nature) = captured else {
        return Err(Some(skb));
    };
    let skb = skb.keep(nature, way).ok_or(None)?;
    tap.note(nature);
    Ok(skb)
}

#[cold]
fn not_booked(skb: Skb, why: NotBooked) -> Missed {
    Missed {
        skb: Some(skb),
        miss: match why {
            NotBooked::Miss(miss) => Some(miss),
            NotBooked::Closed => None,
        },
    }
}

/// Its cell is padding, which only the program takes away: one that sleeps is woken, or a ring of it would let no packet
/// in again.
#[cold]
fn not_kept(inlet: &Inlet, skb: Option<Skb>, booked: Booked, extent: Extent) -> Missed {
    let tap = &*inlet.tap;
    tap.detour.kernel_cells().pad(booked.position);
    tap.unbook(extent);
    inlet.serving.kick(tap, booked.number);
    Missed {
        skb,
        miss: Some(Miss::Other),
    }
}

/// Copies the first `wanted` bytes of the frame, or as many as the chain holds, and writes the headers.
fn capture(tap: &Tap, skb: &Skb, extent: Extent, chain: &Chain<'_>, wanted: u32) -> Result<Nature> {
    let region = &*tap.region;
    let capacity = region.capacity();
    let copied = wanted.min(capacity.wrapping_mul(chain.count()));
    let flags = if copied < extent.wire_len {
        MBUF_SNAPPED
    } else {
        0
    };
    let (mut done, mut index) = (0u32, chain.head());
    let mut nature = Err(EFAULT);
    for left in (0..chain.count()).rev() {
        let len = copied.wrapping_sub(done).min(capacity);
        let this = index;
        let next = if left > 0 {
            index = chain.after(this);
            index
        } else {
            NO_MBUF
        };
        let part = MbufPart {
            next,
            packet_len: copied,
            len: len as u16,
            flags,
            pad: 0,
        };
        chain.set_len(this, len);
        let to = region.offset(this);
        nature = skb.capture_part(extent, done, &part, &tap.origin, region.pages(), to);
        nature?;
        done = done.wrapping_add(len);
    }
    nature
}
