// SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT

//! THE ring: cells with tags, in memory that the kernel and programs share.
//!
//! Four kinds of ring carry mbufs: *alloc* and *detour* from the kernel to the program, *dealloc* and
//! *revert* back. All are this one algorithm, after the tagged cell of Varenni et al. (SBAC-PAD 2003,
//! section 3.3): several producers and several consumers, no lock between kernel and program, the
//! slow work (copying a packet) between booking a cell and filling it.
//!
//! # A cell's life
//!
//! A cell is *Free*, *Booked*, *Full* or *Padding*. Positions are free-running 32-bit counters; cell
//! `position % size` in lap `position / size`. The tag says Full or Padding, and of which lap, so a
//! cell of the lap before reads as "not yet". Free and Booked need no store: a cell is Booked when
//! its position lies behind the producers' and its tag is of an earlier lap, and Free when the
//! consumers' position has passed it. Padding is a booking that failed: consumers step over it.
//! Order is booking order.
//!
//! ```text
//!           consumers' position              producers' position
//!                 v                                v
//!   ... Free Free Full Full Padding Full Booked Booked Free Free ...
//! ```
//!
//! # Who writes what
//!
//! | ring            | cells   | producers' position | consumers' position     |
//! | --------------- | ------- | ------------------- | ----------------------- |
//! | alloc, detour   | kernel  | kernel, private     | programs, by CAS *      |
//! | dealloc, revert | program | programs, by CAS    | kernel, private; a copy |
//!
//! \* At a tap's end the kernel is one more consumer of its detour ring, and takes out what nobody has.
//!
//! What the kernel writes is mapped read-only for programs. The kernel believes neither the cells nor
//! the positions that programs write: [`PrivateProducer`] and [`PrivateConsumer`] keep their own.
//!
//! # Why it is right: the barriers and their pairs
//!
//! | producer                              | consumer                                   |
//! | ------------------------------------- | ------------------------------------------ |
//! | load consumers' position, acquire (D) | load tag, acquire (B): Full, of this lap   |
//! | write the mbuf, write the entry       | load the entry, read the mbuf              |
//! | store the tag, release (A)            | move consumers' position, release (C)      |
//!
//! - A pairs with B. Without it a consumer sees Full before the entry or the mbuf's bytes.
//! - C pairs with D. Without it a producer books a cell whose entry a consumer has yet to read.
//! - Several consumers read entries first and then move the position by compare-and-exchange from
//!   the value that they began with. If it succeeds, nobody else took these cells and no producer
//!   could have reused them in between; if it fails, what was read is thrown away. The counter would
//!   have to run through 2^32 cells during one claim to deceive them.
//! - Several producers of a program move the producers' position by compare-and-exchange and then own
//!   the cells between the old and the new value. Only they write them.
//!
//! # Sleeping
//!
//! The kernel raises [`Words::need_wakeup`], executes a full barrier (E) and looks at the ring
//! again before it sleeps. A producer publishes (A), executes a full barrier (F) and looks at the
//! word. E pairs with F: one of the two sees the other, so no entry is forgotten.
//!
//! A revert ring whose tap has ended wants the doorbell for good, and the doorbell says so. What the kernel had not
//! taken by then is still the program's: its position, which does not move any more, tells ([`Producer::left_of`]).

use core::marker::PhantomData;

/// A 32-bit word in shared memory. The kernel, programs and the model checker each implement it over
/// their own atomics.
pub trait Word {
    /// Reads without ordering.
    fn load(&self) -> u32;
    /// Reads; what follows stays behind it.
    fn load_acquire(&self) -> u32;
    /// Writes without ordering.
    fn store(&self, value: u32);
    /// Writes; what precedes stays before it.
    fn store_release(&self, value: u32);
    /// Replaces `current` by `new`, fully ordered; tells whether it did.
    fn replace(&self, current: u32, new: u32) -> bool;
    /// A full barrier: (E) and (F) of the module's description.
    fn full_barrier();
}

/// One cell: 8 bytes, so that a cache line carries eight.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Cell<W> {
    /// State, flags, lap and generation; written last.
    pub tag: W,
    /// Index of the mbuf.
    pub entry: W,
}

