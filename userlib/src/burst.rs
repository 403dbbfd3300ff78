// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Packets in the hands of the program together: the quickest way to look at all and send them on.
//!
//! An [`Mbuf`] is a packet by itself, that can be kept and sent about; it counts its references to the
//! session and remembers what it has read. Most programs take what is there, look at it, and send it
//! on. For them a [`Burst`] holds the ring's entries as they are: taking costs the cell, sending on
//! costs the cell, and only what is read is read.

use std::sync::Arc;

use nettap_uapi::mbuf::NO_MBUF;
use nettap_uapi::ring::REVERT_CHANGED;

use crate::map::{Bundle, Held, Region};
use crate::mbuf::Mbuf;
use crate::meta::Meta;
use crate::session::Shelf;

/// Received packets of one session. Dropping it drops the packets that are still in it.
///
/// [`Session::burst`](crate::Session::burst) makes an empty one, [`Tap::recv_burst`](crate::Tap::recv_burst) fills it, and
/// [`Tap::revert_burst`](crate::Tap::revert_burst) empties it.
#[derive(Debug)]
pub struct Burst {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) bundle: Bundle,
}

impl Burst {
    pub(crate) fn new(shelf: Arc<Shelf>, capacity: usize) -> Self {
        let bundle = Bundle::new(capacity);
        Self { shelf, bundle }
    }

    /// Packets in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.bundle.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The packets, oldest first, to be looked at and edited.
    #[inline]
    pub fn packets(&mut self) -> impl Iterator<Item = Packet<'_>> {
        let region = &self.shelf.region;
        let held = self.bundle.held().iter_mut();
        held.map(|held| Packet { region, held })
    }

    /// Takes the first packet out, to be kept or to be changed in its length.
    pub fn pop(&mut self) -> Option<Mbuf> {
        let (first, flags) = self.bundle.pop()?;
        let mut mbuf = Mbuf::received(Arc::clone(&self.shelf), first);
        mbuf.changed = flags & REVERT_CHANGED != 0;
        Some(mbuf)
    }

    /// Drops the packets.
    #[inline]
    pub fn clear(&mut self) {
        self.shelf.dealloc_all(&mut self.bundle);
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.shelf.dealloc_rest(&mut self.bundle);
        }
    }
}

/// One packet of a [`Burst`].
#[derive(Debug)]
pub struct Packet<'a> {
    region: &'a Region,
    held: &'a mut Held,
}

impl Packet<'_> {
    /// The packet's bytes, as far as they lie in the first mbuf; see [`Mbuf::bytes`].
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.region.held_bytes(self.held)
    }

    /// The same, to be edited. The packet counts as changed from here on.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.held.set_flags(REVERT_CHANGED);
        self.region.held_bytes_mut(self.held)
    }

    /// What the kernel says of the packet.
    pub fn meta(&self) -> Meta {
        Meta::of(&self.region.held_header(self.held))
    }

    /// Whether the packet has more than one mbuf.
    pub fn is_chain(&self) -> bool {
        self.region.held_header(self.held).next != NO_MBUF
    }
}
