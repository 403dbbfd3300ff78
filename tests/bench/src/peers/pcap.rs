// SPDX-License-Identifier: GPL-2.0-only

//! libpcap in its immediate mode: otherwise it hands over blocks so large that nobody waits for them
//! with a few hundred packets in flight. It costs about the same.

use super::{Look, Peer};
use crate::generate::BATCH;
use crate::lines::Spec;
use crate::world::A;
use anyhow::Result;
use pcap::{Active, Capture, Error};
use std::marker::PhantomData;

struct Sniffer<L>(Capture<Active>, PhantomData<L>);

impl<L: Look> Peer for Sniffer<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        for nth in 0..BATCH {
            match self.0.next_packet() {
                Ok(packet) => L::at(packet.data),
                Err(Error::NoMorePackets | Error::TimeoutExpired) => return Ok(nth),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(BATCH)
    }
}

pub(crate) fn capture<L: Look>(_: &Spec) -> Result<Box<dyn Peer>> {
    let capture = Capture::from_device(A)?
        .immediate_mode(true)
        .promisc(false)
        .snaplen(65535)
        .buffer_size(16 << 20)
        .open()?
        .setnonblock()?;
    Ok(Box::new(Sniffer::<L>(capture, PhantomData)))
}
