// SPDX-License-Identifier: GPL-2.0-only

//! `status`: one screen, from the module to its taps, and advice on what is wrong.

use super::{stats, taps_in_view, Context, Owners};
use crate::failure::Failure;
use crate::kernel::{default_region, name};
use crate::out::{Record, Value};
use nettap::uapi::stats::{Refused, RegionStats, SessionStats, TapStats};
use nettap::uapi::ABI_VERSION;
use nettap::Info;

/// The region is nearly empty below one mbuf in this many.
const SCARCE: u32 = 16;

/// Something that is wrong, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    what: String,
    todo: &'static str,
}

/// `status`.
pub fn status(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let info = context.kernel.info()?;
    let regions = context.kernel.regions()?;
    let sessions = context.kernel.sessions()?;
    let taps = taps_in_view(context)?;
    let taps = stats::settle(context.kernel, taps)?;
    let record = record(&info, &regions, &sessions, &taps)?;
    context.out.sheet("status", &record)
}

fn record(
    info: &Info,
    regions: &[RegionStats],
    sessions: &[SessionStats],
    taps: &[TapStats],
) -> Result<Record, Failure> {
    let region = default_region(regions)?;
    let module = Record::new()
        .json_only("abi", info.abi_version)
        .json_only("library_abi", ABI_VERSION)
        .json_only("matches", info.abi_version >= ABI_VERSION);
    let warnings = warnings(regions, sessions, taps);
    let todo: Vec<Value> = warnings
        .iter()
        .map(|warning| {
            Record::new()
                .both("what", "what", warning.what.clone())
                .both("todo", "todo", warning.todo)
                .into()
        })
        .collect();
    let said: Vec<String> = warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.what, warning.todo))
        .collect();
    let record = Record::new()
        .json_only("module", module)
        .plain_only(
            "module",
            format!(
                "loaded, ABI {}, serves this tool (ABI {ABI_VERSION})",
                info.abi_version
            ),
        )
        .json_only("region", super::region::record(region, info))
        .plain_only("region", region_said(region, info))
        .json_only("sessions", mapped(sessions))
        .json_only("busy_sessions", busy(sessions))
        .plain_only("sessions", sessions_said(sessions))
        .json_only("taps", sums(taps))
        .plain_only("taps", taps_said(taps))
        .plain_only("past them", past_said(taps))
        .json_only("warnings", Value::List(todo))
        .plain_only("warnings", said);
    Ok(record)
}

fn region_said(region: &RegionStats, info: &Info) -> String {
    if region.mbufs == 0 {
        return format!(
            "{} mbufs of {}, made when the first program maps it",
            info.mbufs,
            Value::Bytes(u64::from(info.mbuf_size))
        );
    }
    format!(
        "{} mbufs of {}: {} free, {} for new packets, {} with taps, {} in the kernel's hands; {} in huge pages",
        region.mbufs,
        Value::Bytes(u64::from(region.mbuf_size)),
        region.free,
        region.allocated,
        region.detoured,
        region.kernel,
        Value::Bytes(region.huge)
    )
}

/// Sessions that take a processor each, whatever they have to do.
fn busy(sessions: &[SessionStats]) -> u64 {
    let busy = sessions.iter().filter(|session| session.busy != 0);
    u64::try_from(busy.count()).unwrap_or(u64::MAX)
}

/// Sessions that have mapped a region, of whatever group.
fn mapped(sessions: &[SessionStats]) -> u64 {
    let mapped = sessions.iter().filter(|session| session.mapped != 0);
    u64::try_from(mapped.count()).unwrap_or(u64::MAX)
}

fn sessions_said(sessions: &[SessionStats]) -> String {
    let mapped = mapped(sessions);
    match busy(sessions) {
        0 => mapped.to_string(),
        busy => format!("{mapped}; {busy} busy, each with a thread that takes a processor"),
    }
}

fn sum(taps: &[TapStats], count: impl Fn(&TapStats) -> u64) -> u64 {
    taps.iter().fold(0, |sum, tap| sum.wrapping_add(count(tap)))
}

fn passed(tap: &TapStats) -> u64 {
    [
        tap.passed_ring,
        tap.passed_mbufs,
        tap.passed_bytes,
        tap.passed_stalled,
        tap.passed_other,
    ]
    .iter()
    .fold(0, |sum, count| sum.wrapping_add(*count))
}

fn dropped(tap: &TapStats) -> u64 {
    [
        tap.dropped_ring,
        tap.dropped_mbufs,
        tap.dropped_bytes,
        tap.dropped_other,
    ]
    .iter()
    .fold(0, |sum, count| sum.wrapping_add(*count))
}

fn sums(taps: &[TapStats]) -> Record {
    Record::new()
        .json_only("count", u64::try_from(taps.len()).unwrap_or(u64::MAX))
        .json_only("detoured", sum(taps, |tap| tap.detoured))
        .json_only("in_flight", sum(taps, |tap| tap.in_flight))
        .json_only("passed", sum(taps, passed))
        .json_only("dropped", sum(taps, dropped))
        .json_only("balances", taps.iter().all(TapStats::balances))
}

