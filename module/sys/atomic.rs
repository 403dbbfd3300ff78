// SPDX-License-Identifier: GPL-2.0-only

//! Atomics of the data path, inline.
//!
//! The `kernel` crate's atomics are calls of C functions where the kernel was not built to inline them, and
//! Debian's is not: some fifty calls a packet. These have its names and meaning, and compile to the
//! same instructions of x86-64, where a load acquires, a store releases, and a locked instruction is a full
//! barrier, in Rust's memory model and in the kernel's. What they are used for is touched by no C code of
//! the kernel.

use core::cell::UnsafeCell;
use core::ops::Deref;
pub(crate) use core::sync::atomic::Ordering;
pub(crate) use core::sync::atomic::Ordering::Acquire;
pub(crate) use core::sync::atomic::Ordering::Relaxed;
pub(crate) use core::sync::atomic::Ordering::Release;
pub(crate) use core::sync::atomic::Ordering::SeqCst as Full;

use kernel::prelude::*;

/// A value that several processors may read and write at once.
#[repr(transparent)]
pub(crate) struct Atomic<T>(UnsafeCell<T>);

// SAFETY: All accesses are atomic.
unsafe impl<T: Send> Sync for Atomic<T> {}

impl<T> Atomic<T> {
    /// With this value.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
}

/// A value that has its cache lines for itself: to write it takes nothing away from processors that only read
/// what would stand beside it.
#[pin_data]
#[repr(align(64))]
pub(crate) struct Apart<T> {
    #[pin]
    value: T,
}

impl<T> Apart<T> {
    /// This value.
    pub(crate) const fn new(value: T) -> Self {
        Self { value }
    }

    /// One that is made in its place.
    pub(crate) fn pin(value: impl PinInit<T>) -> impl PinInit<Self> {
        pin_init!(Self { value <- value })
    }
}

impl<T> Deref for Apart<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

macro_rules! atomic {
    ($($kind:ty, $core:ident;)*) => {$(
        impl Atomic<$kind> {
            #[inline(always)]
            fn core(&self) -> &core::sync::atomic::$core {
                // SAFETY: The pointer is valid and aligned while `self` is borrowed, and all accesses are
                // made through what is returned here.
                unsafe { core::sync::atomic::$core::from_ptr(self.0.get()) }
            }

            /// Its value; `Relaxed` or `Acquire`.
            #[inline(always)]
            pub(crate) fn load(&self, order: Ordering) -> $kind {
                self.core().load(order)
            }

            /// Gives it a value; `Relaxed` or `Release`.
            #[inline(always)]
            pub(crate) fn store(&self, value: $kind, order: Ordering) {
                self.core().store(value, order);
            }
        }
    )*};
}

macro_rules! exchange {
    ($($kind:ty;)*) => {$(
        impl Atomic<$kind> {
            /// Gives it the value `new` if it has the value `old`; else what it has.
            #[inline(always)]
            pub(crate) fn cmpxchg(&self, old: $kind, new: $kind, order: Ordering) -> Result<$kind, $kind> {
                self.core().compare_exchange(old, new, order, Relaxed)
            }
        }
    )*};
}

atomic! {
    u32, AtomicU32;
    u64, AtomicU64;
    usize, AtomicUsize;
    bool, AtomicBool;
}

exchange! {
    u32;
    u64;
    usize;
}

impl Atomic<u64> {
    /// Gives it a value; what it was.
    #[inline(always)]
    pub(crate) fn xchg(&self, value: u64, order: Ordering) -> u64 {
        self.core().swap(value, order)
    }

    /// Adds to it; what it was.
    #[inline(always)]
    pub(crate) fn fetch_add(&self, n: u64, order: Ordering) -> u64 {
        self.core().fetch_add(n, order)
    }
}
