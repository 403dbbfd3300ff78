// SPDX-License-Identifier: GPL-2.0-only

//! A program that lies on its rings: each lie is counted by cause and changes nothing else, neither
//! for this session nor for another.

use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::{patience, Checks};
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::ioctl;
use nettap_uapi::ring::{Entry, Word};
use nettap_uapi::stats::Refused;
use nettap_uapi::tap::{RING_MAX, TAP_INPUT, TAP_OUTPUT};
use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

/// An entry of a victim, and everything that must not happen to it.
struct Fixture {
    session: Session,
    victim: Session,
    tap: Tap,
    datagrams: Datagrams,
}

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let fixture = Fixture {
        session,
        victim: Session::ready()?,
        tap,
        datagrams: Datagrams::to(peer)?,
    };
    for ring in [Which::Revert, Which::Dealloc] {
        fixture.forged(&mut checks, ring)?;
    }
    fixture.given_twice(&mut checks)?;
    fixture.full_of_lies(&mut checks)?;
    fixture.scribbled_tag(&mut checks)?;
    fixture.scribbled_positions(&mut checks)?;
    fixture.scribbled_positions_of_supply(&mut checks)?;
    fixture.late(&mut checks, peer)?;
    fixture.flood_of_lies(&mut checks, peer)?;
    fixture.unharmed(&mut checks)?;
    println!("expect {}", fixture.datagrams.sent());
    checks.verdict()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    Revert,
    Dealloc,
}

impl Fixture {
    fn put(&self, ring: Which, entry: Entry) -> Outcome {
        match ring {
            Which::Revert => self.tap.revert.put(entry),
            Which::Dealloc => self.session.mapped()?.dealloc.put(entry),
        }
    }

    fn serve(&self) -> Outcome {
        self.session.push(self.tap.number(), 1, 1_000_000)?;
        Ok(self.session.push(-1, 0, 1_000_000)?)
    }

    fn refused(&self, ring: Which) -> Result<Refused> {
        Ok(match ring {
            Which::Revert => self.tap.stats(&self.session)?.refused,
            Which::Dealloc => self.session.stats()?.refused,
        })
    }

    /// Mbufs that the kernel has taken: new packets and those given back.
    fn taken(&self) -> Result<(u64, u64)> {
        let tap = self.tap.stats(&self.session)?;
        Ok((
            tap.injected + tap.injected_refused,
            self.session.stats()?.deallocated,
        ))
    }

    /// A datagram goes through the tap.
    fn one_passes(&self, checks: &mut Checks, after: &str) -> Outcome {
        let before = self.tap.stats(&self.session)?.reverted;
        self.datagrams.send(1)?;
        self.tap.revert.put(self.tap.receive()?)?;
        self.serve()?;
        checks.equal(
            format!("after {after} packets go on"),
            self.tap.stats(&self.session)?.reverted,
            before + 1,
        );
        Ok(())
    }

    fn forged(&self, checks: &mut Checks, ring: Which) -> Outcome {
        let mbufs = self.session.mapped()?.told.mbufs;
        let mine = self.session.mapped()?.alloc.take()?.unwrap_or_default();
        let foreign = self.victim.mapped()?.alloc.take()?.unwrap_or_default();
        let entry = |index| Entry { index, ..mine };
        let before = self.refused(ring)?;
        let taken = self.taken()?;

        for index in [mbufs, mbufs + 1, u32::MAX, 1 << 31] {
            self.put(ring, entry(index))?;
        }
        self.serve()?;
        checks.equal(
            format!("{ring:?}: indices outside the region"),
            self.refused(ring)?.index,
            before.index + 4,
        );

        self.put(ring, foreign)?;
        self.serve()?;
        checks.equal(
            format!("{ring:?}: another session's mbuf"),
            self.refused(ring)?.holder,
            before.holder + 1,
        );

        let stale = Entry {
            generation: mine.generation.wrapping_sub(1),
            ..mine
        };
        self.put(ring, stale)?;
        self.serve()?;
        checks.equal(
            format!("{ring:?}: a stale name"),
            self.refused(ring)?.generation,
            before.generation + 1,
        );

        for flags in [0x20, 0x3f] {
            self.put(ring, Entry { flags, ..mine })?;
        }
        self.serve()?;
        checks.equal(
            format!("{ring:?}: unknown flags"),
            self.refused(ring)?.flags,
            before.flags + 2,
        );

        checks.equal(
            format!("{ring:?}: and none was taken"),
            self.taken()?,
            taken,
        );
        self.victim.mapped()?.dealloc.put(foreign)?;
        self.victim.push(-1, 0, 1_000_000)?;
        checks.equal(
            "the victim gives its mbuf back as usual",
            self.victim.stats()?.refused,
            Refused::default(),
        );
        self.session.mapped()?.dealloc.put(mine)?;
        self.serve()?;
        self.one_passes(checks, "forged entries")
    }

