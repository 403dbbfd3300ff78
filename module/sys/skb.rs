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

/// What the headers of all packets of a tap have in common.
pub(crate) struct Origin(ffi::nettap_origin);

impl Origin {
    /// Packets that went `way` by interface `ifindex`, for a process. Those that bring no time stamp get one,
    /// if `stamps`.
    pub(crate) fn new(holder: u32, ifindex: u32, way: Way, stamps: bool) -> Self {
        Self(ffi::nettap_origin {
            holder,
            ifindex,
            offset: mbuf::DATA_OFFSET as u16,
            direction: match way {
                Way::Received => mbuf::DIR_RECEIVED,
                Way::Sent => mbuf::DIR_SENT,
            },
            stamps: u8::from(stamps),
        })
    }
}

/// How much of a packet there is.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Bytes of the frame.
    pub(crate) wire_len: u32,
    /// Bytes of the frame before the packet's stand.
    pub(crate) mac_len: u32,
    /// Bytes of memory that it holds.
    pub(crate) truesize: u32,
}

/// What a captured packet is, beside its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Nature(i32);

impl Nature {
    /// Whether it is a super-packet.
    #[inline(always)]
    pub(crate) fn is_gso(self) -> bool {
        self.0 as u32 & ffi::NETTAP_C_PACKET_GSO != 0
    }
}

/// The header as C fills it has the layout that programs see.
macro_rules! same_fields {
    ($($field:ident)*) => {
        const _: () = {
            assert!(size_of::<Header>() == size_of::<ffi::nettap_header>());
            assert!(mbuf::MBUF_VLAN as u32 == ffi::NETTAP_C_MBUF_VLAN);
            assert!(mbuf::MBUF_SNAPPED as u32 == ffi::NETTAP_C_MBUF_SNAPPED);
            assert!(mbuf::NO_MBUF == ffi::NETTAP_C_NO_MBUF);
            assert!(mbuf::DATA_OFFSET as usize >= size_of::<Header>());
            $(assert!(offset_of!(Header, $field) == offset_of!(ffi::nettap_header, $field));)*
        };
    };
}
same_fields! {
    timestamp holder next packet_len wire_len ifindex hash mark priority offset len vlan_tci vlan_proto
    csum_start csum_offset gso_size gso_hdr_len gso_type csum direction flags queue reserved
}

/// The offload state that a changed or new packet's header brings back, its values checked.
pub(crate) struct Offload<'a>(&'a Header);

impl<'a> Offload<'a> {
    /// The state in a header that was copied out of shared memory; nothing when it names what does
    /// not exist. Whether it fits the packet is for [`Skb::settle`] and [`Skb::finish_new`] to say.
    #[inline(always)]
    pub(crate) fn of(header: &'a Header) -> Option<Self> {
        header.is_known().then_some(Self(header))
    }

