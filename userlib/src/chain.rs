// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Packets longer than one mbuf.
//!
//! The kernel makes chains for received packets (jumbo frames, super-packets), and their shape is
//! fixed: only the first mbuf's head and the last one's tail may move. Programs make chains for new
//! packets with [`Mbuf::set_payload`].
//!
//! The links are followed once, on the first call that needs them, and kept: shared memory is not
//! asked twice. A chain that is no chain (out of the region, in a circle, without an end) is cut
//! where it goes wrong; the packet can still be reverted as it was, which does not look at it.

use std::iter;
use std::sync::OnceLock;

use nettap_uapi::mbuf::{Header, Window, NO_MBUF};
use nettap_uapi::tap::CHAIN_MAX;

use crate::error::{Error, Result};
use crate::map::Buffer;
use crate::mbuf::{window_of, Head, Mbuf, Origin};

/// An mbuf behind the first, and where its data lie.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) buffer: Buffer,
    window: Window,
}

impl Mbuf {
    fn rest(&self) -> &[Segment] {
        if !self.is_chain() {
            return &[];
        }
        self.rest.get_or_init(|| self.follow())
    }

    fn follow(&self) -> Vec<Segment> {
        let region = &self.shelf.region;
        region
            .followers(&self.first)
            .into_iter()
            .map(|buffer| Segment {
                window: window_of(region, &region.header(&buffer), self.shelf.data_offset),
                buffer,
            })
            .collect()
    }

    /// The packet's bytes, an mbuf at a time.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let region = &self.shelf.region;
        let rest = self.rest().iter();
        iter::once(self.bytes()).chain(rest.map(|one| region.bytes(&one.buffer, one.window)))
    }

    /// The same, to be edited. The packet counts as changed from here on.
    pub fn segments_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.rest();
        self.changed = true;
        let window = self.head().window;
        let region = &self.shelf.region;
        let rest = self.rest.get_mut().into_iter().flatten();
        iter::once(region.bytes_mut(&mut self.first, window))
            .chain(rest.map(|one| region.bytes_mut(&mut one.buffer, one.window)))
    }

    /// Bytes of the packet that are here, in the whole chain.
    pub fn len(&self) -> usize {
        let rest: u32 = self.rest().iter().map(|one| one.window.len()).sum();
        (self.head().window.len() + rest) as usize
    }

    /// Whether there are no bytes: a new packet that was not filled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends all bytes of the packet to `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        self.segments().for_each(|part| out.extend_from_slice(part));
    }

    /// Grows the packet by `n` bytes at the end, which are zero, and lends them.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when the last mbuf has less room; [`Error::Fixed`] for a super-packet and for
    /// a packet whose end was not captured.
    pub fn push_tail(&mut self, n: usize) -> Result<&mut [u8]> {
        self.check_tail()?;
        let last = self.last();
        let room = (self.shelf.region.mbuf_size().saturating_sub(last.end())) as usize;
        if n > room {
            return Err(Error::NoRoom { wanted: n, room });
        }
        let before = last.len() as usize;
        self.set_last(last.offset() as usize, before + n)?;
        let bytes = self.segments_mut().last().unwrap_or_default();
        let new = bytes.get_mut(before..).unwrap_or_default();
        new.fill(0);
        Ok(new)
    }

    /// Takes `n` bytes away at the end.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when the last mbuf has fewer; [`Error::Fixed`] as for [`Mbuf::push_tail`].
    pub fn trim_tail(&mut self, n: usize) -> Result<()> {
        self.check_tail()?;
        let last = self.last();
        let room = last.len() as usize;
        if n > room {
            return Err(Error::NoRoom { wanted: n, room });
        }
        self.set_last(last.offset() as usize, room - n)
    }

    fn last(&self) -> Window {
        self.rest()
            .last()
            .map_or(self.head().window, |one| one.window)
    }

    fn set_last(&mut self, offset: usize, len: usize) -> Result<()> {
        let window = self.window(offset, len)?;
        self.resized(self.last().len(), window.len());
        if self.rest().is_empty() {
            self.set_window(window);
            return Ok(());
        }
        let region = &self.shelf.region;
        if let Some(last) = self.rest.get_mut().and_then(|rest| rest.last_mut()) {
            let mut header = region.header(&last.buffer);
            header.len = window.len() as u16;
            region.set_header(&mut last.buffer, &header);
            last.window = window;
        }
        Ok(())
    }

    /// Makes `bytes` the contents of a new packet, taking further mbufs from the alloc ring when they
    /// do not fit into this one.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] when the alloc ring has too few mbufs now; [`Error::NoRoom`] when no chain is
    /// long enough; [`Error::Fixed`] for a received packet; [`Error::Forked`]. The packet is as it was before.
    pub fn set_payload(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        if self.origin != Origin::Fresh {
            return Err(Error::Fixed);
        }
        let offset = usize::from(self.shelf.data_offset);
        let each = (self.shelf.region.mbuf_size() as usize).saturating_sub(offset);
        let longest = each * CHAIN_MAX as usize;
        if bytes.len() > longest || each == 0 {
            return Err(Error::NoRoom {
                wanted: bytes.len(),
                room: longest,
            });
        }
        let (front, back) = bytes.split_at(bytes.len().min(each));
        let mut rest = self.take_rest(back.len().div_ceil(each))?;
        // From the last to the first, so that each knows the next.
        let mut next = NO_MBUF;
        for (segment, part) in rest.iter_mut().zip(back.chunks(each)).rev() {
            segment.window = self.window(offset, part.len())?;
            self.write(segment, part, next);
            next = segment.buffer.index();
        }
        let window = self.window(offset, front.len())?;
        self.rest = OnceLock::from(rest);
        self.head = OnceLock::from(Head {
            window,
            chained: next != NO_MBUF,
        });
        self.bytes_mut().copy_from_slice(front);
        let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.edit(|header| {
            header.offset = window.offset() as u16;
            header.len = window.len() as u16;
            header.next = next;
            header.packet_len = total;
            header.wire_len = total;
        });
        Ok(())
    }

    /// `wanted` mbufs for behind the first: those that are there, more if needed, surplus returned.
    fn take_rest(&mut self, wanted: usize) -> Result<Vec<Segment>> {
        let mut rest = self.rest.take().unwrap_or_default();
        let had = rest.len();
        let missing = wanted.saturating_sub(had);
        let window = self.window(usize::from(self.shelf.data_offset), 0)?;
        if missing > 0 {
            self.shelf
                .alloc(missing, |buffer| rest.push(Segment { buffer, window }));
        }
        let keep = if rest.len() < wanted { had } else { wanted };
        for surplus in rest.drain(keep..) {
            self.shelf.dealloc(&surplus.buffer);
        }
        if keep < wanted {
            self.rest = OnceLock::from(rest);
            return Err(Error::Empty);
        }
        Ok(rest)
    }

    fn write(&self, segment: &mut Segment, part: &[u8], next: u32) {
        let region = &self.shelf.region;
        let header = Header {
            holder: region.header(&segment.buffer).holder,
            next,
            offset: segment.window.offset() as u16,
            len: segment.window.len() as u16,
            ..Default::default()
        };
        region.set_header(&mut segment.buffer, &header);
        let room = region.bytes_mut(&mut segment.buffer, segment.window);
        // Shorter only in a child after `fork`, where there is no memory to write.
        if room.len() == part.len() {
            room.copy_from_slice(part);
        }
    }
}
