// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! A slow wire: every packet is held for a while and then goes on, in order.
//!
//! Holding costs nothing: an mbuf is a value that lies in a queue. If the program dies, the kernel
//! sends on what it held. A tap holds so many bytes at most; with `--on-full pass` (the default) what
//! comes beyond that is not delayed.

mod common;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use common::{Common, Failure, Run};
use nettap::{Error, Mbuf, Mode};

/// Holds every packet of interfaces for some time
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Milliseconds to hold each packet
    #[arg(long, value_name = "MILLISECONDS")]
    ms: u64,
    /// Sides to tap: input, output, or bypass
    #[arg(long, value_delimiter = ',', value_parser = common::mode, default_value = "output")]
    mode: Vec<Mode>,
    /// Interfaces
    #[arg(required = true)]
    interfaces: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// The program.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let hold = Duration::from_millis(args.ms);
    let mut run = Run::new(&args.common)?;
    let taps = run.taps(&args.interfaces, &args.mode)?;
    // All packets are held equally long, so the oldest is always in front. The number names the tap.
    let mut held: VecDeque<(Instant, usize, Mbuf)> = VecDeque::new();
    eprintln!("ready");

    let mut packets = Vec::new();
    let until_due = |held: &VecDeque<(Instant, usize, Mbuf)>| {
        held.front().map_or(hold, |(due, ..)| {
            due.saturating_duration_since(Instant::now())
        })
    };
    let end = 'on: loop {
        match run.goes_on_for(&taps, until_due(&held)) {
            Ok(true) => {}
            end => break end,
        }
        let due = Instant::now() + hold;
        for (number, tap) in taps.iter().enumerate() {
            run.recv(tap, &mut packets);
            held.extend(packets.drain(..).map(|packet| (due, number, packet)));
        }
        while held.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let Some((_, number, packet)) = held.pop_front() else {
                break;
            };
            packets.push(packet);
            if let Err(error) = taps[number].revert_all(&mut packets) {
                packets.clear();
                break 'on Err(error.into());
            }
        }
    };

    // The end, of whatever kind, sends on what is held; dropping the value would drop the packet. A tap that has
    // ended has taken its packets back.
    for (_, number, packet) in held {
        packets.push(packet);
        match taps[number].revert_all(&mut packets) {
            Ok(()) => {}
            Err(Error::Ended) => packets.clear(),
            Err(error) => return Err(error.into()),
        }
    }
    end?;
    run.report("delay");
    Ok(())
}

fn main() -> ExitCode {
    common::main(Args::parse(), run)
}
