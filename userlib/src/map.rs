// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Memory shared with the kernel: mappings, rings over them, and the buffers of the region.
//!
//! Everything that is unsafe about shared memory is here, behind three types: [`Ring`] (words and
//! cells, touched only through atomics), [`Region`] (the mbufs) and [`Buffer`] (the right to one
//! mbuf). A [`Buffer`] comes out of a ring that the kernel fills and goes into a ring that the kernel
//! drains; nothing else makes one, and it cannot be copied. That is what lets its bytes be lent as
//! slices: see `mbuf.rs` for what this leans on.
//!
//! After `fork` the child has none of these pages (the kernel maps them so that they are not
//! inherited), but it has these values. A [`ForkGuard`] tells them apart without a system call.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, AtomicU8, Ordering};
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nettap_uapi::layout::{RingMap, LOCKS_LEN, RING_CELLS};
use nettap_uapi::lock::{LockWords, LOCKS_MAX};
use nettap_uapi::mbuf::{
    Header, Window, HEADER_SIZE, HEADER_WORDS, MBUFS_MAX, MBUF_SIZE_MAX, NO_MBUF,
};
use nettap_uapi::ring::{
    Booking, Carried, Cell, Cells, Consumer, Entry, Flags, Packed, Producer, Word, Words,
};
use nettap_uapi::tap::{CHAIN_MAX, RING_MAX};
use nix::errno::Errno;
use nix::sys::mman::{madvise, MmapAdvise};

use crate::error::{Error, Result};
use crate::send::longest;
use crate::sys::Kernel;

/// A word in shared memory: the processor's atomics.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Shared(AtomicU32);

impl Word for Shared {
    #[inline]
    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    #[inline]
    fn load_acquire(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
    #[inline]
    fn store(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
    #[inline]
    fn store_release(&self, value: u32) {
        self.0.store(value, Ordering::Release);
    }
    #[inline]
    fn replace(&self, current: u32, new: u32) -> bool {
        self.0
            .compare_exchange(current, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }
    #[inline]
    fn full_barrier() {
        fence(Ordering::SeqCst);
    }
}

impl Shared {
    /// The words behind a lock, for programs.
    pub(crate) fn data_of(lock: &LockWords<Self>) -> &[AtomicU32] {
        let data = lock.data.as_slice();
        // SAFETY: `Shared` is an `AtomicU32` in all but name (`repr(transparent)`), and the slice lives as
        // long as the borrow of the lock.
        unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), data.len()) }
    }
}

/// A page that a child finds zeroed after `fork`: how a session knows that it was inherited.
///
/// `getpid` would tell as well, but is a system call, and every drop of an mbuf asks.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: MmapMut,
}

impl ForkGuard {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let failed = |errno| Error::request("mmap", "", errno);
        let mut page = MmapOptions::new()
            .len(size_of::<u32>())
            .map_anon()
            .map_err(|_| failed(Errno::ENOMEM))?;
        let start = NonNull::from(&mut page[0]).cast();
        // SAFETY: the range is the anonymous private mapping just made, which nothing else refers to.
        // The advice changes what a child finds there, and nothing in this process. Linux 4.14.
        unsafe { madvise(start, page.len(), MmapAdvise::MADV_WIPEONFORK) }.map_err(failed)?;
        page[0] = 1;
        Ok(Arc::new(Self { page }))
    }

    /// Whether this process is the one that opened the session.
    #[inline]
    pub(crate) fn is_owner(&self) -> bool {
        self.page.first().is_some_and(|byte| *byte != 0)
    }

    /// The byte that says so, for who holds the guard.
    fn byte(&self) -> There<AtomicU8> {
        let first = self.page.as_ptr().cast_mut();
        // SAFETY: nothing is mapped at address zero.
        There(unsafe { NonNull::new_unchecked(first) }.cast())
    }
}

/// Something in a mapping that the same value keeps: looked for once, and there as long as that value is.
#[derive(Debug)]
struct There<T>(NonNull<T>);

