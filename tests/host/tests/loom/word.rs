// SPDX-License-Identifier: GPL-2.0-only

//! [`Word`] over the model checker's atomics, honest or with one barrier missing.
//!
//! The honest word promises no more than the trait does: compare-and-exchange acquires and releases
//! when it succeeds and orders nothing when it fails.
//!
//! The checker lets a load return old values, but never lets it slip behind a later store, which real
//! machines do where C is missing. [`Watch`] closes that gap: it reports plain accesses to one word
//! that no barrier keeps apart, in whatever order they came. It suits cases with one consumer; of
//! several, all but one may read an entry that is being replaced, and throw it away.

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{fence, AtomicU32, Ordering};
use nettap_uapi::ring::Word;

/// The word with all its barriers.
pub(crate) type Honest = Model<0>;
/// The same, watched.
pub(crate) type Watched = Watch<0>;

/// Stores do not release: no A, and no C where the kernel consumes.
pub(crate) const NO_RELEASE: u8 = 1;
/// Loads do not acquire: no B and no D.
pub(crate) const NO_ACQUIRE: u8 = 2;
/// Compare-and-exchange does not order anything: no C where programs consume.
pub(crate) const NO_ORDER: u8 = 3;
/// No full barrier: no E and no F.
pub(crate) const NO_BARRIER: u8 = 4;

/// A word that lacks what `LACKS` names.
#[derive(Debug)]
pub(crate) struct Model<const LACKS: u8>(AtomicU32);

impl<const LACKS: u8> Default for Model<LACKS> {
    fn default() -> Self {
        Self(AtomicU32::new(0))
    }
}

impl<const LACKS: u8> Model<LACKS> {
    fn unless(lacking: u8, ordering: Ordering) -> Ordering {
        if LACKS == lacking {
            Ordering::Relaxed
        } else {
            ordering
        }
    }
}

impl<const LACKS: u8> Word for Model<LACKS> {
    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u32 {
        self.0.load(Self::unless(NO_ACQUIRE, Ordering::Acquire))
    }
    fn store(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
    fn store_release(&self, value: u32) {
        self.0
            .store(value, Self::unless(NO_RELEASE, Ordering::Release));
    }
    fn replace(&self, current: u32, new: u32) -> bool {
        let ordering = Self::unless(NO_ORDER, Ordering::AcqRel);
        self.0
            .compare_exchange(current, new, ordering, Ordering::Relaxed)
            .is_ok()
    }
    fn full_barrier() {
        if LACKS != NO_BARRIER {
            fence(Ordering::SeqCst);
        }
    }
}

/// A [`Model`] word that also reports plain loads and stores that no barrier keeps apart.
#[derive(Debug)]
pub(crate) struct Watch<const LACKS: u8> {
    word: Model<LACKS>,
    accesses: UnsafeCell<()>,
}

// SAFETY: the cell guards no memory: it is made to be accessed from all threads, to have the checker
// say so when two accesses are not ordered.
unsafe impl<const LACKS: u8> Sync for Watch<LACKS> {}

impl<const LACKS: u8> Default for Watch<LACKS> {
    fn default() -> Self {
        Self {
            word: Model::default(),
            accesses: UnsafeCell::new(()),
        }
    }
}

impl<const LACKS: u8> Word for Watch<LACKS> {
    fn load(&self) -> u32 {
        self.accesses.with(|_| self.word.load())
    }
    fn load_acquire(&self) -> u32 {
        self.word.load_acquire()
    }
    fn store(&self, value: u32) {
        self.accesses.with_mut(|_| self.word.store(value));
    }
    fn store_release(&self, value: u32) {
        self.word.store_release(value);
    }
    fn replace(&self, current: u32, new: u32) -> bool {
        self.word.replace(current, new)
    }
    fn full_barrier() {
        Model::<LACKS>::full_barrier();
    }
}

loom::thread_local! {
    /// Steps that this thread has left before it dies; nothing: it lives.
    static FUSE: Cell<Option<u32>> = Cell::new(None);
}

struct Died;

/// Does something in a thread that dies before its step `at`, counted from 0: nothing, if it died.
///
/// A step is an access to a [`Mortal`] word, or a [`burn`].
pub(crate) fn dies<R>(at: u32, body: impl FnOnce() -> R) -> Option<R> {
    FUSE.with(|fuse| fuse.set(Some(at)));
    let result = catch_unwind(AssertUnwindSafe(body));
    FUSE.with(|fuse| fuse.set(None));
    match result {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Died>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// One step nearer to death.
pub(crate) fn burn() {
    match FUSE.with(Cell::get) {
        None => {}
        // Without the message of a panic: it is none.
        Some(0) => resume_unwind(Box::new(Died)),
        Some(left) => FUSE.with(|fuse| fuse.set(Some(left - 1))),
    }
}

/// Does something that a death does not interrupt: the kernel's work.
pub(crate) fn immortal<R>(body: impl FnOnce() -> R) -> R {
    let left = FUSE.with(|fuse| fuse.replace(None));
    let result = body();
    FUSE.with(|fuse| fuse.set(left));
    result
}

/// A word whose threads may be about to die.
#[derive(Debug, Default)]
pub(crate) struct Mortal<W>(W);

impl<W: Word> Word for Mortal<W> {
    fn load(&self) -> u32 {
        burn();
        self.0.load()
    }
    fn load_acquire(&self) -> u32 {
        burn();
        self.0.load_acquire()
    }
    fn store(&self, value: u32) {
        burn();
        self.0.store(value);
    }
    fn store_release(&self, value: u32) {
        burn();
        self.0.store_release(value);
    }
    fn replace(&self, current: u32, new: u32) -> bool {
        burn();
        self.0.replace(current, new)
    }
    fn full_barrier() {
        burn();
        W::full_barrier();
    }
}
