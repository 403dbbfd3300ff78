// SPDX-License-Identifier: GPL-2.0-only

//! What listeners are told: the life of sessions and taps, drops by cause, the end of a process.

use super::events::Listener;
use super::session::{tap_request, Datagrams, Session};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::Context;
use nettap_uapi::event::{
    Event, EventKind, CAUSE_BYTES, CAUSE_CLOSED, CAUSE_EXIT, CAUSE_NONE, CAUSE_RING, CAUSE_SHAPE,
    CAUSE_UNMAP, CAUSE_UNTAP,
};
use nettap_uapi::ioctl;
use nettap_uapi::mbuf::Header;
use nettap_uapi::ring::REVERT_CHANGED;
use nettap_uapi::tap::{ON_EXIT_DROP, ON_FULL_DROP, TAP_OUTPUT};
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{fork, read, ForkResult};

pub(super) fn run(checks: &mut Checks, peer: &Peer) -> Outcome {
    life(checks, peer)?;
    drops(checks, peer)?;
    exits(checks, peer)
}

/// Kind, cause and tap of each.
fn told(events: &[Event]) -> Vec<(Option<EventKind>, u32, u32)> {
    let one = |e: &Event| (EventKind::from_raw(e.kind), e.cause, e.tap);
    events.iter().map(one).collect()
}

/// A session and a tap from their beginning to their end, in the order in which it happens; and two
/// listeners with different wishes.
fn life(checks: &mut Checks, peer: &Peer) -> Outcome {
    use EventKind::{Map, Reclaim, SessionClose, SessionOpen, TapClose, TapOpen, Unmap};
    let mut all = Listener::to(&[])?;
    let mut some = Listener::to(&[TapOpen, TapClose])?;
    let session = Session::ready()?;
    let own = session.id()?;
    // As the initial namespace numbers processes.
    checks.equal(
        "its record names the process as we do",
        session.stats()?.pid,
        std::process::id(),
    );
    let datagrams = Datagrams::to(peer)?;

    // Closed by its program, and what it held is dropped.
    let asked = ioctl::Tap {
        on_exit: ON_EXIT_DROP,
        ..tap_request(&peer.ifname, TAP_OUTPUT)
    };
    let tap = session.tap(asked)?;
    let first = tap.id;
    datagrams.send(3)?;
    for _ in 0..3 {
        let _ = tap.receive()?;
    }
    drop(tap);
    // Ended by its id, and what it held goes on.
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let second = tap.id;
    datagrams.send(2)?;
    for _ in 0..2 {
        let _ = tap.receive()?;
    }
    let other = Session::open()?;
    other.untap(second).context("untap")?;
    drop(tap);
    // Ended by mbuf_unmap.
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let third = tap.id;
    session.unmap().context("unmap")?;
    drop(session);

    let events = all.take_of(&[own])?;
    // As the initial pid namespace numbers it, which may not be ours.
    let pid = events.first().map_or(0, |opened| opened.pid);
    checks.equal(
        "a life, in its order",
        told(&events),
        vec![
            (Some(SessionOpen), CAUSE_NONE, 0),
            (Some(Map), CAUSE_NONE, 0),
            (Some(TapOpen), CAUSE_NONE, first),
            (Some(Reclaim), CAUSE_CLOSED, first),
            (Some(TapClose), CAUSE_CLOSED, first),
            (Some(TapOpen), CAUSE_NONE, second),
            (Some(Reclaim), CAUSE_UNTAP, second),
            (Some(TapClose), CAUSE_UNTAP, second),
            (Some(TapOpen), CAUSE_NONE, third),
            (Some(TapClose), CAUSE_UNMAP, third),
            (Some(Reclaim), CAUSE_UNMAP, 0),
            (Some(Unmap), CAUSE_UNMAP, 0),
        ],
    );
    drop(tap);
    checks.equal(
        "the session ends with its last descriptor or mapping",
        told(&all.take_of(&[own])?),
        vec![(Some(SessionClose), CAUSE_CLOSED, 0)],
    );
    let back: Vec<_> = events
        .iter()
        .filter(|e| e.kind == Reclaim.raw())
        .map(|e| (e.count, e.passed, e.dropped))
        .collect();
    checks.equal(
        "what was taken back: mbufs, passed, dropped",
        back,
        vec![(3, 0, 3), (2, 2, 0), (16, 0, 0)],
    );
    let ifname = tap_request(&peer.ifname, TAP_OUTPUT).ifname;
    checks.that(
        "every event says whose it is",
        events
            .iter()
            .all(|e| e.pid == pid && pid != 0 && &e.comm[..7] == b"ntdrive"),
        format!("{events:?}"),
    );
    let of_taps = events.iter().filter(|e| e.tap != 0);
    checks.that(
        "those of taps say where",
        of_taps
            .clone()
            .all(|e| e.ifname == ifname && e.mode == TAP_OUTPUT && e.ifindex > 0 && e.netns > 0),
        format!("{events:?}"),
    );
    let by: Vec<_> = of_taps.filter(|e| e.by != 0).map(told_by).collect();
    checks.equal("and who ended it by its id", by, vec![(second, pid)]);
    checks.that(
        "time does not go back",
        events.windows(2).all(|two| two[0].time <= two[1].time),
        "it does",
    );
    checks.equal(
        "who wants taps only gets taps only, numbered without a hole",
        told(&some.take_of(&[own])?),
        told(&events)
            .into_iter()
            .filter(|(kind, ..)| matches!(kind, Some(TapOpen | TapClose)))
            .collect(),
    );
    Ok(())
}

