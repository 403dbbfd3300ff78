// SPDX-License-Identifier: GPL-2.0-only

//! When revert and dealloc rings are drained, and alloc rings filled: the server of a session.
//!
//! A program publishes with a store, so nobody calls the kernel. What makes it look:
//!
//! - every detour asks for a round (packets that flow pay for their own return), and so does every
//!   NetTap system call;
//! - while a packet of the session is out, a soft timer asks again, after α: α is halved when a timed
//!   round found work and doubled when not, between the module's two bounds;
//! - when nothing is out and nothing came for a while, the server sleeps. It raises `need_wakeup` in
//!   the session's rings, and the library rings the doorbell with its next push. Idle costs nothing.
//!
//! One server per session and not per tap (the brief's first idea): whatever a session gives back,
//! by whichever ring, comes through one place at a time, so that returning needs no lock among rings,
//! and a further tap costs one look at its ring and no timer.
//!
//! A round has two halves. Under the session's lock entries are taken, checked, and turned into
//! packets; after the lock is dropped the packets are delivered, because the network stack may run
//! anywhere from there, into our own hooks too. Only the NAPI delivers, so order is kept. It runs
//! with bottom halves off, which is an RCU read section: an interface whose tap was there in the first
//! half cannot be freed before the second half is over (`reclaim` waits for a grace period in between).
//!
//! Lock order: RTNL, registry, session state (here), tap, free list.

use core::cell::Cell;
use core::time::Duration;

use kernel::alloc::KVec;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

use crate::region::Chain;
use crate::region::Claim;
use crate::region::Holder;
use crate::region::Packet;
use crate::region::Refusal;
use crate::region::Region;
use crate::revert;
use crate::revert::Outlet;
use crate::rings::RingPages;
use crate::stats::bump;
use crate::stats::Counter;
use crate::stats::End;
use crate::stats::RevertCounts;
use crate::sys::hook::Way;
use crate::sys::netdev::Device;
use crate::sys::server::HasServer;
use crate::sys::server::OnPoll;
use crate::sys::server::Server;
use crate::sys::server::Woken;
use crate::sys::skb::Skb;
use crate::sys::task::BottomHalvesOff;
use crate::sys::word::SharedWord;
use crate::tap::Tap;
use crate::uapi::ioctl::Refused;
use crate::uapi::ioctl::SessionStats;
use crate::uapi::ioctl::TapStats;
use crate::uapi::mbuf::Header;
use crate::uapi::mbuf::DATA_OFFSET;
use crate::uapi::mbuf::NO_MBUF;
use crate::uapi::ring::Entry;
use crate::uapi::ring::PrivateConsumer;
use crate::uapi::ring::PrivateProducer;
use crate::uapi::ring::Word;
use crate::uapi::ring::REVERT_CHANGED;
use crate::uapi::ring::REVERT_FLAGS;
use crate::uapi::tap::TAPS_MAX;

/// Most packets of one round: NAPI's weight.
const ROUND: usize = 64;
/// Timed rounds without work, nothing being out, before the server sleeps.
const PATIENCE: u32 = 16;
/// A look after held packets comes every so many rounds, a second at the longest α that is the default.
const TEND_EVERY: u64 = 1024;
/// Mbufs that one such look is for.
const TENDED: u32 = 4096;
/// How often a wait for free mbufs looks again, in microseconds: any session may give some back.
const LOOK_AGAIN_US: u64 = 1000;

const POLLIN: u32 = 0x001;
const POLLOUT: u32 = 0x004;
const POLLHUP: u32 = 0x010;
const POLLRDNORM: u32 = 0x040;
const POLLWRNORM: u32 = 0x100;

/// What `mbuf_map` made: the session's alloc and dealloc rings.
pub(crate) struct Supply {
    pub(crate) region: Arc<Region>,
    pub(crate) alloc: Arc<RingPages>,
    pub(crate) dealloc: Arc<RingPages>,
    pub(crate) prealloc: u32,
    producer: PrivateProducer<SharedWord>,
    consumer: PrivateConsumer<SharedWord>,
}

impl Supply {
    /// The rings of a session that has just mapped, empty.
    pub(crate) fn new(
        region: Arc<Region>,
        alloc: Arc<RingPages>,
        dealloc: Arc<RingPages>,
        prealloc: u32,
    ) -> Self {
        Self {
            region,
            alloc,
            dealloc,
            prealloc,
            producer: PrivateProducer::new(),
            consumer: PrivateConsumer::new(),
        }
    }

