// SPDX-License-Identifier: GPL-2.0-only

//! A program over the library: takes packets from its taps and does with each what its arguments
//! say. What `--only` does not name goes on as it was, so that a test can act on its own packets and
//! leave ARP and the rest alone.

use crate::edit::{Edits, Layout};
use crate::signals::Signals;
use crate::taps::Taps;
use crate::Outcome;
use anyhow::{bail, ensure, Context, Result};
use clap::{Args, ValueEnum};
use nettap::{Csum, Error, LockGuard, Mbuf, Session, SharedLock, Tap, Wait};
use serde_json::json;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::{scope, sleep};
use std::time::Duration;

/// How often a waiting program looks at its signals.
const GLANCE: Duration = Duration::from_millis(500);
const BATCH: usize = 64;
/// One batch in so many is dealt with under the lock, which is kept for a moment longer: some of those that are killed at
/// random must have it.
const LOCKED: u64 = 4;
const KEPT: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Let it go on.
    Revert,
    /// Keep it until SIGUSR1; from then on revert.
    Hold,
    /// Drop it.
    Drop,
    /// Let it leave through the other tap.
    Cross,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Waiting {
    Poll,
    Sleep,
    Adaptive,
}

/// Arguments of `relay`.
#[derive(Args)]
pub(crate) struct Relay {
    #[command(flatten)]
    taps: Taps,
    /// What to do with a packet.
    #[arg(long = "do", default_value = "revert")]
    action: Action,
    #[command(flatten)]
    edits: Edits,
    /// Act only on TCP and UDP packets to this port.
    #[arg(long)]
    only: Option<u16>,
    /// Of the packets acted upon, change one in so many, the last of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How to wait.
    #[arg(long, default_value = "adaptive")]
    wait: Waiting,
    /// Wait for a packet for as long as it takes, and not just until it is time to look at the signals: one that comes
    /// ends the wait.
    #[arg(long)]
    patient: bool,
    /// Print a line for each packet.
    #[arg(long)]
    print: bool,
    /// End successfully when a tap has ended by itself.
    #[arg(long)]
    until_gone: bool,
    /// Go on when a tap has ended by itself: what is held stays, and what is let go then says whether its bytes are what
    /// they were when it came.
    #[arg(long)]
    keep: bool,
    /// Count packets acted upon, and print at the end how many system calls this process made through
    /// its session from the packet of this number on.
    #[arg(long)]
    count_calls_from: Option<u64>,
    /// End after so many packets acted upon.
    #[arg(long)]
    count: Option<u64>,
    /// Take this shared lock now and then, for as long as some packets need; who shares it counts in its first word how
    /// many died with it in hand.
    #[arg(long)]
    lock: Option<u32>,
    /// Threads that share the taps: each takes packets from their rings and gives back into them. The last line says in
    /// `each` how many packets each has acted upon.
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..),
        conflicts_with_all = ["count", "count_calls_from", "keep", "lock", "print", "patient"]
    )]
    threads: u16,
}

/// A packet that is held: of which tap, and its bytes when it came.
struct Held {
    nth: usize,
    mbuf: Mbuf,
    bytes: Vec<u8>,
}

struct Running<'a> {
    arguments: &'a Relay,
    session: Session,
    taps: Arc<Vec<Tap>>,
    /// Of several threads the first heeds the signals that are not for all.
    is_first: bool,
    action: Action,
    held: VecDeque<Held>,
    acted: u64,
    busy: bool,
    calls_before: Option<u64>,
    /// The lock, and how many batches came.
    lock: Option<(SharedLock, u64)>,
}

