// SPDX-License-Identifier: GPL-2.0-only

//! What a tap is: an interface, a mode, policies, a detour ring's end and counters. Passive; what
//! happens on it is in `detour`, `serve`, `revert` and `reclaim`. What several taps of one mode of an
//! interface have in common is in `intake`.
//!
//! The way up has a lock of its own here, because several CPUs detour at once; it is held while a
//! cell is booked and not while the packet is copied. The way back is under the lock of the session
//! (`serve`). Order: session, then tap.

use crate::sys::atomic::Apart;
use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

use crate::account::Detour;
use crate::account::Holder;
use crate::drops::Drops;
use crate::events::Events;
use crate::flows::Flows;
use crate::flows::Out;
use crate::flows::OutAll;
use crate::flows::NO_FLOW;
use crate::policies::way_of;
use crate::policies::Options;
use crate::policies::Policies;
use crate::region::Region;
use crate::region::Single;
use crate::region::Stash;
use crate::rings::RingPages;
use crate::stats::bump;
use crate::stats::Counter;
use crate::stats::DetourCounts;
use crate::stats::Miss;
use crate::stats::MissCounts;
use crate::sys::skb::Extent;
use crate::sys::skb::Nature;
use crate::sys::skb::Origin;
use crate::sys::task::now;
use crate::sys::task::ticks;
use crate::sys::word::SharedWord;
use crate::uapi::event::Event;
use crate::uapi::event::EventKind;
use crate::uapi::ring::Consumer;
use crate::uapi::ring::Entry;
use crate::uapi::ring::Look;
use crate::uapi::ring::PrivateProducer;
use crate::uapi::ring::Word;
use crate::uapi::stats::TapStats;
use crate::uapi::tap::IFNAME_MAX;

/// A program that has stalled and shows no life is tried again after so many times its `max_age`, and
/// so many microseconds at least.
const RETRY: u64 = 16;
const RETRY_MIN_US: u64 = 1_000_000;

/// So many cells in use are worth a look whether that is a record.
const HIGH_WATER_MIN: u64 = 8;

/// How often the kernel tries to take entries that programs may be taking at the same time.
const CLAIMS: u32 = 16;

/// Entries of a revert ring for which a detour asks for a round, that would come with the timer too; or half
/// of the ring.
const BATCH: u32 = 16;

/// Whether packets come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gate {
    /// They do.
    Open,
    /// Not yet, or not now: another tap of the fan-out has them.
    Waiting,
    /// Not until the program, which has held a packet for too long, has caught up.
    Stalled,
    /// Never again.
    Ended,
}

impl Gate {
    /// Whether it does not turn to `to`: the end is for ever, and a tap that waits has nothing that its program
    /// could hold for too long. It would open by itself, beside the tap that has the packets.
    fn stays(self, to: Self) -> bool {
        self == Self::Ended || (self == Self::Waiting && to == Self::Stalled)
    }
}

/// Who and where, for people and tools.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) id: u32,
    pub(crate) session: u32,
    pub(crate) pid: u32,
    pub(crate) comm: [u8; 16],
    pub(crate) ifindex: u32,
    pub(crate) netns: u32,
    pub(crate) ifname: [u8; IFNAME_MAX],
}

/// The way up, under the tap's lock.
struct Up {
    gate: Gate,
    /// Since it stalled: where the program was in its ring, and when it is tried again in any case.
    stalled_at: u32,
    retry_at: u64,
    fail_opens: u64,
    /// Packets that had passed by then.
    passed_before: u64,
    producer: PrivateProducer<SharedWord>,
    /// For the next packets; empty while the gate is not open or the server sleeps.
    stash: Stash,
    /// Never goes back, unlike the counters.
    next_number: u64,
    /// What that was when a cell was padded last.
    padded: u64,
    counts: DetourCounts,
}

/// What the way up has counted, for those who look without its lock.
struct Begun {
    /// Packets that were detoured.
    packets: Atomic<u64>,
    /// Their bytes.
    bytes: Atomic<u64>,
}

