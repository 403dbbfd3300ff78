// SPDX-License-Identifier: GPL-2.0-only

//! The commands, a file per object, and what they all are given.

pub mod add;
pub mod dev;
pub mod group;
pub mod man;
pub mod monitor;
pub mod region;
pub mod run;
pub mod session;
pub mod set;
pub mod stats;
pub mod status;
pub mod tap;
pub mod tune;
pub mod version;

use crate::args::{self, Cli, Object, Run};
use crate::failure::Failure;
use crate::kernel::{name, no_tap, Kernel};
use crate::link::links;
use crate::netns::{self, Netns};
use crate::out::Out;
use crate::programs::expression;
use nettap::uapi::stats::{SessionStats, TapStats};
use nettap::Filter;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// What a command works with.
#[derive(Debug)]
pub struct Context<'a, 'o> {
    /// The module.
    pub kernel: &'a (dyn Kernel + 'a),
    /// The namespace that the command line names, or the caller's.
    pub netns: &'a Netns,
    /// The printer.
    pub out: &'a mut Out<'o>,
    /// The command line, for what starts this program once more.
    pub argv: &'a [OsString],
}

impl std::fmt::Debug for dyn Kernel + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

/// How a command ended that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// The command did its work, and what it found is wrong: a balance that does not close.
    Bad,
}

/// Runs the command that the command line names.
pub fn dispatch(cli: Cli, context: &mut Context<'_, '_>) -> Result<Verdict, Failure> {
    let done = match cli.object {
        Object::Tap(args::Tap::List(list)) => tap::list(context, &list),
        Object::Tap(args::Tap::Add(add)) => add::add(context, &add),
        Object::Tap(args::Tap::Set(set)) => set::set(context, &set),
        Object::Tap(args::Tap::Confirm { id }) => set::confirm(context, id),
        Object::Tap(args::Tap::Del(del)) => tap::del(context, &del),
        Object::Tap(args::Tap::Stats(which)) => return stats::stats(context, &which),
        Object::Session(args::Session::List) => session::list(context),
        Object::Region(args::Region::Show) => region::show(context),
        Object::Group(args::Group::List) => group::list(context),
        Object::Dev(args::Dev::List) => dev::list(context),
        Object::Monitor(which) => monitor::monitor(context, &which),
        Object::Dump(args) => run::run(context, Run::Dump(args)),
        Object::Run(program) => run::run(context, program),
        Object::Status => status::status(context),
        Object::Tune(which) => tune::tune(context, &which),
        Object::Version => version::version(context),
        Object::Completion { shell } => version::completion(context, shell),
        Object::Man => man::man(context),
    };
    done.map(|()| Verdict::Good)
}

/// Names of the processes that have sessions, by session.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<u32, (u32, String)>);

impl Owners {
    /// The owners of these sessions.
    pub fn of(sessions: &[SessionStats]) -> Self {
        let owner = |session: &SessionStats| (session.id, (session.pid, name(&session.comm)));
        Self(sessions.iter().map(owner).collect())
    }

    /// Process name of a tap's owner, if its session still shows.
    pub fn comm(&self, tap: &TapStats) -> Option<&str> {
        self.0.get(&tap.session).map(|(_, comm)| comm.as_str())
    }

    /// `pid 812 (snort)`.
    pub fn said(&self, tap: &TapStats) -> String {
        match self.comm(tap) {
            Some(comm) => format!("pid {} ({comm})", tap.pid),
            None => format!("pid {}", tap.pid),
        }
    }
}

/// The taps that a command is about: with `--netns` those of that namespace, else the machine's.
pub fn taps_in_view(context: &Context<'_, '_>) -> Result<Vec<TapStats>, Failure> {
    let mut taps = context.kernel.taps()?;
    if context.netns.is_named() {
        taps.retain(|tap| tap.netns == context.netns.inode());
    }
    Ok(taps)
}

/// Whether a command may act on these taps: with `--netns` those of that namespace only.
pub fn in_view(context: &Context<'_, '_>, verb: &str, ids: &[u32]) -> Result<(), Failure> {
    if !context.netns.is_named() {
        return Ok(());
    }
    let taps = taps_in_view(context)?;
    let strange = |id: &&u32| !taps.iter().any(|tap| tap.id == **id);
    match ids.iter().find(strange) {
        Some(id) => {
            Err(no_tap(verb, *id)
                .hint("no tap of that namespace has this id: see `tapctl tap list`"))
        }
        None => Ok(()),
    }
}

/// What `--filter` or `--filter-bpf` names.
pub fn filter_of(
    dev: &str,
    expression: Option<&str>,
    pinned: Option<&Path>,
) -> Result<Option<Filter>, Failure> {
    if let Some(file) = pinned {
        return Ok(Some(Filter::pinned(file)?));
    }
    let filter = expression.map(|text| expression::compile(dev, text));
    filter.transpose().map_err(|text| {
        Failure::new(text).hint("pcap-filter(7) has the words; to compile them takes CAP_NET_RAW")
    })
}

/// The taps of an interface, in the namespace that the command line names or the caller's: names of
/// interfaces mean nothing beyond their namespace.
pub fn taps_of(context: &Context<'_, '_>, dev: &str) -> Result<Vec<TapStats>, Failure> {
    let mut taps = context.kernel.taps()?;
    taps.retain(|tap| tap.netns == context.netns.inode());
    // A record has the name that the interface had when the tap was opened.
    match index_of(context, dev) {
        Some(index) => taps.retain(|tap| tap.ifindex == index),
        None => taps.retain(|tap| name(&tap.ifname) == dev),
    }
    Ok(taps)
}

/// Index of the interface that has a name now; nothing when none has, or its namespace is closed to the caller.
fn index_of(context: &Context<'_, '_>, dev: &str) -> Option<u32> {
    context.netns.enter().ok()?;
    let links = links().ok()?;
    let link = links.iter().find(|link| link.name == dev)?;
    Some(link.index)
}

/// Words for namespaces: their name, or their number.
#[derive(Debug)]
pub struct Places(BTreeMap<u32, String>);

impl Places {
    /// The namespaces that have names now.
    pub fn look() -> Self {
        Self(netns::names())
    }

    /// Name of a namespace.
    pub fn name(&self, inode: u32) -> Option<&str> {
        self.0.get(&inode).map(String::as_str)
    }
}
