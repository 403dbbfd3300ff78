// SPDX-License-Identifier: GPL-2.0-only

//! The one generator of all lines: equal frames from a packet socket on g0, or equal datagrams from a
//! UDP socket of the host, up to 64 with one system call.

use crate::lines::Road;
use crate::sys::{self, Burst};
use crate::world;
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

/// Most packets of one system call.
pub(crate) const BATCH: usize = 64;

/// What a socket may have under way: packets that wait in a program still count as its sender's.
const ROOM: i32 = 64 << 20;

/// A source of packets.
pub(crate) struct Generator {
    socket: OwnedFd,
    burst: Burst,
}

impl Generator {
    /// For a road; `None` when the program under test sends its own packets.
    pub(crate) fn new(road: Road, size: usize) -> Result<Option<Self>> {
        let bytes = match road {
            Road::Own => return Ok(None),
            Road::Dropped | Road::Across => world::raw_frame(size),
            Road::Stack => world::datagram([10, 1, 0, 1], false, size)?,
            Road::Around => world::datagram([10, 1, 0, 1], true, size)?,
            Road::Routed => world::datagram([10, 2, 0, 2], false, size)?,
            Road::Out => vec![0x55; size - world::HEADERS],
        };
        let socket = if road == Road::Out {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            let to = SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 2), world::PORT);
            socket.connect(&to.into())?;
            socket.into()
        } else {
            sys::packet_socket(world::index(world::GENERATOR)?, 0).context("a packet socket")?
        };
        sys::set_option(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            &ROOM,
        )?;
        Ok(Some(Self {
            socket,
            burst: Burst::new(&bytes, BATCH),
        }))
    }

    /// Sends `n` packets, with one system call.
    pub(crate) fn send(&mut self, n: usize) -> Result<()> {
        self.burst.send(self.socket.as_fd(), n).context("sending")
    }
}

/// A UDP socket of the host that is full: what comes is counted and freed.
pub(crate) struct FullSocket {
    _socket: Socket,
}

impl FullSocket {
    /// Binds it; a few packets fill it.
    pub(crate) fn bind() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(1)?;
        let at = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), world::PORT);
        socket.bind(&at.into())?;
        Ok(Self { _socket: socket })
    }
}
