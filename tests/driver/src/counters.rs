// SPDX-License-Identifier: GPL-2.0-only

//! The module's counters, for scripts: read, held against a number, awaited, in one process.
//!
//! Starting a program is the dearest thing that a script does in emulation. So a script that waits
//! for a counter does not start `tapctl` and `jq` over and over: it starts `counts` once. Fields are
//! named as in `tapctl --json tap stats`; a group's name alone, such as `dropped`, is its sum.

use crate::raw;
use crate::Outcome;
use anyhow::{bail, ensure, Context, Result};
use clap::{Args, ValueEnum};
use nettap::{admin, Mode, RegionStats, SessionStats, TapStats};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time between two looks.
const GLANCE: Duration = Duration::from_millis(5);

/// Which taps.
#[derive(Args)]
struct Which {
    /// Interface.
    dev: String,
    /// Mode.
    mode: String,
}

impl Which {
    fn taps(&self, of: Of) -> Result<Vec<TapStats>> {
        let mut taps = match of {
            Of::Ended => raw::ended_taps()?,
            _ => admin::taps()?,
        };
        taps.retain(|tap| self.is_meant(tap));
        ensure!(!taps.is_empty(), "no tap on {} for {}", self.dev, self.mode);
        Ok(taps)
    }

    fn is_meant(&self, tap: &TapStats) -> bool {
        tap.ifname.split(|byte| *byte == 0).next() == Some(self.dev.as_bytes())
            && Mode::from_raw(tap.mode).map(Mode::name) == Some(self.mode.as_str())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Of {
    /// The first tap.
    First,
    /// The sum over all taps of the fan-out.
    All,
    /// How many taps of the fan-out have some.
    Sharers,
    /// The sum over those that have ended, in whichever namespace, as far as the kernel still knows them.
    Ended,
}

impl Of {
    fn value(self, taps: &[TapStats], name: &str) -> Result<u64> {
        let values = taps
            .iter()
            .map(|tap| field(tap, name).with_context(|| format!("no counter is called {name}")))
            .collect::<Result<Vec<u64>>>()?;
        Ok(match self {
            Self::First => values.first().copied().unwrap_or(0),
            Self::All | Self::Ended => values.iter().sum(),
            Self::Sharers => values.iter().filter(|value| **value > 0).count() as u64,
        })
    }
}

/// Arguments of `count`.
#[derive(Args)]
pub(crate) struct Count {
    #[command(flatten)]
    which: Which,
    /// Counter.
    field: String,
    /// Of which of the taps.
    #[arg(long, default_value = "first")]
    of: Of,
}

impl Count {
    pub(crate) fn run(self) -> Outcome {
        println!(
            "{}",
            self.of.value(&self.which.taps(self.of)?, &self.field)?
        );
        Ok(())
    }
}

/// Arguments of `counts`.
#[derive(Args)]
pub(crate) struct Counts {
    /// Seconds to wait until all is so.
    #[arg(long, default_value_t = 0.0)]
    within: f64,
    /// Of which of the taps.
    #[arg(long, default_value = "first")]
    of: Of,
    #[command(flatten)]
    which: Which,
    /// COUNTER OPERATOR NUMBER, as often as wanted; the operators are those of test(1).
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    wanted: Vec<String>,
}

impl Counts {
    pub(crate) fn run(self) -> Outcome {
        let wanted = self
            .wanted
            .chunks(3)
            .map(Wanted::of)
            .collect::<Result<Vec<Wanted<'_>>>>()?;
        until(self.within, || {
            let taps = self.which.taps(self.of)?;
            for one in &wanted {
                let value = self.of.value(&taps, one.field)?;
                if !one.operator.holds(value, one.number) {
                    bail!(
                        "{} {} {} is {value}, expected {} {}",
                        self.which.dev,
                        self.which.mode,
                        one.field,
                        one.operator.0,
                        one.number
                    );
                }
            }
            Ok(())
        })
    }
}

struct Wanted<'a> {
    field: &'a str,
    operator: Operator<'a>,
    number: u64,
}

impl<'a> Wanted<'a> {
    fn of(words: &'a [String]) -> Result<Self> {
        let [field, operator, number] = words else {
            bail!("write COUNTER OPERATOR NUMBER, not {}", words.join(" "));
        };
        ensure!(
            field_names(field),
            "no counter is called {field}: see `tapctl --json tap stats`"
        );
        Ok(Self {
            field,
            operator: Operator::of(operator)?,
            number: number
                .parse()
                .with_context(|| format!("{number} is no number"))?,
        })
    }
}

fn field_names(name: &str) -> bool {
    field(&TapStats::default(), name).is_some()
}

#[derive(Clone, Copy)]
struct Operator<'a>(&'a str);

impl<'a> Operator<'a> {
    fn of(word: &'a str) -> Result<Self> {
        ensure!(
            ["-eq", "-ne", "-gt", "-ge", "-lt", "-le"].contains(&word),
            "{word} is no operator"
        );
        Ok(Self(word))
    }

    fn holds(self, value: u64, number: u64) -> bool {
        match self.0 {
            "-eq" => value == number,
            "-ne" => value != number,
            "-gt" => value > number,
            "-ge" => value >= number,
            "-lt" => value < number,
            _ => value <= number,
        }
    }
}

