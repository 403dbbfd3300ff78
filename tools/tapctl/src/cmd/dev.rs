// SPDX-License-Identifier: GPL-2.0-only

//! `dev list`: the interfaces of the namespace, in which modes each can be tapped now, and what
//! stands in the way of the others.

use super::add::{in_the_way, obstacle};
use super::{Context, Owners};
use crate::failure::Failure;
use crate::link::{links, Link};
use crate::out::{Record, Value};
use caps::{CapSet, Capability};
use nettap::uapi::stats::TapStats;
use nettap::uapi::tap::Mode;

const MODES: [Mode; 3] = [Mode::Input, Mode::Output, Mode::Bypass];

/// `dev list`.
pub fn list(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    // The module first: without it no interface can be tapped, whatever else there is to say.
    let mut taps = context.kernel.taps()?;
    taps.retain(|tap| tap.netns == context.netns.inode());
    let owners = Owners::of(&context.kernel.sessions()?);
    context.netns.enter()?;
    let links = links()?;
    let privileged =
        caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap_or(false);
    let records: Vec<Record> = links
        .iter()
        .map(|link| {
            let mut own = taps.clone();
            own.retain(|tap| tap.ifindex == link.index);
            record(link, &links, &own, &owners, privileged)
        })
        .collect();
    context.out.table("devs", &records, "no interfaces")
}

/// What the list says about an interface with these taps.
pub fn record(
    link: &Link,
    links: &[Link],
    taps: &[TapStats],
    owners: &Owners,
    privileged: bool,
) -> Record {
    let master = link.master.map(|index| {
        let found = links.iter().find(|link| link.index == index);
        // In another namespace, where its name says nothing here.
        found.map_or_else(|| format!("#{index}"), |link| link.name.clone())
    });
    let (can, why_not) = modes(link, taps, owners, privileged);
    let standing: Vec<Value> = taps
        .iter()
        .map(|tap| {
            Record::new()
                .both("id", "", tap.id)
                .both("mode", "", super::tap::mode(tap))
                .json_only("pid", tap.pid)
                .json_only("comm", owners.comm(tap))
                .into()
        })
        .collect();
    Record::new()
        .both("dev", "dev", link.name.clone())
        .json_only("ifindex", link.index)
        .both("kind", "kind", link.kind.clone())
        .both("mtu", "mtu", link.mtu)
        .both("state", "state", link.state.clone())
        .json_only("up", link.up)
        .json_only("ethernet", link.ethernet)
        .both("master", "master", master)
        .json_only("taps", Value::List(standing))
        .both("can", "can be tapped", can)
        .both("why_not", "why not", why_not)
        .both("notes", "notes", notes(link))
}

/// The modes that are free, and a reason for those that are not.
fn modes(
    link: &Link,
    taps: &[TapStats],
    owners: &Owners,
    privileged: bool,
) -> (Vec<&'static str>, Vec<String>) {
    let never = if !link.ethernet {
        // As nettap_dev_is_ethernet() of the module decides.
        Some("its packets have no Ethernet header")
    } else if !privileged {
        Some("needs CAP_NET_ADMIN: run it with sudo")
    } else {
        None
    };
    if let Some(reason) = never {
        return (Vec::new(), vec![String::from(reason)]);
    }
    let mut can = Vec::new();
    let mut why_not: Vec<String> = Vec::new();
    for mode in MODES {
        match in_the_way(taps, mode) {
            None => can.push(mode.name()),
            Some(tap) => {
                let reason = obstacle(tap, owners);
                if !why_not.contains(&reason) {
                    why_not.push(reason);
                }
            }
        }
    }
    (can, why_not)
}

/// What a tap on it would meet that its opener may not expect.
fn notes(link: &Link) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if !link.up {
        notes.push("is down, no packet passes");
    }
    if link.loopback {
        notes.push("both ends of each connection are here");
    }
    notes
}
