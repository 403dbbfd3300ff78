// SPDX-License-Identifier: GPL-2.0-only

//! What a program gives back: the entries of its dealloc and revert rings, taken, checked against the
//! account, and turned into packets to be delivered.
//!
//! Nearly always an entry names a packet of the tap that the one before it was of, and is changed or not as that was:
//! [`Freed::take_back`] is for those, and what they count is added up for a whole run of them. All
//! others go one by one through [`Region::claim`](crate::region::Region::claim).
//!
//! Under the session's lock, one round at a time; softirq, or bottom halves off; nothing sleeps.

use kernel::sync::Arc;

use crate::account::Holder;
use crate::drops;
use crate::flows::NO_FLOW;
use crate::outbox::Outbox;
use crate::policies::way_of;
use crate::region::Back;
use crate::region::Claim;
use crate::region::Filled;
use crate::region::Freed;
use crate::region::Packet;
use crate::region::Refusal;
use crate::region::Single;
use crate::region::Theirs;
use crate::revert;
use crate::revert::Outlet;
use crate::round::Ring;
use crate::round::State;
use crate::stats::bump;
use crate::stats::End;
use crate::stats::Flaw;
use crate::sys::hook::Way;
use crate::sys::netdev::Device;
use crate::sys::skb::Taker;
use crate::sys::word::SharedWord;
use crate::tap::Tap;
use crate::tapend::TapEnd;
use crate::uapi::ring::Entry;
use crate::uapi::ring::PrivateConsumer;
use crate::uapi::ring::REVERT_CHANGED;
use crate::uapi::ring::REVERT_FLAGS;
use crate::uapi::stats::Refused;

/// Packets of one tap that come back one after the other and end alike, but that some were changed.
struct Run {
    tap: Arc<Tap>,
    theirs: Theirs,
    place: usize,
    end: End,
    all: Sum,
    /// Those that were changed and have not crossed end as such.
    changed: Sum,
}

/// Packets, and the memory that they held.
#[derive(Clone, Copy, Default)]
struct Sum {
    packets: u64,
    truesize: u64,
}

impl Sum {
    /// One more.
    #[inline(always)]
    fn add(&mut self, truesize: u32) {
        self.packets = self.packets.wrapping_add(1);
        self.truesize = self.truesize.wrapping_add(u64::from(truesize));
    }
}

impl Run {
    /// None yet, of the tap at this place.
    fn of(tap: Arc<Tap>, place: usize, end: End) -> Self {
        Self {
            theirs: Theirs::of(tap.label.id),
            tap,
            place,
            end,
            all: Sum::default(),
            changed: Sum::default(),
        }
    }

    /// The packet that an entry names, if it is of this run's tap.
    #[inline(always)]
    fn take(
        &self,
        entry: Entry,
        taker: &mut Taker,
        freed: &mut Freed<'_>,
        outbox: &mut Outbox,
    ) -> Option<Back> {
        let back = freed.take_back(entry, self.theirs, taker)?;
        if back.flow != NO_FLOW {
            self.remember(back.flow, outbox);
        }
        Some(back)
    }

    /// The same for one that the program has changed, with the mbuf in which it did.
    #[inline(always)]
    fn take_changed(
        &self,
        entry: Entry,
        taker: &mut Taker,
        freed: &mut Freed<'_>,
        outbox: &mut Outbox,
    ) -> Option<(Back, Filled)> {
        let (back, mbuf) = freed.take_back_one(entry, self.theirs, taker)?;
        if back.flow != NO_FLOW {
            self.remember(back.flow, outbox);
        }
        Some((back, mbuf))
    }

    /// Its flow has it out until it is delivered. Out of the way of those that are of none.
    #[inline(never)]
    fn remember(&self, flow: u32, outbox: &mut Outbox) {
        outbox.remember(self.tap.out_of_flow(flow));
    }

    /// Counts a packet that has ended as the others.
    #[inline(always)]
    fn count(&mut self, truesize: u32) {
        self.all.add(truesize);
    }

    /// The same for one that was changed.
    fn count_changed(&mut self, truesize: u32) {
        if self.end == End::Reverted {
            self.changed.add(truesize);
        } else {
            self.all.add(truesize);
        }
    }
}

