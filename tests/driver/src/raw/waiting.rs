// SPDX-License-Identifier: GPL-2.0-only

//! Waiting: `mbuf_pull(0)`, `mbuf_push(tap, n)`, `poll`, `epoll` and `io_uring` on both kinds of descriptor.

use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::{patience, slowly, Checks};
use crate::Outcome;
use anyhow::{Context, Result};
use io_uring::cqueue::more;
use io_uring::opcode::PollAdd;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::IoUring;
use nettap_uapi::tap::{TAP_INPUT, TAP_OUTPUT};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::alarm;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How much later than asked a sleeper may wake on an emulated machine with other work to do.
fn slack() -> Duration {
    slowly(Duration::from_millis(250))
}

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    checks.equal(
        "pull(0) without a tap",
        session.pull(0, 1000),
        Err(Errno::ENODEV),
    );
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let datagrams = Datagrams::to(peer)?;
    timeouts(&mut checks, &session)?;
    signal(&mut checks, &session)?;
    arrival(&mut checks, &session, &tap, &datagrams)?;
    pushes(&mut checks, &session, &tap, &datagrams)?;
    polls(&mut checks, &session, &tap, &datagrams)?;
    for_the_end(&mut checks, &session, &tap, &datagrams)?;
    uring(&mut checks, &session, &tap, &datagrams)?;
    hang_up(&mut checks, &session, tap)?;
    println!("expect {}", datagrams.sent());
    checks.verdict()
}

fn timeouts(checks: &mut Checks, session: &Session) -> Outcome {
    for micros in [1, 500, 5_000, 100_000] {
        let asked = Duration::from_micros(micros);
        let begin = Instant::now();
        let outcome = session.pull(0, micros);
        let took = begin.elapsed();
        checks.equal(
            format!("pull(0, {micros} us)"),
            outcome,
            Err(Errno::ETIMEDOUT),
        );
        checks.lasted(
            "  not early, and not much later",
            took,
            asked,
            asked + slack(),
        );
    }
    // The best of several shows that microseconds are not rounded to ticks of 4 ms.
    let best = (0..20).map(|_| {
        let begin = Instant::now();
        let _ = session.pull(0, 300);
        begin.elapsed()
    });
    let best = best.min().context("no attempt")?;
    checks.lasted(
        "the best of 20 pulls of 300 us",
        best,
        Duration::from_micros(300),
        Duration::from_micros(2500),
    );
    Ok(())
}

extern "C" fn nothing(_: libc::c_int) {}

fn signal(checks: &mut Checks, session: &Session) -> Outcome {
    let quiet = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(Signal::SIGALRM, &quiet) }?;
    alarm::set(1);
    let begin = Instant::now();
    checks.equal(
        "pull(0, for ever) and a signal",
        session.pull(0, 0),
        Err(Errno::EINTR),
    );
    checks.lasted(
        "  when the signal came",
        begin.elapsed(),
        Duration::from_millis(500),
        Duration::from_secs(1) + slack(),
    );
    Ok(())
}

/// Sends one datagram from another thread after a while.
fn later<T>(datagrams: &Datagrams, wait: impl FnOnce() -> T) -> Result<(T, Duration)> {
    let (socket, payload) = datagrams.one()?;
    let begin = Instant::now();
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        socket.send(&payload)
    });
    let outcome = wait();
    let took = begin.elapsed();
    sender.join().ok().context("the sender panicked")??;
    Ok((outcome, took))
}

fn revert(session: &Session, tap: &Tap, count: u32) -> Outcome {
    for _ in 0..count {
        tap.revert.put(tap.receive()?)?;
    }
    session.push(tap.number(), count, 1_000_000).context("push")
}

fn arrival(checks: &mut Checks, session: &Session, tap: &Tap, datagrams: &Datagrams) -> Outcome {
    for (what, timeout) in [("for ever", 0), ("5 s", 5_000_000)] {
        let (outcome, took) = later(datagrams, || session.pull(0, timeout))?;
        checks.equal(format!("pull(0, {what}) and a packet"), outcome, Ok(()));
        checks.lasted(
            "  when it came",
            took,
            Duration::from_millis(50),
            Duration::from_millis(50) + slack(),
        );
        let again = Instant::now();
        checks.equal(
            "  and again while it waits: at once",
            session.pull(0, 5_000_000),
            Ok(()),
        );
        checks.lasted("  that is", again.elapsed(), Duration::ZERO, slack());
        revert(session, tap, 1)?;
        checks.equal(
            "  no more when it is taken",
            session.pull(0, 1000),
            Err(Errno::ETIMEDOUT),
        );
    }
    Ok(())
}

fn pushes(checks: &mut Checks, session: &Session, tap: &Tap, datagrams: &Datagrams) -> Outcome {
    datagrams.send(8)?;
    for _ in 0..8 {
        tap.revert.put(tap.receive()?)?;
    }
    checks.equal(
        "push(tap, 8)",
        session.push(tap.number(), 8, 1_000_000),
        Ok(()),
    );
    checks.equal("  leaves nothing", tap.revert.backlog()?, 0);
    let begin = Instant::now();
    checks.equal(
        "push(tap, more than there is)",
        session.push(tap.number(), 100, 5_000_000),
        Ok(()),
    );
    checks.lasted(
        "  comes back at once",
        begin.elapsed(),
        Duration::ZERO,
        slack(),
    );
    checks.equal(
        "the doorbell: push(tap, 0)",
        session.push(tap.number(), 0, 0),
        Ok(()),
    );
    let stdin = std::io::stdin();
    checks.equal(
        "push(a descriptor that is no tap)",
        session.push(stdin.as_raw_fd(), 0, 0),
        Err(Errno::EBADF),
    );
    checks.equal(
        "push(no descriptor)",
        session.push(999, 0, 0),
        Err(Errno::EBADF),
    );
    checks.equal("push(-2)", session.push(-2, 0, 0), Err(Errno::EBADF));
    let other = Session::ready()?;
    checks.equal(
        "push(another session's tap)",
        other.push(tap.number(), 0, 0),
        Err(Errno::EBADF),
    );
    Ok(())
}

