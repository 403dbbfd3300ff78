// SPDX-License-Identifier: GPL-2.0-only

//! Expectations: each is one line of output, and the last line of a suite is its sum.
//!
//! A suite goes on after a failed expectation, because the ones after it often say why.

use anyhow::{bail, Result};
use std::fmt::{Debug, Display};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the kernel gets for what it does by itself. Generous: the tests also run under emulation.
pub(crate) fn patience() -> Duration {
    slowly(Duration::from_secs(15))
}

/// A time on a stock kernel, on this one: tests/run.sh knows how much slower a debug kernel is.
pub(crate) fn slowly(time: Duration) -> Duration {
    let slowness = std::env::var("SLOWNESS").ok();
    time * slowness.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The expectations of one suite.
#[derive(Default)]
pub(crate) struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    /// Expects `got` to be `wanted`.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, what: impl Display, got: T, wanted: T) {
        let holds = got == wanted;
        self.note(what, holds, || format!("expected {wanted:?}, got {got:?}"));
    }

    /// Expects `holds`; `detail` is shown when it does not.
    pub(crate) fn that(&mut self, what: impl Display, holds: bool, detail: impl Display) {
        self.note(what, holds, || detail.to_string());
    }

    /// Expects `probe` to give `wanted` within [`patience`].
    pub(crate) fn becomes<T: PartialEq + Debug>(
        &mut self,
        what: impl Display,
        wanted: T,
        mut probe: impl FnMut() -> Result<T>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience();
        loop {
            let got = probe()?;
            if got == wanted || Instant::now() > deadline {
                self.equal(what, got, wanted);
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Expects a time within bounds.
    pub(crate) fn lasted(
        &mut self,
        what: impl Display,
        took: Duration,
        least: Duration,
        most: Duration,
    ) {
        let holds = took >= least && took <= most;
        self.note(what, holds, || {
            format!("took {took:?}, expected {least:?} to {most:?}")
        });
    }

    fn note(&mut self, what: impl Display, holds: bool, detail: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
            println!("  ok    {what}");
        } else {
            self.failed += 1;
            println!("  FAIL  {what}: {}", detail());
        }
    }

    /// The suite's verdict.
    pub(crate) fn verdict(self) -> Result<()> {
        if self.failed > 0 {
            bail!(
                "{} of {} expectations failed",
                self.failed,
                self.failed + self.passed
            );
        }
        Ok(())
    }
}
