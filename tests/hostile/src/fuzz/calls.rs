// SPDX-License-Identifier: GPL-2.0-only

//! What the fuzzer can do: one function for each kind of call, and the table of them.

use super::arena::Arena;
use super::board::Board;
use super::descriptors;
use super::locks;
use super::memory;
use super::shapes::{shape_of, Mood, Shape, SHAPES};
use super::world::World;
use crate::chance::Chance;
use crate::sys::syscall;
use nettap_uapi::ioctl::{self, Info, Map, Tap};
use nix::errno::Errno;
use std::mem::offset_of;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A thread of the fuzzer, and everything that it decides with and acts upon.
pub(crate) struct Hand<'a> {
    pub(crate) chance: Chance,
    pub(crate) world: &'a World,
    pub(crate) arena: Arena,
    pub(crate) board: &'static Board,
}

/// What came of a call.
pub(crate) type Outcome = Result<usize, Errno>;

/// A kind of call.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// How often, compared with the others.
    pub(crate) weight: u32,
    pub(crate) make: fn(&mut Hand<'_>) -> Outcome,
}

const fn call(name: &'static str, weight: u32, make: fn(&mut Hand<'_>) -> Outcome) -> Call {
    Call { name, weight, make }
}

/// All kinds of calls.
pub(crate) static CALLS: &[Call] = &[
    call("request", 500, request),
    call("stranger", 20, stranger),
    call("open", 10, open),
    call("close", 4, descriptors::close),
    call("dup", 4, descriptors::dup),
    call("file", 20, descriptors::file),
    call("poll", 60, descriptors::poll),
    call("epoll", 15, descriptors::epoll),
    call("pass", 8, descriptors::pass),
    call("other", 5, descriptors::other),
    call("child", 2, descriptors::child),
    call("mmap", 40, memory::map),
    call("attach", 20, memory::attach),
    call("munmap", 15, memory::unmap),
    call("mprotect", 10, memory::protect),
    call("madvise", 15, memory::advise),
    call("mlock", 5, memory::lock),
    call("touch", 60, memory::touch),
    call("echo", 80, memory::echo),
    call("lock", 20, locks::lock),
    call("send", 20, send),
];

impl Hand<'_> {
    /// One of several, which are not none.
    pub(crate) fn pick(&mut self, from: &[usize]) -> usize {
        self.chance.pick(from).unwrap_or(0)
    }
}

/// A session in some slot, of which the one that stood there knows nothing. More often than not it gets memory and
/// a tap at once: a slot with a session that can do nothing makes all later calls on it fail early.
fn open(hand: &mut Hand<'_>) -> Outcome {
    let slot = hand.world.session_fd(&mut hand.chance);
    let odd = [libc::O_NONBLOCK, libc::O_PATH, libc::O_TRUNC, 0];
    let (way, odd) = match hand.chance.below(8) {
        0 => (libc::O_RDONLY, 0),
        1 => (libc::O_WRONLY, 0),
        2 => (libc::O_RDWR, hand.chance.pick(&odd).unwrap_or(0)),
        _ => (libc::O_RDWR, 0),
    };
    open_into(slot, way | odd, hand)?;
    if hand.chance.below(4) > 0 {
        settle(slot, hand);
    }
    Ok(slot)
}

fn open_into(slot: usize, flags: i32, hand: &Hand<'_>) -> Outcome {
    let at = libc::AT_FDCWD as usize;
    let path = c"/dev/nettap".as_ptr() as usize;
    let flags = (flags | libc::O_CLOEXEC) as usize;
    let fd = syscall(libc::SYS_openat, &[at, path, flags])?;
    hand.world.keep(fd, slot)
}

/// Memory and a tap, with its rings mapped, for the session in a slot, as a sensible program asks for them.
fn settle(slot: usize, hand: &mut Hand<'_>) {
    for name in ["INFO", "MAP", "TAP"] {
        let Some(shape) = shape_of(name) else {
            continue;
        };
        let (chance, world) = (&mut hand.chance, hand.world);
        let bytes = shape.bytes(Mood::Sensible, chance, world, &hand.arena);
        let place = hand.arena.put_well(&bytes);
        let _ = ask(hand, shape, slot, place, shape.size);
    }
    let _ = memory::attach(hand);
}

fn send(hand: &mut Hand<'_>) -> Outcome {
    hand.world.send(&mut hand.chance)
}

/// A size that a structure does not have.
fn other_size(size: usize, chance: &mut Chance) -> usize {
    let less = size.saturating_sub(1 + chance.below(size));
    let sizes = [
        0,
        1,
        size.saturating_sub(1),
        size + 1,
        size + 8,
        less,
        0x3fff,
    ];
    let odd = chance.border() as usize;
    chance.pick(&sizes).unwrap_or(odd) & 0x3fff
}

