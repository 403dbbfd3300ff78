// SPDX-License-Identifier: GPL-2.0-only

//! The one generator of all lines: equal frames from a packet socket on g0 (of several wires each has one, which
//! have their turns), or equal datagrams from a UDP socket of the host, up to 64 with one system call.

use crate::lines::{Road, Spec};
use crate::sys::{self, Burst};
use crate::world;
use anyhow::{bail, Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most packets of one system call.
pub(crate) const BATCH: usize = 64;

/// A source of packets.
pub(crate) struct Generator {
    socket: OwnedFd,
    /// Those of the other wires.
    others: Vec<OwnedFd>,
    burst: Burst,
    /// Where the time goes that a packet was sent.
    time: usize,
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
            sys::with_room_for_packets(socket.as_fd())?;
            Ok(socket)
        };
        let mut others = Vec::new();
        let socket = if road == Road::Out {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            let to = SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 2), world::PORT);
            socket.connect(&to.into())?;
            sys::with_room_for_packets(socket.as_fd())?;
            socket.into()
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
            time: match road {
                Road::Out | Road::Own => 0,
                Road::Dropped | Road::Across => 14,
                Road::Stack | Road::Around | Road::Routed => world::HEADERS,
            },
        }))
    }

    /// Sends one packet that carries a time.
    pub(crate) fn send_timed(&mut self, time: u64) -> Result<()> {
        self.burst.write(self.time, &time.to_ne_bytes());
        self.send(1)
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

/// A UDP socket of the host, for what arrives there.
pub(crate) struct HostSocket(Socket);

impl HostSocket {
    /// One that a few packets fill: what comes then is counted and freed.
    pub(crate) fn full() -> Result<Self> {
        let socket = Self::bind()?;
        socket.0.set_recv_buffer_size(1)?;
        Ok(socket)
    }

    /// One that somebody reads.
    pub(crate) fn roomy() -> Result<Self> {
        let socket = Self::bind()?;
        sys::with_room_for_packets(socket.as_fd())?;
        Ok(socket)
    }

    fn bind() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let at = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), world::PORT);
        socket.bind(&at.into())?;
        Ok(Self(socket))
    }
}

impl AsFd for HostSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
