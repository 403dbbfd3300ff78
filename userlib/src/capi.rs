// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The C ABI: the patent's six calls on one session of the process, `libnettap.so`.
//!
//! `include/libnettap.h` is the contract; it is written by hand, and so are its inline ends of the
//! rings, because a C program should take and give a packet without a call. [`Queue`] is what those
//! inline functions work on: addresses and sizes, fixed when it is made. Everything else here is thin
//! over [`Session`] and [`Tap`]. Results are 0 or a descriptor, or a negative errno.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, CStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nettap_uapi::ioctl::{Filter, Set};
use nettap_uapi::ring::Words;
use nettap_uapi::tap::{
    Access, Fanout, Gso, Mode, NoConsumer, OnExit, OnFull, TAP_FLAGS, TAP_STANDBY, TAP_UNSTAMPED,
};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::lock::SharedLock;
use crate::map::{Addresses, Region, Ring, Shared};
use crate::session::{Session, SessionBuilder};
use crate::tap::Tap;

/// `struct nettap_queue`: one end of a ring, as the header's inline functions use it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Queue {
    ro: *const Words<Shared>,
    rw: *mut Words<Shared>,
    cells: *mut u8,
    region: *mut u8,
    mask: u32,
    log2: u32,
    mbuf_size: u32,
    mbufs: u32,
    tap: i32,
    reserved: u32,
}

// SAFETY: a queue is addresses and numbers that nobody changes. What lies at the addresses is shared
// between threads, processes and the kernel anyway; the header touches it with atomics only.
unsafe impl Send for Queue {}

impl Queue {
    fn new(ring: &Ring, region: &Region, tap: i32) -> Box<Self> {
        let Addresses {
            ro,
            rw,
            cells,
            count,
        } = ring.addresses();
        Box::new(Self {
            ro,
            rw,
            cells,
            region: region.base(),
            mask: count.wrapping_sub(1),
            log2: count.trailing_zeros(),
            mbuf_size: region.mbuf_size(),
            mbufs: region.mbufs(),
            tap,
            reserved: 0,
        })
    }
}

/// `struct mbuf_rings`: what `mbuf_map` tells.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Rings {
    alloc: *const Queue,
    dealloc: *const Queue,
    mbuf_size: u32,
    mbufs: u32,
    data_offset: u32,
    session: u32,
}

/// `struct nettap_group`: which group `mbuf_map_group` joins.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    size: u32,
    access: u32,
    mbuf_size: u32,
    mbufs: u32,
    name: *const c_char,
}

/// `struct nettap_options`: what `interface_tap` can be told.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    size: u32,
    snaplen: u32,
    ring_cells: u32,
    on_full: u32,
    on_exit: u32,
    gso: u32,
    netns: i32,
    fanout: u32,
    max_bytes: u64,
    no_consumer: u32,
    flags: u32,
    max_age_us: u64,
    filter: Filter,
}

struct Opened {
    tap: Tap,
    detour: Box<Queue>,
    revert: Box<Queue>,
}

/// The session of the process.
struct Process {
    // Declared in the order in which they go.
    taps: Vec<Opened>,
    alloc: Box<Queue>,
    dealloc: Box<Queue>,
    session: Session,
}

static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

fn process() -> MutexGuard<'static, Option<Process>> {
    // A panic elsewhere has left nothing half done here: each change is one assignment.
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The session, to be used without holding up other threads: calls may sleep.
fn session() -> Result<Session> {
    let process = process();
    let process = process
        .as_ref()
        .ok_or_else(|| failure("mbuf_map", Errno::ENXIO))?;
    Ok(process.session.clone())
}

fn failure(request: &'static str, errno: Errno) -> Error {
    Error::request(request, "", errno)
}

fn answer(result: Result<c_int>) -> c_int {
    result.unwrap_or_else(|error| -error.errno())
}

/// Microseconds as C programs give them: 0 waits for ever.
fn timeout(usec: c_ulonglong) -> Option<Duration> {
    (usec != 0).then(|| Duration::from_micros(usec))
}

/// `mbuf_map`: see the header.
///
/// # Safety
///
/// `out` is null or may be written.
#[no_mangle]
pub(crate) unsafe extern "C" fn mbuf_map(prealloc: c_uint, out: *mut Rings) -> c_int {
    let rings = map(Session::builder().prealloc(prealloc));
    // SAFETY: the caller's promise.
    unsafe { tell(rings, out) }
}

