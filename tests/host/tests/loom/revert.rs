// SPDX-License-Identifier: GPL-2.0-only

//! Rings that programs fill and the kernel consumes: dealloc and revert.

use crate::word::{Honest, Watched};
use crate::{each_once, every, most, Bytes};
use loom::sync::Arc;
use loom::thread;
use nettap_host_tests::Ring;
use nettap_uapi::ring::{Booking, Entry, Flags, PrivateConsumer, Word};

/// A revert ring and the bytes of what is reverted. The kernel's end belongs to one thread.
pub(crate) struct Revert<W> {
    pub(crate) ring: Ring<W>,
    bytes: Bytes,
}

impl<W: Word + Default + 'static> Revert<W> {
    pub(crate) fn new(size: usize, start: u32, packets: u32) -> Arc<Self> {
        Arc::new(Self {
            ring: Ring::starting_at(size, start),
            bytes: Bytes::new(packets),
        })
    }

    /// Reverts the packets in one batch, as a thread of the program does; returns those that found
    /// room.
    pub(crate) fn push(&self, packets: &[u32]) -> Vec<u32> {
        let pushed = self.give(packets).count() as usize;
        packets[..pushed].to_vec()
    }

    /// The same; where they went.
    pub(crate) fn give(&self, packets: &[u32]) -> Booking {
        let entries: Vec<_> = packets.iter().map(|nth| self.bytes.write(*nth)).collect();
        self.push_as_the_library(&entries)
    }

    fn push_as_the_library(&self, entries: &[Entry]) -> Booking {
        let producer = self.ring.producer();
        let plainly = producer.push_plainly(entries, Flags::Kept);
        plainly.unwrap_or_else(|| producer.push(entries, Flags::Kept))
    }

    /// Takes up to `most` entries and publishes how far it has come, as one round of the kernel does.
    pub(crate) fn round(&self, kernel: &mut PrivateConsumer<W>, most: usize) -> Vec<u32> {
        let cells = self.ring.cells();
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(entry) = kernel.take(&cells) else {
                break;
            };
            taken.push(self.bytes.read(entry));
        }
        kernel.publish(&self.ring.kernel);
        taken
    }
}

/// Two threads of the program revert into a ring of two cells, which the kernel empties meanwhile:
/// what found room arrives once, each thread's in its own order.
pub(crate) fn two_producers<W: Word + Default + 'static>(start: u32, packets: [&[u32]; 2]) {
    let revert = Revert::<W>::new(2, start, 4);
    let mut kernel = PrivateConsumer::starting_at(start);
    let [mine, others] = packets.map(<[u32]>::to_vec);
    let producers = [mine, others].map(|packets| {
        let revert = revert.clone();
        thread::spawn(move || revert.push(&packets))
    });
    let mut taken = revert.round(&mut kernel, 2);
    taken.extend(revert.round(&mut kernel, 1));
    let pushed = producers.map(|p| p.join().unwrap());
    taken.extend(revert.round(&mut kernel, 4));
    for of_one in &pushed {
        let arrived: Vec<u32> = taken
            .iter()
            .copied()
            .filter(|nth| of_one.contains(nth))
            .collect();
        assert_eq!(&arrived, of_one);
    }
    assert_eq!(taken.len(), pushed[0].len() + pushed[1].len());
    assert_eq!(kernel.scribbled(), 0);
}

#[test]
fn producers_share_a_ring() {
    every(|| two_producers::<Honest>(0, [&[0], &[1]]));
}

#[test]
fn producers_share_a_ring_in_batches() {
    most(3, || two_producers::<Honest>(0, [&[0, 1], &[2, 3]]));
}

/// The same where the 8 bits of the lap begin again.
#[test]
fn producers_share_a_ring_over_the_last_lap() {
    most(3, || two_producers::<Honest>(2 * 256 - 1, [&[0, 1], &[2]]));
}

/// The same where the 32-bit position begins again.
#[test]
fn producers_share_a_ring_over_the_last_position() {
    most(3, || two_producers::<Honest>(u32::MAX, [&[0, 1], &[2]]));
}