impl<W: Word> Cell<W> {
    /// Writes an entry, and then the tag, of which state and lap are given, and of the entry's bits those in `bits`: (A).
    #[inline]
    fn write<E: Carried>(&self, state_and_lap: u32, entry: E, bits: u32) {
        self.entry.store(entry.index());
        self.tag
            .store_release(state_and_lap | (entry.in_tag() & bits)); // A, matches B
    }

    /// The entry behind a tag that was read from here.
    #[inline]
    fn entry<E: Carried>(&self, tag: u32) -> E {
        E::of_cell(tag, self.entry.load())
    }
}

/// The words before the cells of a ring's page. The read-only page has the kernel's, the writable
/// page the program's; each uses what it has. One cache line each.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Words<W> {
    /// The position of the side that owns the page: the consumers' where it consumes, the producers'
    /// where it produces. Where the kernel produces it keeps its position to itself.
    pub position: W,
    /// In the read-only page: not 0 when the kernel sleeps and wants the doorbell after a push, or when the ring's tap has
    /// ended.
    pub need_wakeup: W,
    /// In the read-only page: cells of the ring.
    pub size: W,
    /// Must be zero; room to grow.
    pub reserved: [W; 13],
}

/// What a cell carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The mbuf.
    pub index: u32,
    /// Which of its uses this is: a number that the kernel changes each time it hands the mbuf out,
    /// so that a stale name of it is recognised. Given back as it was received.
    pub generation: u16,
    /// `REVERT_` bits, or zero.
    pub flags: u8,
}

/// What goes through a ring: an [`Entry`], or what a cell says of it, as it is.
pub trait Carried: Copy {
    /// What lies behind a tag, and the index beside it.
    fn of_cell(tag: u32, index: u32) -> Self;
    /// The mbuf.
    fn index(&self) -> u32;
    /// Generation and flags, where a tag has them.
    fn in_tag(&self) -> u32;
}

impl Carried for Entry {
    #[inline(always)]
    fn of_cell(tag: u32, index: u32) -> Self {
        Self {
            index,
            generation: tag.wrapping_shr(GENERATION_SHIFT) as u16,
            flags: (tag.wrapping_shr(FLAGS_SHIFT) & FLAGS_MASK) as u8,
        }
    }

    #[inline(always)]
    fn index(&self) -> u32 {
        self.index
    }

    #[inline(always)]
    fn in_tag(&self) -> u32 {
        (u32::from(self.flags) & FLAGS_MASK).wrapping_shl(FLAGS_SHIFT)
            | u32::from(self.generation).wrapping_shl(GENERATION_SHIFT)
    }
}

/// An entry in the form that cells have: for who passes many on and looks at few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    index: u32,
    tag: u32,
}

impl Packed {
    /// Sets bits of [`Entry::flags`].
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        self.tag |= (u32::from(flags) & FLAGS_MASK).wrapping_shl(FLAGS_SHIFT);
    }

    /// The entry.
    pub fn entry(&self) -> Entry {
        Entry::of_cell(self.tag, self.index)
    }
}

impl Carried for Packed {
    #[inline(always)]
    fn of_cell(tag: u32, index: u32) -> Self {
        Self { index, tag }
    }

    #[inline(always)]
    fn index(&self) -> u32 {
        self.index
    }

    #[inline(always)]
    fn in_tag(&self) -> u32 {
        self.tag & IN_TAG
    }
}

/// The bits of a tag that are of the entry: its flags, and its generation.
const IN_TAG: u32 = FLAGS_MASK.wrapping_shl(FLAGS_SHIFT) | GENERATION_IN_TAG;
const GENERATION_IN_TAG: u32 = u32::MAX.wrapping_shl(GENERATION_SHIFT);

/// Whether entries keep their flags on a ring: packets that revert have some; new ones, and the dealloc ring's, must have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// They do.
    Kept,
    /// They have none there.
    Cleared,
}

impl Flags {
    /// The bits of a tag that are of the entry then.
    #[inline(always)]
    const fn in_tag(self) -> u32 {
        match self {
            Self::Kept => IN_TAG,
            Self::Cleared => GENERATION_IN_TAG,
        }
    }
}

/// Bit of [`Entry::flags`] on a revert ring: bytes or header of the mbuf were changed, the kernel has
/// to read them. Without it the packet goes on exactly as it was.
pub const REVERT_CHANGED: u8 = 1;
/// All bits that may be set in [`Entry::flags`] on a revert ring.
pub const REVERT_FLAGS: u8 = REVERT_CHANGED;

