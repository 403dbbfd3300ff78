// SPDX-License-Identifier: GPL-2.0-only

//! Changes to packets as programs make them: bytes in place, more or fewer at either end, the state
//! beside the bytes; lengths and checksums put right as each state of checksumming asks for.

use anyhow::{Context, Result};
use clap::Args;
use etherparse::checksum::Sum16BitWords;
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nettap::{Csum, Mbuf, Vlan};

const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// Two Ethernet addresses, behind which a tag goes.
const ADDRESSES_LEN: usize = 12;
const TAG_LEN: usize = 4;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// What to change. All that are given, in this order.
#[derive(Args, Debug, Default)]
pub(crate) struct Edits {
    /// Take a mutable view and change nothing.
    #[arg(long)]
    touch: bool,
    /// Lower-case letters of TCP and UDP payloads become upper case.
    #[arg(long)]
    upper: bool,
    /// Append this text to UDP payloads.
    #[arg(long)]
    append: Option<String>,
    /// Take so many bytes from the end of UDP payloads.
    #[arg(long)]
    trim: Option<usize>,
    /// Move the frame so many bytes towards the end of its mbuf, or towards the start if negative.
    #[arg(long, allow_hyphen_values = true)]
    shift: Option<i16>,
    /// Put a VLAN tag of this number among the bytes.
    #[arg(long)]
    tag: Option<u16>,
    /// Take the VLAN tag away from among the bytes.
    #[arg(long)]
    untag: bool,
    /// Write a byte at a place, as AT=BYTE; a place below zero is reckoned from the packet's end.
    #[arg(long, value_parser = poke, allow_hyphen_values = true)]
    poke: Vec<(isize, u8)>,
    /// Cut the packet to so many bytes, whose checksum is nobody's to compute.
    #[arg(long)]
    cut: Option<usize>,
    /// Leave a checksum to the interface, over this many bytes at the packet's end, to be put where they begin.
    #[arg(long)]
    sum_of_last: Option<u16>,
    /// Set the VLAN tag beside the bytes.
    #[arg(long)]
    vlan: Option<u16>,
    /// Set the firewall mark.
    #[arg(long)]
    mark: Option<u32>,
    /// Set the priority.
    #[arg(long)]
    priority: Option<u32>,
    /// Compute the whole transport checksum, so that the receiver verifies it, even where it was left
    /// to the interface.
    #[arg(long)]
    full_checksum: bool,
    /// Leave the transport checksum wrong, so that a receiver that verifies drops the packet.
    #[arg(long)]
    wrong_checksum: bool,
}

/// Where the parts of a packet begin, in its first mbuf.
pub(crate) struct Layout {
    network: usize,
    transport: usize,
    payload: usize,
    protocol: u8,
    v6: bool,
    /// Port that the packet goes to.
    pub(crate) port: u16,
}

impl Layout {
    /// The layout of a TCP or UDP packet.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(bytes).ok()?;
        let v6 = matches!(packet.net, Some(LaxNetSlice::Ipv6(_)));
        let inner = packet.ip_payload()?.payload;
        let network = place_of(packet.ether_payload()?.payload, bytes);
        let transport = place_of(inner, bytes);
        let (protocol, header, port) = match packet.transport? {
            TransportSlice::Udp(udp) => (PROTOCOL_UDP, 8, udp.destination_port()),
            TransportSlice::Tcp(tcp) => (
                PROTOCOL_TCP,
                tcp.header_slice().len(),
                tcp.destination_port(),
            ),
            _ => return None,
        };
        Some(Self {
            network,
            transport,
            payload: transport + header,
            protocol,
            v6,
            port,
        })
    }

    fn checksum_at(&self) -> usize {
        self.transport + if self.protocol == PROTOCOL_UDP { 6 } else { 16 }
    }

    /// The sum of the pseudo-header for a transport part of `length` bytes.
    fn pseudo_header(&self, bytes: &[u8], length: usize) -> Sum16BitWords {
        let (begin, end) = if self.v6 { (8, 40) } else { (12, 20) };
        let addresses = bytes
            .get(self.network + begin..self.network + end)
            .unwrap_or_default();
        let mut sum = Sum16BitWords::new().add_slice(addresses);
        sum = sum.add_2bytes([0, self.protocol]);
        sum.add_4bytes((length as u32).to_be_bytes())
    }
}

