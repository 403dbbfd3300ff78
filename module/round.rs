// SPDX-License-Identifier: GPL-2.0-only

//! One round of serving, the half under the session's lock: entries are taken from the rings that the
//! program fills, checked, and turned into packets to be delivered; the alloc ring is filled.
//!
//! Whatever a session gives back, by whichever ring, comes through here, one round at a time. Softirq,
//! or bottom halves off; nothing sleeps.

use core::time::Duration;

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use kernel::alloc::KVec;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::account::Holder;
use crate::drops;
use crate::outbox::Outbox;
use crate::outbox::ROUND;
use crate::region::Chain;
use crate::region::Claim;
use crate::region::Freed;
use crate::region::Packet;
use crate::region::Refusal;
use crate::revert;
use crate::revert::Outlet;
use crate::rings::RingPages;
use crate::stats::bump;
use crate::stats::End;
use crate::supply::Supply;
use crate::sys::hook::Way;
use crate::sys::word::SharedWord;
use crate::tap::Tap;
use crate::tapend::TapEnd;
use crate::uapi::ring::Entry;
use crate::uapi::ring::PrivateConsumer;
use crate::uapi::ring::Word;
use crate::uapi::ring::REVERT_CHANGED;
use crate::uapi::ring::REVERT_FLAGS;
use crate::uapi::stats::Refused;
use crate::uapi::stats::SessionStats;
use crate::uapi::tap::TAPS_MAX;
use crate::watch::Pulse;

/// Timed rounds without work, nothing being out, before the server sleeps.
const PATIENCE: u32 = 16;
/// While packets flow the timer waits up to so many times the shortest α.
const FLOWING: u32 = 8;
/// A look after held packets comes every so many rounds, a second at the longest α that is the default.
const TEND_EVERY: u64 = 1024;
/// Mbufs that one such look is for.
const TENDED: u32 = 4096;

/// A ring that the program fills.
#[derive(Clone, Copy)]
pub(crate) enum Ring {
    /// The session's.
    Dealloc,
    /// Of the tap at this place.
    Revert(usize),
}

/// What is behind the session's lock.
pub(crate) struct State {
    pub(crate) supply: Option<Supply>,
    /// A place per tap, so that a tap keeps its number in the mmap offsets.
    pub(crate) taps: KVec<Option<TapEnd>>,
    /// Places from this one on are empty.
    places: usize,
    refused: Refused,
    deallocated: u64,
    rounds: u64,
    /// The place of the tap whose ring is drained first.
    first: usize,
    /// Where the next look after held packets begins.
    tended: u32,
    /// Packets that the session's taps had detoured at the last round.
    detoured: u64,
    asleep: bool,
    fruitless: u32,
    alpha: Duration,
    pulse: Pulse,
    /// For the rounds of the server, whose stack it would be much on.
    pub(crate) outbox: Option<KBox<Outbox>>,
}

/// Whether a server looks soon by itself, for those who would else ask it to.
pub(crate) struct Attention(Atomic<bool>);

impl Attention {
    /// Of one that sleeps.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(false))
    }

    /// Whether it does.
    pub(crate) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn turn(&self, to: bool) {
        self.0.store(to, Relaxed);
    }
}

impl State {
    /// Of a session that has neither mapped nor tapped.
    pub(crate) fn new(alpha: Duration) -> Result<Self> {
        let mut taps = KVec::with_capacity(TAPS_MAX as usize, GFP_KERNEL)?;
        for _ in 0..TAPS_MAX {
            taps.push_within_capacity(None)?;
        }
        Ok(Self {
            supply: None,
            taps,
            places: 0,
            refused: Refused::default(),
            deallocated: 0,
            rounds: 0,
            first: 0,
            tended: 0,
            detoured: 0,
            asleep: true,
            fruitless: PATIENCE,
            alpha,
            pulse: Pulse::new(),
            outbox: Some(KBox::new(Outbox::new(), GFP_KERNEL)?),
        })
    }

    /// Gives a tap its place, or nobody; who had it before.
    pub(crate) fn seat(&mut self, place: usize, end: Option<TapEnd>) -> Option<TapEnd> {
        let before = core::mem::replace(self.taps.get_mut(place)?, end);
        let (mut at, mut places) = (0usize, 0usize);
        for end in &self.taps {
            at = at.wrapping_add(1);
            if end.is_some() {
                places = at;
            }
        }
        self.places = places;
        before
    }

