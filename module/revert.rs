// SPDX-License-Identifier: GPL-2.0-only

//! The way back of one packet: from what the kernel took back to what can be delivered.
//!
//! A packet that reverts as it was is not looked at. A changed one is brought into line with its
//! mbufs: each header is copied out once, the copy is checked, and the bytes are copied once. A new
//! one is made. Softirq, under the session's lock; nothing sleeps.

use kernel::prelude::*;

use crate::region::Chain;
use crate::region::Filled;
use crate::region::Freed;
use crate::region::Region;
use crate::region::Single;
use crate::stats::Flaw;
use crate::sys::hook::Way;
use crate::sys::netdev::Device;
use crate::sys::pages::SharedPages;
use crate::sys::skb::Offload;
use crate::sys::skb::Skb;
use crate::sys::skb::Taker;
use crate::sys::skb::FRAGMENTS_MAX;
use crate::uapi::mbuf::Header;
use crate::uapi::mbuf::Shape;
use crate::uapi::mbuf::Window;
use crate::uapi::mbuf::NO_MBUF;
use crate::uapi::tap::Mode;
use crate::uapi::tap::CHAIN_MAX;

/// Longest frame that a program can make.
const FRAME_MAX: u32 = 65535 + 14;
/// Shortest frame: an Ethernet header.
const FRAME_MIN: u32 = 14;

/// Where a packet goes when it leaves our hands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlet {
    /// The host's network layer, as received.
    Input,
    /// The interface.
    Output,
    /// Nowhere.
    Drop,
}

/// The outlet of the revert ring of a tap.
pub(crate) fn outlet_of(mode: Mode) -> Outlet {
    match mode {
        Mode::Input => Outlet::Input,
        Mode::Output | Mode::Bypass => Outlet::Output,
    }
}

/// Brings a kept packet into line with its mbufs. It is at its stand before and after.
pub(crate) fn apply_changes(
    region: &Region,
    chain: &Chain<'_>,
    skb: &mut Skb,
    way: Way,
    home: &Device,
) -> Result<(), Flaw> {
    // Nearly always there is one mbuf, and a room for many takes longer to sweep than it to change.
    if chain.count() == 1 {
        apply_one(region, chain.filled(chain.head()), skb, way, home)
    } else {
        apply_many(region, chain, skb, way, home)
    }
}

#[inline(never)]
fn apply_many(
    region: &Region,
    chain: &Chain<'_>,
    skb: &mut Skb,
    way: Way,
    home: &Device,
) -> Result<(), Flaw> {
    let mut windows = [None::<(u32, Window)>; CHAIN_MAX as usize];
    let mut first = None;
    let mut shape = Shape::new(chain.count(), region.mbuf_size());
    for (index, place) in chain.indices().zip(windows.iter_mut()) {
        let header = region.read_header(index).ok_or(Flaw::Shape)?;
        let window = shape.add(&header, chain.filled(index).len);
        first.get_or_insert(header);
        *place = Some((index, window.ok_or(Flaw::Shape)?));
    }
    let first = first.ok_or(Flaw::Shape)?;
    apply(region, &first, &shape, &windows, skb, way, home)
}

/// The same for a packet that was put into one mbuf. Nearly always it is an ordinary one that lies in one piece
/// and is as long as before.
#[inline(always)]
pub(crate) fn apply_one(
    region: &Region,
    mbuf: Filled,
    skb: &mut Skb,
    way: Way,
    home: &Device,
) -> Result<(), Flaw> {
    let header = region.read_header(mbuf.index).ok_or(Flaw::Shape)?;
    let mut shape = Shape::new(1, region.mbuf_size());
    let window = shape.add(&header, mbuf.len).ok_or(Flaw::Shape)?;
    if shape.head() == 0 && shape.tail() == 0 && shape.len() >= FRAME_MIN {
        let offload = Offload::of(&header).ok_or(Flaw::Offload)?;
        let from = region
            .offset(mbuf.index)
            .wrapping_add(window.offset() as usize);
        let change = skb.change(way, &offload, region.pages(), from, window.len(), home);
        if change != Err(EAGAIN) {
            return change.map_err(flaw_of_offload);
        }
    }
    let windows = [Some((mbuf.index, window))];
    apply(region, &header, &shape, &windows, skb, way, home)
}

