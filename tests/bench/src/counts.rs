// SPDX-License-Identifier: GPL-2.0-only

//! What the plugin counted, made sense of: blocks of code become functions by the guest's symbols, and
//! calls of certain functions become system calls, wake-ups and packets made.

use crate::lines;
use crate::result::{Counts, Record, Report};
use crate::write_json;
use anyhow::{bail, Context, Result};
use clap::Args;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

/// Where the files of a run are.
#[derive(Args)]
pub(crate) struct Files {
    /// Results of `measure`.
    #[arg(long)]
    json: PathBuf,
    /// What the plugin wrote.
    #[arg(long)]
    counts: PathBuf,
    /// The guest's /proc/kallsyms, with its modules.
    #[arg(long)]
    symbols: PathBuf,
}

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;
/// What all addresses of user space are called.
const PROGRAM: &str = "(the program)";

const SYSTEM_CALL: &[&str] = &["entry_SYSCALL_64"];
const WAKEUP: &[&str] = &["try_to_wake_up"];
const ALLOCATION: &[&str] = &[
    "__alloc_skb",
    "__build_skb",
    "slab_build_skb",
    "napi_build_skb",
    "skb_clone",
];
/// The kernel's copying functions, and the registers that have the number of bytes.
const COPYING: &[(&str, &str)] = &[
    ("__memcpy", "rdx"),
    ("__memmove", "rdx"),
    ("rep_movs_alternative", "rcx"),
];

/// Functions of the module that copy a packet's bytes themselves: as many as the line says, or its snap length.
const COPYING_INLINE: &[&str] = &[
    "nettap_skb_capture [nettap]",
    "nettap_skb_store [nettap]",
    "nettap_skb_change [nettap]",
    "nettap_skb_make [nettap]",
];
/// The one that writes a new packet in pieces: its bytes, or the first of one that leaves by reference.
const FILLING: &str = "nettap_skb_fill [nettap]";
const BY_REFERENCE_MIN: usize = 2048;
const HEAD: usize = 128;

/// The guest's functions.
struct Symbols {
    /// By address; the name has the module's behind it.
    sorted: Vec<(u64, String)>,
}

impl Symbols {
    fn parse(text: &str) -> Self {
        let mut sorted: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let kind = words.next()?;
                let name = words.next()?;
                let is_code = matches!(kind, "t" | "T" | "w" | "W") && !name.starts_with("__pfx_");
                let name = match words.next() {
                    Some(module) => format!("{name} {module}"),
                    None => name.to_owned(),
                };
                is_code.then_some((address, name))
            })
            .collect();
        sorted.sort();
        Self { sorted }
    }

    /// The function that an address is in; of several names the first.
    fn name(&self, address: u64) -> &str {
        if address < KERNEL {
            return PROGRAM;
        }
        let behind = self.sorted.partition_point(|(start, _)| *start <= address);
        let Some((start, _)) = behind.checked_sub(1).and_then(|at| self.sorted.get(at)) else {
            return "(unknown)";
        };
        let first = self.sorted.partition_point(|(other, _)| other < start);
        self.sorted.get(first).map_or("(unknown)", |(_, name)| name)
    }

    fn address(&self, wanted: &str) -> Option<u64> {
        let mut all = self.sorted.iter();
        all.find(|(_, name)| name == wanted)
            .map(|(address, _)| *address)
    }
}

/// A block of code, and how often it ran.
struct Block {
    address: u64,
    times: u64,
    instructions: u64,
    locked: u64,
}

/// One measurement.
#[derive(Default)]
struct Measurement {
    blocks: Vec<Block>,
    copies: u64,
    copied_bytes: u64,
}

fn parse(text: &str) -> Result<HashMap<u64, Measurement>> {
    let mut all: HashMap<u64, Measurement> = HashMap::new();
    let mut mark = 0;
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["mark", number] => mark = number.parse()?,
            ["block", address, times, instructions, locked] => {
                let (times, instructions, locked): (u64, u64, u64) =
                    (times.parse()?, instructions.parse()?, locked.parse()?);
                all.entry(mark).or_default().blocks.push(Block {
                    address: u64::from_str_radix(address, 16)?,
                    times,
                    instructions: times * instructions,
                    locked: times * locked,
                });
            }
            ["copy", _, calls, bytes] => {
                let measurement = all.entry(mark).or_default();
                measurement.copies += calls.parse::<u64>()?;
                measurement.copied_bytes += bytes.parse::<u64>()?;
            }
            _ => bail!("the plugin's file has a line {line:?}"),
        }
    }
    Ok(all)
}

impl Measurement {
    fn counts(&self, symbols: &Symbols, packets: u64, bytes: usize) -> Counts {
        let each = |n: u64| n as f64 / packets as f64;
        let sum = |of: fn(&Block) -> u64| each(self.blocks.iter().map(of).sum());
        let calls = |names: &[&str]| {
            let places: Vec<_> = names
                .iter()
                .filter_map(|name| symbols.address(name))
                .collect();
            let entries = self
                .blocks
                .iter()
                .filter(|block| places.contains(&block.address));
            each(entries.map(|block| block.times).sum())
        };
        let (inline, filling) = (calls(COPYING_INLINE), calls(&[FILLING]));
        let filled = if bytes < BY_REFERENCE_MIN {
            bytes
        } else {
            HEAD
        };
        let inline_bytes = inline * bytes as f64 + filling * filled as f64;
        Counts {
            instructions: sum(|block| block.instructions),
            user: sum(|block| {
                if block.address < KERNEL {
                    block.instructions
                } else {
                    0
                }
            }),
            system_calls: calls(SYSTEM_CALL),
            wakeups: calls(WAKEUP),
            allocations: calls(ALLOCATION),
            locked: sum(|block| block.locked),
            copies: each(self.copies) + inline + filling,
            copied_bytes: each(self.copied_bytes) + inline_bytes,
        }
    }

