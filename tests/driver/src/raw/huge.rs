// SPDX-License-Identifier: GPL-2.0-only

//! A region in huge pages: how it is mapped, and that it stays what it is whatever a program does to the
//! mapping. Every page is given a mark of its own, which must be found wherever the page is seen.

use super::groups::group_request;
use super::mapping::{mmap, RO, RW};
use super::session::Session;
use crate::checks::Checks;
use crate::sockets::switch_on;
use crate::Outcome;
use anyhow::{ensure, Context, Result};
use clap::Args;
use nettap_uapi::ioctl::Map;
use nix::errno::Errno;
use nix::sys::uio::{process_vm_readv, RemoteIoVec};
use nix::unistd::Pid;
use std::fs::{read_to_string, OpenOptions};
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PAGE: usize = 4096;
/// A huge page.
const BLOCK: usize = 2 << 20;
/// Where in a page its mark stands: behind the header of an mbuf and before the end of the smallest.
const MARK: usize = 256;

/// Arguments of `huge`.
#[derive(Args)]
pub(crate) struct Huge {
    /// Bytes of the region that must lie in huge pages.
    #[arg(long)]
    bytes: usize,
}

/// Arguments of `node`.
#[derive(Args)]
pub(crate) struct Node {
    /// Node to which the process binds its memory first; none: where it happens to run.
    #[arg(long)]
    bind: Option<u32>,
}

/// A part of the region at some address.
#[derive(Clone, Copy)]
struct Seen {
    place: *mut u8,
    /// Its first page.
    first: usize,
    pages: usize,
}

impl Seen {
    fn len(&self) -> usize {
        self.pages * PAGE
    }

    fn at(&self, page: usize) -> *mut u64 {
        self.place.wrapping_add(page * PAGE + MARK).cast()
    }

    fn part(&self, from: usize, pages: usize) -> Self {
        Self {
            place: self.place.wrapping_add(from * PAGE),
            first: self.first + from,
            pages,
        }
    }

    /// Gives each page its mark.
    fn mark(&self) {
        for page in 0..self.pages {
            // SAFETY: `Seen` is made of mappings that are there and writable; nobody refers to them.
            unsafe { self.at(page).write_volatile(mark(self.first + page)) };
        }
    }

    /// The first page that has not the mark that it should have.
    fn wrong(&self) -> Option<usize> {
        // SAFETY: As above.
        let read = |page: usize| unsafe { self.at(page).read_volatile() };
        (0..self.pages).find(|&page| read(page) != mark(self.first + page))
    }

    /// The sum of a field of `/proc/self/smaps` over it, in bytes.
    fn smaps(&self, field: &str) -> Result<usize> {
        let (begin, end) = (self.place.addr(), self.place.addr() + self.len());
        let (mut inside, mut sum) = (false, 0);
        for line in read_to_string("/proc/self/smaps")?.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or("");
            if let Some((from, _)) = first.split_once('-') {
                let from = usize::from_str_radix(from, 16)?;
                inside = (begin..end).contains(&from);
            } else if inside && first.strip_suffix(':') == Some(field) {
                sum += words.next().context("no figure")?.parse::<usize>()? * 1024;
            }
        }
        Ok(sum)
    }

    fn advise(&self, advice: i32) -> Result<(), Errno> {
        // SAFETY: a mapping of this file's own. No advice changes what pages of the module hold, which is what
        // is tried here.
        Errno::result(unsafe { libc::madvise(self.place.cast(), self.len(), advice) }).map(drop)
    }

    fn protect(&self, protection: i32) -> Result<()> {
        // SAFETY: a mapping of this file's own, to which nobody refers.
        Errno::result(unsafe { libc::mprotect(self.place.cast(), self.len(), protection) })
            .map(drop)
            .context("mprotect")
    }

    fn unmap(self) -> Result<()> {
        // SAFETY: As above.
        Errno::result(unsafe { libc::munmap(self.place.cast(), self.len()) })
            .map(drop)
            .context("munmap")
    }
}

fn mark(page: usize) -> u64 {
    0x6e74_0000_0000_0000 | page as u64
}

