// SPDX-License-Identifier: GPL-2.0-only

//! The ring and the lock word under the model checker: every interleaving, and every value that a weakly ordered
//! machine may return from a load, of small cases.
//!
//! Each file has one side of the story; `mutants.rs` takes one barrier after the other away and
//! shows that the cases notice. Loops that wait for somebody are written as a fixed number of
//! attempts, because the checker follows every path to its end; what is left over is taken at the
//! end by the one thread that remains. [`Bytes`] stand for what the mbufs hold.

mod death;
mod detour;
mod ending;
mod lock;
mod mutants;
mod revert;
mod sleep;
mod word;

use loom::sync::atomic::{AtomicU32, Ordering};
use nettap_host_tests::packet;
use nettap_uapi::ring::Entry;

/// Checks a case in every interleaving.
fn every(case: impl Fn() + Send + Sync + 'static) {
    loom::model(case);
}

/// Checks a case that takes minutes without optimisation: there, interrupted less often.
fn every_if_optimised(case: impl Fn() + Send + Sync + 'static) {
    if cfg!(debug_assertions) {
        most(3, case);
    } else {
        every(case);
    }
}

/// Checks a case in every interleaving in which threads are interrupted at most `preemptions`
/// times, for cases too large for [`every`]; a thread that waits for nobody runs to its end
/// otherwise.
fn most(preemptions: usize, case: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(case);
}

/// The bytes of the mbufs of a case: written before an entry is filled, read after it was taken.
///
/// The words are relaxed on purpose. Only the ring's own barriers make them visible.
struct Bytes(Vec<AtomicU32>);

impl Bytes {
    fn new(mbufs: u32) -> Self {
        Self((0..mbufs).map(|_| AtomicU32::new(0)).collect())
    }

    /// Writes the bytes of packet `nth` and returns its entry.
    fn write(&self, nth: u32) -> Entry {
        self.0[nth as usize].store(!nth, Ordering::Relaxed);
        packet(nth)
    }

    /// Checks that an entry is one packet's, whole, and that its bytes have arrived; returns which.
    fn read(&self, entry: Entry) -> u32 {
        assert_eq!(entry, packet(entry.index), "an entry of two packets");
        let bytes = self.0[entry.index as usize].load(Ordering::Relaxed);
        assert_eq!(bytes, !entry.index, "an entry came before its bytes");
        entry.index
    }
}

/// Checks that each of `count` packets was taken exactly once.
fn each_once(taken: impl IntoIterator<Item = u32>, count: u32) {
    let mut taken: Vec<u32> = taken.into_iter().collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..count).collect::<Vec<_>>());
}
