// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The library against a mock of the kernel's side; `mock.rs` says what that is.
//!
//! One file for each thing that is promised: how packets travel, how mbufs are edited, what happens
//! with headers that lie, how programs share a lock, what becomes of policies, and how things end.

mod editing;
mod ending;
mod lies;
mod locking;
mod policies;
mod serving;
mod travel;
mod waiting;
