// SPDX-License-Identifier: GPL-2.0-only

//! `AF_PACKET`: received by blocks of a shared ring (`TPACKET_V3`); sent by `sendmmsg`, or out of a shared ring (`TX_RING`).

use super::ring::Shared;
use super::{Look, Peer};
use crate::generate::BATCH;
use crate::lines::Spec;
use crate::sys::{self, Gather};
use crate::world::{self, A, B};
use anyhow::Result;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};

/// Small enough that a few dozen packets fill one: the kernel hands over whole blocks.
const BLOCK: usize = 8192;
const BLOCKS: usize = 256;
/// `struct tpacket_block_desc`: state, number of packets, offset of the first.
const STATE: usize = 8;
const COUNT: usize = 12;
const FIRST: usize = 16;
/// `struct tpacket3_hdr`: offset of the next, captured length, offset of the bytes.
const NEXT: usize = 0;
const CAPTURED: usize = 12;
const BYTES: usize = 24;
const EVERYTHING: u16 = libc::ETH_P_ALL as u16;

struct Receiver {
    _socket: OwnedFd,
    ring: Shared,
    block: usize,
}

impl Receiver {
    fn open(interface: &str) -> Result<Self> {
        let socket = sys::packet_socket(world::index(interface)?, 0)?;
        let fd = socket.as_fd();
        let version = libc::tpacket_versions::TPACKET_V3 as i32;
        sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: 2048,
            tp_frame_nr: (BLOCK / 2048 * BLOCKS) as u32,
            // Blocks are handed over because they are full; what a timer does is not measured.
            tp_retire_blk_tov: 50,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let ring = Shared::of(fd, 0, BLOCK * BLOCKS)?;
        sys::bind_packet(&socket, world::index(interface)?, EVERYTHING)?;
        Ok(Self {
            _socket: socket,
            ring,
            block: 0,
        })
    }

    /// The packets of the next block, if it is full. It goes back when `each` has seen them all and
    /// `done` is through.
    fn block(
        &mut self,
        mut each: impl FnMut(&[u8]),
        done: impl FnOnce() -> Result<()>,
    ) -> Result<usize> {
        let block = self.block * BLOCK;
        if self.ring.load(block + STATE) & libc::TP_STATUS_USER == 0 {
            return Ok(0);
        }
        let packets = self.ring.number(block + COUNT);
        let mut packet = block + self.ring.number(block + FIRST);
        for _ in 0..packets {
            let offset = self.ring.number(packet + BYTES) & 0xffff;
            let captured = self.ring.number(packet + CAPTURED);
            each(self.ring.bytes(packet + offset, captured));
            packet += self.ring.number(packet + NEXT);
        }
        done()?;
        self.ring.store(block + STATE, libc::TP_STATUS_KERNEL);
        self.block = (self.block + 1) % BLOCKS;
        Ok(packets)
    }
}

/// Sees every packet; the host goes on with it.
struct Capture<L>(Receiver, PhantomData<L>);

impl<L: Look> Peer for Capture<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        self.0.block(L::at, || Ok(()))
    }
}

pub(crate) fn capture<L: Look>(_: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Capture::<L>(Receiver::open(A)?, PhantomData)))
}

/// Sends what it sees out of the other interface.
struct Forward<L> {
    look: PhantomData<L>,
    receiver: Receiver,
    sender: OwnedFd,
    gather: Gather,
    _ends: Option<super::HostBehindB>,
}

impl<L: Look> Peer for Forward<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        let (gather, sender) = (std::cell::RefCell::new(&mut self.gather), &self.sender);
        self.receiver.block(
            |bytes| {
                L::at(bytes);
                gather.borrow_mut().add(bytes);
            },
            || Ok(gather.borrow_mut().send(sender.as_fd())?),
        )
    }
}

pub(crate) fn forward<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    forwarding::<L>(None, spec)
}

/// Into the host: out of b0, and in again at s0.
pub(crate) fn input<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    forwarding::<L>(Some(super::HostBehindB::make()?), spec)
}

fn forwarding<L: Look>(ends: Option<super::HostBehindB>, _: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Forward::<L> {
        look: PhantomData,
        receiver: Receiver::open(A)?,
        sender: sys::packet_socket(world::index(B)?, 0)?,
        gather: Gather::new(BLOCK / 64),
        _ends: ends,
    }))
}

/// Sends equal frames.
struct Own {
    sender: OwnedFd,
    burst: sys::Burst,
    batch: usize,
}

impl Peer for Own {
    fn turn(&mut self, _: usize) -> Result<usize> {
        self.burst.send(self.sender.as_fd(), self.batch)?;
        Ok(self.batch)
    }
}

pub(crate) fn own(spec: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Own {
        sender: sys::packet_socket(world::index(B)?, 0)?,
        burst: sys::Burst::new(&world::own_frame(spec.size), BATCH),
        batch: spec.batch(),
    }))
}

/// `struct tpacket2_hdr` at the head of each frame of `TX_RING`: state, then the packet's length; the bytes stand behind it.
const LENGTH: usize = 4;
const HEADER: usize = size_of::<libc::tpacket2_hdr>();
const FRAME: usize = 2048;
/// The ring is memory in pieces of so many bytes.
const PIECE: usize = 16 * FRAME;
const FRAMES: usize = 4 * BATCH;

/// Sends the frames of a ring, over and over; the kernel lets packets refer to their bytes.
struct OwnRing {
    sender: OwnedFd,
    ring: Shared,
    next: usize,
    size: u32,
    batch: usize,
}

impl Peer for OwnRing {
    fn turn(&mut self, _: usize) -> Result<usize> {
        let mut n = 0;
        while n < self.batch {
            let frame = self.next * FRAME;
            // What is not sent yet has not come round to us.
            if self.ring.load(frame) != libc::TP_STATUS_AVAILABLE {
                break;
            }
            self.ring.store(frame + LENGTH, self.size);
            self.ring.store(frame, libc::TP_STATUS_SEND_REQUEST);
            self.next = (self.next + 1) % FRAMES;
            n += 1;
        }
        sys::send_nothing(self.sender.as_fd())?;
        Ok(n)
    }
}

pub(crate) fn own_ring(spec: &Spec) -> Result<Box<dyn Peer>> {
    let sender = sys::packet_socket(world::index(B)?, 0)?;
    let fd = sender.as_fd();
    let version = libc::tpacket_versions::TPACKET_V2 as i32;
    sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
    let request = libc::tpacket_req {
        tp_block_size: PIECE as u32,
        tp_block_nr: (FRAMES * FRAME / PIECE) as u32,
        tp_frame_size: FRAME as u32,
        tp_frame_nr: FRAMES as u32,
    };
    sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_TX_RING, &request)?;
    let mut ring = Shared::of(fd, 0, FRAMES * FRAME)?;
    let packet = world::own_frame(spec.size);
    for frame in 0..FRAMES {
        ring.bytes_mut(frame * FRAME + HEADER, packet.len())
            .copy_from_slice(&packet);
    }
    Ok(Box::new(OwnRing {
        sender,
        ring,
        next: 0,
        size: spec.size as u32,
        batch: spec.batch(),
    }))
}
