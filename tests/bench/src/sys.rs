// SPDX-License-Identifier: GPL-2.0-only

//! The only `unsafe` of the benchmark's common part: the processor's counter, the marks, and system
//! calls for which the crates have no form that costs nothing per packet.

use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use std::arch::asm;
use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The processor's time stamp counter.
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Executes two instructions a turn.
pub(crate) fn spin(turns: u64) {
    // SAFETY: counts a register of its own down to zero.
    unsafe {
        asm!("2: dec {0}", "jnz 2b", inout(reg) turns => _, options(nomem, nostack));
    }
}

/// An instruction that does nothing, and that the profiler knows: what comes now counts.
pub(crate) fn mark_begin() {
    // SAFETY: a no-op; its address is never accessed.
    unsafe { asm!("nop dword ptr [rax + 0x4e544231]", options(nomem, nostack)) }
}

/// Likewise: what comes now does not count.
pub(crate) fn mark_end() {
    // SAFETY: a no-op; its address is never accessed.
    unsafe { asm!("nop dword ptr [rax + 0x4e544230]", options(nomem, nostack)) }
}

/// A packet socket that sends on an interface and, with `protocol` 0, receives nothing.
pub(crate) fn packet_socket(ifindex: u32, protocol: u16) -> io::Result<OwnedFd> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    bind_packet(&socket, ifindex, protocol)?;
    Ok(socket)
}

/// Binds a packet socket.
pub(crate) fn bind_packet(socket: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: plain data; all bytes zero is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    bind(socket, &address)
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: a descriptor that was just made, and that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An `AF_XDP` socket.
pub(crate) fn xdp_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_XDP, libc::SOCK_RAW, 0)
}

/// A netlink socket that does not wait, and that overruns silently.
pub(crate) fn netlink_socket(protocol: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
    let socket = socket(libc::AF_NETLINK, kind, protocol)?;
    set_option(
        socket.as_fd(),
        libc::SOL_NETLINK,
        libc::NETLINK_NO_ENOBUFS,
        &1i32,
    )?;
    Ok(socket)
}

/// Where the rings of an `AF_XDP` socket have their words.
pub(crate) fn xdp_offsets(socket: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain data; all bytes zero is a value of it.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
    let mut length = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    let to = std::ptr::from_mut(&mut offsets).cast();
    let (level, name) = (libc::SOL_XDP, libc::XDP_MMAP_OFFSETS);
    // SAFETY: the kernel writes at most `length` bytes of a value that is that long.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, to, &mut length) })?;
    Ok(offsets)
}

/// A tap device of this name; a read gives one frame, or says that there is none.
pub(crate) fn tap_device(name: &str) -> io::Result<File> {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: plain data; all bytes zero is a value of it.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()).take(15) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes a structure that is there.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) })?;
    // SAFETY: takes numbers.
    check(unsafe { libc::fcntl(device.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(device)
}

/// Sends a message.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads bytes that are there.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells an `AF_XDP` or packet socket to send what stands in its ring.
pub(crate) fn send_nothing(socket: BorrowedFd<'_>) -> io::Result<()> {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: no bytes, and no address.
    let sent = unsafe { libc::sendto(fd, std::ptr::null(), 0, flags, std::ptr::null(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Binds to an address of any family.
pub(crate) fn bind<T>(socket: &OwnedFd, address: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a value that is that long.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(address).cast(),
            length,
        )
    })
    .map(drop)
}

/// What a socket may have under way, or waiting for it: packets that wait in a program still count as their sender's.
const ROOM: i32 = 64 << 20;

/// Gives a socket as much room as packets of any line take.
pub(crate) fn with_room_for_packets(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &ROOM)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &ROOM)
}

/// Keeps this thread on a processor.
pub(crate) fn stay_on(processor: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Makes this thread one that the scheduler need not run as soon as it is woken.
pub(crate) fn run_in_batches() -> io::Result<()> {
    // SAFETY: plain data; all bytes zero is a value of it.
    let parameters: libc::sched_param = unsafe { zeroed() };
    // SAFETY: the kernel reads a structure that is there.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameters) }).map(drop)
}

/// Sets an option of a socket.
pub(crate) fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `length` bytes of a value that is that long.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) }).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same message many times, for one system call.
pub(crate) struct Burst {
    headers: Box<[libc::mmsghdr]>,
    // What the headers point to.
    _parts: Box<[libc::iovec]>,
    bytes: Box<[u8]>,
}

