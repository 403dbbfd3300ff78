// SPDX-License-Identifier: GPL-2.0-only

//! The ABI by hand, for programs that write where and what they should not: every word of shared
//! memory is an atomic here, because several threads scribble at once, and nothing is checked that
//! only a well-meaning program would check.

use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use nettap_uapi::ioctl;
use nettap_uapi::layout::{RingMap, LOCKS_LEN, RING_CELLS};
use nettap_uapi::mbuf::{Header, HEADER_SIZE};
use nettap_uapi::ring::{Cell, Cells, Consumer, Entry, Flags, Producer, Word, Words};
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{fence, AtomicU32, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The device.
pub(crate) const DEVICE: &str = "/dev/nettap";

/// A word of shared pages.
#[repr(transparent)]
pub(crate) struct Shared(AtomicU32);

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
            .compare_exchange(current, new, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }
    fn full_barrier() {
        fence(Ordering::SeqCst);
    }
}

/// All words of a mapping.
fn words_of(mapping: &MmapRaw) -> &[Shared] {
    // SAFETY: page aligned, that long, made of atomics, and mapped for as long as it is borrowed.
    unsafe { std::slice::from_raw_parts(mapping.as_ptr().cast(), mapping.len() / 4) }
}

/// One ring, both of its mappings.
pub(crate) struct Ring {
    ro: MmapRaw,
    rw: MmapRaw,
    count: usize,
    kernel_fills: bool,
}

impl Ring {
    fn map(file: &File, told: &RingMap, kernel_fills: bool) -> Result<Self> {
        let options = |offset, len| {
            let mut options = MmapOptions::new();
            options.offset(offset).len(len);
            options
        };
        Ok(Self {
            ro: options(told.ro_offset, told.ro_len as usize)
                .map_raw_read_only(file)
                .context("mmap of a ring, ro")?,
            rw: options(told.rw_offset, told.rw_len as usize)
                .map_raw(file)
                .context("mmap of a ring, rw")?,
            count: told.cells as usize,
            kernel_fills,
        })
    }

    fn words(mapping: &MmapRaw) -> &Words<Shared> {
        // SAFETY: a ring's pages begin with `Words` (uapi/src/layout.rs), which are atomics.
        unsafe { &*mapping.as_ptr().cast() }
    }

    /// The program's words.
    pub(crate) fn rw(&self) -> &Words<Shared> {
        Self::words(&self.rw)
    }

    /// Everything that the program may write of this ring.
    pub(crate) fn writable(&self) -> &[Shared] {
        words_of(&self.rw)
    }

    /// The cells.
    pub(crate) fn raw_cells(&self) -> &[Cell<Shared>] {
        let page = if self.kernel_fills {
            &self.ro
        } else {
            &self.rw
        };
        // SAFETY: the pages reach beyond RING_CELLS.
        let cells = unsafe { page.as_ptr().add(RING_CELLS as usize) };
        // SAFETY: the pages of the side that fills the ring hold `count` cells from there on, and live
        // as long as `self`.
        unsafe { std::slice::from_raw_parts(cells.cast(), self.count) }
    }

    fn cells(&self) -> Result<Cells<'_, Shared>> {
        Cells::new(self.raw_cells()).context("the kernel told a ring that is none")
    }

    /// Takes up to `out.len()` entries of a ring that the kernel fills; how many.
    pub(crate) fn take(&self, out: &mut [Entry]) -> Result<usize> {
        Ok(Consumer::new(self.cells()?, &self.rw().position).claim(out))
    }

    /// Puts an entry into a ring that the program fills, if there is room.
    pub(crate) fn put(&self, entry: Entry) -> Result<bool> {
        let (ours, kernels) = (&self.rw().position, &Self::words(&self.ro).position);
        Ok(Producer::new(self.cells()?, ours, kernels)
            .push(&[entry], Flags::Kept)
            .count()
            == 1)
    }
}

/// A session that has mapped.
pub(crate) struct Session {
    file: File,
    /// What `mbuf_map` told.
    pub(crate) told: ioctl::Map,
    region: MmapRaw,
    locks: MmapRaw,
    /// The alloc ring.
    pub(crate) alloc: Ring,
    /// The dealloc ring.
    pub(crate) dealloc: Ring,
}

