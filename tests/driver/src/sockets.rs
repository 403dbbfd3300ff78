// SPDX-License-Identifier: GPL-2.0-only

//! Options of sockets for which the crates have no name.

use std::io;
use std::os::fd::AsRawFd;

/// Switches an option on that takes an integer.
pub(crate) fn switch_on(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads an integer that is as long as is said.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
