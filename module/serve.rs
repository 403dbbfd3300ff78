// SPDX-License-Identifier: GPL-2.0-only

//! When revert and dealloc rings are drained, and alloc rings filled: the server of a session.
//!
//! A program publishes with a store, so nobody calls the kernel. What makes it look:
//!
//! - a detour asks for a round when it finds a batch given back (packets that flow pay for the return
//!   of those before them), or when nobody would look soon; so does every NetTap system call;
//! - while a packet of the session is out, a soft timer asks again, after α: α is the shortest after new
//!   packets, and then halved by each of its rounds before which there was work and doubled by each before which there
//!   was none, between the module's two bounds. While packets flow it is for the last of them only, and slower;
//! - when nothing is out and nothing came for a while, the server sleeps. It raises `need_wakeup` in
//!   the session's rings, and the library rings the doorbell with its next push. Idle costs nothing.
//!
//! A program that has a processor to spend asks for a *busy* server: a thread of the kernel's that makes round
//! after round, so that what is given back goes on at once. It has no timer, never sleeps, and need not be
//! asked. In all else its rounds are the same, and it is still the NAPI: one at a time, on one CPU.
//!
//! One server per session and not per tap (the brief's first idea): whatever a session gives back,
//! by whichever ring, comes through one place at a time, so that returning needs no lock among rings,
//! and a further tap costs one look at its ring and no timer.
//!
//! A round has two halves. Under the session's lock entries are taken, checked, and turned into
//! packets (`round`); after the lock is dropped the packets are delivered, because the network stack may run
//! anywhere from there, into our own hooks too. Only the NAPI delivers, so order is kept. It runs
//! with bottom halves off, which is an RCU read section: an interface whose tap was there in the first
//! half cannot be freed before the second half is over (`reclaim` waits for a grace period in between).
//!
//! Lock order: RTNL, registry, session state (here), tap, free list.

use core::cell::Cell;
use core::time::Duration;

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::new_mutex;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

use crate::account::Holder;
use crate::haul;
use crate::haul::Haul;
use crate::haul::Lender;
use crate::haul::Swept;
use crate::haul::TakenBack;
use crate::haul::Unread;
use crate::outbox::Outbox;
use crate::outbox::ROUND;
use crate::round::Attention;
use crate::round::Ring;
use crate::round::State;
use crate::stats::bump;
use crate::stats::Counter;
use crate::sys::atomic::Apart;
use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use crate::sys::chardev::PollRequest;
use crate::sys::netdev::synchronize;
use crate::sys::netdev::synchronize_fast;
use crate::sys::server::HasServer;
use crate::sys::server::OnPoll;
use crate::sys::server::Server;
use crate::sys::skb::Taker;
use crate::sys::sleepers::Sleepers;
use crate::sys::sleepers::Woken;
use crate::sys::sleepers::POLLHUP;
use crate::sys::sleepers::POLLIN;
use crate::sys::sleepers::POLLOUT;
use crate::sys::sleepers::POLLRDNORM;
use crate::sys::sleepers::POLLWRNORM;
use crate::sys::task::breathe;
use crate::sys::task::current_comm;
use crate::sys::task::current_pid;
use crate::sys::task::now;
use crate::sys::task::ticks;
use crate::sys::task::BottomHalvesOff;
use crate::sys::task::Process;
use crate::sys::word::SharedWord;
use crate::tap::Gate;
use crate::tap::Tap;
use crate::tapend::TapEnd;
use crate::uapi::event::Event;
use crate::uapi::event::CAUSE_MAX_AGE;
use crate::uapi::event::CAUSE_POLICY;
use crate::uapi::event::CAUSE_UNDELIVERED;
use crate::uapi::ring::Word;
use crate::uapi::stats::SessionStats;
use crate::uapi::tap::TAPS_MAX;

/// A detour sees what its own tap's program has given back by this; after so many it asks for what came by others.
const OTHERS_EVERY: u64 = 64;
/// Mbufs that a program asks for are put into its alloc ring so many at a time.
const SUPPLY: u32 = 256;
/// How often a revert ring is looked at for the last time, while a program still fills it.
const LAST_LOOKS: u32 = 2048;
/// For so many microseconds what a program has put into its rings is taken before something else is done, and for so many
/// rounds, if that takes longer: others may wait for that, and a program decides how long its packets take to be sent. What
/// is left is taken back with the rest; mbufs of new packets stay the session's.
const LAST_US: u64 = 1_000_000;
const LAST_ROUNDS: u32 = 64;
/// How often a wait for free mbufs looks again, in microseconds: any session may give some back.
const LOOK_AGAIN_US: u64 = 1000;

