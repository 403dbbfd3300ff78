// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The border to the kernel: the only place that opens, requests, maps and polls.
//!
//! What the rest of the library asks of a kernel is the trait [`Kernel`]. [`Device`] answers it with
//! `/dev/nettap`; the tests answer it with a kernel side of their own on plain memory. It is a trait
//! object, because only system calls go through it and those cost more than a table look-up; the
//! data path never comes here.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nettap_uapi::ioctl::{self, request, request_unmap};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{ppoll, PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use crate::error::{Error, Result};

/// What `poll` says of one tap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The detour ring has a packet.
    pub(crate) packet: bool,
    /// The tap has ended.
    pub(crate) ended: bool,
}

/// What the library asks of the kernel, one method a system call.
pub(crate) trait Kernel: Send + Sync + fmt::Debug {
    fn info(&self, arg: &mut ioctl::Info) -> Result<()>;
    fn map(&self, arg: &mut ioctl::Map) -> Result<()>;
    fn unmap(&self) -> Result<()>;
    fn pull(&self, arg: &mut ioctl::Pull) -> Result<()>;
    fn push(&self, arg: &mut ioctl::Push) -> Result<()>;
    fn tap(&self, arg: &mut ioctl::Tap) -> Result<OwnedFd>;
    fn untap(&self, arg: &mut ioctl::Untap) -> Result<()>;
    fn set(&self, arg: &mut ioctl::Set) -> Result<()>;
    fn lock(&self, arg: &mut ioctl::Lock) -> Result<()>;
    fn serving(&self, arg: &mut ioctl::Serve) -> Result<()>;
    /// Fills `records`, of `record_size` bytes each; returns how many.
    fn query(
        &self,
        kind: u32,
        from_id: u32,
        record_size: usize,
        records: &mut [u8],
    ) -> Result<usize>;
    /// Maps pages of the session's file.
    fn pages(&self, offset: u64, len: usize, writable: bool) -> Result<MmapRaw>;
    /// Waits until one of the descriptors is ready; `None` waits for ever.
    fn poll(&self, taps: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<Ready>>;
    /// The session's descriptor.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// The module's device.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
}

mod raw {
    use super::{ioctl, request};

    macro_rules! requests {
        ($($name:ident: $nr:ident, $arg:ty;)*) => {$(
            nix::ioctl_readwrite_bad!(
                $name,
                request(ioctl::$nr, core::mem::size_of::<$arg>()),
                $arg
            );
        )*};
    }
    requests! {
        info: INFO, ioctl::Info;
        map: MAP, ioctl::Map;
        pull: PULL, ioctl::Pull;
        push: PUSH, ioctl::Push;
        tap: TAP, ioctl::Tap;
        untap: UNTAP, ioctl::Untap;
        set: SET, ioctl::Set;
        query: QUERY, ioctl::Query;
        monitor: MONITOR, ioctl::Monitor;
        lock: LOCK, ioctl::Lock;
        serve: SERVE, ioctl::Serve;
    }
    nix::ioctl_none_bad!(unmap, super::request_unmap());
}

/// One request with its structure, by name.
macro_rules! ask {
    ($self:ident, $name:literal, $raw:ident, $arg:expr) => {
        // SAFETY: the descriptor is open as long as `self`, and the pointer is a unique reference to
        // the very structure whose size the request number carries; the kernel writes no further.
        unsafe { raw::$raw($self.file.as_raw_fd(), $arg) }
            .map_err(|errno| Error::request($name, "", errno))
    };
}

impl Device {
    /// Opens the device; one open is one session.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, 0)
    }

    /// Opens the device for reading without waiting.
    pub(crate) fn open_nonblocking(path: &Path) -> Result<Self> {
        Self::open_with(path, nix::libc::O_NONBLOCK)
    }

    fn open_with(path: &Path, flags: i32) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                Error::request("open", &path.display().to_string(), errno)
            })?;
        Ok(Self { file })
    }

    /// Makes this session a listener; a request of listeners only, which no mock needs to answer.
    pub(crate) fn monitor(&self, arg: &mut ioctl::Monitor) -> Result<()> {
        ask!(self, "monitor", monitor, arg).map(drop)
    }

    /// Reads what there is; nothing where reading would wait.
    pub(crate) fn read(&self, to: &mut [u8]) -> Result<usize> {
        match (&self.file).read(to) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            read => read.map_err(|error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                Error::request("read", "", errno)
            }),
        }
    }
}

