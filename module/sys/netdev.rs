// SPDX-License-Identifier: GPL-2.0-only

//! Interfaces, their namespaces, the RTNL lock, and the news that an interface goes away.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::NotThreadSafe;

use super::ffi;
use crate::uapi::tap::IFNAME_MAX;

/// Holds the RTNL mutex: no interface comes, goes, or changes its namespace meanwhile.
pub(crate) struct Rtnl(NotThreadSafe);

impl Rtnl {
    /// Takes it; sleeps. Lock order: session control, RTNL, registry, then spinlocks.
    pub(crate) fn lock() -> Self {
        // SAFETY: Process context; released by the drop on this thread.
        unsafe { ffi::nettap_rtnl_lock() };
        Self(NotThreadSafe)
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        // SAFETY: Balances `lock`.
        unsafe { ffi::nettap_rtnl_unlock() };
    }
}

/// Waits until every packet that is in the network stack's hands on any CPU now has left its current
/// bottom-half section; sleeps.
pub(crate) fn synchronize() {
    // SAFETY: Callers are in process context without spinlocks.
    unsafe { ffi::nettap_synchronize_net() };
}

/// The same for those for whom packets wait: it interrupts all CPUs, and is over soon.
pub(crate) fn synchronize_fast() {
    // SAFETY: As in `synchronize`.
    unsafe { kernel::bindings::synchronize_rcu_expedited() };
}

/// A counted reference to a network namespace.
pub(crate) struct Namespace(NonNull<bindings::net>);

impl Namespace {
    /// The namespace of a descriptor, or the caller's for -1.
    pub(crate) fn of(fd: i32) -> Result<Self> {
        // SAFETY: Takes a number; returns a counted reference or an error pointer.
        let net = from_err_ptr(unsafe { ffi::nettap_net_get(fd) })?;
        Ok(Self(NonNull::new(net.cast()).ok_or(EINVAL)?))
    }

    /// Whether the caller has `CAP_NET_ADMIN` over it.
    pub(crate) fn may_administer(&self) -> bool {
        // SAFETY: The reference is held.
        unsafe { ffi::nettap_net_capable(self.0.as_ptr().cast()) }
    }

    /// The interface with this zero-terminated name.
    pub(crate) fn device(&self, name: &[u8; IFNAME_MAX]) -> Result<Device> {
        if !name.contains(&0) {
            return Err(EINVAL);
        }
        // SAFETY: The namespace is held and the name is terminated within its array.
        let dev = unsafe { ffi::nettap_dev_get(self.0.as_ptr().cast(), name.as_ptr().cast()) };
        // INVARIANT: the returned reference is counted.
        Ok(Device(NonNull::new(dev.cast()).ok_or(ENODEV)?))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // SAFETY: Releases the reference that `of` took.
        unsafe { ffi::nettap_net_put(self.0.as_ptr().cast()) };
    }
}

/// A counted reference to an interface. It must go when the interface is unregistered, or the kernel
/// waits for it for ever.
///
/// # Invariants
///
/// The pointer is valid while `self` lives.
pub(crate) struct Device(NonNull<bindings::net_device>);

// SAFETY: A counted reference may be used and released on any thread; the fields that are read are
// either constant while registered or read racily by design (mtu, flags).
unsafe impl Send for Device {}
// SAFETY: As for Send.
unsafe impl Sync for Device {}

impl Device {
    /// Its index in its namespace.
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_dev_ifindex(self.as_ptr()) }
    }

    /// Its name now, zero padded.
    pub(crate) fn name(&self) -> [u8; IFNAME_MAX] {
        let mut name = [0u8; IFNAME_MAX];
        // SAFETY: Valid by the type invariant; the wrapper writes at most IFNAMSIZ bytes.
        unsafe { ffi::nettap_dev_name(self.as_ptr(), name.as_mut_ptr().cast()) };
        name
    }

    /// Inode number of its namespace. The caller holds RTNL.
    pub(crate) fn namespace_inode(&self, _rtnl: &Rtnl) -> u32 {
        // SAFETY: Valid by the type invariant; under RTNL it does not change its namespace.
        let net = unsafe { ffi::nettap_dev_net(self.as_ptr()) };
        // SAFETY: The namespace of a registered interface lives.
        unsafe { ffi::nettap_net_inum(net) }
    }

    /// Whether the caller has `CAP_NET_ADMIN` over its namespace. The caller holds RTNL.
    pub(crate) fn may_administer(&self, _rtnl: &Rtnl) -> bool {
        // SAFETY: As in `namespace_inode`.
        let net = unsafe { ffi::nettap_dev_net(self.as_ptr()) };
        // SAFETY: As in `namespace_inode`.
        unsafe { ffi::nettap_net_capable(net) }
    }

    /// Whether its frames begin with an Ethernet header.
    pub(crate) fn is_ethernet(&self) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { ffi::nettap_dev_is_ethernet(self.as_ptr()) }
    }

    /// Whether both are the same interface.
    pub(crate) fn is(&self, other: DeviceId) -> bool {
        self.0.as_ptr() as usize == other.0
    }

    /// Its identity, good for comparison only.
    pub(crate) fn identity(&self) -> DeviceId {
        DeviceId(self.0.as_ptr() as usize)
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::net_device {
        self.0.as_ptr().cast()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: Releases the reference of the type invariant.
        unsafe { ffi::nettap_dev_put(self.as_ptr()) };
    }
}

/// The identity of an interface, without a reference to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceId(usize);

/// Somebody who wants to know when an interface is unregistered (or leaves its namespace, which
/// netdev tells the same way).
pub(crate) trait OnGone: Send + Sync {
    /// Called in process context; references to the interface must go in here.
    fn on_gone(&self, device: DeviceId, rtnl: &Rtnl);
}

/// While this lives, the listener is told.
pub(crate) struct Notifier<T: OnGone>(#[expect(dead_code, reason = "held, not read")] Arc<T>);

/// # Safety
///
/// The notifier chain calls it under RTNL, with the registered listener and a valid interface.
unsafe extern "C" fn gone<T: OnGone>(listener: *mut c_void, dev: *mut ffi::net_device) {
    // SAFETY: The notifier holds the listener until it is unregistered.
    let listener = unsafe { &*listener.cast::<T>() };
    // The caller of the notifier holds RTNL and will release it: ours must not.
    let rtnl = ManuallyDrop::new(Rtnl(NotThreadSafe));
    listener.on_gone(DeviceId(dev as usize), &rtnl);
}

impl<T: OnGone> Notifier<T> {
    /// Registers. There is one notifier in the module.
    pub(crate) fn register(listener: Arc<T>) -> Result<Self> {
        let context = core::ptr::from_ref::<T>(&listener).cast_mut().cast();
        // SAFETY: The function lives as long as the module, and the listener as long as the
        // registration, which the drop ends first.
        to_result(unsafe { ffi::nettap_notifier_register(Some(gone::<T>), context) })?;
        Ok(Self(listener))
    }
}

impl<T: OnGone> Drop for Notifier<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by `register`, once.
        unsafe { ffi::nettap_notifier_unregister() };
    }
}
