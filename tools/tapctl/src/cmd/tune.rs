// SPDX-License-Identifier: GPL-2.0-only

//! `tune`: looks on for a while, and says how large rings, region and `max_bytes` have to be for what it saw.
//!
//! It asks for counters and changes nothing. The measuring is in [`crate::measure`], the arithmetic in
//! [`crate::sizing`].

use super::{stats, taps_in_view, taps_of, Context, Owners};
use crate::args::Tune;
use crate::failure::Failure;
use crate::kernel::no_tap;
use crate::measure::{Meter, Traffic};
use crate::out::{Record, Value};
use crate::sizing::{advice, mbufs, Advice, Model, Size};
use nettap::uapi::stats::{RegionStats, TapStats};
use nettap::Info;
use std::time::Duration;

/// `tune`.
pub fn tune(context: &mut Context<'_, '_>, tune: &Tune) -> Result<(), Failure> {
    let chosen = chosen(context, tune)?;
    let traffic = if chosen.is_empty() {
        Vec::new()
    } else {
        look_on(context, Duration::from_secs(tune.seconds))?
    };
    let kernel = context.kernel;
    let (info, regions) = (kernel.info()?, kernel.regions()?);
    let owners = Owners::of(&kernel.sessions()?);
    let away = Duration::from_millis(tune.away);
    let sized: Vec<(&Traffic, Option<Model>)> = traffic
        .iter()
        .map(|one| (one, model(one, &info, &regions, away)))
        .collect();
    // Taps that were not asked for take mbufs of the same region.
    let records: Vec<(String, Record)> = sized
        .iter()
        .filter(|(traffic, _)| chosen.contains(&traffic.tap.id))
        .map(|(traffic, model)| {
            let tap = &traffic.tap;
            let region = regions.iter().find(|region| region.id == tap.group);
            let mbufs = region.map(|region| mbufs(region, of_group(&sized, tap.group)));
            let sizes = model.as_ref().map(|model| (model, mbufs));
            (stats::heading(tap, &owners), record(traffic, sizes, region))
        })
        .collect();
    context.out.sheets("tune", &records, "no taps")
}

/// Ids of the taps that the command is about.
fn chosen(context: &Context<'_, '_>, tune: &Tune) -> Result<Vec<u32>, Failure> {
    let taps = match &tune.dev {
        Some(dev) => taps_of(context, dev)?,
        None => taps_in_view(context)?,
    };
    let there: Vec<u32> = taps.iter().map(|tap| tap.id).collect();
    if tune.ids.is_empty() {
        return Ok(there);
    }
    match tune.ids.iter().find(|id| !there.contains(id)) {
        Some(id) => Err(no_tap("read", *id)),
        None => Ok(tune.ids.clone()),
    }
}

/// The traffic of all taps that there were when it began.
fn look_on(context: &Context<'_, '_>, time: Duration) -> Result<Vec<Traffic>, Failure> {
    let mut meters: Option<Vec<Meter>> = None;
    for sample in context.kernel.samples(time)? {
        let sample = sample?;
        match &mut meters {
            Some(meters) => meters.iter_mut().for_each(|meter| meter.read(&sample)),
            None => {
                let begin = |tap: &TapStats| Meter::new(&sample, tap);
                meters = Some(sample.taps.iter().map(begin).collect());
            }
        }
    }
    let meters = meters.unwrap_or_default();
    Ok(meters.iter().map(Meter::traffic).collect())
}

fn model(traffic: &Traffic, info: &Info, regions: &[RegionStats], away: Duration) -> Option<Model> {
    let region = regions.iter().find(|one| one.id == traffic.tap.group);
    let mbuf_size = region.map_or(info.mbuf_size, |region| region.mbuf_size);
    Model::of(traffic, mbuf_size, info.alpha.1, away)
}

/// The models of all taps of a group.
fn of_group<'a>(
    sized: &'a [(&Traffic, Option<Model>)],
    group: u32,
) -> impl Iterator<Item = &'a Model> {
    let those = sized
        .iter()
        .filter(move |(traffic, _)| traffic.tap.group == group);
    those.filter_map(|(_, model)| model.as_ref())
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time for people: three digits or a tenth.
fn said(time: Duration) -> String {
    let ns = nanoseconds(time);
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let tenths = ns / (unit / 10);
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if whole < 100 && tenth != 0 => format!("{whole}.{tenth} {name}"),
        (whole, _) => format!("{whole} {name}"),
    }
}

