// SPDX-License-Identifier: GPL-2.0-only

//! `session list`: the programs that have NetTap open.

use super::Context;
use crate::failure::Failure;
use crate::kernel::name;
use crate::out::Record;
use nettap::uapi::stats::{Refused, SessionStats};

/// `session list`.
pub fn list(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let sessions = context.kernel.sessions()?;
    // Asking is a session, too: an unmapped one of this very process, which nobody means.
    let own = std::process::id();
    let records: Vec<Record> = sessions
        .iter()
        .filter(|session| session.pid != own)
        .map(record)
        .collect();
    context.out.table("sessions", &records, "no sessions")
}

/// Who makes the rounds: a thread of the kernel's, unless they are made on the way of packets and timers.
fn server(session: &SessionStats) -> String {
    match (session.busy, session.thread) {
        (0, _) => String::from("softirq"),
        // In another pid namespace.
        (_, 0) => String::from("thread"),
        (_, thread) => format!("thread {thread}"),
    }
}

fn record(session: &SessionStats) -> Record {
    let Refused {
        index,
        holder,
        generation,
        flags,
        scribbled,
    } = session.refused;
    let refused = [index, holder, generation, flags, scribbled]
        .iter()
        .fold(0u64, |sum, count| sum.wrapping_add(*count));
    let causes = Record::new()
        .json_only("index", index)
        .json_only("holder", holder)
        .json_only("generation", generation)
        .json_only("flags", flags)
        .json_only("scribbled", scribbled);
    Record::new()
        .both("id", "id", session.id)
        .both("pid", "pid", session.pid)
        .both("comm", "program", name(&session.comm))
        .both("mapped", "mapped", session.mapped != 0)
        .both("group", "group", session.group)
        .both("taps", "taps", session.taps)
        .both("allocated", "mbufs", session.allocated)
        .both("prealloc", "prealloc", session.prealloc)
        .both("deallocated", "given back", session.deallocated)
        .plain_only("refused", refused)
        .json_only("refused", causes)
        .both("rounds", "rounds", session.rounds)
        .both("calls", "calls", session.calls)
        .both("wakeups", "wake-ups", session.wakeups)
        .both("locks", "locks", session.locks)
        .json_only("busy", session.busy != 0)
        .json_only("thread", session.thread)
        .plain_only("served by", server(session))
}
