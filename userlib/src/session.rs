// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! A session: one open of the device, its region, and its supply and return of mbufs.
//!
//! A [`Session`] is a handle; all clones of it, its taps and its mbufs share one [`Shelf`] and keep
//! it alive. The last of them to be dropped unmaps and closes, in whatever order that happens, and
//! the kernel takes everything back.
//!
//! System calls are counted here, because the promise of the steady state is that there are none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use nettap_uapi::ioctl;
use nettap_uapi::mbuf::HEADER_SIZE;
use nettap_uapi::ring::{Booking, Entry, Flags};
use nettap_uapi::tap::{Access, GROUP_MAX};
use nettap_uapi::{ABI_VERSION, FEATURE_BUSY};
use nix::errno::Errno;

use crate::burst::Burst;
use crate::error::{Error, Result};
use crate::lock::Locks;
use crate::map::{Buffer, Bundle, Filler, ForkGuard, Region, Ring};
use crate::mbuf::Mbuf;
use crate::sys::{Device, Kernel, Ready};
use crate::tap::TapBuilder;

/// Where the module's device is.
pub const DEVICE: &str = "/dev/nettap";

/// Mbufs that the kernel keeps ready for new packets unless the program says otherwise.
const PREALLOC_DEFAULT: u32 = 64;

/// What the kernel told of itself and of this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// ABI version of the module.
    pub abi_version: u32,
    /// Feature bits of the module.
    pub features: u64,
    /// Id of this session, as `tapctl session list` shows it.
    pub session: u32,
    /// Size of an mbuf, header included.
    pub mbuf_size: u32,
    /// Mbufs of the region.
    pub mbufs: u32,
    /// Shortest and longest time between two rounds of serving while something is out.
    pub alpha: (Duration, Duration),
    /// Most cells of a ring.
    pub ring_max: u32,
    /// Most taps of a session.
    pub taps_max: u32,
}

impl From<&ioctl::Info> for Info {
    fn from(told: &ioctl::Info) -> Self {
        Self {
            abi_version: told.abi_version,
            features: told.features,
            session: told.session,
            mbuf_size: told.mbuf_size,
            mbufs: told.mbufs,
            alpha: (
                Duration::from_micros(told.alpha_min_us.into()),
                Duration::from_micros(told.alpha_max_us.into()),
            ),
            ring_max: told.ring_max,
            taps_max: told.taps_max,
        }
    }
}

/// What session, taps and mbufs share.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) region: Region,
    pub(crate) alloc: Ring,
    pub(crate) dealloc: Ring,
    pub(crate) guard: Arc<ForkGuard>,
    /// Where the data of a new packet begins in its mbufs.
    pub(crate) data_offset: u16,
    pub(crate) locks: Locks,
    info: Info,
    calls: AtomicU64,
    // Declared last: dropped, and so closed, after the mappings. Any order works, this one is tidy.
    kernel: Box<dyn Kernel>,
}

