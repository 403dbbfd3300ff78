// SPDX-License-Identifier: GPL-2.0-only

//! Groups by the ABI: how they are named, made, joined and left, and that a session of one cannot see,
//! name or take what is another's.

use super::mapping::{mmap, RO};
use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::ioctl::Map;
use nettap_uapi::layout::LOCKS_LEN;
use nettap_uapi::mbuf::MBUFS_MAX;
use nettap_uapi::ring::Entry;
use nettap_uapi::stats::{Refused, RegionStats};
use nettap_uapi::tap::{ACCESS_ALL, ACCESS_GID, ACCESS_UID, GROUP_MAX, TAP_INPUT, TAP_OUTPUT};
use nix::errno::Errno;

/// Mbufs that the sessions here keep ready.
const PREALLOC: u32 = 16;

/// The request for a group that this process makes or joins.
pub(super) fn group_request(name: &[u8], mbufs: u32) -> Map {
    let mut asked = Map {
        prealloc: PREALLOC,
        group_mbufs: mbufs,
        ..Default::default()
    };
    for (to, from) in asked.group.iter_mut().zip(name) {
        *to = *from;
    }
    asked
}

/// A session in a group, its memory mapped.
fn member(name: &str, mbufs: u32) -> Result<Session> {
    let mut session = Session::open()?;
    session
        .map(group_request(name.as_bytes(), mbufs))?
        .with_context(|| format!("MAP of group {name}"))?;
    Ok(session)
}

/// The record of a group, if it is there.
fn record(session: &Session, name: &str) -> Result<Option<RegionStats>> {
    let wanted = group_request(name.as_bytes(), 0).group;
    let mut all = session.all_regions()?.into_iter();
    Ok(all.find(|region| region.group == wanted))
}

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    names(&mut checks)?;
    life(&mut checks)?;
    one_after_the_other(&mut checks)?;
    checks.verdict()
}

fn names(checks: &mut Checks) -> Outcome {
    let session = Session::open()?;
    let mut behind = group_request(b"web", 0);
    behind.group[10] = b'x';
    let mut refused = vec![
        (
            "a name without its end",
            group_request(&[b'x'; GROUP_MAX], 0),
        ),
        ("a name with a space", group_request(b"a b", 0)),
        (
            "a name that a terminal obeys",
            group_request(b"\x1b[31m", 0),
        ),
        (
            "a name that is no ASCII",
            group_request("käse".as_bytes(), 0),
        ),
        ("bytes behind a name's end", behind),
        ("a size without a name", group_request(b"", 64)),
        (
            "more mbufs than can be",
            group_request(b"web", MBUFS_MAX + 1),
        ),
    ];
    for (what, access, mbuf_size) in [
        ("no such rule", ACCESS_ALL + 1, 0),
        ("mbufs of 1000 bytes", ACCESS_UID, 1000),
        ("mbufs of 256 bytes", ACCESS_UID, 256),
    ] {
        let asked = Map {
            access,
            group_mbuf_size: mbuf_size,
            ..group_request(b"web", 64)
        };
        refused.push((what, asked));
    }
    let rule = Map {
        access: ACCESS_ALL,
        ..group_request(b"", 0)
    };
    refused.push(("a rule without a name", rule));
    let prealloc = Map {
        prealloc: 65,
        ..group_request(b"web", 64)
    };
    refused.push(("more mbufs to keep ready than the group has", prealloc));
    for (what, asked) in refused {
        checks.equal(what, session.map_only(asked).err(), Some(Errno::EINVAL));
    }
    checks.equal("and none has made a group", named(&session)?, 0);
    Ok(())
}

/// Groups but the default one.
fn named(session: &Session) -> Result<usize> {
    let all = session.all_regions()?;
    Ok(all.iter().filter(|region| region.id != 0).count())
}

