// SPDX-License-Identifier: GPL-2.0-only

//! Which tap of a fan-out has which flows. Flows fall into buckets by their hash; a bucket has one tap for
//! as long as a packet of it is out, so a flow is never in two programs at once and keeps its order,
//! also while sessions come and go.
//!
//! A bucket is one word, its tap and how many of its packets are out, changed by compare-and-exchange:
//! whether it may move and that one more packet is out is one decision, whatever other CPUs do.

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Full;
use crate::sys::atomic::Relaxed;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Buckets of a fan-out.
const BUCKETS: u32 = 256;
/// Of a packet that is in no bucket.
pub(crate) const NO_FLOW: u32 = u32::MAX;

/// The buckets of one fan-out.
pub(crate) struct Flows(KVec<Atomic<u64>>);

fn tap_of(word: u64) -> u32 {
    word.wrapping_shr(32) as u32
}

fn out_of(word: u64) -> u32 {
    word as u32
}

fn word(tap: u32, out: u32) -> u64 {
    u64::from(tap).wrapping_shl(32) | u64::from(out)
}

impl Flows {
    /// No bucket has a tap yet.
    pub(crate) fn new() -> Result<Self> {
        let mut buckets = KVec::with_capacity(BUCKETS as usize, GFP_KERNEL)?;
        for _ in 0..BUCKETS {
            buckets.push_within_capacity(Atomic::new(0))?;
        }
        Ok(Self(buckets))
    }

    /// The bucket of a flow's hash.
    pub(crate) fn bucket(hash: u32) -> u32 {
        hash % BUCKETS
    }

    /// The tap for one more packet of a bucket, which is then counted as out: the bucket's own while
    /// packets of it are out and `takes` says that it still takes some, else whom `prefer` names.
    /// Nothing: nobody takes packets.
    pub(crate) fn enter(
        &self,
        bucket: u32,
        takes: impl Fn(u32) -> bool,
        prefer: impl Fn() -> Option<u32>,
    ) -> Option<u32> {
        let place = self.0.get(bucket as usize)?;
        let mut seen = place.load(Relaxed);
        loop {
            let (tap, out) = (tap_of(seen), out_of(seen));
            let next = if out > 0 && takes(tap) {
                word(tap, out.wrapping_add(1))
            } else {
                word(prefer()?, 1)
            };
            match place.cmpxchg(seen, next, Full) {
                Ok(_) => return Some(tap_of(next)),
                Err(now) => seen = now,
            }
        }
    }

    /// Packets of a bucket are no longer out.
    fn leave(&self, bucket: u32, tap: u32, packets: u32) {
        let Some(place) = self.0.get(bucket as usize) else {
            return;
        };
        let mut seen = place.load(Relaxed);
        // A bucket that has moved counts its new tap's packets only.
        while tap_of(seen) == tap && out_of(seen) > 0 {
            let next = word(tap, out_of(seen).saturating_sub(packets));
            match place.cmpxchg(seen, next, Full) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// The other end of a packet that [`Flows::enter`] has counted: it is out until this is dropped.
    pub(crate) fn out(self: &Arc<Self>, bucket: u32, tap: u32) -> Out {
        Out {
            flows: Arc::clone(self),
            bucket,
            tap,
        }
    }

    /// How much a bucket is drawn to a tap: whoever of several draws it most should have it, so that
    /// one tap more or less moves no others' flows (rendezvous hashing).
    pub(crate) fn pull(bucket: u32, tap: u32) -> u32 {
        // The finalizer of MurmurHash3 over both.
        let mut mixed = tap.wrapping_mul(0x9e37_79b9) ^ bucket.wrapping_mul(0x85eb_ca6b);
        mixed = (mixed ^ mixed.wrapping_shr(16)).wrapping_mul(0x85eb_ca6b);
        mixed = (mixed ^ mixed.wrapping_shr(13)).wrapping_mul(0xc2b2_ae35);
        mixed ^ mixed.wrapping_shr(16)
    }
}

/// A packet that its flow has out: in its tap, or on its way to be delivered.
pub(crate) struct Out {
    flows: Arc<Flows>,
    bucket: u32,
    tap: u32,
}

impl Drop for Out {
    fn drop(&mut self) {
        self.flows.leave(self.bucket, self.tap, 1);
    }
}

/// The same for any number of packets of one tap.
pub(crate) struct OutAll {
    flows: Arc<Flows>,
    tap: u32,
    /// Packets by bucket.
    counts: KVec<u32>,
}

impl OutAll {
    /// None yet; nothing: there is no memory to count them.
    pub(crate) fn new(flows: &Arc<Flows>, tap: u32) -> Option<Self> {
        let mut counts = KVec::with_capacity(BUCKETS as usize, GFP_KERNEL).ok()?;
        for _ in 0..BUCKETS {
            counts.push_within_capacity(0).ok()?;
        }
        Some(Self {
            flows: Arc::clone(flows),
            tap,
            counts,
        })
    }

    /// One more.
    pub(crate) fn add(&mut self, bucket: u32) {
        if let Some(count) = self.counts.get_mut(bucket as usize) {
            *count = count.wrapping_add(1);
        }
    }
}

impl Drop for OutAll {
    fn drop(&mut self) {
        for (bucket, &count) in (0..BUCKETS).zip(self.counts.iter()) {
            if count > 0 {
                self.flows.leave(bucket, self.tap, count);
            }
        }
    }
}
