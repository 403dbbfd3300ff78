// SPDX-License-Identifier: GPL-2.0-only

//! The packets of one round, between its two halves: collected under the session's lock, delivered
//! without it.

use crate::flows::Out;
use crate::revert::Outlet;
use crate::sys::skb::Skb;

/// Most packets of one round: NAPI's weight.
pub(crate) const ROUND: usize = 64;

/// A packet on its way out of a round, the place of its tap, and its flow, which has it out until it has
/// been delivered.
struct Delivery {
    skb: Skb,
    outlet: Outlet,
    place: usize,
    out: Option<Out>,
}

/// The packets of one round.
pub(crate) struct Outbox {
    deliveries: [Option<Delivery>; ROUND],
    used: usize,
}

impl Outbox {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self {
            deliveries: [const { None }; ROUND],
            used: 0,
        }
    }

    /// How many more packets it takes.
    pub(crate) fn room(&self) -> usize {
        ROUND.saturating_sub(self.used)
    }

    /// Adds a packet; what finds no room is freed, so the caller asks first.
    pub(crate) fn add(&mut self, skb: Skb, outlet: Outlet, place: usize, out: Option<Out>) {
        if let Some(free) = self.deliveries.get_mut(self.used) {
            *free = Some(Delivery {
                skb,
                outlet,
                place,
                out,
            });
            self.used = self.used.wrapping_add(1);
        }
    }

    /// Delivers everything, in order; calls `lost` with the tap's place for what was not taken.
    pub(crate) fn deliver(&mut self, mut lost: impl FnMut(usize)) {
        self.used = 0;
        for delivery in self.deliveries.iter_mut().map_while(Option::take) {
            let taken = match delivery.outlet {
                Outlet::Input => delivery.skb.deliver_input(),
                Outlet::Output => delivery.skb.deliver_output(),
                Outlet::Drop => true,
            };
            drop(delivery.out);
            if !taken {
                lost(delivery.place);
            }
        }
    }
}
