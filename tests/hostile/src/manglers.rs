// SPDX-License-Identifier: GPL-2.0-only

//! Ways to change a packet: a byte here, a length there, a checksum that is none. Each is a row of
//! [`MANGLERS`]. What lies behind a tap (the stack, tunnels, IPsec, SCTP, a device that cuts and sums in
//! software) has parsed many a packet before the tap, and relies on what it found: all of it may be
//! different afterwards.

use crate::abi::Session;
use crate::chance::Chance;
use crate::tricks::lie;
use nettap_uapi::mbuf::{
    Header, CSUM_NONE, CSUM_PARTIAL, GSO_NONE, HEADER_SIZE, MBUF_VLAN, NO_MBUF,
};
use nettap_uapi::ring::Entry;

/// Most mbufs of a packet that are followed.
const PARTS_MAX: usize = 64;
/// Length of an Ethernet header, and of a VLAN's.
const ETHERNET: usize = 14;
const VLAN: usize = 4;

/// A packet as its program has it in hand.
pub(crate) struct Packet<'a> {
    session: &'a Session,
    /// Its mbufs.
    parts: Vec<u32>,
    /// Header of the first.
    pub(crate) header: Header,
    /// Bytes of the first, to be written back.
    pub(crate) bytes: Vec<u8>,
    /// Numbers to draw.
    pub(crate) chance: &'a mut Chance,
}

impl<'a> Packet<'a> {
    /// The packet that an entry names.
    pub(crate) fn of(session: &'a Session, entry: Entry, chance: &'a mut Chance) -> Self {
        let header = session.header(entry.index);
        let bytes = session.read(entry.index, header.offset.into(), header.len.into());
        let mut parts = vec![entry.index];
        let mut next = header.next;
        while next != NO_MBUF && parts.len() < PARTS_MAX {
            parts.push(next);
            next = session.header(next).next;
        }
        Self {
            session,
            parts,
            header,
            bytes,
            chance,
        }
    }

    /// What was changed becomes what the kernel finds.
    pub(crate) fn store(self) {
        if let Some(&first) = self.parts.first() {
            self.session
                .write(first, self.header.offset.into(), &self.bytes);
            self.session.set_header(first, self.header);
        }
    }

    /// Where the network's header begins, behind tags among the bytes.
    fn network(&self) -> usize {
        let tagged = |at: usize| {
            matches!(
                self.bytes.get(at..at + 2),
                Some([0x81, 0x00] | [0x88, 0xa8])
            )
        };
        let mut at = ETHERNET;
        while tagged(at - 2) {
            at += VLAN;
        }
        at
    }

    /// Whether it says that it is IPv6.
    fn is_v6(&self) -> bool {
        self.bytes
            .get(self.network())
            .is_some_and(|first| first >> 4 == 6)
    }

