// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The kernel's side, for the tests: the same rings and pages on a memory file, filled and drained
//! by the kernel's own ends from `uapi/`, with an account of who holds which mbuf.
//!
//! The library maps the file as it would map the device, so its mapping code is tested too. Tests
//! move the kernel by hand ([`Mock::packet`], [`Mock::serve`]), and may make it lie about headers.

#![allow(unsafe_code)]

pub(crate) mod answers;

use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nettap_uapi::ioctl::Set;
use nettap_uapi::layout::{RingMap, RING_CELLS};
use nettap_uapi::lock::LockWords;
use nettap_uapi::mbuf::{Header, DATA_OFFSET, DIR_RECEIVED, NO_MBUF};
use nettap_uapi::ring::{Cell, Cells, Entry, PrivateConsumer, PrivateProducer, Word, Words};
use nix::sys::memfd::{memfd_create, MFdFlags};

use crate::map::Shared;
use crate::session::Session;

/// What a test's machine is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) mbufs: u32,
    pub(crate) mbuf_size: u32,
    pub(crate) cells: u32,
    pub(crate) prealloc: u32,
    /// What the kernel answers to `info`.
    pub(crate) abi_version: u32,
    /// What the kernel says about the region, to be wrong in a test.
    pub(crate) told_mbufs: Option<u32>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            mbufs: 128,
            mbuf_size: 512,
            cells: 16,
            prealloc: 8,
            abi_version: 1,
            told_mbufs: None,
        }
    }
}

/// Bytes of the file for each side of each ring; more than the largest ring of the tests.
const SIDE: u64 = 4096;
const TAPS: u64 = 4;

/// Who holds an mbuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Free,
    /// In the alloc ring or with the program, for a new packet.
    Alloc,
    /// The first mbuf of a packet that went up through this tap.
    Detour(usize),
    /// Another mbuf of such a packet.
    Behind,
}

/// What came back through a revert ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) tap: usize,
    pub(crate) index: u32,
    pub(crate) changed: bool,
    pub(crate) new: bool,
    /// The bytes of all its mbufs, as the headers in the region have them.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
struct Tap {
    /// The descriptor that the library has.
    fd: i32,
    detour: PrivateProducer<Shared>,
    revert: PrivateConsumer<Shared>,
    ended: bool,
}

/// What the kernel knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) holders: Vec<Holder>,
    generations: Vec<u16>,
    alloc: PrivateProducer<Shared>,
    dealloc: PrivateConsumer<Shared>,
    taps: Vec<Tap>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) dropped: Vec<u32>,
    pub(crate) refused: u32,
    pub(crate) doorbells: u32,
    pub(crate) unmapped: bool,
    pub(crate) busy: bool,
    /// What was asked of policies.
    pub(crate) set: Vec<Set>,
    /// A bit for each shared lock that is registered.
    pub(crate) locks: u64,
}

/// The kernel's side of one session.
pub(crate) struct Mock {
    machine: Machine,
    file: File,
    memory: MmapRaw,
    state: Mutex<State>,
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mock")
    }
}

/// Numbers of the rings in the file: 0 alloc, 1 dealloc, then detour and revert of each tap.
fn detour(tap: usize) -> u64 {
    2 + 2 * tap as u64
}

fn revert(tap: usize) -> u64 {
    detour(tap) + 1
}

impl Machine {
    /// A session on such a machine, and the kernel behind it.
    pub(crate) fn session(self) -> (Session, Arc<Mock>) {
        let mock = self.mock();
        let session = Session::builder()
            .prealloc(self.prealloc)
            .open_on(Box::new(Arc::clone(&mock)))
            .expect("the mock opens");
        (session, mock)
    }

    pub(crate) fn mock(self) -> Arc<Mock> {
        let region = u64::from(self.mbufs) * u64::from(self.mbuf_size);
        let len = region.next_multiple_of(SIDE) + 2 * SIDE * revert(TAPS as usize);
        let file =
            File::from(memfd_create(c"nettap", MFdFlags::MFD_CLOEXEC).expect("a memory file"));
        file.set_len(len).expect("a memory file of that length");
        let memory = MmapOptions::new()
            .len(len as usize)
            .map_raw(&file)
            .expect("it can be mapped");
        let count = self.mbufs as usize;
        Arc::new(Mock {
            machine: self,
            file,
            memory,
            state: Mutex::new(State {
                holders: vec![Holder::Free; count],
                generations: vec![0; count],
                alloc: PrivateProducer::new(),
                dealloc: PrivateConsumer::new(),
                taps: Vec::new(),
                sent: Vec::new(),
                dropped: Vec::new(),
                refused: 0,
                doorbells: 0,
                unmapped: false,
                busy: false,
                set: Vec::new(),
                locks: 0,
            }),
        })
    }
}

