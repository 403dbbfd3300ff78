// SPDX-License-Identifier: GPL-2.0-only

//! Readings of the counters, one after the other, become what a tap's traffic was: how many packets a
//! second, how long each was out, how often the server looked.
//!
//! How long a packet is out nobody writes down; Little's law has it from what was out at each reading: packets
//! in flight, added up over time, by the packets that came.

use nettap::uapi::stats::{SessionStats, TapStats};
use std::collections::VecDeque;
use std::time::Duration;

/// The busiest stretch of this length counts as the highest rate: shorter ones are what a ring is for.
pub const BUSIEST: Duration = Duration::from_millis(100);

/// One reading.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When, since the first.
    pub at: Duration,
    /// All taps.
    pub taps: Vec<TapStats>,
    /// All sessions.
    pub sessions: Vec<SessionStats>,
}

impl Sample {
    fn tap(&self, id: u32) -> Option<&TapStats> {
        self.taps.iter().find(|tap| tap.id == id)
    }

    /// What the session's taps have detoured, and the rounds of its server.
    fn served(&self, session: u32) -> Option<(u64, u64)> {
        let found = self.sessions.iter().find(|one| one.id == session)?;
        let taps = self.taps.iter().filter(|tap| tap.session == session);
        let detoured = taps.fold(0u64, |sum, tap| sum.wrapping_add(tap.detoured));
        Some((detoured, found.rounds))
    }
}

/// Packets that were to detour and did not, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// The detour ring was full.
    pub ring: u64,
    /// No mbuf was free.
    pub mbufs: u64,
    /// The tap held `max_bytes`.
    pub bytes: u64,
    /// Other reasons.
    pub other: u64,
    /// The program was late or absent.
    pub stalled: u64,
}

impl Missed {
    /// Of a tap since it was opened.
    pub fn by(tap: &TapStats) -> Self {
        Self {
            ring: tap.passed_ring.wrapping_add(tap.dropped_ring),
            mbufs: tap.passed_mbufs.wrapping_add(tap.dropped_mbufs),
            bytes: tap.passed_bytes.wrapping_add(tap.dropped_bytes),
            other: tap.passed_other.wrapping_add(tap.dropped_other),
            stalled: tap.passed_stalled,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            ring: self.ring.wrapping_sub(before.ring),
            mbufs: self.mbufs.wrapping_sub(before.mbufs),
            bytes: self.bytes.wrapping_sub(before.bytes),
            other: self.other.wrapping_sub(before.other),
            stalled: self.stalled.wrapping_sub(before.stalled),
        }
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        [self.ring, self.mbufs, self.bytes, self.other, self.stalled]
            .iter()
            .fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// Packets that were to detour, with room for them or without.
fn offered(tap: &TapStats) -> u64 {
    tap.detoured.wrapping_add(Missed::by(tap).sum())
}

/// What a tap's traffic was.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The last reading.
    pub tap: TapStats,
    /// From the first reading to that one.
    pub interval: Duration,
    /// Readings.
    pub samples: u64,
    /// Packets that detoured.
    pub detoured: u64,
    /// And did not.
    pub missed: Missed,
    /// Packets a second that were to detour, rounded up.
    pub mean: u64,
    /// The same in the busiest [`BUSIEST`].
    pub peak: u64,
    /// Time between two rounds of its session's server, while packets came; nothing: no round.
    pub alpha: Option<Duration>,
    /// How long a packet was out.
    pub out: Duration,
    /// Bytes of a packet on the wire.
    pub length: u64,
    /// Bytes that a packet holds in the kernel; nothing: no reading saw one.
    pub held: Option<u64>,
    /// Most packets out at a reading.
    pub most_out: u64,
    /// Most cells of the detour ring in use at a reading.
    pub most_used: u32,
    /// Whether the tap ended meanwhile.
    pub ended: bool,
}

/// One tap from reading to reading.
#[derive(Debug)]
pub struct Meter {
    first: TapStats,
    last: TapStats,
    begun: Duration,
    at: Duration,
    samples: u64,
    /// Of the last [`BUSIEST`]: when, and how many were offered until then.
    recent: VecDeque<(Duration, u64)>,
    peak: u64,
    /// Packets in flight times nanoseconds.
    out: u128,
    /// Bytes held times nanoseconds.
    held: u128,
    most_out: u64,
    most_used: u32,
    served: Option<(u64, u64)>,
    busy: Duration,
    rounds: u64,
    ended: bool,
}

impl Meter {
    /// Of a tap that the reading has.
    pub fn new(sample: &Sample, tap: &TapStats) -> Self {
        Self {
            first: *tap,
            last: *tap,
            begun: sample.at,
            at: sample.at,
            samples: 1,
            recent: VecDeque::from([(sample.at, offered(tap))]),
            peak: 0,
            out: 0,
            held: 0,
            most_out: tap.in_flight,
            most_used: tap.ring_used,
            served: sample.served(tap.session),
            busy: Duration::ZERO,
            rounds: 0,
            ended: false,
        }
    }

