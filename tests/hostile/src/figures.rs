// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's counters: what there is, and what became of the packets of taps that have ended.

use crate::abi::{open, request};
use anyhow::{ensure, Context, Result};
use nettap_uapi::ioctl;
use nettap_uapi::stats::{RegionStats, SessionStats, TapStats};
use serde_json::{json, Value};
use std::fs::File;
use std::os::fd::AsFd;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// A descriptor to ask through; it maps nothing and taps nothing.
pub(crate) struct Control(File);

impl Control {
    /// Opens one.
    pub(crate) fn open() -> Result<Self> {
        open().map(Self)
    }

    fn query<T: IntoBytes + FromBytes + FromZeros + Immutable>(
        &self,
        kind: u32,
        from_id: u32,
    ) -> Result<Vec<T>> {
        let mut records: Vec<T> = (0..512).map(|_| T::new_zeroed()).collect();
        let mut query = ioctl::Query {
            kind,
            record_size: u32::try_from(std::mem::size_of::<T>())?,
            from_id,
            count: u32::try_from(records.len())?,
            records: records.as_mut_ptr() as u64,
        };
        request(self.0.as_fd(), ioctl::QUERY, &mut query).context("QUERY")?;
        records.truncate(query.count as usize);
        Ok(records)
    }

    /// The regions' accounts.
    pub(crate) fn regions(&self) -> Result<Vec<RegionStats>> {
        self.query(ioctl::QUERY_REGION, 0)
    }

    /// Sessions.
    pub(crate) fn sessions(&self) -> Result<Vec<SessionStats>> {
        self.query(ioctl::QUERY_SESSIONS, 0)
    }

    /// Open taps.
    pub(crate) fn taps(&self) -> Result<Vec<TapStats>> {
        self.query(ioctl::QUERY_TAPS, 0)
    }

    /// The last figures of taps that have ended, from an id on. The kernel keeps a few only.
    pub(crate) fn ended(&self, from_id: u32) -> Result<Vec<TapStats>> {
        self.query(ioctl::QUERY_ENDED, from_id)
    }
}

/// What became of all packets of several taps.
#[derive(Default)]
pub(crate) struct Sum {
    taps: u64,
    detoured: u64,
    ended: u64,
    reverted: u64,
    changed: u64,
    crossed: u64,
    dropped_by_program: u64,
    reinjected: u64,
    dropped_by_policy: u64,
    refused_packets: u64,
    refused_entries: u64,
    scribbled: u64,
    passed: u64,
    dropped: u64,
    injected: u64,
    injected_refused: u64,
    undelivered: u64,
    handed_over: u64,
}

impl Sum {
    /// Adds a tap that has ended, whose balance must close with nothing left out.
    pub(crate) fn add(&mut self, tap: &TapStats) -> Result<()> {
        ensure!(
            tap.balances() && tap.in_flight == 0,
            "the balance of tap {} does not close: {tap:?}",
            tap.id
        );
        self.taps += 1;
        self.detoured += tap.detoured;
        self.ended += tap.ended();
        self.reverted += tap.reverted;
        self.changed += tap.changed;
        self.crossed += tap.crossed;
        self.dropped_by_program += tap.dropped_by_program;
        self.reinjected += tap.reinjected;
        self.dropped_by_policy += tap.dropped_by_policy;
        self.refused_packets +=
            tap.refused_shape + tap.refused_offload + tap.refused_change + tap.refused_memory;
        let refused = &tap.refused;
        self.refused_entries += refused.index + refused.holder + refused.generation + refused.flags;
        self.scribbled += refused.scribbled + tap.scribbled_detour;
        self.passed += tap.passed_ring + tap.passed_mbufs + tap.passed_bytes + tap.passed_other;
        self.dropped += tap.dropped_ring + tap.dropped_mbufs + tap.dropped_bytes;
        self.dropped += tap.dropped_other;
        self.injected += tap.injected;
        self.injected_refused += tap.injected_refused;
        self.undelivered += tap.undelivered;
        self.handed_over += tap.handed_over;
        Ok(())
    }

    /// Taps added.
    pub(crate) fn taps(&self) -> u64 {
        self.taps
    }

    /// Packets detoured in all.
    pub(crate) fn detoured(&self) -> u64 {
        self.detoured
    }

    /// Packets that an honest program under the default policies must not lose, where interfaces stay up and have
    /// room.
    pub(crate) fn lost(&self) -> u64 {
        let ours = self.dropped_by_program + self.dropped_by_policy + self.refused_packets;
        ours + self.dropped + self.undelivered
    }

    /// For the summary.
    pub(crate) fn json(&self) -> Value {
        json!({
            "taps": self.taps,
            "detoured": self.detoured,
            "ended": self.ended,
            "reverted": self.reverted,
            "changed": self.changed,
            "crossed": self.crossed,
            "dropped_by_program": self.dropped_by_program,
            "reinjected": self.reinjected,
            "dropped_by_policy": self.dropped_by_policy,
            "refused_packets": self.refused_packets,
            "refused_entries": self.refused_entries,
            "scribbled": self.scribbled,
            "passed": self.passed,
            "dropped": self.dropped,
            "injected": self.injected,
            "injected_refused": self.injected_refused,
            "undelivered": self.undelivered,
            "handed_over": self.handed_over,
        })
    }
}
