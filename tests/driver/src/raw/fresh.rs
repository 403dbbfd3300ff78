// SPDX-License-Identifier: GPL-2.0-only

//! Memory that nobody has used is zero: regions, the pages of rings and of locks. It shows something only where the
//! kernel does not clear all that it allocates (`init_on_alloc=0`); and the machine's free memory is dirty.

use super::groups::group_request;
use super::mapping::{mmap, RO};
use super::session::{tap_request, Session};
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{ensure, Context, Result};
use memmap2::MmapMut;
use nettap_uapi::ioctl::Map;
use nettap_uapi::layout::{RingMap, LOCKS_LEN, RING_CELLS};
use nettap_uapi::tap::TAP_INPUT;

/// What free memory is made of: an odd byte, so that no word of it is zero.
const DIRT: u8 = 0xa5;
/// How much of it.
const DIRTY: usize = 192 << 20;
/// Where the size of a ring stands in the kernel's pages, and where its words end.
const SIZE_AT: usize = 8;
const WORDS: usize = RING_CELLS as usize;

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    default_region(&mut checks)?;
    recycled(&mut checks)?;
    checks.verdict()
}

/// Writes over as much memory as the kernel is about to give out, and gives it back.
fn dirty() -> Outcome {
    let mut memory = MmapMut::map_anon(DIRTY).context("mmap of memory")?;
    memory.fill(DIRT);
    Ok(())
}

/// A session that has mapped and keeps no mbufs ready: not even the kernel has written a header.
fn untouched(mut asked: Map) -> Result<Session> {
    asked.prealloc = 0;
    let mut session = Session::open()?;
    session.map(asked)?.context("MAP")?;
    Ok(session)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// The default group's region is made when the first session maps it, so this is to be the first since the module came.
fn default_region(checks: &mut Checks) -> Outcome {
    let before = Session::open()?.region_stats()?;
    ensure!(before.mbufs == 0, "the default region has been made before");
    dirty()?;
    let session = untouched(Map::default())?;
    checks.that(
        "the default region is zero",
        is_zero(&session.mapped()?.whole()),
        "it is not",
    );
    pages(checks, &session)
}

/// Memory of a group that has gone does not come back with what was in it.
fn recycled(checks: &mut Checks) -> Outcome {
    for round in 0..8 {
        dirty()?;
        let session = untouched(group_request(b"web", 512))?;
        let mapped = session.mapped()?;
        checks.that(
            format!("round {round}: the region of a group is zero"),
            is_zero(&mapped.whole()),
            "it is not",
        );
        pages(checks, &session)?;
        let size = mapped.told.mbuf_size as usize;
        for index in 0..mapped.told.mbufs {
            mapped.write(index, 0, &vec![DIRT; size])?;
        }
        // Left while the memory is still mapped.
        session.unmap()?;
        let another = untouched(group_request(b"web", 512))?;
        checks.that(
            "  and so is that of a group of the same name, made while the old one is still mapped",
            is_zero(&another.mapped()?.whole()),
            "it is not",
        );
        checks.that(
            "  which is another memory",
            mapped.whole().iter().all(|&byte| byte == DIRT),
            "the old mapping has changed",
        );
    }
    Ok(())
}

/// The locks' page and all rings', those of a tap too: zero, but for what the kernel says of itself.
fn pages(checks: &mut Checks, session: &Session) -> Outcome {
    let told = session.mapped()?.told;
    let locks = view(session, told.locks_offset, LOCKS_LEN)?;
    checks.that("the locks are zero", is_zero(&locks), "they are not");
    // Nothing comes to it while it is looked at: it is the test's own namespace, whose loopback is quiet.
    let tap = session.tap_only(tap_request("lo", TAP_INPUT))?;
    for (name, ring) in [
        ("alloc", told.alloc),
        ("dealloc", told.dealloc),
        ("detour", tap.detour),
        ("revert", tap.revert),
    ] {
        let (kernels, programs) = both(session, ring)?;
        let size = kernels.get(SIZE_AT..SIZE_AT + 4).context("no words")?;
        checks.equal(
            format!("the kernel's words of the {name} ring tell its size"),
            size,
            &ring.cells.to_ne_bytes()[..],
        );
        // Before it: where the kernel is, and whether it sleeps.
        let behind = kernels.get(SIZE_AT + 4..).context("no words")?;
        checks.that(
            format!("  the kernel's pages of the {name} ring are zero behind that"),
            is_zero(behind) && behind.len() > WORDS,
            "they are not",
        );
        checks.that(
            format!("  the program's pages of the {name} ring are zero"),
            is_zero(&programs),
            "they are not",
        );
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else closes it.
    unsafe { libc::close(tap.fd) };
    Ok(())
}

/// A ring's two mappings: the kernel's, the program's.
fn both(session: &Session, ring: RingMap) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((
        view(session, ring.ro_offset, ring.ro_len)?,
        view(session, ring.rw_offset, ring.rw_len)?,
    ))
}

/// A copy of what may be mapped there.
fn view(session: &Session, offset: u64, len: u32) -> Result<Vec<u8>> {
    let len = len as usize;
    let place = mmap(session, len as u64, offset, RO, libc::MAP_SHARED).context("mmap")?;
    let mut bytes = vec![0; len];
    // SAFETY: the mapping is that long, and `bytes` is a copy of our own.
    unsafe {
        place
            .cast::<u8>()
            .copy_to_nonoverlapping(bytes.as_mut_ptr(), len)
    };
    // SAFETY: nobody else knows the mapping.
    unsafe { libc::munmap(place, len) };
    Ok(bytes)
}
