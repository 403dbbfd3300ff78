// SPDX-License-Identifier: GPL-2.0-only

//! Those who are measured: NetTap, its peers, and the floors that they stand on.

mod bpf;
pub(crate) mod floor;
pub(crate) mod nettap;
pub(crate) mod nfqueue;
pub(crate) mod packet;
pub(crate) mod pcap;
mod ring;
pub(crate) mod tun;
pub(crate) mod xdp;

use crate::generate::FullSocket;
use crate::world::{self, ip, SINK};
use anyhow::Result;

/// Somebody who takes packets along a road. Making it sets up what it needs, dropping it clears that.
pub(crate) trait Peer: Send {
    /// Looks once, and does what the path says with the packets that are there, at most a batch.
    /// `outstanding` is how many have been sent and not been seen here. Gives how many it saw.
    fn turn(&mut self, outstanding: usize) -> Result<usize>;

    /// Waits as the line says until something may be there; in a thread of its own.
    fn wait(&mut self) -> Result<()> {
        std::thread::yield_now();
        Ok(())
    }

    /// System calls that it has made, if it counts them.
    fn calls(&self) -> Option<u64> {
        None
    }

    /// No more packets will come; what the program still keeps goes on.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What every program does with every packet: it looks at the first eight bytes.
pub(crate) fn read_header(bytes: &[u8]) {
    let header = bytes
        .first_chunk::<8>()
        .map(|bytes| u64::from_ne_bytes(*bytes));
    std::hint::black_box(header);
}

/// The host stands behind b0 as well: what a program puts out there comes in at s0. For peers that can
/// send, and have no way of their own into the host.
pub(crate) struct HostBehindB {
    _socket: FullSocket,
}

impl HostBehindB {
    /// s0 takes the address that `Road::Around` has its datagrams sent to.
    pub(crate) fn make() -> Result<Self> {
        ip(&format!("link set {SINK} address {}", world::FAR))?;
        let socket = FullSocket::bind()?;
        Ok(Self { _socket: socket })
    }
}

impl Drop for HostBehindB {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("link set {SINK} address {}", world::SINK_ADDRESS)) {
            eprintln!("ntbench: {error:#}");
        }
    }
}
