// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! A packet in the hands of the program.
//!
//! An [`Mbuf`] is owned: it can be kept, edited, and sent to another thread. It ends in one of three
//! ways, each exactly once: [`Tap::revert`](crate::Tap::revert) sends the packet on, dropping the
//! value drops the packet, and when the program ends the kernel's policy decides.
//!
//! # Why its bytes can be lent as slices
//!
//! The memory is shared with the kernel and with the other programs of the group, and Rust's
//! references promise that nobody else writes behind `&` and nobody else looks behind `&mut`. The
//! promise is kept by the holder protocol. The kernel hands an mbuf out through one ring cell to one
//! program, does not touch it until that program gives it back, and refuses everybody else's attempt
//! to give it. A cell is taken by compare-and-exchange, so one thread of one program gets it. In the
//! library that thread gets a `Buffer`, which cannot be copied, and slices borrow from it.
//!
//! The kernel also takes packets back by itself: when their tap ends, whoever ends it, and when one is held
//! for longer than `max_age`. The packet has gone on then, or was dropped; its mbufs stay the program's until it
//! lets go of the [`Mbuf`]. What it makes of them goes nowhere.
//!
//! A program that scribbles over mbufs it does not hold breaks the protocol for its whole group, as
//! any writer of shared memory can: a group is one domain of trust. The kernel does not suffer (it
//! reads its own copy of what was not changed, and copies and checks the rest). This library does
//! not lose its way either: offsets, lengths and links are read once, checked, and kept in the
//! [`Mbuf`], so slices stay inside the mbuf, and nothing here decides twice on the same byte. What
//! suffers is the meaning of the bytes, and code that reads a byte twice and relies on reading the
//! same; who cannot trust the group copies first ([`Mbuf::copy_to`]).
//!
//! # What it costs
//!
//! Each mbuf holds a reference to its session, so that it may outlive the tap and the [`Session`]
//! handle: two uncontended atomic additions a packet, and a
//! cache line that moves when mbufs are dropped on another thread. Header and bytes are not touched
//! until the program asks; echoing a packet reads neither.
//!
//! [`Session`]: crate::Session

use std::sync::{Arc, OnceLock};

use nettap_uapi::mbuf::{
    Header, Window, CSUM_PARTIAL, GSO_NONE, HEADER_SIZE, MBUF_SNAPPED, NO_MBUF,
};
use nettap_uapi::ring::{Entry, REVERT_CHANGED};

use crate::chain::Segment;
use crate::error::{Error, Result};
use crate::map::{Buffer, Region};
use crate::meta::{Csum, Meta, Segmentation, Vlan};
use crate::session::Shelf;

/// Where an mbuf came from, which decides what it is and how it goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A packet out of a detour ring. The kernel knows its chain; the first mbuf stands for it.
    Received,
    /// Out of the alloc ring. Each mbuf of the chain goes back by itself.
    Fresh,
    /// Given back already; nothing is left to do.
    Gone,
}

/// What the library keeps of the first header: read once, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) window: Window,
    pub(crate) chained: bool,
}

/// A packet, owned. Dropping it drops the packet.
#[derive(Debug)]
pub struct Mbuf {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) first: Buffer,
    pub(crate) head: OnceLock<Head>,
    /// The mbufs behind the first, once somebody has asked for them.
    pub(crate) rest: OnceLock<Vec<Segment>>,
    pub(crate) origin: Origin,
    pub(crate) changed: bool,
}

/// The window that a header tells of, or an empty one if it tells nonsense.
pub(crate) fn window_of(region: &Region, header: &Header, fallback: u16) -> Window {
    let size = region.mbuf_size();
    Window::of(header.offset, header.len, size)
        .or(Window::of(fallback, 0, size))
        // A session's fallback lies inside the mbuf; it was checked when the session was opened.
        .unwrap_or(EMPTY)
}

const EMPTY: Window = match Window::of(HEADER_SIZE as u16, 0, HEADER_SIZE) {
    Some(window) => window,
    None => panic!("an empty window behind the header is one"),
};

impl Mbuf {
    pub(crate) fn received(shelf: Arc<Shelf>, first: Buffer) -> Self {
        Self {
            shelf,
            first,
            head: OnceLock::new(),
            rest: OnceLock::new(),
            origin: Origin::Received,
            changed: false,
        }
    }

