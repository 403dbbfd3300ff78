// SPDX-License-Identifier: GPL-2.0-only

//! Storms: what happens to a program from outside, and what it does to its own descriptors. Each keeps
//! packets flowing meanwhile, holds the balance of every tap against it, and leaves nothing open.

mod exec;
mod forks;
mod kill;
mod pass;
mod signals;

use crate::abi::{tap_request, Session, Tap};
use crate::figures::Control;
use crate::scribble::Place;
use crate::Outcome;
use anyhow::{bail, Context, Result};
use clap::{Args, Subcommand};
use nettap_uapi::ring::Entry;
use nettap_uapi::stats::TapStats;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the kernel gets for what it does by itself. Generous: also a debug kernel in emulation runs them.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Subcommand)]
pub(crate) enum Storm {
    /// Start a program and kill it, over and over.
    Kill(kill::Kill),
    /// Signals upon signals while a program sleeps in its calls.
    Signals(signals::Signals),
    /// Hand a session from process to process; each dies when it has passed it on.
    Pass(pass::Pass),
    /// Execute another program with descriptors open, and without.
    Exec(exec::Exec),
    /// A bounded number of forks that all share one session.
    Forks(forks::Forks),
}

impl Storm {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::Kill(storm) => storm.run(),
            Self::Signals(storm) => storm.run(),
            Self::Pass(storm) => storm.run(),
            Self::Exec(storm) => storm.run(),
            Self::Forks(storm) => storm.run(),
        }
    }
}

/// The taps of a storm.
#[derive(Args, Clone)]
struct Taps {
    /// A tap to open, as INTERFACE:MODE; may be given several times.
    #[arg(long = "tap", required = true)]
    places: Vec<Place>,
}

impl Taps {
    /// Opens a session and the taps.
    fn open(&self) -> Result<(Session, Vec<Tap>)> {
        let session = Session::open(16)?;
        let taps = self.places.iter().map(|place| {
            let asked = tap_request(&place.ifname, place.mode);
            session.tap(asked)
        });
        let taps = taps.collect::<Result<_>>()?;
        Ok((session, taps))
    }
}

/// Sends on what is there now; how many packets that was.
fn echo(taps: &[Tap]) -> Result<u64> {
    let mut batch = [Entry::default(); 32];
    let mut all = 0;
    for tap in taps {
        let came = tap.detour.take(&mut batch)?;
        for &entry in batch.iter().take(came) {
            if !tap.revert.put(entry)? {
                bail!("a revert ring as long as its detour ring is full");
            }
        }
        all += came as u64;
    }
    Ok(all)
}

/// The same for a while, asking the kernel to serve.
fn echo_for(session: &Session, taps: &[Tap], time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut all = 0;
    while Instant::now() < end {
        all += echo(taps)?;
        for tap in taps {
            session.push(tap.number(), 0, 0).context("mbuf_push")?;
        }
        let _ = session.pull(0, 2000);
    }
    Ok(all)
}

/// Ids of taps and sessions above which all are new.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    tap: u32,
    session: u32,
}

impl Before {
    /// As it is now.
    pub(crate) fn now(control: &Control) -> Result<Self> {
        let open = control.taps()?.iter().map(|tap| tap.id).max();
        let ended = control.ended(0)?.iter().map(|tap| tap.id).max();
        let sessions = control.sessions()?;
        Ok(Self {
            tap: open.max(ended).unwrap_or(0),
            session: sessions.iter().map(|one| one.id).max().unwrap_or(0),
        })
    }

    /// Taps that have been opened since and are open.
    pub(crate) fn taps(self, control: &Control) -> Result<Vec<TapStats>> {
        let mut taps = control.taps()?;
        taps.retain(|tap| tap.id > self.tap);
        Ok(taps)
    }

    /// Sessions that have been opened since and are open.
    fn sessions(self, control: &Control) -> Result<usize> {
        let sessions = control.sessions()?;
        Ok(sessions.iter().filter(|one| one.id > self.session).count())
    }

    /// Taps that have been opened since and have ended.
    pub(crate) fn ended(self, control: &Control) -> Result<Vec<TapStats>> {
        control.ended(self.tap + 1)
    }

    /// Waits until nothing that has been opened since is left.
    pub(crate) fn until_gone(self, control: &Control) -> Outcome {
        until("sessions and taps are gone", || {
            Ok(self.taps(control)?.is_empty() && self.sessions(control)? == 0)
        })
    }
}

/// Waits for something.
fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while !so()? {
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} in vain until {what}");
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}