fn life(checks: &mut Checks) -> Outcome {
    let asked = Map {
        access: ACCESS_GID,
        group_mbuf_size: 512,
        ..group_request(b"web", 64)
    };
    let first = Session::open()?;
    let told = first.map_only(asked)?;
    checks.equal(
        "a group has the size that its creator gave",
        (told.mbufs, told.mbuf_size, told.region_len),
        (64, 512, 64 * 512),
    );
    let region = record(&first, "web")?.context("the group is not listed")?;
    checks.equal(
        "it is listed",
        (
            region.mbufs,
            region.mbuf_size,
            region.access,
            region.sessions,
        ),
        (64, 512, ACCESS_GID, 1),
    );
    checks.that("with an id of its own", region.id != 0, region.id);
    checks.equal(
        "and so is its session",
        (first.stats()?.mapped, first.stats()?.group),
        (1, region.id),
    );

    let second = Session::open()?;
    for (what, asked) in [
        ("more mbufs", group_request(b"web", 128)),
        (
            "larger mbufs",
            Map {
                group_mbuf_size: 2048,
                ..group_request(b"web", 0)
            },
        ),
        (
            "another rule",
            Map {
                access: ACCESS_ALL,
                ..group_request(b"web", 0)
            },
        ),
    ] {
        let joined = second.map_only(asked).err();
        checks.equal(format!("joined with {what}"), joined, Some(Errno::EEXIST));
    }
    let told = second.map_only(group_request(b"web", 0))?;
    checks.equal("joined with zeros", (told.mbufs, told.mbuf_size), (64, 512));
    let third = Session::open()?;
    checks.that(
        "joined with the same values",
        third.map_only(asked).is_ok(),
        "it was refused",
    );
    let sessions = |session: &Session| -> Result<u32> {
        Ok(record(session, "web")?.map_or(0, |region| region.sessions))
    };
    checks.equal("three sessions are in it", sessions(&first)?, 3);
    checks.equal("one leaves", third.unmap(), Ok(()));
    drop(second);
    checks.equal("another closes", sessions(&first)?, 1);
    let default = Session::ready()?;
    checks.equal(
        "the default group knows nothing of it",
        (default.region_stats()?.id, default.region_stats()?.sessions),
        (0, 1),
    );
    first.unmap()?;
    checks.equal("with its last session the group goes", named(&first)?, 0);
    Ok(())
}

/// A session may leave one group and join another; then it has nothing of the first any more.
fn one_after_the_other(checks: &mut Checks) -> Outcome {
    let mut session = member("web", 64)?;
    let beside = member("web", 64)?;
    let entry = session.mapped()?.alloc.take()?.context("no mbuf")?;
    session.unmap()?;
    let asked = group_request(b"mail", 64);
    session.map(asked)?.context("MAP of another group")?;
    let id = record(&session, "mail")?.map(|region| region.id);
    checks.equal(
        "a session joins another group",
        Some(session.stats()?.group),
        id,
    );
    // The index may be its own in the new group; then the generation is another, unless it is the
    // first use in both.
    let mine = session.mapped()?.alloc.take()?.context("no mbuf")?;
    let old = Entry {
        generation: entry.generation.wrapping_add(1),
        ..entry
    };
    session.mapped()?.dealloc.put(old)?;
    session.push(-1, 0, 1_000_000)?;
    let refused = session.stats()?.refused;
    checks.equal(
        "  and cannot name what it had",
        refused.holder + refused.generation,
        1,
    );
    session.mapped()?.dealloc.put(mine)?;
    session.push(-1, 0, 1_000_000)?;
    let web = record(&beside, "web")?.context("the first group is gone")?;
    checks.equal(
        "  which has all of it back",
        (web.free, web.allocated, web.reclaimed),
        (64 - PREALLOC, PREALLOC, u64::from(PREALLOC)),
    );
    Ok(())
}

/// The victim of [`apart`] holds packets; the liar is in another group.
struct Apart {
    left: Session,
    held: Vec<Entry>,
    tap: Tap,
    right: Session,
    lie: Tap,
}

/// Packets that the victim holds.
const HELD: u64 = 8;
/// Mbufs of the victim's region and of the liar's: as many, so that a length that fits one fits the other.
const MBUFS: u32 = 256;
/// What the victim has written behind the packets in each of its mbufs.
const MARK: &[u8; 32] = b"what the other group alone has..";

