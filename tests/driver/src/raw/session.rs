// SPDX-License-Identifier: GPL-2.0-only

//! A session and its taps as the ABI has them: descriptors, requests, mapped pages. Nothing is
//! checked on the way, because the callers want to do it wrong.

use super::Peer;
use crate::checks::patience;
use crate::payload::numbered;
use anyhow::{bail, Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use nettap_uapi::ioctl;
use nettap_uapi::layout::{RingMap, RING_CELLS};
use nettap_uapi::mbuf::Header;
use nettap_uapi::ring::{Cell, Cells, Consumer, Entry, Flags, Look, Producer, Word, Words};
use nettap_uapi::stats::{RegionStats, SessionStats, TapStats};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
use std::cell::Cell as Counter;
use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{fence, AtomicU32, Ordering};
use std::time::Instant;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// The device.
const DEVICE: &str = "/dev/nettap";

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

    /// The words that the kernel writes.
    pub(crate) fn ro(&self) -> &Words<Shared> {
        // SAFETY: a ring's pages begin with `Words` (uapi/src/layout.rs), which are atomics.
        unsafe { &*self.ro.as_ptr().cast() }
    }

    /// The words that the program writes.
    pub(crate) fn rw(&self) -> &Words<Shared> {
        // SAFETY: as above.
        unsafe { &*self.rw.as_ptr().cast() }
    }

    /// The cells themselves, for scribbling.
    pub(crate) fn raw_cells(&self) -> &[Cell<Shared>] {
        let page = if self.kernel_fills {
            &self.ro
        } else {
            &self.rw
        };
        // SAFETY: the pages reach beyond RING_CELLS.
        let cells = unsafe { page.as_ptr().add(RING_CELLS as usize) };
        // SAFETY: from there on the pages of the side that fills the ring hold `count` cells, and they
        // live as long as `self`.
        unsafe { std::slice::from_raw_parts(cells.cast::<Cell<Shared>>(), self.count) }
    }

    /// The cells as the ring's algorithm sees them.
    pub(crate) fn cells(&self) -> Result<Cells<'_, Shared>> {
        Cells::new(self.raw_cells()).context("the kernel told a ring that is none")
    }

    fn consumer(&self) -> Result<Consumer<'_, Shared>> {
        Ok(Consumer::new(self.cells()?, &self.rw().position))
    }

    fn producer(&self) -> Result<Producer<'_, Shared>> {
        Ok(Producer::new(
            self.cells()?,
            &self.rw().position,
            &self.ro().position,
        ))
    }

    /// Takes the next entry of a ring that the kernel fills.
    pub(crate) fn take(&self) -> Result<Option<Entry>> {
        let mut entry = [Entry::default()];
        Ok((self.consumer()?.claim(&mut entry) == 1).then_some(entry[0]))
    }

    /// Puts an entry into a ring that the program fills.
    pub(crate) fn put(&self, entry: Entry) -> Result<()> {
        if self.producer()?.push(&[entry], Flags::Kept).count() != 1 {
            bail!("no room in a ring of {} cells", self.count);
        }
        Ok(())
    }

    /// Entries that wait in a ring that the kernel fills.
    pub(crate) fn waiting(&self) -> Result<u32> {
        let (cells, begin) = (self.cells()?, self.rw().position.load());
        let filled = |nth: &u32| {
            matches!(
                cells.look(begin.wrapping_add(*nth)),
                Look::Full(_) | Look::Padding
            )
        };
        Ok((0..cells.size()).take_while(filled).count() as u32)
    }

    /// Entries that the kernel has not taken from a ring that the program fills.
    pub(crate) fn backlog(&self) -> Result<u32> {
        Ok(self.producer()?.backlog())
    }
}

/// One open of the device.
pub(crate) struct Session {
    file: File,
    /// What `mbuf_map` gave.
    pub(crate) mapped: Option<Mapped>,
}