    pub(crate) fn fresh(shelf: Arc<Shelf>, first: Buffer) -> Self {
        let mut mbuf = Self::received(shelf, first);
        mbuf.origin = Origin::Fresh;
        mbuf.changed = true;
        let header = Header {
            // Who holds it is the kernel's to write.
            holder: mbuf.header().holder,
            next: NO_MBUF,
            offset: mbuf.shelf.data_offset,
            ..Default::default()
        };
        mbuf.set_header(&header);
        mbuf
    }

    pub(crate) fn header(&self) -> Header {
        self.shelf.region.header(&self.first)
    }

    fn set_header(&mut self, header: &Header) {
        self.shelf.region.set_header(&mut self.first, header);
    }

    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Header)) {
        let mut header = self.header();
        change(&mut header);
        self.set_header(&header);
        self.changed = true;
    }

    pub(crate) fn head(&self) -> Head {
        *self.head.get_or_init(|| {
            let header = self.header();
            Head {
                window: window_of(&self.shelf.region, &header, self.shelf.data_offset),
                chained: header.next != NO_MBUF,
            }
        })
    }

    /// Makes the first mbuf's data lie in another window, in the header and in what we keep of it.
    pub(crate) fn set_window(&mut self, window: Window) {
        let chained = self.head().chained;
        self.head = OnceLock::from(Head { window, chained });
        self.edit(|header| {
            header.offset = window.offset() as u16;
            header.len = window.len() as u16;
        });
    }

    pub(crate) fn is_of(&self, shelf: &Arc<Shelf>) -> bool {
        Arc::ptr_eq(&self.shelf, shelf)
    }

    /// What a revert ring carries for it.
    pub(crate) fn revert_entry(&self) -> Entry {
        self.first
            .entry(if self.changed { REVERT_CHANGED } else { 0 })
    }

    /// The kernel has it now.
    pub(crate) fn given(mut self) {
        self.origin = Origin::Gone;
    }

    /// What the kernel says of the packet.
    pub fn meta(&self) -> Meta {
        Meta::of(&self.header())
    }

    /// The packet's bytes, as far as they lie in the first mbuf. Most packets lie there whole;
    /// [`Mbuf::is_chain`] tells, and [`Mbuf::segments`] has all.
    pub fn bytes(&self) -> &[u8] {
        self.shelf.region.bytes(&self.first, self.head().window)
    }

    /// The same, to be edited. The packet counts as changed from here on.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let window = self.head().window;
        self.changed = true;
        self.shelf.region.bytes_mut(&mut self.first, window)
    }

    /// Whether the packet has more than one mbuf.
    pub fn is_chain(&self) -> bool {
        self.head().chained
    }

    /// Whether the packet reverts as changed instead of exactly as it was.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Name of the first mbuf in the region.
    pub fn index(&self) -> u32 {
        self.first.index()
    }

    /// Which use of that mbuf this is.
    pub fn generation(&self) -> u16 {
        self.first.generation()
    }

    /// Whether the packet's length is fixed: a super-packet that the kernel made.
    fn is_fixed(&self, header: &Header) -> bool {
        self.origin == Origin::Received && header.gso_type != GSO_NONE
    }

    /// Grows the packet by `n` bytes in front, which are zero, and lends them.
    ///
    /// A checksum that is still to be computed keeps its place among the bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when the headroom is shorter; [`Error::Fixed`] for a super-packet.
    pub fn push_head(&mut self, n: usize) -> Result<&mut [u8]> {
        let window = self.head().window;
        let room = (window.offset() as usize).saturating_sub(HEADER_SIZE as usize);
        if n > room {
            return Err(Error::NoRoom { wanted: n, room });
        }
        self.move_head(window.offset() as usize - n, window.len() as usize + n)?;
        let new = self.bytes_mut().get_mut(..n).unwrap_or_default();
        new.fill(0);
        Ok(new)
    }

    /// Takes `n` bytes away in front.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when the first mbuf has fewer; [`Error::Fixed`] for a super-packet;
    /// [`Error::Invalid`] when a checksum still to be computed begins among them.
    pub fn pull_head(&mut self, n: usize) -> Result<()> {
        let window = self.head().window;
        let room = window.len() as usize;
        if n > room {
            return Err(Error::NoRoom { wanted: n, room });
        }
        self.move_head(window.offset() as usize + n, room - n)
    }

    /// Moves the packet's first byte, and with it what is counted from there.
    fn move_head(&mut self, offset: usize, len: usize) -> Result<()> {
        let header = self.header();
        if self.is_fixed(&header) {
            return Err(Error::Fixed);
        }
        let before = self.head().window;
        let window = self.window(offset, len)?;
        // Modulo 2^16, so that one addition moves in either direction.
        let shift = (before.offset() as u16).wrapping_sub(window.offset() as u16);
        let start = header.csum_start.wrapping_add(shift);
        let removed = before.len().saturating_sub(window.len());
        if header.csum == CSUM_PARTIAL && u32::from(header.csum_start) < removed {
            return Err(Error::Invalid(
                "a checksum still to be computed begins in the bytes to be removed",
            ));
        }
        self.resized(before.len(), window.len());
        self.set_window(window);
        self.edit(|header| {
            if header.csum == CSUM_PARTIAL {
                header.csum_start = start;
            }
        });
        Ok(())
    }

    pub(crate) fn window(&self, offset: usize, len: usize) -> Result<Window> {
        let size = self.shelf.region.mbuf_size();
        let wrong = Error::NoRoom {
            wanted: len,
            room: (size as usize).saturating_sub(offset),
        };
        match (u16::try_from(offset), u16::try_from(len)) {
            (Ok(offset), Ok(len)) => Window::of(offset, len, size).ok_or(wrong),
            _ => Err(wrong),
        }
    }

    /// Corrects the lengths that the first header carries for people and for `meta`.
    pub(crate) fn resized(&mut self, before: u32, now: u32) {
        self.edit(|header| {
            let delta = now.wrapping_sub(before);
            header.packet_len = header.packet_len.wrapping_add(delta);
            header.wire_len = header.wire_len.wrapping_add(delta);
        });
    }

    /// Whether the packet may get another end.
    pub(crate) fn check_tail(&self) -> Result<()> {
        let header = self.header();
        if self.is_fixed(&header) || header.flags & MBUF_SNAPPED != 0 {
            return Err(Error::Fixed);
        }
        Ok(())
    }

    /// Leaves the transport checksum to the interface: it is to sum from `start` to the end and put
    /// the sum at `start + offset`, where the program has put the sum of the pseudo-header.
    pub fn set_csum_partial(&mut self, start: u16, offset: u16) {
        self.edit(|header| Csum::Partial { start, offset }.write(header));
    }

    /// The checksums are what the bytes say.
    pub fn set_csum_none(&mut self) {
        self.edit(|header| Csum::None.write(header));
    }

    /// Sets or takes away the VLAN tag beside the bytes.
    pub fn set_vlan(&mut self, tag: Option<Vlan>) {
        self.edit(|header| Vlan::write(tag, header));
    }

    /// Sets the firewall mark.
    pub fn set_mark(&mut self, mark: u32) {
        self.edit(|header| header.mark = mark);
    }

    /// Sets the priority.
    pub fn set_priority(&mut self, priority: u32) {
        self.edit(|header| header.priority = priority);
    }

    /// Has the kernel cut a new packet into segments, 1024 at most, each of which must fit the interface that it leaves
    /// by: else it is refused (`injected_refused`). A received packet keeps what it came with.
    ///
    /// # Errors
    ///
    /// [`Error::Fixed`] for a received packet.
    pub fn set_gso(&mut self, gso: Option<Segmentation>) -> Result<()> {
        if self.origin == Origin::Received {
            return Err(Error::Fixed);
        }
        self.edit(|header| Segmentation::write(gso, header));
        Ok(())
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        if self.origin == Origin::Gone {
            return;
        }
        self.shelf.dealloc(&self.first);
        // The kernel frees the rest of a chain that it made; a chain that we made is ours to return.
        if self.origin == Origin::Fresh {
            for segment in self.rest.get().into_iter().flatten() {
                self.shelf.dealloc(&segment.buffer);
            }
        }
    }
}