    /// The taps.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &TapEnd> {
        let places = self.taps.get(..self.places);
        places.unwrap_or_default().iter().flatten()
    }

    /// What the state knows of its session.
    pub(crate) fn export(&self, id: u32, stats: &mut SessionStats) {
        stats.taps = self.ends().fold(0, |n, _| u32::wrapping_add(n, 1));
        stats.deallocated = self.deallocated;
        stats.refused = self.refused;
        stats.rounds = self.rounds;
        if let Some(supply) = &self.supply {
            stats.mapped = 1;
            stats.group = supply.region.group();
            stats.prealloc = supply.prealloc;
            stats.refused.scribbled = supply.scribbled();
            stats.allocated = supply.region.count_held(Holder::Allocated(id)) as u32;
        }
    }

    /// One round, the half under the lock: at most `budget` entries.
    pub(crate) fn round(&mut self, id: u32, pid: u32, budget: usize, outbox: &mut Outbox) -> usize {
        bump(&mut self.rounds, 1);
        if self.rounds % TEND_EVERY == 0 {
            self.tend();
        }
        let mut work = 0usize;
        // What is given back makes room, so a part of the round is for it; of the taps each has its
        // turn to be first.
        work = work.saturating_add(self.drain_dealloc(id, budget.min(ROUND / 4), outbox));
        let start = if self.first < self.places {
            self.first
        } else {
            0
        };
        let mut found = false;
        let places = self.places;
        for turn in 0..places {
            let mut place = start.wrapping_add(turn);
            if place >= places {
                place = place.wrapping_sub(places);
            }
            let left = budget.saturating_sub(work);
            let done = self.drain_revert(id, place, left, outbox);
            work = work.saturating_add(done);
            // Next time whoever comes after the first that had something is the first to be asked.
            if done > 0 && !found {
                found = true;
                self.first = place.wrapping_add(1);
            }
        }
        let left = budget.saturating_sub(work);
        work = work.saturating_add(self.drain_dealloc(id, left, outbox));
        if let Some(supply) = &mut self.supply {
            let refilled = supply.refill(id, pid);
            work = work.saturating_add(refilled as usize).min(budget);
        }
        work
    }

    /// Packets that are held for long let go of sockets that have been closed.
    fn tend(&mut self) {
        let Some(supply) = &self.supply else { return };
        let detoured = |holder| match holder {
            Holder::Detoured(tap) => self.place_of(tap).is_some(),
            _ => false,
        };
        let region = &supply.region;
        region.leave_closed(self.tended, TENDED, detoured);
        let next = self.tended.wrapping_add(TENDED);
        self.tended = if next < region.peak() { next } else { 0 };
    }

    /// Whether a tap's program has held a packet for longer than it may; which ones says their watch. The
    /// session has made so many calls.
    pub(crate) fn watch(&mut self, calls: u64) -> bool {
        let places = self.taps.get_mut(..self.places).unwrap_or_default();
        let (mut watched, mut any, mut moved) = (false, false, calls);
        for end in places.iter_mut().flatten() {
            watched |= end.tap.policies.max_age().is_some();
            any |= end.watch.look(&end.tap, end.is_outstanding());
            moved = moved.wrapping_add(end.tap.moved_by_program());
        }
        if !watched {
            return false;
        }
        if let Some(supply) = &self.supply {
            moved = moved.wrapping_add(supply.moved_by_program());
        }
        if self.pulse.feel(moved) {
            places.iter().flatten().for_each(|end| end.tap.shows_life());
        } else if any {
            let silence = self.pulse.silence().saturating_mul(2);
            for end in places.iter_mut().flatten() {
                if end.tap.policies.max_age().is_some_and(|age| silence >= age) {
                    end.watch.give_up();
                }
            }
        }
        any
    }

    /// Whether a holder is this session: itself, or one of its taps.
    fn holds(&self, id: u32, holder: Holder) -> bool {
        match holder {
            Holder::Allocated(session) => session == id,
            Holder::Detoured(tap) => self.place_of(tap).is_some(),
            Holder::Free | Holder::Kernel | Holder::Chained(_) => false,
        }
    }

    /// The tap at `place`, if it is still the one with this id: places are used again.
    pub(crate) fn tap_at(&self, place: usize, id: u32) -> Option<&TapEnd> {
        let end = self.taps.get(place)?.as_ref()?;
        (end.tap.label.id == id).then_some(end)
    }

    /// The same, to be changed.
    pub(crate) fn tap_at_mut(&mut self, place: usize, id: u32) -> Option<&mut TapEnd> {
        let end = self.taps.get_mut(place)?.as_mut()?;
        (end.tap.label.id == id).then_some(end)
    }

    /// A tap by its id.
    pub(crate) fn end_of(&mut self, tap: u32) -> Option<&mut TapEnd> {
        let place = self.place_of(tap)?;
        self.taps.get_mut(place)?.as_mut()
    }

    pub(crate) fn place_of(&self, tap: u32) -> Option<usize> {
        let is_it = |end: &Option<TapEnd>| end.as_ref().is_some_and(|e| e.tap.label.id == tap);
        self.taps.get(..self.places)?.iter().position(is_it)
    }

    /// Takes entries from the dealloc ring.
    fn drain_dealloc(&mut self, id: u32, budget: usize, outbox: &mut Outbox) -> usize {
        let Some(supply) = &self.supply else {
            return 0;
        };
        let (region, ring) = (Arc::clone(&supply.region), Arc::clone(&supply.dealloc));
        let cells = ring.cells();
        if supply.consumer.is_idle(&cells) {
            return 0;
        }
        let mut freed = Freed::of(&region);
        let mut work = 0usize;
        while work < budget && outbox.room() > 0 {
            let Some(supply) = self.supply.as_mut() else {
                break;
            };
            let before = supply.consumer.position();
            let entry = supply.consumer.take(&cells);
            // Padding is work too: a program could write it for ever.
            work = work.wrapping_add(supply.consumer.position().wrapping_sub(before) as usize);
            let Some(entry) = entry else {
                break;
            };
            if entry.flags != 0 {
                bump(&mut self.refused.flags, 1);
                continue;
            }
            match region.claim(entry, |holder| self.holds(id, holder)) {
                Ok(Claim::Buffer(chain)) => {
                    bump(&mut self.deallocated, 1);
                    freed.add(chain);
                }
                Ok(Claim::Packet(packet)) => {
                    bump(&mut self.deallocated, 1);
                    let place = self.place_of(packet.tap).unwrap_or(usize::MAX);
                    let mut out = None;
                    if let Some(Some(end)) = self.taps.get_mut(place) {
                        end.ended(packet.truesize, End::DroppedByProgram);
                        out = end.tap.out_of_flow(packet.flow);
                    }
                    outbox.add(packet.skb, Outlet::Drop, place);
                    outbox.remember(out);
                    freed.add(packet.chain);
                }
                Err(refusal) => count_refusal(&mut self.refused, refusal),
            }
        }
        if work > 0 {
            self.ends().for_each(|end| end.tap.shows_life());
        }
        if let Some(supply) = self.supply.as_mut() {
            supply
                .consumer
                .publish(&supply.dealloc.kernel_words().position);
        }
        work
    }

    /// Takes entries from the revert ring of the tap at `place`.
    fn drain_revert(&mut self, id: u32, place: usize, budget: usize, outbox: &mut Outbox) -> usize {
        let Some(Some(end)) = self.taps.get(place) else {
            return 0;
        };
        if end.consumer.is_idle(&end.tap.revert.cells()) {
            return 0;
        }
        let tap = Arc::clone(&end.tap);
        let cells = tap.revert.cells();
        let mut freed = Freed::of(&tap.region);
        // Nearly always a packet goes on from where it was detoured, as it was.
        let own = Holder::Detoured(tap.label.id);
        let outlet = revert::outlet_of(tap.options.mode);
        let straight = outlet == natural_outlet(revert::way_of(tap.options.mode));
        let (mut packets, mut truesize) = (0u64, 0u64);
        let mut work = 0usize;
        while work < budget && outbox.room() > 0 {
            let Some(Some(end)) = self.taps.get_mut(place) else {
                break;
            };
            let before = end.consumer.position();
            let entry = end.consumer.take(&cells);
            work = work.wrapping_add(end.consumer.position().wrapping_sub(before) as usize);
            let Some(entry) = entry else {
                break;
            };
            if straight && entry.flags == 0 {
                if let Ok(Claim::Packet(packet)) = tap.region.claim(entry, |holder| holder == own) {
                    bump(&mut packets, 1);
                    bump(&mut truesize, u64::from(packet.truesize));
                    outbox.add(packet.skb, outlet, place);
                    outbox.remember(tap.out_of_flow(packet.flow));
                    freed.add(packet.chain);
                    continue;
                }
            }
            self.revert_one(id, place, &tap, entry, outbox, &mut freed);
        }
        if work > 0 {
            tap.shows_life();
        }
        if let Some(Some(end)) = self.taps.get_mut(place) {
            end.ended_all(packets, truesize, End::Reverted);
            end.consumer.publish(&tap.revert.kernel_words().position);
        }
        work
    }

    fn revert_one(
        &mut self,
        id: u32,
        place: usize,
        to: &Tap,
        entry: Entry,
        outbox: &mut Outbox,
        freed: &mut Freed<'_>,
    ) {
        let claim = if entry.flags & !REVERT_FLAGS != 0 {
            if let Some(Some(end)) = self.taps.get_mut(place) {
                bump(&mut end.counts.refused.flags, 1);
            }
            return;
        } else {
            // Nearly always it is the ring's own tap that held it.
            let own = Holder::Detoured(to.label.id);
            let may = |holder| holder == own || self.holds(id, holder);
            to.region.claim(entry, may)
        };
        match claim {
            Ok(Claim::Packet(packet)) => {
                self.revert_packet(place, to, entry, packet, outbox, freed);
            }
            Ok(Claim::Buffer(chain)) => self.send_new(id, place, to, chain, outbox),
            Err(refusal) => {
                if let Some(Some(end)) = self.taps.get_mut(place) {
                    count_refusal(&mut end.counts.refused, refusal);
                }
            }
        }
    }

    /// A detoured packet comes back by the revert ring of the tap at `place`.
    fn revert_packet(
        &mut self,
        place: usize,
        to: &Tap,
        entry: Entry,
        packet: Packet<'_>,
        outbox: &mut Outbox,
        freed: &mut Freed<'_>,
    ) {
        let Packet {
            tap,
            mut skb,
            truesize,
            flow,
            chain,
            ..
        } = packet;
        let home = if tap == to.label.id {
            Some(place)
        } else {
            self.place_of(tap)
        };
        let Some(home) = home else {
            return;
        };
        let (Some(Some(from)), Some(Some(toward))) = (self.taps.get(home), self.taps.get(place))
        else {
            return;
        };
        let way = revert::way_of(from.tap.options.mode);
        let outlet = revert::outlet_of(to.options.mode);
        let changed = entry.flags & REVERT_CHANGED != 0;
        // A received packet that leaves by a device, its own too, takes a bridge's way out.
        let turns = home != place || outlet != natural_outlet(way);
        let mut result = Ok(());
        if changed {
            result = revert::apply_changes(&to.region, &chain, &mut skb, way, &from.device);
        }
        if result.is_ok() && turns {
            result = revert::cross(&mut skb, way, outlet, &toward.device);
        }
        let end = match result {
            Err(flaw) => End::Refused(flaw),
            Ok(()) if home != place => End::Crossed,
            Ok(()) if changed => End::Changed,
            Ok(()) => End::Reverted,
        };
        let outlet = if result.is_ok() { outlet } else { Outlet::Drop };
        let mut out = None;
        if let Some(Some(from)) = self.taps.get_mut(home) {
            from.ended(truesize, end);
            out = from.tap.out_of_flow(flow);
        }
        if end == End::Crossed {
            if let Some(Some(toward)) = self.taps.get_mut(place) {
                bump(&mut toward.counts.crossed_in, 1);
            }
        }
        outbox.add(skb, outlet, place);
        outbox.remember(out);
        freed.add(chain);
    }

    /// A new packet comes by the revert ring of the tap at `place`.
    fn send_new(&mut self, id: u32, place: usize, to: &Tap, chain: Chain<'_>, outbox: &mut Outbox) {
        let Some(Some(end)) = self.taps.get_mut(place) else {
            return;
        };
        let outlet = revert::outlet_of(to.options.mode);
        match revert::make_new(&to.region, chain, id, outlet, &end.device) {
            Ok(skb) => {
                bump(&mut end.counts.injected, 1);
                outbox.add(skb, outlet, place);
            }
            Err(flaw) => {
                bump(&mut end.counts.injected_refused, 1);
                end.tap.tell_drop(drops::refused(flaw), 0, 1);
            }
        }
    }

    /// What its taps have detoured in all, and whether some of it is out.
    fn out(&self) -> (u64, bool) {
        self.ends()
            .fold((0, false), |(detoured, outstanding), end| {
                let of_tap = end.tap.detoured();
                let all = u64::wrapping_add(detoured, of_tap);
                (all, outstanding || of_tap != end.counts.ends.all())
            })
    }

    /// After a round: when to look again, or sleep. `None`: sleeping, the rings say so.
    ///
    /// Packets that flow ask for rounds themselves, as long as they find something given back; the timer is
    /// for the last of them, so it may be slow while they flow.
    pub(crate) fn rest(
        &mut self,
        worked: bool,
        (min, max): (Duration, Duration),
        attention: &Attention,
    ) -> Option<Duration> {
        let (mut detoured, mut outstanding) = self.out();
        if detoured == self.detoured && !worked {
            attention.turn(false);
            SharedWord::full_barrier(); // H, matches G: who detours from here on asks for a round
            (detoured, outstanding) = self.out();
        }
        let fresh = detoured != self.detoured;
        self.detoured = detoured;
        if fresh || worked {
            attention.turn(true);
            self.fruitless = 0;
        }
        if fresh && worked {
            let slow = min.saturating_mul(FLOWING).min(max);
            self.alpha = self.alpha.saturating_mul(2).min(slow);
        } else if fresh {
            // The program can hardly have answered yet, and the answer to a new packet comes soon.
            self.alpha = min;
        } else if worked {
            self.alpha = self.alpha.checked_div(2).unwrap_or(min).max(min);
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
            self.alpha = self.alpha.saturating_mul(2).min(max);
        }
        if outstanding || worked || self.fruitless < PATIENCE {
            self.set_asleep(false);
            return Some(self.alpha);
        }
        attention.turn(false);
        if !self.asleep {
            self.ends().for_each(|end| end.tap.rest());
            self.set_asleep(true);
            SharedWord::full_barrier(); // E, matches F: a push from here on rings the doorbell
            if self.has_entries() {
                self.set_asleep(false);
                self.fruitless = 0;
                attention.turn(true);
                return Some(min);
            }
        }
        None
    }

    fn has_entries(&self) -> bool {
        let dealloc = self
            .supply
            .as_ref()
            .is_some_and(|s| s.consumer.is_ready(&s.dealloc.cells()));
        let ready = |end: &TapEnd| end.consumer.is_ready(&end.tap.revert.cells());
        dealloc || self.ends().any(ready)
    }

    /// Whether a round would find something to do.
    pub(crate) fn wants_round(&mut self) -> bool {
        let is_short = self.supply.as_mut().is_some_and(Supply::is_short);
        is_short || self.has_entries()
    }

    fn set_asleep(&mut self, asleep: bool) {
        if self.asleep == asleep {
            return;
        }
        self.asleep = asleep;
        self.tell_asleep();
    }

    /// Writes into every ring whether the server sleeps; also after a ring has joined.
    pub(crate) fn tell_asleep(&self) {
        let word = u32::from(self.asleep);
        for end in self.ends() {
            end.tap.detour.kernel_words().need_wakeup.store(word);
            end.tap.revert.kernel_words().need_wakeup.store(word);
        }
        if let Some(supply) = &self.supply {
            supply.alloc.kernel_words().need_wakeup.store(word);
            supply.dealloc.kernel_words().need_wakeup.store(word);
        }
    }

    /// Cells that the program has filled and the kernel not taken, by the program's own account; at
    /// most what the ring holds.
    pub(crate) fn backlog(&self, ring: Ring) -> u32 {
        let of = |pages: &RingPages, consumer: &PrivateConsumer<SharedWord>| {
            let filled = pages.program_position().load();
            filled.wrapping_sub(consumer.position()).min(pages.size())
        };
        match ring {
            Ring::Dealloc => {
                let supply = self.supply.as_ref();
                supply.map_or(0, |s| of(&s.dealloc, &s.consumer))
            }
            Ring::Revert(place) => {
                let end = self.taps.get(place).and_then(Option::as_ref);
                end.map_or(0, |end| of(&end.tap.revert, &end.consumer))
            }
        }
    }

    /// Takes entries from one ring; how many cells it went on.
    pub(crate) fn drain(&mut self, id: u32, ring: Ring, budget: usize, to: &mut Outbox) -> usize {
        match ring {
            Ring::Dealloc => self.drain_dealloc(id, budget, to),
            Ring::Revert(place) => self.drain_revert(id, place, budget, to),
        }
    }
}

/// Where a packet goes when nothing turns it round.
fn natural_outlet(way: Way) -> Outlet {
    match way {
        Way::Received => Outlet::Input,
        Way::Sent => Outlet::Output,
    }
}

fn count_refusal(refused: &mut Refused, refusal: Refusal) {
    let counter = match refusal {
        Refusal::Index => &mut refused.index,
        Refusal::Holder => &mut refused.holder,
        Refusal::Generation => &mut refused.generation,
    };
    bump(counter, 1);
}
