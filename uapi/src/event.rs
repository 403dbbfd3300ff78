// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! Events: what happens to sessions, taps and packets, told to whoever listens.
//!
//! [`Monitor`](super::ioctl::Monitor) makes a session a *listener*. `read` on it returns whole
//! [`Event`] records, at least one, and waits for it unless the descriptor is `O_NONBLOCK`; `poll`
//! and `epoll` say when there is one. Each listener has a queue of its own of [`EVENT_QUEUE`] events.
//! When it is full the oldest goes, and the next record that is read tells how many went.

use super::tap::GROUP_MAX;
use super::tap::IFNAME_MAX;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Events that a listener's queue holds.
pub const EVENT_QUEUE: u32 = 256;
/// Most listeners of the machine.
pub const LISTENERS_MAX: u32 = 64;

/// [`Event::kind`]: a session was opened.
pub const EVENT_SESSION_OPEN: u32 = 1;
/// [`Event::kind`]: a session has ended; `cause`.
pub const EVENT_SESSION_CLOSE: u32 = 2;
/// [`Event::kind`]: a session has joined a region.
pub const EVENT_MAP: u32 = 3;
/// [`Event::kind`]: a session has left its region; `cause`.
pub const EVENT_UNMAP: u32 = 4;
/// [`Event::kind`]: a tap was opened.
pub const EVENT_TAP_OPEN: u32 = 5;
/// [`Event::kind`]: a tap has ended; `cause`, and `by` for `CAUSE_UNTAP`.
pub const EVENT_TAP_CLOSE: u32 = 6;
/// [`Event::kind`]: what the program of a tap or a session held was taken back: `count` mbufs. Of the
/// packets in them `passed` were sent on and `dropped` dropped; `cause`.
pub const EVENT_RECLAIM: u32 = 7;
/// [`Event::kind`]: packets did not come to the program, or were not taken from it. Since the last event
/// of this tap and `cause`, `passed` went on without the program and `dropped` were dropped. Told at the
/// first packet, then at most once a second, and when the tap ends.
pub const EVENT_DROP: u32 = 8;
/// [`Event::kind`]: a tap lets packets pass from now on, because its program has held one for too long.
/// What it held is told as [`EVENT_RECLAIM`].
pub const EVENT_FAIL_OPEN: u32 = 9;
/// [`Event::kind`]: the program has caught up, and packets are detoured again; `passed` went by
/// meanwhile.
pub const EVENT_FAIL_OPEN_END: u32 = 10;
/// [`Event::kind`]: policies of a tap were changed: the `SET_` bits in `what`; `by`.
pub const EVENT_POLICY: u32 = 11;
/// [`Event::kind`]: shared locks of a session that has ended were released: `count`; `cause`.
pub const EVENT_LOCK_RELEASED: u32 = 12;
/// [`Event::kind`]: an interface that had taps is gone, and they with it: `count`. With them `dropped`
/// packets went, which had nowhere to go.
pub const EVENT_INTERFACE_GONE: u32 = 13;
/// [`Event::kind`]: a named group was made; `by`.
pub const EVENT_GROUP_MADE: u32 = 14;
/// [`Event::kind`]: a named group went with its last session; `by`.
pub const EVENT_GROUP_GONE: u32 = 15;

/// [`Event::cause`]: none to tell.
pub const CAUSE_NONE: u32 = 0;
/// [`Event::cause`]: the last descriptor was closed.
pub const CAUSE_CLOSED: u32 = 1;
/// [`Event::cause`]: the process has ended or was killed.
pub const CAUSE_EXIT: u32 = 2;
/// [`Event::cause`]: somebody who may asked for the tap's end, by its id.
pub const CAUSE_UNTAP: u32 = 3;
/// [`Event::cause`]: `mbuf_unmap`.
pub const CAUSE_UNMAP: u32 = 4;
/// [`Event::cause`]: the interface was deleted or left its namespace.
pub const CAUSE_INTERFACE_GONE: u32 = 5;
/// [`Event::cause`]: a packet was held longer than `max_age`.
pub const CAUSE_MAX_AGE: u32 = 6;
/// [`Event::cause`]: a policy was changed.
pub const CAUSE_POLICY: u32 = 7;
/// [`Event::cause`]: the detour ring was full.
pub const CAUSE_RING: u32 = 16;
/// [`Event::cause`]: no mbuf was free.
pub const CAUSE_MBUFS: u32 = 17;
/// [`Event::cause`]: the tap held `max_bytes`.
pub const CAUSE_BYTES: u32 = 18;
/// [`Event::cause`]: the packet was not readable by a processor, or there was no memory to keep it.
pub const CAUSE_OTHER: u32 = 19;
/// [`Event::cause`]: offset, length or chain of a changed or new packet could not be.
pub const CAUSE_SHAPE: u32 = 20;
/// [`Event::cause`]: checksum or segmentation state of a changed or new packet could not be.
pub const CAUSE_OFFLOAD: u32 = 21;
/// [`Event::cause`]: the change did not fit the packet, or the packet not the interface.
pub const CAUSE_CHANGE: u32 = 22;
/// [`Event::cause`]: no memory for a changed or new packet.
pub const CAUSE_MEMORY: u32 = 23;
/// [`Event::cause`]: the host or the interface refused the packet after the tap had sent it on.
pub const CAUSE_UNDELIVERED: u32 = 24;

