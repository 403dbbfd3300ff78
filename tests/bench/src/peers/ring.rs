// SPDX-License-Identifier: GPL-2.0-only

//! Memory that a peer shares with the kernel: mapped, and read and written by offset.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{null_mut, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// A mapping of a descriptor, or of nothing but memory.
pub(crate) struct Shared {
    first: NonNull<u8>,
    length: usize,
}

// SAFETY: memory is where it is for every thread, and `Shared` has its mapping to itself.
unsafe impl Send for Shared {}

impl Shared {
    /// What a descriptor offers for mapping at `offset`.
    pub(crate) fn of(fd: BorrowedFd<'_>, offset: i64, length: usize) -> io::Result<Self> {
        Self::map(
            fd.as_raw_fd(),
            libc::MAP_SHARED | libc::MAP_POPULATE,
            offset,
            length,
        )
    }

    /// Zeroed memory.
    pub(crate) fn memory(length: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        Self::map(-1, flags, 0, length)
    }

    fn map(fd: i32, flags: i32, offset: i64, length: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel has room for one.
        let first = unsafe { libc::mmap(null_mut(), length, access, flags, fd, offset) };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(first.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, length })
    }

    pub(crate) fn address(&self) -> u64 {
        self.first.as_ptr() as u64
    }

    /// Bytes that the kernel does not write now: the protocol of the ring says whose they are.
    pub(crate) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset <= self.length && length <= self.length - offset);
        // SAFETY: inside of the mapping.
        let first = unsafe { self.first.as_ptr().add(offset) };
        // SAFETY: likewise, to its last byte; whose the bytes are, the caller knows.
        unsafe { std::slice::from_raw_parts(first, length) }
    }

    /// Likewise, for writing.
    pub(crate) fn bytes_mut(&mut self, offset: usize, length: usize) -> &mut [u8] {
        assert!(offset <= self.length && length <= self.length - offset);
        // SAFETY: inside of the mapping.
        let first = unsafe { self.first.as_ptr().add(offset) };
        // SAFETY: likewise, to its last byte; whose the bytes are, the caller knows.
        unsafe { std::slice::from_raw_parts_mut(first, length) }
    }

    /// A word of the bytes.
    pub(crate) fn number(&self, offset: usize) -> usize {
        let bytes = self.bytes(offset, 4).first_chunk().copied();
        u32::from_ne_bytes(bytes.unwrap_or_default()) as usize
    }

    /// A word that both sides access at once.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % 4 == 0 && offset + 4 <= self.length);
        // SAFETY: inside of the mapping.
        let first = unsafe { self.first.as_ptr().add(offset) }.cast::<AtomicU32>();
        // SAFETY: aligned, as checked; any bits are a value, and the mapping lives as long as `self`.
        unsafe { &*first }
    }

    pub(crate) fn load(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    pub(crate) fn store(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our mapping, whose bytes nobody borrows any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.length) };
    }
}