fn look(fd: BorrowedFd<'_>, wait: Duration) -> Result<PollFlags> {
    let mut watched = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::try_from(wait)?)?;
    let [watched] = watched;
    Ok(watched.revents().unwrap_or(PollFlags::empty()))
}

fn polls(checks: &mut Checks, session: &Session, tap: &Tap, datagrams: &Datagrams) -> Outcome {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(session.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
    epoll.add(tap.fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 2))?;
    let ready = |wait: u16| -> Result<usize> {
        let mut events = [EpollEvent::empty(); 4];
        Ok(epoll.wait(&mut events, EpollTimeout::from(wait))?)
    };
    for (name, fd) in [("session", session.as_fd()), ("tap", tap.fd.as_fd())] {
        checks.equal(
            format!("poll({name}) of nothing"),
            look(fd, Duration::from_millis(20))?,
            PollFlags::empty(),
        );
        let (seen, took) = later(datagrams, || look(fd, patience()))?;
        checks.that(
            format!("poll({name}) and a packet"),
            seen?.contains(PollFlags::POLLIN),
            "was not readable",
        );
        checks.lasted(
            "  when it came",
            took,
            Duration::from_millis(50),
            Duration::from_millis(50) + slack(),
        );
        checks.equal("  epoll sees session and tap", ready(1000)?, 2);
        revert(session, tap, 1)?;
        checks.equal(
            "  nothing when it is taken",
            look(fd, Duration::from_millis(20))?,
            PollFlags::empty(),
        );
        checks.equal("  nor for epoll", ready(20)?, 0);
    }
    let (seen, _) = later(datagrams, || ready(5000))?;
    checks.equal("epoll sleeps and wakes", seen? > 0, true);
    revert(session, tap, 1)
}

/// Who waits for the end alone is not told of packets, and shows no life by that.
fn for_the_end(
    checks: &mut Checks,
    session: &Session,
    tap: &Tap,
    datagrams: &Datagrams,
) -> Outcome {
    let before = session.stats()?.calls;
    for (name, fd) in [("session", session.as_fd()), ("tap", tap.fd.as_fd())] {
        let (seen, _) = later(datagrams, || {
            let mut fds = [PollFd::new(fd, PollFlags::empty())];
            poll(&mut fds, PollTimeout::from(200u16))
        })?;
        checks.equal(
            format!("poll({name}) for the end alone, and a packet"),
            seen?,
            0,
        );
    }
    checks.equal(
        "  are no calls of the program's",
        session.stats()?.calls,
        before,
    );
    revert(session, tap, 2)
}

/// Asks once for any number of wake-ups, and has each.
fn uring(checks: &mut Checks, session: &Session, tap: &Tap, datagrams: &Datagrams) -> Outcome {
    for (name, fd) in [("session", session.as_fd()), ("tap", tap.fd.as_fd())] {
        let mut ring = match IoUring::new(8) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                println!("this kernel has no io_uring");
                return Ok(());
            }
            ring => ring.context("io_uring")?,
        };
        let poll = PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32);
        let poll = poll.multi(true).build();
        // SAFETY: the request refers to a descriptor that outlives the ring, and to nothing else.
        unsafe { ring.submission().push(&poll) }.context("a request")?;
        ring.submit()?;
        for nth in 1..=3 {
            let seconds = Timespec::new().sec(patience().as_secs());
            let (outcome, _) = later(datagrams, || {
                let args = SubmitArgs::new().timespec(&seconds);
                ring.submitter().submit_with_args(1, &args)
            })?;
            let told = ring.completion().next();
            let told = told.map(|told| (told.result() & libc::POLLIN as i32, more(told.flags())));
            checks.that(
                format!("io_uring({name}), asked once, and packet {nth}"),
                outcome.is_ok() && told == Some((libc::POLLIN as i32, true)),
                format!("{outcome:?} {told:?}"),
            );
            revert(session, tap, 1)?;
        }
    }
    Ok(())
}

fn hang_up(checks: &mut Checks, session: &Session, tap: Tap) -> Outcome {
    let administrator = Session::open()?;
    checks.equal(
        "untap by id, from another session",
        administrator.untap(tap.id),
        Ok(()),
    );
    let seen = look(tap.fd.as_fd(), patience())?;
    checks.that(
        "the owner sees POLLHUP",
        seen.contains(PollFlags::POLLHUP),
        format!("{seen:?}"),
    );
    checks.equal(
        "push on it",
        session.push(tap.number(), 0, 0),
        Err(Errno::ENODEV),
    );
    checks.equal(
        "pull(0) has nothing to wait for",
        session.pull(0, 1000),
        Err(Errno::ENODEV),
    );
    checks.equal(
        "untap again",
        administrator.untap(tap.id),
        Err(Errno::ENOENT),
    );
    checks.equal("nothing is listed", session.all_taps()?.len(), 0);
    checks.equal(
        "and pull(n) still serves the session",
        session.pull(1, 1000),
        Ok(()),
    );
    let input = session.tap(tap_request("lo", TAP_INPUT));
    checks.that("which can tap again", input.is_ok(), "it cannot");
    Ok(())
}
