// SPDX-License-Identifier: GPL-2.0-only

//! What makes a process a daemon, for the holder of a tap (see [`crate::cmd::add`]).
//!
//! The holder is not forked but started anew, so it inherits no memory and no threads; what is left
//! to shed are the terminal, the caller's descriptors, and in the end the pipe of its report. Its
//! directory is `/` from the start.

use crate::failure::Failure;
use nix::fcntl::{fcntl, FcntlArg, FdFlag};
use nix::unistd::{dup2_stdout, setsid};
use std::fs::{self, File};
use std::os::fd::{BorrowedFd, RawFd};

/// Leaves the caller's session and terminal: their end sends no signal here.
pub fn leave_terminal() -> Result<(), Failure> {
    setsid().map_err(|errno| Failure::system("leave the terminal", errno))?;
    Ok(())
}

/// Lets go of the pipe of the report.
pub fn leave_output() -> Result<(), Failure> {
    let null = File::options()
        .write(true)
        .open("/dev/null")
        .map_err(|error| Failure::io("open /dev/null", &error))?;
    dup2_stdout(&null).map_err(|errno| Failure::system("leave the output", errno))
}

/// Marks all descriptors but the three of standard input and output as close-on-exec.
///
/// Rust's own are already; the caller's are not. A holder that kept them would keep the lock files
/// and pipes of the script that called `tap add` open for as long as the tap lives.
pub fn keep_descriptors_from_children() -> Result<(), Failure> {
    let refused = |error: std::io::Error| Failure::io("list descriptors", &error);
    for entry in fs::read_dir("/proc/self/fd").map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number > 2) else {
            continue;
        };
        // SAFETY: the loan's clause is that the descriptor stays open while it lasts: /proc/self/fd
        // lists it, this process has one thread, and that does nothing but this one call on it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(|errno| Failure::system("mark a descriptor", errno))?;
    }
    Ok(())
}