// SAFETY: as a reference to what is there; who has the value has the mapping.
unsafe impl<T: Sync> Send for There<T> {}
// SAFETY: as before.
unsafe impl<T: Sync> Sync for There<T> {}

impl There<AtomicU8> {
    /// Whether this process is the owner.
    ///
    /// # Safety
    ///
    /// The guard that it is of is held.
    #[inline]
    unsafe fn is_owner(&self) -> bool {
        // SAFETY: the caller's promise; the page is never written but by the kernel, which wipes it for a child.
        unsafe { self.0.as_ref() }.load(Ordering::Relaxed) != 0
    }
}

/// Mapped pages of the session's file.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: ManuallyDrop<MmapRaw>,
    guard: Arc<ForkGuard>,
}

impl Pages {
    pub(crate) fn map(
        kernel: &dyn Kernel,
        guard: &Arc<ForkGuard>,
        offset: u64,
        len: usize,
        writable: bool,
    ) -> Result<Self> {
        let pages = kernel.pages(offset, len, writable)?;
        if pages.len() < len {
            return Err(Error::Kernel("fewer pages than promised"));
        }
        Ok(Self {
            pages: ManuallyDrop::new(pages),
            guard: Arc::clone(guard),
        })
    }

    fn base(&self) -> *mut u8 {
        self.pages.as_mut_ptr()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // In a child these addresses are not ours: unmapping them could hit what it has put there.
        if self.guard.is_owner() {
            // SAFETY: dropped once, here, and `pages` is not used again.
            unsafe { ManuallyDrop::drop(&mut self.pages) };
        }
    }
}

/// Which side fills a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filler {
    /// alloc, detour.
    Kernel,
    /// dealloc, revert.
    Program,
}

/// A ring of either kind, as this side sees it.
///
/// # Invariants
///
/// Both mappings are at least [`RING_CELLS`] long, and the filler's is that and `count` cells long. `kernels` and `ours` are
/// the words at their begin, `cells` the first of the cells, `owner` of their guard.
#[derive(Debug)]
pub(crate) struct Ring {
    ro: Pages,
    rw: Pages,
    owner: There<AtomicU8>,
    kernels: There<Words<Shared>>,
    ours: There<Words<Shared>>,
    cells: There<Cell<Shared>>,
    count: usize,
    /// `count` is two to the power of it.
    log2: u32,
    filler: Filler,
}

impl Ring {
    pub(crate) fn map(
        kernel: &dyn Kernel,
        guard: &Arc<ForkGuard>,
        told: &RingMap,
        filler: Filler,
    ) -> Result<Self> {
        let count = told.cells as usize;
        let words = RING_CELLS as usize;
        let cells = count
            .checked_mul(size_of::<Cell<Shared>>())
            .and_then(|bytes| bytes.checked_add(words))
            .ok_or(Error::Kernel("a ring of impossible size"))?;
        let (ro_need, rw_need) = match filler {
            Filler::Kernel => (cells, words),
            Filler::Program => (words, cells),
        };
        let (ro_len, rw_len) = (told.ro_len as usize, told.rw_len as usize);
        if !told.cells.is_power_of_two()
            || told.cells > RING_MAX
            || ro_len < ro_need
            || rw_len < rw_need
        {
            return Err(Error::Kernel("a ring that is shorter than its cells"));
        }
        let ro = Pages::map(kernel, guard, told.ro_offset, ro_len, false)?;
        let rw = Pages::map(kernel, guard, told.rw_offset, rw_len, true)?;
        let pages = match filler {
            Filler::Kernel => &ro,
            Filler::Program => &rw,
        };
        // SAFETY: the filler's mapping is longer than `RING_CELLS`: compared just above, and `Pages::map` maps no
        // less.
        let first = unsafe { pages.base().add(words) };
        let nowhere = || Error::Kernel("pages at address zero");
        let there = |at: *mut u8| NonNull::new(at).ok_or_else(nowhere);
        // INVARIANT: likewise, and these are the places.
        Ok(Self {
            owner: guard.byte(),
            kernels: There(there(ro.base())?.cast()),
            ours: There(there(rw.base())?.cast()),
            cells: There(there(first)?.cast()),
            ro,
            rw,
            count,
            log2: told.cells.trailing_zeros(),
            filler,
        })
    }

