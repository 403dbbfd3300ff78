// SPDX-License-Identifier: GPL-2.0-only

//! A ring's pages: which side writes which, and the views of `uapi/src/ring.rs` over them.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::sys::chardev::Vma;
use crate::sys::pages::pinned_bytes;
use crate::sys::pages::SharedPages;
use crate::sys::task::Pinned;
use crate::sys::word::SharedWord;
use crate::uapi::layout::RingMap;
use crate::uapi::ring::Cells;
use crate::uapi::ring::Words;
use crate::uapi::tap::RING_MAX;
use crate::uapi::tap::RING_MIN;

/// Which side fills a ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filler {
    /// alloc, detour.
    Kernel,
    /// dealloc, revert.
    Program,
}

/// The two mappings of a ring. The cells are in the pages of the side that fills it.
pub(crate) struct RingPages {
    read_only: SharedPages,
    writable: SharedPages,
    filler: Filler,
    cells: u32,
    log2: u32,
    /// What the pages count against the limit of who opened the ring. Mappings hold it too, so it is
    /// given back when nobody has them any more.
    charge: Arc<Pinned>,
}

impl RingPages {
    /// A ring of `cells` zeroed cells, charged to the caller; see [`cells_wanted`] for what may be
    /// asked.
    pub(crate) fn new(cells: u32, filler: Filler) -> Result<Self> {
        let (ro, rw) = match filler {
            Filler::Kernel => (cells, 0),
            Filler::Program => (0, cells),
        };
        let pinned = |cells| pinned_bytes(SharedPages::ring_bytes(cells));
        let charge = Pinned::charge(pinned(ro).wrapping_add(pinned(rw)))?;
        let ring = Self {
            charge: Arc::new(charge, GFP_KERNEL_ACCOUNT)?,
            read_only: SharedPages::of_ring(ro)?,
            writable: SharedPages::of_ring(rw)?,
            filler,
            cells,
            log2: cells.trailing_zeros(),
        };
        use crate::uapi::ring::Word;
        ring.kernel_words().size.store(cells);
        Ok(ring)
    }

    /// Number of cells.
    pub(crate) fn size(&self) -> u32 {
        self.cells
    }

    /// The pages that the program may map with (`true`) or without writing.
    fn pages(&self, writable: bool) -> &SharedPages {
        if writable {
            &self.writable
        } else {
            &self.read_only
        }
    }

    /// Maps one side into a program. `EINVAL`: not all of it. `EACCES`: for writing, and it may not.
    pub(crate) fn map_into(&self, vma: &Vma<'_>, writable: bool) -> Result {
        let pages = self.pages(writable);
        if vma.len() != pages.len() as u64 {
            return Err(EINVAL);
        }
        if vma.is_writable() && !writable {
            return Err(EACCES);
        }
        pages.map_into(vma, writable, &self.charge)
    }

    /// What the program is told of it.
    pub(crate) fn describe(&self, ro_offset: u64, rw_offset: u64) -> RingMap {
        RingMap {
            ro_offset,
            rw_offset,
            ro_len: self.read_only.len() as u32,
            rw_len: self.writable.len() as u32,
            cells: self.cells,
            reserved: 0,
        }
    }

    /// The cells.
    pub(crate) fn cells(&self) -> Cells<'_, SharedWord> {
        let pages = self.pages(self.filler == Filler::Program);
        Cells::of(pages.cells(), self.log2)
    }

    /// The cells of a ring that the kernel fills.
    #[inline(always)]
    pub(crate) fn kernel_cells(&self) -> Cells<'_, SharedWord> {
        Cells::of(self.read_only.cells(), self.log2)
    }

    /// The position that the program moves: of its consumers or of its producers.
    pub(crate) fn program_position(&self) -> &SharedWord {
        &self.writable.words().position
    }

    /// The words that the kernel writes.
    pub(crate) fn kernel_words(&self) -> &Words<SharedWord> {
        self.read_only.words()
    }
}

/// How many cells a ring gets when a program asks for `asked`, 0 for `default`. `EINVAL`: no power of
/// two, or out of range.
pub(crate) fn cells_wanted(asked: u32, default: u32) -> Result<u32> {
    match asked {
        0 => Ok(default.clamp(RING_MIN, RING_MAX).next_power_of_two()),
        n if n.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&n) => Ok(n),
        _ => Err(EINVAL),
    }
}
