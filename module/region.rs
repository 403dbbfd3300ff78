// SPDX-License-Identifier: GPL-2.0-only

//! The region: its mbufs, and the kernel's own account of who holds each.
//!
//! This is the only file where an mbuf changes its holder. Programs see the mbufs and write what they
//! like into them; the account is kernel memory that they never see. It holds for every mbuf one
//! word of state, owner and generation, and the packet. Of two that want to take an mbuf back at once,
//! by whatever rings, one gets it: a packet goes to the taker of its tap's session, which one borrows
//! at a time ([`Taker`]), and so does an mbuf that the session has for new packets; one that the kernel has taken the
//! packet from, to who exchanges the word.
//!
//! ```text
//!                take                 Chain::detour
//!   Free ----------------> Kernel ------------------> Detoured (owner: tap) ----+
//!     ^                     | ^ |     Chain::allocate                           |
//!     |      Chain's drop   | | +-------------------> Allocated (owner: session)+
//!     +---------------------+ +------------------------- claim, reclaim --------+
//!                             |   claim, release          recall_before
//!                             +---- Recalled (owner: session) <------ Detoured
//!                             |   recall_before           note_returned
//!                             +---- Returned (owner: tap) <---------- Detoured
//! ```
//!
//! When the kernel takes a packet back by itself, from a program that lives on (its tap has ended, or `max_age` is
//! over), that program still looks at the mbufs, and could not be told in time. They are *Recalled*: its session
//! keeps them until it gives them back, or ends. So no mbuf is another's while a program has it. One that is given
//! back in the moment in which its tap ends is *Returned*, and free when the packet is taken.
//!
//! The other mbufs of a chain that the kernel made are *Chained* while its first is Detoured; they
//! have no name of their own for programs. An mbuf that the kernel hands out gets the next generation,
//! so a name from an earlier use is recognised as stale.
//!
//! Locks: the free list's spinlock is innermost; bottom halves are off around it.

use crate::sys::atomic::Acquire;
use crate::sys::atomic::Apart;
use crate::sys::atomic::Atomic;
use crate::sys::atomic::Full;
use crate::sys::atomic::Relaxed;
use crate::sys::atomic::Release;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVVec;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

use crate::account::Detour;
use crate::account::Holder;
use crate::account::Slot;
use crate::account::Word;
use crate::lock::Locks;
use crate::stats::Counter;
use crate::sys::pages::SharedPages;
use crate::sys::sender::Sender;
use crate::sys::skb::Skb;
use crate::sys::skb::Taker;
use crate::sys::task::breathe;
use crate::sys::task::BottomHalvesOff;
use crate::sys::task::Pinned;
use crate::uapi::mbuf::Header;
use crate::uapi::mbuf::DATA_OFFSET;
use crate::uapi::mbuf::MBUFS_MAX;
use crate::uapi::mbuf::MBUF_SIZE_MAX;
use crate::uapi::mbuf::MBUF_SIZE_MIN;
use crate::uapi::mbuf::NO_MBUF;
use crate::uapi::ring::Entry;
use crate::uapi::stats::RegionStats;

/// Free mbufs, last in first out: the one that is warm in the cache goes out next.
struct FreeList {
    head: u32,
    count: u32,
}

/// Mbufs that a stash takes at a time, in a region of so many for each of them at least.
const STASH: u32 = 16;
const STASHED_PER: u32 = 512;

/// Free mbufs that somebody keeps at hand, so that the free list is asked once for many. Whoever has it
/// gives them back when they are not wanted soon.
pub(crate) struct Stash {
    head: u32,
    count: u32,
}