fn record(
    traffic: &Traffic,
    sizes: Option<(&Model, Option<Size>)>,
    region: Option<&RegionStats>,
) -> Record {
    let tap = &traffic.tap;
    let record = Record::new()
        .json_only("id", tap.id)
        .json_only("dev", crate::kernel::name(&tap.ifname))
        .json_only("netns", tap.netns)
        .json_only("mode", super::tap::mode(tap))
        .json_only("interval_ns", nanoseconds(traffic.interval))
        .json_only("samples", traffic.samples)
        .json_only("ended", traffic.ended)
        .json_only("detoured", traffic.detoured)
        .json_only("missed", missed(traffic))
        .json_only("rate_mean", traffic.mean)
        .json_only("rate_peak", traffic.peak)
        .json_only("alpha_ns", traffic.alpha.map(nanoseconds))
        .json_only("out_ns", nanoseconds(traffic.out))
        .json_only("most_out", traffic.most_out)
        .json_only("length", traffic.length)
        .json_only("ring_used", traffic.most_used)
        .json_only("ring_high_water", tap.ring_high_water);
    let Some((model, mbufs)) = sizes else {
        let idle = format!("no packets in {}, so no advice", said(traffic.interval));
        return record
            .json_only("model", Value::Nothing)
            .json_only("advice", Value::List(Vec::new()))
            .plain_only("", idle);
    };
    let found = advice(model, mbufs.as_ref(), &traffic.missed);
    let (all, words): (Vec<Value>, Vec<String>) = found
        .iter()
        .map(|one| told(one, model, mbufs.as_ref(), tap, region))
        .unzip();
    let words = if words.is_empty() {
        vec![String::from("nothing to change")]
    } else {
        words
    };
    seen(record, traffic, model)
        .json_only("model", figures(model, mbufs, region))
        .json_only("advice", Value::List(all))
        .plain_only("sizes", reckoned(model, mbufs))
        .plain_only("advice", words)
}

/// What was measured, for people.
fn seen(record: Record, traffic: &Traffic, model: &Model) -> Record {
    let alpha = match traffic.alpha {
        Some(alpha) => format!("{} between two rounds of its session", said(alpha)),
        None => format!("no round, so at most {}", said(model.alpha)),
    };
    let ended = if traffic.ended { ", then it ended" } else { "" };
    record
        .plain_only(
            "packets",
            format!(
                "{} detoured in {}{ended}; {} a second, {} in the busiest 100 ms",
                traffic.detoured,
                said(traffic.interval),
                traffic.mean,
                traffic.peak
            ),
        )
        .plain_only("missed", missed_said(traffic))
        .plain_only("α", alpha)
        .plain_only(
            "out",
            format!(
                "{} each, at most {} at once",
                said(traffic.out),
                traffic.most_out
            ),
        )
        .plain_only(
            "length",
            format!(
                "{} bytes, mbufs of such a packet: {}",
                traffic.length, model.mbufs_a_packet
            ),
        )
        .plain_only(
            "ring",
            format!(
                "at most {} of {} cells in use, {} since it was opened",
                traffic.most_used, traffic.tap.ring_cells, traffic.tap.ring_high_water
            ),
        )
}

/// Causes by which packets missed the program.
fn causes(traffic: &Traffic) -> [(&'static str, &'static str, u64); 5] {
    let missed = &traffic.missed;
    [
        ("ring", "ring full", missed.ring),
        ("mbufs", "no mbuf free", missed.mbufs),
        ("bytes", "over max-bytes", missed.bytes),
        ("other", "other reasons", missed.other),
        ("stalled", "program late or absent", missed.stalled),
    ]
}

fn missed(traffic: &Traffic) -> Record {
    let mut record = Record::new();
    for (key, _, count) in causes(traffic) {
        record = record.json_only(key, count);
    }
    record
}

/// Those that there were.
fn missed_said(traffic: &Traffic) -> String {
    let causes = causes(traffic).into_iter();
    let words: Vec<String> = causes
        .filter(|(.., count)| *count != 0)
        .map(|(_, title, count)| format!("{count} {title}"))
        .collect();
    if words.is_empty() {
        String::from("none")
    } else {
        words.join(", ")
    }
}

