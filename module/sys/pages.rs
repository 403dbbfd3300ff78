// SPDX-License-Identifier: GPL-2.0-only

//! Zeroed pages with one address in the kernel and any number in programs.
//!
//! The pages belong to the kernel for life: a program's mapping holds references of its own, so they
//! outlive [`SharedPages`] as long as somebody has them mapped, and are never freed under anybody.
//! Programs write them at any moment. Therefore nothing here ever lends a `&[u8]` of them: words are
//! atomics, everything else is copied in or out.

use core::mem::size_of;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVVec;
use kernel::bindings;
use kernel::error::to_result;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::atomic::Atomic;
use super::atomic::Relaxed;
use super::chardev::Vma;
use super::ffi;
use super::task::Pinned;
use super::word::SharedWord;
use crate::uapi::lock::LockWords;
use crate::uapi::mbuf::Header;
use crate::uapi::mbuf::HEADER_WORDS;
use crate::uapi::ring::Cell;
use crate::uapi::ring::Words;

/// Pages that so many bytes take, one at least.
fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_SIZE).max(1)
}

/// Bytes that [`SharedPages`] of so many bytes pin.
pub(crate) fn pinned_bytes(bytes: usize) -> u64 {
    pages_of(bytes).wrapping_mul(PAGE_SIZE) as u64
}

/// A page of its own.
///
/// # Invariants
///
/// The pointer is a valid page, and this is our reference to it.
struct OwnedPage(NonNull<bindings::page>);

impl OwnedPage {
    /// A zeroed page, charged to the caller's memory cgroup.
    fn new() -> Result<Self> {
        // SAFETY: Takes no argument; may sleep, as the callers of `SharedPages::new` may.
        let page = unsafe { ffi::nettap_page_new() };
        // INVARIANT: just allocated.
        Ok(Self(NonNull::new(page.cast()).ok_or(ENOMEM)?))
    }
}

impl Drop for OwnedPage {
    fn drop(&mut self) {
        // SAFETY: Our reference, by the type invariant; programs that have mapped it hold their own.
        unsafe { ffi::nettap_page_put(self.0.as_ptr().cast()) };
    }
}

/// An array of zeroed pages.
///
/// # Invariants
///
/// `address` is the start of a kernel mapping of all pages, one at least, in order, that lives as long
/// as `self`. Behind [`Words`] at their start there is room for `cells` cells.
pub(crate) struct SharedPages {
    address: NonNull<u8>,
    cells: usize,
    raw: KVVec<*mut bindings::page>,
    _pages: KVVec<OwnedPage>,
}