impl Stash {
    /// Empty.
    pub(crate) const fn new() -> Self {
        Self {
            head: NO_MBUF,
            count: 0,
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// Why an entry of a ring was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// No such mbuf.
    Index,
    /// Not with who gave it.
    Holder,
    /// With who gave it, but in another use of it.
    Generation,
}

/// A region of mbufs.
#[pin_data]
pub(crate) struct Region {
    group: u32,
    pages: SharedPages,
    mbuf_size: u32,
    slots: KVVec<Slot>,
    /// All CPUs write it now and then, and read the fields above for each packet.
    #[pin]
    free: Apart<SpinLock<FreeList>>,
    /// One more than the largest index ever handed out. The list is last in first out, so this is as
    /// many mbufs as were ever out at once.
    peak: Atomic<u32>,
    reclaimed: Counter,
    /// Packets that have left with mbufs as their fragments, each under the name of its first mbuf.
    #[pin]
    sending: Apart<SpinLock<Sender>>,
    /// How many of them have not been freed.
    under_way: Apart<Atomic<u32>>,
    /// For programs that work together.
    locks: Arc<Locks>,
}

impl Region {
    /// The region of a group, all of it free, in huge pages if it shall. `EINVAL`: sizes out of range.
    pub(crate) fn new(group: u32, mbuf_size: u32, mbufs: u32, huge: bool) -> Result<Arc<Self>> {
        if !sizes_are_possible(mbuf_size, mbufs) {
            return Err(EINVAL);
        }
        let bytes = (mbuf_size as usize)
            .checked_mul(mbufs as usize)
            .ok_or(EINVAL)?;
        let pages = if huge {
            SharedPages::in_blocks(bytes)?
        } else {
            SharedPages::new(bytes)?
        };
        let mut slots = KVVec::with_capacity(mbufs as usize, GFP_KERNEL_ACCOUNT)?;
        for index in 0..mbufs {
            let slot = Slot::new();
            let next = index.wrapping_add(1);
            slot.next
                .store(if next < mbufs { next } else { NO_MBUF }, Relaxed);
            slots.push_within_capacity(slot)?;
            let_others_run(index);
        }
        let (locks, sender) = (Locks::new()?, Sender::new()?);
        Arc::pin_init(
            pin_init!(Self {
                group,
                pages,
                mbuf_size,
                slots,
                free <- Apart::pin(new_spinlock!(FreeList { head: 0, count: mbufs }, "nettap_free")),
                peak: Atomic::new(0),
                reclaimed: Counter::new(),
                sending <- Apart::pin(new_spinlock!(sender, "nettap_sending")),
                under_way: Apart::new(Atomic::new(0)),
                locks,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Its last member leaves: what it counted as for that one is kept as long as packets with its pages are under way.
    pub(crate) fn keep(&self, charge: Arc<Pinned>) {
        let _bh = BottomHalvesOff::new();
        self.sending.lock().keep(charge);
    }

    /// Id of the group that it belongs to.
    pub(crate) fn group(&self) -> u32 {
        self.group
    }

    /// The memory.
    pub(crate) fn pages(&self) -> &SharedPages {
        &self.pages
    }

    /// The shared locks of its sessions.
    pub(crate) fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// Size of an mbuf.
    pub(crate) fn mbuf_size(&self) -> u32 {
        self.mbuf_size
    }

    /// Mbufs in all.
    pub(crate) fn mbufs(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Mbufs from this index on have never been handed out: whoever looks for somebody's stops here.
    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Acquire)
    }

    /// The indices below the peak. Process context: lets others run in between.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> {
        (0..self.peak()).inspect(|&index| let_others_run(index))
    }

    /// Bytes of a packet that the kernel puts into one mbuf.
    pub(crate) fn capacity(&self) -> u32 {
        self.mbuf_size.wrapping_sub(DATA_OFFSET)
    }

    /// Mbufs that a packet of so many bytes fills.
    pub(crate) fn mbufs_for(&self, bytes: u32) -> u32 {
        let capacity = self.capacity();
        if bytes <= capacity {
            return 1;
        }
        let more = bytes.saturating_add(capacity.wrapping_sub(1));
        more.checked_div(capacity).unwrap_or(0)
    }

    /// Where an mbuf lies in the memory.
    pub(crate) fn offset(&self, index: u32) -> usize {
        (index as usize).wrapping_mul(self.mbuf_size as usize)
    }

    /// Copies the header of an mbuf out: once, so that what is checked is what is used.
    pub(crate) fn read_header(&self, index: u32) -> Option<Header> {
        self.pages.read_header(self.offset(index))
    }

    /// Writes the header of an mbuf.
    pub(crate) fn write_header(&self, index: u32, header: &Header) {
        self.pages.write_header(self.offset(index), header);
    }

    /// Free mbufs now.
    pub(crate) fn free_count(&self) -> u32 {
        let _bh = BottomHalvesOff::new();
        self.collect();
        // A name, so that the guard goes before bottom halves come back: they take this lock.
        let free = self.free.lock();
        free.count
    }

    /// Takes `count` mbufs for the kernel, linked, or none. Never waits. Bottom halves are off.
    pub(crate) fn take(&self, count: u32) -> Option<Chain<'_>> {
        let mut free = self.free.lock();
        if free.count < count && self.under_way.load(Relaxed) > 0 {
            drop(free);
            self.collect();
            free = self.free.lock();
        }
        if count == 0 || free.count < count {
            return None;
        }
        let head = free.head;
        let (mut last, mut highest) = (head, head);
        for _ in 0..count {
            let slot = self.slots.get(free.head as usize)?;
            let generation = slot.word().generation();
            slot.word
                .store(Word::new(Holder::Kernel, generation).0, Relaxed);
            last = free.head;
            highest = highest.max(last);
            free.head = slot.next.load(Relaxed);
            free.count = free.count.wrapping_sub(1);
        }
        // Release: whoever finds them handed out finds them below the peak.
        if highest >= self.peak.load(Relaxed) {
            self.peak.store(highest.wrapping_add(1), Release);
        }
        drop(free);
        self.link(last, NO_MBUF);
        Some(Chain {
            region: self,
            head,
            count,
        })
    }

    /// Takes one mbuf for the kernel out of a stash, which is refilled when it is empty.
    #[inline(always)]
    pub(crate) fn take_one(&self, stash: &mut Stash) -> Option<Single<'_>> {
        if stash.count == 0 {
            self.refill(stash)?;
        }
        self.take_first(stash)
    }

    /// The first of a stash that is not empty.
    #[inline(always)]
    fn take_first(&self, stash: &mut Stash) -> Option<Single<'_>> {
        let index = stash.head;
        let slot = self.slots.get(index as usize)?;
        stash.head = slot.next.load(Relaxed);
        stash.count = stash.count.wrapping_sub(1);
        Some(Single {
            region: self,
            slot,
            index,
        })
    }

    /// Takes one out of a stash that somebody has filled, as long as there is one.
    #[inline(always)]
    pub(crate) fn take_stashed(&self, stash: &mut Stash) -> Option<Single<'_>> {
        // Behind the last of them another may be linked, which is not in it.
        if stash.count == 0 {
            return None;
        }
        self.take_first(stash)
    }

