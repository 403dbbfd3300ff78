// SPDX-License-Identifier: GPL-2.0-only

//! Taking back everything that a tap's program holds, at once and by the kernel's own account, and what
//! becomes of it: the common half of a tap's end (`reclaim`) and of its failing open (`serve`).
//!
//! Process context. The caller sees to it that no round of the session runs meanwhile, or that the tap
//! has left it.

use crate::events::Events;
use crate::flows::OutAll;
use crate::policies::way_of;
use crate::region::Recalled;
use crate::revert::outlet_of;
use crate::revert::Outlet;
use crate::stats::bump;
use crate::stats::End;
use crate::sys::hook::Way;
use crate::sys::netdev::synchronize;
use crate::sys::queue::Sorted;
use crate::sys::skb::Skb;
use crate::sys::skb::Taker;
use crate::sys::task::breathe;
use crate::sys::task::now;
use crate::sys::task::ticks;
use crate::sys::task::BottomHalvesOff;
use crate::tap::Tap;
use crate::uapi::event::Event;
use crate::uapi::event::EventKind;
use crate::uapi::ring::Entry;
use crate::uapi::tap::OnExit;

/// Who lends the taker of the tap's session, as long as the work takes.
pub(crate) trait Lender {
    /// Does it; bottom halves are off meanwhile, and nothing sleeps.
    fn lend<R>(&self, work: impl FnOnce(&mut Taker) -> R) -> R;
}

/// What happens to the packets that lie in the detour ring, and that the program has not taken out of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Their entries stay, and their mbufs with them: the program finds them when it catches up, and gives them
    /// back.
    Stays,
    /// The kernel takes them out: nobody else will, and their mbufs are free.
    Goes,
    /// As before, for the last time: what the kernel cannot take out, because the program is at it all the time, goes to
    /// the session with what the program has in hand.
    Last,
}

/// For so many microseconds what is held is taken back while packets still queue up behind it, and so often if that takes
/// longer; and so often in vain.
const SWEEP_US: u64 = 200_000;
const HAULS: u32 = 8;
const VAIN: u32 = 4;

/// What one haul of several has come to.
#[derive(PartialEq, Eq)]
pub(crate) enum Swept {
    /// Nothing is out any more, and the gate has turned in that moment.
    All,
    /// So many packets were taken back, and others are out.
    Some(u64),
}

impl Swept {
    /// So many packets, after which the gate has turned or not.
    pub(crate) fn of(packets: u64, turned: bool) -> Self {
        if turned {
            Self::All
        } else {
            Self::Some(packets)
        }
    }
}

/// One haul after the other, until nothing is out. False, right after a haul: a flood does not let up, or the program is
/// at its ring all the time; the caller turns the gate all the same. Process context; sleeps.
pub(crate) fn sweep(mut haul: impl FnMut() -> Swept) -> bool {
    let end = now().saturating_add(ticks(SWEEP_US));
    let (mut hauls, mut vain) = (0u32, 0u32);
    loop {
        hauls = hauls.saturating_add(1);
        match haul() {
            Swept::All => return true,
            Swept::Some(0) => vain = vain.saturating_add(1),
            Swept::Some(_) => vain = 0,
        }
        // A machine that is short of processors may take all that time for one of them.
        if vain > VAIN || (hauls >= HAULS && now() >= end) {
            return false;
        }
        if vain > 0 {
            // What is out lies behind a cell that a hook on another CPU has booked and not filled yet. However long
            // that CPU stands still, it has left the hook when this is over.
            synchronize();
        }
    }
}

/// Packets that are sent on before others have their turn: in a flood each turn takes the softirqs' whole share of time.
const TOGETHER: usize = 64;

/// Entries that are taken out of a detour ring at a time.
const UNREAD: usize = 16;

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
    /// Everything that the account says is with the tap, and was when this began. What its program has in hand it
    /// keeps until it gives it back; that is only memory by then. Of the tap's packets so many had ended.
    pub(crate) fn of(tap: &Tap, lender: &impl Lender, unread: Unread, ended: u64) -> Self {
        let mut haul = Self {
            packets: 0,
            mbufs: 0,
            truesize: 0,
            skbs: Sorted::new(),
            out: tap.out_of_flows(),
        };
        if unread != Unread::Stays {
            haul.take_unread(tap, lender);
        }
        // A packet that comes while we look may stand where we have been, and the next one where we have not:
        // both are for another haul, or the second would go first.
        let begun = {
            let _bh = BottomHalvesOff::new();
            tap.begun()
        };
        let end = match unread {
            Unread::Stays | Unread::Last => begun.next,
            Unread::Goes => begun.first_unread,
        };
        // What is out lies in the ring, where nobody has taken anything meanwhile: all else has been taken back, and
        // to look for it would only give others the time to come.
        let in_ring = begun.next.wrapping_sub(begun.first_unread);
        let out = begun
            .detoured
            .wrapping_sub(ended)
            .wrapping_sub(haul.packets);
        if unread == Unread::Goes && out == in_ring && !begun.padded {
            return haul;
        }
        let (id, session) = (tap.label.id, tap.label.session);
        for index in tap.region.indices() {
            if !tap.region.is_before(index, id, end) {
                continue;
            }
            // Counted at once: the program may give its mbufs back the next moment, which is counted off.
            let packet = lender.lend(|taker| {
                let packet = tap.region.recall_before(index, id, end, session, taker)?;
                if packet.in_hand {
                    tap.recall();
                }
                Some(packet)
            });
            if let Some(packet) = packet {
                haul.add(tap, packet);
            }
        }
        haul
    }

    /// Packets that nobody has taken out of the detour ring: a ring of them at most, should more come.
    fn take_unread(&mut self, tap: &Tap, lender: &impl Lender) {
        let (id, session) = (tap.label.id, tap.label.session);
        let mut entries = [Entry::default(); UNREAD];
        let mut left = tap.detour.size() as usize;
        while left > 0 {
            let room = entries.get_mut(..left.min(UNREAD)).unwrap_or_default();
            let taken = tap.take_unread(room);
            if taken == 0 {
                break;
            }
            left = left.wrapping_sub(taken);
            for entry in entries.iter().take(taken) {
                let take = |taker: &mut Taker| tap.region.take_unread(*entry, id, session, taker);
                if let Some(packet) = lender.lend(take) {
                    self.add(tap, packet);
                }
            }
            breathe();
        }
    }

    fn add(&mut self, tap: &Tap, packet: Recalled) {
        tap.region.count_reclaimed(packet.mbufs);
        bump(&mut self.mbufs, u64::from(packet.mbufs));
        bump(&mut self.packets, 1);
        bump(&mut self.truesize, u64::from(packet.truesize));
        self.skbs.add(packet.skb, packet.number);
        match &mut self.out {
            Some(out) => out.add(packet.flow),
            // Without memory to remember it the flow may move a moment early.
            None => tap.leave_flow(packet.flow),
        }
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
            let mut skbs = self.skbs.finish().peekable();
            while skbs.peek().is_some() {
                {
                    let _bh = BottomHalvesOff::new();
                    for skb in skbs.by_ref().take(TOGETHER) {
                        let taken = match outlet {
                            Outlet::Input => skb.deliver_input(),
                            _ => skb.deliver_output(),
                        };
                        if !taken {
                            undelivered = undelivered.wrapping_add(1);
                        }
                    }
                }
                breathe();
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
