// SPDX-License-Identifier: GPL-2.0-only

//! Rings whose consumer or producer dies before any of its steps: a step is one access to a shared word,
//! and a thread that dies makes no more of them.

use crate::detour::Detour;
use crate::revert::Revert;
use crate::word::{dies, Honest, Mortal};
use crate::{each_once, every, most};
use loom::sync::Arc;
use loom::thread;
use nettap_uapi::ring::{PrivateConsumer, Word};

type Word_ = Mortal<Honest>;

/// Steps of a claim of two entries or of a push of two, at most.
const STEPS: u32 = 12;

/// A consumer that dies on its way through a claim has taken nothing: the others get everything, once, and
/// the kernel goes on filling the ring.
fn a_consumer_dies(at: u32) {
    let detour = Detour::<Word_>::new(2, u32::MAX, 5);
    assert!(detour.detour(0) && detour.detour(1));
    let dying = {
        let detour = detour.clone();
        thread::spawn(move || dies(at, || detour.claim(2)))
    };
    let mut taken = detour.claim(1);
    let mut sent = if detour.detour(2) { 3 } else { 2 };
    taken.extend(dying.join().unwrap().unwrap_or_default());
    taken.extend(detour.rest());
    // The ring is as good as new.
    for _ in 0..2 {
        assert!(detour.detour(sent), "a cell is lost");
        sent += 1;
    }
    taken.extend(detour.rest());
    each_once(taken, sent);
}

#[test]
fn a_consumer_dies_at_any_point() {
    for at in 0..STEPS {
        every(move || a_consumer_dies(at));
    }
}

/// A producer that dies on its way through a push: what it had filled arrives, in order and once; what it had
/// booked and not filled holds up what others put behind it, and nothing else happens.
fn a_producer_dies(at: u32) {
    let revert = Revert::<Word_>::new(4, u32::MAX - 1, 3);
    let start = revert.ring.program.load();
    let mut kernel = PrivateConsumer::starting_at(start);
    let dying = {
        let revert = revert.clone();
        thread::spawn(move || dies(at, || revert.push(&[0, 1])).is_some())
    };
    let other = {
        let revert = revert.clone();
        thread::spawn(move || assert_eq!(revert.push(&[2]), [2]))
    };
    let mut taken = revert.round(&mut kernel, 4);
    let lived = dying.join().unwrap();
    other.join().unwrap();
    taken.extend(revert.round(&mut kernel, 4));
    let booked = revert.ring.program.load().wrapping_sub(start);
    let held_up = booked - taken.len() as u32;
    match (lived, booked) {
        (true, _) => assert_eq!((booked, held_up), (3, 0)),
        // It died before it had booked.
        (false, 1) => assert_eq!(taken, [2]),
        (false, _) => {
            assert_eq!(booked, 3);
            assert!(held_up <= 3);
            let unfilled = !taken.contains(&1);
            assert_eq!(
                unfilled,
                held_up > 0,
                "held up without a reason, or not: {taken:?}"
            );
        }
    }
    let of_dead: Vec<u32> = taken.iter().copied().filter(|nth| *nth < 2).collect();
    assert!(of_dead.is_sorted() && of_dead.len() <= 2, "{taken:?}");
    let mut once = taken.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), taken.len(), "taken twice: {taken:?}");
    assert!(!kernel.is_ready(&revert.ring.cells()));
    assert_eq!(kernel.scribbled(), 0);
}

#[test]
fn a_producer_dies_at_any_point() {
    for at in 0..STEPS {
        most(3, move || a_producer_dies(at));
    }
}

/// Both at once on one detour ring: of two consumers one dies, and the kernel fills meanwhile. What the dead
/// one held in its hands when it died later is the kernel's account's business; the ring gives nothing twice.
#[test]
fn a_consumer_dies_beside_another() {
    for at in 0..STEPS {
        most(2, move || {
            let detour = Detour::<Word_>::new(2, 0, 4);
            assert!(detour.detour(0));
            let dying = claimant(&detour, Some(at));
            let other = claimant(&detour, None);
            let mut sent = 1;
            for _ in 0..2 {
                sent += u32::from(detour.detour(sent));
            }
            let mut taken = dying.join().unwrap();
            taken.extend(other.join().unwrap());
            taken.extend(detour.rest());
            each_once(taken, sent);
        });
    }
}

fn claimant(detour: &Arc<Detour<Word_>>, at: Option<u32>) -> thread::JoinHandle<Vec<u32>> {
    let detour = detour.clone();
    thread::spawn(move || match at {
        Some(at) => dies(at, || detour.claim(2)).unwrap_or_default(),
        None => detour.claim(1),
    })
}