    /// Puts `count` mbufs into the alloc ring, or as many as there are.
    fn supply(&mut self, count: u32, session: u32, pid: u32) -> u32 {
        let header = Header {
            holder: pid,
            next: NO_MBUF,
            offset: DATA_OFFSET as u16,
            ..Header::default()
        };
        let size = self.alloc.size();
        for done in 0..count {
            if self.producer.room(size, self.alloc.program_position()) == 0 {
                return done;
            }
            let Some(chain) = self.region.take(1) else {
                return done;
            };
            self.region.write_header(chain.head(), &header);
            if let Some(cell) = self.producer.book(size, self.alloc.program_position()) {
                self.alloc.cells().fill(cell, chain.allocate(session));
            }
        }
        count
    }

    fn supplied(&mut self) -> u32 {
        let size = self.alloc.size();
        size.wrapping_sub(self.producer.room(size, self.alloc.program_position()))
    }

    fn refill(&mut self, session: u32, pid: u32) -> u32 {
        let missing = self.prealloc.saturating_sub(self.supplied());
        self.supply(missing.min(ROUND as u32), session, pid)
    }
}

/// One tap of the session: its way back, and what ends with it.
pub(crate) struct TapEnd {
    pub(crate) tap: Arc<Tap>,
    pub(crate) device: Arc<Device>,
    pub(crate) counts: RevertCounts,
    consumer: PrivateConsumer<SharedWord>,
}

impl TapEnd {
    /// The way back of a tap that has just been opened.
    pub(crate) fn new(tap: Arc<Tap>, device: Arc<Device>) -> Self {
        Self {
            tap,
            device,
            counts: RevertCounts::default(),
            consumer: PrivateConsumer::new(),
        }
    }

    /// Counts the end of one of this tap's packets and frees its bytes for others.
    pub(crate) fn ended(&mut self, truesize: u32, end: End) {
        self.counts.ends.count(end);
        self.tap.credit(truesize);
    }

    /// Whether packets of this tap are out. Bottom halves are off.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.tap.detoured() != self.counts.ends.all()
    }

    /// Everything that is known of the tap. Bottom halves are off.
    pub(crate) fn export(&self) -> TapStats {
        let mut stats = TapStats::default();
        self.counts.export(&mut stats);
        self.tap.export(&mut stats);
        stats.refused.scribbled = self.consumer.scribbled();
        stats.in_flight = self
            .tap
            .region
            .count_held(Holder::Detoured(self.tap.label.id));
        stats
    }
}

/// What is behind the session's lock.
pub(crate) struct State {
    pub(crate) supply: Option<Supply>,
    /// A place per tap, so that a tap keeps its number in the mmap offsets.
    pub(crate) taps: KVec<Option<TapEnd>>,
    refused: Refused,
    deallocated: u64,
    rounds: u64,
    /// The place of the tap whose ring is drained first.
    first: usize,
    /// Where the next look after held packets begins.
    tended: u32,
    asleep: bool,
    fruitless: u32,
    alpha: Duration,
}

/// A packet on its way out of a round, and the place of its tap.
struct Delivery {
    skb: Skb,
    outlet: Outlet,
    place: usize,
}

/// The packets of one round.
struct Outbox {
    deliveries: [Option<Delivery>; ROUND],
    used: usize,
}

impl Outbox {
    fn new() -> Self {
        Self {
            deliveries: [const { None }; ROUND],
            used: 0,
        }
    }

    fn room(&self) -> usize {
        ROUND.saturating_sub(self.used)
    }

    fn add(&mut self, skb: Skb, outlet: Outlet, place: usize) {
        if let Some(free) = self.deliveries.get_mut(self.used) {
            *free = Some(Delivery { skb, outlet, place });
            self.used = self.used.wrapping_add(1);
        }
    }

    /// Delivers everything, in order; calls `lost` with the tap's place for what was not taken.
    fn deliver(&mut self, mut lost: impl FnMut(usize)) {
        self.used = 0;
        for delivery in self.deliveries.iter_mut().map_while(Option::take) {
            let taken = match delivery.outlet {
                Outlet::Input => delivery.skb.deliver_input(),
                Outlet::Output => delivery.skb.deliver_output(),
                Outlet::Drop => true,
            };
            if !taken {
                lost(delivery.place);
            }
        }
    }
}

