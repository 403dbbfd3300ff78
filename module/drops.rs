// SPDX-License-Identifier: GPL-2.0-only

//! Which drops of a tap have been told: the first of each cause at once, and the others together, at
//! most once in [`REST`].
//!
//! Packets can fail by the million in a second, and an event for each would tell a listener nothing but
//! the loss of events. What is held back is told by work for later, so that the numbers of a burst are
//! known when it has passed and not when the next one comes. They are exact for a listener who was there.

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Full;
use crate::sys::atomic::Relaxed;
use kernel::sync::Arc;

use crate::events::Events;
use crate::events::REST;
use crate::stats::Flaw;
use crate::stats::Miss;
use crate::sys::time::monotonic_ns;
use crate::uapi::event::Event;
use crate::uapi::event::EventKind;
use crate::uapi::event::CAUSE_BYTES;
use crate::uapi::event::CAUSE_CHANGE;
use crate::uapi::event::CAUSE_MBUFS;
use crate::uapi::event::CAUSE_MEMORY;
use crate::uapi::event::CAUSE_OFFLOAD;
use crate::uapi::event::CAUSE_OTHER;
use crate::uapi::event::CAUSE_RING;
use crate::uapi::event::CAUSE_SHAPE;
use crate::uapi::event::CAUSE_UNDELIVERED;

/// Why packets are told of.
const CAUSES: [u32; 9] = [
    CAUSE_RING,
    CAUSE_MBUFS,
    CAUSE_BYTES,
    CAUSE_OTHER,
    CAUSE_SHAPE,
    CAUSE_OFFLOAD,
    CAUSE_CHANGE,
    CAUSE_MEMORY,
    CAUSE_UNDELIVERED,
];

/// The cause that listeners are told for a packet that was not detoured.
pub(crate) fn missed(miss: Miss) -> u32 {
    match miss {
        Miss::Ring => CAUSE_RING,
        Miss::Mbufs => CAUSE_MBUFS,
        Miss::Bytes => CAUSE_BYTES,
        Miss::Other => CAUSE_OTHER,
    }
}

/// The cause that listeners are told for a changed or new packet that was refused.
pub(crate) fn refused(flaw: Flaw) -> u32 {
    match flaw {
        Flaw::Shape => CAUSE_SHAPE,
        Flaw::Offload => CAUSE_OFFLOAD,
        Flaw::Change => CAUSE_CHANGE,
        Flaw::Memory => CAUSE_MEMORY,
    }
}

/// What of one cause has not been told yet.
struct Untold {
    cause: u32,
    passed: Atomic<u64>,
    dropped: Atomic<u64>,
    /// When the next event may be told.
    next: Atomic<u64>,
}

impl Untold {
    fn is_empty(&self) -> bool {
        self.passed.load(Relaxed) == 0 && self.dropped.load(Relaxed) == 0
    }

    /// Whether an event may be told now; who is told so tells it.
    fn is_due(&self) -> bool {
        let (now, next) = (monotonic_ns(), self.next.load(Relaxed));
        let then = now.wrapping_add(REST.as_nanos() as u64);
        now >= next && self.next.cmpxchg(next, then, Relaxed).is_ok()
    }
}

/// The drops of one tap.
pub(crate) struct Drops {
    events: Arc<Events>,
    causes: [Untold; CAUSES.len()],
}

impl Drops {
    /// None yet.
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Self {
            events,
            causes: CAUSES.map(|cause| Untold {
                cause,
                passed: Atomic::new(0),
                dropped: Atomic::new(0),
                next: Atomic::new(0),
            }),
        }
    }

    /// Where they are told, and everything else of the tap.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Packets that went on without the program, or were dropped. From any context; `describe` fills in
    /// whose they are.
    pub(crate) fn note(
        &self,
        cause: u32,
        passed: u64,
        dropped: u64,
        describe: impl FnOnce(&mut Event),
    ) {
        if !self.events.wants(EventKind::Drop) {
            return;
        }
        let Some(of) = self.causes.iter().find(|of| of.cause == cause) else {
            return;
        };
        // Full: work for later that is under way already, and so not asked for again, sees this.
        let _ = of.passed.fetch_add(passed, Full);
        let _ = of.dropped.fetch_add(dropped, Full);
        if of.is_due() {
            self.tell(of, describe);
        } else {
            self.events.later.ask(REST);
        }
    }

    /// Tells what was held back and may be told now, or all of it.
    pub(crate) fn catch_up(&self, all: bool, describe: impl Fn(&mut Event)) {
        for of in self.causes.iter().filter(|of| !of.is_empty()) {
            if all || of.is_due() {
                self.tell(of, &describe);
            } else {
                self.events.later.ask(REST);
            }
        }
    }

    fn tell(&self, of: &Untold, describe: impl FnOnce(&mut Event)) {
        let passed = of.passed.xchg(0, Relaxed);
        let dropped = of.dropped.xchg(0, Relaxed);
        if passed == 0 && dropped == 0 {
            return;
        }
        self.events.tell(EventKind::Drop, |event| {
            describe(event);
            event.cause = of.cause;
            event.passed = passed;
            event.dropped = dropped;
        });
    }
}