// The tag, from the lowest bit: 2 of state, 6 of flags, 8 of lap, 16 of generation. Public for the
// inline enqueue and dequeue of C programs, who take them from the generated header.

/// State bits of a tag: the cell is Full.
pub const STATE_FULL: u32 = 2;
/// State bits of a tag: the cell is Padding.
pub const STATE_PADDING: u32 = 3;
/// Where the state lies in a tag. A tag that is 0 as a whole is a cell that was never used.
pub const STATE_MASK: u32 = 3;
/// How far [`Entry::flags`] is shifted in a tag.
pub const FLAGS_SHIFT: u32 = 2;
/// The bits of [`Entry::flags`] that a tag carries, before shifting.
pub const FLAGS_MASK: u32 = 0x3f;
/// How far the lap is shifted in a tag.
pub const LAP_SHIFT: u32 = 8;
/// The bits of the lap (position divided by the number of cells) that a tag carries, before shifting.
pub const LAP_MASK: u32 = 0xff;
/// How far [`Entry::generation`] is shifted in a tag; it is the rest of the tag.
pub const GENERATION_SHIFT: u32 = 16;

/// What a consumer finds in the cell at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// An entry of this lap.
    Full(Entry),
    /// A booking of this lap that failed; step over it.
    Padding,
    /// Nothing of this lap yet.
    NotYet,
    /// No tag that a producer of this lap or of the one before could have written.
    Scribbled,
}

/// The cells of a ring: a power of two of them, which is established once and relied on after.
#[derive(Debug)]
pub struct Cells<'a, W> {
    cells: &'a [Cell<W>],
    log2: u32,
}

impl<W> Clone for Cells<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W> Copy for Cells<'_, W> {}

impl<'a, W: Word> Cells<'a, W> {
    /// The ring over these cells, if their number is a power of two within the limits.
    pub fn new(cells: &'a [Cell<W>]) -> Option<Self> {
        let size = u32::try_from(cells.len()).ok()?;
        if !size.is_power_of_two() || size > super::tap::RING_MAX {
            return None;
        }
        Some(Self {
            cells,
            log2: size.trailing_zeros(),
        })
    }

    /// The same over cells of which somebody has counted before that they are `2^log2`; with other cells
    /// entries get lost, and nothing worse.
    pub const fn of(cells: &'a [Cell<W>], log2: u32) -> Self {
        Self { cells, log2 }
    }

    /// No cells: nothing can be put in and nothing comes out.
    pub const fn none() -> Self {
        Self {
            cells: &[],
            log2: 0,
        }
    }

    /// Number of cells.
    pub fn size(&self) -> u32 {
        self.cells.len() as u32
    }

