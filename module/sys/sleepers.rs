// SPDX-License-Identifier: GPL-2.0-only

//! Those who sleep until something is so, in a request, in `read` or in `poll`: a wait queue.
//!
//! The `kernel` crate's `CondVar` sleeps on a lock that it lets go. What is waited for here is behind
//! locks that softirq takes, so nobody may sleep between them: the condition takes what it needs and is
//! asked before every sleep.

use core::ptr::NonNull;
use core::time::Duration;

use kernel::bindings;
use kernel::ffi::c_int;
use kernel::ffi::c_void;
use kernel::prelude::*;

use super::chardev::PollRequest;
use super::ffi;

/// `poll`: there is something to read.
pub(crate) const POLLIN: u32 = 0x001;
/// `poll`: there is room to write.
pub(crate) const POLLOUT: u32 = 0x004;
/// `poll`: the other end has gone.
pub(crate) const POLLHUP: u32 = 0x010;
/// `poll`: as [`POLLIN`], for those who make a difference.
pub(crate) const POLLRDNORM: u32 = 0x040;
/// `poll`: as [`POLLOUT`], for those who make a difference.
pub(crate) const POLLWRNORM: u32 = 0x100;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// The condition holds.
    Ready,
    /// The time passed.
    TimedOut,
    /// A signal came.
    Interrupted,
}

/// A wait queue.
///
/// # Invariants
///
/// The pointer is valid while `self` lives.
pub(crate) struct Sleepers(NonNull<ffi::nettap_sleepers>);

// SAFETY: All operations on a wait queue are the kernel's own thread-safe ones.
unsafe impl Send for Sleepers {}
// SAFETY: As for Send.
unsafe impl Sync for Sleepers {}

/// # Safety
///
/// `condition` points to an `F` that outlives the call.
unsafe extern "C" fn holds<F: Fn() -> bool>(condition: *mut c_void) -> bool {
    // SAFETY: `wait` passes a reference to its own argument, which outlives the call.
    let condition = unsafe { &*condition.cast::<F>() };
    condition()
}

impl Sleepers {
    /// A queue that nobody sleeps on.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Takes no argument.
        let raw = unsafe { ffi::nettap_sleepers_new() };
        // INVARIANT: What it returns is ours until the drop.
        Ok(Self(NonNull::new(raw).ok_or(ENOMEM)?))
    }

    /// Wakes the sleepers, if there are any; tells whether there were. The store that they wait for
    /// precedes this call, and the barrier inside orders the two. From any context.
    pub(crate) fn wake(&self, events: u32) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_sleepers_wake(self.0.as_ptr(), events) }
    }

    /// Sleeps until the condition holds; `None` waits for ever. The condition runs before every sleep
    /// and must not sleep itself.
    pub(crate) fn wait<F: Fn() -> bool>(&self, timeout: Option<Duration>, condition: F) -> Woken {
        // Zero is for ever to the wrapper; a timeout that has run out is at least looked at once.
        let ns = timeout.map_or(0, |t| {
            u64::try_from(t.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        let ns = ns.min(i64::MAX as u64);
        let context = core::ptr::from_ref(&condition).cast_mut().cast::<c_void>();
        // SAFETY: Valid by the type invariant; the condition outlives the call.
        let ret =
            unsafe { ffi::nettap_sleepers_wait(self.0.as_ptr(), Some(holds::<F>), context, ns) };
        match ret {
            0 => Woken::Ready,
            e if e == -(bindings::ETIME as c_int) => Woken::TimedOut,
            _ => Woken::Interrupted,
        }
    }

    /// Puts a `poll` caller among the sleepers.
    pub(crate) fn poll_wait(&self, request: &PollRequest<'_>) {
        // SAFETY: Valid by the type invariant; the file being polled keeps the owner of this queue
        // alive, and the kernel takes the caller off the queue before the file goes.
        unsafe {
            ffi::nettap_sleepers_poll_wait(self.0.as_ptr(), request.file(), request.table());
        }
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        // SAFETY: Ours, and freed once; who sleeps holds what holds this.
        unsafe { ffi::nettap_sleepers_free(self.0.as_ptr()) };
    }
}