/// The same for any packet: the copied header of its first mbuf, the shape of its chain, and where its bytes are.
#[inline(never)]
fn apply(
    region: &Region,
    first: &Header,
    shape: &Shape,
    windows: &[Option<(u32, Window)>],
    skb: &mut Skb,
    way: Way,
    home: &Device,
) -> Result<(), Flaw> {
    let (extent, gso) = (skb.extent(way), skb.is_gso());
    let (head, tail) = (shape.head(), shape.tail());
    let offload = Offload::of(first).ok_or(Flaw::Offload)?;
    let snapped = shape.copied() < extent.wire_len;
    if shape.len() < FRAME_MIN {
        return Err(Flaw::Shape);
    }
    if (gso && (head != 0 || tail != 0)) || (snapped && tail != 0) {
        return Err(Flaw::Change);
    }

    skb.at_mac(way);
    if head != 0 || tail != 0 {
        skb.resize(head, tail).map_err(flaw_of)?;
        if way == Way::Sent && !skb.fits(home) {
            return Err(Flaw::Change);
        }
    }
    let mut done = 0u32;
    for (index, window) in windows.iter().flatten() {
        let from = region.offset(*index).wrapping_add(window.offset() as usize);
        skb.write_back(done, region.pages(), from, window.len())
            .map_err(flaw_of)?;
        done = done.wrapping_add(window.len());
    }
    skb.settle(&offload, head != 0).map_err(flaw_of_offload)?;
    if way == Way::Received {
        skb.at_network(home);
    }
    Ok(())
}

/// Readies a kept packet for a tap that is not its own.
pub(crate) fn cross(skb: &mut Skb, way: Way, outlet: Outlet, device: &Device) -> Result<(), Flaw> {
    let may = match outlet {
        Outlet::Output => skb.cross_to_output(device, way),
        Outlet::Input => skb.cross_to_input(device, way),
        Outlet::Drop => true,
    };
    may.then_some(()).ok_or(Flaw::Change)
}

/// Makes a packet of the mbufs that a program allocated and linked, whose session's taker this is. All that belong to it are given
/// back, whether it succeeds or not; where they have become a part of it, when it has left.
#[inline(always)]
pub(crate) fn make_new<'a>(
    region: &'a Region,
    head: Single<'a>,
    whose: (u32, &mut Taker),
    outlet: Outlet,
    device: &Device,
    freed: &mut Freed<'a>,
) -> Result<Skb, Flaw> {
    // Asked once: for all that the compiler knows, reading a header changes it.
    let (at, size) = (head.offset(), region.mbuf_size());
    let Some(first) = region.pages().read_header(at) else {
        freed.add_one(head);
        return Err(Flaw::Shape);
    };
    let refers = outlet == Outlet::Output && u32::from(first.len) >= BY_REFERENCE_MIN;
    if first.next != NO_MBUF {
        let (head, way) = (head.into(), (outlet, device));
        return make_of::<{ CHAIN_MAX as usize }>(region, head, &first, whose, way, freed);
    }
    if refers {
        return make_of::<1>(region, head.into(), &first, whose, (outlet, device), freed);
    }
    // Nearly always it is one mbuf, and short.
    let skb = make_short(region, (at, size), &first, outlet, device);
    freed.add_one(head);
    skb
}

/// The same, of one mbuf at this offset of the region and of this size, by copy.
#[inline(always)]
fn make_short(
    region: &Region,
    (at, size): (usize, u32),
    first: &Header,
    outlet: Outlet,
    device: &Device,
) -> Result<Skb, Flaw> {
    let window = Window::of(first.offset, first.len, size).ok_or(Flaw::Shape)?;
    if !(FRAME_MIN..=FRAME_MAX).contains(&window.len()) {
        return Err(Flaw::Shape);
    }
    let offload = Offload::of(first).ok_or(Flaw::Offload)?;
    let from = at.wrapping_add(window.offset() as usize);
    let leaves = outlet == Outlet::Output;
    let made = Skb::make(device, &offload, region.pages(), from, window.len(), leaves);
    let mut skb = made.map_err(flaw_of_offload)?;
    if !leaves {
        skb.at_network(device);
    }
    Ok(skb)
}

#[cold]
fn flaw_of_offload(error: Error) -> Flaw {
    if error == EINVAL {
        Flaw::Offload
    } else {
        flaw_of(error)
    }
}

/// The same, of at most `N` mbufs, the first of which has this header.
#[inline(never)]
fn make_of<'a, const N: usize>(
    region: &'a Region,
    head: Chain<'a>,
    first: &Header,
    (session, taker): (u32, &mut Taker),
    (outlet, device): (Outlet, &Device),
    freed: &mut Freed<'a>,
) -> Result<Skb, Flaw> {
    let mut windows = [None::<(u32, Option<Window>)>; N];
    let (mut total, mut parts) = (0u32, 0usize);
    let mut flaw = None;
    let mut current = Some((head.head(), first.offset, first.len, first.next));
    let mut mbufs = head;
    for place in windows.iter_mut() {
        let Some((index, offset, len, next)) = current.take() else {
            break;
        };
        let window = Window::of(offset, len, region.mbuf_size());
        if let Some(window) = window {
            total = total.saturating_add(window.len());
            parts = parts.wrapping_add(parts_of(region.offset(index), window));
        } else {
            flaw = Some(Flaw::Shape);
        }
        *place = Some((index, window));
        // The chain is followed to its end all the same, so that all of it is given back.
        if next != NO_MBUF {
            // The claim takes it out of the program's hands, so a loop ends here too.
            let Some(more) = region.reclaim(next, session, taker) else {
                flaw = Some(Flaw::Shape);
                break;
            };
            mbufs.extend(index, more);
            let header = region.read_header(next).ok_or(Flaw::Shape)?;
            current = Some((next, header.offset, header.len, header.next));
        }
    }
    if current.is_some() {
        flaw = Some(Flaw::Shape);
    }
    if let Some(flaw) = flaw {
        return Err(flaw);
    }
    let plan = Plan::of(outlet, total, parts);
    let mut mbufs = Some(mbufs);
    let mut new = New::begin(region, first, &plan, device, &mut mbufs, freed)?;
    for (index, window) in windows.iter().flatten() {
        let window = window.ok_or(Flaw::Shape)?;
        new.fill(region, region.offset(*index), window)?;
    }
    new.finish(outlet, device)
}

