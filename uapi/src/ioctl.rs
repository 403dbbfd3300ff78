// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! Requests on `/dev/nettap`. Tap descriptors take none: they are waited on, and closed.
//!
//! Patent names: [`MAP`] is `mbuf_map`, [`UNMAP`] `mbuf_unmap`, [`PULL`] `mbuf_pull`, [`PUSH`]
//! `mbuf_push`, [`TAP`] `interface_tap`, [`UNTAP`] `interface_untap`. Requests return 0, or -1 with
//! `errno`; the errors of each are listed with it. Every request can also fail with
//!
//! - `ENOTTY`: no such request (or not on this kind of descriptor),
//! - `EFAULT`: the structure is not readable or not writable,
//! - `EINVAL`: a reserved field is not zero, or an integer names nothing,
//! - `E2BIG`: the structure is longer than the module knows and the rest is not zero.

use super::layout::RingMap;
use super::tap::IFNAME_MAX;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The letter of all requests, in `_IOC` terms.
pub const MAGIC: u8 = 0xce;

/// Number of the request with structure [`Info`], on sessions.
pub const INFO: u8 = 0x40;
/// Number of the request with structure [`Map`], on sessions.
pub const MAP: u8 = 0x41;
/// Number of the request without a structure, on sessions.
///
/// Ends the session's taps, takes its mbufs back and destroys its alloc and dealloc rings. The memory
/// stays mapped until `munmap`, but is of no use any more. `ENXIO`: nothing is mapped.
pub const UNMAP: u8 = 0x42;
/// Number of the request with structure [`Pull`], on sessions.
pub const PULL: u8 = 0x43;
/// Number of the request with structure [`Push`], on sessions.
pub const PUSH: u8 = 0x44;
/// Number of the request with structure [`Tap`], on sessions.
pub const TAP: u8 = 0x45;
/// Number of the request with structure [`Untap`], on sessions.
pub const UNTAP: u8 = 0x46;
/// Number of the request with structure [`Query`], on sessions.
pub const QUERY: u8 = 0x47;

/// What module and ABI this is. Never fails for want of state or privilege.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Info {
    /// In: the ABI version that the program was built with, or 0. `EPROTO`: newer than the module.
    /// Out: the module's.
    pub abi_version: u32,
    /// Out: id of this session.
    pub session: u32,
    /// Out: feature bits.
    pub features: u64,
    /// Out: size of an mbuf in the default region.
    pub mbuf_size: u32,
    /// Out: mbufs of the default region.
    pub mbufs: u32,
    /// Out: shortest time between two rounds of serving while something is out, in microseconds.
    pub alpha_min_us: u32,
    /// Out: longest such time.
    pub alpha_max_us: u32,
    /// Out: most cells of a ring.
    pub ring_max: u32,
    /// Out: most taps of a session.
    pub taps_max: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

/// `mbuf_map`: joins a region and creates the session's alloc and dealloc rings (patent paragraph 33).
///
/// - `EPERM`: the caller lacks `CAP_NET_ADMIN`; whoever maps a region sees every packet in it.
/// - `EBUSY`: this session has mapped already.
/// - `EINVAL`: `prealloc` is more than the region has or the alloc ring could hold, `ring_cells` is no
///   power of two in range.
/// - `ENOBUFS`: the locked-memory limit (`ulimit -l`) would be exceeded.
/// - `ENOMEM`: no memory for region or rings, or fewer than `prealloc` mbufs are free.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Map {
    /// In: must be zero.
    pub flags: u32,
    /// In: how many mbufs the kernel keeps in the alloc ring, at least (patent paragraph 34).
    pub prealloc: u32,
    /// In: cells of the alloc and dealloc rings; 0 lets the kernel choose.
    pub ring_cells: u32,
    /// Out: size of an mbuf.
    pub mbuf_size: u32,
    /// Out: mbufs of the region.
    pub mbufs: u32,
    /// Out: where data begin in an mbuf that the kernel hands out.
    pub data_offset: u32,
    /// Out: mmap offset of the region.
    pub region_offset: u64,
    /// Out: length of the region.
    pub region_len: u64,
    /// Out: the alloc ring.
    pub alloc: RingMap,
    /// Out: the dealloc ring.
    pub dealloc: RingMap,
    /// In: name of the group whose region to join; must be zero, the default group.
    pub group: [u8; 32],
    /// In: must be zero.
    pub reserved: [u64; 4],
}

