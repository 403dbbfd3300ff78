// SPDX-License-Identifier: GPL-2.0-only

//! Which modes stand beside which: only INPUT beside OUTPUT, and a refusal changes nothing.

use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{bail, Result};
use clap::Args;
use nettap_uapi::stats::TapStats;
use nettap_uapi::tap::{Mode, TAP_BYPASS, TAP_OUTPUT};
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
