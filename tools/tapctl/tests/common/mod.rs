// SPDX-License-Identifier: GPL-2.0-only

//! A module that answers with records of the test's own, and a way to run a command against it.

#![allow(dead_code, reason = "no test uses all of it")]

use nettap::admin::Policies;
use nettap::uapi::event::{CAUSE_EXIT, CAUSE_INTERFACE_GONE, CAUSE_RING, CAUSE_UNTAP};
use nettap::uapi::stats::{Refused, RegionStats, SessionStats, TapStats};
use nettap::uapi::tap::{ACCESS_GID, FILTER_CLASSIC, TAP_BYPASS, TAP_INPUT};
use nettap::{Event, EventKind, Info};
use std::cell::RefCell;
use std::time::Duration;
use tapctl::cmd::{Context, Verdict};
use tapctl::failure::Failure;
use tapctl::kernel::{no_tap, Events, Kernel, Samples};
use tapctl::measure::Sample;
use tapctl::netns::Netns;
use tapctl::out::Out;

/// A module with one program, `snort`, that has two taps.
#[derive(Debug)]
pub(crate) struct Fake {
    /// What `region` answers.
    pub(crate) region: RegionStats,
    /// Regions of named groups.
    pub(crate) groups: Vec<RegionStats>,
    /// What `sessions` answers.
    pub(crate) sessions: Vec<SessionStats>,
    /// What `taps` answers.
    pub(crate) taps: Vec<TapStats>,
    /// Taps that were ended.
    pub(crate) ended: RefCell<Vec<u32>>,
    /// Taps whose policies were changed, and to what.
    pub(crate) set: RefCell<Vec<(u32, String)>>,
}

/// A network namespace that is not the test's.
pub(crate) const ELSEWHERE: u32 = 7;

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// The namespace of the test.
pub(crate) fn here() -> Netns {
    Netns::find(None).expect("a process has a network namespace")
}

impl Default for Fake {
    fn default() -> Self {
        let session = SessionStats {
            id: 2,
            pid: 812,
            comm: text("snort"),
            mapped: 1,
            taps: 2,
            allocated: 64,
            prealloc: 64,
            deallocated: 30,
            rounds: 500,
            calls: 3,
            wakeups: 4,
            ..SessionStats::default()
        };
        let tap = TapStats {
            id: 3,
            session: 2,
            pid: 812,
            mode: TAP_INPUT,
            ifindex: 4,
            netns: here().inode(),
            ifname: text("eth0"),
            ring_cells: 256,
            ring_used: 1,
            max_bytes: 32 << 20,
            held_bytes: 3000,
            detoured: 1234,
            detoured_bytes: 123_400,
            detoured_gso: 5,
            reverted: 1200,
            dropped_by_program: 30,
            in_flight: 4,
            ring_high_water: 17,
            passed_filter: 7,
            ..TapStats::default()
        };
        let other = TapStats {
            id: 5,
            mode: TAP_BYPASS,
            ifindex: 9,
            netns: ELSEWHERE,
            ifname: text("veth1"),
            on_full: 1,
            on_exit: 1,
            gso: 1,
            snaplen: 128,
            filter: FILTER_CLASSIC,
            detoured: 0,
            detoured_bytes: 0,
            detoured_gso: 0,
            reverted: 0,
            dropped_by_program: 0,
            in_flight: 0,
            ring_used: 0,
            held_bytes: 0,
            ..tap
        };
        Self {
            region: RegionStats {
                mbuf_size: 2048,
                mbufs: 4096,
                free: 4000,
                allocated: 64,
                detoured: 32,
                kernel: 0,
                sessions: 1,
                taps: 2,
                reclaimed: 11,
                huge: 8 << 20,
                ..RegionStats::default()
            },
            groups: vec![RegionStats {
                mbuf_size: 512,
                mbufs: 1024,
                free: 1000,
                allocated: 16,
                detoured: 8,
                sessions: 1,
                reclaimed: 3,
                id: 2,
                access: ACCESS_GID,
                uid: 1000,
                gid: 100,
                group: text("web"),
                ..RegionStats::default()
            }],
            sessions: vec![session],
            taps: vec![tap, other],
            ended: RefCell::default(),
            set: RefCell::default(),
        }
    }
}

impl Fake {
    /// The same, with things gone wrong on the first tap.
    pub(crate) fn ailing() -> Self {
        let mut fake = Self::default();
        fake.region.free = 17;
        fake.taps[0].in_flight = 3;
        fake.taps[0].passed_ring = 12;
        fake.taps[0].passed_stalled = 5;
        fake.taps[0].failed_open = 1;
        fake.taps[0].refused = Refused {
            generation: 2,
            ..Refused::default()
        };
        fake
    }
}

