// SPDX-License-Identifier: GPL-2.0-only

//! `ntdrive`: what the guest tests need and the shell cannot do.
//!
//! Four kinds of subcommand. *Traffic*: numbered datagrams and frames, and the receivers that say
//! which of them came, how often and in what order. *Programs* over the library, as users write
//! them: a relay with an action to choose, and a source of new packets. *Counters*: the module's,
//! read and awaited. *Raw*: the ABI by hand, without the library, for calls that the library never
//! makes and for programs that lie.
//!
//! Every subcommand ends with status 0 when what it was told to expect came true, else with 1 and
//! one line for each expectation that did not.

mod checks;
mod counters;
mod ebpf;
mod edit;
mod frames;
mod inject;
mod locks;
mod payload;
mod raw;
mod relay;
mod signals;
mod sockets;
mod taps;
mod udp;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::sched::{setns, CloneFlags};
use std::fs::File;
use std::process::ExitCode;

/// Where `ip netns` keeps its namespaces.
const NAMED_NAMESPACES: &str = "/run/netns";

#[derive(Parser)]
#[command(name = "ntdrive", about, version)]
struct Arguments {
    /// Run in this named network namespace.
    #[arg(long)]
    inside: Option<String>,
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
    /// Print a counter of a tap.
    Count(counters::Count),
    /// Expect or await counters of a tap.
    Counts(counters::Counts),
    /// Print what the default group's region has.
    Region(counters::Region),
    /// Print what the first session that has mapped has.
    Session(counters::Session),
    /// Expect so many taps to be open.
    OpenTaps(counters::OpenTaps),
    /// Expect or await that nobody uses the module and everything is free.
    Idle(counters::Idle),
    /// Load a small eBPF socket filter and pin it.
    BpfPin(ebpf::Pin),
    /// Programs over the library that count under a shared lock and are killed.
    Locks(locks::Locks),
    /// The ABI by hand.
    #[command(subcommand)]
    Raw(raw::Suite),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ntdrive: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Outcome {
    if let Some(name) = &arguments.inside {
        let path = format!("{NAMED_NAMESPACES}/{name}");
        let namespace = File::open(&path).with_context(|| path)?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
    }
    match arguments.command {
        Command::UdpSend(send) => send.run(),
        Command::UdpRecv(recv) => recv.run(),
        Command::FrameSend(send) => send.run(),
        Command::Relay(relay) => relay.run(),
        Command::Inject(inject) => inject.run(),
        Command::Count(count) => count.run(),
        Command::Counts(counts) => counts.run(),
        Command::Region(region) => region.run(),
        Command::Session(session) => session.run(),
        Command::OpenTaps(taps) => taps.run(),
        Command::Idle(idle) => idle.run(),
        Command::BpfPin(pin) => pin.run(),
        Command::Locks(locks) => locks.run(),
        Command::Raw(suite) => suite.run(),
    }
}

/// What every subcommand's `run` gives back.
type Outcome = Result<()>;
