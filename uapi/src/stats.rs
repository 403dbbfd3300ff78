// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! What [`Query`](super::ioctl::Query) copies out: records of regions, sessions and taps. They grow at
//! their ends only.

use super::tap::GROUP_MAX;
use super::tap::IFNAME_MAX;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One region, and those who use it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RegionStats {
    /// Size of an mbuf.
    pub mbuf_size: u32,
    /// Mbufs in all; 0 while no session has mapped the default region.
    pub mbufs: u32,
    /// Free ones.
    pub free: u32,
    /// In alloc rings or with programs, for new packets.
    pub allocated: u32,
    /// With taps: in detour rings or with programs. Of packets that were taken back from programs, too, until those give
    /// the mbufs back.
    pub detoured: u32,
    /// In the kernel's hands: being filled, or part of a packet on its way out.
    pub kernel: u32,
    /// Sessions that have mapped.
    pub sessions: u32,
    /// Taps.
    pub taps: u32,
    /// Mbufs that were taken back from sessions that ended.
    pub reclaimed: u64,

    /// Id of the group; 0 is the default one.
    pub id: u32,
    /// Its access rule, one of the `ACCESS_` constants; of no meaning for the default one.
    pub access: u32,
    /// User whom it belongs to, as the initial namespace numbers users.
    pub uid: u32,
    /// Users' group that it belongs to, likewise.
    pub gid: u32,
    /// Its name, zero terminated.
    pub group: [u8; GROUP_MAX],

    /// Bytes of the region that lie in huge pages of the machine (2 MiB on x86-64).
    pub huge: u64,
}

/// One session.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SessionStats {
    /// Id.
    pub id: u32,
    /// Process that opened it, as the asking process's pid namespace numbers it; 0 if it is not in there.
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

    /// Group whose region it has mapped; 0 is the default one.
    pub group: u32,
    /// Shared locks that it has registered.
    pub locks: u32,
    /// Not 0 while a thread of the kernel's serves it without rest, see [`Serve`](super::ioctl::Serve).
    pub busy: u32,
    /// That thread, as the asking process's pid namespace numbers it; 0 if it is not in there.
    pub thread: u32,
}

/// Entries of dealloc and revert rings that named nothing the sender may give: each is counted here
/// and changes nothing, but that what had been taken back from the sender is free then.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Refused {
    /// The index is outside the region.
    pub index: u64,
    /// The mbuf is not with this session, or its packet was taken back before: then it is free now.
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
/// dropped_by_policy + handed_over + refused_shape + refused_offload + refused_change + refused_memory +
/// in_flight`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TapStats {
    /// Id.
    pub id: u32,
    /// Session that opened it.
    pub session: u32,
    /// Process that opened it, as the asking process's pid namespace numbers it; 0 if it is not in there.
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
    /// Still out. Counted in the kernel's account and not computed from the others, unless packets came or ended
    /// while it was counted.
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
    /// Packets that were not taken after the tap had sent them on: the interface is down, or its queue full.
    /// What the network layer drops after that it counts itself.
    pub undelivered: u64,
    /// Most cells of the detour ring that were ever in use; of fewer than nine, as far as anybody has looked.
    pub ring_high_water: u64,

    /// `no_consumer` policy.
    pub no_consumer: u32,
    /// `fanout` option.
    pub fanout: u32,
    /// `TAP_STANDBY`, `TAP_UNSTAMPED`, both, or zero.
    pub flags: u32,
    /// One of the `FILTER_` kinds.
    pub filter: u32,
    /// `max_age` policy in microseconds; 0: none.
    pub max_age_us: u64,
    /// Group of its region.
    pub group: u32,
    /// Not 0 while it lets packets pass because its program has held one longer than `max_age`.
    pub failed_open: u32,
    /// Times that this began.
    pub fail_opens: u64,
    /// Packets that followed `on_exit` because of `max_age`; part of `reinjected` and
    /// `dropped_by_policy`.
    pub aged: u64,
    /// Given to another tap of the fan-out, because this one is on standby or ended; part of the balance.
    pub handed_over: u64,
    /// Not detoured and sent on: it has failed open, or nobody consumes.
    pub passed_stalled: u64,
    /// Not detoured and sent on: the filter does not match.
    pub passed_filter: u64,
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
            .wrapping_add(self.handed_over)
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
