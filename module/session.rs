// SPDX-License-Identifier: GPL-2.0-only

//! One open of `/dev/nettap`: what the patent calls a process. It owns what a program has mapped and
//! tapped; when its last descriptor and its last mapping go, everything is taken back.
//!
//! Two locks. `control` serialises map, unmap and tap; RTNL may be taken under it, user memory is not
//! touched under it. `windows` says what may be mapped, and is all that `mmap` takes, because `mmap`
//! runs under the address space's lock.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVec;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;

use crate::detour::Inlet;
use crate::drops::Drops;
use crate::events::Listener;
use crate::filter::Named;
use crate::group::Asked;
use crate::group::Membership;
use crate::lock::Locks;
use crate::policies::Common;
use crate::policies::Options;
use crate::policies::Policies;
use crate::reclaim;
use crate::reclaim::Cause;
use crate::region::Region;
use crate::registry::Registry;
use crate::rings::cells_wanted;
use crate::rings::Filler;
use crate::rings::RingPages;
use crate::serve::Serving;
use crate::supply::Supply;
use crate::sys::chardev::Vma;
use crate::sys::netdev::Namespace;
use crate::sys::netdev::Rtnl;
use crate::sys::server::Running;
use crate::sys::task::BottomHalvesOff;
use crate::sys::task::Pinned;
use crate::tap::Label;
use crate::tap::Tap;
use crate::tapend::TapEnd;
use crate::tapfile::TapFile;
use crate::uapi::event::EventKind;
use crate::uapi::event::CAUSE_NONE;
use crate::uapi::ioctl;
use crate::uapi::layout::RingMap;
use crate::uapi::mbuf::DATA_OFFSET;
use crate::uapi::tap::RING_DEFAULT;
use crate::uapi::tap::RING_MAX;
use crate::uapi::tap::TAPS_MAX;

/// mmap offsets are names: the region at zero, its locks and the rings far behind, a place each.
const LOCKS_AT: u64 = 1 << 39;
const RINGS_AT: u64 = 1 << 40;
/// Room for the pages of one side of the largest ring.
const RING_ROOM: u64 = 1 << 20;

/// The region as a session may map it, with the charge for it.
struct Window {
    region: Arc<Region>,
    charge: Arc<Pinned>,
}

/// What may be mapped through the session's file.
struct Windows {
    region: Option<Window>,
    /// alloc and dealloc, then detour and revert of each tap.
    rings: KVec<Option<Ring>>,
}

/// A ring that can be mapped.
enum Ring {
    Own(Arc<RingPages>),
    Detour(Arc<Tap>),
    Revert(Arc<Tap>),
}

impl Ring {
    fn pages(&self) -> &RingPages {
        match self {
            Self::Own(ring) => ring,
            Self::Detour(tap) => &tap.detour,
            Self::Revert(tap) => &tap.revert,
        }
    }
}

fn offsets_of(ring: usize) -> (u64, u64) {
    let at = RINGS_AT.wrapping_add((ring as u64).wrapping_mul(RING_ROOM.wrapping_mul(2)));
    (at, at.wrapping_add(RING_ROOM))
}

fn describe(ring: &RingPages, number: usize) -> RingMap {
    let (ro, rw) = offsets_of(number);
    ring.describe(ro, rw)
}

/// Number of the detour ring of the tap at `place`; its revert ring is the next.
fn detour_number(place: usize) -> usize {
    place.wrapping_mul(2).wrapping_add(2)
}

/// One open of the device.
#[pin_data]
pub(crate) struct Session {
    pub(crate) registry: Arc<Registry>,
    pub(crate) serving: Arc<Serving>,
    #[pin]
    control: Mutex<Option<Membership>>,
    #[pin]
    windows: Mutex<Windows>,
    #[pin]
    running: Mutex<Option<Running<Serving>>>,
    /// Set once, under `control`; whoever polls is on its queue, so it stays.
    #[pin]
    listener: Mutex<Option<Arc<Listener>>>,
}

