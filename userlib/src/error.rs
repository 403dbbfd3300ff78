// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! What can go wrong, as one closed enum: which request failed, with which errno, and what to do
//! about it.
//!
//! Programs match on the variants; people read the `Display` text, whose second half is advice.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. `Display` says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The kernel refused a request.
    Request {
        /// The request's name in the patent and in the C API: `mbuf_map`, `interface_tap`, …
        request: &'static str,
        /// What it was asked about, such as an interface; empty for nothing in particular.
        subject: String,
        /// Linux error number.
        errno: i32,
    },
    /// The time that the caller gave passed first.
    TimedOut,
    /// A signal came first.
    Interrupted,
    /// The tap has ended: somebody removed it, or its interface is gone.
    Ended,
    /// The revert ring has no room now; [`Tap::flush`](crate::Tap::flush) waits until it has.
    Full,
    /// The alloc ring is empty now; [`Session::pull`](crate::Session::pull) fills it.
    Empty,
    /// The mbuf belongs to another session than the tap.
    OtherSession,
    /// The bytes do not fit in front of, behind, or into the mbuf.
    NoRoom {
        /// Bytes wanted.
        wanted: usize,
        /// Bytes that there are.
        room: usize,
    },
    /// The packet cannot change its length: it is a super-packet, its tail was not captured, or it
    /// was received and only a new packet's bytes can be set as a whole.
    Fixed,
    /// The session was opened by another process, and this one inherited it by `fork`.
    Forked,
    /// An argument that cannot be.
    Invalid(&'static str),
    /// The module told something that cannot be; library and module do not belong together.
    Kernel(&'static str),
}

impl Error {
    pub(crate) fn request(request: &'static str, subject: &str, errno: Errno) -> Self {
        match errno {
            Errno::ETIMEDOUT => Self::TimedOut,
            Errno::EINTR => Self::Interrupted,
            _ => Self::Request {
                request,
                subject: subject.to_owned(),
                errno: errno as i32,
            },
        }
    }

    /// The same failure, about this interface.
    pub(crate) fn about(mut self, what: &str) -> Self {
        if let Self::Request { subject, .. } = &mut self {
            what.clone_into(subject);
        }
        self
    }

    /// The Linux error number that says the same, as the C API returns it.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Self::Request { errno, .. } => return *errno,
            Self::TimedOut => Errno::ETIMEDOUT,
            Self::Interrupted => Errno::EINTR,
            Self::Ended => Errno::ENODEV,
            Self::Full | Self::Empty => Errno::EAGAIN,
            Self::OtherSession | Self::Invalid(_) => Errno::EINVAL,
            Self::NoRoom { .. } => Errno::EMSGSIZE,
            Self::Fixed => Errno::EOPNOTSUPP,
            Self::Forked => Errno::EOWNERDEAD,
            Self::Kernel(_) => Errno::EPROTO,
        };
        errno as i32
    }
}

