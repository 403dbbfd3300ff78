// SPDX-License-Identifier: GPL-2.0-only

//! The results as a table for people.

use crate::clock::Unit;
use crate::result::{Counts, Latency, Record, Report};
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

const TITLES_OF_TIME: [&str; 8] = [
    "line",
    "least",
    "median",
    "most",
    "packets/s",
    "best peer",
    "seen after",
    "arrived after",
];

/// Prints it. What is counted is counted over the floor as well.
pub(crate) fn print(report: &Report) {
    if report.unit == Unit::Nanoseconds {
        return print_times(report);
    }
    print_rows(
        &TITLES,
        report.lines.iter().map(|record| row(report, record)),
    );
    println!(
        "Costs are instructions of the guest a packet, kernel {}. All columns from `over floor` on are",
        report.kernel
    );
    println!(
        "what a line has more than its floor; `best peer`: how many times as much that one has."
    );
    println!(
        "An emulator has no caches and no time: throughput and latency want a real processor."
    );
}

fn print_rows(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(titles);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn print_times(report: &Report) {
    let rows = report.lines.iter().map(|record| {
        let mut cells = costs(record);
        let rate = record.times.as_ref().map(|times| times.packets_per_second);
        cells.push(rate.map_or(String::new(), |rate| format!("{rate:.0}")));
        cells.push(best_peer(record));
        let times = record.times.as_ref();
        for latency in [times.and_then(|t| t.seen), times.and_then(|t| t.arrived)] {
            cells.push(latency.as_ref().map_or(String::new(), percentiles));
        }
        cells
    });
    print_rows(&TITLES_OF_TIME, rows);
    println!(
        "Nanoseconds a packet, kernel {}, {} processors. `seen` by the program and `arrived` at the far end after",
        report.kernel,
        report.processors.unwrap_or(1)
    );
    println!(
        "50 / 90 / 99 / 99.9 / 100 % of the packets: microseconds from the call that sent one."
    );
    if report.emulated {
        warn();
    }
}

/// Percentiles in microseconds.
pub(crate) fn percentiles(latency: &Latency) -> String {
    let Latency {
        p50,
        p90,
        p99,
        p999,
        max,
        ..
    } = latency;
    let all = [p50, p90, p99, p999, max].map(|ns| format!("{:.1}", *ns as f64 / 1e3));
    all.join(" / ")
}

/// What must not be overlooked.
pub(crate) fn warn() {
    println!("EMULATED: THESE ARE NO MEASUREMENTS. There is no KVM here, and the times are those of an emulator on");
    println!("a machine that does something else, too. They show that the measuring works, and nothing about speed.");
}

fn row(report: &Report, record: &Record) -> Vec<String> {
    let mut cells = costs(record);
    cells.push(match (&record.floor, record.marginal) {
        (Some(_), Some(marginal)) => format!("{marginal:.0}"),
        _ => String::new(),
    });
    cells.push(best_peer(record));
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

fn costs(record: &Record) -> Vec<String> {
    let mut cells = vec![record.line.clone()];
    cells.extend(record.cost.map(|cost| format!("{cost:.0}")));
    cells
}

fn best_peer(record: &Record) -> String {
    match &record.best_peer {
        Some((peer, times)) => format!("{times:.1}x {peer}"),
        None => String::new(),
    }
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
