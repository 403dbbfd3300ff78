// SPDX-License-Identifier: GPL-2.0-only

//! `nthostile`: programs that mean harm, and programs to which harm is done.
//!
//! `fuzz` makes calls that no program makes; `scribble` writes over everything that it may write
//! while packets flow; `mangle` gives packets back that are not what they were, and `chatter` makes
//! them; `storm` kills, stops, forks, executes and hands descriptors about; `faults`
//! has the kernel's allocations fail one by one. All of these but the last throw dice, and print the seed
//! that throws them again. `account` harms nobody: it adds up what became of others' packets. Each prints one line of JSON at its end, and ends with status 0 when what must
//! hold did hold: what the kernel says in its log, and what other sessions lost, is for the scripts
//! that start it (`tests/guest/1*.sh`).

mod abi;
mod account;
mod chance;
mod chatter;
mod faults;
mod figures;
mod fuzz;
mod mangle;
mod manglers;
mod scribble;
mod storm;
mod sys;
mod tricks;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "nthostile", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Calls that no program makes, from several processes and threads at once.
    Fuzz(fuzz::Fuzz),
    /// Write over everything that may be written, while packets flow through the taps.
    Scribble(scribble::Scribble),
    /// Give packets back that are not what they were.
    Mangle(mangle::Mangle),
    /// Traffic that nothing discourages.
    Chatter(chatter::Chatter),
    /// Kill, stop, fork, execute, hand descriptors about.
    #[command(subcommand)]
    Storm(storm::Storm),
    /// A program's life with one allocation or copy after the other refused by the kernel.
    Faults(faults::Faults),
    /// Add up what became of the packets of all taps from now on, until none is open any more.
    Account(account::Account),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Scribble(scribble) => scribble.run(),
        Command::Mangle(mangle) => mangle.run(),
        Command::Chatter(chatter) => chatter.run(),
        Command::Storm(storm) => storm.run(),
        Command::Faults(faults) => faults.run(),
        Command::Account(account) => account.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nthostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What every subcommand's `run` gives back.
type Outcome = Result<()>;
