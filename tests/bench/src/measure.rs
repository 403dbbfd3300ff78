// SPDX-License-Identifier: GPL-2.0-only

//! Running lines: the one loop that all of them share.
//!
//! A closed loop on one processor: the generator sends batches as long as fewer packets than the line
//! says are in flight, which means sent and not yet seen by the program; then the program has a turn.
//! The clock is read while the loop is running full, and stopped likewise, so what is under way at the
//! two readings is the same. At the end no packet more is sent, and every one must have arrived.

use crate::clock::Clock;
use crate::generate::{Generator, BATCH};
use crate::lines::{self, Line, Road};
use crate::peers::Peer;
use crate::result::{Record, Report};
use crate::{sys, world, write_json};
use anyhow::{bail, Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments of `measure`.
#[derive(Args)]
pub(crate) struct Measure {
    /// Paths, lines, or patterns with `*`; without any, all.
    lines: Vec<String>,
    /// Packets of each run.
    #[arg(long, default_value_t = 8192)]
    packets: u64,
    /// Runs of each line.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the results go, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
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
        for line in &lines {
            let mark = report.lines.len() as u64 + 1;
            let record = self.line(&clock, line, mark, &report);
            let record = record.with_context(|| line.name())?;
            print(&record);
            report.lines.push(record);
            // After each line, so that a later one that fails takes nothing along.
            if let Some(path) = &self.json {
                report.compare();
                write_json(path, &report)?;
            }
        }
        Ok(())
    }

    fn line(&self, clock: &Clock, line: &Line, mark: u64, report: &Report) -> Result<Record> {
        let mut flow = Flow::new(line)?;
        flow.until(4 * line.spec.window.max(BATCH) as u64)?;
        clock.settle()?;
        let mut costs = Vec::new();
        for nth in 0..self.runs {
            // The pause for settling let the loop run empty of what the kernel had to do.
            flow.until(flow.seen + 2 * line.spec.window.max(BATCH) as u64)?;
            let (from, start) = (flow.seen, clock.now());
            let is_last = nth + 1 == self.runs;
            if is_last {
                sys::mark_begin();
            }
            flow.until(from + self.packets)?;
            if is_last {
                sys::mark_end();
            }
            let took = clock.now() - start;
            costs.push(took as f64 / (flow.seen - from) as f64);
        }
        let calls = flow.peer.calls();
        flow.end().context("after the last packet")?;
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

/// A line at work.
struct Flow {
    generator: Option<Generator>,
    peer: Box<dyn Peer>,
    road: Road,
    window: u64,
    batch: usize,
    sent: u64,
    seen: u64,
    /// What the far end had counted before.
    before: u64,
}

impl Flow {
    fn new(line: &Line) -> Result<Self> {
        let road = line.path.road;
        let mut flow = Self {
            generator: Generator::new(road, line.spec.size)?,
            peer: (line.path.make)(&line.spec)?,
            road,
            window: line.spec.window as u64,
            batch: line.spec.window.min(BATCH),
            sent: 0,
            seen: 0,
            before: 0,
        };
        if matches!(road, Road::Stack | Road::Around) {
            // The first few fill the socket, and are no arrivals.
            flow.until(64)?;
            flow.drain()?;
        }
        flow.before = flow.counted()?;
        (flow.sent, flow.seen) = (0, 0);
        Ok(flow)
    }

    /// Until the program has seen so many packets.
    fn until(&mut self, goal: u64) -> Result<()> {
        let began = Instant::now();
        let mut idle = 0u32;
        while self.seen < goal {
            if let Some(generator) = &mut self.generator {
                while self.sent - self.seen + self.batch as u64 <= self.window {
                    generator.send(self.batch)?;
                    self.sent += self.batch as u64;
                }
            }
            let n = self.turn()?;
            idle = if n == 0 { idle.wrapping_add(1) } else { 0 };
            if idle > 1_000_000 {
                bail!(
                    "{} packets sent, {} seen, and no more in {} ms",
                    self.sent,
                    self.seen,
                    began.elapsed().as_millis()
                );
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<usize> {
        let outstanding = usize::try_from(self.sent - self.seen)?;
        let n = self.peer.turn(outstanding)?;
        self.seen += n as u64;
        if self.generator.is_none() {
            self.sent = self.seen;
        }
        Ok(n)
    }

    /// Sends nothing more, and lets the program see what is under way.
    fn drain(&mut self) -> Result<()> {
        let goal = self.sent;
        while self.seen < goal {
            self.turn()?;
        }
        self.peer.finish()
    }

    /// Lets everything arrive, and counts.
    fn end(mut self) -> Result<()> {
        self.drain()?;
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            let arrived = self.counted()? - self.before;
            if arrived == self.sent {
                return Ok(());
            }
            if arrived > self.sent || Instant::now() > patience {
                bail!("{} packets were sent and {arrived} arrived", self.sent);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the far end of the road has counted.
    fn counted(&self) -> Result<u64> {
        match self.road {
            Road::Dropped => world::received(world::A),
            Road::Stack | Road::Around => world::refused_datagrams(),
            Road::Across | Road::Routed | Road::Out | Road::Own => world::received(world::SINK),
        }
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
