// SPDX-License-Identifier: GPL-2.0-only

//! The results as a picture: what a packet costs above the floor, NetTap and its peers, by path.

use crate::result::{Record, Report};
use std::fmt::Write;

/// NetTap's paths, and what they are called for people.
const GROUPS: [(&str, &str); 5] = [
    ("input", "received, to the program, into the host"),
    ("output", "sent by the host, to the program, out"),
    ("bypass", "received, to the program, out elsewhere"),
    ("consume", "received, to the program, dropped"),
    ("own", "the program's own packets (in all)"),
];
const LEFT: f64 = 190.0;
const WIDTH: f64 = 860.0;
const ROW: f64 = 17.0;
const STYLE: &str = "text{font:12px sans-serif;fill:#333}.h{font-weight:bold}.n{font-size:11px}";

/// An SVG of the basic lines of 60 and 1514 bytes.
pub(crate) fn draw(report: &Report) -> String {
    let groups: Vec<_> = GROUPS
        .iter()
        .map(|(path, about)| (about, bars(report, path)))
        .collect();
    let all = groups.iter().flat_map(|(_, bars)| bars);
    let most = all.flat_map(|bar| bar.costs).flatten().fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - 70.0) / most;
    let mut body = String::new();
    let mut y = 44.0;
    for (about, bars) in groups.iter().filter(|(_, bars)| !bars.is_empty()) {
        y += 20.0;
        let _ = writeln!(body, "<text class='h' x='8' y='{y}'>{about}</text>");
        for bar in bars {
            y += ROW;
            let _ = writeln!(
                body,
                "<text x='{}' y='{y}' text-anchor='end'>{}</text>",
                LEFT - 8.0,
                bar.name
            );
            for (nth, cost) in bar.costs.iter().enumerate() {
                let Some(cost) = cost else { continue };
                let (top, length) = (y - 11.0 + 7.0 * nth as f64, (cost * scale).max(1.0));
                let colour = match (bar.is_ours, nth) {
                    (true, 0) => "#0b6e4f",
                    (true, _) => "#6bbf9a",
                    (false, 0) => "#8d99ae",
                    (false, _) => "#cbd2de",
                };
                let _ = writeln!(
                    body,
                    "<rect x='{LEFT}' y='{top}' width='{length:.1}' height='6' fill='{colour}'/>"
                );
            }
            let longest = bar.costs.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
            let words: Vec<_> = bar
                .costs
                .iter()
                .flatten()
                .map(|cost| format!("{cost:.0}"))
                .collect();
            let x = LEFT + longest * scale + 5.0;
            let _ = writeln!(
                body,
                "<text class='n' x='{x:.1}' y='{y}'>{}</text>",
                words.join(" / ")
            );
        }
        y += 4.0;
    }
    let height = y + 14.0;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'>\n\
         <style>{STYLE}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n\
         <text class='h' x='8' y='20'>Instructions of the guest for a packet, above the kernel's own way between the same ends</text>\n\
         <text class='n' x='8' y='36'>Linux {}, 60 / 1514 bytes, 256 in flight, polling; shorter is better</text>\n{body}</svg>\n",
        report.kernel
    )
}

struct Bar {
    name: String,
    is_ours: bool,
    costs: [Option<f64>; 2],
}

/// NetTap's bar, then its peers', the cheapest first.
fn bars(report: &Report, path: &str) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    let matching = |record: &&Record| record.path == path || record.rival.as_deref() == Some(path);
    for record in report.lines.iter().filter(matching) {
        // Variants have longer names than path and size.
        if record.line != format!("{}-{}", record.path, record.size) {
            continue;
        }
        let is_ours = record.path == path;
        let name = if is_ours {
            "NetTap"
        } else {
            peer(&record.path)
        };
        let at = match bars.iter().position(|bar| bar.name == name) {
            Some(at) => at,
            None => {
                bars.push(Bar {
                    name: name.to_owned(),
                    is_ours,
                    costs: [None, None],
                });
                bars.len() - 1
            }
        };
        if let Some(bar) = bars.get_mut(at) {
            let [short, long] = &mut bar.costs;
            *(if record.size == 60 { short } else { long }) = record.marginal;
        }
    }
    let key = |bar: &Bar| {
        if bar.is_ours {
            -1.0
        } else {
            bar.costs[0].unwrap_or(f64::INFINITY)
        }
    };
    bars.sort_by(|one, other| key(one).total_cmp(&key(other)));
    bars
}

/// What a peer is called for people.
fn peer(path: &str) -> &str {
    let (_, name) = path.split_once('-').unwrap_or(("", path));
    match name {
        "xdp" => "AF_XDP, generic",
        "xdp-native" => "AF_XDP, veth",
        "packet" => "AF_PACKET",
        "packet-ring" => "AF_PACKET TX_RING",
        "tap" => "tap devices",
        "nfqueue" => "NFQUEUE, batches",
        "nfqueue-one" => "NFQUEUE, one by one",
        "pcap" => "libpcap",
        other => other,
    }
}
