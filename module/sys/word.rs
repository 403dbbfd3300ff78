// SPDX-License-Identifier: GPL-2.0-only

//! The ring's words over the kernel's atomics, and copies to and from memory that a program shares.

use super::atomic::Acquire;
use super::atomic::Atomic;
use super::atomic::Full;
use super::atomic::Relaxed;
use super::atomic::Release;

use crate::uapi::ring::Word;

/// A 32-bit word of a shared page.
#[repr(transparent)]
pub(crate) struct SharedWord(Atomic<u32>);

impl Word for SharedWord {
    fn load(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn load_acquire(&self) -> u32 {
        self.0.load(Acquire)
    }

    fn store(&self, value: u32) {
        self.0.store(value, Relaxed);
    }

    fn store_release(&self, value: u32) {
        self.0.store(value, Release);
    }

    fn replace(&self, current: u32, new: u32) -> bool {
        self.0.cmpxchg(current, new, Full).is_ok()
    }

    fn full_barrier() {
        // SAFETY: A barrier has no preconditions.
        unsafe { super::ffi::nettap_full_barrier() };
    }
}
