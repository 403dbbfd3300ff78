// SPDX-License-Identifier: GPL-2.0-only

//! Signals as flags that a loop looks at.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// What signals have asked for.
#[derive(Default)]
pub(crate) struct Signals {
    stop: Arc<AtomicBool>,
    release: Arc<AtomicBool>,
    turn: Arc<AtomicBool>,
}

impl Signals {
    /// Catches `SIGTERM` and `SIGINT` (stop), `SIGUSR1` (release), `SIGUSR2` (turn).
    pub(crate) fn catch() -> Result<Self> {
        let signals = Self::default();
        for number in [SIGTERM, SIGINT] {
            signal_hook::flag::register(number, Arc::clone(&signals.stop)).context("sigaction")?;
        }
        for (number, flag) in [(SIGUSR1, &signals.release), (SIGUSR2, &signals.turn)] {
            signal_hook::flag::register(number, Arc::clone(flag)).context("sigaction")?;
        }
        Ok(signals)
    }

    /// Whether the program is to end.
    pub(crate) fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether held packets are to be released; true once for each signal.
    pub(crate) fn release(&self) -> bool {
        self.release.swap(false, Ordering::Relaxed)
    }

    /// Whether the session is to be busy if it is not, and the other way round; true once for each signal.
    pub(crate) fn turn(&self) -> bool {
        self.turn.swap(false, Ordering::Relaxed)
    }
}
