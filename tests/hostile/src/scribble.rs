// SPDX-License-Identifier: GPL-2.0-only

//! A program that writes over everything that it may write, while packets flow through its taps.
//!
//! It goes in rounds, each with a new session. In a round one thread handles packets, most of them as
//! it should and many not; others play tricks (`tricks`) on the shared pages, another makes calls, and
//! one sends packets. Half of the rounds leave the rings' own words alone, because a ring that is
//! destroyed carries nothing any more. When a round is over, the balance of every tap must close.

use crate::abi::{tap_request, Session, Tap};
use crate::chance::Chance;
use crate::figures::{Control, Sum};
use crate::fuzz::seed_of_the_moment;
use crate::sys::{add, get, syscall};
use crate::tricks::{lie, Bench, TRICKS};
use crate::Outcome;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use nettap_uapi::ioctl::{LOCK_REGISTER, LOCK_UNREGISTER, LOCK_WAIT, LOCK_WAKE, SERVE_BUSY};
use nettap_uapi::lock::{LOCK_DATA, LOCK_WAITERS};
use nettap_uapi::mbuf::{Header, DATA_OFFSET, NO_MBUF};
use nettap_uapi::ring::{Entry, Word, REVERT_CHANGED};
use nettap_uapi::tap::{TAP_BYPASS, TAP_INPUT, TAP_OUTPUT, TAP_UNSTAMPED};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use serde_json::{json, Value};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Length of a round.
const ROUND: Duration = Duration::from_millis(700);
/// Threads that play tricks.
const SCRIBBLERS: u64 = 2;
/// Names of packets that have been given back, to be used again.
const STALE: usize = 64;

/// An interface and a mode, written `b0:input`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) ifname: String,
    pub(crate) mode: u32,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (ifname, mode) = text.rsplit_once(':').context("write INTERFACE:MODE")?;
        let mode = match mode {
            "input" => TAP_INPUT,
            "output" => TAP_OUTPUT,
            "bypass" => TAP_BYPASS,
            other => bail!("{other} is no mode"),
        };
        Ok(Self {
            ifname: ifname.to_owned(),
            mode,
        })
    }
}

/// Arguments of `scribble`.
#[derive(Args)]
pub(crate) struct Scribble {
    /// A tap to open, as INTERFACE:MODE; may be given several times.
    #[arg(long = "tap", required = true)]
    taps: Vec<Place>,
    /// Where to send packets, so that they pass the taps; may be given several times.
    #[arg(long = "to")]
    peers: Vec<SocketAddr>,
    /// Seconds to go on.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The seed of all decisions; one from the clock otherwise.
    #[arg(long)]
    seed: Option<u64>,
}

/// What the threads count.
#[derive(Default)]
struct Tally {
    tricks: Vec<AtomicU64>,
    deeds: [AtomicU64; DEEDS.len()],
    calls: AtomicU64,
    sent: AtomicU64,
}

/// What is done with a packet.
const DEEDS: [&str; 9] = [
    "revert", "change", "lie", "drop", "twice", "cross", "stale", "keep", "new",
];

impl Scribble {
    pub(crate) fn run(self) -> Outcome {
        let seed = self.seed.unwrap_or_else(seed_of_the_moment);
        println!("seed {seed}");
        let control = Control::open()?;
        let tally = Tally {
            tricks: TRICKS.iter().map(|_| AtomicU64::new(0)).collect(),
            ..Tally::default()
        };
        let mut chance = Chance::new(seed);
        let (mut taps, mut refused, mut rounds) = (Sum::default(), 0, 0u64);
        let begun = Instant::now();
        while begun.elapsed().as_secs() < self.seconds {
            let seed = (u64::from(chance.draw()) << 32) | rounds;
            // By turns, so that few rounds have some of both.
            let mild = rounds % 2 == 1;
            let (ids, of_session) = self.round(Chance::new(seed), mild, &control, &tally)?;
            refused += of_session;
            let ended = control.ended(ids.iter().copied().min().unwrap_or(0))?;
            for id in ids {
                let tap = ended.iter().find(|tap| tap.id == id);
                taps.add(tap.with_context(|| format!("tap {id} has left no figures"))?)?;
            }
            rounds += 1;
            if rounds == 1 {
                println!("ready");
            }
        }
        let tricks = TRICKS.iter().zip(&tally.tricks);
        let tricks = tricks.map(|(trick, count)| (trick.name.to_owned(), get(count).into()));
        let deeds = DEEDS.iter().zip(&tally.deeds);
        let deeds = deeds.map(|(deed, count)| ((*deed).to_owned(), get(count).into()));
        let summary = json!({
            "seed": seed,
            "seconds": begun.elapsed().as_secs(),
            "rounds": rounds,
            "tricks": Value::Object(tricks.collect()),
            "deeds": Value::Object(deeds.collect()),
            "calls": get(&tally.calls),
            "sent": get(&tally.sent),
            "refused_by_session": refused,
            "taps": taps.json(),
        });
        println!("{summary}");
        ensure!(taps.detoured() > 0, "no packet came to the taps");
        Ok(())
    }

