// SPDX-License-Identifier: GPL-2.0-only

//! The fuzzer of requests, mappings and descriptors.
//!
//! Several processes with several threads each make calls on the same few descriptors and addresses.
//! What a request consists of is known from `uapi/` (`shapes`); most calls are nearly right, so that
//! they get far. Where the kernel tells which code a call ran through (KCOV), what got somewhere new
//! is kept and varied; elsewhere all is thrown by dice. New kinds of calls are rows of
//! `calls::CALLS`, new requests rows of `shapes::SHAPES`.

mod arena;
mod board;
mod calls;
mod descriptors;
mod kcov;
mod locks;
mod memory;
mod shapes;
mod worker;
mod world;

use crate::chance::Chance;
use crate::sys::{catch_pokes, get, look, shared, syscall};
use crate::Outcome;
use anyhow::{bail, Context, Result};
use board::{Board, WORKERS_MAX};
use calls::CALLS;
use clap::Args;
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use serde_json::json;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};
use worker::Worker;
use world::World;

/// Arguments of `fuzz`.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// An interface that may be tapped; may be given several times.
    #[arg(long = "interface", required = true)]
    interfaces: Vec<String>,
    /// Where to send packets, so that there are some; may be given several times.
    #[arg(long = "to")]
    peers: Vec<SocketAddr>,
    /// A tap that must not be ended, by its id.
    #[arg(long = "spare")]
    spared: Vec<u32>,
    /// Calls to make.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// Most seconds to go on.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Processes at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=WORKERS_MAX as u64))]
    processes: u64,
    /// Threads of each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=8))]
    threads: u64,
    /// The seed of all decisions; one from the clock otherwise.
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds without a call coming back after which a process counts as stuck.
    #[arg(long, default_value_t = 60)]
    stuck: u64,
}

/// How often the processes are looked after.
const GLANCE: Duration = Duration::from_millis(20);
/// How often there is a line of progress.
const PROGRESS: Duration = Duration::from_secs(15);

/// A seed for those who do not say one.
pub(crate) fn seed_of_the_moment() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64 % 1_000_000_007)
}

/// A process that is at work.
struct Alive {
    pid: Pid,
    calls: u64,
    since: Instant,
    /// After so many calls of all processes in its place it is killed, if it has not ended by then.
    until: u64,
}

/// All that the parent keeps.
struct Herd<'a> {
    arguments: &'a Fuzz,
    board: &'static Board,
    chance: Chance,
    alive: Vec<Option<Alive>>,
    born: u64,
    killed: u64,
}

impl Fuzz {
    pub(crate) fn run(self) -> Outcome {
        let seed = self.seed.unwrap_or_else(seed_of_the_moment);
        println!(
            "seed {seed}, {}",
            if kcov::is_there() {
                "guided by KCOV"
            } else {
                "not guided: this kernel has no KCOV"
            }
        );
        catch_pokes()?;
        let begun = Instant::now();
        let mut herd = Herd {
            arguments: &self,
            board: shared::<Board>().context("shared memory")?,
            chance: Chance::new(seed),
            alive: (0..self.processes).map(|_| None).collect(),
            born: 0,
            killed: 0,
        };
        let mut spoken = Instant::now();
        while herd.board.calls() < self.calls && begun.elapsed().as_secs() < self.seconds {
            herd.tend()?;
            sleep(GLANCE);
            if spoken.elapsed() > PROGRESS {
                spoken = Instant::now();
                herd.speak(begun.elapsed());
            }
        }
        herd.end()?;
        let (kinds, results, requests) = herd.board.tables();
        let summary = json!({
            "seed": seed,
            "seconds": begun.elapsed().as_secs(),
            "calls": herd.board.calls(),
            "kinds": kinds,
            "seconds_in": herd.board.times(),
            "results": results,
            "requests": requests,
            "processes": herd.born,
            "killed": herd.killed,
            "reached": herd.board.reached(),
            "corpus": herd.board.tapes(),
        });
        println!("{summary}");
        Ok(())
    }
}

