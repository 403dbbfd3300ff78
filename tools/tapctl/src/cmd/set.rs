// SPDX-License-Identifier: GPL-2.0-only

//! `tap set` and `tap confirm`: what changes while a tap is open.

use super::{taps_in_view, Context, Owners};
use crate::args::Set;
use crate::failure::Failure;
use crate::kernel::no_tap;
use nettap::admin::Policies;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

/// Name of a process that holds a tap for `tap add`.
const HOLDER: &str = "tapctl";
/// What the holder of a tap that waits to be confirmed is told with.
pub const CONFIRM: Signal = Signal::SIGUSR1;

/// `tap set`.
pub fn set(context: &mut Context<'_, '_>, set: &Set) -> Result<(), Failure> {
    context.kernel.set(set.id, &policies(set))?;
    let said = format!("changed tap {}", set.id);
    context.out.done("changed", set.id, &said, None)
}

fn policies(set: &Set) -> Policies {
    let mut policies = Policies::new();
    if let Some(bytes) = set.snaplen {
        policies = policies.snaplen(bytes);
    }
    if let Some(policy) = set.on_full {
        policies = policies.on_full(policy.into());
    }
    if let Some(policy) = set.on_exit {
        policies = policies.on_exit(policy.into());
    }
    if let Some(policy) = set.no_consumer {
        policies = policies.no_consumer(policy.into());
    }
    if let Some(bytes) = set.max_bytes {
        policies = policies.max_bytes(bytes);
    }
    if let Some(age) = set.max_age {
        policies = policies.max_age(age);
    }
    policies
}

/// `tap confirm`.
pub fn confirm(context: &mut Context<'_, '_>, id: u32) -> Result<(), Failure> {
    let taps = taps_in_view(context)?;
    let tap = taps.iter().find(|tap| tap.id == id);
    let tap = tap.ok_or_else(|| no_tap("confirm", id))?;
    // Another program than a holder would not know what the signal means, and end by it.
    let owners = Owners::of(&context.kernel.sessions()?);
    if owners.comm(tap) != Some(HOLDER) {
        let held = owners.said(tap);
        return Err(Failure::new(format!("tap {id} is held by {held}"))
            .hint("only taps of `tapctl tap add --confirm` are confirmed"));
    }
    let pid = i32::try_from(tap.pid).map_err(|_| no_tap("confirm", id))?;
    kill(Pid::from_raw(pid), CONFIRM)
        .map_err(|errno| Failure::system(format_args!("confirm tap {id}"), errno))?;
    context
        .out
        .done("confirmed", id, &format!("confirmed tap {id}"), None)
}
