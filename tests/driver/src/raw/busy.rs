// SPDX-License-Identifier: GPL-2.0-only

//! How a session is served: requests that are refused, the thread as it is told, and a word that stays zero.

use super::session::{tap_request, Session};
use crate::checks::Checks;
use crate::Outcome;
use anyhow::Result;
use nettap_uapi::ioctl::{self, Serve, SERVE_BUSY};
use nettap_uapi::ring::wants_doorbell;
use nettap_uapi::tap::TAP_OUTPUT;
use nix::errno::Errno;
use std::fs::read_to_string;
use std::thread::sleep;
use std::time::Duration;

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    refusals(&mut checks)?;
    coming_and_going(&mut checks)?;
    checks.verdict()
}

/// The thread that it is told.
fn ask(session: &Session, flags: u32) -> Result<u32, Errno> {
    let mut serve = Serve {
        flags,
        ..Default::default()
    };
    session.call(ioctl::SERVE, &mut serve)?;
    Ok(serve.thread)
}

fn refusals(checks: &mut Checks) -> Outcome {
    let nothing = Session::open()?;
    for flags in [0, SERVE_BUSY] {
        let answer = ask(&nothing, flags);
        checks.equal(format!("{flags} before map"), answer, Err(Errno::ENXIO));
    }
    let session = Session::ready()?;
    let unknown = ask(&session, SERVE_BUSY << 1);
    checks.equal("an unknown flag", unknown, Err(Errno::EINVAL));
    let mut serve = Serve {
        reserved: [0, 0, 1],
        ..Default::default()
    };
    checks.equal(
        "a reserved field",
        session.call(ioctl::SERVE, &mut serve),
        Err(Errno::EINVAL),
    );
    Ok(())
}

/// Whether a process has this number, and which name.
fn name(thread: u32) -> Option<String> {
    let name = read_to_string(format!("/proc/{thread}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

fn coming_and_going(checks: &mut Checks) -> Outcome {
    let session = Session::ready()?;
    let tap = session.tap(tap_request("lo", TAP_OUTPUT))?;
    let told = |session: &Session| -> Result<(bool, u32)> {
        let stats = session.stats()?;
        Ok((stats.busy != 0, stats.thread))
    };
    checks.equal("not busy at first", told(&session)?, (false, 0));
    let mapped = session.mapped()?;
    let sleeps = || {
        [&mapped.alloc, &mapped.dealloc, &tap.detour, &tap.revert]
            .map(|ring| wants_doorbell(&ring.ro().need_wakeup))
    };
    checks.becomes("and asleep", [true; 4], || Ok(sleeps()))?;

    let thread = ask(&session, SERVE_BUSY)?;
    checks.that("a thread", thread != 0, thread);
    checks.equal("as everybody sees", told(&session)?, (true, thread));
    let called = format!("napi/nettap{}-", session.id()?);
    let name_now = name(thread).unwrap_or_default();
    checks.that("by its name", name_now.starts_with(&called), &name_now);
    checks.equal(
        "asked twice: the same",
        ask(&session, SERVE_BUSY),
        Ok(thread),
    );
    let rounds = session.stats()?.rounds;
    let mut awake = true;
    for _ in 0..50 {
        awake &= sleeps() == [false; 4];
        sleep(Duration::from_millis(10));
    }
    checks.that("it never asks to be woken", awake, "it did");
    let passed = session.stats()?.rounds.wrapping_sub(rounds);
    checks.that("and makes rounds in vain", passed > 500, passed);
    checks.equal("not busy", ask(&session, 0), Ok(0));
    checks.equal("as everybody sees", told(&session)?, (false, 0));
    checks.becomes("no thread", None, || Ok(name(thread)))?;
    checks.becomes("and asleep", [true; 4], || Ok(sleeps()))?;

    let thread = ask(&session, SERVE_BUSY)?;
    checks.equal("unmap", session.unmap(), Ok(()));
    checks.becomes("no thread after unmap", None, || Ok(name(thread)))?;
    checks.equal("not busy after unmap", told(&session)?, (false, 0));
    Ok(())
}