    /// What each function takes.
    fn functions<'a>(&self, symbols: &'a Symbols, packets: u64) -> HashMap<&'a str, Function> {
        let mut functions: HashMap<&str, Function> = HashMap::new();
        let each = |n: u64| n as f64 / packets as f64;
        for block in &self.blocks {
            let name = symbols.name(block.address);
            let function = functions.entry(name).or_default();
            function.instructions += each(block.instructions);
            function.locked += each(block.locked);
            if symbols.address(name) == Some(block.address) {
                function.calls += each(block.times);
            }
        }
        functions
    }
}

/// What a function takes of a packet.
#[derive(Clone, Copy, Default)]
struct Function {
    instructions: f64,
    locked: f64,
    calls: f64,
}

impl Files {
    fn load(&self) -> Result<(Report, HashMap<u64, Measurement>, Symbols)> {
        let read =
            |path: &PathBuf| fs::read_to_string(path).with_context(|| path.display().to_string());
        let report = serde_json::from_str(&read(&self.json)?)?;
        let measurements = parse(&read(&self.counts)?)?;
        Ok((report, measurements, Symbols::parse(&read(&self.symbols)?)))
    }

    /// Writes the counts into the results.
    pub(crate) fn merge(&self) -> Result<()> {
        let (mut report, measurements, symbols) = self.load()?;
        for record in &mut report.lines {
            let measurement = measurements
                .get(&record.mark)
                .with_context(|| record.line.clone())?;
            let spec = lines::all()
                .into_iter()
                .map(|line| (line.name(), line.spec));
            let snaplen = spec
                .filter(|(name, spec)| *name == record.line && spec.snaplen > 0)
                .map(|(_, spec)| spec.snaplen as usize);
            let bytes = snaplen.fold(record.size, usize::min);
            record.counts = Some(measurement.counts(&symbols, record.packets, bytes));
        }
        write_json(&self.json, &report)
    }

    /// Shows in which functions a line spends more than its floor.
    pub(crate) fn profile(&self, line_or_path: &str, rows: usize) -> Result<()> {
        let (report, measurements, symbols) = self.load()?;
        for line in lines::select(&[line_or_path.to_owned()])? {
            let record = report.find(&line.name()).with_context(|| line.name())?;
            // The floors that come along are part of the tables of those who stand on them.
            if !record.path.starts_with("floor-") || record.line == line_or_path {
                show(record, &report, &measurements, &symbols, rows)?;
            }
        }
        Ok(())
    }
}

fn show(
    record: &Record,
    report: &Report,
    measurements: &HashMap<u64, Measurement>,
    symbols: &Symbols,
    rows: usize,
) -> Result<()> {
    let of = |record: &Record| {
        let measurement = measurements
            .get(&record.mark)
            .with_context(|| record.line.clone())?;
        anyhow::Ok(measurement.functions(symbols, record.packets))
    };
    let own = of(record)?;
    let floor = record.floor.as_ref().and_then(|floor| report.find(floor));
    let below = floor.map(of).transpose()?.unwrap_or_default();
    let mut names: Vec<&str> = own.keys().chain(below.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let get = |functions: &HashMap<&str, Function>, name: &str| {
        functions.get(name).copied().unwrap_or_default()
    };
    let more = |name: &str| get(&own, name).instructions - get(&below, name).instructions;
    let locked = |name: &str| get(&own, name).locked - get(&below, name).locked;
    names.sort_by(|one, other| more(other).abs().total_cmp(&more(one).abs()));
    let total: f64 = names.iter().map(|name| more(name)).sum();
    println!(
        "{}: instructions a packet, and what they are over the floor ({total:.0})",
        record.line
    );
    println!(
        "{:>10} {:>8} {:>10} {:>8}  function",
        "more", "LOCKs", "in all", "calls"
    );
    for name in names.iter().take(rows) {
        let (all, above, locked) = (get(&own, name), more(name), locked(name));
        println!(
            "{above:>10.1} {locked:>8.2} {:>10.1} {:>8.4}  {name}",
            all.instructions, all.calls
        );
    }
    let others = || names.iter().skip(rows);
    let rest: f64 = others().map(|name| more(name)).sum();
    let rest_locked: f64 = others().map(|name| locked(name)).sum();
    println!(
        "{rest:>10.1} {rest_locked:>8.2} {:>10} {:>8}  all others\n",
        "", ""
    );
    Ok(())
}

/// What the plugin has to be told of the kernel: its copying functions.
pub(crate) fn arguments(symbols: &PathBuf) -> Result<()> {
    let text = fs::read_to_string(symbols).with_context(|| symbols.display().to_string())?;
    let symbols = Symbols::parse(&text);
    for (name, register) in COPYING {
        let address = symbols
            .address(name)
            .with_context(|| format!("no {name} in this kernel"))?;
        print!(",copy={address:x}:{register}");
    }
    println!();
    Ok(())
}