    /// Fills an empty stash with what one keeps for later.
    #[inline(never)]
    fn refill(&self, stash: &mut Stash) -> Option<()> {
        self.fill_stash(stash, (self.mbufs() / STASHED_PER).max(1))
    }

    /// Fills an empty stash with `most` mbufs, or as many as there are and a stash takes. They are free to all who look,
    /// and taken from the list. Bottom halves are off.
    pub(crate) fn fill_stash(&self, stash: &mut Stash, most: u32) -> Option<()> {
        if stash.count > 0 {
            return Some(());
        }
        self.collect();
        let mut free = self.free.lock();
        let many = most.min(STASH).min(free.count);
        let (mut last, mut next, mut highest) = (NO_MBUF, free.head, 0);
        for _ in 0..many {
            last = next;
            highest = highest.max(last);
            next = self.next(last);
        }
        if last == NO_MBUF {
            return None;
        }
        *stash = Stash {
            head: free.head,
            count: many,
        };
        free.head = next;
        free.count = free.count.wrapping_sub(many);
        // Release: whoever finds them handed out finds them below the peak.
        if highest >= self.peak.load(Relaxed) {
            self.peak.store(highest.wrapping_add(1), Release);
        }
        Some(())
    }

    /// Puts an mbuf of the region that was not needed after all on top of a stash.
    #[inline(always)]
    pub(crate) fn put_back(&self, stash: &mut Stash, single: Single<'_>) {
        if core::ptr::eq(self, single.region) {
            let index = single.index;
            core::mem::forget(single);
            self.put_index_back(stash, index);
        }
    }

    /// By its index: an mbuf that is passed on lies in registers.
    #[inline(never)]
    fn put_index_back(&self, stash: &mut Stash, index: u32) {
        self.link(index, stash.head);
        stash.head = index;
        stash.count = stash.count.wrapping_add(1);
    }

    /// Frees what is left in a stash. Bottom halves are off.
    pub(crate) fn empty(&self, stash: &mut Stash) {
        if stash.count > 0 {
            Freed::of(self).link(stash.head, stash.count);
            *stash = Stash::new();
        }
    }

    fn link(&self, from: u32, to: u32) {
        if let Some(slot) = self.slots.get(from as usize) {
            slot.next.store(to, Relaxed);
        }
    }

    fn next(&self, index: u32) -> u32 {
        self.slots
            .get(index as usize)
            .map_or(NO_MBUF, |slot| slot.next.load(Relaxed))
    }

