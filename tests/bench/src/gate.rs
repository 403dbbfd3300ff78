// SPDX-License-Identifier: GPL-2.0-only

//! Whether something has become slower: the results against a reference that is kept in the tree.
//!
//! What must not grow is what NetTap costs above the floor, by more than 3 % of itself. Floors and peers
//! are no business of ours; but when they move, kernel or emulator are others than the reference's,
//! and nothing can be said.

use crate::clock::Unit;
use crate::result::Report;
use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Of itself.
const TOLERANCE: f64 = 0.03;
/// Two runs of the same differ by that many instructions.
const NOISE: f64 = 20.0;

/// What is kept: medians by line.
#[derive(Serialize, Deserialize)]
struct Reference {
    kernel: String,
    lines: BTreeMap<String, Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    cost: f64,
    marginal: f64,
}

/// Makes the results the reference. Lines that were not measured stay as they are.
pub(crate) fn keep(report: &Report, path: &Path) -> Result<()> {
    of_instructions(report)?;
    let mut lines = match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str::<Reference>(&text)?.lines,
        Err(_) => BTreeMap::new(),
    };
    let round = |cost: f64| (cost * 10.0).round() / 10.0;
    for record in &report.lines {
        let kept = Kept {
            cost: round(record.median()),
            marginal: round(record.marginal.unwrap_or(record.median())),
        };
        lines.insert(record.line.clone(), kept);
    }
    let reference = Reference {
        kernel: report.kernel.clone(),
        lines,
    };
    let text = serde_json::to_string_pretty(&reference)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// Times are others on each machine.
fn of_instructions(report: &Report) -> Result<()> {
    if report.unit != Unit::Instructions {
        bail!("the gate is about instructions, and these are nanoseconds");
    }
    Ok(())
}

/// Compares; an error if a line of NetTap's costs more than it did.
pub(crate) fn compare(report: &Report, path: &Path) -> Result<()> {
    of_instructions(report)?;
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let reference: Reference = serde_json::from_str(&text)?;
    let (mut compared, mut slower, mut strange) = (0, 0, 0);
    for record in &report.lines {
        let Some(kept) = reference.lines.get(&record.line) else {
            continue;
        };
        let is_ours = record.rival.is_none() && !record.path.starts_with("floor-");
        let (now, before) = match (is_ours, record.marginal) {
            (true, Some(marginal)) => (marginal, kept.marginal),
            _ => (record.median(), kept.cost),
        };
        compared += 1;
        if (now - before).abs() <= (before.abs() * TOLERANCE).max(NOISE) {
            continue;
        }
        let percent = 100.0 * (now / before - 1.0);
        let verdict = match (is_ours, now > before) {
            (true, true) => "SLOWER",
            (true, false) => "faster",
            (false, _) => "other machine?",
        };
        println!(
            "{verdict:14} {:28} {before:.0} -> {now:.0} ({percent:+.1} %)",
            record.line
        );
        slower += usize::from(is_ours && now > before);
        strange += usize::from(!is_ours);
    }
    println!(
        "gate: {compared} lines compared with {}, {slower} slower",
        path.display()
    );
    if reference.kernel != report.kernel || strange > 0 {
        println!(
            "gate: the reference was measured on {}; so its floors may differ",
            reference.kernel
        );
    }
    if compared == 0 {
        bail!("no line of the reference was measured, so nothing was compared");
    }
    if slower > 0 {
        bail!("{slower} lines cost more than 3 % more than the reference");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Record;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn line(name: &str, cost: f64, marginal: Option<f64>) -> Record {
        Record {
            line: name.to_owned(),
            path: name.trim_end_matches("-60").to_owned(),
            size: 60,
            packets: 1,
            cost: [cost; 3],
            floor: None,
            marginal,
            rival: None,
            library_calls: None,
            mark: 1,
            counts: None,
            best_peer: None,
            times: None,
        }
    }

    fn report(lines: Vec<Record>) -> Report {
        Report {
            kernel: "7.3".to_owned(),
            unit: Unit::Instructions,
            emulated: false,
            processors: None,
            lines,
        }
    }

    /// What the gate says of a run of `now` after one of `before`. Tests run side by side, so each call has its file.
    fn verdict(before: Record, now: Record) -> Result<()> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!(
            "ntbench-gate-{}-{}",
            std::process::id(),
            CALLS.fetch_add(1, Ordering::Relaxed)
        ));
        keep(&report(vec![before]), &path)?;
        let verdict = compare(&report(vec![now]), &path);
        fs::remove_file(&path)?;
        verdict
    }

    #[test]
    fn three_percent_of_what_is_over_the_floor_are_too_much() {
        let before = || line("input-60", 7500.0, Some(1000.0));
        assert!(verdict(before(), line("input-60", 7531.0, Some(1031.0))).is_err());
        assert!(verdict(before(), line("input-60", 7529.0, Some(1029.0))).is_ok());
        assert!(verdict(before(), line("input-60", 7000.0, Some(500.0))).is_ok());
    }

    #[test]
    fn small_lines_may_move_by_what_two_runs_differ() {
        let before = || line("output-60", 6200.0, Some(200.0));
        assert!(verdict(before(), line("output-60", 6219.0, Some(219.0))).is_ok());
        assert!(verdict(before(), line("output-60", 6221.0, Some(221.0))).is_err());
    }

    #[test]
    fn floors_are_no_business_of_the_gates() {
        let before = line("floor-drop-60", 4500.0, None);
        assert!(verdict(before, line("floor-drop-60", 5500.0, None)).is_ok());
    }

    #[test]
    fn nothing_to_compare_is_no_pass() {
        let before = line("input-60", 7500.0, Some(1000.0));
        assert!(verdict(before, line("consume-60", 5500.0, Some(900.0))).is_err());
    }
}
