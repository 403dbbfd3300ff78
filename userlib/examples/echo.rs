// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The identity: every packet detours through this program and goes on exactly as it was.
//!
//! What it shows is what it does not do. Sockets, firewall and forwarding of the machine work as
//! before, and under load it makes no system call.

mod common;

use std::process::ExitCode;

use clap::Parser;
use common::{Common, Failure, Run};
use nettap::Mode;

/// Passes the packets of interfaces through a program and back, unchanged
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Sides to tap: input, output, or bypass
    #[arg(long, value_delimiter = ',', value_parser = common::mode, default_value = "input,output")]
    mode: Vec<Mode>,
    /// Interfaces
    #[arg(required = true)]
    interfaces: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// The program.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut run = Run::new(&args.common)?;
    let taps = run.taps(&args.interfaces, &args.mode)?;
    eprintln!("ready");

    let mut packets = Vec::new();
    while run.goes_on(&taps)? {
        for tap in &taps {
            run.recv(tap, &mut packets);
            tap.revert_all(&mut packets)?;
        }
    }

    run.report("echo");
    Ok(())
}

fn main() -> ExitCode {
    common::main(Args::parse(), run)
}
