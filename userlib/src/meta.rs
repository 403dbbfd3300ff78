// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! What the kernel says of a packet beside its bytes: a header, copied once and made sense of.
//!
//! The copy is taken from shared memory; from here on it is a value that cannot change under the
//! reader, and an integer that names nothing has become the harmless choice.

use nettap_uapi::mbuf::{
    Header, CSUM_NONE, CSUM_PARTIAL, CSUM_VALID, DIR_RECEIVED, DIR_SENT, GSO_ECN, GSO_NONE,
    GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, MBUF_SNAPPED, MBUF_VLAN,
};

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the network.
    Received,
    /// From the host's network layer.
    Sent,
    /// From this program: a new packet.
    Made,
}

/// What is known of the checksums of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Csum {
    /// Nothing; they are what the bytes say.
    None,
    /// Somebody has verified them.
    Valid,
    /// The transport checksum is still to be computed, by the interface or the kernel. Its field
    /// holds the sum of the pseudo-header.
    Partial {
        /// Where summing begins, counted from the packet's first byte.
        start: u16,
        /// Where the sum goes, counted from `start`.
        offset: u16,
    },
}

/// A VLAN tag that travels beside the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// Priority, drop eligibility and VLAN number.
    pub tci: u16,
    /// 0x8100 or 0x88a8.
    pub protocol: u16,
}

/// What a super-packet is to be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// Fragments of a UDP datagram.
    UdpFragments,
    /// UDP datagrams.
    Udp,
    /// Something that this library does not know: the raw `gso_type`.
    Other(u8),
}

/// How a super-packet (GSO, GRO) is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// Into what.
    pub into: Segments,
    /// Payload bytes of each segment.
    pub size: u16,
    /// Bytes of headers that each segment repeats.
    pub header_len: u16,
    /// Whether TCP's ECN is set.
    pub ecn: bool,
}

/// What the kernel says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Where it came from.
    pub direction: Direction,
    /// When, in nanoseconds of `CLOCK_REALTIME`; 0 for a new packet, and where the tap asks for no time stamps for one that
    /// brings none.
    pub timestamp: u64,
    /// Interface of the tap.
    pub ifindex: u32,
    /// Receive queue.
    pub queue: u16,
    /// Flow hash, 0 for none.
    pub hash: u32,
    /// Tag beside the bytes.
    pub vlan: Option<Vlan>,
    /// What is known of its checksums.
    pub csum: Csum,
    /// How it is to be cut, if it is a super-packet.
    pub gso: Option<Segmentation>,
    /// Bytes here, in the whole chain, as the header has it; [`Mbuf::len`](crate::Mbuf::len) counts.
    pub packet_len: u32,
    /// Length as the kernel has it; more than `packet_len` when `snapped`.
    pub wire_len: u32,
    /// Whether the bytes are only the first part of the packet.
    pub snapped: bool,
    /// Firewall mark.
    pub mark: u32,
    /// Priority.
    pub priority: u32,
    /// Process that holds the mbuf as the header has it; for people.
    pub holder: u32,
}

impl Meta {
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            direction: match header.direction {
                DIR_RECEIVED => Direction::Received,
                DIR_SENT => Direction::Sent,
                _ => Direction::Made,
            },
            timestamp: header.timestamp,
            ifindex: header.ifindex,
            queue: header.queue,
            hash: header.hash,
            vlan: (header.flags & MBUF_VLAN != 0).then_some(Vlan {
                tci: header.vlan_tci,
                protocol: header.vlan_proto,
            }),
            csum: match header.csum {
                CSUM_PARTIAL => Csum::Partial {
                    start: header.csum_start,
                    offset: header.csum_offset,
                },
                CSUM_VALID => Csum::Valid,
                _ => Csum::None,
            },
            gso: segmentation(header),
            packet_len: header.packet_len,
            wire_len: header.wire_len,
            snapped: header.flags & MBUF_SNAPPED != 0,
            mark: header.mark,
            priority: header.priority,
            holder: header.holder,
        }
    }
}

fn segmentation(header: &Header) -> Option<Segmentation> {
    let into = match header.gso_type & !GSO_ECN {
        GSO_NONE => return None,
        GSO_TCPV4 => Segments::TcpV4,
        GSO_TCPV6 => Segments::TcpV6,
        GSO_UDP => Segments::UdpFragments,
        GSO_UDP_L4 => Segments::Udp,
        other => Segments::Other(other),
    };
    Some(Segmentation {
        into,
        size: header.gso_size,
        header_len: header.gso_hdr_len,
        ecn: header.gso_type & GSO_ECN != 0,
    })
}

impl Csum {
    pub(crate) fn write(self, header: &mut Header) {
        let (state, start, offset) = match self {
            Self::None => (CSUM_NONE, 0, 0),
            Self::Valid => (CSUM_VALID, 0, 0),
            Self::Partial { start, offset } => (CSUM_PARTIAL, start, offset),
        };
        header.csum = state;
        header.csum_start = start;
        header.csum_offset = offset;
    }
}

impl Vlan {
    pub(crate) fn write(tag: Option<Self>, header: &mut Header) {
        match tag {
            Some(tag) => {
                header.flags |= MBUF_VLAN;
                header.vlan_tci = tag.tci;
                header.vlan_proto = tag.protocol;
            }
            None => {
                header.flags &= !MBUF_VLAN;
                header.vlan_tci = 0;
                header.vlan_proto = 0;
            }
        }
    }
}

impl Segmentation {
    pub(crate) fn write(gso: Option<Self>, header: &mut Header) {
        let Some(gso) = gso else {
            (header.gso_type, header.gso_size, header.gso_hdr_len) = (GSO_NONE, 0, 0);
            return;
        };
        let kind = match gso.into {
            Segments::TcpV4 => GSO_TCPV4,
            Segments::TcpV6 => GSO_TCPV6,
            Segments::UdpFragments => GSO_UDP,
            Segments::Udp => GSO_UDP_L4,
            Segments::Other(raw) => raw & !GSO_ECN,
        };
        header.gso_type = kind | if gso.ecn { GSO_ECN } else { 0 };
        header.gso_size = gso.size;
        header.gso_hdr_len = gso.header_len;
    }
}
