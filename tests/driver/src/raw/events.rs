// SPDX-License-Identifier: GPL-2.0-only

//! Events: listeners, their queues, and what they are told.

use super::session::{tap_request, Datagrams, Session};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::event::{
    Event, EventKind, CAUSE_BYTES, CAUSE_CLOSED, CAUSE_EXIT, CAUSE_NONE, CAUSE_RING, CAUSE_SHAPE,
    CAUSE_UNMAP, CAUSE_UNTAP, EVENT_QUEUE, LISTENERS_MAX,
};
use nettap_uapi::ioctl::{self, Info, Monitor};
use nettap_uapi::mbuf::Header;
use nettap_uapi::ring::REVERT_CHANGED;
use nettap_uapi::tap::{ON_EXIT_DROP, ON_FULL_DROP, TAP_OUTPUT};
use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{kill, sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{alarm, fork, read, ForkResult};
use std::os::fd::AsFd;
use std::time::Duration;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const SIZE: usize = size_of::<Event>();

/// A session that listens.
struct Listener {
    session: Session,
    last: u64,
}

impl Listener {
    /// To these kinds, or to all; `read` on it does not wait.
    fn to(kinds: &[EventKind]) -> Result<Self> {
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
    fn take_of(&mut self, sessions: &[u32]) -> Result<Vec<Event>, Errno> {
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

fn id(session: &Session) -> Result<u32> {
    let mut info = Info::default();
    session.call(ioctl::INFO, &mut info).context("INFO")?;
    Ok(info.session)
}

fn is_readable(session: &Session) -> Result<bool> {
    let mut fds = [PollFd::new(session.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? == 1)
}

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    refusals(&mut checks)?;
    life(&mut checks, peer)?;
    drops(&mut checks, peer)?;
    exits(&mut checks, peer)?;
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
    let own = id(&session)?;
    // As the initial namespace numbers processes.
    let pid = session.stats()?.pid;
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
            .all(|e| e.pid == pid && &e.comm[..7] == b"ntdrive"),
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
    let own = id(&session)?;
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
            nix::unistd::write(&tell, &id(&session)?.to_ne_bytes())?;
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
        opened.push(id(&Session::open()?)?);
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
        Some((1, id(&two)?)),
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
    checks.equal("  begins as ever", event, Some(id(&third)?));
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
