// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! What every example does besides its one idea: arguments, signals, waiting, counting.
//!
//! An example's loop reads `while run.goes_on(&taps)? { for tap in &taps { run.recv(…); … } }`. The
//! file is included by each example, which use different parts of it.

#![allow(dead_code, reason = "no example uses all of it")]

pub(crate) mod expression;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nettap::{Filter, Gso, Mbuf, Mode, OnExit, OnFull, Session, Tap, Wait, Waiter};
use signal_hook::consts::{SIGINT, SIGTERM};

/// What ends an example early.
pub(crate) type Failure = Box<dyn Error>;

/// Most packets taken at once.
const BATCH: usize = 64;
/// Longest sleep: a signal that comes just before it is noticed after it.
const SLICE: Duration = Duration::from_secs(1);

/// How to wait for packets.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Strategy {
    /// Look again at once; takes a processor, makes no system call
    Poll,
    /// Sleep in the kernel
    Sleep,
    /// Look for a while, then sleep
    Adaptive,
}

/// A choice between letting packets go on and dropping them.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Full {
    /// They go on as if there were no tap
    Pass,
    /// They are dropped
    Drop,
}

/// What becomes of packets that the program holds when it ends.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Exit {
    /// They go on as they were
    Revert,
    /// They are dropped
    Drop,
}

/// How super-packets come.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Super {
    /// As the kernel has them
    Whole,
    /// Cut into packets of wire size
    Segment,
}

/// Arguments of every example.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// How to wait for packets
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) wait: Strategy,
    /// Looks before sleeping, with --wait adaptive
    #[arg(long, value_name = "LOOKS", default_value_t = 2000)]
    pub(crate) spin: u32,
    /// End after this many packets
    #[arg(long, value_name = "PACKETS")]
    pub(crate) count: Option<u64>,
    /// End after this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Print one line of JSON when ending
    #[arg(long)]
    pub(crate) stats: bool,
    /// Bytes of each packet to copy; 0 copies all
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) snaplen: u32,
    /// Only packets that match this expression of pcap-filter(7); the others go on without the program
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
    /// Only packets that this pinned eBPF program wants, a socket filter
    #[arg(long, value_name = "FILE", conflicts_with = "filter")]
    pub(crate) filter_bpf: Option<PathBuf>,
    /// What becomes of held packets when the program ends
    #[arg(long, value_enum, default_value = "revert")]
    pub(crate) on_exit: Exit,
    /// What becomes of packets that find no room
    #[arg(long, value_enum, default_value = "pass")]
    pub(crate) on_full: Full,
    /// How super-packets come
    #[arg(long, value_enum, default_value = "whole")]
    pub(crate) gso: Super,
    /// Cells of each ring, a power of two; 0 lets the kernel choose
    #[arg(long, value_name = "CELLS", default_value_t = 0)]
    pub(crate) ring: u32,
    /// Have a thread of the kernel's take what the program gives back, at once; takes a processor
    #[arg(long)]
    pub(crate) busy: bool,
    /// Group to join or create; empty is the default one
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) group: String,
}

/// A time as an argument.
fn seconds(number: &str) -> Result<Duration, String> {
    let number: f64 = number.parse().map_err(|_| "expected a number".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "expected seconds, 0 or more".to_owned())
}

/// A mode as an argument.
pub(crate) fn mode(word: &str) -> Result<Mode, String> {
    [Mode::Input, Mode::Output, Mode::Bypass]
        .into_iter()
        .find(|mode| mode.name() == word)
        .ok_or_else(|| "expected input, output or bypass".to_owned())
}

/// A running example: its session, when it ends, and what it has counted.
pub(crate) struct Run {
    pub(crate) session: Session,
    common: Common,
    waiter: Waiter,
    stop: Arc<AtomicBool>,
    started: Instant,
    calls_before: u64,
    left: u64,
    packets: u64,
    bytes: u64,
    super_packets: u64,
}