/// A program that opens a tap, is too slow, is ended and killed, and an interface that goes.
fn happened() -> Vec<Event> {
    let begun = 1_795_287_600_000_000_000;
    let session = Event {
        session: 2,
        pid: 812,
        comm: text("snort"),
        ..Event::default()
    };
    let tap = Event {
        tap: 3,
        mode: TAP_INPUT,
        ifindex: 4,
        netns: here().inode(),
        ifname: text("eth0"),
        ..session
    };
    let mut events = vec![
        Event {
            kind: EventKind::SessionOpen.raw(),
            ..session
        },
        Event {
            kind: EventKind::TapOpen.raw(),
            ..tap
        },
        Event {
            kind: EventKind::Drop.raw(),
            cause: CAUSE_RING,
            passed: 49,
            ..tap
        },
        Event {
            kind: EventKind::Reclaim.raw(),
            cause: CAUSE_UNTAP,
            count: 20,
            passed: 19,
            dropped: 1,
            lost: 7,
            ..tap
        },
        Event {
            kind: EventKind::TapClose.raw(),
            cause: CAUSE_UNTAP,
            by: 900,
            ..tap
        },
        Event {
            kind: EventKind::SessionClose.raw(),
            cause: CAUSE_EXIT,
            ..session
        },
        Event {
            kind: EventKind::InterfaceGone.raw(),
            cause: CAUSE_INTERFACE_GONE,
            ifindex: 9,
            netns: ELSEWHERE,
            ifname: text("veth1"),
            count: 2,
            dropped: 1,
            ..Event::default()
        },
        Event {
            kind: 99,
            ..session
        },
    ];
    let (mut number, mut time) = (0, begun);
    for event in &mut events {
        number += 1 + event.lost;
        time += 1_500_000;
        (event.number, event.time) = (number, time);
    }
    events
}

/// The first tap for so long: 20000 packets of 500 bytes a second, for a fifth of a second 50000; 40 of them are out,
/// each of which takes 1000 bytes; the server looks every 200 microseconds. From the middle on the ring is full for
/// 30 packets.
fn flowing(taps: &[TapStats], sessions: &[SessionStats], time: Duration) -> Vec<Sample> {
    let ends = u64::try_from(time.as_millis() / 10).expect("not so long");
    let (mut taps, mut sessions) = (taps.to_vec(), sessions.to_vec());
    let mut samples = Vec::new();
    for nth in 0..=ends {
        samples.push(Sample {
            at: Duration::from_millis(10 * nth),
            taps: taps.clone(),
            sessions: sessions.clone(),
        });
        let packets = if (50..70).contains(&nth) { 500 } else { 200 };
        let tap = &mut taps[0];
        (tap.in_flight, tap.held_bytes, tap.ring_used) = (40, 40_000, 32);
        tap.detoured += packets;
        tap.detoured_bytes += packets * 500;
        tap.reverted = tap.detoured - tap.dropped_by_program - tap.in_flight;
        tap.ring_high_water = 256;
        if nth == ends / 2 {
            tap.passed_ring += 30;
        }
        sessions[0].rounds += 50;
    }
    samples
}

impl Kernel for Fake {
    fn info(&self) -> Result<Info, Failure> {
        Ok(Info {
            abi_version: 1,
            features: 0,
            session: 6,
            mbuf_size: 2048,
            mbufs: 4096,
            alpha: (Duration::from_micros(50), Duration::from_micros(1000)),
            ring_max: 65536,
            taps_max: 64,
        })
    }

    fn regions(&self) -> Result<Vec<RegionStats>, Failure> {
        Ok([&[self.region], &self.groups[..]].concat())
    }

    fn sessions(&self) -> Result<Vec<SessionStats>, Failure> {
        Ok(self.sessions.clone())
    }

    fn taps(&self) -> Result<Vec<TapStats>, Failure> {
        Ok(self.taps.clone())
    }

    fn events(&self, kinds: &[EventKind]) -> Result<Events, Failure> {
        let kinds = kinds.to_vec();
        let wanted =
            move |event: &Event| kinds.is_empty() || kinds.iter().any(|k| k.raw() == event.kind);
        Ok(Box::new(happened().into_iter().filter(wanted).map(Ok)))
    }

    fn samples(&self, time: Duration) -> Result<Samples, Failure> {
        let samples = flowing(&self.taps, &self.sessions, time);
        Ok(Box::new(samples.into_iter().map(Ok)))
    }

    fn untap(&self, id: u32) -> Result<(), Failure> {
        if !self.taps.iter().any(|tap| tap.id == id) {
            return Err(no_tap("end", id));
        }
        self.ended.borrow_mut().push(id);
        Ok(())
    }

    fn set(&self, id: u32, policies: &Policies) -> Result<(), Failure> {
        if !self.taps.iter().any(|tap| tap.id == id) {
            return Err(no_tap("change", id));
        }
        self.set.borrow_mut().push((id, format!("{policies:?}")));
        Ok(())
    }
}

/// How a command's output is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// Text.
    Plain,
    /// Text with `--quiet`.
    Quiet,
    /// JSON.
    Json,
}

/// Runs a command line against a module; what it printed, without colours, and how it ended.
pub(crate) fn run(fake: &Fake, form: Form, words: &[&str]) -> (String, Result<Verdict, Failure>) {
    let words = [&["tapctl"], words].concat();
    let cli = <tapctl::args::Cli as clap::Parser>::try_parse_from(words).expect("a command line");
    let netns = here();
    let mut printed = Vec::new();
    let ended = {
        let mut stripped = anstream::StripStream::new(&mut printed);
        let json = matches!(form, Form::Json);
        let mut out = Out::new(json, matches!(form, Form::Quiet), &mut stripped);
        let mut context = Context {
            kernel: fake,
            netns: &netns,
            out: &mut out,
            argv: &[],
        };
        tapctl::cmd::dispatch(cli, &mut context)
    };
    (String::from_utf8(printed).expect("text"), ended)
}

/// What a command that succeeds prints; the test's namespace has the number that no other has.
pub(crate) fn printed(fake: &Fake, form: Form, words: &[&str]) -> String {
    let (printed, ended) = run(fake, form, words);
    assert!(ended.is_ok(), "{words:?}: {ended:?}");
    let here = format!("\"netns\": {}", here().inode());
    printed.replace(&here, "\"netns\": 4026531840")
}
