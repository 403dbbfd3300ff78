// SPDX-License-Identifier: GPL-2.0-only

//! What a hostile program writes into shared memory: headers that lie, entries that name what is not
//! its own, positions and tags that cannot be. Each is a row of [`TRICKS`]; a new kind of shared page
//! is one more.

use crate::abi::{Ring, Session, Tap};
use crate::chance::Chance;
use nettap_uapi::lock::{LOCKS_MAX, LOCK_DATA, LOCK_OWNER, LOCK_OWNER_DIED, LOCK_WAITERS};
use nettap_uapi::mbuf::Header;
use nettap_uapi::ring::{Entry, Word, LAP_SHIFT};

/// What a trick has at hand.
pub(crate) struct Bench<'a> {
    pub(crate) session: &'a Session,
    pub(crate) taps: &'a [Tap],
    pub(crate) chance: Chance,
}

/// A trick.
pub(crate) struct Trick {
    pub(crate) name: &'static str,
    /// Whether packets can still flow beside it: what destroys the program's own rings stops them.
    pub(crate) mild: bool,
    pub(crate) play: fn(&mut Bench<'_>),
}

const fn trick(name: &'static str, mild: bool, play: fn(&mut Bench<'_>)) -> Trick {
    Trick { name, mild, play }
}

/// All tricks.
pub(crate) static TRICKS: &[Trick] = &[
    trick("noise", true, noise),
    trick("header", true, header),
    trick("loop", true, circle),
    trick("erase", true, erase),
    trick("forge", true, forge),
    trick("lock", true, lock),
    trick("tag", false, tag),
    trick("cell", false, cell),
    trick("position", false, position),
    trick("word", false, word),
];

impl<'a> Bench<'a> {
    /// Any mbuf, whoever has it.
    fn mbuf(&mut self) -> u32 {
        self.chance.draw() % self.session.told.mbufs.max(1)
    }

    /// A ring that programs fill.
    fn filled_ring(&mut self) -> &'a Ring {
        match self.chance.below(self.taps.len() + 1).checked_sub(1) {
            None => &self.session.dealloc,
            Some(nth) => self
                .taps
                .get(nth)
                .map_or(&self.session.dealloc, |tap| &tap.revert),
        }
    }

    /// Any ring.
    fn ring(&mut self) -> &'a Ring {
        if self.chance.one_in(2) {
            return self.filled_ring();
        }
        match self.chance.below(self.taps.len() + 1).checked_sub(1) {
            None => &self.session.alloc,
            Some(nth) => self
                .taps
                .get(nth)
                .map_or(&self.session.alloc, |tap| &tap.detour),
        }
    }
}

/// Any words of the region.
fn noise(bench: &mut Bench<'_>) {
    let region = bench.session.region();
    let begin = bench.chance.below(region.len());
    for place in region.iter().skip(begin).take(64) {
        place.store(bench.chance.draw());
    }
}

/// One lie in the header of an mbuf.
fn header(bench: &mut Bench<'_>) {
    let index = bench.mbuf();
    let mut header = bench.session.header(index);
    lie(&mut header, bench.session.told.mbuf_size, &mut bench.chance);
    bench.session.set_header(index, header);
}

/// Mbufs that follow each other in a circle, into others' or out of the region.
fn circle(bench: &mut Bench<'_>) {
    let first = bench.mbuf();
    let mut index = first;
    for nth in 0..4 {
        let next = match bench.chance.below(6) {
            0 => first,
            1 => bench.chance.border() as u32,
            _ => bench.mbuf(),
        };
        let header = Header {
            next: if nth == 3 { first } else { next },
            ..bench.session.header(index)
        };
        bench.session.set_header(index, header);
        index = next;
    }
}

/// A whole mbuf of nothing.
fn erase(bench: &mut Bench<'_>) {
    let index = bench.mbuf();
    let size = bench.session.told.mbuf_size as usize;
    bench.session.write(index, 0, &vec![0; size]);
}

/// Entries with made-up names, put in properly.
fn forge(bench: &mut Bench<'_>) {
    let ring = bench.filled_ring();
    for _ in 0..8 {
        let index = match bench.chance.below(4) {
            0 => bench.chance.border() as u32,
            _ => bench.mbuf(),
        };
        let entry = Entry {
            index,
            generation: bench.chance.draw() as u16 % 64,
            flags: bench.chance.pick(&[0, 0, 1, 1, 2, 0x20, 0x3f]).unwrap_or(0),
        };
        let _ = ring.put(entry);
    }
}