fn poke(argument: &str) -> Result<(isize, u8)> {
    let (at, byte) = argument.split_once('=').context("AT=BYTE")?;
    Ok((at.parse()?, byte.parse()?))
}

fn place_of(inner: &[u8], outer: &[u8]) -> usize {
    (inner.as_ptr() as usize).wrapping_sub(outer.as_ptr() as usize)
}

impl Edits {
    /// Whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        !(self.touch || self.upper || self.untag || self.full_checksum || self.wrong_checksum)
            && self.append.is_none()
            && self.poke.is_empty()
            && self.cut.is_none()
            && self.sum_of_last.is_none()
            && self.trim.is_none()
            && self.shift.is_none()
            && self.tag.is_none()
            && self.vlan.is_none()
            && self.mark.is_none()
            && self.priority.is_none()
    }

    /// Makes the changes.
    pub(crate) fn apply(&self, mbuf: &mut Mbuf) -> Result<()> {
        if self.touch {
            mbuf.bytes_mut();
        }
        if let Some(layout) = Layout::of(mbuf.bytes()) {
            self.payload(mbuf, &layout)?;
        }
        if let Some(distance) = self.shift {
            shift(mbuf, distance)?;
        }
        if let Some(number) = self.tag {
            mbuf.push_head(TAG_LEN).context("no room for a tag")?;
            let bytes = mbuf.bytes_mut();
            bytes.copy_within(TAG_LEN..TAG_LEN + ADDRESSES_LEN, 0);
            let [high, low] = number.to_be_bytes();
            bytes[ADDRESSES_LEN..ADDRESSES_LEN + TAG_LEN].copy_from_slice(&[
                ETHERTYPE_VLAN[0],
                ETHERTYPE_VLAN[1],
                high,
                low,
            ]);
        }
        if self.untag && mbuf.bytes().get(ADDRESSES_LEN..ADDRESSES_LEN + 2) == Some(&ETHERTYPE_VLAN)
        {
            mbuf.bytes_mut().copy_within(..ADDRESSES_LEN, TAG_LEN);
            mbuf.pull_head(TAG_LEN)?;
        }
        for &(at, byte) in &self.poke {
            let begin = if at < 0 { mbuf.len() } else { 0 };
            let at = begin.wrapping_add_signed(at);
            let place = mbuf.segments_mut().flatten().nth(at);
            *place.context("no byte there")? = byte;
        }
        if let Some(length) = self.cut {
            mbuf.trim_tail(mbuf.len().saturating_sub(length))?;
            mbuf.set_csum_none();
        }
        if let Some(length) = self.sum_of_last {
            let start = mbuf.len().saturating_sub(usize::from(length));
            mbuf.set_csum_partial(u16::try_from(start)?, 0);
        }
        if let Some(tci) = self.vlan {
            mbuf.set_vlan(Some(Vlan {
                tci,
                protocol: u16::from_be_bytes(ETHERTYPE_VLAN),
            }));
        }
        if let Some(mark) = self.mark {
            mbuf.set_mark(mark);
        }
        if let Some(priority) = self.priority {
            mbuf.set_priority(priority);
        }
        Ok(())
    }

    fn payload(&self, mbuf: &mut Mbuf, layout: &Layout) -> Result<()> {
        let udp = layout.protocol == PROTOCOL_UDP;
        let mut edited = self.full_checksum;
        if self.upper {
            edited |= upper(mbuf, layout.payload);
        }
        if let (Some(text), true) = (&self.append, udp) {
            mbuf.push_tail(text.len())?.copy_from_slice(text.as_bytes());
            edited = true;
        }
        if let (Some(length), true) = (self.trim, udp) {
            mbuf.trim_tail(length)?;
            edited = true;
        }
        if edited {
            if udp {
                lengths(mbuf, layout);
            }
            checksum(mbuf, layout, self.full_checksum);
        }
        if self.wrong_checksum {
            let place = layout.checksum_at();
            mbuf.bytes_mut()[place] ^= 0x55;
        }
        Ok(())
    }
}

