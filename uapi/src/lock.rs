// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! Shared locks: one word each, in pages that all sessions of a region map and write, taken and released
//! with compare-and-exchange (patent paragraph 62).
//!
//! Nobody calls the kernel for a lock that is free. Who finds it taken may look again, or sleep in the
//! kernel. The kernel knows which session has registered which lock, and when a session ends, however
//! it ends, it releases what that session held. The next one to take such a lock is told that its owner
//! died, because what the lock guards may be half done.
//!
//! # The word
//!
//! | bits    |                                                                                |
//! | ------- | ------------------------------------------------------------------------------ |
//! | 0 to 29 | id of the session that has the lock, 0: it is free                             |
//! | 30      | the lock is free because its owner ended with it in hand ([`LOCK_OWNER_DIED`]) |
//! | 31      | somebody sleeps: who releases the lock wakes ([`LOCK_WAITERS`])                |
//!
//! ```text
//!            try_take                  release
//!   free ---------------> owner ------------------------> free
//!                         |   |                             ^
//!              announce   |   |  release_dead (kernel)      | try_take, release
//!                         v   +------------> owner died ----+
//!               owner and waiters
//! ```
//!
//! # Why nobody sleeps for ever
//!
//! Who wants to sleep first sets [`LOCK_WAITERS`] and tells the kernel the word that it saw. The kernel
//! puts it among the sleepers and looks at the word again before it sleeps, both under one lock of its own;
//! waking takes that lock, too. So a release comes before the look, which sees it, or its waking finds
//! the sleeper. All sleepers are woken and look anew: a single one that gave up just then, because its time
//! had passed or a signal had come, would leave the others asleep beside a free lock. Who dies between
//! releasing and waking has its end, at which the kernel wakes the sleepers of every lock that the session
//! had registered.
//!
//! # What is believed
//!
//! Every program of the group can write the words, so they keep out only those who follow the rules. The
//! kernel never waits for one and never acts on one but in [`release_dead`], whose loop is bounded. A
//! word that names an owner without this lock among its registered ones is released by the kernel as soon
//! as somebody asks to sleep on it: a scribbled word holds nobody up for ever.

use super::ring::Word;

/// Locks of a region.
pub const LOCKS_MAX: u32 = 64;
/// Bits of the word: the session that has the lock. No session's id is larger.
pub const LOCK_OWNER: u32 = 0x3fff_ffff;
/// Bit of the word: the last owner ended while it had the lock.
pub const LOCK_OWNER_DIED: u32 = 0x4000_0000;
/// Bit of the word: somebody sleeps in the kernel until the word changes.
pub const LOCK_WAITERS: u32 = 0x8000_0000;
/// Words behind a lock's own that programs may use for what it guards.
pub const LOCK_DATA: usize = 15;

/// How often [`release_dead`] tries against others that change the word. Those who follow the rules make
/// it fail once.
const TRIES: u32 = 16;

/// One lock: a cache line of its own, so that locks do not disturb each other.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct LockWords<W> {
    /// The lock.
    pub word: W,
    /// What it guards, or a part of it: zero when the region is made, and touched by programs only.
    pub data: [W; LOCK_DATA],
}

/// What came of [`try_take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The caller has the lock.
    Taken,
    /// The caller has the lock, and its last owner died with it: what it guards may be half done.
    TakenFromDead,
    /// Somebody has it; the word.
    Busy(u32),
}

/// What came of [`release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The lock is free.
    Done,
    /// The lock is free, and the kernel is to wake those who sleep.
    Wake,
    /// It was not the caller's: somebody has written the word who may not.
    NotOwner,
}

/// The session that a word says has the lock; 0: nobody.
pub const fn owner_of(word: u32) -> u32 {
    word & LOCK_OWNER
}

/// Takes the lock for session `me`, if it is free.
///
/// It goes round again only when somebody else has changed the word meanwhile.
pub fn try_take<W: Word>(word: &W, me: u32) -> Attempt {
    loop {
        let seen = word.load();
        if owner_of(seen) != 0 {
            return Attempt::Busy(seen);
        }
        // Acquires: what the last owner did before its release is seen from here on.
        if word.replace(seen, me | (seen & LOCK_WAITERS)) {
            return if seen & LOCK_OWNER_DIED == 0 {
                Attempt::Taken
            } else {
                Attempt::TakenFromDead
            };
        }
    }
}

/// Says that somebody is about to sleep until the word, which was `seen` busy, changes. The word to hand
/// to the kernel; nothing: it has changed already.
pub fn announce<W: Word>(word: &W, seen: u32) -> Option<u32> {
    let waited_for = seen | LOCK_WAITERS;
    (seen == waited_for || word.replace(seen, waited_for)).then_some(waited_for)
}

/// Releases the lock of session `me`.
///
/// It goes round again only when somebody else has changed the word meanwhile.
pub fn release<W: Word>(word: &W, me: u32) -> Release {
    loop {
        let seen = word.load();
        if owner_of(seen) != me {
            return Release::NotOwner;
        }
        // Releases: what was done under the lock comes before.
        if word.replace(seen, 0) {
            return if seen & LOCK_WAITERS == 0 {
                Release::Done
            } else {
                Release::Wake
            };
        }
    }
}

/// The kernel's part: if the lock is with session `dead`, which has ended or never registered it, it is
/// free and its owner died. Tells whether it was; the caller wakes in any case.
pub fn release_dead<W: Word>(word: &W, dead: u32) -> bool {
    for _ in 0..TRIES {
        let seen = word.load();
        if owner_of(seen) == 0 || owner_of(seen) != dead {
            return false;
        }
        if word.replace(seen, LOCK_OWNER_DIED) {
            return true;
        }
    }
    // Somebody scribbles without a pause; who wants to sleep on the word has it released then.
    false
}
