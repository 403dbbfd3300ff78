// SPDX-License-Identifier: GPL-2.0-only

//! Memory for the structures of one thread's requests: good, misaligned, ending in nothing, read-only,
//! nowhere, or inside what the module itself has mapped.

use super::world::{reserve, World};
use crate::chance::Chance;
use crate::sys::syscall;
use anyhow::Result;
use nix::errno::Errno;

const PAGE: usize = 4096;
/// Pages for structures, and for the records of queries.
const GOOD: usize = 4;
const RECORDS: usize = 16;

/// The arena: good pages, one that nothing may touch, one that may be read, pages for records, and another that nothing
/// may touch. More records than there is room for end there: none is longer than a page.
pub(crate) struct Arena {
    base: usize,
    /// The readable page is a file, because it has to be written too.
    paper: usize,
}

impl Arena {
    /// An arena for one thread.
    pub(crate) fn new() -> Result<Self> {
        let name = c"arena".as_ptr() as usize;
        let paper = syscall(libc::SYS_memfd_create, &[name, libc::MFD_CLOEXEC as usize])?;
        syscall(libc::SYS_ftruncate, &[paper, 2 * PAGE])?;
        let base = reserve(0, (GOOD + 2 + RECORDS + 1) * PAGE)?;
        let write = libc::PROT_READ | libc::PROT_WRITE;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        fixed(base, GOOD * PAGE, write, anonymous, usize::MAX)?;
        let readable = base + (GOOD + 1) * PAGE;
        fixed(readable, PAGE, libc::PROT_READ, libc::MAP_SHARED, paper)?;
        let records = base + (GOOD + 2) * PAGE;
        fixed(records, RECORDS * PAGE, write, anonymous, usize::MAX)?;
        Ok(Self { base, paper })
    }

    /// Where the records of a query may go.
    pub(crate) fn records(&self) -> usize {
        self.base + (GOOD + 2) * PAGE
    }

    /// Where the instructions of a filter stand.
    pub(crate) fn programs(&self) -> usize {
        self.records() + RECORDS / 2 * PAGE
    }

    /// Writes a classic filter there; how many instructions. Most of them mean something.
    pub(crate) fn program(&self, chance: &mut Chance) -> u32 {
        /// Load a word, half word, byte; compare; return a constant (linux/filter.h).
        const CODES: [u16; 7] = [0x20, 0x28, 0x30, 0x15, 0x35, 0x45, 0x06];
        let count = 1 + chance.below(8);
        let mut bytes = Vec::new();
        for nth in 0..count {
            let last = nth + 1 == count && !chance.one_in(8);
            let any = chance.draw() as u16;
            let code = if last {
                6
            } else {
                chance.pick(&CODES).unwrap_or(any)
            };
            let jumps = chance.draw() as u16 & 0x0303;
            bytes.extend(code.to_ne_bytes());
            bytes.extend(jumps.to_ne_bytes());
            bytes.extend((chance.border() as u32 & 0xffff).to_ne_bytes());
        }
        let _ = self.poke(self.programs(), &bytes);
        count as u32
    }

    /// Puts a structure somewhere and says where. As often as not it is a good place. Without a world nobody else
    /// writes there, so that what was put is what the kernel reads.
    pub(crate) fn put(
        &self,
        bytes: &[u8],
        size: usize,
        world: Option<&World>,
        at: &mut Chance,
    ) -> usize {
        let end = self.base + GOOD * PAGE;
        match (at.below(24), world) {
            (0, _) => self.wrote(end.saturating_sub(size.min(GOOD * PAGE)), bytes),
            (1, _) => self.wrote(end.saturating_sub(size.min(GOOD * PAGE) / 2), bytes),
            (2, _) => self.wrote(self.base + 1 + at.below(7), bytes),
            (3, _) => {
                self.on_paper(bytes, 0);
                end + PAGE
            }
            (4, _) => end,
            (5, Some(_)) => at.border() as usize,
            (6, Some(world)) => {
                let (place, _) = world.place(at);
                let place = place + at.below(64) * 8;
                let _ = self.poke(place, bytes);
                place
            }
            _ => self.wrote(self.base + at.below(8) * 64, bytes),
        }
    }