    /// One session from its beginning to its end, in which only mild tricks are played or all: the ids of its taps, and
    /// entries refused.
    fn round(
        &self,
        mut chance: Chance,
        mild: bool,
        control: &Control,
        tally: &Tally,
    ) -> Result<(Vec<u32>, u64)> {
        let prealloc = chance.pick(&[0, 16, 64, 200]).unwrap_or(16);
        let session = Session::open(prealloc)?;
        if chance.one_in(4) {
            session.serve(SERVE_BUSY).context("a busy session")?;
        }
        let taps = self
            .taps
            .iter()
            .map(|place| open_tap(&session, place, &mut chance));
        let taps = taps.collect::<Result<Vec<Tap>>>()?;
        let ids: Vec<u32> = taps.iter().map(|tap| tap.told.id).collect();
        let over = AtomicBool::new(false);
        let bench = |nth: u64| Bench {
            session: &session,
            taps: &taps,
            chance: Chance::new((u64::from(ids[0]) << 8) | nth),
        };
        let mut seeds = [0; 3];
        seeds.fill_with(|| u64::from(chance.draw()));
        let outcome = scope(|scope| {
            let handler = scope.spawn(|| handle(bench(seeds[0]), tally, &over));
            for nth in 0..SCRIBBLERS {
                let bench = bench(seeds[1] + nth);
                let over = &over;
                scope.spawn(move || scribble(bench, mild, tally, over));
            }
            scope.spawn(|| call(bench(seeds[2]), tally, &over));
            let sender = scope.spawn(|| self.send(Chance::new(seeds[2] + 1), tally, &over));
            sleep(ROUND);
            over.store(true, Ordering::Relaxed);
            let joined = [handler.join(), sender.join()];
            joined.into_iter().try_for_each(|outcome| match outcome {
                Ok(outcome) => outcome,
                Err(_) => bail!("a thread of the scribbler panicked"),
            })
        });
        outcome?;
        let id = session.id()?;
        let all = control.sessions()?;
        let mine = all.iter().find(|one| one.id == id);
        let refused = mine.context("the session is not listed")?.refused;
        end(session, taps, &mut chance);
        let left = control.taps()?;
        ensure!(
            !left.iter().any(|tap| ids.contains(&tap.id)),
            "a tap outlived its session: {left:?}"
        );
        let entries = refused.index + refused.holder + refused.generation + refused.flags;
        Ok((ids, entries + refused.scribbled))
    }

