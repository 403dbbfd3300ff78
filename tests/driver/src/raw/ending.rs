// SPDX-License-Identifier: GPL-2.0-only

//! Every way in which a session can end, and a session that two processes have.

use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::tap::TAP_OUTPUT;
use nix::errno::Errno;
use nix::sys::signal::{raise, Signal};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{fork as fork_process, ForkResult};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

/// One step of taking a session apart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// `munmap` of everything: region, alloc, dealloc and the tap's rings.
    Munmap,
    /// `mbuf_unmap`.
    Unmap,
    /// `close` of the tap.
    CloseTap,
    /// `close` of the session.
    CloseSession,
}

const STEPS: [Step; 4] = [
    Step::Munmap,
    Step::Unmap,
    Step::CloseTap,
    Step::CloseSession,
];

/// Packets that each order leaves with the program: one in its hands, one in the detour ring.
const HELD: u64 = 2;

/// All orders of the four steps, each with a tap that holds packets and then without a tap. Held
/// packets go on (`on_exit` revert), so the receiver sees every one of them.
pub(super) fn orders(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let datagrams = Datagrams::to(peer)?;
    let control = Session::open()?;
    for order in permutations() {
        for tapped in [true, false] {
            take_apart(peer, &datagrams, &order, tapped).with_context(|| format!("{order:?}"))?;
            let with = if tapped { "with" } else { "without" };
            checks.becomes(
                format!("{order:?} {with} a tap: all is gone"),
                (0, 0, true),
                || {
                    let region = control.region_stats()?;
                    let whole = region.mbufs == 0 || region.free == region.mbufs;
                    Ok((region.sessions, region.taps, whole))
                },
            )?;
        }
    }
    println!("expect {}", datagrams.sent());
    checks.verdict()
}

fn permutations() -> Vec<Vec<Step>> {
    let mut all: Vec<Vec<Step>> = vec![Vec::new()];
    for _ in STEPS {
        all = all
            .iter()
            .flat_map(|begun| {
                let rest = STEPS.iter().filter(|step| !begun.contains(step));
                rest.map(|&step| begun.iter().copied().chain([step]).collect())
            })
            .collect();
    }
    all
}

fn take_apart(peer: &Peer, datagrams: &Datagrams, order: &[Step], tapped: bool) -> Outcome {
    let mut session = Session::ready()?;
    let mut fd: Option<OwnedFd> = None;
    let mut rings = None;
    if tapped {
        let Tap {
            fd: tap,
            detour,
            revert,
            ..
        } = {
            let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
            datagrams.send(HELD)?;
            tap.receive()?;
            tap
        };
        fd = Some(tap);
        rings = Some((detour, revert));
    }
    let mut session_open = true;
    let mut mapped = session.mapped.take();
    let mut session = Some(session);
    for step in order {
        match step {
            Step::Munmap => {
                drop(mapped.take());
                drop(rings.take());
            }
            Step::Unmap if session_open => session.as_ref().context("closed")?.unmap()?,
            Step::Unmap => {}
            Step::CloseTap => drop(fd.take()),
            Step::CloseSession => {
                session_open = false;
                drop(session.take());
            }
        }
    }
    Ok(())
}

/// How often a tap ends right after its program has given packets back.
const ENDINGS: u64 = 50;
/// And how often the program itself ends then.
const KILLS: u64 = 20;

/// Entries that a program has written before its tap ends count, whether the kernel had looked at them
/// or not: a dropped packet stays dropped, a reverted one goes before a held one.
pub(super) fn last_words(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    let datagrams = Datagrams::to(peer)?;
    let before = session.stats()?.deallocated;
    for _ in 0..ENDINGS {
        let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
        datagrams.send(3)?;
        let (dropped, reverted) = (tap.receive()?, tap.receive()?);
        let _held = tap.receive()?;
        session.mapped()?.dealloc.put(dropped)?;
        tap.revert.put(reverted)?;
        drop(tap);
    }
    checks.equal(
        "packets dropped just before the end",
        session.stats()?.deallocated - before,
        ENDINGS,
    );
    checks.equal(
        "entries refused",
        session.stats()?.refused,
        nettap_uapi::stats::Refused::default(),
    );
    for _ in 0..KILLS {
        let three = (0..3)
            .map(|_| datagrams.one())
            .collect::<Result<Vec<_>>>()?;
        let ended = in_child(|| i32::from(last_act(peer, &three).is_err()))?;
        checks.that(
            "a program puts its last entries and is killed",
            was_killed(ended, Signal::SIGKILL),
            format!("{ended:?}"),
        );
    }
    println!("expect {}", datagrams.sent() - ENDINGS - KILLS);
    checks.verdict()
}

