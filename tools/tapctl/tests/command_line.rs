// SPDX-License-Identifier: GPL-2.0-only

//! Objective: help, usage errors (exit 2), and what is said where the module is not loaded (exit 1),
//! by the program as it is called. The cases are in `tests/cmd/`.

use std::path::Path;
use std::process::{Command, Output};

/// The cases say what a machine without the module does; on another they would prove nothing.
fn without_module() {
    assert!(
        !Path::new("/dev/nettap").exists(),
        "unload the module: these cases are about a machine without it"
    );
}

#[test]
fn cases() {
    without_module();
    trycmd::TestCases::new()
        .insert_var("[VERSION]", env!("CARGO_PKG_VERSION"))
        .expect("a name for a variable")
        .case("tests/cmd/*.trycmd");
}

fn called(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapctl"))
        .args(words)
        .output()
        .expect("runs")
}

#[test]
fn failures_are_json_where_programs_read_it() {
    without_module();
    for words in [
        &["--json", "status"][..],
        &["--json", "tap", "add", "--dev", "lo", "--mode", "input"],
        &["tap", "frob", "-j"],
    ] {
        let output = called(words);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let exit = &document["error"]["exit"];
        assert_eq!(
            output.status.code().map(i64::from),
            exit.as_i64(),
            "{words:?}"
        );
        assert!(output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn packets_have_standard_output_for_themselves() {
    without_module();
    for words in [&["--json", "dump", "lo"][..], &["run", "echo", "lo"]] {
        let output = called(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn text_for_people_fails_on_standard_error() {
    without_module();
    let output = called(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("load it"));
}