/// How far the way up has come.
pub(crate) struct Progress {
    /// Packets that were detoured.
    pub(crate) detoured: u64,
    /// The number of the next detour: whatever comes from now on has it or a larger one.
    pub(crate) next: u64,
    /// That of the first detour whose entry no consumer has taken, or of the next detour; that one too if the programs'
    /// position says nothing that could be.
    pub(crate) first_unread: u64,
    /// Whether padding may lie among the cells of these.
    pub(crate) padded: bool,
}

/// A cell of the detour ring that a packet has booked.
#[derive(Clone, Copy)]
pub(crate) struct Booked {
    /// Position in the ring.
    pub(crate) position: u32,
    /// Place in the order of detours.
    pub(crate) number: u64,
}

/// Why no cell was booked.
#[derive(Clone, Copy)]
pub(crate) enum NotBooked {
    /// For want of room.
    Miss(Miss),
    /// The gate is not open.
    Closed,
}

/// A tap.
#[pin_data]
pub(crate) struct Tap {
    pub(crate) label: Label,
    pub(crate) options: Options,
    pub(crate) policies: Policies,
    /// What the headers of its packets have in common.
    pub(crate) origin: Origin,
    /// The number of its session's taker.
    taker: u64,
    /// Of the fan-out, if it goes by flows.
    flows: Option<Arc<Flows>>,
    pub(crate) region: Arc<Region>,
    pub(crate) detour: RingPages,
    pub(crate) revert: RingPages,
    /// Its session's.
    dealloc: Arc<RingPages>,
    /// Whether its session has other taps.
    beside: Atomic<bool>,
    // What is written for each packet stands apart from what is only read, and by who writes it.
    #[pin]
    up: Apart<SpinLock<Up>>,
    begun: Apart<Begun>,
    /// Bytes of packets that have ended: the other half of `max_bytes`, kept by the way back.
    ended_bytes: Apart<Atomic<u64>>,
    /// Entries of the revert ring that are a batch.
    batch: u32,
    /// The gate as those see it who choose among several taps.
    gate: Atomic<u32>,
    /// Whether the program has shown life since it stalled.
    life: Atomic<bool>,
    /// Packets that were taken back from the program, while it has their mbufs still. Written under the session's lock.
    recalled: Atomic<u32>,
    /// Super-packets among those that were detoured.
    gso: Counter,
    pub(crate) passed: MissCounts,
    pub(crate) dropped: MissCounts,
    pub(crate) cut_off: Counter,
    pub(crate) passed_stalled: Counter,
    pub(crate) passed_filter: Counter,
    drops: Drops,
}

