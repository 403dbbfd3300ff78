// SPDX-License-Identifier: GPL-2.0-only

//! Counters, a name per cause. What is exported is in `uapi/src/ioctl.rs`; who counts what under
//! which lock is here.

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;

use crate::uapi::stats::Refused;
use crate::uapi::stats::TapStats;

/// A counter that any CPU may raise.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    /// Zero.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Raises it from anywhere.
    pub(crate) fn add(&self, n: u64) {
        let _ = self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Adds to a counter that a lock protects. Wraps after five hundred years of one packet a nanosecond.
pub(crate) fn bump(counter: &mut u64, n: u64) {
    *counter = counter.wrapping_add(n);
}

/// What the way up counts, under the tap's own lock.
#[derive(Default, Clone, Copy)]
pub(crate) struct DetourCounts {
    pub(crate) detoured: u64,
    pub(crate) bytes: u64,
    pub(crate) high_water: u64,
}

/// Packets that were not detoured, by cause; counted with no lock, as it is not the usual case.
pub(crate) struct MissCounts {
    pub(crate) ring: Counter,
    pub(crate) mbufs: Counter,
    pub(crate) bytes: Counter,
    pub(crate) other: Counter,
}

impl MissCounts {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self {
            ring: Counter::new(),
            mbufs: Counter::new(),
            bytes: Counter::new(),
            other: Counter::new(),
        }
    }

    /// Counts one.
    pub(crate) fn count(&self, miss: Miss) {
        match miss {
            Miss::Ring => self.ring.add(1),
            Miss::Mbufs => self.mbufs.add(1),
            Miss::Bytes => self.bytes.add(1),
            Miss::Other => self.other.add(1),
        }
    }
}

/// Why a packet was not detoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The detour ring is full.
    Ring,
    /// No mbuf is free.
    Mbufs,
    /// The tap holds as many bytes as it may.
    Bytes,
    /// Not readable by a processor, or no memory to keep it.
    Other,
}

/// How a detoured packet ended, under the lock of the session that serves it. The balance of
/// `TapStats` is about these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Reverted,
    Changed,
    Crossed,
    DroppedByProgram,
    Reinjected,
    DroppedByPolicy,
    HandedOver,
    Refused(Flaw),
}

/// What is wrong with a changed or new packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Offset, length or chain.
    Shape,
    /// Checksum or segmentation state.
    Offload,
    /// The change does not fit the packet, or the packet not the interface.
    Change,
    /// No memory.
    Memory,
}

/// What the way back counts, under the lock of the session.
#[derive(Default, Clone, Copy)]
pub(crate) struct RevertCounts {
    pub(crate) ends: Ends,
    pub(crate) crossed_in: u64,
    pub(crate) injected: u64,
    pub(crate) injected_refused: u64,
    pub(crate) refused: Refused,
    pub(crate) undelivered: u64,
    pub(crate) aged: u64,
}

/// A number for each [`End`].
#[derive(Default, Clone, Copy)]
pub(crate) struct Ends {
    reverted: u64,
    changed: u64,
    crossed: u64,
    dropped_by_program: u64,
    reinjected: u64,
    dropped_by_policy: u64,
    handed_over: u64,
    shape: u64,
    offload: u64,
    change: u64,
    memory: u64,
    all: u64,
}

impl Ends {
    /// Counts packets.
    pub(crate) fn count(&mut self, end: End, packets: u64) {
        bump(&mut self.all, packets);
        bump(
            match end {
                End::Reverted => &mut self.reverted,
                End::Changed => &mut self.changed,
                End::Crossed => &mut self.crossed,
                End::DroppedByProgram => &mut self.dropped_by_program,
                End::Reinjected => &mut self.reinjected,
                End::DroppedByPolicy => &mut self.dropped_by_policy,
                End::HandedOver => &mut self.handed_over,
                End::Refused(Flaw::Shape) => &mut self.shape,
                End::Refused(Flaw::Offload) => &mut self.offload,
                End::Refused(Flaw::Change) => &mut self.change,
                End::Refused(Flaw::Memory) => &mut self.memory,
            },
            packets,
        );
    }

    /// Packets that have ended.
    pub(crate) fn all(&self) -> u64 {
        self.all
    }
}

impl RevertCounts {
    /// Writes what the way back knows into a record.
    pub(crate) fn export(&self, to: &mut TapStats) {
        let ends = &self.ends;
        to.reverted = ends.reverted;
        to.changed = ends.changed;
        to.crossed = ends.crossed;
        to.dropped_by_program = ends.dropped_by_program;
        to.reinjected = ends.reinjected;
        to.dropped_by_policy = ends.dropped_by_policy;
        to.handed_over = ends.handed_over;
        to.refused_shape = ends.shape;
        to.refused_offload = ends.offload;
        to.refused_change = ends.change;
        to.refused_memory = ends.memory;
        to.crossed_in = self.crossed_in;
        to.injected = self.injected;
        to.injected_refused = self.injected_refused;
        to.refused = self.refused;
        to.undelivered = self.undelivered;
        to.aged = self.aged;
    }
}
