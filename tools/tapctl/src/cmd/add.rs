// SPDX-License-Identifier: GPL-2.0-only

//! `tap add`: opens a tap and keeps it open.
//!
//! A tap lives as long as its session, and a session as long as its process. So the command starts
//! itself once more, as the *holder*: a process in the background, of a session of its own in the
//! terminal's sense, too, that opens the tap, reports over a pipe, and gives every packet back until
//! somebody ends the tap. `--foreground` does the same work in the process that was called.

use super::set::CONFIRM;
use super::{filter_of, tap, taps_of, Context, Owners, Places};
use crate::args::Add;
use crate::detach;
use crate::failure::Failure;
use crate::kernel::name;
use nettap::uapi::stats::TapStats;
use nettap::uapi::tap::Mode;
use nettap::{Error, Fanout, Filter, Session, Tap, Wait};
use nix::errno::Errno;
use serde_json::Value as Json;
use std::env::set_current_dir;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets taken from the ring at once.
const BATCH: usize = 64;
/// Looks before sleeping: some microseconds, in which the next packet of a burst comes.
const SPIN: u32 = 1000;

/// `tap add`.
pub fn add(context: &mut Context<'_, '_>, add: &Add) -> Result<(), Failure> {
    if !add.foreground && !add.holder {
        let id = start(context)?;
        return report(context, id);
    }
    if add.holder {
        detach::leave_terminal()?;
    }
    context.netns.enter()?;
    // Before anybody can know of the tap: the signal must find somebody who understands it.
    let probation = Probation::of(add.confirm)?;
    let session = join(add)?;
    let filter = filter_of(&add.dev, add.filter.as_deref(), add.filter_bpf.as_deref())?;
    if add.holder {
        // All files that the command line names are open; it holds up no file system.
        set_current_dir("/").map_err(|error| Failure::io("go to /", &error))?;
    }
    let tap = open(&session, add, filter).map_err(|error| explain(context, add, error))?;
    report(context, tap.id())?;
    if add.holder {
        // The end of the pipe tells the caller that the report is complete.
        detach::leave_output()?;
    }
    hold(&session, &tap, add.standby, probation)
}

/// The time in which a tap has to be confirmed.
struct Probation {
    until: Option<Instant>,
    confirmed: Arc<AtomicBool>,
}

/// A tap whose time has come without a confirmation ends.
struct Over;

impl Probation {
    /// Of so many seconds from now, or none.
    fn of(seconds: Option<u64>) -> Result<Self, Failure> {
        let confirmed = Arc::new(AtomicBool::new(false));
        // Who waits for nothing does not listen, and `tap confirm` says so.
        if seconds.is_some() {
            let refused = |error: std::io::Error| Failure::io("catch the confirmation", &error);
            signal_hook::flag::register(CONFIRM as i32, Arc::clone(&confirmed)).map_err(refused)?;
        }
        Ok(Self {
            until: seconds.and_then(|s| Instant::now().checked_add(Duration::from_secs(s))),
            confirmed,
        })
    }

    /// How long to wait for packets at most.
    fn left(&self) -> Result<Option<Duration>, Over> {
        match self.until {
            Some(until) if !self.confirmed.load(Ordering::Relaxed) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Over);
                }
                // A confirmation that comes just before the wait begins is seen soon all the same.
                Ok(Some(left.min(Duration::from_secs(1))))
            }
            _ => Ok(None),
        }
    }
}

/// The session, in the group that was asked for.
fn join(add: &Add) -> Result<Session, Error> {
    let mut builder = Session::builder()
        .group(add.group.clone().unwrap_or_default())
        .mbufs(add.group_mbufs.unwrap_or(0))
        .mbuf_size(add.group_mbuf_size.unwrap_or(0));
    if let Some(access) = add.group_access {
        builder = builder.access(access.into());
    }
    builder.open()
}

fn open(session: &Session, add: &Add, filter: Option<Filter>) -> Result<Tap, Error> {
    let mut tap = session.tap(&add.dev);
    if let Some(filter) = filter {
        tap = tap.filter(filter);
    }
    tap.mode(add.mode.into())
        .snaplen(add.snaplen.unwrap_or(0))
        .on_full(add.on_full.into())
        .on_exit(add.on_exit.into())
        .max_bytes(add.max_bytes.unwrap_or(0))
        .gso(add.gso.into())
        .ring_cells(add.ring.unwrap_or(0))
        .fanout(add.fanout.map_or(Fanout::None, Fanout::from))
        .no_consumer(add.no_consumer.into())
        .standby(add.standby)
        .max_age(add.max_age.unwrap_or(Duration::ZERO))
        .open()
}

