// SPDX-License-Identifier: GPL-2.0-only

//! Dice, and the tape of what they showed.
//!
//! Everything a hostile program decides comes from numbers drawn one after the other. The fuzzer
//! keeps them on a tape: a tape played again makes the same decisions, and a tape with a few numbers
//! changed makes nearly the same ones. So whatever the fuzzer can do can be mutated, without anybody
//! writing a mutation for it.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// Most numbers of a tape that is kept.
pub(crate) const TAPE_MAX: usize = 256;

/// Numbers at borders, in every width.
const BORDERS: [u64; 34] = [
    0,
    1,
    2,
    3,
    7,
    8,
    13,
    14,
    15,
    16,
    17,
    31,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    256,
    1024,
    2047,
    2048,
    4095,
    4096,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// A source of decisions.
pub(crate) struct Chance {
    tape: Vec<u32>,
    at: usize,
    dice: SmallRng,
}

impl Chance {
    /// Dice only.
    pub(crate) fn new(seed: u64) -> Self {
        Self::play(Vec::new(), seed)
    }

    /// What is on the tape, and then dice.
    pub(crate) fn play(tape: Vec<u32>, seed: u64) -> Self {
        Self {
            tape,
            at: 0,
            dice: SmallRng::seed_from_u64(seed),
        }
    }

    /// The numbers drawn so far.
    pub(crate) fn drawn(&self) -> &[u32] {
        self.tape.get(..self.at).unwrap_or(&self.tape)
    }

    /// Forgets what was drawn; for those who keep no tapes.
    pub(crate) fn forget(&mut self) {
        self.tape.clear();
        self.at = 0;
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u32 {
        let number = match self.tape.get(self.at) {
            Some(&number) => number,
            None => {
                let number = self.dice.next_u32();
                self.tape.push(number);
                number
            }
        };
        self.at += 1;
        number
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.draw() as usize % limit.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let nth = self.below(from.len());
        from.get(nth).copied()
    }

    /// One of several, each as likely as its weight says.
    pub(crate) fn weighed<'a, T>(&mut self, from: &'a [T], weight: impl Fn(&T) -> u32) -> &'a T {
        let sum: u32 = from.iter().map(&weight).sum();
        let mut left = self.draw() % sum.max(1);
        let chosen = from.iter().find(|one| {
            let here = weight(one);
            let found = left < here;
            left = left.saturating_sub(here);
            found
        });
        chosen.unwrap_or(&from[0])
    }

    /// A number that somebody may have forgotten: at a border, near one, or any.
    pub(crate) fn border(&mut self) -> u64 {
        let border = self.pick(&BORDERS).unwrap_or(0);
        match self.below(8) {
            0 => border.wrapping_neg(),
            1 => border.wrapping_add(1),
            2 => border.wrapping_sub(1),
            3 => u64::from(self.draw()),
            4 => (u64::from(self.draw()) << 32) | u64::from(self.draw()),
            _ => border,
        }
    }
}

/// A tape nearly like another; `other` may lend a part.
pub(crate) fn mutated(tape: &[u32], other: &[u32], dice: &mut Chance) -> Vec<u32> {
    let mut tape = tape.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(tape.len());
        let len = 1 + dice.below(8);
        let end = (at + len).min(tape.len());
        match dice.below(7) {
            0 | 1 => {
                if let Some(number) = tape.get_mut(at) {
                    *number = dice.draw();
                }
            }
            2 => {
                if let Some(number) = tape.get_mut(at) {
                    *number = number.wrapping_add(dice.below(16) as u32).wrapping_sub(8);
                }
            }
            3 => drop(tape.drain(at..end)),
            4 => {
                let part = tape.get(at..end).unwrap_or_default().to_vec();
                tape.splice(at..at, part);
            }
            5 => {
                let from = dice.below(other.len());
                tape.truncate(at);
                tape.extend(other.iter().skip(from));
            }
            _ => tape.truncate(end),
        }
    }
    tape.truncate(TAPE_MAX);
    tape
}
