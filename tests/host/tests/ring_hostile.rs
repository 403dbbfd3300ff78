// SPDX-License-Identifier: GPL-2.0-only

//! The ring against a program that scribbles over all that it can write: tags, entries, positions.
//!
//! The kernel must not panic, not loop, not give out a cell that may still be read, and not take an
//! entry twice that was written once. What it takes may be nonsense; the module checks each entry.
//! The other way round, a program whose own words were scribbled over gets nonsense in bounded time.

use nettap_host_tests::{packet, Ring, Shared};
use nettap_uapi::ring::{Entry, PrivateConsumer, PrivateProducer, Word, LAP_SHIFT};
use proptest::prelude::*;
use std::collections::HashMap;

/// What happens next; values that select a cell are offsets from the kernel's position, so that the
/// interesting ones are hit often.
#[derive(Clone, Debug)]
enum Step {
    /// An honest push of so many entries.
    Push(u32),
    /// A tag, most likely nearly right: state, lap relative to the right one, rest.
    Tag(u32, u32, u32),
    /// Any tag.
    AnyTag(u32, u32),
    /// The position word.
    Position(u32),
    /// The position word, near the kernel's.
    Near(u32),
    /// The kernel takes so many entries and publishes.
    Take(u32),
    /// The kernel books and fills so many cells.
    Fill(u32),
    /// The program claims so many entries.
    Claim(u32),
}

fn near() -> impl Strategy<Value = u32> {
    (0..40u32).prop_map(|offset| offset.wrapping_sub(20))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..20u32).prop_map(Step::Push),
        3 => (near(), 0..4u32, (0..3u32).prop_map(|lap| lap.wrapping_sub(1)))
            .prop_map(|(cell, state, lap)| Step::Tag(cell, state, lap)),
        1 => (near(), any::<u32>()).prop_map(|(cell, tag)| Step::AnyTag(cell, tag)),
        1 => any::<u32>().prop_map(Step::Position),
        2 => near().prop_map(Step::Near),
        3 => (0..40u32).prop_map(Step::Take),
        3 => (0..20u32).prop_map(Step::Fill),
        3 => (0..20u32).prop_map(Step::Claim),
    ];
    prop::collection::vec(step, 1..200)
}

const SIZE: u32 = 16;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// The kernel consumes: dealloc and revert.
    #[test]
    fn nothing_is_taken_twice(start: u32, steps in steps()) {
        let ring = Ring::<Shared>::starting_at(SIZE as usize, start);
        let mut kernel = PrivateConsumer::starting_at(start);
        // Per cell: the last tag word that somebody wrote, by number, and the last that was taken.
        let mut written: HashMap<u32, u32> = HashMap::new();
        let mut taken: HashMap<u32, u32> = HashMap::new();
        let mut writes = 0;
        let mut wrote = |written: &mut HashMap<u32, u32>, position: u32| {
            writes += 1;
            written.insert(position % SIZE, writes);
        };
        for step in steps {
            let here = kernel.position();
            match step {
                Step::Push(n) => {
                    let producer = ring.producer();
                    let Some(booking) = producer.book(n.max(1)) else { continue };
                    prop_assert!(booking.count() <= SIZE);
                    prop_assert_eq!(booking.position(booking.count()), None);
                    for nth in 0..booking.count() {
                        let position = booking.position(nth).unwrap();
                        producer.cells().fill(position, packet(nth));
                        wrote(&mut written, position);
                    }
                }
                Step::Tag(cell, state, lap) => {
                    let position = here.wrapping_add(cell);
                    let lap = (position / SIZE).wrapping_add(lap) & 0xff;
                    ring.raw(position).tag.store(state | (lap << LAP_SHIFT));
                    wrote(&mut written, position);
                }
                Step::AnyTag(cell, tag) => {
                    let position = here.wrapping_add(cell);
                    ring.raw(position).tag.store(tag);
                    wrote(&mut written, position);
                }
                Step::Position(value) => ring.program.store(value),
                Step::Near(offset) => ring.program.store(here.wrapping_add(offset)),
                Step::Take(n) => {
                    for _ in 0..n {
                        let before = kernel.position();
                        let ready = kernel.is_ready(&ring.cells());
                        let entry = kernel.take(&ring.cells());
                        let stepped = kernel.position().wrapping_sub(before);
                        prop_assert!(stepped <= SIZE, "stepped over {} cells of {}", stepped, SIZE);
                        prop_assert!(ready || entry.is_none());
                        if entry.is_none() {
                            break;
                        }
                        let cell = kernel.position().wrapping_sub(1) % SIZE;
                        let write = written.get(&cell).copied();
                        prop_assert!(write.is_some(), "taken from a cell that nobody wrote");
                        let last = taken.insert(cell, write.unwrap());
                        prop_assert_ne!(last, write, "taken twice from one write");
                    }
                    kernel.publish(&ring.kernel);
                    prop_assert_eq!(ring.kernel.load(), kernel.position());
                }
                // The program cannot have these ends of such a ring.
                Step::Fill(_) | Step::Claim(_) => {}
            }
            prop_assert!(ring.producer().backlog() <= SIZE);
        }
    }

    /// The kernel produces: alloc and detour. A cell is given out again only after a position that
    /// could be has passed it.
    #[test]
    fn no_cell_is_given_out_early(start: u32, steps in steps()) {
        let ring = Ring::<Shared>::starting_at(SIZE as usize, start);
        let mut kernel = PrivateProducer::starting_at(start);
        let mut believed = start;
        for step in steps {
            match step {
                Step::Fill(n) if n % 2 == 0 => {
                    let room = kernel.room(SIZE, &ring.program);
                    let said = ring.program.load();
                    if kernel.head().wrapping_sub(said) <= kernel.head().wrapping_sub(believed) {
                        believed = said;
                    }
                    let head = kernel.head();
                    let (first, count) = kernel.book_run(SIZE, n);
                    prop_assert_eq!((first, count), (head, n.min(room)));
                    prop_assert_eq!(kernel.head(), head.wrapping_add(count));
                    for nth in 0..count {
                        let position = first.wrapping_add(nth);
                        prop_assert!(position.wrapping_sub(believed) < SIZE, "given out early");
                        ring.cells().fill(position, packet(nth));
                    }
                }
                Step::Fill(n) => for nth in 0..n {
                    let room = kernel.room(SIZE, &ring.program);
                    prop_assert!(room <= SIZE);
                    let said = ring.program.load();
                    if kernel.head().wrapping_sub(said) <= kernel.head().wrapping_sub(believed) {
                        believed = said;
                    }
                    let head = kernel.head();
                    let booked = kernel.book(SIZE, &ring.program);
                    prop_assert_eq!(booked, (room > 0).then_some(head));
                    let Some(position) = booked else { break };
                    prop_assert!(position.wrapping_sub(believed) < SIZE, "given out early");
                    ring.cells().fill(position, packet(nth));
                },
                Step::Claim(n) => {
                    let mut out = vec![Entry::default(); n as usize];
                    let taken = ring.consumer().claim(&mut out);
                    prop_assert!(taken <= out.len() && taken <= SIZE as usize);
                    ring.consumer().is_ready();
                }
                Step::Position(value) => ring.program.store(value),
                Step::Near(offset) => ring.program.store(kernel.head().wrapping_add(offset)),
                // The cells of such a ring are read-only for programs.
                Step::Push(_) | Step::Tag(..) | Step::AnyTag(..) | Step::Take(_) => {}
            }
        }
        prop_assert!(kernel.head().wrapping_sub(believed) <= SIZE);
    }
}