// SAFETY: The mapping is process independent kernel memory, accessed through atomics and copies.
unsafe impl Send for SharedPages {}
// SAFETY: As for Send; no method needs exclusive access.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// At least `bytes` of zeroed memory, charged to the caller's memory cgroup. `ENOMEM`: the machine or
    /// the cgroup has not so much, and nobody is killed to make it.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let count = pages_of(bytes);
        // SAFETY: Takes no argument.
        if count as u64 > unsafe { ffi::nettap_pages_available() } {
            return Err(ENOMEM);
        }
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        let mut raw = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            let page = OwnedPage::new()?;
            raw.push_within_capacity(page.0.as_ptr())?;
            pages.push_within_capacity(page)?;
            super::task::breathe();
        }
        let number = u32::try_from(count).map_err(|_| EINVAL)?;
        // SAFETY: `raw` holds `number` valid page pointers, kept alive by `pages`.
        let address = unsafe { ffi::nettap_vmap(raw.as_mut_ptr(), number) };
        let address = NonNull::new(address.cast::<u8>()).ok_or(ENOMEM)?;
        // INVARIANT: just mapped; unmapped only by the drop.
        Ok(Self {
            address,
            cells: 0,
            raw,
            _pages: pages,
        })
    }

    /// Pages for the words of a ring and, behind them, so many cells. Errors as of [`SharedPages::new`].
    pub(crate) fn of_ring(cells: u32) -> Result<Self> {
        let mut pages = Self::new(Self::ring_bytes(cells))?;
        // INVARIANT: They are as long as was asked.
        pages.cells = cells as usize;
        Ok(pages)
    }

    /// How many bytes that are.
    pub(crate) fn ring_bytes(cells: u32) -> usize {
        let cells = (cells as usize).saturating_mul(size_of::<Cell<SharedWord>>());
        cells.saturating_add(size_of::<Words<SharedWord>>())
    }

    /// Size in bytes, whole pages.
    pub(crate) fn len(&self) -> usize {
        self.raw.len().wrapping_mul(PAGE_SIZE)
    }

    /// Maps all of it into a program. A read-only mapping stays one: `mprotect` cannot lift it. The
    /// charge for the pages lasts as long as the mapping, or a part of it.
    pub(crate) fn map_into(&self, vma: &Vma<'_>, writable: bool, charge: &Arc<Pinned>) -> Result {
        let count = self.raw.len() as u64;
        // SAFETY: `vma` is the area of the mmap call in progress; the pages are valid, and the
        // mapping takes references of its own on them.
        to_result(unsafe {
            ffi::nettap_vma_map(vma.as_ptr(), self.raw.as_ptr().cast_mut(), count, writable)
        })?;
        let area = vma.as_ptr().cast::<bindings::vm_area_struct>();
        let charge = Arc::into_raw(Arc::clone(charge));
        // Only now, because an mmap that fails never closes its area (`mmap_file()`).
        // SAFETY: As above; the area is this call's alone until it returns.
        unsafe { (*area).vm_private_data = charge.cast_mut().cast() };
        // SAFETY: As above. The operations live as long as the module, which the area's file holds.
        unsafe { (*area).vm_ops = &CHARGED.0 };
        Ok(())
    }

    /// The address of `len` bytes at `offset`, if they lie inside and are aligned.
    #[inline]
    fn at(&self, offset: usize, len: usize, align: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        if end > self.len() || offset & align.wrapping_sub(1) != 0 {
            return None;
        }
        // SAFETY: `offset` is inside the mapping, by the check above and the type invariant.
        Some(unsafe { self.address.add(offset) })
    }

    /// The words at the beginning of a ring's page.
    pub(crate) fn words(&self) -> &Words<SharedWord> {
        // SAFETY: There is at least one page (`new`), which is page aligned and larger than `Words`,
        // and that is made of atomics only, for which any bytes that a program may write are valid.
        unsafe { self.address.cast().as_ref() }
    }

    /// The cells behind the words.
    #[inline]
    pub(crate) fn cells(&self) -> &[Cell<SharedWord>] {
        // SAFETY: In bounds by the type invariant, and aligned, since the words are as long as a line of the
        // cache; `Cell` is made of atomics only.
        unsafe {
            let first = self.address.add(size_of::<Words<SharedWord>>());
            core::slice::from_raw_parts(first.cast().as_ptr(), self.cells)
        }
    }

    /// The pages as shared locks: as many as there is room for.
    pub(crate) fn lock_words(&self) -> &[LockWords<SharedWord>] {
        let count = self.len() / size_of::<LockWords<SharedWord>>();
        // SAFETY: The mapping is `len` bytes long (type invariant) and page aligned; `LockWords` is made of
        // atomics only, for which any bytes that a program may write are valid.
        unsafe { core::slice::from_raw_parts(self.address.cast().as_ptr(), count) }
    }

    /// The words of a header.
    #[inline(always)]
    fn header_words(&self, offset: usize) -> Option<&[Atomic<u64>; HEADER_WORDS]> {
        let at = self.at(offset, size_of::<Header>(), align_of::<Header>())?;
        // SAFETY: In bounds and aligned, and made of atomics only, for which any bytes that a program may write
        // are valid.
        Some(unsafe { at.cast().as_ref() })
    }

    /// Copies a header out, once; the copy is what may be checked and used. A program may write at the same
    /// time, and whatever mixture is read is a header.
    #[inline(always)]
    pub(crate) fn read_header(&self, offset: usize) -> Option<Header> {
        let mut copy = [0u64; HEADER_WORDS];
        for (to, from) in copy.iter_mut().zip(self.header_words(offset)?) {
            *to = from.load(Relaxed);
        }
        Some(Header::of_words(copy))
    }

    /// Writes a header. A program that writes at the same time spoils only what is its own to read.
    #[inline(always)]
    pub(crate) fn write_header(&self, offset: usize, header: &Header) {
        if let Some(words) = self.header_words(offset) {
            for (to, from) in words.iter().zip(header.words()) {
                to.store(from, Relaxed);
            }
        }
    }

    /// The window for a copy by the kernel's own routines, which may run against a program's writes.
    #[inline]
    pub(super) fn window(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.at(offset, len, 1)
    }

    /// In how many pages `len` bytes at `offset` lie.
    pub(crate) fn parts_of(offset: usize, len: u32) -> usize {
        let begin = offset & PAGE_SIZE.wrapping_sub(1);
        begin.wrapping_add(len as usize).div_ceil(PAGE_SIZE)
    }

    /// The pages in which `len` bytes at `offset` lie, with the place and the length in each.
    pub(super) fn parts(
        &self,
        offset: usize,
        len: u32,
    ) -> impl Iterator<Item = (*mut bindings::page, u32, u32)> + '_ {
        let (mut at, mut left) = (offset, len as usize);
        core::iter::from_fn(move || {
            let begin = at & PAGE_SIZE.wrapping_sub(1);
            let part = left.min(PAGE_SIZE.wrapping_sub(begin));
            let page = *self.raw.get(at / PAGE_SIZE)?;
            at = at.wrapping_add(part);
            left = left.wrapping_sub(part);
            (part > 0).then_some((page, begin as u32, part as u32))
        })
    }

    /// The same for a header and what follows it.
    #[inline]
    pub(super) fn header_window(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.at(offset, len, align_of::<Header>())
    }
}