/// `mbuf_map_group`: see the header.
///
/// # Safety
///
/// `group` is null or may be read, and so may be the string that it names; `out` is null or may be
/// written.
#[no_mangle]
pub(crate) unsafe extern "C" fn mbuf_map_group(
    prealloc: c_uint,
    group: *const Group,
    out: *mut Rings,
) -> c_int {
    // SAFETY: the caller's promise: null or readable.
    let group = unsafe { group.as_ref() }.copied();
    let mut builder = Session::builder().prealloc(prealloc);
    if let Some(group) = group {
        let access = Access::from_raw(group.access);
        let (Some(access), false) = (access, group.name.is_null()) else {
            return -(Errno::EINVAL as c_int);
        };
        // SAFETY: the caller's promise: not null, so a string.
        let name = unsafe { CStr::from_ptr(group.name) };
        let Ok(name) = name.to_str() else {
            return -(Errno::EINVAL as c_int);
        };
        if group.size as usize != size_of::<Group>() || name.is_empty() {
            return -(Errno::EINVAL as c_int);
        }
        builder = builder
            .group(name)
            .access(access)
            .mbuf_size(group.mbuf_size)
            .mbufs(group.mbufs);
    }
    // SAFETY: the caller's promise.
    unsafe { tell(map(builder), out) }
}

/// Tells the caller what was mapped.
///
/// # Safety
///
/// `out` is null or may be written.
unsafe fn tell(rings: Result<Rings>, out: *mut Rings) -> c_int {
    answer(rings.map(|rings| {
        if !out.is_null() {
            // SAFETY: the caller's promise: not null, so it may be written.
            unsafe { out.write(rings) };
        }
        0
    }))
}

fn map(builder: SessionBuilder) -> Result<Rings> {
    let mut process = process();
    // What a child has inherited by `fork` is nothing to it; it may map for itself.
    if let Some(there) = process.as_ref() {
        if there.session.shelf.guard.is_owner() {
            return Err(failure("mbuf_map", Errno::EBUSY));
        }
    }
    let session = builder.open()?;
    let shelf = &session.shelf;
    let new = Process {
        taps: Vec::new(),
        alloc: Queue::new(&shelf.alloc, &shelf.region, -1),
        dealloc: Queue::new(&shelf.dealloc, &shelf.region, -1),
        session: session.clone(),
    };
    let new = process.insert(new);
    let info = session.info();
    Ok(Rings {
        alloc: &raw const *new.alloc,
        dealloc: &raw const *new.dealloc,
        mbuf_size: info.mbuf_size,
        mbufs: info.mbufs,
        data_offset: shelf.data_offset.into(),
        session: info.session,
    })
}

/// `mbuf_unmap`: see the header.
#[no_mangle]
pub(crate) extern "C" fn mbuf_unmap() -> c_int {
    // Out of the lock first: what drops here unmaps and closes.
    let gone = process().take();
    answer(match gone {
        Some(gone) => unmap(&gone).map(|()| 0),
        None => Err(failure("mbuf_unmap", Errno::ENXIO)),
    })
}

fn unmap(process: &Process) -> Result<()> {
    let shelf = &process.session.shelf;
    let kernel = shelf.call()?;
    shelf.locks.end();
    kernel.unmap()
}

/// `mbuf_pull`: see the header.
#[no_mangle]
pub(crate) extern "C" fn mbuf_pull(n: c_uint, usec: c_ulonglong) -> c_int {
    answer(session().and_then(|session| match n {
        0 if session.wait(timeout(usec))? => Ok(0),
        0 => Err(Error::TimedOut),
        n => session.pull(n, timeout(usec)).map(|()| 0),
    }))
}

/// `mbuf_push`: see the header.
#[no_mangle]
pub(crate) extern "C" fn mbuf_push(tap: c_int, n: c_uint) -> c_int {
    answer(session().and_then(|session| session.shelf.push(tap, n, None).map(|()| 0)))
}

/// `nettap_doorbell`: see the header.
///
/// # Safety
///
/// `queue` is one of this library's and has not ended.
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_doorbell(queue: *const Queue) -> c_int {
    // SAFETY: the caller's promise; a queue is never written after it was made.
    let tap = unsafe { (*queue).tap };
    mbuf_push(tap, 0)
}