    /// Whether the pages are there: not in a child after `fork`.
    #[inline]
    fn is_here(&self) -> bool {
        // SAFETY: the pages hold the guard.
        unsafe { self.owner.is_owner() }
    }

    /// The words that the kernel writes.
    #[inline]
    fn kernels(&self) -> &Words<Shared> {
        // SAFETY: by the type's invariant the mapping is as long as `Words`; mappings begin on a
        // page, so it is aligned. It consists of atomics, which the other side may change at will.
        unsafe { self.kernels.0.as_ref() }
    }

    /// The words that programs write.
    #[inline]
    fn ours(&self) -> &Words<Shared> {
        // SAFETY: as for `kernels`.
        unsafe { self.ours.0.as_ref() }
    }

    #[inline]
    fn cells(&self) -> Cells<'_, Shared> {
        // SAFETY: by the type's invariant there are `count` cells; they consist of atomics, any bits of
        // which are valid, and live as long as the mapping that `self` owns.
        let cells = unsafe { std::slice::from_raw_parts(self.cells.0.as_ptr(), self.count) };
        Cells::of(cells, self.log2)
    }

    /// The end of a ring that the kernel fills. `None` after `fork`.
    #[inline(always)]
    fn consumer(&self) -> Option<Consumer<'_, Shared>> {
        debug_assert_eq!(self.filler, Filler::Kernel);
        if !self.is_here() {
            return None;
        }
        Some(Consumer::new(self.cells(), &self.ours().position))
    }

    /// The end of a ring that the program fills. `None` after `fork`.
    #[inline(always)]
    fn producer(&self) -> Option<Producer<'_, Shared>> {
        debug_assert_eq!(self.filler, Filler::Program);
        if !self.is_here() {
            return None;
        }
        Some(Producer::new(
            self.cells(),
            &self.ours().position,
            &self.kernels().position,
        ))
    }

    /// Takes up to `max` mbufs, and hands each to `each`; returns how many.
    pub(crate) fn take(&self, region: &Region, max: usize, mut each: impl FnMut(Buffer)) -> usize {
        const BATCH: usize = 64;
        let Some(consumer) = self.consumer() else {
            return 0;
        };
        let mut entries = [Entry::default(); BATCH];
        let mut taken = 0;
        while taken < max {
            let wanted = BATCH.min(max - taken);
            let Some(room) = entries.get_mut(..wanted) else {
                break;
            };
            let found = consumer.claim(room);
            for entry in entries.iter().take(found) {
                // An index outside the region is nobody's mbuf; there is nothing to own or return.
                if entry.index < region.mbufs {
                    taken += 1;
                    each(Buffer {
                        index: entry.index,
                        generation: entry.generation,
                    });
                }
            }
            if found < wanted {
                break;
            }
        }
        taken
    }

    /// Gives mbufs to the kernel, in order; where those went that found room. The caller forgets them, unless
    /// [`Ring::left_of`] says that it still has them.
    #[inline]
    pub(crate) fn give<E: Carried>(&self, entries: &[E], flags: Flags) -> Option<Booking> {
        let all = self.producer()?.push_plainly(entries, flags);
        all.or_else(|| self.give_some(entries, flags))
    }

    #[cold]
    fn give_some<E: Carried>(&self, entries: &[E], flags: Flags) -> Option<Booking> {
        let given = self.producer()?.push(entries, flags);
        (given.count() > 0).then_some(given)
    }

    /// How many of those that were given the kernel has not taken, when the ring has ended.
    pub(crate) fn left_of(&self, given: &Booking) -> usize {
        let left = self.producer().map(|ring| ring.left_of(given));
        left.unwrap_or(0) as usize
    }

    /// Whether a ring that the kernel fills has something.
    pub(crate) fn is_ready(&self) -> bool {
        self.consumer().is_some_and(|ring| ring.is_ready())
    }

    /// Entries that the kernel has not taken yet from a ring that the program fills.
    pub(crate) fn backlog(&self) -> u32 {
        self.producer().map_or(0, |ring| ring.backlog())
    }

    /// Whether the kernel sleeps and asks for the doorbell; to be asked after publishing.
    #[inline]
    pub(crate) fn wants_doorbell(&self) -> bool {
        self.is_here() && self.asks()
    }

    /// The same, for who has just published something: the pages are there.
    #[inline]
    pub(crate) fn asks(&self) -> bool {
        nettap_uapi::ring::wants_doorbell(&self.kernels().need_wakeup)
    }

    /// Where the parts lie, for the C API.
    pub(crate) fn addresses(&self) -> Addresses {
        let (ro, rw) = (self.ro.base(), self.rw.base());
        let cells = match self.filler {
            Filler::Kernel => ro,
            Filler::Program => rw,
        };
        Addresses {
            ro: ro.cast(),
            rw: rw.cast(),
            cells: cells.wrapping_add(RING_CELLS as usize),
            count: u32::try_from(self.count).unwrap_or(0),
        }
    }
}

