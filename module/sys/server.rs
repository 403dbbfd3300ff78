// SPDX-License-Identifier: GPL-2.0-only

//! The server's engine: a NAPI instance of its own, and a soft timer or a thread that never rests.
//!
//! NAPI is what makes serving cheap and bounded: it runs in the softirq that the packets come in by,
//! right behind the driver's poll, on one CPU at a time, with a budget (net/core/dev.c,
//! `net_rx_action()`). It lives on a dummy interface of ours, so no driver knows. On request a thread of the
//! kernel's has it, which polls without end (`napi_threaded_poll()` there): then nobody need ask for a round.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::time::Duration;

use kernel::error::to_result;
use kernel::ffi::c_int;
use kernel::ffi::c_void;
use kernel::prelude::*;

use super::ffi;
use super::task::Process;

/// Where [`Server::defer`] puts off to, for all servers; there is one.
pub(crate) struct PutOff(());

impl PutOff {
    /// Before the first server; sleeps.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: Takes no argument; the module starts it once.
        to_result(unsafe { ffi::nettap_put_off_start() })?;
        Ok(Self(()))
    }
}

impl Drop for PutOff {
    fn drop(&mut self) {
        // SAFETY: Started, and stopped once, when the module goes or does not come: no server is left.
        unsafe { ffi::nettap_put_off_stop() };
    }
}

/// Somebody who is polled.
pub(crate) trait OnPoll: Send + Sync {
    /// One round: at most `budget` packets. Softirq, or bottom halves off. Returns how many; less
    /// than `budget` means done, and then [`Server::complete`] has been called.
    fn on_poll(&self, budget: usize) -> usize;

    /// What a round has put off with [`Server::defer`]. Process context; sleeps.
    fn on_deferred(&self);
}

/// The engine. It polls `T` between [`Server::start`] and [`Server::stop`].
///
/// # Invariants
///
/// `raw` is valid while `self` lives. While started, the owner is pinned and alive.
pub(crate) struct Server<T: OnPoll> {
    raw: NonNull<ffi::nettap_server>,
    owner: PhantomData<fn(&T)>,
}

// SAFETY: All operations on the engine are the kernel's own thread-safe ones.
unsafe impl<T: OnPoll> Send for Server<T> {}
// SAFETY: As for Send.
unsafe impl<T: OnPoll> Sync for Server<T> {}

/// # Safety
///
/// `owner` is what [`Server::start`] was given, and [`Server::stop`] has not returned.
unsafe extern "C" fn poll<T: OnPoll>(owner: *mut c_void, budget: c_int) -> c_int {
    // SAFETY: `start` promised that the owner lives until `stop` has returned, and NAPI polls only
    // in between.
    let owner = unsafe { &*owner.cast::<T>() };
    owner.on_poll(usize::try_from(budget).unwrap_or(0)) as c_int
}

/// # Safety
///
/// As for [`poll`].
unsafe extern "C" fn deferred<T: OnPoll>(owner: *mut c_void) {
    // SAFETY: As in `poll`: `stop` waits for what was deferred, too.
    let owner = unsafe { &*owner.cast::<T>() };
    owner.on_deferred();
}

