// SPDX-License-Identifier: GPL-2.0-only

//! `group list`: which groups there are, what their regions are like, and who may join them.

use super::Context;
use crate::failure::Failure;
use crate::kernel::name;
use crate::out::{Record, Value};
use nettap::uapi::stats::RegionStats;
use nettap::uapi::tap::Access;
use nettap::Info;

/// What people call the group without a name.
const DEFAULT: &str = "(default)";
/// Its access rule, which is none that a group can be given.
const ADMINISTRATORS: &str = "CAP_NET_ADMIN";

/// `group list`.
pub fn list(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let info = context.kernel.info()?;
    let regions = context.kernel.regions()?;
    let records: Vec<Record> = regions.iter().map(|one| record(one, &info)).collect();
    context.out.table("groups", &records, "no groups")
}

/// A group.
pub fn record(region: &RegionStats, info: &Info) -> Record {
    let made = region.mbufs != 0;
    let (size, mbufs, free) = if made {
        (region.mbuf_size, region.mbufs, Value::from(region.free))
    } else {
        (info.mbuf_size, info.mbufs, Value::Nothing)
    };
    let named = region.id != 0;
    let owner = |id: u32| named.then_some(id);
    Record::new()
        .both("id", "id", region.id)
        .json_only("group", name(&region.group))
        .plain_only("group", said(region))
        .json_only("access", named.then(|| access(region)))
        .plain_only(
            "access",
            if named {
                access(region)
            } else {
                Value::from(ADMINISTRATORS)
            },
        )
        .both("uid", "uid", owner(region.uid))
        .both("gid", "gid", owner(region.gid))
        .json_only("made", made)
        .both("mbufs", "mbufs", mbufs)
        .both("mbuf_size", "size of each", Value::Bytes(u64::from(size)))
        .both("free", "free", free)
        .both("sessions", "sessions", region.sessions)
        .both("taps", "taps", region.taps)
}

/// What people call a group.
pub fn said(region: &RegionStats) -> String {
    match region.id {
        0 => String::from(DEFAULT),
        _ => name(&region.group),
    }
}

/// The word for a group's access rule, or the integer of a newer module.
fn access(region: &RegionStats) -> Value {
    let known = Access::from_raw(region.access).map(Access::name);
    known.map_or_else(|| Value::Text(region.access.to_string()), Value::from)
}