impl Shelf {
    /// The kernel, for one system call.
    pub(crate) fn call(&self) -> Result<&dyn Kernel> {
        if !self.guard.is_owner() {
            return Err(Error::Forked);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(&*self.kernel)
    }

    /// What the kernel told.
    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// The kernel, for what is no work on packets and is not counted.
    pub(crate) fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    /// `mbuf_push`.
    pub(crate) fn push(&self, tap: i32, n: u32, timeout: Option<Duration>) -> Result<()> {
        self.call()?.push(&mut ioctl::Push {
            tap,
            n,
            timeout_us: micros(timeout),
        })
    }

    /// Returns an mbuf; waits for room rather than lose it.
    pub(crate) fn dealloc(&self, buffer: &Buffer) {
        self.dealloc_entry(buffer.entry(0));
    }

    /// The same for what a ring carries for it.
    pub(crate) fn dealloc_entry(&self, entry: Entry) {
        while self.guard.is_owner() && self.dealloc.give(&[entry], Flags::Cleared).is_none() {
            // The ring is full: the kernel empties it now. A cell that another thread has booked and
            // not filled yet stays in the way until that thread runs.
            match self.push(-1, 0, None) {
                Ok(()) | Err(Error::Interrupted) => std::thread::yield_now(),
                // The session has ended and the kernel has taken everything back.
                Err(_) => return,
            }
        }
        if self.dealloc.wants_doorbell() {
            // A failure means that the session has ended: then nothing is left to be served.
            let _ = self.push(-1, 0, None);
        }
    }

    /// Returns all of a bundle.
    #[inline(always)]
    pub(crate) fn dealloc_all(&self, bundle: &mut Bundle) {
        let wake = |_: &Booking| {
            let _ = self.push(-1, 0, None);
            0
        };
        // Nearly always all find room.
        if bundle.len() > 0 && !bundle.give_all(&self.dealloc, Flags::Cleared, wake) {
            self.dealloc_rest(bundle);
        }
    }

    /// The same, when that is not simple.
    #[cold]
    pub(crate) fn dealloc_rest(&self, bundle: &mut Bundle) {
        // As in `dealloc`.
        while self.guard.is_owner() && bundle.len() > 0 {
            if bundle.give(&self.dealloc, Flags::Cleared, |_| 0) == 0 {
                match self.push(-1, 0, None) {
                    Ok(()) | Err(Error::Interrupted) => std::thread::yield_now(),
                    Err(_) => return,
                }
            }
        }
        if self.dealloc.wants_doorbell() {
            let _ = self.push(-1, 0, None);
        }
    }

    /// Fills an empty bundle with mbufs for new packets, as far as there are any.
    pub(crate) fn alloc_bundle(&self, bundle: &mut Bundle) {
        bundle.fill_up(&self.alloc, &self.region);
        // As in `alloc`.
        if !self.alloc.is_ready() && self.alloc.wants_doorbell() && self.push(-1, 0, None).is_ok() {
            bundle.fill_up(&self.alloc, &self.region);
        }
    }

    /// Takes up to `n` mbufs for new packets.
    pub(crate) fn alloc(&self, n: usize, mut each: impl FnMut(Buffer)) -> usize {
        let mut taken = self.alloc.take(&self.region, n, &mut each);
        // The kernel fills the ring up when it serves. Only if it sleeps, somebody must say so.
        if !self.alloc.is_ready() && self.alloc.wants_doorbell() && self.push(-1, 0, None).is_ok() {
            taken += self.alloc.take(&self.region, n - taken, &mut each);
        }
        taken
    }
}

/// A duration as requests carry it: 0 waits for ever, so no wait is the shortest one.
pub(crate) fn micros(timeout: Option<Duration>) -> u64 {
    timeout.map_or(0, |time| {
        let rounded_up = time.as_nanos().div_ceil(1000);
        u64::try_from(rounded_up).unwrap_or(u64::MAX).max(1)
    })
}

/// A session with the module; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Session {
    pub(crate) shelf: Arc<Shelf>,
}

/// How a session is to be opened; see [`Session::builder`].
#[derive(Debug, Clone)]
pub struct SessionBuilder {
    prealloc: u32,
    ring_cells: u32,
    busy: bool,
    group: Group,
    device: PathBuf,
}

/// The group that a session joins. Without a name it is the default one.
#[derive(Debug, Clone, Default)]
struct Group {
    name: String,
    access: Option<Access>,
    mbuf_size: u32,
    mbufs: u32,
}

impl Group {
    /// Fills its part of the request.
    fn ask(&self, map: &mut ioctl::Map) -> Result<()> {
        let bytes = self.name.as_bytes();
        if bytes.len() >= GROUP_MAX || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(Error::Invalid(
                "a group's name has 1 to 31 characters of ASCII without spaces",
            ));
        }
        if bytes.is_empty() && (self.access, self.mbuf_size, self.mbufs) != (None, 0, 0) {
            return Err(Error::Invalid(
                "only a group with a name has sizes and an access rule of its own",
            ));
        }
        for (to, from) in map.group.iter_mut().zip(bytes) {
            *to = *from;
        }
        map.access = self.access.map_or(0, Access::raw);
        map.group_mbuf_size = self.mbuf_size;
        map.group_mbufs = self.mbufs;
        Ok(())
    }
}

