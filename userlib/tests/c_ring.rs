// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The ring's ends in libnettap.h against the ring of uapi/: another process, compiled from C, echoes
//! packets over shared memory while this one plays the kernel.
//!
//! Positions begin shortly before they wrap around, some bookings fail and become padding, and the
//! ring is small, so that both sides run into each other.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{fence, AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nettap_uapi::layout::RING_CELLS;
use nettap_uapi::mbuf::{Header, DATA_OFFSET, NO_MBUF};
use nettap_uapi::ring::{
    Cell, Cells, Entry, PrivateConsumer, PrivateProducer, Word, Words, REVERT_CHANGED,
};
use nix::sys::memfd::{memfd_create, MFdFlags};

const CELLS: u32 = 16;
const MBUFS: u32 = 64;
const SIZE: u32 = 512;
const SIDE: usize = 65536;
const PACKETS: u32 = 20_000;
/// 1000 positions before the counters wrap; a multiple of the cells.
const START: u32 = u32::MAX - 1007;

#[repr(transparent)]
struct Atomic(AtomicU32);

impl Word for Atomic {
    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
    fn store(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
    fn store_release(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
    fn replace(&self, current: u32, new: u32) -> bool {
        let (ok, other) = (Ordering::SeqCst, Ordering::Relaxed);
        self.0.compare_exchange(current, new, ok, other).is_ok()
    }
    fn full_barrier() {
        fence(Ordering::SeqCst);
    }
}

struct Memory(MmapRaw);

impl Memory {
    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.0.len());
        self.0.as_mut_ptr().wrapping_add(offset)
    }

    fn side(number: usize) -> usize {
        (MBUFS * SIZE) as usize + number * SIDE
    }

    fn words(&self, side: usize) -> &Words<Atomic> {
        // SAFETY: a side is longer than the words, page-aligned, and they are atomics.
        unsafe { &*self.at(Self::side(side)).cast() }
    }

    fn cells(&self, side: usize) -> Cells<'_, Atomic> {
        let first = self.at(Self::side(side) + RING_CELLS as usize);
        // SAFETY: a side is longer than words and cells, and they are atomics.
        let cells: &[Cell<Atomic>] =
            unsafe { std::slice::from_raw_parts(first.cast(), CELLS as usize) };
        Cells::new(cells).expect("a power of two")
    }

    fn data(&self, index: u32) -> *mut [u8; 2] {
        self.at((index * SIZE + DATA_OFFSET) as usize).cast()
    }

    fn fill(&self, index: u32, bytes: [u8; 2]) {
        let header = Header {
            next: NO_MBUF,
            offset: DATA_OFFSET as u16,
            len: 2,
            ..Default::default()
        };
        let at = self.at((index * SIZE) as usize).cast::<Header>();
        // SAFETY: inside the region, aligned to the mbuf's size; the mbuf is not out.
        unsafe { at.write_volatile(header) };
        // SAFETY: as before.
        unsafe { self.data(index).write_volatile(bytes) };
    }

    fn read(&self, index: u32) -> [u8; 2] {
        // SAFETY: inside the region; the mbuf has come back.
        unsafe { self.data(index).read_volatile() }
    }
}

#[test]
fn c_and_rust_agree_on_the_ring() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_ring");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let built = Command::new(compiler)
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(here.join("include"))
        .arg("-I")
        .arg(here.join("../uapi/include"))
        .arg("-o")
        .args([&program, &here.join("tests/c_ring.c")])
        .status();
    assert!(built.expect("a C compiler").success());

    // Without close-on-exec: the other process finds it under the same number.
    let file = memfd_create(c"ring", MFdFlags::empty()).expect("a memory file");
    let len = Memory::side(4);
    let file = std::fs::File::from(file);
    file.set_len(len as u64).expect("of that length");
    let memory = Memory(MmapOptions::new().len(len).map_raw(&file).expect("mapped"));
    for side in 0..4 {
        memory.words(side).position.store(START);
    }
    let numbers = [CELLS, MBUFS, SIZE, PACKETS].map(|number| number.to_string());
    let mut other = Command::new(&program)
        .arg(file.as_raw_fd().to_string())
        .args(&numbers)
        .spawn()
        .expect("the program starts");

    let mut detour = PrivateProducer::<Atomic>::starting_at(START);
    let mut revert = PrivateConsumer::<Atomic>::starting_at(START);
    let mut free: Vec<u32> = (0..MBUFS).rev().collect();
    let (mut sent, mut back) = (0u32, 0u32);
    while back < PACKETS {
        if sent < PACKETS && !free.is_empty() {
            if let Some(at) = detour.book(CELLS, &memory.words(1).position) {
                let index = free.pop().expect("not empty");
                if at % 11 == 0 {
                    memory.cells(0).pad(at);
                    free.push(index);
                } else {
                    memory.fill(index, [sent as u8, (sent >> 8) as u8]);
                    let generation = (sent % 65521) as u16;
                    let entry = Entry {
                        index,
                        generation,
                        flags: 0,
                    };
                    memory.cells(0).fill(at, entry);
                    sent += 1;
                }
            }
        }
        while let Some(entry) = revert.take(&memory.cells(3)) {
            let changed = back & 1 == 1;
            let second = (back >> 8) as u8 ^ if changed { 0xff } else { 0 };
            assert_eq!(u32::from(entry.generation), back % 65521, "order is kept");
            assert_eq!(entry.flags, if changed { REVERT_CHANGED } else { 0 });
            assert_eq!(memory.read(entry.index), [back as u8, second]);
            free.push(entry.index);
            back += 1;
        }
        revert.publish(&memory.words(2).position);
        // One processor may have to do for both.
        if back % 8 == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!((detour.scribbled(), revert.scribbled()), (0, 0));
    let status = other.wait().expect("it ends");
    assert!(status.success(), "the kernel never asked for the doorbell");
}
