// SPDX-License-Identifier: GPL-2.0-only

//! `tap list` and `tap del`. Opening is in [`super::add`], counters are in [`super::stats`].

use super::{in_view, taps_in_view, taps_of, Context, Owners, Places};
use crate::args::{Del, List};
use crate::failure::Failure;
use crate::kernel::name;
use crate::out::{Record, Value};
use nettap::uapi::stats::TapStats;
use nettap::uapi::tap::{Fanout, Gso, Mode, NoConsumer, OnExit, OnFull};
use nettap::uapi::tap::{FILTER_CLASSIC, FILTER_EBPF, FILTER_NONE, TAP_STANDBY};
use nix::errno::Errno;

/// `tap list`.
pub fn list(context: &mut Context<'_, '_>, which: &List) -> Result<(), Failure> {
    let taps = match &which.dev {
        Some(dev) => taps_of(context, dev)?,
        None => taps_in_view(context)?,
    };
    let owners = Owners::of(&context.kernel.sessions()?);
    let places = Places::look();
    let own = context.netns.inode();
    let records: Vec<Record> = taps
        .iter()
        .map(|tap| record(tap, &owners, &places, own))
        .collect();
    context.out.table("taps", &records, "no taps")
}

/// What a list says about a tap.
pub fn record(tap: &TapStats, owners: &Owners, places: &Places, own: u32) -> Record {
    let ifname = name(&tap.ifname);
    let place = places.name(tap.netns);
    let dev = match place {
        _ if tap.netns == own => ifname.clone(),
        Some(place) => format!("{ifname}@{place}"),
        None => format!("{ifname}@{}", tap.netns),
    };
    Record::new()
        .both("id", "id", tap.id)
        .plain_only("dev", dev)
        .json_only("dev", ifname)
        .json_only("ifindex", tap.ifindex)
        .json_only("netns", tap.netns)
        .json_only("netns_name", place)
        .both("mode", "mode", mode(tap))
        .plain_only("owner", owners.said(tap))
        .json_only("pid", tap.pid)
        .json_only("comm", owners.comm(tap))
        .json_only("session", tap.session)
        .plain_only("ring", format!("{}/{}", tap.ring_used, tap.ring_cells))
        .json_only("ring_used", tap.ring_used)
        .json_only("ring_cells", tap.ring_cells)
        .both("detoured", "detoured", tap.detoured)
        .both("in_flight", "in flight", tap.in_flight)
        .json_only("held_bytes", tap.held_bytes)
        .json_only("max_bytes", tap.max_bytes)
        .both("on_full", "on-full", on_full(tap))
        .both("on_exit", "on-exit", on_exit(tap))
        .json_only("gso", gso(tap))
        .json_only("snaplen", tap.snaplen)
        .json_only("fanout", fanout(tap))
        .json_only("no_consumer", no_consumer(tap))
        .json_only("standby", tap.flags & TAP_STANDBY != 0)
        .json_only("max_age_us", tap.max_age_us)
        .json_only("failed_open", tap.failed_open != 0)
        .json_only("group", tap.group)
        .json_only("filter", filter(tap))
        .plain_only("options", options(tap))
}

/// The word for a tap's mode.
pub fn mode(tap: &TapStats) -> Value {
    word(tap.mode, Mode::from_raw(tap.mode).map(Mode::name))
}

fn on_full(tap: &TapStats) -> Value {
    let policy = OnFull::from_raw(tap.on_full).map(|policy| match policy {
        OnFull::Pass => "pass",
        OnFull::Drop => "drop",
    });
    word(tap.on_full, policy)
}

fn on_exit(tap: &TapStats) -> Value {
    let policy = OnExit::from_raw(tap.on_exit).map(|policy| match policy {
        OnExit::Revert => "revert",
        OnExit::Drop => "drop",
    });
    word(tap.on_exit, policy)
}

fn gso(tap: &TapStats) -> Value {
    let form = Gso::from_raw(tap.gso).map(|form| match form {
        Gso::Whole => "whole",
        Gso::Segment => "segment",
    });
    word(tap.gso, form)
}

