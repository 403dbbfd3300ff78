// SPDX-License-Identifier: GPL-2.0-only

//! Who calls and in which context: the calling process and its user, its locked-memory account, bottom
//! halves.

use core::ptr::NonNull;

use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::NotThreadSafe;

use super::ffi;

/// Process id of the caller (its thread group), as the initial namespace numbers it.
pub(crate) fn current_pid() -> u32 {
    // SAFETY: Takes no argument; `current` always exists in process context, where ioctls run.
    unsafe { ffi::nettap_current_tgid() }
}

/// A process, or a thread of the kernel's, which may have ended.
pub(crate) struct Process(NonNull<ffi::pid>);

// SAFETY: A counted reference to numbers that never change; any thread may give it back.
unsafe impl Send for Process {}
// SAFETY: As above; reading them needs no lock.
unsafe impl Sync for Process {}

impl Process {
    /// The caller's.
    pub(crate) fn current() -> Self {
        // SAFETY: Takes no argument; `current` always exists in process context, and has a pid.
        Self(unsafe { NonNull::new_unchecked(ffi::nettap_current_process()) })
    }

    /// # Safety
    ///
    /// `raw` is a counted reference, which becomes ours.
    pub(super) unsafe fn from_raw(raw: NonNull<ffi::pid>) -> Self {
        Self(raw)
    }

    /// Its number in the caller's pid namespace; 0 if it is in none that the caller sees.
    pub(crate) fn seen(&self) -> u32 {
        // SAFETY: We hold a reference.
        unsafe { ffi::nettap_process_seen(self.0.as_ptr()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: The reference that we hold is given back once, here.
        unsafe { ffi::nettap_process_put(self.0.as_ptr()) }
    }
}

/// Name of the caller, zero padded.
pub(crate) fn current_comm() -> [u8; 16] {
    let mut comm = [0u8; 16];
    // SAFETY: TASK_COMM_LEN is 16; the wrapper writes at most that many bytes.
    unsafe { ffi::nettap_current_comm(comm.as_mut_ptr().cast()) };
    comm
}

/// Whether the caller is a process that ends, and closes what it had.
pub(crate) fn current_exits() -> bool {
    // SAFETY: Takes no argument; `current` always exists in process context.
    unsafe { ffi::nettap_current_exits() }
}

/// Whether the caller has `CAP_NET_ADMIN` over the whole machine.
pub(crate) fn may_administer() -> bool {
    // SAFETY: Takes no argument; asks about `current`.
    unsafe { ffi::nettap_capable() }
}

/// Now, in ticks of the kernel's clock: cheap enough for every packet.
pub(crate) fn now() -> u64 {
    // SAFETY: A variable of the kernel's that lives for ever; a word that others write is read once.
    unsafe { core::ptr::addr_of!(kernel::bindings::jiffies).read_volatile() as u64 }
}

/// Ticks that are never less than so many microseconds, however they fall into the first and last.
pub(crate) fn ticks(us: u64) -> u64 {
    let hz = u64::from(kernel::bindings::CONFIG_HZ);
    let whole = us.saturating_mul(hz).div_ceil(1_000_000);
    whole.saturating_add(1)
}

/// A user and a users' group, as the initial namespace numbers them.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// Root and its group.
    pub(crate) const fn root() -> Self {
        Self { user: 0, group: 0 }
    }

    /// The caller's effective ones.
    pub(crate) fn current() -> Self {
        let mut owner = Self::root();
        // SAFETY: Both are valid for writing; asks about `current`.
        unsafe { ffi::nettap_current_ids(&mut owner.user, &mut owner.group) };
        owner
    }

    /// Whether the caller's effective user is this one.
    pub(crate) fn is_user(&self) -> bool {
        Self::current().user == self.user
    }

    /// Whether the caller is in this users' group, by its effective or a supplementary one.
    pub(crate) fn has_group(&self) -> bool {
        // SAFETY: Takes a number; asks about `current`.
        unsafe { ffi::nettap_current_in_group(self.group) }
    }

    /// Both numbers.
    pub(crate) fn ids(&self) -> (u32, u32) {
        (self.user, self.group)
    }
}

/// Lets others run during long loops in process context.
pub(crate) fn breathe() {
    // SAFETY: Callers are in process context without spinlocks, as the name's users document.
    unsafe { ffi::nettap_cond_resched() }
}

/// Bottom halves are off while this lives: what softirq shares with process context needs it around
/// every plain spinlock.
pub(crate) struct BottomHalvesOff(NotThreadSafe);

impl BottomHalvesOff {
    /// Turns them off on this CPU; nests.
    pub(crate) fn new() -> Self {
        // SAFETY: Balanced by the drop; the guard cannot leave this thread.
        unsafe { ffi::nettap_bh_disable() };
        Self(NotThreadSafe)
    }

    /// Unless they are off already.
    #[inline(always)]
    pub(crate) fn if_needed() -> Option<Self> {
        // SAFETY: Takes no argument, and is asked in any context.
        let are_off = unsafe { ffi::nettap_bh_is_off() };
        (!are_off).then(Self::new)
    }
}

impl Drop for BottomHalvesOff {
    fn drop(&mut self) {
        // SAFETY: Balances `new`.
        unsafe { ffi::nettap_bh_enable() };
    }
}

/// Memory charged to the locked-memory limit of the user who mapped it.
pub(crate) struct Pinned(ffi::nettap_pin);

// SAFETY: A counted reference to a user and a number; releasing them is allowed on any thread.
unsafe impl Send for Pinned {}
// SAFETY: Nothing can be done with a shared reference to it.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Charges `bytes` to the caller; `ENOBUFS` beyond `ulimit -l`, unless it has `CAP_IPC_LOCK`.
    pub(crate) fn charge(bytes: u64) -> Result<Self> {
        let mut pin = ffi::nettap_pin::default();
        // SAFETY: `pin` is valid for writing; the wrapper fills it.
        to_result(unsafe { ffi::nettap_pin_charge(&mut pin, bytes) })?;
        Ok(Self(pin))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: `self.0` is what `charge` filled and is released once, here.
        unsafe { ffi::nettap_pin_release(&mut self.0) };
    }
}