impl Run {
    /// Opens the session and listens to signals.
    pub(crate) fn new(common: &Common) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let wait = match common.wait {
            Strategy::Poll => Wait::Poll,
            Strategy::Sleep => Wait::Sleep,
            Strategy::Adaptive => Wait::Adaptive { spin: common.spin },
        };
        Ok(Self {
            session: Session::builder()
                .busy(common.busy)
                .group(&common.group)
                .open()?,
            waiter: wait.waiter(),
            stop,
            started: Instant::now(),
            calls_before: 0,
            left: common.count.unwrap_or(u64::MAX),
            packets: 0,
            bytes: 0,
            super_packets: 0,
            common: common.clone(),
        })
    }

    /// Opens a tap with the common arguments, and says so for whoever waits for it.
    pub(crate) fn tap(&mut self, interface: &str, mode: Mode) -> Result<Tap, Failure> {
        let common = &self.common;
        let mut tap = self.session.tap(interface).mode(mode);
        if let Some(expression) = &common.filter {
            tap = tap.filter(expression::compile(interface, expression)?);
        }
        if let Some(file) = &common.filter_bpf {
            tap = tap.filter(Filter::pinned(file)?);
        }
        let tap = tap
            .snaplen(common.snaplen)
            .ring_cells(common.ring)
            .on_exit(match common.on_exit {
                Exit::Revert => OnExit::Revert,
                Exit::Drop => OnExit::Drop,
            })
            .on_full(match common.on_full {
                Full::Pass => OnFull::Pass,
                Full::Drop => OnFull::Drop,
            })
            .gso(match common.gso {
                Super::Whole => Gso::Whole,
                Super::Segment => Gso::Segment,
            })
            .open()?;
        eprintln!("tap {} {} {interface}", tap.id(), mode.name());
        // Opening is no work on packets; what is counted begins after the last tap is open.
        self.calls_before = self.session.system_calls();
        self.started = Instant::now();
        Ok(tap)
    }

    /// Taps of each mode on each interface.
    pub(crate) fn taps(
        &mut self,
        interfaces: &[String],
        modes: &[Mode],
    ) -> Result<Vec<Tap>, Failure> {
        let mut taps = Vec::new();
        for interface in interfaces {
            for mode in modes {
                taps.push(self.tap(interface, *mode)?);
            }
        }
        Ok(taps)
    }

    /// Waits for packets, a while at most; `false` when it is time to end.
    pub(crate) fn goes_on(&mut self, taps: &[Tap]) -> Result<bool, Failure> {
        self.goes_on_for(taps, SLICE)
    }

    /// The same, for no longer than `longest`.
    pub(crate) fn goes_on_for(&mut self, taps: &[Tap], longest: Duration) -> Result<bool, Failure> {
        let limit = self.common.seconds;
        let passed = self.started.elapsed();
        if self.left == 0 || limit.is_some_and(|limit| passed >= limit) {
            return Ok(false);
        }
        let remaining = limit.map_or(SLICE, |limit| limit.saturating_sub(passed));
        let taps: Vec<&Tap> = taps.iter().collect();
        let wait = longest.min(SLICE).min(remaining);
        let waited = match self.session.wait_with(&mut self.waiter, &taps, Some(wait)) {
            // Who only looks asks the kernel now and then whether there will be any packet more.
            Ok(false) => taps
                .iter()
                .try_for_each(|tap| match tap.wait_end(Some(Duration::ZERO)) {
                    Err(nettap::Error::TimedOut) => Ok(()),
                    answer => answer,
                }),
            waited => waited.map(drop),
        };
        match waited {
            Ok(()) | Err(nettap::Error::Interrupted) => Ok(!self.stop.load(Ordering::Relaxed)),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends what the tap has now, a batch at most and no more than `--count` allows.
    pub(crate) fn recv(&mut self, tap: &Tap, packets: &mut Vec<Mbuf>) {
        let before = packets.len();
        let most = BATCH.min(usize::try_from(self.left).unwrap_or(BATCH));
        let count = tap.recv_batch(packets, most) as u64;
        self.left -= count;
        self.packets += count;
        // Who does not ask for the sums does not pay for a look at each header.
        if self.common.stats {
            for meta in packets.iter().skip(before).map(Mbuf::meta) {
                self.bytes += u64::from(meta.wire_len);
                self.super_packets += u64::from(meta.gso.is_some());
            }
        }
    }

    /// Prints the line of `--stats`, if it was asked for.
    pub(crate) fn report(&self, program: &str) {
        if let Some(line) = self.stats(program) {
            println!("{line}");
        }
    }

    /// The line of `--stats`, if it was asked for.
    pub(crate) fn stats(&self, program: &str) -> Option<String> {
        let calls = self.session.system_calls() - self.calls_before;
        let per_packet = calls as f64 / self.packets.max(1) as f64;
        self.common.stats.then(|| {
            format!(
                "{{\"program\":\"{program}\",\"packets\":{},\"bytes\":{},\"super_packets\":{},\
                 \"system_calls\":{calls},\"system_calls_per_packet\":{per_packet:.6},\
                 \"seconds\":{:.3}}}",
                self.packets,
                self.bytes,
                self.super_packets,
                self.started.elapsed().as_secs_f64()
            )
        })
    }
}

/// Runs an example and makes its result an exit status.
pub(crate) fn main<A>(args: A, run: fn(A) -> Result<(), Failure>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
