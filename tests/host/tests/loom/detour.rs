// SPDX-License-Identifier: GPL-2.0-only

//! Rings that the kernel fills and programs consume: alloc and detour.

use crate::word::{Honest, Watched};
use crate::{each_once, every, every_if_optimised, most, Bytes};
use loom::sync::{Arc, Mutex};
use loom::thread;
use nettap_host_tests::Ring;
use nettap_uapi::ring::{Entry, Look, PrivateProducer, Word};

/// A detour ring with the kernel's end under its lock, as the tap has it.
pub(crate) struct Detour<W> {
    pub(crate) ring: Ring<W>,
    pub(crate) bytes: Bytes,
    kernel: Mutex<PrivateProducer<W>>,
}

impl<W: Word + Default + 'static> Detour<W> {
    pub(crate) fn new(size: usize, start: u32, packets: u32) -> Arc<Self> {
        Arc::new(Self {
            ring: Ring::starting_at(size, start),
            bytes: Bytes::new(packets),
            kernel: Mutex::new(PrivateProducer::starting_at(start)),
        })
    }

    fn book(&self) -> Option<u32> {
        let size = self.ring.cells().size();
        self.kernel.lock().unwrap().book(size, &self.ring.program)
    }

    /// Detours packet `nth`, as one CPU of the kernel does: the lock is held for the booking only.
    pub(crate) fn detour(&self, nth: u32) -> bool {
        let Some(position) = self.book() else {
            return false;
        };
        self.ring.cells().fill(position, self.bytes.write(nth));
        true
    }

    /// Takes up to `most` packets in one claim, as one thread of the program does.
    pub(crate) fn claim(&self, most: usize) -> Vec<u32> {
        let mut out = vec![Entry::default(); most];
        // As the library does.
        let consumer = self.ring.consumer();
        let plainly = consumer.claim_plainly(&mut out);
        let taken = plainly.map_or_else(|| consumer.claim(&mut out), |(taken, _)| taken);
        out[..taken].iter().map(|e| self.bytes.read(*e)).collect()
    }

    /// Takes what is left, when nobody else is there any more.
    pub(crate) fn rest(&self) -> Vec<u32> {
        let mut all = Vec::new();
        loop {
            let some = self.claim(4);
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }
}

/// One CPU detours into a ring of two cells while two threads of the program claim: each packet that
/// found room arrives once, whole, and in order for whoever takes several.
pub(crate) fn one_producer_two_consumers<W: Word + Default + 'static>(start: u32, batch: usize) {
    let detour = Detour::<W>::new(2, start, 3);
    // The first packet is there before anybody looks, so that cells are used again.
    assert!(detour.detour(0));
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let detour = detour.clone();
            thread::spawn(move || detour.claim(batch))
        })
        .collect();
    let mut sent = 1;
    for _ in 0..2 {
        if detour.detour(sent) {
            sent += 1;
        }
    }
    let mut batches: Vec<Vec<u32>> = consumers.into_iter().map(|c| c.join().unwrap()).collect();
    batches.push(detour.rest());
    assert!(
        batches.iter().all(|b| b.is_sorted()),
        "out of order: {batches:?}"
    );
    each_once(batches.into_iter().flatten(), sent);
}

#[test]
fn consumers_share_a_ring() {
    every(|| one_producer_two_consumers::<Honest>(0, 1));
}

#[test]
fn consumers_share_a_ring_in_batches() {
    most(3, || one_producer_two_consumers::<Honest>(0, 2));
}

/// The same where the 8 bits of the lap begin again: the tag of lap 255 must read as "not yet".
#[test]
fn consumers_share_a_ring_over_the_last_lap() {
    most(3, || one_producer_two_consumers::<Honest>(2 * 256 - 1, 2));
}

/// The same where the 32-bit position begins again, and with it the lap: the largest case here.
#[test]
fn consumers_share_a_ring_over_the_last_position() {
    every_if_optimised(|| one_producer_two_consumers::<Honest>(u32::MAX, 2));
}