impl Herd<'_> {
    /// Sees who has ended, kills somebody now and then, and fills the gaps.
    fn tend(&mut self) -> Outcome {
        for nth in 0..self.alive.len() {
            self.look_after(nth)?;
            if self.alive.get(nth).is_some_and(Option::is_none) {
                let alive = self.bear(nth)?;
                if let Some(place) = self.alive.get_mut(nth) {
                    *place = Some(alive);
                }
            } else if self.is_due(nth) {
                self.kill(nth);
            }
        }
        self.chance.forget();
        Ok(())
    }

    /// Whether a process has lived long enough: by its calls, since a slow kernel makes few of them in any time.
    fn is_due(&self, nth: usize) -> bool {
        let alive = self.alive.get(nth).and_then(Option::as_ref);
        alive.is_some_and(|alive| self.calls_of(nth) >= alive.until)
    }

    fn kill(&mut self, nth: usize) {
        let alive = self.alive.get_mut(nth).and_then(Option::as_mut);
        // Once is enough; an end may take long.
        if let Some(alive) = alive.filter(|alive| alive.until != u64::MAX) {
            alive.until = u64::MAX;
            let _ = nix::sys::signal::kill(alive.pid, nix::sys::signal::Signal::SIGKILL);
            self.killed += 1;
        }
    }

    fn bear(&mut self, number: usize) -> Result<Alive> {
        let arguments = self.arguments;
        let begun = self.calls_of(number);
        let worker = Worker {
            number,
            threads: usize::try_from(arguments.threads)?,
            seed: (u64::from(self.chance.draw()) << 32) | u64::from(self.chance.draw()),
            calls: 500 + self.chance.below(6000) as u64,
        };
        // Half of them end by themselves before.
        let until = begun + 1 + self.chance.below(2 * worker.calls as usize) as u64;
        let (interfaces, peers) = (arguments.interfaces.clone(), arguments.peers.clone());
        let world = World::new(interfaces, peers, arguments.spared.clone())?;
        self.born += 1;
        // SAFETY: this process has one thread, so the child may do what it likes.
        match unsafe { nix::unistd::fork() }? {
            nix::unistd::ForkResult::Child => {
                // Whatever becomes of the parent, nobody goes on fuzzing.
                let death = [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize];
                let _ = syscall(libc::SYS_prctl, &death);
                worker.live(self.board, &world)
            }
            nix::unistd::ForkResult::Parent { child } => {
                world.release();
                Ok(Alive {
                    pid: child,
                    calls: begun,
                    since: Instant::now(),
                    until,
                })
            }
        }
    }

    fn calls_of(&self, number: usize) -> u64 {
        let pulse = self.board.pulses.get(number);
        pulse.map_or(0, |pulse| get(&pulse.calls))
    }

    /// Whether the `nth` process has ended; an error when it does not come back from a call.
    fn look_after(&mut self, nth: usize) -> Outcome {
        let calls = self.calls_of(nth);
        let Some(place) = self.alive.get_mut(nth) else {
            return Ok(());
        };
        let Some(alive) = place else { return Ok(()) };
        match waitpid(alive.pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => {}
            WaitStatus::Exited(..) => {
                *place = None;
                return Ok(());
            }
            WaitStatus::Signaled(_, signal, _) => {
                if signal != nix::sys::signal::Signal::SIGKILL {
                    bail!("a process of the fuzzer died of {signal}, which is a fault of its own");
                }
                *place = None;
                return Ok(());
            }
            other => bail!("waiting for a process of the fuzzer: {other:?}"),
        }
        if alive.calls != calls {
            alive.calls = calls;
            alive.since = Instant::now();
        }
        if alive.since.elapsed().as_secs() > self.arguments.stuck {
            let latest = self
                .board
                .pulses
                .get(nth)
                .map_or(0, |pulse| look(&pulse.latest));
            let name = CALLS.get(latest as usize).map_or("?", |call| call.name);
            print_stacks(alive.pid);
            bail!(
                "process {} is stuck; its last call began as `{name}`",
                alive.pid
            );
        }
        Ok(())
    }

    fn speak(&self, since: Duration) {
        println!(
            "{} s: {} calls, {} places reached, {} tapes, {} processes",
            since.as_secs(),
            self.board.calls(),
            self.board.reached(),
            self.board.tapes(),
            self.born,
        );
    }

    /// Everybody ends, by himself or not.
    fn end(&mut self) -> Outcome {
        self.board.stop();
        let asked = Instant::now();
        let deadline = Duration::from_secs(self.arguments.stuck);
        while self.alive.iter().any(Option::is_some) {
            for nth in 0..self.alive.len() {
                if asked.elapsed() > Duration::from_secs(2) {
                    self.kill(nth);
                }
                self.look_after(nth)?;
            }
            if asked.elapsed() > deadline {
                self.alive
                    .iter()
                    .flatten()
                    .for_each(|one| print_stacks(one.pid));
                bail!("processes of the fuzzer do not end");
            }
            sleep(GLANCE);
        }
        Ok(())
    }
}

/// Where the threads of a process are, for whoever has to find out why.
fn print_stacks(pid: Pid) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        for file in ["wchan", "syscall", "stack"] {
            let text = std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
            eprintln!("{} {file}: {}", task.path().display(), text.trim());
        }
    }
}
