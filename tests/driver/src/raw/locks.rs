// SPDX-License-Identifier: GPL-2.0-only

//! Shared locks by hand: what each request refuses, whom a wait waits for, and what the kernel makes of a word
//! whose owner is gone or never was one.

use super::events::Listener;
use super::session::{Session, Shared};
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use nettap_uapi::event::{EventKind, CAUSE_CLOSED, CAUSE_UNMAP};
use nettap_uapi::ioctl::{self, LOCK_REGISTER, LOCK_UNREGISTER, LOCK_WAIT, LOCK_WAKE};
use nettap_uapi::layout::LOCKS_LEN;
use nettap_uapi::lock::{
    announce, release, try_take, Attempt, LockWords, Release, LOCKS_MAX, LOCK_OWNER_DIED,
    LOCK_WAITERS,
};
use nettap_uapi::ring::Word;
use nix::errno::Errno;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::alarm;
use std::time::{Duration, Instant};

/// A session with its locks mapped.
struct Member {
    session: Session,
    pages: MmapRaw,
    id: u32,
}

impl Member {
    fn new() -> Result<Self> {
        let session = Session::ready()?;
        let offset = session.mapped()?.told.locks_offset;
        let pages = map_locks(&session, offset, LOCKS_LEN as usize).context("mmap of the locks")?;
        let mut info = ioctl::Info::default();
        session.call(ioctl::INFO, &mut info).context("INFO")?;
        Ok(Self {
            session,
            pages,
            id: info.session,
        })
    }

    fn word(&self, number: u32) -> &Shared {
        let locks = self.pages.as_ptr().cast::<LockWords<Shared>>();
        // SAFETY: the page has LOCKS_MAX locks, and callers name one of them.
        let lock = unsafe { locks.add(number as usize) };
        // SAFETY: mapped as long as `self`, aligned as pages are, and made of atomics.
        unsafe { &(*lock).word }
    }

    fn ask(&self, op: u32, number: u32) -> Result<(), Errno> {
        ask(
            &self.session,
            ioctl::Lock {
                op,
                number,
                ..Default::default()
            },
        )
    }

    fn wait(&self, number: u32, seen: u32, timeout_us: u64) -> Result<(), Errno> {
        let lock = ioctl::Lock {
            op: LOCK_WAIT,
            number,
            seen,
            timeout_us,
            ..Default::default()
        };
        ask(&self.session, lock)
    }

    fn registered(&self) -> Result<u32> {
        Ok(self.session.stats()?.locks)
    }
}

fn ask(session: &Session, mut lock: ioctl::Lock) -> Result<(), Errno> {
    session.call(ioctl::LOCK, &mut lock)
}

fn map_locks(session: &Session, offset: u64, len: usize) -> std::io::Result<MmapRaw> {
    MmapOptions::new()
        .offset(offset)
        .len(len)
        .map_raw(session.file())
}

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    refusals(&mut checks)?;
    registration(&mut checks)?;
    waits(&mut checks)?;
    wakes(&mut checks)?;
    deaths(&mut checks)?;
    scribbles(&mut checks)?;
    checks.verdict()
}

fn refusals(checks: &mut Checks) -> Outcome {
    let nothing = Session::open()?;
    for op in LOCK_REGISTER..=LOCK_WAKE {
        let seen = if op == LOCK_WAIT { LOCK_WAITERS } else { 0 };
        let lock = ioctl::Lock {
            op,
            seen,
            ..Default::default()
        };
        checks.equal(
            format!("operation {op} before map"),
            ask(&nothing, lock),
            Err(Errno::ENXIO),
        );
    }
    let member = Member::new()?;
    let good = ioctl::Lock {
        op: LOCK_REGISTER,
        number: 1,
        ..Default::default()
    };
    for (what, lock) in [
        ("operation 0", ioctl::Lock { op: 0, ..good }),
        ("operation 5", ioctl::Lock { op: 5, ..good }),
        (
            "lock 64",
            ioctl::Lock {
                number: LOCKS_MAX,
                ..good
            },
        ),
        (
            "the last number there is",
            ioctl::Lock {
                number: u32::MAX,
                ..good
            },
        ),
        ("pad", ioctl::Lock { pad: 1, ..good }),
        (
            "reserved",
            ioctl::Lock {
                reserved: 1,
                ..good
            },
        ),
        ("a word without a wait", ioctl::Lock { seen: 1, ..good }),
        (
            "a time without a wait",
            ioctl::Lock {
                timeout_us: 1,
                ..good
            },
        ),
    ] {
        checks.equal(what, ask(&member.session, lock), Err(Errno::EINVAL));
    }
    for (what, answer) in [
        ("unregister", member.ask(LOCK_UNREGISTER, 1)),
        ("wake", member.ask(LOCK_WAKE, 1)),
        ("wait", member.wait(1, LOCK_WAITERS | 1, 1)),
    ] {
        checks.equal(
            format!("{what} without registering"),
            answer,
            Err(Errno::ENOENT),
        );
    }
    let offset = member.session.mapped()?.told.locks_offset;
    for (what, offset, len) in [
        ("two pages of locks", offset, 2 * LOCKS_LEN as usize),
        (
            "a page behind the locks",
            offset + u64::from(LOCKS_LEN),
            LOCKS_LEN as usize,
        ),
        (
            "a page before the locks",
            offset - u64::from(LOCKS_LEN),
            LOCKS_LEN as usize,
        ),
    ] {
        let error = map_locks(&member.session, offset, len).err();
        checks.equal(
            what,
            error.and_then(|e| e.raw_os_error()),
            Some(libc::EINVAL),
        );
    }
    Ok(())
}

