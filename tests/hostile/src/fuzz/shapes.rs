// SPDX-License-Identifier: GPL-2.0-only

//! The requests as the fuzzer knows them: for each field of each structure of `uapi/`, what kind of
//! thing it means. A field that is added to a structure does not compile here before it has a kind.

use super::arena::Arena;
use super::world::World;
use crate::chance::Chance;
use nettap_uapi::ioctl::{
    self, Info, Lock, Map, Monitor, Pull, Push, Query, Serve, Set, Tap, Untap,
};
use nettap_uapi::tap::{FILTER_CLASSIC, FILTER_EBPF, GROUP_MAX};
use nettap_uapi::ABI_VERSION;
use std::mem::{offset_of, size_of};
use zerocopy::IntoBytes;

/// What a field means, and so what a sensible program writes there.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Zero: reserved, or written by the kernel.
    Zero,
    /// A version of the ABI.
    Version,
    /// How many of something.
    Count,
    /// Cells of a ring.
    Cells,
    /// Microseconds.
    Time,
    /// One of the first so many integers.
    OneOf(u32),
    /// Mode of a tap.
    Mode,
    /// How taps of one mode share an interface.
    Fanout,
    /// One of the first so many integers, and nearly always 0: what fewer programs ask for.
    Option(u32),
    /// Any of so many bits.
    Bits(u32),
    /// How long a packet may be held.
    Age,
    /// Mbufs of a group.
    Mbufs,
    /// Name of a group.
    Group,
    /// Size of an mbuf.
    MbufSize,
    /// A filter of packets.
    Filter,
    /// A size of bytes.
    Bytes,
    /// Descriptor of a tap, or -1.
    TapFd,
    /// Descriptor of a network namespace, or -1.
    NetnsFd,
    /// Id of a tap.
    TapId,
    /// Id of anything that is listed.
    FromId,
    /// Name of an interface.
    Name,
    /// Size of a record.
    RecordSize,
    /// Address of records.
    Address,
}

/// Where a field is.
pub(crate) struct Field {
    offset: usize,
    width: usize,
    kind: Kind,
}

/// A request and its structure.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// How often it is made, compared with the others.
    pub(crate) weight: u32,
    /// The request, without its size.
    pub(crate) request: u32,
    pub(crate) size: usize,
    fields: &'static [Field],
}

/// Bytes of a field, from a function that reads it.
const fn width<S, F: Copy>(_: fn(&S) -> F) -> usize {
    size_of::<F>()
}

macro_rules! shape {
    ($weight:literal $number:ident $structure:ident { $($field:ident: $kind:expr,)* }) => {{
        const _: fn($structure) = |$structure { $($field: _),* }| ();
        Shape {
            name: stringify!($number),
            weight: $weight,
            request: ioctl::request(ioctl::$number, 0),
            size: size_of::<$structure>(),
            fields: &[$(Field {
                offset: offset_of!($structure, $field),
                width: width(|of: &$structure| of.$field),
                kind: $kind,
            }),*],
        }
    }};
}

