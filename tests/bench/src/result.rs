// SPDX-License-Identifier: GPL-2.0-only

//! What a run leaves behind: one record a line, as JSON.

use crate::clock::Unit;
use serde::{Deserialize, Serialize};

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Release of the guest's kernel.
    pub(crate) kernel: String,
    /// What the costs are counted in.
    pub(crate) unit: Unit,
    /// Whether the time is an emulator's, and means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) emulated: bool,
    /// Processors of the guest, where it is about time: with several the program has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) processors: Option<usize>,
    /// In the order in which they ran.
    pub(crate) lines: Vec<Record>,
}

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) line: String,
    pub(crate) path: String,
    pub(crate) size: usize,
    /// Packets of each run.
    pub(crate) packets: u64,
    /// Cost of a packet: least, median and most of the runs.
    pub(crate) cost: [f64; 3],
    /// The line whose cost is not this one's.
    pub(crate) floor: Option<String>,
    /// Median above the floor's median; the median, where there is no floor.
    pub(crate) marginal: Option<f64>,
    /// The path of NetTap's that it is a rival of.
    pub(crate) rival: Option<String>,
    /// System calls that the library made in all runs, where it counts them.
    pub(crate) library_calls: Option<u64>,
    /// Number of the measurement that the plugin counted, from 1.
    pub(crate) mark: u64,
    /// What the plugin counted, a packet.
    #[serde(default)]
    pub(crate) counts: Option<Counts>,
    /// The best peer that does the same, and how many times as much it costs above the floor.
    #[serde(default)]
    pub(crate) best_peer: Option<(String, f64)>,
    /// What only a clock of real time can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<Times>,
}

/// Throughput and latency.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) packets_per_second: f64,
    /// From the call that sent a packet until the program first looked at it.
    pub(crate) seen: Option<Latency>,
    /// Until it had come to the far end.
    pub(crate) arrived: Option<Latency>,
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) packets: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// What happens for a packet on average.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Instructions, by the plugin's count: within a percent of the clock's.
    pub(crate) instructions: f64,
    /// Those of user space among them.
    pub(crate) user: f64,
    pub(crate) system_calls: f64,
    pub(crate) wakeups: f64,
    /// Packets (`sk_buff`) that were made or cloned.
    pub(crate) allocations: f64,
    /// Instructions that lock the bus.
    pub(crate) locked: f64,
    /// Copies of 32 bytes or more.
    pub(crate) copies: f64,
    pub(crate) copied_bytes: f64,
}

impl Record {
    /// The median.
    pub(crate) fn median(&self) -> f64 {
        let [_, median, _] = self.cost;
        median
    }
}

impl Report {
    /// A line by its name.
    pub(crate) fn find(&self, name: &str) -> Option<&Record> {
        self.lines.iter().find(|record| record.line == name)
    }

    /// Compares the lines of NetTap's that have no variant with the peers that do the same at the same size.
    pub(crate) fn compare(&mut self) {
        let rivals: Vec<_> = self
            .lines
            .iter()
            .filter(|one| one.rival.is_some())
            .cloned()
            .collect();
        // Where generator and program have a processor each, the slower one of the two is what shows, and what
        // the floor takes is no part of it.
        let is_pipeline = self.processors.is_some_and(|processors| processors > 1);
        let cost = |record: &Record| match (is_pipeline, record.marginal) {
            (false, Some(marginal)) => marginal,
            (false, None) => f64::INFINITY,
            (true, _) => record.median(),
        };
        for record in &mut self.lines {
            let peers = rivals.iter().filter(|peer| {
                peer.rival.as_ref() == Some(&record.path) && peer.size == record.size
            });
            let best = peers.min_by(|one, other| cost(one).total_cmp(&cost(other)));
            let is_plain = record.line == format!("{}-{}", record.path, record.size);
            let best = best.filter(|_| is_plain);
            record.best_peer = best.map(|best| (best.line.clone(), cost(best) / cost(record)));
        }
    }
}
