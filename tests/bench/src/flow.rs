// SPDX-License-Identifier: GPL-2.0-only

//! The one loop that all lines share.
//!
//! A closed loop on one processor: the generator sends batches as long as fewer packets than the line
//! says are in flight, which means sent and not yet seen by the program; then the program has a turn.
//! A program that sleeps has a thread of its own, and the generator yields to it. At the end no packet
//! more is sent, and every one must have arrived. Where it is about time and there are several processors, program and
//! generator have one each.

use crate::generate::{Generator, HostSocket, BATCH};
use crate::latency::{self, FarEnd};
use crate::lines::{Line, Road, Wait};
use crate::peers::Peer;
use crate::result::Latency;
use crate::{sys, world};
use anyhow::{anyhow, bail, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where the program runs.
enum Program {
    /// In the generator's thread, by turns.
    Here(Box<dyn Peer>),
    /// In a thread of its own.
    There(Thread),
    /// On its way from the one to the other.
    Nowhere,
}

struct Thread {
    shared: Arc<Shared>,
    told: u64,
    handle: JoinHandle<Result<Box<dyn Peer>>>,
}

#[derive(Default)]
struct Shared {
    seen: AtomicU64,
    stop: AtomicBool,
}

impl Program {
    fn turn(&mut self, outstanding: usize) -> Result<usize> {
        match self {
            Self::Here(peer) => peer.turn(outstanding),
            Self::There(thread) if thread.handle.is_finished() => {
                self.come_back()?;
                bail!("the program ended")
            }
            Self::There(thread) => {
                std::thread::yield_now();
                let seen = thread.shared.seen.load(Ordering::Acquire);
                let n = seen - std::mem::replace(&mut thread.told, seen);
                Ok(n as usize)
            }
            Self::Nowhere => Ok(0),
        }
    }

    /// Into a thread of its own, onto a processor if it has one, and where the scheduler prefers `batches`.
    fn depart(self, processor: Option<usize>, batches: bool) -> Self {
        let Self::Here(mut peer) = self else {
            return self;
        };
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let handle = std::thread::spawn(move || {
            if let Some(processor) = processor {
                sys::stay_on(processor)?;
            }
            if batches {
                sys::run_in_batches()?;
            }
            while !theirs.stop.load(Ordering::Relaxed) {
                peer.wait()?;
                let n = peer.turn(BATCH)?;
                theirs.seen.fetch_add(n as u64, Ordering::Release);
            }
            latency::keep();
            Ok(peer)
        });
        Self::There(Thread {
            shared,
            told: 0,
            handle,
        })
    }

    /// Back into this one.
    fn come_back(&mut self) -> Result<&mut Box<dyn Peer>> {
        *self = match std::mem::replace(self, Self::Nowhere) {
            Self::There(thread) => {
                thread.shared.stop.store(true, Ordering::Relaxed);
                let ended = thread
                    .handle
                    .join()
                    .map_err(|_| anyhow!("the program panicked"))?;
                Self::Here(ended?)
            }
            other => other,
        };
        match self {
            Self::Here(peer) => Ok(peer),
            _ => bail!("no program"),
        }
    }
}

/// How a line is run, beside what its name says.
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// Packets carry the time, and whoever sees them looks at it.
    pub(crate) timed: bool,
    /// The processor of the program, if it has one for itself.
    pub(crate) processor: Option<usize>,
}

/// A line at work.
pub(crate) struct Flow {
    generator: Option<Generator>,
    program: Program,
    // Behind the program that has taps on them.
    _wires: world::Wires,
    _jumbo: world::Jumbo,
    /// Where datagrams for the host end.
    host: Option<HostSocket>,
    far: Option<FarEnd>,
    road: Road,
    window: u64,
    batch: usize,
    sent: u64,
    pub(crate) seen: u64,
    /// What the far end had counted before.
    before: u64,
}

