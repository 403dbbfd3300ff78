// SPDX-License-Identifier: GPL-2.0-only

//! The alloc and dealloc rings: the floor that `mbuf_map` asks for, `mbuf_pull(n)`, `mbuf_push(-1)`.

use super::session::{Mapped, Session};
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::ioctl::Map;
use nettap_uapi::ring::{wants_doorbell, Entry};
use nix::errno::Errno;
use std::collections::BTreeSet;

const FLOOR: u32 = 32;
const CELLS: u32 = 128;

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    let mut session = Session::open()?;
    let before = session.region_stats()?;
    session.map(Map {
        prealloc: FLOOR,
        ring_cells: CELLS,
        ..Default::default()
    })??;
    floor(&mut checks, &session)?;
    pull(&mut checks, &session)?;
    push(&mut checks, &session)?;
    refill(&mut checks, &session)?;
    drop(session);
    let control = Session::open()?;
    checks.becomes(
        "after close the region is as before",
        before.sessions,
        || Ok(control.region_stats()?.sessions),
    )?;
    checks.verdict()
}

fn take(mapped: &Mapped, count: u32) -> Result<Vec<Entry>> {
    (0..count)
        .map(|_| mapped.alloc.take()?.context("the alloc ring is empty"))
        .collect()
}

fn give_back(session: &Session, entries: &[Entry]) -> Outcome {
    for &entry in entries {
        session.mapped()?.dealloc.put(entry)?;
    }
    Ok(session.push(-1, 0, 0)?)
}

fn floor(checks: &mut Checks, session: &Session) -> Outcome {
    let alloc = &session.mapped()?.alloc;
    checks.that(
        "map fills the alloc ring to its floor",
        alloc.waiting()? >= FLOOR,
        alloc.waiting()?,
    );
    checks.equal(
        "the session's account shows the floor",
        session.stats()?.prealloc,
        FLOOR,
    );
    let region = session.region_stats()?;
    let sum = region.free + region.allocated + region.detoured + region.kernel;
    checks.equal("every mbuf of the region is somewhere", sum, region.mbufs);
    Ok(())
}

fn pull(checks: &mut Checks, session: &Session) -> Outcome {
    let alloc = &session.mapped()?.alloc;
    let before = alloc.waiting()?;
    checks.equal("pull(20)", session.pull(20, 1_000_000), Ok(()));
    checks.that(
        "brings 20 more",
        alloc.waiting()? >= before + 20,
        alloc.waiting()?,
    );
    checks.equal(
        "pull of more than the ring can hold",
        session.pull(CELLS + 1, 1000),
        Err(Errno::EINVAL),
    );
    checks.equal(
        "pull of 2^32 - 1",
        session.pull(u32::MAX, 1000),
        Err(Errno::EINVAL),
    );
    let taken = take(session.mapped()?, 40)?;
    let different: BTreeSet<u32> = taken.iter().map(|entry| entry.index).collect();
    checks.equal("no mbuf comes twice", different.len(), taken.len());
    let mbufs = session.mapped()?.told.mbufs;
    checks.that(
        "every index is inside the region",
        different.last().is_some_and(|&last| last < mbufs),
        mbufs,
    );
    give_back(session, &taken)
}

fn push(checks: &mut Checks, session: &Session) -> Outcome {
    let mapped = session.mapped()?;
    let before = session.stats()?;
    let taken = take(mapped, 10)?;
    for &entry in &taken {
        mapped.dealloc.put(entry)?;
    }
    checks.equal("push(-1)", session.push(-1, 0, 0), Ok(()));
    checks.equal(
        "leaves the dealloc ring empty",
        mapped.dealloc.backlog()?,
        0,
    );
    checks.equal(
        "10 mbufs were given back",
        session.stats()?.deallocated,
        before.deallocated + 10,
    );
    checks.equal(
        "and none was refused",
        session.stats()?.refused,
        before.refused,
    );
    let mut again = taken;
    again.truncate(3);
    give_back(session, &again)?;
    let refused = session.stats()?.refused;
    let late = refused.holder + refused.generation;
    checks.equal(
        "given back twice: refused",
        late,
        before.refused.holder + before.refused.generation + 3,
    );
    Ok(())
}

/// A program that takes without a call finds the floor again: by the server, or after the one
/// doorbell that a sleeping server asks for.
fn refill(checks: &mut Checks, session: &Session) -> Outcome {
    let mapped = session.mapped()?;
    for round in 0..20 {
        let taken = take(mapped, FLOOR.min(mapped.alloc.waiting()?))?;
        if wants_doorbell(&mapped.alloc.ro().need_wakeup) {
            session.push(-1, 0, 0)?;
        }
        let mut reached = 0;
        checks.becomes(
            format!("round {round}: the floor is there again"),
            true,
            || {
                reached = mapped.alloc.waiting()?;
                Ok(reached >= FLOOR)
            },
        )?;
        give_back(session, &taken)?;
    }
    let stats = session.stats()?;
    checks.that(
        "what is allocated stays near the floor",
        stats.allocated <= CELLS,
        stats.allocated,
    );
    Ok(())
}