/// Everything that a session maps.
pub(crate) struct Mapped {
    /// The kernel's answer.
    pub(crate) told: ioctl::Map,
    region: MmapRaw,
    /// The alloc ring.
    pub(crate) alloc: Ring,
    /// The dealloc ring.
    pub(crate) dealloc: Ring,
}

impl Session {
    /// Opens the device and nothing else.
    pub(crate) fn open() -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .context(DEVICE)?;
        Ok(Self { file, mapped: None })
    }

    /// Opens, maps with defaults, and maps the memory.
    pub(crate) fn ready() -> Result<Self> {
        let mut session = Self::open()?;
        session.map(ioctl::Map {
            prealloc: 16,
            ..Default::default()
        })??;
        Ok(session)
    }

    /// The device's file, for `mmap`.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Request `number` with a structure.
    pub(crate) fn call<T: IntoBytes + FromBytes>(
        &self,
        number: u8,
        argument: &mut T,
    ) -> Result<(), Errno> {
        self.call_sized(
            number,
            std::mem::size_of::<T>(),
            argument.as_mut_bytes().as_mut_ptr(),
        )
    }

    /// Request `number`, claiming a structure of `size` bytes at `argument`.
    pub(crate) fn call_sized(
        &self,
        number: u8,
        size: usize,
        argument: *mut u8,
    ) -> Result<(), Errno> {
        request(self.file.as_fd(), ioctl::request(number, size), argument)
    }

    /// `mbuf_map` alone, without mapping the memory.
    pub(crate) fn map_only(&self, mut asked: ioctl::Map) -> Result<ioctl::Map, Errno> {
        self.call(ioctl::MAP, &mut asked)?;
        Ok(asked)
    }

    /// `mbuf_map` and the mappings. The outer error is a failed `mmap`.
    pub(crate) fn map(&mut self, asked: ioctl::Map) -> Result<Result<(), Errno>> {
        let told = match self.map_only(asked) {
            Ok(told) => told,
            Err(errno) => return Ok(Err(errno)),
        };
        let mut region = MmapOptions::new();
        region
            .offset(told.region_offset)
            .len(usize::try_from(told.region_len)?);
        self.mapped = Some(Mapped {
            region: region.map_raw(&self.file).context("mmap of the region")?,
            alloc: Ring::map(&self.file, &told.alloc, true)?,
            dealloc: Ring::map(&self.file, &told.dealloc, false)?,
            told,
        });
        Ok(Ok(()))
    }

    /// The mappings, which a caller knows to be there.
    pub(crate) fn mapped(&self) -> Result<&Mapped> {
        self.mapped.as_ref().context("nothing is mapped")
    }

    /// `mbuf_unmap`.
    pub(crate) fn unmap(&self) -> Result<(), Errno> {
        request(
            self.file.as_fd(),
            ioctl::request_unmap(),
            std::ptr::null_mut(),
        )
    }

    /// `mbuf_pull`.
    pub(crate) fn pull(&self, n: u32, timeout_us: u64) -> Result<(), Errno> {
        self.call(
            ioctl::PULL,
            &mut ioctl::Pull {
                n,
                reserved: 0,
                timeout_us,
            },
        )
    }

    /// `mbuf_push`.
    pub(crate) fn push(&self, tap: i32, n: u32, timeout_us: u64) -> Result<(), Errno> {
        self.call(ioctl::PUSH, &mut ioctl::Push { tap, n, timeout_us })
    }

    /// `interface_untap` by id.
    pub(crate) fn untap(&self, id: u32) -> Result<(), Errno> {
        self.call(ioctl::UNTAP, &mut ioctl::Untap { id, reserved: 0 })
    }

    /// `interface_tap` without mapping its rings.
    pub(crate) fn tap_only(&self, mut asked: ioctl::Tap) -> Result<ioctl::Tap, Errno> {
        self.call(ioctl::TAP, &mut asked)?;
        Ok(asked)
    }

    /// `interface_tap` and the mappings.
    pub(crate) fn tap(&self, asked: ioctl::Tap) -> Result<Tap> {
        let told = self.tap_only(asked).context("interface_tap")?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(told.fd) };
        let detour = Ring::map(&self.file, &told.detour, true)?;
        let revert = Ring::map(&self.file, &told.revert, false)?;
        Ok(Tap {
            fd,
            id: told.id,
            detour,
            revert,
        })
    }

    /// The default region's account.
    pub(crate) fn region_stats(&self) -> Result<RegionStats> {
        let mut all = self.all_regions()?.into_iter();
        all.next().context("no region record")
    }

    /// All regions' accounts, the default one's first.
    pub(crate) fn all_regions(&self) -> Result<Vec<RegionStats>> {
        self.query(ioctl::QUERY_REGION)
    }

    /// All sessions' accounts.
    pub(crate) fn all_sessions(&self) -> Result<Vec<SessionStats>> {
        self.query(ioctl::QUERY_SESSIONS)
    }

    /// The kernel's number for it.
    pub(crate) fn id(&self) -> Result<u32> {
        let mut info = ioctl::Info::default();
        self.call(ioctl::INFO, &mut info).context("INFO")?;
        Ok(info.session)
    }

    /// This session's account.
    pub(crate) fn stats(&self) -> Result<SessionStats> {
        let id = self.id()?;
        let mine = |stats: &SessionStats| stats.id == id;
        self.all_sessions()?
            .into_iter()
            .find(mine)
            .context("this session is not listed")
    }

    /// All taps' accounts.
    pub(crate) fn all_taps(&self) -> Result<Vec<TapStats>> {
        self.query(ioctl::QUERY_TAPS)
    }

    /// The last figures of the latest taps that have ended.
    pub(crate) fn ended_taps(&self) -> Result<Vec<TapStats>> {
        self.query(ioctl::QUERY_ENDED)
    }

    fn query<T: IntoBytes + FromBytes + FromZeros>(&self, kind: u32) -> Result<Vec<T>> {
        let mut records: Vec<T> = (0..64).map(|_| T::new_zeroed()).collect();
        let mut query = ioctl::Query {
            kind,
            record_size: u32::try_from(std::mem::size_of::<T>())?,
            from_id: 0,
            count: u32::try_from(records.len())?,
            records: records.as_mut_ptr() as u64,
        };
        self.call(ioctl::QUERY, &mut query).context("QUERY")?;
        records.truncate(query.count as usize);
        Ok(records)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Mapped {
    fn place(&self, index: u32, offset: usize, len: usize) -> Result<*mut u8> {
        let size = self.told.mbuf_size as usize;
        if index >= self.told.mbufs || offset + len > size {
            bail!(
                "mbuf {index}, bytes {offset} to {} is outside the region",
                offset + len
            );
        }
        // SAFETY: inside the mapping, as the lines above found.
        Ok(unsafe { self.region.as_mut_ptr().add(index as usize * size + offset) })
    }

    /// A copy of an mbuf's header.
    pub(crate) fn header(&self, index: u32) -> Result<Header> {
        let place = self.place(index, 0, std::mem::size_of::<Header>())?;
        // SAFETY: `place` is good for a header, aligned as mbufs are, and any bytes make one.
        Ok(unsafe { place.cast::<Header>().read_volatile() })
    }

    /// Writes an mbuf's header.
    pub(crate) fn set_header(&self, index: u32, header: Header) -> Result<()> {
        let place = self.place(index, 0, std::mem::size_of::<Header>())?;
        // SAFETY: as above; the mapping is writable.
        unsafe { place.cast::<Header>().write_volatile(header) };
        Ok(())
    }

    /// A copy of the bytes that an mbuf's header names.
    pub(crate) fn bytes(&self, index: u32) -> Result<Vec<u8>> {
        let header = self.header(index)?;
        let place = self.place(index, header.offset.into(), header.len.into())?;
        let mut bytes = vec![0; header.len.into()];
        // SAFETY: `place` is good for that many bytes, and `bytes` is a copy of our own.
        unsafe { place.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(bytes)
    }

    /// Writes bytes at an offset of an mbuf.
    pub(crate) fn write(&self, index: u32, offset: usize, bytes: &[u8]) -> Result<()> {
        let place = self.place(index, offset, bytes.len())?;
        // SAFETY: `place` is good for that many bytes.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// A copy of the whole region.
    pub(crate) fn whole(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.region.len()];
        // SAFETY: the mapping is that long, and `bytes` is a copy of our own.
        unsafe {
            self.region
                .as_ptr()
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len())
        };
        bytes
    }

    /// Address of the region, for a child that must not reach it.
    pub(crate) fn address(&self) -> *mut u8 {
        self.region.as_mut_ptr()
    }
}

/// An open tap.
pub(crate) struct Tap {
    /// The descriptor.
    pub(crate) fd: OwnedFd,
    /// The kernel's number for it.
    pub(crate) id: u32,
    /// The way up.
    pub(crate) detour: Ring,
    /// The way back.
    pub(crate) revert: Ring,
}

impl Tap {
    /// The next packet, waited for without a system call.
    pub(crate) fn receive(&self) -> Result<Entry> {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(entry) = self.detour.take()? {
                return Ok(entry);
            }
            if Instant::now() > deadline {
                bail!("no packet came to tap {} in time", self.id);
            }
            std::thread::yield_now();
        }
    }

    /// The descriptor's number, for requests.
    pub(crate) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// This tap's account.
    pub(crate) fn stats(&self, session: &Session) -> Result<TapStats> {
        let mine = |stats: &TapStats| stats.id == self.id;
        session
            .all_taps()?
            .into_iter()
            .find(mine)
            .context("the tap is not listed")
    }
}