/// Where the parts of a ring lie in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) ro: *const Words<Shared>,
    pub(crate) rw: *mut Words<Shared>,
    pub(crate) cells: *mut u8,
    pub(crate) count: u32,
}

/// The pages of the region's shared locks.
///
/// # Invariants
///
/// The mapping is [`LOCKS_LEN`] bytes long or longer, which is [`LOCKS_MAX`] times [`LockWords`].
#[derive(Debug)]
pub(crate) struct LockPages(Pages);

impl LockPages {
    pub(crate) fn map(kernel: &dyn Kernel, guard: &Arc<ForkGuard>, offset: u64) -> Result<Self> {
        // INVARIANT: `Pages::map` maps no less than it is asked for.
        Pages::map(kernel, guard, offset, LOCKS_LEN as usize, true).map(Self)
    }

    /// A lock. `None` after `fork`, and when there is none of this number.
    pub(crate) fn words(&self, number: u32) -> Option<&LockWords<Shared>> {
        if number >= LOCKS_MAX || !self.0.guard.is_owner() {
            return None;
        }
        let first = self.0.base().cast::<LockWords<Shared>>();
        // SAFETY: by the type's invariant the mapping is long enough for the lock of this number.
        let lock = unsafe { first.add(number as usize) };
        // SAFETY: as before; mappings begin on a page, so it is aligned, and it consists of atomics, which
        // other programs may change at will.
        Some(unsafe { &*lock })
    }
}

/// The words of a header in shared memory.
///
/// # Safety
///
/// `at` is the start of an mbuf that is mapped for `'a`.
unsafe fn header_words<'a>(at: *mut u8) -> &'a [AtomicU64; HEADER_WORDS] {
    // SAFETY: an mbuf begins with a header and is aligned for it, as its caller says; atomics may be
    // changed by other programs at will.
    unsafe { &*at.cast() }
}

/// A copy of a header; what another program of the group writes at the same time may be a part of it.
///
/// # Safety
///
/// As for [`header_words`].
unsafe fn copy_header(at: *mut u8) -> Header {
    // SAFETY: the caller's promise.
    let words = unsafe { header_words(at) };
    Header::of_words(std::array::from_fn(|nth| {
        words[nth].load(Ordering::Relaxed)
    }))
}

