// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's account of one mbuf: who holds it, in which use, and what was detoured with it. Kernel
//! memory that no program sees; `region` is the only one who writes it.

use crate::sys::atomic::Acquire;
use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use crate::sys::atomic::Release;

use crate::sys::skb::Skb;
use crate::sys::skb::SkbSlot;
use crate::sys::task::now;
use crate::uapi::mbuf::NO_MBUF;

/// Who holds an mbuf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// Nobody.
    Free,
    /// The kernel: being filled, or being taken back.
    Kernel,
    /// A tap: in its detour ring, or with its program. First of its packet.
    Detoured(u32),
    /// A tap: not the first of its packet.
    Chained(u32),
    /// A session: in its alloc ring, or with its program.
    Allocated(u32),
    /// A session, whose program has not given it back: first of a packet that the kernel has taken back by itself.
    Recalled(u32),
    /// A tap that is just ending, whose program has given it back. First of its packet.
    Returned(u32),
}

/// The word of an mbuf: holder and generation in 64 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    /// The word for this.
    pub(crate) fn new(holder: Holder, generation: u16) -> Self {
        let (state, owner) = match holder {
            Holder::Free => (0u64, 0),
            Holder::Kernel => (1, 0),
            Holder::Detoured(tap) => (2, tap),
            Holder::Chained(tap) => (3, tap),
            Holder::Allocated(session) => (4, session),
            Holder::Recalled(session) => (5, session),
            Holder::Returned(tap) => (6, tap),
        };
        Self(state | u64::from(generation).wrapping_shl(16) | u64::from(owner).wrapping_shl(32))
    }

    /// The word of the same holder in another use; this one is of use 0.
    #[inline(always)]
    pub(crate) fn in_use(self, generation: u16) -> Self {
        Self(self.0 | u64::from(generation).wrapping_shl(16))
    }

    /// Who holds it.
    pub(crate) fn holder(self) -> Holder {
        let owner = self.0.wrapping_shr(32) as u32;
        match self.0 & 0xff {
            1 => Holder::Kernel,
            2 => Holder::Detoured(owner),
            3 => Holder::Chained(owner),
            4 => Holder::Allocated(owner),
            5 => Holder::Recalled(owner),
            6 => Holder::Returned(owner),
            _ => Holder::Free,
        }
    }

    /// Which of its uses this is.
    pub(crate) fn generation(self) -> u16 {
        self.0.wrapping_shr(16) as u16
    }
}

/// With whom a detoured packet is.
#[derive(Clone, Copy)]
pub(crate) struct Detour {
    pub(crate) tap: u32,
    /// Its flow, see `flows`.
    pub(crate) flow: u32,
    /// Its place in the order of detours.
    pub(crate) number: u64,
    /// Who may take it out of the account again: the number of the session's [`Taker`](crate::sys::skb::Taker).
    pub(crate) taker: u64,
}

/// The kernel's account of one mbuf: a cache line.
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) word: Atomic<u64>,
    /// The next free mbuf, or the next of the chain.
    pub(crate) next: Atomic<u32>,
    /// Bytes that the kernel put into it.
    pub(crate) len: Atomic<u32>,
    /// Of the first of a detoured packet, or of one that leaves by reference: mbufs of it.
    pub(crate) count: Atomic<u32>,
    /// Of the first of a detoured packet: memory that the packet holds.
    pub(crate) truesize: Atomic<u32>,
    /// Of the first of a detoured packet: its place in the order of detours.
    pub(crate) number: Atomic<u64>,
    /// Of the first of a detoured packet: its flow, see `flows`.
    pub(crate) flow: Atomic<u32>,
    /// Of the first of a detoured packet: when it was handed to its tap, in ticks.
    pub(crate) born: Atomic<u64>,
    /// Of the first of a detoured packet: the packet.
    pub(crate) skb: SkbSlot,
}

const _: () = assert!(core::mem::size_of::<Slot>() == 64);

impl Slot {
    /// Of a free mbuf.
    pub(crate) const fn new() -> Self {
        Self {
            word: Atomic::new(0),
            next: Atomic::new(NO_MBUF),
            len: Atomic::new(0),
            count: Atomic::new(0),
            truesize: Atomic::new(0),
            number: Atomic::new(0),
            flow: Atomic::new(0),
            born: Atomic::new(0),
            skb: SkbSlot::new(),
        }
    }

    /// The kernel hands a packet whose first mbuf this is to a tap, under the next generation, which it gets
    /// back. What the account says of the mbuf itself is stored before.
    #[inline(always)]
    pub(crate) fn detour(&self, to: Detour, skb: Skb, truesize: u32) -> u16 {
        let generation = self.word().generation().wrapping_add(1);
        self.truesize.store(truesize, Relaxed);
        self.number.store(to.number, Relaxed);
        self.flow.store(to.flow, Relaxed);
        self.born.store(now(), Relaxed);
        self.skb.put(skb, generation, to.taker);
        let word = Word::new(Holder::Detoured(to.tap), generation);
        self.word.store(word.0, Release);
        generation
    }

    /// The kernel hands the mbuf to somebody, under the next generation, which it gets back. Release: whoever finds
    /// the new holder finds what was stored before.
    #[inline(always)]
    pub(crate) fn give(&self, holder: Holder) -> u16 {
        let generation = self.word().generation().wrapping_add(1);
        self.word.store(Word::new(holder, generation).0, Release);
        generation
    }

    /// Who holds it, and what was stored before they were given it.
    pub(crate) fn word(&self) -> Word {
        Word(self.word.load(Acquire))
    }
}