impl Relay {
    pub(crate) fn run(self) -> Outcome {
        let signals = Signals::catch()?;
        let (session, taps) = self.taps.open()?;
        ensure!(
            self.threads == 1 || self.action != Action::Hold,
            "one thread holds packets, not several"
        );
        let taps = Arc::new(taps);
        let lock = self.lock.map(|number| session.shared_lock(number));
        let mut lock = lock.transpose()?.map(|lock| (lock, 0));
        println!("ready");
        let mut threads: Vec<_> = (0..self.threads)
            .map(|nth| Running {
                arguments: &self,
                session: session.clone(),
                taps: Arc::clone(&taps),
                is_first: nth == 0,
                action: self.action,
                held: VecDeque::new(),
                acted: 0,
                busy: self.taps.is_busy(),
                calls_before: None,
                lock: lock.take(),
            })
            .collect();
        drop(taps);
        let outcome = scope(|scope| {
            let mut threads = threads.iter_mut();
            let first = threads.next();
            let others: Vec<_> = threads
                .map(|one| scope.spawn(|| one.until_told(&signals)))
                .collect();
            // This thread is the one that signals interrupt.
            let outcome = first.map_or(Ok(()), |one| one.until_told(&signals));
            let ended = others.into_iter().map(|other| {
                let ended = other.join();
                ended.unwrap_or_else(|_| bail!("a thread panicked"))
            });
            ended.fold(outcome, Result::and)
        });
        report(&threads);
        match outcome {
            Err(error)
                if self.until_gone && error.downcast_ref::<Error>() == Some(&Error::Ended) =>
            {
                println!("gone");
                Ok(())
            }
            other => other,
        }
    }

    fn is_meant(&self, mbuf: &Mbuf) -> bool {
        self.only
            .is_none_or(|port| Layout::of(mbuf.bytes()).is_some_and(|layout| layout.port == port))
    }
}

