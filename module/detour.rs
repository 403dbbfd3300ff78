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
use crate::sys::skb::Description;
use crate::sys::skb::Skb;
use crate::tap::NotBooked;
use crate::tap::Tap;
use crate::uapi::mbuf::Header;
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
pub(crate) fn detour(tap: &Tap, skb: Skb, way: Way, flow: u32, snap: u32) -> Result<u64, Missed> {
    let miss = |skb, miss| Missed {
        skb: Some(skb),
        miss: Some(miss),
    };
    let seen = skb.describe(way);
    if seen.is_unreadable() {
        return Err(miss(skb, Miss::Other));
    }
    let capacity = tap.region.capacity();
    let wanted = seen.wire_len().min(tap.policies.snaplen()).min(snap);
    let count = tap.region.mbufs_for(wanted).clamp(1, CHAIN_MAX);
    let Some(chain) = tap.region.take(count) else {
        return Err(miss(skb, Miss::Mbufs));
    };
    let (truesize, wire, gso) = (seen.truesize(), seen.wire_len(), seen.is_gso());
    let booked = match tap.book(truesize, wire, gso) {
        Ok(booked) => booked,
        Err(NotBooked::Miss(why)) => return Err(miss(skb, why)),
        Err(NotBooked::Closed) => {
            return Err(Missed {
                skb: Some(skb),
                miss: None,
            })
        }
    };
    let give_up = || {
        tap.detour.cells().pad(booked.position);
        tap.unbook(truesize, wire, gso);
    };

    let copied = wanted.min(capacity.wrapping_mul(count));
    if copy(tap, &skb, way, &seen, &chain, copied).is_err() {
        give_up();
        return Err(miss(skb, Miss::Other));
    }
    let Some(skb) = skb.keep() else {
        give_up();
        return Err(Missed {
            skb: None,
            miss: Some(Miss::Other),
        });
    };
    let entry = chain.detour(tap.label.id, skb, truesize, booked.number, flow);
    tap.detour.cells().fill(booked.position, entry);
    Ok(booked.number)
}

/// Copies the first `copied` bytes of the frame into the chain and writes the headers.
fn copy(
    tap: &Tap,
    skb: &Skb,
    way: Way,
    seen: &Description,
    chain: &Chain<'_>,
    copied: u32,
) -> Result {
    let region = &*tap.region;
    let capacity = region.capacity();
    let mut header = Header {
        holder: tap.label.pid,
        next: NO_MBUF,
        packet_len: copied,
        ifindex: tap.label.ifindex,
        offset: DATA_OFFSET as u16,
        direction: match way {
            Way::Received => DIR_RECEIVED,
            Way::Sent => DIR_SENT,
        },
        flags: if copied < seen.wire_len() {
            MBUF_SNAPPED
        } else {
            0
        },
        ..Header::default()
    };
    let (mut done, mut index) = (0u32, chain.head());
    for left in (0..chain.count()).rev() {
        let len = copied.wrapping_sub(done).min(capacity);
        let at = region.offset(index);
        let to = at.wrapping_add(DATA_OFFSET as usize);
        skb.copy_out(seen.mac_len(), done, region.pages(), to, len)?;
        chain.set_len(index, len);
        header.len = len as u16;
        header.next = if left > 0 {
            index = chain.after(index);
            index
        } else {
            NO_MBUF
        };
        skb.show(seen, &header, region.pages(), at)?;
        done = done.wrapping_add(len);
    }
    Ok(())
}
