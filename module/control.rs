// SPDX-License-Identifier: GPL-2.0-only

//! One function per request: read the structure once, check it, do it, write it back.

use core::ops::RangeInclusive;
use core::time::Duration;

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::filter;
use crate::group::Asked;
use crate::policies::Change;
use crate::policies::Common;
use crate::policies::Options;
use crate::policies::Policies;
use crate::reclaim::Cause;
use crate::rings::cells_wanted;
use crate::session::Session;
use crate::sys::chardev::write_user;
use crate::sys::chardev::Request;
use crate::sys::netdev::Namespace;
use crate::sys::netdev::Rtnl;
use crate::sys::task::may_administer;
use crate::tapfile::TAPS;
use crate::uapi;
use crate::uapi::event::EVENT_QUEUE;
use crate::uapi::ioctl;
use crate::uapi::ioctl::request;
use crate::uapi::ioctl::SERVE_BUSY;
use crate::uapi::lock::LOCKS_MAX;
use crate::uapi::tap::Access;
use crate::uapi::tap::Fanout;
use crate::uapi::tap::Gso;
use crate::uapi::tap::Mode;
use crate::uapi::tap::NoConsumer;
use crate::uapi::tap::OnExit;
use crate::uapi::tap::OnFull;
use crate::uapi::tap::GROUP_MAX;
use crate::uapi::tap::MAX_BYTES_DEFAULT;
use crate::uapi::tap::RING_DEFAULT;
use crate::uapi::tap::RING_MAX;
use crate::uapi::tap::TAPS_MAX;
use crate::uapi::tap::TAP_FLAGS;
use crate::uapi::tap::TAP_STANDBY;
use crate::uapi::tap::TAP_UNSTAMPED;

const INFO: u32 = request(ioctl::INFO, 0);
const MAP: u32 = request(ioctl::MAP, 0);
const UNMAP: u32 = ioctl::request_unmap();
const PULL: u32 = request(ioctl::PULL, 0);
const PUSH: u32 = request(ioctl::PUSH, 0);
const TAP: u32 = request(ioctl::TAP, 0);
const UNTAP: u32 = request(ioctl::UNTAP, 0);
const QUERY: u32 = request(ioctl::QUERY, 0);
const SET: u32 = request(ioctl::SET, 0);
const MONITOR: u32 = request(ioctl::MONITOR, 0);
const LOCK: u32 = request(ioctl::LOCK, 0);
const SERVE: u32 = request(ioctl::SERVE, 0);

/// Does what a program asks of its session.
pub(crate) fn on_session(session: &Arc<Session>, request: &Request) -> Result {
    match request.number() {
        INFO => info(session, request),
        MAP => map(session, request),
        UNMAP => session.unmap(Cause::Unmap),
        PULL => pull(session, request),
        PUSH => push(session, request),
        TAP => tap(session, request),
        UNTAP => untap(session, request),
        QUERY => query(session, request),
        SET => set(session, request),
        MONITOR => monitor(session, request),
        LOCK => lock(session, request),
        SERVE => serve(session, request),
        _ => Err(ENOTTY),
    }
}

/// `EPROTO`, for which 7.2 has no name.
fn newer_program() -> Error {
    Error::from_errno(-71)
}

fn info(session: &Session, request: &Request) -> Result {
    let asked: ioctl::Info = request.read()?;
    if asked.reserved != [0; 4] {
        return Err(EINVAL);
    }
    if asked.abi_version > uapi::ABI_VERSION {
        return Err(newer_program());
    }
    let limits = &session.registry.limits;
    request.write(&ioctl::Info {
        abi_version: uapi::ABI_VERSION,
        session: session.serving.id,
        features: uapi::FEATURES,
        mbuf_size: limits.mbuf_size,
        mbufs: limits.mbufs,
        alpha_min_us: limits.alpha_min_us,
        alpha_max_us: limits.alpha_max_us,
        ring_max: RING_MAX,
        taps_max: TAPS_MAX,
        reserved: [0; 4],
    })
}

fn map(session: &Session, request: &Request) -> Result {
    let mut ask: ioctl::Map = request.read()?;
    if ask.flags != 0 || ask.pad != 0 || ask.reserved != 0 {
        return Err(EINVAL);
    }
    let group = group(&ask)?;
    session.map(group.as_ref(), &mut ask)?;
    request.write(&ask).inspect_err(|_| {
        let _ = session.unmap(Cause::Unmap);
    })
}

/// Whether these bytes are a name: terminated, and nothing behind its end. Names are printed, so they
/// have nothing in them that a terminal obeys.
fn is_name(bytes: &[u8; GROUP_MAX]) -> bool {
    let mut ended = false;
    for &byte in bytes {
        if byte == 0 {
            ended = true;
        } else if ended || !byte.is_ascii_graphic() {
            return false;
        }
    }
    ended
}

