// SPDX-License-Identifier: GPL-2.0-only

//! Programs of the kernel's BPF machine, which look at a packet and say how much of it is wanted.
//!
//! The kernel checks them before they become a [`Program`], so what a user wrote can neither loop nor
//! read outside the packet; and it compiles them where it can.

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;

use super::ffi;
use super::hook::Way;
use super::skb::Skb;

/// A program that the kernel has accepted as a socket's filter.
///
/// # Invariants
///
/// The pointer is such a program, and this is our reference to it.
pub(crate) struct Program(NonNull<bindings::bpf_prog>);

// SAFETY: A program is not bound to a CPU or task; whoever owns the value gives it back.
unsafe impl Send for Program {}
// SAFETY: It is not changed after it was made, and any number of CPUs may run it at once.
unsafe impl Sync for Program {}

impl Program {
    fn of(raw: *mut bindings::bpf_prog) -> Result<Self> {
        match from_err_ptr(raw) {
            Ok(raw) => Ok(Self(NonNull::new(raw).ok_or(ENOMEM)?)),
            // A name of its own for "no such program", because every wrong field is EINVAL.
            Err(e) if e == EINVAL => Err(ENOEXEC),
            Err(e) => Err(e),
        }
    }

    /// Classic BPF: copies `count` instructions from the program's address space. Sleeps. `ENOEXEC`: the
    /// kernel refuses them.
    pub(crate) fn classic(address: u64, count: u16) -> Result<Self> {
        // SAFETY: The address is a user's and read as such.
        Self::of(unsafe { ffi::nettap_filter_classic(address, count) })
    }

    /// eBPF: the program of a descriptor. `EBADF`: it is none. `ENOEXEC`: not one of a program, or not of
    /// a socket filter.
    pub(crate) fn ebpf(fd: u32) -> Result<Self> {
        // SAFETY: Takes a number; gives a counted reference or an error.
        Self::of(unsafe { ffi::nettap_filter_ebpf(fd) })
    }

    /// Whether both are the same instructions, or the same eBPF program.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // SAFETY: Both are valid by their type invariants.
        unsafe { ffi::nettap_filter_same(self.0.as_ptr(), other.0.as_ptr()) }
    }

    /// Runs it over a packet at its stand. Bytes wanted, 0 for a packet that is not.
    pub(crate) fn run(&self, skb: &Skb, way: Way) -> u32 {
        // SAFETY: The program is valid by the type invariant. The packet is valid and at its stand, and
        // so it is again afterwards.
        unsafe { ffi::nettap_filter_run(self.0.as_ptr(), skb.as_ptr(), way == Way::Received) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: Our reference, by the type invariant; nobody runs it through this value any more.
        unsafe { ffi::nettap_filter_put(self.0.as_ptr()) };
    }
}
