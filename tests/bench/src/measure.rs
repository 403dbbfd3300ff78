// SPDX-License-Identifier: GPL-2.0-only

//! Running lines, and what they cost.
//!
//! The clock is read while a line's loop is running full, and stopped likewise, so what is under way at
//! the two readings is the same.

use crate::clock::Clock;
use crate::flow::Flow;
use crate::generate::BATCH;
use crate::lines::{self, Line};
use crate::result::{Record, Report};
use crate::{sys, world, write_json};
use anyhow::{bail, Context, Result};
use clap::Args;
use std::cell::Cell;
use std::path::PathBuf;

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
        let clock = Clock::detect()?;
        world::make()?;
        let mut report = Report {
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            unit: clock.unit,
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
        let mut flow = Flow::new(line)?;
        // Before anything is in flight, for whose return the kernel would rightly keep busy.
        clock.settle()?;
        flow.until(4 * line.spec.window.max(BATCH) as u64)?;
        let mut costs = Vec::new();
        for nth in 0..self.runs {
            flow.until(flow.seen + 2 * line.spec.window.max(BATCH) as u64)?;
            let (from, start) = (flow.seen, clock.now());
            let is_last = nth + 1 == self.runs;
            if is_last {
                sys::mark_begin();
                self.marks.set(self.marks.get() + 1);
            }
            flow.until(from + self.packets)?;
            if is_last {
                sys::mark_end();
            }
            let took = clock.now() - start;
            costs.push(took as f64 / (flow.seen - from) as f64);
        }
        let calls = flow.end().context("after the last packet")?;
        costs.sort_by(f64::total_cmp);
        let (Some(least), Some(median), Some(most)) =
            (costs.first(), costs.get(costs.len() / 2), costs.last())
        else {
            bail!("no run");
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
            packets: self.packets,
            cost: [*least, *median, *most],
            marginal: Some(median - below),
            floor,
            rival: line.path.rival.map(str::to_owned),
            library_calls: calls,
            mark,
            counts: None,
            best_peer: None,
        })
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
    println!("{:28} {spread:>18}{above}", record.line);
}