    /// Takes back what a ring's entry names, if `may` says that its giver holds it.
    pub(crate) fn claim(
        &self,
        entry: Entry,
        may: impl Fn(Holder) -> bool,
        taker: &mut Taker,
    ) -> Result<Claim<'_>, Refusal> {
        let slot = self.slots.get(entry.index as usize).ok_or(Refusal::Index)?;
        let word = slot.word();
        if !may(word.holder()) {
            return Err(Refusal::Holder);
        }
        if word.generation() != entry.generation {
            return Err(Refusal::Generation);
        }
        // Somebody else was quicker: then it is no longer the giver's.
        let claim = match word.holder() {
            Holder::Detoured(_) => self
                .take_packet(entry.index, slot, word, taker)
                .map(Claim::Packet),
            Holder::Recalled(_) => {
                let tap = slot.number.load(Relaxed) as u32;
                let chain = self.take_recalled(entry.index, slot, word);
                chain.map(|chain| Claim::Recalled(tap, chain))
            }
            _ => Some(Claim::Buffer(self.take_buffer(
                entry.index,
                slot,
                word,
                taker,
            ))),
        };
        claim.ok_or(Refusal::Holder)
    }

    /// Takes back an mbuf for a new packet that a ring's entry names, for who has borrowed the taker of this session.
    /// Nothing: it is not so, and [`Region::claim`] knows more.
    #[inline(always)]
    pub(crate) fn take_allocated(
        &self,
        entry: Entry,
        session: u32,
        _taker: &mut Taker,
    ) -> Option<Single<'_>> {
        let slot = self.slots.get(entry.index as usize)?;
        let theirs = Word::new(Holder::Allocated(session), entry.generation);
        if slot.word() != theirs {
            return None;
        }
        // Nobody else takes it meanwhile: that would need the taker.
        let mine = Word::new(Holder::Kernel, entry.generation);
        slot.word.store(mine.0, Relaxed);
        Some(Single {
            region: self,
            slot,
            index: entry.index,
        })
    }

    /// Takes back mbuf `index` whatever its generation, if the session has it for new packets: for chains that
    /// programs made, and for reclaim. The taker is the session's.
    pub(crate) fn reclaim(&self, index: u32, session: u32, taker: &mut Taker) -> Option<Chain<'_>> {
        let slot = self.slots.get(index as usize)?;
        let word = slot.word();
        if word.holder() != Holder::Allocated(session) {
            return None;
        }
        Some(self.take_buffer(index, slot, word, taker))
    }

    /// Whether a session has mbuf `index` for new packets.
    pub(crate) fn is_allocated(&self, index: u32, session: u32) -> bool {
        let slot = self.slots.get(index as usize);
        slot.is_some_and(|slot| slot.word().holder() == Holder::Allocated(session))
    }

    /// Whether a tap's program has the packet in mbuf `index` since before the detour of this number, or has given
    /// it back while the tap was ending.
    pub(crate) fn is_before(&self, index: u32, tap: u32, number: u64) -> bool {
        let slot = self.slots.get(index as usize);
        slot.is_some_and(|slot| {
            let holder = slot.word().holder();
            (holder == Holder::Detoured(tap) || holder == Holder::Returned(tap))
                && slot.number.load(Relaxed) < number
        })
    }

    /// Takes back the packet of a tap's that an entry of its detour ring names, which its program has not seen. Mbufs whose
    /// packet was taken back before are free.
    pub(crate) fn take_unread(
        &self,
        entry: Entry,
        tap: u32,
        session: u32,
        taker: &mut Taker,
    ) -> Option<Recalled> {
        let may = |holder| holder == Holder::Detoured(tap) || holder == Holder::Recalled(session);
        match self.claim(entry, may, taker) {
            Ok(Claim::Packet(packet)) => Some(packet.into()),
            _ => None,
        }
    }

    /// Takes back the packet of which that is so, and leaves the mbufs to the session whose program has them.
    pub(crate) fn recall_before(
        &self,
        index: u32,
        tap: u32,
        number: u64,
        session: u32,
        taker: &mut Taker,
    ) -> Option<Recalled> {
        if !self.is_before(index, tap, number) {
            return None;
        }
        let slot = self.slots.get(index as usize)?;
        let word = slot.word();
        if word.holder() == Holder::Returned(tap) {
            return self.take_packet(index, slot, word, taker).map(Into::into);
        }
        let skb = slot.skb.take(word.generation(), taker)?;
        let recalled = Recalled {
            skb,
            truesize: slot.truesize.load(Relaxed),
            number: slot.number.load(Relaxed),
            flow: slot.flow.load(Relaxed),
            mbufs: slot.count.load(Relaxed),
            in_hand: true,
        };
        // Its place in the order of detours is of no use any more: whose packet it was, is.
        slot.number.store(u64::from(tap), Relaxed);
        let theirs = Word::new(Holder::Recalled(session), word.generation());
        slot.word.store(theirs.0, Release);
        Some(recalled)
    }

    /// The program of the taker's session has given back a packet of a tap that has left the session and from which
    /// nobody has taken it yet: its mbufs are free when that is done. Nothing changes if that is not so.
    #[cold]
    pub(crate) fn note_returned(&self, entry: Entry, taker: &Taker) {
        let Some(slot) = self.slots.get(entry.index as usize) else {
            return;
        };
        let word = slot.word();
        let Holder::Detoured(tap) = word.holder() else {
            return;
        };
        if word.generation() == entry.generation && slot.skb.is_for(taker) {
            let returned = Word::new(Holder::Returned(tap), entry.generation);
            // If the packet that the taker may take came there just now, the word is another one, too.
            let _ = slot.word.cmpxchg(word.0, returned.0, Full);
        }
    }

    /// Frees the mbufs of the packet in mbuf `index`, if the session has not given them back; for its end.
    pub(crate) fn release(&self, index: u32, session: u32) {
        let Some(slot) = self.slots.get(index as usize) else {
            return;
        };
        let word = slot.word();
        if word.holder() == Holder::Recalled(session) {
            drop(self.take_recalled(index, slot, word));
        }
    }

    /// Counts mbufs that were taken back from who did not give them.
    pub(crate) fn count_reclaimed(&self, n: u32) {
        self.reclaimed.add(u64::from(n));
    }

    fn take_packet(
        &self,
        index: u32,
        slot: &Slot,
        word: Word,
        taker: &mut Taker,
    ) -> Option<Packet<'_>> {
        let (Holder::Detoured(tap) | Holder::Returned(tap)) = word.holder() else {
            return None;
        };
        // Who gets the packet has the mbuf.
        let skb = slot.skb.take(word.generation(), taker)?;
        let mine = Word::new(Holder::Kernel, word.generation());
        slot.word.store(mine.0, Relaxed);
        let chain = Chain {
            region: self,
            head: index,
            count: slot.count.load(Relaxed),
        };
        Some(Packet {
            tap,
            skb,
            truesize: slot.truesize.load(Relaxed),
            number: slot.number.load(Relaxed),
            flow: slot.flow.load(Relaxed),
            chain,
        })
    }

    /// An mbuf that is the session's whose taker this is, by this word.
    fn take_buffer(&self, index: u32, slot: &Slot, word: Word, _taker: &mut Taker) -> Chain<'_> {
        let mine = Word::new(Holder::Kernel, word.generation());
        slot.word.store(mine.0, Relaxed);
        self.link(index, NO_MBUF);
        Chain {
            region: self,
            head: index,
            count: 1,
        }
    }

    /// All mbufs of a packet that has been taken out of it before.
    fn take_recalled(&self, index: u32, slot: &Slot, word: Word) -> Option<Chain<'_>> {
        let mine = Word::new(Holder::Kernel, word.generation());
        slot.word.cmpxchg(word.0, mine.0, Full).ok()?;
        Some(Chain {
            region: self,
            head: index,
            count: slot.count.load(Relaxed),
        })
    }

    /// Looks through `count` mbufs from `first` on: packets of `may` whose senders have closed their
    /// sockets no longer keep those, and their namespaces, alive.
    pub(crate) fn leave_closed(
        &self,
        first: u32,
        count: u32,
        may: impl Fn(Holder) -> bool,
        taker: &mut Taker,
    ) {
        let slots = self.slots.iter().skip(first as usize).take(count as usize);
        for slot in slots.filter(|slot| may(slot.word().holder())) {
            slot.skb.leave_closed(taker);
        }
    }

    /// When the oldest packet of a tap was detoured, in ticks, of those in `count` mbufs from `first` on.
    pub(crate) fn oldest(&self, tap: u32, first: u32, count: u32) -> Option<u64> {
        let slots = self.slots.iter().skip(first as usize).take(count as usize);
        let held = slots.filter(|slot| slot.word().holder() == Holder::Detoured(tap));
        held.map(|slot| slot.born.load(Relaxed)).min()
    }

    /// Mbufs become the fragments of a new packet: they are free when the network stack is done with it.
    /// False: they stay where they are, because too many are under way. Bottom halves are off.
    pub(crate) fn send<'a>(
        &'a self,
        skb: &mut Skb,
        mbufs: &mut Option<Chain<'a>>,
        freed: &mut Freed<'a>,
    ) -> bool {
        let Some(chain) = mbufs.take() else {
            return false;
        };
        let mut sender = self.sending.lock();
        self.collect_from(&mut sender, freed);
        if !sender.send(skb, chain.head) {
            *mbufs = Some(chain);
            return false;
        }
        if let Some(slot) = self.slots.get(chain.head as usize) {
            slot.count.store(chain.count, Relaxed);
        }
        let under_way = self.under_way.load(Relaxed);
        self.under_way.store(under_way.wrapping_add(1), Relaxed);
        core::mem::forget(chain);
        true
    }

    /// Frees the mbufs of packets that are not under way any more. Bottom halves are off.
    fn collect(&self) {
        if self.under_way.load(Relaxed) > 0 {
            let mut freed = Freed::of(self);
            let mut sender = self.sending.lock();
            self.collect_from(&mut sender, &mut freed);
        }
    }

    fn collect_from(&self, sender: &mut Sender, freed: &mut Freed<'_>) {
        while let Some(head) = sender.done() {
            let slot = self.slots.get(head as usize);
            freed.link(head, slot.map_or(0, |slot| slot.count.load(Relaxed)));
            let under_way = self.under_way.load(Relaxed);
            self.under_way.store(under_way.wrapping_sub(1), Relaxed);
        }
    }

    /// How many mbufs each kind of holder has. Process context.
    pub(crate) fn census(&self, stats: &mut RegionStats) {
        {
            let _bh = BottomHalvesOff::new();
            self.collect();
        }
        stats.mbuf_size = self.mbuf_size;
        stats.mbufs = self.mbufs();
        stats.reclaimed = self.reclaimed.get();
        stats.huge = self.pages.len_in_blocks() as u64;
        stats.free = self.mbufs();
        for index in self.indices() {
            let Some(slot) = self.slots.get(index as usize) else {
                break;
            };
            let count = match slot.word().holder() {
                Holder::Free => continue,
                Holder::Kernel => &mut stats.kernel,
                Holder::Detoured(_)
                | Holder::Chained(_)
                | Holder::Recalled(_)
                | Holder::Returned(_) => &mut stats.detoured,
                Holder::Allocated(_) => &mut stats.allocated,
            };
            *count = count.wrapping_add(1);
            stats.free = stats.free.wrapping_sub(1);
        }
    }

    /// How many mbufs have such a holder. Process context.
    pub(crate) fn count_held(&self, is_it: impl Fn(Holder) -> bool) -> u64 {
        let slots = self
            .indices()
            .filter_map(|index| self.slots.get(index as usize));
        let held = slots.filter(|slot| is_it(slot.word().holder()));
        held.fold(0u64, |n, _| n.wrapping_add(1))
    }
}

