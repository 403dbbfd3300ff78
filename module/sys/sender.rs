// SPDX-License-Identifier: GPL-2.0-only

//! Packets whose fragments are shared memory: which of them are still under way.

use core::ffi::c_void;
use core::ptr;
use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::Arc;

use super::ffi;
use super::skb::Skb;
use super::task::Pinned;

/// Sends packets by reference, each under a name that its owner gives it, and tells when the network stack is
/// done with it. What is still under way at its end ends by itself: the packets hold their pages.
///
/// # Invariants
///
/// The pointer is valid, and this is its owner's reference.
pub(crate) struct Sender {
    at: NonNull<ffi::nettap_sender>,
    charge: Option<Arc<Pinned>>,
}

// SAFETY: What the owner touches is reached through `&mut self` only; the rest is the kernel's lockless list.
unsafe impl Send for Sender {}

impl Sender {
    /// One with nothing under way. Sleeps.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Takes no argument.
        let sender = unsafe { ffi::nettap_sender_new() };
        // INVARIANT: just made, with a reference for us.
        Ok(Self {
            at: NonNull::new(sender).ok_or(ENOMEM)?,
            charge: None,
        })
    }

    /// What the pages count as, for as long as anything is under way at the end.
    pub(crate) fn keep(&mut self, charge: Arc<Pinned>) {
        self.charge = Some(charge);
    }

    /// The fragments that a new packet is about to get are under way from here on. False: too many are,
    /// or it has been sent before.
    pub(crate) fn send(&mut self, skb: &mut Skb, name: u32) -> bool {
        // SAFETY: Both are valid by their type invariants, and we are the owner of this one. A packet that has
        // somebody's mark already is refused inside.
        unsafe { ffi::nettap_sender_send(self.at.as_ptr(), skb.as_ptr(), name) }
    }

    /// A name that is not under way any more. Each is told once.
    pub(crate) fn done(&mut self) -> Option<u32> {
        let mut name = 0;
        // SAFETY: Valid by the type invariant; we are the owner.
        unsafe { ffi::nettap_sender_done(self.at.as_ptr(), &mut name) }.then_some(name)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let charge = self.charge.take().map(Arc::into_raw);
        let charge = charge.map_or(ptr::null_mut(), |charge| charge.cast_mut().cast());
        // SAFETY: The owner's reference, given back once; `let_go` gets what it wants.
        unsafe { ffi::nettap_sender_put(self.at.as_ptr(), charge, Some(let_go)) };
    }
}

/// Nothing is under way any more.
///
/// # Safety
///
/// `charge` is what [`Arc::into_raw`] made of an `Arc<Pinned>`; called once.
unsafe extern "C" fn let_go(charge: *mut c_void) {
    // SAFETY: The caller's promise.
    drop(unsafe { Arc::<Pinned>::from_raw(charge.cast_const().cast()) });
}
