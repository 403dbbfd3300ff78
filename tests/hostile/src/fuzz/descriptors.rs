// SPDX-License-Identifier: GPL-2.0-only

//! Calls about descriptors: closed, copied, waited on, passed, inherited.

use super::calls::{Hand, Outcome};
use crate::sys::syscall;
use nettap_uapi::ioctl::{self, Pull, Push};
use nix::sys::socket::{
    recvmsg, sendmsg, socketpair, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags,
    SockFlag, SockType, UnixAddr,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use zerocopy::IntoBytes;

/// `close`, of whatever slot.
pub(super) fn close(hand: &mut Hand<'_>) -> Outcome {
    let fd = hand.world.any_fd(&mut hand.chance);
    syscall(libc::SYS_close, &[fd])
}

/// A second number for a file, in a slot where another file may stand.
pub(super) fn dup(hand: &mut Hand<'_>) -> Outcome {
    let from = hand.world.any_fd(&mut hand.chance);
    let to = hand.world.any_fd(&mut hand.chance);
    let flags = hand.pick(&[0, libc::O_CLOEXEC as usize]);
    syscall(libc::SYS_dup3, &[from, to, flags])
}

/// What a slot of another kind holds: a namespace, a file, a pipe's end, an epoll.
pub(super) fn other(hand: &mut Hand<'_>) -> Outcome {
    let at = libc::AT_FDCWD as usize;
    let paths = [c"/proc/self/ns/net", c"/proc/self/ns/user", c"/dev/null"];
    let path = hand.chance.pick(&paths).unwrap_or(c"/").as_ptr() as usize;
    let flags = libc::O_CLOEXEC as usize;
    let fd = if hand.chance.one_in(3) {
        syscall(libc::SYS_epoll_create1, &[flags])?
    } else {
        syscall(libc::SYS_openat, &[at, path, flags])?
    };
    let slot = hand.world.other_fd(&mut hand.chance);
    hand.world.keep(fd, slot)
}

/// Calls that any file may get.
pub(super) fn file(hand: &mut Hand<'_>) -> Outcome {
    let fd = hand.world.any_fd(&mut hand.chance);
    let (number, odd) = (hand.chance.below(14), hand.chance.border() as usize);
    let records = hand.arena.records();
    let len = odd & 0xffff;
    match number {
        0 | 1 => syscall(libc::SYS_read, &[fd, records, len]),
        2 => syscall(libc::SYS_write, &[fd, records, len]),
        3 => syscall(libc::SYS_pread64, &[fd, records, len, odd]),
        4 => syscall(libc::SYS_lseek, &[fd, odd, hand.chance.below(5)]),
        5 => syscall(libc::SYS_fcntl, &[fd, libc::F_SETFL as usize, odd & 0xfff]),
        6 => syscall(libc::SYS_fcntl, &[fd, libc::F_GETFL as usize]),
        7 => syscall(libc::SYS_fsync, &[fd]),
        8 => syscall(libc::SYS_ftruncate, &[fd, odd]),
        9 => syscall(libc::SYS_fallocate, &[fd, odd & 3, 0, len]),
        10 => syscall(
            libc::SYS_flock,
            &[fd, libc::LOCK_EX as usize | libc::LOCK_NB as usize],
        ),
        11 => syscall(libc::SYS_fstat, &[fd, records]),
        12 => {
            let other = hand.world.any_fd(&mut hand.chance);
            syscall(libc::SYS_sendfile, &[other, fd, 0, len])
        }
        _ => syscall(libc::SYS_fchmod, &[fd, 0o660]),
    }
}

/// `poll` on a few at once, some of them doubled or nothing.
pub(super) fn poll(hand: &mut Hand<'_>) -> Outcome {
    let count = 1 + hand.chance.below(6);
    let mut watched = Vec::with_capacity(count);
    for _ in 0..count {
        watched.push(libc::pollfd {
            fd: hand.world.any_fd(&mut hand.chance) as i32,
            events: hand.chance.draw() as i16,
            revents: 0,
        });
    }
    let millis = hand.pick(&[0, 0, 0, 1, 5, usize::MAX]);
    syscall(
        libc::SYS_poll,
        &[watched.as_mut_ptr() as usize, count, millis],
    )
}

/// Registers a slot with an epoll, or waits there.
pub(super) fn epoll(hand: &mut Hand<'_>) -> Outcome {
    let epoll = hand.world.other_fd(&mut hand.chance);
    let fd = hand.world.any_fd(&mut hand.chance);
    let mut event = libc::epoll_event {
        events: hand.chance.draw() & 0xe000_201f,
        u64: 0,
    };
    let address = std::ptr::from_mut(&mut event) as usize;
    let operation = 1 + hand.chance.below(4);
    if operation <= 3 {
        return syscall(libc::SYS_epoll_ctl, &[epoll, operation, fd, address]);
    }
    syscall(
        libc::SYS_epoll_wait,
        &[epoll, address, 1, hand.chance.below(2)],
    )
}

/// Through a socket to ourselves; sometimes nobody takes it out, and closing has to.
pub(super) fn pass(hand: &mut Hand<'_>) -> Outcome {
    let (here, there) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?;
    let mut fds = Vec::new();
    for _ in 0..=hand.chance.below(3) {
        fds.push(hand.world.any_fd(&mut hand.chance) as i32);
    }
    if hand.chance.one_in(4) {
        // A socket that waits in itself: only the kernel's collector of such circles ends it.
        fds.push(there.as_raw_fd());
    }
    let message = [ControlMessage::ScmRights(&fds)];
    let bytes = [IoSlice::new(b"x")];
    sendmsg::<UnixAddr>(here.as_raw_fd(), &bytes, &message, MsgFlags::empty(), None)?;
    if hand.chance.one_in(3) {
        return Ok(0);
    }
    let mut byte = [0u8];
    let mut room = nix::cmsg_space!([i32; 8]);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let came = recvmsg::<UnixAddr>(there.as_raw_fd(), &mut bytes, Some(&mut room), flags)?;
    for message in came.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                let slot = hand.world.any_fd(&mut hand.chance);
                hand.world.keep(fd.unsigned_abs() as usize, slot)?;
            }
        }
    }
    Ok(0)
}