/// Long loops over mbufs in process context: every now and then others may run.
fn let_others_run(index: u32) {
    if index & 0xfff == 0xfff {
        breathe();
    }
}

/// Whether a region can be made so.
pub(crate) fn sizes_are_possible(mbuf_size: u32, mbufs: u32) -> bool {
    mbuf_size.is_power_of_two()
        && (MBUF_SIZE_MIN..=MBUF_SIZE_MAX).contains(&mbuf_size)
        && (1..=MBUFS_MAX).contains(&mbufs)
}

/// What was taken back.
pub(crate) enum Claim<'a> {
    /// A detoured packet.
    Packet(Packet<'a>),
    /// An mbuf for a new packet.
    Buffer(Chain<'a>),
    /// The mbufs of a packet of this tap's that the kernel has taken back before.
    Recalled(u32, Chain<'a>),
}

/// A detoured packet that the kernel has taken back by itself.
pub(crate) struct Recalled {
    /// The packet, as it was.
    pub(crate) skb: Skb,
    /// Memory that it holds.
    pub(crate) truesize: u32,
    /// Its place in the order of detours.
    pub(crate) number: u64,
    /// Its flow, see `flows`.
    pub(crate) flow: u32,
    /// Mbufs that its bytes were copied into.
    pub(crate) mbufs: u32,
    /// Whether these stay with the session.
    pub(crate) in_hand: bool,
}

impl From<Packet<'_>> for Recalled {
    /// One whose mbufs nobody has: they are free.
    fn from(packet: Packet<'_>) -> Self {
        Self {
            mbufs: packet.chain.count(),
            in_hand: false,
            skb: packet.skb,
            truesize: packet.truesize,
            number: packet.number,
            flow: packet.flow,
        }
    }
}

/// A detoured packet that the kernel has again.
pub(crate) struct Packet<'a> {
    /// Its tap.
    pub(crate) tap: u32,
    /// The packet, as it was.
    pub(crate) skb: Skb,
    /// Memory that it holds.
    pub(crate) truesize: u32,
    /// Its place in the order of detours.
    pub(crate) number: u64,
    /// Its flow, see `flows`.
    pub(crate) flow: u32,
    /// The mbufs that its bytes were copied into.
    pub(crate) chain: Chain<'a>,
}

