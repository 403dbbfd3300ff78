// SPDX-License-Identifier: GPL-2.0-only

//! Programs that count under one shared lock and are killed at random moments.
//!
//! Each has a session of its own and counts in two places, its own word and the common one, which agree whenever
//! the lock is free and its last owner lived. Whoever takes the lock checks that; whoever is told of a death
//! mends it. A second owner at the same time would lose counts, and a death that nobody is told of would
//! leave the places apart.

use crate::checks::{slowly, Checks};
use crate::Outcome;
use anyhow::{bail, Context, Result};
use clap::Args;
use nettap::{LockGuard, Session, SharedLock};
use nix::errno::Errno;
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{fork, ForkResult, Pid};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Programs at a time.
const PROGRAMS: usize = 4;
/// How long a program keeps its owner's word before the other follows, in turns of an empty loop: most of the
/// time somebody has the lock, so that many of the killed do.
const TURNS: u32 = 2000;
/// Of so many killed programs some had the lock; of fewer, by chance, none.
const FEW: u32 = 50;
/// How often a program that is known to have the lock is killed.
const SURE_DEATHS: u32 = 20;

/// Arguments of `locks`.
#[derive(Args)]
pub(crate) struct Locks {
    /// Which lock.
    #[arg(long, default_value_t = 7)]
    number: u32,
    /// Programs killed at random moments.
    #[arg(long, default_value_t = 60)]
    kills: u32,
}

/// What a program says of itself in memory that its death leaves alone.
#[derive(Default)]
struct Account {
    /// Counts that it knows to be complete.
    done: AtomicU32,
    /// Deaths that it was told of.
    told: AtomicU32,
    /// Times that the two places differed, and nobody had died.
    faults: AtomicU32,
    /// It has the lock, and will not give it back.
    holding: AtomicU32,
}

/// Memory that parent and children share.
#[derive(Default)]
struct Board {
    stop: AtomicU32,
    programs: [Account; PROGRAMS],
}

impl Board {
    fn new() -> Result<&'static Self> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping wherever the kernel likes.
        let place = unsafe { libc::mmap(null_mut(), size_of::<Self>(), protection, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            bail!("mmap: {}", Errno::last());
        }
        // SAFETY: it is that long, aligned as pages are, never unmapped, and zeros are atomics.
        Ok(unsafe { &*place.cast::<Self>() })
    }

    fn sum(&self, what: impl Fn(&Account) -> &AtomicU32) -> u32 {
        self.programs
            .iter()
            .map(|program| what(program).load(Ordering::Relaxed))
            .sum()
    }
}

impl Locks {
    pub(crate) fn run(self) -> Outcome {
        let mut checks = Checks::default();
        let board = Board::new()?;
        let session = Session::open().context("the parent's session")?;
        let lock = session.shared_lock(self.number)?;
        self.sure_deaths(&mut checks, board, &lock)?;
        {
            let guard = lock.lock()?;
            guard
                .data()
                .iter()
                .for_each(|word| word.store(0, Ordering::Relaxed));
        }
        let mut killed = [0u32; PROGRAMS];
        let mut children = Vec::new();
        for program in 0..PROGRAMS {
            children.push(self.start(board, program)?);
        }
        let mut random = Random(u64::from(std::process::id()) | (1 << 40));
        let mut last = 0;
        for _ in 0..self.kills {
            // Not before somebody has counted since the last death.
            await_that("somebody counts", || board.sum(|p| &p.done) > last)?;
            sleep(Duration::from_micros(random.below(20_000)));
            last = board.sum(|p| &p.done);
            let victim = random.below(PROGRAMS as u64) as usize;
            end(children[victim], Signal::SIGKILL)?;
            killed[victim] += 1;
            children[victim] = self.start(board, victim)?;
        }
        board.stop.store(1, Ordering::Relaxed);
        for child in children {
            let status = waitpid(child, None)?;
            let well = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
            checks.that(
                "a program that was not killed ends well",
                well,
                format!("{status:?}"),
            );
        }
        self.judge(&mut checks, board, &lock, &killed)?;
        checks.verdict()
    }

