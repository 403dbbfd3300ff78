// SPDX-License-Identifier: GPL-2.0-only

//! Events: listeners, their queues, and how they wait. What they are told is in `told`.

use super::session::Session;
use super::{told, Peer};
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::event::{Event, EventKind, EVENT_QUEUE, LISTENERS_MAX};
use nettap_uapi::ioctl::{self, Monitor};
use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{alarm, read};
use std::os::fd::AsFd;
use std::time::Duration;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const SIZE: usize = size_of::<Event>();

/// A session that listens.
pub(super) struct Listener {
    session: Session,
    last: u64,
}

impl Listener {
    /// To these kinds, or to all; `read` on it does not wait.
    pub(super) fn to(kinds: &[EventKind]) -> Result<Self> {
        let kinds = kinds.iter().fold(0, |all, kind| all | kind.bit());
        let session = Session::open()?;
        listen(&session, kinds, SIZE).context("MONITOR")?;
        fcntl(&session, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("O_NONBLOCK")?;
        Ok(Self { session, last: 0 })
    }

    /// Up to so many events that there are; their numbers follow on each other but for what was lost.
    fn take(&mut self, most: usize) -> Result<Vec<Event>, Errno> {
        let mut records = vec![Event::new_zeroed(); most];
        match read(&self.session, records.as_mut_bytes()) {
            Ok(bytes) => records.truncate(bytes / SIZE),
            Err(Errno::EAGAIN) => records.clear(),
            Err(errno) => return Err(errno),
        }
        for event in &records {
            // A listener that cannot trust the numbers has nothing to compare losses with.
            if event.number != self.last + event.lost + 1 {
                return Err(Errno::EPROTO);
            }
            self.last = event.number;
        }
        Ok(records)
    }

    /// All there are, of the sessions named: others on the machine look around, too.
    pub(super) fn take_of(&mut self, sessions: &[u32]) -> Result<Vec<Event>, Errno> {
        let mut all = Vec::new();
        loop {
            let some = self.take(EVENT_QUEUE as usize)?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some.into_iter().filter(|e| sessions.contains(&e.session)));
        }
    }
}

fn listen(session: &Session, kinds: u64, record_size: usize) -> Result<(), Errno> {
    let mut ask = Monitor {
        kinds,
        record_size: record_size as u32,
        ..Default::default()
    };
    session.call(ioctl::MONITOR, &mut ask)
}

fn is_readable(session: &Session) -> Result<bool> {
    let mut fds = [PollFd::new(session.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? == 1)
}

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    refusals(&mut checks)?;
    told::run(&mut checks, peer)?;
    overflow(&mut checks)?;
    waiting(&mut checks)?;
    checks.verdict()
}

fn refusals(checks: &mut Checks) -> Outcome {
    let session = Session::open()?;
    let mut byte = [0u8; SIZE];
    checks.equal(
        "read on a session that does not listen",
        read(&session, &mut byte),
        Err(Errno::EINVAL),
    );
    for (what, ask) in [
        (
            "a kind that there is not",
            Monitor {
                kinds: 1 << 63,
                record_size: SIZE as u32,
                ..Default::default()
            },
        ),
        (
            "kind 0",
            Monitor {
                kinds: 1,
                record_size: SIZE as u32,
                ..Default::default()
            },
        ),
        ("no size", Monitor::default()),
        (
            "a flag",
            Monitor {
                flags: 1,
                record_size: SIZE as u32,
                ..Default::default()
            },
        ),
        (
            "a reserved field",
            Monitor {
                reserved: [0, 1],
                record_size: SIZE as u32,
                ..Default::default()
            },
        ),
        (
            "a huge size",
            Monitor {
                record_size: 4097,
                ..Default::default()
            },
        ),
    ] {
        let mut ask = ask;
        checks.equal(
            format!("MONITOR: {what}"),
            session.call(ioctl::MONITOR, &mut ask),
            Err(Errno::EINVAL),
        );
    }
    checks.equal("and then it listens", listen(&session, 0, SIZE), Ok(()));
    checks.equal("once only", listen(&session, 0, SIZE), Err(Errno::EBUSY));
    checks.equal(
        "a listener cannot map",
        session.map_only(ioctl::Map::default()).err(),
        Some(Errno::EBUSY),
    );
    checks.equal(
        "a buffer too small for a record",
        read(&session, &mut byte[..SIZE - 1]),
        Err(Errno::EINVAL),
    );
    let mapped = Session::ready()?;
    checks.equal(
        "a session that has mapped cannot listen",
        listen(&mapped, 0, SIZE),
        Err(Errno::EBUSY),
    );
    let mut many = Vec::new();
    let last = loop {
        let one = Session::open()?;
        match listen(&one, 0, SIZE) {
            Ok(()) => many.push(one),
            Err(errno) => break errno,
        }
    };
    checks.equal("one listener too many", last, Errno::ENOSPC);
    checks.equal(
        "that is with the first",
        many.len() + 1,
        LISTENERS_MAX as usize,
    );
    drop(many);
    let again = Session::open()?;
    checks.equal(
        "their places are free again",
        listen(&again, 0, SIZE),
        Ok(()),
    );
    Ok(())
}