/// All requests. Those with side effects that take long are rare.
pub(crate) static SHAPES: &[Shape] = &[
    shape!(8 INFO Info {
        abi_version: Kind::Version, session: Kind::Zero, features: Kind::Zero,
        mbuf_size: Kind::Zero, mbufs: Kind::Zero, alpha_min_us: Kind::Zero,
        alpha_max_us: Kind::Zero, ring_max: Kind::Zero, taps_max: Kind::Zero,
        reserved: Kind::Zero,
    }),
    shape!(6 MAP Map {
        flags: Kind::Zero, prealloc: Kind::Count, ring_cells: Kind::Cells, mbuf_size: Kind::Zero,
        mbufs: Kind::Zero, data_offset: Kind::Zero, region_offset: Kind::Zero,
        region_len: Kind::Zero, alloc: Kind::Zero, dealloc: Kind::Zero, group: Kind::Group,
        access: Kind::Option(3), group_mbuf_size: Kind::MbufSize, group_mbufs: Kind::Mbufs,
        pad: Kind::Zero, locks_offset: Kind::Zero, reserved: Kind::Zero,
    }),
    Shape {
        name: "UNMAP",
        weight: 1,
        request: ioctl::request_unmap(),
        size: 0,
        fields: &[],
    },
    shape!(30 PULL Pull { n: Kind::Count, reserved: Kind::Zero, timeout_us: Kind::Time, }),
    shape!(40 PUSH Push { tap: Kind::TapFd, n: Kind::Count, timeout_us: Kind::Time, }),
    shape!(5 TAP Tap {
        ifname: Kind::Name, mode: Kind::Mode, flags: Kind::Option(4), netns: Kind::NetnsFd,
        ring_cells: Kind::Cells, snaplen: Kind::Bytes, on_full: Kind::OneOf(2),
        on_exit: Kind::OneOf(2), gso: Kind::OneOf(2), max_bytes: Kind::Bytes, fd: Kind::Zero,
        id: Kind::Zero, ifindex: Kind::Zero, pad: Kind::Zero, detour: Kind::Zero,
        revert: Kind::Zero, no_consumer: Kind::Option(2), fanout: Kind::Fanout,
        max_age_us: Kind::Age, filter: Kind::Filter, reserved: Kind::Zero,
    }),
    shape!(5 UNTAP Untap { id: Kind::TapId, reserved: Kind::Zero, }),
    shape!(20 QUERY Query {
        kind: Kind::OneOf(5), record_size: Kind::RecordSize, from_id: Kind::FromId,
        count: Kind::Count, records: Kind::Address,
    }),
    shape!(5 SET Set {
        id: Kind::TapId, what: Kind::Bits(7), on_full: Kind::OneOf(2), on_exit: Kind::OneOf(2),
        no_consumer: Kind::OneOf(2), snaplen: Kind::Bytes, max_bytes: Kind::Bytes,
        max_age_us: Kind::Age, filter: Kind::Filter, reserved: Kind::Zero,
    }),
    shape!(1 MONITOR Monitor {
        kinds: Kind::Bits(16), flags: Kind::Zero, record_size: Kind::RecordSize,
        queue: Kind::Zero, pad: Kind::Zero, reserved: Kind::Zero,
    }),
    shape!(10 LOCK Lock {
        op: Kind::OneOf(5), number: Kind::OneOf(65), seen: Kind::Bits(32), pad: Kind::Zero,
        timeout_us: Kind::Time, reserved: Kind::Zero,
    }),
    shape!(1 SERVE Serve { flags: Kind::Option(2), thread: Kind::Zero, reserved: Kind::Zero, }),
];

/// How a structure departs from what a sensible program writes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Not at all.
    Sensible,
    /// In one field.
    OneOff,
    /// In all.
    Wild,
}

impl Mood {
    /// Sensible more often than not.
    pub(crate) fn any(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0 => Self::Wild,
            1..=3 => Self::OneOff,
            _ => Self::Sensible,
        }
    }
}

/// The request of a name.
pub(crate) fn shape_of(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name)
}

impl Shape {
    /// Whether the first thing in the structure is the id of a tap that is not ours by nature.
    pub(crate) fn names_a_tap(&self) -> bool {
        let first = self.fields.first();
        first.is_some_and(|field| field.offset == 0 && matches!(field.kind, Kind::TapId))
    }

    /// The descriptor of a tap that stands first in a structure, if such a thing does.
    pub(crate) fn tap_of(&self, bytes: &[u8]) -> Option<usize> {
        let first = self.fields.first()?;
        let is_tap = first.offset == 0 && matches!(first.kind, Kind::TapFd);
        let number = is_tap.then(|| bytes.first_chunk().copied())?;
        usize::try_from(i32::from_ne_bytes(number?)).ok()
    }

    /// The bytes of a structure.
    pub(crate) fn bytes(
        &self,
        mood: Mood,
        chance: &mut Chance,
        world: &World,
        arena: &Arena,
    ) -> Vec<u8> {
        let odd = chance.below(self.fields.len());
        let mut bytes = vec![0; self.size];
        for (nth, field) in self.fields.iter().enumerate() {
            let strange = mood == Mood::Wild || (mood == Mood::OneOff && nth == odd);
            let Some(place) = bytes.get_mut(field.offset..field.offset + field.width) else {
                continue;
            };
            if strange {
                disturb(place, chance);
            } else {
                field.kind.fill(place, chance, world, arena);
            }
        }
        bytes
    }
}

