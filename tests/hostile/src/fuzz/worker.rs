// SPDX-License-Identifier: GPL-2.0-only

//! One process of the fuzzer: a few threads that call, and one that interrupts them. It lives for some
//! thousand calls and ends in one of many ways; what it leaves open the kernel has to clean up.

use super::arena::Arena;
use super::board::Board;
use super::calls::{self, Hand, CALLS};
use super::kcov::Kcov;
use super::world::World;
use crate::chance::{mutated, Chance, TAPE_MAX};
use crate::sys::{get, look, poke, set, syscall, thread_id};
use anyhow::Result;
use std::sync::atomic::AtomicU32;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Most calls of one tape.
const CALLS_OF_A_TAPE: usize = 16;
/// How often is looked whether a thread sleeps and may be interrupted.
const POKES: Duration = Duration::from_millis(3);
/// Threads of a process.
const THREADS_MAX: usize = 8;

/// A thread as the one sees it that interrupts.
#[derive(Default)]
struct Caller {
    /// Zero before it begins and when it has ended.
    id: AtomicU32,
    /// Calls that it has begun.
    begun: AtomicU32,
}

impl Caller {
    fn lives(&self) -> bool {
        look(&self.id) != 0
    }

    fn poke(&self) {
        if self.lives() {
            poke(look(&self.id));
        }
    }
}

/// A process to be.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) threads: usize,
    pub(super) seed: u64,
    pub(super) calls: u64,
}

impl Worker {
    /// Works, and ends the process.
    pub(super) fn live(&self, board: &'static Board, world: &World) -> ! {
        let mut chance = Chance::new(self.seed);
        let callers: [Caller; THREADS_MAX] = Default::default();
        let pulse = board.pulses.get(self.number);
        let begun = pulse.map_or(0, |pulse| get(&pulse.calls));
        let done = || pulse.map_or(0, |pulse| get(&pulse.calls)) - begun;
        scope(|scope| {
            for (nth, caller) in callers.iter().enumerate().take(self.threads) {
                let seed = self.seed.wrapping_add(nth as u64 + 1);
                scope.spawn(move || {
                    set(&caller.id, thread_id());
                    let outcome = self.thread((nth == 0, seed), (board, world), caller, &done);
                    if let Err(error) = outcome {
                        eprintln!("nthostile: a thread of the fuzzer: {error:#}");
                    }
                    set(&caller.id, 0);
                });
            }
            // Whoever is still in the same call as at the last look may sleep there for ever. Of the others few
            // are interrupted: where signals are dear they would cost more than all calls do.
            let mut seen = [0; THREADS_MAX];
            while done() < self.calls && !board.stopped() {
                sleep(POKES);
                for (caller, seen) in callers.iter().zip(&mut seen) {
                    let begun = look(&caller.begun);
                    if chance.one_in(if begun == *seen { 2 } else { 32 }) {
                        caller.poke();
                    }
                    *seen = begun;
                }
                chance.forget();
            }
            // Most ends are sudden: the threads are in the middle of something.
            match chance.below(4) {
                0 => {
                    while callers.iter().any(Caller::lives) {
                        sleep(POKES);
                        callers.iter().for_each(Caller::poke);
                    }
                }
                1 => {
                    let me = std::process::id() as usize;
                    let _ = syscall(libc::SYS_kill, &[me, libc::SIGKILL as usize]);
                }
                _ => {}
            }
            let _ = syscall(libc::SYS_exit_group, &[0]);
        });
        std::process::abort();
    }

    fn thread(
        &self,
        (first, seed): (bool, u64),
        (board, world): (&'static Board, &World),
        caller: &Caller,
        done: &impl Fn() -> u64,
    ) -> Result<()> {
        let kcov = Kcov::start();
        let mut dice = Chance::new(seed);
        let mut hand = Hand {
            chance: Chance::new(seed),
            world,
            arena: Arena::new()?,
            board,
        };
        if first {
            calls::prepare(&mut hand);
        }
        while done() < self.calls && !board.stopped() {
            let tape = if board.tapes() > 0 && !dice.one_in(4) {
                let (one, other) = (board.tape(&mut dice), board.tape(&mut dice));
                mutated(&one, &other, &mut dice)
            } else {
                Vec::new()
            };
            let rest = (u64::from(dice.draw()) << 32) | u64::from(dice.draw());
            dice.forget();
            hand.chance = Chance::play(tape, rest);
            self.play(&mut hand, caller, kcov.as_ref());
        }
        Ok(())
    }

    /// The calls of one tape. It is kept when it got somewhere for the first time.
    fn play(&self, hand: &mut Hand<'_>, caller: &Caller, kcov: Option<&Kcov>) {
        let mut further = 0;
        for _ in 0..CALLS_OF_A_TAPE {
            let call = hand.chance.weighed(CALLS, |call| call.weight);
            let nth = CALLS.iter().position(|other| std::ptr::eq(other, call));
            let nth = nth.unwrap_or(0);
            if let Some(pulse) = hand.board.pulses.get(self.number) {
                set(&pulse.latest, nth as u32);
            }
            set(&caller.begun, look(&caller.begun).wrapping_add(1));
            kcov.inspect(|kcov| kcov.reset());
            let begun = Instant::now();
            let result = (call.make)(hand);
            let took = begun.elapsed();
            let new = |kcov: &Kcov| kcov.seen().filter(|&place| hand.board.reach(place)).count();
            let new = kcov.map_or(0, new);
            hand.board.count(self.number, nth, took, result.err());
            if new > 0 {
                further = hand.chance.drawn().len();
            }
            if hand.chance.drawn().len() >= TAPE_MAX || hand.board.stopped() {
                break;
            }
        }
        if further > 0 {
            let tape = hand.chance.drawn();
            hand.board.keep(tape.get(..further).unwrap_or(tape));
        }
    }
}
