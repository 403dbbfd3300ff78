// SPDX-License-Identifier: GPL-2.0-only

//! Packets: the kernel's `sk_buff`, owned.
//!
//! [`Skb`] is a packet that must end: delivered, or freed by the drop. A packet that was shown by a
//! hook has its data at the network header when received and at the mac header when sent; that
//! position is called its *stand*, and [`Way`] says which it is. Offsets here always count from the
//! first byte of the frame.

use core::mem::offset_of;
use core::ptr::NonNull;

use super::atomic::Atomic;
use super::atomic::Full;
use super::atomic::Relaxed;
use kernel::bindings;
use kernel::prelude::*;

use super::ffi;
use super::hook::Way;
use super::netdev::Device;
use super::pages::SharedPages;
use super::queue::Segments;
use crate::uapi::mbuf;
use crate::uapi::mbuf::Header;

/// A packet that we own.
///
/// # Invariants
///
/// The pointer is a valid packet, and this is our reference to it.
pub(crate) struct Skb(NonNull<bindings::sk_buff>);

// SAFETY: A packet belongs to whoever holds it, on any CPU.
unsafe impl Send for Skb {}

/// What a header says of the mbuf itself, and how much of the frame is in it.
pub(crate) use ffi::nettap_mbuf as MbufPart;

/// What the kernel knows of a packet.
pub(crate) struct Description(ffi::nettap_packet);

impl Description {
    /// Bytes of the frame.
    pub(crate) fn wire_len(&self) -> u32 {
        self.0.wire_len
    }

    /// Bytes of the frame before the packet's stand.
    pub(crate) fn mac_len(&self) -> u32 {
        self.0.mac_len
    }

    /// Bytes of memory that it holds.
    pub(crate) fn truesize(&self) -> u32 {
        self.0.truesize
    }

    /// Whether it is a super-packet.
    pub(crate) fn is_gso(&self) -> bool {
        self.0.is_gso != 0
    }

    /// Whether its bytes lie in device memory that no processor can read.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.0.unreadable != 0
    }
}

/// The header as C fills it has the layout that programs see.
macro_rules! same_fields {
    ($($field:ident)*) => {
        const _: () = {
            assert!(size_of::<Header>() == size_of::<ffi::nettap_header>());
            assert!(mbuf::MBUF_VLAN as u32 == ffi::NETTAP_C_MBUF_VLAN);
            $(assert!(offset_of!(Header, $field) == offset_of!(ffi::nettap_header, $field));)*
        };
    };
}
same_fields! {
    timestamp holder next packet_len wire_len ifindex hash mark priority offset len vlan_tci vlan_proto
    csum_start csum_offset gso_size gso_hdr_len gso_type csum direction flags queue reserved
}

/// The offload state that a changed or new packet's header brings back, its values checked.
pub(crate) struct Offload(ffi::nettap_offload);

impl Offload {
    /// The state in a header that was copied out of shared memory; nothing when it names what does
    /// not exist. Whether it fits the packet is for [`Skb::settle`] and [`Skb::finish_new`] to say.
    pub(crate) fn of(header: &Header) -> Option<Self> {
        if !header.is_known() {
            return None;
        }
        let vlan = header.flags & mbuf::MBUF_VLAN != 0;
        Some(Self(ffi::nettap_offload {
            mark: header.mark,
            priority: header.priority,
            vlan_tci: header.vlan_tci,
            vlan_proto: header.vlan_proto,
            csum_start: header.csum_start,
            csum_offset: header.csum_offset,
            gso_size: header.gso_size,
            gso_hdr_len: header.gso_hdr_len,
            gso_type: header.gso_type,
            csum: header.csum,
            vlan_present: u8::from(vlan),
            pad: 0,
        }))
    }
}

/// Parts of pages that a packet may refer to.
pub(crate) const FRAGMENTS_MAX: usize = bindings::MAX_SKB_FRAGS as usize;

/// Bytes compared at a time when changes are written back.
const CHUNK: usize = 256;