/// The data path of a session.
#[pin_data]
pub(crate) struct Serving {
    server: Server<Serving>,
    pub(crate) id: u32,
    pub(crate) pid: u32,
    pub(crate) comm: [u8; 16],
    alpha_min: Duration,
    alpha_max: Duration,
    #[pin]
    pub(crate) state: SpinLock<State>,
    calls: Counter,
    wakeups: Counter,
}

impl HasServer for Serving {
    fn server(&self) -> &Server<Self> {
        &self.server
    }
}

impl OnPoll for Serving {
    fn on_poll(&self, budget: usize) -> usize {
        let mut outbox = Outbox::new();
        let mut state = self.state.lock();
        let work = state.round(self.id, self.pid, budget.min(ROUND), &mut outbox);
        // A last step over padding may go beyond it.
        let work = work.min(budget);
        let rest = state.rest(work > 0, self.alpha_min, self.alpha_max);
        drop(state);

        self.deliver(&mut outbox);
        // A round that found nothing wakes nobody: who polls asks for a round, and would poll again.
        if work > 0 && self.server.wake(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM) {
            self.wakeups.add(1);
        }
        if work >= budget {
            return budget;
        }
        // Before the round is over, so that whoever waits for that finds the timer armed.
        if let Some(alpha) = rest {
            self.server.arm(alpha);
        }
        self.server.complete(work);
        work
    }
}

