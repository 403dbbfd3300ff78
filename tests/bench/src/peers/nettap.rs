// SPDX-License-Identifier: GPL-2.0-only

//! NetTap, through its library as programs use it.

use super::{read_header, Peer};
use crate::generate::{FullSocket, BATCH};
use crate::lines::{self, Spec};
use crate::world::{self, ip, A, B};
use anyhow::{bail, Result};
use nettap::{Burst, Error, Mode, OnFull, Session, Tap, Wait, Waiter};
use std::time::Duration;

/// What the program does with what it takes from the first tap.
enum Deed {
    /// Revert it through the tap that it came by.
    Return,
    /// Revert it through the second tap.
    Cross,
    /// Keep it, and have it dropped.
    Consume,
    /// Send packets of one's own through the first tap.
    Send(Vec<u8>),
}

struct Program {
    deed: Deed,
    modify: bool,
    burst: Burst,
    taps: Vec<Tap>,
    session: Session,
    waiter: Waiter,
    idle: Vec<Tap>,
    _socket: Option<FullSocket>,
}

pub(crate) fn input(spec: &Spec) -> Result<Box<dyn Peer>> {
    let socket = FullSocket::bind()?;
    program(spec, &[(A, Mode::Input)], Deed::Return, Some(socket))
}

pub(crate) fn output(spec: &Spec) -> Result<Box<dyn Peer>> {
    program(spec, &[(B, Mode::Output)], Deed::Return, None)
}

pub(crate) fn bypass(spec: &Spec) -> Result<Box<dyn Peer>> {
    let taps = [(A, Mode::Bypass), (B, Mode::Bypass)];
    program(spec, &taps, Deed::Cross, None)
}

pub(crate) fn consume(spec: &Spec) -> Result<Box<dyn Peer>> {
    program(spec, &[(A, Mode::Input)], Deed::Consume, None)
}

pub(crate) fn own(spec: &Spec) -> Result<Box<dyn Peer>> {
    let frame = world::own_frame(spec.size);
    program(spec, &[(B, Mode::Output)], Deed::Send(frame), None)
}

fn program(
    spec: &Spec,
    places: &[(&str, Mode)],
    deed: Deed,
    socket: Option<FullSocket>,
) -> Result<Box<dyn Peer>> {
    let own = matches!(deed, Deed::Send(_));
    let session = Session::builder()
        .prealloc(if own { 2 * BATCH as u32 } else { 0 })
        .open()?;
    let open = |&(name, mode): &(&str, Mode)| {
        let tap = session.tap(name).mode(mode).on_full(OnFull::Drop);
        let tap = tap.snaplen(spec.snaplen).ring_cells(spec.cells);
        let tap = tap.timestamps(spec.stamped);
        tap.open()
    };
    let taps = places.iter().map(open).collect::<Result<_, _>>()?;
    let wait = match spec.wait {
        lines::Wait::Poll => Wait::Poll,
        lines::Wait::Sleep => Wait::Sleep,
        lines::Wait::Adaptive => Wait::Adaptive { spin: 2000 },
    };
    Ok(Box::new(Program {
        deed,
        modify: spec.modify,
        burst: session.burst(BATCH),
        taps,
        idle: idle_taps(&session, spec.idle)?,
        waiter: wait.waiter(),
        session,
        _socket: socket,
    }))
}

/// Taps on interfaces on which nothing happens.
fn idle_taps(session: &Session, n: usize) -> Result<Vec<Tap>> {
    let one = |nth| {
        ip(&format!("link add i{nth} type dummy\nlink set i{nth} up"))?;
        Ok(session.tap(&format!("i{nth}")).input().open()?)
    };
    (0..n).map(one).collect()
}

impl Drop for Program {
    fn drop(&mut self) {
        for tap in self.idle.drain(..) {
            if let Err(error) = ip(&format!("link del {}", tap.name())) {
                eprintln!("ntbench: {error:#}");
            }
        }
    }
}

impl Program {
    fn take(&mut self) -> Result<usize> {
        let [first, ..] = self.taps.as_slice() else {
            bail!("no tap");
        };
        let n = first.recv_burst(&mut self.burst)?;
        for mut packet in self.burst.packets() {
            read_header(packet.bytes());
            if self.modify {
                if let Some(byte) = packet.bytes_mut().last_mut() {
                    *byte ^= 1;
                }
            }
        }
        Ok(n)
    }
}

impl Peer for Program {
    fn turn(&mut self, _: usize) -> Result<usize> {
        let mut n = match self.deed {
            Deed::Send(_) => 0,
            _ => self.take()?,
        };
        match (&self.deed, self.taps.as_slice()) {
            (Deed::Return, [tap, ..]) | (Deed::Cross, [_, tap]) => {
                tap.revert_burst_all(&mut self.burst)?;
            }
            (Deed::Send(frame), [tap, ..]) => {
                // What does not fit is for the next turn.
                n = tap.send_burst(&[frame.as_slice(); BATCH])?;
                // One call a batch: else nothing but the timer would look at the ring.
                tap.doorbell()?;
            }
            _ => self.burst.clear(),
        }
        Ok(n)
    }

    fn wait(&mut self) -> Result<()> {
        let taps: Vec<_> = self.taps.iter().collect();
        let second = Some(Duration::from_secs(1));
        match self.session.wait_with(&mut self.waiter, &taps, second) {
            Ok(_) | Err(Error::Interrupted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn calls(&self) -> Option<u64> {
        Some(self.session.system_calls())
    }

    fn finish(&mut self) -> Result<()> {
        for tap in &self.taps {
            match tap.flush(u32::MAX, Some(Duration::from_secs(5))) {
                Ok(()) | Err(Error::Ended) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for tap in &self.taps {
            let stats = tap.stats()?;
            let lost = stats.dropped_ring
                + stats.dropped_mbufs
                + stats.dropped_bytes
                + stats.dropped_other;
            let passed =
                stats.passed_ring + stats.passed_mbufs + stats.passed_bytes + stats.passed_other;
            if lost + passed + stats.undelivered > 0 {
                bail!("not every packet took the detour: {stats:?}");
            }
        }
        Ok(())
    }
}