/// The group that a program asks for; none is the default one.
fn group(ask: &ioctl::Map) -> Result<Option<Asked>> {
    let access = Access::from_raw(ask.access).ok_or(EINVAL)?;
    if !is_name(&ask.group) {
        return Err(EINVAL);
    }
    if ask.group == [0; GROUP_MAX] {
        // Nobody makes the default group anew.
        let plain = (ask.access, ask.group_mbuf_size, ask.group_mbufs) == (0, 0, 0);
        return if plain { Ok(None) } else { Err(EINVAL) };
    }
    Ok(Some(Asked {
        name: ask.group,
        access,
        mbuf_size: ask.group_mbuf_size,
        mbufs: ask.group_mbufs,
    }))
}

fn timeout(us: u64) -> Option<Duration> {
    (us != 0).then(|| Duration::from_micros(us))
}

fn pull(session: &Session, request: &Request) -> Result {
    let ask: ioctl::Pull = request.read()?;
    if ask.reserved != 0 {
        return Err(EINVAL);
    }
    let serving = &session.serving;
    if serving.with(|state| state.supply.is_none()) {
        return Err(ENXIO);
    }
    match ask.n {
        0 => serving.wait_for_packet(timeout(ask.timeout_us)),
        n => serving.pull(n, timeout(ask.timeout_us)),
    }
}

fn push(session: &Session, request: &Request) -> Result {
    let ask: ioctl::Push = request.read()?;
    if ask.tap == -1 {
        return session.serving.push_dealloc();
    }
    let tap = TAPS.content_of(ask.tap)?;
    if !Arc::ptr_eq(&tap.serving, &session.serving) {
        return Err(EBADF);
    }
    session
        .serving
        .push(tap.place, tap.id, ask.n, timeout(ask.timeout_us))
}

fn tap(session: &Session, request: &Request) -> Result {
    let mut ask: ioctl::Tap = request.read()?;
    if ask.flags & !TAP_FLAGS != 0 || ask.pad != 0 || ask.reserved != [0; 4] {
        return Err(EINVAL);
    }
    let common = Common {
        mode: Mode::from_raw(ask.mode).ok_or(EINVAL)?,
        fanout: Fanout::from_raw(ask.fanout).ok_or(EINVAL)?,
        gso: Gso::from_raw(ask.gso).ok_or(EINVAL)?,
        on_full: OnFull::from_raw(ask.on_full).ok_or(EINVAL)?,
        no_consumer: NoConsumer::from_raw(ask.no_consumer).ok_or(EINVAL)?,
    };
    let options = Options {
        mode: common.mode,
        standby: ask.flags & TAP_STANDBY != 0,
        unstamped: ask.flags & TAP_UNSTAMPED != 0,
        ring_cells: cells_wanted(ask.ring_cells, RING_DEFAULT)?,
    };
    // Nobody else could consume.
    if options.standby && common.fanout == Fanout::None {
        return Err(EINVAL);
    }
    let on_exit = OnExit::from_raw(ask.on_exit).ok_or(EINVAL)?;
    let (snaplen, max_bytes) = (snaplen(ask.snaplen), max_bytes(ask.max_bytes));
    let policies = Policies::new(on_exit, snaplen, max_bytes, ask.max_age_us);
    let namespace = Namespace::of(ask.netns)?;
    if !namespace.may_administer() {
        return Err(EPERM);
    }
    let filter = filter::named(&ask.filter)?;
    let content = session.tap(&namespace, common, options, policies, filter, &mut ask)?;
    // From here on dropping the file ends the tap; before, nobody but us knows of it.
    let file = match TAPS.anonymous(c"[nettap]", Arc::clone(&content)) {
        Ok(file) => file,
        Err(e) => {
            content.end();
            return Err(e);
        }
    };
    ask.fd = file.fd() as i32;
    request.write(&ask)?;
    file.install();
    Ok(())
}

/// Zero is all of the packet.
fn snaplen(asked: u32) -> u32 {
    if asked == 0 {
        u32::MAX
    } else {
        asked
    }
}

/// Zero is the default.
fn max_bytes(asked: u64) -> u64 {
    if asked == 0 {
        MAX_BYTES_DEFAULT
    } else {
        asked
    }
}

fn set(session: &Session, request: &Request) -> Result {
    let ask: ioctl::Set = request.read()?;
    let known = ioctl::SET_ON_FULL
        | ioctl::SET_ON_EXIT
        | ioctl::SET_NO_CONSUMER
        | ioctl::SET_SNAPLEN
        | ioctl::SET_MAX_BYTES
        | ioctl::SET_MAX_AGE
        | ioctl::SET_FILTER;
    if ask.what & !known != 0 || ask.reserved != [0; 4] {
        return Err(EINVAL);
    }
    let asked = |bit: u32| ask.what & bit != 0;
    let mut change = Change {
        what: ask.what,
        snaplen: asked(ioctl::SET_SNAPLEN).then_some(snaplen(ask.snaplen)),
        max_bytes: asked(ioctl::SET_MAX_BYTES).then_some(max_bytes(ask.max_bytes)),
        max_age_us: asked(ioctl::SET_MAX_AGE).then_some(ask.max_age_us),
        ..Change::default()
    };
    if asked(ioctl::SET_FILTER) {
        change.filter = Some(filter::named(&ask.filter)?);
    }
    if asked(ioctl::SET_ON_FULL) {
        change.on_full = Some(OnFull::from_raw(ask.on_full).ok_or(EINVAL)?);
    }
    if asked(ioctl::SET_ON_EXIT) {
        change.on_exit = Some(OnExit::from_raw(ask.on_exit).ok_or(EINVAL)?);
    }
    if asked(ioctl::SET_NO_CONSUMER) {
        change.no_consumer = Some(NoConsumer::from_raw(ask.no_consumer).ok_or(EINVAL)?);
    }
    let rtnl = Rtnl::lock();
    session.registry.set(ask.id, change, &rtnl)
}