/// The data path of a session.
#[pin_data]
pub(crate) struct Serving {
    server: Server<Serving>,
    sleepers: Sleepers,
    pub(crate) id: u32,
    /// As the initial namespace numbers it.
    pub(crate) pid: u32,
    process: Arc<Process>,
    pub(crate) comm: [u8; 16],
    alpha_min: Duration,
    alpha_max: Duration,
    /// Written by rounds, and not where every detour reads.
    #[pin]
    pub(crate) state: Apart<SpinLock<State>>,
    /// Whether the server looks soon by itself: a detour need not ask for it.
    attentive: Attention,
    calls: Counter,
    wakeups: Counter,
    /// Whether somebody has looked for packets in vain and may sleep since: the next packet wakes, and no more
    /// until somebody looks again.
    wanted: Atomic<bool>,
    /// Whether nobody has the session any more, by descriptor or mapping.
    abandoned: Atomic<bool>,
    /// Whoever asks for mbufs, while they are put into the alloc ring.
    #[pin]
    pulling: Mutex<()>,
    /// Whoever pauses the server: one at a time.
    #[pin]
    pausing: Mutex<()>,
}

impl HasServer for Serving {
    fn server(&self) -> &Server<Self> {
        &self.server
    }
}

impl Lender for Serving {
    fn lend<R>(&self, work: impl FnOnce(&mut Taker) -> R) -> R {
        self.with(|state| work(&mut state.taker))
    }
}

impl OnPoll for Serving {
    fn on_poll(&self, budget: usize) -> usize {
        let mut state = self.state.lock();
        // There is one round at a time.
        let Some(mut outbox) = state.outbox.take() else {
            drop(state);
            self.server.complete(0);
            return 0;
        };
        let work = state.round(self.id, self.pid, budget.min(ROUND), &mut outbox);
        // A last step over padding may go beyond it.
        let work = work.min(budget);
        // One that has just done all there was need not come again to find nothing.
        let more = work >= budget && state.has_entries();
        let (rest, fresh) = if state.is_busy() {
            (None, state.go_on())
        } else {
            state.rest(
                work,
                self.calls.get(),
                (self.alpha_min, self.alpha_max),
                &self.attentive,
                !more && !self.server.is_armed(),
            )
        };
        let overdue = state.watch(self.calls.get());
        drop(state);

        self.deliver(&mut outbox, budget);
        self.state.lock().outbox = Some(outbox);
        // A round that found nothing wakes nobody: who polls asks for a round, and would poll again.
        if work > 0 {
            self.wake_for_room();
        }
        if fresh {
            SharedWord::full_barrier(); // H, matches G
        }
        // Whom the detours may have overlooked. A packet is new when it is counted, and there when it is copied, which may
        // be later: so this is asked in every round, and there are rounds as long as it is out.
        if self.wanted.load(Relaxed) && self.with(|state| state.has_packets()) {
            self.wake_for_packets();
        }
        if overdue {
            self.server.defer();
        }
        if more {
            return budget;
        }
        let work = work.min(budget.saturating_sub(1));
        // Before the round is over, so that whoever waits for that finds the timer armed.
        if let Some(alpha) = rest {
            self.server.arm(alpha);
        }
        self.server.complete(work);
        work
    }

    fn on_deferred(&self) {
        self.pause(|| {
            for place in 0..TAPS_MAX as usize {
                let overdue = self.with(|state| {
                    let end = state.taps.get_mut(place)?.as_mut()?;
                    end.watch.take_overdue().then(|| Arc::clone(&end.tap))
                });
                if let Some(tap) = overdue {
                    self.let_go(place, &tap, Gate::Stalled);
                }
            }
        });
    }
}