/// A whole program: of three packets it drops one, reverts one, and is killed with the third in hand.
fn last_act(peer: &Peer, three: &[(UdpSocket, Vec<u8>)]) -> Outcome {
    let session = Session::ready()?;
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    for (socket, payload) in three {
        socket.send(payload)?;
    }
    let (dropped, reverted) = (tap.receive()?, tap.receive()?);
    let _held = tap.receive()?;
    session.mapped()?.dealloc.put(dropped)?;
    tap.revert.put(reverted)?;
    Ok(raise(Signal::SIGKILL)?)
}

/// A child has the descriptors but not the memory; it shares the session and does not end it.
pub(super) fn fork(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let datagrams = Datagrams::to(peer)?;
    datagrams.send(1)?;
    let held = tap.receive()?;

    let address = session.mapped()?.address();
    let touched = in_child(|| {
        // SAFETY: there is none, and that is the point: the child has no mapping there and the kernel
        // kills it. A module that let it live would have the child exit with 0, which is a failed
        // expectation.
        unsafe { address.read_volatile() };
        0
    })?;
    checks.that(
        "the child has no mapping of the region",
        was_killed(touched, Signal::SIGSEGV),
        format!("{touched:?}"),
    );

    let served = in_child(|| i32::from(session.pull(1, 1_000_000).is_err()))?;
    checks.that(
        "the child may make the session's calls",
        exited_well(served),
        format!("{served:?}"),
    );
    let again = in_child(|| {
        let map = nettap_uapi::ioctl::Map {
            prealloc: 16,
            ..Default::default()
        };
        i32::from(session.map_only(map).err() != Some(Errno::EBUSY))
    })?;
    checks.that(
        "it is the same session: a second map is EBUSY",
        exited_well(again),
        format!("{again:?}"),
    );

    checks.equal(
        "when the child is gone the tap is not",
        tap.stats(&session)?.in_flight,
        1,
    );
    tap.revert.put(held)?;
    checks.equal(
        "and reverts",
        session.push(tap.number(), 1, 1_000_000),
        Ok(()),
    );
    checks.equal("what was held", tap.stats(&session)?.reverted, 1);
    last_copy(&mut checks, session, tap, &datagrams)?;
    println!("expect {}", datagrams.sent());
    checks.verdict()
}

/// The session ends with its last copy, in whichever process that is.
fn last_copy(checks: &mut Checks, session: Session, tap: Tap, datagrams: &Datagrams) -> Outcome {
    let (hold, release) = std::os::unix::net::UnixStream::pair()?;
    // SAFETY: the process has one thread; the child makes system calls only.
    let child = match unsafe { fork_process() }? {
        ForkResult::Child => {
            drop(release);
            // Until the parent lets go of its end.
            let mut byte = [0u8];
            let _ = nix::unistd::read(hold.as_fd(), &mut byte);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    drop(hold);
    datagrams.send(1)?;
    let control = Session::open()?;
    drop(tap);
    drop(session);
    let region = control.region_stats()?;
    checks.equal(
        "closed here but open in the child: session and tap live",
        (region.sessions, region.taps),
        (1, 1),
    );
    drop(release);
    waitpid(child, None)?;
    checks.becomes("closed in the child as well: both end", (0, 0), || {
        let region = control.region_stats()?;
        Ok((region.sessions, region.taps))
    })
}

fn in_child(body: impl FnOnce() -> i32) -> Result<WaitStatus> {
    // SAFETY: the process has one thread, and the child leaves by _exit.
    match unsafe { fork_process() }? {
        ForkResult::Child => {
            let status = body();
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => Ok(waitpid(child, None)?),
    }
}

fn was_killed(status: WaitStatus, by: Signal) -> bool {
    matches!(status, WaitStatus::Signaled(_, signal, _) if signal == by)
}

fn exited_well(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(_, 0))
}