    /// For C, whose header has the same layout (`same_fields`).
    #[inline(always)]
    fn as_ptr(&self) -> *const ffi::nettap_header {
        core::ptr::from_ref(self.0).cast()
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

    /// How much of it there is.
    #[inline(always)]
    pub(crate) fn extent(&self, way: Way) -> Extent {
        let skb = self.as_ptr();
        // SAFETY: Valid by the type invariant, and nobody changes it meanwhile.
        let (data, head, len, truesize) =
            unsafe { ((*skb).data, (*skb).head, (*skb).len, (*skb).truesize) };
        let mac_len = match way {
            Way::Received => {
                // SAFETY: As before; both variants of the union are these fields.
                let headers = unsafe { (*skb).__bindgen_anon_4.headers.as_ref() };
                let stand = (data as usize).wrapping_sub(head as usize);
                stand.wrapping_sub(usize::from(headers.mac_header)) as u32
            }
            Way::Sent => 0,
        };
        Extent {
            wire_len: len.wrapping_add(mac_len),
            mac_len,
            truesize,
        }
    }

    /// Whether it begins with an Ethernet header: not so what the host sends to a group and takes itself, which stands
    /// on the interface without one (`dev_loopback_xmit()`).
    #[inline(always)]
    pub(crate) fn is_frame(&self, way: Way) -> bool {
        way == Way::Sent || self.extent(way).mac_len >= bindings::ETH_HLEN
    }

    /// Fills the mbuf at `to`: the header, and the first `len` bytes of the frame. `EFAULT`: they cannot be
    /// read.
    #[inline(always)]
    pub(crate) fn capture(
        &self,
        extent: Extent,
        len: u32,
        origin: &Origin,
        pages: &SharedPages,
        to: usize,
    ) -> Result<Nature> {
        let whole = usize::from(origin.0.offset).wrapping_add(len as usize);
        let window = pages.header_window(to, whole).ok_or(EFAULT)?;
        // SAFETY: Valid by the type invariant. The window is aligned for the header and holds it, since the
        // bytes begin behind it (`Origin::new`), and the bytes. The range is checked against the packet; what
        // lies before its data, down to its headroom, is of it too.
        let nature = unsafe {
            let to = window.as_ptr().cast();
            ffi::nettap_skb_capture(self.as_ptr(), extent.mac_len, len, &origin.0, to)
        };
        if nature < 0 {
            return Err(EFAULT);
        }
        Ok(Nature(nature))
    }

    /// The same for one of the mbufs of a longer frame: its bytes from `from` on, as many as `mbuf` says.
    pub(crate) fn capture_part(
        &self,
        extent: Extent,
        from: u32,
        mbuf: &MbufPart,
        origin: &Origin,
        pages: &SharedPages,
        to: usize,
    ) -> Result<Nature> {
        let whole = usize::from(origin.0.offset).wrapping_add(usize::from(mbuf.len));
        let window = pages.header_window(to, whole).ok_or(EFAULT)?;
        // SAFETY: As in `capture`.
        let nature = unsafe {
            let (mac_len, to) = (extent.mac_len, window.as_ptr().cast());
            ffi::nettap_skb_capture_part(self.as_ptr(), mac_len, from, mbuf, &origin.0, to)
        };
        if nature < 0 {
            return Err(EFAULT);
        }
        Ok(Nature(nature))
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
    pub(crate) fn keep(self, nature: Nature, way: Way) -> Option<Self> {
        if nature.0 as u32 & ffi::NETTAP_C_PACKET_KEEPABLE != 0 {
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

    /// Changes the first `len` bytes, an Ethernet header at least, of an ordinary packet at its stand into those of shared
    /// memory at `from`, and brings the kernel's own account of it into line with its header. `EAGAIN`: it is a
    /// super-packet, does not lie in one piece that is its own, or is shorter, or there is no such memory, and it stays
    /// as it is; `EINVAL`: the offload state cannot be, and the packet is of no more use.
    #[inline(always)]
    pub(crate) fn change(
        &mut self,
        way: Way,
        offload: &Offload<'_>,
        pages: &SharedPages,
        from: usize,
        len: u32,
        device: &Device,
    ) -> Result {
        let window = pages.window(from, len as usize).ok_or(EAGAIN)?;
        // SAFETY: Valid by the type invariant, at its stand, not shared (`keep`); the window is `len` bytes; the offload
        // state was checked; the interface is held by the caller.
        let err = unsafe {
            let (from, device) = (window.as_ptr().cast(), device.as_ptr());
            let received = way == Way::Received;
            ffi::nettap_skb_change(self.as_ptr(), received, offload.as_ptr(), from, len, device)
        };
        if err == 0 {
            return Ok(());
        }
        kernel::error::to_result(err)
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
            let at = offset.wrapping_add(done);
            let n = len.wrapping_sub(done).min(CHUNK as u32);
            // SAFETY: Valid by the type invariant.
            let n = unsafe { ffi::nettap_skb_writable(self.as_ptr(), at, n) };
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
    pub(crate) fn settle(&mut self, offload: &Offload<'_>, moved: bool) -> Result {
        // SAFETY: Valid and at its mac header; the offload state was checked by `Offload::of`.
        kernel::error::to_result(unsafe {
            ffi::nettap_skb_settle(self.as_ptr(), offload.as_ptr(), moved)
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

    /// A new frame of the `len` bytes of shared memory at `from`, an Ethernet header at least, at its mac header;
    /// one that `leaves` by the device must fit it. `ENOMEM`; `EINVAL`: the offload state cannot be; `EMSGSIZE`:
    /// too long.
    #[inline(always)]
    pub(crate) fn make(
        device: &Device,
        offload: &Offload<'_>,
        pages: &SharedPages,
        from: usize,
        len: u32,
        leaves: bool,
    ) -> Result<Self> {
        let window = pages.window(from, len as usize).ok_or(ENOMEM)?;
        // SAFETY: The interface is held by the caller; the window is `len` bytes; the offload state was checked.
        let raw = unsafe {
            let (device, from) = (device.as_ptr(), window.as_ptr().cast());
            ffi::nettap_skb_make(device, offload.as_ptr(), from, len, leaves)
        };
        // SAFETY: A new packet that is ours, or an error.
        super::from_err_ptr(raw).map(|raw| unsafe { Self::from_raw(raw) })
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
            ffi::nettap_skb_fill(self.as_ptr(), offset, window.as_ptr().cast(), len)
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
    pub(crate) fn finish_new(&mut self, offload: &Offload<'_>) -> Result {
        // SAFETY: Valid and at its mac header.
        kernel::error::to_result(unsafe {
            ffi::nettap_skb_offload(self.as_ptr(), offload.as_ptr())
        })
    }

    /// Whether `device` can carry this frame, which is at its mac header.
    pub(crate) fn fits(&self, device: &Device) -> bool {
        // SAFETY: Both are valid by their type invariants.
        unsafe { ffi::nettap_dev_fits(device.as_ptr(), self.as_ptr()) }
    }

    /// A kept packet at its stand is made ready to leave through another interface; whether that can carry it.
    pub(crate) fn cross_to_output(&mut self, device: &Device, way: Way) -> bool {
        let received = way == Way::Received;
        // SAFETY: Both are valid by their type invariants; the packet is at its stand.
        unsafe { ffi::nettap_skb_cross_to_output(self.as_ptr(), device.as_ptr(), received) }
    }

    /// A kept packet at its stand is made ready to enter the host as received on `device`; whether it can.
    pub(crate) fn cross_to_input(&mut self, device: &Device, way: Way) -> bool {
        let received = way == Way::Received;
        // SAFETY: Both are valid by their type invariants; the packet is at its stand.
        unsafe { ffi::nettap_skb_cross_to_input(self.as_ptr(), device.as_ptr(), received) }
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

/// The right to take packets out of the places that are its, and mbufs that its session has for new packets. There
/// is one with its number, and one of a session, so whoever has borrowed it is the only one who takes, and needs no
/// locked instruction to be.
pub(crate) struct Taker(u64);

/// The number of the next one. A counter of 64 bits does not come round.
static TAKERS: Atomic<u64> = Atomic::new(1);

impl Taker {
    /// One whose number nobody else has or had.
    pub(crate) fn new() -> Self {
        Self(TAKERS.fetch_add(1, Relaxed))
    }

    /// One that may take nothing, for the place of one that is lent.
    pub(crate) const fn nobody() -> Self {
        Self(0)
    }

    /// By which places say that they are its.
    pub(crate) fn number(&self) -> u64 {
        self.0
    }
}

/// A place in a table that holds a packet or none: the packet's address. In the bits that an address has to
/// spare, since packets are aligned to words, is which use of the place it is. Beside it stands whose it is to
/// take.
///
/// What is put is there once, and is taken by a [`Taker`] of the right number, of which there is one: two
/// do not get the same packet, whatever else is done wrong.
pub(crate) struct SkbSlot {
    token: Atomic<usize>,
    taker: Atomic<u64>,
}

/// The spare bits.
const USE: usize = core::mem::align_of::<u64>() - 1;

impl SkbSlot {
    /// An empty place.
    pub(crate) const fn new() -> Self {
        Self {
            token: Atomic::new(0),
            taker: Atomic::new(0),
        }
    }

    /// Puts a packet, for the taker of this number. The place is empty and the caller's alone: what was in it
    /// would never be freed.
    #[inline(always)]
    pub(crate) fn put(&self, skb: Skb, generation: u16, taker: u64) {
        self.taker.store(taker, Relaxed);
        let token = skb.into_token() | (usize::from(generation) & USE);
        self.token.store(token, Relaxed);
    }

    /// If the packet's sender has closed its socket, the packet no longer counts there.
    pub(crate) fn leave_closed(&self, taker: &mut Taker) {
        let generation = (self.token.load(Relaxed) & USE) as u16;
        if let Some(mut skb) = self.take(generation, taker) {
            skb.leave_closed();
            self.put(skb, generation, taker.number());
        }
    }

    /// Whether it is the taker's to take what is here, if anything is.
    pub(crate) fn is_for(&self, taker: &Taker) -> bool {
        self.token.load(Relaxed) != 0 && self.taker.load(Relaxed) == taker.number()
    }

    /// Takes the packet of this use of the place, as far as one can tell, if it is the taker's.
    #[inline(always)]
    pub(crate) fn take(&self, generation: u16, taker: &mut Taker) -> Option<Skb> {
        let token = self.token.load(Relaxed);
        let is_it = token & USE == usize::from(generation) & USE;
        if token == 0 || !is_it || self.taker.load(Relaxed) != taker.number() {
            return None;
        }
        self.token.store(0, Relaxed);
        // SAFETY: The place holds tokens only. Nobody else takes this one: that would need a taker of the same
        // number, of which there is one, and this call has borrowed it.
        unsafe { Skb::from_token(token & !USE) }
    }
}

impl Drop for SkbSlot {
    fn drop(&mut self) {
        let token = self.token.load(Relaxed);
        // SAFETY: As in `take`; nobody else refers to the place any more.
        drop(unsafe { Skb::from_token(token & !USE) });
    }
}
