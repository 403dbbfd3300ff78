// SPDX-License-Identifier: GPL-2.0-only

//! The command line: the one definition from which parsing, help, completions and the man page come.
//!
//! `OBJECT COMMAND` as with `ip`, in full words. What a command takes are options (`--dev eth0`) and
//! not bare pairs (`dev eth0`): their order never matters, a misspelt one is an error instead of a
//! value, and every shell completes both their names and their values from this file.

use crate::programs::{bridge, delay, dump, echo, nat};
use crate::words::{event_kind, group, interface, mbuf_size, ring, size, time};
use crate::words::{
    AccessWord, FanoutWord, GsoWord, ModeWord, NoConsumerWord, OnExitWord, OnFullWord,
};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use nettap::EventKind;
use std::path::PathBuf;
use std::time::Duration;

/// Administers NetTap: taps, sessions, the region of packet buffers, and the programs that use them.
#[derive(Debug, Parser)]
#[command(name = "tapctl", version, max_term_width = 100)]
#[command(subcommand_value_name = "OBJECT", subcommand_help_heading = "Objects")]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What the command is about.
    #[command(subcommand)]
    pub(crate) object: Object,
}

impl Cli {
    /// Whether this process was started by `tap add` to hold a tap.
    pub fn is_holder(&self) -> bool {
        matches!(&self.object, Object::Tap(Tap::Add(add)) if add.holder)
    }

    /// Whether standard output belongs to what the command runs.
    pub fn is_stream(&self) -> bool {
        matches!(&self.object, Object::Dump(_) | Object::Run(_))
    }
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Print one JSON document, errors included
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Work in this network namespace, a name of `ip netns`; lists show its taps only
    #[arg(short, long, global = true, value_name = "NAME")]
    pub netns: Option<String>,
    /// Leave out headings and explanations
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// What a command is about.
#[derive(Debug, Subcommand)]
pub(crate) enum Object {
    /// List, open and end taps, and read their counters
    #[command(subcommand)]
    Tap(Tap),
    /// List the programs that have NetTap open
    #[command(subcommand)]
    Session(Session),
    /// Show the regions of packet buffers and who has them
    #[command(subcommand)]
    Region(Region),
    /// List the groups of programs, each of which has a region of its own
    #[command(subcommand)]
    Group(Group),
    /// List interfaces
    #[command(subcommand)]
    Dev(Dev),
    /// Print what happens as it happens, a line for each event
    ///
    /// Ends after `--count` events or by a signal. Events before it began are not told.
    Monitor(Monitor),
    /// Write the packets of interfaces as pcapng: `run dump`
    Dump(dump::Args),
    /// Run one of the programs that come with NetTap
    #[command(subcommand)]
    Run(Run),
    /// Show on one screen how NetTap is, and what to do about what is wrong
    Status,
    /// Look at the traffic of taps for a while, and say how large their rings and buffers have to be
    ///
    /// It reads counters and changes nothing.
    Tune(Tune),
    /// Show the versions of tool, library and module
    Version,
    /// Print a completion script
    Completion {
        /// Shell to complete for
        shell: Shell,
    },
    /// Print the man page
    Man,
}

/// Commands on taps.
#[derive(Debug, Subcommand)]
pub enum Tap {
    /// List taps
    List(List),
    /// Open a tap that gives every packet back as it was, and keep it open
    ///
    /// A tap lives as long as a program holds it. This command starts a program in the background that
    /// does, prints the tap's id once it is open, and returns; `tapctl tap del` ends the tap and with
    /// it the program.
    Add(Add),
    /// Change policies of an open tap
    ///
    /// What is not named stays as it is. What the taps of a fan-out have in common (`--on-full`,
    /// `--no-consumer`, the filter) changes for all of them.
    Set(Set),
    /// Keep a tap that was added with `--confirm`
    Confirm {
        /// Id of the tap
        id: u32,
    },
    /// End taps
    ///
    /// Packets that a tap's program still holds follow the tap's `--on-exit` policy.
    Del(Del),
    /// Show a tap's counters by cause, and whether its balance closes
    ///
    /// The exit code is 1 when a balance does not close.
    Stats(Stats),
}

/// Which taps `tap list` shows.
#[derive(Debug, Default, Args)]
pub struct List {
    /// Taps of this interface only
    #[arg(long, value_name = "IF", value_parser = interface)]
    pub dev: Option<String>,
}

/// What `tap add` opens.
#[derive(Clone, Debug, Args)]
pub struct Add {
    /// Interface
    #[arg(long, value_name = "IF", value_parser = interface)]
    pub dev: String,
    /// Which packets detour
    #[arg(long)]
    pub mode: ModeWord,
    /// Only packets that match this expression of pcap-filter(7); the others go on without the program
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Only packets that this pinned eBPF program wants, a socket filter
    #[arg(long, value_name = "FILE", conflicts_with = "filter")]
    pub filter_bpf: Option<PathBuf>,
    /// Give the program at most N bytes of each packet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub snaplen: Option<u32>,
    /// What happens to a packet that finds no room
    #[arg(long, value_name = "POLICY", default_value = "pass")]
    pub on_full: OnFullWord,
    /// What happens to held packets when the tap ends
    #[arg(long, value_name = "POLICY", default_value = "revert")]
    pub on_exit: OnExitWord,
    /// Most bytes of packets that the tap may hold, with the kernel's bookkeeping; K, M or G may follow
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<u64>,
    /// How super-packets (GSO, GRO) reach the program
    #[arg(long, value_name = "FORM", default_value = "whole")]
    pub gso: GsoWord,
    /// Cells of the tap's rings, a power of two
    #[arg(long, value_name = "N", value_parser = ring)]
    pub ring: Option<u32>,
    /// Take packets back that were held so long, and let packets pass until the program has caught up;
    /// us, ms or s follows
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub max_age: Option<Duration>,
    /// Share the packets with other sessions that say the same
    #[arg(long, value_name = "HOW")]
    pub fanout: Option<FanoutWord>,
    /// Only keep the tap open, for programs that come and go
    #[arg(long, requires = "fanout")]
    pub standby: bool,
    /// What happens to packets while all taps of the fan-out are on standby
    #[arg(long, value_name = "POLICY", default_value = "pass")]
    pub no_consumer: NoConsumerWord,
    /// End the tap after so many seconds, unless `tapctl tap confirm` comes before
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub confirm: Option<u64>,
    /// Group to join or create: its packet buffers are its own
    #[arg(long, value_name = "NAME", value_parser = group)]
    pub group: Option<String>,
    /// Who may join a group that this command creates
    #[arg(long, value_name = "RULE", requires = "group")]
    pub group_access: Option<AccessWord>,
    /// Packet buffers of a group that this command creates
    #[arg(long, value_name = "N", requires = "group", value_parser = clap::value_parser!(u32).range(1..))]
    pub group_mbufs: Option<u32>,
    /// Size of each, a power of two
    #[arg(long, value_name = "N", requires = "group", value_parser = mbuf_size)]
    pub group_mbuf_size: Option<u32>,
    /// Stay in the foreground, for service managers
    #[arg(long)]
    pub foreground: bool,
    /// This process was started by another `tap add` to hold the tap
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub holder: bool,
}

/// What `tap set` changes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub struct Set {
    /// Id of the tap
    pub id: u32,
    /// Give the program at most N bytes of each packet; 0 for all
    #[arg(long, group = "what", value_name = "N")]
    pub snaplen: Option<u32>,
    /// What happens to a packet that finds no room
    #[arg(long, group = "what", value_name = "POLICY")]
    pub on_full: Option<OnFullWord>,
    /// What happens to held packets when the tap ends
    #[arg(long, group = "what", value_name = "POLICY")]
    pub on_exit: Option<OnExitWord>,
    /// What happens to packets while all taps of the fan-out are on standby
    #[arg(long, group = "what", value_name = "POLICY")]
    pub no_consumer: Option<NoConsumerWord>,
    /// Most bytes of packets that the tap may hold; K, M or G may follow
    #[arg(long, group = "what", value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<u64>,
    /// How long a packet may be held; us, ms or s follows, 0 for any time
    #[arg(long, group = "what", value_name = "TIME", value_parser = time)]
    pub max_age: Option<Duration>,
    /// Only packets that match this expression of pcap-filter(7) from now on
    #[arg(long, group = "what", value_name = "EXPRESSION", conflicts_with_all = ["filter_bpf", "no_filter"])]
    pub filter: Option<String>,
    /// Only packets that this pinned eBPF program wants, a socket filter
    #[arg(
        long,
        group = "what",
        value_name = "FILE",
        conflicts_with = "no_filter"
    )]
    pub filter_bpf: Option<PathBuf>,
    /// All packets
    #[arg(long, group = "what")]
    pub no_filter: bool,
}

