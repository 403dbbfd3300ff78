// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Addresses and ports of an IPv4 packet, read and rewritten in place, for `nat`.
//!
//! Checksums are corrected by the difference (RFC 1624), not computed anew: the payload is not read,
//! so a super-packet costs no more than a small one, and an error that was in a packet stays in it.
//! When the transport checksum is still to be computed (`Csum::Partial`), its field holds the sum of
//! the pseudo-header, not complemented: then only the addresses count, not the ports.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::str::FromStr;

const ETHERNET: usize = 14;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An address range: an address and a mask of the bits that count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network(u32, u32);

impl Network {
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.1 == self.0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected an address and a length, such as 10.0.1.0/24".to_owned();
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u32 = length
            .parse()
            .ok()
            .filter(|bits| *bits <= 32)
            .ok_or_else(wrong)?;
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        Ok(Self(u32::from(address) & mask, mask))
    }
}

/// One end of a packet's way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

impl Side {
    fn address(self) -> Range<usize> {
        let at = ETHERNET + if self == Self::Source { 12 } else { 16 };
        at..at + 4
    }
}

/// The address of an IPv4 packet; nothing for any other.
pub(crate) fn address(bytes: &[u8], side: Side) -> Option<Ipv4Addr> {
    let is_ipv4 = word(bytes, 12)? == 0x0800 && bytes.get(ETHERNET)? >> 4 == 4;
    let octets: [u8; 4] = bytes.get(side.address())?.try_into().ok()?;
    is_ipv4.then(|| octets.into())
}

/// Where the parts of a packet with ports are.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    protocol: u8,
    /// Where the ports are, by side; of an ICMP echo the identifier, which is one for both.
    ports: [usize; 2],
    values: [u16; 2],
    checksum: usize,
}

impl Packet {
    /// The parts; nothing for what has no ports that could be translated.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = usize::from(bytes.get(ETHERNET)? & 0xf) * 4;
        let fragment_offset = word(bytes, ETHERNET + 6)? & 0x1fff;
        let protocol = *bytes.get(ETHERNET + 9)?;
        let at = ETHERNET + header;
        let (ports, checksum) = match protocol {
            TCP => ([at, at + 2], at + 16),
            UDP => ([at, at + 2], at + 6),
            // Echo request and reply.
            ICMP if matches!(bytes.get(at)?, 0 | 8) => ([at + 4, at + 4], at + 2),
            _ => return None,
        };
        let values = [word(bytes, ports[0])?, word(bytes, ports[1])?];
        word(bytes, checksum)?;
        (header >= 20 && fragment_offset == 0).then_some(Self {
            protocol,
            ports,
            values,
            checksum,
        })
    }

    /// The protocol and the port of one side.
    pub(crate) fn port(&self, side: Side) -> (u8, u16) {
        (self.protocol, self.values[side as usize])
    }

    /// Writes address and port of one side, and corrects the checksums. `partial`: the transport
    /// checksum is still to be computed.
    pub(crate) fn rewrite(
        &self,
        bytes: &mut [u8],
        partial: bool,
        side: Side,
        (address, port): (Ipv4Addr, u16),
    ) {
        let [a, b, c, d] = address.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let at = side.address().start;
        // Each change: what was there, and what is.
        let addresses = [(put(bytes, at, high), high), (put(bytes, at + 2, low), low)];
        let ports = (put(bytes, self.ports[side as usize], port), port);

        correct(bytes, ETHERNET + 10, addresses);
        let had = word(bytes, self.checksum);
        match self.protocol {
            // ICMP has no pseudo-header; UDP may go without a checksum, which is zero.
            ICMP => correct(bytes, self.checksum, [ports]),
            UDP if had == Some(0) && !partial => {}
            _ if partial => add(bytes, self.checksum, addresses),
            _ => correct(bytes, self.checksum, addresses.into_iter().chain([ports])),
        }
        if self.protocol == UDP && had != Some(0) && word(bytes, self.checksum) == Some(0) {
            put(bytes, self.checksum, 0xffff);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Writes a word and returns what was there.
fn put(bytes: &mut [u8], at: usize, value: u16) -> u16 {
    let old = word(bytes, at).unwrap_or(0);
    if let Some(room) = bytes.get_mut(at..at + 2) {
        room.copy_from_slice(&value.to_be_bytes());
    }
    old
}

/// Adds the difference of each pair to a sum in ones' complement.
fn moved(sum: u16, changes: impl IntoIterator<Item = (u16, u16)>) -> u16 {
    let wide = changes.into_iter().fold(u32::from(sum), |sum, (old, new)| {
        sum + u32::from(!old) + u32::from(new)
    });
    let folded = (wide & 0xffff) + (wide >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
fn correct(bytes: &mut [u8], at: usize, changes: impl IntoIterator<Item = (u16, u16)>) {
    let sum = !word(bytes, at).unwrap_or(0);
    put(bytes, at, !moved(sum, changes));
}

/// The same for a sum that is not complemented yet.
fn add(bytes: &mut [u8], at: usize, changes: impl IntoIterator<Item = (u16, u16)>) {
    let sum = word(bytes, at).unwrap_or(0);
    put(bytes, at, moved(sum, changes));
}
