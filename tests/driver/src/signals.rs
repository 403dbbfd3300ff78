// SPDX-License-Identifier: GPL-2.0-only

//! Signals as flags that a loop looks at.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// What signals have asked for.
#[derive(Default)]
pub(crate) struct Signals {
    stop: Arc<AtomicBool>,
    release: Arc<AtomicBool>,
}

impl Signals {
    /// Catches `SIGTERM` and `SIGINT` (stop), `SIGUSR1` (release).
    pub(crate) fn catch() -> Result<Self> {
        let signals = Self::default();
        for number in [SIGTERM, SIGINT] {
            signal_hook::flag::register(number, Arc::clone(&signals.stop)).context("sigaction")?;
        }
        signal_hook::flag::register(SIGUSR1, Arc::clone(&signals.release)).context("sigaction")?;
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
}