    fn cell(&self, position: u32) -> Option<&'a Cell<W>> {
        let mask = self.size().wrapping_sub(1);
        self.cells.get((position & mask) as usize)
    }

    /// The lap of a position, as many bits of it as a tag carries.
    fn lap(&self, position: u32) -> u32 {
        position.wrapping_shr(self.log2) & LAP_MASK
    }

    /// The cells from `position` on that are of its lap.
    #[inline(always)]
    fn rest(&self, position: u32) -> Option<&'a [Cell<W>]> {
        let mask = self.size().wrapping_sub(1);
        self.cells.get((position & mask) as usize..)
    }

    /// The same, `most` at most, and what of their tags says so.
    #[inline]
    fn rest_of_lap(&self, position: u32, most: usize) -> (&'a [Cell<W>], u32) {
        let rest = self.rest(position).unwrap_or_default();
        let part = rest.get(..most).unwrap_or(rest);
        (part, self.lap(position).wrapping_shl(LAP_SHIFT))
    }

    /// Fills the booked cell at `position`: (A).
    #[inline]
    pub fn fill(&self, position: u32, entry: Entry) {
        self.write(position, STATE_FULL, entry);
    }

    /// Gives up the booked cell at `position`: consumers will step over it.
    pub fn pad(&self, position: u32) {
        self.write(position, STATE_PADDING, Entry::default());
    }

    fn write(&self, position: u32, state: u32, entry: Entry) {
        if let Some(cell) = self.cell(position) {
            let lap = self.lap(position).wrapping_shl(LAP_SHIFT);
            cell.write(state | lap, entry, IN_TAG);
        }
    }

    /// What the cell at `position` holds for a consumer that has come to it: (B).
    #[inline]
    pub fn look(&self, position: u32) -> Look {
        let Some(cell) = self.cell(position) else {
            return Look::NotYet;
        };
        let tag = cell.tag.load_acquire(); // B, matches A
        let here = self.lap(position);
        let which = tag & (STATE_MASK | LAP_MASK.wrapping_shl(LAP_SHIFT));
        let whole = |state| state | here.wrapping_shl(LAP_SHIFT);
        if which == whole(STATE_FULL) {
            return Look::Full(cell.entry(tag));
        }
        if which == whole(STATE_PADDING) {
            return Look::Padding;
        }
        let state = tag & STATE_MASK;
        let lap = tag.wrapping_shr(LAP_SHIFT) & LAP_MASK;
        let before = here.wrapping_sub(1) & LAP_MASK;
        if tag == 0 || (lap == before && state >= STATE_FULL) {
            Look::NotYet
        } else {
            Look::Scribbled
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The program's side: positions in shared memory, moved by compare-and-exchange.

/// The program's end of a ring that programs consume: alloc, detour.
#[derive(Debug)]
pub struct Consumer<'a, W> {
    cells: Cells<'a, W>,
    position: &'a W,
}

impl<'a, W: Word> Consumer<'a, W> {
    /// The end over these cells and the position word of the writable page.
    pub fn new(cells: Cells<'a, W>, position: &'a W) -> Self {
        Self { cells, position }
    }

    /// Takes up to `out.len()` entries, oldest first; returns how many. Zero: nothing is there yet.
    ///
    /// Safe to call from several threads and processes at once.
    #[inline]
    pub fn claim<E: Carried>(&self, out: &mut [E]) -> usize {
        loop {
            if let Some(taken) = self.try_claim(out) {
                return taken;
            }
        }
    }

    /// The same where it is simple, as nearly always: the first that is there is an entry, and nobody else takes it. Those
    /// up to the end of the lap, or to padding, are taken with it, and those behind are for the next time. How many, and
    /// the largest index among them. Nothing: it is not so, or nothing is there.
    #[inline(always)]
    pub fn claim_plainly<E: Carried>(&self, out: &mut [E]) -> Option<(usize, u32)> {
        let begin = self.position.load();
        let lap = self.cells.lap(begin).wrapping_shl(LAP_SHIFT);
        let cells = self.cells.rest(begin)?;
        let (mut taken, mut highest) = (0usize, 0u32);
        for (cell, slot) in cells.iter().zip(out) {
            let tag = cell.tag.load_acquire(); // B, matches A
            let which = tag & (STATE_MASK | LAP_MASK.wrapping_shl(LAP_SHIFT));
            if which != STATE_FULL | lap {
                break;
            }
            *slot = cell.entry(tag);
            highest = highest.max(slot.index());
            taken = taken.wrapping_add(1);
        }
        if taken == 0 {
            return None;
        }
        // C, matches D. On failure another consumer took them: what was read is void.
        let claimed = self
            .position
            .replace(begin, begin.wrapping_add(taken as u32));
        claimed.then_some((taken, highest))
    }

    /// [`Consumer::claim`], unless others move the position meanwhile: then nothing is known, and it can be tried again.
    /// For who must not be kept by them.
    pub fn try_claim<E: Carried>(&self, out: &mut [E]) -> Option<usize> {
        let begin = self.position.load();
        let (mut taken, ended) = self.read_lap(begin, out);
        let mut position = begin.wrapping_add(taken as u32);
        if taken == 0 || !ended {
            position = self.read_on(position, &mut taken, out);
        }
        if position == begin {
            // Others may have taken these cells, and the kernel filled them anew: then there is
            // no reading of them from here, and more to take further on.
            return (self.position.load() == begin).then_some(0);
        }
        // C, matches D. On failure another consumer took them: what was read is void.
        (self.position.replace(begin, position) && taken > 0).then_some(taken)
    }

    /// Reads entries from `position` on as long as they are full and of its lap; how many, and whether behind them is
    /// what cannot be taken now.
    #[inline]
    fn read_lap<E: Carried>(&self, position: u32, out: &mut [E]) -> (usize, bool) {
        let (cells, lap) = self.cells.rest_of_lap(position, out.len());
        let mut read = 0usize;
        for (cell, slot) in cells.iter().zip(out) {
            let tag = cell.tag.load_acquire(); // B, matches A
            let which = tag & (STATE_MASK | LAP_MASK.wrapping_shl(LAP_SHIFT));
            if which != STATE_FULL | lap {
                return (read, which != STATE_PADDING | lap);
            }
            *slot = cell.entry(tag);
            read = read.wrapping_add(1);
        }
        (read, false)
    }

    /// Goes on reading from `position`, over padding and into the next lap, behind the first `taken` entries; how far.
    fn read_on<E: Carried>(&self, mut position: u32, taken: &mut usize, out: &mut [E]) -> u32 {
        while let Some(slot) = out.get_mut(*taken) {
            match self.cells.look(position) {
                Look::Full(entry) => {
                    *slot = E::of_cell(entry.in_tag(), entry.index);
                    *taken = taken.wrapping_add(1);
                }
                Look::Padding => {}
                Look::NotYet | Look::Scribbled => break,
            }
            position = position.wrapping_add(1);
        }
        position
    }

    /// Whether an entry (or padding to step over) is there.
    pub fn is_ready(&self) -> bool {
        loop {
            let position = self.position.load();
            if matches!(self.cells.look(position), Look::Full(_) | Look::Padding) {
                return true;
            }
            // As in `claim`: what was looked at may be behind the others by now.
            if self.position.load() == position {
                return false;
            }
        }
    }

    /// Number of cells of the ring.
    pub fn size(&self) -> u32 {
        self.cells.size()
    }
}

/// The program's end of a ring that programs fill: dealloc, revert.
#[derive(Debug)]
pub struct Producer<'a, W> {
    cells: Cells<'a, W>,
    position: &'a W,
    consumed: &'a W,
}

