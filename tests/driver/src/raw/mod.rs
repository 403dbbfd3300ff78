// SPDX-License-Identifier: GPL-2.0-only

//! The ABI by hand: every subcommand makes the calls itself, from the structures of `uapi/`, and
//! judges `errno`, time and counters.

mod busy;
mod calls;
mod ending;
mod events;
mod filters;
mod fresh;
mod groups;
mod hostile;
mod huge;
mod lengths;
mod locked;
mod locks;
mod mapping;
mod modes;
mod session;
mod shaped;
mod supply;
mod told;
mod waiting;

use crate::Outcome;
use anyhow::Result;
use clap::{Args, Subcommand};
use nettap::TapStats;
use std::net::SocketAddr;

/// A peer on an interface: packets that this process sends to it leave through the interface.
#[derive(Args, Clone)]
pub(crate) struct Peer {
    /// Interface to tap.
    ifname: String,
    /// Where datagrams go: a receiver behind that interface.
    to: SocketAddr,
}

#[derive(Subcommand)]
pub(crate) enum Suite {
    /// The version handshake, sizes of structures, reserved fields.
    Calls,
    /// Errors of `mbuf_map`, and what may be mapped how.
    Mapping,
    /// `mbuf_map` once; prints `ok` or the name of the errno.
    TryMap(mapping::TryMap),
    /// Groups: names, sizes, coming and going.
    Groups,
    /// Fresh memory is zero, that of a module that has just been loaded and that of groups.
    Fresh,
    /// A session of one group tries to reach what another's holds.
    Apart(Peer),
    /// A region in huge pages, and what a program can do to its mapping.
    Huge(huge::Huge),
    /// Where the region of a new group lies.
    Node(huge::Node),
    /// The account of locked memory, with a limit of 10 MiB.
    Locked,
    /// `interface_tap` once; prints `ok` or the name of the errno.
    TryTap(modes::TryTap),
    /// Unmap, munmap and close in every order, with a tap that holds packets.
    Orders(Peer),
    /// The alloc ring's floor, `mbuf_pull(n)`, `mbuf_push(-1)`.
    Supply,
    /// `mbuf_pull(0)`, `mbuf_push(tap)`, poll and epoll.
    Waiting(Peer),
    /// Which modes stand beside which.
    Modes(Peer),
    /// As many taps as a session may have, and as many as may share one.
    Full(Peer),
    /// Events: listeners, their queues, and what they are told.
    Events(Peer),
    /// A session and its fork.
    Fork(Peer),
    /// What a program gave back just before its tap ended, or it was killed.
    LastWords(Peer),
    /// Forged, duplicate and stale entries, scribbled rings.
    Hostile(Peer),
    /// Filters that are refused, and what others see and do.
    Filters(Peer),
    /// Sessions that a thread serves without rest: requests, what is told.
    Busy,
    /// Shared locks: requests, waits, deaths, scribbled words.
    Locks,
    /// Give super-packets or snapped packets another length, which is refused.
    Lengths(lengths::Lengths),
    /// Headers of changed and new packets that cannot be.
    Shapes(Peer),
}

impl Suite {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::Calls => calls::run(),
            Self::Mapping => mapping::run(),
            Self::TryMap(attempt) => attempt.run(),
            Self::Groups => groups::run(),
            Self::Fresh => fresh::run(),
            Self::Apart(peer) => groups::apart(&peer),
            Self::Huge(huge) => huge.run(),
            Self::Node(node) => node.run(),
            Self::Locked => locked::run(),
            Self::TryTap(attempt) => attempt.run(),
            Self::Orders(peer) => ending::orders(&peer),
            Self::Supply => supply::run(),
            Self::Waiting(peer) => waiting::run(&peer),
            Self::Modes(peer) => modes::run(&peer),
            Self::Full(peer) => modes::full(&peer),
            Self::Events(peer) => events::run(&peer),
            Self::Fork(peer) => ending::fork(&peer),
            Self::LastWords(peer) => ending::last_words(&peer),
            Self::Hostile(peer) => hostile::run(&peer),
            Self::Filters(peer) => filters::run(&peer),
            Self::Busy => busy::run(),
            Self::Locks => locks::run(),
            Self::Lengths(lengths) => lengths.run(),
            Self::Shapes(peer) => shaped::run(&peer),
        }
    }
}

/// The last figures of the latest taps that have ended, which the library does not ask for.
pub(crate) fn ended_taps() -> Result<Vec<TapStats>> {
    session::Session::open()?.ended_taps()
}
