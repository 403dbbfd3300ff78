// SPDX-License-Identifier: GPL-2.0-only

//! Numbered UDP datagrams, and segments of no TCP connection, as whole frames: how they are built, and a sender over
//! `AF_PACKET`, which can go around the queueing discipline as no socket of the internet family can.

use crate::payload::numbered;
use crate::sockets::switch_on;
use crate::Outcome;
use anyhow::{bail, Context, Result};
use clap::Args;
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use nix::net::if_::if_nametoindex;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

/// An Ethernet address as people write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl std::str::FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes: Vec<u8> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16))
            .collect::<Result<_, _>>()
            .with_context(|| format!("{text} is no Ethernet address"))?;
        match <[u8; 6]>::try_from(bytes) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => bail!("{text} is no Ethernet address"),
        }
    }
}

/// Between whom a made-up datagram travels.
#[derive(Args, Clone, Debug)]
pub(crate) struct Addresses {
    /// Ethernet source.
    #[arg(long)]
    pub(crate) src_mac: Mac,
    /// Ethernet destination.
    #[arg(long)]
    pub(crate) dst_mac: Mac,
    /// Source address and port.
    #[arg(long)]
    pub(crate) src: SocketAddr,
    /// Destination address and port.
    #[arg(long)]
    pub(crate) dst: SocketAddr,
}

impl Addresses {
    /// The frame that carries `payload` in a datagram, with all lengths and checksums right.
    pub(crate) fn frame(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        self.network()?
            .udp(self.src.port(), self.dst.port())
            .write(&mut frame, payload)
            .context("building a frame")?;
        Ok(frame)
    }

    /// Likewise in a segment that acknowledges something.
    fn segment(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        self.network()?
            .tcp(self.src.port(), self.dst.port(), 1, 1024)
            .ack(1)
            .write(&mut frame, payload)
            .context("building a frame")?;
        Ok(frame)
    }

    fn network(&self) -> Result<PacketBuilderStep<IpHeaders>> {
        let link = PacketBuilder::ethernet2(self.src_mac.0, self.dst_mac.0);
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Ok(link.ipv4(src.octets(), dst.octets(), 64)),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Ok(link.ipv6(src.octets(), dst.octets(), 64)),
            _ => bail!("addresses of two families"),
        }
    }
}

/// Arguments of `frame-send`.
#[derive(Args)]
pub(crate) struct Send {
    /// Interface to send on.
    ifname: String,
    #[command(flatten)]
    addresses: Addresses,
    /// Frames.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Bytes of payload.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Microseconds between two frames.
    #[arg(long, default_value_t = 0)]
    gap: u64,
    /// Segments that acknowledge what no connection has sent, instead of datagrams: the host answers each by a reset.
    #[arg(long)]
    tcp: bool,
    /// Put a VLAN tag of this number among the bytes.
    #[arg(long)]
    vlan: Option<u16>,
    /// Go around the queueing discipline: `PACKET_QDISC_BYPASS`.
    #[arg(long)]
    qdisc_bypass: bool,
}

impl Send {
    pub(crate) fn run(self) -> Outcome {
        let socket = self.socket()?;
        let mut refused = 0u64;
        for number in 0..self.count {
            let payload = numbered(number, self.size);
            let mut frame = match self.tcp {
                true => self.addresses.segment(&payload)?,
                false => self.addresses.frame(&payload)?,
            };
            if let Some(vlan) = self.vlan {
                let [high, low] = vlan.to_be_bytes();
                // Behind the two Ethernet addresses.
                frame.splice(12..12, [0x81, 0x00, high, low]);
            }
            match socket.send(&frame) {
                Ok(_) => {}
                // A packet that a hook takes is reported so on this path, although it goes on later.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => refused += 1,
                Err(error) => return Err(error).context("send"),
            }
            if self.gap > 0 {
                sleep(Duration::from_micros(self.gap));
            }
        }
        println!(
            "{}",
            serde_json::json!({ "sent": self.count - refused, "enobufs": refused })
        );
        Ok(())
    }

    fn socket(&self) -> Result<socket2::Socket> {
        let ifindex = if_nametoindex(self.ifname.as_str()).with_context(|| self.ifname.clone())?;
        // Protocol 0: it only sends.
        let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None)
            .context("AF_PACKET")?;
        let mut address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: i32::try_from(ifindex)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` is a sockaddr_ll of the length given, and lives through the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw mut address).cast(),
                std::mem::size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound != 0 {
            return Err(std::io::Error::last_os_error()).context("bind");
        }
        if self.qdisc_bypass {
            switch_on(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS)
                .context("PACKET_QDISC_BYPASS")?;
        }
        Ok(socket)
    }
}
