// SPDX-License-Identifier: GPL-2.0-only

//! Signals upon signals while threads sleep in `mbuf_pull`, `mbuf_push` and `poll`: each call comes
//! back with `EINTR` or with what it was for, and no packet is lost on the way.

use super::{echo, Before, Taps};
use crate::chance::Chance;
use crate::figures::{Control, Sum};
use crate::fuzz::seed_of_the_moment;
use crate::sys::{add, catch_pokes, get, look, poke, set, thread_id};
use crate::Outcome;
use anyhow::{bail, ensure, Result};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use serde_json::json;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Arguments of `signals`.
#[derive(Args)]
pub(crate) struct Signals {
    #[command(flatten)]
    taps: Taps,
    /// Seconds to go on.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Default)]
struct Counts {
    came_back: AtomicU64,
    interrupted: AtomicU64,
    echoed: AtomicU64,
}

impl Counts {
    fn note(&self, result: Result<(), Errno>) -> Outcome {
        match result {
            Ok(()) => add(&self.came_back, 1),
            Err(Errno::EINTR) => add(&self.interrupted, 1),
            Err(errno) => bail!("a call came back with {errno}"),
        };
        Ok(())
    }
}

impl Signals {
    pub(super) fn run(self) -> Outcome {
        catch_pokes()?;
        let control = Control::open()?;
        let before = Before::now(&control)?;
        let (session, taps) = self.taps.open()?;
        println!("ready");
        let (counts, over) = (Counts::default(), AtomicBool::new(false));
        let threads = [AtomicU32::new(0), AtomicU32::new(0)];
        let mut chance = Chance::new(seed_of_the_moment());
        let signals = scope(|scope| -> Result<u64> {
            // One thread does the work, and sleeps in each call for as long as it takes.
            let worker = scope.spawn(|| -> Outcome {
                set(&threads[0], thread_id());
                while !over.load(Ordering::Relaxed) {
                    counts.note(session.pull(0, 0))?;
                    let count = echo(&taps)?;
                    add(&counts.echoed, count);
                    for tap in &taps {
                        counts.note(session.push(tap.number(), u32::MAX, 0))?;
                    }
                }
                Ok(())
            });
            // Another only waits.
            let watcher = scope.spawn(|| -> Outcome {
                set(&threads[1], thread_id());
                while !over.load(Ordering::Relaxed) {
                    let mut watched = [PollFd::new(session.as_fd(), PollFlags::POLLHUP)];
                    counts.note(poll(&mut watched, PollTimeout::NONE).map(drop))?;
                }
                Ok(())
            });
            let (begun, mut signals) = (Instant::now(), 0);
            while begun.elapsed().as_secs() < self.seconds {
                let one = threads.get(chance.below(2)).map_or(0, look);
                if one != 0 {
                    poke(one);
                    signals += 1;
                }
                let gap = chance.pick(&[0, 0, 20, 100, 500]).unwrap_or(0);
                chance.forget();
                sleep(Duration::from_micros(gap));
                if worker.is_finished() || watcher.is_finished() {
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
            while !(worker.is_finished() && watcher.is_finished()) {
                threads.iter().map(look).for_each(poke);
                sleep(Duration::from_millis(1));
            }
            for thread in [worker, watcher] {
                match thread.join() {
                    Ok(outcome) => outcome?,
                    Err(_) => bail!("a thread panicked"),
                }
            }
            Ok(signals)
        })?;
        drop(taps);
        drop(session);
        before.until_gone(&control)?;
        let mut sum = Sum::default();
        for tap in before.ended(&control)? {
            sum.add(&tap)?;
        }
        let summary = json!({
            "signals": signals,
            "interrupted": get(&counts.interrupted),
            "came_back": get(&counts.came_back),
            "echoed": get(&counts.echoed),
            "lost": sum.lost(),
            "taps": sum.json(),
        });
        println!("{summary}");
        ensure!(sum.lost() == 0, "packets were lost");
        ensure!(get(&counts.interrupted) > 0, "no call was interrupted");
        ensure!(get(&counts.echoed) > 0, "no packet came");
        Ok(())
    }
}