    /// Packets for the taps: small ones, long ones, super-packets.
    fn send(&self, mut chance: Chance, tally: &Tally, over: &AtomicBool) -> Outcome {
        let sockets = self.peers.iter().map(|peer| {
            let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
            socket.set_nonblocking(true)?;
            socket.connect(peer).context("connect")?;
            let cut = UdpSocket::bind("0.0.0.0:0").context("bind")?;
            cut.set_nonblocking(true)?;
            cut.connect(peer).context("connect")?;
            cut_by_kernel(&cut, 1000)?;
            Ok([socket, cut])
        });
        let sockets = sockets.collect::<Result<Vec<_>>>()?;
        let payload = vec![0x5a; 20_000];
        while !over.load(Ordering::Relaxed) {
            let size = chance
                .pick(&[8, 64, 64, 64, 1400, 4000, 20_000])
                .unwrap_or(8);
            let nth = chance.below(sockets.len());
            let kind = usize::from(chance.one_in(4));
            let socket = sockets.get(nth).and_then(|both| both.get(kind));
            // What does not fit into a buffer, or is refused by the other end, is not sent.
            let sent = socket.map(|socket| socket.send(payload.get(..size).unwrap_or(&payload)));
            if matches!(sent, Some(Ok(_))) {
                add(&tally.sent, 1);
            }
            chance.forget();
            sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// What is sent from here on is a super-packet of datagrams of so many bytes.
pub(crate) fn cut_by_kernel(socket: &UdpSocket, bytes: u32) -> Outcome {
    let fd = socket.as_fd().as_raw_fd() as usize;
    let (level, name) = (libc::SOL_UDP as usize, libc::UDP_SEGMENT as usize);
    let address = std::ptr::from_ref(&bytes) as usize;
    syscall(libc::SYS_setsockopt, &[fd, level, name, address, 4]).context("UDP_SEGMENT")?;
    Ok(())
}

/// A tap of any size and kind, with any policies.
pub(crate) fn open_tap(session: &Session, place: &Place, chance: &mut Chance) -> Result<Tap> {
    let mut asked = tap_request(&place.ifname, place.mode);
    asked.ring_cells = chance.pick(&[16, 64, 256, 1024]).unwrap_or(0);
    asked.snaplen = chance.pick(&[0, 0, 0, 60, 200, 1900, 2000]).unwrap_or(0);
    asked.on_exit = chance.draw() % 2;
    asked.gso = chance.draw() % 2;
    asked.on_full = u32::from(chance.one_in(4));
    asked.fanout = chance.pick(&[0, 0, 1, 2, 3]).unwrap_or(0);
    asked.max_age_us = chance.pick(&[0, 0, 0, 1000, 50_000]).unwrap_or(0);
    asked.flags = chance.pick(&[0, 0, TAP_UNSTAMPED]).unwrap_or(0);
    session.tap(asked)
}

/// All ends are one.
pub(crate) fn end(session: Session, taps: Vec<Tap>, chance: &mut Chance) {
    match chance.below(4) {
        0 => drop(taps),
        1 => {
            let _ = session.unmap();
            drop(taps);
        }
        2 => {
            drop(session);
            drop(taps);
            return;
        }
        _ => {
            let mut taps = taps;
            while !taps.is_empty() {
                taps.swap_remove(chance.below(taps.len()));
                let _ = session.push(-1, 0, 0);
            }
        }
    }
    drop(session);
}

/// Plays tricks.
fn scribble(mut bench: Bench<'_>, mild: bool, tally: &Tally, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for _ in 0..16 {
            let nth = bench.chance.below(TRICKS.len());
            let Some(trick) = TRICKS.get(nth) else { break };
            if mild && !trick.mild {
                continue;
            }
            (trick.play)(&mut bench);
            tally.tricks.get(nth).map(|count| add(count, 1));
        }
        bench.chance.forget();
        sleep(Duration::from_micros(100));
    }
}

/// Calls, as a program makes them and oftener.
fn call(mut bench: Bench<'_>, tally: &Tally, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let tap = bench.chance.below(bench.taps.len());
        let fd = bench.taps.get(tap).map_or(-1, Tap::number);
        let n = bench.chance.draw() % 64;
        let _: Result<(), Errno> = match bench.chance.below(5) {
            0 => bench.session.push(-1, 0, 0),
            1 => bench.session.push(fd, n, 1000),
            2 => bench.session.pull(n, 1000),
            3 => lock(&mut bench, n),
            _ => {
                let mut watched = [PollFd::new(bench.session.as_fd(), PollFlags::all())];
                poll(&mut watched, PollTimeout::from(1u8)).map(drop)
            }
        };
        add(&tally.calls, 1);
        bench.chance.forget();
        sleep(Duration::from_micros(300));
    }
}

/// Anything with a lock whose word anybody may write.
fn lock(bench: &mut Bench<'_>, number: u32) -> Result<(), Errno> {
    let word = bench.session.locks().get(number as usize * (LOCK_DATA + 1));
    let seen = word.map_or(0, Word::load) | LOCK_WAITERS;
    let op = bench.chance.pick(&[
        LOCK_REGISTER,
        LOCK_REGISTER,
        LOCK_UNREGISTER,
        LOCK_WAIT,
        LOCK_WAKE,
    ]);
    bench
        .session
        .lock(op.unwrap_or(LOCK_REGISTER), number, seen)
}

