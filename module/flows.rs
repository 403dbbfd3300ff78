// SPDX-License-Identifier: GPL-2.0-only

//! Which tap of a fan-out has which flows. Flows fall into buckets by their hash; a bucket has one tap for
//! as long as a packet of it is out, so a flow is never in two programs at once and keeps its order,
//! also while sessions come and go.
//!
//! A bucket is one word, its tap and how many of its packets are out, changed by compare-and-exchange:
//! whether it may move and that one more packet is out is one decision, whatever other CPUs do.
//!
//! A tap that is alone has all flows, and nobody asks for their hashes: they are in one bucket more. Should
//! another tap join, no flow moves before that bucket is empty.

use crate::sys::atomic::Apart;
use crate::sys::atomic::Atomic;
use crate::sys::atomic::Full;
use crate::sys::atomic::Relaxed;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Buckets of a fan-out.
const BUCKETS: u32 = 256;
/// The bucket of a tap that is alone.
const ALONE: u32 = BUCKETS;
/// Of a packet that is in no bucket.
pub(crate) const NO_FLOW: u32 = u32::MAX;

/// The buckets of one fan-out, apart: a flow stays on a CPU where RSS is, and others' flows are its neighbours.
pub(crate) struct Flows(KVec<Apart<Atomic<u64>>>);

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
        let mut buckets = KVec::with_capacity(BUCKETS as usize + 1, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..=BUCKETS {
            buckets.push_within_capacity(Apart::new(Atomic::new(0)))?;
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

    /// One more packet of a tap that is alone is out; the bucket that it is in.
    pub(crate) fn enter_alone(&self, tap: u32) -> u32 {
        let _ = self.enter(ALONE, |had| had == tap, || Some(tap));
        ALONE
    }

    /// The tap that packets are with since it was alone.
    pub(crate) fn alone(&self) -> Option<u32> {
        let seen = self.0.get(ALONE as usize)?.load(Relaxed);
        (out_of(seen) > 0).then_some(tap_of(seen))
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

/// A packet that its flow has out, as [`Flows::enter`] has counted it.
pub(crate) struct Out<'a> {
    pub(crate) flows: &'a Arc<Flows>,
    pub(crate) bucket: u32,
    pub(crate) tap: u32,
}

impl Out<'_> {
    /// It is out no longer.
    pub(crate) fn end(self) {
        self.flows.leave(self.bucket, self.tap, 1);
    }
}

/// Packets of one bucket that were remembered one after the other.
struct Series {
    /// Their fan-out; nothing: that of those before them.
    flows: Option<Arc<Flows>>,
    tap: u32,
    bucket: u16,
    packets: u16,
}

impl Series {
    const NONE: Self = Self {
        flows: None,
        tap: 0,
        bucket: 0,
        packets: 0,
    };
}

/// Packets that are out until they have been delivered, `N` at most. Their fan-out is held once for all that
/// follow each other, and not for each: its count of holders is a word that all CPUs share.
pub(crate) struct Outs<const N: usize> {
    all: [Series; N],
    used: usize,
    /// The place of the last that names its fan-out.
    named: usize,
}

impl<const N: usize> Outs<N> {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            all: [const { Series::NONE }; N],
            used: 0,
            named: 0,
        }
    }

    /// One more.
    pub(crate) fn add(&mut self, out: &Out<'_>) {
        let named = self.all.get(self.named).and_then(|s| s.flows.as_ref());
        let is_same = named.is_some_and(|flows| Arc::ptr_eq(flows, out.flows));
        let bucket = out.bucket as u16;
        let last = self.used.checked_sub(1);
        if let Some(last) = last.and_then(|last| self.all.get_mut(last)) {
            if is_same && (last.bucket, last.tap) == (bucket, out.tap) {
                last.packets = last.packets.wrapping_add(1);
                return;
            }
        }
        if let Some(free) = self.all.get_mut(self.used) {
            if !is_same {
                self.named = self.used;
            }
            *free = Series {
                flows: (!is_same).then(|| Arc::clone(out.flows)),
                tap: out.tap,
                bucket,
                packets: 1,
            };
            self.used = self.used.wrapping_add(1);
        }
    }

    /// They have been delivered.
    pub(crate) fn end(&mut self) {
        let used = core::mem::take(&mut self.used);
        self.named = 0;
        let mut flows = None;
        for series in self.all.iter_mut().take(used) {
            flows = series.flows.take().or(flows);
            if let Some(flows) = &flows {
                flows.leave(
                    u32::from(series.bucket),
                    series.tap,
                    u32::from(series.packets),
                );
            }
        }
    }
}

impl<const N: usize> Drop for Outs<N> {
    fn drop(&mut self) {
        self.end();
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
    /// None yet; nothing: there is no memory to count them. It is not waited for, since what is held may be what memory
    /// waits for.
    pub(crate) fn new(flows: &Arc<Flows>, tap: u32) -> Option<Self> {
        let mut counts =
            KVec::with_capacity(BUCKETS as usize + 1, GFP_NOWAIT | __GFP_NOWARN).ok()?;
        for _ in 0..=BUCKETS {
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
        for (bucket, &count) in (0..=BUCKETS).zip(self.counts.iter()) {
            if count > 0 {
                self.flows.leave(bucket, self.tap, count);
            }
        }
    }
}
