// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Detour the packets of a Linux machine through a program, over rings in shared memory.
//!
//! A [`Session`] is one open of `/dev/nettap`. It maps the *region*, memory that kernel and program
//! share and that is divided into *mbufs*. A [`Tap`] stands between an interface and the host's
//! network layer: packets come up through its *detour* ring and go back through its *revert* ring.
//! In the steady state neither direction makes a system call.
//!
//! 1. [`Session::open`] opens, checks that module and library belong together, and maps.
//! 2. [`Session::tap`] opens a tap; from then on packets detour.
//! 3. [`Tap::recv`] takes a packet as an owned [`Mbuf`]; it can be kept, edited, sent to a thread.
//! 4. [`Tap::revert`] sends it on. If nobody changed it, the very packet that the kernel kept goes
//!    on, with everything the kernel knows of it. Through another tap, it leaves there.
//! 5. Dropping the [`Mbuf`] drops the packet. [`Session::alloc`] begins a new one.
//! 6. When nothing is there, a [`Wait`] strategy says whether to look again or to sleep.
//! 7. Programs that work together have [shared locks](Session::shared_lock).
//! 8. When the program is killed, or its tap ends, what it still held follows the tap's `on_exit`: by default it goes on.
//!    An [`Mbuf`] that is dropped on the way out is a dropped packet.
//!
//! ```no_run
//! // Echo: every packet that eth0 receives goes through this program and on into the host.
//! use nettap::{Session, Wait};
//!
//! fn main() -> nettap::Result<()> {
//!     let session = Session::open()?;
//!     let tap = session.tap("eth0").input().open()?;
//!     let mut waiter = Wait::Adaptive { spin: 2000 }.waiter();
//!     let mut packets = Vec::new();
//!     loop {
//!         session.wait_with(&mut waiter, &[&tap], None)?;
//!         tap.recv_batch(&mut packets, 64);
//!         tap.revert_all(&mut packets)?;
//!     }
//! }
//! ```
//!
//! # After `fork`
//!
//! A session belongs to the process that opened it. In a child, calls on an inherited session fail
//! with [`Error::Forked`], taps and rings look empty, bytes are empty slices, and dropping does
//! nothing but close the child's copies of the descriptors. Slices that were borrowed before the
//! fork must not be touched: the child does not have the memory. The parent is not disturbed.

#![deny(unsafe_code)]

pub mod admin;
mod burst;
mod capi;
mod chain;
mod error;
mod filter;
mod lock;
mod map;
mod mbuf;
mod meta;
#[cfg(test)]
mod mock;
mod monitor;
mod send;
mod session;
mod sys;
mod tap;
#[cfg(test)]
mod tests;
mod wait;

pub use burst::{Burst, Packet};
pub use error::{Error, Rejected, Result};
pub use filter::{Filter, Instruction};
pub use lock::{LockGuard, SharedLock};
pub use mbuf::Mbuf;
pub use meta::{Csum, Direction, Meta, Segmentation, Segments, Vlan};
pub use monitor::Monitor;
pub use nettap_uapi as uapi;
pub use nettap_uapi::event::{Event, EventKind};
pub use nettap_uapi::stats::{Refused, RegionStats, SessionStats, TapStats};
pub use nettap_uapi::tap::{Access, Fanout, Gso, Mode, NoConsumer, OnExit, OnFull};
pub use session::{Info, Session, SessionBuilder, DEVICE};
pub use tap::{Tap, TapBuilder};
pub use wait::{Wait, Waiter};