pub(super) fn apart(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let left = member("left", MBUFS)?;
    let tap = left.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let datagrams = Datagrams::to(peer)?;
    datagrams.send(HELD)?;
    let held = (0..HELD).map(|_| tap.receive()).collect::<Result<_>>()?;
    let right = member("right", MBUFS)?;
    let lie = right.tap(tap_request("lo", TAP_INPUT))?;
    let apart = Apart {
        left,
        held,
        tap,
        right,
        lie,
    };
    apart.same_interface(&mut checks, peer)?;
    apart.windows(&mut checks)?;
    apart.names(&mut checks)?;
    apart.chains(&mut checks)?;
    apart.bytes(&mut checks)?;
    apart.unharmed(&mut checks)?;
    println!("expect {}", datagrams.sent());
    checks.verdict()
}

/// How many marks of the victim's lie there.
fn marks(bytes: &[u8]) -> usize {
    bytes.windows(MARK.len()).filter(|run| run == MARK).count()
}

impl Apart {
    /// Taps of one interface are of one group.
    fn same_interface(&self, checks: &mut Checks, peer: &Peer) -> Outcome {
        let beside = self.right.tap_only(tap_request(&peer.ifname, TAP_INPUT));
        checks.equal(
            "an input tap beside another group's output tap",
            beside.err(),
            Some(Errno::EBUSY),
        );
        checks.equal(
            "a push by another session's tap",
            self.right.push(self.tap.number(), 0, 0),
            Err(Errno::EBADF),
        );
        Ok(())
    }

    /// Whatever offset and length the liar maps, it maps what is its own.
    fn windows(&self, checks: &mut Checks) -> Outcome {
        let (left, right) = (self.left.mapped()?, self.right.mapped()?);
        let (theirs, told) = (left.told, right.told);
        checks.equal(
            "both regions are told alike",
            (told.region_len, told.region_offset),
            (theirs.region_len, theirs.region_offset),
        );
        let behind = theirs.mbuf_size as usize - MARK.len();
        for index in 0..theirs.mbufs {
            left.write(index, behind, MARK)?;
        }
        checks.equal(
            "the marks of the victim stand in its region",
            marks(&left.whole()),
            MBUFS as usize,
        );

        // All pages from the region's beginning to twice its length, those about the locks, and the places of all rings
        // that a session can have, with a number of them beyond.
        let page = 4096;
        let step = theirs.alloc.rw_offset - theirs.alloc.ro_offset;
        let about = |place: u64, pages: u64| {
            let first = place.saturating_sub(pages * page);
            (first..=place + pages * page).step_by(page as usize)
        };
        let mut offsets: Vec<u64> = about(told.region_offset, 2 * told.region_len / page).collect();
        offsets.extend(about(told.locks_offset, 8));
        offsets.extend(about(theirs.alloc.ro_offset, 8));
        offsets.extend((1..1024).map(|place| theirs.alloc.ro_offset + place * step));
        let rings = [theirs.alloc.ro_len, theirs.alloc.rw_len, LOCKS_LEN].map(u64::from);
        let mut lengths = vec![page, theirs.region_len];
        lengths.extend(rings);
        lengths.sort_unstable();
        lengths.dedup();

        let (mut found, mut regions, mut others) = (0, 0, 0);
        for &offset in &offsets {
            for &len in &lengths {
                let Ok(place) = mmap(&self.right, len, offset, RO, libc::MAP_SHARED) else {
                    continue;
                };
                // SAFETY: a mapping of that length, which nobody else knows, until it is unmapped below; what others
                // write there meanwhile is looked at as bytes.
                let bytes = unsafe { std::slice::from_raw_parts(place.cast::<u8>(), len as usize) };
                found += marks(bytes);
                regions += u32::from(len == theirs.region_len);
                others += u32::from(len != theirs.region_len);
                // SAFETY: as above, and `bytes` is not used any more.
                unsafe { libc::munmap(place, len as usize) };
            }
        }
        checks.equal("marks of the victim in what the liar maps", found, 0);
        // Its own region, its locks and four rings, of which it has both sides.
        checks.equal("what it maps is its own", (regions, others), (1, 1 + 8));
        Ok(())
    }