/// One event. What does not belong to its kind is zero. Records grow at the end only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// Number among the events of this listener, from 1; those that were lost count, too.
    pub number: u64,
    /// When, in nanoseconds of `CLOCK_REALTIME`.
    pub time: u64,
    /// Events between this one and the record before it that were lost.
    pub lost: u64,
    /// How many of what the kind says.
    pub count: u64,
    /// Packets that went on without the program.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,

    /// One of the `EVENT_` kinds.
    pub kind: u32,
    /// One of the `CAUSE_` causes.
    pub cause: u32,
    /// Session, or the one that opened the tap.
    pub session: u32,
    /// Tap.
    pub tap: u32,
    /// Process that opened session or tap, as the initial pid namespace numbers it.
    pub pid: u32,
    /// Process that asked for it, where it need not be the same; numbered likewise.
    pub by: u32,
    /// One of the `TAP_` modes.
    pub mode: u32,
    /// Interface.
    pub ifindex: u32,
    /// Inode number of the interface's network namespace.
    pub netns: u32,
    /// `SET_` bits of what was changed.
    pub what: u32,
    /// Group; 0 is the default one.
    pub group: u32,
    /// Zero.
    pub pad: u32,

    /// Name of the process that opened session or tap.
    pub comm: [u8; 16],
    /// Interface, zero terminated.
    pub ifname: [u8; IFNAME_MAX],
    /// Group, zero terminated; with those kinds that are about groups.
    pub group_name: [u8; GROUP_MAX],
    /// Zero.
    pub reserved: [u64; 4],
}

/// What happened; see the `EVENT_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum EventKind {
    /// [`EVENT_SESSION_OPEN`].
    SessionOpen = EVENT_SESSION_OPEN,
    /// [`EVENT_SESSION_CLOSE`].
    SessionClose = EVENT_SESSION_CLOSE,
    /// [`EVENT_MAP`].
    Map = EVENT_MAP,
    /// [`EVENT_UNMAP`].
    Unmap = EVENT_UNMAP,
    /// [`EVENT_TAP_OPEN`].
    TapOpen = EVENT_TAP_OPEN,
    /// [`EVENT_TAP_CLOSE`].
    TapClose = EVENT_TAP_CLOSE,
    /// [`EVENT_RECLAIM`].
    Reclaim = EVENT_RECLAIM,
    /// [`EVENT_DROP`].
    Drop = EVENT_DROP,
    /// [`EVENT_FAIL_OPEN`].
    FailOpen = EVENT_FAIL_OPEN,
    /// [`EVENT_FAIL_OPEN_END`].
    FailOpenEnd = EVENT_FAIL_OPEN_END,
    /// [`EVENT_POLICY`].
    Policy = EVENT_POLICY,
    /// [`EVENT_LOCK_RELEASED`].
    LockReleased = EVENT_LOCK_RELEASED,
    /// [`EVENT_INTERFACE_GONE`].
    InterfaceGone = EVENT_INTERFACE_GONE,
    /// [`EVENT_GROUP_MADE`].
    GroupMade = EVENT_GROUP_MADE,
    /// [`EVENT_GROUP_GONE`].
    GroupGone = EVENT_GROUP_GONE,
}

impl EventKind {
    /// All of them, by number.
    pub const ALL: [Self; 15] = [
        Self::SessionOpen,
        Self::SessionClose,
        Self::Map,
        Self::Unmap,
        Self::TapOpen,
        Self::TapClose,
        Self::Reclaim,
        Self::Drop,
        Self::FailOpen,
        Self::FailOpenEnd,
        Self::Policy,
        Self::LockReleased,
        Self::InterfaceGone,
        Self::GroupMade,
        Self::GroupGone,
    ];

    /// The kind that a structure's integer names, or nothing when it names none.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.raw() == raw)
    }

    /// The integer for structures.
    pub const fn raw(self) -> u32 {
        self as u32
    }

    /// Its bit in [`Monitor::kinds`](super::ioctl::Monitor::kinds).
    pub const fn bit(self) -> u64 {
        1u64.wrapping_shl(self as u32)
    }

    /// The word that people use for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionOpen => "session-open",
            Self::SessionClose => "session-close",
            Self::Map => "map",
            Self::Unmap => "unmap",
            Self::TapOpen => "tap-open",
            Self::TapClose => "tap-close",
            Self::Reclaim => "reclaim",
            Self::Drop => "drop",
            Self::FailOpen => "fail-open",
            Self::FailOpenEnd => "fail-open-end",
            Self::Policy => "policy",
            Self::LockReleased => "lock-released",
            Self::InterfaceGone => "interface-gone",
            Self::GroupMade => "group-made",
            Self::GroupGone => "group-gone",
        }
    }
}

/// The word that people use for a cause, or nothing when the integer names none that these files know.
pub const fn cause_name(raw: u32) -> Option<&'static str> {
    Some(match raw {
        CAUSE_CLOSED => "closed",
        CAUSE_EXIT => "exit",
        CAUSE_UNTAP => "untap",
        CAUSE_UNMAP => "unmap",
        CAUSE_INTERFACE_GONE => "interface-gone",
        CAUSE_MAX_AGE => "max-age",
        CAUSE_POLICY => "policy",
        CAUSE_RING => "ring",
        CAUSE_MBUFS => "mbufs",
        CAUSE_BYTES => "bytes",
        CAUSE_OTHER => "other",
        CAUSE_SHAPE => "shape",
        CAUSE_OFFLOAD => "offload",
        CAUSE_CHANGE => "change",
        CAUSE_MEMORY => "memory",
        CAUSE_UNDELIVERED => "undelivered",
        _ => return None,
    })
}