/// What nearly always comes next on a revert ring is what came last.
#[derive(Clone, Copy)]
enum Kind {
    /// Packets of the ring's own tap that go on as they were.
    Home,
    /// Packets of a tap that are turned round or of another ring's, or among which changed ones are.
    Other,
    /// New packets.
    New,
}

/// What one entry of a revert ring was.
enum Came {
    /// A packet of this tap, as it was.
    Unchanged(u32),
    /// A packet of this tap, changed.
    Changed(u32),
    /// A new packet.
    New,
    /// Nothing that others are likely to follow.
    Strange,
}

impl State {
    /// Takes entries from one ring; how many cells it went on.
    pub(crate) fn drain(&mut self, id: u32, ring: Ring, budget: usize, to: &mut Outbox) -> usize {
        match ring {
            Ring::Dealloc if self.has_deallocs() => self.drain_dealloc(id, budget, to),
            Ring::Revert(place) if self.has_reverts(place) => {
                self.drain_revert(id, place, budget, to)
            }
            Ring::Dealloc | Ring::Revert(_) => 0,
        }
    }

    /// Whether a holder is this session: itself, or one of its taps.
    fn holds(&self, id: u32, holder: Holder) -> bool {
        match holder {
            Holder::Allocated(session) | Holder::Recalled(session) => session == id,
            Holder::Detoured(tap) => self.place_of(tap).is_some(),
            Holder::Free | Holder::Kernel | Holder::Chained(_) | Holder::Returned(_) => false,
        }
    }

    /// A run of the tap with this id, if it is one of the session's.
    fn run_of(&self, tap: u32, end: End) -> Option<Run> {
        let place = self.place_of(tap)?;
        let tap = &self.taps.get(place)?.as_ref()?.tap;
        Some(Run::of(Arc::clone(tap), place, end))
    }

    /// The program has given back the mbufs of a packet that was taken back from it.
    #[cold]
    fn let_go(&self, tap: u32) {
        let place = self.place_of(tap);
        if let Some(Some(end)) = place.and_then(|place| self.taps.get(place)) {
            end.tap.let_go();
        }
    }

    /// Counts what has come back in a run.
    fn finish(&mut self, run: Option<Run>) {
        let Some(run) = run else { return };
        if run.end == End::DroppedByProgram {
            bump(&mut self.deallocated, run.all.packets);
        }
        self.ended(run.place, run.all, run.end);
        self.ended(run.place, run.changed, End::Changed);
    }

    fn ended(&mut self, place: usize, sum: Sum, how: End) {
        if sum.packets > 0 {
            if let Some(Some(end)) = self.taps.get_mut(place) {
                end.ended_all(sum.packets, sum.truesize, how);
            }
        }
    }

    /// Takes entries from the dealloc ring, which [has](State::has_deallocs) some.
    pub(crate) fn drain_dealloc(&mut self, id: u32, budget: usize, outbox: &mut Outbox) -> usize {
        let Some(supply) = self.supply.as_mut() else {
            return 0;
        };
        let (region, ring) = (Arc::clone(&supply.region), Arc::clone(&supply.dealloc));
        let cells = ring.cells();
        let mut consumer = core::mem::replace(&mut supply.consumer, PrivateConsumer::new());
        let mut taker = core::mem::replace(&mut self.taker, Taker::nobody());
        let begin = consumer.position();
        let mut freed = Freed::of(&region);
        let mut run: Option<Run> = None;
        loop {
            let left = left_of(budget, begin, &consumer, outbox);
            if let Some(run) = &mut run {
                consumer.take_run(&cells, left, 0, |entry| {
                    let Some(back) = run.take(entry, &mut taker, &mut freed, outbox) else {
                        return false;
                    };
                    run.count(back.truesize);
                    outbox.add(back.skb, Outlet::Drop, run.place);
                    true
                });
            }
            if left_of(budget, begin, &consumer, outbox) == 0 {
                break;
            }
            let Some(entry) = consumer.take(&cells) else {
                break;
            };
            if entry.flags != 0 {
                bump(&mut self.refused.flags, 1);
                continue;
            }
            match region.claim(entry, |holder| self.holds(id, holder), &mut taker) {
                Ok(Claim::Buffer(chain)) => {
                    bump(&mut self.deallocated, 1);
                    freed.add(chain);
                }
                Ok(Claim::Packet(packet)) => {
                    let next = self.run_of(packet.tap, End::DroppedByProgram);
                    freed.add(packet.chain);
                    if let Some(mut next) = next {
                        next.count(packet.truesize);
                        outbox.add(packet.skb, Outlet::Drop, next.place);
                        outbox.remember(next.tap.out_of_flow(packet.flow));
                        self.finish(run.replace(next));
                    }
                }
                // The packet has gone already.
                Ok(Claim::Recalled(tap, chain)) => {
                    bump(&mut self.refused.holder, 1);
                    self.let_go(tap);
                    freed.add(chain);
                }
                Err(refusal) => {
                    count_refusal(&mut self.refused, refusal);
                    region.note_returned(entry, &taker);
                }
            }
        }
        self.taker = taker;
        self.finish(run);
        let work = consumer.position().wrapping_sub(begin) as usize;
        if work > 0 {
            self.ends().for_each(|end| end.tap.shows_life());
        }
        consumer.publish(&ring.kernel_words().position);
        if let Some(supply) = self.supply.as_mut() {
            supply.consumer = consumer;
        }
        work
    }

