// SPDX-License-Identifier: GPL-2.0-only

//! Shared locks: a lock that a session seems to have, living or not, and who sleeps on it. By chance alone the word that
//! is asked about would never be the one that stands there.

use super::calls::{ask, Hand, Outcome};
use super::shapes::shape_of;
use crate::sys::syscall;
use nettap_uapi::ioctl::{Lock, LOCK_REGISTER, LOCK_UNREGISTER, LOCK_WAIT, LOCK_WAKE};
use nettap_uapi::layout::LOCKS_LEN;
use nettap_uapi::lock::{LockWords, LOCK_OWNER_DIED, LOCK_WAITERS};
use std::mem::size_of;
use zerocopy::IntoBytes;

/// So few that several meet on one.
const NUMBERS: usize = 3;

/// Registers a lock, writes whose it is, and sleeps on it, wakes who sleeps, or leaves it.
pub(super) fn lock(hand: &mut Hand<'_>) -> Outcome {
    let session = hand.world.session_fd(&mut hand.chance);
    let number = hand.chance.below(NUMBERS);
    let other = hand.world.session_id(&mut hand.chance);
    let owner = hand.chance.pick(&[other, other, other, 0, 1]).unwrap_or(0);
    let died = if hand.chance.one_in(8) {
        LOCK_OWNER_DIED
    } else {
        0
    };
    let word = owner | LOCK_WAITERS | died;
    let waits = [LOCK_WAIT, LOCK_WAIT, LOCK_WAIT, LOCK_WAKE, LOCK_UNREGISTER];
    let op = hand.chance.pick(&waits).unwrap_or(LOCK_WAIT);

    let told = |hand: &mut Hand<'_>, op, seen, timeout_us| {
        let lock = Lock {
            op,
            number: number as u32,
            seen,
            pad: 0,
            timeout_us,
            reserved: Default::default(),
        };
        let shape = shape_of("LOCK").expect("it is in the table");
        let place = hand.arena.put_well(lock.as_bytes());
        ask(hand, shape, session, place, shape.size)
    };
    told(hand, LOCK_REGISTER, 0, 0)?;
    let (page, offset) = hand.world.locks();
    let both = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as usize;
    let arguments = [
        page,
        LOCKS_LEN as usize,
        both,
        flags,
        session,
        offset as usize,
    ];
    syscall(libc::SYS_mmap, &arguments)?;
    let at = page + number * size_of::<LockWords<u32>>();
    hand.arena.poke(at, &word.to_ne_bytes())?;
    if op == LOCK_WAIT {
        let timeout = hand.chance.pick(&[20, 1000, 5000, 20_000]).unwrap_or(20);
        return told(hand, op, word, timeout);
    }
    told(hand, op, 0, 0)
}
