// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! What a program maps, and who may write it.
//!
//! Everything is mapped through the session's file (`/dev/nettap`), shared, with offset and length
//! exactly as the kernel told them; they are names and not to be computed with. Pages of the region may
//! be mapped when they are touched: with `MAP_POPULATE` all of them are there from the beginning.
//!
//! | mapping                    | program | told by                                        |
//! | -------------------------- | ------- | ---------------------------------------------- |
//! | the region: all mbufs      | writes  | [`Map::region_offset`](super::ioctl::Map)      |
//! | a ring's read-only pages   | reads   | [`RingMap::ro_offset`]                         |
//! | a ring's writable pages    | writes  | [`RingMap::rw_offset`]                         |
//! | the shared locks           | writes  | [`Map::locks_offset`](super::ioctl::Map)       |
//!
//! A ring has two mappings, one that the kernel writes and one that the program writes. Both begin
//! with [`Words`](super::ring::Words). The cells follow at [`RING_CELLS`] in the pages of the side
//! that fills the ring: read-only for alloc and detour, writable for dealloc and revert.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where the cells begin in the pages of the side that fills the ring.
pub const RING_CELLS: u32 = 64;
/// Size of a cell.
pub const CELL_SIZE: u32 = 8;

/// Length of the pages of a region's shared locks: [`LOCKS_MAX`](super::lock::LOCKS_MAX) times
/// [`LockWords`](super::lock::LockWords).
pub const LOCKS_LEN: u32 = 4096;

/// How to map one ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RingMap {
    /// mmap offset of the pages that the kernel writes.
    pub ro_offset: u64,
    /// mmap offset of the pages that the program writes.
    pub rw_offset: u64,
    /// Length of the pages that the kernel writes.
    pub ro_len: u32,
    /// Length of the pages that the program writes.
    pub rw_len: u32,
    /// Cells of the ring, a power of two.
    pub cells: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(core::mem::size_of::<RingMap>() == 32);
const _: () = assert!(core::mem::size_of::<super::ring::Words<u32>>() == RING_CELLS as usize);
const _: () = assert!(core::mem::size_of::<super::ring::Cell<u32>>() == CELL_SIZE as usize);
const _: () = assert!(
    core::mem::size_of::<super::lock::LockWords<u32>>() * super::lock::LOCKS_MAX as usize
        == LOCKS_LEN as usize
);
