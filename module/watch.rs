// SPDX-License-Identifier: GPL-2.0-only

//! The watchdog of a tap: whether its program has held a packet longer than `max_age`.
//!
//! Every packet's account has the tick of its detour. To look for the oldest costs a pass over the
//! account, so it is done seldom: whatever is held now, nothing of it can be too old before the oldest
//! is, and nothing that comes later before that. The server asks at each of its rounds, which come
//! every α while packets are out.

use crate::sys::task::now;
use crate::tap::Tap;

/// One tap's watchdog, under the lock of its session.
pub(crate) struct Watch {
    /// No packet can be too old before this tick.
    look_at: u64,
    /// One is.
    overdue: bool,
}

impl Watch {
    /// Of a tap that holds nothing.
    pub(crate) const fn new() -> Self {
        Self {
            look_at: 0,
            overdue: false,
        }
    }

    /// Looks, if it is time to; whether a packet is too old. It stays so until somebody has
    /// [seen to it](Watch::take_overdue).
    pub(crate) fn look(&mut self, tap: &Tap, outstanding: bool) -> bool {
        let Some(max_age) = tap.policies.max_age() else {
            return self.overdue;
        };
        let now = now();
        if self.overdue || !outstanding || now < self.look_at {
            return self.overdue;
        }
        let oldest = tap.region.oldest(tap.label.id).unwrap_or(now);
        self.look_at = oldest.saturating_add(max_age);
        self.overdue = now >= self.look_at;
        self.overdue
    }

    /// Whether a packet was too old; the caller takes all of them back.
    pub(crate) fn take_overdue(&mut self) -> bool {
        core::mem::replace(&mut self.overdue, false)
    }

    /// `max_age` has changed.
    pub(crate) fn look_soon(&mut self) {
        self.look_at = 0;
    }
}
