// SPDX-License-Identifier: GPL-2.0-only

//! The shared locks of a region: who has registered which, who sleeps on which, and what becomes of them
//! when a session ends.
//!
//! Programs take and release locks in shared memory without us; `uapi/src/lock.rs` says how. Who may
//! own one is this file's own account, which no program can write. A lock that is with a session that has
//! ended, or with one that never registered it, is released here, and its next owner sees that.
//!
//! Process context; everything is under one mutex, which is held neither during a sleep nor while a
//! program's own memory is touched: the words are the region's.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::new_condvar;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::sync::Arc;
use kernel::sync::CondVar;
use kernel::sync::CondVarTimeoutResult;
use kernel::sync::Mutex;
use kernel::time::msecs_to_jiffies;
use kernel::time::Jiffies;

use crate::sys::pages::SharedPages;
use crate::sys::word::SharedWord;
use crate::uapi::layout::LOCKS_LEN;
use crate::uapi::lock::owner_of;
use crate::uapi::lock::release_dead;
use crate::uapi::lock::LockWords;
use crate::uapi::lock::LOCKS_MAX;
use crate::uapi::lock::LOCK_WAITERS;
use crate::uapi::ring::Word;

/// One bit for each lock of a region.
pub(crate) type LockSet = u64;
const _: () = assert!(LOCKS_MAX == LockSet::BITS);

/// What the sessions of a region have registered.
struct Users(RBTree<u32, LockSet>);

impl Users {
    fn of(&self, session: u32) -> LockSet {
        self.0.get(&session).copied().unwrap_or(0)
    }

    fn has(&self, session: u32, number: u32) -> bool {
        self.of(session) & bit(number) != 0
    }
}

fn bit(number: u32) -> LockSet {
    (1 as LockSet).wrapping_shl(number)
}

/// The numbers of the locks of a set.
pub(crate) fn numbers(locks: LockSet) -> impl Iterator<Item = u32> {
    (0..LOCKS_MAX).filter(move |&number| locks & bit(number) != 0)
}

/// The shared locks of a region.
#[pin_data]
pub(crate) struct Locks {
    pages: SharedPages,
    #[pin]
    users: Mutex<Users>,
    /// Those who sleep on each lock.
    #[pin]
    sleepers: [CondVar; LOCKS_MAX as usize],
}

impl Locks {
    /// Locks that are free.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let pages = SharedPages::new(LOCKS_LEN as usize)?;
        Arc::pin_init(
            pin_init!(Self {
                pages,
                users <- new_mutex!(Users(RBTree::new()), "nettap_locks"),
                sleepers <- pin_init::pin_init_array_from_fn(|_| new_condvar!("nettap_sleepers")),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The memory.
    pub(crate) fn pages(&self) -> &SharedPages {
        &self.pages
    }

    fn lock(&self, number: u32) -> Result<(&LockWords<SharedWord>, &CondVar)> {
        let words = self.pages.lock_words().get(number as usize);
        words.zip(self.sleepers.get(number as usize)).ok_or(EINVAL)
    }

    /// Remembers that a session, which is in the region and does not leave it meanwhile, may have the lock.
    /// `EINVAL`: no lock has this number.
    pub(crate) fn register(&self, session: u32, number: u32) -> Result {
        self.lock(number)?;
        let mut users = self.users.lock();
        let locks = users.of(session) | bit(number);
        users
            .0
            .try_create_and_insert(session, locks, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Forgets it, and releases the lock if the session has it: tells whether. `ENOENT`: it has not
    /// registered it.
    pub(crate) fn unregister(&self, session: u32, number: u32) -> Result<bool> {
        let (lock, sleepers) = self.lock(number)?;
        let mut users = self.users.lock();
        if !users.has(session, number) {
            return Err(ENOENT);
        }
        if let Some(locks) = users.0.get_mut(&session) {
            *locks &= !bit(number);
        }
        let released = release_dead(&lock.word, session);
        // Those who sleep in the session's own name see that it is gone.
        sleepers.notify_all();
        Ok(released)
    }

    /// A session leaves the region: forgets its locks, and releases those that it has.
    pub(crate) fn end(&self, session: u32) -> LockSet {
        let mut users = self.users.lock();
        let registered = users.of(session);
        users.0.remove(&session);
        let mut released = 0;
        for number in numbers(registered) {
            let Ok((lock, sleepers)) = self.lock(number) else {
                continue;
            };
            if release_dead(&lock.word, session) {
                released |= bit(number);
            }
            // Also when it has no lock: it may have died between a release and its waking.
            sleepers.notify_all();
        }
        released
    }

    /// Sleeps while the word of a lock is as its caller has `seen` it, 0 microseconds for ever; tells whether
    /// the lock was with nobody and has been released here.
    ///
    /// `EINVAL`: no such lock, or `seen` without the bit that makes its owner wake. `ENOENT`: the caller has
    /// not registered it, `ENXIO`: any more. `ETIMEDOUT`, `EINTR`.
    pub(crate) fn wait(
        &self,
        session: u32,
        number: u32,
        seen: u32,
        timeout_us: u64,
    ) -> Result<bool> {
        let (lock, sleepers) = self.lock(number)?;
        if seen & LOCK_WAITERS == 0 {
            return Err(EINVAL);
        }
        let owner = owner_of(seen);
        let mut left = (timeout_us != 0).then(|| ticks(timeout_us));
        let mut users = self.users.lock();
        if !users.has(session, number) {
            return Err(ENOENT);
        }
        loop {
            // Under the mutex, which whoever wakes takes after the word has changed.
            if owner == 0 || lock.word.load() != seen {
                return Ok(false);
            }
            if !users.has(owner, number) {
                let released = release_dead(&lock.word, owner);
                sleepers.notify_all();
                return Ok(released);
            }
            match left {
                Some(0) => return Err(ETIMEDOUT),
                Some(ticks) => match sleepers.wait_interruptible_timeout(&mut users, ticks) {
                    CondVarTimeoutResult::Signal { .. } => return Err(EINTR),
                    CondVarTimeoutResult::Timeout => left = Some(0),
                    CondVarTimeoutResult::Woken { jiffies } => left = Some(jiffies),
                },
                None => {
                    if sleepers.wait_interruptible(&mut users) {
                        return Err(EINTR);
                    }
                }
            }
            if !users.has(session, number) {
                return Err(ENXIO);
            }
        }
    }

    /// Wakes those who sleep on a lock. `ENOENT`: the caller has not registered it.
    pub(crate) fn wake(&self, session: u32, number: u32) -> Result {
        let (_, sleepers) = self.lock(number)?;
        let users = self.users.lock();
        if !users.has(session, number) {
            return Err(ENOENT);
        }
        sleepers.notify_all();
        Ok(())
    }

    /// How many locks a session has registered.
    pub(crate) fn registered(&self, session: u32) -> u32 {
        self.users.lock().of(session).count_ones()
    }
}

/// A wait of at least so many microseconds. The first tick may be almost over.
fn ticks(us: u64) -> Jiffies {
    let ms = u32::try_from(us.div_ceil(1000)).unwrap_or(u32::MAX);
    msecs_to_jiffies(ms).saturating_add(1)
}
