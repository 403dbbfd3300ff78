// SPDX-License-Identifier: GPL-2.0-only

//! A program that keeps to every rule of rings and mbufs, and gives back packets that are not what they
//! were (`manglers`): through the tap that they came by, through another, as new ones, twice as long or cut.
//! What the program does to its own packets is its affair; what the kernel does with them then must cost
//! those packets at most.
//!
//! Most packets go on as they are, or no connection would last long enough to be worth changing. It goes
//! in rounds, each a session with taps of other sizes; when one is over, the balance of every tap must
//! close.

use crate::abi::{Session, Tap};
use crate::chance::Chance;
use crate::figures::{Control, Sum};
use crate::fuzz::seed_of_the_moment;
use crate::manglers::{any_for, Packet, MANGLERS};
use crate::scribble::{end, open_tap, Place};
use crate::Outcome;
use anyhow::{ensure, Context, Result};
use clap::Args;
use nettap_uapi::mbuf::{Header, DATA_OFFSET, NO_MBUF};
use nettap_uapi::ring::{Entry, REVERT_CHANGED};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A moment without packets.
const MOMENT: Duration = Duration::from_micros(300);

/// Arguments of `mangle`.
#[derive(Args)]
pub(crate) struct Mangle {
    /// A tap to open, as INTERFACE:MODE; may be given several times.
    #[arg(long = "tap", required = true)]
    taps: Vec<Place>,
    /// Seconds to go on.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds that a session lasts when its taps are open.
    #[arg(long, default_value_t = 3)]
    round: u64,
    /// Of so many packets, one is changed.
    #[arg(long, default_value_t = 6)]
    every: usize,
    /// The seed of all decisions; one from the clock otherwise.
    #[arg(long)]
    seed: Option<u64>,
}

/// What was done so far.
#[derive(Default)]
struct Deeds {
    rounds: u64,
    packets: u64,
    crossed: u64,
    new: u64,
    /// Of each way to change a packet, how often.
    manglers: Vec<u64>,
    /// Of each interface, packets that were changed.
    changed: BTreeMap<String, u64>,
    sum: Sum,
}

impl Mangle {
    pub(crate) fn run(self) -> Outcome {
        let seed = self.seed.unwrap_or_else(seed_of_the_moment);
        println!("seed {seed}");
        let control = Control::open()?;
        let mut chance = Chance::new(seed);
        let mut deeds = Deeds {
            manglers: vec![0; MANGLERS.len()],
            ..Deeds::default()
        };
        let begun = Instant::now();
        while begun.elapsed().as_secs() < self.seconds {
            let ids = self.round(&mut chance, &mut deeds)?;
            let ended = control.ended(ids.iter().copied().min().unwrap_or(0))?;
            for (id, place) in ids.into_iter().zip(&self.taps) {
                let tap = ended.iter().find(|tap| tap.id == id);
                let tap = tap.with_context(|| format!("tap {id} has left no figures"))?;
                deeds.sum.add(tap)?;
                *deeds.changed.entry(place.ifname.clone()).or_default() += tap.changed;
            }
            deeds.rounds += 1;
            if deeds.rounds == 1 {
                println!("ready");
            }
        }
        let manglers = MANGLERS.iter().zip(&deeds.manglers);
        let manglers = manglers.map(|(mangler, count)| (mangler.name.to_owned(), (*count).into()));
        let summary = json!({
            "seed": seed,
            "seconds": begun.elapsed().as_secs(),
            "rounds": deeds.rounds,
            "packets": deeds.packets,
            "crossed": deeds.crossed,
            "new": deeds.new,
            "manglers": Value::Object(manglers.collect()),
            "changed": deeds.changed,
            "taps": deeds.sum.json(),
        });
        println!("{summary}");
        let silent = self
            .taps
            .iter()
            .find(|place| deeds.changed.get(&place.ifname).is_none_or(|n| *n == 0));
        ensure!(
            silent.is_none(),
            "no packet of {} was changed",
            silent.map_or("", |place| &place.ifname)
        );
        Ok(())
    }

