// SPDX-License-Identifier: GPL-2.0-only

//! `ntdrive`: what the guest tests need and the shell cannot do.
//!
//! Three kinds of subcommand. *Traffic*: numbered datagrams and frames, and the receivers that say
//! which of them came, how often and in what order. *Programs* over the library, as users write
//! them: a relay with an action to choose, and a source of new packets. *Raw*: the ABI by hand,
//! without the library, for calls that the library never makes and for programs that lie.
//!
//! Every subcommand ends with status 0 when what it was told to expect came true, else with 1 and
//! one line for each expectation that did not.

mod checks;
mod ebpf;
mod edit;
mod frames;
mod inject;
mod locks;
mod payload;
mod raw;
mod relay;
mod signals;
mod taps;
mod udp;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "ntdrive", about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send numbered UDP datagrams through a socket.
    UdpSend(udp::Send),
    /// Receive numbered UDP datagrams and judge what came.
    UdpRecv(udp::Recv),
    /// Send numbered frames through an `AF_PACKET` socket.
    FrameSend(frames::Send),
    /// A program over the library: take packets from taps, do something with each.
    Relay(relay::Relay),
    /// A program over the library: new packets out of nothing.
    Inject(inject::Inject),
    /// Load a small eBPF socket filter and pin it.
    BpfPin(ebpf::Pin),
    /// Programs over the library that count under a shared lock and are killed.
    Locks(locks::Locks),
    /// The ABI by hand.
    #[command(subcommand)]
    Raw(raw::Suite),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::UdpSend(send) => send.run(),
        Command::UdpRecv(recv) => recv.run(),
        Command::FrameSend(send) => send.run(),
        Command::Relay(relay) => relay.run(),
        Command::Inject(inject) => inject.run(),
        Command::BpfPin(pin) => pin.run(),
        Command::Locks(locks) => locks.run(),
        Command::Raw(suite) => suite.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ntdrive: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What every subcommand's `run` gives back.
type Outcome = Result<()>;
