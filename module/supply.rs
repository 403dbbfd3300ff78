// SPDX-License-Identifier: GPL-2.0-only

//! What a session has for new packets and for giving mbufs back: its alloc and dealloc rings.
//!
//! Under the session's lock; nothing sleeps.

use kernel::sync::Arc;

use crate::region::Region;
use crate::region::Stash;
use crate::rings::RingPages;
use crate::sys::word::SharedWord;
use crate::uapi::mbuf::Header;
use crate::uapi::mbuf::DATA_OFFSET;
use crate::uapi::mbuf::NO_MBUF;
use crate::uapi::ring::PrivateConsumer;
use crate::uapi::ring::PrivateProducer;
use crate::uapi::ring::Word;

/// Mbufs that one refill puts into the alloc ring at most.
const REFILL: u32 = 64;

/// What `mbuf_map` made: the session's alloc and dealloc rings.
pub(crate) struct Supply {
    pub(crate) region: Arc<Region>,
    pub(crate) alloc: Arc<RingPages>,
    pub(crate) dealloc: Arc<RingPages>,
    pub(crate) prealloc: u32,
    producer: PrivateProducer<SharedWord>,
    pub(crate) consumer: PrivateConsumer<SharedWord>,
}

impl Supply {
    /// The rings of a session that has just mapped, empty.
    pub(crate) fn new(
        region: Arc<Region>,
        alloc: Arc<RingPages>,
        dealloc: Arc<RingPages>,
        prealloc: u32,
    ) -> Self {
        Self {
            region,
            alloc,
            dealloc,
            prealloc,
            producer: PrivateProducer::new(),
            consumer: PrivateConsumer::new(),
        }
    }

    /// Puts `count` mbufs into the alloc ring, or as many as there are.
    pub(crate) fn supply(&mut self, count: u32, session: u32, pid: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let header = Header {
            holder: pid,
            next: NO_MBUF,
            offset: DATA_OFFSET as u16,
            ..Header::default()
        };
        let size = self.alloc.size();
        let room = self.producer.room(size, self.alloc.program_position());
        let cells = self.alloc.cells();
        let wanted = count.min(room);
        let mut stash = Stash::new();
        let mut done = 0u32;
        while done < wanted {
            let left = wanted.wrapping_sub(done);
            if self.region.fill_stash(&mut stash, left).is_none() {
                break;
            }
            let (first, count) = self.producer.book_run(size, stash.count());
            if count == 0 {
                break;
            }
            for nth in 0..count {
                let cell = first.wrapping_add(nth);
                let Some(single) = self.region.take_stashed(&mut stash) else {
                    cells.pad(cell);
                    continue;
                };
                self.region.write_header(single.index(), &header);
                cells.fill(cell, single.allocate(session));
            }
            done = done.wrapping_add(count);
        }
        self.region.empty(&mut stash);
        done
    }

    /// Mbufs in the alloc ring now.
    pub(crate) fn supplied(&mut self) -> u32 {
        let size = self.alloc.size();
        size.wrapping_sub(self.producer.room(size, self.alloc.program_position()))
    }

    /// What the program has moved in its rings, added up: it changes when one of them does.
    pub(crate) fn moved_by_program(&self) -> u64 {
        let position = |ring: &RingPages| u64::from(ring.program_position().load());
        position(&self.alloc).wrapping_add(position(&self.dealloc))
    }

    /// Fills up to the floor, a part at a time; how many it was.
    #[inline]
    pub(crate) fn refill(&mut self, session: u32, pid: u32) -> u32 {
        if self.prealloc == 0 {
            return 0;
        }
        let missing = self.prealloc.saturating_sub(self.supplied());
        self.supply(missing.min(REFILL), session, pid)
    }

    /// Fills up to the floor, so many at most; how many are missing still, or nothing: there are not so many mbufs.
    pub(crate) fn fill(&mut self, most: u32, session: u32, pid: u32) -> Option<u32> {
        let missing = self.prealloc.saturating_sub(self.supplied());
        let part = missing.min(most);
        (self.supply(part, session, pid) == part).then(|| missing.saturating_sub(part))
    }

    /// Whether a refill would find something to do.
    pub(crate) fn is_short(&mut self) -> bool {
        self.supplied() < self.prealloc && self.region.free_count() > 0
    }

    /// How often a program has overwritten what the kernel relies on in either ring.
    pub(crate) fn scribbled(&self) -> u64 {
        let of_dealloc = self.consumer.scribbled();
        of_dealloc.wrapping_add(self.producer.scribbled())
    }
}