/// More events than the queue holds: the oldest go, and are counted to the last.
fn overflow(checks: &mut Checks) -> Outcome {
    let mut slow = Listener::to(&[EventKind::SessionOpen])?;
    let mut fast = Listener::to(&[EventKind::SessionOpen])?;
    checks.equal("one listener is told of the other", slow.take(8)?.len(), 1);
    let queue = u64::from(EVENT_QUEUE);
    let beyond = 200;
    let mut opened = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..queue + beyond {
        opened.push(Session::open()?.id()?);
        seen.extend(fast.take(4)?);
    }
    let events = slow.take(2 * EVENT_QUEUE as usize)?;
    checks.equal("the queue is full", events.len() as u64, queue);
    checks.equal(
        "the first record tells how many went",
        events.first().map(|e| e.lost),
        Some(beyond),
    );
    checks.that(
        "the others that none did",
        events.iter().skip(1).all(|e| e.lost == 0),
        "some say so",
    );
    checks.that(
        "they are the newest",
        events
            .iter()
            .map(|e| e.session)
            .eq(opened.split_off(beyond as usize)),
        "others are there",
    );
    checks.that(
        "who read in time lost nothing",
        seen.len() as u64 == queue + beyond && seen.iter().all(|e| e.lost == 0),
        seen.len(),
    );

    let one = Session::open()?;
    let nowhere = std::ptr::without_provenance_mut(8);
    // SAFETY: the kernel checks the address, which is the point.
    let result = unsafe {
        libc::read(
            std::os::fd::AsRawFd::as_raw_fd(&slow.session.as_fd()),
            nowhere,
            SIZE,
        )
    };
    checks.equal(
        "read to no address",
        Errno::result(result),
        Err(Errno::EFAULT),
    );
    checks.equal("  nothing is there then", slow.take(1)?.len(), 0);
    let two = Session::open()?;
    let next = slow.take(1)?;
    checks.equal(
        "  and the record that was not written is lost",
        next.first().map(|e| (e.lost, e.session)),
        Some((1, two.id()?)),
    );
    drop((one, two));

    // A program of an older and one of a newer version.
    let narrow = Session::open()?;
    listen(&narrow, EventKind::SessionOpen.bit(), 16).context("MONITOR")?;
    let wide = Session::open()?;
    listen(&wide, EventKind::SessionOpen.bit(), SIZE + 64).context("MONITOR")?;
    let third = Session::open()?;
    let mut short = [0xffu8; 40];
    // `wide` was opened while `narrow` listened already.
    checks.equal("short records", read(&narrow, &mut short), Ok(32));
    checks.equal("  and nothing behind them", &short[32..], &[0xff; 8][..]);
    let mut long = [0xffu8; SIZE + 64];
    checks.equal("a long record", read(&wide, &mut long), Ok(SIZE + 64));
    let event = Event::read_from_prefix(&long)
        .ok()
        .map(|(event, _)| event.session);
    checks.equal("  begins as ever", event, Some(third.id()?));
    checks.that(
        "  and ends with zeros",
        long[SIZE..].iter().all(|&b| b == 0),
        "it does not",
    );
    Ok(())
}

extern "C" fn nothing(_: libc::c_int) {}

/// Waiting: read, poll, epoll, a signal.
fn waiting(checks: &mut Checks) -> Outcome {
    let mut listener = Listener::to(&[EventKind::SessionOpen])?;
    let mut record = [0u8; SIZE];
    checks.equal(
        "O_NONBLOCK",
        read(&listener.session, &mut record),
        Err(Errno::EAGAIN),
    );
    checks.that(
        "poll: nothing",
        !is_readable(&listener.session)?,
        "readable",
    );
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(&listener.session, EpollEvent::new(EpollFlags::EPOLLIN, 7))?;
    let mut found = [EpollEvent::empty()];
    checks.equal(
        "epoll: nothing",
        epoll.wait(&mut found, EpollTimeout::ZERO)?,
        0,
    );
    let later = |delay| {
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            Session::open().map(drop)
        })
    };
    let soon = Duration::from_millis(100);
    let opener = later(soon);
    checks.equal(
        "epoll sleeps until there is one",
        epoll.wait(&mut found, EpollTimeout::from(5000u16))?,
        1,
    );
    checks.that(
        "poll: it is",
        is_readable(&listener.session)?,
        "not readable",
    );
    opener.join().ok().context("the opener panicked")??;
    checks.equal("read takes it", listener.take(8)?.len(), 1);
    checks.that(
        "poll: no more",
        !is_readable(&listener.session)?,
        "readable",
    );

    fcntl(&listener.session, FcntlArg::F_SETFL(OFlag::empty()))?;
    let opener = later(soon);
    checks.equal(
        "read sleeps until there is one",
        read(&listener.session, &mut record),
        Ok(SIZE),
    );
    opener.join().ok().context("the opener panicked")??;
    let quiet = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(Signal::SIGALRM, &quiet) }?;
    alarm::set(1);
    checks.equal(
        "a signal ends the sleep",
        read(&listener.session, &mut record),
        Err(Errno::EINTR),
    );
    Ok(())
}
