// SPDX-License-Identifier: GPL-2.0-only

//! The way up: packet → mbufs → detour ring → whoever sleeps on it.
//!
//! Softirq, or bottom halves off; RCU read side. Nothing sleeps, and what is taken is given back on
//! every exit: an mbuf by the drop of its [`Chain`](crate::region::Chain), a booked cell by padding.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::region::Chain;
use crate::region::Region;
use crate::serve::Serving;
use crate::stats::Miss;
use crate::sys::hook::Way;
use crate::sys::skb::Description;
use crate::sys::skb::MbufPart;
use crate::sys::skb::Skb;
use crate::tap::NotBooked;
use crate::tap::Tap;
use crate::uapi::mbuf::DATA_OFFSET;
use crate::uapi::mbuf::DIR_RECEIVED;
use crate::uapi::mbuf::DIR_SENT;
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

/// Gives a packet of a flow to a tap, `snap` bytes of it at most; its place in the order of detours.
#[inline(never)]
pub(crate) fn detour(tap: &Tap, skb: Skb, way: Way, flow: u32, snap: u32) -> Result<u64, Missed> {
    detour_here(tap, skb, way, flow, snap)
}

/// The same, inline, for the way that nearly all packets come.
#[inline(always)]
pub(crate) fn detour_here(
    tap: &Tap,
    skb: Skb,
    way: Way,
    flow: u32,
    snap: u32,
) -> Result<u64, Missed> {
    let miss = |skb, miss| Missed {
        skb: Some(skb),
        miss,
    };
    let seen = skb.describe(way);
    if seen.is_unreadable() {
        return Err(miss(skb, Some(Miss::Other)));
    }
    let wanted = seen.wire_len().min(tap.policies.snaplen()).min(snap);
    // Nearly always a packet fits into one mbuf, which the tap has at hand.
    let mut chain = None;
    if wanted > tap.region.capacity() {
        chain = tap.region.take(tap.region.mbufs_for(wanted).min(CHAIN_MAX));
        if chain.is_none() {
            return Err(miss(skb, Some(Miss::Mbufs)));
        }
    }
    let (truesize, wire, gso) = (seen.truesize(), seen.wire_len(), seen.is_gso());
    let (booked, chain) = match tap.book(chain, truesize, wire, gso) {
        Ok(booked) => booked,
        Err(NotBooked::Miss(why)) => return Err(miss(skb, Some(why))),
        Err(NotBooked::Closed) => return Err(miss(skb, None)),
    };
    let captured = capture(tap, &skb, way, &seen, &chain, wanted);
    let kept = match captured {
        Ok(()) => skb.keep(&seen, way).ok_or(None),
        Err(_) => Err(Some(skb)),
    };
    match kept {
        Ok(skb) => {
            let entry = chain.detour(tap.label.id, skb, truesize, booked.number, flow);
            tap.detour.cells().fill(booked.position, entry);
            Ok(booked.number)
        }
        Err(skb) => {
            tap.detour.cells().pad(booked.position);
            tap.unbook(truesize, wire, gso);
            Err(Missed {
                skb,
                miss: Some(Miss::Other),
            })
        }
    }
}

/// Copies the first `wanted` bytes of the frame, or as many as the chain holds, and writes the headers.
#[inline(always)]
fn capture(
    tap: &Tap,
    skb: &Skb,
    way: Way,
    seen: &Description,
    chain: &Chain<'_>,
    wanted: u32,
) -> Result {
    let region = &*tap.region;
    let mut part = MbufPart {
        holder: tap.label.pid,
        next: NO_MBUF,
        packet_len: wanted,
        ifindex: tap.label.ifindex,
        offset: DATA_OFFSET as u16,
        len: wanted as u16,
        direction: match way {
            Way::Received => DIR_RECEIVED,
            Way::Sent => DIR_SENT,
        },
        flags: if wanted < seen.wire_len() {
            MBUF_SNAPPED
        } else {
            0
        },
        pad: 0,
    };
    let head = chain.head();
    if chain.count() > 1 {
        return capture_chain(region, skb, seen, chain, &mut part);
    }
    chain.set_len(head, wanted);
    skb.capture(seen, 0, &part, region.pages(), region.offset(head))
}

/// The same into several mbufs.
#[inline(never)]
fn capture_chain(
    region: &Region,
    skb: &Skb,
    seen: &Description,
    chain: &Chain<'_>,
    part: &mut MbufPart,
) -> Result {
    let capacity = region.capacity();
    let copied = part.packet_len.min(capacity.wrapping_mul(chain.count()));
    part.packet_len = copied;
    if copied < seen.wire_len() {
        part.flags |= MBUF_SNAPPED;
    }
    let (mut done, mut index) = (0u32, chain.head());
    for left in (0..chain.count()).rev() {
        let len = copied.wrapping_sub(done).min(capacity);
        let this = index;
        part.len = len as u16;
        part.next = if left > 0 {
            index = chain.after(this);
            index
        } else {
            NO_MBUF
        };
        chain.set_len(this, len);
        skb.capture(seen, done, part, region.pages(), region.offset(this))?;
        done = done.wrapping_add(len);
    }
    Ok(())
}