    /// Takes entries from the revert ring of the tap at `place`, which [has](State::has_reverts) some.
    pub(crate) fn drain_revert(
        &mut self,
        id: u32,
        place: usize,
        budget: usize,
        outbox: &mut Outbox,
    ) -> usize {
        let Some(Some(end)) = self.taps.get_mut(place) else {
            return 0;
        };
        let (tap, device) = (Arc::clone(&end.tap), Arc::clone(&end.device));
        let mut consumer = core::mem::replace(&mut end.consumer, PrivateConsumer::new());
        let mut taker = core::mem::replace(&mut self.taker, Taker::nobody());
        let begin = consumer.position();
        let cells = tap.revert.cells();
        let mut freed = Freed::of(&tap.region);
        let outlet = revert::outlet_of(tap.options.mode);
        let straight = outlet == natural_outlet(way_of(tap.options.mode));
        let mut home = Run::of(Arc::clone(&tap), place, End::Reverted);
        let mut other: Option<(Run, Arc<Device>)> = None;
        let mut kind = if straight { Kind::Home } else { Kind::Other };
        loop {
            let left = left_of(budget, begin, &consumer, outbox);
            match (kind, &mut other) {
                (Kind::Home, _) => consumer.take_run(&cells, left, 0, |entry| {
                    let Some(back) = home.take(entry, &mut taker, &mut freed, outbox) else {
                        return false;
                    };
                    home.count(back.truesize);
                    outbox.add(back.skb, outlet, place);
                    true
                }),
                (Kind::Other, Some((run, from))) => {
                    let way = way_of(run.tap.options.mode);
                    let turns = run.place != place || !straight;
                    consumer.take_run(&cells, left, REVERT_CHANGED, |entry| {
                        if entry.flags == 0 {
                            let taken = run.take(entry, &mut taker, &mut freed, outbox);
                            let Some(mut back) = taken else {
                                return false;
                            };
                            let cross = |skb| revert::cross(skb, way, outlet, &device);
                            match if turns { cross(&mut back.skb) } else { Ok(()) } {
                                Ok(()) => {
                                    run.count(back.truesize);
                                    outbox.add(back.skb, outlet, place);
                                }
                                Err(flaw) => self.refuse(run.place, back, flaw, outbox),
                            }
                            return true;
                        }
                        let taken = run.take_changed(entry, &mut taker, &mut freed, outbox);
                        let Some((mut back, mbuf)) = taken else {
                            return false;
                        };
                        let skb = &mut back.skb;
                        let mut result = revert::apply_one(&tap.region, mbuf, skb, way, from);
                        if result.is_ok() && turns {
                            result = revert::cross(skb, way, outlet, &device);
                        }
                        match result {
                            Ok(()) => {
                                run.count_changed(back.truesize);
                                outbox.add(back.skb, outlet, place);
                            }
                            Err(flaw) => self.refuse(run.place, back, flaw, outbox),
                        }
                        true
                    })
                }
                (Kind::New, _) => self.take_new(
                    id,
                    place,
                    &tap,
                    (&mut consumer, left),
                    &mut taker,
                    outbox,
                    &mut freed,
                ),
                (Kind::Other, None) => 0,
            };
            if left_of(budget, begin, &consumer, outbox) == 0 {
                break;
            }
            let Some(entry) = consumer.take(&cells) else {
                break;
            };
            kind = match self.revert_one(id, place, &tap, entry, &mut taker, outbox, &mut freed) {
                Came::New => Kind::New,
                Came::Unchanged(from) if straight && from == tap.label.id => Kind::Home,
                Came::Unchanged(from) | Came::Changed(from) => {
                    if !other
                        .as_ref()
                        .is_some_and(|(run, _)| run.tap.label.id == from)
                    {
                        let next = self.run_to(place, from);
                        self.finish_other(core::mem::replace(&mut other, next), place);
                    }
                    Kind::Other
                }
                Came::Strange => kind,
            };
        }
        self.taker = taker;
        self.finish_other(other, place);
        self.finish(Some(home));
        let work = consumer.position().wrapping_sub(begin) as usize;
        if work > 0 {
            tap.shows_life();
        }
        consumer.publish(&tap.revert.kernel_words().position);
        if let Some(end) = self.tap_at_mut(place, tap.label.id) {
            end.consumer = consumer;
        }
        work
    }