/// Cells that a producer owns between booking and filling them.
///
/// Each must be filled or padded; a cell that is neither holds up all behind it.
#[must_use = "booked cells must be filled or padded, and given entries are the kernel's"]
#[derive(Debug, Clone, Copy)]
pub struct Booking {
    first: u32,
    count: u32,
}

impl Booking {
    /// Number of cells.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Position of the `nth` cell.
    pub fn position(&self, nth: u32) -> Option<u32> {
        (nth < self.count).then(|| self.first.wrapping_add(nth))
    }
}

impl<'a, W: Word> Producer<'a, W> {
    /// The end over these cells, the position word of the writable page, and the kernel's position
    /// in the read-only page.
    pub fn new(cells: Cells<'a, W>, position: &'a W, consumed: &'a W) -> Self {
        Self {
            cells,
            position,
            consumed,
        }
    }

    /// Books up to `wanted` cells, at least one; nothing when the ring is full.
    ///
    /// Safe to call from several threads at once.
    pub fn book(&self, wanted: u32) -> Option<Booking> {
        loop {
            let first = self.position.load();
            let consumed = self.consumed.load_acquire(); // D, matches C
            let used = first.wrapping_sub(consumed);
            // `used` beyond the size: the kernel moved on between the two loads; look again.
            if used > self.cells.size() {
                if self.position.load() == first {
                    return None;
                }
                continue;
            }
            let count = wanted.min(self.cells.size().wrapping_sub(used));
            if count == 0 {
                return None;
            }
            if self.position.replace(first, first.wrapping_add(count)) {
                return Some(Booking { first, count });
            }
        }
    }

