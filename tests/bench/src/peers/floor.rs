// SPDX-License-Identifier: GPL-2.0-only

//! The floors: roads on which the kernel alone takes the packets.

use super::bpf::{self, Attached, Place};
use super::Peer;
use crate::lines::Spec;
use crate::world::{index, setting, tool, A, B, SINK};
use anyhow::Result;

/// The kernel has done everything when the generator's call returns.
struct Floor {
    /// How to clear what was set up.
    clear: fn() -> Result<()>,
}

impl Peer for Floor {
    fn turn(&mut self, outstanding: usize) -> Result<usize> {
        Ok(outstanding)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(error) = (self.clear)() {
            eprintln!("ntbench: {error:#}");
        }
    }
}

fn floor(clear: fn() -> Result<()>) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Floor { clear }))
}

/// Nothing is set up: the road's ends suffice.
pub(crate) fn nothing(_: &Spec) -> Result<Box<dyn Peer>> {
    floor(|| Ok(()))
}

/// `tc … action mirred egress redirect`.
pub(crate) fn mirred(_: &Spec) -> Result<Box<dyn Peer>> {
    tool("tc", &format!("qdisc add dev {A} clsact"))?;
    let action = format!("action mirred egress redirect dev {B}");
    tool(
        "tc",
        &format!("filter add dev {A} ingress matchall {action}"),
    )?;
    floor(|| tool("tc", &format!("qdisc del dev {A} clsact")))
}

/// Whether the host is a router.
pub(crate) fn forwarding(wanted: bool) -> Result<()> {
    setting(
        "/proc/sys/net/ipv4/ip_forward",
        if wanted { "1" } else { "0" },
    )
}

/// The host is a router.
pub(crate) fn route(_: &Spec) -> Result<Box<dyn Peer>> {
    forwarding(true)?;
    floor(|| forwarding(false))
}

/// XDP programs in the drivers: one redirects, the other has s0 take what is redirected.
struct Redirect {
    _programs: [Attached; 2],
}

impl Peer for Redirect {
    fn turn(&mut self, outstanding: usize) -> Result<usize> {
        Ok(outstanding)
    }
}

pub(crate) fn redirect(_: &Spec) -> Result<Box<dyn Peer>> {
    let taking = bpf::pass(index(SINK)?, Place::Native)?;
    let redirecting = bpf::redirect(index(A)?, index(B)?, Place::Native)?;
    Ok(Box::new(Redirect {
        _programs: [taking, redirecting],
    }))
}
