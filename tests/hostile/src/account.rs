// SPDX-License-Identifier: GPL-2.0-only

//! What became of the packets of taps that others open, are killed with, and close: added up as they end,
//! since the kernel keeps the last figures of a few only.

use crate::figures::{Control, Sum};
use crate::storm::Before;
use crate::Outcome;
use clap::Args;
use nettap_uapi::stats::TapStats;
use serde_json::json;
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

/// Time between two looks.
const GLANCE: Duration = Duration::from_millis(20);

/// Arguments of `account`.
#[derive(Args)]
pub(crate) struct Account {}

impl Account {
    /// From the first tap that opens until none is open any more.
    pub(crate) fn run(self) -> Outcome {
        let control = Control::open()?;
        let before = Before::now(&control)?;
        println!("ready");
        let (mut sum, mut seen, mut sharers) = (Sum::default(), BTreeSet::new(), 0);
        loop {
            // In this order: a tap that is not open any more has left its figures.
            let open = before.taps(&control)?;
            let had_some = |tap: &&TapStats| tap.detoured > 0;
            sharers = sharers.max(open.iter().filter(had_some).count());
            for tap in before.ended(&control)? {
                if seen.insert(tap.id) {
                    sum.add(&tap)?;
                }
            }
            if open.is_empty() && !seen.is_empty() {
                break;
            }
            sleep(GLANCE);
        }
        println!("{}", json!({ "sharers": sharers, "taps": sum.json() }));
        Ok(())
    }
}
