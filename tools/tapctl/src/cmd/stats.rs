// SPDX-License-Identifier: GPL-2.0-only

//! `tap stats`: every counter by its cause, and the balance that must close.

use super::{taps_in_view, Context, Owners, Verdict};
use crate::args::Stats;
use crate::failure::Failure;
use crate::kernel::{name, no_tap, Kernel};
use crate::out::{Record, Value};
use nettap::uapi::stats::{Refused, TapStats};
use std::thread;
use std::time::Duration;

/// How often a balance that does not close is read again. Counters move while they are copied; what
/// stays wrong over these readings is wrong.
const READINGS: u32 = 5;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(20);

/// `tap stats`.
pub fn stats(context: &mut Context<'_, '_>, which: &Stats) -> Result<Verdict, Failure> {
    let all = taps_in_view(context)?;
    let taps = if which.ids.is_empty() {
        all
    } else {
        which
            .ids
            .iter()
            .map(|id| find(&all, *id))
            .collect::<Result<Vec<TapStats>, Failure>>()?
    };
    let taps = settle(context.kernel, taps)?;
    let owners = Owners::of(&context.kernel.sessions()?);
    let records: Vec<(String, Record)> = taps
        .iter()
        .map(|tap| (heading(tap, &owners), record(tap)))
        .collect();
    context.out.sheets("taps", &records, "no taps")?;
    Ok(if taps.iter().all(TapStats::balances) {
        Verdict::Good
    } else {
        Verdict::Bad
    })
}

fn find(taps: &[TapStats], id: u32) -> Result<TapStats, Failure> {
    let tap = taps.iter().find(|tap| tap.id == id).copied();
    tap.ok_or_else(|| no_tap("read", id))
}

/// Reads those again whose balance does not close; see [`READINGS`].
pub fn settle(kernel: &dyn Kernel, mut taps: Vec<TapStats>) -> Result<Vec<TapStats>, Failure> {
    for _ in 1..READINGS {
        if taps.iter().all(TapStats::balances) {
            break;
        }
        thread::sleep(PAUSE);
        let fresh = kernel.taps()?;
        for tap in taps.iter_mut().filter(|tap| !tap.balances()) {
            // One that has ended meanwhile keeps its last reading.
            if let Some(now) = fresh.iter().find(|now| now.id == tap.id) {
                *tap = *now;
            }
        }
    }
    Ok(taps)
}

/// Which tap, and whose.
pub(super) fn heading(tap: &TapStats, owners: &Owners) -> String {
    format!(
        "tap {}: {} of {}, {}",
        tap.id,
        super::tap::mode(tap),
        name(&tap.ifname),
        owners.said(tap)
    )
}

/// All counters of a tap, grouped by what became of the packets.
fn record(tap: &TapStats) -> Record {
    Record::new()
        .json_only("id", tap.id)
        .json_only("dev", name(&tap.ifname))
        .json_only("netns", tap.netns)
        .json_only("mode", super::tap::mode(tap))
        .both("detoured", "given to the program", detoured(tap))
        .both("ended", "and then", ended(tap))
        .both("passed", "sent on without the program", passed(tap))
        .both("dropped", "dropped without the program", dropped(tap))
        .both("watchdog", "held too long", watchdog(tap))
        .both("extra", "sent on for others", extra(tap))
        .both(
            "refused",
            "refused entries of the revert ring",
            refused(tap),
        )
        .json_only("balance", balance(tap))
        .plain_only("", said(tap))
}

fn detoured(tap: &TapStats) -> Record {
    Record::new()
        .both("packets", "packets", tap.detoured)
        .both("bytes", "bytes", Value::Bytes(tap.detoured_bytes))
        .both("gso", "super-packets among them", tap.detoured_gso)
        .both("in_flight", "in flight", tap.in_flight)
        .both("held_bytes", "bytes held", Value::Bytes(tap.held_bytes))
        .both("ring_used", "ring cells in use", tap.ring_used)
        .both("ring_high_water", "most ever", tap.ring_high_water)
        .both("ring_cells", "of", tap.ring_cells)
}

