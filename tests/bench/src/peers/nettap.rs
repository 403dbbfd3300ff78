// SPDX-License-Identifier: GPL-2.0-only

//! NetTap, through its library as programs use it.

use super::{Look, Peer, Plain};
use crate::generate::BATCH;
use crate::lines::{self, Crowd, Spec};
use crate::world::{self, ip, A, B};
use anyhow::{bail, Context, Result};
use nettap::{Burst, Error, Fanout, Mode, OnFull, Session, Tap, Wait, Waiter};
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

/// What the program does with what it takes from the first tap.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    /// Revert it through the tap that it came by.
    Return,
    /// Revert it through the second tap.
    Cross,
    /// Keep it, and have it dropped.
    Consume,
    /// Send packets of one's own through the first tap.
    Send,
}

struct Program<L> {
    look: PhantomData<L>,
    deed: Deed,
    /// What it sends, and how many of it at once.
    frame: Vec<u8>,
    batch: usize,
    modify: bool,
    burst: Burst,
    taps: Vec<Tap>,
    session: Session,
    waiter: Waiter,
    idle: Vec<Tap>,
    /// Sessions of others, which nothing comes for.
    others: Vec<(Session, Vec<Tap>)>,
}

/// Several programs, which look for their packets one after the other.
struct Programs<L>(Vec<Program<L>>);

pub(crate) fn input<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    if let Some(crowd) = spec.crowd {
        return crowded::<L>(spec, crowd);
    }
    if spec.wires > 1 {
        return wired::<L>(spec);
    }
    let taps = [(A, Mode::Input)];
    Ok(Box::new(program::<L>(spec, &taps, Deed::Return)?))
}

/// Each program has a session of its own, and its share of one tap.
fn crowded<L: Look>(spec: &Spec, crowd: Crowd) -> Result<Box<dyn Peer>> {
    let one = |_| program::<L>(spec, &[(A, Mode::Input)], Deed::Return);
    let programs = (0..crowd.programs).map(one).collect::<Result<_>>()?;
    Ok(Box::new(Programs(programs)))
}

/// One session has a tap on each wire.
fn wired<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    let session = session(Deed::Return, 0)?;
    let one = |name: String| {
        let taps = [(name.as_str(), Mode::Input)];
        with_session::<L>(session.clone(), spec, &taps, Deed::Return)
    };
    let programs = world::tapped(spec.wires).map(one).collect::<Result<_>>()?;
    Ok(Box::new(Programs(programs)))
}

pub(crate) fn output<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    let taps = [(B, Mode::Output)];
    Ok(Box::new(program::<L>(spec, &taps, Deed::Return)?))
}

pub(crate) fn bypass<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    let taps = [(A, Mode::Bypass), (B, Mode::Bypass)];
    Ok(Box::new(program::<L>(spec, &taps, Deed::Cross)?))
}

pub(crate) fn consume<L: Look>(spec: &Spec) -> Result<Box<dyn Peer>> {
    let taps = [(A, Mode::Input)];
    Ok(Box::new(program::<L>(spec, &taps, Deed::Consume)?))
}

pub(crate) fn own(spec: &Spec) -> Result<Box<dyn Peer>> {
    let taps = [(B, Mode::Output)];
    Ok(Box::new(program::<Plain>(spec, &taps, Deed::Send)?))
}

/// For frames of this size: one that is longer than an mbuf of the default region is in a region of longer ones.
fn session(deed: Deed, size: usize) -> Result<Session> {
    let prealloc = if deed == Deed::Send {
        2 * BATCH as u32
    } else {
        0
    };
    let session = Session::builder().prealloc(prealloc);
    let session = if size > 1514 {
        session.group("jumbo").mbuf_size(16384).mbufs(1024)
    } else {
        session
    };
    Ok(session.open()?)
}

fn program<L: Look>(spec: &Spec, places: &[(&str, Mode)], deed: Deed) -> Result<Program<L>> {
    with_session(session(deed, spec.size)?, spec, places, deed)
}

