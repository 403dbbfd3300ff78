// SPDX-License-Identifier: GPL-2.0-only

//! `mbuf_map`: its errors, and the permissions of what is mapped.

use super::groups::group_request;
use super::session::{tap_request, Session};
use crate::checks::Checks;
use crate::Outcome;
use clap::Args;
use nettap_uapi::ioctl::{self, Map};
use nettap_uapi::tap::{RING_MAX, TAP_INPUT};
use nix::errno::Errno;
use std::os::fd::AsRawFd;

/// Arguments of `try-map`.
#[derive(Args)]
pub(crate) struct TryMap {
    /// Mbufs in the alloc ring.
    #[arg(long, default_value_t = 16)]
    prealloc: u32,
    /// Cells of the rings.
    #[arg(long, default_value_t = 0)]
    ring_cells: u32,
    /// Group to join or make.
    #[arg(long, default_value = "")]
    group: String,
    /// Its access rule, as an integer.
    #[arg(long, default_value_t = 0)]
    access: u32,
    /// Its mbufs.
    #[arg(long, default_value_t = 0)]
    mbufs: u32,
    /// Stay until killed.
    #[arg(long)]
    stay: bool,
}

impl TryMap {
    pub(super) fn run(self) -> Outcome {
        let session = Session::open()?;
        let map = Map {
            prealloc: self.prealloc,
            ring_cells: self.ring_cells,
            access: self.access,
            ..group_request(self.group.as_bytes(), self.mbufs)
        };
        match session.map_only(map) {
            Ok(_) => println!("ok"),
            Err(errno) => println!("{errno:?}"),
        }
        if self.stay {
            println!("ready");
            loop {
                nix::unistd::pause();
            }
        }
        Ok(())
    }
}

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    unmapped(&mut checks)?;
    sizes(&mut checks)?;
    twice(&mut checks)?;
    permissions(&mut checks)?;
    checks.verdict()
}

fn unmapped(checks: &mut Checks) -> Outcome {
    let session = Session::open()?;
    checks.equal("unmap before map", session.unmap(), Err(Errno::ENXIO));
    checks.equal("pull before map", session.pull(1, 1), Err(Errno::ENXIO));
    checks.equal("push before map", session.push(-1, 0, 1), Err(Errno::ENXIO));
    let tap = session.tap_only(tap_request("lo", TAP_INPUT));
    checks.equal("tap before map", tap.err(), Some(Errno::ENXIO));
    checks.that(
        "mmap before map fails",
        mmap(&session, 4096, 0, RW, libc::MAP_SHARED).is_err(),
        "it did not",
    );
    Ok(())
}

fn sizes(checks: &mut Checks) -> Outcome {
    let session = Session::open()?;
    let mut info = ioctl::Info::default();
    session.call(ioctl::INFO, &mut info)?;
    for (what, prealloc, ring_cells) in [
        ("more mbufs than the region has", info.mbufs + 1, 0),
        ("2^32 - 1 mbufs", u32::MAX, 0),
        ("a ring of 3 cells", 1, 3),
        ("a ring of 100 cells", 1, 100),
        ("a ring of 8 cells", 1, 8),
        ("a ring of too many cells", 1, RING_MAX * 2),
        ("a ring of 2^31 cells", 1, 1 << 31),
        ("more mbufs than cells", 64, 16),
    ] {
        let refused = session.map_only(Map {
            prealloc,
            ring_cells,
            ..Default::default()
        });
        checks.equal(what, refused.err(), Some(Errno::EINVAL));
    }
    let whole = session.map_only(Map {
        prealloc: 16,
        ring_cells: 16,
        ..Default::default()
    });
    checks.that(
        "after all these errors a map succeeds",
        whole.is_ok(),
        format!("{whole:?}"),
    );
    Ok(())
}

fn twice(checks: &mut Checks) -> Outcome {
    let session = Session::ready()?;
    let again = session.map_only(Map {
        prealloc: 16,
        ..Default::default()
    });
    checks.equal("a second map", again.err(), Some(Errno::EBUSY));
    checks.equal("and the first is as it was", session.pull(1, 1), Ok(()));
    checks.equal("unmap", session.unmap(), Ok(()));
    checks.equal("unmap again", session.unmap(), Err(Errno::ENXIO));
    checks.equal("pull after unmap", session.pull(1, 1), Err(Errno::ENXIO));
    let other = Session::ready()?;
    let region = other.region_stats()?;
    checks.equal("sessions that have mapped", region.sessions, 1);
    Ok(())
}

pub(super) const RO: i32 = libc::PROT_READ;
pub(super) const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// What the program must not write is refused for writing, and what is shared cannot be private.
fn permissions(checks: &mut Checks) -> Outcome {
    let session = Session::ready()?;
    let told = session.mapped()?.told;
    let (region, len) = (told.region_offset, told.region_len);
    let ring = told.alloc;
    let refused =
        |offset, len, protection, flags| mmap(&session, len, offset, protection, flags).err();

    let kernels = refused(ring.ro_offset, ring.ro_len.into(), RW, libc::MAP_SHARED);
    checks.that(
        "the kernel's pages for writing",
        matches!(kernels, Some(Errno::EPERM | Errno::EACCES)),
        format!("{kernels:?}"),
    );
    checks.equal(
        "the kernel's pages for reading",
        refused(ring.ro_offset, ring.ro_len.into(), RO, libc::MAP_SHARED),
        None,
    );
    checks.equal(
        "the region, private",
        refused(region, len, RW, libc::MAP_PRIVATE),
        Some(Errno::EINVAL),
    );
    checks.equal(
        "half the region",
        refused(region, len / 2, RW, libc::MAP_SHARED),
        Some(Errno::EINVAL),
    );
    checks.equal(
        "more than the region",
        refused(region, len + 4096, RW, libc::MAP_SHARED),
        Some(Errno::EINVAL),
    );
    checks.equal(
        "an offset that names nothing",
        refused(1 << 50, 4096, RW, libc::MAP_SHARED),
        Some(Errno::EINVAL),
    );

    let place = mmap(
        &session,
        ring.ro_len.into(),
        ring.ro_offset,
        RO,
        libc::MAP_SHARED,
    )?;
    // SAFETY: `place` is a mapping of that length which nobody else knows.
    let made_writable = unsafe { libc::mprotect(place, ring.ro_len as usize, RW) };
    checks.equal(
        "mprotect cannot make them writable",
        Errno::result(made_writable).err(),
        Some(Errno::EACCES),
    );
    Ok(())
}

/// One `mmap` of the session's file, which nobody unmaps.
pub(super) fn mmap(
    session: &Session,
    len: u64,
    offset: u64,
    protection: i32,
    flags: i32,
) -> Result<*mut libc::c_void, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice; nothing existing changes.
    let place = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len as usize,
            protection,
            flags,
            session.file().as_raw_fd(),
            offset as libc::off_t,
        )
    };
    if place == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    Ok(place)
}
