// SPDX-License-Identifier: GPL-2.0-only

//! NFQUEUE: packets come as messages of a netlink socket, and go on by a verdict. In batches with all
//! that makes it faster (many messages a call, one verdict for all, super-packets whole, fail-open),
//! and one by one, as simple programs do it.

use super::{Look, Peer};
use crate::generate::BATCH;
use crate::lines::Spec;
use crate::sys::{self, Inbox};
use crate::world::tool;
use anyhow::{bail, Context, Result};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};

const SUBSYSTEM: u16 = 3 << 8;
const VERDICT: u16 = SUBSYSTEM | 1;
const CONFIG: u16 = SUBSYSTEM | 2;
const VERDICT_BATCH: u16 = SUBSYSTEM | 3;

const CFG_COMMAND: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_MAXLEN: u16 = 3;
const CFG_MASK: u16 = 4;
const CFG_FLAGS: u16 = 5;
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const PAYLOAD: u16 = 10;

const COMMAND_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const FAIL_OPEN: u32 = 1;
const GSO: u32 = 4;
const ACCEPT: u32 = 1;

/// Of a message: length, type, flags, sequence, port; then family, version, queue.
const HEADER: usize = 16 + 4;
/// Room for a message: a packet, and what the kernel says of it.
const ROOM: usize = 4096;

/// A message with one attribute.
fn message(kind: u16, attribute: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let attribute_length = 4 + value.len();
    let length = HEADER + attribute_length.next_multiple_of(4);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
    bytes.extend((attribute_length as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    bytes
}

/// The attributes of a message.
fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = message.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

struct Queue<L> {
    look: PhantomData<L>,
    socket: OwnedFd,
    inbox: Inbox,
    batch: usize,
}

impl<L> Queue<L> {
    fn open(hook: &str, batch: usize, spec: &Spec) -> Result<Self> {
        let range = if spec.snaplen > 0 {
            spec.snaplen
        } else {
            0xffff
        };
        let socket = sys::netlink_socket(libc::NETLINK_NETFILTER)?;
        let room: i32 = 64 << 20;
        sys::set_option(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            &room,
        )?;
        let send = |attribute, value: &[u8]| {
            sys::send(socket.as_fd(), &message(CONFIG, attribute, value)).context("NFQUEUE")
        };
        send(CFG_COMMAND, &[COMMAND_BIND, 0, 0, 0])?;
        let [a, b, c, d] = range.to_be_bytes();
        send(CFG_PARAMS, &[a, b, c, d, COPY_PACKET])?;
        send(CFG_MAXLEN, &4096u32.to_be_bytes())?;
        if batch > 1 {
            let flags = (FAIL_OPEN | GSO).to_be_bytes();
            let mut both = message(CONFIG, CFG_FLAGS, &flags);
            // Flags and their mask are one request.
            both.extend(8u16.to_ne_bytes());
            both.extend(CFG_MASK.to_ne_bytes());
            both.extend(flags);
            let length = both.len() as u32;
            if let Some(field) = both.get_mut(..4) {
                field.copy_from_slice(&length.to_ne_bytes());
            }
            sys::send(socket.as_fd(), &both).context("NFQUEUE's flags")?;
        }
        // From here on the table goes with it.
        let queue = Self {
            look: PhantomData,
            socket,
            inbox: Inbox::new(BATCH, ROOM),
            batch,
        };
        tool("nft", "add table ip ntbench")?;
        let chain = format!("{{ type filter hook {hook} priority 0 ; }}");
        tool("nft", &format!("add chain ip ntbench way {chain}"))?;
        tool("nft", "add rule ip ntbench way udp dport 7000 queue num 0")?;
        Ok(queue)
    }

    /// Lets a packet go on, and in batches those before it.
    fn verdict(&self, id: u32) -> Result<()> {
        let kind = if self.batch > 1 {
            VERDICT_BATCH
        } else {
            VERDICT
        };
        let mut value = [0; 8];
        let (verdict, number) = value.split_at_mut(4);
        verdict.copy_from_slice(&ACCEPT.to_be_bytes());
        number.copy_from_slice(&id.to_be_bytes());
        let message = message(kind, VERDICT_HEADER, &value);
        sys::send(self.socket.as_fd(), &message).context("a verdict")
    }
}

impl<L: Look> Peer for Queue<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        let n = self.inbox.receive(self.socket.as_fd(), self.batch)?;
        let mut last = None;
        for message in self.inbox.messages(n) {
            for (kind, value) in attributes(message) {
                match kind {
                    PACKET_HEADER => last = value.first_chunk().map(|id| u32::from_be_bytes(*id)),
                    PAYLOAD => L::at(value),
                    _ => {}
                }
            }
        }
        match (n, last) {
            (0, _) => {}
            (_, Some(id)) => self.verdict(id)?,
            _ => bail!("a message that is no packet"),
        }
        Ok(n)
    }
}

impl<L> Drop for Queue<L> {
    fn drop(&mut self) {
        if let Err(error) = tool("nft", "delete table ip ntbench") {
            eprintln!("ntbench: {error:#}");
        }
    }
}

pub(crate) fn input<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Queue::<L>::open("input", BATCH, spec)?))
}

pub(crate) fn input_one<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Queue::<L>::open("input", 1, spec)?))
}

pub(crate) fn output<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Queue::<L>::open("output", BATCH, spec)?))
}

pub(crate) fn output_one<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Queue::<L>::open("output", 1, spec)?))
}
