// SPDX-License-Identifier: GPL-2.0-only

//! How a tap ends, whatever ends it: close, exit, `kill -9`, `mbuf_unmap`, an administrator, the
//! interface going away. One function, and one order:
//!
//! 1. No round of the session runs. All that the program had asked for by its rings is done, and the
//!    tap leaves the session; from here on its revert ring is nobody's.
//! 2. What the program still holds is taken back by the kernel's own account and follows `on_exit`, at
//!    once and in the order of its detours. The mbufs that the program has in hand stay its session's.
//!    Packets that come meanwhile queue up behind and are taken back too, until there is none; then the
//!    tap closes, and packets pass, or go to the others of its fan-out.
//! 3. The tap leaves its intake, the last one with the hooks, and a grace period passes: no CPU is on its
//!    way into it any more, and no round delivers a packet of the tap.
//! 4. What a hook on another CPU was still detouring follows `on_exit` too.
//! 5. Sleepers wake and see the end; the reference to the interface goes.
//!
//! Process context; RTNL is held, so that no interface goes or comes meanwhile.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::detour::Inlet;
use crate::haul;
use crate::haul::Haul;
use crate::haul::Swept;
use crate::haul::TakenBack;
use crate::haul::Unread;
use crate::intake::Intake;
use crate::region::Region;
use crate::serve::Serving;
use crate::stats::bump;
use crate::stats::End;
use crate::sys::netdev::synchronize;
use crate::sys::netdev::Rtnl;
use crate::sys::task::current_exits;
use crate::sys::task::BottomHalvesOff;
use crate::tap::Gate;
use crate::tapend::TapEnd;
use crate::uapi::event::CAUSE_CLOSED;
use crate::uapi::event::CAUSE_EXIT;
use crate::uapi::event::CAUSE_INTERFACE_GONE;
use crate::uapi::event::CAUSE_UNDELIVERED;
use crate::uapi::event::CAUSE_UNMAP;
use crate::uapi::event::CAUSE_UNTAP;
use crate::uapi::stats::TapStats;

/// Why a tap or a session ends, as listeners are told.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Cause {
    /// Its program closed it.
    Closed = CAUSE_CLOSED,
    /// Its program has ended, or was killed.
    Exit = CAUSE_EXIT,
    /// An administrator asked for it.
    Untap = CAUSE_UNTAP,
    /// `mbuf_unmap`.
    Unmap = CAUSE_UNMAP,
    /// Its interface goes away: nothing can be sent on.
    DeviceGone = CAUSE_INTERFACE_GONE,
}

impl Cause {
    /// Of a descriptor's last close, by the process that closes.
    pub(crate) fn of_closing() -> Self {
        if current_exits() {
            Self::Exit
        } else {
            Self::Closed
        }
    }

    /// The integer for structures.
    pub(crate) fn raw(self) -> u32 {
        self as u32
    }
}

/// Ends the tap at `place` of a session; its last figures and what was taken back, or nothing if it had
/// ended already.
pub(crate) fn untap(
    serving: &Arc<Serving>,
    place: usize,
    intake: &Intake,
    cause: Cause,
    rtnl: &Rtnl,
) -> Option<(TapStats, TakenBack)> {
    // Where nobody has the session any more nobody puts anything; and other interfaces wait for the end of this one. A
    // process that has ended is not all: others may have the session.
    let patience = match cause {
        _ if serving.is_abandoned() => 0,
        Cause::DeviceGone => 3,
        Cause::Exit | Cause::Closed | Cause::Untap | Cause::Unmap => 20,
    };
    let mut end = serving.retire(place, patience)?;
    let mut back = TakenBack::default();
    let has_heirs = {
        let _bh = BottomHalvesOff::new();
        intake.has_heirs(&end.tap)
    };
    let succeed = || {
        if has_heirs {
            intake.succeed();
        }
    };
    // Packets still come and queue up behind those that are being taken back.
    let swept = haul::sweep(|| {
        let packets = take_back(serving, &mut end, &mut back, cause, Unread::Goes);
        let _bh = BottomHalvesOff::new();
        let ended = end.counts.ends.all();
        Swept::of(packets, end.tap.close_when(ended, Gate::Ended, succeed))
    });
    if !swept {
        // What is out still may be overtaken.
        {
            let _bh = BottomHalvesOff::new();
            succeed();
            end.tap.close(Gate::Ended);
        }
        take_back(serving, &mut end, &mut back, cause, Unread::Goes);
    }
    intake.leave(&end.tap, rtnl);
    take_back(serving, &mut end, &mut back, cause, Unread::Last);
    end.tap.tell_drops_held_back(true);
    let mut last = {
        let _bh = BottomHalvesOff::new();
        end.export()
    };
    last.in_flight = end.tap.count_out();
    drop(end);
    serving.wake_all();
    Some((last, back))
}

