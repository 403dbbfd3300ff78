// SPDX-License-Identifier: GPL-2.0-only

//! The fence: the only folder of the module that may write `unsafe`.
//!
//! Each file wraps one thing of the kernel that the `kernel` crate does not (yet) offer, and gives it
//! an interface that cannot be misused from safe code. What is borrowed from C, and why:
//!
//! | file      | from C                                        | because the kernel crate has          |
//! | --------- | --------------------------------------------- | ------------------------------------- |
//! | `chardev` | `file_operations` with owner, poll and read, anonymous inodes | `MiscDevice` without owner (7.2) and poll |
//! | `filter`  | the BPF machine, classic and eBPF             | nothing                               |
//! | `hook`    | netfilter's netdev ingress and egress         | nothing                               |
//! | `netdev`  | interfaces, namespaces, RTNL, notifier        | nothing                               |
//! | `pages`   | page arrays mapped into kernel and program    | one page at a time                    |
//! | `queue`   | packets in line                               | nothing                               |
//! | `rcu`     | (the grace period)                            | `Guard`, but no pointer to guard      |
//! | `sender`  | fragments by reference, `ubuf_info`          | nothing                               |
//! | `server`  | NAPI, soft timer                              | no NAPI                               |
//! | `skb`     | packets                                       | nothing                               |
//! | `sleepers` | wait queues with a deadline                  | `CondVar`, which sleeps on a lock     |
//! | `task`    | who calls, locked memory, bottom halves       | no `_bh` guards, no memlock account, no users' groups |
//! | `time`    | clocks, work for later, the log's rate        | no work that can be taken back        |
//! | `word`    | the ring's words over the kernel's atomics    | (a bridge to uapi)                    |
//!
//! The C side is `shim_*.c`; bindgen reads `shim.h` and nothing else. The names that are not generated
//! from it resolve to the kernel crate's own bindings, so there is one Rust type per C type.

#![allow(unsafe_code)]

pub(crate) mod atomic;
pub(crate) mod chardev;
pub(crate) mod filter;
pub(crate) mod hook;
pub(crate) mod netdev;
pub(crate) mod pages;
pub(crate) mod queue;
pub(crate) mod rcu;
pub(crate) mod sender;
pub(crate) mod server;
pub(crate) mod skb;
pub(crate) mod sleepers;
pub(crate) mod task;
pub(crate) mod time;
pub(crate) mod word;

/// [`kernel::error::from_err_ptr`] for what each packet brings: that one calls C to look at the pointer.
#[inline(always)]
fn from_err_ptr<T>(raw: *mut T) -> kernel::error::Result<*mut T> {
    // IS_ERR_VALUE(): include/linux/err.h.
    if raw.addr() < (ffi::MAX_ERRNO as usize).wrapping_neg() {
        return Ok(raw);
    }
    kernel::error::from_err_ptr(raw)
}

/// What bindgen makes of `shim.h`.
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    improper_ctypes
)]
mod ffi {
    pub(super) use kernel::bindings::*;
    use kernel::ffi;
    include!(env!("NETTAP_FFI"));
}
