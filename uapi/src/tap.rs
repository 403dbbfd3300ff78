// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! The vocabulary of taps: modes, policies, limits.
//!
//! Values in structures are plain integers, because a program can write any of them; each has an
//! enum here and the one function that turns the integer into it, or refuses.

/// Received packets go to the program before the host's network layer sees them, and revert into
/// the host's network layer (patent paragraph 37).
pub const TAP_INPUT: u32 = 1;
/// Packets that the host sends go to the program before the interface sees them, and revert to the
/// interface (patent paragraph 38).
pub const TAP_OUTPUT: u32 = 2;
/// The interface and the program exchange packets, the host's network layer is cut off (patent
/// paragraph 39).
pub const TAP_BYPASS: u32 = 3;

/// `on_full`: a packet for which there is no mbuf, no ring cell or no byte budget goes on as if
/// there were no tap. The default.
pub const ON_FULL_PASS: u32 = 0;
/// `on_full`: such a packet is dropped, as a network card does when its ring is full.
pub const ON_FULL_DROP: u32 = 1;

/// `on_exit`: packets that the program still holds when its tap ends go on unmodified and in order.
/// The default.
pub const ON_EXIT_REVERT: u32 = 0;
/// `on_exit`: such packets are dropped.
pub const ON_EXIT_DROP: u32 = 1;

/// `gso`: super-packets (GSO, GRO) pass whole, as the kernel has them. The default.
pub const GSO_WHOLE: u32 = 0;
/// `gso`: super-packets are cut into packets of wire size before the program sees them.
pub const GSO_SEGMENT: u32 = 1;

/// `no_consumer`: while no program consumes, because all taps of a fan-out are on standby, packets go on
/// as if there were no tap. The default.
pub const NO_CONSUMER_PASS: u32 = 0;
/// `no_consumer`: such packets wait for the next program that opens the tap, up to `max_bytes` and
/// `max_age`: a program can be replaced without a packet passing it by.
pub const NO_CONSUMER_HOLD: u32 = 1;

/// `fanout`: one session has the tap, a second one gets `EBUSY`. The default.
pub const FANOUT_NONE: u32 = 0;
/// `fanout`: sessions share the packets of one mode of an interface; each goes to the one that holds
/// least.
pub const FANOUT_ANY: u32 = 1;
/// `fanout`: the same, and the packets of a flow go to the same session, by the packet's flow hash.
pub const FANOUT_FLOW: u32 = 2;
/// `fanout`: the same, and the packets that come on a CPU go to the same session: sessions have their turns
/// in the order in which they joined. One whose gate is shut is passed over. With
/// [`FEATURE_FANOUT_CPU`](super::FEATURE_FANOUT_CPU).
pub const FANOUT_CPU: u32 = 3;

/// Flag of a tap: it keeps the tap open and gets packets only while nobody else of its fan-out consumes and
/// `no_consumer` says hold.
pub const TAP_STANDBY: u32 = 1;
/// Flag of a tap: its program does not look at the time of packets. What brings no time stamp gets none, and the
/// kernel's clock is not read for each packet.
pub const TAP_UNSTAMPED: u32 = 2;
/// All flags of a tap.
pub const TAP_FLAGS: u32 = TAP_STANDBY | TAP_UNSTAMPED;

/// No filter: all packets are detoured.
pub const FILTER_NONE: u32 = 0;
/// Classic BPF, as tcpdump compiles it.
pub const FILTER_CLASSIC: u32 = 1;
/// An eBPF program of type socket filter.
pub const FILTER_EBPF: u32 = 2;
/// Most instructions of a classic filter: `BPF_MAXINSNS` of linux/bpf_common.h.
pub const FILTER_MAX: u32 = 4096;

/// Who may join a group: the effective user who created it. The default.
pub const ACCESS_UID: u32 = 0;
/// Who may join a group: whoever is in its creator's effective users' group.
pub const ACCESS_GID: u32 = 1;
/// Who may join a group: everybody who can open the device (FFPF's one-for-all).
pub const ACCESS_ALL: u32 = 2;
/// Longest name of a group, with its terminating zero.
pub const GROUP_MAX: usize = 32;

