// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Source NAT: the machines behind this box reach the world with the box's address.
//!
//! The box forwards as always; this program stands at its outside interface. What leaves with a
//! source in the inside network gets the box's address and a port of its own, replies to that port
//! get the inside address back before the host routes them. Mappings depend on the inside address
//! and port only; when ports run out, the oldest is taken over.
//!
//! Translated are TCP, UDP and ICMP echo over IPv4. What else comes from the inside network (other
//! protocols, later fragments, ICMP errors) is dropped, for it would leave with an inside address.

mod common;
#[path = "common/ipv4.rs"]
mod ipv4;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Parser;
use common::{Common, Failure, Run};
use ipv4::{Network, Packet, Side};
use nettap::{Csum, Mbuf, Mode};

/// Translates the addresses of an inside network to the box's own
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Interface towards the world
    #[arg(long, value_name = "INTERFACE")]
    outside: String,
    /// Network whose addresses are translated, such as 10.0.1.0/24
    #[arg(long, value_name = "NETWORK")]
    inside_net: Network,
    /// The box's address on the outside interface
    #[arg(long)]
    address: Ipv4Addr,
    #[command(flatten)]
    common: Common,
}

/// A protocol with a port (or the identifier of an ICMP echo) that belongs to it.
type Port = (u8, u16);

/// Ports to hand out: above those that Linux gives to the box's own sockets.
const PORTS: std::ops::RangeInclusive<u16> = 61001..=65535;

struct Nat {
    network: Network,
    address: Ipv4Addr,
    next: u16,
    outside: HashMap<(Ipv4Addr, Port), u16>,
    inside: HashMap<Port, (Ipv4Addr, u16)>,
}

impl Nat {
    /// The outside port of an inside one, a new one if need be.
    fn port(&mut self, address: Ipv4Addr, (protocol, port): Port) -> u16 {
        if let Some(known) = self.outside.get(&(address, (protocol, port))) {
            return *known;
        }
        let chosen = self.next;
        self.next = if chosen == *PORTS.end() {
            *PORTS.start()
        } else {
            chosen + 1
        };
        // Whoever had this port before is not reached through it any more.
        if let Some((old, had)) = self.inside.insert((protocol, chosen), (address, port)) {
            self.outside.remove(&(old, (protocol, had)));
        }
        self.outside.insert((address, (protocol, port)), chosen);
        chosen
    }

    /// Translates a packet that leaves; `false` if it must not leave.
    fn leaving(&mut self, mbuf: &mut Mbuf) -> bool {
        let Some(source) = ipv4::address(mbuf.bytes(), Side::Source) else {
            return true;
        };
        if !self.network.contains(source) {
            return true;
        }
        let Some(packet) = Packet::parse(mbuf.bytes()) else {
            return false;
        };
        let port = self.port(source, packet.port(Side::Source));
        rewrite(mbuf, packet, Side::Source, (self.address, port));
        true
    }

    /// Translates a packet that arrives, if it is a reply to one that left.
    fn arriving(&self, mbuf: &mut Mbuf) {
        if ipv4::address(mbuf.bytes(), Side::Destination) != Some(self.address) {
            return;
        }
        let Some(packet) = Packet::parse(mbuf.bytes()) else {
            return;
        };
        if let Some(to) = self.inside.get(&packet.port(Side::Destination)) {
            rewrite(mbuf, packet, Side::Destination, *to);
        }
    }
}

fn rewrite(mbuf: &mut Mbuf, packet: Packet, side: Side, to: (Ipv4Addr, u16)) {
    let partial = matches!(mbuf.meta().csum, Csum::Partial { .. });
    packet.rewrite(mbuf.bytes_mut(), partial, side, to);
}

/// The program.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut nat = Nat {
        network: args.inside_net,
        address: args.address,
        next: *PORTS.start(),
        outside: HashMap::new(),
        inside: HashMap::new(),
    };
    let mut run = Run::new(&args.common)?;
    let taps = [
        run.tap(&args.outside, Mode::Input)?,
        run.tap(&args.outside, Mode::Output)?,
    ];
    let [input, output] = &taps;
    eprintln!("ready");

    let mut packets = Vec::new();
    while run.goes_on(&taps)? {
        run.recv(output, &mut packets);
        packets.retain_mut(|packet| nat.leaving(packet));
        output.revert_all(&mut packets)?;

        run.recv(input, &mut packets);
        packets.iter_mut().for_each(|packet| nat.arriving(packet));
        input.revert_all(&mut packets)?;
    }

    run.report("nat");
    Ok(())
}

fn main() -> ExitCode {
    common::main(Args::parse(), run)
}
