// SPDX-License-Identifier: GPL-2.0-only

//! NetTap: packets of an interface detour through a program and revert into the host or out of the
//! interface, over rings in shared memory.
//!
//! This file says what there is and in which order it comes and goes. The road of a packet:
//! `sys/hook` → `detour` → (program) → `serve` → `revert` → host or interface; `reclaim` is the road
//! of those whose program does not send them back.

#![deny(unsafe_code)]

use core::borrow::Borrow;

use kernel::prelude::*;
use kernel::sync::Arc;

mod account;
mod control;
mod detour;
mod device;
mod drain;
mod drops;
mod events;
mod filter;
mod flows;
mod group;
mod haul;
mod intake;
mod lock;
mod outbox;
mod policies;
mod reclaim;
mod region;
mod registry;
mod revert;
mod rings;
mod round;
mod serve;
mod session;
mod stats;
mod supply;
mod sys;
mod tap;
mod tapend;
mod tapfile;
mod watch;

/// The border between kernel and program, shared with the library.
#[path = "../uapi/src/lib.rs"]
#[allow(dead_code)]
pub mod uapi;

use registry::Limits;
use registry::Registry;
use session::Session;
use sys::chardev::DeviceNode;
use sys::netdev::Notifier;
use sys::server::PutOff;
use sys::time::Doing;

/// Fields go in order: first nobody can open a session, then nobody tells of interfaces, then nothing
/// is done later, then the registry and with it the region, and what rounds put off. Files hold the module, so there are no
/// sessions by then.
struct NetTap {
    _node: DeviceNode<Registry>,
    _notifier: Notifier<Registry>,
    _doing: Doing<Registry>,
    _put_off: PutOff,
}

module! {
    type: NetTap,
    name: "nettap",
    authors: ["The NetTap authors"],
    description: "Packets detour through a program and revert",
    license: "GPL",
    params: {
        mbuf_size: u32 {
            default: 2048,
            description: "Size of an mbuf in bytes, a power of two from 512 to 32768 (2048)",
        },
        mbufs: u32 {
            default: 4096,
            description: "Mbufs of the default region, 1 to 16777216, allocated at the first mbuf_map (4096)",
        },
        alpha_min_us: u32 {
            default: 50,
            description: "Shortest time between two rounds of serving while packets are out, in microseconds up to 1000000 (50)",
        },
        alpha_max_us: u32 {
            default: 1000,
            description: "Longest time between two rounds of serving while packets are out, in microseconds up to 1000000 (1000)",
        },
        huge_pages: u32 {
            default: 1,
            description: "Whether regions lie in huge pages as far as there are any: 0 or 1 (1)",
        },
    },
}

/// The value of a parameter, which 7.2 lends and 7.3 gives.
fn parameter(value: impl Borrow<u32>) -> u32 {
    *value.borrow()
}

impl kernel::Module for NetTap {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let limits = Limits::new(
            parameter(module_parameters::mbuf_size.value()),
            parameter(module_parameters::mbufs.value()),
            parameter(module_parameters::alpha_min_us.value()),
            parameter(module_parameters::alpha_max_us.value()),
            parameter(module_parameters::huge_pages.value()),
        )
        .inspect_err(|_| {
            pr_err!("parameters out of range: see modinfo nettap for what each may be\n");
        })?;
        let put_off = PutOff::start()?;
        let registry = Registry::new(limits)?;
        let doing = Doing::start(Arc::clone(&registry));
        let notifier = Notifier::register(Arc::clone(&registry))?;
        let node = DeviceNode::register::<Session>(c"nettap", &device::SESSIONS, registry)?;
        Ok(Self {
            _node: node,
            _notifier: notifier,
            _doing: doing,
            _put_off: put_off,
        })
    }
}