/// Says who stands in the way, when somebody does.
fn explain(context: &Context<'_, '_>, add: &Add, error: Error) -> Failure {
    let failure = Failure::from(error);
    if !failure.is(Errno::EBUSY) {
        return failure;
    }
    let (Ok(taps), Ok(sessions)) = (taps_of(context, &add.dev), context.kernel.sessions()) else {
        return failure;
    };
    match in_the_way(&taps, add.mode.into()) {
        Some(tap) => Failure::system(
            format_args!("{} has {}", add.dev, obstacle(tap, &Owners::of(&sessions))),
            Errno::EBUSY,
        )
        .hint(format!("end it first: `tapctl tap del {}`", tap.id)),
        None => failure,
    }
}

/// The tap beside which one of this mode cannot stand.
pub fn in_the_way(taps: &[TapStats], mode: Mode) -> Option<&TapStats> {
    taps.iter()
        .find(|tap| !Mode::from_raw(tap.mode).is_some_and(|other| other.beside(mode)))
}

/// `bypass tap 3 held by pid 812 (snort)`.
pub fn obstacle(tap: &TapStats, owners: &Owners) -> String {
    let (mode, owner) = (tap::mode(tap), owners.said(tap));
    format!("{mode} tap {} held by {owner}", tap.id)
}

/// Gives every packet back as it was, until the tap ends. On standby it takes none.
fn hold(session: &Session, tap: &Tap, standby: bool, probation: Probation) -> Result<(), Failure> {
    let mut waiter = Wait::Adaptive { spin: SPIN }.waiter();
    let mut burst = session.burst(BATCH);
    while let Ok(left) = probation.left() {
        let turn = if standby {
            tap.wait_end(left)
        } else {
            session.wait_with(&mut waiter, &[tap], left).and_then(|_| {
                tap.recv_burst(&mut burst)?;
                tap.revert_burst_all(&mut burst)
            })
        };
        match turn {
            Ok(()) | Err(Error::Interrupted | Error::TimedOut) => {}
            Err(Error::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Says which tap there is now.
fn report(context: &mut Context<'_, '_>, id: u32) -> Result<(), Failure> {
    let taps = context.kernel.taps()?;
    let Some(tap) = taps.iter().find(|tap| tap.id == id) else {
        return Err(Failure::new(format!("tap {id} ended at once")));
    };
    let owners = Owners::of(&context.kernel.sessions()?);
    let said = format!(
        "tap {id}: {} of {}, held by {}",
        tap::mode(tap),
        name(&tap.ifname),
        owners.said(tap)
    );
    let record = tap::record(tap, &owners, &Places::look(), context.netns.inode());
    context.out.done("tap", record, &said, Some(id.to_string()))
}

/// Starts the holder and waits for its report: the tap's id.
fn start(context: &Context<'_, '_>) -> Result<u32, Failure> {
    let refused = |error: std::io::Error| Failure::io("start a process that holds the tap", &error);
    let program = std::env::current_exe().map_err(refused)?;
    detach::keep_descriptors_from_children()?;
    let mut child = Command::new(program)
        .args(context.argv.iter().skip(1))
        .arg("--holder")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(refused)?;
    let mut said = String::new();
    if let Some(pipe) = child.stdout.as_mut() {
        pipe.read_to_string(&mut said).map_err(refused)?;
    }
    match read_report(&said) {
        Some(answer) => answer,
        None => {
            let status = child.wait().map_err(refused)?;
            Err(Failure::new(format!(
                "the process that was to hold the tap ended without a word ({status})"
            ))
            .hint("see what it says in the foreground: add --foreground"))
        }
    }
}

/// What the holder said: a document of [`crate::out`].
fn read_report(said: &str) -> Option<Result<u32, Failure>> {
    let document: Json = serde_json::from_str(said).ok()?;
    if let Some(error) = document.get("error") {
        return Some(Err(serde_json::from_value(error.clone()).ok()?));
    }
    let id = document.get("tap")?.get("id")?.as_u64()?;
    Some(Ok(u32::try_from(id).ok()?))
}
