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
use super::tap::GROUP_MAX;
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
/// Number of the request with structure [`Set`], on sessions.
pub const SET: u8 = 0x48;
/// Number of the request with structure [`Monitor`], on sessions.
pub const MONITOR: u8 = 0x49;
/// Number of the request with structure [`Lock`], on sessions.
pub const LOCK: u8 = 0x4a;
/// Number of the request with structure [`Serve`], on sessions.
pub const SERVE: u8 = 0x4b;

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
/// A *group* is a region of its own, which sessions join by its name (FFPF, section IV.A: flowgroups).
/// The first to name it creates it, with size and access rule, and it goes with its last session. Those
/// who join it give the same sizes and rule, or zero. A name is of printable ASCII without spaces; groups
/// of one name are the same group, whatever user or network namespace they are named in.
///
/// - `EPERM`: the caller lacks `CAP_NET_ADMIN`, over the machine for the default group, over its own
///   network namespace to create a group; whoever maps a region sees every packet in it.
/// - `EACCES`: the group's access rule does not let the caller in.
/// - `EEXIST`: the group is there with other sizes or another rule.
/// - `EBUSY`: this session has mapped already.
/// - `EINVAL`: `prealloc` is more than the region has or the alloc ring could hold, `ring_cells` is no
///   power of two in range, the group's name cannot be, its sizes are out of range, or sizes or a rule
///   are given without a group.
/// - `ENOBUFS`: the locked-memory limit (`ulimit -l`) would be exceeded. Memory counts as long as it is
///   mapped, also after [`UNMAP`].
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
    /// In: name of the group whose region to join, zero terminated; empty: the default group.
    pub group: [u8; GROUP_MAX],
    /// In: who may join a group that this request creates, one of the `ACCESS_` rules.
    pub access: u32,
    /// In: size of an mbuf in a group that this request creates, a power of two from 512 to 32768; 0 for
    /// that of the default region.
    pub group_mbuf_size: u32,
    /// In: mbufs of a group that this request creates, up to 16777216; 0 for as many as the default region
    /// has.
    pub group_mbufs: u32,
    /// In: must be zero.
    pub pad: u32,
    /// Out: mmap offset of the shared locks, which are [`LOCKS_LEN`](super::layout::LOCKS_LEN) long.
    pub locks_offset: u64,
    /// In: must be zero.
    pub reserved: u64,
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
/// With a `fanout` several sessions open the same mode of an interface (patent paragraph 45): each has
/// a tap, with rings, id and figures of its own, and each packet goes to one of them. What decides over
/// a packet before it has a tap must be the same for all: `on_full`, `no_consumer`, `fanout`, `gso` and
/// the filter; the last may differ in `snaplen`, `max_bytes`, `max_age` and ring size.
///
/// - `ENXIO`: the session has not mapped.
/// - `ENODEV`: no such interface in the namespace.
/// - `EPERM`: no `CAP_NET_ADMIN` over the interface's network namespace.
/// - `EBUSY`: a tap that this one cannot stand beside is open on the interface, or one of another
///   group.
/// - `EEXIST`: the taps that this one would share packets with have other options.
/// - `ENOSPC`: the session has as many taps as it may, or as many share the packets as may (64).
/// - `ENOBUFS`, `ENOMEM`: as for [`Map`].
/// - `EOPNOTSUPP`: frames of the interface have no Ethernet header.
/// - `ENOEXEC`: the filter is no program that the kernel takes for one.
/// - `EBADF`: `netns`, or the filter's, is no descriptor. `EMFILE`, `ENFILE`: no descriptor is left for the tap.
/// - `E2BIG`: netfilter takes no more hooks on the interface (1024).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tap {
    /// In: interface, zero terminated.
    pub ifname: [u8; IFNAME_MAX],
    /// In: one of the `TAP_` modes.
    pub mode: u32,
    /// In: `TAP_STANDBY`, `TAP_UNSTAMPED`, both, or zero.
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
    /// In: one of the `NO_CONSUMER_` policies.
    pub no_consumer: u32,
    /// In: one of the `FANOUT_` options.
    pub fanout: u32,
    /// In: microseconds that a packet may be held before it follows `on_exit`; 0: any time.
    pub max_age_us: u64,
    /// In: which packets are detoured.
    pub filter: Filter,
    /// In: must be zero.
    pub reserved: [u64; 4],
}

