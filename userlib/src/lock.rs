// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Shared locks: what programs of one group hold while they touch what they share.
//!
//! A lock is a word in pages that all sessions of a region map. Taking and releasing a free one is a
//! compare-and-exchange and no system call. A program that ends with a lock in hand, however it ends, loses
//! it to the kernel, and the next to take it is told.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nettap_uapi::ioctl::{self, LOCK_REGISTER, LOCK_UNREGISTER, LOCK_WAIT, LOCK_WAKE};
use nettap_uapi::lock::{announce, release, try_take, Attempt, LockWords, Release, LOCKS_MAX};
use nettap_uapi::FEATURE_LOCKS;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::map::{LockPages, Shared};
use crate::session::{micros, Session, Shelf};

/// Looks before sleeping: about as long as going to sleep takes.
const LOOKS: u32 = 100;

/// What a session knows of its locks.
#[derive(Debug)]
pub(crate) struct Locks {
    offset: u64,
    /// Mapped when the first lock is wanted.
    pages: OnceLock<LockPages>,
    /// How many handles there are to each; a lock is registered while there is one.
    handles: Mutex<[u32; LOCKS_MAX as usize]>,
    /// The session was unmapped: the kernel knows none of them any more.
    ended: AtomicBool,
}

impl Locks {
    /// The locks at an mmap offset.
    pub(crate) fn at(offset: u64) -> Self {
        Self {
            offset,
            pages: OnceLock::new(),
            handles: Mutex::new([0; LOCKS_MAX as usize]),
            ended: AtomicBool::new(false),
        }
    }

    /// The session is unmapped while there are handles.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Session {
    /// A handle to shared lock `number` of the session's group. What it guards is a matter of agreement
    /// among the programs of the group.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when there is no such lock (there are [`LOCKS_MAX`]); what the kernel says.
    pub fn shared_lock(&self, number: u32) -> Result<SharedLock> {
        let shelf = &self.shelf;
        let locks = &shelf.locks;
        let mut handles = locks.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = handles.get_mut(number as usize) else {
            return Err(Error::Invalid("no shared lock has this number"));
        };
        if !shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        if shelf.info().features & FEATURE_LOCKS == 0 {
            return Err(Error::request("lock", "", Errno::EOPNOTSUPP));
        }
        if locks.pages.get().is_none() {
            let pages = LockPages::map(shelf.kernel(), &shelf.guard, locks.offset)?;
            // Nobody else can have set it: the mutex is held.
            let _ = locks.pages.set(pages);
        }
        if *count == 0 {
            ask(shelf, LOCK_REGISTER, number, 0, 0)?;
        }
        *count += 1;
        Ok(SharedLock {
            shelf: Arc::clone(shelf),
            number,
        })
    }
}

fn ask(shelf: &Shelf, op: u32, number: u32, seen: u32, timeout_us: u64) -> Result<()> {
    shelf.call()?.lock(&mut ioctl::Lock {
        op,
        number,
        seen,
        timeout_us,
        ..Default::default()
    })
}

/// A handle to a shared lock; see [`Session::shared_lock`].
///
/// It belongs to one holder at a time, be they threads of a session or other programs; it is not to be
/// taken again by who has it. When the last handle of a session goes, or the session ends, while it has the
/// lock (its guard was leaked, or its process killed), the next holder sees that the owner died.
#[derive(Debug)]
pub struct SharedLock {
    shelf: Arc<Shelf>,
    number: u32,
}

impl SharedLock {
    /// Which lock it is.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Takes the lock; sleeps until it can.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] by a signal while it slept; [`Error::Forked`]; what the kernel says.
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        self.take(None).map(|died| self.guard(died))
    }

    /// The same, for no longer than this.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], or as [`SharedLock::lock`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>> {
        self.take(Some(timeout)).map(|died| self.guard(died))
    }

    /// Takes the lock if it is free; nothing if it is not. Never sleeps and makes no system call.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`].
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>> {
        Ok(self.try_take()?.map(|died| self.guard(died)))
    }

    fn guard(&self, owner_died: bool) -> LockGuard<'_> {
        LockGuard {
            lock: self,
            owner_died,
        }
    }

    fn words(&self) -> Result<&LockWords<Shared>> {
        let locks = &self.shelf.locks;
        if locks.ended.load(Ordering::Relaxed) {
            return Err(Error::request("lock", "", Errno::ENXIO));
        }
        let pages = locks.pages.get();
        pages
            .and_then(|pages| pages.words(self.number))
            .ok_or(Error::Forked)
    }

    fn me(&self) -> u32 {
        self.shelf.info().session
    }

    /// Takes it if it is free; whether its last owner died.
    pub(crate) fn try_take(&self) -> Result<Option<bool>> {
        Ok(match try_take(&self.words()?.word, self.me()) {
            Attempt::Taken => Some(false),
            Attempt::TakenFromDead => Some(true),
            Attempt::Busy(_) => None,
        })
    }

    /// Takes it; whether its last owner died.
    pub(crate) fn take(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
        let word = &self.words()?.word;
        let mut looks = 0;
        loop {
            let seen = match try_take(word, self.me()) {
                Attempt::Taken => return Ok(false),
                Attempt::TakenFromDead => return Ok(true),
                Attempt::Busy(seen) => seen,
            };
            if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
                continue;
            }
            let Some(seen) = announce(word, seen) else {
                continue;
            };
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Error::TimedOut);
            }
            ask(&self.shelf, LOCK_WAIT, self.number, seen, micros(left))?;
        }
    }

    /// Releases it. `false`: it was not with this session any more.
    pub(crate) fn release(&self) -> Result<bool> {
        let released = release(&self.words()?.word, self.me());
        if released == Release::Wake {
            ask(&self.shelf, LOCK_WAKE, self.number, 0, 0)?;
        }
        Ok(released != Release::NotOwner)
    }

    /// What lies behind the lock's word; nothing after `fork`.
    pub(crate) fn data(&self) -> &[AtomicU32] {
        self.words().map_or(&[], Shared::data_of)
    }
}

impl Drop for SharedLock {
    fn drop(&mut self) {
        let handles = &self.shelf.locks.handles;
        let mut handles = handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = handles.get_mut(self.number as usize) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                // It fails in a child, whose parent has the lock, or when the session has ended.
                let _ = ask(&self.shelf, LOCK_UNREGISTER, self.number, 0, 0);
            }
        }
    }
}

/// The lock in hand; dropped, it is released.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a SharedLock,
    owner_died: bool,
}

impl LockGuard<'_> {
    /// Whether the owner before ended with the lock in hand: what it guards may be half done. Only the next
    /// owner is told.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Fifteen words beside the lock that all programs of the group see; zero when the region was made. They
    /// are for whatever the lock guards, and nobody else touches them; empty after `fork`.
    pub fn data(&self) -> &[AtomicU32] {
        self.lock.data()
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // It fails when the session has ended: then the kernel has released the lock and woken.
        let _ = self.lock.release();
    }
}
