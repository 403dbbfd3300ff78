// SPDX-License-Identifier: GPL-2.0-only

//! A proof that cannot fail proves nothing: without each barrier, one of the cases must break.

use crate::ending::nothing_is_between;
use crate::lock::{a_waiter_gives_up, an_owner_dies, one_at_a_time, Waking};
use crate::sleep::nobody_is_forgotten;
use crate::word::{Model, Watch, NO_ACQUIRE, NO_BARRIER, NO_ORDER, NO_RELEASE};
use crate::{detour, every, most, revert};

/// Without A the tag overtakes the entry and the bytes.
#[test]
#[should_panic(expected = "an entry")]
fn without_release_entries_come_too_early() {
    every(|| revert::two_producers::<Model<NO_RELEASE>>(0, [&[0], &[1]]));
}

/// Without B a consumer reads the entry and the bytes before the tag.
#[test]
#[should_panic(expected = "an entry")]
fn without_acquire_entries_are_read_too_early() {
    every(|| detour::one_producer_two_consumers::<Model<NO_ACQUIRE>>(0, 1));
}

/// Without C a cell is given away before its entry was read.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_of_positions_cells_are_overwritten() {
    every(detour::cells_are_used_again::<Watch<NO_ORDER>>);
}

/// Without D a producer does not know that a cell's entry was read; the kernel first, then programs.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_the_kernel_overwrites_cells() {
    every(detour::cells_are_used_again::<Watch<NO_ACQUIRE>>);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_programs_overwrite_cells() {
    every(revert::cells_are_used_again::<Watch<NO_ACQUIRE>>);
}

/// Without E and F the kernel sleeps over an entry.
#[test]
#[should_panic(expected = "the kernel sleeps for ever")]
fn without_barrier_the_kernel_sleeps_for_ever() {
    every(|| nobody_is_forgotten::<Model<NO_BARRIER>>(1));
}

/// Nor does the kernel see what was put into a ring that ends, and the program is not told.
#[test]
#[should_panic(expected = "packet 0")]
fn without_barrier_a_packet_is_nobodys() {
    every(|| nothing_is_between::<Model<NO_BARRIER>>(1));
}

/// Without order the next owner of a lock does not see what the last one did.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_locks_guard_nothing() {
    every(|| one_at_a_time::<Model<NO_ORDER>>(2));
}

/// Who dies between releasing a lock and waking must be made up for at its end.
#[test]
#[should_panic(expected = "deadlock")]
fn without_waking_at_the_end_a_waiter_sleeps_for_ever() {
    for at in 0..14 {
        every(move || an_owner_dies(at, Waking::NotAtEnd));
    }
}

/// If one were woken, and gave up, the other would sleep for ever.
#[test]
#[should_panic(expected = "deadlock")]
fn waking_one_is_not_enough() {
    most(2, || a_waiter_gives_up(Waking::One));
}