/// The request for a tap of `mode` on `ifname` with defaults.
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

fn request(fd: BorrowedFd<'_>, number: u32, argument: *mut u8) -> Result<(), Errno> {
    // SAFETY: the kernel checks the address; what it writes goes to the caller's structure, whose size
    // is in `number`, or the caller wants to see EFAULT.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number.into(), argument) };
    Errno::result(result).map(drop)
}

/// A request on a descriptor that need not be a session.
pub(crate) fn request_on<T: IntoBytes + FromBytes>(
    fd: BorrowedFd<'_>,
    number: u8,
    argument: &mut T,
) -> Result<(), Errno> {
    request(
        fd,
        ioctl::request(number, std::mem::size_of::<T>()),
        argument.as_mut_bytes().as_mut_ptr(),
    )
}

/// Numbered datagrams to the peer, through the host's own stack.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    next: Counter<u64>,
}

impl Datagrams {
    /// A socket towards the peer.
    pub(crate) fn to(peer: &Peer) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(peer.to).context("connect")?;
        // What a program holds of them counts as in this socket's buffer.
        setsockopt(&socket, SndBufForce, &(16 << 20)).context("SO_SNDBUFFORCE")?;
        Ok(Self {
            socket,
            next: Counter::new(0),
        })
    }

    /// Sends the next `count` of them.
    pub(crate) fn send(&self, count: u64) -> Result<()> {
        for _ in 0..count {
            self.socket
                .send(&numbered(self.next.get(), 64))
                .context("send")?;
            self.next.set(self.next.get() + 1);
        }
        Ok(())
    }

    /// The next one, and a socket to send it through, for another thread.
    pub(crate) fn one(&self) -> Result<(UdpSocket, Vec<u8>)> {
        let payload = numbered(self.next.get(), 64);
        self.next.set(self.next.get() + 1);
        Ok((self.socket.try_clone()?, payload))
    }

    /// How many were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.next.get()
    }
}
