// SPDX-License-Identifier: GPL-2.0-only

//! `kill -9` at any moment: while a program starts, while it works, while it is stopped. When it has
//! been waited for, its taps and its session are gone, and what its taps had is accounted for.

use super::{until, Before};
use crate::chance::Chance;
use crate::figures::{Control, Sum};
use crate::fuzz::seed_of_the_moment;
use crate::Outcome;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Arguments of `kill`.
#[derive(Args)]
pub(crate) struct Kill {
    /// How often.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Begin no more after so many seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Taps that the program has open when it is ready.
    #[arg(long, default_value_t = 2)]
    taps: usize,
    /// Longest time in milliseconds that it lives when it is ready.
    #[arg(long, default_value_t = 200)]
    moment: u64,
    /// The seed of all decisions; one from the clock otherwise.
    #[arg(long)]
    seed: Option<u64>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// What was done so far.
#[derive(Default)]
struct Deeds {
    kills: u64,
    early: u64,
    stops: u64,
    sum: Sum,
}

impl Kill {
    pub(super) fn run(self) -> Outcome {
        let seed = self.seed.unwrap_or_else(seed_of_the_moment);
        println!("seed {seed}");
        let mut chance = Chance::new(seed);
        let control = Control::open()?;
        let mut deeds = Deeds::default();
        let begun = Instant::now();
        while deeds.kills < self.kills && begun.elapsed().as_secs() < self.seconds {
            let before = Before::now(&control)?;
            self.once(&mut chance, &control, before, &mut deeds)
                .with_context(|| format!("kill {}", deeds.kills))?;
            chance.forget();
            if deeds.kills % 50 == 0 {
                println!("{} kills, {} s", deeds.kills, begun.elapsed().as_secs());
            }
        }
        let summary = json!({
            "seed": seed,
            "seconds": begun.elapsed().as_secs(),
            "kills": deeds.kills,
            "while_starting": deeds.early,
            "while_stopped": deeds.stops,
            "lost": deeds.sum.lost(),
            "taps": deeds.sum.json(),
        });
        println!("{summary}");
        ensure!(deeds.sum.lost() == 0, "packets were lost");
        ensure!(deeds.sum.taps() > 0, "no tap was ever open");
        Ok(())
    }

    fn once(
        &self,
        chance: &mut Chance,
        control: &Control,
        before: Before,
        deeds: &mut Deeds,
    ) -> Outcome {
        let mut child = self.start()?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let mut millis = |most: u64| Duration::from_millis(u64::from(chance.draw()) % (most + 1));
        let (starting, working, stopped) = (millis(60), millis(self.moment), millis(50));
        if chance.one_in(8) {
            deeds.early += 1;
            sleep(starting);
        } else {
            until("the program has opened its taps", || {
                if let Some(status) = child.try_wait()? {
                    bail!("the program ended by itself: {status}");
                }
                Ok(before.taps(control)?.len() >= self.taps)
            })?;
            sleep(working);
        }
        if chance.one_in(4) {
            kill(pid, Signal::SIGSTOP)?;
            sleep(stopped);
            deeds.stops += 1;
            if chance.one_in(2) {
                kill(pid, Signal::SIGCONT)?;
                sleep(stopped);
            }
        }
        child.kill().context("kill")?;
        let status = child.wait()?;
        ensure!(
            status.signal() == Some(libc::SIGKILL),
            "the program ended by itself: {status}"
        );
        deeds.kills += 1;
        // No waiting here: the kernel has done its work when the process is reaped.
        let left = before.taps(control)?;
        ensure!(left.is_empty(), "taps outlived their program: {left:?}");
        let sessions = before.sessions(control)?;
        ensure!(sessions == 0, "{sessions} sessions outlived their program");
        for tap in before.ended(control)? {
            deeds.sum.add(&tap)?;
        }
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let (program, arguments) = self.program.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().with_context(|| program.clone())
    }
}
