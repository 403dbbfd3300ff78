// SPDX-License-Identifier: GPL-2.0-only

//! Calls about memory: mapped, split, protected, advised upon, and written to. All of it by the
//! kernel's hand: another thread may take a mapping away at any moment, and a copy by the kernel then
//! ends with `EFAULT` and not with a signal.

use super::calls::{Hand, Outcome};
use super::world::{reserve, ATTACHED};
use crate::sys::syscall;
use nettap_uapi::layout::{CELL_SIZE, RING_CELLS};
use nettap_uapi::ring::{
    FLAGS_MASK, FLAGS_SHIFT, GENERATION_SHIFT, LAP_MASK, LAP_SHIFT, STATE_FULL,
};
use std::mem::offset_of;

const PAGE: usize = 4096;

/// `mmap` of what the kernel told, or of nearly that.
pub(super) fn map(hand: &mut Hand<'_>) -> Outcome {
    let chance = &mut hand.chance;
    let (mut offset, mut len) = hand.world.window(chance);
    match chance.below(12) {
        0 => offset = chance.border() & !(PAGE as u64 - 1),
        1 => offset = offset.wrapping_add(chance.border() & !(PAGE as u64 - 1)),
        2 => len = chance.border(),
        3 => len = (len / 2).max(1),
        4 => len += PAGE as u64,
        _ => {}
    }
    let (place, room) = hand.world.place(chance);
    // Never over what is not ours.
    let len = (len as usize).min(room);
    let protection = [1, 3, 3, 3, 3, 0, 2, 4, 5, 7];
    let protection = chance.pick(&protection).unwrap_or(3);
    let shared = libc::MAP_SHARED;
    let flags = [
        shared,
        shared,
        shared,
        shared,
        shared | libc::MAP_POPULATE,
        shared | libc::MAP_LOCKED,
        libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
        libc::MAP_PRIVATE,
    ];
    let flags = chance.pick(&flags).unwrap_or(shared) | libc::MAP_FIXED;
    let fd = match chance.below(8) {
        0 => hand.world.tap_fd(chance),
        _ => hand.world.session_fd(chance),
    };
    let arguments = [place, len, protection, flags as usize, fd, offset as usize];
    syscall(libc::SYS_mmap, &arguments)
}

/// The four mappings of a tap's rings, for [`echo`].
pub(super) fn attach(hand: &mut Hand<'_>) -> Outcome {
    let tap = hand.chance.below(ATTACHED);
    let mut session = hand.world.session_fd(&mut hand.chance);
    if hand.chance.below(8) > 0 {
        let owner = hand.world.owner(hand.world.attached_fd(tap));
        session = owner.unwrap_or(session);
    }
    let Some((detour, revert)) = hand.world.rings(tap) else {
        return Ok(0);
    };
    let read = libc::PROT_READ as usize;
    let write = read | libc::PROT_WRITE as usize;
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as usize;
    let four = [
        (detour.ro_offset, detour.ro_len, read),
        (detour.rw_offset, detour.rw_len, write),
        (revert.ro_offset, revert.ro_len, read),
        (revert.rw_offset, revert.rw_len, write),
    ];
    for (which, (offset, len, protection)) in four.into_iter().enumerate() {
        let place = hand.world.ring_place(tap, which);
        let arguments = [
            place,
            len as usize,
            protection,
            flags,
            session,
            offset as usize,
        ];
        syscall(libc::SYS_mmap, &arguments)?;
    }
    Ok(0)
}

/// A part of a slot, or all of it.
fn part(hand: &mut Hand<'_>) -> (usize, usize) {
    let (place, room) = hand.world.place(&mut hand.chance);
    if hand.chance.one_in(2) {
        return (place, room);
    }
    let begin = hand.chance.below(64) * PAGE;
    let len = (1 + hand.chance.below(64)) * PAGE;
    (place + begin, len.min(room - begin))
}

/// Unmaps by laying nothing over it, so that nobody else's memory can come there.
pub(super) fn unmap(hand: &mut Hand<'_>) -> Outcome {
    let (place, len) = part(hand);
    reserve(place, len)
}

/// `mprotect`, also to what was refused at `mmap`.
pub(super) fn protect(hand: &mut Hand<'_>) -> Outcome {
    let (place, len) = part(hand);
    let protection = hand.chance.below(8);
    syscall(libc::SYS_mprotect, &[place, len, protection])
}

/// `madvise`, all of it: page out, drop, huge pages, inherit, merge, poison not.
pub(super) fn advise(hand: &mut Hand<'_>) -> Outcome {
    let (place, len) = part(hand);
    let advice = hand.pick(&[
        0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    ]);
    syscall(libc::SYS_madvise, &[place, len, advice])
}

