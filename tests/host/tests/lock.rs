// SPDX-License-Identifier: GPL-2.0-only

//! The lock word against a plain account of who has the lock, and against programs that write what they
//! like into it.

use nettap_host_tests::Shared;
use nettap_uapi::lock::{
    announce, owner_of, release, release_dead, try_take, Attempt, Release, LOCK_OWNER,
    LOCK_OWNER_DIED, LOCK_WAITERS,
};
use nettap_uapi::ring::Word;
use proptest::prelude::*;
use std::cell::Cell;

/// What happens next; sessions have ids from 1 to 3.
#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u32),
    Announce,
    Release(u32),
    End(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4u32).prop_map(Step::Take),
        2 => Just(Step::Announce),
        3 => (1..4u32).prop_map(Step::Release),
        1 => (1..4u32).prop_map(Step::End),
    ];
    prop::collection::vec(step, 1..60)
}

fn word(value: u32) -> Shared {
    let word = Shared::default();
    word.store(value);
    word
}

/// Any word, but often one that is nearly right.
fn words() -> impl Strategy<Value = u32> {
    let flags = prop::sample::select(vec![0, LOCK_OWNER_DIED, LOCK_WAITERS, 3 << 30]);
    prop_oneof![
        (0..5u32, flags).prop_map(|(owner, flags)| owner | flags),
        any::<u32>(),
    ]
}

proptest! {
    /// Whatever sessions do by the rules, the word says who has the lock, whether somebody is to be woken, and
    /// whether the last owner died, and says that once.
    #[test]
    fn the_word_is_the_account(steps in steps()) {
        let word = word(0);
        let (mut owner, mut died, mut waited_for) = (None, false, false);
        for step in steps {
            match step {
                Step::Take(me) => {
                    let expected = match owner {
                        Some(_) => Attempt::Busy(word.load()),
                        None if died => Attempt::TakenFromDead,
                        None => Attempt::Taken,
                    };
                    prop_assert_eq!(try_take(&word, me), expected);
                    if owner.is_none() {
                        (owner, died) = (Some(me), false);
                    }
                }
                Step::Announce => {
                    let seen = word.load();
                    if owner.is_some() {
                        prop_assert_eq!(announce(&word, seen), Some(seen | LOCK_WAITERS));
                        waited_for = true;
                    }
                }
                Step::Release(me) => {
                    let expected = match owner {
                        Some(now) if now == me && waited_for => Release::Wake,
                        Some(now) if now == me => Release::Done,
                        _ => Release::NotOwner,
                    };
                    prop_assert_eq!(release(&word, me), expected);
                    if owner == Some(me) {
                        (owner, waited_for) = (None, false);
                    }
                }
                Step::End(me) => {
                    prop_assert_eq!(release_dead(&word, me), owner == Some(me));
                    if owner == Some(me) {
                        (owner, died, waited_for) = (None, true, false);
                    }
                }
            }
            prop_assert_eq!(owner_of(word.load()), owner.unwrap_or(0));
            prop_assert_eq!(word.load() & LOCK_OWNER_DIED != 0, died);
            prop_assert_eq!(word.load() & LOCK_WAITERS != 0, waited_for);
        }
    }

    /// Of any word, the kernel takes the lock from the session that it was told of and from nobody else.
    #[test]
    fn only_the_dead_lose_a_lock(value in words(), dead in prop_oneof![0..5u32, 0..=LOCK_OWNER]) {
        let word = word(value);
        let is_owner = owner_of(value) == dead && dead != 0;
        prop_assert_eq!(release_dead(&word, dead), is_owner);
        prop_assert_eq!(word.load(), if is_owner { LOCK_OWNER_DIED } else { value });
    }

    /// Any word is taken or is busy, and what is taken can be released; who sleeps on it is not forgotten.
    #[test]
    fn any_word_is_survived(value in words(), me in 1..=LOCK_OWNER) {
        let scribbled = word(value);
        match try_take(&scribbled, me) {
            Attempt::Busy(seen) => {
                prop_assert_eq!(seen, value);
                prop_assert!(owner_of(value) != 0);
                prop_assert_eq!(release(&scribbled, me) == Release::NotOwner, owner_of(value) != me);
            }
            taken => {
                prop_assert_eq!(owner_of(value), 0);
                prop_assert_eq!(taken == Attempt::TakenFromDead, value & LOCK_OWNER_DIED != 0);
                let wake = value & LOCK_WAITERS != 0;
                prop_assert_eq!(release(&scribbled, me), if wake { Release::Wake } else { Release::Done });
                prop_assert_eq!(scribbled.load(), 0);
            }
        }
    }

    /// Nobody sleeps on a word that has changed since it was looked at.
    #[test]
    fn an_announcement_comes_too_late(value in words(), seen in words()) {
        let scribbled = word(value);
        let waited_for = announce(&scribbled, seen);
        if seen & LOCK_WAITERS == 0 && seen != value {
            prop_assert_eq!(waited_for, None);
            prop_assert_eq!(scribbled.load(), value);
        } else {
            prop_assert_eq!(waited_for, Some(seen | LOCK_WAITERS));
        }
    }
}

/// A word that somebody changes at every access, as the kernel sees it.
#[derive(Default)]
struct Restless(Cell<u32>);

impl Word for Restless {
    fn load(&self) -> u32 {
        7
    }
    fn load_acquire(&self) -> u32 {
        7
    }
    fn store(&self, _: u32) {}
    fn store_release(&self, _: u32) {}
    fn replace(&self, _: u32, _: u32) -> bool {
        self.0.set(self.0.get() + 1);
        false
    }
    fn full_barrier() {}
}

#[test]
fn the_kernel_gives_up_on_a_restless_word() {
    let word = Restless::default();
    assert!(!release_dead(&word, 7));
    assert!(word.0.get() <= 16, "tried {} times", word.0.get());
}
