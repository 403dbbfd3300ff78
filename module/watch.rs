// SPDX-License-Identifier: GPL-2.0-only

//! The watchdog of a tap: whether its program has held a packet longer than `max_age`.
//!
//! Every packet's account has the tick of its detour. To look for the oldest costs a pass over the
//! account, so it is done seldom: whatever is held now, nothing of it can be too old before the oldest
//! is, and nothing that comes later before that. The server asks at each of its rounds, which come
//! every α while packets are out; a round has time for a part of one pass, so of several taps each has its turn.
//!
//! A program that is stopped or deadlocked is so for all its taps, and a packet that one of them let go may
//! come by the next, the answer to it by a third: waiting at each would add up. So when a packet is overdue
//! and the program has moved nothing at all for the half of `max_age` (it may have stopped in the middle of
//! something), it is taken for dead, and its other taps let go at once ([`Pulse`]).

use crate::sys::task::now;
use crate::tap::Tap;

/// Mbufs that one round looks at.
const PART: u32 = 8192;

/// One tap's watchdog, under the lock of its session.
pub(crate) struct Watch {
    /// No packet can be too old before this tick.
    look_at: u64,
    /// Where a pass has come to, and how many mbufs are left of it; none: there is no pass.
    next: u32,
    left: u32,
    /// The oldest that it has found, or when it began; and the part that this was in: the next pass begins there, since
    /// that one is overdue first.
    oldest: u64,
    found_at: u32,
    /// One is.
    overdue: bool,
}

impl Watch {
    /// Of a tap that holds nothing.
    pub(crate) const fn new() -> Self {
        Self {
            look_at: 0,
            next: 0,
            left: 0,
            oldest: 0,
            found_at: 0,
            overdue: false,
        }
    }

    /// Looks, if it is time to and `may` allows it, which it then does no more; whether a packet is too old. It
    /// stays so until somebody has [seen to it](Watch::take_overdue).
    pub(crate) fn look(&mut self, tap: &Tap, outstanding: bool, may: &mut bool) -> bool {
        let Some(max_age) = tap.policies.max_age() else {
            return self.overdue;
        };
        let now = now();
        if self.overdue || !outstanding || now < self.look_at || !*may {
            return self.overdue;
        }
        *may = false;
        let peak = tap.region.peak();
        if self.left == 0 {
            (self.next, self.left) = (self.found_at, peak.max(1));
            self.oldest = now;
        }
        let oldest = tap.region.oldest(tap.label.id, self.next, PART);
        let oldest = oldest.unwrap_or(now);
        // What the parts before have found may have come back since, and what comes there is younger than the pass.
        self.overdue = now >= oldest.saturating_add(max_age);
        if oldest < self.oldest {
            (self.oldest, self.found_at) = (oldest, self.next);
        }
        self.left = self.left.saturating_sub(PART);
        self.next = self.next.wrapping_add(PART);
        if self.next >= peak {
            self.next = 0;
        }
        if self.overdue || self.left == 0 {
            self.look_at = self.oldest.saturating_add(max_age);
            self.left = 0;
        }
        self.overdue
    }

    /// Whether a packet was too old; the caller takes all of them back.
    pub(crate) fn take_overdue(&mut self) -> bool {
        core::mem::replace(&mut self.overdue, false)
    }

    /// The program is taken for dead: its tap lets go too.
    pub(crate) fn give_up(&mut self) {
        self.overdue = true;
    }

    /// `max_age` has changed.
    pub(crate) fn look_soon(&mut self) {
        self.look_at = 0;
    }
}

/// When a session's program last moved something in any of its rings, or called. Under its lock.
pub(crate) struct Pulse {
    /// All that it moves, added up.
    felt: u64,
    /// The tick at which that was new, or since which there is something to move.
    since: u64,
    /// Whether packets were out at the last look.
    out: bool,
}

impl Pulse {
    /// Of a program that has done nothing yet.
    pub(crate) const fn new() -> Self {
        Self {
            felt: 0,
            since: 0,
            out: false,
        }
    }

    /// Whether packets are out. Before they came, nobody had to move anything: that was no silence.
    pub(crate) fn wait(&mut self, out: bool) {
        if out && !self.out {
            self.since = now();
        }
        self.out = out;
    }

    /// Looks; whether something has moved since the last look.
    pub(crate) fn feel(&mut self, moved: u64) -> bool {
        let beats = moved != self.felt;
        if beats {
            self.felt = moved;
            self.since = now();
        }
        beats
    }

    /// Ticks since it moved something, as far as anybody has looked: rounds do while packets are out.
    pub(crate) fn silence(&self) -> u64 {
        now().saturating_sub(self.since)
    }
}