/// A cell that no producer could have written is counted once, holds up the ring, and is healed by
/// whoever writes it properly.
#[test]
fn a_scribbled_cell_is_counted_once() {
    let ring = Ring::<Shared>::starting_at(16, 0);
    let mut kernel = PrivateConsumer::new();
    ring.raw(0).tag.store((7 << LAP_SHIFT) | 1);
    for _ in 0..3 {
        assert_eq!(kernel.take(&ring.cells()), None);
    }
    assert_eq!((kernel.scribbled(), kernel.position()), (1, 0));
    ring.cells().fill(0, packet(5));
    assert_eq!(kernel.take(&ring.cells()), Some(packet(5)));
    ring.raw(1).tag.store((9 << LAP_SHIFT) | 2);
    assert_eq!(kernel.take(&ring.cells()), None);
    assert_eq!(kernel.scribbled(), 2);
}

/// A ring full of padding yields nothing; one look of the kernel steps over little of it, and the next
/// goes on from there.
#[test]
fn padding_without_end_is_stepped_over_in_short_looks() {
    let ring = Ring::<Shared>::starting_at(1 << 16, 0);
    for position in 0..1 << 16 {
        ring.cells().pad(position);
    }
    let mut kernel = PrivateConsumer::new();
    for looks in 1..=1024 {
        assert_eq!(kernel.take(&ring.cells()), None);
        assert_eq!(kernel.position(), 64 * looks);
    }
    let mut out = [Entry::default(); 4];
    assert_eq!(ring.consumer().claim(&mut out), 0);
    assert_eq!(ring.program.load(), 1 << 16);
}

/// A position that runs back or ahead is counted, and the last good one is kept.
#[test]
fn a_position_that_cannot_be_is_not_believed() {
    let ring = Ring::<Shared>::starting_at(16, u32::MAX - 3);
    let mut kernel = PrivateProducer::starting_at(u32::MAX - 3);
    while kernel.book(16, &ring.program).is_some() {}
    assert_eq!(kernel.scribbled(), 0);
    ring.program.store(kernel.head().wrapping_sub(8));
    assert_eq!(kernel.room(16, &ring.program), 8);
    for nonsense in [kernel.head().wrapping_add(1), kernel.head().wrapping_sub(9)] {
        ring.program.store(nonsense);
        assert_eq!(kernel.room(16, &ring.program), 8);
    }
    assert_eq!(kernel.scribbled(), 2);
}
