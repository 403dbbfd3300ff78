// SPDX-License-Identifier: GPL-2.0-only

//! What the host tests share: a ring in ordinary memory, over any implementation of [`Word`].
//!
//! The ring is the very code that the module and the library run. Here it runs over plain atomics
//! ([`Shared`]) and, in `tests/loom/`, over those of the model checker. What the rings look
//! like in mapped pages is the library's and the module's business and not repeated here.

use nettap_uapi::ring::{Cell, Cells, Consumer, Entry, Producer, Word};
use std::sync::atomic::{fence, AtomicU32, Ordering};

/// A word over the atomics of the standard library.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Shared(AtomicU32);

impl Word for Shared {
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
        self.0
            .compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
    fn full_barrier() {
        fence(Ordering::SeqCst);
    }
}

/// A ring in ordinary memory: the cells, and of the words before them those that are in use.
#[derive(Debug)]
pub struct Ring<W> {
    cells: Vec<Cell<W>>,
    /// The position in the page that the kernel writes: how far it has consumed.
    pub kernel: W,
    /// The position in the page that programs write: how far they have consumed or booked.
    pub program: W,
    /// In the page that the kernel writes: it sleeps and wants the doorbell.
    pub need_wakeup: W,
}

impl<W: Word + Default> Ring<W> {
    /// A zeroed ring of `size` cells whose positions stand at `start`.
    ///
    /// # Panics
    ///
    /// When `size` is no size of a ring.
    pub fn starting_at(size: usize, start: u32) -> Self {
        let ring = Self {
            cells: (0..size).map(|_| Cell::default()).collect(),
            kernel: W::default(),
            program: W::default(),
            need_wakeup: W::default(),
        };
        ring.kernel.store(start);
        ring.program.store(start);
        assert!(
            Cells::new(&ring.cells).is_some(),
            "no ring has {size} cells"
        );
        ring
    }

    /// The cells as the ring algorithm wants them.
    ///
    /// # Panics
    ///
    /// Never: the constructor has checked the size.
    pub fn cells(&self) -> Cells<'_, W> {
        Cells::new(&self.cells).expect("the size was checked when the ring was made")
    }

    /// The two words of the cell at `position`, for whoever scribbles.
    pub fn raw(&self, position: u32) -> &Cell<W> {
        &self.cells[position as usize % self.cells.len()]
    }

    /// The program's end of an alloc or detour ring.
    pub fn consumer(&self) -> Consumer<'_, W> {
        Consumer::new(self.cells(), &self.program)
    }

    /// The program's end of a dealloc or revert ring.
    pub fn producer(&self) -> Producer<'_, W> {
        Producer::new(self.cells(), &self.program, &self.kernel)
    }
}

/// The entry of the `nth` packet of a test: index, generation and flags all follow from `nth`, so
/// that an entry put together from two packets is no packet's entry.
pub fn packet(nth: u32) -> Entry {
    Entry {
        index: nth,
        generation: (nth as u16).wrapping_mul(0x9e37),
        flags: (nth % 64) as u8,
    }
}
