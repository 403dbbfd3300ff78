// SPDX-License-Identifier: GPL-2.0-only

//! What the fuzzer's processes have in common: counts, what has been reached in the kernel, and the
//! tapes that reached it. It lies in shared memory, so that nothing is lost with a process that is
//! killed, which is how most of them end.

use super::calls::CALLS;
use super::shapes::SHAPES;
use crate::chance::{Chance, TAPE_MAX};
use crate::sys::{add, get, look, set, Shareable};
use nix::errno::Errno;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering};
use std::time::Duration;

/// Tapes that are kept.
const TAPES: usize = 2048;
/// Places for what was reached; an address of code has one of them.
const REACHED: usize = 1 << 16;
/// Error numbers, and one place for success.
const ERRNOS: usize = 134;
/// Room in the tables of calls and requests.
const ROWS: usize = 48;
/// Processes at once.
pub(crate) const WORKERS_MAX: usize = 16;

#[repr(C)]
struct Tape {
    len: AtomicU32,
    numbers: [AtomicU32; TAPE_MAX],
}

/// How a process is doing.
#[repr(C)]
pub(crate) struct Pulse {
    /// Calls that it has come back from.
    pub(crate) calls: AtomicU64,
    /// Number of the call, of those in the table, that a thread of it made last.
    pub(crate) latest: AtomicU32,
}

/// The shared memory.
#[repr(C)]
pub(crate) struct Board {
    stop: AtomicBool,
    reached: [AtomicU8; REACHED],
    reached_count: AtomicU32,
    tapes_count: AtomicU32,
    tapes: [Tape; TAPES],
    calls: AtomicU64,
    by_call: [AtomicU64; ROWS],
    /// Microseconds that calls of a kind took, by the clock.
    micros: [AtomicU64; ROWS],
    errnos: [AtomicU64; ERRNOS],
    by_request: [[AtomicU64; ERRNOS]; ROWS],
    pub(crate) pulses: [Pulse; WORKERS_MAX],
}

// SAFETY: atomics only, for which zero is a value; nothing in it is aligned to more than a word.
unsafe impl Shareable for Board {}

fn place_of(errno: Option<Errno>) -> usize {
    errno.map_or(0, |errno| (errno as i32).unsigned_abs() as usize)
}

impl Board {
    /// Calls made in all.
    pub(crate) fn calls(&self) -> u64 {
        get(&self.calls)
    }

    /// Tells everybody to come to an end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether everybody is to come to an end.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts a call, the `call`th of the table, and how long it took.
    pub(crate) fn count(&self, worker: usize, call: usize, took: Duration, errno: Option<Errno>) {
        add(&self.calls, 1);
        if let (Some(counter), Some(micros)) = (self.by_call.get(call), self.micros.get(call)) {
            add(counter, 1);
            add(micros, took.as_micros() as u64);
        }
        if let Some(counter) = self.errnos.get(place_of(errno)) {
            add(counter, 1);
        }
        if let Some(pulse) = self.pulses.get(worker) {
            add(&pulse.calls, 1);
        }
    }

    /// Counts a request, the `shape`th of the table.
    pub(crate) fn count_request(&self, shape: usize, errno: Option<Errno>) {
        let row = self.by_request.get(shape);
        if let Some(counter) = row.and_then(|row| row.get(place_of(errno))) {
            add(counter, 1);
        }
    }

    /// Whether code at this address is reached for the first time.
    pub(crate) fn reach(&self, address: u64) -> bool {
        // Multiplication by 2^64 divided by the golden ratio spreads what lies side by side.
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let place = self.reached.get(hash as usize % REACHED);
        // Nearly always it is not: a look costs much less than an exchange.
        let first = place.is_some_and(|place| {
            place.load(Ordering::Relaxed) == 0 && place.swap(1, Ordering::Relaxed) == 0
        });
        if first {
            self.reached_count.fetch_add(1, Ordering::Relaxed);
        }
        first
    }

    /// Keeps a tape, while there is room.
    pub(crate) fn keep(&self, numbers: &[u32]) {
        let place = self.tapes_count.fetch_add(1, Ordering::Relaxed) as usize;
        let Some(tape) = self.tapes.get(place) else {
            set(&self.tapes_count, TAPES as u32);
            return;
        };
        for (to, &from) in tape.numbers.iter().zip(numbers) {
            set(to, from);
        }
        set(&tape.len, numbers.len().min(TAPE_MAX) as u32);
    }

    /// Tapes that are kept.
    pub(crate) fn tapes(&self) -> usize {
        (look(&self.tapes_count) as usize).min(TAPES)
    }

    /// One of the tapes; empty when there is none.
    pub(crate) fn tape(&self, chance: &mut Chance) -> Vec<u32> {
        let nth = chance.below(self.tapes());
        self.tapes.get(nth).map_or_else(Vec::new, |tape| {
            let len = look(&tape.len) as usize;
            tape.numbers.iter().take(len).map(look).collect()
        })
    }

    /// How much code was reached.
    pub(crate) fn reached(&self) -> u32 {
        look(&self.reached_count)
    }

    /// Seconds by kind of call, of all threads together.
    pub(crate) fn times(&self) -> Value {
        let kinds = CALLS.iter().zip(&self.micros);
        let kinds =
            kinds.map(|(call, micros)| (call.name.to_owned(), (get(micros) / 1_000_000).into()));
        Value::Object(kinds.collect())
    }

    /// Calls by kind, results in all, and results of each request.
    pub(crate) fn tables(&self) -> (Value, Value, Value) {
        let kinds = CALLS.iter().zip(&self.by_call);
        let kinds = kinds.map(|(call, count)| (call.name.to_owned(), get(count).into()));
        let requests = SHAPES.iter().zip(&self.by_request);
        let requests = requests.map(|(shape, row)| (shape.name.to_owned(), histogram(row)));
        (
            Value::Object(kinds.collect()),
            histogram(&self.errnos),
            Value::Object(requests.collect()),
        )
    }
}

fn histogram(row: &[AtomicU64]) -> Value {
    let named = row.iter().enumerate().filter(|(_, count)| get(count) > 0);
    let named: Map<String, Value> = named
        .map(|(place, count)| {
            let name = match i32::try_from(place) {
                Ok(0) | Err(_) => "ok".to_owned(),
                Ok(errno) => format!("{:?}", Errno::from_raw(errno)),
            };
            (name, get(count).into())
        })
        .collect();
    Value::Object(named)
}