impl Serving {
    /// The data path of a session that the caller has just opened; its server is not started.
    pub(crate) fn new(id: u32, alpha: (Duration, Duration)) -> Result<Arc<Self>> {
        let state = State::new(alpha.0)?;
        let server = Server::new(id)?;
        let sleepers = Sleepers::new()?;
        let process = Arc::new(Process::current(), GFP_KERNEL_ACCOUNT)?;
        Arc::pin_init(
            pin_init!(Self {
                server,
                sleepers,
                id,
                pid: current_pid(),
                process,
                comm: current_comm(),
                alpha_min: alpha.0,
                alpha_max: alpha.1,
                state <- Apart::pin(new_spinlock!(state, "nettap_state")),
                attentive: Attention::new(),
                calls: Counter::new(),
                wakeups: Counter::new(),
                wanted: Atomic::new(false),
                abandoned: Atomic::new(false),
                pulling <- new_mutex!((), "nettap_pulling"),
                pausing <- new_mutex!((), "nettap_pausing"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Works on the state with bottom halves off.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let _bh = BottomHalvesOff::new();
        // A name, so that the guard goes before bottom halves come back: they take this lock.
        let mut state = self.state.lock();
        work(&mut state)
    }

    /// Wakes who waits for packets, and asks for a round if there is something to serve, as far as one
    /// detour can tell, or if nobody would look soon: after a detour from the ring of `tap`.
    #[inline(always)]
    pub(crate) fn kick(&self, tap: &Tap, number: u64) {
        // No barrier here, for every packet: `rest`, and the rounds while the packet is out, make up for it.
        if self.wanted.load(Relaxed) {
            self.wake_for_packets();
        }
        if !self.attentive.get()
            || (number % OTHERS_EVERY == 0 && tap.has_others())
            || tap.has_batch()
        {
            self.server.schedule();
        }
    }

    #[inline(never)]
    fn wake_for_packets(&self) {
        self.wanted.store(false, Relaxed);
        // Not by what there is: who has asked once for any number of wake-ups (io_uring's multishot poll) would take that for
        // all there is to know, and not look again, and say that it wants the next.
        if self.sleepers.wake(0) {
            self.wakeups.add(1);
        }
    }

    /// Entries of the program's have been taken.
    #[inline]
    fn wake_for_room(&self) {
        if self.sleepers.wake(POLLOUT | POLLWRNORM) {
            self.wakeups.add(1);
        }
    }

    /// Somebody is about to look for packets, and to sleep if there is none.
    fn want(&self) {
        self.wanted.store(true, Relaxed);
        SharedWord::full_barrier(); // G, matches H: a packet that is not seen now is seen by a round after this
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

    /// Does something while no round runs, having done all that the program had asked for by any of its
    /// rings: what it dropped is dropped, what it sent on has left before what it held. Sleeps.
    pub(crate) fn pause<R>(&self, work: impl FnOnce() -> R) -> R {
        let _pausing = self.pausing.lock();
        let done = self.server.paused(|| {
            // What the last round has delivered may lie in a backlog of its CPU, and goes before what
            // is delivered from here on. The packets of all its taps wait for this.
            synchronize_fast();
            self.server.settle();
            let until = now().saturating_add(ticks(LAST_US));
            self.finish(Ring::Dealloc, until);
            for place in 0..TAPS_MAX as usize {
                self.finish(Ring::Revert(place), until);
            }
            work()
        });
        // Who waits until this has been taken: the next round finds nothing, and wakes nobody.
        self.wake_for_room();
        done
    }

    /// Has a thread of the kernel's serve without rest, or no more. The caller sees to it that nobody else
    /// does this meanwhile. Sleeps.
    pub(crate) fn set_busy(&self, busy: bool) -> Result {
        if self.with(|state| state.is_busy()) == busy {
            return Ok(());
        }
        self.pause(|| {
            let thread = self.server.set_busy(busy)?;
            let before = self.with(|state| state.hand_over(thread, &self.attentive));
            drop(before);
            Ok(())
        })
    }

    /// Takes the tap at `place` out of the session. Its revert ring asks for the doorbell from here on, for good:
    /// what is put into it is taken, or who puts it is told that the tap has ended. Waits as many
    /// milliseconds as there is `patience` for threads of the program that are putting something. Sleeps.
    pub(crate) fn retire(&self, place: usize, patience: u32) -> Option<TapEnd> {
        self.pause(|| {
            self.with(|state| {
                let end = state.taps.get_mut(place)?.as_mut()?;
                end.retires = true;
                end.tap.revert.kernel_words().need_wakeup.store(1);
                SharedWord::full_barrier(); // E, matches F: whoever does not ring is seen below
                Some(())
            })?;
            let mut outbox = Outbox::new();
            let (mut looks, mut naps) = (LAST_LOOKS, patience);
            let until = now().saturating_add(ticks(LAST_US));
            loop {
                let ring = Ring::Revert(place);
                if looks <= LAST_LOOKS.saturating_sub(LAST_ROUNDS) && now() >= until {
                    looks = 1;
                }
                let (done, end) = self.with(|state| {
                    let done = state.drain(self.id, ring, ROUND, &mut outbox);
                    looks = looks.saturating_sub(1);
                    // A cell that is booked and not filled yet hides those behind it, whose threads have gone on.
                    let over = done == 0 && (naps == 0 || state.backlog(ring) == 0);
                    // In the moment in which nothing is left, so that who is not served finds no tap. One whose program
                    // goes on and on, or never fills a cell, ends all the same.
                    let end = (over || looks == 0).then(|| state.seat(place, None));
                    (done, end)
                });
                {
                    let _bh = BottomHalvesOff::new();
                    self.deliver(&mut outbox, 0);
                }
                if let Some(end) = end {
                    return end;
                }
                if done == 0 {
                    naps = naps.saturating_sub(1);
                    fsleep(Delta::from_millis(1));
                }
                breathe();
            }
        })
    }

    /// Takes back all that the program holds of a tap that stays: it follows `on_exit`. Packets that come
    /// meanwhile queue up behind and are taken back too, until there is none; in that moment the gate
    /// turns. Inside [`Serving::pause`].
    pub(crate) fn let_go(&self, place: usize, tap: &Tap, gate: Gate) {
        let account = |work: &dyn Fn(&mut TapEnd)| {
            self.with(|state| {
                if let Some(Some(end)) = state.taps.get_mut(place) {
                    work(end);
                }
            });
        };
        // A program that has stalled comes back to its ring; nobody takes from that of a tap on standby.
        let unread = match gate {
            Gate::Stalled if !tap.options.standby => Unread::Stays,
            _ => Unread::Goes,
        };
        let mut back = TakenBack::default();
        let ended = |state: &mut State| {
            let end = state.taps.get(place).and_then(Option::as_ref);
            end.map(|end| end.counts.ends.all())
        };
        let mut once = |unread| {
            let fate = haul::fate(tap, true);
            let haul = Haul::of(tap, self, unread, self.with(ended).unwrap_or(0));
            back.add(&haul, fate);
            let (packets, truesize) = (haul.packets, haul.truesize);
            account(&|end| {
                end.ended_all(packets, truesize, fate);
                if gate == Gate::Stalled {
                    bump(&mut end.counts.aged, packets);
                }
            });
            let undelivered = haul.follow(tap, fate);
            account(&|end| bump(&mut end.counts.undelivered, undelivered));
            if undelivered > 0 {
                tap.tell_drop(CAUSE_UNDELIVERED, 0, undelivered);
            }
            let close = |state: &mut State| match ended(state) {
                Some(ended) => tap.close_when(ended, gate, || ()),
                None => true,
            };
            Swept::of(packets, self.with(close))
        };
        if !haul::sweep(|| once(unread)) {
            // What is out still may be overtaken. Of a tap that has stalled, the watchdog sees to it.
            self.with(|_| tap.close(gate));
            if gate != Gate::Stalled {
                synchronize();
                once(Unread::Last);
            }
        }
        // Nobody was to take what it had; it goes on to keep what comes.
        if gate == Gate::Stalled && tap.options.standby {
            tap.shows_life();
        }
        back.tell(tap.events(), |event| {
            tap.describe(event);
            event.cause = match gate {
                Gate::Stalled => CAUSE_MAX_AGE,
                _ => CAUSE_POLICY,
            };
        });
    }

    /// Takes from a ring what it holds now, and no more, should the program go on; some rounds, and until a time, in ticks.
    fn finish(&self, ring: Ring, until: u64) {
        let mut left = self.with(|state| state.backlog(ring)) as usize;
        let mut outbox = Outbox::new();
        let mut rounds = 0u32;
        while left > 0 && (rounds < LAST_ROUNDS || now() < until) {
            rounds = rounds.saturating_add(1);
            {
                let _bh = BottomHalvesOff::new();
                let mut state = self.state.lock();
                let done = state.drain(self.id, ring, left.min(ROUND), &mut outbox);
                drop(state);
                self.deliver(&mut outbox, 0);
                left = if done == 0 {
                    0
                } else {
                    left.saturating_sub(done)
                };
            }
            breathe();
        }
    }

    fn deliver(&self, outbox: &mut Outbox, budget: usize) {
        outbox.deliver(budget, |place| {
            let mut state = self.state.lock();
            if let Some(Some(end)) = state.taps.get_mut(place) {
                bump(&mut end.counts.undelivered, 1);
                end.tap.tell_drop(CAUSE_UNDELIVERED, 0, 1);
            }
        });
    }

    /// Nobody has the session any more, and puts anything into its rings.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    /// Whether that is so.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }

    /// Wakes everybody: something ended.
    pub(crate) fn wake_all(&self) {
        self.sleepers
            .wake(POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLHUP);
    }

    /// `mbuf_pull(0)`: waits until a detour ring has a packet.
    pub(crate) fn wait_for_packet(&self, timeout: Option<Duration>) -> Result {
        self.look();
        if self.with(|state| state.ends().next().is_none()) {
            return Err(ENODEV);
        }
        let woken = self.sleepers.wait(timeout, || {
            self.want();
            self.with(|state| state.ends().next().is_none() || state.has_packets())
        });
        if woken == Woken::Ready && self.with(|s| s.ends().next().is_none()) {
            return Err(ENODEV);
        }
        outcome(woken)
    }

    /// `mbuf_pull(n)`: puts `n` more mbufs into the alloc ring, waiting until so many are free.
    pub(crate) fn pull(&self, n: u32, timeout: Option<Duration>) -> Result {
        self.serve();
        let missing = Cell::new(n);
        let some_of_it = || {
            let n = missing.get();
            self.with(|state| -> Result<Option<bool>> {
                let (id, pid) = (self.id, self.pid);
                let supply = state.supply.as_mut().ok_or(ENXIO)?;
                let size = supply.alloc.size();
                if n > size.wrapping_sub(supply.supplied()) {
                    return Err(EINVAL);
                }
                if supply.region.free_count() < n {
                    return Ok(Some(false));
                }
                let part = n.min(SUPPLY);
                let supplied = supply.supply(part, id, pid);
                let left = n.saturating_sub(supplied);
                missing.set(left);
                // A part at a time: bottom halves are off.
                Ok((left == 0 || supplied < part).then_some(left == 0))
            })
        };
        let try_it = || -> Result<bool> {
            // There may be room for one of two who ask for many, and not for both.
            let _pulling = self.pulling.lock();
            loop {
                match some_of_it()? {
                    Some(done) => return Ok(done),
                    None => breathe(),
                }
            }
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
            if self.sleepers.wait(nap_time, || false) == Woken::Interrupted {
                return Err(EINTR);
            }
            left = left.map(|left| left.saturating_sub(nap));
            self.server.schedule_now();
        }
    }

    /// Fills the alloc ring up to its floor; false: there are not so many mbufs. Sleeps.
    pub(crate) fn fill_to_floor(&self) -> bool {
        loop {
            let filled = self.with(|state| {
                let supply = state.supply.as_mut()?;
                supply.fill(SUPPLY, self.id, self.pid)
            });
            match filled {
                Some(0) => return true,
                Some(_) => breathe(),
                None => return false,
            }
        }
    }

    /// `mbuf_push(tap, n)`: waits until `n` entries more, or all there are, have been taken.
    pub(crate) fn push(&self, place: usize, id: u32, n: u32, timeout: Option<Duration>) -> Result {
        if self.with(|state| state.tap_at(place, id).is_some_and(|end| end.retires)) {
            // What was put there may be taken still, or not: when that is over, the ring says so.
            drop(self.pausing.lock());
        }
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
        outcome(self.sleepers.wait(timeout, || {
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
        if self.with(|state| state.supply.is_none()) {
            return Err(ENXIO);
        }
        self.finish(Ring::Dealloc, u64::MAX);
        self.server.schedule_now();
        Ok(())
    }

    /// What `poll` sees: of one tap, or of all.
    pub(crate) fn poll(&self, request: &PollRequest<'_>, tap: Option<(usize, u32)>) -> u32 {
        self.sleepers.poll_wait(request);
        // Who waits for the end alone wants no packets, nor gives a sign of life.
        let asked = request.asked();
        if asked & (POLLIN | POLLRDNORM) != 0 {
            self.want();
        }
        if asked & (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM) != 0 {
            self.look();
        }
        self.with(|state| match tap {
            None => {
                if state.has_packets() {
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

    /// Fills in whose session it is.
    pub(crate) fn describe(&self, event: &mut Event) {
        event.session = self.id;
        event.pid = self.pid;
        event.comm = self.comm;
    }

    /// The process that opened the session.
    pub(crate) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process)
    }

    /// The same, as the caller's pid namespace numbers it.
    pub(crate) fn seen(&self) -> u32 {
        self.process.seen()
    }

    /// The record of the session.
    pub(crate) fn export(&self) -> SessionStats {
        let mut stats = SessionStats {
            id: self.id,
            pid: self.seen(),
            comm: self.comm,
            calls: self.calls.get(),
            wakeups: self.wakeups.get(),
            ..SessionStats::default()
        };
        let region = self.with(|state| {
            state.export(&mut stats);
            state
                .supply
                .as_ref()
                .map(|supply| Arc::clone(&supply.region))
        });
        if let Some(region) = region {
            let mine = |holder| holder == Holder::Allocated(self.id);
            stats.allocated = region.count_held(mine) as u32;
            stats.locks = region.locks().registered(self.id);
        }
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