    /// The cells, to fill or pad what was booked.
    pub fn cells(&self) -> Cells<'a, W> {
        self.cells
    }

    /// Puts the entries into the ring in order; where those went that found room.
    pub fn push<E: Carried>(&self, entries: &[E], flags: Flags) -> Booking {
        const NONE: Booking = Booking { first: 0, count: 0 };
        let wanted = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        if wanted == 0 {
            return NONE;
        }
        let Some(booking) = self.book(wanted) else {
            return NONE;
        };
        let count = booking.count as usize;
        let mut left = entries.get(..count).unwrap_or(entries);
        let mut position = booking.first;
        while !left.is_empty() {
            let (cells, lap) = self.cells.rest_of_lap(position, left.len());
            if cells.is_empty() {
                break;
            }
            for (cell, entry) in cells.iter().zip(left) {
                cell.write(STATE_FULL | lap, *entry, flags.in_tag());
            }
            left = left.get(cells.len()..).unwrap_or_default();
            position = position.wrapping_add(cells.len() as u32);
        }
        booking
    }

    /// The same where it is simple, as nearly always: there are some, all find room in one lap, and nobody else is
    /// booking. Nothing: it is not so.
    #[inline(always)]
    pub fn push_plainly<E: Carried>(&self, entries: &[E], flags: Flags) -> Option<Booking> {
        let first = self.position.load();
        let consumed = self.consumed.load_acquire(); // D, matches C
        let cells = self.cells.rest(first)?.get(..entries.len())?;
        let count = cells.len() as u32;
        // With a `first` that is older than `consumed` the sum may be any number; then the exchange fails.
        let used = first.wrapping_sub(consumed);
        let fits = used.wrapping_add(count) <= self.cells.size();
        if count == 0 || !fits || !self.position.replace(first, first.wrapping_add(count)) {
            return None;
        }
        let lap = self.cells.lap(first).wrapping_shl(LAP_SHIFT);
        for (cell, entry) in cells.iter().zip(entries) {
            cell.write(STATE_FULL | lap, *entry, flags.in_tag());
        }
        Some(Booking { first, count })
    }

    /// How many of the entries that were put there the kernel has not taken, when it takes no more.
    pub fn left_of(&self, booking: &Booking) -> u32 {
        let consumed = self.consumed.load_acquire(); // D, matches C
        let taken = consumed.wrapping_sub(booking.first);
        // Positions that lie behind the booking's look like large ones here.
        if taken as i32 <= 0 {
            return booking.count;
        }
        booking.count.saturating_sub(taken)
    }

    /// Cells that the kernel has not taken yet, booked ones included.
    pub fn backlog(&self) -> u32 {
        // In this order: the producers' position is never behind one that the kernel has published.
        let consumed = self.consumed.load_acquire();
        let booked = self.position.load().wrapping_sub(consumed);
        booked.min(self.cells.size())
    }
}

/// Whether the kernel asks for the doorbell, to be called after publishing: (F).
pub fn wants_doorbell<W: Word>(need_wakeup: &W) -> bool {
    W::full_barrier(); // F, matches E
    need_wakeup.load() != 0
}

// ---------------------------------------------------------------------------------------------
// The kernel's side: its own position is private, the program's is read and doubted.

/// The kernel's end of a ring that the kernel fills: alloc, detour. Its owner serialises booking.
#[derive(Debug)]
pub struct PrivateProducer<W> {
    head: u32,
    consumed: u32,
    scribbled: u64,
    word: PhantomData<fn(&W)>,
}

impl<W: Word> PrivateProducer<W> {
    /// An end at the start of a zeroed ring.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    /// An end at any position of a zeroed ring, where the position words must stand too. Positions
    /// wrap after 2^32 cells; this is how tests get there.
    pub const fn starting_at(position: u32) -> Self {
        Self {
            head: position,
            consumed: position,
            scribbled: 0,
            word: PhantomData,
        }
    }

    /// Free cells now. `position` is the word that programs write: a value that cannot be is counted
    /// and the last believable one is kept.
    pub fn room(&mut self, size: u32, position: &W) -> u32 {
        let consumed = position.load_acquire(); // D, matches C

        // Programs move forward only, and never past the head.
        if self.head.wrapping_sub(consumed) <= self.head.wrapping_sub(self.consumed) {
            self.consumed = consumed;
        } else {
            self.scribbled = self.scribbled.wrapping_add(1);
        }
        size.saturating_sub(self.head.wrapping_sub(self.consumed))
    }

    /// Books one cell and returns its position; nothing when the ring is full.
    #[inline]
    pub fn book(&mut self, size: u32, position: &W) -> Option<u32> {
        // The cached position suffices until the ring looks full.
        let used = self.head.wrapping_sub(self.consumed);
        if used >= size && self.room(size, position) == 0 {
            return None;
        }
        let booked = self.head;
        self.head = self.head.wrapping_add(1);
        Some(booked)
    }

    /// Books cells that are free as far as the last look told, `most` at most: the position of the first, and how many.
    #[inline]
    pub fn book_run(&mut self, size: u32, most: u32) -> (u32, u32) {
        let first = self.head;
        let free = size.saturating_sub(first.wrapping_sub(self.consumed));
        let count = most.min(free);
        self.head = first.wrapping_add(count);
        (first, count)
    }