/// Fewest cells of a ring.
pub const RING_MIN: u32 = 16;
/// Most cells of a ring.
pub const RING_MAX: u32 = 1 << 16;
/// Cells of a ring when the program does not say.
pub const RING_DEFAULT: u32 = 256;
/// Most taps of one session.
pub const TAPS_MAX: u32 = 64;
/// Most mbufs of one packet. Longer packets are captured up to here, as with a snap length.
pub const CHAIN_MAX: u32 = 64;
/// Bytes of packets (with the kernel's bookkeeping) that one tap may hold when the program does not
/// say: 32 MiB.
pub const MAX_BYTES_DEFAULT: u64 = 32 << 20;
/// Longest interface name, with its terminating zero: `IFNAMSIZ` of linux/if.h.
pub const IFNAME_MAX: usize = 16;

/// What a tap is between; see the `TAP_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// [`TAP_INPUT`].
    Input,
    /// [`TAP_OUTPUT`].
    Output,
    /// [`TAP_BYPASS`].
    Bypass,
}

impl Mode {
    /// The mode that a structure's integer names, or nothing when it names none.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            TAP_INPUT => Some(Self::Input),
            TAP_OUTPUT => Some(Self::Output),
            TAP_BYPASS => Some(Self::Bypass),
            _ => None,
        }
    }

    /// The integer for structures.
    pub const fn raw(self) -> u32 {
        match self {
            Self::Input => TAP_INPUT,
            Self::Output => TAP_OUTPUT,
            Self::Bypass => TAP_BYPASS,
        }
    }

    /// The word that people use for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Bypass => "bypass",
        }
    }

    /// Whether two taps of these modes can stand on one interface at once: only input beside output
    /// (patent paragraph 39).
    pub const fn beside(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Input, Self::Output) | (Self::Output, Self::Input)
        )
    }
}

/// What happens to a packet that finds no room; see the `ON_FULL_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// [`ON_FULL_PASS`].
    Pass,
    /// [`ON_FULL_DROP`].
    Drop,
}

impl OnFull {
    /// The policy that a structure's integer names.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            ON_FULL_PASS => Some(Self::Pass),
            ON_FULL_DROP => Some(Self::Drop),
            _ => None,
        }
    }
}

/// What happens to held packets when the tap ends; see the `ON_EXIT_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// [`ON_EXIT_REVERT`].
    Revert,
    /// [`ON_EXIT_DROP`].
    Drop,
}

impl OnExit {
    /// The policy that a structure's integer names.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            ON_EXIT_REVERT => Some(Self::Revert),
            ON_EXIT_DROP => Some(Self::Drop),
            _ => None,
        }
    }
}

/// How super-packets reach the program; see the `GSO_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// [`GSO_WHOLE`].
    Whole,
    /// [`GSO_SEGMENT`].
    Segment,
}

impl Gso {
    /// The option that a structure's integer names.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            GSO_WHOLE => Some(Self::Whole),
            GSO_SEGMENT => Some(Self::Segment),
            _ => None,
        }
    }
}

/// What happens to packets while nobody consumes; see the `NO_CONSUMER_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConsumer {
    /// [`NO_CONSUMER_PASS`].
    Pass,
    /// [`NO_CONSUMER_HOLD`].
    Hold,
}

impl NoConsumer {
    /// The value that a structure's integer names.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            NO_CONSUMER_PASS => Some(Self::Pass),
            NO_CONSUMER_HOLD => Some(Self::Hold),
            _ => None,
        }
    }
}

/// How sessions share a tap; see the `FANOUT_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fanout {
    /// [`FANOUT_NONE`].
    None,
    /// [`FANOUT_ANY`].
    Any,
    /// [`FANOUT_FLOW`].
    Flow,
    /// [`FANOUT_CPU`].
    Cpu,
}

impl Fanout {
    /// The value that a structure's integer names.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            FANOUT_NONE => Some(Self::None),
            FANOUT_ANY => Some(Self::Any),
            FANOUT_FLOW => Some(Self::Flow),
            FANOUT_CPU => Some(Self::Cpu),
            _ => None,
        }
    }
}

/// Who may join a group; see the `ACCESS_` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// [`ACCESS_UID`].
    Uid,
    /// [`ACCESS_GID`].
    Gid,
    /// [`ACCESS_ALL`].
    All,
}

impl Access {
    /// The value that a structure's integer names.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            ACCESS_UID => Some(Self::Uid),
            ACCESS_GID => Some(Self::Gid),
            ACCESS_ALL => Some(Self::All),
            _ => None,
        }
    }

    /// The integer for structures.
    pub const fn raw(self) -> u32 {
        match self {
            Self::Uid => ACCESS_UID,
            Self::Gid => ACCESS_GID,
            Self::All => ACCESS_ALL,
        }
    }

    /// The word that people use for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::All => "all",
        }
    }
}
