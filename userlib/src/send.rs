// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! New packets, many at a time.

use nettap_uapi::ring::Flags;

use crate::error::{Error, Result};
use crate::map::Bundle;
use crate::tap::Tap;

/// Frames that share one booking on the rings.
const BATCH: usize = 64;

/// Bytes of the longest frame.
pub(crate) fn longest(frames: &[&[u8]]) -> usize {
    frames.iter().map(|frame| frame.len()).max().unwrap_or(0)
}

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
        let wanted = longest(frames);
        if wanted > room {
            return Err(Error::NoRoom { wanted, room });
        }
        let (mut sent, mut ended) = (0, false);
        for part in frames.chunks(BATCH) {
            let mut bundle = Bundle::new(part.len());
            shelf.alloc_bundle(&mut bundle);
            shelf.region.write_new(&mut bundle, shelf.data_offset, part);
            let mut gone = 0;
            if bundle.len() > 0 {
                // The kernel reads a new packet in any case, so no flag says that it has changed.
                gone = bundle.give(&self.revert, Flags::Cleared, |given| {
                    let left = self.after_push(given);
                    ended = left.is_some();
                    left.unwrap_or(0)
                });
            } else {
                // Without mbufs there is nothing to be told by.
                ended = self.has_ended();
            }
            if bundle.len() > 0 {
                shelf.dealloc_rest(&mut bundle);
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
}