fn with_session<L: Look>(
    session: Session,
    spec: &Spec,
    places: &[(&str, Mode)],
    deed: Deed,
) -> Result<Program<L>> {
    let fanout = spec.crowd.map_or(Fanout::None, |crowd| crowd.fanout);
    let open = |&(name, mode): &(&str, Mode)| {
        let tap = session.tap(name).mode(mode).on_full(OnFull::Drop);
        let tap = tap.snaplen(spec.snaplen).ring_cells(spec.cells);
        let tap = tap.timestamps(spec.stamped);
        tap.fanout(fanout).open()
    };
    let taps = places.iter().map(open).collect::<Result<_, _>>()?;
    let wait = match spec.wait {
        lines::Wait::Poll => Wait::Poll,
        lines::Wait::Sleep | lines::Wait::Batch => Wait::Sleep,
        lines::Wait::Adaptive => Wait::Adaptive { spin: 2000 },
    };
    Ok(Program {
        look: PhantomData,
        deed,
        frame: world::own_frame(spec.size),
        batch: spec.batch(),
        modify: spec.modify,
        burst: session.burst(BATCH),
        taps,
        idle: idle_taps(&session, 0..spec.idle)?,
        others: (0..spec.sessions)
            .map(idle_session)
            .collect::<Result<_>>()?,
        waiter: wait.waiter(),
        session,
    })
}

/// Taps on interfaces on which nothing happens.
fn idle_taps(session: &Session, numbers: Range<usize>) -> Result<Vec<Tap>> {
    let one = |nth| {
        ip(&format!("link add i{nth} type dummy\nlink set i{nth} up"))?;
        Ok(session.tap(&format!("i{nth}")).input().open()?)
    };
    numbers.map(one).collect()
}

/// A session with such a tap.
fn idle_session(nth: usize) -> Result<(Session, Vec<Tap>)> {
    let session = Session::builder().open()?;
    let taps = idle_taps(&session, nth..nth + 1)?;
    Ok((session, taps))
}

impl<L> Drop for Program<L> {
    fn drop(&mut self) {
        let others = self.others.drain(..).flat_map(|(_, taps)| taps);
        for tap in self.idle.drain(..).chain(others) {
            if let Err(error) = ip(&format!("link del {}", tap.name())) {
                eprintln!("ntbench: {error:#}");
            }
        }
    }
}

impl<L: Look> Program<L> {
    #[inline(never)]
    fn send(&mut self) -> Result<usize> {
        let tap = self.taps.first().context("no tap")?;
        // What does not fit is for the next turn.
        let frames = [self.frame.as_slice(); BATCH];
        let sent = tap.send_burst(frames.get(..self.batch).unwrap_or(&frames))?;
        // One call a batch: else nothing but the timer would look at the ring.
        tap.doorbell()?;
        Ok(sent)
    }

    fn take(&mut self) -> Result<usize> {
        let [first, ..] = self.taps.as_slice() else {
            bail!("no tap");
        };
        let n = first.recv_burst(&mut self.burst)?;
        for mut packet in self.burst.packets() {
            L::at(packet.bytes());
            if self.modify {
                if let Some(byte) = packet.bytes_mut().last_mut() {
                    *byte ^= 1;
                }
            }
        }
        Ok(n)
    }
}

impl<L: Look> Peer for Program<L> {
    fn turn(&mut self, _: usize) -> Result<usize> {
        if self.deed == Deed::Send {
            return self.send();
        }
        let n = self.take()?;
        if self.deed == Deed::Consume {
            self.burst.clear();
            return Ok(n);
        }
        let to = usize::from(self.deed == Deed::Cross);
        let tap = self.taps.get(to).context("no tap")?;
        tap.revert_burst_all(&mut self.burst)?;
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

impl<L: Look> Peer for Programs<L> {
    fn turn(&mut self, outstanding: usize) -> Result<usize> {
        let mut seen = 0;
        for program in &mut self.0 {
            seen += program.turn(outstanding)?;
        }
        Ok(seen)
    }

    fn calls(&self) -> Option<u64> {
        self.0.iter().map(Peer::calls).sum()
    }

    fn finish(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Peer::finish)
    }
}