impl SessionBuilder {
    /// Mbufs that the kernel keeps ready for new packets, at least.
    pub fn prealloc(mut self, mbufs: u32) -> Self {
        self.prealloc = mbufs;
        self
    }

    /// Cells of the alloc and dealloc rings, a power of two; 0 lets the kernel choose.
    pub fn ring_cells(mut self, cells: u32) -> Self {
        self.ring_cells = cells;
        self
    }

    /// Whether the session is busy from the beginning: see [`Session::set_busy`].
    pub fn busy(mut self, busy: bool) -> Self {
        self.busy = busy;
        self
    }

    /// Joins the group of this name, or creates it: a region of its own, which only the group's sessions
    /// see. An empty name is the default group.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group.name = name.into();
        self
    }

    /// Who may join a group that this session creates; its effective user, if this is not said. A group that is there
    /// already must have this rule, but [`Access::Uid`] is as good as nothing said: it joins a group of any rule that lets
    /// the caller in.
    pub fn access(mut self, access: Access) -> Self {
        self.group.access = Some(access);
        self
    }

    /// Mbufs of a group that this session creates; 0 for as many as the default region has.
    pub fn mbufs(mut self, mbufs: u32) -> Self {
        self.group.mbufs = mbufs;
        self
    }

    /// Size of an mbuf in a group that this session creates, a power of two; 0 for that of the default
    /// region.
    pub fn mbuf_size(mut self, bytes: u32) -> Self {
        self.group.mbuf_size = bytes;
        self
    }

    /// Another path of the device, such as one in a container.
    pub fn device(mut self, path: impl AsRef<Path>) -> Self {
        self.device = path.as_ref().to_owned();
        self
    }

    /// Opens the device, asks for its version, and maps.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] from `open` (no module, no permission), `info` (library too new),
    /// `mbuf_map` (no privilege, no memory, a group that does not let this user in or is another than
    /// was asked for) or `serve` (as [`Session::set_busy`]), [`Error::Invalid`] for a group that cannot be.
    pub fn open(self) -> Result<Session> {
        let device = Device::open(&self.device)?;
        self.open_on(Box::new(device))
    }

    pub(crate) fn open_on(self, kernel: Box<dyn Kernel>) -> Result<Session> {
        let info = handshake(&*kernel)?;
        let mut map = ioctl::Map {
            prealloc: self.prealloc,
            ring_cells: self.ring_cells,
            ..Default::default()
        };
        self.group.ask(&mut map)?;
        kernel
            .map(&mut map)
            .map_err(|error| error.about(&self.group.name))?;
        let guard = ForkGuard::new()?;
        let region = Region::map(&*kernel, &guard, &map)?;
        let data_offset = u16::try_from(map.data_offset)
            .ok()
            .filter(|_| (HEADER_SIZE..=map.mbuf_size).contains(&map.data_offset))
            .ok_or(Error::Kernel("data that begins outside the mbuf"))?;
        let shelf = Shelf {
            alloc: Ring::map(&*kernel, &guard, &map.alloc, Filler::Kernel)?,
            dealloc: Ring::map(&*kernel, &guard, &map.dealloc, Filler::Program)?,
            info: Info {
                mbuf_size: region.mbuf_size(),
                mbufs: region.mbufs(),
                ..info
            },
            region,
            guard,
            data_offset,
            locks: Locks::at(map.locks_offset),
            calls: AtomicU64::new(0),
            kernel,
        };
        let session = Session {
            shelf: Arc::new(shelf),
        };
        if self.busy {
            session.set_busy(true)?;
        }
        Ok(session)
    }
}