/// Which taps `tap del` ends.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(false))]
pub struct Del {
    /// Ids of taps
    #[arg(group = "which", value_name = "ID")]
    pub ids: Vec<u32>,
    /// All taps of this interface
    #[arg(long, group = "which", value_name = "IF", value_parser = interface)]
    pub dev: Option<String>,
    /// All taps
    #[arg(long, group = "which")]
    pub all: bool,
}

/// Which taps `tap stats` shows.
#[derive(Debug, Default, Args)]
pub struct Stats {
    /// Ids of taps; all taps when there is none
    #[arg(value_name = "ID")]
    pub ids: Vec<u32>,
}

/// Commands on sessions.
#[derive(Debug, Subcommand)]
pub enum Session {
    /// List sessions: every open of /dev/nettap, its process, and what it has
    List,
}

/// Commands on the regions.
#[derive(Debug, Subcommand)]
pub enum Region {
    /// Show size, free packet buffers, and who has the others, of the default group and of each other
    Show,
}

/// Commands on groups.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// List groups: who may join, their packet buffers, their sessions and taps
    List,
}

/// What `monitor` prints.
#[derive(Clone, Debug, Default, Args)]
pub struct Monitor {
    /// Events of these kinds only
    #[arg(value_name = "KIND", value_parser = event_kind())]
    pub kinds: Vec<EventKind>,
    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// What `tune` looks at.
#[derive(Debug, Args)]
pub struct Tune {
    /// Ids of taps; all taps when there is none
    #[arg(value_name = "ID", conflicts_with = "dev")]
    pub ids: Vec<u32>,
    /// Taps of this interface only
    #[arg(long, value_name = "IF", value_parser = interface)]
    pub dev: Option<String>,
    /// How long to look
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub seconds: u64,
    /// How long the program may be away without a packet missing it, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub away: u64,
}

/// Commands on interfaces.
#[derive(Debug, Subcommand)]
pub enum Dev {
    /// List which interfaces can be tapped in which modes, and why not in the others
    List,
}

/// The programs that come with NetTap; what each is and takes is said by itself.
#[derive(Debug, Subcommand)]
#[command(subcommand_value_name = "NAME", subcommand_help_heading = "Programs")]
pub(crate) enum Run {
    Bridge(bridge::Args),
    Delay(delay::Args),
    Dump(dump::Args),
    Echo(echo::Args),
    Nat(nat::Args),
}

/// Shells that scripts are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash with bash-completion
    Bash,
    /// The Z shell
    Zsh,
    /// The friendly interactive shell
    Fish,
}

/// The definition as `clap` has it, for help, completions and the man page.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
