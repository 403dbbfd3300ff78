// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Shared locks: one holder at a time, who is told when the last one died.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nettap_uapi::lock::{LOCKS_MAX, LOCK_OWNER_DIED};
use nettap_uapi::ring::Word;

use crate::mock::answers::SESSION;
use crate::mock::Machine;
use crate::Error;

const SHORT: Duration = Duration::from_millis(3);

#[test]
fn threads_count_under_a_lock() {
    let (session, kernel) = Machine::default().session();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lock = session.shared_lock(5).unwrap();
                for _ in 0..500 {
                    let guard = lock.lock().unwrap();
                    let counter = &guard.data()[0];
                    // Two steps that only the lock keeps together.
                    let value = counter.load(Relaxed);
                    std::thread::yield_now();
                    counter.store(value + 1, Relaxed);
                }
            });
        }
    });
    assert_eq!(kernel.lock_words(5).data[0].load(), 2000);
    assert_eq!(kernel.lock_words(5).word.load(), 0);
    assert_eq!(
        kernel.state().locks,
        0,
        "the last handle has unregistered it"
    );
}

#[test]
fn a_free_lock_costs_no_system_call() {
    let (session, kernel) = Machine::default().session();
    let lock = session.shared_lock(0).unwrap();
    let calls = session.system_calls();
    for _ in 0..3 {
        let guard = lock.lock().unwrap();
        assert!(!guard.owner_died());
        assert_eq!(kernel.lock_words(0).word.load(), SESSION);
        assert!(lock.try_lock().unwrap().is_none());
    }
    assert_eq!(session.system_calls(), calls);
}

#[test]
fn a_taken_lock_is_waited_for_as_long_as_was_said() {
    let (session, _kernel) = Machine::default().session();
    let lock = session.shared_lock(LOCKS_MAX - 1).unwrap();
    let guard = lock.lock().unwrap();
    assert_eq!(lock.lock_timeout(SHORT).unwrap_err(), Error::TimedOut);
    drop(guard);
    assert!(lock.lock_timeout(SHORT).is_ok());
    assert_eq!(
        session.shared_lock(LOCKS_MAX).unwrap_err(),
        Error::Invalid("no shared lock has this number")
    );
}

#[test]
fn only_the_next_owner_is_told_of_a_death() {
    let (session, kernel) = Machine::default().session();
    let lock = session.shared_lock(1).unwrap();
    kernel.lock_words(1).word.store(LOCK_OWNER_DIED);
    assert!(lock.lock().unwrap().owner_died());
    assert!(!lock.lock().unwrap().owner_died());
    // A guard that nobody drops: the last handle is the end of it.
    let other = session.shared_lock(1).unwrap();
    std::mem::forget(lock.lock().unwrap());
    drop(lock);
    assert!(other.try_lock().unwrap().is_none());
    drop(other);
    let lock = session.shared_lock(1).unwrap();
    assert!(lock.try_lock().unwrap().unwrap().owner_died());
}

#[test]
fn a_scribbled_word_holds_nobody_up() {
    let (session, kernel) = Machine::default().session();
    let lock = session.shared_lock(2).unwrap();
    for nonsense in [12345, u32::MAX, (1 << 31) | 9, LOCK_OWNER_DIED | 1] {
        kernel.lock_words(2).word.store(nonsense);
        assert!(lock.lock().unwrap().owner_died(), "{nonsense:#x}");
    }
    // Nor is it taken from whoever it names now.
    let guard = lock.lock().unwrap();
    kernel.lock_words(2).word.store(9);
    drop(guard);
    assert_eq!(kernel.lock_words(2).word.load(), 9);
}