/// Writes a header.
///
/// # Safety
///
/// As for [`header_words`].
unsafe fn put_header(at: *mut u8, header: &Header) {
    // SAFETY: the caller's promise.
    let words = unsafe { header_words(at) };
    for (to, from) in words.iter().zip(header.words()) {
        to.store(from, Ordering::Relaxed);
    }
}

/// The region: `mbufs` buffers of `mbuf_size` bytes each.
///
/// # Invariants
///
/// The mapping is `mbufs * mbuf_size` bytes long or longer; `mbuf_size` is a multiple of 64, more
/// than [`HEADER_SIZE`] and at most [`MBUF_SIZE_MAX`].
#[derive(Debug)]
pub(crate) struct Region {
    pages: Pages,
    /// Of the pages' guard.
    owner: There<AtomicU8>,
    mbufs: u32,
    mbuf_size: u32,
}

impl Region {
    pub(crate) fn map(
        kernel: &dyn Kernel,
        guard: &Arc<ForkGuard>,
        told: &nettap_uapi::ioctl::Map,
    ) -> Result<Self> {
        let (mbufs, mbuf_size) = (told.mbufs, told.mbuf_size);
        let len = usize::try_from(told.region_len)
            .map_err(|_| Error::Kernel("a region larger than the address space"))?;
        if mbufs > MBUFS_MAX
            || mbuf_size <= HEADER_SIZE
            || mbuf_size > MBUF_SIZE_MAX
            || mbuf_size % 64 != 0
            || u64::from(mbufs) * u64::from(mbuf_size) > told.region_len
        {
            return Err(Error::Kernel("a region that is shorter than its mbufs"));
        }
        // INVARIANT: checked just above, and `Pages::map` maps no less than `len`.
        Ok(Self {
            pages: Pages::map(kernel, guard, told.region_offset, len, true)?,
            owner: guard.byte(),
            mbufs,
            mbuf_size,
        })
    }

    pub(crate) fn mbuf_size(&self) -> u32 {
        self.mbuf_size
    }

    pub(crate) fn mbufs(&self) -> u32 {
        self.mbufs
    }

    /// Whether the pages are there: not in a child after `fork`.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        // SAFETY: the pages hold the guard.
        unsafe { self.owner.is_owner() }
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.pages.base()
    }

    fn at(&self, buffer: &Buffer) -> *mut u8 {
        let start = buffer.index as usize * self.mbuf_size as usize;
        // SAFETY: a `Buffer`'s index is below `mbufs` (each of its constructors checks), so by the
        // type's invariant the product is inside the mapping and does not overflow.
        unsafe { self.pages.base().add(start) }
    }

    /// A copy of the header; zeroes after `fork`.
    pub(crate) fn header(&self, buffer: &Buffer) -> Header {
        if !self.is_here() {
            return Header::default();
        }
        // SAFETY: inside the mapping, and aligned because mappings are and `mbuf_size` is a multiple
        // of 64. Volatile, because another program of the group could be writing: the copy is what
        // is looked at, and any bits are a valid `Header`.
        unsafe { copy_header(self.at(buffer)) }
    }

    /// Writes the header; nothing after `fork`.
    pub(crate) fn set_header(&self, buffer: &mut Buffer, header: &Header) {
        if self.is_here() {
            // SAFETY: as for `header`; the unique reference to the buffer is the right to write.
            unsafe { put_header(self.at(buffer), header) };
        }
    }

    /// The window, if it lies in an mbuf of this region and the pages are here.
    fn within(&self, window: Window) -> Option<Window> {
        // A window was checked against the size that its maker knew; ask again against this one.
        let (offset, len) = (window.offset() as u16, window.len() as u16);
        Window::of(offset, len, self.mbuf_size).filter(|_| self.is_here())
    }

    /// The bytes of a window; none after `fork`.
    pub(crate) fn bytes<'a>(&'a self, buffer: &'a Buffer, window: Window) -> &'a [u8] {
        let Some(window) = self.within(window) else {
            return &[];
        };
        // SAFETY: the window ends inside the mbuf.
        let first = unsafe { self.at(buffer).add(window.offset() as usize) };
        // SAFETY: the window lies inside the mbuf, behind its header. Nobody writes: in this process
        // only the owner of the buffer may, whom the borrow holds off; kernel and other programs do
        // not, as long as this one holds the mbuf (see `mbuf.rs`).
        unsafe { std::slice::from_raw_parts(first, window.len() as usize) }
    }

    /// The bytes of a window, to be changed; none after `fork`.
    pub(crate) fn bytes_mut<'a>(&'a self, buffer: &'a mut Buffer, window: Window) -> &'a mut [u8] {
        let Some(window) = self.within(window) else {
            return &mut [];
        };
        // SAFETY: the window ends inside the mbuf.
        let first = unsafe { self.at(buffer).add(window.offset() as usize) };
        // SAFETY: as for `bytes`; the buffer is borrowed uniquely, and there is one per mbuf.
        unsafe { std::slice::from_raw_parts_mut(first, window.len() as usize) }
    }

    /// The other mbufs of the received packet that begins with `first`, as its headers tell.
    ///
    /// A chain that leaves the region, comes back to itself or does not end is cut there. To be
    /// called once for each first mbuf: the buffers come with the right to it.
    pub(crate) fn followers(&self, first: &Buffer) -> Vec<Buffer> {
        let mut chain: Vec<Buffer> = Vec::new();
        let mut next = self.header(first).next;
        while next != NO_MBUF
            && next < self.mbufs
            && next != first.index
            && chain.len() + 1 < CHAIN_MAX as usize
            && chain.iter().all(|known| known.index != next)
            && self.is_here()
        {
            let buffer = Buffer {
                index: next,
                generation: 0,
            };
            next = self.header(&buffer).next;
            chain.push(buffer);
        }
        chain
    }
}

