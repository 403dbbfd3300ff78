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

use crate::latency;
use crate::lines::Spec;
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

/// What a program does with every packet.
pub(crate) trait Look: Send + 'static {
    fn at(bytes: &[u8]);
}

/// It looks at the first eight bytes.
pub(crate) struct Plain;

impl Look for Plain {
    fn at(bytes: &[u8]) {
        let header = bytes
            .first_chunk::<8>()
            .map(|bytes| u64::from_ne_bytes(*bytes));
        std::hint::black_box(header);
    }
}

/// It looks how long the packet has been on its way, too. A kind of its own, so that where costs are
/// counted nothing asks which it is.
pub(crate) struct Timed;

impl Look for Timed {
    fn at(bytes: &[u8]) {
        Plain::at(bytes);
        latency::seen(bytes);
    }
}

type Maker = fn(&Spec) -> Result<Box<dyn Peer>>;

/// How a program of either kind is made.
pub(crate) struct Make {
    pub(crate) plain: Maker,
    pub(crate) timed: Maker,
}

impl Make {
    /// Of somebody who looks at no packet.
    pub(crate) const fn blind(make: Maker) -> Self {
        Self {
            plain: make,
            timed: make,
        }
    }
}

/// The host stands behind b0 as well: what a program puts out there comes in at s0. For peers that can
/// send, and have no way of their own into the host.
pub(crate) struct HostBehindB(());

impl HostBehindB {
    /// s0 takes the address that `Road::Around` has its datagrams sent to.
    pub(crate) fn make() -> Result<Self> {
        ip(&format!("link set {SINK} address {}", world::FAR))?;
        Ok(Self(()))
    }
}

impl Drop for HostBehindB {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("link set {SINK} address {}", world::SINK_ADDRESS)) {
            eprintln!("ntbench: {error:#}");
        }
    }
}
