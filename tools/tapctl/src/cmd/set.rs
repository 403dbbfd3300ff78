// SPDX-License-Identifier: GPL-2.0-only

//! `tap set` and `tap confirm`: what changes while a tap is open.

use super::{filter_of, in_view, taps_in_view, Context, Owners};
use crate::args::Set;
use crate::failure::Failure;
use crate::kernel::{name, no_tap};
use crate::link::links;
use crate::netns::{self, Netns};
use nettap::admin::Policies;
use nettap::uapi::stats::TapStats;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

/// Name of a process that holds a tap for `tap add`.
const HOLDER: &str = "tapctl";
/// What the holder of a tap that waits to be confirmed is told with.
pub const CONFIRM: Signal = Signal::SIGUSR1;

/// `tap set`.
pub fn set(context: &mut Context<'_, '_>, set: &Set) -> Result<(), Failure> {
    in_view(context, "change", &[set.id])?;
    let mut policies = policies(set);
    if set.filter.is_some() || set.filter_bpf.is_some() {
        let taps = context.kernel.taps()?;
        let tap = taps.iter().find(|tap| tap.id == set.id);
        let tap = tap.ok_or_else(|| no_tap("change", set.id))?;
        // An expression may mean something else on another kind of interface.
        let dev = match &set.filter {
            Some(_) => interface_of(context, tap)?,
            None => name(&tap.ifname),
        };
        let filter = filter_of(&dev, set.filter.as_deref(), set.filter_bpf.as_deref())?;
        policies = filter.map_or(policies.clone(), |filter| policies.filter(filter));
    } else if set.no_filter {
        policies = policies.no_filter();
    }
    context.kernel.set(set.id, &policies)?;
    let said = format!("changed tap {}", set.id);
    context.out.done("changed", set.id, &said, None)
}

/// Goes to the namespace of a tap's interface; the name that the interface has there now.
fn interface_of(context: &Context<'_, '_>, tap: &TapStats) -> Result<String, Failure> {
    if tap.netns == context.netns.inode() {
        context.netns.enter()?;
    } else {
        let elsewhere = || {
            let failure = Failure::new(format!("tap {} is in another network namespace", tap.id));
            failure.hint("run tapctl in that namespace, or name it with --netns")
        };
        let names = netns::names();
        let there = names.get(&tap.netns).filter(|_| !context.netns.is_named());
        Netns::find(Some(there.ok_or_else(elsewhere)?))?.enter()?;
    }
    let links = links().unwrap_or_default();
    let link = links.into_iter().find(|link| link.index == tap.ifindex);
    Ok(link.map_or_else(|| name(&tap.ifname), |link| link.name))
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

/// Whether a process has a handler for a signal (proc_pid_status(5), SigCgt).
fn catches(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal as i32 - 1)) & 1 != 0)
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
    // Zero is no process, and for kill(2) one's own group.
    let pid = i32::try_from(tap.pid).ok().filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| {
        Failure::new(format!(
            "the process that holds tap {id} is in another pid namespace"
        ))
        .hint("confirm it from where it was added")
    })?;
    // `tapctl dump` and `tapctl run` are called the same.
    if !catches(pid, CONFIRM) {
        return Err(
            Failure::new(format!("tap {id} does not wait for a confirmation"))
                .hint("only taps of `tapctl tap add --confirm` are confirmed"),
        );
    }
    kill(Pid::from_raw(pid), CONFIRM)
        .map_err(|errno| Failure::system(format_args!("confirm tap {id}"), errno))?;
    // Its time may have been over just before.
    let taps = taps_in_view(context)?;
    if !taps.iter().any(|tap| tap.id == id && tap.session != 0) {
        return Err(Failure::new(format!("tap {id} has ended"))
            .hint("its time was over; add it again with --confirm"));
    }
    context
        .out
        .done("confirmed", id, &format!("confirmed tap {id}"), None)
}