/// Everything that the account says is with the tap, by its `on_exit` policy; how many packets.
fn take_back(
    serving: &Serving,
    end: &mut TapEnd,
    back: &mut TakenBack,
    cause: Cause,
    unread: Unread,
) -> u64 {
    let is_outstanding = {
        let _bh = BottomHalvesOff::new();
        end.is_outstanding()
    };
    // At last also for entries whose packets were taken back before.
    if !is_outstanding && unread != Unread::Last {
        return 0;
    }
    let tap = Arc::clone(&end.tap);
    let fate = haul::fate(&tap, cause != Cause::DeviceGone);
    let haul = Haul::of(&tap, serving, unread, end.counts.ends.all());
    let packets = haul.packets;
    back.add(&haul, fate);
    end.ended_all(packets, haul.truesize, fate);
    let undelivered = haul.follow(&tap, fate);
    bump(&mut end.counts.undelivered, undelivered);
    if undelivered > 0 {
        tap.tell_drop(CAUSE_UNDELIVERED, 0, undelivered);
    }
    packets
}

/// A program has joined taps on standby: what has waited with them goes to it, oldest first, and in the
/// moment when none is left the packets that come, too. `to` has joined its intake and is not open yet.
pub(crate) fn take_over(intake: &Intake, to: &Arc<Inlet>, _rtnl: &Rtnl) -> Result {
    let standbys = intake.standbys()?;
    {
        let _bh = BottomHalvesOff::new();
        to.tap.admit();
    }
    for from in standbys {
        from.serving.pause(|| hand_over(intake, &from, to));
    }
    // Nobody was on standby.
    to.tap.show();
    Ok(())
}

fn hand_over(intake: &Intake, from: &Inlet, to: &Arc<Inlet>) {
    let id = from.tap.label.id;
    let ended = || {
        let end = from
            .serving
            .with(|state| state.end_of(id).map(|end| end.counts.ends.all()));
        end.unwrap_or(0)
    };
    let once = |unread| {
        let haul = Haul::of(&from.tap, &*from.serving, unread, ended());
        let (mut handed, mut passed, mut dropped) = (0u64, 0u64, 0u64);
        let (packets, truesize) = (haul.packets, haul.truesize);
        haul.hand(|skb| {
            bump(
                match intake.hand_over(skb, to) {
                    End::HandedOver => &mut handed,
                    End::Reinjected => &mut passed,
                    _ => &mut dropped,
                },
                1,
            );
        });
        let turned = from.serving.with(|state| {
            let Some(end) = state.end_of(id) else {
                return true;
            };
            end.ended_all(handed, truesize, End::HandedOver);
            end.ended_all(passed, 0, End::Reinjected);
            end.ended_all(dropped, 0, End::DroppedByPolicy);
            let ended = end.counts.ends.all();
            from.tap.close_when(ended, Gate::Waiting, || to.tap.show())
        });
        Swept::of(packets, turned)
    };
    if !haul::sweep(|| once(Unread::Goes)) {
        {
            let _bh = BottomHalvesOff::new();
            // In this order: nothing passes by both. What is out still may be overtaken.
            to.tap.show();
            from.tap.close(Gate::Waiting);
        }
        synchronize();
        once(Unread::Last);
    }
}

/// Nobody is to wait for the next program any more: what has waited with taps on standby follows
/// `on_exit`.
pub(crate) fn empty(standbys: impl Iterator<Item = Arc<Inlet>>, _rtnl: &Rtnl) {
    for standby in standbys {
        let (serving, tap) = (&standby.serving, &standby.tap);
        serving.pause(|| {
            if let Some(place) = serving.with(|state| state.place_of(tap.label.id)) {
                serving.let_go(place, tap, Gate::Waiting);
            }
        });
    }
}

/// Takes back the mbufs that a session had for new packets; how many. What it had of packets that were taken back
/// before is free now, too.
pub(crate) fn take_back_allocated(region: &Region, serving: &Serving) -> u64 {
    let session = serving.id;
    let mut mbufs = 0u64;
    for index in region.indices() {
        region.release(index, session);
        if !region.is_allocated(index, session) {
            continue;
        }
        let mbuf = serving.with(|state| region.reclaim(index, session, &mut state.taker));
        if mbuf.is_some() {
            region.count_reclaimed(1);
            bump(&mut mbufs, 1);
        }
    }
    mbufs
}
