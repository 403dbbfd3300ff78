// SPDX-License-Identifier: GPL-2.0-only

//! The administration tool of NetTap, as a library for its own `main` and its tests.
//!
//! A command line becomes a [`args::Cli`], a command turns what the module says ([`kernel`]) into
//! records, and [`out`] prints them. Nothing here sees an ioctl or a shared page: that is the
//! library's side.

pub mod args;
pub mod cmd;
pub mod detach;
pub mod failure;
pub mod kernel;
pub mod link;
pub mod measure;
pub mod netns;
pub mod out;
mod programs;
pub mod sizing;
pub mod words;

use args::Cli;
use clap::error::ErrorKind;
use clap::Parser;
use cmd::{Context, Verdict};
use failure::{Failure, REFUSED, USAGE};
use kernel::Device;
use netns::Netns;
use out::Out;
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole program.
pub fn main(argv: impl Iterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.collect();
    match Cli::try_parse_from(&argv) {
        Ok(cli) => command(cli, &argv),
        Err(error) => usage(&error, &argv),
    }
}

fn command(cli: Cli, argv: &[OsString]) -> ExitCode {
    // A holder reports to the command that started it, which prints for people.
    let json = cli.global.json || cli.is_holder();
    let streams = cli.is_stream();
    let quiet = cli.global.quiet;
    let mut stdout = anstream::stdout();
    let mut out = Out::new(json, quiet, &mut stdout);
    let done = Netns::find(cli.global.netns.as_deref()).and_then(|netns| {
        let mut context = Context {
            kernel: &Device,
            netns: &netns,
            out: &mut out,
            argv,
        };
        cmd::dispatch(cli, &mut context)
    });
    match done {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(REFUSED),
        // Programs read one document from standard output, unless that is full of packets.
        Err(failure) if json && !streams => said(&failure, &mut out),
        Err(failure) => said(
            &failure,
            &mut Out::new(json, quiet, &mut anstream::stderr()),
        ),
    }
}

/// Prints a failure; where even that cannot be written, the exit code has to do.
fn said(failure: &Failure, out: &mut Out<'_>) -> ExitCode {
    let _ = out.failure(failure);
    ExitCode::from(failure.exit)
}

/// `--json`, or `-j` alone or among others that take no value.
fn asks_for_json(word: &str) -> bool {
    let flags = word.strip_prefix('-').unwrap_or_default();
    word == "--json" || flags.contains('j') && flags.chars().all(|flag| "jqhV".contains(flag))
}

/// Help that was asked for, or a command line that makes no sense.
fn usage(error: &clap::Error, argv: &[OsString]) -> ExitCode {
    let asked = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    // The command line could not be read, so this can only be a look at its words.
    let json = argv
        .iter()
        .filter_map(|word| word.to_str())
        .any(asks_for_json);
    if asked || !json {
        let _ = error.print();
        return ExitCode::from(if asked { 0 } else { USAGE });
    }
    let text = match error.kind() {
        // Its text is the help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => String::from("a command is missing"),
        _ => error.render().to_string(),
    };
    // What is wrong may take several lines; the usage behind them is for people.
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let message = words.join(" ");
    let failure = Failure {
        exit: USAGE,
        ..Failure::new(message.trim_start_matches("error: "))
    };
    said(
        &failure.hint("`tapctl help` shows the commands"),
        &mut Out::new(true, false, &mut anstream::stdout()),
    )
}
