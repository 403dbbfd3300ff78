// SPDX-License-Identifier: GPL-2.0-only

//! `tapctl`: the administration tool of NetTap.
//!
//! Everything lies in the library of the same name, where the tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tapctl::main(std::env::args_os())
}