/// A filter over packets from their Ethernet header on: what does not match never leaves the kernel's
/// path, not even where a bypass tap cuts the host off. Its result is a snap length: 0 does not match, else
/// so many bytes at most are copied. A VLAN tag that travels beside the bytes is seen as with packet
/// sockets (`SKF_AD_VLAN_TAG` of linux/filter.h, `vlan_tci` of `struct __sk_buff`), and a super-packet
/// whole, also where it will be cut.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Filter {
    /// One of the `FILTER_` kinds.
    pub kind: u32,
    /// Classic BPF: number of instructions. eBPF: descriptor of a socket-filter program.
    pub len_or_fd: u32,
    /// Classic BPF: address of the instructions, `struct sock_filter` of linux/filter.h. Else zero.
    pub program: u64,
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

/// Changes policies of an open tap, by id, for whoever administers the machine. What a request does not
/// name stays; either all is changed or nothing. With a fan-out, what all of its taps have in common
/// changes for all.
///
/// - `ENOENT`, `EPERM`: as for [`Untap`].
/// - `EINVAL`: a value names nothing.
/// - `ENOEXEC`, `EBADF`: the filter, as for [`Tap`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Set {
    /// In: id of the tap.
    pub id: u32,
    /// In: `SET_` bits of what is to change.
    pub what: u32,
    /// In: one of the `ON_FULL_` policies.
    pub on_full: u32,
    /// In: one of the `ON_EXIT_` policies.
    pub on_exit: u32,
    /// In: one of the `NO_CONSUMER_` policies.
    pub no_consumer: u32,
    /// In: as in [`Tap`].
    pub snaplen: u32,
    /// In: as in [`Tap`].
    pub max_bytes: u64,
    /// In: as in [`Tap`].
    pub max_age_us: u64,
    /// In: as in [`Tap`].
    pub filter: Filter,
    /// In: must be zero.
    pub reserved: [u64; 4],
}

/// [`Set::what`]: `on_full`.
pub const SET_ON_FULL: u32 = 1;
/// [`Set::what`]: `on_exit`.
pub const SET_ON_EXIT: u32 = 2;
/// [`Set::what`]: `no_consumer`.
pub const SET_NO_CONSUMER: u32 = 4;
/// [`Set::what`]: `snaplen`.
pub const SET_SNAPLEN: u32 = 8;
/// [`Set::what`]: `max_bytes`.
pub const SET_MAX_BYTES: u32 = 16;
/// [`Set::what`]: `max_age`.
pub const SET_MAX_AGE: u32 = 32;
/// [`Set::what`]: the filter; `FILTER_NONE` takes it off.
pub const SET_FILTER: u32 = 64;

/// Shared locks of the session's region (patent paragraph 62); [`lock`](super::lock) says how they are
/// taken and released without a request.
///
/// - `ENXIO`: the session has not mapped, or is unmapped while it waits.
/// - `ENOENT`: it has not registered this lock.
/// - `ETIMEDOUT`, `EINTR`: as for [`Pull`], with [`LOCK_WAIT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Lock {
    /// In: one of the `LOCK_` operations.
    pub op: u32,
    /// In: number of the lock, below [`LOCKS_MAX`](super::lock::LOCKS_MAX).
    pub number: u32,
    /// In, with [`LOCK_WAIT`]: the word as it was seen, with its waiters' bit. Else zero.
    pub seen: u32,
    /// In: must be zero.
    pub pad: u32,
    /// In, with [`LOCK_WAIT`]: longest wait in microseconds, rounded up to ticks of the kernel's; 0 waits
    /// for ever. Else zero.
    pub timeout_us: u64,
    /// In: must be zero.
    pub reserved: u64,
}

