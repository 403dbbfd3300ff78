// SPDX-License-Identifier: GPL-2.0-only

//! Taps from command-line arguments.

use crate::NAMED_NAMESPACES;
use anyhow::{bail, Context, Result};
use clap::{Args, ValueEnum};
use nettap::{Fanout, Gso, Mode, NoConsumer, OnExit, OnFull, Session, Tap};
use std::fs::File;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

/// An interface and a mode, written `b0:input`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    ifname: String,
    mode: Mode,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (ifname, mode) = text.rsplit_once(':').context("write INTERFACE:MODE")?;
        let modes = [Mode::Input, Mode::Output, Mode::Bypass];
        let Some(mode) = modes.into_iter().find(|known| known.name() == mode) else {
            bail!("{mode} is no mode");
        };
        Ok(Self {
            ifname: ifname.to_owned(),
            mode,
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Full {
    Pass,
    Drop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Exit {
    Revert,
    Drop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Super {
    Whole,
    Segment,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Share {
    Any,
    Flow,
    Cpu,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Absent {
    Pass,
    Hold,
}

/// The taps of a program, all with the same options.
#[derive(Args, Debug)]
pub(crate) struct Taps {
    /// A tap to open, as INTERFACE:MODE; may be given several times.
    #[arg(long = "tap", required = true)]
    places: Vec<Place>,
    /// Look for the interfaces in this named namespace.
    #[arg(long)]
    netns: Option<String>,
    /// Bytes of a packet that are captured.
    #[arg(long)]
    snaplen: Option<u32>,
    /// What happens when there is no room.
    #[arg(long)]
    on_full: Option<Full>,
    /// What happens to held packets when the tap ends.
    #[arg(long)]
    on_exit: Option<Exit>,
    /// How super-packets are seen.
    #[arg(long)]
    gso: Option<Super>,
    /// Bytes that a tap may hold.
    #[arg(long)]
    max_bytes: Option<u64>,
    /// Cells of the taps' rings: by default more than the library's, since a busy host keeps an emulated processor from
    /// running for tenths of a second, and what finds no room is not what most tests are about.
    #[arg(long, default_value_t = 2048)]
    ring_cells: u32,
    /// Share the packets with other sessions.
    #[arg(long)]
    fanout: Option<Share>,
    /// What happens while nobody consumes.
    #[arg(long)]
    no_consumer: Option<Absent>,
    /// Keep the taps open and consume nothing.
    #[arg(long)]
    standby: bool,
    /// Milliseconds that a packet may be held.
    #[arg(long)]
    max_age: Option<u64>,
    /// Have the session served by a thread of the kernel's without rest.
    #[arg(long)]
    busy: bool,
    /// Mbufs in the alloc ring.
    #[arg(long)]
    prealloc: Option<u32>,
    /// Group to join or make.
    #[arg(long, default_value = "")]
    group: String,
    /// Mbufs of a group that is made.
    #[arg(long, default_value_t = 0)]
    group_mbufs: u32,
}

impl Taps {
    /// Whether no packet is to be taken from them.
    pub(crate) fn is_standby(&self) -> bool {
        self.standby
    }

    /// Whether the session begins busy.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Opens the session and the taps.
    pub(crate) fn open(&self) -> Result<(Session, Vec<Tap>)> {
        let mut builder = Session::builder()
            .busy(self.busy)
            .group(&self.group)
            .mbufs(self.group_mbufs);
        if let Some(mbufs) = self.prealloc {
            builder = builder.prealloc(mbufs);
        }
        let session = builder.open()?;
        let netns = match &self.netns {
            Some(name) => {
                let path = format!("{NAMED_NAMESPACES}/{name}");
                Some(File::open(&path).context(path)?)
            }
            None => None,
        };
        let taps = self
            .places
            .iter()
            .map(|place| self.tap(&session, netns.as_ref(), place));
        let taps = taps.collect::<Result<_>>()?;
        Ok((session, taps))
    }

    fn tap(&self, session: &Session, netns: Option<&File>, place: &Place) -> Result<Tap> {
        let tap = session.tap(&place.ifname).mode(place.mode);
        let mut tap = tap.ring_cells(self.ring_cells);
        if let Some(netns) = netns {
            tap = tap.netns(netns.as_fd());
        }
        if let Some(bytes) = self.snaplen {
            tap = tap.snaplen(bytes);
        }
        if let Some(bytes) = self.max_bytes {
            tap = tap.max_bytes(bytes);
        }
        match self.on_full {
            Some(Full::Pass) => tap = tap.on_full(OnFull::Pass),
            Some(Full::Drop) => tap = tap.on_full(OnFull::Drop),
            None => {}
        }
        match self.on_exit {
            Some(Exit::Revert) => tap = tap.on_exit(OnExit::Revert),
            Some(Exit::Drop) => tap = tap.on_exit(OnExit::Drop),
            None => {}
        }
        match self.gso {
            Some(Super::Whole) => tap = tap.gso(Gso::Whole),
            Some(Super::Segment) => tap = tap.gso(Gso::Segment),
            None => {}
        }
        match self.fanout {
            Some(Share::Any) => tap = tap.fanout(Fanout::Any),
            Some(Share::Flow) => tap = tap.fanout(Fanout::Flow),
            Some(Share::Cpu) => tap = tap.fanout(Fanout::Cpu),
            None => {}
        }
        match self.no_consumer {
            Some(Absent::Pass) => tap = tap.no_consumer(NoConsumer::Pass),
            Some(Absent::Hold) => tap = tap.no_consumer(NoConsumer::Hold),
            None => {}
        }
        if let Some(ms) = self.max_age {
            tap = tap.max_age(Duration::from_millis(ms));
        }
        Ok(tap.standby(self.standby).open()?)
    }
}
