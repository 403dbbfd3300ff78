// SPDX-License-Identifier: GPL-2.0-only

//! Zeroed pages with one address in the kernel and any number in programs.
//!
//! The pages belong to the kernel for life: a program's mapping holds references of its own, so they
//! outlive [`SharedPages`] as long as somebody has them mapped, and are never freed under anybody.
//!
//! Much memory comes in *blocks*, as long as there are any: pages in one piece that one entry of the
//! processor's tables maps (2 MiB on x86-64), so that its cache of them suffices for more. Programs have
//! blocks mapped when they touch them, because the kernel unmaps a block when a mapping is split or moved,
//! and expects to be asked again for what is left of it. That needs no lock of ours: a mapping holds what
//! it may be asked for. No function that modules have maps blocks at an address of one's choice in the
//! kernel. So the kernel's own address is that of its map of all memory, which is of huge pages, if the
//! blocks happen to follow each other, and else one behind which the pages are mapped one by one.
//!
//! Programs write them at any moment. Therefore nothing here ever lends a `&[u8]` of them: words are
//! atomics, everything else is copied in or out.

use core::mem::size_of;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVVec;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_uint;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::atomic::Atomic;
use super::atomic::Relaxed;
use super::chardev::Vma;
use super::ffi;
use super::task::breathe;
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

/// A page of its own, or a block by its first page.
///
/// # Invariants
///
/// The pointer is a valid page, and this is our reference to it, or to the block that it begins.
#[repr(transparent)]
struct Owned(NonNull<bindings::page>);

impl Owned {
    /// A zeroed page, charged to the caller's memory cgroup.
    fn page() -> Result<Self> {
        // SAFETY: Takes no argument; may sleep, as the callers of `SharedPages::new` may.
        let page = unsafe { ffi::nettap_page_new() };
        // INVARIANT: just allocated.
        Ok(Self(NonNull::new(page.cast()).ok_or(ENOMEM)?))
    }

    /// A zeroed block, charged likewise, if one can be had.
    fn block() -> Option<Self> {
        // SAFETY: As above.
        let block = unsafe { ffi::nettap_block_new() };
        // INVARIANT: just allocated.
        NonNull::new(block.cast()).map(Self)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: Our reference, by the type invariant; programs that have mapped it hold their own.
        unsafe { ffi::nettap_page_put(self.0.as_ptr().cast()) };
    }
}

/// Pages without an address.
///
/// # Invariants
///
/// `each` are valid pages, one at least, kept alive by `blocks` and `others`. The first `in_blocks` of them are
/// those of `blocks`, in order; and if `linear` is not null, that is where these lie in the kernel's map of all memory.
struct Pages {
    each: KVVec<*mut bindings::page>,
    in_blocks: usize,
    linear: *mut u8,
    _blocks: KVVec<Owned>,
    _others: KVVec<Owned>,
}

// SAFETY: References to pages, which may be given back on any thread.
unsafe impl Send for Pages {}
// SAFETY: With a shared reference to it the pages can only be named.
unsafe impl Sync for Pages {}

impl Pages {
    /// Zeroed ones, of `blocks` as many as there are.
    fn new(count: usize, blocks: bool) -> Result<Arc<Self>> {
        // SAFETY: Takes no argument.
        let block_pages = unsafe { ffi::nettap_block_pages() } as usize;
        let most = match count.checked_div(block_pages) {
            Some(most) if blocks => most,
            _ => 0,
        };
        let mut blocks = KVVec::with_capacity(most, GFP_KERNEL_ACCOUNT)?;
        while blocks.len() < most {
            let Some(block) = Owned::block() else {
                break;
            };
            blocks.push_within_capacity(block)?;
            breathe();
        }
        let number = blocks.len() as u32;
        // SAFETY: So many `Owned`, which are pointers to blocks in all but name (`repr(transparent)`); they may
        // come in any order.
        let linear = unsafe { ffi::nettap_blocks_linear(blocks.as_mut_ptr().cast(), number) };

        let mut each = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for block in blocks.iter() {
            for place in 0..block_pages {
                each.push_within_capacity(block.0.as_ptr().wrapping_add(place))?;
            }
            breathe();
        }
        let in_blocks = each.len();
        let mut others = KVVec::with_capacity(count.wrapping_sub(in_blocks), GFP_KERNEL_ACCOUNT)?;
        while each.len() < count {
            let page = Owned::page()?;
            each.push_within_capacity(page.0.as_ptr())?;
            others.push_within_capacity(page)?;
            breathe();
        }
        // INVARIANT: as pushed; the pages of a block lie behind its first.
        let pages = Self {
            each,
            in_blocks,
            linear: linear.cast(),
            _blocks: blocks,
            _others: others,
        };
        Ok(Arc::new(pages, GFP_KERNEL)?)
    }