    /// The next reading.
    pub fn read(&mut self, sample: &Sample) {
        // Of one that is ending there is a record that is nobody's, and empty.
        let tap = sample.tap(self.last.id);
        let Some(tap) = tap.filter(|tap| tap.session == self.last.session) else {
            self.ended = true;
            return;
        };
        let passed = sample.at.saturating_sub(self.at);
        self.samples += 1;
        self.out += u128::from(tap.in_flight) * passed.as_nanos();
        self.held += u128::from(tap.held_bytes) * passed.as_nanos();
        self.most_out = self.most_out.max(tap.in_flight);
        self.most_used = self.most_used.max(tap.ring_used);
        let served = sample.served(tap.session);
        if let (Some(before), Some(now)) = (self.served, served) {
            // A server with nothing to do sleeps; its sleep is no α.
            if now.0 != before.0 {
                self.busy += passed;
                self.rounds += now.1.wrapping_sub(before.1);
            }
        }
        self.served = served;
        self.look_back(sample.at, offered(tap));
        self.at = sample.at;
        self.last = *tap;
    }

    /// Keeps what is needed to look back over [`BUSIEST`], and looks.
    fn look_back(&mut self, at: Duration, offered: u64) {
        self.recent.push_back((at, offered));
        while let Some((then, _)) = self.recent.get(1) {
            if at.saturating_sub(*then) < BUSIEST {
                break;
            }
            self.recent.pop_front();
        }
        if let Some((then, before)) = self.recent.front() {
            let span = at.saturating_sub(*then);
            if span >= BUSIEST {
                self.peak = self.peak.max(rate(offered.wrapping_sub(*before), span));
            }
        }
    }

    /// What there is to say in the end.
    pub fn traffic(&self) -> Traffic {
        let interval = self.at.saturating_sub(self.begun);
        let detoured = self.last.detoured.wrapping_sub(self.first.detoured);
        let bytes = (self.last.detoured_bytes).wrapping_sub(self.first.detoured_bytes);
        let all = offered(&self.last).wrapping_sub(offered(&self.first));
        let mean = rate(all, interval);
        let alpha = self.busy.as_nanos().checked_div(u128::from(self.rounds));
        let out = self.out.checked_div(u128::from(detoured));
        Traffic {
            tap: self.last,
            interval,
            samples: self.samples,
            detoured,
            missed: Missed::by(&self.last).since(Missed::by(&self.first)),
            mean,
            // Less than a stretch of it has been seen: the whole is all there is.
            peak: self.peak.max(mean),
            alpha: alpha.map(|ns| Duration::from_nanos(narrow(ns))),
            out: Duration::from_nanos(narrow(out.unwrap_or(0))),
            length: bytes.div_ceil(detoured.max(1)),
            held: self.held.checked_div(self.out).map(narrow),
            most_out: self.most_out,
            most_used: self.most_used,
            ended: self.ended,
        }
    }
}

/// Packets a second, rounded up.
fn rate(packets: u64, span: Duration) -> u64 {
    let ns = span.as_nanos().max(1);
    narrow((u128::from(packets) * 1_000_000_000).div_ceil(ns))
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}