impl Skb {
    /// # Safety
    ///
    /// `raw` is a valid packet and the caller's reference to it passes to the value.
    pub(super) unsafe fn from_raw(raw: *mut bindings::sk_buff) -> Self {
        // SAFETY: The caller's promise: valid, hence not null.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }

    /// Gives the reference away.
    pub(super) fn into_raw(self) -> *mut bindings::sk_buff {
        let raw = self.0.as_ptr();
        core::mem::forget(self);
        raw
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::sk_buff {
        self.0.as_ptr()
    }

    /// The address as a number, to be kept in a table; [`Skb::from_token`] gets the packet back.
    pub(crate) fn into_token(self) -> usize {
        self.into_raw() as usize
    }

    /// The packet of a token.
    ///
    /// # Safety
    ///
    /// `token` came from [`Skb::into_token`], and is turned back once.
    pub(super) unsafe fn from_token(token: usize) -> Option<Self> {
        NonNull::new(token as *mut bindings::sk_buff).map(Self)
    }

    /// What the kernel knows of it.
    #[inline]
    pub(crate) fn describe(&self, way: Way) -> Description {
        let mut seen = core::mem::MaybeUninit::<ffi::nettap_packet>::uninit();
        // SAFETY: Valid by the type invariant and at its stand; `seen` is written, all of it but its padding.
        unsafe {
            ffi::nettap_skb_describe(self.as_ptr(), way == Way::Received, seen.as_mut_ptr());
            (*seen.as_mut_ptr()).pad = 0;
            Description(seen.assume_init())
        }
    }

    /// Fills the mbuf at `to`: the bytes of the frame from `from` on, as many as `mbuf` says, and the header.
    #[inline(always)]
    pub(crate) fn capture(
        &self,
        seen: &Description,
        from: u32,
        mbuf: &MbufPart,
        pages: &SharedPages,
        to: usize,
    ) -> Result {
        let offset = usize::from(mbuf.offset);
        if offset < size_of::<Header>() {
            return Err(EFAULT);
        }
        let len = offset.wrapping_add(usize::from(mbuf.len));
        let window = pages.header_window(to, len).ok_or(EFAULT)?;
        // SAFETY: Valid by the type invariant. The window is aligned for the header and holds it, as was
        // checked, and behind it the bytes. skb_copy_bits checks the range against the packet and takes
        // negative offsets down to its headroom.
        let err = unsafe {
            let to = window.as_ptr().cast();
            ffi::nettap_skb_capture(self.as_ptr(), seen.mac_len(), from, mbuf, to)
        };
        if err == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// A hash of the packet's flow, the same for both of its directions.
    pub(crate) fn flow_hash(&self) -> u32 {
        // SAFETY: A valid packet, by the type invariant; it is only read.
        unsafe { ffi::nettap_skb_flow_hash(self.as_ptr()) }
    }

    /// Whether it is a super-packet.
    pub(crate) fn is_gso(&self) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_skb_is_gso(self.as_ptr()) }
    }

    /// Makes it safe to keep beyond the hook. Nothing: the packet is lost.
    #[inline(always)]
    pub(crate) fn keep(self, seen: &Description, way: Way) -> Option<Self> {
        if seen.0.keepable != 0 {
            return Some(self);
        }
        // SAFETY: Our reference passes to the wrapper, which gives one back or frees the packet.
        let kept = unsafe { ffi::nettap_skb_keep(self.into_raw(), way == Way::Received) };
        NonNull::new(kept).map(Self)
    }

    /// If its sender has closed its socket, no longer counts there.
    fn leave_closed(&mut self) {
        // SAFETY: Valid by the type invariant, and ours.
        unsafe { ffi::nettap_skb_leave_closed(self.as_ptr()) };
    }

    /// Cuts a super-packet into packets of wire size; on failure it comes back whole, or is lost.
    pub(crate) fn segment(self, way: Way) -> Result<Segments, Option<Self>> {
        let (received, mut damaged) = (way == Way::Received, false);
        // SAFETY: Valid by the type invariant and at its stand; the pieces are new packets.
        let list = unsafe { ffi::nettap_skb_segment(self.as_ptr(), received, &mut damaged) };
        // The whole is freed here when there are pieces.
        match NonNull::new(list) {
            // SAFETY: A list of new packets that is ours.
            Some(list) => Ok(unsafe { Segments::of(list) }),
            None if damaged => Err(None),
            None => Err(Some(self)),
        }
    }

    /// Puts the frame's first byte first, for the methods that change it.
    pub(crate) fn at_mac(&mut self, way: Way) {
        // SAFETY: Valid by the type invariant and at its stand.
        unsafe { ffi::nettap_skb_at_mac(self.as_ptr(), way == Way::Received) };
    }

    /// Moves the ends of a frame at its mac header: positive grows, negative shrinks.
    pub(crate) fn resize(&mut self, head: i32, tail: i32) -> Result {
        // SAFETY: Valid, at its mac header, not shared (`keep`).
        kernel::error::to_result(unsafe { ffi::nettap_skb_resize(self.as_ptr(), head, tail) })
    }

    /// Makes bytes `offset .. offset + len` of a frame at its mac header equal to shared memory at
    /// `from`, writing only where they differ, so that the payload of a super-packet whose headers
    /// were edited stays where it is. What lies in one piece is written at once, read once.
    pub(crate) fn write_back(
        &mut self,
        offset: u32,
        pages: &SharedPages,
        from: usize,
        len: u32,
    ) -> Result {
        // SAFETY: Valid by the type invariant.
        if unsafe { ffi::nettap_skb_is_plain(self.as_ptr()) } {
            let window = pages.window(from, len as usize).ok_or(EFAULT)?;
            // SAFETY: Valid packet, not shared; the window has `len` bytes, and the range is checked inside.
            return kernel::error::to_result(unsafe {
                ffi::nettap_skb_store(self.as_ptr(), offset, window.as_ptr().cast(), len)
            });
        }
        let mut done = 0u32;
        while done < len {
            let n = len.wrapping_sub(done).min(CHUNK as u32);
            let window = pages
                .window(from.wrapping_add(done as usize), n as usize)
                .ok_or(EFAULT)?;
            let mut new = [0u8; CHUNK];
            let mut old = [0u8; CHUNK];
            // Read once: the program may go on scribbling, what is compared is what is written.
            // SAFETY: `window` is `n` bytes, and `n` is at most CHUNK.
            unsafe {
                core::ptr::copy_nonoverlapping(window.as_ptr(), new.as_mut_ptr(), n as usize);
            }
            let at = offset.wrapping_add(done);
            // SAFETY: Valid packet; `old` has room for `n` bytes; the range is checked inside.
            let err = unsafe {
                ffi::nettap_skb_copy_out(
                    self.as_ptr(),
                    at as i32,
                    old.as_mut_ptr().cast(),
                    n as i32,
                )
            };
            if err != 0 {
                return Err(EFAULT);
            }
            if new != old {
                // SAFETY: Valid packet, not shared; `new` has `n` bytes.
                kernel::error::to_result(unsafe {
                    ffi::nettap_skb_store(self.as_ptr(), at, new.as_ptr().cast(), n)
                })?;
            }
            done = done.wrapping_add(n);
        }
        Ok(())
    }

    /// Brings the kernel's own account of a changed frame at its mac header into line with its header.
    pub(crate) fn settle(&mut self, offload: &Offload, moved: bool) -> Result {
        // SAFETY: Valid and at its mac header; the offload state was checked by `Offload::of`.
        kernel::error::to_result(unsafe {
            ffi::nettap_skb_settle(self.as_ptr(), &offload.0, moved)
        })
    }

    /// Lets a frame at its mac header stand as one received on `device`.
    pub(crate) fn at_network(&mut self, device: &Device) {
        // SAFETY: Valid, at its mac header, an Ethernet header long (`settle`, `finish_new`).
        unsafe { ffi::nettap_skb_at_network(self.as_ptr(), device.as_ptr()) };
    }

    /// A new frame of `len` bytes, at its mac header, to be written by [`Skb::fill`].
    pub(crate) fn new(device: &Device, len: u32) -> Option<Self> {
        // SAFETY: The interface is held by the caller.
        NonNull::new(unsafe { ffi::nettap_skb_new(device.as_ptr(), len) }).map(Self)
    }

    /// Copies shared memory into a new frame.
    pub(crate) fn fill(
        &mut self,
        offset: u32,
        pages: &SharedPages,
        from: usize,
        len: u32,
    ) -> Result {
        let window = pages.window(from, len as usize).ok_or(EFAULT)?;
        // SAFETY: Valid packet made by `new`, all of whose fragments are its own; the window is `len`
        // bytes; the range is checked inside.
        kernel::error::to_result(unsafe {
            bindings::skb_store_bits(
                self.as_ptr(),
                offset as i32,
                window.as_ptr().cast(),
                len as i32,
            )
        })
    }

    /// Shared memory becomes the next bytes of a new frame, by reference. `EMSGSIZE`: it has as many fragments
    /// as it may.
    pub(crate) fn attach(&mut self, pages: &SharedPages, from: usize, len: u32) -> Result {
        pages.window(from, len as usize).ok_or(EFAULT)?;
        for (page, offset, len) in pages.parts(from, len) {
            // SAFETY: A valid packet made by `new`, and a valid page, on which it takes a reference. The range is
            // inside of it.
            kernel::error::to_result(unsafe {
                ffi::nettap_skb_attach(self.as_ptr(), page.cast(), offset, len)
            })?;
        }
        Ok(())
    }

    /// Checks and applies the offload state of a new frame.
    pub(crate) fn finish_new(&mut self, offload: &Offload) -> Result {
        // SAFETY: Valid and at its mac header.
        kernel::error::to_result(unsafe { ffi::nettap_skb_offload(self.as_ptr(), &offload.0) })
    }

    /// Whether `device` can carry this frame, which is at its mac header.
    pub(crate) fn fits(&self, device: &Device) -> bool {
        // SAFETY: Both are valid by their type invariants.
        unsafe { ffi::nettap_dev_fits(device.as_ptr(), self.as_ptr()) }
    }

    /// A kept packet at its stand is made ready to leave through another interface.
    pub(crate) fn cross_to_output(&mut self, device: &Device, way: Way) {
        // SAFETY: Both are valid by their type invariants; the packet is at its stand.
        unsafe {
            ffi::nettap_skb_cross_to_output(self.as_ptr(), device.as_ptr(), way == Way::Received);
        }
    }

    /// A kept packet at its stand is made ready to enter the host as received on `device`.
    pub(crate) fn cross_to_input(&mut self, device: &Device, way: Way) {
        // SAFETY: Both are valid by their type invariants; the packet is at its stand.
        unsafe {
            ffi::nettap_skb_cross_to_input(self.as_ptr(), device.as_ptr(), way == Way::Received);
        }
    }

    /// Into the host's network layer, past our hooks. Bottom halves off. Tells whether it was taken.
    pub(crate) fn deliver_input(self) -> bool {
        // SAFETY: Our reference passes to the network stack. Its interface is registered or was until
        // less than a grace period ago: see `serve`.
        unsafe { ffi::nettap_deliver_input(self.into_raw()) }
    }

    /// Out of its interface, past our hooks. Bottom halves off. Tells whether it was taken.
    pub(crate) fn deliver_output(self) -> bool {
        // SAFETY: As in `deliver_input`.
        unsafe { ffi::nettap_deliver_output(self.into_raw()) }
    }
}

impl Drop for Skb {
    fn drop(&mut self) {
        // SAFETY: Our reference, by the type invariant.
        unsafe { ffi::nettap_skb_free(self.as_ptr()) };
    }
}

/// A place in a table that holds a packet or none: the packet's address, taken atomically. In the bits
/// that an address has to spare, since packets are aligned to words, is which use of the place it is.
pub(crate) struct SkbSlot(Atomic<usize>);

/// The spare bits.
const USE: usize = core::mem::align_of::<u64>() - 1;

impl SkbSlot {
    /// An empty place.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Puts a packet. The place is empty and the caller's alone: what was in it would never be freed.
    pub(crate) fn put(&self, skb: Skb, generation: u16) {
        let token = skb.into_token() | (usize::from(generation) & USE);
        self.0.store(token, Relaxed);
    }

    /// If the packet's sender has closed its socket, the packet no longer counts there. Nobody else may
    /// take or put meanwhile.
    pub(crate) fn leave_closed(&self) {
        let token = self.0.load(Relaxed);
        if let Some(mut skb) = self.take_token(token) {
            skb.leave_closed();
            self.put(skb, (token & USE) as u16);
        }
    }

    /// Takes the packet of this use of the place, as far as one can tell. Of two who try, one gets it.
    pub(crate) fn take(&self, generation: u16) -> Option<Skb> {
        let token = self.0.load(Relaxed);
        if token & USE != usize::from(generation) & USE {
            return None;
        }
        self.take_token(token)
    }

    fn take_token(&self, token: usize) -> Option<Skb> {
        if token == 0 {
            return None;
        }
        self.0.cmpxchg(token, 0, Full).ok()?;
        // SAFETY: The place holds tokens only, and this one has just been taken out of it by us.
        unsafe { Skb::from_token(token & !USE) }
    }
}

impl Drop for SkbSlot {
    fn drop(&mut self) {
        drop(self.take_token(self.0.load(Relaxed)));
    }
}
