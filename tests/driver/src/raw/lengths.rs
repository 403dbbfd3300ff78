// SPDX-License-Identifier: GPL-2.0-only

//! Another length for packets that cannot have one: a super-packet, whose segments would no longer
//! add up, and a snapped packet, whose end is not there. The library refuses to try; this does not.

use super::session::{tap_request, Session, Tap};
use crate::checks::Checks;
use crate::signals::Signals;
use crate::Outcome;
use anyhow::Result;
use clap::{Args, ValueEnum};
use nettap_uapi::ioctl;
use nettap_uapi::mbuf::{Header, GSO_NONE, MBUF_SNAPPED, NO_MBUF};
use nettap_uapi::ring::{Entry, REVERT_CHANGED};
use nettap_uapi::tap::{CHAIN_MAX, TAP_OUTPUT};
use nix::errno::Errno;

/// How many packets are given another length; TCP gets over it.
const ATTEMPTS: u64 = 3;
/// How long to sleep at most between two looks at the signals.
const GLANCE_US: u64 = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Super,
    Snapped,
}

/// Arguments of `lengths`.
#[derive(Args)]
pub(crate) struct Lengths {
    /// Interface; its OUTPUT is tapped.
    ifname: String,
    /// Which packets.
    which: Which,
}

impl Lengths {
    pub(super) fn run(self) -> Outcome {
        let signals = Signals::catch()?;
        let session = Session::ready()?;
        let snaplen = if self.which == Which::Snapped { 100 } else { 0 };
        let tap = session.tap(ioctl::Tap {
            snaplen,
            ..tap_request(&self.ifname, TAP_OUTPUT)
        })?;
        println!("ready");
        let mut tried = 0;
        while !signals.stop() {
            while let Some(entry) = tap.detour.take()? {
                let wanted =
                    tried < ATTEMPTS && self.is_meant(session.mapped()?.header(entry.index)?);
                let entry = if wanted {
                    shorten(&session, entry)?
                } else {
                    entry
                };
                tried += u64::from(wanted);
                give(&session, &tap, entry)?;
            }
            match session.pull(0, GLANCE_US) {
                Ok(()) | Err(Errno::ETIMEDOUT | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut checks = Checks::default();
        let stats = tap.stats(&session)?;
        checks.equal("packets given another length", tried, ATTEMPTS);
        checks.equal("all of them refused", stats.refused_change, ATTEMPTS);
        checks.that("the balance closes", stats.balances(), format!("{stats:?}"));
        checks.verdict()
    }

    fn is_meant(&self, header: Header) -> bool {
        match self.which {
            Which::Super => header.gso_type != GSO_NONE,
            Which::Snapped => header.flags & MBUF_SNAPPED != 0,
        }
    }
}

/// Takes a byte from the last mbuf of the packet.
fn shorten(session: &Session, entry: Entry) -> Result<Entry> {
    let mapped = session.mapped()?;
    let mut last = entry.index;
    for _ in 0..CHAIN_MAX {
        match mapped.header(last)?.next {
            NO_MBUF => break,
            next => last = next,
        }
    }
    let mut header = mapped.header(last)?;
    header.len -= 1;
    mapped.set_header(last, header)?;
    Ok(Entry {
        flags: REVERT_CHANGED,
        ..entry
    })
}

fn give(session: &Session, tap: &Tap, entry: Entry) -> Outcome {
    tap.revert.put(entry)?;
    // Without the library's doorbell rule a call each time is the honest way.
    Ok(session.push(tap.number(), 1, 1_000_000)?)
}