fn registration(checks: &mut Checks) -> Outcome {
    let member = Member::new()?;
    for number in [0, 7, 63, 7] {
        checks.equal(
            format!("register {number}"),
            member.ask(LOCK_REGISTER, number),
            Ok(()),
        );
    }
    checks.equal(
        "three are registered, one of them twice",
        member.registered()?,
        3,
    );
    checks.equal("unregister", member.ask(LOCK_UNREGISTER, 7), Ok(()));
    checks.equal(
        "and again",
        member.ask(LOCK_UNREGISTER, 7),
        Err(Errno::ENOENT),
    );
    checks.equal("two are left", member.registered()?, 2);
    let other = Member::new()?;
    checks.equal("another session has none", other.registered()?, 0);
    member.session.unmap().context("unmap")?;
    checks.equal("after unmap there is none", member.registered()?, 0);
    Ok(())
}

extern "C" fn nothing(_: libc::c_int) {}

fn waits(checks: &mut Checks) -> Outcome {
    let member = Member::new()?;
    member.ask(LOCK_REGISTER, 2).context("register")?;
    let word = member.word(2);
    word.store(0);
    checks.equal("a free lock", try_take(word, member.id), Attempt::Taken);
    checks.equal(
        "a taken one",
        try_take(word, member.id),
        Attempt::Busy(member.id),
    );
    checks.equal(
        "a wait that nobody would end",
        member.wait(2, member.id, 1000),
        Err(Errno::EINVAL),
    );
    checks.equal(
        "a wait for what was",
        member.wait(2, LOCK_WAITERS | 99, 0),
        Ok(()),
    );
    let seen = announce(word, member.id).context("nobody else has the word")?;
    for micros in [1, 5_000, 50_000] {
        let begin = Instant::now();
        let answer = member.wait(2, seen, micros);
        checks.equal(
            format!("a wait of {micros} us"),
            answer,
            Err(Errno::ETIMEDOUT),
        );
        let took = begin.elapsed();
        checks.that(
            "  not early",
            took >= Duration::from_micros(micros),
            format!("{took:?}"),
        );
    }
    let quiet = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(Signal::SIGALRM, &quiet) }?;
    alarm::set(1);
    checks.equal(
        "a wait and a signal",
        member.wait(2, seen, 0),
        Err(Errno::EINTR),
    );
    checks.equal(
        "whoever releases is to wake",
        release(word, member.id),
        Release::Wake,
    );
    checks.equal("and can", member.ask(LOCK_WAKE, 2), Ok(()));
    Ok(())
}

/// Does something while another thread waits; how that ends.
fn meanwhile(
    member: &Member,
    number: u32,
    seen: u32,
    event: impl FnOnce() -> Outcome,
) -> Result<Result<(), Errno>> {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| member.wait(number, seen, 30_000_000));
        // Long enough to be asleep; if it is not, it ends all the same.
        std::thread::sleep(Duration::from_millis(50));
        event()?;
        waiter.join().ok().context("the waiter panicked")
    })
}

fn wakes(checks: &mut Checks) -> Outcome {
    let (one, two) = (Member::new()?, Member::new()?);
    for member in [&one, &two] {
        member.ask(LOCK_REGISTER, 3).context("register")?;
    }
    one.word(3).store(two.id | LOCK_WAITERS);
    let woken = meanwhile(&one, 3, two.id | LOCK_WAITERS, || {
        checks.equal("release", release(two.word(3), two.id), Release::Wake);
        two.ask(LOCK_WAKE, 3).context("wake")
    })?;
    checks.equal("a waking ends a wait", woken, Ok(()));

    one.word(3).store(two.id | LOCK_WAITERS);
    let timed_out = std::thread::scope(|scope| -> Result<_> {
        let waiter = scope.spawn(|| one.wait(3, two.id | LOCK_WAITERS, 300_000));
        for _ in 0..50 {
            two.ask(LOCK_WAKE, 3).context("wake")?;
            std::thread::sleep(Duration::from_millis(1));
        }
        waiter.join().ok().context("the waiter panicked")
    })?;
    checks.equal(
        "but not while the word is the same",
        timed_out,
        Err(Errno::ETIMEDOUT),
    );

    let unmapped = meanwhile(&one, 3, two.id | LOCK_WAITERS, || {
        one.session.unmap().context("unmap")
    })?;
    checks.equal(
        "the session is unmapped meanwhile",
        unmapped,
        Err(Errno::ENXIO),
    );
    one.word(3).store(0);
    Ok(())
}