/// The model for programs.
fn figures(model: &Model, mbufs: Option<Size>, region: Option<&RegionStats>) -> Record {
    let size = |size: Size| {
        Record::new()
            .json_only("now", size.now)
            .json_only("needed", size.needed)
            .json_only("lasts_ns", nanoseconds(size.lasts))
    };
    Record::new()
        .json_only("rate", model.rate)
        .json_only("alpha_ns", nanoseconds(model.alpha))
        .json_only("away_ns", nanoseconds(model.away))
        .json_only("bound", model.bound)
        .json_only("packets", model.packets)
        .json_only("mbufs_a_packet", model.mbufs_a_packet)
        .json_only("allocated", region.map(|region| region.allocated))
        .json_only("cells", size(model.cells))
        .json_only("mbufs", mbufs.map(size))
        .json_only("bytes", model.bytes.map(size))
}

/// The same for people.
fn reckoned(model: &Model, mbufs: Option<Size>) -> Vec<String> {
    let line = |what: &str, needed: Value, now: Value, lasts: Duration| {
        format!("{what}: {needed} needed; {now} last {}", said(lasts))
    };
    let number = |what: &str, size: Size| {
        let (needed, now) = (Value::Number(size.needed), Value::Number(size.now));
        line(what, needed, now, size.lasts)
    };
    let mut lines = vec![format!(
        "in packets: p × α = {}, p × (α + {} away) = {}",
        model.bound,
        said(model.away),
        model.cells.needed
    )];
    lines.push(number("cells of each ring", model.cells));
    lines.extend(mbufs.map(|size| number("mbufs of the region", size)));
    lines.extend(model.bytes.map(|size| {
        let (needed, now) = (Value::Bytes(size.needed), Value::Bytes(size.now));
        line("max-bytes", needed, now, size.lasts)
    }));
    lines
}

/// One piece of advice, for programs and for people.
fn told(
    advice: &Advice,
    model: &Model,
    mbufs: Option<&Size>,
    tap: &TapStats,
    region: Option<&RegionStats>,
) -> (Value, String) {
    let group = region.is_some_and(|region| region.id != 0);
    let (setting, size, advised, how) = match *advice {
        Advice::Ring(cells) => (
            "ring",
            Some(model.cells),
            Some(cells),
            format!("open the tap with {cells} cells: `tapctl tap add --ring {cells}`, or `ring_cells({cells})` in a program"),
        ),
        Advice::Mbufs(number) if group => (
            "mbufs",
            mbufs.copied(),
            Some(number),
            format!("make the group with {number} mbufs: `tapctl tap add --group-mbufs {number}`, or `mbufs({number})` in a program"),
        ),
        Advice::Mbufs(number) => (
            "mbufs",
            mbufs.copied(),
            Some(number),
            format!("load the module with {number} mbufs: `modprobe nettap mbufs={number}`"),
        ),
        Advice::MaxBytes(bytes) => (
            "max_bytes",
            model.bytes,
            Some(bytes),
            format!("let the tap hold more: `tapctl tap set {} --max-bytes {}`", tap.id, suffixed(bytes)),
        ),
        Advice::Share => (
            "fanout",
            Some(model.cells),
            None,
            String::from("no ring is so large: share the packets among several sessions: `--fanout any`, `flow` or `cpu`"),
        ),
        Advice::Program => (
            "program",
            None,
            None,
            format!("packets missed it although there was room: it was away for longer than {}, is too slow, or bursts came faster than 100 ms show; see what it waits for, or plan with a longer `--away`", said(model.away)),
        ),
    };
    let record = Record::new()
        .json_only("setting", setting)
        .json_only("now", size.map(|size| size.now))
        .json_only("needed", size.map(|size| size.needed))
        .json_only("advised", advised)
        .json_only("how", how.clone());
    (record.into(), format!("{setting}: {how}"))
}

/// A power of two of bytes as the command line takes it.
fn suffixed(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        30.. => format!("{}G", bytes >> 30),
        20.. => format!("{}M", bytes >> 20),
        _ => format!("{}K", bytes >> 10),
    }
}