/// One producer goes round a ring of one cell as fast as the kernel lets it: a cell is used again
/// only after its entry was read.
pub(crate) fn cells_are_used_again<W: Word + Default + 'static>() {
    let revert = Revert::<W>::new(1, u32::MAX, 3);
    let mut kernel = PrivateConsumer::starting_at(u32::MAX);
    let producer = {
        let revert = revert.clone();
        thread::spawn(move || {
            let mut next = 0;
            for _ in 0..3 {
                next += revert.push(&[next]).len() as u32;
            }
            next
        })
    };
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.extend(revert.round(&mut kernel, 1));
    }
    let pushed = producer.join().unwrap();
    taken.extend(revert.round(&mut kernel, 4));
    each_once(taken.iter().copied(), pushed);
    assert!(taken.is_sorted());
}

#[test]
fn a_cell_is_used_again_after_it_was_read() {
    every(cells_are_used_again::<Watched>);
}

/// A producer that dies between booking and filling holds up what others put behind it, and nothing
/// else happens: nothing arrives twice, out of order or from the dead, and the ring ends up full.
#[test]
fn a_producer_that_dies_holds_up_the_ring() {
    every(|| {
        let revert = Revert::<Honest>::new(2, 0, 3);
        let mut kernel = PrivateConsumer::new();
        assert_eq!(revert.push(&[0]), [0]);
        let dying = {
            let revert = revert.clone();
            thread::spawn(move || {
                let booking = revert.ring.producer().book(1);
                booking.and_then(|booking| booking.position(0))
            })
        };
        let other = {
            let revert = revert.clone();
            thread::spawn(move || revert.push(&[1]))
        };
        let mut taken = revert.round(&mut kernel, 4);
        let died_at = dying.join().unwrap();
        let pushed = other.join().unwrap();
        taken.extend(revert.round(&mut kernel, 4));
        // Behind the dead one, nothing; before it, everything.
        let arrived: &[u32] = match (died_at, pushed.len()) {
            (Some(2), 1) | (None, 1) => &[0, 1],
            (Some(1) | None, _) => &[0],
            (Some(position), _) => {
                assert_eq!(position, 1, "booked beyond the ring");
                &[0]
            }
        };
        assert_eq!(taken, arrived);
        assert!(!kernel.is_ready(&revert.ring.cells()));
        assert_eq!(kernel.scribbled(), 0);
        if died_at.is_some() {
            while !revert.push(&[2]).is_empty() {}
            assert!(revert.ring.producer().book(1).is_none());
        }
    });
}

/// A thread that pads what it cannot fill does not hold up the others.
#[test]
fn padding_frees_the_way() {
    every(|| {
        let revert = Revert::<Honest>::new(2, 1, 1);
        let mut kernel = PrivateConsumer::starting_at(1);
        let padding = {
            let revert = revert.clone();
            thread::spawn(move || {
                let producer = revert.ring.producer();
                let booking = producer.book(1).unwrap();
                producer.cells().pad(booking.position(0).unwrap());
            })
        };
        let other = {
            let revert = revert.clone();
            thread::spawn(move || revert.push(&[0]))
        };
        let mut taken = revert.round(&mut kernel, 4);
        padding.join().unwrap();
        assert_eq!(other.join().unwrap(), [0]);
        taken.extend(revert.round(&mut kernel, 4));
        assert_eq!(taken, [0]);
        assert_eq!(kernel.position(), 3);
    });
}

/// Whatever happens meanwhile, a ring never has more to do than it has cells, and never less than
/// nothing.
#[test]
fn the_backlog_can_be_believed() {
    every(|| {
        let revert = Revert::<Honest>::new(2, 0, 2);
        let mut kernel = PrivateConsumer::new();
        let producer = {
            let revert = revert.clone();
            thread::spawn(move || revert.push(&[0, 1]))
        };
        let watcher = {
            let revert = revert.clone();
            thread::spawn(move || revert.ring.producer().backlog())
        };
        revert.round(&mut kernel, 2);
        let backlog = watcher.join().unwrap();
        assert!(backlog <= 2, "a backlog of {backlog} in a ring of 2");
        producer.join().unwrap();
        revert.round(&mut kernel, 2);
        assert_eq!(revert.ring.producer().backlog(), 0);
    });
}