impl Session {
    /// A session with nothing mapped.
    pub(crate) fn open(registry: &Arc<Registry>) -> Result<Arc<Self>> {
        let places = detour_number(TAPS_MAX as usize);
        let mut rings = KVec::with_capacity(places, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..places {
            rings.push_within_capacity(None)?;
        }
        let alpha = registry.limits.alpha();
        let serving = registry.add_session(|id| Serving::new(id, alpha))?;
        let running = Running::start(Arc::clone(&serving));
        let id = serving.id;
        let session = Arc::pin_init(
            pin_init!(Self {
                registry: Arc::clone(registry),
                serving,
                control <- new_mutex!(None, "nettap_control"),
                windows <- new_mutex!(Windows { region: None, rings }, "nettap_windows"),
                running <- new_mutex!(Some(running), "nettap_running"),
                listener <- new_mutex!(None, "nettap_listener"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
        .inspect_err(|_| registry.remove_session(id))?;
        session.tell(EventKind::SessionOpen, None, 0);
        Ok(session)
    }

    /// Tells an event of this session, in a group when it has joined one.
    fn tell(&self, kind: EventKind, cause: Option<Cause>, group: u32) {
        self.registry.events.tell(kind, |event| {
            self.serving.describe(event);
            event.cause = cause.map_or(CAUSE_NONE, Cause::raw);
            event.group = group;
        });
    }

    /// Makes the session a listener.
    pub(crate) fn listen(&self, kinds: u64, record_size: usize) -> Result {
        let control = self.control.lock();
        let mut listener = self.listener.lock();
        if control.is_some() || listener.is_some() {
            return Err(EBUSY);
        }
        *listener = Some(self.registry.events.listen(kinds, record_size)?);
        Ok(())
    }

    /// What it listens with, if it does.
    pub(crate) fn listener(&self) -> Option<Arc<Listener>> {
        self.listener.lock().clone()
    }

    /// The last descriptor and the last mapping are gone.
    pub(crate) fn close(&self) {
        let cause = Cause::of_closing();
        self.serving.abandon();
        let _ = self.unmap(cause);
        if let Some(listener) = self.listener() {
            self.registry.events.leave(&listener);
        }
        // Ends the server, whose owner holds the state.
        let running = self.running.lock().take();
        drop(running);
        self.registry.remove_session(self.serving.id);
        self.tell(EventKind::SessionClose, Some(cause), 0);
    }

    /// `mbuf_map`.
    pub(crate) fn map(&self, group: Option<&Asked>, ask: &mut ioctl::Map) -> Result {
        let mut control = self.control.lock();
        if control.is_some() || self.listener().is_some() {
            return Err(EBUSY);
        }
        if ask.prealloc > RING_MAX {
            return Err(EINVAL);
        }
        let wanted = RING_DEFAULT.max(ask.prealloc.saturating_mul(2).min(RING_MAX));
        let cells = cells_wanted(ask.ring_cells, wanted)?;
        if ask.prealloc > cells {
            return Err(EINVAL);
        }
        let membership = self.registry.groups.join(group)?;
        let region = Arc::clone(membership.region());
        if ask.prealloc > region.mbufs() {
            return Err(EINVAL);
        }
        let alloc = Arc::new(RingPages::new(cells, Filler::Kernel)?, GFP_KERNEL_ACCOUNT)?;
        let dealloc = Arc::new(RingPages::new(cells, Filler::Program)?, GFP_KERNEL_ACCOUNT)?;

        ask.mbuf_size = region.mbuf_size();
        ask.mbufs = region.mbufs();
        ask.data_offset = DATA_OFFSET;
        ask.region_offset = 0;
        ask.region_len = region.pages().len() as u64;
        ask.locks_offset = LOCKS_AT;
        ask.alloc = describe(&alloc, 0);
        ask.dealloc = describe(&dealloc, 1);

        let supply = Supply::new(
            Arc::clone(&region),
            Arc::clone(&alloc),
            Arc::clone(&dealloc),
            ask.prealloc,
        );
        self.serving.with(|state| {
            state.supply = Some(supply);
            state.tell_asleep();
        });
        if !self.serving.fill_to_floor() {
            let supply = self.serving.with(|state| state.supply.take());
            drop(supply);
            reclaim::take_back_allocated(&region, &self.serving);
            return Err(ENOMEM);
        }
        let mut windows = self.windows.lock();
        windows.region = Some(Window {
            region,
            charge: Arc::clone(membership.charge()),
        });
        for (place, ring) in windows.rings.iter_mut().zip([alloc, dealloc]) {
            *place = Some(Ring::Own(ring));
        }
        drop(windows);
        self.tell(EventKind::Map, None, membership.region().group());
        *control = Some(membership);
        Ok(())
    }

    /// Has a thread of the kernel's serve the session without rest, or no more; which one, as the caller sees
    /// it.
    pub(crate) fn set_busy(&self, busy: bool) -> Result<u32> {
        // Held, so that the session does not leave its region meanwhile, and one at a time does this.
        let control = self.control.lock();
        if control.is_none() {
            return Err(ENXIO);
        }
        self.serving.set_busy(busy)?;
        Ok(self.serving.with(|state| state.thread()))
    }

    /// `mbuf_unmap`, or the end of the session.
    pub(crate) fn unmap(&self, cause: Cause) -> Result {
        let mut control = self.control.lock();
        let membership = control.take().ok_or(ENXIO)?;
        // Nothing is left to be looked for without rest. Ending that does not fail.
        let _ = self.serving.set_busy(false);
        // First of all: somebody may be waiting for one.
        let group = membership.region().group();
        let locks = membership.region().locks().end(self.serving.id);
        if locks != 0 {
            self.registry.events.tell(EventKind::LockReleased, |event| {
                self.serving.describe(event);
                event.cause = cause.raw();
                event.count = u64::from(locks.count_ones());
                event.group = group;
            });
        }
        self.registry.end_taps_of(self.serving.id, cause);
        let mut windows = self.windows.lock();
        windows.region = None;
        for ring in windows.rings.iter_mut() {
            *ring = None;
        }
        drop(windows);
        // The lock's drop must not free pages: that may sleep.
        let supply = self.serving.with(|state| state.supply.take());
        drop(supply);
        let mbufs = reclaim::take_back_allocated(membership.region(), &self.serving);
        if mbufs > 0 {
            self.registry.events.tell(EventKind::Reclaim, |event| {
                self.serving.describe(event);
                event.cause = cause.raw();
                event.count = mbufs;
                event.group = group;
            });
        }
        self.tell(EventKind::Unmap, Some(cause), group);
        Ok(())
    }

    /// `interface_tap`, of the interface that the request names, in this namespace, up to the descriptor, which the caller
    /// makes and installs. `EOPNOTSUPP`: it is not Ethernet.
    pub(crate) fn tap(
        &self,
        namespace: &Namespace,
        common: Common,
        options: Options,
        policies: Policies,
        filter: Option<KBox<Named>>,
        ask: &mut ioctl::Tap,
    ) -> Result<Arc<TapFile>> {
        let control = self.control.lock();
        let membership = control.as_ref().ok_or(ENXIO)?;
        let detour = RingPages::new(options.ring_cells, Filler::Kernel)?;
        let revert = RingPages::new(options.ring_cells, Filler::Program)?;
        let id = self.registry.new_tap_id();

        let rtnl = Rtnl::lock();
        // Looked up here, and not before something was waited for: an interface that goes waits for our reference. Named
        // after the lock, so that it goes before it, for the same reason.
        let device = Arc::new(namespace.device(&ask.ifname)?, GFP_KERNEL_ACCOUNT)?;
        if !device.is_ethernet() {
            return Err(not_supported());
        }
        if !device.may_administer(&rtnl) {
            return Err(EPERM);
        }
        let label = Label {
            id,
            session: self.serving.id,
            pid: self.serving.pid,
            comm: self.serving.comm,
            ifindex: device.ifindex(),
            netns: device.namespace_inode(&rtnl),
            ifname: device.name(),
        };
        let place = self
            .serving
            .with(|state| state.taps.iter().position(Option::is_none))
            .ok_or(ENOSPC)?;
        let region = Arc::clone(membership.region());
        let group = region.group();
        let (intake, is_new) = self
            .registry
            .intake(&device, group, common, filter, &rtnl)?;
        let drops = Drops::new(Arc::clone(&self.registry.events));
        let flows = intake.flows();
        let (taker, dealloc) = self.serving.with(|state| {
            let supply = state.supply.as_ref();
            let dealloc = supply.map(|supply| Arc::clone(&supply.dealloc));
            (state.taker.number(), dealloc)
        });
        let dealloc = dealloc.ok_or(ENXIO)?;
        let tap = Tap::new(
            label, options, policies, flows, region, detour, revert, dealloc, drops, taker,
        );
        let tap = Arc::pin_init(tap, GFP_KERNEL_ACCOUNT)?;
        let inlet = Inlet {
            tap: Arc::clone(&tap),
            serving: Arc::clone(&self.serving),
        };
        let inlet = Arc::new(inlet, GFP_KERNEL_ACCOUNT)?;
        let file = Arc::new(
            TapFile {
                registry: Arc::clone(&self.registry),
                serving: Arc::clone(&self.serving),
                id,
                place,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let number = detour_number(place);
        ask.id = id;
        ask.ifindex = label.ifindex;
        ask.detour = describe(&tap.detour, number);
        ask.revert = describe(&tap.revert, number.wrapping_add(1));

        self.registry
            .add_tap(id, group, &device, &self.serving, place, &intake, &rtnl)?;
        tap.tell(EventKind::TapOpen, |_| ());
        // First the way back, then the way up: no packet comes before it can return.
        self.serving.with(|state| {
            let end = TapEnd::new(Arc::clone(&tap), Arc::clone(&device));
            drop(state.seat(place, Some(end)));
            state.tell_asleep();
        });
        let attached = intake.join(Arc::clone(&inlet), &rtnl).and_then(|()| {
            if is_new {
                intake.attach(&device, &rtnl)?;
            }
            Ok(())
        });
        attached.inspect_err(|_| {
            let _ = self.registry.end_tap(id, false, Cause::Untap, &rtnl);
        })?;
        let opened = if options.standby {
            let _bh = BottomHalvesOff::new();
            intake.open(&tap);
            Ok(())
        } else {
            reclaim::take_over(&intake, &inlet, &rtnl)
        };
        opened.inspect_err(|_| {
            let _ = self.registry.end_tap(id, false, Cause::Untap, &rtnl);
        })?;
        let mut windows = self.windows.lock();
        let mut put = |at: usize, ring| {
            if let Some(free) = windows.rings.get_mut(at) {
                *free = Some(ring);
            }
        };
        put(number, Ring::Detour(Arc::clone(&tap)));
        put(number.wrapping_add(1), Ring::Revert(Arc::clone(&tap)));
        Ok(file)
    }

    /// Registers a shared lock of the region.
    pub(crate) fn register_lock(&self, number: u32) -> Result {
        // Held, so that the session does not leave the region meanwhile.
        let control = self.control.lock();
        let membership = control.as_ref().ok_or(ENXIO)?;
        membership
            .region()
            .locks()
            .register(self.serving.id, number)
    }

    /// The shared locks of the region; the session may leave it meanwhile.
    pub(crate) fn locks(&self) -> Result<Arc<Locks>> {
        let control = self.control.lock();
        let membership = control.as_ref().ok_or(ENXIO)?;
        Ok(Arc::clone(membership.region().locks()))
    }

    /// `mmap`: the region, its locks or one side of a ring, whole, shared, and read-only where it must be.
    pub(crate) fn mmap(&self, vma: &Vma<'_>) -> Result {
        if !vma.is_shared() {
            return Err(EINVAL);
        }
        let windows = self.windows.lock();
        let offset = vma.offset();
        let Some(ring) = offset.checked_sub(RINGS_AT) else {
            let Window { region, charge } = windows.region.as_ref().ok_or(ENXIO)?;
            let pages = match offset {
                0 => region.pages(),
                LOCKS_AT => region.locks().pages(),
                _ => return Err(EINVAL),
            };
            if vma.len() != pages.len() as u64 {
                return Err(EINVAL);
            }
            return pages.map_into(vma, true, charge);
        };
        let side = ring.wrapping_shr(RING_ROOM.trailing_zeros());
        if ring & RING_ROOM.wrapping_sub(1) != 0 {
            return Err(EINVAL);
        }
        let writable = side & 1 != 0;
        let ring = windows
            .rings
            .get(side.wrapping_shr(1) as usize)
            .and_then(Option::as_ref)
            .ok_or(EINVAL)?;
        ring.pages().map_into(vma, writable)
    }
}

/// `EOPNOTSUPP`, for which 7.2 has no name.
fn not_supported() -> Error {
    Error::from_errno(-95)
}