/// Opens the device and nothing else.
pub(crate) fn open() -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.open(DEVICE).context(DEVICE)
}

impl Session {
    /// Opens and maps.
    pub(crate) fn open(prealloc: u32) -> Result<Self> {
        let file = open()?;
        let mut told = ioctl::Map {
            prealloc,
            ..Default::default()
        };
        request(file.as_fd(), ioctl::MAP, &mut told).context("mbuf_map")?;
        Self::adopt(file, told)
    }

    /// The same, in a group of so many mbufs, which it makes.
    pub(crate) fn of_group(name: &[u8], mbufs: u32) -> Result<Self> {
        let file = open()?;
        let mut told = ioctl::Map {
            group_mbufs: mbufs,
            ..Default::default()
        };
        for (to, from) in told.group.iter_mut().zip(name) {
            *to = *from;
        }
        request(file.as_fd(), ioctl::MAP, &mut told).context("mbuf_map")?;
        Self::adopt(file, told)
    }

    /// A session that somebody else has opened, mapped here as well.
    pub(crate) fn adopt(file: File, told: ioctl::Map) -> Result<Self> {
        let mut region = MmapOptions::new();
        region.offset(told.region_offset);
        region.len(usize::try_from(told.region_len)?);
        let mut locks = MmapOptions::new();
        locks.offset(told.locks_offset).len(LOCKS_LEN as usize);
        Ok(Self {
            region: region.map_raw(&file).context("mmap of the region")?,
            locks: locks.map_raw(&file).context("mmap of the locks")?,
            alloc: Ring::map(&file, &told.alloc, true)?,
            dealloc: Ring::map(&file, &told.dealloc, false)?,
            told,
            file,
        })
    }

    /// The kernel's number for it.
    pub(crate) fn id(&self) -> Result<u32> {
        let mut info = ioctl::Info::default();
        request(self.file.as_fd(), ioctl::INFO, &mut info).context("INFO")?;
        Ok(info.session)
    }