/// Moves a frame of one mbuf as a whole; it stays what it was.
fn shift(mbuf: &mut Mbuf, distance: i16) -> Result<()> {
    let frame = mbuf.bytes().to_vec();
    let n = usize::from(distance.unsigned_abs());
    if distance < 0 {
        mbuf.push_head(n)?;
        mbuf.trim_tail(n)?;
    } else {
        mbuf.push_tail(n)?;
        mbuf.pull_head(n)?;
    }
    mbuf.bytes_mut().copy_from_slice(&frame);
    Ok(())
}

/// Whether there was a letter to change.
fn upper(mbuf: &mut Mbuf, payload: usize) -> bool {
    let is_lower = |part: &[u8], begin: usize| part.iter().skip(begin).any(u8::is_ascii_lowercase);
    let begins = std::iter::once(payload).chain(std::iter::repeat(0));
    if !mbuf
        .segments()
        .zip(begins.clone())
        .any(|(part, begin)| is_lower(part, begin))
    {
        return false;
    }
    for (part, begin) in mbuf.segments_mut().zip(begins) {
        part.iter_mut()
            .skip(begin)
            .for_each(|byte| byte.make_ascii_uppercase());
    }
    true
}

/// Puts IP's and UDP's lengths right after the end of the packet has moved.
fn lengths(mbuf: &mut Mbuf, layout: &Layout) {
    let total = mbuf.len();
    let bytes = mbuf.bytes_mut();
    let mut put = |place: usize, value: usize| {
        bytes[place..place + 2].copy_from_slice(&(value as u16).to_be_bytes())
    };
    put(layout.transport + 4, total - layout.transport);
    if layout.v6 {
        put(layout.network + 4, total - layout.transport);
        return;
    }
    put(layout.network + 2, total - layout.network);
    put(layout.network + 10, 0);
    let sum = Sum16BitWords::new().add_slice(&bytes[layout.network..layout.transport]);
    bytes[layout.network + 10..layout.network + 12]
        .copy_from_slice(&sum.ones_complement().to_ne_bytes());
}

/// Puts the transport checksum right: what the interface expects where it is left to the interface,
/// else, or when `full`, the checksum itself.
fn checksum(mbuf: &mut Mbuf, layout: &Layout, full: bool) {
    let meta = mbuf.meta();
    let length = mbuf.len() - layout.transport;
    let place = layout.checksum_at();
    // A super-packet's segments get theirs when it is cut.
    if meta.gso.is_some() {
        return;
    }
    if matches!(meta.csum, Csum::Partial { .. }) && !full {
        let sum = !layout.pseudo_header(mbuf.bytes(), length).ones_complement();
        mbuf.bytes_mut()[place..place + 2].copy_from_slice(&sum.to_ne_bytes());
        return;
    }
    mbuf.bytes_mut()[place..place + 2].fill(0);
    let mut whole = Vec::new();
    mbuf.copy_to(&mut whole);
    let sum = layout
        .pseudo_header(&whole, length)
        .add_slice(&whole[layout.transport..]);
    let sum = sum.to_ones_complement_with_no_zero();
    mbuf.bytes_mut()[place..place + 2].copy_from_slice(&sum.to_ne_bytes());
    mbuf.set_csum_none();
}

/// Replaces the transport checksum of a frame by what an interface expects that is to compute it,
/// and tells where summing begins and where the sum goes.
pub(crate) fn leave_checksum(frame: &mut [u8]) -> Result<(u16, u16)> {
    let layout = Layout::of(frame).context("no transport layer")?;
    let place = layout.checksum_at();
    let sum = !layout
        .pseudo_header(frame, frame.len() - layout.transport)
        .ones_complement();
    frame[place..place + 2].copy_from_slice(&sum.to_ne_bytes());
    Ok((
        u16::try_from(layout.transport)?,
        u16::try_from(place - layout.transport)?,
    ))
}