    /// The position after the last booked cell.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// The programs' position as far as it was looked at: not before the true one.
    pub fn seen(&self) -> u32 {
        self.consumed
    }

    /// How often the programs' position was no position that could be.
    pub fn scribbled(&self) -> u64 {
        self.scribbled
    }
}

/// Most cells that one look for an entry steps over.
const STEPS_MAX: u32 = 64;

/// The kernel's end of a ring that programs fill: dealloc, revert. Its owner serialises it.
#[derive(Debug)]
pub struct PrivateConsumer<W> {
    position: u32,
    published: u32,
    scribbled: u64,
    reported: bool,
    word: PhantomData<fn(&W)>,
}

impl<W: Word> PrivateConsumer<W> {
    /// An end at the start of a zeroed ring.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    /// An end at any position of a zeroed ring, where the position words must stand too. Positions
    /// wrap after 2^32 cells; this is how tests get there.
    pub const fn starting_at(position: u32) -> Self {
        Self {
            position,
            published: position,
            scribbled: 0,
            reported: false,
            word: PhantomData,
        }
    }

    /// Takes the next entry, stepping over padding; nothing when there is none, or padding only for
    /// [`STEPS_MAX`] cells. The caller sees by [`Self::position`] how far it went: programs can write
    /// padding for ever, so it is work like any other.
    #[inline]
    pub fn take(&mut self, cells: &Cells<'_, W>) -> Option<Entry> {
        for _ in 0..STEPS_MAX {
            match cells.look(self.position) {
                Look::Full(entry) => {
                    self.step();
                    return Some(entry);
                }
                Look::Padding => self.step(),
                Look::NotYet => return None,
                Look::Scribbled => {
                    if !self.reported {
                        self.reported = true;
                        self.scribbled = self.scribbled.wrapping_add(1);
                    }
                    return None;
                }
            }
        }
        None
    }

    /// Takes the next entries, `most` at most, as long as they have no flags but some of these and `take` will have
    /// them; how many. What it stops at is left for [`Self::take`].
    #[inline(always)]
    pub fn take_run(
        &mut self,
        cells: &Cells<'_, W>,
        most: usize,
        flags: u8,
        mut take: impl FnMut(Entry) -> bool,
    ) -> usize {
        const ALL_BUT_GENERATION: u32 = (1 << GENERATION_SHIFT) - 1;
        let (cells, lap) = cells.rest_of_lap(self.position, most);
        let in_tag = (u32::from(flags) & FLAGS_MASK).wrapping_shl(FLAGS_SHIFT);
        let mut taken = 0usize;
        for cell in cells {
            let tag = cell.tag.load_acquire(); // B, matches A
            if tag & ALL_BUT_GENERATION & !in_tag != STATE_FULL | lap {
                break;
            }
            let entry = Entry {
                index: cell.entry.load(),
                generation: tag.wrapping_shr(GENERATION_SHIFT) as u16,
                flags: (tag & in_tag).wrapping_shr(FLAGS_SHIFT) as u8,
            };
            if !take(entry) {
                break;
            }
            taken = taken.wrapping_add(1);
        }
        if taken > 0 {
            self.position = self.position.wrapping_add(taken as u32);
            self.reported = false;
        }
        taken
    }

    fn step(&mut self) {
        self.position = self.position.wrapping_add(1);
        self.reported = false;
    }

    /// Whether an entry (or padding) waits.
    pub fn is_ready(&self, cells: &Cells<'_, W>) -> bool {
        matches!(cells.look(self.position), Look::Full(_) | Look::Padding)
    }

    /// Whether there is nothing at all to take, not even what no producer could have written.
    pub fn is_idle(&self, cells: &Cells<'_, W>) -> bool {
        cells.look(self.position) == Look::NotYet
    }

    /// Tells the producers how far this end has come, once per batch: (C).
    pub fn publish(&mut self, word: &W) {
        if self.published != self.position {
            self.published = self.position;
            word.store_release(self.position); // C, matches D
        }
    }

    /// The position of the next entry.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// How many cells held what no producer could have written.
    pub fn scribbled(&self) -> u64 {
        self.scribbled
    }
}
