// SPDX-License-Identifier: GPL-2.0-only

//! The numbered payload that senders write and receivers judge.
//!
//! Eight bytes of number, then bytes that follow from number and place: a datagram that was mixed up
//! with another, cut or overwritten shows as bad, and the numbers show what was lost, doubled or
//! overtaken.

use serde_json::{json, Value};
use std::collections::BTreeSet;

/// Bytes that the number needs; a payload is never shorter.
pub(crate) const NUMBER_LEN: usize = 8;

/// The payload numbered `number`, `size` bytes long.
pub(crate) fn numbered(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((NUMBER_LEN..size).map(|place| filler(number, place)));
    bytes
}

fn filler(number: u64, place: usize) -> u8 {
    // Modulo 251, a prime, so that no power of two of displacement goes unseen.
    ((number + place as u64) % 251) as u8
}

/// The number of a payload whose every byte is right.
fn number_of(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk::<NUMBER_LEN>()?;
    let number = u64::from_be_bytes(*head);
    let right = (NUMBER_LEN..)
        .zip(rest)
        .all(|(place, &byte)| byte == filler(number, place));
    right.then_some(number)
}

/// What came.
#[derive(Default)]
pub(crate) struct Tally {
    seen: BTreeSet<u64>,
    received: u64,
    bad: u64,
    duplicates: u64,
    overtaken: u64,
}

impl Tally {
    /// Takes one payload into account.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.received += 1;
        let Some(number) = number_of(bytes) else {
            self.bad += 1;
            return;
        };
        let newest = self.seen.last().copied();
        if !self.seen.insert(number) {
            self.duplicates += 1;
        } else if newest.is_some_and(|newest| newest > number) {
            self.overtaken += 1;
        }
    }

    /// Different good payloads so far.
    pub(crate) fn unique(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Whether numbers 0 to `count` came, each once, unharmed and in order, or in `any_order`.
    pub(crate) fn is_exactly(&self, count: u64, any_order: bool) -> bool {
        self.is_clean(any_order)
            && self.unique() == count
            && self.seen.last().is_none_or(|&last| last + 1 == count)
    }

    /// Whether nothing that came was harmed, doubled or overtaken; some may be missing.
    pub(crate) fn is_clean(&self, any_order: bool) -> bool {
        self.bad == 0 && self.duplicates == 0 && (any_order || self.overtaken == 0)
    }

    /// The account for scripts.
    pub(crate) fn json(&self) -> Value {
        json!({
            "received": self.received,
            "unique": self.unique(),
            "bad": self.bad,
            "duplicates": self.duplicates,
            "overtaken": self.overtaken,
            "first": self.seen.first(),
            "last": self.seen.last(),
        })
    }
}