    /// The page at a place in the mapped file, or if `in_block` only one of a block. Those that come in blocks
    /// are mapped at the file's beginning.
    fn at(&self, place: u64, in_block: bool) -> *mut bindings::page {
        let place = place as usize;
        let page = self.each.get(place).copied();
        page.filter(|_| !in_block || place < self.in_blocks)
            .unwrap_or(core::ptr::null_mut())
    }
}

/// An array of zeroed pages.
///
/// # Invariants
///
/// `address` is the start of all `len` bytes of `pages`, in order, in kernel memory; it is a mapping of their own if
/// `mapped`. It lives as long as `self`. Behind [`Words`] at their start there is room for `cells` cells.
pub(crate) struct SharedPages {
    address: NonNull<u8>,
    len: usize,
    cells: usize,
    mapped: bool,
    pages: Arc<Pages>,
}

// SAFETY: The mapping is process independent kernel memory, accessed through atomics and copies.
unsafe impl Send for SharedPages {}
// SAFETY: As for Send; no method needs exclusive access.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// At least `bytes` of zeroed memory, charged to the caller's memory cgroup, from where its memory policy
    /// says. `ENOMEM`: the machine or the cgroup has not so much, and nobody is killed to make it.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        Self::of(bytes, false)
    }

    /// The same in blocks, as far as there are any. They can be mapped at offset 0 of a file only.
    pub(crate) fn in_blocks(bytes: usize) -> Result<Self> {
        Self::of(bytes, true)
    }

    fn of(bytes: usize, blocks: bool) -> Result<Self> {
        let count = pages_of(bytes);
        // SAFETY: Takes no argument.
        if count as u64 > unsafe { ffi::nettap_pages_available() } {
            return Err(ENOMEM);
        }
        let number = u32::try_from(count).map_err(|_| EINVAL)?;
        let pages = Pages::new(count, blocks)?;
        let mapped = pages.linear.is_null() || pages.in_blocks < count;
        let address = if mapped {
            let each = pages.each.as_ptr().cast_mut();
            // SAFETY: `each` holds `number` valid page pointers, which are only read; `pages` keeps the pages alive.
            unsafe { ffi::nettap_vmap(each, number) }.cast()
        } else {
            pages.linear
        };
        let address = NonNull::new(address).ok_or(ENOMEM)?;
        // INVARIANT: just mapped, or mapped for ever; unmapped only by the drop.
        Ok(Self {
            address,
            len: count.wrapping_mul(PAGE_SIZE),
            cells: 0,
            mapped,
            pages,
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
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes of it lie in blocks.
    pub(crate) fn len_in_blocks(&self) -> usize {
        self.pages.in_blocks.wrapping_mul(PAGE_SIZE)
    }

    /// Maps all of it into a program. A read-only mapping stays one: `mprotect` cannot lift it. The
    /// charge for the pages lasts as long as the mapping, or a part of it. What lies in blocks can be written.
    pub(crate) fn map_into(&self, vma: &Vma<'_>, writable: bool, charge: &Arc<Pinned>) -> Result {
        let mapping = Arc::new(
            Mapping {
                pages: Arc::clone(&self.pages),
                _charge: Arc::clone(charge),
            },
            GFP_KERNEL,
        )?;
        let operations = if self.pages.in_blocks == 0 {
            let (each, count) = (self.pages.each.as_ptr(), self.pages.each.len() as u64);
            // SAFETY: `vma` is the area of the mmap call in progress; the pages are valid, and the
            // mapping takes references of its own on them.
            to_result(unsafe {
                ffi::nettap_vma_map(vma.as_ptr(), each.cast_mut(), count, writable)
            })?;
            &MAPPED
        } else {
            if vma.offset() != 0 || !writable {
                return Err(EINVAL);
            }
            // SAFETY: As above; what is mapped is decided when it is touched.
            unsafe { ffi::nettap_vma_map_later(vma.as_ptr()) };
            &TOUCHED
        };
        let area = vma.as_ptr().cast::<bindings::vm_area_struct>();
        // Only now, because an mmap that fails never closes its area (`mmap_file()`).
        // SAFETY: As above; the area is this call's alone until it returns.
        unsafe { (*area).vm_private_data = Arc::into_raw(mapping).cast_mut().cast() };
        // SAFETY: As above. The operations live as long as the module, which the area's file holds.
        unsafe { (*area).vm_ops = &operations.0 };
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
            let page = *self.pages.each.get(at / PAGE_SIZE)?;
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

/// What an area of shared pages holds. Fields go in order: the charge is given back when the memory is.
struct Mapping {
    pages: Arc<Pages>,
    _charge: Arc<Pinned>,
}

/// Operations of areas, at one address for as long as the module is loaded.
#[repr(transparent)]
struct AreaOps(bindings::vm_operations_struct);

// SAFETY: The operations are constant.
unsafe impl Sync for AreaOps {}

impl AreaOps {
    /// Those of areas whose `vm_private_data` is the pointer of an `Arc<Mapping>`.
    const fn new(touched: bool) -> Self {
        // SAFETY: All bytes zero are valid operations: no function.
        let mut operations: bindings::vm_operations_struct = unsafe { core::mem::zeroed() };
        operations.open = Some(area_copied);
        operations.close = Some(area_closed);
        if touched {
            operations.fault = Some(page_touched);
            operations.huge_fault = Some(block_touched);
        }
        Self(operations)
    }
}

/// All pages are there from the beginning.
static MAPPED: AreaOps = AreaOps::new(false);
/// Pages and blocks are mapped when they are touched.
static TOUCHED: AreaOps = AreaOps::new(true);

/// # Safety
///
/// The kernel calls it with a copy of an area that has our operations: a split or moved one.
unsafe extern "C" fn area_copied(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The kernel holds the area during the call.
    let mapping = unsafe { (*vma).vm_private_data };
    // SAFETY: `map_into` put an Arc's pointer there, and the area that was copied still holds it.
    let mapping = ManuallyDrop::new(unsafe { Arc::from_raw(mapping.cast::<Mapping>()) });
    core::mem::forget(Arc::clone(&mapping));
}

/// # Safety
///
/// The kernel calls it once, at the end of an area that has our operations.
unsafe extern "C" fn area_closed(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The kernel holds the area during the call.
    let mapping = unsafe { (*vma).vm_private_data };
    // SAFETY: `map_into` or `area_copied` gave this area a reference of its own.
    drop(unsafe { Arc::from_raw(mapping.cast::<Mapping>()) });
}

/// The page that a program has touched, or if `in_block` only one of a block; null if there is none.
///
/// # Safety
///
/// `fault` is one in an area that has [`TOUCHED`], during the call of an operation.
unsafe fn touched(fault: *const bindings::vm_fault, in_block: bool) -> *mut bindings::page {
    // SAFETY: The caller's promise.
    let mapping = unsafe { ffi::nettap_fault_private(fault) };
    // SAFETY: `map_into` put an Arc's pointer there, which the area holds, and the kernel the area.
    let mapping = unsafe { &*mapping.cast::<Mapping>() };
    // SAFETY: The caller's promise.
    let place = unsafe { ffi::nettap_fault_offset(fault) };
    mapping.pages.at(place, in_block)
}

/// # Safety
///
/// The kernel calls it with a fault in an area that has [`TOUCHED`].
unsafe extern "C" fn page_touched(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The caller's promise.
    let page = unsafe { touched(fault, false) };
    // SAFETY: As above. The page is null or valid, and the fault gets a reference of its own.
    unsafe { ffi::nettap_fault_page(fault, page) }
}

/// # Safety
///
/// The kernel calls it with a fault in an area that has [`TOUCHED`].
unsafe extern "C" fn block_touched(
    fault: *mut bindings::vm_fault,
    order: c_uint,
) -> bindings::vm_fault_t {
    // SAFETY: The caller's promise.
    let page = unsafe { touched(fault, true) };
    // SAFETY: As above. The page is null, or one of a block at its place in the file, by the invariant of
    // `Pages`, and the mapping takes a reference of its own.
    unsafe { ffi::nettap_fault_block(fault, order, page) }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: `address` came from vmap and is unmapped once, here; nobody borrows from `self`.
            unsafe { ffi::nettap_vunmap(self.address.as_ptr().cast()) };
        }
    }
}