/// What a person can do about a refused request; `None` where the errno says it all.
fn advice(request: &str, errno: Errno) -> Option<&'static str> {
    Some(match (request, errno) {
        ("open", Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => {
            "load the module: insmod nettap.ko"
        }
        ("monitor", Errno::EPERM) => "run as root, or with CAP_NET_ADMIN over the machine",
        ("serve", Errno::EPERM) => "run as root, or with CAP_NET_ADMIN over the machine",
        ("serve", Errno::EOPNOTSUPP) => "this module has no busy servers: load a newer nettap.ko",
        ("serve", Errno::ENOMEM | Errno::EAGAIN) => "the kernel has no thread to spare; go without",
        ("monitor", Errno::ENOSPC) => "too many programs listen already",
        ("monitor", Errno::ENOTTY) => "the module knows no events: load a newer nettap.ko",
        ("open", Errno::EACCES) => "run as root, or give the device to a group of yours (chgrp) and CAP_NET_ADMIN to the program",
        ("mbuf_map", Errno::EACCES) => {
            "the group does not let this user in: see `tapctl group list`"
        }
        ("mbuf_map", Errno::EEXIST) => {
            "the group is there with another size or rule: leave them out, or see `tapctl group list`"
        }
        ("mbuf_map", Errno::EPERM) => {
            "run as root, or with CAP_NET_ADMIN: over the machine for the default group, over one's own network namespace to create another"
        }
        ("bpf", Errno::ENOENT) => "nothing is pinned there: see `bpftool prog show`",
        ("bpf", Errno::EPERM | Errno::EACCES) => "run as root, or with CAP_BPF and the right to read it",
        (_, Errno::EPERM | Errno::EACCES) => {
            "run as root, or with CAP_NET_ADMIN over the interface's network namespace"
        }
        (_, Errno::ENOBUFS) => "raise the locked-memory limit: ulimit -l unlimited",
        (_, Errno::ENOMEM) => "ask for fewer mbufs, or load the module with more of them",
        ("interface_tap", Errno::EBUSY) => {
            "another tap stands on this interface, or one of another group: see `tapctl tap list`"
        }
        ("interface_tap", Errno::EEXIST) => {
            "the taps that share these packets have other options: see `tapctl tap list`"
        }
        ("mbuf_map", Errno::EBUSY) => "this session has mapped already",
        ("interface_tap", Errno::ENODEV) => {
            "no such interface in this network namespace: see `ip link`"
        }
        ("interface_tap", Errno::ENOSPC) => "the session has as many taps as it may; untap one",
        ("interface_tap", Errno::EOPNOTSUPP) => "this interface or policy cannot be tapped",
        ("lock", Errno::EOPNOTSUPP) => "this module has no shared locks: load a newer nettap.ko",
        ("mbuf_pull", Errno::ENODEV) => "open a tap first; no packet can come",
        (_, Errno::ENODEV) => "the tap has ended; open it again",
        (_, Errno::ENXIO) => "map first; this session has no mbufs",
        (_, Errno::EPROTO) => "the library is newer than the module: load a newer nettap.ko",
        (_, Errno::E2BIG) => {
            "the program asks for what the module does not know: load a newer nettap.ko"
        }
        (_, Errno::ENOEXEC) => {
            "the kernel takes no such filter: classic BPF of 1 to 4096 instructions, or an eBPF socket filter"
        }
        (_, Errno::ENOTTY) => "this device is not a NetTap that the library knows",
        (_, Errno::ENOENT) => "nothing has this id",
        (_, Errno::EINVAL) => "a value is out of range: see `tapctl region show` for the limits",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request {
                request,
                subject,
                errno,
            } => {
                let errno = Errno::from_raw(*errno);
                f.write_str(request)?;
                if !subject.is_empty() {
                    write!(f, " {subject}")?;
                }
                write!(f, ": {errno}")?;
                match advice(request, errno) {
                    Some(what) => write!(f, "; {what}"),
                    None => Ok(()),
                }
            }
            Self::TimedOut => f.write_str("the time passed before anything happened"),
            Self::Interrupted => f.write_str("interrupted by a signal; call again"),
            Self::Ended => f.write_str("the tap has ended: it was removed or its interface is gone"),
            Self::Full => f.write_str("the revert ring is full; flush the tap and try again"),
            Self::Empty => f.write_str("the alloc ring is empty; pull mbufs and try again"),
            Self::OtherSession => f.write_str("the mbuf belongs to another session than the tap"),
            Self::NoRoom { wanted, room } => {
                write!(f, "{wanted} bytes do not fit, there is room for {room}")
            }
            Self::Fixed => f.write_str(
                "the length of a super-packet, of a snapped packet's tail and of a received chain is fixed",
            ),
            Self::Forked => f.write_str(
                "the session belongs to the parent process; open another one after fork",
            ),
            Self::Invalid(what) => f.write_str(what),
            Self::Kernel(what) => {
                write!(f, "{what}; load the nettap.ko that belongs to this library")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = io::Error::from_raw_os_error(error.errno()).kind();
        Self::new(kind, error)
    }
}

/// A failure that hands back what it did not consume.
#[derive(Debug)]
pub struct Rejected<T> {
    /// What was not consumed.
    pub value: T,
    /// Why.
    pub error: Error,
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> std::error::Error for Rejected<T> {}

impl<T> From<Rejected<T>> for Error {
    fn from(rejected: Rejected<T>) -> Self {
        rejected.error
    }
}