fn ended(tap: &TapStats) -> Record {
    let mut record = Record::new();
    for (key, title, count) in causes(tap) {
        record = record.both(key, title, count);
    }
    record
}

/// The ways in which a detoured packet ends: the left side of the balance.
fn causes(tap: &TapStats) -> [(&'static str, &'static str, u64); 11] {
    [
        ("reverted", "reverted", tap.reverted),
        ("changed", "reverted changed", tap.changed),
        ("crossed", "reverted by another tap", tap.crossed),
        (
            "dropped_by_program",
            "dropped by the program",
            tap.dropped_by_program,
        ),
        ("reinjected", "re-injected by policy", tap.reinjected),
        (
            "dropped_by_policy",
            "dropped by policy",
            tap.dropped_by_policy,
        ),
        ("handed_over", "handed over to another tap", tap.handed_over),
        ("refused_shape", "refused: shape", tap.refused_shape),
        ("refused_offload", "refused: offload", tap.refused_offload),
        ("refused_change", "refused: change", tap.refused_change),
        ("refused_memory", "refused: memory", tap.refused_memory),
    ]
}

fn passed(tap: &TapStats) -> Record {
    Record::new()
        .both("ring", "ring full", tap.passed_ring)
        .both("mbufs", "no mbuf free", tap.passed_mbufs)
        .both("bytes", "over max-bytes", tap.passed_bytes)
        .both("other", "unreadable or no memory", tap.passed_other)
        .both("stalled", "program late or absent", tap.passed_stalled)
        .both("filter", "not for the filter", tap.passed_filter)
}

fn dropped(tap: &TapStats) -> Record {
    Record::new()
        .both("ring", "ring full", tap.dropped_ring)
        .both("mbufs", "no mbuf free", tap.dropped_mbufs)
        .both("bytes", "over max-bytes", tap.dropped_bytes)
        .both("other", "other reasons", tap.dropped_other)
        .both("cut_off", "of the host, by bypass", tap.cut_off)
}

fn watchdog(tap: &TapStats) -> Record {
    Record::new()
        .both("fail_opens", "times it failed open", tap.fail_opens)
        .both("aged", "packets taken back", tap.aged)
        .json_only("failed_open", tap.failed_open != 0)
}

fn extra(tap: &TapStats) -> Record {
    Record::new()
        .both("crossed_in", "of other taps", tap.crossed_in)
        .both("injected", "new packets", tap.injected)
        .both("injected_refused", "new, refused", tap.injected_refused)
        .both("undelivered", "undelivered", tap.undelivered)
}

fn refused(tap: &TapStats) -> Record {
    let Refused {
        index,
        holder,
        generation,
        flags,
        scribbled,
    } = tap.refused;
    Record::new()
        .both("index", "index outside the region", index)
        .both("holder", "mbuf not with the session", holder)
        .both("generation", "given twice, or stale", generation)
        .both("flags", "unknown flags", flags)
        .both("scribbled", "ring overwritten", scribbled)
        .both(
            "scribbled_detour",
            "detour position overwritten",
            tap.scribbled_detour,
        )
}

fn balance(tap: &TapStats) -> Record {
    Record::new()
        .json_only("closes", tap.balances())
        .json_only("detoured", tap.detoured)
        .json_only("ended", tap.ended())
        .json_only("in_flight", tap.in_flight)
}

/// The balance as a sentence; causes that never happened are left out.
pub fn said(tap: &TapStats) -> String {
    let mut terms: Vec<String> = causes(tap)
        .iter()
        .filter(|(_, _, count)| *count != 0)
        .map(|(_, title, count)| format!("{title} {count}"))
        .collect();
    terms.push(format!("in flight {}", tap.in_flight));
    let sum = tap.ended().wrapping_add(tap.in_flight);
    let verdict = if tap.balances() {
        String::from("closes")
    } else if sum < tap.detoured {
        format!("DOES NOT CLOSE, {} missing", tap.detoured - sum)
    } else {
        format!("DOES NOT CLOSE, {} too many", sum - tap.detoured)
    };
    format!(
        "balance: detoured {} = {}: {verdict}",
        tap.detoured,
        terms.join(" + ")
    )
}