/// Frames from this length on leave by reference: about where that costs what a copy does (docs/performance.md).
const BY_REFERENCE_MIN: u32 = 2048;
/// So much of them is copied all the same: what the kernel looks at must not change under it.
const HEAD: u32 = 128;

/// How the bytes of a new frame get into its packet.
struct Plan {
    total: u32,
    /// So many are copied, the rest is referred to.
    copied: u32,
}

impl Plan {
    /// For a frame of so many bytes in so many parts of pages. What goes to the host is copied: a socket may
    /// keep it for as long as it likes.
    fn of(outlet: Outlet, total: u32, parts: usize) -> Self {
        let refers =
            outlet == Outlet::Output && total >= BY_REFERENCE_MIN && parts <= FRAGMENTS_MAX;
        let copied = if refers { HEAD } else { total };
        Self { total, copied }
    }
}

/// In how many parts of pages the bytes of an mbuf at this offset lie.
fn parts_of(at: usize, window: Window) -> usize {
    SharedPages::parts_of(at.wrapping_add(window.offset() as usize), window.len())
}

/// A new packet that is being written.
struct New<'a> {
    skb: Skb,
    offload: Offload<'a>,
    copied: u32,
    done: u32,
}

impl<'f> New<'f> {
    /// By this plan, or copied, if too many are under way; nothing of it is written yet. Its mbufs are taken
    /// if it is made of them.
    fn begin<'a>(
        region: &'a Region,
        first: &'f Header,
        plan: &Plan,
        device: &Device,
        mbufs: &mut Option<Chain<'a>>,
        freed: &mut Freed<'a>,
    ) -> Result<Self, Flaw> {
        if plan.copied < plan.total {
            let mut new = Self::of(first, plan.total, plan.copied, device)?;
            if region.send(&mut new.skb, mbufs, freed) {
                return Ok(new);
            }
        }
        Self::of(first, plan.total, plan.total, device)
    }

    /// Of so many bytes, of which so many are copied.
    #[inline(always)]
    fn of(first: &'f Header, total: u32, copied: u32, device: &Device) -> Result<Self, Flaw> {
        if !(FRAME_MIN..=FRAME_MAX).contains(&total) {
            return Err(Flaw::Shape);
        }
        let offload = Offload::of(first).ok_or(Flaw::Offload)?;
        let skb = Skb::new(device, copied).ok_or(Flaw::Memory)?;
        Ok(Self {
            skb,
            offload,
            copied,
            done: 0,
        })
    }

    /// The next bytes, copied from this offset of the region.
    #[inline(always)]
    fn copy(&mut self, region: &Region, from: usize, len: u32) -> Result<(), Flaw> {
        let copy = self.skb.fill(self.done, region.pages(), from, len);
        copy.map_err(|_| Flaw::Memory)?;
        self.done = self.done.wrapping_add(len);
        Ok(())
    }

    /// The next bytes, from an mbuf at this offset, by copy and by reference.
    fn fill(&mut self, region: &Region, at: usize, window: Window) -> Result<(), Flaw> {
        let from = at.wrapping_add(window.offset() as usize);
        let copied = self.copied.saturating_sub(self.done).min(window.len());
        if copied > 0 {
            self.copy(region, from, copied)?;
        }
        let (from, rest) = (from.wrapping_add(copied as usize), window.len());
        let attach = self
            .skb
            .attach(region.pages(), from, rest.wrapping_sub(copied));
        attach.map_err(|_| Flaw::Memory)
    }

    /// It is written; is it one that the device can carry?
    fn finish(mut self, outlet: Outlet, device: &Device) -> Result<Skb, Flaw> {
        let finished = self.skb.finish_new(&self.offload);
        finished.map_err(|_| Flaw::Offload)?;
        if outlet == Outlet::Output && !self.skb.fits(device) {
            return Err(Flaw::Change);
        }
        if outlet == Outlet::Input {
            self.skb.at_network(device);
        }
        Ok(self.skb)
    }
}

fn flaw_of(error: Error) -> Flaw {
    if error == ENOMEM {
        Flaw::Memory
    } else {
        Flaw::Change
    }
}