/// What the account says of packets of a tap's.
#[derive(Clone, Copy)]
pub(crate) struct Theirs(Word);

impl Theirs {
    /// Of this tap.
    pub(crate) fn of(tap: u32) -> Self {
        Self(Word::new(Holder::Detoured(tap), 0))
    }
}

/// A detoured packet that has come back, and whose mbufs will be free.
pub(crate) struct Back {
    /// The packet, as it was.
    pub(crate) skb: Skb,
    /// Memory that it holds.
    pub(crate) truesize: u32,
    /// Its flow, see `flows`.
    pub(crate) flow: u32,
}

/// An mbuf, and how many bytes the kernel has put into it. It names memory that is nobody else's only while the
/// [`Chain`] or [`Freed`] lives that it is from.
#[derive(Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) index: u32,
    pub(crate) len: u32,
}

/// Mbufs in the kernel's hands; dropped, they are free.
pub(crate) struct Chain<'a> {
    region: &'a Region,
    head: u32,
    count: u32,
}

impl<'a> Chain<'a> {
    /// The first.
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// How many.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Their indices, in order.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + 'a {
        let region = self.region;
        let mut index = self.head;
        (0..self.count).map(move |_| {
            let this = index;
            index = region.next(this);
            this
        })
    }

    /// The one behind one of them.
    pub(crate) fn after(&self, index: u32) -> u32 {
        self.region.next(index)
    }

    /// Remembers how many bytes the kernel put into one of them.
    pub(crate) fn set_len(&self, index: u32, len: u32) {
        if let Some(slot) = self.region.slots.get(index as usize) {
            slot.len.store(len, Relaxed);
        }
    }

    /// One of them, as the kernel has filled it.
    pub(crate) fn filled(&self, index: u32) -> Filled {
        let slot = self.region.slots.get(index as usize);
        let len = slot.map_or(0, |slot| slot.len.load(Relaxed));
        Filled { index, len }
    }

    /// Hands a detoured packet to a tap; the name that its ring shall carry.
    pub(crate) fn detour(self, to: Detour, skb: Skb, truesize: u32) -> Entry {
        self.detour_rest(to.tap);
        let mut generation = 0u16;
        if let Some(slot) = self.region.slots.get(self.head as usize) {
            slot.count.store(self.count, Relaxed);
            generation = slot.detour(to, skb, truesize);
        }
        let index = self.head;
        core::mem::forget(self);
        Entry {
            index,
            generation,
            flags: 0,
        }
    }

    /// The mbufs of another chain, behind `last`, which is the last one of this.
    pub(crate) fn extend(&mut self, last: u32, other: Chain<'a>) {
        if core::ptr::eq(self.region, other.region) {
            self.region.link(last, other.head);
            self.count = self.count.wrapping_add(other.count);
            core::mem::forget(other);
        }
    }

    #[inline(never)]
    fn detour_rest(&self, tap: u32) {
        let mut index = self.head;
        for _ in 1..self.count {
            index = self.region.next(index);
            if let Some(slot) = self.region.slots.get(index as usize) {
                slot.give(Holder::Chained(tap));
            }
        }
    }
}