/// `nettap_busy`: see the header.
#[no_mangle]
pub(crate) extern "C" fn nettap_busy(busy: c_int) -> c_int {
    let thread = session().and_then(|session| session.set_busy(busy != 0));
    // Numbers of threads are below 2^22 (linux/threads.h).
    answer(thread.map(|thread| {
        thread
            .and_then(|number| number.try_into().ok())
            .unwrap_or(0)
    }))
}

/// `nettap_system_calls`: see the header.
#[no_mangle]
pub(crate) extern "C" fn nettap_system_calls() -> c_ulonglong {
    session().map_or(0, |session| session.system_calls())
}

/// `interface_tap`: see the header.
///
/// # Safety
///
/// `ifname` is a string, `options` is null or may be read, `detour` and `revert` may be written.
#[no_mangle]
pub(crate) unsafe extern "C" fn interface_tap(
    ifname: *const c_char,
    mode: c_int,
    options: *const Options,
    detour: *mut *const Queue,
    revert: *mut *const Queue,
) -> c_int {
    if ifname.is_null() || detour.is_null() || revert.is_null() {
        return -(Errno::EFAULT as c_int);
    }
    // SAFETY: the caller's promise: not null, so a string.
    let ifname = unsafe { CStr::from_ptr(ifname) };
    // SAFETY: the caller's promise: null or readable.
    let options = unsafe { options.as_ref() }.copied();
    let opened = tap(ifname, mode, options);
    answer(opened.map(|(fd, queues)| {
        // SAFETY: the caller's promise: not null, so it may be written.
        unsafe { detour.write(queues.0) };
        // SAFETY: as before.
        unsafe { revert.write(queues.1) };
        fd
    }))
}

fn tap(
    ifname: &CStr,
    mode: c_int,
    options: Option<Options>,
) -> Result<(c_int, (*const Queue, *const Queue))> {
    let wrong = Error::Invalid("a mode or an option that names nothing");
    let name = ifname
        .to_str()
        .map_err(|_| failure("interface_tap", Errno::ENODEV))?;
    let session = session()?;
    let mode = u32::try_from(mode).ok().and_then(Mode::from_raw);
    let mut builder = session.tap(name).mode(mode.ok_or(wrong.clone())?);
    if let Some(options) = options {
        if options.size as usize != size_of::<Options>() || options.flags & !TAP_FLAGS != 0 {
            return Err(wrong);
        }
        builder = builder
            .snaplen(options.snaplen)
            .ring_cells(options.ring_cells)
            .max_bytes(options.max_bytes)
            .raw_filter(options.filter)
            .on_full(OnFull::from_raw(options.on_full).ok_or(wrong.clone())?)
            .on_exit(OnExit::from_raw(options.on_exit).ok_or(wrong.clone())?)
            .gso(Gso::from_raw(options.gso).ok_or(wrong.clone())?)
            .fanout(Fanout::from_raw(options.fanout).ok_or(wrong.clone())?)
            .no_consumer(NoConsumer::from_raw(options.no_consumer).ok_or(wrong.clone())?)
            .standby(options.flags & TAP_STANDBY != 0)
            .timestamps(options.flags & TAP_UNSTAMPED == 0)
            .max_age(Duration::from_micros(options.max_age_us));
        if options.netns > 0 {
            // SAFETY: the descriptor is the caller's and open for the length of this call; if it is
            // none, the kernel says so.
            builder = builder.netns(unsafe { BorrowedFd::borrow_raw(options.netns) });
        }
    }
    let tap = builder.open()?;
    let fd = tap.as_fd().as_raw_fd();
    let region = &session.shelf.region;
    let opened = Opened {
        detour: Queue::new(&tap.detour, region, fd),
        revert: Queue::new(&tap.revert, region, fd),
        tap,
    };
    let queues = (&raw const *opened.detour, &raw const *opened.revert);
    match process().as_mut() {
        Some(process) if opened.tap.is_of(&process.session) => process.taps.push(opened),
        // Another thread has unmapped meanwhile.
        _ => return Err(failure("interface_tap", Errno::ENXIO)),
    }
    Ok((fd, queues))
}