    /// The transport's protocol, by IP's first header.
    fn kind(&self) -> u8 {
        let at = self.network() + if self.is_v6() { 6 } else { 9 };
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Where the transport's header begins, by the first bytes.
    fn transport(&self) -> usize {
        let network = self.network();
        let words = self
            .bytes
            .get(network)
            .map_or(5, |first| usize::from(first & 15));
        network + if self.is_v6() { 40 } else { 4 * words }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    /// A number of two bytes becomes one that is nearly right, or one that somebody has forgotten.
    fn put_odd(&mut self, at: usize) {
        let Some(&[high, low]) = self.bytes.get(at..at + 2) else {
            return;
        };
        let old = u16::from_be_bytes([high, low]);
        let number = match self.chance.below(3) {
            0 => self.chance.border() as u16,
            1 => self.chance.draw() as u16,
            _ => old
                .wrapping_add(self.chance.below(41) as u16)
                .wrapping_sub(20),
        };
        self.put(at, &number.to_be_bytes());
    }

    /// Of several places one.
    fn one_of(&mut self, places: &[usize]) -> usize {
        self.chance.pick(places).unwrap_or(0)
    }

    /// The last mbuf becomes shorter (or longer) by so many bytes; the packet as well.
    fn move_tail(&mut self, by: i32) {
        let Some((&last, others)) = self.parts.split_last() else {
            return;
        };
        let moved = |len: u16| u16::try_from(i32::from(len) + by).ok();
        let total = self.header.packet_len.checked_add_signed(by);
        if others.is_empty() {
            if let (Some(len), Some(total)) = (moved(self.header.len), total) {
                self.header.len = len;
                self.header.packet_len = total;
                self.bytes.resize(len.into(), 0xa5);
            }
            return;
        }
        let mut header = self.session.header(last);
        if let (Some(len), Some(total)) = (moved(header.len), total) {
            header.len = len;
            self.header.packet_len = total;
            self.session.set_header(last, header);
        }
    }

    /// Bytes are put before the first, `at` bytes behind its begin, as far as there is room.
    fn push_head(&mut self, at: usize, bytes: &[u8]) {
        let n = bytes.len() as u16;
        let room = self.header.offset.saturating_sub(HEADER_SIZE as u16);
        if n > room || at > self.bytes.len() {
            return;
        }
        self.header.offset -= n;
        self.header.len = self.header.len.wrapping_add(n);
        self.header.packet_len = self.header.packet_len.wrapping_add(n.into());
        self.bytes.splice(at..at, bytes.iter().copied());
    }

    /// The first bytes go.
    fn pull_head(&mut self, n: usize) {
        let n = n.min(self.bytes.len());
        self.header.offset = self.header.offset.wrapping_add(n as u16);
        self.header.len = self.header.len.wrapping_sub(n as u16);
        self.header.packet_len = self.header.packet_len.wrapping_sub(n as u32);
        self.bytes.drain(..n);
    }
}

/// A way to change a packet.
pub(crate) struct Mangler {
    pub(crate) name: &'static str,
    pub(crate) mangle: fn(&mut Packet<'_>),
    /// Whether it changes what the kernel goes by when it cuts a super-packet.
    of_headers: bool,
}

const fn mangler(name: &'static str, mangle: fn(&mut Packet<'_>)) -> Mangler {
    Mangler {
        name,
        mangle,
        of_headers: false,
    }
}

const fn of_headers(name: &'static str, mangle: fn(&mut Packet<'_>)) -> Mangler {
    Mangler {
        name,
        mangle,
        of_headers: true,
    }
}

/// Longer than any packet that is not to be cut.
const SUPER_MIN: u32 = 1600;

/// One of all ways, by number; of those that super-packets mind most, every other time that it is one.
pub(crate) fn any_for(packet: &mut Packet<'_>) -> usize {
    loop {
        let nth = packet.chance.below(MANGLERS.len());
        let is_for_all = packet.header.packet_len < SUPER_MIN || packet.chance.one_in(2);
        if is_for_all || MANGLERS.get(nth).is_some_and(|way| way.of_headers) {
            return nth;
        }
    }
}

/// All ways.
pub(crate) static MANGLERS: &[Mangler] = &[
    mangler("nothing", |_| {}),
    mangler("byte", byte),
    mangler("deep", deep),
    mangler("end", end),
    of_headers("ethertype", ethertype),
    of_headers("protocol", protocol),
    of_headers("version", version),
    of_headers("disguise", disguise),
    of_headers("extend", extend),
    of_headers("length", length),
    mangler("fragment", fragment),
    mangler("ports", ports),
    of_headers("offsets", offsets),
    mangler("to", to),
    mangler("answer", answer),
    mangler("cut", cut),
    mangler("short", short),
    mangler("grow", grow),
    mangler("push", push),
    mangler("pull", pull),
    mangler("tag", tag),
    mangler("untag", untag),
    mangler("sum", sum),
    mangler("segments", segments),
    mangler("whole", whole),
    mangler("mark", mark),
    mangler("chain", chain),
    mangler("lie", |packet| {
        lie(
            &mut packet.header,
            packet.session.told.mbuf_size,
            packet.chance,
        )
    }),
];

/// Any byte of the headers.
fn byte(packet: &mut Packet<'_>) {
    let at = packet.chance.below(packet.bytes.len().min(96));
    let value = packet.chance.border() as u8;
    packet.put(at, &[value]);
}

/// Any byte at all of the first mbuf: what tunnels carry has headers as well.
fn deep(packet: &mut Packet<'_>) {
    let at = packet.chance.below(packet.bytes.len());
    let value = packet.chance.draw() as u8;
    packet.put(at, &[value]);
}

/// A byte near the packet's end, in its last mbuf.
fn end(packet: &mut Packet<'_>) {
    let back = 1 + packet.chance.below(20);
    let value = [packet.chance.draw() as u8];
    match packet.parts.split_last() {
        Some((&last, others)) if !others.is_empty() => {
            let header = packet.session.header(last);
            let at = usize::from(header.len.saturating_sub(back as u16));
            packet
                .session
                .write(last, usize::from(header.offset) + at, &value);
        }
        _ => packet.put(packet.bytes.len().saturating_sub(back), &value),
    }
}

fn ethertype(packet: &mut Packet<'_>) {
    const KINDS: [u16; 15] = [
        0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8847, 0x6558, 0x8863, 0x8864, 0x88e5, 0x88cc,
        0x894f, 0x0004, 0x0026, 0x05dc,
    ];
    let random = packet.chance.draw() as u16;
    let kind = packet.chance.pick(&KINDS).unwrap_or(random);
    let at = packet.one_of(&[ETHERNET - 2, packet.network() - 2]);
    packet.put(at, &kind.to_be_bytes());
}

/// Another protocol in IP's header, with its checksum put right or not.
fn protocol(packet: &mut Packet<'_>) {
    const KINDS: [u8; 17] = [
        0, 1, 2, 4, 6, 17, 33, 41, 43, 44, 47, 50, 51, 58, 60, 132, 136,
    ];
    let kind = packet.chance.pick(&KINDS).unwrap_or(0);
    let at = packet.network() + if packet.is_v6() { 6 } else { 9 };
    packet.put(at, &[kind]);
    right_again(packet);
}

/// Version and length of IP's header.
fn version(packet: &mut Packet<'_>) {
    let value = packet
        .chance
        .pick(&[0x44, 0x45, 0x46, 0x4f, 0x40, 0x60, 0x65, 0x00]);
    packet.put(packet.network(), &[value.unwrap_or(0)]);
    right_again(packet);
}

/// A header of the other version of IP's, sound in itself, that leads to the same transport's somewhere else.
fn disguise(packet: &mut Packet<'_>) {
    let (at, kind) = (packet.network(), packet.kind());
    let len = (packet.header.packet_len as usize).saturating_sub(at) as u16;
    if packet.is_v6() {
        packet.put(at - 2, &[0x08, 0x00]);
        packet.put(at, &[0x45]);
        packet.put(at + 2, &len.to_be_bytes());
        packet.put(at + 6, &[0, 0]);
        packet.put(at + 9, &[kind]);
        right_again(packet);
    } else {
        packet.put(at - 2, &[0x86, 0xdd]);
        packet.put(at, &[0x60]);
        packet.put(at + 4, &len.saturating_sub(40).to_be_bytes());
        packet.put(at + 6, &[kind]);
    }
}

/// Options, or an extension header, that swallow what follows: some of it, or all.
fn extend(packet: &mut Packet<'_>) {
    let (at, kind) = (packet.network(), packet.kind());
    if !packet.is_v6() {
        let words = 5 + packet.chance.below(11) as u8;
        packet.put(at, &[0x40 | words]);
        right_again(packet);
        return;
    }
    // In units of eight bytes behind the first: to some place in the packet, or to what lies a transport's header before its end.
    let behind = (packet.header.packet_len as usize).saturating_sub(at + 40);
    let random = packet.chance.below(behind.max(1));
    let lengths = [8, 16, behind, behind.saturating_sub(12), random];
    let units = (packet.one_of(&lengths) / 8).saturating_sub(1).min(255);
    let extension = packet.one_of(&[0, 43, 60]) as u8;
    packet.put(at + 6, &[extension]);
    packet.put(at + 40, &[kind, units as u8]);
}

/// A length field of IP's, UDP's, TCP's or SCTP's.
fn length(packet: &mut Packet<'_>) {
    let (network, transport) = (packet.network(), packet.transport());
    let at = packet.one_of(&[
        network + 2,
        network + 4,
        transport + 4,
        transport + 12,
        transport + 14,
        transport + 22,
    ]);
    packet.put_odd(at);
    right_again(packet);
}

fn fragment(packet: &mut Packet<'_>) {
    let value = packet
        .chance
        .pick(&[0x2000, 0x0001, 0x2001, 0x1fff, 0x4000, 0x8000]);
    packet.put(packet.network() + 6, &value.unwrap_or(0u16).to_be_bytes());
    right_again(packet);
}

fn ports(packet: &mut Packet<'_>) {
    let at = packet.transport() + packet.one_of(&[0, 2]);
    packet.put_odd(at);
}

/// Where TCP's data, a tunnel's packet or a sum begin, by the transport's header.
fn offsets(packet: &mut Packet<'_>) {
    let at = packet.transport() + packet.one_of(&[0, 1, 8, 9, 12, 13, 16, 17, 20]);
    let value = packet.chance.border() as u8;
    packet.put(at, &[value]);
}

/// Another address that it goes to, of Ethernet's or of IP's.
fn to(packet: &mut Packet<'_>) {
    let mut random = [0; 6];
    random.fill_with(|| packet.chance.draw() as u8);
    let hardware = [
        [0xff; 6],
        [0x01, 0x00, 0x5e, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 1],
        [0x01, 0x80, 0xc2, 0, 0, 0],
        [0; 6],
        random,
    ];
    if packet.chance.one_in(2) {
        let address = packet.chance.pick(&hardware).unwrap_or(random);
        packet.put(0, &address);
        return;
    }
    let addresses = [
        [255, 255, 255, 255],
        [224, 0, 0, 1],
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [10, 1, 0, 1],
        [10, 2, 0, 2],
        [10, 1, 0, 255],
    ];
    let address = packet.chance.pick(&addresses).unwrap_or_default();
    let at = packet.network() + packet.one_of(&[12, 16]);
    packet.put(at, &address);
    right_again(packet);
}

/// It goes back to where it came from.
fn answer(packet: &mut Packet<'_>) {
    let network = packet.network();
    let swap = |bytes: &mut [u8], at: usize, n: usize| {
        if let Some(both) = bytes.get_mut(at..at + 2 * n) {
            both.rotate_left(n);
        }
    };
    swap(&mut packet.bytes, 0, 6);
    if packet.is_v6() {
        swap(&mut packet.bytes, network + 8, 16);
    } else {
        swap(&mut packet.bytes, network + 12, 4);
    }
}

/// It ends somewhere in its headers.
fn cut(packet: &mut Packet<'_>) {
    let wanted = packet
        .chance
        .pick(&[0, 1, 13, 14, 15, 20, 33, 34, 35, 42, 53, 54, 60]);
    let wanted = wanted.unwrap_or(14);
    if packet.parts.len() == 1 {
        let by = wanted - i32::from(packet.header.len);
        packet.move_tail(by.min(0));
        odd_sum(packet);
    }
}

/// Some bytes less.
fn short(packet: &mut Packet<'_>) {
    let by = 1 + packet.chance.below(64) as i32;
    packet.move_tail(-by);
    odd_sum(packet);
}

/// Some bytes more.
fn grow(packet: &mut Packet<'_>) {
    let by = 1 + packet.chance.below(600) as i32;
    packet.move_tail(by);
    odd_sum(packet);
}

/// More headers: a tag, or whatever.
fn push(packet: &mut Packet<'_>) {
    let mut more = [0x81, 0x00, 0, 7, 0x88, 0xa8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    if packet.chance.one_in(4) {
        more.fill_with(|| packet.chance.draw() as u8);
    }
    let n = packet.one_of(&[4, 4, 4, 8, 16, 3]);
    let at = packet.one_of(&[ETHERNET - 2, ETHERNET - 2, 0, ETHERNET, packet.transport()]);
    packet.push_head(at, more.get(..n).unwrap_or_default());
    odd_sum(packet);
}

fn pull(packet: &mut Packet<'_>) {
    let n = packet.one_of(&[1, 4, 14, 20, 34, 50]);
    packet.pull_head(n);
    odd_sum(packet);
}

fn tag(packet: &mut Packet<'_>) {
    packet.header.flags |= MBUF_VLAN;
    packet.header.vlan_proto = packet.chance.pick(&[0x8100, 0x88a8]).unwrap_or(0);
    packet.header.vlan_tci = packet.chance.pick(&[0, 1, 7, 8, 4095, 0xffff]).unwrap_or(0);
}

fn untag(packet: &mut Packet<'_>) {
    packet.header.flags &= !MBUF_VLAN;
}

/// Another sum to be computed, somewhere.
fn sum(packet: &mut Packet<'_>) {
    packet.header.csum = CSUM_PARTIAL;
    let end = packet.header.packet_len as usize;
    let (network, transport) = (packet.network(), packet.transport());
    let random = packet.chance.below(end);
    let starts = [
        network,
        transport,
        transport + 8,
        end.saturating_sub(2),
        end,
        random,
    ];
    packet.header.csum_start = packet.one_of(&starts) as u16;
    packet.header.csum_offset = packet.one_of(&[0, 2, 6, 8, 10, 16, 18]) as u16;
}

/// Now and then nothing is said of a sum, as by a program that has changed what it is of.
fn odd_sum(packet: &mut Packet<'_>) {
    match packet.chance.below(4) {
        0 => packet.header.csum = CSUM_NONE,
        1 => sum(packet),
        _ => {}
    }
}

/// Other segments of a super-packet, or an ordinary packet that shall be one.
fn segments(packet: &mut Packet<'_>) {
    if packet.chance.one_in(2) {
        let kind = packet.chance.pick(&[1, 3, 4, 5, 0x81, 0x84]).unwrap_or(0);
        packet.header.gso_type = kind;
    }
    let sizes = [1, 8, 100, 536, 1000, 1448, 1460, 9000, 0xffff];
    packet.header.gso_size = packet.one_of(&sizes) as u16;
    if packet.chance.one_in(2) {
        let transport = packet.transport();
        packet.header.gso_hdr_len =
            packet.one_of(&[0, ETHERNET, 34, 42, 54, transport + 20]) as u16;
    }
    if packet.header.csum != CSUM_PARTIAL {
        sum(packet);
    }
}

/// No super-packet any more, in the same length.
fn whole(packet: &mut Packet<'_>) {
    packet.header.gso_type = GSO_NONE;
    packet.header.gso_size = 0;
}

fn mark(packet: &mut Packet<'_>) {
    packet.header.mark = packet.chance.border() as u32;
    packet.header.priority = packet.chance.border() as u32;
}

/// The packet ends with one of its mbufs.
fn chain(packet: &mut Packet<'_>) {
    if packet.parts.len() > 1 {
        packet.header.next = NO_MBUF;
        packet.header.packet_len = packet.header.len.into();
        odd_sum(packet);
    }
}

/// IPv4's own checksum is put right, three times in four: what is wrong there gets nowhere.
fn right_again(packet: &mut Packet<'_>) {
    let at = packet.network();
    if packet.is_v6() || packet.chance.one_in(4) {
        return;
    }
    packet.put(at + 10, &[0, 0]);
    let words = packet
        .bytes
        .get(at)
        .map_or(5, |first| usize::from(first & 15));
    let header = packet.bytes.get(at..at + 4 * words).unwrap_or_default();
    let pairs = header.chunks_exact(2);
    let mut sum: u32 = pairs
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet.put(at + 10, &(!(sum as u16)).to_be_bytes());
}