/// An mmap that may also be at a place of one's choice.
fn map_at(session: &Session, place: *mut u8, pages: usize, flags: i32) -> Result<Seen> {
    // SAFETY: a new mapping, at an address of the kernel's choice or in room that the caller has reserved.
    let got = unsafe {
        libc::mmap(
            place.cast(),
            pages * PAGE,
            RW,
            libc::MAP_SHARED | flags,
            session.file().as_raw_fd(),
            0,
        )
    };
    ensure!(got != libc::MAP_FAILED, "mmap: {}", Errno::last());
    Ok(Seen {
        place: got.cast(),
        first: 0,
        pages,
    })
}

/// Addresses that nobody uses.
fn room(bytes: usize) -> Result<*mut u8> {
    // SAFETY: a new mapping at an address of the kernel's choice; nothing existing changes.
    let got = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    ensure!(got != libc::MAP_FAILED, "mmap: {}", Errno::last());
    Ok(got.cast())
}

impl Huge {
    pub(super) fn run(self) -> Outcome {
        let mut checks = Checks::default();
        let session = Session::open()?;
        let told = session.map_only(Map {
            prealloc: 16,
            ..Default::default()
        })?;
        let pages = told.region_len as usize / PAGE;
        let stats = session.region_stats()?;
        checks.equal("bytes in huge pages", stats.huge, self.bytes as u64);
        self.whole(&mut checks, &session, pages)?;
        self.parts(&mut checks, &session, pages)?;
        advice(&mut checks, &session, pages)?;
        others(&mut checks, &session, pages)?;
        let kept = map_at(&session, std::ptr::null_mut(), pages, 0)?;
        session.unmap()?;
        checks.equal("after mbuf_unmap", kept.wrong(), None);
        checks.equal("and dropped", kept.advise(libc::MADV_DONTNEED), Ok(()));
        checks.equal("it is still there", kept.wrong(), None);
        // Which the end of the process unmaps.
        checks.verdict()
    }

    fn whole(&self, checks: &mut Checks, session: &Session, pages: usize) -> Outcome {
        let seen = map_at(session, std::ptr::null_mut(), pages, 0)?;
        checks.that(
            "it is mapped where huge pages can be",
            self.bytes == 0 || seen.place.addr() % BLOCK == 0,
            format!("{:p}", seen.place),
        );
        seen.mark();
        checks.equal("mapped as such", seen.smaps("FilePmdMapped")?, self.bytes);
        checks.equal("resident", seen.smaps("Rss")?, seen.len());
        checks.equal("marks", seen.wrong(), None);

        let other = map_at(session, std::ptr::null_mut(), pages, libc::MAP_POPULATE)?;
        checks.equal("resident, untouched", other.smaps("Rss")?, other.len());
        checks.equal(
            "mapped as huge pages, untouched",
            other.smaps("FilePmdMapped")?,
            self.bytes,
        );
        checks.equal("marks by another mapping", other.wrong(), None);
        other.unmap()?;

        // Not aligned: page by page, of the same memory.
        let within = room(seen.len() + 2 * BLOCK)?;
        let at = within.wrapping_add(PAGE);
        let off = map_at(session, at, pages, libc::MAP_FIXED)?;
        checks.equal("marks by a mapping that is not aligned", off.wrong(), None);
        checks.equal("mapped as huge pages", off.smaps("FilePmdMapped")?, 0);
        off.unmap()?;
        seen.unmap()
    }