/// Takes packets and does something with each.
fn handle(mut bench: Bench<'_>, tally: &Tally, over: &AtomicBool) -> Outcome {
    let mut kept: Vec<(usize, Entry)> = Vec::new();
    let mut stale: Vec<Entry> = Vec::new();
    let mut batch = [Entry::default(); 32];
    while !over.load(Ordering::Relaxed) {
        for (nth, tap) in bench.taps.iter().enumerate() {
            let came = tap.detour.take(&mut batch)?;
            for &entry in batch.iter().take(came) {
                deal(&mut bench, (nth, entry), &mut kept, &mut stale, tally)?;
            }
        }
        make(&mut bench, tally)?;
        while kept.len() > 100 {
            let (nth, entry) = kept.swap_remove(bench.chance.below(kept.len()));
            give(&bench, nth, entry)?;
        }
        stale.drain(..stale.len().saturating_sub(STALE));
        bench.chance.forget();
        std::thread::yield_now();
    }
    Ok(())
}

/// Puts an entry into the revert ring of a tap, without waiting for room.
fn give(bench: &Bench<'_>, nth: usize, entry: Entry) -> Outcome {
    match bench.taps.get(nth) {
        Some(tap) => tap.revert.put(entry).map(drop),
        None => Ok(()),
    }
}

fn deal(
    bench: &mut Bench<'_>,
    (nth, entry): (usize, Entry),
    kept: &mut Vec<(usize, Entry)>,
    stale: &mut Vec<Entry>,
    tally: &Tally,
) -> Outcome {
    let changed = Entry {
        flags: REVERT_CHANGED,
        ..entry
    };
    let deed = match bench.chance.below(20) {
        0..=8 => 0,
        9..=11 => 1,
        12..=14 => 2,
        15 => 3,
        16 => 4,
        17 => 5,
        18 => 6,
        _ => 7,
    };
    tally.deeds.get(deed).map(|count| add(count, 1));
    let other = bench.chance.below(bench.taps.len());
    match deed {
        1 => give(bench, nth, changed)?,
        2 => {
            let mut header = bench.session.header(entry.index);
            lie(&mut header, bench.session.told.mbuf_size, &mut bench.chance);
            bench.session.set_header(entry.index, header);
            give(bench, nth, changed)?;
        }
        3 => drop(bench.session.dealloc.put(entry)?),
        4 => {
            give(bench, nth, entry)?;
            give(bench, other, changed)?;
            bench.session.dealloc.put(entry)?;
        }
        5 => {
            let crossing = bench.chance.pick(&[entry, changed]).unwrap_or(entry);
            give(bench, other, crossing)?;
        }
        6 => {
            give(bench, nth, entry)?;
            let nth_stale = bench.chance.below(stale.len());
            if let Some(&old) = stale.get(nth_stale) {
                give(bench, other, old)?;
            }
        }
        7 => kept.push((nth, entry)),
        _ => give(bench, nth, entry)?,
    }
    stale.push(entry);
    Ok(())
}

/// A new packet now and then, true or not, of one mbuf or several.
fn make(bench: &mut Bench<'_>, tally: &Tally) -> Outcome {
    if !bench.chance.one_in(8) {
        return Ok(());
    }
    let mut parts = [Entry::default(); 4];
    let wanted = 1 + bench.chance.below(parts.len());
    let came = bench.session.alloc.take(&mut parts[..wanted])?;
    let chain = parts.get(..came).unwrap_or_default();
    for (nth, part) in chain.iter().enumerate() {
        let mut header = Header {
            next: chain.get(nth + 1).map_or(NO_MBUF, |next| next.index),
            offset: DATA_OFFSET as u16,
            len: bench.chance.pick(&[14, 60, 100, 1500, 1900]).unwrap_or(60),
            ..Header::default()
        };
        if bench.chance.one_in(2) {
            lie(&mut header, bench.session.told.mbuf_size, &mut bench.chance);
        }
        let mut frame = [0u8; 64];
        frame.fill_with(|| bench.chance.draw() as u8);
        // IPv4 more often than not, so that it gets somewhere.
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        bench
            .session
            .write(part.index, DATA_OFFSET as usize, &frame);
        bench.session.set_header(part.index, header);
    }
    if let Some(&first) = chain.first() {
        let to = bench.chance.below(bench.taps.len());
        give(
            bench,
            to,
            Entry {
                flags: REVERT_CHANGED,
                ..first
            },
        )?;
        tally.deeds.last().map(|count| add(count, 1));
    }
    Ok(())
}
