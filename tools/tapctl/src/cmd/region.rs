// SPDX-License-Identifier: GPL-2.0-only

//! `region show`: the packet buffers, and who has them, of all groups.

use super::{group, Context};
use crate::failure::Failure;
use crate::out::{Record, Value};
use nettap::uapi::stats::RegionStats;
use nettap::Info;
use std::time::Duration;

/// `region show`.
pub fn show(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let info = context.kernel.info()?;
    let record = record(&context.kernel.region()?, &info);
    let regions = context.kernel.regions()?;
    let (all, said): (Vec<Value>, Vec<String>) = regions
        .iter()
        .filter(|region| region.id != 0)
        .map(|region| (named(region, &info).into(), line(region)))
        .unzip();
    let record = record
        .json_only("groups", Value::List(all))
        .plain_only("groups", said);
    context.out.sheet("region", &record)
}

/// The region of a named group, for programs.
fn named(region: &RegionStats, info: &Info) -> Record {
    group::record(region, info)
        .json_only("huge_bytes", huge(region))
        .json_only("reclaimed", region.reclaimed)
        .json_only("held", held(region))
}

/// The region of a named group, for people.
fn line(region: &RegionStats) -> String {
    format!(
        "{}: {} mbufs of {}, {}; {} sessions, {} taps",
        group::said(region),
        region.mbufs,
        Value::Bytes(u64::from(region.mbuf_size)),
        Value::from(held(region)),
        region.sessions,
        region.taps
    )
}

/// Who has the mbufs of a region.
fn held(region: &RegionStats) -> Record {
    Record::new()
        .both("free", "free", region.free)
        .both(
            "allocated",
            "with programs, for new packets",
            region.allocated,
        )
        .both("detoured", "with taps", region.detoured)
        .both("kernel", "in the kernel's hands", region.kernel)
}

/// The region; before a session maps, what it will be.
pub fn record(region: &RegionStats, info: &Info) -> Record {
    let made = region.mbufs != 0;
    let (size, mbufs) = if made {
        (region.mbuf_size, region.mbufs)
    } else {
        (info.mbuf_size, info.mbufs)
    };
    let bytes = u64::from(size).wrapping_mul(u64::from(mbufs));
    let limits = Record::new()
        .both(
            "alpha_min_us",
            "shortest time between rounds (us)",
            micros(info.alpha.0),
        )
        .both(
            "alpha_max_us",
            "longest time between rounds (us)",
            micros(info.alpha.1),
        )
        .both("ring_max", "cells of a ring", info.ring_max)
        .both("taps_max", "taps of a session", info.taps_max);
    Record::new()
        .json_only("made", made)
        .plain_only(
            "state",
            if made {
                "made"
            } else {
                "made when the first program maps it"
            },
        )
        .both("mbufs", "mbufs", mbufs)
        .both("mbuf_size", "size of each", Value::Bytes(u64::from(size)))
        .both("bytes", "together", Value::Bytes(bytes))
        .both("huge_bytes", "in huge pages", huge(region))
        .both("sessions", "sessions", region.sessions)
        .both("taps", "taps", region.taps)
        .both(
            "reclaimed",
            "taken back from ended programs",
            region.reclaimed,
        )
        .both("held", "mbufs", held(region))
        .both("limits", "limits", limits)
}

/// How much of it lies in huge pages, once it is made.
fn huge(region: &RegionStats) -> Value {
    (region.mbufs != 0)
        .then_some(Value::Bytes(region.huge))
        .into()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
