// SPDX-License-Identifier: GPL-2.0-only

//! The network that every line runs in, and the counts at its far ends:
//!
//! ```text
//! generator ─ g0 ══ a0 ─ under test ─ b0 ══ s0 ─ dropped
//!             10.1.0.1/24 ┘         └ 10.2.0.1/24
//! ```
//!
//! g0 and s0 have no address, so the host takes nothing of theirs for its own. The host knows 10.2.0.2
//! behind b0 under an Ethernet address that is not s0's: its packets end at s0 as those of strangers do.

use anyhow::{bail, Context, Result};
use std::fs;
use std::process::Command;

/// The tapped interface towards the generator.
pub(crate) const A: &str = "a0";
/// The tapped interface towards the sink.
pub(crate) const B: &str = "b0";
/// The sink.
pub(crate) const SINK: &str = "s0";

const MAC_G: [u8; 6] = [2, 0, 0, 0, 0, 0xc0];
const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa0];
const MAC_FAR: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
/// The same as tools write it.
pub(crate) const FAR: &str = "02:00:00:00:00:99";
/// s0's own address.
pub(crate) const SINK_ADDRESS: &str = "02:00:00:00:00:50";
/// Ethernet's type for local experiments: no protocol of the kernel asks for it.
pub(crate) const EXPERIMENT: u16 = 0x88b5;
pub(crate) const PORT: u16 = 7000;
/// Ethernet, IPv4 and UDP.
pub(crate) const HEADERS: usize = 14 + 20 + 8;

/// Makes the network; once in a guest.
pub(crate) fn make() -> Result<()> {
    for setting in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{setting}/disable_ipv6");
        // A kernel without IPv6 has nothing to be told.
        let _ = fs::write(path, "1");
    }
    ip(
        "link add g0 address 02:00:00:00:00:c0 type veth peer name a0 address 02:00:00:00:00:a0
        link add b0 address 02:00:00:00:00:b0 type veth peer name s0 address 02:00:00:00:00:50
        address add 10.1.0.1/24 dev a0
        address add 10.2.0.1/24 dev b0
        link set g0 up
        link set a0 up
        link set b0 up
        link set s0 up
        neighbour replace 10.2.0.2 lladdr 02:00:00:00:00:99 dev b0 nud permanent
        neighbour replace 10.1.0.2 lladdr 02:00:00:00:00:c0 dev a0 nud permanent",
    )
}

/// More wires beside that of g0 and a0, alike: g1 and a1, and so on. The host takes what comes on them for its own.
pub(crate) struct Wires(usize);

impl Wires {
    /// So many in all.
    pub(crate) fn make(wires: usize) -> Result<Self> {
        for nth in 1..wires {
            ip(&format!(
                "link add g{nth} address 02:00:00:00:00:c0 type veth peer name a{nth} address 02:00:00:00:00:a0
                link set g{nth} up
                link set a{nth} up"
            ))?;
        }
        Ok(Self(wires))
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for nth in 1..self.0 {
            if let Err(error) = ip(&format!("link del g{nth}")) {
                eprintln!("ntbench: {error:#}");
            }
        }
    }
}

/// Frames of that size fit through b0 and s0; ordinary ones through all interfaces, always.
pub(crate) struct Jumbo(bool);

impl Jumbo {
    /// For frames of this size.
    pub(crate) fn make(size: usize) -> Result<Self> {
        let longer = size > 1514;
        if longer {
            ip("link set b0 mtu 9000\nlink set s0 mtu 9000")?;
        }
        Ok(Self(longer))
    }
}

impl Drop for Jumbo {
    fn drop(&mut self) {
        if let (true, Err(error)) = (self.0, ip("link set b0 mtu 1500\nlink set s0 mtu 1500")) {
            eprintln!("ntbench: {error:#}");
        }
    }
}

/// The generator's ends of so many wires.
pub(crate) fn generators(wires: usize) -> impl Iterator<Item = String> {
    (0..wires).map(|nth| format!("g{nth}"))
}

/// The tapped ends.
pub(crate) fn tapped(wires: usize) -> impl Iterator<Item = String> {
    (0..wires).map(|nth| format!("a{nth}"))
}

/// Lines for `ip -batch`.
pub(crate) fn ip(lines: &str) -> Result<()> {
    let file = "/tmp/ntbench.ip";
    fs::write(file, lines).context(file)?;
    tool("ip", &format!("-batch {file}"))
}

/// Runs a program that must succeed; `line` has no quoting.
pub(crate) fn tool(program: &str, line: &str) -> Result<()> {
    let output = Command::new(program)
        .args(line.split_whitespace())
        .output()
        .with_context(|| program.to_owned())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {line}: {}", words.trim());
    }
    Ok(())
}

/// Writes a setting of the kernel.
pub(crate) fn setting(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| path.to_owned())
}

/// Index of an interface.
pub(crate) fn index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| name.to_owned())
}

/// Packets that an interface has received.
pub(crate) fn received(name: &str) -> Result<u64> {
    let path = format!("/sys/class/net/{name}/statistics/rx_packets");
    let text = fs::read_to_string(&path).context(path)?;
    Ok(text.trim().parse()?)
}

/// Datagrams that the host's sockets were offered and, being full, refused.
pub(crate) fn refused_datagrams() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let found = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "RcvbufErrors");
    Ok(found
        .context("no RcvbufErrors in /proc/net/snmp")?
        .1
        .parse()?)
}

/// A frame from the generator that nobody in the host asks for.
pub(crate) fn raw_frame(size: usize) -> Vec<u8> {
    let mut frame = [&MAC_A[..], &MAC_G[..], &EXPERIMENT.to_be_bytes()[..]].concat();
    fill(&mut frame, size);
    frame
}

/// A datagram for the host, or with another address for whom the host forwards to; `around` the host,
/// which then does not take it on a0. It has no UDP checksum, so that no line's cost depends on who
/// looks at the bytes.
pub(crate) fn datagram(to: [u8; 4], around: bool, size: usize) -> Result<Vec<u8>> {
    let mac = if around { MAC_FAR } else { MAC_A };
    let builder = etherparse::PacketBuilder::ethernet2(MAC_G, mac)
        .ipv4([10, 1, 0, 2], to, 64)
        .udp(PORT, PORT);
    let mut payload = Vec::new();
    fill(&mut payload, size - HEADERS);
    let mut frame = Vec::with_capacity(size);
    builder.write(&mut frame, &payload)?;
    if let Some(checksum) = frame.get_mut(40..42) {
        checksum.fill(0);
    }
    Ok(frame)
}

/// A frame that the program under test sends of its own, to whoever is behind b0.
pub(crate) fn own_frame(size: usize) -> Vec<u8> {
    let mut frame = [&MAC_FAR[..], &MAC_A[..], &EXPERIMENT.to_be_bytes()[..]].concat();
    fill(&mut frame, size);
    frame
}

fn fill(bytes: &mut Vec<u8>, size: usize) {
    while bytes.len() < size {
        bytes.push(bytes.len() as u8);
    }
}