impl<T: OnPoll> Server<T> {
    /// An engine that does not run yet; its thread, if it gets one, has `name` in its own.
    pub(crate) fn new(name: u32) -> Result<Self> {
        // SAFETY: The functions live as long as the module.
        let raw = unsafe { ffi::nettap_server_new(name, Some(poll::<T>), Some(deferred::<T>)) };
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            owner: PhantomData,
        })
    }

    /// Begins to poll `owner`; sleeps.
    ///
    /// # Safety
    ///
    /// `owner` must stay valid and in place until [`Server::stop`] has returned; `start` and `stop`
    /// alternate.
    pub(super) unsafe fn start(&self, owner: *const T) {
        // SAFETY: Valid by the type invariant; the rest is the caller's promise.
        unsafe { ffi::nettap_server_start(self.raw.as_ptr(), owner.cast_mut().cast()) };
    }

    /// Ends polling and waits until no round runs and no timer is armed; sleeps.
    fn stop(&self) {
        // SAFETY: Valid and started, by the callers' alternation.
        unsafe { ffi::nettap_server_stop(self.raw.as_ptr()) };
    }

    /// Does something while no round runs, on one CPU as rounds do, and asks for a round after it. The engine is
    /// started, and nobody else pauses or stops it meanwhile; sleeps.
    pub(crate) fn paused<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_server_pause(self.raw.as_ptr()) };
        let result = work();
        // SAFETY: As above; paused just before.
        unsafe { ffi::nettap_server_resume(self.raw.as_ptr()) };
        self.schedule_now();
        result
    }

    /// Waits until the CPU of the last round has carried on what that has delivered, for no longer than a CPU takes that
    /// has too much to do. Inside a pause; sleeps.
    pub(crate) fn settle(&self) {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_server_settle(self.raw.as_ptr()) };
    }

    /// From the end of the pause in which this is called a thread of the kernel's polls without end, until
    /// this is called again; which thread. Sleeps.
    pub(crate) fn set_busy(&self, busy: bool) -> Result<Option<Process>> {
        // SAFETY: Valid by the type invariant. Out of a pause it would come into force with the next.
        to_result(unsafe { ffi::nettap_server_set_busy(self.raw.as_ptr(), busy) })?;
        if !busy {
            return Ok(None);
        }
        // SAFETY: As above. It has just been made, and stays until the pause is over.
        let thread = unsafe { ffi::nettap_server_thread(self.raw.as_ptr()) };
        // SAFETY: A reference was taken for us.
        Ok(NonNull::new(thread).map(|thread| unsafe { Process::from_raw(thread) }))
    }

    /// Asks for a round: at once, or where another CPU is at it, when its timer says so.
    pub(crate) fn schedule(&self) {
        // SAFETY: Valid by the type invariant. Scheduling a disabled NAPI does nothing.
        unsafe { ffi::nettap_server_schedule(self.raw.as_ptr(), false) };
    }

    /// Asks for a round at once, on whatever CPU is at it.
    pub(crate) fn schedule_now(&self) {
        // SAFETY: As in `schedule`.
        unsafe { ffi::nettap_server_schedule(self.raw.as_ptr(), true) };
    }

    /// Ends a round that did less than its budget. False: somebody asked for another meanwhile.
    pub(crate) fn complete(&self, work: usize) -> bool {
        // SAFETY: Valid by the type invariant; called from inside a round only.
        unsafe { ffi::nettap_server_complete(self.raw.as_ptr(), work as c_int) }
    }

    /// Has [`OnPoll::on_deferred`] called soon, unless the engine is being stopped.
    pub(crate) fn defer(&self) {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_server_defer(self.raw.as_ptr()) };
    }

    /// Whether a round is asked for that has not come yet.
    pub(crate) fn is_armed(&self) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_server_is_armed(self.raw.as_ptr()) }
    }

    /// Asks for a round after `delay`, unless one is asked for already.
    pub(crate) fn arm(&self, delay: Duration) {
        let ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_server_arm(self.raw.as_ptr(), ns) };
    }
}

impl<T: OnPoll> Drop for Server<T> {
    fn drop(&mut self) {
        // SAFETY: Stopped (see `Running`), and freed once.
        unsafe { ffi::nettap_server_free(self.raw.as_ptr()) };
    }
}

/// A running engine: keeps its owner alive, stops at its drop.
pub(crate) struct Running<T: OnPoll + HasServer> {
    owner: kernel::sync::Arc<T>,
}

/// Whose engine it is.
pub(crate) trait HasServer: OnPoll + Sized {
    /// The engine inside.
    fn server(&self) -> &Server<Self>;
}

impl<T: HasServer> Running<T> {
    /// Starts the engine of `owner`. There may be one `Running` for it at a time.
    pub(crate) fn start(owner: kernel::sync::Arc<T>) -> Self {
        let at = core::ptr::from_ref::<T>(&owner);
        // SAFETY: The Arc does not move its content and is kept until the drop has stopped it.
        unsafe { owner.server().start(at) };
        Self { owner }
    }
}

impl<T: OnPoll + HasServer> Drop for Running<T> {
    fn drop(&mut self) {
        self.owner.server().stop();
    }
}