/// A child has the descriptors and none of the memory. It makes a few calls, and goes.
pub(super) fn child(hand: &mut Hand<'_>) -> Outcome {
    let chance = &mut hand.chance;
    let pull = Pull {
        n: chance.draw() % 4,
        reserved: 0,
        timeout_us: 1000,
    };
    let push = Push {
        tap: hand.world.tap_fd(chance) as i32,
        n: chance.draw() % 4,
        timeout_us: 1000,
    };
    let session = hand.world.session_fd(chance);
    let (offset, len) = hand.world.window(chance);
    let closed = hand.world.any_fd(chance);
    let ending = chance.below(3);
    let calls = [
        (
            ioctl::PULL,
            pull.as_bytes().as_ptr() as usize,
            pull.as_bytes().len(),
        ),
        (
            ioctl::PUSH,
            push.as_bytes().as_ptr() as usize,
            push.as_bytes().len(),
        ),
    ];
    let id = syscall(libc::SYS_fork, &[])?;
    if id == 0 {
        // Nothing here allocates: other threads of the parent may have held the allocator's lock.
        let shared = (libc::PROT_READ as usize, libc::MAP_SHARED as usize);
        let place = syscall(
            libc::SYS_mmap,
            &[
                0,
                len as usize,
                shared.0,
                shared.1,
                session,
                offset as usize,
            ],
        );
        for (number, address, size) in calls {
            let command = ioctl::request(number, size) as usize;
            let _ = syscall(libc::SYS_ioctl, &[session, command, address]);
        }
        let _ = syscall(libc::SYS_close, &[closed]);
        if let (Ok(place), 0) = (place, ending) {
            let half = (len as usize / 2).next_multiple_of(4096);
            let rest = (len as usize).saturating_sub(half);
            let _ = syscall(libc::SYS_munmap, &[place + half, rest]);
            let moves = libc::MREMAP_MAYMOVE as usize;
            let _ = syscall(libc::SYS_mremap, &[place, half, len as usize, moves]);
            let _ = syscall(libc::SYS_mremap, &[place, half, 4096, moves]);
        }
        if ending == 1 {
            let _ = syscall(
                libc::SYS_kill,
                &[std::process::id() as usize, libc::SIGKILL as usize],
            );
        }
        let _ = syscall(libc::SYS_exit_group, &[0]);
    }
    syscall(libc::SYS_wait4, &[id, 0, 0, 0])
}
