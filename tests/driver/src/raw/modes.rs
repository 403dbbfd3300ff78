// SPDX-License-Identifier: GPL-2.0-only

//! Which modes stand beside which, and how many taps there may be: only INPUT beside OUTPUT, and a refusal changes nothing.

use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{bail, Context, Result};
use clap::Args;
use nettap_uapi::ioctl;
use nettap_uapi::stats::TapStats;
use nettap_uapi::tap::{Mode, FANOUT_ANY, TAPS_MAX, TAP_BYPASS, TAP_OUTPUT};
use nix::errno::Errno;

/// Arguments of `try-tap`.
#[derive(Args)]
pub(crate) struct TryTap {
    /// Interface.
    ifname: String,
    /// `input`, `output` or `bypass`.
    mode: String,
    /// Open `/dev/nettap` and map first, then drop `CAP_NET_ADMIN`, then tap.
    #[arg(long)]
    without_privilege: bool,
}

const ALL: [Mode; 3] = [Mode::Input, Mode::Output, Mode::Bypass];
/// Sessions that may share a tap (docs/errors.md).
const SHARERS: u32 = 64;

impl TryTap {
    pub(super) fn run(self) -> Outcome {
        let Some(mode) = ALL.into_iter().find(|mode| mode.name() == self.mode) else {
            bail!("{} is no mode", self.mode);
        };
        let session = Session::ready()?;
        if self.without_privilege {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65534))?;
        }
        match session.tap_only(tap_request(&self.ifname, mode.raw())) {
            Ok(_) => println!("ok"),
            Err(errno) => println!("{errno:?}"),
        }
        Ok(())
    }
}

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    for first in ALL {
        for second in ALL {
            pair(&mut checks, peer, first, second, false)?;
            pair(&mut checks, peer, first, second, true)?;
        }
    }
    both_stand_before_bypass(&mut checks, peer)?;
    still_works(&mut checks, peer)?;
    checks.verdict()
}

/// Opens `first`, then `second`, by the same session or by another.
fn pair(checks: &mut Checks, peer: &Peer, first: Mode, second: Mode, other: bool) -> Outcome {
    let (one, two) = (Session::ready()?, Session::ready()?);
    let kept = one.tap(tap_request(&peer.ifname, first.raw()))?;
    let before = account(&kept, &one)?;
    let opener = if other { &two } else { &one };
    let whose = if other {
        "another session"
    } else {
        "the same session"
    };
    let what = format!("{} beside {} by {whose}", second.name(), first.name());
    let outcome = opener.tap(tap_request(&peer.ifname, second.raw()));
    match outcome {
        Ok(_) if first.beside(second) => checks.that(what, true, ""),
        Ok(_) => checks.that(what, false, "was opened"),
        Err(error) => {
            let errno = error.downcast_ref::<Errno>().copied();
            let wanted = (!first.beside(second)).then_some(Errno::EBUSY);
            checks.equal(what, errno, wanted);
            checks.equal("  and nothing has changed", account(&kept, &one)?, before);
            checks.equal("  nor is there another tap", one.all_taps()?.len(), 1);
        }
    }
    Ok(())
}

fn account(tap: &Tap, session: &Session) -> Result<(u32, u32, u32, u32)> {
    let TapStats {
        id,
        session,
        mode,
        ifindex,
        ..
    } = tap.stats(session)?;
    Ok((id, session, mode, ifindex))
}

fn both_stand_before_bypass(checks: &mut Checks, peer: &Peer) -> Outcome {
    let session = Session::ready()?;
    let input = session.tap(tap_request(&peer.ifname, Mode::Input.raw()))?;
    let output = session.tap(tap_request(&peer.ifname, Mode::Output.raw()))?;
    let bypass = tap_request(&peer.ifname, TAP_BYPASS);
    checks.equal(
        "bypass beside input and output",
        session.tap_only(bypass).err(),
        Some(Errno::EBUSY),
    );
    drop(input);
    checks.equal(
        "bypass beside what is left",
        session.tap_only(bypass).err(),
        Some(Errno::EBUSY),
    );
    drop(output);
    checks.that(
        "bypass when both have gone",
        session.tap(bypass).is_ok(),
        "was refused",
    );
    Ok(())
}

/// A refused bypass has not cut anything off.
fn still_works(checks: &mut Checks, peer: &Peer) -> Outcome {
    let session = Session::ready()?;
    let output = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let bypass = session.tap_only(tap_request(&peer.ifname, TAP_BYPASS));
    checks.equal("bypass beside output", bypass.err(), Some(Errno::EBUSY));
    let datagrams = Datagrams::to(peer)?;
    datagrams.send(5)?;
    for _ in 0..5 {
        output.revert.put(output.receive()?)?;
    }
    session.push(output.number(), 5, 1_000_000)?;
    checks.equal(
        "and packets go through output as before",
        output.stats(&session)?.reverted,
        5,
    );
    println!("expect {}", datagrams.sent());
    Ok(())
}

/// Dummies `d1` to `d64` beside the peer's interface: a session has 64 taps and no more, and so many share one. Who comes
/// after them is told, and nobody else notices.
pub(super) fn full(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    let datagrams = Datagrams::to(peer)?;
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let dummy = |nth: u32| tap_request(&format!("d{nth}"), TAP_OUTPUT);
    let mut others = (1..TAPS_MAX)
        .map(|nth| session.tap(dummy(nth)))
        .collect::<Result<Vec<_>>>()?;
    checks.equal("taps of one session", session.stats()?.taps, TAPS_MAX);
    datagrams.send(1)?;
    let held = tap.receive()?;
    checks.equal(
        "one more",
        session.tap_only(dummy(TAPS_MAX)).err(),
        Some(Errno::ENOSPC),
    );
    checks.equal(
        "  leaves as many as before",
        session.stats()?.taps,
        TAPS_MAX,
    );
    tap.revert.put(held)?;
    datagrams.send(1)?;
    tap.revert.put(tap.receive()?)?;
    session.push(tap.number(), 2, 1_000_000)?;
    let stats = tap.stats(&session)?;
    checks.equal(
        "  and packets go on, what was held before, too",
        (stats.detoured, stats.reverted, stats.in_flight),
        (2, 2, 0),
    );
    drop(others.pop());
    others.push(session.tap(dummy(TAPS_MAX)).context("in its place")?);
    checks.equal(
        "where one has ended there is room",
        session.stats()?.taps,
        TAPS_MAX,
    );
    drop(others);

    let shared = ioctl::Tap {
        fanout: FANOUT_ANY,
        ..dummy(1)
    };
    let sharers = (0..SHARERS)
        .map(|_| {
            let session = Session::open()?;
            session.map_only(ioctl::Map::default())?;
            let tap = session.tap(shared)?;
            Ok((session, tap))
        })
        .collect::<Result<Vec<_>>>()?;
    let late = Session::ready()?;
    checks.equal(
        "one more session than may share a tap",
        late.tap_only(shared).err(),
        Some(Errno::ENOSPC),
    );
    let listed = late.all_taps()?;
    checks.equal("  and all others have it", listed.len(), sharers.len());
    drop(sharers);
    checks.that(
        "which it may have when they have gone",
        late.tap(shared).is_ok(),
        "it was refused",
    );
    println!("expect {}", datagrams.sent());
    checks.verdict()
}