    /// A run to the tap at `place` of the tap with this id, and its interface, if it is one of the session's.
    fn run_to(&self, place: usize, from: u32) -> Option<(Run, Arc<Device>)> {
        let mut run = self.run_of(from, End::Reverted)?;
        run.end = end_of(run.place == place, false);
        let device = &self.taps.get(run.place)?.as_ref()?.device;
        Some((run, Arc::clone(device)))
    }

    /// Counts what has come in such a run.
    fn finish_other(&mut self, run: Option<(Run, Arc<Device>)>, place: usize) {
        let run = run.map(|(run, _)| run);
        let crossed = run.as_ref().filter(|run| run.place != place);
        if let (Some(run), Some(Some(end))) = (crossed, self.taps.get_mut(place)) {
            bump(&mut end.counts.crossed_in, run.all.packets);
        }
        self.finish(run);
    }

    /// Drops a packet of the tap at `home`, for what is wrong with it.
    #[inline(never)]
    fn refuse(&mut self, home: usize, back: Back, flaw: Flaw, outbox: &mut Outbox) {
        let mut sum = Sum::default();
        sum.add(back.truesize);
        self.ended(home, sum, End::Refused(flaw));
        outbox.add(back.skb, Outlet::Drop, home);
    }

    /// One entry that is in no run.
    #[inline(never)]
    fn revert_one<'a>(
        &mut self,
        id: u32,
        place: usize,
        to: &'a Tap,
        entry: Entry,
        taker: &mut Taker,
        outbox: &mut Outbox,
        freed: &mut Freed<'a>,
    ) -> Came {
        if entry.flags & !REVERT_FLAGS != 0 {
            if let Some(Some(end)) = self.taps.get_mut(place) {
                bump(&mut end.counts.refused.flags, 1);
            }
            return Came::Strange;
        }
        if let Some(single) = to.region.take_allocated(entry, id, taker) {
            self.take_new_one(id, place, to, single, taker, outbox, freed);
            return Came::New;
        }
        // Nearly always it is the ring's own tap that held it.
        let own = Holder::Detoured(to.label.id);
        let may = |holder| holder == own || self.holds(id, holder);
        match to.region.claim(entry, may, taker) {
            Ok(Claim::Packet(packet)) => {
                let from = packet.tap;
                self.revert_packet(place, to, entry, packet, outbox, freed);
                if entry.flags & REVERT_CHANGED == 0 {
                    Came::Unchanged(from)
                } else {
                    Came::Changed(from)
                }
            }
            // It was the session's own a moment ago, and is handled above.
            Ok(Claim::Buffer(chain)) => {
                freed.add(chain);
                Came::Strange
            }
            // The packet has gone already.
            Ok(Claim::Recalled(tap, chain)) => {
                freed.add(chain);
                self.let_go(tap);
                if let Some(Some(end)) = self.taps.get_mut(place) {
                    bump(&mut end.counts.refused.holder, 1);
                }
                Came::Strange
            }
            Err(refusal) => {
                if let Some(Some(end)) = self.taps.get_mut(place) {
                    count_refusal(&mut end.counts.refused, refusal);
                }
                to.region.note_returned(entry, taker);
                Came::Strange
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
        let way = way_of(from.tap.options.mode);
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
            Ok(()) => end_of(home == place, changed),
        };
        let outlet = if result.is_ok() { outlet } else { Outlet::Drop };
        if let Some(Some(from)) = self.taps.get_mut(home) {
            from.ended(truesize, end);
            outbox.remember(from.tap.out_of_flow(flow));
        }
        if end == End::Crossed {
            if let Some(Some(toward)) = self.taps.get_mut(place) {
                bump(&mut toward.counts.crossed_in, 1);
            }
        }
        outbox.add(skb, outlet, place);
        freed.add(chain);
    }

    /// New packets that come by the revert ring of the tap at `place`, as long as there are no others between them and
    /// `most` at most; how many.
    #[inline(never)]
    fn take_new<'a>(
        &mut self,
        id: u32,
        place: usize,
        to: &'a Tap,
        (consumer, most): (&mut PrivateConsumer<SharedWord>, usize),
        taker: &mut Taker,
        outbox: &mut Outbox,
        freed: &mut Freed<'a>,
    ) -> usize {
        let Some(Some(end)) = self.taps.get_mut(place) else {
            return 0;
        };
        let outlet = revert::outlet_of(to.options.mode);
        consumer.take_run(&to.revert.cells(), most, 0, |entry| {
            let Some(single) = to.region.take_allocated(entry, id, taker) else {
                return false;
            };
            send_new(end, id, place, (to, outlet), single, taker, outbox, freed);
            true
        })
    }

    /// One of them.
    #[inline(never)]
    fn take_new_one<'a>(
        &mut self,
        id: u32,
        place: usize,
        to: &'a Tap,
        single: Single<'a>,
        taker: &mut Taker,
        outbox: &mut Outbox,
        freed: &mut Freed<'a>,
    ) {
        if let Some(Some(end)) = self.taps.get_mut(place) {
            let outlet = revert::outlet_of(to.options.mode);
            send_new(end, id, place, (to, outlet), single, taker, outbox, freed);
        }
    }
}

