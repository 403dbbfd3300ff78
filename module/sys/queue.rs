// SPDX-License-Identifier: GPL-2.0-only

//! Packets in line: linked by the field that the kernel links them by, so that a line needs no memory and
//! the kernel takes it as a whole.

use core::ptr::null_mut;
use core::ptr::NonNull;

use kernel::bindings;

use super::ffi;
use super::skb::Skb;

/// Packets that leave together, each with the number of the place that it comes from.
///
/// # Invariants
///
/// `first` to `last` are valid packets, linked by `next` up to null, and ours; `first` is null when there
/// is none. The control block of each has its number.
pub(crate) struct Queue {
    first: *mut bindings::sk_buff,
    last: *mut bindings::sk_buff,
}

// SAFETY: Packets belong to whoever holds them, on any CPU.
unsafe impl Send for Queue {}

impl Queue {
    /// Nobody in line.
    pub(crate) const fn new() -> Self {
        Self {
            first: null_mut(),
            last: null_mut(),
        }
    }

    /// Adds a packet.
    #[inline]
    pub(crate) fn push(&mut self, skb: Skb, place: u32) {
        let raw = skb.into_raw();
        // SAFETY: A valid packet of ours, in no other list; its control block is ours and aligned for
        // any number.
        unsafe {
            (*raw).cb.as_mut_ptr().cast::<u32>().write(place);
            (*raw).__bindgen_anon_1.__bindgen_anon_1.next = null_mut();
        }
        if self.first.is_null() {
            self.first = raw;
        } else {
            // SAFETY: By the type invariant, `last` is valid and ours where `first` is not null.
            unsafe { (*self.last).__bindgen_anon_1.__bindgen_anon_1.next = raw };
        }
        self.last = raw;
    }

    /// Takes the first.
    #[inline]
    fn pop(&mut self) -> Option<(Skb, u32)> {
        let raw = NonNull::new(self.first)?.as_ptr();
        // SAFETY: By the type invariant; it is taken off the list.
        unsafe {
            self.first = (*raw).__bindgen_anon_1.__bindgen_anon_1.next;
            (*raw).__bindgen_anon_1.__bindgen_anon_1.next = null_mut();
            let place = (*raw).cb.as_ptr().cast::<u32>().read();
            Some((Skb::from_raw(raw), place))
        }
    }

    /// All of them out of their interfaces, in order; calls `lost` for each that was not taken. Bottom
    /// halves are off.
    pub(crate) fn leave(&mut self, mut lost: impl FnMut(u32)) {
        let mut place = 0u32;
        // SAFETY: By the type invariant; those that leave pass to the kernel, and the others stay a list. What
        // `push` wrote into the control block is what is read there.
        while unsafe { ffi::nettap_deliver_output_all(&mut self.first, &mut place) } {
            lost(place);
        }
    }

    /// All of them into the host, in order, past our hooks; calls `lost` for each whose interface is down.
    /// The network layer takes those of one kind together (net/core/dev.c, `netif_receive_skb_list()`). As
    /// with packets from a driver, whom it drops after that it counts itself. Bottom halves are off.
    pub(crate) fn enter(&mut self, mut lost: impl FnMut(u32)) {
        let first = core::mem::replace(&mut self.first, null_mut());
        if first.is_null() {
            return;
        }
        // SAFETY: By the type invariant; the list passes to the kernel, and what it gives back is one too.
        self.first = unsafe { ffi::nettap_deliver_input_all(first) };
        while let Some((_skb, place)) = self.pop() {
            lost(place);
        }
    }

    /// Frees all of them; inside a round of the server, of whose `budget` something is left, for less.
    pub(crate) fn free(&mut self, budget: usize) {
        let first = core::mem::replace(&mut self.first, null_mut());
        if !first.is_null() {
            // SAFETY: By the type invariant; the list passes to the kernel.
            unsafe { ffi::nettap_skb_free_all(first, budget as i32) };
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// The pieces of a super-packet, in order.
///
/// # Invariants
///
/// A list of valid packets, linked by `next`, that is ours.
pub(crate) struct Segments(Option<NonNull<bindings::sk_buff>>);

impl Segments {
    /// # Safety
    ///
    /// `first` heads such a list, and the caller's references to its packets pass to the value.
    pub(super) unsafe fn of(first: NonNull<bindings::sk_buff>) -> Self {
        Self(Some(first))
    }
}

impl Iterator for Segments {
    type Item = Skb;

    fn next(&mut self) -> Option<Skb> {
        let first = self.0?;
        // SAFETY: By the type invariant.
        let rest = unsafe { ffi::nettap_skb_unlink(first.as_ptr()) };
        self.0 = NonNull::new(rest);
        // SAFETY: By the type invariant; it has just been taken off the list.
        Some(unsafe { Skb::from_raw(first.as_ptr()) })
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// Packets to be put into the order of their numbers.
pub(crate) struct Sorted(*mut bindings::sk_buff);

impl Sorted {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(core::ptr::null_mut())
    }

    /// Adds a packet.
    pub(crate) fn add(&mut self, skb: Skb, number: u64) {
        let raw = skb.into_raw();
        // SAFETY: A valid packet of ours, whose control block is free while we hold it.
        unsafe { ffi::nettap_skb_number(raw, number) };
        // SAFETY: As above, and it is on no other list.
        unsafe { ffi::nettap_skb_chain(&mut self.0, raw) };
    }

    /// The packets in ascending order.
    pub(crate) fn finish(mut self) -> Segments {
        // SAFETY: A list of numbered packets made by `add`.
        unsafe { ffi::nettap_skb_sort(&mut self.0) };
        let list = core::mem::replace(&mut self.0, core::ptr::null_mut());
        Segments(NonNull::new(list))
    }
}

impl Drop for Sorted {
    fn drop(&mut self) {
        drop(Segments(NonNull::new(self.0)));
    }
}
