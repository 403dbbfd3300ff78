// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! A capture: packets are written as pcapng and go on exactly as they were.
//!
//! Unlike a capture socket it is in the packets' way: with `--on-full drop` nothing passes that is
//! not in the file. A VLAN tag that the kernel carries beside the bytes is put back where it was on
//! the wire. Checksums that the interface was to compute are not computed yet.

mod common;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use common::{Common, Failure, Run};
use nettap::{Direction, Mbuf, Mode, Tap};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::DataLink;

/// Bytes of a VLAN tag.
const VLAN_TAG_LEN: u32 = 4;

/// Writes the packets of interfaces as pcapng
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// File to write; - is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    write: String,
    /// Say of each packet who held it, since when, and how it was to be cut
    #[arg(long)]
    comments: bool,
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
    let to_stdout = args.write == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err("packets are not written to a terminal: name a file, `-w FILE`, or pipe them, `| tcpdump -nr -`".into());
    }
    // Before the file: one that is there stays if no packet can come.
    let taps = run.taps(&args.interfaces, &args.mode)?;
    let out: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(&args.write).map_err(|error| format!("{}: {error}", args.write))?)
    };
    let mut file = PcapNgWriter::new(BufWriter::new(out))?;
    for tap in &taps {
        file.write_pcapng_block(interface(tap, args.common.snaplen))?;
    }
    eprintln!("ready");

    let mut packets = Vec::new();
    let mut bytes = Vec::new();
    while run.goes_on(&taps)? {
        for (tap, id) in taps.iter().zip(0..) {
            run.recv(tap, &mut packets);
            let written = packets.iter().try_for_each(|packet| {
                bytes.clear();
                let block = block(packet, id, args.comments, &mut bytes);
                file.write_pcapng_block(block).map(drop)
            });
            // They go on also when the file is full or nobody reads it any more.
            tap.revert_all(&mut packets)?;
            written?;
        }
        file.get_mut().flush()?;
    }

    match run.stats("dump") {
        Some(line) if to_stdout => eprintln!("{line}"),
        Some(line) => println!("{line}"),
        None => {}
    }
    Ok(())
}

fn interface(tap: &Tap, snaplen: u32) -> InterfaceDescriptionBlock<'static> {
    let name = Cow::Owned(tap.name().to_owned());
    let side = Cow::Owned(format!("{} tap {}", tap.mode().name(), tap.id()));
    InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        // A tag that is put back makes a packet longer; 0 is no limit.
        snaplen: match snaplen {
            0 => 0,
            bytes => bytes.saturating_add(VLAN_TAG_LEN),
        },
        options: vec![
            InterfaceDescriptionOption::IfName(name),
            InterfaceDescriptionOption::IfDescription(side),
            // 10^-9 seconds.
            InterfaceDescriptionOption::IfTsResol(9),
        ],
    }
}

fn block<'a>(
    packet: &Mbuf,
    id: u32,
    comments: bool,
    bytes: &'a mut Vec<u8>,
) -> EnhancedPacketBlock<'a> {
    let meta = packet.meta();
    packet.copy_to(bytes);
    let mut original_len = meta.wire_len.max(meta.packet_len);
    if let Some(tag) = meta.vlan.filter(|_| bytes.len() >= 12) {
        let [p0, p1] = tag.protocol.to_be_bytes();
        let [t0, t1] = tag.tci.to_be_bytes();
        bytes.splice(12..12, [p0, p1, t0, t1]);
        original_len += VLAN_TAG_LEN;
    }
    // The two lowest bits of the flags: 1 inbound, 2 outbound.
    let direction = if meta.direction == Direction::Sent {
        2
    } else {
        1
    };
    let mut options = vec![EnhancedPacketOption::Flags(direction)];
    if comments {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let age = now.saturating_sub(Duration::from_nanos(meta.timestamp));
        let mut comment = format!(
            "holder {}, {} us after",
            std::process::id(),
            age.as_micros()
        );
        if let Some(gso) = meta.gso {
            comment += &format!(", to be cut into {} bytes each", gso.size);
        }
        options.push(EnhancedPacketOption::Comment(Cow::Owned(comment)));
    }
    EnhancedPacketBlock {
        interface_id: id,
        timestamp: Duration::from_nanos(meta.timestamp),
        original_len,
        data: Cow::Borrowed(bytes),
        options,
    }
}

fn main() -> ExitCode {
    common::main(Args::parse(), run)
}
