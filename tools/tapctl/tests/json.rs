// SPDX-License-Identifier: GPL-2.0-only

//! Objective: the JSON that programs read keeps its shape, and no counter of the kernel is missing
//! from it.
//!
//! The expected documents are in `tests/json/`. Adding a member changes one of them; taking one away
//! or giving it another type needs a new [`tapctl::out::SCHEMA`], too.

mod common;

use common::{printed, run, Fake, Form};
use nettap::uapi::stats::{SessionStats, TapStats};
use serde_json::Value;
use snapbox::{assert_data_eq, Data};
use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::path::Path;
use tapctl::cmd::Verdict;
use tapctl::failure::Failure;
use tapctl::out::{Out, SCHEMA};
use zerocopy::FromBytes;

fn expected(name: &str) -> Data {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/json")
        .join(name);
    Data::read_from(&path, None)
}

fn pinned(name: &str, fake: &Fake, words: &[&str]) {
    assert_data_eq!(printed(fake, Form::Json, words), expected(name).raw());
}

#[test]
fn tap_list() {
    pinned("tap-list.json", &Fake::default(), &["tap", "list"]);
}

#[test]
fn tap_stats() {
    pinned("tap-stats.json", &Fake::default(), &["tap", "stats", "3"]);
}

#[test]
fn tap_del() {
    pinned("tap-del.json", &Fake::default(), &["tap", "del", "--all"]);
}

#[test]
fn session_list() {
    pinned("session-list.json", &Fake::default(), &["session", "list"]);
}

#[test]
fn region_show() {
    pinned("region-show.json", &Fake::default(), &["region", "show"]);
}

#[test]
fn group_list() {
    pinned("group-list.json", &Fake::default(), &["group", "list"]);
}

#[test]
fn status() {
    pinned("status.json", &Fake::ailing(), &["status"]);
}

#[test]
fn tune() {
    pinned("tune.json", &Fake::default(), &["tune"]);
}

#[test]
fn monitor() {
    let text = printed(&Fake::default(), Form::Json, &["monitor"]);
    let mut lines = String::new();
    for line in text.lines() {
        let document: Value = serde_json::from_str(line).expect("a line is a document");
        assert_eq!(document["schema"], SCHEMA);
        lines.push_str(&format!("{:#}\n", document["event"]));
    }
    let here = format!("\"netns\": {}", common::here().inode());
    let lines = lines.replace(&here, "\"netns\": 4026531840");
    assert_data_eq!(lines, expected("monitor.json").raw());
}

#[test]
fn version() {
    let text = printed(&Fake::default(), Form::Json, &["version"]);
    let text = text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    assert_data_eq!(text, expected("version.json").raw());
}

#[test]
fn failures() {
    let failure = Failure::system("end tap 9", nix::errno::Errno::ENOENT).hint("see the list");
    let mut printed = Vec::new();
    Out::new(true, false, &mut printed)
        .failure(&failure)
        .expect("writing to memory");
    let printed = String::from_utf8(printed).expect("text");
    assert_data_eq!(printed, expected("error.json").raw());
}

#[test]
fn every_document_begins_with_the_schema() {
    for words in [
        &["tap", "list"][..],
        &["tap", "stats"],
        &["session", "list"],
        &["region", "show"],
        &["group", "list"],
        &["status"],
        &["tune"],
        &["version"],
    ] {
        let text = printed(&Fake::default(), Form::Json, words);
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let members = document.as_object().expect("an object");
        let first = members.iter().next().expect("a member");
        assert_eq!(first, (&String::from("schema"), &Value::from(SCHEMA)));
        assert_eq!(members.len(), 2, "{words:?}: {text}");
    }
}

/// All numbers anywhere in a document.
fn numbers(value: &Value, into: &mut BTreeSet<u64>) {
    match value {
        Value::Number(number) => into.extend(number.as_u64()),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, into)),
        Value::Object(members) => members.values().for_each(|value| numbers(value, into)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// A record whose 64-bit fields, all from `begin` on, count up from a million.
fn numbered<T: FromBytes>(begin: usize) -> (T, BTreeSet<u64>) {
    let mut bytes = vec![0; size_of::<T>()];
    let mut marks = BTreeSet::new();
    for (word, mark) in bytes[begin..].chunks_exact_mut(8).zip(1_000_000u64..) {
        word.copy_from_slice(&mark.to_ne_bytes());
        marks.insert(mark);
    }
    (
        T::read_from_bytes(&bytes).expect("as long as the record"),
        marks,
    )
}

#[test]
fn every_counter_of_a_tap_is_there() {
    let (tap, marks) = numbered::<TapStats>(offset_of!(TapStats, max_bytes));
    let fake = Fake {
        taps: vec![tap],
        ..Fake::default()
    };
    let mut found = BTreeSet::new();
    let (stats, ended) = run(&fake, Form::Json, &["tap", "stats"]);
    assert_eq!(ended, Ok(Verdict::Bad), "such a balance cannot close");
    let list = printed(&fake, Form::Json, &["tap", "list"]);
    for text in [stats, list] {
        numbers(&serde_json::from_str(&text).expect("JSON"), &mut found);
    }
    // Policies between the counters, two in a word: the list says them in words.
    for words in [tap.no_consumer, tap.flags] {
        found.insert(u64::from(words));
    }
    let missing: Vec<_> = marks.difference(&found).collect();
    assert!(missing.is_empty(), "missing fields: {missing:?}");
}

#[test]
fn every_counter_of_a_session_is_there() {
    let (session, marks) = numbered::<SessionStats>(offset_of!(SessionStats, deallocated));
    let fake = Fake {
        sessions: vec![session],
        ..Fake::default()
    };
    let text = printed(&fake, Form::Json, &["session", "list"]);
    let mut found = BTreeSet::new();
    numbers(&serde_json::from_str(&text).expect("JSON"), &mut found);
    // True or false.
    found.insert(u64::from(session.busy));
    let missing: Vec<_> = marks.difference(&found).collect();
    assert!(missing.is_empty(), "missing fields: {missing:?}");
}
