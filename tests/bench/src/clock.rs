// SPDX-License-Identifier: GPL-2.0-only

//! What time is made of here: instructions, where the emulator counts them; or nanoseconds, where that is asked for.
//!
//! With `-icount shift=0` the guest's time stamp counter advances by one for each instruction that its
//! only processor executes, in user space, kernel and interrupts alike. Nobody has to be believed: a
//! loop of a known number of instructions shows it.

use crate::sys;
use anyhow::{bail, Result};
use std::time::Instant;

/// What a difference of two readings is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// Instructions of the guest.
    Instructions,
    /// Nanoseconds, of a processor that KVM lends; those of an emulator measure nothing.
    Nanoseconds,
}

/// A clock of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) unit: Unit,
    origin: Instant,
}

/// Turns of the loop that is known, each of two instructions: in which hardly anybody interrupts, and
/// in which whoever else wants the processor gets it.
const SHORT: u64 = 20_000;
const TURNS: u64 = 1_000_000;

impl Clock {
    /// The one that shows the time.
    pub(crate) fn of_time() -> Self {
        Self {
            unit: Unit::Nanoseconds,
            origin: Instant::now(),
        }
    }

    /// The one that counts instructions, if it does.
    pub(crate) fn of_instructions() -> Result<Self> {
        let origin = Instant::now();
        // Whoever interrupts only adds, so the least of many attempts is nearest to the truth.
        let least = (0..50).map(|_| spin(SHORT)).min().unwrap_or(u64::MAX);
        if least.abs_diff(2 * SHORT) >= SHORT / 50 {
            bail!("the clock counts no instructions ({least} ticks for {} of them): see run.sh --icount, or --time", 2 * SHORT);
        }
        let unit = Unit::Instructions;
        Ok(Self { unit, origin })
    }

    /// A reading.
    pub(crate) fn now(&self) -> u64 {
        match self.unit {
            Unit::Instructions => sys::time_stamp(),
            Unit::Nanoseconds => self.origin.elapsed().as_nanos() as u64,
        }
    }

    /// Waits until nobody else wants the processor: the kernel's self tests of the first seconds are
    /// over, and what a line before left to be done is done.
    pub(crate) fn settle(&self) -> Result<()> {
        const ATTEMPTS: u32 = 400;
        let mut quiet = 0;
        for _ in 0..ATTEMPTS {
            let took = spin(TURNS);
            // One turn of the timer's interrupt is allowed.
            let calm = match self.unit {
                Unit::Instructions => took < 2 * TURNS + 20_000,
                Unit::Nanoseconds => true,
            };
            quiet = if calm { quiet + 1 } else { 0 };
            if quiet == 5 {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bail!("something else keeps the processor busy");
    }
}

fn spin(turns: u64) -> u64 {
    let start = sys::time_stamp();
    sys::spin(turns);
    sys::time_stamp() - start
}

/// Whether there is no KVM below: its clock is one of the kernel's sources of time.
pub(crate) fn is_emulated() -> bool {
    std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/available_clocksource")
        .map_or(true, |sources| !sources.contains("kvm-clock"))
}