/// Operations of areas, at one address for as long as the module is loaded.
#[repr(transparent)]
struct AreaOps(bindings::vm_operations_struct);

// SAFETY: The operations are constant.
unsafe impl Sync for AreaOps {}

/// What areas of shared pages do: they hold the charge for them. There is no fault handler, since all
/// pages are there from the beginning.
static CHARGED: AreaOps = {
    // SAFETY: All bytes zero are valid operations: no function.
    let mut operations: bindings::vm_operations_struct = unsafe { core::mem::zeroed() };
    operations.open = Some(area_copied);
    operations.close = Some(area_closed);
    AreaOps(operations)
};

/// # Safety
///
/// The kernel calls it with a copy of an area that has [`CHARGED`]: a split or moved one.
unsafe extern "C" fn area_copied(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The kernel holds the area during the call.
    let charge = unsafe { (*vma).vm_private_data };
    // SAFETY: `map_into` put an Arc's pointer there, and the area that was copied still holds it.
    let charge = ManuallyDrop::new(unsafe { Arc::from_raw(charge.cast::<Pinned>()) });
    core::mem::forget(Arc::clone(&charge));
}

/// # Safety
///
/// The kernel calls it once, at the end of an area that has [`CHARGED`].
unsafe extern "C" fn area_closed(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The kernel holds the area during the call.
    let charge = unsafe { (*vma).vm_private_data };
    // SAFETY: `map_into` or `area_copied` gave this area a reference of its own.
    drop(unsafe { Arc::from_raw(charge.cast::<Pinned>()) });
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: `address` came from vmap and is unmapped once, here; nobody borrows from `self`.
        unsafe { ffi::nettap_vunmap(self.address.as_ptr().cast()) };
    }
}
