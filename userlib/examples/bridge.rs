// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! A bridge of two interfaces: what comes in on one leaves through the other.
//!
//! Both are tapped in bypass mode, so the host's own network layer is cut off from them: this is the
//! simple form of the program in the patent's figure 7. Reverting a packet through another tap than
//! the one it came from sends it out there; the kernel's own copy of it leaves, no byte is copied.

mod common;

use std::process::ExitCode;

use clap::Parser;
use common::{Common, Failure, Run};
use nettap::Mode;

/// Bridges two interfaces, cutting the host off from both
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// One side
    left: String,
    /// The other side
    right: String,
    #[command(flatten)]
    common: Common,
}

/// The program.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut run = Run::new(&args.common)?;
    let taps = run.taps(&[args.left, args.right], &[Mode::Bypass])?;
    eprintln!("ready");

    let mut packets = Vec::new();
    while run.goes_on(&taps)? {
        for (from, to) in taps.iter().zip(taps.iter().rev()) {
            run.recv(from, &mut packets);
            to.revert_all(&mut packets)?;
        }
    }

    run.report("bridge");
    Ok(())
}

fn main() -> ExitCode {
    common::main(Args::parse(), run)
}
