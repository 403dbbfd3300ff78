// SPDX-License-Identifier: GPL-2.0-only

//! Objective: what is said about the command line (man page, completions, tapctl.md) says what the
//! definition in src/args.rs does, all of it and nothing else.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use tapctl::args;
use tapctl::cmd::man;

const BINARY: &str = env!("CARGO_BIN_EXE_tapctl");

/// All commands with all their words, such as `tapctl tap list`.
fn leaves() -> Vec<clap::Command> {
    fn collect(command: &clap::Command, into: &mut Vec<clap::Command>) {
        let mut own = command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .peekable();
        if own.peek().is_none() {
            into.push(command.clone());
        }
        own.for_each(|command| collect(command, into));
    }
    let mut command = args::command();
    command.build();
    let mut leaves = Vec::new();
    collect(&command, &mut leaves);
    leaves
}

fn name(command: &clap::Command) -> &str {
    command.get_bin_name().expect("built")
}

/// Long options of commands, without hidden ones.
fn options<'a>(commands: impl IntoIterator<Item = &'a clap::Command>) -> BTreeSet<String> {
    commands
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .collect()
}

fn page() -> String {
    let mut page = Vec::new();
    man::render(&mut page).expect("writing to memory");
    String::from_utf8(page).expect("text")
}

fn output(words: &[&str]) -> String {
    let output = Command::new(BINARY).args(words).output().expect("runs");
    assert!(output.status.success(), "{words:?}");
    assert!(output.stderr.is_empty(), "{words:?} warns");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_definition_is_sound() {
    args::command().debug_assert();
}

#[test]
fn the_man_page_has_every_command_and_option() {
    let page = page();
    for leaf in leaves() {
        let heading = format!(".SS \"{}\"\n", name(&leaf));
        let (_, part) = page.split_once(&heading).expect(&heading);
        let part = part.split("\n.S").next().expect("a part");
        for arg in leaf.get_arguments() {
            if arg.is_hide_set() || arg.is_global_set() || arg.get_id() == "help" {
                continue;
            }
            if let Some(long) = arg.get_long() {
                let roff = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(part.contains(&roff), "{}: --{long}", name(&leaf));
            }
        }
    }
    assert!(!page.contains("holder\\fR"), "hidden options stay hidden");
    for section in ["EXIT STATUS", "EXAMPLES", "OUTPUT", "FILES"] {
        let quoted = format!(".SH \"{section}\"");
        let plain = format!(".SH {section}");
        assert!(page.contains(&quoted) || page.contains(&plain), "{section}");
    }
}

#[test]
fn mandoc_has_no_complaint() {
    let mut mandoc = match Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(mandoc) => mandoc,
        Err(error) => {
            // Not a check of this tool's own: the structure is checked above.
            println!("not linted: mandoc: {error}");
            return;
        }
    };
    let mut to = mandoc.stdin.take().expect("piped");
    to.write_all(page().as_bytes()).expect("mandoc reads");
    drop(to);
    let said = mandoc.wait_with_output().expect("mandoc ends");
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.is_empty(), "{said}");
}

#[test]
fn the_tool_prints_that_page() {
    assert_eq!(output(&["man"]), page());
}

#[test]
fn completions_know_every_word() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completion", shell]);
        for leaf in leaves() {
            let word = leaf.get_name();
            assert!(script.contains(word), "{shell}: {word}");
            for option in options([&leaf]) {
                // fish writes `-l netns`.
                let long = option.trim_start_matches('-');
                assert!(script.contains(long), "{shell}: {option}");
            }
        }
        parses(shell, &script);
    }
}

/// Has the shell read the script without running it, where the shell is there.
fn parses(shell: &str, script: &str) {
    let child = Command::new(shell)
        .arg("-n")
        .arg("/dev/stdin")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        // Every Debian has bash.
        Err(error) if shell == "bash" => panic!("bash: {error}"),
        Err(error) => {
            println!("not read by {shell}: {error}");
            return;
        }
    };
    let mut to = child.stdin.take().expect("piped");
    to.write_all(script.as_bytes()).expect("the shell reads");
    drop(to);
    let said = child.wait_with_output().expect("the shell ends");
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.success() && errors.is_empty(),
        "{shell}: {errors}"
    );
}

/// The words of tapctl.md that are code, and those of its blocks.
fn words_of_the_prose() -> BTreeSet<String> {
    man::PROSE
        .split(|c: char| c.is_whitespace() || "`,.|()…".contains(c))
        .filter(|word| word.starts_with("--") && word.len() > 2 && *word != "-->")
        .map(String::from)
        .collect()
}

#[test]
fn the_prose_names_every_command() {
    for leaf in leaves() {
        let name = name(&leaf);
        // `completion` is written with what follows it.
        let found =
            man::PROSE.contains(&format!("`{name}`")) || man::PROSE.contains(&format!("`{name} "));
        assert!(found, "tapctl.md does not name `{name}`");
    }
}

#[test]
fn the_prose_names_options_that_there_are() {
    let leaves = leaves();
    let known = options(&leaves);
    for word in words_of_the_prose() {
        assert!(known.contains(&word), "tapctl.md names {word}");
    }
    // And all of the tool's own; the programs' are their own business.
    let own = leaves
        .iter()
        .filter(|leaf| !name(leaf).starts_with("tapctl run") && leaf.get_name() != "dump");
    let said = words_of_the_prose();
    for option in options(own) {
        let everywhere = ["--help", "--version"].contains(&option.as_str());
        assert!(
            everywhere || said.contains(&option),
            "tapctl.md lacks {option}"
        );
    }
}
