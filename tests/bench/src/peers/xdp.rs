// SPDX-License-Identifier: GPL-2.0-only

//! `AF_XDP`: frames in memory that program and kernel share, named by four rings. Copy mode, which is
//! all that a veth has; behind an XDP program in the driver (native) or behind it (generic).

use super::bpf::{self, Attached, Place};
use super::ring::Shared;
use super::{HostBehindB, Look, Peer};
use crate::generate::BATCH;
use crate::lines::Spec;
use crate::sys;
use crate::world::{self, A, B};
use anyhow::{bail, Context, Result};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const CELLS: u32 = 1024;
const FRAME: u64 = 2048;
const FRAMES: u64 = 1024;

/// One ring, from the program's side: positions that run freely, cells of one size.
struct Ring {
    shared: Shared,
    offsets: libc::xdp_ring_offset,
    cell: usize,
    /// Our own position.
    at: u32,
}

impl Ring {
    fn map(
        fd: BorrowedFd<'_>,
        page: i64,
        offsets: libc::xdp_ring_offset,
        cell: usize,
    ) -> Result<Self> {
        let length = offsets.desc as usize + CELLS as usize * cell;
        let shared = Shared::of(fd, page, length).context("mapping a ring")?;
        Ok(Self {
            shared,
            offsets,
            cell,
            at: 0,
        })
    }

    fn place(&self, at: u32) -> usize {
        self.offsets.desc as usize + (at & (CELLS - 1)) as usize * self.cell
    }

    /// Cells that the kernel has filled.
    fn filled(&self) -> u32 {
        self.shared
            .load(self.offsets.producer as usize)
            .wrapping_sub(self.at)
    }

    /// Cells that the program may fill.
    fn room(&self) -> u32 {
        CELLS
            - self
                .at
                .wrapping_sub(self.shared.load(self.offsets.consumer as usize))
    }

    fn words<const N: usize>(&self, at: u32) -> [u64; N] {
        let bytes = self.shared.bytes(self.place(at), 8 * N);
        let mut words = bytes
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.first_chunk().copied().unwrap_or_default()));
        std::array::from_fn(|_| words.next().unwrap_or_default())
    }

    fn put(&mut self, words: &[u64]) {
        let place = self.place(self.at);
        let bytes = self.shared.bytes_mut(place, 8 * words.len());
        for (cell, word) in bytes.chunks_exact_mut(8).zip(words) {
            cell.copy_from_slice(&word.to_ne_bytes());
        }
        self.at = self.at.wrapping_add(1);
    }

    /// What was filled is the kernel's now.
    fn submit(&self) {
        self.shared.store(self.offsets.producer as usize, self.at);
    }

    /// What was read is the kernel's again.
    fn release(&self) {
        self.shared.store(self.offsets.consumer as usize, self.at);
    }

    fn wants_wakeup(&self) -> bool {
        self.shared.load(self.offsets.flags as usize) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A socket on an interface's only queue.
struct Socket {
    fd: OwnedFd,
    receive: Ring,
    send: Ring,
    fill: Ring,
    complete: Ring,
}

impl Socket {
    /// `frames` are registered with the socket, or shared with another that has them.
    fn open(interface: &str, frames: &Shared, sharing: Option<&Socket>) -> Result<Self> {
        let fd = sys::xdp_socket()?;
        let set = |name: i32, value: &u32| sys::set_option(fd.as_fd(), libc::SOL_XDP, name, value);
        if sharing.is_none() {
            let registration = libc::xdp_umem_reg_v1 {
                addr: frames.address(),
                len: FRAMES * FRAME,
                chunk_size: FRAME as u32,
                headroom: 0,
            };
            sys::set_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
                .context("XDP_UMEM_REG")?;
        }
        set(libc::XDP_UMEM_FILL_RING, &CELLS)?;
        set(libc::XDP_UMEM_COMPLETION_RING, &CELLS)?;
        set(libc::XDP_RX_RING, &CELLS)?;
        set(libc::XDP_TX_RING, &CELLS)?;
        let offsets = sys::xdp_offsets(fd.as_fd())?;
        let ring = |page, offsets, cell| Ring::map(fd.as_fd(), page, offsets, cell);
        let receive = ring(libc::XDP_PGOFF_RX_RING, offsets.rx, 16)?;
        let send = ring(libc::XDP_PGOFF_TX_RING, offsets.tx, 16)?;
        let fill = ring(libc::XDP_UMEM_PGOFF_FILL_RING as i64, offsets.fr, 8)?;
        let complete = ring(libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64, offsets.cr, 8)?;
        let shared = sharing.map(|other| other.fd.as_raw_fd() as u32);
        let flags = match shared {
            Some(_) => libc::XDP_SHARED_UMEM,
            None => libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: world::index(interface)?,
            sxdp_queue_id: 0,
            sxdp_shared_umem_fd: shared.unwrap_or(0),
        };
        bind(&fd, &address).with_context(|| format!("an AF_XDP socket on {interface}"))?;
        Ok(Self {
            fd,
            receive,
            send,
            fill,
            complete,
        })
    }

    /// Gives frames to the kernel, to receive into.
    fn offer(&mut self, frames: impl Iterator<Item = u64>) {
        for frame in frames {
            self.fill.put(&[frame]);
        }
        self.fill.submit();
    }

    /// Frames that have been sent.
    fn completed(&mut self) -> Vec<u64> {
        let n = self.complete.filled();
        let one = |nth| {
            let [frame] = self.complete.words(self.complete.at.wrapping_add(nth));
            frame
        };
        let frames = (0..n).map(one).collect();
        self.complete.at = self.complete.at.wrapping_add(n);
        self.complete.release();
        frames
    }

    /// Has the kernel send what stands in the ring: so many system calls as it takes.
    fn kick(&mut self) -> Result<()> {
        self.send.submit();
        while self.send.room() < CELLS {
            if !self.send.wants_wakeup() {
                continue;
            }
            match sys::send_nothing(self.fd.as_fd()) {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS)
                    ) => {}
                Err(error) => return Err(io::Error::into(error)),
            }
        }
        Ok(())
    }
}