fn fanout(tap: &TapStats) -> Value {
    let how = Fanout::from_raw(tap.fanout).map(|fanout| match fanout {
        Fanout::None => "none",
        Fanout::Any => "any",
        Fanout::Flow => "flow",
        Fanout::Cpu => "cpu",
    });
    word(tap.fanout, how)
}

fn no_consumer(tap: &TapStats) -> Value {
    let policy = NoConsumer::from_raw(tap.no_consumer).map(|policy| match policy {
        NoConsumer::Pass => "pass",
        NoConsumer::Hold => "hold",
    });
    word(tap.no_consumer, policy)
}

fn filter(tap: &TapStats) -> Value {
    let kind = match tap.filter {
        FILTER_NONE => Some("none"),
        FILTER_CLASSIC => Some("classic"),
        FILTER_EBPF => Some("ebpf"),
        _ => None,
    };
    word(tap.filter, kind)
}

/// The word, or the integer of a newer module that this tool has no word for.
fn word(raw: u32, known: Option<&'static str>) -> Value {
    known.map_or_else(|| Value::Text(raw.to_string()), Value::from)
}

/// What is not as usual, for people: options that few taps have.
fn options(tap: &TapStats) -> Value {
    let mut words = Vec::new();
    if tap.filter != FILTER_NONE {
        words.push(format!("filter {}", filter(tap)));
    }
    if tap.snaplen != 0 {
        words.push(format!("snaplen {}", tap.snaplen));
    }
    if Gso::from_raw(tap.gso) != Some(Gso::Whole) {
        words.push(format!("gso {}", gso(tap)));
    }
    match Fanout::from_raw(tap.fanout) {
        Some(Fanout::None) => {}
        _ => words.push(format!("fanout {}", fanout(tap))),
    }
    if tap.flags & TAP_STANDBY != 0 {
        words.push(String::from("standby"));
    }
    if NoConsumer::from_raw(tap.no_consumer) != Some(NoConsumer::Pass) {
        words.push(format!("no-consumer {}", no_consumer(tap)));
    }
    if tap.max_age_us != 0 {
        words.push(format!("max-age {} us", tap.max_age_us));
    }
    if tap.failed_open != 0 {
        words.push(String::from("FAILED OPEN"));
    }
    if tap.group != 0 {
        words.push(format!("group {}", tap.group));
    }
    if words.is_empty() {
        Value::Nothing
    } else {
        Value::Text(words.join(", "))
    }
}

/// `tap del`.
pub fn del(context: &mut Context<'_, '_>, which: &Del) -> Result<(), Failure> {
    let ids = match &which.dev {
        _ if which.all => taps_in_view(context)?.iter().map(|tap| tap.id).collect(),
        Some(dev) => {
            let ids: Vec<u32> = taps_of(context, dev)?.iter().map(|tap| tap.id).collect();
            if ids.is_empty() {
                return Err(Failure::new(format!("no tap is on {dev}"))
                    .hint("`tapctl tap list` shows all taps of the machine"));
            }
            ids
        }
        None => {
            in_view(context, "end", &which.ids)?;
            which.ids.clone()
        }
    };
    let mut ended = Vec::new();
    for id in ids {
        match context.kernel.untap(id) {
            Ok(()) => ended.push(id),
            // Who asked for all taps has what he wanted when one goes by itself meanwhile.
            Err(failure) if which.ids.is_empty() && failure.is(Errno::ENOENT) => {}
            Err(failure) if ended.is_empty() => return Err(failure),
            Err(failure) => {
                let message = format!("{} (ended before: {})", failure.message, said(&ended));
                return Err(Failure { message, ..failure });
            }
        }
    }
    let words = match ended.as_slice() {
        [] => String::from("no taps"),
        [one] => format!("ended tap {one}"),
        several => format!("ended taps {}", said(several)),
    };
    context.out.done("ended", ended, &words, None)
}

fn said(ids: &[u32]) -> String {
    Value::from(ids.to_vec()).to_string()
}
