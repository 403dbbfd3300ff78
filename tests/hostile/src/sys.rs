// SPDX-License-Identifier: GPL-2.0-only

//! System calls with arguments that may be nonsense.

use nix::errno::Errno;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Makes a system call as it is told, whatever it is told.
///
/// What the kernel writes through an address goes to a buffer of the caller that is as long as it says,
/// to addresses that were set aside for that (`fuzz::arena`, `fuzz::world`), or to none; mappings
/// change in the latter only. So no Rust value is changed behind its owner's back.
pub(crate) fn syscall(number: libc::c_long, arguments: &[usize]) -> Result<usize, Errno> {
    let nth = |n: usize| arguments.get(n).copied().unwrap_or(0);
    // SAFETY: the kernel checks what it is given, and what it may write or unmap is as said above.
    let result = unsafe { libc::syscall(number, nth(0), nth(1), nth(2), nth(3), nth(4), nth(5)) };
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(Errno::last()),
    }
}

/// Memory that all processes forked from here on share: zeroed, and there until the last one ends.
pub(crate) fn shared<T: Shareable>() -> Result<&'static T, Errno> {
    let address = syscall(
        libc::SYS_mmap,
        &[
            0,
            std::mem::size_of::<T>(),
            (libc::PROT_READ | libc::PROT_WRITE) as usize,
            (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as usize,
            usize::MAX,
            0,
        ],
    )?;
    let place = std::ptr::with_exposed_provenance::<T>(address);
    // SAFETY: page aligned, as long as `T`, never unmapped; zero is a value of it (`Shareable`).
    Ok(unsafe { &*place })
}

/// What may lie in memory that several processes write at once.
///
/// # Safety
///
/// All bytes zero are a value of the type, it is made of atomics only, and a page aligns it.
pub(crate) unsafe trait Shareable: Sync + 'static {}

/// Reads a counter.
pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) -> u64 {
    counter.fetch_add(n, std::sync::atomic::Ordering::Relaxed)
}

/// Reads a word.
pub(crate) fn look(word: &AtomicU32) -> u32 {
    word.load(std::sync::atomic::Ordering::Relaxed)
}

/// Writes a word.
pub(crate) fn set(word: &AtomicU32, value: u32) {
    word.store(value, std::sync::atomic::Ordering::Relaxed);
}

extern "C" fn nothing(_: libc::c_int) {}

/// `SIGUSR1` from here on interrupts what sleeps, and does nothing else.
pub(crate) fn catch_pokes() -> nix::Result<()> {
    use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
    let quiet = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing at all.
    unsafe { sigaction(Signal::SIGUSR1, &quiet) }.map(drop)
}

/// Id of this thread, for [`poke`].
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing, gives a number.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Interrupts a thread of this process, if it is still there.
pub(crate) fn poke(thread: u32) {
    let _ = syscall(
        libc::SYS_tgkill,
        &[
            std::process::id() as usize,
            thread as usize,
            libc::SIGUSR1 as usize,
        ],
    );
}