/// The kernel gives a queue back some time after its last socket has been closed (`xdp_umem_release`
/// is work for later), and until then the queue is busy.
fn bind(socket: &OwnedFd, address: &libc::sockaddr_xdp) -> io::Result<()> {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match sys::bind(socket, address) {
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < patience =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

/// A program that receives on a0, and sends on b0 if it sends.
struct Program<L> {
    look: PhantomData<L>,
    _attached: Option<Attached>,
    receiver: Socket,
    sender: Option<Socket>,
    modify: bool,
    frames: Shared,
    _ends: Option<HostBehindB>,
}

impl<L: Look> Peer for Program<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        if let Some(sender) = &mut self.sender {
            let free = sender.completed();
            self.receiver.offer(free.into_iter());
        }
        let n = self.receiver.receive.filled().min(BATCH as u32);
        for _ in 0..n {
            let [address, rest] = self.receiver.receive.words(self.receiver.receive.at);
            self.receiver.receive.at = self.receiver.receive.at.wrapping_add(1);
            let (place, length) = (address as usize, rest as u32 as usize);
            L::at(self.frames.bytes(place, length));
            if self.modify {
                if let Some(byte) = self.frames.bytes_mut(place, length).last_mut() {
                    *byte ^= 1;
                }
            }
            match &mut self.sender {
                Some(sender) => sender.send.put(&[address, rest & 0xffff_ffff]),
                None => self.receiver.fill.put(&[address - address % FRAME]),
            }
        }
        if n > 0 {
            self.receiver.receive.release();
            self.receiver.fill.submit();
            if let Some(sender) = &mut self.sender {
                sender.kick()?;
            }
        }
        Ok(n as usize)
    }
}

fn program<L: Look>(
    place: Place,
    sends: bool,
    ends: Option<HostBehindB>,
    spec: &Spec,
) -> Result<Box<dyn Peer>> {
    let frames = Shared::memory((FRAMES * FRAME) as usize)?;
    let mut receiver = Socket::open(A, &frames, None)?;
    receiver.offer((0..FRAMES).map(|nth| nth * FRAME));
    let sender = sends
        .then(|| Socket::open(B, &frames, Some(&receiver)))
        .transpose()?;
    let attached = bpf::to_socket(world::index(A)?, &receiver.fd, place)?;
    Ok(Box::new(Program::<L> {
        look: PhantomData,
        _attached: Some(attached),
        receiver,
        sender,
        modify: spec.modify,
        frames,
        _ends: ends,
    }))
}

pub(crate) fn forward_generic<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    program::<L>(Place::Generic, true, None, spec)
}

pub(crate) fn forward_native<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    program::<L>(Place::Native, true, None, spec)
}

pub(crate) fn capture_generic<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    program::<L>(Place::Generic, false, None, spec)
}

pub(crate) fn capture_native<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    program::<L>(Place::Native, false, None, spec)
}

/// Into the host: out of b0, and in again at s0.
pub(crate) fn input<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    program::<L>(Place::Generic, true, Some(HostBehindB::make()?), spec)
}

/// Sends packets of its own, which stay in their frames.
struct Own {
    socket: Socket,
    free: Vec<u64>,
    size: u64,
    batch: usize,
    _frames: Shared,
}

impl Peer for Own {
    fn turn(&mut self, _: usize) -> Result<usize> {
        let done = self.socket.completed();
        self.free.extend(done);
        for nth in 0..self.batch {
            let Some(frame) = self.free.pop() else {
                if nth == 0 {
                    bail!("no frame is free");
                }
                self.socket.kick()?;
                return Ok(nth);
            };
            self.socket.send.put(&[frame, self.size]);
        }
        self.socket.kick()?;
        Ok(self.batch)
    }
}

pub(crate) fn own(spec: &Spec) -> Result<Box<dyn Peer>> {
    let mut frames = Shared::memory((FRAMES * FRAME) as usize)?;
    let packet = world::own_frame(spec.size);
    for frame in 0..FRAMES {
        let place = (frame * FRAME) as usize;
        frames
            .bytes_mut(place, packet.len())
            .copy_from_slice(&packet);
    }
    Ok(Box::new(Own {
        socket: Socket::open(B, &frames, None)?,
        free: (0..FRAMES).map(|nth| nth * FRAME).collect(),
        size: spec.size as u64,
        batch: spec.batch(),
        _frames: frames,
    }))
}