// SAFETY: the headers point to what the same value owns, at addresses that do not move.
unsafe impl Send for Burst {}

impl Burst {
    /// Up to `most` times `bytes`.
    pub(crate) fn new(bytes: &[u8], most: usize) -> Self {
        let mut bytes: Box<[u8]> = bytes.into();
        let part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut parts = vec![part; most].into_boxed_slice();
        let headers = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: plain data; all bytes zero is a value of it.
                let mut header: libc::mmsghdr = unsafe { zeroed() };
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self {
            headers,
            _parts: parts,
            bytes,
        }
    }

    /// Writes into the message, for what is sent from now on.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Sends `n` of them; all, or it is an error.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, n: usize) -> io::Result<()> {
        let n = n.min(self.headers.len());
        let headers = self.headers.as_mut_ptr();
        // SAFETY: `n` headers are there, which point to parts and bytes that live as long as they.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, n as u32, 0) };
        match check(sent)? as usize {
            all if all == n => Ok(()),
            some => Err(io::Error::other(format!("{some} of {n} messages sent"))),
        }
    }
}

/// Frames that stand in memory of somebody else's, for one system call.
pub(crate) struct Gather {
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    most: usize,
}

// SAFETY: whoever adds frames leaves them where they are until they are sent, and sends them himself.
unsafe impl Send for Gather {}

impl Gather {
    /// Up to `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            headers: Vec::with_capacity(most),
            parts: Vec::with_capacity(most),
            most,
        }
    }

    /// One more. It must stay where it is until it is sent; who is over the limit is left out.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if self.parts.len() < self.most {
            self.parts.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        }
    }

    /// Sends them all.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.headers.clear();
        for part in &mut self.parts {
            // SAFETY: plain data; all bytes zero is a value of it.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
        let (fd, n) = (socket.as_raw_fd(), self.headers.len());
        // SAFETY: `n` headers are there, whose parts are, whose bytes the caller has left alone.
        let sent = unsafe { libc::sendmmsg(fd, self.headers.as_mut_ptr(), n as u32, 0) };
        self.parts.clear();
        match check(sent)? as usize {
            all if all == n => Ok(()),
            some => Err(io::Error::other(format!("{some} of {n} frames sent"))),
        }
    }
}

/// Room for messages that come with one system call.
pub(crate) struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    // What the headers point to.
    _parts: Box<[libc::iovec]>,
    bytes: Box<[u8]>,
    room: usize,
}

// SAFETY: the headers point to what the same value owns, at addresses that do not move.
unsafe impl Send for Inbox {}

impl Inbox {
    /// Up to `most` messages of up to `room` bytes.
    pub(crate) fn new(most: usize, room: usize) -> Self {
        let mut bytes = vec![0u8; most * room].into_boxed_slice();
        let part = |bytes: &mut [u8]| libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut parts: Box<[_]> = bytes.chunks_exact_mut(room).map(part).collect();
        let headers = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: plain data; all bytes zero is a value of it.
                let mut header: libc::mmsghdr = unsafe { zeroed() };
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self {
            headers,
            _parts: parts,
            bytes,
            room,
        }
    }

    /// Takes what is there, at most so many; does not wait.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let n = most.min(self.headers.len()) as u32;
        let headers = self.headers.as_mut_ptr();
        let none = std::ptr::null_mut();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `n` headers are there, whose parts are, whose bytes are ours.
        match check(unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, n, flags, none) }) {
            Ok(n) => Ok(n as usize),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The first `n` of them.
    pub(crate) fn messages(&self, n: usize) -> impl Iterator<Item = &[u8]> {
        let rooms = self
            .bytes
            .chunks_exact(self.room)
            .zip(&self.headers)
            .take(n);
        rooms.map(|(bytes, header)| bytes.get(..header.msg_len as usize).unwrap_or(bytes))
    }
}
