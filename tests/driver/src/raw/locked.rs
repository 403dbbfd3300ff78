// SPDX-License-Identifier: GPL-2.0-only

//! The account of locked memory: pages count as long as anybody has them mapped.

use super::groups::group_request;
use super::mapping::{mmap, RW};
use super::session::Session;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{bail, Context, Result};
use nettap_uapi::ioctl::Map;
use nix::errno::Errno;

/// Mbufs of 2 KiB of the group that is made here: 4 MiB.
const MBUFS: u32 = 2048;
const LEN: u64 = 2048 * 2048;
/// Tries before it is clear that nothing stops it.
const TRIES: usize = 16;

fn ask() -> Map {
    Map {
        group_mbuf_size: 2048,
        ..group_request(b"locked", MBUFS)
    }
}

/// Run with a limit of 10 MiB and without the right to exceed it.
pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    let session = Session::open()?;
    let mut kept = Vec::new();
    let stopped = loop {
        match session.map_only(ask()) {
            Ok(_) if kept.len() < TRIES => {}
            Ok(_) => bail!("{TRIES} regions are mapped, and nothing stops it"),
            Err(errno) => break errno,
        }
        kept.push(mmap(&session, LEN, 0, RW, libc::MAP_SHARED)?);
        session.unmap()?;
    };
    checks.equal(
        "regions that stay mapped after mbuf_unmap, until the limit",
        (kept.len(), stopped),
        (2, Errno::ENOBUFS),
    );
    let again = || {
        session
            .map_only(ask())
            .map(|_| ())
            .and_then(|()| session.unmap())
    };
    let place = kept.pop().context("nothing was mapped")?;
    unmap(place, LEN / 2)?;
    checks.equal("after munmap of a half", again(), Err(Errno::ENOBUFS));
    let moved = move_away(place.wrapping_byte_add(LEN as usize / 2))?;
    checks.equal("after mremap of the rest", again(), Err(Errno::ENOBUFS));
    unmap(moved, LEN / 2)?;
    checks.equal("after munmap of the rest", again(), Ok(()));
    checks.equal(
        "and as often as one likes",
        (0..TRIES).try_for_each(|_| again()),
        Ok(()),
    );

    let told = session.map_only(ask())?;
    let ring = mmap(
        &session,
        told.dealloc.rw_len.into(),
        told.dealloc.rw_offset,
        RW,
        libc::MAP_SHARED,
    )?;
    session.unmap()?;
    checks.equal("a ring that stays mapped counts little", again(), Ok(()));
    unmap(ring, told.dealloc.rw_len.into())?;
    for place in kept {
        unmap(place, LEN)?;
    }
    checks.verdict()
}

/// Moves the second half of a region to another place.
fn move_away(half: *mut libc::c_void) -> Result<*mut libc::c_void> {
    let len = LEN as usize / 2;
    // SAFETY: a new mapping at an address of the kernel's choice; nothing existing changes.
    let room = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: a half of a mapping of this file's own, which nobody refers to, and room that nobody uses.
    let moved = unsafe { libc::mremap(half, len, len, flags, room) };
    if moved == libc::MAP_FAILED {
        return Err(Errno::last()).context("mremap");
    }
    Ok(moved)
}

fn unmap(place: *mut libc::c_void, len: u64) -> Result<()> {
    // SAFETY: a mapping of this file's own, or a part of one; nobody refers to it.
    Errno::result(unsafe { libc::munmap(place, len as usize) })
        .map(drop)
        .context("munmap")
}