impl Flow {
    pub(crate) fn new(line: &Line, how: How) -> Result<Self> {
        let road = line.path.road;
        let make = if how.timed {
            line.path.make.timed
        } else {
            line.path.make.plain
        };
        let host = match road {
            Road::Stack | Road::Around if how.timed => Some(HostSocket::roomy()?),
            Road::Stack | Road::Around => Some(HostSocket::full()?),
            _ => None,
        };
        let wires = world::Wires::make(line.spec.wires)?;
        let jumbo = world::Jumbo::make(line.spec.size)?;
        let mut flow = Self {
            generator: Generator::new(road, &line.spec)?,
            program: Program::Here(make(&line.spec)?),
            _wires: wires,
            _jumbo: jumbo,
            host,
            far: if how.timed { FarEnd::of(road)? } else { None },
            road,
            window: line.spec.window as u64,
            batch: line.spec.batch(),
            sent: 0,
            seen: 0,
            before: 0,
        };
        if flow.host.is_some() && !how.timed {
            // The first few fill the socket, and are no arrivals.
            flow.until(64)?;
            flow.drain()?;
        }
        flow.before = flow.counted()?;
        (flow.sent, flow.seen) = (0, 0);
        if line.spec.wait != Wait::Poll || how.processor.is_some() {
            let program = std::mem::replace(&mut flow.program, Program::Nowhere);
            flow.program = program.depart(how.processor, line.spec.wait == Wait::Batch);
        }
        Ok(flow)
    }

    /// Until the program has seen so many packets.
    pub(crate) fn until(&mut self, goal: u64) -> Result<()> {
        let began = Instant::now();
        let mut idle = 0u32;
        while self.seen < goal {
            if let Some(generator) = &mut self.generator {
                while self.sent - self.seen + self.batch as u64 <= self.window {
                    generator.send(self.batch)?;
                    self.sent += self.batch as u64;
                }
            }
            let n = self.turn()?;
            idle = if n == 0 { idle.wrapping_add(1) } else { 0 };
            if idle > 1_000_000 {
                bail!(
                    "{} packets sent, {} seen, and no more in {} ms",
                    self.sent,
                    self.seen,
                    began.elapsed().as_millis()
                );
            }
        }
        Ok(())
    }

    /// Until then, with what `time` says in each packet, each of which is sent by a call of its own: a packet's time
    /// begins with that call and not with that of the first of a batch.
    pub(crate) fn until_time(&mut self, end: Instant, time: fn() -> u64) -> Result<()> {
        let (mut seen, mut when) = (self.seen, Instant::now());
        while Instant::now() < end {
            while self.sent - self.seen < self.window {
                let Some(generator) = &mut self.generator else {
                    bail!("who sends its own packets has no time in them");
                };
                generator.send_timed(time())?;
                self.sent += 1;
                self.look_far()?;
            }
            self.turn()?;
            self.look_far()?;
            if self.seen != seen {
                (seen, when) = (self.seen, Instant::now());
            } else if when.elapsed() > Duration::from_secs(10) {
                bail!("{} packets sent, {seen} seen, and no more", self.sent);
            }
        }
        Ok(())
    }

    fn look_far(&mut self) -> Result<()> {
        match &mut self.far {
            Some(far) => far.look(self.host.as_ref()),
            None => Ok(()),
        }
    }

    /// Times of the packets that have arrived at the far end since this was last asked.
    pub(crate) fn arrivals(&mut self) -> Option<Latency> {
        self.far.as_mut()?.take()
    }

    fn turn(&mut self) -> Result<usize> {
        let outstanding = usize::try_from(self.sent - self.seen)?;
        let n = self.program.turn(outstanding)?;
        self.seen += n as u64;
        if self.generator.is_none() {
            self.sent = self.seen;
        }
        Ok(n)
    }

    /// Sends nothing more, and lets the program see what is under way.
    fn drain(&mut self) -> Result<()> {
        let goal = self.sent;
        while self.seen < goal {
            self.turn()?;
        }
        self.program.come_back()?.finish()
    }

    /// Lets everything arrive, and counts. Gives the system calls that the program has counted.
    pub(crate) fn end(mut self) -> Result<Option<u64>> {
        let goal = self.sent;
        while self.seen < goal {
            self.turn()?;
        }
        let calls = self.program.come_back()?.calls();
        self.drain()?;
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            self.look_far()?;
            let arrived = self.counted()? - self.before;
            if arrived == self.sent {
                return Ok(calls);
            }
            if arrived > self.sent || Instant::now() > patience {
                bail!("{} packets were sent and {arrived} arrived", self.sent);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the far end of the road has counted.
    fn counted(&self) -> Result<u64> {
        if let (Some(far), Some(_)) = (&self.far, &self.host) {
            return Ok(far.seen);
        }
        match self.road {
            Road::Dropped => world::received(world::A),
            Road::Stack | Road::Around => world::refused_datagrams(),
            Road::Across | Road::Routed | Road::Out | Road::Own => world::received(world::SINK),
        }
    }
}
