// SPDX-License-Identifier: GPL-2.0-only

//! A pair of tap devices: tc leads packets into the one, the program reads and writes a packet at a
//! time, and what it writes comes out of the other.

use super::{Look, Peer};
use crate::generate::BATCH;
use crate::lines::Spec;
use crate::sys;
use crate::world::{ip, tool, A, B};
use anyhow::Result;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;

struct Taps<L> {
    look: PhantomData<L>,
    inner: File,
    outer: File,
    buffer: Vec<u8>,
}

impl<L> Taps<L> {
    /// What is written ends in the host, or on b0.
    fn open(in_host: bool) -> Result<Self> {
        tool("modprobe", "tun")?;
        let inner = sys::tap_device("t0")?;
        let outer = sys::tap_device("t1")?;
        // The host takes what comes out of t1 for its own as it would on a0.
        ip("link set t0 up
            link set t1 address 02:00:00:00:00:a0
            link set t1 up")?;
        tool("tc", "qdisc replace dev t0 root noqueue")?;
        lead(A, "t0")?;
        if !in_host {
            lead("t1", B)?;
        }
        Ok(Self {
            look: PhantomData,
            inner,
            outer,
            buffer: vec![0; 65536],
        })
    }
}

fn lead(from: &str, to: &str) -> Result<()> {
    tool("tc", &format!("qdisc add dev {from} clsact"))?;
    let action = format!("action mirred egress redirect dev {to}");
    tool(
        "tc",
        &format!("filter add dev {from} ingress matchall {action}"),
    )
}

impl<L: Look> Peer for Taps<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        for nth in 0..BATCH {
            let length = match self.inner.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(nth),
                Err(error) => return Err(error.into()),
            };
            let packet = self.buffer.get(..length).unwrap_or_default();
            L::at(packet);
            self.outer.write_all(packet)?;
        }
        Ok(BATCH)
    }
}

impl<L> Drop for Taps<L> {
    fn drop(&mut self) {
        if let Err(error) = tool("tc", &format!("qdisc del dev {A} clsact")) {
            eprintln!("ntbench: {error:#}");
        }
    }
}

pub(crate) fn forward<L: Look>(_: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Taps::<L>::open(false)?))
}

pub(crate) fn input<L: Look>(_: &Spec) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Taps::<L>::open(true)?))
}
