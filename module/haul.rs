// SPDX-License-Identifier: GPL-2.0-only

//! Taking back everything that a tap's program holds, at once and by the kernel's own account, and what
//! becomes of it: the common half of a tap's end (`reclaim`) and of its failing open (`serve`).
//!
//! Process context. The caller sees to it that no round of the session runs meanwhile, or that the tap
//! has left it.

use crate::events::Events;
use crate::flows::OutAll;
use crate::policies::way_of;
use crate::revert::outlet_of;
use crate::revert::Outlet;
use crate::stats::bump;
use crate::stats::End;
use crate::sys::hook::Way;
use crate::sys::queue::Sorted;
use crate::sys::skb::Skb;
use crate::sys::skb::Taker;
use crate::sys::task::BottomHalvesOff;
use crate::tap::Tap;
use crate::uapi::event::Event;
use crate::uapi::event::EventKind;
use crate::uapi::tap::OnExit;

/// Who lends the taker of the tap's session, as long as the work takes.
pub(crate) trait Lender {
    /// Does it; bottom halves are off meanwhile, and nothing sleeps.
    fn lend<R>(&self, work: impl FnOnce(&mut Taker) -> R) -> R;
}

/// What was taken back of a tap.
pub(crate) struct Haul {
    /// How many packets.
    pub(crate) packets: u64,
    /// How many mbufs.
    pub(crate) mbufs: u64,
    /// Memory that they hold.
    pub(crate) truesize: u64,
    skbs: Sorted,
    /// The flows have them out until they are delivered.
    out: Option<OutAll>,
}

impl Haul {
    /// Everything that the account says is with the tap, and was when this began.
    pub(crate) fn of(tap: &Tap, lender: &impl Lender) -> Self {
        let mut haul = Self {
            packets: 0,
            mbufs: 0,
            truesize: 0,
            skbs: Sorted::new(),
            out: tap.out_of_flows(),
        };
        // A packet that comes while we look may stand where we have been, and the next one where we have not:
        // both are for another haul, or the second would go first.
        let end = {
            let _bh = BottomHalvesOff::new();
            tap.next_number()
        };
        for index in tap.region.indices() {
            let id = tap.label.id;
            if !tap.region.is_before(index, id, end) {
                continue;
            }
            let packet = lender.lend(|taker| tap.region.reclaim_before(index, id, end, taker));
            if let Some(packet) = packet {
                let mbufs = packet.chain.count();
                tap.region.count_reclaimed(mbufs);
                haul.mbufs = haul.mbufs.wrapping_add(u64::from(mbufs));
                haul.packets = haul.packets.wrapping_add(1);
                haul.truesize = haul.truesize.wrapping_add(u64::from(packet.truesize));
                haul.skbs.add(packet.skb, packet.number);
                match &mut haul.out {
                    Some(out) => out.add(packet.flow),
                    // Without memory to remember it the flow may move a moment early.
                    None => tap.leave_flow(packet.flow),
                }
            }
        }
        haul
    }

    /// Gives the packets to `to`, in the order of their detours.
    pub(crate) fn hand(self, to: impl FnMut(Skb)) {
        self.skbs.finish().for_each(to);
        drop(self.out);
    }

    /// The `on_exit` policy: delivers the packets in the order of their detours, or drops them. How many
    /// the host or the interface refused.
    pub(crate) fn follow(self, tap: &Tap, fate: End) -> u64 {
        let mut undelivered = 0u64;
        if fate == End::Reinjected {
            // Where it was going before the tap turned it aside; a bypass tap's packets go to the host
            // again.
            let outlet = match way_of(tap.options.mode) {
                Way::Received => Outlet::Input,
                Way::Sent => outlet_of(tap.options.mode),
            };
            for skb in self.skbs.finish() {
                let _bh = BottomHalvesOff::new();
                let taken = match outlet {
                    Outlet::Input => skb.deliver_input(),
                    _ => skb.deliver_output(),
                };
                if !taken {
                    undelivered = undelivered.wrapping_add(1);
                }
            }
        }
        drop(self.out);
        undelivered
    }
}

/// What was taken back in one or several hauls, and what became of it, as listeners are told.
#[derive(Clone, Copy, Default)]
pub(crate) struct TakenBack {
    pub(crate) mbufs: u64,
    /// Packets sent on.
    pub(crate) passed: u64,
    /// Packets dropped.
    pub(crate) dropped: u64,
}

impl TakenBack {
    /// Adds a haul that met with this fate.
    pub(crate) fn add(&mut self, haul: &Haul, fate: End) {
        bump(&mut self.mbufs, haul.mbufs);
        let packets = if fate == End::Reinjected {
            &mut self.passed
        } else {
            &mut self.dropped
        };
        bump(packets, haul.packets);
    }

    /// Tells listeners, if there was anything; `describe` fills in whose it was and why.
    pub(crate) fn tell(&self, events: &Events, describe: impl FnOnce(&mut Event)) {
        if self.mbufs == 0 {
            return;
        }
        events.tell(EventKind::Reclaim, |event| {
            describe(event);
            event.count = self.mbufs;
            event.passed = self.passed;
            event.dropped = self.dropped;
        });
    }
}

/// What the `on_exit` policy makes of packets, if they can be delivered at all.
pub(crate) fn fate(tap: &Tap, deliverable: bool) -> End {
    if deliverable && tap.policies.on_exit() == OnExit::Revert {
        End::Reinjected
    } else {
        End::DroppedByPolicy
    }
}