/// A request on a session, as the table of them says.
fn request(hand: &mut Hand<'_>) -> Outcome {
    let chance = &mut hand.chance;
    let shape = chance.weighed(SHAPES, |shape| shape.weight);
    let mood = Mood::any(chance);
    let mut bytes = shape.bytes(mood, chance, hand.world, &hand.arena);
    let mut size = shape.size;
    if chance.one_in(10) && size > 0 {
        size = other_size(size, chance);
        bytes.resize(size, 0);
        if chance.one_in(3) {
            bytes.last_mut().into_iter().for_each(|last| *last = 1);
        }
    }
    let mut fd = hand.world.session_fd(chance);
    if let (Some(tap), true) = (shape.tap_of(&bytes), chance.below(8) > 0) {
        // Of another session's tap nobody asks anything else but to be refused.
        fd = hand.world.owner(tap).unwrap_or(fd);
    }
    let place = hand
        .arena
        .put(&bytes, size, around(shape, hand.world), chance);
    ask(hand, shape, fd, place, size)
}

/// Makes a request whose structure stands somewhere, and remembers what the kernel told.
pub(super) fn ask(
    hand: &mut Hand<'_>,
    shape: &Shape,
    fd: usize,
    place: usize,
    size: usize,
) -> Outcome {
    if shape.names_a_tap() && names_spared(hand, place, size) {
        return Ok(0);
    }
    let command = shape.request as usize | (size << 16);
    let result = syscall(libc::SYS_ioctl, &[fd, command, place]);
    let nth = SHAPES.iter().position(|other| std::ptr::eq(other, shape));
    hand.board.count_request(nth.unwrap_or(0), result.err());
    if result.is_ok() {
        told(hand, shape.name, fd, place, size);
    }
    result
}

/// A session in every slot, most of them with memory and a tap: calls go far from the beginning.
pub(super) fn prepare(hand: &mut Hand<'_>) {
    for slot in hand.world.sessions() {
        let _ = open_into(slot, libc::O_RDWR, hand);
        settle(slot, hand);
    }
}

/// Where a structure may stand, beside the thread's own memory. One that names a tap stands where nobody changes it after
/// it was looked at: rings and mbufs are full of small numbers.
fn around<'a>(shape: &Shape, world: &'a World) -> Option<&'a World> {
    (!shape.names_a_tap()).then_some(world)
}

/// Whether a request is about a tap that is none of ours.
fn names_spared(hand: &Hand<'_>, place: usize, size: usize) -> bool {
    let id = hand.arena.peek_first(place, size).unwrap_or(0);
    hand.world.spares(id)
}

/// The kernel's answer is what later calls are made of.
fn told(hand: &mut Hand<'_>, name: &str, fd: usize, place: usize, size: usize) {
    let Some(mut bytes) = hand.arena.read(place, size) else {
        return;
    };
    match name {
        "INFO" if size >= size_of::<Info>() => {
            if let Ok(info) = Info::read_from_bytes(&bytes) {
                hand.world.told_session(info.session, &mut hand.chance);
            }
        }
        "MAP" => {
            bytes.resize(std::mem::size_of::<Map>(), 0);
            if let Ok(map) = Map::read_from_bytes(&bytes) {
                hand.world.told_map(&map);
            }
        }
        "TAP" if size >= offset_of!(Tap, id) => {
            bytes.resize(std::mem::size_of::<Tap>(), 0);
            if let Ok(tap) = Tap::read_from_bytes(&bytes) {
                hand.world.told_tap(fd, &tap, &mut hand.chance);
            }
        }
        _ => {}
    }
}

/// What is no request of a session: another letter, number, direction, or descriptor.
fn stranger(hand: &mut Hand<'_>) -> Outcome {
    let chance = &mut hand.chance;
    let shape = chance.weighed(SHAPES, |_| 1);
    let whole = shape.request as usize | (shape.size << 16);
    let command = match chance.below(5) {
        0 => chance.border() as usize,
        1 => whole ^ (1 << chance.below(32)),
        2 => ioctl::request(chance.draw() as u8, shape.size) as usize,
        3 => libc::FIONREAD as usize,
        _ => whole,
    };
    let fd = match chance.below(3) {
        0 => hand.world.session_fd(chance),
        1 => hand.world.tap_fd(chance),
        _ => hand.world.other_fd(chance),
    };
    // A zeroed structure does no harm, whatever request this turns out to be.
    let mut nothing = Tap::new_zeroed();
    let place = hand
        .arena
        .put(nothing.as_mut_bytes(), shape.size, None, chance);
    syscall(libc::SYS_ioctl, &[fd, command, place])
}