    fn given_twice(&self, checks: &mut Checks) -> Outcome {
        let late = |refused: Refused| refused.holder + refused.generation;
        let before = self.tap.stats(&self.session)?;
        self.datagrams.send(1)?;
        let entry = self.tap.receive()?;
        for _ in 0..3 {
            self.tap.revert.put(entry)?;
        }
        self.session.push(self.tap.number(), 3, 1_000_000)?;
        let after = self.tap.stats(&self.session)?;
        checks.equal(
            "reverted three times: goes on once",
            after.reverted,
            before.reverted + 1,
        );
        checks.equal(
            "  the others are refused",
            late(after.refused),
            late(before.refused) + 2,
        );

        let deallocated = self.session.stats()?;
        self.session.mapped()?.dealloc.put(entry)?;
        self.serve()?;
        let now = self.session.stats()?;
        checks.equal(
            "reverted, then dropped: refused",
            late(now.refused),
            late(deallocated.refused) + 1,
        );
        checks.that(
            "  the balance closes",
            self.tap.stats(&self.session)?.balances(),
            "it does not",
        );
        self.one_passes(checks, "duplicates")
    }

    /// A whole ring of bogus entries costs one pass.
    fn full_of_lies(&self, checks: &mut Checks) -> Outcome {
        let size = self.tap.revert.cells()?.size();
        let before = self.refused(Which::Revert)?.index;
        for number in 0..size {
            // The server may be draining on the other CPU, so this can fit more than one ring.
            self.tap.revert.put(Entry {
                index: u32::MAX - number,
                ..Default::default()
            })?;
        }
        self.session.push(self.tap.number(), size, 5_000_000)?;
        checks.equal(
            "a ring full of lies",
            self.refused(Which::Revert)?.index,
            before + u64::from(size),
        );
        self.one_passes(checks, "a ring full of lies")
    }

    /// A tag that nobody could have written stops this ring until it is mended, and only this ring.
    fn scribbled_tag(&self, checks: &mut Checks) -> Outcome {
        let cells = self.tap.revert.raw_cells();
        let position = self.tap.revert.rw().position.load();
        let place = position as usize & (cells.len() - 1);
        let before = self.refused(Which::Revert)?.scribbled;
        let kept = cells[place].tag.load();
        cells[place].tag.store_release(0xdead_be01);
        // A round that was asked for may be another processor's, and come a little later.
        self.session.push(self.tap.number(), 0, 0)?;
        checks.becomes("a scribbled tag is counted", before + 1, || {
            Ok(self.refused(Which::Revert)?.scribbled)
        })?;
        let rounds = self.session.stats()?.rounds;
        self.session.push(self.tap.number(), 0, 0)?;
        checks.becomes("  and looked at again", true, || {
            Ok(self.session.stats()?.rounds > rounds)
        })?;
        checks.equal(
            "  once, however often it is seen",
            self.refused(Which::Revert)?.scribbled,
            before + 1,
        );
        cells[place].tag.store_release(kept);
        self.one_passes(checks, "a mended tag")
    }

    /// The kernel knows its own positions, whatever the shared words say.
    fn scribbled_positions(&self, checks: &mut Checks) -> Outcome {
        let word = &self.tap.detour.rw().position;
        let kept = word.load();
        let before = self.tap.stats(&self.session)?;
        for value in [
            kept.wrapping_add(1 << 20),
            kept.wrapping_sub(1 << 20),
            u32::MAX,
            0x8000_0000,
        ] {
            word.store(value);
            // Enough for the kernel to look at the word: a whole ring and more.
            self.datagrams
                .send(u64::from(self.tap.detour.cells()?.size()) / 2 + 8)?;
        }
        self.session.push(self.tap.number(), 0, 0)?;
        let seen = self.tap.stats(&self.session)?;
        checks.that(
            "a detour position that cannot be is counted",
            seen.scribbled_detour > before.scribbled_detour,
            seen.scribbled_detour,
        );
        word.store(kept);
        while let Some(entry) = self.tap.detour.take()? {
            self.tap.revert.put(entry)?;
            self.session.push(self.tap.number(), 1, 1_000_000)?;
        }
        let after = self.tap.stats(&self.session)?;
        checks.that(
            "  the balance closes",
            after.balances(),
            format!("{after:?}"),
        );
        checks.equal("  nothing stays out", after.in_flight, 0);
        let (sent, went) = (
            self.datagrams.sent(),
            after.reverted + after.passed_ring + after.passed_mbufs,
        );
        checks.equal(
            "  every packet reverted or passed the full ring",
            went,
            sent,
        );

        let word = &self.tap.revert.rw().position;
        let kept = word.load();
        word.store(kept.wrapping_add(0x4000_0000));
        self.session.push(self.tap.number(), 1, 200_000).ok();
        word.store(kept);
        self.one_passes(checks, "a scribbled revert position")
    }