/// The lock in hand. Who is told of a death adds it up.
fn held(lock: &SharedLock) -> Result<LockGuard<'_>> {
    loop {
        match lock.lock() {
            Ok(guard) => {
                if let (true, Some(deaths)) = (guard.owner_died(), guard.data().first()) {
                    deaths.fetch_add(1, Ordering::Relaxed);
                }
                return Ok(guard);
            }
            Err(Error::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Running<'_> {
    fn until_told(&mut self, signals: &Signals) -> Outcome {
        let strategy = match self.arguments.wait {
            Waiting::Poll => Wait::Poll,
            Waiting::Sleep => Wait::Sleep,
            Waiting::Adaptive => Wait::Adaptive { spin: 2000 },
        };
        let mut waiter = strategy.waiter();
        let glance = (!self.arguments.patient).then_some(GLANCE);
        let mut batch = Vec::new();
        while !signals.stop() && self.arguments.count.is_none_or(|count| self.acted < count) {
            if self.is_first && signals.release() {
                self.release()?;
            }
            if self.is_first && signals.turn() {
                self.turn()?;
            }
            for nth in 0..self.taps.len() {
                if self.arguments.taps.is_standby() {
                    break;
                }
                if let Some(tap) = self.taps.get(nth) {
                    tap.recv_batch(&mut batch, BATCH);
                }
                let mut lock = self.lock.take();
                let guard = match &mut lock {
                    Some((lock, batches)) if !batch.is_empty() => {
                        *batches += 1;
                        (*batches % LOCKED == 0).then(|| held(lock)).transpose()?
                    }
                    _ => None,
                };
                for mbuf in batch.drain(..) {
                    self.take(nth, mbuf)?;
                }
                if guard.is_some() {
                    sleep(KEPT);
                }
                drop(guard);
                self.lock = lock;
            }
            let taps: Vec<&Tap> = self.taps.iter().collect();
            match self.session.wait_with(&mut waiter, &taps, glance) {
                Ok(_) | Err(Error::Interrupted) => {}
                Err(Error::Ended) if self.arguments.keep => {
                    println!("gone");
                    self.taps = Arc::default();
                    sleep(GLANCE);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, nth: usize, mut mbuf: Mbuf) -> Outcome {
        if self.arguments.print {
            self.print(nth, &mbuf)?;
        }
        if !self.arguments.is_meant(&mbuf) {
            return self.send(nth, mbuf);
        }
        self.acted += 1;
        if self.arguments.count_calls_from == Some(self.acted) {
            self.calls_before = Some(self.session.system_calls());
        }
        if !self.arguments.edits.is_empty() && self.acted % self.arguments.every == 0 {
            // A change that the library refuses is reported, and the packet goes on as it was.
            if let Err(error) = self.arguments.edits.apply(&mut mbuf) {
                println!("refused: {error:#}");
            }
        }
        match self.action {
            Action::Revert => self.send(nth, mbuf),
            Action::Cross => self.send((nth + 1) % self.taps.len(), mbuf),
            Action::Hold => {
                let mut bytes = Vec::new();
                mbuf.copy_to(&mut bytes);
                self.held.push_back(Held { nth, mbuf, bytes });
                Ok(())
            }
            Action::Drop => Ok(()),
        }
    }

    /// Reverts through the `nth` tap, waiting for room when the ring is full.
    fn send(&self, nth: usize, mbuf: Mbuf) -> Outcome {
        let tap = self.taps.get(nth).context("no such tap")?;
        let mut mbuf = mbuf;
        loop {
            match tap.revert(mbuf) {
                Ok(()) => return Ok(()),
                Err(rejected) if rejected.error == Error::Full => mbuf = rejected.value,
                Err(rejected) => return Err(rejected.error.into()),
            }
            match tap.flush(1, None) {
                Ok(()) | Err(Error::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn release(&mut self) -> Outcome {
        self.action = Action::Revert;
        let mut intact = 0;
        while let Some(Held { nth, mbuf, bytes }) = self.held.pop_front() {
            let mut now = Vec::new();
            mbuf.copy_to(&mut now);
            intact += u64::from(now == bytes);
            if nth < self.taps.len() {
                self.send(nth, mbuf)?;
            }
        }
        println!("{intact} intact, released");
        Ok(())
    }

    /// SIGUSR2: a busy session is busy no more, and the other way round.
    fn turn(&mut self) -> Outcome {
        self.busy = !self.busy;
        self.session.set_busy(self.busy)?;
        println!("{}", if self.busy { "busy" } else { "at ease" });
        Ok(())
    }

    fn print(&self, nth: usize, mbuf: &Mbuf) -> Result<()> {
        let meta = mbuf.meta();
        let bytes = mbuf.bytes();
        let ethertype = bytes
            .get(12..14)
            .map(|kind| u16::from_be_bytes([kind[0], kind[1]]));
        let line = json!({
            "tap": self.taps.get(nth).map(Tap::name),
            "direction": format!("{:?}", meta.direction),
            "len": mbuf.len(),
            "wire_len": meta.wire_len,
            "snapped": meta.snapped,
            "chain": mbuf.is_chain(),
            "csum": match meta.csum { Csum::None => "none", Csum::Valid => "valid", Csum::Partial { .. } => "partial" },
            "gso": meta.gso.map(|gso| gso.size),
            "vlan": meta.vlan.map(|tag| tag.tci),
            "mark": meta.mark,
            "priority": meta.priority,
            "hash": meta.hash,
            "ethertype": ethertype.map(|kind| format!("{kind:04x}")),
            "multicast": bytes.first().is_some_and(|first| first & 1 == 1),
            "port": Layout::of(bytes).map(|layout| layout.port),
        });
        // Line by line, because a script reads along.
        writeln!(std::io::stdout(), "{line}").context("stdout")
    }

    /// How many died with the lock in hand, as far as somebody was told.
    fn deaths(&self) -> Option<u32> {
        let (lock, _) = self.lock.as_ref()?;
        let guard = held(lock).ok()?;
        guard
            .data()
            .first()
            .map(|deaths| deaths.load(Ordering::Relaxed))
    }
}

fn report(threads: &[Running<'_>]) {
    let Some(first) = threads.first() else {
        return;
    };
    let acted: Vec<u64> = threads.iter().map(|thread| thread.acted).collect();
    let calls = first
        .calls_before
        .map(|before| first.session.system_calls() - before);
    let counted = first
        .arguments
        .count_calls_from
        .map(|from| (first.acted + 1).saturating_sub(from));
    println!(
        "{}",
        json!({
            "acted": acted.iter().sum::<u64>(), "each": acted, "held": first.held.len(), "counted": counted, "calls": calls,
            "deaths": first.deaths(),
        })
    );
}
