// SPDX-License-Identifier: GPL-2.0-only

//! What the threads of a fuzzing process share: descriptors and mappings by slot, and what the
//! kernel told them.
//!
//! A slot is a number of a descriptor, or a range of addresses, that was set aside. Threads open,
//! close and map over each other's slots without asking, and what stands in a slot may change in the
//! middle of a call: that is what they are for. Nothing that belongs to the program itself is ever in
//! one, so no race of theirs can hurt it.

use crate::chance::Chance;
use crate::sys::{look, set, syscall};
use nettap_uapi::ioctl::{Map, Tap};
use nettap_uapi::layout::{RingMap, LOCKS_LEN};
use nix::errno::Errno;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Mutex;

const SESSIONS: (usize, usize) = (400, 6);
const TAPS: (usize, usize) = (410, 24);
const OTHERS: (usize, usize) = (440, 6);
/// Slots for mappings, and room in each.
const PLACES: usize = 16;
const ROOM: usize = 32 << 20;
/// Taps whose four ring mappings have places of their own, and room in each of these.
pub(crate) const ATTACHED: usize = 8;
const RING_ROOM: usize = 1 << 20;
const AREA: usize = PLACES * ROOM + ATTACHED * 4 * RING_ROOM + LOCKS_LEN as usize;
/// What the kernel told last, so much of it.
const REMEMBERED: usize = 64;

/// The shared part of a process.
pub(crate) struct World {
    interfaces: Vec<String>,
    peers: Vec<SocketAddr>,
    socket: UdpSocket,
    spared: Vec<u32>,
    area: usize,
    ids: [AtomicU32; 16],
    /// Ids of sessions.
    session_ids: [AtomicU32; 8],
    /// Offset of the shared locks.
    locks: AtomicU64,
    /// Slot of the session that opened each attached tap.
    owners: [AtomicU32; ATTACHED],
    windows: Mutex<Vec<(u64, u64)>>,
    rings: Mutex<[Option<(RingMap, RingMap)>; ATTACHED]>,
}

