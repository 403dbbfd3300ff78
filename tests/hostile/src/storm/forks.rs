// SPDX-License-Identifier: GPL-2.0-only

//! Forks of forks that all have a session's descriptors: they call, fork again, close, end or are
//! killed, while the first process does its work. The session ends with the last of them.

use super::{echo, until, Before, Taps};
use crate::abi::{Session, Tap};
use crate::chance::Chance;
use crate::figures::{Control, Sum};
use crate::fuzz::seed_of_the_moment;
use crate::Outcome;
use anyhow::{ensure, Context, Result};
use clap::Args;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{raise, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::{fork, ForkResult, Pid};
use serde_json::json;
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

/// Processes that the first one has at once.
const AT_ONCE: usize = 24;
/// Generations below the first.
const DEPTH: u32 = 3;

/// Arguments of `forks`.
#[derive(Args)]
pub(crate) struct Forks {
    #[command(flatten)]
    taps: Taps,
    /// Processes that the first one makes in all; these make up to three more each.
    #[arg(long, default_value_t = 100)]
    processes: u32,
    /// The seed of all decisions; one from the clock otherwise.
    #[arg(long)]
    seed: Option<u64>,
}

impl Forks {
    pub(super) fn run(self) -> Outcome {
        let seed = self.seed.unwrap_or_else(seed_of_the_moment);
        println!("seed {seed}");
        let control = Control::open()?;
        let before = Before::now(&control)?;
        let mut chance = Chance::new(seed);
        // Those whose parents have ended become ours, so that we know when the last one has.
        set_child_subreaper(true)?;
        let (session, taps) = self.taps.open()?;
        println!("ready");
        let (mut born, mut alive, mut echoed) = (0, BTreeSet::new(), 0);
        while born < self.processes || !alive.is_empty() {
            echoed += echo(&taps)?;
            for tap in &taps {
                session.push(tap.number(), 0, 0).context("mbuf_push")?;
            }
            if born < self.processes && alive.len() < AT_ONCE {
                let seed = u64::from(chance.draw());
                alive.insert(bear(|| child(&session, &taps, Chance::new(seed), DEPTH))?);
                born += 1;
            }
            while let Some(ended) = reap() {
                alive.remove(&ended);
            }
            let _ = session.pull(0, 500);
        }
        // The last one outlives us in the session's eyes.
        let last = bear(|| sleep(Duration::from_millis(500)))?;
        drop(taps);
        drop(session);
        let open = before.taps(&control)?.len();
        ensure!(
            open == self.taps.places.len(),
            "{open} taps are open, held by a child"
        );
        waitpid(last, None)?;
        // And whoever is younger than his parents.
        while waitpid(None, None).is_ok() {}
        let (open, sessions) = (before.taps(&control)?.len(), before.sessions(&control)?);
        ensure!(
            open == 0 && sessions == 0,
            "{sessions} sessions and {open} taps are left"
        );
        until("all figures are there", || {
            Ok(before.ended(&control)?.len() == self.taps.places.len())
        })?;
        let mut sum = Sum::default();
        for tap in before.ended(&control)? {
            ensure!(
                tap.pid == std::process::id(),
                "an ended tap is said to be of process {}",
                tap.pid
            );
            sum.add(&tap)?;
        }
        let summary = json!({
            "seed": seed,
            "processes": born,
            "echoed": echoed,
            "lost": sum.lost(),
            "taps": sum.json(),
        });
        println!("{summary}");
        ensure!(sum.lost() == 0, "packets were lost");
        Ok(())
    }
}

/// One that has ended.
fn reap() -> Option<Pid> {
    waitpid(None, Some(WaitPidFlag::WNOHANG)).ok()?.pid()
}

/// Forks; the child does something and is gone.
fn bear(deed: impl FnOnce()) -> Result<Pid> {
    // SAFETY: this process has one thread, so the child may do what it likes.
    match unsafe { fork() }? {
        ForkResult::Child => {
            deed();
            let _ = crate::sys::syscall(libc::SYS_exit_group, &[0]);
            std::process::abort()
        }
        ForkResult::Parent { child } => Ok(child),
    }
}

/// What a child does: it has the descriptors, and no memory of the session.
fn child(session: &Session, taps: &[Tap], mut chance: Chance, depth: u32) {
    let tap = taps.first().map_or(-1, Tap::number);
    for _ in 0..chance.below(20) {
        let n = chance.draw() % 8;
        let _ = match chance.below(4) {
            0 => session.pull(0, 2000),
            1 => session.pull(n, 500),
            2 => session.push(-1, 0, 0),
            _ => session.push(tap, n, 500),
        };
    }
    for _ in 0..chance.below(3) * usize::from(depth > 0) {
        let seed = u64::from(chance.draw());
        let born = bear(|| child(session, taps, Chance::new(seed), depth - 1));
        if chance.one_in(2) {
            if let Ok(born) = born {
                let _ = waitpid(born, None);
            }
        }
    }
    if chance.one_in(3) {
        let _ = raise(Signal::SIGKILL);
    }
}