fn told_by(event: &Event) -> (u32, u32) {
    (event.tap, event.by)
}

/// Sum of what events of one cause told: passed, dropped.
fn sum(events: &[Event], cause: u32) -> (u64, u64) {
    let of = events.iter().filter(|e| e.cause == cause);
    of.fold((0, 0), |sum, e| (sum.0 + e.passed, sum.1 + e.dropped))
}

/// Drops by cause: the first at once, the others together, and all of them in the end.
fn drops(checks: &mut Checks, peer: &Peer) -> Outcome {
    let mut listener = Listener::to(&[EventKind::Drop])?;
    let session = Session::ready()?;
    let own = session.id()?;
    let datagrams = Datagrams::to(peer)?;
    let asked = ioctl::Tap {
        ring_cells: 16,
        ..tap_request(&peer.ifname, TAP_OUTPUT)
    };
    let tap = session.tap(asked)?;
    datagrams.send(16 + 50)?;
    let mut events = listener.take_of(&[own])?;
    let first = events.first().map(|e| (e.cause, e.passed, e.dropped));
    checks.equal("the first at once", first, Some((CAUSE_RING, 1, 0)));
    checks.becomes("the others later, by themselves", (50, 0), || {
        events.extend(listener.take_of(&[own])?);
        Ok(sum(&events, CAUSE_RING))
    })?;
    checks.that(
        "  that is once a second",
        events
            .windows(2)
            .all(|two| two[1].time - two[0].time > 900_000_000),
        format!("{events:?}"),
    );
    // A packet whose header says what cannot be.
    let mut entry = tap.receive()?;
    let header = session.mapped()?.header(entry.index)?;
    let lie = Header {
        offset: u16::MAX,
        ..header
    };
    session.mapped()?.set_header(entry.index, lie)?;
    entry.flags = REVERT_CHANGED;
    tap.revert.put(entry)?;
    session.push(tap.number(), 1, 1_000_000).context("push")?;
    let refused = listener.take_of(&[own])?;
    checks.equal("a refused packet", sum(&refused, CAUSE_SHAPE), (0, 1));
    // What is held back when the tap ends is told then.
    datagrams.send(1 + 30)?;
    drop(tap);
    let last = sum(&listener.take_of(&[own])?, CAUSE_RING);
    checks.equal("what was held back, at the end", last, (30, 0));

    let asked = ioctl::Tap {
        on_full: ON_FULL_DROP,
        max_bytes: 1,
        ..tap_request(&peer.ifname, TAP_OUTPUT)
    };
    let tap = session.tap(asked)?;
    for _ in 0..20 {
        // The sender may be told that its packet is dropped.
        let _ = datagrams.send(1);
    }
    drop(tap);
    let last = sum(&listener.take_of(&[own])?, CAUSE_BYTES);
    checks.equal("dropped for max_bytes", last, (0, 20));
    Ok(())
}

/// A process that is killed: its tap and its session say so, whichever the kernel closes first.
fn exits(checks: &mut Checks, peer: &Peer) -> Outcome {
    use EventKind::{Reclaim, SessionClose, TapClose, Unmap};
    let mut listener = Listener::to(&[Reclaim, SessionClose, TapClose, Unmap])?;
    let datagrams = Datagrams::to(peer)?;
    let (ready, tell) = nix::unistd::pipe()?;
    // SAFETY: the child makes system calls, allocates and is killed; this process has no other thread
    // here that could hold a lock of the allocator.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let session = Session::ready()?;
            let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
            nix::unistd::write(&tell, &session.id()?.to_ne_bytes())?;
            loop {
                let _keep = &tap;
                nix::unistd::pause();
            }
        }
        ForkResult::Parent { child } => child,
    };
    drop(tell);
    let mut own = [0u8; 4];
    read(&ready, &mut own)?;
    let own = u32::from_ne_bytes(own);
    datagrams.send(4)?;
    kill(child, Signal::SIGKILL)?;
    waitpid(child, None)?;
    let mut events = Vec::new();
    checks.becomes("a killed program's session ends", true, || {
        events.extend(listener.take_of(&[own])?);
        Ok(events.iter().any(|e: &Event| e.kind == SessionClose.raw()))
    })?;
    checks.that(
        "all because it exited",
        events.len() == 5 && events.iter().all(|e| e.cause == CAUSE_EXIT),
        format!("{:?}", told(&events)),
    );
    let passed: u64 = events.iter().map(|e| e.passed).sum();
    checks.equal("and what it held went on", passed, 4);
    Ok(())
}
