// SPDX-License-Identifier: GPL-2.0-only

//! How a tap ends, whatever ends it: close, exit, `kill -9`, `mbuf_unmap`, an administrator, the
//! interface going away. One function, and one order:
//!
//! 1. No round of the session runs. All that the program had asked for by its rings is done, and the
//!    tap leaves the session; from here on its revert ring is nobody's.
//! 2. What the program still holds is taken back by the kernel's own account and follows `on_exit`, at
//!    once and in the order of its detours. Packets that come meanwhile queue up behind and are taken
//!    back too, until there is none; then the tap closes, and packets pass.
//! 3. The hooks are unregistered and a grace period passes: no CPU is in them any more, and no round
//!    delivers a packet of the tap.
//! 4. What a hook on another CPU was still detouring follows `on_exit` too.
//! 5. Sleepers wake and see the end; the reference to the interface goes.
//!
//! Process context; RTNL is held, so that no interface goes or comes meanwhile.

use kernel::sync::Arc;

use crate::detour::Inlet;
use crate::region::Claim;
use crate::region::Holder;
use crate::region::Region;
use crate::revert::outlet_of;
use crate::revert::way_of;
use crate::revert::Outlet;
use crate::round::TapEnd;
use crate::serve::Serving;
use crate::stats::End;
use crate::sys::hook;
use crate::sys::hook::Way;
use crate::sys::netdev::Rtnl;
use crate::sys::skb::Sorted;
use crate::sys::task::breathe;
use crate::sys::task::BottomHalvesOff;
use crate::uapi::stats::TapStats;
use crate::uapi::tap::OnExit;

/// How often what is held is taken back while packets still queue up behind it.
const SWEEPS: u32 = 64;

/// Why a tap ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its program, or an administrator, or the program's end.
    Untap,
    /// Its interface goes away: nothing can be sent on.
    DeviceGone,
}

/// Ends the tap at `place` of a session; its last figures, or nothing if it had ended already.
pub(crate) fn untap(
    serving: &Arc<Serving>,
    place: usize,
    mut hooks: Hooks,
    cause: Cause,
    _rtnl: &Rtnl,
) -> Option<TapStats> {
    let mut end = serving.retire(place)?;
    // Packets still come and queue up behind those that are being taken back.
    for _ in 0..SWEEPS {
        take_back(&mut end, cause);
        let _bh = BottomHalvesOff::new();
        if end.tap.close_when(end.counts.ends.all()) {
            break;
        }
    }
    // A flood that does not let up: the last may be overtaken.
    {
        let _bh = BottomHalvesOff::new();
        end.tap.close();
    }
    take_back(&mut end, cause);
    hook::end(hooks.iter_mut().filter_map(Option::take));
    take_back(&mut end, cause);
    let last = {
        let _bh = BottomHalvesOff::new();
        end.export()
    };
    drop(end);
    serving.wake_all();
    Some(last)
}

/// Everything that the account says is with the tap, by its `on_exit` policy.
fn take_back(end: &mut TapEnd, cause: Cause) {
    {
        let _bh = BottomHalvesOff::new();
        if !end.is_outstanding() {
            return;
        }
    }
    let tap = Arc::clone(&end.tap);
    let revert = tap.options.on_exit == OnExit::Revert && cause == Cause::Untap;
    let fate = if revert {
        End::Reinjected
    } else {
        End::DroppedByPolicy
    };
    let mut held = Sorted::new();
    for index in 0..tap.region.mbufs() {
        if index & 0xfff == 0xfff {
            breathe();
        }
        let claim = tap
            .region
            .reclaim(index, |holder| holder == Holder::Detoured(tap.label.id));
        if let Some(Claim::Packet(packet)) = claim {
            tap.region.count_reclaimed(packet.chain.count());
            end.ended(packet.truesize, fate);
            held.add(packet.skb, packet.number);
        }
    }
    if !revert {
        return;
    }
    // Where it was going before the tap turned it aside; a bypass tap's packets go to the host again.
    let outlet = match way_of(tap.options.mode) {
        Way::Received => Outlet::Input,
        Way::Sent => outlet_of(tap.options.mode),
    };
    for skb in held.finish() {
        let _bh = BottomHalvesOff::new();
        let taken = match outlet {
            Outlet::Input => skb.deliver_input(),
            _ => skb.deliver_output(),
        };
        if !taken {
            crate::stats::bump(&mut end.counts.undelivered, 1);
        }
    }
}

/// Takes back the mbufs that a session had for new packets.
pub(crate) fn take_back_allocated(region: &Region, session: u32) {
    for index in 0..region.mbufs() {
        if index & 0xfff == 0xfff {
            breathe();
        }
        if let Some(claim) = region.reclaim(index, |h| h == Holder::Allocated(session)) {
            drop(claim);
            region.count_reclaimed(1);
        }
    }
}

/// The hooks of a tap; they end here.
pub(crate) type Hooks = [Option<hook::Hook<Inlet>>; 2];
