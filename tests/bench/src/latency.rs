// SPDX-License-Identifier: GPL-2.0-only

//! How long packets are on their way: from the call that sends one until the program first looks at it, and until
//! somebody behind the road's far end has it.
//!
//! The generator writes the monotonic clock into each packet, behind its headers. Percentiles are those of
//! `hdrhistogram`, whose buckets keep three digits of whatever comes, so that the longest waits are as exact as the
//! others and nothing is allocated while packets flow.

use crate::generate::HostSocket;
use crate::lines::Road;
use crate::result::Latency;
use crate::sys::{self, Inbox};
use crate::world::{self, EXPERIMENT, HEADERS, SINK};
use anyhow::Result;
use hdrhistogram::Histogram;
use nix::time::{clock_gettime, ClockId};
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// Longest time that is told from longer ones: a minute.
const LONGEST: u64 = 60_000_000_000;
/// Digits that are kept.
const DIGITS: u8 = 3;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// What a packet carries that was sent before anybody took the time.
pub(crate) const NO_TIME: u64 = 0;

/// Times that packets took, in nanoseconds; none yet.
struct Times(Option<Histogram<u64>>);

impl Times {
    const NONE: Self = Self(None);

    /// From then on until now.
    fn add(&mut self, sent: u64) {
        if sent == NO_TIME {
            return;
        }
        let took = now().saturating_sub(sent);
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(took);
        }
    }

    fn join(&mut self, other: &mut Self) {
        match (&mut self.0, other.0.take()) {
            (Some(all), Some(more)) => {
                // Both have the same bounds.
                let _ = all.add(more);
            }
            (all, more) => *all = all.take().or(more),
        }
    }

    fn take(&mut self) -> Option<Latency> {
        let histogram = self.0.take()?;
        let at = |quantile| histogram.value_at_quantile(quantile);
        Some(Latency {
            packets: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        })
    }
}

thread_local! {
    /// What the programs of this thread have seen.
    static SEEN: RefCell<Times> = const { RefCell::new(Times::NONE) };
}
/// The same of threads that have ended.
static SEEN_BEFORE: Mutex<Times> = Mutex::new(Times::NONE);

/// The time, in nanoseconds.
pub(crate) fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(NO_TIME, |now| {
        (now.tv_sec() as u64).saturating_mul(1_000_000_000) + now.tv_nsec() as u64
    })
}

/// A program looks at a packet: at its frame, or without the Ethernet header.
pub(crate) fn seen(bytes: &[u8]) {
    SEEN.with_borrow_mut(|times| times.add(sent_at(bytes)));
}

/// A thread is about to end.
pub(crate) fn keep() {
    let mut before = SEEN_BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    SEEN.with_borrow_mut(|times| before.join(times));
}

/// What this thread, and those that have ended, have seen since this was last asked.
pub(crate) fn take() -> Option<Latency> {
    keep();
    let mut before = SEEN_BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    before.take()
}

/// When a packet was sent, by what stands behind its headers.
fn sent_at(bytes: &[u8]) -> u64 {
    let kind = bytes.get(12..ETHERNET);
    let at = if kind == Some(&EXPERIMENT.to_be_bytes()) {
        ETHERNET
    } else if bytes.first() == Some(&0x45) {
        HEADERS - ETHERNET
    } else {
        HEADERS
    };
    stamp(bytes, at)
}

fn stamp(bytes: &[u8], at: usize) -> u64 {
    let stamp = bytes.get(at..).and_then(<[u8]>::first_chunk);
    stamp.map_or(NO_TIME, |stamp| u64::from_ne_bytes(*stamp))
}

/// Somebody behind the far end of a road, who takes what arrives and notes the time. The generator's thread asks
/// now and then, so times are as exact as it is often there: with one packet in flight, to the time of a call.
pub(crate) struct FarEnd {
    /// A packet socket on s0; else it is the host's socket.
    sniffer: Option<OwnedFd>,
    inbox: Inbox,
    times: Times,
    /// What has come.
    pub(crate) seen: u64,
}

impl FarEnd {
    /// Of a road that has one.
    pub(crate) fn of(road: Road) -> Result<Option<Self>> {
        let sniffer = match road {
            Road::Dropped | Road::Own => return Ok(None),
            Road::Stack | Road::Around => None,
            Road::Across | Road::Routed | Road::Out => {
                let everything = libc::ETH_P_ALL as u16;
                let socket = sys::packet_socket(world::index(SINK)?, everything)?;
                sys::with_room_for_packets(socket.as_fd())?;
                Some(socket)
            }
        };
        Ok(Some(Self {
            sniffer,
            inbox: Inbox::new(64, 2048),
            times: Times::NONE,
            seen: 0,
        }))
    }

    /// Takes what has arrived.
    pub(crate) fn look(&mut self, host: Option<&HostSocket>) -> Result<()> {
        let (socket, at): (BorrowedFd<'_>, _) = match (&self.sniffer, host) {
            (Some(sniffer), _) => (sniffer.as_fd(), None),
            (None, Some(host)) => (host.as_fd(), Some(0)),
            (None, None) => return Ok(()),
        };
        loop {
            let n = self.inbox.receive(socket, 64)?;
            for message in self.inbox.messages(n) {
                self.times.add(match at {
                    Some(at) => stamp(message, at),
                    None => sent_at(message),
                });
            }
            self.seen += n as u64;
            if n < 64 {
                return Ok(());
            }
        }
    }

    /// What has come since this was last asked.
    pub(crate) fn take(&mut self) -> Option<Latency> {
        self.times.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_behind_whatever_headers_are_seen() -> Result<()> {
        let raw = &mut world::raw_frame(60);
        let datagram = &mut world::datagram([10, 1, 0, 1], false, 60)?;
        for (frame, at) in [(raw, 14), (datagram, 42)] {
            if let Some(place) = frame.get_mut(at..at + 8) {
                place.copy_from_slice(&77u64.to_ne_bytes());
            }
            assert_eq!(sent_at(frame), 77);
            if at == 42 {
                assert_eq!(sent_at(frame.get(14..).unwrap_or_default()), 77);
            }
        }
        Ok(())
    }

    #[test]
    fn percentiles_are_of_all_threads() {
        let mut times = Times::NONE;
        times.add(NO_TIME);
        assert!(times.take().is_none());
        let mut others = Times::NONE;
        times.add(now());
        others.add(now());
        times.join(&mut others);
        let latency = times.take();
        assert_eq!(latency.map(|latency| latency.packets), Some(2));
        assert!(times.take().is_none());
    }
}
