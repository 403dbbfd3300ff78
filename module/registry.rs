// SPDX-License-Identifier: GPL-2.0-only

//! What there is: the groups, the sessions, the taps, and which taps may stand beside which.
//!
//! Lock order: RTNL, then the registry's mutex, then spinlocks. Nothing that may touch a program's
//! memory runs under the mutex, because interfaces going away wait for it.

use core::time::Duration;

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVec;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNode;
use kernel::sync::Arc;
use kernel::sync::Mutex;

use crate::events::Events;
use crate::filter::Named;
use crate::group::Groups;
use crate::haul::TakenBack;
use crate::intake::Intake;
use crate::policies::Change;
use crate::policies::Common;
use crate::reclaim;
use crate::reclaim::Cause;
use crate::region;
use crate::serve::Serving;
use crate::stats::bump;
use crate::sys::netdev::Device;
use crate::sys::netdev::DeviceId;
use crate::sys::netdev::OnGone;
use crate::sys::netdev::Rtnl;
use crate::sys::task::current_pid;
use crate::sys::task::Process;
use crate::sys::time::Later;
use crate::sys::time::OnLater;
use crate::uapi::event::Event;
use crate::uapi::event::EventKind;
use crate::uapi::lock::LOCK_OWNER;
use crate::uapi::stats::RegionStats;
use crate::uapi::stats::SessionStats;
use crate::uapi::stats::TapStats;
use crate::uapi::tap::Fanout;
use crate::uapi::tap::Mode;
use crate::uapi::tap::NoConsumer;

/// Ended taps whose last figures are kept.
const ENDED_KEPT: usize = 64;
/// Longest α that a parameter may ask for.
const ALPHA_LIMIT_US: u32 = 1_000_000;

/// The module's parameters, checked.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) mbuf_size: u32,
    pub(crate) mbufs: u32,
    pub(crate) alpha_min_us: u32,
    pub(crate) alpha_max_us: u32,
    pub(crate) huge: bool,
}

impl Limits {
    /// `EINVAL`: out of range.
    pub(crate) fn new(
        mbuf_size: u32,
        mbufs: u32,
        min_us: u32,
        max_us: u32,
        huge: u32,
    ) -> Result<Self> {
        let alpha =
            (1..=ALPHA_LIMIT_US).contains(&min_us) && (min_us..=ALPHA_LIMIT_US).contains(&max_us);
        if !region::sizes_are_possible(mbuf_size, mbufs) || !alpha || huge > 1 {
            return Err(EINVAL);
        }
        Ok(Self {
            mbuf_size,
            mbufs,
            alpha_min_us: min_us,
            alpha_max_us: max_us,
            huge: huge != 0,
        })
    }

    /// Both bounds of α.
    pub(crate) fn alpha(&self) -> (Duration, Duration) {
        (
            Duration::from_micros(u64::from(self.alpha_min_us)),
            Duration::from_micros(u64::from(self.alpha_max_us)),
        )
    }
}

struct TapRecord {
    mode: Mode,
    group: u32,
    device: Arc<Device>,
    serving: Arc<Serving>,
    place: usize,
    intake: Arc<Intake>,
}

struct Inner {
    next_session: u32,
    next_tap: u32,
    /// By id, in the order of their making.
    sessions: RBTree<u32, Arc<Serving>>,
    taps: RBTree<u32, TapRecord>,
    /// The last figures of taps that have ended, oldest first, and whose they were.
    ended: KVec<(TapStats, Arc<Process>)>,
}