/// One mbuf in the kernel's hands, for a packet that fits into it; dropped, it is free.
pub(crate) struct Single<'a> {
    region: &'a Region,
    slot: &'a Slot,
    index: u32,
}

impl Single<'_> {
    /// Which it is.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Hands it to a session; the name that its ring shall carry.
    #[inline(always)]
    pub(crate) fn allocate(self, session: u32) -> Entry {
        let (slot, index) = (self.slot, self.index);
        core::mem::forget(self);
        Entry {
            index,
            generation: slot.give(Holder::Allocated(session)),
            flags: 0,
        }
    }

    /// Where it lies in the memory.
    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.region.offset(self.index)
    }

    /// Hands a detoured packet, `len` bytes of which were put into the mbuf, to a tap; the name that its ring
    /// shall carry.
    #[inline(always)]
    pub(crate) fn detour(self, to: Detour, skb: Skb, len: u32, truesize: u32) -> Entry {
        let (slot, index) = (self.slot, self.index);
        slot.len.store(len, Relaxed);
        slot.count.store(1, Relaxed);
        let generation = slot.detour(to, skb, truesize);
        core::mem::forget(self);
        Entry {
            index,
            generation,
            flags: 0,
        }
    }
}

impl<'a> From<Single<'a>> for Chain<'a> {
    /// A chain of one.
    fn from(single: Single<'a>) -> Self {
        let (region, head) = (single.region, single.index);
        core::mem::forget(single);
        region.link(head, NO_MBUF);
        Self {
            region,
            head,
            count: 1,
        }
    }
}