    fn scribbled_positions_of_supply(&self, checks: &mut Checks) -> Outcome {
        let mapped = self.session.mapped()?;
        let word = &mapped.alloc.rw().position;
        let kept = word.load();
        for value in [
            kept.wrapping_sub(1000),
            kept.wrapping_add(1 << 30),
            u32::MAX,
        ] {
            word.store(value);
            self.session.pull(1, 1000).ok();
            self.session.push(-1, 0, 1000).ok();
        }
        word.store(kept);
        let region = self.session.region_stats()?;
        let sum = region.free + region.allocated + region.detoured + region.kernel;
        checks.equal(
            "scribbled alloc position: every mbuf is still somewhere",
            sum,
            region.mbufs,
        );
        self.one_passes(checks, "a scribbled alloc position")
    }

    /// An mbuf of a tap that has ended.
    fn late(&self, checks: &mut Checks, peer: &Peer) -> Outcome {
        let other = self.session.tap(tap_request("lo", TAP_INPUT))?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(b"to myself", socket.local_addr()?)?;
        let entry = other.receive()?;
        drop(other);
        let late = |refused: Refused| refused.holder + refused.generation;
        let before = self.refused(Which::Revert)?;
        self.tap.revert.put(entry)?;
        self.session.push(self.tap.number(), 1, 1_000_000)?;
        let what = format!(
            "a packet of an ended tap on {}'s ring: refused",
            peer.ifname
        );
        checks.equal(what, late(self.refused(Which::Revert)?), late(before) + 1);
        socket.set_read_timeout(Some(patience()))?;
        let mut buffer = [0; 64];
        checks.that(
            "  it went on when its tap ended",
            socket.recv(&mut buffer).is_ok(),
            "it did not",
        );
        self.one_passes(checks, "a late entry")
    }

    /// The largest ring that there can be, full of lies, is gone through by no more than 64 cells a round; and when it
    /// never gets empty, packets of others pass all the same on the processor that the server has.
    fn flood_of_lies(&self, checks: &mut Checks, peer: &Peer) -> Outcome {
        let asked = ioctl::Tap {
            ring_cells: RING_MAX,
            ..tap_request(&peer.ifname, TAP_INPUT)
        };
        let tap = self.session.tap(asked)?;
        let lie = |number| {
            tap.revert.put(Entry {
                index: u32::MAX - number,
                ..Default::default()
            })
        };
        (0..RING_MAX).try_for_each(lie)?;
        let refused = || -> Result<u64> { Ok(tap.stats(&self.session)?.refused.index) };
        let before = (self.session.stats()?.rounds, refused()?);
        self.session.push(tap.number(), RING_MAX, 0)?;
        let rounds = self.session.stats()?.rounds - before.0;
        checks.equal("65536 lies", refused()?, RING_MAX.into());
        checks.that(
            "  64 a round at most",
            rounds >= (u64::from(RING_MAX) - before.1) / 64,
            rounds,
        );

        let everywhere = sched_getaffinity(Pid::from_raw(0))?;
        let mut here = CpuSet::new();
        here.set(0)?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(socket.local_addr()?)?;
        socket.set_read_timeout(Some(patience()))?;
        let (over, told) = (AtomicBool::new(false), AtomicU32::new(0));
        let passed = thread::scope(|scope| {
            scope.spawn(|| {
                let mut numbers = (0..RING_MAX).cycle();
                while !over.load(Relaxed) {
                    let full = numbers.next().is_none_or(|number| lie(number).is_err());
                    if full {
                        thread::yield_now();
                    } else {
                        told.fetch_add(1, Relaxed);
                    }
                }
            });
            // It may take its time to begin.
            let end = Instant::now() + patience();
            while told.load(Relaxed) < 1000 && Instant::now() < end {
                thread::yield_now();
            }
            // This thread alone, and with it the server that it rings for.
            let passed = sched_setaffinity(Pid::from_raw(0), &here)
                .map_err(Into::into)
                .and_then(|()| self.pass_meanwhile(&tap, &socket));
            over.store(true, Relaxed);
            passed
        });
        sched_setaffinity(Pid::from_raw(0), &everywhere)?;
        checks.that(
            "datagrams pass while the liar goes on",
            passed.is_ok(),
            format!("{passed:?}"),
        );
        self.session.push(tap.number(), RING_MAX, 0)?;
        checks.that(
            "  and its lies are refused",
            refused()? > RING_MAX.into(),
            refused()?,
        );
        drop(tap);
        self.one_passes(checks, "a flood of lies")
    }

    /// Datagrams through loopback, each with a round asked for.
    fn pass_meanwhile(&self, tap: &Tap, socket: &UdpSocket) -> Outcome {
        for _ in 0..200 {
            self.session.push(tap.number(), 0, 0)?;
            socket.send(b"to myself")?;
            socket.recv(&mut [0; 64]).context("a datagram to myself")?;
        }
        Ok(())
    }

    fn unharmed(&self, checks: &mut Checks) -> Outcome {
        checks.equal(
            "the other session was never refused anything",
            self.victim.stats()?.refused,
            Refused::default(),
        );
        let stats = self.tap.stats(&self.session)?;
        checks.that(
            "at the end the balance closes",
            stats.balances(),
            format!("{stats:?}"),
        );
        checks.equal("and nothing is out", stats.in_flight, 0);
        Ok(())
    }
}