/// `mbuf_pull` (patent paragraphs 34 and 41).
///
/// With `n` above zero: puts `n` more mbufs into the alloc ring now. With `n` zero: waits until a
/// detour ring of the session has a packet. Either serves all rings of the session on the way.
///
/// - `ETIMEDOUT`: the time passed first.
/// - `EINTR`: a signal came first.
/// - `ENXIO`: nothing is mapped.
/// - `EINVAL`: `n` is more than the alloc ring has free cells.
/// - `ENODEV`: `n` is zero and the session has no tap that could bring a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Pull {
    /// In: mbufs wanted, or 0.
    pub n: u32,
    /// In: must be zero.
    pub reserved: u32,
    /// In: longest wait in microseconds; 0 waits for ever.
    pub timeout_us: u64,
}

/// `mbuf_push` (patent paragraphs 34 and 42).
///
/// With a tap: serves the session and waits until the kernel has taken `n` more entries from the
/// tap's revert ring, or all of them if there are fewer. `n` zero is the doorbell: serve, do not
/// wait. With `tap` -1: takes everything from the dealloc ring.
///
/// - `ETIMEDOUT`, `EINTR`: as for [`Pull`].
/// - `ENXIO`: nothing is mapped, with `tap` -1.
/// - `EBADF`: `tap` is no descriptor of a tap of this session.
/// - `ENODEV`: the tap had ended before. One that ends during the wait ends the wait.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Push {
    /// In: tap descriptor, or -1.
    pub tap: i32,
    /// In: entries to wait for.
    pub n: u32,
    /// In: longest wait in microseconds; 0 waits for ever.
    pub timeout_us: u64,
}

/// `interface_tap` (patent paragraphs 36 to 40): opens a tap and returns its descriptor.
///
/// `poll` on the descriptor is readable while the detour ring has a packet and reports `POLLHUP`
/// once the tap has ended. Closing its last copy ends the tap.
///
/// - `ENXIO`: the session has not mapped.
/// - `ENODEV`: no such interface in the namespace.
/// - `EPERM`: no `CAP_NET_ADMIN` over the interface's network namespace.
/// - `EBUSY`: a tap that this one cannot stand beside is open on the interface.
/// - `ENOSPC`: the session has as many taps as it may.
/// - `ENOBUFS`, `ENOMEM`: as for [`Map`].
/// - `EOPNOTSUPP`: frames of the interface have no Ethernet header.
/// - `EBADF`: `netns` is no descriptor. `EMFILE`, `ENFILE`: no descriptor is left for the tap.
/// - `E2BIG`: netfilter takes no more hooks on the interface (1024).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tap {
    /// In: interface, zero terminated.
    pub ifname: [u8; IFNAME_MAX],
    /// In: one of the `TAP_` modes.
    pub mode: u32,
    /// In: must be zero.
    pub flags: u32,
    /// In: descriptor of a network namespace to look in, or -1 for the caller's.
    pub netns: i32,
    /// In: cells of the detour and revert rings; 0 lets the kernel choose.
    pub ring_cells: u32,
    /// In: longest part of a packet that is copied for the program; 0 copies all of it.
    pub snaplen: u32,
    /// In: one of the `ON_FULL_` policies.
    pub on_full: u32,
    /// In: one of the `ON_EXIT_` policies.
    pub on_exit: u32,
    /// In: one of the `GSO_` options.
    pub gso: u32,
    /// In: most bytes of packets (with the kernel's bookkeeping) that the tap may hold; 0 for the
    /// default.
    pub max_bytes: u64,
    /// Out: tap descriptor.
    pub fd: i32,
    /// Out: id of the tap.
    pub id: u32,
    /// Out: index of the interface.
    pub ifindex: u32,
    /// Zero.
    pub pad: u32,
    /// Out: the detour ring.
    pub detour: RingMap,
    /// Out: the revert ring.
    pub revert: RingMap,
    /// In: must be zero (consumer policy, age limit, filter and fan-out of a later version).
    pub reserved: [u64; 8],
}