/// The right to one mbuf. Neither `Clone` nor `Copy`, made from what a ring gave only.
///
/// # Invariants
///
/// `index` is below the `mbufs` of the session's region.
#[derive(Debug)]
pub(crate) struct Buffer {
    index: u32,
    generation: u16,
}

impl Buffer {
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn generation(&self) -> u16 {
        self.generation
    }

    /// What a ring carries for it.
    pub(crate) fn entry(&self, flags: u8) -> Entry {
        Entry {
            index: self.index,
            generation: self.generation,
            flags,
        }
    }
}

/// The right to one mbuf, as [`Buffer`], in a [`Bundle`]; with the flags that it goes back with.
///
/// # Invariants
///
/// As [`Buffer`]'s.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Held(Packed);

impl Held {
    /// It goes back with these flags.
    #[inline]
    pub(crate) fn set_flags(&mut self, flags: u8) {
        self.0.set_flags(flags);
    }
}

/// Mbufs that a program holds together, as a ring gave them and another takes them: whatever is not read
/// is not copied either.
///
/// # Invariants
///
/// `begin <= end <= entries.len()`, and what is between the two has the right to its mbuf and is of the
/// region that it was filled from.
#[derive(Debug)]
pub(crate) struct Bundle {
    entries: Box<[Packed]>,
    begin: usize,
    end: usize,
}