impl Mock {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    fn side(&self, ring: u64, writable: bool) -> u64 {
        let region = u64::from(self.machine.mbufs) * u64::from(self.machine.mbuf_size);
        region.next_multiple_of(SIDE) + SIDE * (2 * ring + u64::from(writable))
    }

    fn words(&self, ring: u64, writable: bool) -> &Words<Shared> {
        let at = self.side(ring, writable) as usize;
        let first = self.memory.as_mut_ptr().wrapping_add(at);
        // SAFETY: the file is long enough for every ring of `TAPS` taps, offsets are multiples of
        // `SIDE`, and the words are atomics.
        unsafe { &*first.cast() }
    }

    fn cells(&self, ring: u64, writable: bool) -> Cells<'_, Shared> {
        let at = self.side(ring, writable) as usize + RING_CELLS as usize;
        let first = self.memory.as_mut_ptr().wrapping_add(at).cast();
        // SAFETY: as above; a side has room for the cells of the tests' rings.
        let cells: &[Cell<Shared>] =
            unsafe { std::slice::from_raw_parts(first, self.machine.cells as usize) };
        Cells::new(cells).expect("a power of two")
    }

    fn told(&self, ring: u64) -> RingMap {
        RingMap {
            ro_offset: self.side(ring, false),
            rw_offset: self.side(ring, true),
            ro_len: SIDE as u32,
            rw_len: SIDE as u32,
            cells: self.machine.cells,
            reserved: 0,
        }
    }

    /// Where the shared locks lie: behind the rings.
    fn locks_at(&self) -> u64 {
        self.side(detour(TAPS as usize), false)
    }

    /// A shared lock.
    pub(crate) fn lock_words(&self, number: u32) -> &LockWords<Shared> {
        let at = self.locks_at() as usize + number as usize * size_of::<LockWords<Shared>>();
        let first = self.memory.as_mut_ptr().wrapping_add(at);
        // SAFETY: the file has a side for them, which is aligned, and they are atomics.
        unsafe { &*first.cast() }
    }

    fn mbuf(&self, index: u32) -> *mut u8 {
        let at = index as usize * self.machine.mbuf_size as usize;
        self.memory.as_mut_ptr().wrapping_add(at)
    }

    /// A copy of an mbuf's header.
    pub(crate) fn header(&self, index: u32) -> Header {
        // SAFETY: the index is one of the region's, whose mbufs are aligned.
        unsafe { self.mbuf(index).cast::<Header>().read_volatile() }
    }

    /// Writes an mbuf's header, whoever holds it.
    pub(crate) fn set_header(&self, index: u32, header: Header) {
        // SAFETY: as above.
        unsafe { self.mbuf(index).cast::<Header>().write_volatile(header) };
    }

    /// The bytes that a chain's headers name, as the kernel checks them.
    fn read(&self, mut index: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while index < self.machine.mbufs {
            let header = self.header(index);
            assert!(u32::from(header.offset) + u32::from(header.len) <= self.machine.mbuf_size);
            for at in header.offset..header.offset + header.len {
                let byte = self.mbuf(index).wrapping_add(at.into());
                // SAFETY: just checked to be inside the mbuf.
                bytes.push(unsafe { byte.read() });
            }
            index = header.next;
        }
        bytes
    }

    fn take_free(&self, state: &mut State, holder: Holder) -> Option<u32> {
        let index = state.holders.iter().position(|now| *now == Holder::Free)?;
        state.holders[index] = holder;
        state.generations[index] = state.generations[index].wrapping_add(1);
        Some(index as u32)
    }

    /// A packet of these bytes comes up through a tap, in as many mbufs as it needs.
    pub(crate) fn packet(&self, tap: usize, bytes: &[u8]) -> Option<u32> {
        self.packet_with(tap, bytes, |_| ())
    }

    /// The same, with a first header that the test has its way with.
    pub(crate) fn packet_with(
        &self,
        tap: usize,
        bytes: &[u8],
        edit: impl FnOnce(&mut Header),
    ) -> Option<u32> {
        let mut state = self.state();
        let ring = detour(tap);
        let position = &self.words(ring, true).position;
        let at = state.taps[tap].detour.book(self.machine.cells, position)?;
        let room = (self.machine.mbuf_size - DATA_OFFSET) as usize;
        let parts: Vec<&[u8]> = if bytes.is_empty() {
            vec![bytes]
        } else {
            bytes.chunks(room).collect()
        };
        let mut next = NO_MBUF;
        for (number, part) in parts.iter().enumerate().rev() {
            let holder = if number == 0 {
                Holder::Detour(tap)
            } else {
                Holder::Behind
            };
            let index = self
                .take_free(&mut state, holder)
                .expect("the region is large enough");
            for (place, byte) in part.iter().enumerate() {
                let to = self.mbuf(index).wrapping_add(DATA_OFFSET as usize + place);
                // SAFETY: a part is no longer than the room behind the offset.
                unsafe { to.write(*byte) };
            }
            self.set_header(
                index,
                Header {
                    next,
                    offset: DATA_OFFSET as u16,
                    len: part.len() as u16,
                    packet_len: bytes.len() as u32,
                    wire_len: bytes.len() as u32,
                    direction: DIR_RECEIVED,
                    ..Default::default()
                },
            );
            next = index;
        }
        let mut header = self.header(next);
        edit(&mut header);
        self.set_header(next, header);
        let generation = state.generations[next as usize];
        self.cells(ring, false).fill(
            at,
            Entry {
                index: next,
                generation,
                flags: 0,
            },
        );
        Some(next)
    }

    /// One round of the server: drains what programs fill, fills the alloc ring.
    pub(crate) fn serve(&self) {
        let mut state = self.state();
        for tap in 0..state.taps.len() {
            if state.taps[tap].ended {
                continue;
            }
            let cells = self.cells(revert(tap), true);
            while let Some(entry) = state.taps[tap].revert.take(&cells) {
                self.take_back(&mut state, entry, Some(tap));
            }
            let published = &self.words(revert(tap), false).position;
            state.taps[tap].revert.publish(published);
        }
        let cells = self.cells(1, true);
        while let Some(entry) = state.dealloc.take(&cells) {
            self.take_back(&mut state, entry, None);
        }
        state.dealloc.publish(&self.words(1, false).position);
        self.refill(&mut state, self.machine.prealloc);
    }

    /// Fills the alloc ring up to `want` entries.
    fn refill(&self, state: &mut State, want: u32) {
        let position = &self.words(0, true).position;
        while self.machine.cells - state.alloc.room(self.machine.cells, position) < want {
            let Some(index) = self.take_free(state, Holder::Alloc) else {
                return;
            };
            let Some(at) = state.alloc.book(self.machine.cells, position) else {
                return;
            };
            let generation = state.generations[index as usize];
            self.cells(0, false).fill(
                at,
                Entry {
                    index,
                    generation,
                    flags: 0,
                },
            );
        }
    }

    fn take_back(&self, state: &mut State, entry: Entry, tap: Option<usize>) {
        let slot = entry.index as usize;
        let holder = state.holders.get(slot).copied().unwrap_or(Holder::Free);
        let known = matches!(holder, Holder::Detour(_) | Holder::Alloc);
        if !known || state.generations[slot] != entry.generation {
            state.refused += 1;
            return;
        }
        match tap {
            Some(tap) => state.sent.push(Sent {
                tap,
                index: entry.index,
                changed: entry.flags != 0,
                new: holder == Holder::Alloc,
                bytes: self.read(entry.index),
            }),
            None => state.dropped.push(entry.index),
        }
        // A chain that the kernel made, or that is sent, ends with its first mbuf.
        let whole = tap.is_some() || holder != Holder::Alloc;
        let mut index = entry.index;
        while index < self.machine.mbufs {
            state.holders[index as usize] = Holder::Free;
            index = if whole {
                self.header(index).next
            } else {
                NO_MBUF
            };
        }
    }

    /// The server goes to sleep, or wakes.
    pub(crate) fn sleep(&self, asleep: bool) {
        let taps = self.state().taps.len();
        for ring in 0..detour(taps) {
            self.words(ring, false).need_wakeup.store(asleep.into());
        }
    }

    /// Ends a tap from the kernel's side: what it has given back is taken, and its revert ring wants the doorbell.
    pub(crate) fn end(&self, tap: usize) {
        self.serve();
        self.state().taps[tap].ended = true;
        self.words(revert(tap), false).need_wakeup.store(1);
    }

    /// Mbufs that are not free.
    pub(crate) fn held(&self) -> usize {
        self.state()
            .holders
            .iter()
            .filter(|now| **now != Holder::Free)
            .count()
    }

    /// How many packets were sent on and dropped, and how many entries were refused.
    pub(crate) fn tally(&self) -> (usize, usize, u32) {
        let state = self.state();
        (state.sent.len(), state.dropped.len(), state.refused)
    }

    fn has_packet(&self, state: &State, tap: usize) -> bool {
        state.taps[tap].detour.head() != self.words(detour(tap), true).position.load()
    }

    /// Waits for a condition on the taps; polls, because nothing here needs to be fast.
    fn until<T>(&self, timeout: Option<Duration>, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let begin = Instant::now();
        loop {
            self.serve();
            if let Some(found) = look(&self.state()) {
                return Some(found);
            }
            if timeout.is_some_and(|time| begin.elapsed() >= time) {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
