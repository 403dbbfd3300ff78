// SPDX-License-Identifier: GPL-2.0-only

//! Running lines, and what they cost.
//!
//! The clock is read while a line's loop is running full, and stopped likewise, so what is under way at
//! the two readings is the same. With `--time` a line runs once more with the time in its packets.

use crate::clock::{self, Clock, Unit};
use crate::flow::{Flow, How};
use crate::generate::BATCH;
use crate::lines::{self, Line, Road};
use crate::result::{Latency, Record, Report, Times};
use crate::{latency, sys, table, world, write_json};
use anyhow::{bail, Context, Result};
use clap::Args;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The processors of generator and program, where there are several.
const GENERATOR: usize = 0;
const PROGRAM: usize = 1;
/// Of a run whose packets carry the time: before they do, and after.
const WARMING: Duration = Duration::from_millis(200);

/// Arguments of `measure`.
#[derive(Args)]
pub(crate) struct Measure {
    /// Paths, lines, or patterns with `*`; without any, all.
    lines: Vec<String>,
    /// Packets of each run.
    #[arg(long, default_value_t = 4096)]
    packets: u64,
    /// Runs of each line.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Measure time instead of instructions, and latencies, too: on a processor that is none of an emulator's.
    #[arg(long)]
    time: bool,
    /// With `--time`: seconds of each run.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Where the results go, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measurements that were marked for the plugin.
    #[arg(skip)]
    marks: Cell<u64>,
}

impl Measure {
    pub(crate) fn run(self) -> Result<()> {
        let lines = lines::select(&self.lines)?;
        let clock = if self.time {
            Clock::of_time()
        } else {
            Clock::of_instructions()?
        };
        let processors = std::thread::available_parallelism()?.get();
        let emulated = self.time && clock::is_emulated();
        if emulated {
            table::warn();
        }
        if self.time && processors > 1 {
            sys::stay_on(GENERATOR)?;
        }
        world::make()?;
        let mut report = Report {
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            unit: clock.unit,
            emulated,
            processors: self.time.then_some(processors),
            lines: Vec::new(),
        };
        let mut failed = 0;
        for line in &lines {
            let mark = self.marks.get() + 1;
            let record = match self.line(&clock, line, mark, &report) {
                Ok(record) => record,
                Err(error) => {
                    println!("{:28} FAILED: {error:#}", line.name());
                    failed += 1;
                    continue;
                }
            };
            print(&record);
            report.lines.push(record);
            // After each line, so that a later one that fails takes nothing along.
            if let Some(path) = &self.json {
                report.compare();
                write_json(path, &report)?;
            }
        }
        if failed > 0 {
            bail!("{failed} of {} lines failed", lines.len());
        }
        Ok(())
    }

    fn line(&self, clock: &Clock, line: &Line, mark: u64, report: &Report) -> Result<Record> {
        // A kernel that does everything in the generator's call has no use for a processor more.
        let is_apart = report.processors.is_some_and(|processors| processors > 1)
            && !line.is_floor()
            && line.path.road != Road::Own;
        let how = How {
            timed: false,
            processor: is_apart.then_some(PROGRAM),
        };
        let mut flow = Flow::new(line, how)?;
        // Before anything is in flight, for whose return the kernel would rightly keep busy.
        clock.settle()?;
        flow.until(4 * line.spec.window.max(BATCH) as u64)?;
        let (mut costs, mut packets) = (Vec::new(), self.packets);
        for nth in 0..self.runs {
            flow.until(flow.seen + 2 * line.spec.window.max(BATCH) as u64)?;
            let (from, start) = (flow.seen, clock.now());
            let is_last = nth + 1 == self.runs;
            if is_last {
                sys::mark_begin();
                self.marks.set(self.marks.get() + 1);
            }
            match clock.unit {
                Unit::Instructions => flow.until(from + self.packets)?,
                Unit::Nanoseconds => self.for_a_while(&mut flow)?,
            }
            if is_last {
                sys::mark_end();
            }
            let took = clock.now() - start;
            costs.push(took as f64 / (flow.seen - from) as f64);
            if self.time {
                packets = flow.seen - from;
            }
        }
        let calls = flow.end().context("after the last packet")?;
        costs.sort_by(f64::total_cmp);
        let (Some(least), Some(median), Some(most)) =
            (costs.first(), costs.get(costs.len() / 2), costs.last())
        else {
            bail!("no run");
        };
        let times = if self.time {
            let latencies = self.latencies(line, How { timed: true, ..how })?;
            let [seen, arrived] = latencies;
            Some(Times {
                packets_per_second: 1e9 / median,
                seen,
                arrived,
            })
        } else {
            None
        };
        let floor = line.floor().map(|floor| floor.name());
        let below = match &floor {
            Some(floor) => report
                .find(floor)
                .context("its floor was not measured")?
                .median(),
            None => 0.0,
        };
        Ok(Record {
            line: line.name(),
            path: line.path.name.to_owned(),
            size: line.spec.size,
            packets,
            cost: [*least, *median, *most],
            // Of two processors that work at once the slower one shows, and not what one does more.
            marginal: (!is_apart).then_some(median - below),
            floor,
            rival: line.path.rival.map(str::to_owned),
            library_calls: calls,
            mark,
            counts: None,
            best_peer: None,
            times,
        })
    }

    /// As many packets as the time of a run takes.
    fn for_a_while(&self, flow: &mut Flow) -> Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        while Instant::now() < end {
            flow.until(flow.seen + 4 * BATCH as u64)?;
        }
        Ok(())
    }

    /// A run with the time in each packet: how long they take to the program, and to the far end.
    fn latencies(&self, line: &Line, how: How) -> Result<[Option<Latency>; 2]> {
        if line.path.road == Road::Own {
            return Ok([None, None]);
        }
        let mut flow = Flow::new(line, how)?;
        flow.until_time(Instant::now() + WARMING, || latency::NO_TIME)?;
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        flow.until_time(end, latency::now)?;
        // Those that are under way arrive while somebody looks.
        flow.until_time(Instant::now() + WARMING, || latency::NO_TIME)?;
        let arrived = flow.arrivals();
        flow.end().context("after the last packet")?;
        Ok([latency::take(), arrived])
    }
}

/// A line of the table, as soon as it is known.
fn print(record: &Record) {
    let [least, median, most] = record.cost;
    let spread = format!("{least:.0}/{median:.0}/{most:.0}");
    let above = match (&record.floor, record.marginal) {
        (Some(floor), Some(marginal)) => format!("  {marginal:+.0} over {floor}"),
        _ => String::new(),
    };
    print!("{:28} {spread:>18}{above}", record.line);
    if let Some(times) = &record.times {
        let latency = |latency: &Option<Latency>| match latency {
            Some(latency) => table::percentiles(latency),
            None => "-".to_owned(),
        };
        let (seen, arrived) = (latency(&times.seen), latency(&times.arrived));
        print!(
            "  {:.0}/s  seen {seen}  arrived {arrived}",
            times.packets_per_second
        );
    }
    println!();
}
