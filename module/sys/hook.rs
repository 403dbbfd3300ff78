// SPDX-License-Identifier: GPL-2.0-only

//! Netfilter's netdev hooks: where packets leave the kernel's road and where they do not.
//!
//! One hook per interface and direction, at the lowest priority: every nftables netdev chain has run
//! before, and what it dropped is never seen here (kernel.md of the brief, decision D1; the kernel's
//! order is in `__netif_receive_skb_core()` and `__dev_queue_xmit()` of net/core/dev.c).
//!
//! Context: ingress hooks run in softirq or with bottom halves off. Egress hooks usually too, but a
//! packet socket with `PACKET_QDISC_BYPASS` calls them in process context with bottom halves on
//! (`packet_xmit()`, net/packet/af_packet.c), so the trampoline of that way turns them off itself.

use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::ffi::c_uint;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::ffi;
use super::netdev::synchronize;
use super::netdev::Device;
use super::rcu::Reading;
use super::skb::Skb;
use super::task::BottomHalvesOff;

const NF_DROP: c_uint = 0;
const NF_ACCEPT: c_uint = 1;
const NF_STOLEN: c_uint = 2;

/// Which way a packet was going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From the network, towards the host.
    Received,
    /// From the host, towards the network.
    Sent,
}

/// What becomes of a packet that a hook was shown.
pub(crate) enum Verdict {
    /// It goes on as if there were no hook.
    Pass(Skb),
    /// It is dropped; local senders see an error.
    Drop(Skb),
    /// Somebody else has it now.
    Stolen,
}

/// Somebody who is shown the packets of an interface.
pub(crate) trait OnPacket: Send + Sync {
    /// Decides over one packet. Atomic context, bottom halves off, RCU read side.
    fn on_packet(&self, skb: Skb, way: Way, reading: Reading<'_>) -> Verdict;
}

/// # Safety
///
/// Netfilter calls it with a valid packet and the owner that [`Hook::attach`] registered.
unsafe extern "C" fn trampoline<T: OnPacket, const RECEIVED: bool>(
    owner: *mut c_void,
    skb: *mut bindings::sk_buff,
    _state: *const ffi::nf_hook_state,
) -> c_uint {
    let _bh = if RECEIVED {
        None
    } else {
        BottomHalvesOff::if_needed()
    };
    // SAFETY: `owner` is the pointer of the Arc that the Hook holds until after a grace period
    // from its unregistration, and hooks run inside RCU read sections.
    let owner = unsafe { &*owner.cast::<T>() };
    let way = if RECEIVED { Way::Received } else { Way::Sent };
    // SAFETY: Netfilter gives a valid packet; it is its own again unless the verdict is STOLEN.
    let lent = unsafe { Skb::from_raw(skb) };
    // SAFETY: As above: netfilter's section lasts until this returns.
    let reading = unsafe { Reading::inherited() };
    match owner.on_packet(lent, way, reading) {
        Verdict::Pass(skb) => {
            skb.into_raw();
            NF_ACCEPT
        }
        Verdict::Drop(skb) => {
            skb.into_raw();
            NF_DROP
        }
        Verdict::Stolen => NF_STOLEN,
    }
}

/// A registered hook; it ends with [`Hook::end`] (or the drop), which sleeps.
pub(crate) struct Hook<T: OnPacket> {
    raw: Option<NonNull<ffi::nettap_hook>>,
    _owner: Arc<T>,
}

// SAFETY: The registration is process independent; it is ended by whoever owns the value.
unsafe impl<T: OnPacket> Send for Hook<T> {}

impl<T: OnPacket> Hook<T> {
    /// Shows `owner` the packets of `device` that go `way`. The caller holds RTNL and has checked
    /// that the interface is registered.
    pub(crate) fn attach(device: &Device, way: Way, owner: Arc<T>) -> Result<Self> {
        let received = way == Way::Received;
        let call: ffi::nettap_hook_fn = match way {
            Way::Received => Some(trampoline::<T, true>),
            Way::Sent => Some(trampoline::<T, false>),
        };
        let context = core::ptr::from_ref::<T>(&owner).cast_mut().cast::<c_void>();
        // SAFETY: The interface is held. `context` stays valid: `owner` lives in the value and is
        // dropped only after the hook was unregistered and a grace period has passed.
        let raw = unsafe { ffi::nettap_hook_attach(device.as_ptr(), received, call, context) };
        let raw = from_err_ptr(raw)?;
        Ok(Self {
            raw: NonNull::new(raw),
            _owner: owner,
        })
    }
}

/// Unregisters hooks and waits once for all of them.
pub(crate) fn end<T: OnPacket>(hooks: impl Iterator<Item = Hook<T>>) {
    let mut kept: [Option<Hook<T>>; 2] = [None, None];
    for (hook, place) in hooks.zip(kept.iter_mut()) {
        hook.unregister();
        *place = Some(hook);
    }
    synchronize();
    for mut hook in kept.into_iter().flatten() {
        hook.free();
    }
}

impl<T: OnPacket> Hook<T> {
    fn unregister(&self) {
        if let Some(raw) = self.raw {
            // SAFETY: Registered by `attach` and not yet freed.
            unsafe { ffi::nettap_hook_unregister(raw.as_ptr()) };
        }
    }

    /// The caller has unregistered the hook and waited for a grace period.
    fn free(&mut self) {
        if let Some(raw) = self.raw.take() {
            // SAFETY: Unregistered, and no CPU is inside it any more.
            unsafe { ffi::nettap_hook_free(raw.as_ptr()) };
        }
    }
}

impl<T: OnPacket> Drop for Hook<T> {
    fn drop(&mut self) {
        if self.raw.is_some() {
            self.unregister();
            synchronize();
            self.free();
        }
    }
}