    /// Every name that there can be in the other region, by both rings.
    fn names(&self, checks: &mut Checks) -> Outcome {
        let mapped = self.right.mapped()?;
        let mut sent = 0u64;
        let own: Vec<u32> = (0..PREALLOC).collect();
        for index in (0..MBUFS).filter(|index| !own.contains(index)) {
            for generation in 0..4 {
                let entry = Entry {
                    index,
                    generation,
                    flags: 0,
                };
                self.lie.revert.put(entry)?;
                mapped.dealloc.put(entry)?;
                sent += 1;
            }
            self.right.push(self.lie.number(), 4, 5_000_000)?;
            self.right.push(-1, 0, 0)?;
        }
        for entry in &self.held {
            self.lie.revert.put(*entry)?;
            mapped.dealloc.put(*entry)?;
            sent += 1;
        }
        self.right.push(self.lie.number(), HELD as u32, 5_000_000)?;
        self.right.push(-1, 0, 0)?;
        let all = |refused: Refused| refused.index + refused.holder + refused.generation;
        let (tap, session) = (self.lie.stats(&self.right)?, self.right.stats()?);
        checks.equal("names refused by the revert ring", all(tap.refused), sent);
        checks.equal("and by the dealloc ring", all(session.refused), sent);
        checks.equal(
            "nothing was sent on or dropped by them",
            (
                tap.injected,
                tap.injected_refused,
                tap.crossed_in,
                session.deallocated,
            ),
            (0, 0, 0, 0),
        );
        Ok(())
    }

    /// A chain leads into the liar's own region only.
    fn chains(&self, checks: &mut Checks) -> Outcome {
        let mapped = self.right.mapped()?;
        let entry = mapped.alloc.take()?.context("no mbuf")?;
        let mut header = mapped.header(entry.index)?;
        header.len = 64;
        // Not the first of them, which may have become the liar's own when its alloc ring was refilled.
        header.next = self.held.last().context("nothing is held")?.index;
        mapped.set_header(entry.index, header)?;
        self.lie.revert.put(entry)?;
        self.right.push(self.lie.number(), 1, 5_000_000)?;
        checks.equal(
            "a new packet that goes on in an mbuf of the other group's number",
            self.lie.stats(&self.right)?.injected_refused,
            1,
        );
        Ok(())
    }

    /// The numbered datagrams are ascending bytes.
    fn bytes(&self, checks: &mut Checks) -> Outcome {
        let ascending = |region: &[u8]| {
            let runs = region.windows(32).filter(|run| {
                run.iter()
                    .zip(run.iter().skip(1))
                    .all(|(a, b)| *b == a.wrapping_add(1))
            });
            runs.count() > 0
        };
        checks.that(
            "the packets lie in their own group's memory",
            ascending(&self.left.mapped()?.whole()),
            "they do not",
        );
        checks.that(
            "and not in the other's",
            !ascending(&self.right.mapped()?.whole()),
            "they do",
        );
        Ok(())
    }

    /// The victim has noticed nothing.
    fn unharmed(&self, checks: &mut Checks) -> Outcome {
        let tap = self.tap.stats(&self.left)?;
        checks.equal(
            "the victim still holds its packets",
            (tap.detoured, tap.in_flight, tap.ended()),
            (HELD, HELD, 0),
        );
        checks.equal(
            "and was refused nothing",
            (tap.refused, self.left.stats()?.refused),
            (Refused::default(), Refused::default()),
        );
        for entry in &self.held {
            self.tap.revert.put(*entry)?;
        }
        self.left.push(self.tap.number(), HELD as u32, 5_000_000)?;
        let tap = self.tap.stats(&self.left)?;
        checks.equal(
            "they go on",
            (tap.reverted, tap.in_flight, tap.balances()),
            (HELD, 0, true),
        );
        Ok(())
    }
}