impl Bundle {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: vec![Packed::default(); capacity].into_boxed_slice(),
            begin: 0,
            end: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.begin
    }

    /// Takes mbufs, as many as there are and as it has room for; how many.
    #[inline(always)]
    pub(crate) fn fill(&mut self, ring: &Ring, region: &Region) -> usize {
        if let (0, Some(ring)) = (self.begin, ring.consumer()) {
            // SAFETY: by the type's invariant.
            let room = unsafe { self.entries.get_unchecked_mut(self.end..) };
            if let Some((found, highest)) = ring.claim_plainly(room) {
                if highest < region.mbufs {
                    self.end += found;
                    return found;
                }
                return self.keep_good(found, region);
            }
        }
        self.fill_slowly(ring, region)
    }

    /// Takes mbufs until it is full or none is there; where a ring goes round they do not lie in one piece.
    pub(crate) fn fill_up(&mut self, ring: &Ring, region: &Region) {
        while self.end < self.entries.len() && self.fill(ring, region) > 0 {}
    }

    /// The same as `fill`, when there is nothing, or not in one piece, or there is no room behind what it has.
    #[inline(never)]
    fn fill_slowly(&mut self, ring: &Ring, region: &Region) -> usize {
        if self.begin > 0 {
            self.entries.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let (Some(consumer), Some(room)) = (ring.consumer(), self.entries.get_mut(self.end..))
        else {
            return 0;
        };
        let found = consumer.claim(room);
        self.keep_good(found, region)
    }

    /// Of `found` entries behind those that it has keeps those that name mbufs of the region; how many. An index outside of
    /// it is nobody's mbuf: there is nothing to own or return.
    #[inline(never)]
    fn keep_good(&mut self, found: usize, region: &Region) -> usize {
        let before = self.end;
        for nth in before..before + found {
            let entry = self.entries[nth];
            if entry.index() < region.mbufs {
                self.entries[self.end] = entry;
                self.end += 1;
            }
        }
        self.end - before
    }

    /// Gives mbufs to the kernel from the front, as many as find room; how many went. `left` says how many of those
    /// that were given have not.
    pub(crate) fn give(
        &mut self,
        ring: &Ring,
        flags: Flags,
        left: impl FnOnce(Option<&Booking>) -> usize,
    ) -> usize {
        let held = self.entries.get(self.begin..self.end);
        let given = ring.give(held.unwrap_or_default(), flags);
        let count = given.map_or(0, |given| given.count() as usize);
        let gone = count.saturating_sub(left(given.as_ref()));
        self.begin += gone;
        self.rewind();
        gone
    }

    /// Gives all of them where that is simple; whether it did. If the kernel asks for the doorbell, `left` rings, and
    /// says how many of those that were given, where, have not gone.
    #[inline(always)]
    pub(crate) fn give_all(
        &mut self,
        ring: &Ring,
        flags: Flags,
        left: impl FnOnce(&Booking) -> usize,
    ) -> bool {
        // SAFETY: by the type's invariant.
        let held = unsafe { self.entries.get_unchecked(self.begin..self.end) };
        let plainly = ring
            .producer()
            .and_then(|ring| ring.push_plainly(held, flags));
        let Some(given) = plainly else {
            return false;
        };
        if ring.asks() {
            self.begin = self.end - left(&given).min(held.len());
            self.rewind();
        } else {
            (self.begin, self.end) = (0, 0);
        }
        true
    }

    /// One that is empty has all its room at its end.
    #[inline]
    fn rewind(&mut self) {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
    }

    /// All of them.
    #[inline]
    pub(crate) fn held(&mut self) -> &mut [Held] {
        // SAFETY: by the type's invariant.
        let held = unsafe { self.entries.get_unchecked_mut(self.begin..self.end) };
        // SAFETY: `Held` is a `Packed` in all but name (`repr(transparent)`), and by the invariant of this
        // type these have what it promises.
        unsafe { std::slice::from_raw_parts_mut(held.as_mut_ptr().cast(), held.len()) }
    }

    /// Takes the first out; its flags beside it.
    pub(crate) fn pop(&mut self) -> Option<(Buffer, u8)> {
        let entry = self.entries.get(self.begin..self.end)?.first()?.entry();
        self.begin += 1;
        self.rewind();
        let buffer = Buffer {
            index: entry.index,
            generation: entry.generation,
        };
        Some((buffer, entry.flags))
    }
}

impl Region {
    /// Where the header of an mbuf that is held lies.
    #[inline]
    fn header_of(&self, held: &Held) -> *mut Header {
        let start = held.0.index() as usize * self.mbuf_size as usize;
        // SAFETY: as for `at`.
        unsafe { self.pages.base().add(start).cast() }
    }