/// Of each event of sessions that ended with locks in hand: the session, why, and how many locks.
fn told(listener: &mut Listener, sessions: &[u32]) -> Result<Vec<(u32, u32, u64)>> {
    let events = listener.take_of(sessions).context("read")?;
    let one = |e: &nettap_uapi::event::Event| (e.session, e.cause, e.count);
    Ok(events.iter().map(one).collect())
}

fn deaths(checks: &mut Checks) -> Outcome {
    let mut listener = Listener::to(&[EventKind::LockReleased])?;
    let one = Member::new()?;
    for number in 0..LOCKS_MAX {
        one.ask(LOCK_REGISTER, number).context("register")?;
        one.word(number).store(0);
    }
    let two = Member::new()?;
    for number in 0..LOCKS_MAX {
        two.ask(LOCK_REGISTER, number).context("register")?;
        checks_quietly(checks, number, try_take(two.word(number), two.id))?;
    }
    // One that it gives to the other, which is its right as long as both live.
    two.word(9).store(one.id);
    let two_id = two.id;
    let seen = announce(one.word(4), two_id).context("nobody else has the word")?;
    let woken = meanwhile(&one, 4, seen, || {
        drop(two);
        Ok(())
    })?;
    checks.equal("the owner's end ends a wait", woken, Ok(()));
    let dead = (0..LOCKS_MAX).filter(|&number| one.word(number).load() == LOCK_OWNER_DIED);
    checks.equal(
        "when close returns all that it had are free",
        dead.count(),
        63,
    );
    checks.equal("and the other's is not", one.word(9).load(), one.id);
    checks.equal(
        "who listens is told how many",
        told(&mut listener, &[one.id, two_id])?,
        vec![(two_id, CAUSE_CLOSED, 63)],
    );
    checks.equal(
        "the next owner is told",
        try_take(one.word(4), one.id),
        Attempt::TakenFromDead,
    );
    release(one.word(4), one.id);
    checks.equal("once", try_take(one.word(4), one.id), Attempt::Taken);
    checks.equal(
        "unregister what one has",
        one.ask(LOCK_UNREGISTER, 4),
        Ok(()),
    );
    checks.equal("  is an end, too", one.word(4).load(), LOCK_OWNER_DIED);
    let three = Member::new()?;
    three.ask(LOCK_REGISTER, 9).context("register")?;
    one.session.unmap().context("unmap")?;
    checks.equal("and so is unmap", three.word(9).load(), LOCK_OWNER_DIED);
    checks.equal(
        "  of which listeners are told",
        told(&mut listener, &[one.id, two_id, three.id])?,
        vec![(one.id, CAUSE_UNMAP, 1)],
    );
    drop(three);
    let none = told(&mut listener, &[one.id, two_id])?;
    checks.equal("who ends without a lock is not told of", none, vec![]);
    Ok(())
}

fn checks_quietly(checks: &mut Checks, number: u32, got: Attempt) -> Outcome {
    if got != Attempt::Taken {
        checks.equal(format!("lock {number} is free"), got, Attempt::Taken);
    }
    Ok(())
}

fn scribbles(checks: &mut Checks) -> Outcome {
    let one = Member::new()?;
    let two = Member::new()?;
    one.ask(LOCK_REGISTER, 5).context("register")?;
    // The second is a session, but not one that may have this lock.
    for nonsense in [12345, two.id, u32::MAX >> 2, LOCK_OWNER_DIED | 77] {
        let seen = nonsense | LOCK_WAITERS;
        one.word(5).store(seen);
        let what = format!("a wait for {nonsense:#x}, who has not registered the lock");
        checks.equal(what, one.wait(5, seen, 10_000_000), Ok(()));
        checks.equal("  makes it free", one.word(5).load(), LOCK_OWNER_DIED);
    }
    let free = LOCK_WAITERS | LOCK_OWNER_DIED;
    one.word(5).store(free);
    checks.equal("a wait for nobody", one.wait(5, free, 0), Ok(()));
    checks.equal("  changes nothing", one.word(5).load(), free);
    // As fast as it can, a thread of the other session takes back what the kernel gives away.
    two.ask(LOCK_REGISTER, 6).context("register")?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| -> Outcome {
        scope.spawn(|| {
            let mut value = two.id;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                two.word(6).store(if value & 1 == 0 {
                    value
                } else {
                    two.id | LOCK_WAITERS
                });
            }
        });
        let mut ended = Ok(());
        for _ in 0..200 {
            ended = Member::new().and_then(|dying| {
                dying.ask(LOCK_REGISTER, 6).context("register")?;
                let _ = dying.wait(6, two.id | LOCK_WAITERS, 1);
                dying.word(6).store(dying.id);
                Ok(())
            });
            if ended.is_err() {
                break;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        ended
    })?;
    checks.equal(
        "200 sessions end while another scribbles",
        one.registered()?,
        1,
    );
    Ok(())
}
