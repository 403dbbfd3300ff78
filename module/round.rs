// SPDX-License-Identifier: GPL-2.0-only

//! One round of serving, the half under the session's lock: entries are taken from the rings that the
//! program fills, checked, and turned into packets to be delivered; the alloc ring is filled.
//!
//! Whatever a session gives back, by whichever ring, comes through here, one round at a time. Softirq,
//! or bottom halves off; nothing sleeps.

use core::time::Duration;

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVec;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::account::Holder;
use crate::outbox::Outbox;
use crate::outbox::ROUND;
use crate::rings::RingPages;
use crate::stats::bump;
use crate::supply::Supply;
use crate::sys::rcu::Grace;
use crate::sys::skb::Taker;
use crate::sys::task::now;
use crate::sys::task::ticks;
use crate::sys::task::Process;
use crate::sys::word::SharedWord;
use crate::tapend::TapEnd;
use crate::uapi::ring::PrivateConsumer;
use crate::uapi::ring::Word;
use crate::uapi::stats::Refused;
use crate::uapi::stats::SessionStats;
use crate::uapi::tap::TAPS_MAX;
use crate::watch::Pulse;

/// Timed rounds without work, nothing being out, before the server sleeps.
const PATIENCE: u32 = 16;
/// So many new packets since the timer's last round are a flow; fewer may be all that somebody waits for.
const FLOW: u64 = 4;
/// So many entries in one round are a flow, too, if the program has called for it.
const BATCH: usize = 16;
/// While packets flow the timer waits up to so many times the shortest α.
const FLOWING: u32 = 8;
/// Microseconds in which all held packets are looked after, a part at a time. Parts are two ticks apart at least, and a round.
const TEND_US: u64 = 500_000;
/// Mbufs of such a part.
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
    pub(crate) refused: Refused,
    pub(crate) deallocated: u64,
    rounds: u64,
    /// The places of the taps whose ring is drained first, and whose watchdog looks first.
    first: usize,
    watched: usize,
    /// Where the next look after held packets begins, and before which tick it is not taken.
    tended: u32,
    tend_at: u64,
    /// Packets that the session's taps had detoured at the last round, and calls that the program had made.
    detoured: u64,
    calls: u64,
    asleep: bool,
    fruitless: u32,
    pace: Pace,
    pulse: Pulse,
    quiet: Quiet,
    /// Takes the packets of the session's taps out of the account.
    pub(crate) taker: Taker,
    /// The thread of the kernel's that serves without rest, if one does.
    thread: Option<Process>,
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

    /// Nothing is written where nothing changes: detours on other CPUs read this for each packet.
    fn turn(&self, to: bool) {
        if self.get() != to {
            self.0.store(to, Relaxed);
        }
    }
}

/// α, and what there has been since it was last set.
struct Pace {
    alpha: Duration,
    /// Packets that had been detoured then.
    detoured: u64,
    /// Whether a round has found work.
    worked: bool,
    /// Whether one has found a batch of the program's own for which it had called: it does not wait for the timer.
    rings: bool,
}

impl Pace {
    /// Of a session in which nothing has happened.
    fn of(alpha: Duration) -> Self {
        Self {
            alpha,
            detoured: 0,
            worked: false,
            rings: false,
        }
    }

    /// Sets α between two bounds.
    fn set(&mut self, detoured: u64, (min, max): (Duration, Duration)) {
        let new = detoured.wrapping_sub(core::mem::replace(&mut self.detoured, detoured));
        let worked = core::mem::replace(&mut self.worked, false);
        let rings = core::mem::replace(&mut self.rings, false);
        self.alpha = if new >= FLOW || rings {
            let slow = min.saturating_mul(FLOWING).min(max);
            self.alpha.saturating_mul(2).min(slow)
        } else if new != 0 {
            // The answer to a new packet comes soon, or the next one for which somebody waited.
            min
        } else if worked {
            self.alpha.checked_div(2).unwrap_or(min).max(min)
        } else {
            self.alpha.saturating_mul(2).min(max)
        };
    }
}

/// Whether nobody is left who counted on attention.
enum Quiet {
    /// Somebody may be.
    No,
    /// Nobody when this is over.
    Soon(Grace),
    /// Nobody.
    Reached,
}

impl Quiet {
    /// Whether it is so; begins to make it so. There is no attention any more.
    fn is_reached(&mut self) -> bool {
        match self {
            Self::No => *self = Self::Soon(Grace::begin()),
            Self::Soon(grace) if grace.is_over() => *self = Self::Reached,
            Self::Soon(_) | Self::Reached => {}
        }
        matches!(self, Self::Reached)
    }
}

