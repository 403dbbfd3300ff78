// SPDX-License-Identifier: GPL-2.0-only

//! A value that many read without a lock and few replace as a whole: RCU over a pointer.

use core::marker::PhantomData;
use core::ptr::null_mut;
use core::sync::atomic::AtomicPtr;

use kernel::alloc::KBox;
use kernel::bindings;
use kernel::ffi::c_ulong;
use kernel::sync::rcu::Guard;

use super::atomic::Acquire;
use super::atomic::Full;
use super::netdev::synchronize;

/// Proof that the caller is inside an RCU read section for as long as `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a>(PhantomData<&'a *mut ()>);

impl Reading<'_> {
    /// The section of the kernel that called us.
    ///
    /// # Safety
    ///
    /// The caller is inside one, and it lasts as long as the value.
    pub(super) const unsafe fn inherited() -> Self {
        Self(PhantomData)
    }
}

impl<'a> From<&'a Guard> for Reading<'a> {
    /// The section that the guard stands for.
    fn from(_: &'a Guard) -> Self {
        Self(PhantomData)
    }
}

/// A grace period: when it is over, every read section that was under way when it began has ended, and
/// what was written there is seen.
pub(crate) struct Grace(c_ulong);

impl Grace {
    /// Begins now. From any context but hard interrupts.
    pub(crate) fn begin() -> Self {
        // SAFETY: Takes no argument.
        Self(unsafe { bindings::start_poll_synchronize_rcu() })
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        // SAFETY: The cookie came from the call above.
        unsafe { bindings::poll_state_synchronize_rcu(self.0) }
    }
}

/// A published value, or none.
///
/// # Invariants
///
/// The pointer is null or comes from a `KBox` that this value owns. A box that is taken out is dropped
/// only after a grace period.
pub(crate) struct Published<T: Send + Sync>(AtomicPtr<T>);

// SAFETY: It owns a `T` and lends shared references of it.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: As for Send; replacing is one atomic exchange.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T: Send + Sync> Published<T> {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// What is published now, for as long as the reader's section lasts.
    #[inline]
    pub(crate) fn get<'a>(&'a self, _reading: Reading<'a>) -> Option<&'a T> {
        let at = self.0.load(Acquire);
        // SAFETY: By the invariant it is null or a box that is not freed before the end of the
        // section that `_reading` proves.
        unsafe { at.as_ref() }
    }

    /// Publishes another value, or none. Readers may still see the old one until it is dropped, which
    /// waits for a grace period: sleeps.
    pub(crate) fn replace(&self, new: Option<KBox<T>>) -> Retired<T> {
        let new = new.map_or(null_mut(), KBox::into_raw);
        let old = self.0.swap(new, Full);
        if old.is_null() {
            return Retired(None);
        }
        // SAFETY: By the invariant it came from a box, which nobody else takes out again.
        Retired(Some(unsafe { KBox::from_raw(old) }))
    }
}

impl<T: Send + Sync> Drop for Published<T> {
    fn drop(&mut self) {
        // Nobody reads from `self` any more.
        let at = self.0.load(Acquire);
        if !at.is_null() {
            // SAFETY: By the invariant it came from a box; `self` was its owner.
            drop(unsafe { KBox::from_raw(at) });
        }
    }
}

/// A value that is no longer published; dropped, it waits until nobody reads it any more.
#[must_use = "its drop waits for a grace period"]
pub(crate) struct Retired<T: Send + Sync>(Option<KBox<T>>);

impl<T: Send + Sync> Retired<T> {
    /// The value, when nobody reads it any more; sleeps.
    pub(crate) fn wait(mut self) -> Option<KBox<T>> {
        let value = self.0.take()?;
        synchronize();
        Some(value)
    }
}

impl<T: Send + Sync> Drop for Retired<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            synchronize();
        }
    }
}
