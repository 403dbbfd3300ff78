// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! How a program waits for packets: look again at once, sleep, or choose between the two by load.
//!
//! Looking costs a processor and no system call, and a packet is seen within a memory access of its
//! arrival. Sleeping costs a system call and a wake-up each time, and an idle program costs nothing.
//! [`Wait::Adaptive`] looks for a while before it sleeps, and for how long it learns: a while in
//! which a packet came grows, one that ended in sleep shrinks.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::tap::Tap;

/// Looks between two readings of the clock: a reading costs as much as several looks.
const LOOKS_PER_CLOCK: u32 = 64;

/// A strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Looks until a packet is there. Never sleeps.
    Poll,
    /// Sleeps whenever no packet is there.
    Sleep,
    /// Looks up to `spin` times, fewer when that was in vain before, and then sleeps.
    Adaptive {
        /// Most looks before sleeping.
        spin: u32,
    },
}

/// A strategy with what it has learned; one for each thread that waits.
#[derive(Debug, Clone)]
pub struct Waiter {
    wait: Wait,
    budget: u32,
}

impl Wait {
    /// A waiter that has learned nothing yet.
    pub fn waiter(self) -> Waiter {
        let budget = match self {
            Self::Poll | Self::Sleep => 0,
            Self::Adaptive { spin } => spin,
        };
        Waiter { wait: self, budget }
    }
}

impl Waiter {
    /// Looks at `ready` as often as the strategy wants; `None`: it wants to sleep now.
    fn look(&mut self, deadline: Option<Instant>, ready: impl Fn() -> bool) -> Option<bool> {
        let budget = match self.wait {
            Wait::Poll => u32::MAX,
            Wait::Sleep => 1,
            Wait::Adaptive { .. } => self.budget.max(1),
        };
        let mut looks = 0u32;
        loop {
            if ready() {
                if let Wait::Adaptive { spin } = self.wait {
                    self.budget = self.budget.saturating_mul(2).clamp(1, spin.max(1));
                }
                return Some(true);
            }
            looks = looks.wrapping_add(1);
            if looks % LOOKS_PER_CLOCK == 0 && deadline.is_some_and(|end| Instant::now() >= end) {
                return Some(false);
            }
            if looks >= budget && self.wait != Wait::Poll {
                self.budget /= 2;
                return None;
            }
            std::hint::spin_loop();
        }
    }
}

impl Session {
    /// Waits until one of `taps` has a packet. `false`: the time passed; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when one of the taps has ended and none has a packet (the strategy
    /// [`Wait::Poll`] never asks the kernel and does not learn it); [`Error::Interrupted`];
    /// [`Error::OtherSession`] when a tap is not of this session.
    pub fn wait_with(
        &self,
        waiter: &mut Waiter,
        taps: &[&Tap],
        timeout: Option<Duration>,
    ) -> Result<bool> {
        if !taps.iter().all(|tap| tap.is_of(self)) {
            return Err(Error::OtherSession);
        }
        if !self.shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
        let ready = || taps.iter().any(|tap| tap.is_ready());
        loop {
            if let Some(answer) = waiter.look(deadline, ready) {
                return Ok(answer);
            }
            let fds: Vec<_> = taps.iter().map(|tap| tap.as_fd()).collect();
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let found = self.poll(&fds, left)?;
            // The rings decide: what `poll` saw may have been taken by another thread since.
            if ready() {
                return Ok(true);
            } else if found.iter().any(|tap| tap.ended) {
                return Err(Error::Ended);
            } else if deadline.is_some_and(|end| Instant::now() >= end) {
                return Ok(false);
            }
        }
    }
}