impl World {
    /// With no descriptor in any slot and nothing mapped.
    pub(crate) fn new(
        interfaces: Vec<String>,
        peers: Vec<SocketAddr>,
        spared: Vec<u32>,
    ) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_nonblocking(true)?;
        let area = reserve(0, AREA)?;
        Ok(Self {
            interfaces,
            peers,
            socket,
            spared,
            area,
            ids: std::array::from_fn(|_| AtomicU32::new(0)),
            session_ids: std::array::from_fn(|_| AtomicU32::new(0)),
            locks: AtomicU64::new(0),
            owners: std::array::from_fn(|_| AtomicU32::new(SESSIONS.0 as u32)),
            windows: Mutex::default(),
            rings: Mutex::default(),
        })
    }

    /// Gives the addresses back: for the parent, whose child has its own copy of them.
    pub(crate) fn release(self) {
        let _ = syscall(libc::SYS_munmap, &[self.area, AREA]);
    }

    /// All slots of sessions.
    pub(crate) fn sessions(&self) -> std::ops::Range<usize> {
        SESSIONS.0..SESSIONS.0 + SESSIONS.1
    }

    /// Slot of a session.
    pub(crate) fn session_fd(&self, chance: &mut Chance) -> usize {
        slot(SESSIONS, chance)
    }

    /// Slot of a tap: most likely one into which taps go when they are opened.
    pub(crate) fn tap_fd(&self, chance: &mut Chance) -> usize {
        match chance.below(8) {
            0 => slot(TAPS, chance),
            _ => slot((TAPS.0, ATTACHED), chance),
        }
    }

    /// Slot of the session of a tap that went into a slot, as far as anybody knows.
    pub(crate) fn owner(&self, tap_fd: usize) -> Option<usize> {
        let nth = tap_fd.checked_sub(TAPS.0)?;
        self.owners.get(nth).map(|owner| look(owner) as usize)
    }

    /// The slot of an attached tap.
    pub(crate) fn attached_fd(&self, nth: usize) -> usize {
        TAPS.0 + nth
    }

    /// Slot of something else: a namespace, a socket, an epoll, a file.
    pub(crate) fn other_fd(&self, chance: &mut Chance) -> usize {
        slot(OTHERS, chance)
    }

    /// Any slot.
    pub(crate) fn any_fd(&self, chance: &mut Chance) -> usize {
        match chance.below(8) {
            0 => self.other_fd(chance),
            1..=3 => self.tap_fd(chance),
            _ => self.session_fd(chance),
        }
    }

    /// Name of an interface: most likely there is one.
    pub(crate) fn interface(&self, chance: &mut Chance) -> &str {
        match chance.below(16) {
            0 => "",
            1 => "nosuch0",
            2 => "lo",
            _ => {
                let nth = chance.below(self.interfaces.len());
                self.interfaces.get(nth).map_or("lo", String::as_str)
            }
        }
    }

    /// Id of a tap: one that was told, or another that is nobody's who is to be spared.
    pub(crate) fn tap_id(&self, chance: &mut Chance) -> u32 {
        let told = self.ids.get(chance.below(self.ids.len())).map_or(0, look);
        let id = match chance.below(8) {
            0 => chance.border() as u32,
            1 => told.wrapping_add(1),
            _ => told,
        };
        if self.spared.contains(&id) {
            0
        } else {
            id
        }
    }

    /// Whether an id must not be named.
    pub(crate) fn spares(&self, id: u32) -> bool {
        self.spared.contains(&id)
    }

    /// The kernel told the id of a session.
    pub(crate) fn told_session(&self, id: u32, chance: &mut Chance) {
        if let Some(place) = self.session_ids.get(chance.below(self.session_ids.len())) {
            set(place, id);
        }
    }

    /// Id of a session that was told, living or not.
    pub(crate) fn session_id(&self, chance: &mut Chance) -> u32 {
        let nth = chance.below(self.session_ids.len());
        self.session_ids.get(nth).map_or(0, look)
    }

    /// Where the page of shared locks goes, and its offset as the kernel told.
    pub(crate) fn locks(&self) -> (usize, u64) {
        let behind = self.area + AREA - LOCKS_LEN as usize;
        (behind, self.locks.load(Ordering::Relaxed))
    }

    /// The kernel told of a session's memory.
    pub(crate) fn told_map(&self, told: &Map) {
        let locks = (told.locks_offset, LOCKS_LEN.into());
        self.locks.store(locks.0, Ordering::Relaxed);
        let mut windows = vec![(told.region_offset, told.region_len), locks];
        for ring in [told.alloc, told.dealloc] {
            windows.push((ring.ro_offset, ring.ro_len.into()));
            windows.push((ring.rw_offset, ring.rw_len.into()));
        }
        self.remember(windows);
    }

    /// The kernel told a session of a tap, whose descriptor goes into a slot.
    pub(crate) fn told_tap(&self, session: usize, told: &Tap, chance: &mut Chance) {
        if let Some(id) = self.ids.get(chance.below(self.ids.len())) {
            set(id, told.id);
        }
        let mut windows = Vec::new();
        for ring in [told.detour, told.revert] {
            windows.push((ring.ro_offset, ring.ro_len.into()));
            windows.push((ring.rw_offset, ring.rw_len.into()));
        }
        self.remember(windows);
        let slot = chance.below(ATTACHED);
        if let Ok(mut rings) = self.rings.lock() {
            if let Some(place) = rings.get_mut(slot) {
                *place = Some((told.detour, told.revert));
            }
        }
        if let Some(owner) = self.owners.get(slot) {
            set(owner, session as u32);
        }
        let fd = told.fd.unsigned_abs() as usize;
        let _ = self.keep(fd, TAPS.0 + slot);
    }

    fn remember(&self, new: Vec<(u64, u64)>) {
        if let Ok(mut windows) = self.windows.lock() {
            windows.extend(new);
            let surplus = windows.len().saturating_sub(REMEMBERED);
            windows.drain(..surplus);
        }
    }

    /// Offset and length of something that may be mapped, as the kernel told.
    pub(crate) fn window(&self, chance: &mut Chance) -> (u64, u64) {
        let windows = self.windows.lock();
        let windows = windows.map(|all| all.clone()).unwrap_or_default();
        chance.pick(&windows).unwrap_or((0, 4096))
    }

    /// The rings of an attached tap.
    pub(crate) fn rings(&self, nth: usize) -> Option<(RingMap, RingMap)> {
        let rings = self.rings.lock().ok()?;
        rings.get(nth).copied().flatten()
    }

    /// Moves a descriptor into a slot, closing what stands there.
    pub(crate) fn keep(&self, fd: usize, slot: usize) -> Result<usize, Errno> {
        let kept = syscall(libc::SYS_dup3, &[fd, slot, libc::O_CLOEXEC as usize]);
        syscall(libc::SYS_close, &[fd])?;
        kept
    }

    /// A range of addresses for a mapping, and the room there.
    pub(crate) fn place(&self, chance: &mut Chance) -> (usize, usize) {
        match chance.below(4) {
            0 => {
                let nth = chance.below(ATTACHED * 4);
                (self.ring_place(nth / 4, nth % 4), RING_ROOM)
            }
            _ => (self.area + chance.below(PLACES) * ROOM, ROOM),
        }
    }

    /// Where one of the four mappings of an attached tap's rings goes.
    pub(crate) fn ring_place(&self, tap: usize, which: usize) -> usize {
        self.area + PLACES * ROOM + (tap * 4 + which) * RING_ROOM
    }

    /// Sends packets that taps may see: few that fall into many fragments, which cost more than all other calls do.
    pub(crate) fn send(&self, chance: &mut Chance) -> Result<usize, Errno> {
        let large = chance.one_in(40).then_some(60000);
        let size = large.or_else(|| chance.pick(&[8, 8, 64, 64, 1400, 1500, 4000]));
        let payload = vec![0x5a; size.unwrap_or(8)];
        let Some(to) = chance.pick(&self.peers) else {
            return Ok(0);
        };
        for _ in 0..=chance.below(4) {
            let sent = self.socket.send_to(&payload, to);
            sent.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        }
        Ok(0)
    }
}

fn slot((first, count): (usize, usize), chance: &mut Chance) -> usize {
    first + chance.below(count)
}

/// Addresses that nothing else will use; those at `at` when it is not zero.
pub(crate) fn reserve(at: usize, len: usize) -> Result<usize, Errno> {
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    let none = libc::PROT_NONE as usize;
    syscall(
        libc::SYS_mmap,
        &[at, len, none, flags as usize, usize::MAX, 0],
    )
}