impl Kernel for Device {
    fn info(&self, arg: &mut ioctl::Info) -> Result<()> {
        ask!(self, "info", info, arg).map(drop)
    }

    fn map(&self, arg: &mut ioctl::Map) -> Result<()> {
        ask!(self, "mbuf_map", map, arg).map(drop)
    }

    fn unmap(&self) -> Result<()> {
        // SAFETY: the request carries no structure, and the descriptor is open as long as `self`.
        unsafe { raw::unmap(self.file.as_raw_fd()) }
            .map(drop)
            .map_err(|errno| Error::request("mbuf_unmap", "", errno))
    }

    fn pull(&self, arg: &mut ioctl::Pull) -> Result<()> {
        ask!(self, "mbuf_pull", pull, arg).map(drop)
    }

    fn push(&self, arg: &mut ioctl::Push) -> Result<()> {
        ask!(self, "mbuf_push", push, arg).map(drop)
    }

    fn tap(&self, arg: &mut ioctl::Tap) -> Result<OwnedFd> {
        ask!(self, "interface_tap", tap, arg)?;
        if arg.fd < 0 {
            return Err(Error::Kernel("a tap without a descriptor"));
        }
        // SAFETY: the request has succeeded, so `fd` is a descriptor that the kernel has opened for
        // this process just now and that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(arg.fd) })
    }

    fn untap(&self, arg: &mut ioctl::Untap) -> Result<()> {
        ask!(self, "interface_untap", untap, arg).map(drop)
    }

    fn set(&self, arg: &mut ioctl::Set) -> Result<()> {
        ask!(self, "set a tap's policies", set, arg).map(drop)
    }

    fn lock(&self, arg: &mut ioctl::Lock) -> Result<()> {
        ask!(self, "lock", lock, arg).map(drop)
    }

    fn serving(&self, arg: &mut ioctl::Serve) -> Result<()> {
        ask!(self, "serve", serve, arg).map(drop)
    }

    fn query(
        &self,
        kind: u32,
        from_id: u32,
        record_size: usize,
        records: &mut [u8],
    ) -> Result<usize> {
        let room = records.len() / record_size.max(1);
        let mut arg = ioctl::Query {
            kind,
            from_id,
            record_size: u32::try_from(record_size).unwrap_or(0),
            count: u32::try_from(room).unwrap_or(0),
            records: records.as_mut_ptr() as u64,
        };
        // The kernel writes at most `count` records of `record_size` bytes behind the address, which
        // is the length of `records`.
        ask!(self, "query", query, &mut arg)?;
        Ok((arg.count as usize).min(room))
    }

    fn pages(&self, offset: u64, len: usize, writable: bool) -> Result<MmapRaw> {
        let mut options = MmapOptions::new();
        // The region's pages are mapped when they are touched: now, and not when packets come.
        options.offset(offset).len(len).populate();
        let pages = if writable {
            options.map_raw(&self.file)
        } else {
            options.map_raw_read_only(&self.file)
        };
        pages.map_err(|error| {
            Error::request(
                "mmap",
                "",
                Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            )
        })
    }

    fn poll(&self, taps: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<Ready>> {
        let mut fds: Vec<PollFd<'_>> = taps
            .iter()
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        ppoll(&mut fds, timeout.map(TimeSpec::from), None)
            .map_err(|errno| Error::request("poll", "", errno))?;
        Ok(fds
            .iter()
            .map(|fd| {
                let events = fd.revents().unwrap_or(PollFlags::empty());
                Ready {
                    packet: events.contains(PollFlags::POLLIN),
                    ended: events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR),
                }
            })
            .collect())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A program that is pinned in a BPF file system: `BPF_OBJ_GET` of bpf(2).
pub(crate) fn pinned_program(path: &Path) -> Result<OwnedFd> {
    /// The part of `union bpf_attr` that this command reads.
    #[repr(C)]
    struct Attributes {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    const BPF_OBJ_GET: libc::c_long = 7;

    let refused = |errno| Error::request("bpf", &path.display().to_string(), errno);
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| refused(Errno::ENOENT))?;
    let attributes = Attributes {
        pathname: name.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the kernel reads as many bytes as the structure has, and the string that it names; both
    // outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    let fd = Errno::result(answer).map_err(refused)?;
    let fd = RawFd::try_from(fd).map_err(|_| Error::Kernel("a descriptor that cannot be"))?;
    // SAFETY: the call has succeeded, so `fd` is a descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