/// A new packet of a session's comes by the revert ring of a tap, and goes where that leads.
#[inline(always)]
fn send_new<'a>(
    end: &mut TapEnd,
    id: u32,
    place: usize,
    (to, outlet): (&'a Tap, Outlet),
    single: Single<'a>,
    taker: &mut Taker,
    outbox: &mut Outbox,
    freed: &mut Freed<'a>,
) {
    let whose = (id, taker);
    match revert::make_new(&to.region, single, whose, outlet, &end.device, freed) {
        Ok(skb) => {
            bump(&mut end.counts.injected, 1);
            outbox.add(skb, outlet, place);
        }
        Err(flaw) => refuse_new(end, flaw),
    }
}

/// Counts a new packet that cannot be made.
#[cold]
fn refuse_new(end: &mut TapEnd, flaw: Flaw) {
    bump(&mut end.counts.injected_refused, 1);
    end.tap.tell_drop(drops::refused(flaw), 0, 1);
}

/// How many cells more a round may go on, that has begun at a position. Padding counts too: a program could
/// write it for ever.
#[inline(always)]
fn left_of(
    budget: usize,
    begin: u32,
    consumer: &PrivateConsumer<SharedWord>,
    outbox: &Outbox,
) -> usize {
    let done = consumer.position().wrapping_sub(begin) as usize;
    budget.saturating_sub(done).min(outbox.room())
}

/// How a packet ends that a tap's revert ring brings, its own or another tap's.
fn end_of(own: bool, changed: bool) -> End {
    match (own, changed) {
        (false, _) => End::Crossed,
        (true, true) => End::Changed,
        (true, false) => End::Reverted,
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
