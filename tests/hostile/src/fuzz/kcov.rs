// SPDX-License-Identifier: GPL-2.0-only

//! Which code of the kernel a call has run through, where the kernel tells (`CONFIG_KCOV`).
//!
//! The kernel writes the address of each instrumented place into a buffer that this thread has
//! mapped: their number first, then one after the other (Documentation/dev-tools/kcov.rst).

use crate::sys::syscall;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

const PATH: &str = "/sys/kernel/debug/kcov";
/// `KCOV_INIT_TRACE`, `KCOV_ENABLE`: `_IOR('c', 1, unsigned long)`, `_IO('c', 100)`.
const INIT_TRACE: usize = 0x8008_6301;
const ENABLE: usize = 0x6364;
const TRACE_PC: usize = 0;
/// Places that one call can tell of; more of them are lost.
const LONGEST: usize = 16 << 10;

/// What this thread runs through.
pub(crate) struct Kcov {
    _file: File,
    buffer: &'static [AtomicU64],
}

/// Whether the kernel tells at all.
pub(crate) fn is_there() -> bool {
    std::path::Path::new(PATH).exists()
}

impl Kcov {
    /// Begins to watch this thread; nothing where the kernel has no such thing.
    pub(crate) fn start() -> Option<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(PATH).ok()?;
        let fd = file.as_raw_fd() as usize;
        syscall(libc::SYS_ioctl, &[fd, INIT_TRACE, LONGEST]).ok()?;
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let shared = libc::MAP_SHARED as usize;
        let arguments = [0, LONGEST * 8, protection, shared, fd, 0];
        let address = syscall(libc::SYS_mmap, &arguments).ok()?;
        syscall(libc::SYS_ioctl, &[fd, ENABLE, TRACE_PC]).ok()?;
        let begin = std::ptr::with_exposed_provenance::<AtomicU64>(address);
        // SAFETY: mapped above, that long, never unmapped.
        let buffer = unsafe { std::slice::from_raw_parts(begin, LONGEST) };
        Some(Self {
            _file: file,
            buffer,
        })
    }

    /// Forgets what was run through so far.
    pub(crate) fn reset(&self) {
        if let Some(count) = self.buffer.first() {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Addresses run through since then.
    pub(crate) fn seen(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.buffer.first();
        let count = count.map_or(0, |count| count.load(Ordering::Relaxed) as usize);
        let places = self.buffer.iter().skip(1).take(count);
        places.map(|place| place.load(Ordering::Relaxed))
    }
}
