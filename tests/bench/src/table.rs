// SPDX-License-Identifier: GPL-2.0-only

//! The results as a table for people.

use crate::result::{Counts, Record, Report};
use comfy_table::{presets, CellAlignment, Table};

const TITLES: [&str; 11] = [
    "line",
    "least",
    "median",
    "most",
    "over floor",
    "best peer",
    "calls",
    "wakes",
    "skbs",
    "LOCKs",
    "copies",
];

/// Prints it. What is counted is counted over the floor as well.
pub(crate) fn print(report: &Report) {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(TITLES);
    for record in &report.lines {
        table.add_row(row(report, record));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    let unit = match report.unit {
        crate::clock::Unit::Instructions => "instructions of the guest",
        crate::clock::Unit::Nanoseconds => "nanoseconds",
    };
    println!(
        "Costs are {unit} a packet, kernel {}. All columns from `over floor` on are",
        report.kernel
    );
    println!(
        "what a line has more than its floor; `best peer`: how many times as much that one has."
    );
    println!(
        "An emulator has no caches and no time: throughput and latency want a real processor."
    );
}

fn row(report: &Report, record: &Record) -> Vec<String> {
    let [least, median, most] = record.cost;
    let mut cells = vec![record.line.clone()];
    cells.extend([least, median, most].map(|cost| format!("{cost:.0}")));
    cells.push(match (&record.floor, record.marginal) {
        (Some(_), Some(marginal)) => format!("{marginal:.0}"),
        _ => String::new(),
    });
    cells.push(match &record.best_peer {
        Some((peer, times)) => format!("{times:.1}x {peer}"),
        None => String::new(),
    });
    let below = record
        .floor
        .as_ref()
        .and_then(|floor| report.find(floor)?.counts)
        .unwrap_or_default();
    cells.extend(match record.counts {
        Some(counts) => counted(&counts, &below),
        None => std::array::from_fn(|_| String::new()),
    });
    cells
}

fn counted(counts: &Counts, below: &Counts) -> [String; 5] {
    let more = |of: fn(&Counts) -> f64| (of(counts) - of(below)).max(0.0);
    let copies = more(|one| one.copies);
    [
        format!("{:.3}", more(|one| one.system_calls)),
        format!("{:.3}", more(|one| one.wakeups)),
        format!("{:.2}", more(|one| one.allocations)),
        format!("{:.1}", more(|one| one.locked)),
        format!("{copies:.1}/{:.0} B", more(|one| one.copied_bytes)),
    ]
}
