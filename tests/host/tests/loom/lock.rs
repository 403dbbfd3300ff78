// SPDX-License-Identifier: GPL-2.0-only

//! Shared locks: one owner at a time, an owner that dies at any point, and nobody who sleeps for ever.
//!
//! The programs' part is the code of `uapi/src/lock.rs`. The kernel's part is that of `module/lock.rs`
//! in the model checker's terms: a mutex, those who sleep, and an account of who has registered the
//! lock. The checker reports a deadlock when all sleep.

use crate::word::{burn, dies, immortal, Honest, Mortal};
use crate::{every, every_if_optimised, most};
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use nettap_uapi::lock::{
    announce, owner_of, release, release_dead, try_take, Attempt, LockWords, Release,
    LOCK_OWNER_DIED, LOCK_WAITERS,
};
use nettap_uapi::ring::Word;
use std::sync::Arc;

/// Whom the kernel wakes; all but the first are faults.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Waking {
    /// Everybody, also at the end of a session.
    All,
    /// At a release only one, who may have had enough of waiting.
    One,
    /// Nobody at the end of a session.
    NotAtEnd,
}

/// A lock, what it guards, and the kernel.
pub(crate) struct Guarded<W> {
    lock: LockWords<W>,
    /// Equal whenever the lock is free and its last owner lived.
    halves: [UnsafeCell<u32>; 2],
    /// A bit for each session that has registered the lock.
    users: Mutex<u32>,
    sleepers: Condvar,
    waking: Waking,
}

// SAFETY: the cells are what the lock guards; that nobody touches them without it is what is checked here,
// by the checker.
unsafe impl<W: Sync> Sync for Guarded<W> {}
// SAFETY: as for Sync.
unsafe impl<W: Send> Send for Guarded<W> {}

impl<W: Word + Default + 'static> Guarded<W> {
    /// A lock that sessions 1 to `sessions` have registered; the word is `word`.
    pub(crate) fn new(sessions: u32, word: u32, waking: Waking) -> Arc<Self> {
        let lock = LockWords::<W>::default();
        lock.word.store(word);
        Arc::new(Self {
            lock,
            halves: [UnsafeCell::new(0), UnsafeCell::new(0)],
            users: Mutex::new((1 << (sessions + 1)) - 2),
            sleepers: Condvar::new(),
            waking,
        })
    }

    /// Takes the lock, as the library does; whether its last owner died. Who has no patience gives up when
    /// it has slept once.
    fn take(&self, me: u32, patient: bool) -> Option<bool> {
        loop {
            let seen = match try_take(&self.lock.word, me) {
                Attempt::Taken => return Some(false),
                Attempt::TakenFromDead => return Some(true),
                Attempt::Busy(seen) => seen,
            };
            if let Some(seen) = announce(&self.lock.word, seen) {
                burn();
                let slept = immortal(|| self.wait(seen));
                burn();
                if slept && !patient {
                    return None;
                }
            }
        }
    }

    /// Releases it, as the library does.
    fn release(&self, me: u32) -> Release {
        let released = release(&self.lock.word, me);
        burn();
        if released == Release::Wake {
            immortal(|| {
                let _users = self.users.lock().unwrap();
                if self.waking == Waking::One {
                    self.sleepers.notify_one();
                } else {
                    self.sleepers.notify_all();
                }
            });
        }
        released
    }

    /// Changes what the lock guards, in two steps.
    fn change(&self) {
        for half in &self.halves {
            // SAFETY: with the lock in hand; the checker says so if somebody else has it.
            half.with_mut(|half| unsafe { *half += 1 });
            burn();
        }
    }

    /// Whether somebody has left what the lock guards half done; mends it.
    fn mend(&self) -> bool {
        // SAFETY: as in `change`.
        let first = self.halves[0].with(|half| unsafe { *half });
        let second = self.halves[1].with_mut(|half| {
            // SAFETY: as in `change`.
            unsafe { std::mem::replace(&mut *half, first) }
        });
        first != second
    }

    /// The kernel: sleeps while the word is as it was seen; whether it slept.
    fn wait(&self, seen: u32) -> bool {
        assert_ne!(seen & LOCK_WAITERS, 0, "nobody would wake");
        let mut slept = false;
        let mut users = self.users.lock().unwrap();
        loop {
            let owner = owner_of(seen);
            if owner == 0 || self.lock.word.load() != seen {
                return slept;
            }
            if owner > 8 || *users & (1 << owner) == 0 {
                release_dead(&self.lock.word, owner);
                self.sleepers.notify_all();
                return slept;
            }
            users = self.sleepers.wait(users).unwrap();
            slept = true;
        }
    }

    /// The kernel: a session ends.
    fn end(&self, session: u32) {
        let mut users = self.users.lock().unwrap();
        *users &= !(1 << session);
        release_dead(&self.lock.word, session);
        if self.waking != Waking::NotAtEnd {
            self.sleepers.notify_all();
        }
    }

    /// A program that takes the lock once, changes what it guards, and releases it; it finds things as they
    /// should be, or is told that they may not be.
    fn pass(&self, me: u32) {
        let died = self.take(me, true).expect("it is patient");
        let half_done = self.mend();
        assert!(died || !half_done, "half done, and nobody said so");
        self.change();
        self.release(me);
    }
}

