// SPDX-License-Identifier: GPL-2.0-only

//! What a tap is asked to be and do, checked: for good, in common with the taps that it shares packets
//! with, and what may change while it is open.

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use kernel::alloc::KBox;

use crate::filter::Named;
use crate::sys::hook::Way;
use crate::sys::task::ticks;
use crate::uapi::stats::TapStats;
use crate::uapi::tap::Fanout;
use crate::uapi::tap::Gso;
use crate::uapi::tap::Mode;
use crate::uapi::tap::NoConsumer;
use crate::uapi::tap::OnExit;
use crate::uapi::tap::OnFull;
use crate::uapi::tap::TAP_STANDBY;
use crate::uapi::tap::TAP_UNSTAMPED;

/// What all taps of an intake have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) mode: Mode,
    pub(crate) fanout: Fanout,
    pub(crate) gso: Gso,
    pub(crate) on_full: OnFull,
    pub(crate) no_consumer: NoConsumer,
}

/// What a tap is opened with for good.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) standby: bool,
    pub(crate) unstamped: bool,
    pub(crate) ring_cells: u32,
}

impl Options {
    /// The `TAP_` flags that say so.
    pub(crate) fn flags(&self) -> u32 {
        let flag = |is, flag| if is { flag } else { 0 };
        flag(self.standby, TAP_STANDBY) | flag(self.unstamped, TAP_UNSTAMPED)
    }
}

/// Which way packets go that a tap of this mode detours.
#[inline]
pub(crate) fn way_of(mode: Mode) -> Way {
    match mode {
        Mode::Input | Mode::Bypass => Way::Received,
        Mode::Output => Way::Sent,
    }
}

/// What may change while a tap is open, a word each: a packet sees the old or the new.
pub(crate) struct Policies {
    on_exit: Atomic<u32>,
    snaplen: Atomic<u32>,
    max_bytes: Atomic<u64>,
    max_age_us: Atomic<u64>,
}

impl Policies {
    /// Policies, checked. `snaplen` is `u32::MAX` for whole packets.
    pub(crate) fn new(on_exit: OnExit, snaplen: u32, max_bytes: u64, max_age_us: u64) -> Self {
        Self {
            on_exit: Atomic::new(on_exit as u32),
            snaplen: Atomic::new(snaplen),
            max_bytes: Atomic::new(max_bytes),
            max_age_us: Atomic::new(max_age_us),
        }
    }

    /// Another one.
    pub(crate) fn set_on_exit(&self, policy: OnExit) {
        self.on_exit.store(policy as u32, Relaxed);
    }

    /// Another one.
    pub(crate) fn set_snaplen(&self, bytes: u32) {
        self.snaplen.store(bytes, Relaxed);
    }

    /// Another one.
    pub(crate) fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Relaxed);
    }

    /// Another one.
    pub(crate) fn set_max_age(&self, us: u64) {
        self.max_age_us.store(us, Relaxed);
    }

    /// Whether there is a time that a packet may be held.
    #[inline(always)]
    pub(crate) fn has_max_age(&self) -> bool {
        self.max_age_us.load(Relaxed) != 0
    }

    /// Ticks that a packet may be held; nothing: any time.
    pub(crate) fn max_age(&self) -> Option<u64> {
        match self.max_age_us.load(Relaxed) {
            0 => None,
            us => Some(ticks(us)),
        }
    }

    /// What happens to held packets at the tap's end.
    pub(crate) fn on_exit(&self) -> OnExit {
        OnExit::from_raw(self.on_exit.load(Relaxed)).unwrap_or(OnExit::Revert)
    }

    /// Bytes of a packet to copy at most.
    pub(crate) fn snaplen(&self) -> u32 {
        self.snaplen.load(Relaxed)
    }

    /// Memory that the tap's packets may hold.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes.load(Relaxed)
    }

    /// Writes them into a record.
    pub(crate) fn export(&self, to: &mut TapStats) {
        to.on_exit = self.on_exit() as u32;
        to.snaplen = match self.snaplen() {
            u32::MAX => 0,
            some => some,
        };
        to.max_bytes = self.max_bytes();
        to.max_age_us = self.max_age_us.load(Relaxed);
    }
}

/// Policies that are to change, checked.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) on_full: Option<OnFull>,
    pub(crate) on_exit: Option<OnExit>,
    pub(crate) no_consumer: Option<NoConsumer>,
    pub(crate) snaplen: Option<u32>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_age_us: Option<u64>,
    pub(crate) filter: Option<Option<KBox<Named>>>,
    /// The `SET_` bits of the request.
    pub(crate) what: u32,
}

impl Change {
    /// Those that each tap has for itself.
    pub(crate) fn apply(&self, policies: &Policies) {
        if let Some(policy) = self.on_exit {
            policies.set_on_exit(policy);
        }
        if let Some(bytes) = self.snaplen {
            policies.set_snaplen(bytes);
        }
        if let Some(bytes) = self.max_bytes {
            policies.set_max_bytes(bytes);
        }
        if let Some(us) = self.max_age_us {
            policies.set_max_age(us);
        }
    }
}
