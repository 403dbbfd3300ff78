// SPDX-License-Identifier: GPL-2.0-only

//! What there is: the region, the sessions, the taps, and which taps may stand beside which.
//!
//! Lock order: RTNL, then the registry's mutex, then spinlocks. Nothing that may touch a program's
//! memory runs under the mutex, because interfaces going away wait for it.

use core::time::Duration;

use kernel::alloc::KVec;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;

use crate::reclaim;
use crate::reclaim::Cause;
use crate::region;
use crate::region::Region;
use crate::serve::Serving;
use crate::sys::netdev::Device;
use crate::sys::netdev::DeviceId;
use crate::sys::netdev::OnGone;
use crate::sys::netdev::Rtnl;
use crate::sys::task::BottomHalvesOff;
use crate::uapi::ioctl::RegionStats;
use crate::uapi::ioctl::SessionStats;
use crate::uapi::ioctl::TapStats;
use crate::uapi::tap::Mode;

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
}

impl Limits {
    /// `EINVAL`: out of range.
    pub(crate) fn new(mbuf_size: u32, mbufs: u32, min_us: u32, max_us: u32) -> Result<Self> {
        let alpha = (1..=ALPHA_LIMIT_US).contains(&min_us) && (min_us..=ALPHA_LIMIT_US).contains(&max_us);
        if !region::sizes_are_possible(mbuf_size, mbufs) || !alpha {
            return Err(EINVAL);
        }
        Ok(Self {
            mbuf_size,
            mbufs,
            alpha_min_us: min_us,
            alpha_max_us: max_us,
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
    id: u32,
    mode: Mode,
    device: Arc<Device>,
    serving: Arc<Serving>,
    place: usize,
}

struct Inner {
    region: Option<Arc<Region>>,
    next_session: u32,
    next_tap: u32,
    sessions: KVec<Arc<Serving>>,
    taps: KVec<TapRecord>,
    /// The last figures of taps that have ended, oldest first.
    ended: KVec<TapStats>,
}

/// What there is.
#[pin_data]
pub(crate) struct Registry {
    pub(crate) limits: Limits,
    #[pin]
    inner: Mutex<Inner>,
}

impl Registry {
    /// Nothing yet.
    pub(crate) fn new(limits: Limits) -> Result<Arc<Self>> {
        let ended = KVec::with_capacity(ENDED_KEPT, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                limits,
                inner <- new_mutex!(
                    Inner {
                        region: None,
                        next_session: 1,
                        next_tap: 1,
                        sessions: KVec::new(),
                        taps: KVec::new(),
                        ended,
                    },
                    "nettap_registry"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// The default region, which is made when it is first wanted and stays until the module goes.
    pub(crate) fn region(&self) -> Result<Arc<Region>> {
        let mut inner = self.inner.lock();
        if let Some(region) = &inner.region {
            return Ok(Arc::clone(region));
        }
        let region = Region::new(self.limits.mbuf_size, self.limits.mbufs)?;
        inner.region = Some(Arc::clone(&region));
        Ok(region)
    }

    /// Makes the data path of a new session known; `make` gets its id.
    pub(crate) fn add_session(
        &self,
        make: impl FnOnce(u32) -> Result<Arc<Serving>>,
    ) -> Result<Arc<Serving>> {
        let mut inner = self.inner.lock();
        let serving = make(inner.next_session)?;
        inner.sessions.push(Arc::clone(&serving), GFP_KERNEL)?;
        inner.next_session = inner.next_session.wrapping_add(1).max(1);
        Ok(serving)
    }

    /// Forgets a session.
    pub(crate) fn remove_session(&self, id: u32) {
        self.inner.lock().sessions.retain(|s| s.id != id);
    }

    /// An id for a tap to be.
    pub(crate) fn new_tap_id(&self) -> u32 {
        let mut inner = self.inner.lock();
        let id = inner.next_tap;
        inner.next_tap = id.wrapping_add(1).max(1);
        id
    }

    /// Makes a tap known, or refuses with `EBUSY` if it cannot stand beside what is there.
    pub(crate) fn add_tap(
        &self,
        id: u32,
        mode: Mode,
        device: &Arc<Device>,
        serving: &Arc<Serving>,
        place: usize,
        _rtnl: &Rtnl,
    ) -> Result {
        let mut inner = self.inner.lock();
        let there = device.identity();
        let mut others = inner.taps.iter().filter(|t| t.device.is(there));
        if !others.all(|t| t.mode.beside(mode)) {
            return Err(EBUSY);
        }
        let record = TapRecord {
            id,
            mode,
            device: Arc::clone(device),
            serving: Arc::clone(serving),
            place,
        };
        Ok(inner.taps.push(record, GFP_KERNEL)?)
    }

    /// Ends a tap by its id. `ENOENT`: there is none. `EPERM`: the caller may not.
    pub(crate) fn end_tap(&self, id: u32, check: bool, cause: Cause, rtnl: &Rtnl) -> Result {
        let (serving, place) = {
            let inner = self.inner.lock();
            let record = inner.taps.iter().find(|t| t.id == id).ok_or(ENOENT)?;
            if check && !record.device.may_administer(rtnl) {
                return Err(EPERM);
            }
            (Arc::clone(&record.serving), record.place)
        };
        let last = reclaim::untap(&serving, place, cause, rtnl);
        let mut inner = self.inner.lock();
        inner.taps.retain(|t| t.id != id);
        if let Some(last) = last {
            if inner.ended.len() >= ENDED_KEPT {
                let _ = inner.ended.remove(0);
            }
            let _ = inner.ended.push_within_capacity(last);
        }
        Ok(())
    }

    /// Ends all taps of a session.
    pub(crate) fn end_taps_of(&self, session: u32, rtnl: &Rtnl) {
        self.end_where(|t| t.serving.id == session, Cause::Untap, rtnl);
    }

    fn end_where(&self, which: impl Fn(&TapRecord) -> bool, cause: Cause, rtnl: &Rtnl) {
        loop {
            let id = self.inner.lock().taps.iter().find(|t| which(t)).map(|t| t.id);
            let Some(id) = id else { return };
            if self.end_tap(id, false, cause, rtnl).is_err() {
                return;
            }
        }
    }

    /// The region's record.
    pub(crate) fn region_stats(&self) -> RegionStats {
        let mut stats = RegionStats::default();
        let inner = self.inner.lock();
        if let Some(region) = &inner.region {
            region.census(&mut stats);
        }
        let mapped = |s: &&Arc<Serving>| s.with(|state| state.supply.is_some());
        stats.sessions = inner.sessions.iter().filter(mapped).count() as u32;
        stats.taps = inner.taps.len() as u32;
        stats
    }

    /// The record of the first session with an id from `from` on.
    pub(crate) fn session_stats(&self, from: u32) -> Option<SessionStats> {
        let inner = self.inner.lock();
        let next = inner.sessions.iter().filter(|s| s.id >= from).min_by_key(|s| s.id)?;
        Some(next.export())
    }

    /// The record of the first tap with an id from `from` on.
    pub(crate) fn tap_stats(&self, from: u32) -> Option<TapStats> {
        let inner = self.inner.lock();
        let taps = inner.taps.iter().filter(|t| t.id >= from);
        let next = taps.min_by_key(|t| t.id)?;
        let _bh = BottomHalvesOff::new();
        let state = next.serving.state.lock();
        let end = state.taps.get(next.place).and_then(Option::as_ref);
        // A tap that is just ending has left its session: its record shows who it was.
        Some(end.map_or(
            TapStats {
                id: next.id,
                mode: next.mode.raw(),
                ..TapStats::default()
            },
            |end| end.export(),
        ))
    }

    /// The last record of the first ended tap with an id from `from` on.
    pub(crate) fn ended_stats(&self, from: u32) -> Option<TapStats> {
        let inner = self.inner.lock();
        let ended = inner.ended.iter().filter(|t| t.id >= from);
        ended.min_by_key(|t| t.id).copied()
    }
}

impl OnGone for Registry {
    fn on_gone(&self, device: DeviceId, rtnl: &Rtnl) {
        self.end_where(|t| t.device.is(device), Cause::DeviceGone, rtnl);
    }
}
