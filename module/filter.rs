// SPDX-License-Identifier: GPL-2.0-only

//! Which packets a tap is about. A filter stands in front of everything else on the way up: what it does
//! not want goes on in the kernel's path untouched, and costs one run of the program.
//!
//! Softirq, or bottom halves off, may ask while process context replaces the program.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use kernel::sync::rcu;

use crate::sys::filter::Program;
use crate::sys::hook::Way;
use crate::sys::rcu::Published;
use crate::sys::rcu::Reading;
use crate::sys::rcu::Retired;
use crate::sys::skb::Skb;
use crate::uapi::ioctl;
use crate::uapi::tap::FILTER_CLASSIC;
use crate::uapi::tap::FILTER_EBPF;
use crate::uapi::tap::FILTER_MAX;
use crate::uapi::tap::FILTER_NONE;

/// A program and its kind, as a request names it.
pub(crate) struct Named {
    kind: u32,
    program: Program,
}

/// The program that a request names, or none. Sleeps. `EINVAL`: the request names nothing.
/// `ENOEXEC`, `EBADF`, `EFAULT`, `ENOMEM`: it is no filter.
pub(crate) fn named(ask: &ioctl::Filter) -> Result<Option<KBox<Named>>> {
    let program = match ask.kind {
        FILTER_NONE if (ask.len_or_fd, ask.program) == (0, 0) => return Ok(None),
        FILTER_CLASSIC if ask.len_or_fd > FILTER_MAX => return Err(ENOEXEC),
        FILTER_CLASSIC => Program::classic(ask.program, ask.len_or_fd as u16)?,
        FILTER_EBPF if ask.program == 0 => Program::ebpf(ask.len_or_fd)?,
        _ => return Err(EINVAL),
    };
    let kind = ask.kind;
    Ok(Some(KBox::new(
        Named { kind, program },
        GFP_KERNEL_ACCOUNT,
    )?))
}

/// What a filter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// The packet goes on as if there were no tap.
    Pass,
    /// It is detoured, with so many bytes at most.
    Take(u32),
}

/// What stands in front of a tap: a program that can be replaced while packets flow, or none.
pub(crate) struct Filter(Published<Named>);

impl Filter {
    /// A filter with this program.
    pub(crate) fn new(program: Option<KBox<Named>>) -> Self {
        let filter = Self(Published::new());
        drop(filter.replace(program));
        filter
    }

    /// Puts another program in the place of this one. The drop of the old one sleeps.
    pub(crate) fn replace(&self, program: Option<KBox<Named>>) -> Retired<Named> {
        self.0.replace(program)
    }

    /// Decides over a packet at its stand.
    #[inline]
    pub(crate) fn admits(&self, skb: &Skb, way: Way, reading: Reading<'_>) -> Admit {
        match self.0.get(reading).map(|n| n.program.run(skb, way)) {
            None => Admit::Take(u32::MAX),
            Some(0) => Admit::Pass,
            Some(bytes) => Admit::Take(bytes),
        }
    }

    /// One of the `FILTER_` kinds.
    pub(crate) fn kind(&self) -> u32 {
        let reading = rcu::Guard::new();
        self.0
            .get((&reading).into())
            .map_or(FILTER_NONE, |n| n.kind)
    }

    /// Whether this program is what stands here.
    pub(crate) fn is(&self, program: Option<&Named>) -> bool {
        let reading = rcu::Guard::new();
        match (self.0.get((&reading).into()), program) {
            (None, None) => true,
            (Some(a), Some(b)) => a.program.is_same(&b.program),
            _ => false,
        }
    }
}