/// A shared lock's word, or what lies behind it: free, with an owner that there may be, waited for or not.
fn lock(bench: &mut Bench<'_>) {
    let words = bench.session.locks();
    let place = match bench.chance.below(4) {
        0 => bench.chance.below(words.len()),
        _ => bench.chance.below(LOCKS_MAX as usize) * (LOCK_DATA + 1),
    };
    let owner = match bench.chance.below(3) {
        0 => bench.chance.border() as u32 & LOCK_OWNER,
        1 => bench.session.id().unwrap_or(0),
        _ => bench.chance.draw() % 4096,
    };
    let bits = [
        0,
        0,
        LOCK_WAITERS,
        LOCK_OWNER_DIED,
        LOCK_WAITERS | LOCK_OWNER_DIED,
    ];
    if let Some(word) = words.get(place) {
        word.store(owner | bench.chance.pick(&bits).unwrap_or(0));
    }
}

/// A tag near where the kernel looks, nearly right.
fn tag(bench: &mut Bench<'_>) {
    let ring = bench.filled_ring();
    let cells = ring.raw_cells();
    let position = ring.rw().position.load();
    let near = position
        .wrapping_add(bench.chance.draw() % 32)
        .wrapping_sub(16);
    let Some(cell) = cells.get(near as usize % cells.len().max(1)) else {
        return;
    };
    let lap = (near / cells.len().max(1) as u32).wrapping_add(bench.chance.draw() % 3);
    let state = bench.chance.draw() & 3;
    cell.tag.store(state | ((lap & 0xff) << LAP_SHIFT));
}

/// Anything in a cell that programs fill.
fn cell(bench: &mut Bench<'_>) {
    let cells = bench.filled_ring().raw_cells();
    if let Some(cell) = cells.get(bench.chance.below(cells.len())) {
        cell.entry.store(bench.chance.draw());
        cell.tag.store(bench.chance.draw());
    }
}

/// A position, a little off or far away, ahead or behind.
fn position(bench: &mut Bench<'_>) {
    let word = &bench.ring().rw().position;
    let off = match bench.chance.below(3) {
        0 => bench.chance.border() as u32,
        1 => bench.chance.draw(),
        _ => (bench.chance.draw() % 600).wrapping_sub(300),
    };
    word.store(word.load().wrapping_add(off));
}

/// Any word of any page of a ring that may be written.
fn word(bench: &mut Bench<'_>) {
    let page = bench.ring().writable();
    if let Some(word) = page.get(bench.chance.below(page.len())) {
        word.store(bench.chance.border() as u32);
    }
}

/// Makes a header lie, in one respect or in several.
pub(crate) fn lie(header: &mut Header, mbuf_size: u32, chance: &mut Chance) {
    for _ in 0..=chance.below(3) {
        let odd = chance.border();
        // Around the ends of the header, the data and the mbuf.
        let edges = [
            0,
            1,
            63,
            64,
            65,
            127,
            128,
            129,
            mbuf_size as u16,
            mbuf_size as u16 - 1,
        ];
        let edge = chance.pick(&edges).unwrap_or(0);
        match chance.below(16) {
            0 => header.offset = edge,
            1 => header.offset = odd as u16,
            2 => header.len = edge,
            3 => {
                header.len = (mbuf_size as u16)
                    .wrapping_sub(header.offset)
                    .wrapping_add(1)
            }
            4 => header.len = odd as u16,
            5 => header.next = odd as u32,
            6 => header.packet_len = odd as u32,
            7 => header.csum = chance.draw() as u8 % 4,
            8 => header.csum_start = chance.pick(&[0, 13, 14, 33, 34, 35, edge]).unwrap_or(0),
            9 => header.csum_offset = chance.pick(&[0, 2, 6, 16, edge]).unwrap_or(0),
            10 => header.gso_type = chance.pick(&[0, 1, 3, 4, 5, 0x81, 0x7f]).unwrap_or(0),
            11 => header.gso_size = odd as u16,
            12 => header.gso_hdr_len = edge,
            13 => header.flags = chance.draw() as u8 % 8,
            14 => {
                header.vlan_proto = chance.pick(&[0x8100, 0x88a8, 0, edge]).unwrap_or(0);
                header.vlan_tci = odd as u16;
            }
            _ => header.mark = odd as u32,
        }
    }
}