/// `interface_untap`: see the header.
#[no_mangle]
pub(crate) extern "C" fn interface_untap(tap: c_int) -> c_int {
    let mut process = process();
    let taps = process.as_mut().map(|process| &mut process.taps);
    let found = taps.and_then(|taps| {
        let place = taps
            .iter()
            .position(|opened| opened.tap.as_fd().as_raw_fd() == tap)?;
        Some(taps.swap_remove(place))
    });
    // Its end waits for the kernel; the other threads need not wait for it.
    drop(process);
    match found {
        Some(_ended_here) => 0,
        None => -(Errno::EBADF as c_int),
    }
}

/// `nettap_tap_set`: see the header.
///
/// # Safety
///
/// `policies` is null or may be read.
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_tap_set(tap: c_int, policies: *const Set) -> c_int {
    // SAFETY: the caller's promise: null or readable.
    let Some(mut request) = (unsafe { policies.as_ref() }).copied() else {
        return -(Errno::EFAULT as c_int);
    };
    let process = process();
    let taps = process.as_ref().map(|process| &process.taps);
    let mut taps = taps.into_iter().flatten();
    let Some(opened) = taps.find(|opened| opened.tap.as_fd().as_raw_fd() == tap) else {
        return -(Errno::EBADF as c_int);
    };
    request.id = opened.tap.id();
    drop(process);
    answer(session().and_then(|session| session.shelf.call()?.set(&mut request).map(|()| 0)))
}

/// `nettap_lock_open`: see the header.
///
/// # Safety
///
/// `lock` may be written.
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_lock_open(
    number: c_uint,
    lock: *mut *mut SharedLock,
) -> c_int {
    if lock.is_null() {
        return -(Errno::EFAULT as c_int);
    }
    let opened = session().and_then(|session| session.shared_lock(number));
    answer(opened.map(|opened| {
        // SAFETY: the caller's promise: not null, so it may be written.
        unsafe { lock.write(Box::into_raw(Box::new(opened))) };
        0
    }))
}

/// `nettap_lock_take`: see the header.
///
/// # Safety
///
/// `lock` is one of this library's and has not been closed.
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_lock_take(
    lock: *const SharedLock,
    usec: c_ulonglong,
) -> c_int {
    // SAFETY: the caller's promise.
    let lock = unsafe { &*lock };
    answer(lock.take(timeout(usec)).map(c_int::from))
}

/// `nettap_lock_try`: see the header.
///
/// # Safety
///
/// As for [`nettap_lock_take`].
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_lock_try(lock: *const SharedLock) -> c_int {
    // SAFETY: the caller's promise.
    let lock = unsafe { &*lock };
    let busy = || failure("lock", Errno::EBUSY);
    answer(
        lock.try_take()
            .and_then(|taken| taken.map(c_int::from).ok_or_else(busy)),
    )
}

/// `nettap_lock_release`: see the header.
///
/// # Safety
///
/// As for [`nettap_lock_take`].
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_lock_release(lock: *const SharedLock) -> c_int {
    // SAFETY: the caller's promise.
    let lock = unsafe { &*lock };
    answer(match lock.release() {
        Ok(true) => Ok(0),
        Ok(false) => Err(failure("lock", Errno::EPERM)),
        Err(error) => Err(error),
    })
}

/// `nettap_lock_data`: see the header.
///
/// # Safety
///
/// As for [`nettap_lock_take`].
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_lock_data(lock: *const SharedLock) -> *mut u32 {
    // SAFETY: the caller's promise.
    let lock = unsafe { &*lock };
    lock.data()
        .first()
        .map_or(std::ptr::null_mut(), AtomicU32::as_ptr)
}

/// `nettap_lock_close`: see the header.
///
/// # Safety
///
/// As for [`nettap_lock_take`]; it is not used any more.
#[no_mangle]
pub(crate) unsafe extern "C" fn nettap_lock_close(lock: *mut SharedLock) {
    if !lock.is_null() {
        // SAFETY: `nettap_lock_open` made it of a box, and the caller's promise: closed once.
        drop(unsafe { Box::from_raw(lock) });
    }
}

#[cfg(test)]
mod layout {
    use super::{Group, Options, Queue, Rings};

    /// The header asserts the same numbers for C.
    #[test]
    fn structures_have_the_sizes_that_the_header_asserts() {
        let pointer = size_of::<usize>();
        assert_eq!(size_of::<Queue>(), 4 * pointer + 24);
        assert_eq!(size_of::<Rings>(), 2 * pointer + 16);
        assert_eq!(size_of::<Group>(), pointer + 16);
        assert_eq!(size_of::<Options>(), 72);
    }
}