/// Asks the module what it is, and tells it what we are.
pub(crate) fn handshake(kernel: &dyn Kernel) -> Result<Info> {
    let mut info = ioctl::Info {
        abi_version: ABI_VERSION,
        ..Default::default()
    };
    kernel.info(&mut info)?;
    Ok(Info::from(&info))
}

impl Session {
    /// Opens a session with the defaults.
    ///
    /// # Errors
    ///
    /// As [`SessionBuilder::open`].
    pub fn open() -> Result<Self> {
        Self::builder().open()
    }

    /// The choices that can be made when a session is opened.
    pub fn builder() -> SessionBuilder {
        SessionBuilder {
            prealloc: PREALLOC_DEFAULT,
            ring_cells: 0,
            busy: false,
            group: Group::default(),
            device: PathBuf::from(DEVICE),
        }
    }

    /// What the kernel told of itself and of this session.
    pub fn info(&self) -> &Info {
        &self.shelf.info
    }

    /// Begins to open a tap on an interface: `interface_tap`.
    pub fn tap<'a>(&'a self, ifname: &'a str) -> TapBuilder<'a> {
        TapBuilder::new(self, ifname)
    }

    /// An mbuf for a new packet; nothing when none is ready, see [`Session::pull`].
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut first = None;
        self.shelf.alloc(1, |buffer| first = Some(buffer));
        Some(Mbuf::fresh(Arc::clone(&self.shelf), first?))
    }

    /// An empty [`Burst`] that has room for so many packets.
    pub fn burst(&self, capacity: usize) -> Burst {
        Burst::new(Arc::clone(&self.shelf), capacity)
    }

    /// Has `n` more mbufs put into the alloc ring now: `mbuf_pull(n)`. `None` waits for ever.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], or what the kernel says.
    pub fn pull(&self, n: u32, timeout: Option<Duration>) -> Result<()> {
        if n == 0 {
            return Ok(());
        }
        self.shelf.call()?.pull(&mut ioctl::Pull {
            n,
            timeout_us: micros(timeout),
            ..Default::default()
        })
    }

    /// Sleeps until any tap of the session has a packet: `mbuf_pull(0)`. `false`: the time passed.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], or what the kernel says.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let answer = self.shelf.call()?.pull(&mut ioctl::Pull {
            timeout_us: micros(timeout),
            ..Default::default()
        });
        match answer {
            Ok(()) => Ok(true),
            Err(Error::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel take everything out of the dealloc ring: `mbuf_push(-1)`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], or what the kernel says.
    pub fn push(&self) -> Result<()> {
        self.shelf.push(-1, 0, None)
    }

    /// Has a thread of the kernel's look at the session's rings again and again, or no more: what is given
    /// back then goes on at once, without a call, a timer or a further packet. It takes a processor until it
    /// is switched off or the session ends, also when there is nothing to do. Packets keep their order through
    /// the change.
    ///
    /// Tells the thread's number, for `taskset` and `chrt`; nothing when there is none, or it is not in this
    /// program's pid namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Request`]: no `CAP_NET_ADMIN` over the machine, no thread to be had, a module that is too old.
    pub fn set_busy(&self, busy: bool) -> Result<Option<u32>> {
        if self.info().features & FEATURE_BUSY == 0 {
            return Err(Error::request("serve", "", Errno::EOPNOTSUPP));
        }
        let mut serve = ioctl::Serve {
            flags: if busy { ioctl::SERVE_BUSY } else { 0 },
            ..Default::default()
        };
        self.shelf.call()?.serving(&mut serve)?;
        Ok(Some(serve.thread).filter(|thread| *thread != 0))
    }

    /// System calls that this process has made through this session since it was opened.
    pub fn system_calls(&self) -> u64 {
        self.shelf.calls.load(Ordering::Relaxed)
    }

    /// Asks about descriptors of taps; counted.
    pub(crate) fn poll(
        &self,
        taps: &[std::os::fd::BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Vec<Ready>> {
        self.shelf.call()?.poll(taps, timeout)
    }
}

impl std::os::fd::AsFd for Session {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.shelf.kernel.fd()
    }
}