    /// Puts a structure into a good place.
    pub(crate) fn put_well(&self, bytes: &[u8]) -> usize {
        self.wrote(self.base, bytes)
    }

    /// Writes into the good pages, as much as fits.
    fn wrote(&self, place: usize, bytes: &[u8]) -> usize {
        let room = (self.base + GOOD * PAGE).saturating_sub(place);
        let len = bytes.len().min(room);
        let to = std::ptr::with_exposed_provenance_mut::<u8>(place);
        // SAFETY: inside the good pages of this thread's arena, where no Rust value is.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), len) };
        place
    }

    /// Reads what the kernel has written to a place of the good pages.
    pub(crate) fn read(&self, place: usize, len: usize) -> Option<Vec<u8>> {
        let end = self.base + GOOD * PAGE;
        if place < self.base || place.checked_add(len)? > end {
            return None;
        }
        let mut bytes = vec![0; len];
        let from = std::ptr::with_exposed_provenance::<u8>(place);
        // SAFETY: inside the good pages of this thread's arena, all of whose bytes are written.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        Some(bytes)
    }

    fn on_paper(&self, bytes: &[u8], offset: usize) {
        let address = bytes.as_ptr() as usize;
        let arguments = [self.paper, address, bytes.len().min(PAGE), offset];
        let _ = syscall(libc::SYS_pwrite64, &arguments);
    }

    /// Has the kernel copy bytes to any address, which need not be one.
    pub(crate) fn poke(&self, to: usize, bytes: &[u8]) -> Result<usize, Errno> {
        self.on_paper(bytes, PAGE);
        let len = bytes.len().min(PAGE);
        syscall(libc::SYS_pread64, &[self.paper, to, len, PAGE])
    }

    /// Has the kernel copy a word from any address.
    pub(crate) fn peek(&self, from: usize) -> Result<u32, Errno> {
        self.peek_first(from, size_of::<u32>())
    }

    /// The first word of a structure of `size` bytes as a request reads it: what is not there is zero, whatever stands
    /// behind it.
    pub(crate) fn peek_first(&self, from: usize, size: usize) -> Result<u32, Errno> {
        let mut word = [0u8; 4];
        let len = size.min(word.len());
        syscall(libc::SYS_pwrite64, &[self.paper, from, len, PAGE])?;
        let arguments = [self.paper, word.as_mut_ptr() as usize, len, PAGE];
        syscall(libc::SYS_pread64, &arguments)?;
        Ok(u32::from_ne_bytes(word))
    }
}

fn fixed(at: usize, len: usize, protection: i32, flags: i32, fd: usize) -> Result<usize, Errno> {
    let flags = (flags | libc::MAP_FIXED) as usize;
    syscall(
        libc::SYS_mmap,
        &[at, len, protection as usize, flags, fd, 0],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_records_nobody_writes() {
        let arena = Arena::new().unwrap();
        let behind = arena.records() + RECORDS * PAGE;
        assert_eq!(arena.poke(behind - PAGE, &[1; PAGE]), Ok(PAGE));
        assert_eq!(arena.poke(behind, &[1]), Err(Errno::EFAULT));
        assert_eq!(arena.poke(behind + PAGE - 1, &[1]), Err(Errno::EFAULT));
    }

    #[test]
    fn a_word_of_a_short_structure_ends_with_it() {
        let arena = Arena::new().unwrap();
        let place = arena.put_well(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let word = |size| arena.peek_first(place, size).unwrap();
        assert_eq!(word(8), 0x0403_0201);
        assert_eq!(word(2), 0x0201);
        assert_eq!(word(1), 1);
        assert_eq!(word(0), 0);
    }
}
