// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! The mbuf: a fixed-size buffer of the region, a header and room for data (patent paragraphs 27,
//! 35 and 43).
//!
//! ```text
//!   0            64          offset             offset + len              mbuf_size
//!   | Header     | headroom  | bytes of the packet |  tailroom            |
//! ```
//!
//! The header is written by both sides and believed by nobody. The kernel writes it when a packet
//! detours. When the packet reverts *as it was*, the kernel does not read it at all; when it reverts
//! *changed*, or is a new packet, the kernel copies the header once, checks the copy, and uses the
//! copy. Who really holds an mbuf is the kernel's own account and not [`Header::holder`], which is
//! for people and tools.
//!
//! A packet longer than one mbuf is a chain. The kernel remembers the chains that it made; a program
//! makes chains of its own for new packets through [`Header::next`].

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// End of a chain in [`Header::next`].
pub const NO_MBUF: u32 = u32::MAX;
/// Most mbufs of a region; an index is always below this.
pub const MBUFS_MAX: u32 = 1 << 24;
/// Smallest size of an mbuf, header included.
pub const MBUF_SIZE_MIN: u32 = 512;
/// Largest size of an mbuf, header included.
pub const MBUF_SIZE_MAX: u32 = 32768;
/// Size of an mbuf unless the module's parameter says otherwise.
pub const MBUF_SIZE_DEFAULT: u32 = 2048;
/// Bytes from the start of an mbuf to its data when the kernel fills it: the header and headroom
/// for what a program may want to put in front.
pub const DATA_OFFSET: u32 = 128;

/// [`Header::direction`]: the packet came from the network.
pub const DIR_RECEIVED: u8 = 1;
/// [`Header::direction`]: the packet came from the host's network layer.
pub const DIR_SENT: u8 = 2;

/// [`Header::csum`]: nothing is known; the checksums are what the bytes say.
pub const CSUM_NONE: u8 = 0;
/// [`Header::csum`]: the sum from [`Header::csum_start`] to the end of the packet is still to be put
/// at `csum_start + csum_offset`, by the interface or by the kernel; as `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
pub const CSUM_PARTIAL: u8 = 1;
/// [`Header::csum`]: somebody has verified the checksums; as `VIRTIO_NET_HDR_F_DATA_VALID`.
pub const CSUM_VALID: u8 = 2;

/// [`Header::gso_type`]: an ordinary packet.
pub const GSO_NONE: u8 = 0;
/// [`Header::gso_type`]: TCP over IPv4; the values are those of `struct virtio_net_hdr`.
pub const GSO_TCPV4: u8 = 1;
/// [`Header::gso_type`]: UDP datagram to be fragmented.
pub const GSO_UDP: u8 = 3;
/// [`Header::gso_type`]: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// [`Header::gso_type`]: UDP to be segmented into datagrams.
pub const GSO_UDP_L4: u8 = 5;
/// Bit of [`Header::gso_type`]: TCP with ECN set.
pub const GSO_ECN: u8 = 0x80;

/// Bit of [`Header::flags`]: [`Header::vlan_tci`] and [`Header::vlan_proto`] hold a VLAN tag that
/// the kernel carries beside the packet, not in its bytes.
pub const MBUF_VLAN: u8 = 1;
/// Bit of [`Header::flags`]: the bytes are only the first part of the packet; see
/// [`Header::wire_len`].
pub const MBUF_SNAPPED: u8 = 2;

/// The first 64 bytes of every mbuf: one cache line.
///
/// In a chain only the first header describes the packet; the others carry `holder`, `next`,
/// `offset` and `len`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// When the packet was received or sent, nanoseconds of `CLOCK_REALTIME`; 0 when nobody knows (`TAP_UNSTAMPED`).
    pub timestamp: u64,
    /// Process that holds the mbuf, 0 for none (patent paragraph 44). For people and tools only.
    pub holder: u32,
    /// Index of the next mbuf of the packet, or [`NO_MBUF`].
    pub next: u32,
    /// Bytes of the packet in the whole chain.
    pub packet_len: u32,
    /// Length of the packet as the kernel has it; more than `packet_len` when [`MBUF_SNAPPED`].
    pub wire_len: u32,
    /// Interface of the tap.
    pub ifindex: u32,
    /// Flow hash of the packet, 0 for none.
    pub hash: u32,
    /// Firewall mark (`SO_MARK`, nftables `meta mark`).
    pub mark: u32,
    /// Priority (`SO_PRIORITY`).
    pub priority: u32,
    /// Where the data begins, counted from the start of the mbuf.
    pub offset: u16,
    /// Bytes of data in this mbuf.
    pub len: u16,
    /// VLAN tag: priority, drop eligibility and VLAN number; valid with [`MBUF_VLAN`].
    pub vlan_tci: u16,
    /// VLAN protocol in host order, 0x8100 or 0x88a8; valid with [`MBUF_VLAN`].
    pub vlan_proto: u16,
    /// With [`CSUM_PARTIAL`]: where summing begins, counted from the packet's first byte.
    pub csum_start: u16,
    /// With [`CSUM_PARTIAL`]: where the sum goes, counted from `csum_start`.
    pub csum_offset: u16,
    /// Payload bytes of each segment of a super-packet.
    pub gso_size: u16,
    /// Bytes of headers that each segment of a super-packet repeats.
    pub gso_hdr_len: u16,
    /// One of the `GSO_` types.
    pub gso_type: u8,
    /// One of the `CSUM_` states.
    pub csum: u8,
    /// One of the `DIR_` directions.
    pub direction: u8,
    /// `MBUF_` bits.
    pub flags: u8,
    /// Receive queue of the packet.
    pub queue: u16,
    /// Must be zero.
    pub reserved: u16,
}

