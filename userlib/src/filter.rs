// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Which packets a tap is about: a program that the kernel runs in front of it.
//!
//! What the program does not want never leaves the kernel's path and costs neither a copy nor a look of
//! ours. The kernel checks programs when the tap is opened; nothing here looks into them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nettap_uapi::ioctl;
use nettap_uapi::tap::{FILTER_CLASSIC, FILTER_EBPF};

use crate::error::Result;
use crate::sys;

/// An instruction of classic BPF: `struct sock_filter` of linux/filter.h, as `tcpdump -dd` prints it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a jump's condition holds.
    pub jt: u8,
    /// And if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A filter; see [`TapBuilder::filter`](crate::TapBuilder::filter).
///
/// It sees a packet from its Ethernet header on, with the tag beside it if it has one, as a packet socket's
/// filter does. Its result is the number of bytes that are wanted; 0 lets the packet go on as if there
/// were no tap.
#[derive(Debug, Clone)]
pub struct Filter(Program);

#[derive(Debug, Clone)]
enum Program {
    Classic(Arc<[Instruction]>),
    Ebpf(Arc<OwnedFd>),
}

impl Filter {
    /// Classic BPF, 1 to [`FILTER_MAX`](nettap_uapi::tap::FILTER_MAX) instructions.
    pub fn classic(instructions: impl Into<Arc<[Instruction]>>) -> Self {
        Self(Program::Classic(instructions.into()))
    }

    /// A loaded eBPF program of type socket filter.
    pub fn ebpf(program: OwnedFd) -> Self {
        Self(Program::Ebpf(Arc::new(program)))
    }

    /// The same, pinned in a BPF file system.
    ///
    /// # Errors
    ///
    /// [`Error::Request`](crate::Error::Request) from `bpf`: nothing is pinned there, or no privilege.
    pub fn pinned(path: impl AsRef<Path>) -> Result<Self> {
        sys::pinned_program(path.as_ref()).map(Self::ebpf)
    }

    /// What a request says. It names this value's memory or descriptor, and holds as long as that.
    pub(crate) fn request(&self) -> ioctl::Filter {
        match &self.0 {
            Program::Classic(instructions) => ioctl::Filter {
                kind: FILTER_CLASSIC,
                len_or_fd: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
                program: instructions.as_ptr() as u64,
            },
            Program::Ebpf(fd) => ioctl::Filter {
                kind: FILTER_EBPF,
                len_or_fd: u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX),
                program: 0,
            },
        }
    }
}