/// Something that does not belong into a field: in one place of it, or everywhere.
fn disturb(place: &mut [u8], chance: &mut Chance) {
    if place.len() <= 8 {
        put(place, &chance.border().to_ne_bytes());
    } else if chance.one_in(2) {
        let at = chance.below(place.len());
        place[at] = chance.draw() as u8;
    } else {
        place.fill_with(|| chance.draw() as u8);
    }
}

impl Kind {
    fn fill(self, place: &mut [u8], chance: &mut Chance, world: &World, arena: &Arena) {
        let number = match self {
            Self::Zero => 0,
            Self::Version => u64::from(chance.pick(&[0, ABI_VERSION]).unwrap_or(0)),
            Self::Count => chance.pick(&[0, 0, 1, 2, 16, 64, 256]).unwrap_or(0),
            Self::Cells => chance.pick(&[0, 16, 32, 64, 256, 1024]).unwrap_or(0),
            Self::Time => chance.pick(&[1, 1, 20, 20, 100, 2000, 0]).unwrap_or(1),
            Self::OneOf(count) => u64::from(chance.draw() % count),
            Self::Mode => chance.pick(&[1, 1, 1, 2, 2, 2, 3]).unwrap_or(1),
            // Else there would be few taps at a time: each takes an interface's side for itself.
            Self::Fanout => chance.pick(&[0, 1, 1, 2, 2, 3]).unwrap_or(0),
            Self::Option(_) | Self::Age | Self::Mbufs | Self::MbufSize if !chance.one_in(8) => 0,
            Self::Option(count) => u64::from(chance.draw() % count),
            Self::Age => chance.pick(&[1, 1000, 100_000]).unwrap_or(1),
            Self::Mbufs => chance.pick(&[16, 64, 256]).unwrap_or(16),
            Self::Bits(count) => match chance.below(3) {
                0 => u64::from(chance.draw() & (u32::MAX >> (32 - count))),
                1 => 1 << chance.below(count as usize),
                _ => 0,
            },
            Self::MbufSize => chance.pick(&[512, 2048, 32768]).unwrap_or(512),
            Self::Group => {
                let name: &[u8] = match chance.below(24) {
                    0 | 1 => b"one",
                    2 | 3 => b"two",
                    4 => &[b'x'; GROUP_MAX],
                    _ => b"",
                };
                put(place, name);
                return;
            }
            Self::Filter => {
                let (kind, len_or_fd, program) = match chance.below(16) {
                    0 => (FILTER_CLASSIC, arena.program(chance), arena.programs()),
                    1 => (FILTER_EBPF, world.other_fd(chance) as u32, 0),
                    _ => (0, 0, 0),
                };
                let filter = ioctl::Filter {
                    kind,
                    len_or_fd,
                    program: program as u64,
                };
                put(place, filter.as_bytes());
                return;
            }
            Self::Bytes => chance.pick(&[0, 0, 0, 64, 200, 4000, 1 << 20]).unwrap_or(0),
            Self::TapFd => match chance.below(3) {
                0 => u64::MAX,
                _ => world.tap_fd(chance) as u64,
            },
            Self::NetnsFd => match chance.below(24) {
                0 => world.other_fd(chance) as u64,
                _ => u64::MAX,
            },
            Self::TapId => u64::from(world.tap_id(chance)),
            Self::FromId => chance.below(4) as u64,
            Self::RecordSize => chance.pick(&[8, 40, 320, 512, 4096]).unwrap_or(8),
            Self::Address => arena.records() as u64,
            Self::Name => {
                put(place, world.interface(chance).as_bytes());
                return;
            }
        };
        put(place, &number.to_ne_bytes());
    }
}

/// As much as there is room for.
fn put(place: &mut [u8], bytes: &[u8]) {
    place
        .iter_mut()
        .zip(bytes)
        .for_each(|(to, &from)| *to = from);
}
