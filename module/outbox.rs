// SPDX-License-Identifier: GPL-2.0-only

//! The packets of one round, between its two halves: collected under the session's lock, delivered
//! without it.

use crate::flows::Out;
use crate::flows::Outs;
use crate::revert::Outlet;
use crate::sys::queue::Queue;
use crate::sys::skb::Skb;

/// Most packets of one round: NAPI's weight.
pub(crate) const ROUND: usize = 64;

/// The packets of one round.
pub(crate) struct Outbox {
    used: usize,
    input: Queue,
    output: Queue,
    dropped: Queue,
    /// Flows that have packets out until these have been delivered.
    outs: Outs<ROUND>,
}

impl Outbox {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self {
            used: 0,
            input: Queue::new(),
            output: Queue::new(),
            dropped: Queue::new(),
            outs: Outs::new(),
        }
    }

    /// How many more packets it takes.
    pub(crate) fn room(&self) -> usize {
        ROUND.saturating_sub(self.used)
    }

    /// Adds a packet and the place of its tap. The caller has asked whether there is room.
    #[inline]
    pub(crate) fn add(&mut self, skb: Skb, outlet: Outlet, place: usize) {
        self.used = self.used.wrapping_add(1);
        let queue = match outlet {
            Outlet::Input => &mut self.input,
            Outlet::Output => &mut self.output,
            Outlet::Drop => &mut self.dropped,
        };
        queue.push(skb, place as u32);
    }

    /// Remembers the flow that a packet is of, until it has been delivered.
    pub(crate) fn remember(&mut self, out: Option<Out<'_>>) {
        if let Some(out) = out {
            self.outs.add(&out);
        }
    }

    /// Delivers everything, each kind in order; calls `lost` with the tap's place for what was not taken.
    /// `budget` is what a round of the server has, or nothing outside of one.
    pub(crate) fn deliver(&mut self, budget: usize, mut lost: impl FnMut(usize)) {
        self.used = 0;
        self.output.leave(|place| lost(place as usize));
        self.input.enter(|place| lost(place as usize));
        self.dropped.free(budget);
        self.outs.end();
    }
}