    /// One session from its beginning to its end: the ids of its taps.
    fn round(&self, chance: &mut Chance, deeds: &mut Deeds) -> Result<Vec<u32>> {
        let session = Session::open(chance.pick(&[16, 64, 200]).unwrap_or(16))?;
        let taps = self.taps.iter();
        let taps = taps.map(|place| open_tap(&session, place, chance));
        let taps = taps.collect::<Result<Vec<Tap>>>()?;
        let ids = taps.iter().map(|tap| tap.told.id).collect();
        let mut round = Round {
            session: &session,
            taps: &taps,
            every: self.every,
            chance,
            deeds,
        };
        round.go(Duration::from_secs(self.round))?;
        end(session, taps, chance);
        Ok(ids)
    }
}

/// A session with its taps.
struct Round<'a> {
    session: &'a Session,
    taps: &'a [Tap],
    every: usize,
    chance: &'a mut Chance,
    deeds: &'a mut Deeds,
}

impl Round<'_> {
    fn go(&mut self, time: Duration) -> Outcome {
        let begun = Instant::now();
        let mut batch = [Entry::default(); 32];
        while begun.elapsed() < time {
            let mut idle = true;
            for tap in self.taps {
                let came = tap.detour.take(&mut batch)?;
                for &entry in batch.iter().take(came) {
                    self.deal(tap, entry)?;
                }
                idle &= came == 0;
                self.deeds.packets += came as u64;
            }
            self.chance.forget();
            if idle {
                self.session.push(-1, 0, 0)?;
                sleep(MOMENT);
            }
        }
        Ok(())
    }

    /// What becomes of a packet.
    fn deal(&mut self, tap: &Tap, entry: Entry) -> Outcome {
        let mut to = tap;
        if self.chance.one_in(8 * self.every) {
            let nth = self.chance.below(self.taps.len());
            to = self.taps.get(nth).unwrap_or(tap);
            self.deeds.crossed += 1;
        }
        if !self.chance.one_in(self.every) {
            return self.give(to, entry);
        }
        if self.chance.one_in(8) {
            self.double(to, entry)?;
        }
        self.mangle(entry);
        self.give_changed(to, entry)
    }

    /// Changes a packet in one way or in several.
    fn mangle(&mut self, entry: Entry) {
        let ways = 1 + self.chance.below(3);
        let mut packet = Packet::of(self.session, entry, self.chance);
        for _ in 0..ways {
            let nth = any_for(&mut packet);
            if let (Some(mangler), Some(count)) =
                (MANGLERS.get(nth), self.deeds.manglers.get_mut(nth))
            {
                (mangler.mangle)(&mut packet);
                *count += 1;
            }
        }
        packet.store();
    }

    /// A new packet with the first bytes of another, mangled as well.
    fn double(&mut self, to: &Tap, entry: Entry) -> Outcome {
        let mut new = [Entry::default(); 1];
        if self.session.alloc.take(&mut new)? == 0 {
            return Ok(());
        }
        let [new] = new;
        let header = self.session.header(entry.index);
        let bytes = self
            .session
            .read(entry.index, header.offset.into(), header.len.into());
        self.session.write(new.index, DATA_OFFSET as usize, &bytes);
        let own = Header {
            next: NO_MBUF,
            packet_len: header.len.into(),
            offset: DATA_OFFSET as u16,
            ..header
        };
        self.session.set_header(new.index, own);
        self.mangle(new);
        self.deeds.new += 1;
        self.give_changed(to, new)
    }

    fn give_changed(&self, to: &Tap, entry: Entry) -> Outcome {
        let flags = REVERT_CHANGED;
        self.give(to, Entry { flags, ..entry })
    }

    /// Puts an entry into the revert ring of a tap, which has room sooner or later.
    fn give(&self, to: &Tap, entry: Entry) -> Outcome {
        while !to.revert.put(entry)? {
            // What is in the ring is taken when it is asked for.
            let _ = self.session.push(to.number(), 1, 1000);
        }
        Ok(())
    }
}