/// What there is.
#[pin_data]
pub(crate) struct Registry {
    pub(crate) limits: Limits,
    pub(crate) groups: Arc<Groups>,
    pub(crate) events: Arc<Events>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Registry {
    /// Nothing yet.
    pub(crate) fn new(limits: Limits) -> Result<Arc<Self>> {
        let ended = KVec::with_capacity(ENDED_KEPT, GFP_KERNEL)?;
        let events = Events::new()?;
        let groups = Groups::new(
            limits.mbuf_size,
            limits.mbufs,
            limits.huge,
            Arc::clone(&events),
        )?;
        Arc::pin_init(
            pin_init!(Self {
                limits,
                groups,
                events,
                inner <- new_mutex!(
                    Inner {
                        next_session: 1,
                        next_tap: 1,
                        sessions: RBTree::new(),
                        taps: RBTree::new(),
                        ended,
                    },
                    "nettap_registry"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes the data path of a new session known; `make` gets its id. `EBUSY`: ids have come round meanwhile.
    pub(crate) fn add_session(
        &self,
        make: impl FnOnce(u32) -> Result<Arc<Serving>>,
    ) -> Result<Arc<Serving>> {
        let id = {
            let mut inner = self.inner.lock();
            let mut id = inner.next_session;
            while inner.sessions.get(&id).is_some() {
                id = after(id);
            }
            inner.next_session = after(id);
            id
        };
        // Not under the mutex: memory that is charged to the caller may take its time, and interfaces that go need it.
        let serving = make(id)?;
        let node = RBTreeNode::new(id, Arc::clone(&serving), GFP_KERNEL_ACCOUNT)?;
        let mut inner = self.inner.lock();
        if inner.sessions.get(&id).is_some() {
            return Err(EBUSY);
        }
        inner.sessions.insert(node);
        Ok(serving)
    }

    /// Forgets a session.
    pub(crate) fn remove_session(&self, id: u32) {
        let gone = self.inner.lock().sessions.remove(&id);
        // Here, not under the mutex: the last reference waits for the server to end.
        drop(gone);
    }

    /// An id for a tap to be, that none has.
    pub(crate) fn new_tap_id(&self) -> u32 {
        let mut inner = self.inner.lock();
        let mut id = inner.next_tap;
        while inner.taps.get(&id).is_some() {
            id = id.wrapping_add(1).max(1);
        }
        inner.next_tap = id.wrapping_add(1).max(1);
        id
    }

    /// The intake for one more tap of an interface, and whether it is new: one that is to be shared is
    /// joined. `EBUSY`: what is there is another group's, cannot be shared, or not stand beside it;
    /// `EEXIST`: it can be shared, with other options.
    pub(crate) fn intake(
        &self,
        device: &Device,
        group: u32,
        common: Common,
        filter: Option<KBox<Named>>,
        _rtnl: &Rtnl,
    ) -> Result<(Arc<Intake>, bool)> {
        let inner = self.inner.lock();
        let there = device.identity();
        let mut taps = inner.taps.values();
        let in_the_way = |t: &&TapRecord| {
            t.device.is(there) && (t.group != group || !t.mode.beside(common.mode))
        };
        let Some(tap) = taps.find(in_the_way) else {
            return Ok((Intake::new(common, filter)?, true));
        };
        if tap.group != group {
            return Err(EBUSY);
        }
        let its = tap.intake.common();
        let shared = its.fanout != Fanout::None && common.fanout != Fanout::None;
        if its.mode != common.mode || !shared {
            return Err(EBUSY);
        }
        if its != common || !tap.intake.has_filter(filter.as_deref()) {
            return Err(EEXIST);
        }
        Ok((Arc::clone(&tap.intake), false))
    }

    /// Makes a tap known. `EBUSY`: ids have come round since it got its own, and another has that.
    pub(crate) fn add_tap(
        &self,
        id: u32,
        group: u32,
        device: &Arc<Device>,
        serving: &Arc<Serving>,
        place: usize,
        intake: &Arc<Intake>,
        _rtnl: &Rtnl,
    ) -> Result {
        let record = TapRecord {
            group,
            mode: intake.common().mode,
            device: Arc::clone(device),
            serving: Arc::clone(serving),
            place,
            intake: Arc::clone(intake),
        };
        let mut inner = self.inner.lock();
        if inner.taps.get(&id).is_some() {
            return Err(EBUSY);
        }
        inner
            .taps
            .try_create_and_insert(id, record, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Ends the tap of a descriptor, unless it has ended: its id may be another's by then.
    pub(crate) fn end_tap_of(
        &self,
        id: u32,
        serving: &Arc<Serving>,
        place: usize,
        cause: Cause,
        rtnl: &Rtnl,
    ) {
        let is_it = {
            let inner = self.inner.lock();
            let record = inner.taps.get(&id);
            record.is_some_and(|tap| Arc::ptr_eq(&tap.serving, serving) && tap.place == place)
        };
        if is_it {
            let _ = self.end_tap(id, false, cause, rtnl);
        }
    }

    /// Ends a tap by its id; what was taken back. `ENOENT`: there is none. `EPERM`: the caller may not.
    pub(crate) fn end_tap(
        &self,
        id: u32,
        check: bool,
        cause: Cause,
        rtnl: &Rtnl,
    ) -> Result<TakenBack> {
        let (serving, place, intake) = {
            let inner = self.inner.lock();
            let record = inner.taps.get(&id).ok_or(ENOENT)?;
            if check && !record.device.may_administer(rtnl) {
                return Err(EPERM);
            }
            let intake = Arc::clone(&record.intake);
            (Arc::clone(&record.serving), record.place, intake)
        };
        let mut ended = reclaim::untap(&serving, place, &intake, cause, rtnl);
        if let Some((last, _)) = &mut ended {
            intake.export(last);
        }
        let mut inner = self.inner.lock();
        let record = inner.taps.remove(&id);
        if let Some((last, _)) = ended {
            if inner.ended.len() >= ENDED_KEPT {
                let _ = inner.ended.remove(0);
            }
            let of = (last, serving.process());
            let _ = inner.ended.push_within_capacity(of);
        }
        drop(inner);
        drop(record);
        let Some((last, back)) = ended else {
            return Ok(TakenBack::default());
        };
        self.tell_end(&serving, &last, &back, cause);
        Ok(back)
    }

    fn tell_end(&self, serving: &Serving, last: &TapStats, back: &TakenBack, cause: Cause) {
        let describe = |event: &mut Event| {
            serving.describe(event);
            event.tap = last.id;
            event.group = last.group;
            event.mode = last.mode;
            event.ifindex = last.ifindex;
            event.netns = last.netns;
            event.ifname = last.ifname;
            event.cause = cause.raw();
        };
        back.tell(&self.events, describe);
        self.events.tell(EventKind::TapClose, |event| {
            describe(event);
            if cause == Cause::Untap {
                event.by = current_pid();
            }
        });
    }

    /// Changes policies of a tap by its id. `ENOENT`: there is none. `EPERM`: the caller may not.
    pub(crate) fn set(&self, id: u32, change: Change, rtnl: &Rtnl) -> Result {
        let (serving, place, intake) = {
            let inner = self.inner.lock();
            let record = inner.taps.get(&id).ok_or(ENOENT)?;
            if !record.device.may_administer(rtnl) {
                return Err(EPERM);
            }
            let intake = Arc::clone(&record.intake);
            (Arc::clone(&record.serving), record.place, intake)
        };
        // All that may fail comes first: either all is changed or nothing. RTNL is held, so they are the same then.
        let passing = change.no_consumer == Some(NoConsumer::Pass);
        let standbys = passing.then(|| intake.standbys()).transpose()?;
        let tap = serving.with(|state| -> Result<_> {
            let end = state.tap_at_mut(place, id).ok_or(ENOENT)?;
            change.apply(&end.tap.policies);
            end.watch.look_soon();
            Ok(Arc::clone(&end.tap))
        })?;
        tap.tell(EventKind::Policy, |event| {
            event.what = change.what;
            event.by = current_pid();
        });
        if let Some(policy) = change.on_full {
            intake.set_on_full(policy, rtnl);
        }
        if let Some(filter) = change.filter {
            intake.set_filter(filter, rtnl);
        }
        if let Some(policy) = change.no_consumer {
            intake.set_no_consumer(policy, rtnl);
        }
        reclaim::empty(standbys.into_iter().flatten(), rtnl);
        Ok(())
    }

    /// Ends all taps of a session, to which none comes meanwhile. RTNL is free in between: each may take its time.
    pub(crate) fn end_taps_of(&self, session: u32, cause: Cause) {
        while let Some(id) = self.first_tap(|tap| tap.serving.id == session) {
            let rtnl = Rtnl::lock();
            let _ = self.end_tap(id, false, cause, &rtnl);
        }
    }

    /// The first of some taps, by its id.
    fn first_tap(&self, which: impl Fn(&TapRecord) -> bool) -> Option<u32> {
        let inner = self.inner.lock();
        let mut taps = inner.taps.iter();
        taps.find(|(_, tap)| which(tap)).map(|(&id, _)| id)
    }

    /// Ends some taps: how many, and packets that were dropped with them.
    fn end_where(
        &self,
        which: impl Fn(&TapRecord) -> bool,
        cause: Cause,
        rtnl: &Rtnl,
    ) -> (u64, u64) {
        let (mut ended, mut dropped) = (0u64, 0u64);
        loop {
            let Some(Ok(back)) = self
                .first_tap(&which)
                .map(|id| self.end_tap(id, false, cause, rtnl))
            else {
                return (ended, dropped);
            };
            bump(&mut ended, 1);
            bump(&mut dropped, back.dropped);
        }
    }

    /// The record of the first region with an id from `from` on.
    pub(crate) fn region_stats(&self, from: u32) -> Option<RegionStats> {
        let mut stats = self.groups.stats(from)?;
        let inner = self.inner.lock();
        let taps = inner.taps.values().filter(|tap| tap.group == stats.id);
        stats.taps = taps.fold(0, |n, _| u32::wrapping_add(n, 1));
        Some(stats)
    }

    /// The record of the first session with an id from `from` on.
    pub(crate) fn session_stats(&self, from: u32) -> Option<SessionStats> {
        // Counting goes over a whole region: nobody who ends a tap waits for it.
        let serving = {
            let inner = self.inner.lock();
            let next = inner.sessions.cursor_lower_bound(&from)?;
            Arc::clone(next.current().1)
        };
        Some(serving.export())
    }

    /// The record of the first tap with an id from `from` on.
    pub(crate) fn tap_stats(&self, from: u32) -> Option<TapStats> {
        // As in `session_stats`.
        let (id, mode, place, serving, intake) = {
            let inner = self.inner.lock();
            let next = inner.taps.cursor_lower_bound(&from)?;
            let (&id, tap) = next.current();
            let (serving, intake) = (Arc::clone(&tap.serving), Arc::clone(&tap.intake));
            (id, tap.mode, tap.place, serving, intake)
        };
        let export = || {
            serving.with(|state| {
                let end = state.tap_at(place, id)?;
                Some((end.export(), Arc::clone(&end.tap)))
            })
        };
        // A tap that is just ending has left its session: its record shows who it was.
        let mut stats = TapStats {
            id,
            mode: mode.raw(),
            ..TapStats::default()
        };
        if let Some((before, of)) = export() {
            // Counting takes its time. What moves meanwhile cannot be counted, and what does not is.
            let out = of.count_out();
            let after = export();
            let ends = after.is_none();
            stats = after.map_or(before, |(after, _)| after);
            let moved =
                ends || stats.detoured != before.detoured || stats.ended() != before.ended();
            stats.in_flight = if moved {
                stats.detoured.wrapping_sub(stats.ended())
            } else {
                out
            };
        }
        stats.pid = serving.seen();
        intake.export(&mut stats);
        Some(stats)
    }

    /// The last record of the first ended tap with an id from `from` on.
    pub(crate) fn ended_stats(&self, from: u32) -> Option<TapStats> {
        let inner = self.inner.lock();
        let ended = inner.ended.iter().filter(|(tap, _)| tap.id >= from);
        let (tap, process) = ended.min_by_key(|(tap, _)| tap.id)?;
        let mut stats = *tap;
        stats.pid = process.seen();
        Some(stats)
    }
}

/// The session id to try after `id`: the word of a shared lock has room for it.
fn after(id: u32) -> u32 {
    (id.wrapping_add(1) & LOCK_OWNER).max(1)
}

impl OnGone for Registry {
    fn on_gone(&self, device: DeviceId, rtnl: &Rtnl) {
        let there = {
            let inner = self.inner.lock();
            let mut taps = inner.taps.values();
            let tap = taps.find(|t| t.device.is(device));
            tap.map(|t| {
                let of = &t.device;
                (of.ifindex(), of.namespace_inode(rtnl), of.name())
            })
        };
        let Some((ifindex, netns, ifname)) = there else {
            return;
        };
        let (ended, dropped) = self.end_where(|t| t.device.is(device), Cause::DeviceGone, rtnl);
        self.events.tell(EventKind::InterfaceGone, |event| {
            event.ifindex = ifindex;
            event.netns = netns;
            event.ifname = ifname;
            event.cause = Cause::DeviceGone.raw();
            event.count = ended;
            event.dropped = dropped;
        });
    }
}

/// Drops that were held back are told.
impl OnLater for Registry {
    fn later(&self) -> &Later {
        &self.events.later
    }

    fn on_later(&self) {
        let inner = self.inner.lock();
        for record in inner.taps.values() {
            let tap = record.serving.with(|state| {
                let end = state.taps.get(record.place)?.as_ref()?;
                Some(Arc::clone(&end.tap))
            });
            if let Some(tap) = tap {
                tap.tell_drops_held_back(false);
            }
        }
    }
}
