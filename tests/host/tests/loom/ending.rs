// SPDX-License-Identifier: GPL-2.0-only

//! A tap ends while its program puts packets into the revert ring: each is the kernel's, or the program is told and
//! has it still.

use crate::revert::Revert;
use crate::word::Honest;
use crate::{each_once, every, most};
use loom::sync::{Arc, Mutex};
use loom::thread;
use nettap_uapi::ring::{wants_doorbell, PrivateConsumer, Word};

/// The session's lock: whether the tap has ended.
type Ended = Arc<Mutex<bool>>;

/// A thread of the program puts one packet into the ring; whether it is the kernel's.
fn give<W: Word + Default + 'static>(revert: &Revert<W>, ended: &Ended, nth: u32) -> bool {
    let given = revert.give(&[nth]);
    if given.count() == 0 {
        return false;
    }
    let is_over = wants_doorbell(&revert.ring.need_wakeup) && *ended.lock().unwrap();
    !is_over || revert.ring.producer().left_of(&given) == 0
}

/// The kernel retires the tap: from the last look on it takes nothing, and the tap ends in that moment. It waits for cells
/// that are booked and not filled yet: somebody may have filled those behind and gone. (Not for ever, as here.)
fn retire<W: Word + Default + 'static>(
    revert: &Revert<W>,
    kernel: &mut PrivateConsumer<W>,
    ended: &Ended,
) -> Vec<u32> {
    revert.ring.need_wakeup.store(1);
    W::full_barrier(); // E, matches F
    let mut taken = Vec::new();
    loop {
        let mut ended = ended.lock().unwrap();
        let some = revert.round(kernel, 2);
        let all_filled = revert.ring.program.load() == kernel.position();
        if some.is_empty() && all_filled {
            *ended = true;
            return taken;
        }
        drop(ended);
        taken.extend(some);
        thread::yield_now();
    }
}

/// Some threads put a packet each while the tap ends.
pub(crate) fn nothing_is_between<W: Word + Default + 'static>(producers: u32) {
    let revert = Revert::<W>::new(4, 0, producers);
    let ended = Ended::default();
    let threads: Vec<_> = (0..producers)
        .map(|nth| {
            let (revert, ended) = (revert.clone(), ended.clone());
            thread::spawn(move || give(&revert, &ended, nth))
        })
        .collect();
    let mut kernel = PrivateConsumer::new();
    let taken = retire(&revert, &mut kernel, &ended);
    let mut all = taken.clone();
    for (nth, thread) in (0..).zip(threads) {
        let is_the_kernels = thread.join().unwrap();
        assert_eq!(is_the_kernels, taken.contains(&nth), "packet {nth}");
        if !is_the_kernels {
            all.push(nth);
        }
    }
    each_once(all, producers);
}

#[test]
fn a_packet_is_the_kernels_or_the_programs() {
    every(|| nothing_is_between::<Honest>(1));
}

#[test]
fn so_it_is_with_two_threads() {
    most(3, || nothing_is_between::<Honest>(2));
}