/// One CPU goes round a ring of one cell as fast as the program lets it: a cell is used again only
/// after its entry was read.
pub(crate) fn cells_are_used_again<W: Word + Default + 'static>() {
    let detour = Detour::<W>::new(1, u32::MAX, 3);
    let consumer = {
        let detour = detour.clone();
        thread::spawn(move || [detour.claim(1), detour.claim(1)].concat())
    };
    let mut sent = 0;
    for _ in 0..3 {
        sent += u32::from(detour.detour(sent));
    }
    let mut taken = consumer.join().unwrap();
    taken.extend(detour.rest());
    assert_eq!(taken, (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_cell_is_used_again_after_it_was_read() {
    every(cells_are_used_again::<Watched>);
}

/// Two CPUs book one cell each and fill them in either order: order is booking order.
#[test]
fn filling_out_of_order_keeps_booking_order() {
    every(|| {
        let detour = Detour::<Honest>::new(2, 1, 2);
        let bookings: Vec<u32> = (0..2).map(|_| detour.book().unwrap()).collect();
        let cpus: Vec<_> = (0..2u32)
            .map(|nth| {
                let detour = detour.clone();
                let position = bookings[nth as usize];
                thread::spawn(move || {
                    let entry = detour.bytes.write(nth);
                    detour.ring.cells().fill(position, entry);
                })
            })
            .collect();
        let mut taken = detour.claim(2);
        for cpu in cpus {
            cpu.join().unwrap();
        }
        taken.extend(detour.rest());
        assert_eq!(taken, [0, 1]);
    });
}

/// Two CPUs detour against a consumer: nothing is lost or doubled when bookings race.
#[test]
fn two_cpus_detour_at_once() {
    every(|| {
        let detour = Detour::<Honest>::new(2, u32::MAX, 2);
        let cpus: Vec<_> = (0..2u32)
            .map(|nth| {
                let detour = detour.clone();
                thread::spawn(move || assert!(detour.detour(nth)))
            })
            .collect();
        let mut taken = detour.claim(2);
        for cpu in cpus {
            cpu.join().unwrap();
        }
        taken.extend(detour.rest());
        each_once(taken, 2);
    });
}

/// A booking that fails becomes padding: consumers step over it, and its cell is used again.
#[test]
fn padding_is_stepped_over() {
    most(3, || {
        let detour = Detour::<Honest>::new(2, 0, 3);
        let failed = detour.book().unwrap();
        assert!(detour.detour(0));
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let detour = detour.clone();
                thread::spawn(move || detour.claim(2))
            })
            .collect();
        detour.ring.cells().pad(failed);
        let sent = if detour.detour(1) { 2 } else { 1 };
        let mut taken: Vec<u32> = consumers
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect();
        taken.extend(detour.rest());
        each_once(taken, sent);
    });
}

/// A consumer that dies after it has read entries and before its compare-and-exchange has taken
/// nothing: the others get all.
#[test]
fn a_consumer_that_dies_takes_nothing_along() {
    every(|| {
        let detour = Detour::<Honest>::new(2, 0, 3);
        assert!(detour.detour(0) && detour.detour(1));
        let dying = {
            let detour = detour.clone();
            thread::spawn(move || {
                let begin = detour.ring.program.load();
                matches!(detour.ring.cells().look(begin), Look::Full(_))
            })
        };
        let mut taken = detour.claim(1);
        let sent = if detour.detour(2) { 3 } else { 2 };
        dying.join().unwrap();
        taken.extend(detour.rest());
        assert_eq!(taken, (0..sent).collect::<Vec<_>>());
    });
}

/// Whoever claims while entries are there gets some, even if others took the cells that it looked at
/// first and the kernel has filled them anew.
#[test]
fn a_claim_is_not_empty_while_entries_are_there() {
    every(|| {
        let detour = Detour::<Honest>::new(2, 0, 4);
        assert!(detour.detour(0) && detour.detour(1));
        let other = {
            let detour = detour.clone();
            thread::spawn(move || detour.claim(1))
        };
        let kernel = {
            let detour = detour.clone();
            thread::spawn(move || u32::from(detour.detour(2)))
        };
        let mut taken = detour.claim(1);
        assert_eq!(taken.len(), 1, "two entries, two claims of one");
        taken.extend(other.join().unwrap());
        assert_eq!(taken.len(), 2, "two entries, two claims of one");
        let sent = 2 + kernel.join().unwrap();
        taken.extend(detour.rest());
        each_once(taken, sent);
    });
}

/// The same for the question before the claim.
#[test]
fn a_ring_is_ready_while_entries_are_there() {
    every(|| {
        let detour = Detour::<Honest>::new(2, 0, 3);
        assert!(detour.detour(0) && detour.detour(1));
        let other = {
            let detour = detour.clone();
            thread::spawn(move || detour.claim(1))
        };
        let kernel = {
            let detour = detour.clone();
            thread::spawn(move || detour.detour(2))
        };
        assert!(detour.ring.consumer().is_ready());
        assert_eq!(other.join().unwrap(), [0]);
        kernel.join().unwrap();
    });
}