/// Size of [`Header`] in bytes; data never begins before it.
pub const HEADER_SIZE: u32 = 64;
const _: () = assert!(core::mem::size_of::<Header>() == HEADER_SIZE as usize);

/// Words of [`Header`]: it is moved in and out of shared memory a word at a time, since a field at a time takes
/// three times as many steps.
pub const HEADER_WORDS: usize = HEADER_SIZE as usize / 8;

impl Header {
    /// The words of it.
    #[inline(always)]
    pub fn words(&self) -> [u64; HEADER_WORDS] {
        zerocopy::transmute!(*self)
    }

    /// The header that has these words.
    #[inline(always)]
    pub fn of_words(words: [u64; HEADER_WORDS]) -> Self {
        zerocopy::transmute!(words)
    }
}

/// Where the data of one mbuf lies, checked: the only way from two integers of a header to a range
/// of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    offset: u16,
    len: u16,
}

impl Window {
    /// The window of a header in an mbuf of `mbuf_size` bytes, or nothing when it reaches into the
    /// header or beyond the mbuf.
    pub const fn of(offset: u16, len: u16, mbuf_size: u32) -> Option<Self> {
        let begin = offset as u32;
        // Two u16 cannot overflow a u32.
        let end = begin.wrapping_add(len as u32);
        if begin < HEADER_SIZE || end > mbuf_size {
            return None;
        }
        Some(Self { offset, len })
    }

    /// First byte, counted from the start of the mbuf.
    pub const fn offset(self) -> u32 {
        self.offset as u32
    }

    /// Number of bytes.
    pub const fn len(self) -> u32 {
        self.len as u32
    }

    /// Whether there are no bytes.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The byte after the last.
    pub const fn end(self) -> u32 {
        self.offset().wrapping_add(self.len())
    }
}

/// How the data of a changed packet lie in its chain, against how the kernel had laid them: what a program
/// may move is the head of the first mbuf and the tail of the last.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    mbuf_size: u32,
    /// Mbufs still to come.
    left: u32,
    is_first: bool,
    head: i32,
    tail: i32,
    copied: u32,
    len: u32,
}

impl Shape {
    /// The shape of a chain of `count` mbufs of `mbuf_size` bytes, before its first.
    pub const fn new(count: u32, mbuf_size: u32) -> Self {
        Self {
            mbuf_size,
            left: count,
            is_first: true,
            head: 0,
            tail: 0,
            copied: 0,
            len: 0,
        }
    }

    /// The next mbuf of the chain: `header` is a copy of its header, `len` are the bytes that the kernel had put
    /// there. Where its data lie now; nothing when that cannot be.
    pub fn add(&mut self, header: &Header, len: u32) -> Option<Window> {
        let window = Window::of(header.offset, header.len, self.mbuf_size)?;
        let laid = DATA_OFFSET
            .checked_add(len)
            .filter(|&end| end <= self.mbuf_size)?;
        self.left = self.left.checked_sub(1)?;
        // All of these are offsets in an mbuf.
        let head = (DATA_OFFSET as i32).wrapping_sub(window.offset() as i32);
        let tail = (window.end() as i32).wrapping_sub(laid as i32);
        if (!self.is_first && head != 0) || (self.left != 0 && tail != 0) {
            return None;
        }
        if self.is_first {
            self.head = head;
        }
        self.is_first = false;
        self.tail = tail;
        self.copied = self.copied.checked_add(len)?;
        self.len = self.len.checked_add(window.len())?;
        Some(window)
    }

    /// Bytes by which the packet has grown in front; below zero: shrunk.
    pub const fn head(&self) -> i32 {
        self.head
    }

    /// Bytes by which it has grown at its end; below zero: shrunk.
    pub const fn tail(&self) -> i32 {
        self.tail
    }

    /// Bytes that the kernel had put into the chain.
    pub const fn copied(&self) -> u32 {
        self.copied
    }

    /// Bytes that are there now.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Header {
    /// Whether checksum state, VLAN tag and flags name what exists. Whether they fit the packet is another
    /// question.
    pub const fn is_known(&self) -> bool {
        let vlan = self.flags & MBUF_VLAN != 0;
        self.csum <= CSUM_VALID
            && self.reserved == 0
            && self.flags & !(MBUF_VLAN | MBUF_SNAPPED) == 0
            && (!vlan || self.vlan_proto == 0x8100 || self.vlan_proto == 0x88a8)
    }
}
