// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! New packets, many at a time.

use nettap_uapi::mbuf::{Header, NO_MBUF};
use nettap_uapi::ring::Entry;

use crate::error::{Error, Result};
use crate::map::Buffer;
use crate::tap::Tap;

/// Frames that share one booking on the rings.
const BATCH: usize = 64;

impl Tap {
    /// Sends new frames, in order, as many as there are mbufs and room for now; returns how many went. Each
    /// has to fit into one mbuf: a longer one is an [`Mbuf`](crate::Mbuf) with a payload. What they cost is
    /// their bytes, a header and a cell each.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] when a frame is longer than an mbuf, [`Error::Ended`] when the tap has ended: none was sent.
    /// [`Error::Forked`].
    pub fn send_burst(&self, frames: &[&[u8]]) -> Result<usize> {
        let shelf = &self.shelf;
        if !shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        let size = shelf.region.mbuf_size() as usize;
        let room = size.saturating_sub(usize::from(shelf.data_offset));
        if let Some(long) = frames.iter().find(|frame| frame.len() > room) {
            return Err(Error::NoRoom {
                wanted: long.len(),
                room,
            });
        }
        let (mut sent, mut ended) = (0, false);
        for part in frames.chunks(BATCH) {
            let mut entries = [Entry::default(); BATCH];
            let mut free = entries.iter_mut().zip(part);
            let written = shelf.alloc(part.len(), |buffer| {
                if let Some((entry, frame)) = free.next() {
                    *entry = self.write(buffer, frame);
                }
            });
            let written = entries.get(..written).unwrap_or_default();
            let gone;
            (gone, ended) = self.give(written);
            // Without mbufs there is nothing to be told by.
            ended = ended || (written.is_empty() && self.has_ended());
            for entry in written.iter().skip(gone) {
                shelf.dealloc_entry(*entry);
            }
            sent += gone;
            if gone < part.len() {
                break;
            }
        }
        if ended && sent == 0 {
            return Err(Error::Ended);
        }
        Ok(sent)
    }

    /// Writes a frame and what goes with it; what a ring carries for it.
    fn write(&self, mut buffer: Buffer, frame: &[u8]) -> Entry {
        let len = frame.len() as u32;
        let header = Header {
            next: NO_MBUF,
            packet_len: len,
            wire_len: len,
            offset: self.shelf.data_offset,
            len: len as u16,
            ..Default::default()
        };
        self.shelf.region.write(&mut buffer, header, frame);
        // The kernel reads a new packet in any case.
        buffer.entry(0)
    }
}