impl Drop for Single<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        free_one(self.region, self.index);
    }
}

/// Out of line, and by its index: an mbuf that is passed on lies in registers.
#[cold]
fn free_one(region: &Region, index: u32) {
    let _bh = BottomHalvesOff::new();
    Freed::of(region).link(index, 1);
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        let _bh = BottomHalvesOff::new();
        let mut freed = Freed::of(self.region);
        freed.link(self.head, self.count);
    }
}

/// Mbufs that become free together, when it is dropped. Bottom halves are off.
pub(crate) struct Freed<'a> {
    region: &'a Region,
    head: u32,
    last: u32,
    count: u32,
}

impl<'a> Freed<'a> {
    /// None yet, of this region.
    pub(crate) fn of(region: &'a Region) -> Self {
        Self {
            region,
            head: NO_MBUF,
            last: NO_MBUF,
            count: 0,
        }
    }

    /// An mbuf of the region more.
    #[inline(always)]
    pub(crate) fn add_one(&mut self, single: Single<'_>) {
        if core::ptr::eq(self.region, single.region) {
            let generation = single.slot.word().generation();
            self.free_slot(single.slot, single.index, generation);
            core::mem::forget(single);
        }
    }

    #[inline(always)]
    fn free_slot(&mut self, slot: &Slot, index: u32, generation: u16) {
        let word = Word::new(Holder::Free, generation);
        slot.word.store(word.0, Relaxed);
        // What comes later lies on top: it is the warmer.
        slot.next.store(self.head, Relaxed);
        if self.count == 0 {
            self.last = index;
        }
        self.head = index;
        self.count = self.count.wrapping_add(1);
    }

    /// A chain of the region more.
    pub(crate) fn add(&mut self, chain: Chain<'_>) {
        if core::ptr::eq(self.region, chain.region) {
            self.link(chain.head, chain.count);
            core::mem::forget(chain);
        }
    }

    /// Takes back a packet of a tap's that a ring's entry names, and its mbufs. Nothing: it is not so, or
    /// not so simple, and [`Region::claim`] knows more.
    #[inline(always)]
    pub(crate) fn take_back(
        &mut self,
        entry: Entry,
        theirs: Theirs,
        taker: &mut Taker,
    ) -> Option<Back> {
        let slot = self.region.slots.get(entry.index as usize)?;
        if slot.word() != theirs.0.in_use(entry.generation) {
            return None;
        }
        // Who gets the packet has the mbuf.
        let skb = slot.skb.take(entry.generation, taker)?;
        let (truesize, flow) = (slot.truesize.load(Relaxed), slot.flow.load(Relaxed));
        let count = slot.count.load(Relaxed);
        if count == 1 {
            self.free_slot(slot, entry.index, entry.generation);
        } else {
            self.link(entry.index, count);
        }
        Some(Back {
            skb,
            truesize,
            flow,
        })
    }

    /// The same for a packet that was put into one mbuf; what is there may be read until this is dropped.
    #[inline(always)]
    pub(crate) fn take_back_one(
        &mut self,
        entry: Entry,
        theirs: Theirs,
        taker: &mut Taker,
    ) -> Option<(Back, Filled)> {
        let slot = self.region.slots.get(entry.index as usize)?;
        if slot.word() != theirs.0.in_use(entry.generation) || slot.count.load(Relaxed) != 1 {
            return None;
        }
        let filled = Filled {
            index: entry.index,
            len: slot.len.load(Relaxed),
        };
        Some((self.take_back(entry, theirs, taker)?, filled))
    }

    #[inline(never)]
    fn link(&mut self, head: u32, count: u32) {
        let (mut index, mut last) = (head, head);
        for _ in 0..count {
            let Some(slot) = self.region.slots.get(index as usize) else {
                break;
            };
            let generation = slot.word().generation();
            slot.word
                .store(Word::new(Holder::Free, generation).0, Relaxed);
            last = index;
            index = slot.next.load(Relaxed);
        }
        // What comes later lies on top: it is the warmer.
        self.region.link(last, self.head);
        if self.count == 0 {
            self.last = last;
        }
        self.head = head;
        self.count = self.count.wrapping_add(count);
    }
}

impl Drop for Freed<'_> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut free = self.region.free.lock();
        self.region.link(self.last, free.head);
        free.head = self.head;
        free.count = free.count.wrapping_add(self.count);
    }
}
