// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! New packets, many at a time.

use nettap_uapi::mbuf::{Header, Window, NO_MBUF};
use nettap_uapi::ring::{Entry, REVERT_CHANGED};

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
    /// [`Error::NoRoom`] when a frame is longer than an mbuf: none was sent. [`Error::Forked`].
    pub fn send_burst(&self, frames: &[&[u8]]) -> Result<usize> {
        let shelf = &self.shelf;
        if !shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        let size = shelf.region.mbuf_size();
        let window = |frame: &[u8]| {
            let len = u16::try_from(frame.len()).ok()?;
            Window::of(shelf.data_offset, len, size)
        };
        if let Some(long) = frames.iter().find(|frame| window(frame).is_none()) {
            return Err(Error::NoRoom {
                wanted: long.len(),
                room: (size as usize).saturating_sub(usize::from(shelf.data_offset)),
            });
        }
        let mut sent = 0;
        for part in frames.chunks(BATCH) {
            let mut entries = [Entry::default(); BATCH];
            let mut free = entries.iter_mut().zip(part);
            let written = shelf.alloc(part.len(), |buffer| {
                if let Some((entry, frame)) = free.next() {
                    *entry = self.write(buffer, frame, window(frame));
                }
            });
            let written = entries.get(..written).unwrap_or_default();
            let gone = self.revert.give(written);
            for entry in written.iter().skip(gone) {
                shelf.dealloc_entry(*entry);
            }
            sent += gone;
            if gone < part.len() {
                break;
            }
        }
        if sent > 0 {
            self.after_push();
        }
        Ok(sent)
    }

    /// Writes a frame and what goes with it; what a ring carries for it.
    fn write(&self, mut buffer: Buffer, frame: &[u8], window: Option<Window>) -> Entry {
        let region = &self.shelf.region;
        let len = frame.len() as u32;
        let header = Header {
            // Who holds it is the kernel's to write.
            holder: region.holder(&buffer),
            next: NO_MBUF,
            packet_len: len,
            wire_len: len,
            offset: self.shelf.data_offset,
            len: len as u16,
            ..Default::default()
        };
        region.set_header(&mut buffer, &header);
        if let Some(window) = window {
            let room = region.bytes_mut(&mut buffer, window);
            // Shorter only in a child after `fork`, where there is no memory to write.
            if room.len() == frame.len() {
                room.copy_from_slice(frame);
            }
        }
        buffer.entry(REVERT_CHANGED)
    }
}