    /// What is left of a huge page that a mapping has lost a part of.
    fn parts(&self, checks: &mut Checks, session: &Session, pages: usize) -> Outcome {
        let seen = map_at(session, std::ptr::null_mut(), pages, libc::MAP_POPULATE)?;
        let half = pages / 2;
        seen.part(3, 2).unmap()?;
        checks.equal("before a hole", seen.part(0, 3).wrong(), None);
        checks.equal("behind a hole", seen.part(5, pages - 5).wrong(), None);
        checks.equal(
            "the others are mapped as huge pages",
            seen.smaps("FilePmdMapped")?,
            self.bytes.saturating_sub(BLOCK),
        );
        seen.part(half + 7, pages - half - 7).unmap()?;
        checks.equal("before the end", seen.part(5, half + 2).wrong(), None);

        // A piece goes elsewhere, and what is around it stays.
        let piece = seen.part(half - 100, 90);
        let to = room(piece.len())?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: a part of a mapping of this file's own, which nobody refers to, and room that nobody uses.
        let moved = unsafe {
            libc::mremap(
                piece.place.cast(),
                piece.len(),
                piece.len(),
                flags,
                to.cast::<libc::c_void>(),
            )
        };
        ensure!(moved != libc::MAP_FAILED, "mremap: {}", Errno::last());
        let moved = Seen {
            place: moved.cast(),
            ..piece
        };
        checks.equal("moved", moved.wrong(), None);
        checks.equal("before it", seen.part(5, half - 105).wrong(), None);
        checks.equal("behind it", seen.part(half - 10, 17).wrong(), None);
        moved.unmap()?;
        seen.part(5, half - 105).unmap()?;
        seen.part(half - 10, 17).unmap()?;
        seen.part(0, 3).unmap()?;

        // Whole blocks move as such.
        let seen = map_at(session, std::ptr::null_mut(), pages, libc::MAP_POPULATE)?;
        // SAFETY: As above; the address is the kernel's choice.
        let moved = unsafe {
            let to = room(seen.len() + BLOCK)?;
            let to = to.wrapping_add(to.align_offset(BLOCK));
            let len = seen.len();
            libc::mremap(
                seen.place.cast(),
                len,
                len,
                flags,
                to.cast::<libc::c_void>(),
            )
        };
        ensure!(moved != libc::MAP_FAILED, "mremap: {}", Errno::last());
        let moved = Seen {
            place: moved.cast(),
            ..seen
        };
        checks.equal("all of it, moved", moved.wrong(), None);
        checks.equal(
            "and mapped as huge pages",
            moved.smaps("FilePmdMapped")?,
            self.bytes,
        );
        moved.unmap()
    }
}

/// Advice that makes the kernel unmap, reclaim, collapse or share: nothing of it touches what the pages hold.
fn advice(checks: &mut Checks, session: &Session, pages: usize) -> Outcome {
    let seen = map_at(session, std::ptr::null_mut(), pages, libc::MAP_POPULATE)?;
    for (name, advice) in [
        ("DONTNEED", libc::MADV_DONTNEED),
        ("COLD", libc::MADV_COLD),
        ("PAGEOUT", libc::MADV_PAGEOUT),
        ("FREE", libc::MADV_FREE),
        ("REMOVE", libc::MADV_REMOVE),
        ("MERGEABLE", libc::MADV_MERGEABLE),
        ("NOHUGEPAGE", libc::MADV_NOHUGEPAGE),
        ("DONTNEED", libc::MADV_DONTNEED),
        // 25 and 102 have no names in libc yet.
        ("COLLAPSE", 25),
        ("HUGEPAGE", libc::MADV_HUGEPAGE),
        ("COLLAPSE", 25),
        ("GUARD_INSTALL", 102),
        ("POPULATE_WRITE", libc::MADV_POPULATE_WRITE),
    ] {
        for part in [seen, seen.part(5, pages - 9)] {
            let answer = match part.advise(advice) {
                Ok(()) => "done".to_owned(),
                Err(errno) => errno.to_string(),
            };
            checks.equal(
                format!("after MADV_{name}, which is {answer}"),
                seen.wrong(),
                None,
            );
        }
    }
    seen.unmap()
}

