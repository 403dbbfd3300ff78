// SPDX-License-Identifier: GPL-2.0-only

//! `run` and `dump`: the programs of [`crate::programs`], in the namespace that the command line
//! names. Their output is their own.

use super::Context;
use crate::args::Run;
use crate::failure::Failure;
use crate::programs::{bridge, delay, dump, echo, nat};
use std::error::Error;
use std::io;

/// `run NAME`, and `dump`, which is `run dump`.
pub(crate) fn run(context: &Context<'_, '_>, program: Run) -> Result<(), Failure> {
    context.netns.enter()?;
    let done = match program {
        Run::Bridge(args) => bridge::run(args),
        Run::Delay(args) => delay::run(args),
        Run::Dump(args) => dump::run(args),
        Run::Echo(args) => echo::run(args),
        Run::Nat(args) => nat::run(args),
    };
    done.map_err(explain)
}

/// What a program's failure was, if it is one that we have more to say about than its text.
fn explain(error: Box<dyn Error>) -> Failure {
    let error = match error.downcast::<nettap::Error>() {
        Ok(error) => return Failure::from(*error),
        Err(error) => error,
    };
    match error.downcast_ref::<io::Error>() {
        Some(io) => Failure::io("run the program", io),
        None => Failure::new(error.to_string()),
    }
}
