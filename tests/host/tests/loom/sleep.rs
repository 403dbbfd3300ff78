// SPDX-License-Identifier: GPL-2.0-only

//! Who sleeps is woken: the need-wakeup word and the doorbell, barriers E and F.

use crate::revert::Revert;
use crate::word::Honest;
use crate::{each_once, every, most};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread;
use nettap_uapi::ring::{wants_doorbell, PrivateConsumer, Word};

/// The kernel's server: takes what is there, asks for the doorbell, looks again, and sleeps if there
/// is still nothing. Returns what it took and whether it went to sleep.
fn serve_until_sleep<W: Word + Default + 'static>(
    revert: &Revert<W>,
    kernel: &mut PrivateConsumer<W>,
    rounds: usize,
) -> (Vec<u32>, bool) {
    let mut taken = Vec::new();
    for _ in 0..rounds {
        taken.extend(revert.round(kernel, 4));
        revert.ring.need_wakeup.store(1);
        W::full_barrier(); // E, matches F
        if !kernel.is_ready(&revert.ring.cells()) {
            return (taken, true);
        }
        revert.ring.need_wakeup.store(0);
    }
    (taken, false)
}

/// Two threads push while the kernel goes to sleep. If it sleeps at the end with entries in the ring,
/// one of them must have rung.
pub(crate) fn nobody_is_forgotten<W: Word + Default + 'static>(producers: u32) {
    let revert = Revert::<W>::new(2, 0, 2);
    let rung = Arc::new(AtomicBool::new(false));
    let mut kernel = PrivateConsumer::new();
    let producers: Vec<_> = (0..producers)
        .map(|nth| {
            let revert = revert.clone();
            let rung = rung.clone();
            thread::spawn(move || {
                assert_eq!(revert.push(&[nth]), [nth]);
                if wants_doorbell(&revert.ring.need_wakeup) {
                    rung.store(true, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let (mut taken, asleep) = serve_until_sleep(&revert, &mut kernel, 3);
    let count = producers.len() as u32;
    for producer in producers {
        producer.join().unwrap();
    }
    if asleep && kernel.is_ready(&revert.ring.cells()) {
        assert!(rung.load(Ordering::Relaxed), "the kernel sleeps for ever");
    }
    taken.extend(revert.round(&mut kernel, 4));
    each_once(taken, count);
}

#[test]
fn a_push_wakes_the_kernel() {
    every(|| nobody_is_forgotten::<Honest>(1));
}

/// Also when the second thread rings for a cell that stands behind one still unfilled: the kernel
/// goes back to sleep, and the first thread rings then.
#[test]
fn two_pushes_wake_the_kernel() {
    most(3, || nobody_is_forgotten::<Honest>(2));
}