/// Protection, and other eyes than the program's own.
fn others(checks: &mut Checks, session: &Session, pages: usize) -> Outcome {
    let seen = map_at(session, std::ptr::null_mut(), pages, 0)?;
    let zero = OpenOptions::new().read(true).open("/dev/zero")?;
    let fill = |part: Seen| {
        // SAFETY: memory of the region, to which nobody refers, or none that can be written.
        let got = unsafe { libc::read(zero.as_raw_fd(), part.place.cast(), part.len()) };
        Errno::result(got)
    };
    seen.protect(RO)?;
    checks.equal("read-only, read", seen.wrong(), None);
    let one = seen.part(10, 1);
    checks.equal("read-only, written", fill(one), Err(Errno::EFAULT));
    seen.protect(libc::PROT_NONE)?;
    seen.part(9, 3).protect(RW)?;
    checks.equal("writable again", fill(one), Ok(PAGE as isize));
    checks.equal("and written", one.wrong(), Some(0));
    seen.protect(RW)?;
    seen.mark();
    checks.equal("all of it", seen.wrong(), None);

    let mut copy = vec![0u8; seen.len()];
    let remote = RemoteIoVec {
        base: seen.place.addr(),
        len: seen.len(),
    };
    let read = process_vm_readv(
        Pid::this(),
        &mut [IoSliceMut::new(&mut copy)],
        std::slice::from_ref(&remote),
    );
    // A kernel may be built without it, as the debug kernel is.
    if read != Err(Errno::ENOSYS) {
        checks.equal("process_vm_readv", read, Ok(seen.len()));
        let marked = |page: usize| copy[page * PAGE + MARK..][..8] == mark(page).to_ne_bytes();
        checks.that("its marks", (0..pages).all(marked), "another mark");
    }

    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let place = seen.at(pages - 1) as u64;
    memory.write_all_at(&7u64.to_ne_bytes(), place)?;
    checks.equal("/proc/self/mem", seen.wrong(), Some(pages - 1));
    seen.mark();

    pinned(checks, seen.part(511, 2))?;
    checks.equal("the marks", seen.wrong(), None);

    // SAFETY: Changes no memory.
    let locked = unsafe { libc::mlock(seen.place.cast(), seen.len()) };
    checks.equal("mlock", Errno::result(locked), Ok(0));
    // That children do not have it stays so.
    let refused = Err(Errno::EINVAL);
    checks.equal("MADV_DOFORK", seen.advise(libc::MADV_DOFORK), refused);
    seen.unmap()
}

/// The network stack takes pages of the mapping along.
fn pinned(checks: &mut Checks, part: Seen) -> Outcome {
    let (from, to) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    from.connect(to.local_addr()?)?;
    switch_on(&from, libc::SOL_SOCKET, libc::SO_ZEROCOPY)?;
    // SAFETY: memory of the region, which the kernel reads.
    let sent = unsafe {
        libc::send(
            from.as_raw_fd(),
            part.place.cast(),
            part.len(),
            libc::MSG_ZEROCOPY,
        )
    };
    checks.equal("MSG_ZEROCOPY", Errno::result(sent), Ok(part.len() as isize));
    let mut got = vec![0u8; part.len()];
    let n = to.recv(&mut got)?;
    let marked =
        |page: usize| got[page * PAGE + MARK..][..8] == mark(part.first + page).to_ne_bytes();
    checks.that(
        "what arrived",
        n == part.len() && (0..part.pages).all(marked),
        format!("{n} bytes"),
    );
    Ok(())
}

impl Node {
    /// Prints the node of the first and of the last page of an 8 MiB region that is made here.
    pub(super) fn run(self) -> Outcome {
        if let Some(node) = self.bind {
            let nodes = 1u64 << node;
            // SAFETY: `nodes` is a bit mask as long as is said.
            let set = unsafe {
                libc::syscall(
                    libc::SYS_set_mempolicy,
                    libc::MPOL_BIND,
                    &raw const nodes,
                    64,
                )
            };
            Errno::result(set).context("set_mempolicy")?;
        }
        let session = Session::open()?;
        let told = session.map_only(Map {
            group_mbuf_size: 2048,
            ..group_request(b"node", 4096)
        })?;
        let place = mmap(&session, told.region_len, 0, RW, libc::MAP_SHARED)?;
        let last = place.wrapping_byte_add(told.region_len as usize - PAGE);
        for page in [place, last] {
            // SAFETY: a mapping of this file's own.
            unsafe { page.cast::<u8>().read_volatile() };
            let mut node = -1;
            // SAFETY: asks where one page lies, and writes one number.
            let asked = unsafe {
                libc::syscall(
                    libc::SYS_move_pages,
                    0,
                    1,
                    &raw const page,
                    std::ptr::null::<i32>(),
                    &raw mut node,
                    0,
                )
            };
            Errno::result(asked).context("move_pages")?;
            println!("{node}");
        }
        Ok(())
    }
}
