// SPDX-License-Identifier: GPL-2.0-only

//! Clocks, work for later, and how much the kernel's log takes.
//!
//! The `kernel` crate can queue work for later and cannot take it back, without which a module cannot
//! be unloaded (rust/kernel/workqueue.rs has no `cancel`).

use core::ptr::NonNull;
use core::time::Duration;

use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::ffi;

/// Nanoseconds of the clock that people read.
pub(crate) fn realtime_ns() -> u64 {
    // SAFETY: Takes no argument and runs in any context.
    unsafe { ffi::nettap_realtime_ns() }
}

/// Nanoseconds of the clock that never goes back.
pub(crate) fn monotonic_ns() -> u64 {
    // SAFETY: Takes no argument and runs in any context.
    unsafe { ffi::nettap_monotonic_ns() }
}

/// Whether the kernel's log takes one more message now; it tells by itself how many it did not.
pub(crate) fn may_log() -> bool {
    // SAFETY: Takes no argument and runs in any context.
    unsafe { ffi::nettap_may_log() }
}

/// Work to be done once in process context, when some time has passed. It is done while a [`Doing`]
/// lives.
///
/// # Invariants
///
/// The pointer is valid while `self` lives.
pub(crate) struct Later(NonNull<ffi::nettap_later>);

// SAFETY: All operations on delayed work are the kernel's own thread-safe ones.
unsafe impl Send for Later {}
// SAFETY: As for Send.
unsafe impl Sync for Later {}

impl Later {
    /// Work that nobody does yet.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Takes no argument.
        let raw = unsafe { ffi::nettap_later_new() };
        // INVARIANT: What it returns is ours until the drop.
        Ok(Self(NonNull::new(raw).ok_or(ENOMEM)?))
    }

    /// Asks for it after `delay`, unless somebody has asked already. From any context.
    pub(crate) fn ask(&self, delay: Duration) {
        let ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_later_ask(self.0.as_ptr(), ns) };
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // SAFETY: Ours, freed once; a `Doing` holds the owner, and its drop has stopped the work.
        unsafe { ffi::nettap_later_free(self.0.as_ptr()) };
    }
}

/// Somebody who has work for later.
pub(crate) trait OnLater: Send + Sync {
    /// The work that was asked for.
    fn later(&self) -> &Later;

    /// Does it; process context.
    fn on_later(&self);
}

/// While this lives, the work of its owner is done.
pub(crate) struct Doing<T: OnLater>(Arc<T>);

/// # Safety
///
/// `owner` is what [`Doing::start`] was given, and its drop has not returned.
unsafe extern "C" fn work<T: OnLater>(owner: *mut c_void) {
    // SAFETY: The caller's promise: the `Doing` holds the owner.
    let owner = unsafe { &*owner.cast::<T>() };
    owner.on_later();
}

impl<T: OnLater> Doing<T> {
    /// Starts. There may be one for an owner.
    pub(crate) fn start(owner: Arc<T>) -> Self {
        let context = core::ptr::from_ref::<T>(&owner).cast_mut().cast();
        // SAFETY: The function lives as long as the module, and the owner, which its Arc does not
        // move, until the drop has stopped the work.
        unsafe { ffi::nettap_later_start(owner.later().0.as_ptr(), Some(work::<T>), context) };
        Self(owner)
    }
}

impl<T: OnLater> Drop for Doing<T> {
    fn drop(&mut self) {
        // SAFETY: Valid by the invariant of `Later`; started by `start`, once.
        unsafe { ffi::nettap_later_stop(self.0.later().0.as_ptr()) };
    }
}
