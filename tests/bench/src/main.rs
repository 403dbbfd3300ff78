// SPDX-License-Identifier: GPL-2.0-only

//! `ntbench`: what a packet costs on its way through NetTap and through its peers.
//!
//! In the guest, `ntbench measure` runs lines. A line is a path (`input`, `fwd-xdp`, `floor-stack` …)
//! at one frame size, with a number of packets in flight and a few options. All lines share one
//! generator, one loop and one count at the far end, and a path's cost is what it takes more than its
//! *floor*, the kernel's own way between the same two ends. Costs are instructions, or with `--time` nanoseconds
//! of a processor that is one, and then latencies, too. docs/performance.md has the method.

mod clock;
mod counts;
mod flow;
mod gate;
mod generate;
mod latency;
mod lines;
mod measure;
mod peers;
mod picture;
mod result;
mod sys;
mod table;
mod world;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ntbench", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Names of the lines.
    List {
        /// Paths, lines, or patterns with `*`; without any, what `measure` runs by default.
        lines: Vec<String>,
    },
    /// Measure, as root in the guest.
    Measure(measure::Measure),
    /// What QEMU is to tell the plugin of a kernel.
    PluginArguments {
        /// The guest's /proc/kallsyms.
        symbols: PathBuf,
    },
    /// Add what the plugin counted to the results.
    Count(counts::Files),
    /// Show results as a table.
    Table {
        /// Results of `measure`.
        json: PathBuf,
    },
    /// Draw the results, as SVG on the standard output.
    Picture {
        /// Results of `measure`.
        json: PathBuf,
    },
    /// Compare results with the reference; fails if NetTap costs more than it did.
    Gate {
        /// Results of `measure`.
        json: PathBuf,
        /// What to compare with.
        reference: PathBuf,
    },
    /// Make results the reference.
    Keep {
        /// Results of `measure`.
        json: PathBuf,
        /// Where it is kept.
        reference: PathBuf,
    },
    /// Show what the plugin counted by function, over the floor.
    Profile {
        #[command(flatten)]
        files: counts::Files,
        /// Rows of each table.
        #[arg(long, default_value_t = 45)]
        rows: usize,
        /// A path, a line, or a pattern.
        line: String,
    },
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::List { lines } => {
            for line in lines::select(&lines)? {
                println!("{:28} {}", line.name(), line.path.about);
            }
            Ok(())
        }
        Command::Measure(measure) => measure.run(),
        Command::PluginArguments { symbols } => counts::arguments(&symbols),
        Command::Count(files) => files.merge(),
        Command::Table { json } => {
            table::print(&read_json(&json)?);
            Ok(())
        }
        Command::Picture { json } => {
            print!("{}", picture::draw(&read_json(&json)?));
            Ok(())
        }
        Command::Gate { json, reference } => gate::compare(&read_json(&json)?, &reference),
        Command::Keep { json, reference } => gate::keep(&read_json(&json)?, &reference),
        Command::Profile { files, rows, line } => files.profile(&line, rows),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ntbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Results of an earlier run.
fn read_json(path: &PathBuf) -> Result<result::Report> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Where results go.
fn write_json(path: &PathBuf, report: &result::Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