    /// A copy of its header; zeroes after `fork`.
    pub(crate) fn held_header(&self, held: &Held) -> Header {
        if !self.is_here() {
            return Header::default();
        }
        // SAFETY: as for `header`.
        unsafe { copy_header(self.header_of(held).cast()) }
    }

    /// Writes frames into mbufs for new packets, one into each: header, and bytes from this offset on. Nothing after `fork`,
    /// nor if one has no room in an mbuf. Who holds an mbuf is the kernel's to write, and stays. The bundle was
    /// filled from this region, as all of a session's are.
    pub(crate) fn write_new(&self, bundle: &mut Bundle, offset: u16, frames: &[&[u8]]) {
        if !self.is_here() {
            return;
        }
        // At hand: what follows writes memory, which for all that the compiler knows could be these.
        let (base, size) = (self.pages.base(), self.mbuf_size);
        let longest = longest(frames);
        let window = Window::of(offset, longest as u16, size);
        if window.is_none_or(|window| window.len() as usize != longest) {
            return;
        }
        for (held, frame) in bundle.held().iter_mut().zip(frames) {
            let len = frame.len() as u16;
            // SAFETY: by `Bundle`'s invariant the index is below `mbufs`, and so inside the mapping.
            let start = unsafe { base.add(held.0.index() as usize * size as usize) };
            // SAFETY: as for `header`; no reference is made.
            let holder = unsafe { &raw const (*start.cast::<Header>()).holder };
            let header = Header {
                next: NO_MBUF,
                packet_len: len.into(),
                wire_len: len.into(),
                offset,
                len,
                // SAFETY: as for `header`.
                holder: unsafe { holder.read_volatile() },
                ..Default::default()
            };
            // SAFETY: as for `set_header`, the right to the mbuf being `held`.
            unsafe { put_header(start, &header) };
            // SAFETY: the window lies inside the mbuf, and no frame is longer than it is.
            let first = unsafe { start.add(usize::from(offset)) };
            // SAFETY: as before; the mbuf is held uniquely, so nobody else in this process has a frame there.
            unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), first, frame.len()) };
        }
    }

    /// Its window as its header says now; nothing when that is nonsense, or after `fork`.
    #[inline]
    fn held_window(&self, held: &Held) -> Option<Window> {
        let header = self.header_of(held);
        if !self.is_here() {
            return None;
        }
        // SAFETY: inside the mapping, as for `header`; no reference is made.
        let offset = unsafe { &raw const (*header).offset };
        // SAFETY: likewise.
        let len = unsafe { &raw const (*header).len };
        // SAFETY: as for `header`: valid, aligned, and read once.
        let offset = unsafe { offset.read_volatile() };
        // SAFETY: likewise.
        let len = unsafe { len.read_volatile() };
        Window::of(offset, len, self.mbuf_size)
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn held_bytes<'a>(&'a self, held: &'a Held) -> &'a [u8] {
        let Some(window) = self.held_window(held) else {
            return &[];
        };
        let first = self.header_of(held).cast::<u8>();
        // SAFETY: the window ends inside the mbuf.
        let first = unsafe { first.add(window.offset() as usize) };
        // SAFETY: as for `bytes`, the right to the mbuf being `held`.
        unsafe { std::slice::from_raw_parts(first, window.len() as usize) }
    }

    /// Its bytes, to be changed.
    pub(crate) fn held_bytes_mut<'a>(&'a self, held: &'a mut Held) -> &'a mut [u8] {
        let Some(window) = self.held_window(held) else {
            return &mut [];
        };
        let first = self.header_of(held).cast::<u8>();
        // SAFETY: the window ends inside the mbuf.
        let first = unsafe { first.add(window.offset() as usize) };
        // SAFETY: as for `bytes_mut`, the right to the mbuf being `held`.
        unsafe { std::slice::from_raw_parts_mut(first, window.len() as usize) }
    }
}