/// `interface_untap` by id, for whoever administers the machine; programs close their descriptor.
///
/// The tap ends with its `on_exit` policy; its owner sees `POLLHUP`.
///
/// - `ENOENT`: no tap has this id.
/// - `EPERM`: no `CAP_NET_ADMIN` over the interface's network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Untap {
    /// In: id of the tap.
    pub id: u32,
    /// In: must be zero.
    pub reserved: u32,
}

/// [`Query::kind`]: the region, one [`RegionStats`].
pub const QUERY_REGION: u32 = 1;
/// [`Query::kind`]: sessions, a [`SessionStats`] each.
pub const QUERY_SESSIONS: u32 = 2;
/// [`Query::kind`]: taps, a [`TapStats`] each.
pub const QUERY_TAPS: u32 = 3;
/// [`Query::kind`]: the last figures of the latest taps that have ended, a [`TapStats`] each.
pub const QUERY_ENDED: u32 = 4;

/// Copies records of one kind, in ascending order of their ids.
///
/// The kernel writes records of `record_size` bytes, 8 to 4096: what its records have beyond that is left out,
/// what the program knows beyond that is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Query {
    /// In: one of the `QUERY_` kinds.
    pub kind: u32,
    /// In: size of a record in the program's view.
    pub record_size: u32,
    /// In: records with an id from this one on.
    pub from_id: u32,
    /// In: records that fit. Out: records written.
    pub count: u32,
    /// In: address of the records.
    pub records: u64,
}

/// The region and the module as a whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RegionStats {
    /// Size of an mbuf.
    pub mbuf_size: u32,
    /// Mbufs in all; 0 while no session has mapped.
    pub mbufs: u32,
    /// Free ones.
    pub free: u32,
    /// In alloc rings or with programs, for new packets.
    pub allocated: u32,
    /// With taps: in detour rings or with programs.
    pub detoured: u32,
    /// In the kernel's hands: being filled, or part of a packet on its way out.
    pub kernel: u32,
    /// Sessions that have mapped.
    pub sessions: u32,
    /// Taps.
    pub taps: u32,
    /// Mbufs that were taken back from sessions that ended.
    pub reclaimed: u64,
}

/// One session.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SessionStats {
    /// Id.
    pub id: u32,
    /// Process that opened it.
    pub pid: u32,
    /// That process's name.
    pub comm: [u8; 16],
    /// Whether it has mapped.
    pub mapped: u32,
    /// Its taps.
    pub taps: u32,
    /// Mbufs in its alloc ring or with it for new packets.
    pub allocated: u32,
    /// What its `mbuf_map` asked to keep in the alloc ring.
    pub prealloc: u32,
    /// Entries taken from its dealloc ring.
    pub deallocated: u64,
    /// Entries refused: see [`Refused`].
    pub refused: Refused,
    /// Rounds of serving that its server made.
    pub rounds: u64,
    /// System calls that served it: pulls, pushes, doorbells, polls.
    pub calls: u64,
    /// Times that a sleeper of it was woken.
    pub wakeups: u64,
}

/// Entries of dealloc and revert rings that named nothing the sender may give: each is counted here
/// and changes nothing else.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Refused {
    /// The index is outside the region.
    pub index: u64,
    /// The mbuf is not with this session.
    pub holder: u64,
    /// The mbuf is with this session, but in another use of it: given twice, or stale.
    pub generation: u64,
    /// Unknown flag bits.
    pub flags: u64,
    /// The ring's own words or tags were overwritten.
    pub scribbled: u64,
}

