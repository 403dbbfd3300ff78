// SPDX-License-Identifier: GPL-2.0-only

//! The ring against a queue: whatever is done with honest words, in any order, entries come out as
//! a `VecDeque` gives them. Sizes, laps and positions, which the model checker cannot vary much, are
//! varied here: all sizes of rings, and positions before and after the 32-bit wrap-around.

use nettap_host_tests::{packet, Ring, Shared};
use nettap_uapi::ring::{
    Carried, Entry, Flags, Packed, PrivateConsumer, PrivateProducer, FLAGS_MASK, REVERT_CHANGED,
    REVERT_FLAGS,
};
use nettap_uapi::tap::{RING_MAX, RING_MIN};
use proptest::prelude::*;
use std::collections::VecDeque;

/// What somebody does with a ring. Counts are shares of the ring's size, in 1/64.
#[derive(Clone, Debug)]
enum Step {
    /// Fills so many cells.
    Fill(u32),
    /// Books so many cells and pads them.
    Pad(u32),
    /// Takes so many entries.
    Take(u32),
    /// Tells the other side.
    Publish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..80u32).prop_map(Step::Fill),
        1 => (0..8u32).prop_map(Step::Pad),
        4 => (0..80u32).prop_map(Step::Take),
        2 => Just(Step::Publish),
    ];
    prop::collection::vec(step, 1..48)
}

fn sizes() -> impl Strategy<Value = u32> {
    (RING_MIN.ilog2()..=RING_MAX.ilog2()).prop_map(|log2| 1 << log2)
}

/// Anywhere, but mostly just before the position or the lap begins again.
fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => any::<u32>(),
        3 => (0..1u32 << 18).prop_map(|before| before.wrapping_neg()),
        1 => (0..1u32 << 14).prop_map(|before| (256 * RING_MIN).wrapping_sub(before)),
        1 => Just(0),
    ]
}

fn share(of: u32, size: u32) -> u32 {
    of * size / 64
}

/// What the ring must agree with: the entries that are out, and cells in use. A cell is in use until
/// the consumer has told the producer that it stepped over it.
#[derive(Default)]
struct Queue {
    entries: VecDeque<Option<Entry>>,
    unpublished: u32,
    made: u32,
}

impl Queue {
    fn room(&self, size: u32) -> u32 {
        size - self.entries.len() as u32 - self.unpublished
    }

    fn next_entry(&mut self) -> Entry {
        self.made += 1;
        packet(self.made)
    }

