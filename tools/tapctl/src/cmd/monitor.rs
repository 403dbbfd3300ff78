// SPDX-License-Identifier: GPL-2.0-only

//! `monitor`: what happens, a line for each event as it comes.
//!
//! Every line stands for itself, in JSON too, so that whatever reads lines can follow.

use super::{Context, Places};
use crate::args::Monitor;
use crate::failure::Failure;
use crate::kernel::name;
use crate::out::{Record, Value};
use nettap::uapi::event::cause_name;
use nettap::uapi::ioctl;
use nettap::uapi::tap::Mode;
use nettap::{Event, EventKind};
use std::time::{Duration, UNIX_EPOCH};

/// `monitor`.
pub fn monitor(context: &mut Context<'_, '_>, which: &Monitor) -> Result<(), Failure> {
    let events = context.kernel.events(&which.kinds)?;
    let mut left = which.count.unwrap_or(u64::MAX);
    // Namespaces come and go while this runs; a name is looked up for each event that needs one.
    for event in events {
        let event = event?;
        if context.netns.is_named() && event.netns != context.netns.inode() {
            continue;
        }
        let own = context.netns.inode();
        if !context
            .out
            .line("event", &record(&event), &line(&event, own))?
        {
            break;
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// When, as RFC 3339 has it.
fn time(event: &Event) -> String {
    let at = UNIX_EPOCH + Duration::from_nanos(event.time);
    humantime::format_rfc3339_micros(at).to_string()
}

/// The word, or the integer of a newer module that this tool has no word for.
fn word(raw: u32, known: Option<&str>) -> Value {
    known.map_or_else(|| Value::Text(raw.to_string()), Value::from)
}

fn kind(event: &Event) -> Value {
    word(
        event.kind,
        EventKind::from_raw(event.kind).map(EventKind::name),
    )
}

fn cause(event: &Event) -> Value {
    match event.cause {
        0 => Value::Nothing,
        raw => word(raw, cause_name(raw)),
    }
}

/// Policies by their bits.
fn what(event: &Event) -> Vec<&'static str> {
    [
        (ioctl::SET_ON_FULL, "on_full"),
        (ioctl::SET_ON_EXIT, "on_exit"),
        (ioctl::SET_NO_CONSUMER, "no_consumer"),
        (ioctl::SET_SNAPLEN, "snaplen"),
        (ioctl::SET_MAX_BYTES, "max_bytes"),
        (ioctl::SET_MAX_AGE, "max_age"),
        (ioctl::SET_FILTER, "filter"),
    ]
    .into_iter()
    .filter(|(bit, _)| event.what & bit != 0)
    .map(|(_, word)| word)
    .collect()
}

/// Nothing instead of the number that stands for it.
fn some(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

fn named(bytes: &[u8]) -> Option<String> {
    Some(name(bytes)).filter(|name| !name.is_empty())
}

/// An event for programs: the same members for every kind.
fn record(event: &Event) -> Record {
    Record::new()
        .json_only("number", event.number)
        .json_only("lost", event.lost)
        .json_only("time", time(event))
        .json_only("time_ns", event.time)
        .json_only("kind", kind(event))
        .json_only("cause", cause(event))
        .json_only("session", some(event.session))
        .json_only("pid", some(event.pid))
        .json_only("comm", named(&event.comm))
        .json_only("by", some(event.by))
        .json_only("tap", some(event.tap))
        .json_only("mode", Mode::from_raw(event.mode).map(Mode::name))
        .json_only("dev", named(&event.ifname))
        .json_only("ifindex", some(event.ifindex))
        .json_only("netns", some(event.netns))
        .json_only("group", event.group)
        .json_only("group_name", named(&event.group_name))
        .json_only("count", event.count)
        .json_only("passed", event.passed)
        .json_only("dropped", event.dropped)
        .json_only("what", what(event))
}

/// `eth0`, or `eth0@NAMESPACE` elsewhere.
fn dev(event: &Event, own: u32) -> String {
    let ifname = name(&event.ifname);
    if event.netns == own {
        return ifname;
    }
    match Places::look().name(event.netns) {
        Some(place) => format!("{ifname}@{place}"),
        None => format!("{ifname}@{}", event.netns),
    }
}

/// Whom or what it is about.
fn subject(event: &Event, own: u32) -> String {
    let owner = || format!("pid {} ({})", event.pid, name(&event.comm));
    let mode = Mode::from_raw(event.mode).map_or("?", Mode::name);
    if event.tap != 0 {
        format!(
            "tap {} ({mode}, {}), {}",
            event.tap,
            dev(event, own),
            owner()
        )
    } else if event.session != 0 {
        format!("session {}, {}", event.session, owner())
    } else if event.ifindex != 0 {
        dev(event, own)
    } else {
        format!("group {} ({})", event.group, name(&event.group_name))
    }
}

/// Many of something, in words.
fn many(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

/// What there is to say of an event beyond its kind and subject.
fn details(event: &Event) -> Vec<String> {
    let mut words = Vec::new();
    if event.cause != 0 {
        words.push(cause(event).to_string());
    }
    if event.by != 0 {
        words.push(format!("by pid {}", event.by));
    }
    let fates = format!(
        "{} sent on, {} dropped",
        many(event.passed, "packet"),
        event.dropped
    );
    match EventKind::from_raw(event.kind) {
        Some(EventKind::Reclaim) => {
            words.push(many(event.count, "mbuf"));
            words.push(fates);
        }
        Some(EventKind::Drop) => words.push(fates),
        Some(EventKind::FailOpenEnd) => {
            words.push(format!("{} passed by", many(event.passed, "packet")));
        }
        Some(EventKind::Policy) => words.push(what(event).join(", ")),
        Some(EventKind::LockReleased) => words.push(many(event.count, "lock")),
        Some(EventKind::InterfaceGone) => {
            words.push(many(event.count, "tap"));
            words.push(format!("{} dropped", many(event.dropped, "packet")));
        }
        _ => {}
    }
    if event.lost != 0 {
        words.push(format!(
            "{} before this one lost",
            many(event.lost, "event")
        ));
    }
    words
}

/// An event for people.
fn line(event: &Event, own: u32) -> String {
    let details = details(event);
    let colon = if details.is_empty() { "" } else { ": " };
    format!(
        "{}  {:14}  {}{colon}{}",
        time(event),
        kind(event).to_string(),
        subject(event, own),
        details.join(", ")
    )
}