/// One tap. Packets, unless it says otherwise.
///
/// The balance: `detoured = reverted + changed + crossed + dropped_by_program + reinjected +
/// dropped_by_policy + refused_shape + refused_offload + refused_change + refused_memory + in_flight`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TapStats {
    /// Id.
    pub id: u32,
    /// Session that opened it.
    pub session: u32,
    /// Process that opened it.
    pub pid: u32,
    /// One of the `TAP_` modes.
    pub mode: u32,
    /// Interface.
    pub ifindex: u32,
    /// Inode number of the interface's network namespace, as `/proc/PID/ns/net` shows it.
    pub netns: u32,
    /// Interface.
    pub ifname: [u8; IFNAME_MAX],
    /// `on_full` policy.
    pub on_full: u32,
    /// `on_exit` policy.
    pub on_exit: u32,
    /// `gso` option.
    pub gso: u32,
    /// `snaplen` option.
    pub snaplen: u32,
    /// Cells of each ring.
    pub ring_cells: u32,
    /// Entries in the detour ring that no consumer has taken.
    pub ring_used: u32,
    /// `max_bytes` option.
    pub max_bytes: u64,
    /// Bytes held now, with the kernel's bookkeeping.
    pub held_bytes: u64,

    /// Given to the program.
    pub detoured: u64,
    /// Bytes of them, on the wire.
    pub detoured_bytes: u64,
    /// Super-packets among them.
    pub detoured_gso: u64,
    /// Sent on by this tap exactly as they were.
    pub reverted: u64,
    /// Sent on by this tap with changes; not part of `reverted`.
    pub changed: u64,
    /// Sent on by another tap.
    pub crossed: u64,
    /// Dropped by the program: dealloc.
    pub dropped_by_program: u64,
    /// Sent on by the `on_exit` policy.
    pub reinjected: u64,
    /// Dropped by the `on_exit` policy, or because the interface went away.
    pub dropped_by_policy: u64,
    /// Lost because offset, length or chain of the changed packet could not be.
    pub refused_shape: u64,
    /// Lost because checksum or segmentation state of the changed packet could not be.
    pub refused_offload: u64,
    /// Lost because the change did not fit the kept packet (a super-packet resized, a snapped tail
    /// changed) or the other interface could not take it.
    pub refused_change: u64,
    /// Lost for want of memory while the change was made.
    pub refused_memory: u64,
    /// Still out, counted in the kernel's table and not computed from the others.
    pub in_flight: u64,

    /// Not detoured and sent on: the detour ring was full.
    pub passed_ring: u64,
    /// Not detoured and sent on: no mbuf was free.
    pub passed_mbufs: u64,
    /// Not detoured and sent on: `max_bytes`.
    pub passed_bytes: u64,
    /// Not detoured and sent on: a packet that no program can read (device memory), or no memory.
    pub passed_other: u64,
    /// Not detoured and dropped: the detour ring was full.
    pub dropped_ring: u64,
    /// Not detoured and dropped: no mbuf was free.
    pub dropped_mbufs: u64,
    /// Not detoured and dropped: `max_bytes`.
    pub dropped_bytes: u64,
    /// Not detoured and dropped: other reasons.
    pub dropped_other: u64,
    /// Packets of the host that a bypass tap turned away.
    pub cut_off: u64,

    /// Packets of other taps that this tap sent on.
    pub crossed_in: u64,
    /// New packets that this tap sent on.
    pub injected: u64,
    /// New packets refused: their offset, length, chain, checksum or segmentation state could not be,
    /// or there was no memory.
    pub injected_refused: u64,
    /// Entries of the revert ring refused: see [`Refused`].
    pub refused: Refused,
    /// Times that a program's position in the detour ring could not be.
    pub scribbled_detour: u64,
    /// Packets that the host or the interface refused after the tap had sent them on (queue full,
    /// interface down).
    pub undelivered: u64,
    /// Most cells of the detour ring that were ever in use.
    pub ring_high_water: u64,
}

impl TapStats {
    /// Detoured packets that have ended, whichever way.
    pub const fn ended(&self) -> u64 {
        self.reverted
            .wrapping_add(self.changed)
            .wrapping_add(self.crossed)
            .wrapping_add(self.dropped_by_program)
            .wrapping_add(self.reinjected)
            .wrapping_add(self.dropped_by_policy)
            .wrapping_add(self.refused_shape)
            .wrapping_add(self.refused_offload)
            .wrapping_add(self.refused_change)
            .wrapping_add(self.refused_memory)
    }

    /// Whether the balance closes: every packet ends in exactly one counter.
    pub const fn balances(&self) -> bool {
        self.detoured == self.ended().wrapping_add(self.in_flight)
    }
}

/// The request number of a Linux `ioctl`: `_IOWR(MAGIC, nr, size)`.
pub const fn request(nr: u8, size: usize) -> u32 {
    // Direction read and write, 14 bits of size, letter, number: include/uapi/asm-generic/ioctl.h.
    (3 << 30) | ((size as u32 & 0x3fff) << 16) | ((MAGIC as u32) << 8) | nr as u32
}

/// The request number of [`UNMAP`], which carries no structure: `_IO(MAGIC, UNMAP)`.
pub const fn request_unmap() -> u32 {
    ((MAGIC as u32) << 8) | UNMAP as u32
}