impl Tap {
    /// A tap with nothing attached to it yet, that waits.
    pub(crate) fn new(
        label: Label,
        options: Options,
        policies: Policies,
        flows: Option<Arc<Flows>>,
        region: Arc<Region>,
        detour: RingPages,
        revert: RingPages,
        dealloc: Arc<RingPages>,
        drops: Drops,
        taker: u64,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            label,
            options,
            policies,
            origin: Origin::new(
                label.pid,
                label.ifindex,
                way_of(options.mode),
                !options.unstamped,
            ),
            taker,
            flows,
            region,
            detour,
            revert,
            dealloc,
            beside: Atomic::new(false),
            up <- Apart::pin(new_spinlock!(
                Up {
                    gate: Gate::Waiting,
                    stalled_at: 0,
                    retry_at: 0,
                    fail_opens: 0,
                    passed_before: 0,
                    producer: PrivateProducer::new(),
                    stash: Stash::new(),
                    next_number: 0,
                    padded: 0,
                    counts: DetourCounts::default(),
                },
                "nettap_up"
            )),
            begun: Apart::new(Begun {
                packets: Atomic::new(0),
                bytes: Atomic::new(0),
            }),
            ended_bytes: Apart::new(Atomic::new(0)),
            batch: BATCH.min(options.ring_cells / 2),
            gate: Atomic::new(Gate::Waiting as u32),
            life: Atomic::new(false),
            recalled: Atomic::new(0),
            gso: Counter::new(),
            passed: MissCounts::new(),
            dropped: MissCounts::new(),
            cut_off: Counter::new(),
            passed_stalled: Counter::new(),
            passed_filter: Counter::new(),
            drops,
        })
    }

    /// Fills in which tap it is.
    pub(crate) fn describe(&self, event: &mut Event) {
        let label = &self.label;
        event.tap = label.id;
        event.session = label.session;
        event.group = self.region.group();
        event.pid = label.pid;
        event.comm = label.comm;
        event.ifindex = label.ifindex;
        event.netns = label.netns;
        event.ifname = label.ifname;
        event.mode = self.options.mode.raw();
    }

    /// Where it tells what happens to it.
    pub(crate) fn events(&self) -> &Events {
        self.drops.events()
    }

    /// Tells listeners something of this tap, which `describe` says more about. From any context.
    pub(crate) fn tell(&self, kind: EventKind, describe: impl FnOnce(&mut Event)) {
        self.events().tell(kind, |event| {
            self.describe(event);
            describe(event);
        });
    }

    /// Tells listeners of packets that went on without the program, or were dropped, for a cause that
    /// `drops` knows. From any context.
    pub(crate) fn tell_drop(&self, cause: u32, passed: u64, dropped: u64) {
        self.drops
            .note(cause, passed, dropped, |event| self.describe(event));
    }

    /// Tells listeners what has been held back, as far as it may be told now, or all of it.
    pub(crate) fn tell_drops_held_back(&self, all: bool) {
        self.drops.catch_up(all, |event| self.describe(event));
    }

    /// Books a cell for a packet and counts it as detoured; its mbuf is one from here. The caller fills the
    /// cell, or pads it and calls [`Tap::unbook`]. Bottom halves are off.
    #[inline(always)]
    pub(crate) fn book_one(&self, extent: Extent) -> Result<(Booked, Single<'_>), NotBooked> {
        let mut up = self.up.lock();
        // Each way out drops the lock for itself: where they meet, what was found would lie in memory.
        if let Err(why) = self.admits(&up, extent) {
            drop(up);
            return Err(why);
        }
        let Some(single) = self.region.take_one(&mut up.stash) else {
            drop(up);
            return Err(NotBooked::Miss(Miss::Mbufs));
        };
        let Some(booked) = self.book_in(&mut up, extent) else {
            self.region.put_back(&mut up.stash, single);
            drop(up);
            return Err(NotBooked::Miss(Miss::Ring));
        };
        drop(up);
        Ok((booked, single))
    }

    /// The same for a packet whose mbufs the caller has.
    pub(crate) fn book(&self, extent: Extent) -> Result<Booked, NotBooked> {
        let mut up = self.up.lock();
        self.admits(&up, extent)?;
        let booked = self.book_in(&mut up, extent);
        booked.ok_or(NotBooked::Miss(Miss::Ring))
    }

    #[inline(always)]
    fn admits(&self, up: &Up, extent: Extent) -> Result<(), NotBooked> {
        if up.gate != Gate::Open {
            return Err(NotBooked::Closed);
        }
        if self.held().wrapping_add(u64::from(extent.truesize)) > self.policies.max_bytes() {
            return Err(NotBooked::Miss(Miss::Bytes));
        }
        Ok(())
    }

    #[inline(always)]
    fn book_in(&self, up: &mut Up, extent: Extent) -> Option<Booked> {
        let size = self.detour.size();
        let position = up.producer.book(size, self.detour.program_position())?;
        let number = up.next_number;
        up.next_number = number.wrapping_add(1);
        bump(&mut up.counts.detoured, 1);
        self.begun.packets.store(up.counts.detoured, Relaxed);
        bump(&mut up.counts.bytes, u64::from(extent.wire_len));
        self.begin(u64::from(extent.truesize));
        // The programs' position is as the producer last saw it; look again only for a new record, and not for each of
        // a few.
        let used = u64::from(position.wrapping_sub(up.producer.seen()));
        if used >= up.counts.high_water && used >= HIGH_WATER_MIN {
            self.mark_high_water(up);
        }
        Some(Booked { position, number })
    }

    #[inline(never)]
    fn mark_high_water(&self, up: &mut Up) {
        let size = self.detour.size();
        let room = up.producer.room(size, self.detour.program_position());
        let used = u64::from(size.wrapping_sub(room));
        up.counts.high_water = up.counts.high_water.max(used);
    }

    /// Memory that its packets hold, with the kernel's bookkeeping.
    pub(crate) fn held(&self) -> u64 {
        // In this order: what has ended has begun before.
        let ended = self.ended_bytes.load(Relaxed);
        self.begun.bytes.load(Relaxed).wrapping_sub(ended)
    }

    /// Under the tap's lock.
    fn begin(&self, truesize: u64) {
        let begun = self.begun.bytes.load(Relaxed);
        self.begun
            .bytes
            .store(begun.wrapping_add(truesize), Relaxed);
    }

    /// What it is that was detoured, for the figures.
    #[inline(always)]
    pub(crate) fn note(&self, nature: Nature) {
        if nature.is_gso() {
            self.gso.add(1);
        }
    }

    /// Takes back the counting of a packet whose cell was padded.
    #[inline(never)]
    pub(crate) fn unbook(&self, extent: Extent) {
        let mut up = self.up.lock();
        up.padded = up.next_number;
        let counts = &mut up.counts;
        counts.detoured = counts.detoured.wrapping_sub(1);
        self.begun.packets.store(counts.detoured, Relaxed);
        counts.bytes = counts.bytes.wrapping_sub(u64::from(extent.wire_len));
        self.begin(0u64.wrapping_sub(u64::from(extent.truesize)));
    }

    /// With whom a packet is that has this place in the order of detours.
    #[inline(always)]
    pub(crate) fn detour_to(&self, number: u64, flow: u32) -> Detour {
        Detour {
            tap: self.label.id,
            flow,
            number,
            taker: self.taker,
        }
    }

    /// Packets have ended: their bytes are free for others. Called under the session's lock only.
    pub(crate) fn credit(&self, truesize: u64) {
        let ended = self.ended_bytes.load(Relaxed);
        self.ended_bytes
            .store(ended.wrapping_add(truesize), Relaxed);
    }

    /// What a packet of a flow that has ended is until it is delivered.
    pub(crate) fn out_of_flow(&self, flow: u32) -> Option<Out<'_>> {
        if flow == NO_FLOW {
            return None;
        }
        Some(Out {
            flows: self.flows.as_ref()?,
            bucket: flow,
            tap: self.label.id,
        })
    }

    /// A packet of a flow was not detoured after all, or its flow is not to wait for it.
    pub(crate) fn leave_flow(&self, flow: u32) {
        if let Some(out) = self.out_of_flow(flow) {
            out.end();
        }
    }

    /// The same for many packets at once, of the flows that are added to it.
    pub(crate) fn out_of_flows(&self) -> Option<OutAll> {
        OutAll::new(self.flows.as_ref()?, self.label.id)
    }

    /// Whether packets may come in now, as far as one can say without the lock. A tap that stalled and
    /// whose program has caught up opens again. Bottom halves are off.
    #[inline(always)]
    pub(crate) fn takes(&self) -> bool {
        let gate = self.gate.load(Relaxed);
        gate == Gate::Open as u32 || (gate == Gate::Stalled as u32 && self.recover())
    }

    /// The mbufs that were kept for the next packets are free for others: none came for a while. Bottom
    /// halves are off.
    pub(crate) fn rest(&self) {
        let mut up = self.up.lock();
        self.region.empty(&mut up.stash);
    }

    /// The program has caught up when it has taken all from its ring, and has moved or given something
    /// back meanwhile. One that holds everything and moves nothing is tried again now and then. But of what was taken back
    /// it may have a ring of packets in hand at most, or it would have one more each time.
    #[inline(never)]
    fn recover(&self) -> bool {
        let mut up = self.up.lock();
        if up.gate == Gate::Stalled {
            let position = self.detour.program_position();
            let size = self.detour.size();
            let lives = up.stalled_at != position.load() || self.life.load(Relaxed);
            let has_read = up.producer.room(size, position) == size;
            let may = has_read && self.recalled.load(Relaxed) < size;
            if may && (lives || now() >= up.retry_at) {
                self.turn(&mut up, Gate::Open);
            }
        }
        up.gate == Gate::Open
    }

    /// A packet has been taken back and has left its mbufs with the program. Under the session's lock.
    pub(crate) fn recall(&self) {
        let recalled = self.recalled.load(Relaxed);
        self.recalled.store(recalled.wrapping_add(1), Relaxed);
    }

    /// The program has given the mbufs of one of them back. Under the session's lock.
    pub(crate) fn let_go(&self) {
        let recalled = self.recalled.load(Relaxed);
        self.recalled.store(recalled.saturating_sub(1), Relaxed);
    }

    /// The program has given something back.
    pub(crate) fn shows_life(&self) {
        if self.gate.load(Relaxed) == Gate::Stalled as u32 {
            self.life.store(true, Relaxed);
        }
    }

    /// Lets in what is brought to this tap, unless it has ended; those who choose do not see it yet, unless it was
    /// open. Bottom halves are off.
    pub(crate) fn admit(&self) {
        let mut up = self.up.lock();
        if up.gate != Gate::Ended && up.gate != Gate::Open {
            up.gate = Gate::Open;
            self.gate.store(Gate::Waiting as u32, Relaxed);
        }
    }

    /// The other half of [`Tap::admit`]: those who choose see it, unless the gate has turned since. Takes no
    /// lock, so that it can be done in the moment when another tap closes.
    pub(crate) fn show(&self) {
        let (waiting, open) = (Gate::Waiting as u32, Gate::Open as u32);
        let _ = self.gate.cmpxchg(waiting, open, Relaxed);
    }

    /// Lets packets come in, unless the tap has ended. Bottom halves are off.
    pub(crate) fn open(&self) {
        self.close(Gate::Open);
    }

    /// Turns the gate if `ended` of the packets detoured so far are all of them, and does `then` in that
    /// moment: no packet is overtaken, and who finds this gate closed finds what `then` has done. Whether the
    /// gate is now as it shall be. Bottom halves are off; `then` takes no lock.
    pub(crate) fn close_when(&self, ended: u64, gate: Gate, then: impl FnOnce()) -> bool {
        let mut up = self.up.lock();
        let stays = up.gate.stays(gate);
        if up.counts.detoured == ended && !stays {
            then();
            self.turn(&mut up, gate);
        }
        up.gate == gate || stays
    }

    /// Turns the gate, unless it stays. Bottom halves are off.
    pub(crate) fn close(&self, gate: Gate) {
        let mut up = self.up.lock();
        if !up.gate.stays(gate) {
            self.turn(&mut up, gate);
        }
    }

    fn turn(&self, up: &mut Up, gate: Gate) {
        if gate == Gate::Stalled && up.gate != gate {
            bump(&mut up.fail_opens, 1);
            up.stalled_at = self.detour.program_position().load();
            let age = self.policies.max_age().unwrap_or(0);
            up.retry_at = now().wrapping_add(age.saturating_mul(RETRY).max(ticks(RETRY_MIN_US)));
            self.life.store(false, Relaxed);
            up.passed_before = self.passed_stalled.get();
            self.tell(EventKind::FailOpen, |_| ());
        }
        if gate == Gate::Open && up.gate == Gate::Stalled {
            let passed = self.passed_stalled.get();
            let passed = passed.wrapping_sub(up.passed_before);
            self.tell(EventKind::FailOpenEnd, |event| event.passed = passed);
        }
        up.gate = gate;
        self.gate.store(gate as u32, Relaxed);
        if gate != Gate::Open {
            self.region.empty(&mut up.stash);
        }
    }

    /// Takes entries out of the detour ring that no consumer of the program has taken; how many. The kernel is one
    /// more consumer here. From a program that moves its position all the time it may get nothing.
    pub(crate) fn take_unread(&self, out: &mut [Entry]) -> usize {
        let consumer = Consumer::new(self.detour.cells(), self.detour.program_position());
        let mut tries = 0..CLAIMS;
        tries.find_map(|_| consumer.try_claim(out)).unwrap_or(0)
    }

    /// How far the way up has come. Bottom halves are off.
    pub(crate) fn begun(&self) -> Progress {
        let mut up = self.up.lock();
        // Cells and numbers are given out together. A position that goes back is not believed.
        let (size, position) = (self.detour.size(), self.detour.program_position());
        let unread = if up.producer.head().wrapping_sub(position.load()) > size {
            0
        } else {
            size.wrapping_sub(up.producer.room(size, position))
        };
        let first_unread = up.next_number.wrapping_sub(u64::from(unread));
        Progress {
            detoured: up.counts.detoured,
            next: up.next_number,
            first_unread,
            padded: up.padded > first_unread,
        }
    }

    /// Its packets that are out, by the account. Process context.
    pub(crate) fn count_out(&self) -> u64 {
        let id = self.label.id;
        let is_out = |holder| holder == Holder::Detoured(id) || holder == Holder::Returned(id);
        self.region.count_held(is_out)
    }

    /// Packets detoured so far, as far as one can say without the lock.
    pub(crate) fn detoured(&self) -> u64 {
        self.begun.packets.load(Relaxed)
    }

    /// Whether the program has given so much back by this tap's ring that a round is worth its while, as far
    /// as the positions tell.
    #[inline(always)]
    pub(crate) fn has_batch(&self) -> bool {
        let filled = self.revert.program_position().load();
        let taken = self.revert.kernel_words().position.load();
        filled.wrapping_sub(taken) >= self.batch
    }

    /// Its session has other taps, or has none any more.
    pub(crate) fn set_beside(&self, others: bool) {
        self.beside.store(others, Relaxed);
    }

    /// Whether something may have come back by another ring than this tap's own.
    #[inline(never)]
    pub(crate) fn has_others(&self) -> bool {
        let filled = self.dealloc.program_position().load();
        let taken = self.dealloc.kernel_words().position.load();
        self.beside.load(Relaxed) || filled != taken
    }

    /// What the program has moved in the tap's rings, added up: it changes when one of them does.
    pub(crate) fn moved_by_program(&self) -> u64 {
        let position = |ring: &RingPages| u64::from(ring.program_position().load());
        position(&self.detour).wrapping_add(position(&self.revert))
    }

    /// Whether the detour ring has something for a consumer.
    pub(crate) fn is_ready(&self) -> bool {
        let position = self.detour.program_position().load();
        let cells = self.detour.cells();
        matches!(cells.look(position), Look::Full(_) | Look::Padding)
    }

    /// Writes what the way up knows into a record. Bottom halves are off.
    pub(crate) fn export(&self, to: &mut TapStats) {
        let label = &self.label;
        to.id = label.id;
        to.session = label.session;
        to.pid = label.pid;
        to.ifindex = label.ifindex;
        to.netns = label.netns;
        to.group = self.region.group();
        to.ifname = label.ifname;
        let options = &self.options;
        to.mode = options.mode.raw();
        to.flags = options.flags();
        to.ring_cells = options.ring_cells;
        self.policies.export(to);

        let mut up = self.up.lock();
        let size = self.detour.size();
        let room = up.producer.room(size, self.detour.program_position());
        to.ring_used = size.wrapping_sub(room);
        up.counts.high_water = up.counts.high_water.max(u64::from(to.ring_used));
        to.detoured = up.counts.detoured;
        to.detoured_bytes = up.counts.bytes;
        to.detoured_gso = self.gso.get();
        to.held_bytes = self.held();
        to.ring_high_water = up.counts.high_water;
        to.scribbled_detour = up.producer.scribbled();
        to.fail_opens = up.fail_opens;
        to.failed_open = u32::from(up.gate == Gate::Stalled);
        drop(up);

        to.passed_ring = self.passed.ring.get();
        to.passed_mbufs = self.passed.mbufs.get();
        to.passed_bytes = self.passed.bytes.get();
        to.passed_other = self.passed.other.get();
        to.dropped_ring = self.dropped.ring.get();
        to.dropped_mbufs = self.dropped.mbufs.get();
        to.dropped_bytes = self.dropped.bytes.get();
        to.dropped_other = self.dropped.other.get();
        to.cut_off = self.cut_off.get();
        to.passed_stalled = self.passed_stalled.get();
        to.passed_filter = self.passed_filter.get();
    }
}
