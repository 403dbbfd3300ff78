// SPDX-License-Identifier: GPL-2.0-only

//! The one generator of all lines: equal frames from a packet socket on g0 (of several wires each has one, which
//! have their turns), or equal datagrams from a UDP socket of the host, up to 64 with one system call.

use crate::lines::{Road, Spec};
use crate::sys::{self, Burst};
use crate::world;
use anyhow::{bail, Context, Result};
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
    /// Those of the other wires.
    others: Vec<OwnedFd>,
    burst: Burst,
}

impl Generator {
    /// For a road; `None` when the program under test sends its own packets.
    pub(crate) fn new(road: Road, spec: &Spec) -> Result<Option<Self>> {
        let size = spec.size;
        let bytes = match road {
            Road::Own => return Ok(None),
            Road::Dropped | Road::Across => world::raw_frame(size),
            Road::Stack => world::datagram([10, 1, 0, 1], false, size)?,
            Road::Around => world::datagram([10, 1, 0, 1], true, size)?,
            Road::Routed => world::datagram([10, 2, 0, 2], false, size)?,
            Road::Out => vec![0x55; size - world::HEADERS],
        };
        let packet_socket = |name: &str| -> Result<_> {
            let socket = sys::packet_socket(world::index(name)?, 0).context("a packet socket")?;
            with_room(&socket)?;
            Ok(socket)
        };
        let mut others = Vec::new();
        let socket = if road == Road::Out {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            let to = SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 2), world::PORT);
            socket.connect(&to.into())?;
            let socket = socket.into();
            with_room(&socket)?;
            socket
        } else {
            let mut sockets = world::generators(spec.wires)
                .map(|name| packet_socket(&name))
                .collect::<Result<Vec<_>>>()?;
            let Some(first) = sockets.pop() else {
                bail!("no wire");
            };
            others = sockets;
            first
        };
        Ok(Some(Self {
            socket,
            others,
            burst: Burst::new(&bytes, BATCH),
        }))
    }

    /// Sends `n` packets, with one system call.
    pub(crate) fn send(&mut self, n: usize) -> Result<()> {
        let sent = self.burst.send(self.socket.as_fd(), n).context("sending");
        // The next call is another wire's.
        if let Some(next) = self.others.first_mut() {
            std::mem::swap(&mut self.socket, next);
            self.others.rotate_left(1);
        }
        sent
    }
}

fn with_room(socket: &OwnedFd) -> Result<()> {
    let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE);
    Ok(sys::set_option(socket.as_fd(), level, name, &ROOM)?)
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