/// [`Lock::op`]: should the session end while it has the lock, the kernel releases it. To be asked for
/// before the lock is taken for the first time; twice is as good as once.
pub const LOCK_REGISTER: u32 = 1;
/// [`Lock::op`]: undoes [`LOCK_REGISTER`]. A lock that the session still has is released as at its end.
pub const LOCK_UNREGISTER: u32 = 2;
/// [`Lock::op`]: sleeps while the word is as it was seen. It returns at once when the word has changed,
/// or when the owner that it names is none and the kernel has released it.
pub const LOCK_WAIT: u32 = 3;
/// [`Lock::op`]: wakes all who sleep on the lock, after its release.
pub const LOCK_WAKE: u32 = 4;

/// How the kernel serves the session's rings, from now on and until the session is unmapped. Whatever they say,
/// packets keep their order.
///
/// With [`SERVE_BUSY`] a thread of the kernel's looks at the rings again and again, so that a packet goes on as
/// soon as it is given back, without a call, a timer or a further packet; [`need_wakeup`] stays zero. That takes
/// a processor for as long as it lasts, also when there is nothing to do. The thread is called
/// `napi/nettapSESSION-NUMBER`, with the session's id.
///
/// - `EPERM`: [`SERVE_BUSY`], and no `CAP_NET_ADMIN` over the machine.
/// - `ENXIO`: nothing is mapped.
/// - `ENOMEM`, `EAGAIN`: no thread can be made. `EINTR`: the caller is being killed.
///
/// [`need_wakeup`]: super::ring::Words::need_wakeup
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Serve {
    /// In: [`SERVE_BUSY`], or zero.
    pub flags: u32,
    /// Out: the thread, as the caller's pid namespace numbers it; 0 if there is none, or it is not in there.
    pub thread: u32,
    /// In: must be zero.
    pub reserved: [u64; 3],
}

/// [`Serve::flags`]: a thread of the kernel's serves without rest.
pub const SERVE_BUSY: u32 = 1;

/// [`Query::kind`]: the regions, a [`RegionStats`] each; the default group's has id 0.
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

/// Makes a session that has not mapped a listener: from now on `read` on it returns events, records of
/// [`Event`](super::event::Event), and `poll` is about them. A listener stays one until it is closed; it
/// cannot map, and a session that has mapped cannot listen. Wait for events only after this request.
///
/// - `EPERM`: no `CAP_NET_ADMIN` over the machine.
/// - `EBUSY`: the session has mapped, or listens already.
/// - `EINVAL`: a bit in `kinds` names no kind, or `record_size` is below 8 or above 4096.
/// - `ENOSPC`: there are as many listeners as may be.
/// - `ENOMEM`: no memory for the queue.
///
/// `read` returns as many whole records as there are and fit, at least one.
///
/// - `EAGAIN`: there is none, and the descriptor is `O_NONBLOCK`.
/// - `EINTR`: a signal came first.
/// - `EINVAL`: no record fits, or the session does not listen.
/// - `EFAULT`: the memory is not writable. A record that could not be written counts as lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Monitor {
    /// In: kinds to be told of, `1 << EVENT_`; 0 for all, those of later versions too.
    pub kinds: u64,
    /// In: must be zero.
    pub flags: u32,
    /// In: size of a record in the program's view. What the module's record has beyond it is left out,
    /// what it lacks is zero.
    pub record_size: u32,
    /// Out: events that the queue holds.
    pub queue: u32,
    /// In: must be zero.
    pub pad: u32,
    /// In: must be zero.
    pub reserved: [u64; 2],
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