    /// `interface_tap`, and its rings.
    pub(crate) fn tap(&self, mut asked: ioctl::Tap) -> Result<Tap> {
        request(self.file.as_fd(), ioctl::TAP, &mut asked).context("interface_tap")?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(asked.fd) };
        self.adopt_tap(fd, asked)
    }

    /// A tap that somebody else has opened, mapped here as well.
    pub(crate) fn adopt_tap(&self, fd: OwnedFd, told: ioctl::Tap) -> Result<Tap> {
        Ok(Tap {
            detour: Ring::map(&self.file, &told.detour, true)?,
            revert: Ring::map(&self.file, &told.revert, false)?,
            fd,
            told,
        })
    }

    /// `mbuf_pull`.
    pub(crate) fn pull(&self, n: u32, timeout_us: u64) -> Result<(), Errno> {
        let mut pull = ioctl::Pull {
            n,
            reserved: 0,
            timeout_us,
        };
        request(self.file.as_fd(), ioctl::PULL, &mut pull)
    }

    /// `mbuf_push`.
    pub(crate) fn push(&self, tap: i32, n: u32, timeout_us: u64) -> Result<(), Errno> {
        let mut push = ioctl::Push { tap, n, timeout_us };
        request(self.file.as_fd(), ioctl::PUSH, &mut push)
    }

    /// Does something with a shared lock, one of the `LOCK_` operations; a wait is for as long as the word is as
    /// `seen`, and not for long.
    pub(crate) fn lock(&self, op: u32, number: u32, seen: u32) -> Result<(), Errno> {
        let waits = op == ioctl::LOCK_WAIT;
        let mut lock = ioctl::Lock {
            op,
            number,
            seen: if waits { seen } else { 0 },
            timeout_us: if waits { 500 } else { 0 },
            ..Default::default()
        };
        request(self.file.as_fd(), ioctl::LOCK, &mut lock)
    }

    /// How it is served: `SERVE_` bits.
    pub(crate) fn serve(&self, flags: u32) -> Result<(), Errno> {
        let mut serve = ioctl::Serve {
            flags,
            ..Default::default()
        };
        request(self.file.as_fd(), ioctl::SERVE, &mut serve)
    }

    /// `mbuf_unmap`.
    pub(crate) fn unmap(&self) -> Result<(), Errno> {
        let fd = self.file.as_raw_fd() as usize;
        let number = ioctl::request_unmap() as usize;
        crate::sys::syscall(libc::SYS_ioctl, &[fd, number, 0]).map(drop)
    }

    /// All words of the region.
    pub(crate) fn region(&self) -> &[Shared] {
        words_of(&self.region)
    }

    /// All words of the shared locks.
    pub(crate) fn locks(&self) -> &[Shared] {
        words_of(&self.locks)
    }

    /// The words of one mbuf; none when there is no such mbuf.
    fn mbuf(&self, index: u32) -> &[Shared] {
        let size = self.told.mbuf_size as usize / 4;
        let begin = size.saturating_mul(index as usize);
        let all = self.region();
        all.get(begin..begin.saturating_add(size))
            .unwrap_or_default()
    }

    /// A copy of an mbuf's header.
    pub(crate) fn header(&self, index: u32) -> Header {
        let mut words = [0u32; HEADER_SIZE as usize / 4];
        for (to, from) in words.iter_mut().zip(self.mbuf(index)) {
            *to = from.load();
        }
        zerocopy::transmute!(words)
    }

    /// Writes an mbuf's header.
    pub(crate) fn set_header(&self, index: u32, header: Header) {
        let words: [u32; HEADER_SIZE as usize / 4] = zerocopy::transmute!(header);
        for (to, from) in self.mbuf(index).iter().zip(words) {
            to.store(from);
        }
    }

    /// Bytes of an mbuf, as many of them as there are.
    pub(crate) fn read(&self, index: u32, offset: usize, len: usize) -> Vec<u8> {
        let bytes = self.mbuf(index).iter().skip(offset / 4);
        let bytes = bytes.flat_map(|word| word.load().to_ne_bytes());
        bytes.skip(offset % 4).take(len).collect()
    }

    /// Writes bytes of an mbuf, as many of them as there is room for. What else lies in their words is written as well.
    pub(crate) fn write(&self, index: u32, offset: usize, bytes: &[u8]) {
        let mut place = self.mbuf(index).iter().skip(offset / 4);
        let (begin, rest) = bytes.split_at(bytes.len().min((4 - offset % 4) % 4));
        if !begin.is_empty() {
            place
                .by_ref()
                .take(1)
                .for_each(|word| overwrite(word, offset % 4, begin));
        }
        for (word, bytes) in place.zip(rest.chunks(4)) {
            overwrite(word, 0, bytes);
        }
    }
}

/// Writes bytes of a word, from one of its bytes on.
fn overwrite(word: &Shared, from: usize, bytes: &[u8]) {
    let mut all = word.load().to_ne_bytes();
    for (to, byte) in all.iter_mut().skip(from).zip(bytes) {
        *to = *byte;
    }
    word.store(u32::from_ne_bytes(all));
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An open tap.
pub(crate) struct Tap {
    /// The descriptor.
    pub(crate) fd: OwnedFd,
    /// What `interface_tap` told.
    pub(crate) told: ioctl::Tap,
    /// The way up.
    pub(crate) detour: Ring,
    /// The way back.
    pub(crate) revert: Ring,
}

impl Tap {
    /// The descriptor's number, for requests.
    pub(crate) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// The request for a tap with defaults.
pub(crate) fn tap_request(ifname: &str, mode: u32) -> ioctl::Tap {
    let mut asked = ioctl::Tap {
        mode,
        netns: -1,
        ..Default::default()
    };
    for (to, from) in asked.ifname.iter_mut().zip(ifname.bytes()) {
        *to = from;
    }
    asked
}

/// A request with its structure.
pub(crate) fn request<T: IntoBytes + FromBytes + Immutable>(
    fd: BorrowedFd<'_>,
    number: u8,
    argument: &mut T,
) -> Result<(), Errno> {
    let number = ioctl::request(number, std::mem::size_of::<T>());
    let address = argument.as_mut_bytes().as_mut_ptr();
    // SAFETY: the kernel writes as many bytes as the request says, which is as many as there are, and
    // any bytes are a value.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number.into(), address) };
    Errno::result(result).map(drop)
}