/// Arguments of `region`.
#[derive(Args)]
pub(crate) struct Region {
    /// Field of the default group's region.
    field: RegionField,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RegionField {
    Mbufs,
    #[value(name = "mbuf_size")]
    MbufSize,
    Sessions,
    Taps,
    #[value(name = "held.free")]
    Free,
    #[value(name = "held.detoured")]
    Detoured,
    #[value(name = "held.kernel")]
    Kernel,
}

impl Region {
    pub(crate) fn run(self) -> Outcome {
        let region = admin::region()?;
        let value = match self.field {
            // Before it is made, what it is going to have.
            RegionField::Mbufs if region.mbufs == 0 => admin::info()?.mbufs,
            RegionField::MbufSize if region.mbufs == 0 => admin::info()?.mbuf_size,
            RegionField::Mbufs => region.mbufs,
            RegionField::MbufSize => region.mbuf_size,
            RegionField::Sessions => region.sessions,
            RegionField::Taps => region.taps,
            RegionField::Free => region.free,
            RegionField::Detoured => region.detoured,
            RegionField::Kernel => region.kernel,
        };
        println!("{value}");
        Ok(())
    }
}

/// Arguments of `session`.
#[derive(Args)]
pub(crate) struct Session {
    /// Field of the first session that has mapped.
    field: SessionField,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SessionField {
    Calls,
    Rounds,
    Thread,
}

impl Session {
    pub(crate) fn run(self) -> Outcome {
        let first = |one: &SessionStats| one.mapped != 0;
        let session = admin::sessions()?.into_iter().find(first);
        let session = session.context("no session has mapped")?;
        let value = match self.field {
            SessionField::Calls => session.calls,
            SessionField::Rounds => session.rounds,
            SessionField::Thread => session.thread.into(),
        };
        println!("{value}");
        Ok(())
    }
}

/// Arguments of `open-taps`.
#[derive(Args)]
pub(crate) struct OpenTaps {
    /// How many are to be open.
    number: usize,
}

impl OpenTaps {
    pub(crate) fn run(self) -> Outcome {
        let taps = admin::taps()?.len();
        ensure!(
            taps == self.number,
            "{taps} taps are open, not {}",
            self.number
        );
        Ok(())
    }
}

/// Arguments of `idle`.
#[derive(Args)]
pub(crate) struct Idle {
    /// Seconds to wait until all is so.
    #[arg(long, default_value_t = 0.0)]
    within: f64,
}

impl Idle {
    /// No session but those that ask, no tap, no named group, and every mbuf free; and of the taps that have ended, as far
    /// as the kernel still knows them, each packet is in exactly one counter.
    pub(crate) fn run(self) -> Outcome {
        until(self.within, || {
            let regions = admin::regions()?;
            let rest = |region: &RegionStats| {
                let made = region.mbufs > 0;
                region.sessions == 0 && region.taps == 0 && (!made || region.free == region.mbufs)
            };
            ensure!(
                matches!(regions.as_slice(), [default] if rest(default)),
                "left over: {regions:?}"
            );
            Ok(())
        })?;
        let ended = raw::ended_taps()?;
        let open = ended
            .iter()
            .find(|tap| !tap.balances() || tap.in_flight != 0);
        ensure!(
            open.is_none(),
            "the balance of a tap that has ended does not close: {open:?}"
        );
        Ok(())
    }
}

/// Looks until it is so, at least once, and for so many seconds.
fn until(seconds: f64, mut probe: impl FnMut() -> Outcome) -> Outcome {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    loop {
        match probe() {
            Err(_) if Instant::now() < end => sleep(GLANCE),
            outcome => return outcome,
        }
    }
}

/// A counter by its name in `tapctl --json tap stats`, or the sum of a group of them.
fn field(tap: &TapStats, name: &str) -> Option<u64> {
    Some(match name {
        "id" => tap.id.into(),
        "netns" => tap.netns.into(),
        "detoured.packets" => tap.detoured,
        "detoured.gso" => tap.detoured_gso,
        "detoured.in_flight" => tap.in_flight,
        "detoured.held_bytes" => tap.held_bytes,
        "ended.reverted" => tap.reverted,
        "ended.changed" => tap.changed,
        "ended.crossed" => tap.crossed,
        "ended.dropped_by_program" => tap.dropped_by_program,
        "ended.reinjected" => tap.reinjected,
        "ended.dropped_by_policy" => tap.dropped_by_policy,
        "ended.handed_over" => tap.handed_over,
        "ended.refused_shape" => tap.refused_shape,
        "ended.refused_offload" => tap.refused_offload,
        "ended.refused_change" => tap.refused_change,
        "ended.refused_memory" => tap.refused_memory,
        "passed.ring" => tap.passed_ring,
        "passed.mbufs" => tap.passed_mbufs,
        "passed.bytes" => tap.passed_bytes,
        "passed.other" => tap.passed_other,
        "passed.filter" => tap.passed_filter,
        "passed" => {
            tap.passed_ring
                + tap.passed_mbufs
                + tap.passed_bytes
                + tap.passed_other
                + tap.passed_stalled
                + tap.passed_filter
        }
        "dropped.ring" => tap.dropped_ring,
        "dropped.mbufs" => tap.dropped_mbufs,
        "dropped.bytes" => tap.dropped_bytes,
        "dropped.other" => tap.dropped_other,
        "dropped.cut_off" => tap.cut_off,
        "dropped" => {
            tap.dropped_ring
                + tap.dropped_mbufs
                + tap.dropped_bytes
                + tap.dropped_other
                + tap.cut_off
        }
        "refused" => refused(tap),
        "watchdog.fail_opens" => tap.fail_opens,
        "watchdog.aged" => tap.aged,
        "watchdog.failed_open" => (tap.failed_open != 0).into(),
        "extra.crossed_in" => tap.crossed_in,
        "extra.injected" => tap.injected,
        "extra.undelivered" => tap.undelivered,
        _ => return None,
    })
}

fn refused(tap: &TapStats) -> u64 {
    let refused = &tap.refused;
    refused.index
        + refused.holder
        + refused.generation
        + refused.flags
        + refused.scribbled
        + tap.scribbled_detour
}