fn untap(session: &Session, request: &Request) -> Result {
    let ask: ioctl::Untap = request.read()?;
    if ask.reserved != 0 {
        return Err(EINVAL);
    }
    let rtnl = Rtnl::lock();
    session
        .registry
        .end_tap(ask.id, true, Cause::Untap, &rtnl)
        .map(drop)
}

/// Sizes that a program may say its records have.
const RECORD_SIZES: RangeInclusive<usize> = 8..=4096;

fn monitor(session: &Session, request: &Request) -> Result {
    let mut ask: ioctl::Monitor = request.read()?;
    let size = ask.record_size as usize;
    if (ask.flags, ask.pad) != (0, 0) || ask.reserved != [0; 2] || !RECORD_SIZES.contains(&size) {
        return Err(EINVAL);
    }
    // Events tell of everybody's programs.
    if !may_administer() {
        return Err(EPERM);
    }
    ask.queue = EVENT_QUEUE;
    // Before it listens, which it cannot cease to do while others may wait for its events.
    request.write(&ask)?;
    session.listen(ask.kinds, size)
}

fn lock(session: &Session, request: &Request) -> Result {
    let ask: ioctl::Lock = request.read()?;
    let of_wait = ask.op == ioctl::LOCK_WAIT || (ask.seen, ask.timeout_us) == (0, 0);
    if ask.pad != 0 || ask.reserved != 0 || ask.number >= LOCKS_MAX || !of_wait {
        return Err(EINVAL);
    }
    let (id, number) = (session.serving.id, ask.number);
    match ask.op {
        ioctl::LOCK_REGISTER => session.register_lock(number),
        ioctl::LOCK_UNREGISTER => session.locks()?.unregister(id, number).map(drop),
        ioctl::LOCK_WAIT => {
            let locks = session.locks()?;
            locks.wait(id, number, ask.seen, ask.timeout_us).map(drop)
        }
        ioctl::LOCK_WAKE => session.locks()?.wake(id, number),
        _ => Err(EINVAL),
    }
}

fn serve(session: &Session, request: &Request) -> Result {
    let mut ask: ioctl::Serve = request.read()?;
    if ask.flags & !SERVE_BUSY != 0 || ask.reserved != [0; 3] {
        return Err(EINVAL);
    }
    let busy = ask.flags & SERVE_BUSY != 0;
    // It takes a processor from everybody, whatever group or limit the caller is in.
    if busy && !may_administer() {
        return Err(EPERM);
    }
    ask.thread = session.set_busy(busy)?;
    request.write(&ask)
}

fn query(session: &Session, request: &Request) -> Result {
    let mut ask: ioctl::Query = request.read()?;
    let registry = &session.registry;
    let size = ask.record_size as usize;
    let known = (ioctl::QUERY_REGION..=ioctl::QUERY_ENDED).contains(&ask.kind);
    if !known || !RECORD_SIZES.contains(&size) {
        return Err(EINVAL);
    }
    let (room, mut from, mut written) = (ask.count, ask.from_id, 0u32);
    // One record at a time: nothing may be locked while the program's memory is written.
    while written < room {
        let at = (written as usize)
            .checked_mul(size)
            .and_then(|offset| (ask.records as usize).checked_add(offset))
            .ok_or(EFAULT)?;
        let id = match ask.kind {
            ioctl::QUERY_REGION => {
                let Some(record) = registry.region_stats(from) else {
                    break;
                };
                write_user(at, &record, size)?;
                record.id
            }
            ioctl::QUERY_SESSIONS => {
                let Some(record) = registry.session_stats(from) else {
                    break;
                };
                write_user(at, &record, size)?;
                record.id
            }
            ioctl::QUERY_TAPS | ioctl::QUERY_ENDED => {
                let record = if ask.kind == ioctl::QUERY_TAPS {
                    registry.tap_stats(from)
                } else {
                    registry.ended_stats(from)
                };
                let Some(record) = record else { break };
                write_user(at, &record, size)?;
                record.id
            }
            _ => return Err(EINVAL),
        };
        written = written.wrapping_add(1);
        let Some(next) = id.checked_add(1) else { break };
        from = next;
    }
    ask.count = written;
    request.write(&ask)
}