impl Serving {
    /// The data path of a session that has just been opened; its server is not started.
    pub(crate) fn new(
        id: u32,
        pid: u32,
        comm: [u8; 16],
        alpha: (Duration, Duration),
    ) -> Result<Arc<Self>> {
        let mut taps = KVec::with_capacity(TAPS_MAX as usize, GFP_KERNEL)?;
        for _ in 0..TAPS_MAX {
            taps.push_within_capacity(None)?;
        }
        let server = Server::new()?;
        Arc::pin_init(
            pin_init!(Self {
                server,
                id,
                pid,
                comm,
                alpha_min: alpha.0,
                alpha_max: alpha.1,
                state <- new_spinlock!(
                    State {
                        supply: None,
                        taps,
                        refused: Refused::default(),
                        deallocated: 0,
                        rounds: 0,
                        first: 0,
                        tended: 0,
                        asleep: true,
                        fruitless: PATIENCE,
                        alpha: alpha.0,
                    },
                    "nettap_state"
                ),
                calls: Counter::new(),
                wakeups: Counter::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Works on the state with bottom halves off.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let _bh = BottomHalvesOff::new();
        // A name, so that the guard goes before bottom halves come back: they take this lock.
        let mut state = self.state.lock();
        work(&mut state)
    }

    /// Asks for a round and wakes who waits for packets: after a detour.
    pub(crate) fn kick(&self) {
        if self.server.wake(POLLIN | POLLRDNORM) {
            self.wakeups.add(1);
        }
        self.server.schedule();
    }

    /// Serves on behalf of a system call, and counts it.
    pub(crate) fn serve(&self) {
        self.calls.add(1);
        self.server.schedule_now();
    }

    /// The same for a program that only wants to know what there is: it makes no work by itself.
    fn look(&self) {
        self.calls.add(1);
        if self.with(|state| state.wants_round()) {
            self.server.schedule_now();
        }
    }

    /// Takes the tap at `place` out of the session, having done all that the program had asked for by
    /// any of its rings: what it dropped is dropped, what it sent on has left before what it held.
    /// Bounded by what the rings hold, should the program go on. Sleeps; RTNL is held, so one at a time.
    pub(crate) fn retire(&self, place: usize) -> Option<TapEnd> {
        self.server.paused(|| {
            let mut left = self.with(|state| state.cells());
            let mut outbox = Outbox::new();
            loop {
                let _bh = BottomHalvesOff::new();
                let mut state = self.state.lock();
                let done = state.round(self.id, self.pid, ROUND, &mut outbox);
                drop(state);
                self.deliver(&mut outbox);
                left = left.saturating_sub(done);
                if done == 0 || left == 0 {
                    break;
                }
            }
            self.with(|state| state.taps.get_mut(place)?.take())
        })
    }

    fn deliver(&self, outbox: &mut Outbox) {
        outbox.deliver(|place| {
            let mut state = self.state.lock();
            if let Some(Some(end)) = state.taps.get_mut(place) {
                bump(&mut end.counts.undelivered, 1);
            }
        });
    }

    /// Wakes everybody: something ended.
    pub(crate) fn wake_all(&self) {
        self.server
            .wake(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLHUP);
    }

    /// `mbuf_pull(0)`: waits until a detour ring has a packet.
    pub(crate) fn wait_for_packet(&self, timeout: Option<Duration>) -> Result {
        self.look();
        if self.with(|state| state.taps.iter().flatten().next().is_none()) {
            return Err(ENODEV);
        }
        let woken = self.server.wait(timeout, || {
            self.with(|state| {
                let mut open = state.taps.iter().flatten().peekable();
                open.peek().is_none() || open.any(|end| end.tap.is_ready())
            })
        });
        if woken == Woken::Ready && self.with(|s| s.taps.iter().flatten().next().is_none()) {
            return Err(ENODEV);
        }
        outcome(woken)
    }

    /// `mbuf_pull(n)`: puts `n` more mbufs into the alloc ring, waiting until so many are free.
    pub(crate) fn pull(&self, n: u32, timeout: Option<Duration>) -> Result {
        self.serve();
        let missing = Cell::new(n);
        let try_it = || {
            let n = missing.get();
            self.with(|state| {
                let (id, pid) = (self.id, self.pid);
                let supply = state.supply.as_mut().ok_or(ENXIO)?;
                let size = supply.alloc.size();
                if n > size.wrapping_sub(supply.supplied()) {
                    return Err(EINVAL);
                }
                if supply.region.free_count() < n {
                    return Ok(false);
                }
                let supplied = supply.supply(n, id, pid);
                missing.set(n.saturating_sub(supplied));
                Ok(supplied == n)
            })
        };
        // Microseconds that are left; nothing: no limit.
        let mut left = timeout.map(|limit| limit.as_micros() as u64);
        loop {
            if try_it()? {
                return Ok(());
            }
            let nap = left.map_or(LOOK_AGAIN_US, |left| left.min(LOOK_AGAIN_US));
            if nap == 0 {
                return Err(ETIMEDOUT);
            }
            let nap_time = Some(Duration::from_micros(nap));
            if self.server.wait(nap_time, || false) == Woken::Interrupted {
                return Err(EINTR);
            }
            left = left.map(|left| left.saturating_sub(nap));
            self.server.schedule_now();
        }
    }

    /// `mbuf_push(tap, n)`: waits until `n` entries more, or all there are, have been taken.
    pub(crate) fn push(&self, place: usize, id: u32, n: u32, timeout: Option<Duration>) -> Result {
        let goal = self.with(|state| -> Result<u32> {
            let end = state.tap_at(place, id).ok_or(ENODEV)?;
            let position = end.consumer.position();
            let backlog = end
                .tap
                .revert
                .program_position()
                .load()
                .wrapping_sub(position);
            let backlog = if backlog > end.tap.revert.size() {
                0
            } else {
                backlog
            };
            Ok(position.wrapping_add(n.min(backlog)))
        })?;
        self.serve();
        if n == 0 {
            return Ok(());
        }
        outcome(self.server.wait(timeout, || {
            self.with(|state| {
                state
                    .tap_at(place, id)
                    .is_none_or(|end| goal.wrapping_sub(end.consumer.position()) as i32 <= 0)
            })
        }))
    }

    /// `mbuf_push(-1)`: takes everything from the dealloc ring.
    pub(crate) fn push_dealloc(&self) -> Result {
        self.calls.add(1);
        loop {
            let mut outbox = Outbox::new();
            let more = self.with(|state| {
                if state.supply.is_none() {
                    return Err(ENXIO);
                }
                Ok(state.drain_dealloc(self.id, ROUND, &mut outbox) == ROUND)
            })?;
            // Dropped packets only: order does not matter.
            drop(outbox);
            if !more {
                break;
            }
            crate::sys::task::breathe();
        }
        self.server.schedule_now();
        Ok(())
    }

    /// What `poll` sees: of one tap, or of all.
    pub(crate) fn poll(
        &self,
        request: &crate::sys::chardev::PollRequest<'_>,
        tap: Option<(usize, u32)>,
    ) -> u32 {
        self.server.poll_wait(request);
        self.look();
        self.with(|state| match tap {
            None => {
                let ready = state.taps.iter().flatten().any(|end| end.tap.is_ready());
                if ready {
                    POLLIN | POLLRDNORM
                } else {
                    0
                }
            }
            Some((place, id)) => {
                let Some(end) = state.tap_at(place, id) else {
                    return POLLIN | POLLRDNORM | POLLHUP;
                };
                let revert = &end.tap.revert;
                let used = revert
                    .program_position()
                    .load()
                    .wrapping_sub(end.consumer.position());
                let mut events = 0;
                if end.tap.is_ready() {
                    events |= POLLIN | POLLRDNORM;
                }
                if used < revert.size() {
                    events |= POLLOUT | POLLWRNORM;
                }
                events
            }
        })
    }

    /// The record of the session.
    pub(crate) fn export(&self) -> SessionStats {
        let mut stats = SessionStats {
            id: self.id,
            pid: self.pid,
            comm: self.comm,
            calls: self.calls.get(),
            wakeups: self.wakeups.get(),
            ..SessionStats::default()
        };
        self.with(|state| {
            stats.taps = state
                .taps
                .iter()
                .flatten()
                .fold(0, |n, _| u32::wrapping_add(n, 1));
            stats.deallocated = state.deallocated;
            stats.refused = state.refused;
            stats.rounds = state.rounds;
            if let Some(supply) = &state.supply {
                stats.mapped = 1;
                stats.prealloc = supply.prealloc;
                stats.refused.scribbled = supply
                    .consumer
                    .scribbled()
                    .wrapping_add(supply.producer.scribbled());
                stats.allocated = supply.region.count_held(Holder::Allocated(self.id)) as u32;
            }
        });
        stats
    }
}

fn outcome(woken: Woken) -> Result {
    match woken {
        Woken::Ready => Ok(()),
        Woken::TimedOut => Err(ETIMEDOUT),
        Woken::Interrupted => Err(EINTR),
    }
}

impl State {
    /// One round, the half under the lock: at most `budget` entries.
    fn round(&mut self, id: u32, pid: u32, budget: usize, outbox: &mut Outbox) -> usize {
        bump(&mut self.rounds, 1);
        if self.rounds % TEND_EVERY == 0 {
            self.tend();
        }
        let mut work = 0usize;
        // What is given back makes room, so a part of the round is for it; of the taps each has its
        // turn to be first.
        work = work.saturating_add(self.drain_dealloc(id, budget.min(ROUND / 4), outbox));
        self.first = self.first.wrapping_add(1);
        for turn in 0..TAPS_MAX as usize {
            let place = self.first.wrapping_add(turn) % TAPS_MAX as usize;
            let left = budget.saturating_sub(work);
            work = work.saturating_add(self.drain_revert(id, place, left, outbox));
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
        self.tended = if next < region.mbufs() { next } else { 0 };
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
    fn tap_at(&self, place: usize, id: u32) -> Option<&TapEnd> {
        let end = self.taps.get(place)?.as_ref()?;
        (end.tap.label.id == id).then_some(end)
    }

    fn place_of(&self, tap: u32) -> Option<usize> {
        let is_it = |end: &Option<TapEnd>| end.as_ref().is_some_and(|e| e.tap.label.id == tap);
        self.taps.iter().position(is_it)
    }

    /// Takes entries from the dealloc ring.
    fn drain_dealloc(&mut self, id: u32, budget: usize, outbox: &mut Outbox) -> usize {
        let Some(region) = self.supply.as_ref().map(|s| Arc::clone(&s.region)) else {
            return 0;
        };
        let mut work = 0usize;
        while work < budget && outbox.room() > 0 {
            let Some(supply) = self.supply.as_mut() else {
                break;
            };
            let before = supply.consumer.position();
            let entry = supply.consumer.take(&supply.dealloc.cells());
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
                Ok(Claim::Buffer(_)) => bump(&mut self.deallocated, 1),
                Ok(Claim::Packet(packet)) => {
                    bump(&mut self.deallocated, 1);
                    let place = self.place_of(packet.tap).unwrap_or(usize::MAX);
                    if let Some(Some(end)) = self.taps.get_mut(place) {
                        end.ended(packet.truesize, End::DroppedByProgram);
                    }
                    outbox.add(packet.skb, Outlet::Drop, place);
                }
                Err(refusal) => count_refusal(&mut self.refused, refusal),
            }
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
        let tap = Arc::clone(&end.tap);
        let mut work = 0usize;
        while work < budget && outbox.room() > 0 {
            let Some(Some(end)) = self.taps.get_mut(place) else {
                break;
            };
            let before = end.consumer.position();
            let entry = end.consumer.take(&tap.revert.cells());
            work = work.wrapping_add(end.consumer.position().wrapping_sub(before) as usize);
            let Some(entry) = entry else {
                break;
            };
            self.revert_one(id, place, &tap, entry, outbox);
        }
        if let Some(Some(end)) = self.taps.get_mut(place) {
            end.consumer.publish(&tap.revert.kernel_words().position);
        }
        work
    }

    fn revert_one(&mut self, id: u32, place: usize, to: &Tap, entry: Entry, outbox: &mut Outbox) {
        let claim = if entry.flags & !REVERT_FLAGS != 0 {
            if let Some(Some(end)) = self.taps.get_mut(place) {
                bump(&mut end.counts.refused.flags, 1);
            }
            return;
        } else {
            to.region.claim(entry, |holder| self.holds(id, holder))
        };
        match claim {
            Ok(Claim::Packet(packet)) => self.revert_packet(place, to, entry, packet, outbox),
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
    ) {
        let Packet {
            tap,
            mut skb,
            truesize,
            chain,
            ..
        } = packet;
        let Some(home) = self.place_of(tap) else {
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
        if let Some(Some(from)) = self.taps.get_mut(home) {
            from.ended(truesize, end);
        }
        if end == End::Crossed {
            if let Some(Some(toward)) = self.taps.get_mut(place) {
                bump(&mut toward.counts.crossed_in, 1);
            }
        }
        outbox.add(skb, outlet, place);
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
            Err(_) => bump(&mut end.counts.injected_refused, 1),
        }
    }

    /// After a round: when to look again, or sleep. `None`: sleeping, the rings say so.
    fn rest(&mut self, worked: bool, min: Duration, max: Duration) -> Option<Duration> {
        let outstanding = self.taps.iter().flatten().any(TapEnd::is_outstanding);
        if worked {
            self.fruitless = 0;
            self.alpha = self.alpha.checked_div(2).unwrap_or(min).max(min);
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
            self.alpha = self.alpha.saturating_mul(2).min(max);
        }
        if outstanding || worked || self.fruitless < PATIENCE {
            self.set_asleep(false);
            return Some(self.alpha);
        }
        if !self.asleep {
            self.set_asleep(true);
            SharedWord::full_barrier(); // E, matches F: a push from here on rings the doorbell
            if self.has_entries() {
                self.set_asleep(false);
                self.fruitless = 0;
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
        dealloc || self.taps.iter().flatten().any(ready)
    }

    /// Whether a round would find something to do.
    fn wants_round(&mut self) -> bool {
        let refill = self.supply.as_mut().is_some_and(|supply| {
            supply.supplied() < supply.prealloc && supply.region.free_count() > 0
        });
        refill || self.has_entries()
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
        for end in self.taps.iter().flatten() {
            end.tap.detour.kernel_words().need_wakeup.store(word);
            end.tap.revert.kernel_words().need_wakeup.store(word);
        }
        if let Some(supply) = &self.supply {
            supply.alloc.kernel_words().need_wakeup.store(word);
            supply.dealloc.kernel_words().need_wakeup.store(word);
        }
    }

    /// Fills the alloc ring to its floor at once; false: there are not so many mbufs.
    pub(crate) fn fill_to_floor(&mut self, id: u32, pid: u32) -> bool {
        self.supply.as_mut().is_some_and(|supply| {
            let missing = supply.prealloc.saturating_sub(supply.supplied());
            supply.supply(missing, id, pid) == missing
        })
    }

    /// Cells of all rings that the program fills.
    fn cells(&self) -> usize {
        let dealloc = self.supply.as_ref().map_or(0, |s| s.dealloc.size());
        let all = self.taps.iter().flatten().fold(dealloc, |sum, end| {
            sum.saturating_add(end.tap.revert.size())
        });
        all as usize
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