    /// What the consumer finds next, with the padding before it gone.
    fn take(&mut self) -> Option<Entry> {
        loop {
            let cell = self.entries.pop_front()?;
            self.unpublished += 1;
            if cell.is_some() {
                return cell;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Rings that the kernel fills: one private producer, claims by the program.
    #[test]
    fn detour_is_a_queue(size in sizes(), start in starts(), steps in steps()) {
        let ring = Ring::<Shared>::starting_at(size as usize, start);
        let mut kernel = PrivateProducer::starting_at(start);
        let program = ring.consumer();
        let mut queue = Queue::default();
        for step in steps {
            match step {
                Step::Fill(n) | Step::Pad(n) => for _ in 0..share(n, size).max(1) {
                    let booked = kernel.book(size, &ring.program);
                    prop_assert_eq!(booked.is_some(), queue.room(size) > 0);
                    let Some(position) = booked else { break };
                    if matches!(step, Step::Pad(_)) {
                        ring.cells().pad(position);
                        queue.entries.push_back(None);
                    } else {
                        let entry = queue.next_entry();
                        ring.cells().fill(position, entry);
                        queue.entries.push_back(Some(entry));
                    }
                },
                Step::Take(n) => {
                    prop_assert_eq!(program.is_ready(), !queue.entries.is_empty());
                    let mut out = vec![Entry::default(); share(n, size) as usize];
                    // What is simple first: as many as that gives, and the largest of their indices.
                    let plain = program.claim_plainly(&mut out);
                    let (some, highest) = plain.unwrap_or((0, 0));
                    let largest = out[..some].iter().map(|entry| entry.index).max();
                    prop_assert_eq!(largest.unwrap_or(0), highest);
                    prop_assert_eq!(plain.is_some(), some > 0);
                    let taken = some + program.claim(&mut out[some..]);
                    for entry in &out[..taken] {
                        prop_assert_eq!(Some(*entry), queue.take());
                    }
                    if taken < out.len() {
                        prop_assert_eq!(queue.take(), None);
                    }
                    // The claim itself tells the kernel.
                    queue.unpublished = 0;
                }
                Step::Publish => prop_assert_eq!(kernel.room(size, &ring.program), queue.room(size)),
            }
        }
        prop_assert_eq!(kernel.scribbled(), 0);
    }

    /// Rings that programs fill: bookings in batches, one private consumer.
    #[test]
    fn revert_is_a_queue(size in sizes(), start in starts(), steps in steps()) {
        let ring = Ring::<Shared>::starting_at(size as usize, start);
        let mut kernel = PrivateConsumer::starting_at(start);
        let program = ring.producer();
        let mut queue = Queue::default();
        for step in steps {
            match step {
                Step::Fill(n) => {
                    let entries: Vec<_> = (0..share(n, size)).map(|_| queue.next_entry()).collect();
                    // What is simple first; that takes all or none.
                    let plainly = program.push_plainly(&entries, Flags::Kept);
                    let booking = plainly.unwrap_or_else(|| program.push(&entries, Flags::Kept));
                    let pushed = booking.count() as usize;
                    prop_assert_eq!(pushed, entries.len().min(queue.room(size) as usize));
                    queue.entries.extend(entries[..pushed].iter().copied().map(Some));
                }
                Step::Pad(n) => {
                    let wanted = share(n, size).max(1);
                    let booking = program.book(wanted);
                    let booked = booking.map_or(0, |booking| booking.count());
                    prop_assert_eq!(booked, wanted.min(queue.room(size)));
                    for position in booking.iter().flat_map(|b| (0..booked).map_while(|nth| b.position(nth))) {
                        program.cells().pad(position);
                        queue.entries.push_back(None);
                    }
                }
                Step::Take(n) => for _ in 0..share(n, size) {
                    prop_assert_eq!(kernel.is_ready(&ring.cells()), !queue.entries.is_empty());
                    // A run of what has no other flags, as far as the lap goes; first nobody wants it.
                    let flags = n as u8 % 4;
                    let is_alike = |entry: &&Option<Entry>| entry.is_some_and(|e| e.flags & !flags == 0);
                    let alike = queue.entries.iter().take_while(is_alike).count();
                    let most = (n as usize % 3).min((size - kernel.position() % size) as usize);
                    prop_assert_eq!(kernel.take_run(&ring.cells(), most, flags, |_| false), 0);
                    let mut run = Vec::new();
                    let count = kernel.take_run(&ring.cells(), n as usize % 3, flags, |entry| {
                        run.push(entry);
                        true
                    });
                    prop_assert_eq!((count, run.len()), (alike.min(most), count));
                    for entry in run {
                        prop_assert_eq!(Some(entry), queue.take());
                    }
                    let mut taken = kernel.take(&ring.cells());
                    // One look steps over so much padding and no more.
                    while taken.is_none() && kernel.is_ready(&ring.cells()) {
                        taken = kernel.take(&ring.cells());
                    }
                    prop_assert_eq!(taken, queue.take());
                    if taken.is_none() {
                        break;
                    }
                },
                Step::Publish => {
                    kernel.publish(&ring.kernel);
                    queue.unpublished = 0;
                }
            }
            let in_use = queue.entries.len() as u32 + queue.unpublished;
            prop_assert_eq!(program.backlog(), in_use);
        }
        prop_assert_eq!(kernel.scribbled(), 0);
    }

    /// Entries survive the tag: each bit of index, generation and flags that a ring may carry.
    #[test]
    fn entries_travel_whole(index: u32, generation: u16, flags in 0..=FLAGS_MASK as u8, start: u32) {
        let ring = Ring::<Shared>::starting_at(16, start);
        let entry = Entry { index, generation, flags };
        prop_assert_eq!(ring.producer().push(&[entry], Flags::Kept).count(), 1);
        let mut kernel = PrivateConsumer::starting_at(start);
        prop_assert_eq!(kernel.take(&ring.cells()), Some(entry));

        // In the form of cells as well, and without its flags where a ring has none.
        let packed = [Packed::of_cell(entry.in_tag(), index)];
        prop_assert_eq!(packed[0].entry(), entry);
        for (flags, expected) in [(Flags::Kept, entry), (Flags::Cleared, Entry { flags: 0, ..entry })] {
            prop_assert_eq!(ring.producer().push(&packed, flags).count(), 1);
            prop_assert_eq!(kernel.take(&ring.cells()), Some(expected));
        }
    }
}

/// A ring goes through all its laps, more than a tag can count, and through the end of positions.
#[test]
fn a_small_ring_goes_round_for_long() {
    for start in [0, u32::MAX - 20_000, u32::MAX] {
        let ring = Ring::<Shared>::starting_at(16, start);
        let mut kernel = PrivateConsumer::starting_at(start);
        let mut next = 0;
        for batch in (1..=16).cycle().take(6000) {
            let entries: Vec<_> = (next..next + batch).map(packet).collect();
            assert_eq!(
                ring.producer().push(&entries, Flags::Kept).count() as usize,
                entries.len()
            );
            for entry in &entries {
                assert_eq!(kernel.take(&ring.cells()), Some(*entry));
            }
            assert_eq!(kernel.take(&ring.cells()), None);
            kernel.publish(&ring.kernel);
            next += batch;
        }
        assert_eq!(kernel.position(), start.wrapping_add(next));
    }
}

/// Only powers of two within the limit are sizes.
#[test]
fn sizes_are_powers_of_two() {
    use nettap_uapi::ring::{Cell, Cells};
    for size in [0, 3, 17, 65535, 65537, 1 << 17] {
        let cells: Vec<Cell<Shared>> = (0..size).map(|_| Cell::default()).collect();
        assert!(Cells::new(&cells).is_none(), "{size} cells");
    }
}

/// What a revert ring may say fits into what a tag carries.
#[test]
fn revert_flags_fit_the_tag() {
    assert_eq!(u32::from(REVERT_FLAGS) & !FLAGS_MASK, 0);
    assert_eq!(REVERT_FLAGS & REVERT_CHANGED, REVERT_CHANGED);
}
