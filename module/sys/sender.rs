// SPDX-License-Identifier: GPL-2.0-only

//! Packets whose fragments are shared memory: which of them are still under way.

use core::ptr::NonNull;

use kernel::prelude::*;

use super::ffi;
use super::skb::Skb;

/// Sends packets by reference, each under a name that its owner gives it, and tells when the network stack is
/// done with it. What is still under way at its end ends by itself: the packets hold their pages.
///
/// # Invariants
///
/// The pointer is valid, and this is its owner's reference.
pub(crate) struct Sender(NonNull<ffi::nettap_sender>);

// SAFETY: What the owner touches is reached through `&mut self` only; the rest is the kernel's lockless list.
unsafe impl Send for Sender {}

impl Sender {
    /// One with nothing under way. Sleeps.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Takes no argument.
        let sender = unsafe { ffi::nettap_sender_new() };
        // INVARIANT: just made, with a reference for us.
        Ok(Self(NonNull::new(sender).ok_or(ENOMEM)?))
    }

    /// The fragments that a new packet is about to get are under way from here on. False: too many are,
    /// or it has been sent before.
    pub(crate) fn send(&mut self, skb: &mut Skb, name: u32) -> bool {
        // SAFETY: Both are valid by their type invariants, and we are the owner of this one. A packet that has
        // somebody's mark already is refused inside.
        unsafe { ffi::nettap_sender_send(self.0.as_ptr(), skb.as_ptr(), name) }
    }

    /// A name that is not under way any more. Each is told once.
    pub(crate) fn done(&mut self) -> Option<u32> {
        let mut name = 0;
        // SAFETY: Valid by the type invariant; we are the owner.
        unsafe { ffi::nettap_sender_done(self.0.as_ptr(), &mut name) }.then_some(name)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // SAFETY: The owner's reference, given back once.
        unsafe { ffi::nettap_sender_put(self.0.as_ptr()) };
    }
}