/// Programs take the lock by turns: what it guards is touched by one at a time, and the lock is free at the
/// end.
pub(crate) fn one_at_a_time<W: Word + Default + Send + Sync + 'static>(programs: u32) {
    let guarded = Guarded::<W>::new(programs, 0, Waking::All);
    let others: Vec<_> = (2..=programs)
        .map(|me| {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.pass(me))
        })
        .collect();
    guarded.pass(1);
    for other in others {
        other.join().unwrap();
    }
    assert!(!guarded.mend());
    // SAFETY: as in `change`; all others have ended.
    let count = guarded.halves[0].with(|half| unsafe { *half });
    assert_eq!(count, programs);
    assert_eq!(owner_of(guarded.lock.word.load()), 0);
}

#[test]
fn two_take_a_lock() {
    every(|| one_at_a_time::<Honest>(2));
}

#[test]
fn three_take_a_lock() {
    most(2, || one_at_a_time::<Honest>(3));
}

/// Steps that a program makes on its way through the lock, at most; it dies before each of them.
const STEPS: u32 = 14;

/// A program dies before its step `at`: whoever comes next gets the lock, and is told of the death exactly if
/// the dead had it.
pub(crate) fn an_owner_dies(at: u32, waking: Waking) {
    let guarded = Guarded::<Mortal<Honest>>::new(2, 0, waking);
    let dying = {
        let guarded = guarded.clone();
        thread::spawn(move || {
            let lived = dies(at, || guarded.pass(1)).is_some();
            guarded.end(1);
            lived
        })
    };
    let first = guarded.take(2, true).expect("it is patient");
    let half_done = guarded.mend();
    assert!(first || !half_done, "half done, and nobody said so");
    guarded.release(2);
    let lived = dying.join().unwrap();
    let second = guarded.take(2, true).expect("it is patient");
    assert!(second || !guarded.mend(), "half done, and nobody said so");
    guarded.release(2);
    assert!(!(first && second), "told twice");
    assert!(!(lived && (first || second)), "told of the living");
    assert_eq!(guarded.lock.word.load(), 0);
}

#[test]
fn an_owner_dies_at_any_point() {
    for at in 0..STEPS {
        every_if_optimised(move || an_owner_dies(at, Waking::All));
    }
}

/// The steps above are all there are: beyond them everybody lives.
#[test]
fn no_step_is_left_out() {
    every(|| {
        let guarded = Guarded::<Mortal<Honest>>::new(2, 0, Waking::All);
        let other = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.pass(2))
        };
        assert!(dies(STEPS - 1, || guarded.pass(1)).is_some());
        other.join().unwrap();
    });
}

/// One of two who wait for a third dies before any of its steps: the other still gets the lock.
#[test]
fn a_waiter_dies_at_any_point() {
    for at in 0..STEPS {
        most(2, move || {
            let guarded = Guarded::<Mortal<Honest>>::new(3, 0, Waking::All);
            assert_eq!(guarded.take(3, true), Some(false));
            let dying = {
                let guarded = guarded.clone();
                thread::spawn(move || {
                    let _ = dies(at, || guarded.pass(1));
                    guarded.end(1);
                })
            };
            let other = {
                let guarded = guarded.clone();
                thread::spawn(move || guarded.pass(2))
            };
            assert_ne!(guarded.release(3), Release::NotOwner);
            dying.join().unwrap();
            other.join().unwrap();
            assert_eq!(owner_of(guarded.lock.word.load()), 0);
        });
    }
}

/// One of two who wait gives up when it is woken (its time has passed, a signal has come): the other still gets
/// the lock.
pub(crate) fn a_waiter_gives_up(waking: Waking) {
    let guarded = Guarded::<Honest>::new(3, 0, waking);
    assert_eq!(guarded.take(3, true), Some(false));
    let impatient = {
        let guarded = guarded.clone();
        thread::spawn(move || {
            if guarded.take(1, false).is_some() {
                guarded.release(1);
            }
        })
    };
    let other = {
        let guarded = guarded.clone();
        thread::spawn(move || guarded.pass(2))
    };
    guarded.release(3);
    impatient.join().unwrap();
    other.join().unwrap();
}

#[test]
fn a_waiter_may_give_up() {
    most(2, || a_waiter_gives_up(Waking::All));
}

/// A word that names nobody who may have the lock (somebody has scribbled, or taken it unregistered) holds
/// nobody up: the kernel releases it once, for the first to wait.
#[test]
fn an_owner_that_is_none_holds_nobody_up() {
    for word in [9, 9 | LOCK_WAITERS, u32::MAX] {
        most(2, move || {
            let guarded = Guarded::<Honest>::new(2, word, Waking::All);
            let other = {
                let guarded = guarded.clone();
                thread::spawn(move || {
                    let died = guarded.take(1, true).unwrap();
                    guarded.release(1);
                    died
                })
            };
            let died = guarded.take(2, true).unwrap();
            guarded.release(2);
            assert!(died != other.join().unwrap(), "one of them is told");
        });
    }
}

/// A program of the group takes the word for itself while the kernel releases it: the end of a session finds its
/// way out, and takes nothing from whom it finds there.
#[test]
fn the_end_of_a_session_takes_from_nobody_else() {
    every(|| {
        let guarded = Guarded::<Honest>::new(2, 1, Waking::All);
        let thief = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                let word = &guarded.lock.word;
                word.replace(1, 1 | LOCK_WAITERS);
                (0..2).any(|_| word.replace(word.load(), 2))
            })
        };
        guarded.end(1);
        let word = if thief.join().unwrap() {
            2
        } else {
            LOCK_OWNER_DIED
        };
        assert_eq!(guarded.lock.word.load(), word);
    });
}