/// `mlock`, `munlock`, `msync`, `mincore`.
pub(super) fn lock(hand: &mut Hand<'_>) -> Outcome {
    let (place, len) = part(hand);
    match hand.chance.below(4) {
        0 => syscall(libc::SYS_mlock, &[place, len]),
        1 => syscall(libc::SYS_munlock, &[place, len]),
        2 => syscall(libc::SYS_msync, &[place, len, hand.chance.below(8)]),
        _ => syscall(
            libc::SYS_mincore,
            &[place, len.min(1 << 20), hand.arena.records()],
        ),
    }
}

/// Writes into a mapping, or reads from it.
pub(super) fn touch(hand: &mut Hand<'_>) -> Outcome {
    let (place, room) = hand.world.place(&mut hand.chance);
    let far = if hand.chance.one_in(2) { 256 } else { room };
    let at = place + hand.chance.below(far) / 4 * 4;
    if hand.chance.one_in(4) {
        return hand.arena.peek(at).map(|_| 0);
    }
    let mut bytes = Vec::new();
    for _ in 0..=hand.chance.below(16) {
        bytes.extend((hand.chance.border() as u32).to_ne_bytes());
    }
    hand.arena.poke(at, &bytes)
}

/// A lap of a ring, as a tag carries it.
fn lap(position: u32, cells: u32) -> u32 {
    (position / cells) & LAP_MASK
}

/// Takes what stands next in a detour ring and gives it back by a revert ring, as a program would;
/// now and then with something changed on the way.
pub(super) fn echo(hand: &mut Hand<'_>) -> Outcome {
    let tap = hand.chance.below(ATTACHED);
    let back = if hand.chance.one_in(8) {
        hand.chance.below(ATTACHED)
    } else {
        tap
    };
    let (Some((detour, _)), Some((_, revert))) = (hand.world.rings(tap), hand.world.rings(back))
    else {
        return Ok(0);
    };
    if detour.cells == 0 || revert.cells == 0 {
        return Ok(0);
    }
    let place = |tap, which| hand.world.ring_place(tap, which);
    let (cells, taken) = (place(tap, 0), place(tap, 1));
    let (given, given_cells) = (place(back, 3), place(back, 3));
    for _ in 0..=hand.chance.below(8) {
        let position = hand.arena.peek(taken)?;
        let nth = (position % detour.cells * CELL_SIZE + RING_CELLS) as usize;
        let tag = hand.arena.peek(cells + nth)?;
        let index = hand.arena.peek(cells + nth + 4)?;
        if tag & 3 != STATE_FULL || (tag >> LAP_SHIFT) & LAP_MASK != lap(position, detour.cells) {
            return Ok(0);
        }
        hand.arena
            .poke(taken, &position.wrapping_add(1).to_ne_bytes())?;

        let next = hand.arena.peek(given)?;
        let mut entry = tag >> GENERATION_SHIFT << GENERATION_SHIFT;
        entry |= STATE_FULL | (lap(next, revert.cells) << LAP_SHIFT);
        match hand.chance.below(8) {
            0 | 1 => entry |= 1 << FLAGS_SHIFT,
            2 => entry |= (hand.chance.draw() & FLAGS_MASK) << FLAGS_SHIFT,
            3 => entry ^= 1 << hand.chance.below(32),
            _ => {}
        }
        let to = given_cells + (next % revert.cells * CELL_SIZE + RING_CELLS) as usize;
        hand.arena.poke(to + 4, &index.to_ne_bytes())?;
        hand.arena.poke(to, &entry.to_ne_bytes())?;
        hand.arena
            .poke(given, &next.wrapping_add(1).to_ne_bytes())?;
        if hand.chance.one_in(4) {
            bend_header(hand, index);
        }
    }
    Ok(0)
}

/// Writes something into the header of an mbuf, if a region is mapped somewhere.
fn bend_header(hand: &mut Hand<'_>, index: u32) {
    use nettap_uapi::mbuf::{Header, MBUF_SIZE_DEFAULT};
    let (place, room) = hand.world.place(&mut hand.chance);
    let fields = [
        offset_of!(Header, next),
        offset_of!(Header, offset),
        offset_of!(Header, len),
        offset_of!(Header, csum_start),
        offset_of!(Header, gso_size),
        offset_of!(Header, gso_type),
        offset_of!(Header, vlan_proto),
    ];
    let at = index as usize * MBUF_SIZE_DEFAULT as usize + hand.pick(&fields);
    if at < room {
        let odd = hand.chance.border().to_ne_bytes();
        let _ = hand.arena.poke(place + at, &odd[..2]);
    }
}
