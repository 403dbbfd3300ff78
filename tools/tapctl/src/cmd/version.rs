// SPDX-License-Identifier: GPL-2.0-only

//! `version`, and `completion`: what this tool is, and what shells want to know of it.

use super::Context;
use crate::args::{self, Shell};
use crate::failure::Failure;
use crate::out::{Record, Value};
use nettap::uapi::ABI_VERSION;
use nettap::Info;

/// Version of this tool.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// When this version was made, for the man page.
pub const DATE: &str = "2026-11-21";

/// `version`. That there is no module is an answer here and no failure.
pub fn version(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let module = context.kernel.info();
    let record = Record::new()
        .both("tapctl", "tapctl", VERSION)
        .both("abi", "ABI of the library", ABI_VERSION)
        .both(
            "module",
            "module",
            match &module {
                Ok(info) => Value::Record(module_record(info)),
                Err(_) => Value::Nothing,
            },
        )
        .both(
            "module_failure",
            "module failure",
            match &module {
                Ok(_) => Value::Nothing,
                Err(failure) => Value::Text(failure.to_string()),
            },
        );
    context.out.sheet("version", &record)
}

fn module_record(info: &Info) -> Record {
    Record::new()
        .both("abi", "ABI", info.abi_version)
        .json_only("features", info.features)
        .plain_only("features", format!("{:#x}", info.features))
        .both(
            "matches",
            "serves this library",
            info.abi_version >= ABI_VERSION,
        )
}

/// `completion`.
pub fn completion(context: &mut Context<'_, '_>, shell: Shell) -> Result<(), Failure> {
    use clap_complete::Shell as Known;
    let known = match shell {
        Shell::Bash => Known::Bash,
        Shell::Zsh => Known::Zsh,
        Shell::Fish => Known::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(known, &mut args::command(), "tapctl", &mut script);
    context.out.raw(&script)
}