impl State {
    /// Of a session that has neither mapped nor tapped.
    pub(crate) fn new(alpha: Duration) -> Result<Self> {
        let mut taps = KVec::with_capacity(TAPS_MAX as usize, GFP_KERNEL_ACCOUNT)?;
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
            watched: 0,
            tended: 0,
            tend_at: 0,
            detoured: 0,
            calls: 0,
            asleep: true,
            fruitless: PATIENCE,
            pace: Pace::of(alpha),
            pulse: Pulse::new(),
            quiet: Quiet::Reached,
            taker: Taker::new(),
            thread: None,
            outbox: Some(KBox::new(Outbox::new(), GFP_KERNEL_ACCOUNT)?),
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
        let several = self.ends().nth(1).is_some();
        self.ends().for_each(|end| end.tap.set_beside(several));
        before
    }

    /// The taps.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &TapEnd> {
        let places = self.taps.get(..self.places);
        places.unwrap_or_default().iter().flatten()
    }

    /// What the state knows of its session.
    pub(crate) fn export(&self, stats: &mut SessionStats) {
        stats.taps = self.ends().fold(0, |n, _| u32::wrapping_add(n, 1));
        stats.deallocated = self.deallocated;
        stats.refused = self.refused;
        stats.rounds = self.rounds;
        stats.busy = u32::from(self.is_busy());
        stats.thread = self.thread();
        if let Some(supply) = &self.supply {
            stats.mapped = 1;
            stats.group = supply.region.group();
            stats.prealloc = supply.prealloc;
            stats.refused.scribbled = supply.scribbled();
        }
    }

    /// One round, the half under the lock: at most `budget` entries.
    pub(crate) fn round(&mut self, id: u32, pid: u32, budget: usize, outbox: &mut Outbox) -> usize {
        bump(&mut self.rounds, 1);
        if now() >= self.tend_at {
            self.tend();
        }
        let mut work = 0usize;
        // What is given back makes room, so a part of the round is for it; of the taps each has its
        // turn to be first.
        let share = budget.min(ROUND / 4);
        let given = if self.has_deallocs() {
            self.drain_dealloc(id, share, outbox)
        } else {
            0
        };
        work = work.saturating_add(given);
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
            if !self.has_reverts(place) {
                continue;
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
        if given >= share {
            let left = budget.saturating_sub(work);
            work = work.saturating_add(self.drain_dealloc(id, left, outbox));
        }
        if let Some(supply) = &mut self.supply {
            let refilled = supply.refill(id, pid);
            work = work.saturating_add(refilled as usize).min(budget);
        }
        work
    }

    /// Packets that are held for long let go of sockets that have been closed.
    fn tend(&mut self) {
        let Some(supply) = &self.supply else { return };
        let region = Arc::clone(&supply.region);
        let peak = region.peak();
        let mut taker = core::mem::replace(&mut self.taker, Taker::nobody());
        region.leave_closed(self.tended, TENDED, |h| self.has_detoured(h), &mut taker);
        self.taker = taker;
        let parts = u64::from(peak.div_ceil(TENDED).max(1));
        self.tend_at = now().saturating_add(ticks(TEND_US.checked_div(parts).unwrap_or(0)));
        let next = self.tended.wrapping_add(TENDED);
        self.tended = if next < peak { next } else { 0 };
    }

    /// Whether a holder is one of its taps.
    fn has_detoured(&self, holder: Holder) -> bool {
        match holder {
            Holder::Detoured(tap) => self.place_of(tap).is_some(),
            _ => false,
        }
    }

    /// Whether a tap's program has held a packet for longer than it may; which ones says their watch. The
    /// session has made so many calls.
    pub(crate) fn watch(&mut self, calls: u64) -> bool {
        // Nearly always nobody is, and each tap would cost some steps in every round.
        if !self.ends().any(|end| end.tap.policies.has_max_age()) {
            self.pulse.wait(false);
            return false;
        }
        let places = self.places;
        let (mut any, mut late, mut moved) = (false, false, calls);
        let mut out = false;
        let mut may_look = true;
        // Each has its turn to look: a pass over many mbufs may take longer than it is until the next one.
        let start = if self.watched < places {
            self.watched
        } else {
            0
        };
        for turn in 0..places {
            let mut place = start.wrapping_add(turn);
            if place >= places {
                place = place.wrapping_sub(places);
            }
            let Some(Some(end)) = self.taps.get_mut(place) else {
                continue;
            };
            let might = may_look;
            let outstanding = end.is_outstanding();
            let overdue = end.watch.look(&end.tap, outstanding, &mut may_look);
            any |= overdue;
            // Nobody takes what a tap on standby holds but the kernel itself: of the program it says nothing.
            if !end.tap.options.standby {
                late |= overdue;
                out |= outstanding;
                moved = moved.wrapping_add(end.tap.moved_by_program());
            }
            if might && !may_look {
                self.watched = place.wrapping_add(1);
            }
        }
        if let Some(supply) = &self.supply {
            moved = moved.wrapping_add(supply.moved_by_program());
        }
        self.pulse.wait(out);
        if self.pulse.feel(moved) {
            self.ends().for_each(|end| end.tap.shows_life());
        } else if late {
            let silence = self.pulse.silence().saturating_mul(2);
            let taps = self.taps.get_mut(..places).unwrap_or_default();
            for end in taps
                .iter_mut()
                .flatten()
                .filter(|end| !end.tap.options.standby)
            {
                if end.tap.policies.max_age().is_some_and(|age| silence >= age) {
                    end.watch.give_up();
                }
            }
        }
        any
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

    /// What its taps have detoured in all, and whether some of it is out.
    fn out(&self) -> (u64, bool) {
        self.ends()
            .fold((0, false), |(detoured, outstanding), end| {
                let of_tap = end.tap.detoured();
                let all = u64::wrapping_add(detoured, of_tap);
                (all, outstanding || of_tap != end.counts.ends.all())
            })
    }

    /// After a round that did so much work, when the program has made so many calls: when to look again, or nothing,
    /// sleeping, the rings say so; and whether packets are new.
    ///
    /// Packets that flow ask for rounds themselves, as long as they find something given back; the timer is
    /// for the last of them, so it may be slow while they flow. Whether they flow is asked when a round is `due`, for
    /// which no timer is armed: one that somebody has asked for in between may come right after another, and finds few new
    /// packets by chance.
    ///
    /// A detour counts its packet and then looks at `attention` with no barrier between the two. So there is a
    /// grace period between the end of attention and sleep: whoever still saw it has counted by then, and
    /// is seen; whoever came later asks for a round.
    pub(crate) fn rest(
        &mut self,
        work: usize,
        calls: u64,
        (min, max): (Duration, Duration),
        attention: &Attention,
        due: bool,
    ) -> (Option<Duration>, bool) {
        let (detoured, outstanding) = self.out();
        let before = core::mem::replace(&mut self.detoured, detoured);
        let (fresh, worked) = (before != detoured, work > 0);
        if fresh || worked {
            attention.turn(true);
            self.quiet = Quiet::No;
            self.fruitless = 0;
        } else {
            attention.turn(false);
            self.fruitless = self.fruitless.saturating_add(1);
        }
        let called = core::mem::replace(&mut self.calls, calls) != calls;
        self.pace.worked |= worked;
        self.pace.rings |= called && !fresh && work >= BATCH;
        if due {
            self.pace.set(detoured, (min, max));
        }
        if outstanding || worked || self.fruitless < PATIENCE || !self.quiet.is_reached() {
            self.set_asleep(false);
            return (Some(self.pace.alpha), fresh);
        }
        if self.out().0 != detoured {
            // One that still saw attention. It is new to the next round, which is soon.
            self.set_asleep(false);
            return (Some(min), fresh);
        }
        if !self.asleep {
            self.ends().for_each(|end| end.tap.rest());
            self.set_asleep(true);
            SharedWord::full_barrier(); // E, matches F: a push from here on rings the doorbell
            if self.has_entries() {
                self.set_asleep(false);
                self.fruitless = 0;
                self.quiet = Quiet::No;
                attention.turn(true);
                return (Some(min), fresh);
            }
        }
        (None, fresh)
    }

    /// The same for a server that never rests: whether packets are new.
    pub(crate) fn go_on(&mut self) -> bool {
        let (detoured, _) = self.out();
        self.pace.detoured = detoured;
        core::mem::replace(&mut self.detoured, detoured) != detoured
    }

    /// Whether a thread serves without rest.
    pub(crate) fn is_busy(&self) -> bool {
        self.thread.is_some()
    }

    /// That thread, as the caller's pid namespace numbers it; 0 if there is none, or none that the caller sees.
    pub(crate) fn thread(&self) -> u32 {
        self.thread.as_ref().map_or(0, Process::seen)
    }

    /// From the next round on `thread` serves without rest, or nobody does; who did before. The server looks
    /// soon by itself in either case, and ends that no sooner than its rounds, when they come, are in vain.
    pub(crate) fn hand_over(
        &mut self,
        thread: Option<Process>,
        attention: &Attention,
    ) -> Option<Process> {
        self.set_asleep(false);
        attention.turn(true);
        self.quiet = Quiet::No;
        self.fruitless = 0;
        core::mem::replace(&mut self.thread, thread)
    }

    pub(crate) fn has_entries(&self) -> bool {
        let ready = |end: &TapEnd| end.consumer.is_ready(&end.tap.revert.cells());
        let supply = self.supply.as_ref();
        supply.is_some_and(|s| s.consumer.is_ready(&s.dealloc.cells())) || self.ends().any(ready)
    }

    /// Whether there is something for the program in the ring of a tap.
    pub(crate) fn has_packets(&self) -> bool {
        self.ends().any(|end| end.tap.is_ready())
    }

    /// Whether there is anything in the dealloc ring.
    #[inline]
    pub(crate) fn has_deallocs(&self) -> bool {
        let supply = self.supply.as_ref();
        supply.is_some_and(|s| !s.consumer.is_idle(&s.dealloc.cells()))
    }

    /// The same of the revert ring of the tap at `place`.
    #[inline(always)]
    pub(crate) fn has_reverts(&self, place: usize) -> bool {
        let end = self.taps.get(place).and_then(Option::as_ref);
        end.is_some_and(|end| !end.consumer.is_idle(&end.tap.revert.cells()))
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
}
