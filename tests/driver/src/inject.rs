// SPDX-License-Identifier: GPL-2.0-only

//! A program over the library: new packets from the alloc ring, out of an interface or into the
//! host's input.

use crate::checks::patience;
use crate::edit::leave_checksum;
use crate::frames::Addresses;
use crate::payload::numbered;
use crate::taps::Taps;
use crate::Outcome;
use anyhow::{anyhow, Context, Result};
use clap::{Args, ValueEnum};
use nettap::{Error, Mbuf, Segmentation, Segments, Session, Tap, Vlan};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Checksum {
    /// The packet has it.
    Full,
    /// It is left to the interface.
    Partial,
}

/// Arguments of `inject`.
#[derive(Args)]
pub(crate) struct Inject {
    #[command(flatten)]
    taps: Taps,
    #[command(flatten)]
    addresses: Addresses,
    /// Datagrams.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Bytes of payload of each datagram.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Where the transport checksum is computed.
    #[arg(long, default_value = "full")]
    checksum: Checksum,
    /// Put so many datagrams into one super-packet, for the kernel to cut.
    #[arg(long)]
    datagrams_per_packet: Option<u64>,
    /// Make each a super-packet, for the kernel to cut into fragments of so many bytes.
    #[arg(long, conflicts_with = "datagrams_per_packet")]
    fragments: Option<u16>,
    /// Say of super-packets that this protocol is in them, by the number of its Ethernet type.
    #[arg(long)]
    ethertype: Option<u16>,
    /// VLAN tag beside the bytes.
    #[arg(long)]
    vlan: Option<u16>,
    /// Firewall mark.
    #[arg(long)]
    mark: Option<u32>,
    /// Microseconds between two packets.
    #[arg(long, default_value_t = 0)]
    gap: u64,
    /// Wait so many milliseconds between opening the tap and the first packet, and after the last one
    /// before closing: time to see what an idle tap does by itself.
    #[arg(long, default_value_t = 0)]
    idle: u64,
    /// Wait for each packet until the kernel has taken it.
    #[arg(long)]
    each: bool,
    /// Have the session served by a thread of the kernel's, and no more, again and again; with --each once beside each
    /// packet.
    #[arg(long)]
    turn: bool,
}

/// Turns so often, at most; how often.
fn turn(session: &Session, turns: &AtomicU64, done: &AtomicBool) -> Result<u64> {
    let mut turned = 0;
    while !done.load(Ordering::Relaxed) {
        if turned == turns.load(Ordering::Relaxed) {
            thread::yield_now();
            continue;
        }
        session.set_busy(turned % 2 == 0)?;
        turned += 1;
    }
    Ok(turned)
}

impl Inject {
    pub(crate) fn run(self) -> Outcome {
        let (session, taps) = self.taps.open()?;
        let tap = taps.first().context("no tap")?;
        println!("ready");
        sleep(Duration::from_millis(self.idle));
        let turns = AtomicU64::new(if self.each { 0 } else { u64::MAX });
        let done = AtomicBool::new(false);
        let (sent, turned) = thread::scope(|scope| {
            let turner = self
                .turn
                .then(|| scope.spawn(|| turn(&session, &turns, &done)));
            let sent = self.send_all(&session, tap, &turns);
            done.store(true, Ordering::Relaxed);
            let turned = turner.map_or(Ok(0), |turner| {
                turner
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("the turning thread")))
            });
            (sent, turned)
        });
        let (number, turned) = (sent?, turned?);
        sleep(Duration::from_millis(self.idle));
        tap.flush(u32::MAX, Some(patience())).context("flush")?;
        let stats = tap.stats()?;
        println!(
            "{}",
            serde_json::json!({
                "sent": number,
                "injected": stats.injected,
                "injected_refused": stats.injected_refused,
                "calls": session.system_calls(),
                "turned": turned,
            })
        );
        Ok(())
    }

    /// How many datagrams.
    fn send_all(&self, session: &Session, tap: &Tap, turns: &AtomicU64) -> Result<u64> {
        let each = self.datagrams_per_packet.unwrap_or(1);
        let mut number = 0;
        while number < self.count {
            let payload: Vec<u8> = (number..number + each)
                .flat_map(|number| numbered(number, self.size))
                .collect();
            let mbuf = self.packet(session, &payload)?;
            if self.each && self.turn {
                turns.fetch_add(1, Ordering::Relaxed);
                // Into all parts of a turn, which takes some milliseconds.
                sleep(Duration::from_millis(number % 10));
            }
            send(tap, mbuf)?;
            number += each;
            if self.each {
                tap.flush(1, Some(patience()))
                    .with_context(|| format!("the kernel takes packet {number}"))?;
            }
            if self.gap > 0 {
                sleep(Duration::from_micros(self.gap));
            }
        }
        Ok(number)
    }

    /// What super-packets are cut into, and of which size.
    fn segments(&self) -> Option<(Segments, Result<u16>)> {
        let datagrams = || {
            let size = u16::try_from(self.size).context("datagrams too long for a super-packet");
            self.datagrams_per_packet.map(|_| (Segments::Udp, size))
        };
        let fragments = self
            .fragments
            .map(|size| (Segments::UdpFragments, Ok(size)));
        fragments.or_else(datagrams)
    }

    fn packet(&self, session: &Session, payload: &[u8]) -> Result<Mbuf> {
        let mut frame = self.addresses.frame(payload)?;
        let protocol = self.ethertype.map(u16::to_be_bytes);
        let partial = match self.checksum {
            // Segments get their checksums when the super-packet is cut, so it is always left there.
            Checksum::Full if self.segments().is_none() => None,
            _ => Some(leave_checksum(&mut frame)?),
        };
        if let (Some(protocol), Some(place)) = (protocol, frame.get_mut(12..14)) {
            place.copy_from_slice(&protocol);
        }
        let mut mbuf = allocate(session)?;
        loop {
            match mbuf.set_payload(&frame) {
                Ok(()) => break,
                Err(Error::Empty) => session.pull(32, Some(patience()))?,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some((start, offset)) = partial {
            mbuf.set_csum_partial(start, offset);
        }
        if let Some((into, size)) = self.segments() {
            mbuf.set_gso(Some(Segmentation {
                into,
                size: size?,
                header_len: u16::try_from(frame.len() - payload.len())?,
                ecn: false,
            }))?;
        }
        if let Some(tci) = self.vlan {
            mbuf.set_vlan(Some(Vlan {
                tci,
                protocol: 0x8100,
            }));
        }
        if let Some(mark) = self.mark {
            mbuf.set_mark(mark);
        }
        Ok(mbuf)
    }
}

fn allocate(session: &Session) -> Result<Mbuf> {
    loop {
        if let Some(mbuf) = session.alloc() {
            return Ok(mbuf);
        }
        session.pull(16, Some(patience())).context("pull")?;
    }
}

fn send(tap: &Tap, mbuf: Mbuf) -> Outcome {
    let mut mbuf = mbuf;
    loop {
        match tap.revert(mbuf) {
            Ok(()) => return Ok(()),
            Err(rejected) if rejected.error == Error::Full => mbuf = rejected.value,
            Err(rejected) => return Err(rejected.error.into()),
        }
        tap.flush(1, Some(patience())).context("flush")?;
    }
}