fn taps_said(taps: &[TapStats]) -> String {
    let balances = match taps {
        [] => return String::from("none; `tapctl tap add` opens one"),
        taps if taps.iter().all(TapStats::balances) => "all balances close",
        _ => "NOT ALL BALANCES CLOSE",
    };
    format!(
        "{}: {} packets detoured, {} in flight, {balances}",
        taps.len(),
        sum(taps, |tap| tap.detoured),
        sum(taps, |tap| tap.in_flight)
    )
}

fn past_said(taps: &[TapStats]) -> String {
    format!(
        "{} packets sent on, {} dropped without the program",
        sum(taps, passed),
        sum(taps, dropped)
    )
}

/// All that is wrong, worst first.
pub fn warnings(
    regions: &[RegionStats],
    sessions: &[SessionStats],
    taps: &[TapStats],
) -> Vec<Warning> {
    let owners = Owners::of(sessions);
    let mut warnings = Vec::new();
    for tap in taps {
        warnings.extend(of_tap(tap, &owners));
    }
    // Not in a region of nothing, which is one that no program has mapped yet.
    let scarce = |region: &&RegionStats| region.mbufs != 0 && region.free < region.mbufs / SCARCE;
    for region in regions.iter().filter(scarce) {
        let free = format!("only {} of {} mbufs", region.free, region.mbufs);
        warnings.push(if region.id == 0 {
            Warning {
                what: format!("{free} are free"),
                todo: "see who has them: `tapctl session list`, `tapctl tap list`; the module's parameters make a larger region",
            }
        } else {
            Warning {
                what: format!("{free} of group {} are free", name(&region.group)),
                todo: "see who has them: `tapctl session list`, `tapctl tap list`; who makes a group says how large it is",
            }
        });
    }
    for session in sessions {
        let count = entries(&session.refused);
        if count != 0 {
            warnings.push(Warning {
                what: format!(
                    "session {} (pid {}, {}): {count} entries of its dealloc ring were refused",
                    session.id,
                    session.pid,
                    name(&session.comm)
                ),
                todo: "the program gives back what is not its own, or what was taken from it meanwhile; nothing else is harmed",
            });
        }
    }
    warnings
}

fn entries(refused: &Refused) -> u64 {
    let Refused {
        index,
        holder,
        generation,
        flags,
        scribbled,
    } = *refused;
    [index, holder, generation, flags, scribbled]
        .iter()
        .fold(0, |sum, count| sum.wrapping_add(*count))
}

fn of_tap(tap: &TapStats, owners: &Owners) -> Vec<Warning> {
    let tapname = format!(
        "tap {} ({}, {})",
        tap.id,
        name(&tap.ifname),
        owners.said(tap)
    );
    let rejected = [
        tap.refused_shape,
        tap.refused_offload,
        tap.refused_change,
        tap.refused_memory,
        tap.injected_refused,
    ];
    let rejected = rejected.iter().fold(0u64, |sum, n| sum.wrapping_add(*n));
    let forged = entries(&tap.refused).wrapping_add(tap.scribbled_detour);
    let ring = tap.passed_ring.wrapping_add(tap.dropped_ring);
    let mbufs = tap.passed_mbufs.wrapping_add(tap.dropped_mbufs);
    let bytes = tap.passed_bytes.wrapping_add(tap.dropped_bytes);
    let states = [
        (
            !tap.balances(),
            "balance does not close",
            "this is a defect of the module: report `tapctl --json tap stats` and dmesg",
        ),
        (
            tap.failed_open != 0,
            "its program has stalled, so packets pass it by",
            "see what the program waits for; the tap is its own again when it has caught up",
        ),
    ];
    let more_mbufs = match tap.group {
        0 => "load the module with more mbufs, or give the tap a `--snaplen`",
        _ => "make the group with more mbufs (`--group-mbufs`), or give the tap a `--snaplen`",
    };
    let counts = [
        (
            ring,
            "packets found the detour ring full",
            "the program is too slow or stopped; a larger ring (`--ring`) rides out bursts",
        ),
        (mbufs, "packets found no free mbuf", more_mbufs),
        (
            bytes,
            "packets found the tap holding `max-bytes`",
            "the program holds packets for too long; or raise `--max-bytes`",
        ),
        (
            rejected,
            "changed or new packets were refused",
            "`tapctl tap stats` names the cause; the program makes packets that cannot be",
        ),
        (
            forged,
            "entries of its rings were refused",
            "the program gives back what is not its own, or what was taken from it meanwhile; nothing else is harmed",
        ),
        (
            tap.undelivered,
            "packets were refused after the tap had sent them on",
            "the interface is down or its queue is full: `ip -s link`",
        ),
    ];
    let states = states.into_iter().filter(|(is, ..)| *is);
    let counts = counts.into_iter().filter(|(count, ..)| *count != 0);
    Iterator::chain(
        states.map(|(_, what, todo)| (format!("{tapname}: {what}"), todo)),
        counts.map(|(count, what, todo)| (format!("{tapname}: {count} {what}"), todo)),
    )
    .map(|(what, todo)| Warning { what, todo })
    .collect()
}
