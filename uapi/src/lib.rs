// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! The ABI between the NetTap module and the programs that use it.
//!
//! These files are compiled three times: into the module, into the library, and by `cbindgen` into
//! `include/nettap.h`. Nothing about the border between kernel and program is written anywhere else.
//!
//! # How the ABI grows
//!
//! 1. A program asks [`ioctl::Info`] first. The module serves every program whose [`ABI_VERSION`]
//!    is not newer than its own; [`FEATURES`] says what it can do beyond the first version.
//! 2. Each request carries the size of its structure in the ioctl number. A shorter structure than
//!    the module's is an older program: what it lacks reads as zero. A longer one is a newer
//!    program: the part that the module does not know must be zero, else `E2BIG`.
//! 3. Fields are appended or taken out of reserved ones, never moved, renamed or given a new
//!    meaning. Zero always means what an older program got.
//! 4. Reserved fields must be zero and unknown flag bits must be clear, else `EINVAL`.
//! 5. Integers are little endian as on the machine, structures have no padding and the same layout
//!    in 32-bit and 64-bit programs. Pointers travel as `u64`.
//! 6. Nothing is removed. What no longer makes sense is refused with `EOPNOTSUPP`.
//!
//! # What memory means what
//!
//! Shared pages are written by one side and mapped read-only for the other wherever that is
//! possible; [`layout`] says which page is which. Nothing that a program can write is believed: the
//! module keeps its own account of who holds which mbuf (see [`mbuf`]) and of its own ring
//! positions (see [`ring`]).
//!
//! # History
//!
//! - 1: the first version.

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]

pub mod event;
pub mod ioctl;
pub mod layout;
pub mod lock;
pub mod mbuf;
pub mod ring;
pub mod stats;
pub mod tap;

/// Version of the ABI that these files describe.
pub const ABI_VERSION: u32 = 1;

/// Feature bit: sessions can share a tap.
pub const FEATURE_FANOUT: u64 = 1;
/// Feature bit: named groups, with regions of their own.
pub const FEATURE_GROUPS: u64 = 1 << 1;
/// Feature bit: policies can be changed while a tap is open; `max_age` and `no_consumer`.
pub const FEATURE_POLICIES: u64 = 1 << 2;
/// Feature bit: taps can have filters.
pub const FEATURE_FILTER: u64 = 1 << 3;
/// Feature bit: a session can listen to events, see [`ioctl::Monitor`].
pub const FEATURE_EVENTS: u64 = 1 << 4;
/// Feature bit: shared locks, see [`lock`].
pub const FEATURE_LOCKS: u64 = 1 << 5;
/// Feature bit: a session can be served without rest, see [`ioctl::Serve`].
pub const FEATURE_BUSY: u64 = 1 << 6;
/// Feature bit: sessions can share a tap by CPU, see [`tap::FANOUT_CPU`].
pub const FEATURE_FANOUT_CPU: u64 = 1 << 7;
/// Feature bit: packets can come without time stamps, see [`tap::TAP_UNSTAMPED`].
pub const FEATURE_UNSTAMPED: u64 = 1 << 8;

/// Feature bits of this version; see [`ioctl::Info::features`].
pub const FEATURES: u64 = FEATURE_FANOUT
    | FEATURE_GROUPS
    | FEATURE_POLICIES
    | FEATURE_FILTER
    | FEATURE_EVENTS
    | FEATURE_LOCKS
    | FEATURE_BUSY
    | FEATURE_FANOUT_CPU
    | FEATURE_UNSTAMPED;