    /// Programs that are killed with the lock in hand: it is free when their exit is over.
    fn sure_deaths(&self, checks: &mut Checks, board: &Board, lock: &SharedLock) -> Outcome {
        let holding = &board.programs[0].holding;
        let mut told = 0;
        for _ in 0..SURE_DEATHS {
            holding.store(0, Ordering::Relaxed);
            let number = self.number;
            let holder = in_child(|| {
                let session = Session::open()?;
                let lock = session.shared_lock(number)?;
                let _guard = lock.lock()?;
                holding.store(1, Ordering::Relaxed);
                loop {
                    sleep(Duration::from_secs(1));
                }
            })?;
            await_that("the holder has the lock", || {
                holding.load(Ordering::Relaxed) == 1
            })?;
            if lock.try_lock()?.is_some() {
                bail!("the lock is free, and a program has it");
            }
            end(holder, Signal::SIGKILL)?;
            // At once: no waiting and no trying again.
            match lock.try_lock()? {
                Some(guard) => told += u32::from(guard.owner_died()),
                None => bail!("the lock is not free after its owner's exit"),
            }
        }
        checks.equal(
            "deaths of owners that the next one was told of",
            told,
            SURE_DEATHS,
        );
        Ok(())
    }

    fn start(&self, board: &'static Board, program: usize) -> Result<Pid> {
        let number = self.number;
        in_child(move || {
            let session = Session::open()?;
            let lock = session.shared_lock(number)?;
            let account = &board.programs[program];
            while board.stop.load(Ordering::Relaxed) == 0 {
                let guard = lock.lock()?;
                if guard.owner_died() {
                    account.told.fetch_add(1, Ordering::Relaxed);
                    guard.data()[0].store(counted(&guard), Ordering::Relaxed);
                } else if guard.data()[0].load(Ordering::Relaxed) != counted(&guard) {
                    account.faults.fetch_add(1, Ordering::Relaxed);
                }
                for word in [&guard.data()[1 + program], &guard.data()[0]] {
                    let value = word.load(Ordering::Relaxed);
                    for _ in 0..TURNS {
                        std::hint::spin_loop();
                    }
                    word.store(value + 1, Ordering::Relaxed);
                }
                drop(guard);
                account.done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn judge(
        &self,
        checks: &mut Checks,
        board: &Board,
        lock: &SharedLock,
        killed: &[u32],
    ) -> Outcome {
        let guard = lock.lock()?;
        let told = board.sum(|p| &p.told) + u32::from(guard.owner_died());
        checks.that("the last owner lived", !guard.owner_died(), "it did not");
        checks.equal(
            "times that the counts differed, and nobody had died",
            board.sum(|p| &p.faults),
            0,
        );
        let total = guard.data()[0].load(Ordering::Relaxed);
        checks.equal("the common count is the sum of all", total, counted(&guard));
        for (program, killed) in killed.iter().enumerate() {
            let counted = guard.data()[1 + program].load(Ordering::Relaxed);
            let done = board.programs[program].done.load(Ordering::Relaxed);
            // Each death may have come between a count and the word that it was made.
            checks.that(
                format!("program {program} has counted what it says"),
                (done..=done + killed).contains(&counted),
                format!("{counted} counted, {done} said, {killed} deaths"),
            );
        }
        checks.that(
            "owners were among the killed",
            (told > 0 || self.kills < FEW) && told <= self.kills,
            format!("{told} of {}", self.kills),
        );
        println!(
            "counted {total}, killed {}, of them with the lock in hand {told}",
            self.kills
        );
        Ok(())
    }
}

/// What all programs have counted in their own words.
fn counted(guard: &LockGuard<'_>) -> u32 {
    let words = guard.data().iter().skip(1).take(PROGRAMS);
    words.map(|word| word.load(Ordering::Relaxed)).sum()
}

fn end(child: Pid, signal: Signal) -> Outcome {
    kill(child, signal)?;
    waitpid(child, None)?;
    Ok(())
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    // Generous: an emulated machine with other work to do.
    let deadline = Instant::now() + slowly(Duration::from_secs(30));
    while !holds() {
        if Instant::now() > deadline {
            bail!("waited in vain: {what}");
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn in_child(body: impl FnOnce() -> Outcome) -> Result<Pid> {
    // SAFETY: the process has one thread, and the child leaves by _exit.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let ended = body();
            if let Err(error) = &ended {
                eprintln!("ntdrive: {error:#}");
            }
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        ForkResult::Parent { child } => Ok(child),
    }
}

/// Numbers that no two runs have alike.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}
