// SPDX-License-Identifier: GPL-2.0-only

//! Groups: which sessions share a region.
//!
//! The default group is the whole machine's, as in the patent: for administrators of the machine, made
//! when it is first wanted, and there until the module goes. A named group has a region of its own, of
//! a size and for users that its creator chose, and goes with its last session; its memory is freed, and
//! a group of the same name that comes later has new, zeroed pages.
//!
//! That one group never sees, names or takes what is another's needs no check in the data path: a session
//! is in one group at a time, all that it has (rings, taps, windows for `mmap`) is of that group's region,
//! and an index means nothing but a place in the session's own region.
//!
//! Locks: `making`, then `inner`. A region may be large, so it is made under the first only, which nobody
//! takes who finds the group there.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::sync::Arc;
use kernel::sync::Mutex;

use crate::events::Events;
use crate::region::sizes_are_possible;
use crate::region::Region;
use crate::sys::netdev::Namespace;
use crate::sys::task::current_pid;
use crate::sys::task::may_administer;
use crate::sys::task::Owner;
use crate::sys::task::Pinned;
use crate::uapi::event::EventKind;
use crate::uapi::layout::LOCKS_LEN;
use crate::uapi::stats::RegionStats;
use crate::uapi::tap::Access;
use crate::uapi::tap::GROUP_MAX;

/// The default group.
const DEFAULT: u32 = 0;

/// A named group that a program asks for, checked but for its sizes.
pub(crate) struct Asked {
    /// Zero terminated, not empty, zero behind its end.
    pub(crate) name: [u8; GROUP_MAX],
    /// `Uid` is also what those say who do not care.
    pub(crate) access: Access,
    /// 0 for that of the default region.
    pub(crate) mbuf_size: u32,
    /// 0 for as many as the default region has.
    pub(crate) mbufs: u32,
}

struct Group {
    name: [u8; GROUP_MAX],
    access: Access,
    owner: Owner,
    region: Arc<Region>,
    /// Sessions that are in it.
    members: u32,
}

impl Group {
    /// Whether the caller may join.
    fn admits(&self) -> bool {
        match self.access {
            Access::Uid => self.owner.is_user(),
            Access::Gid => self.owner.has_group(),
            Access::All => true,
        }
    }

    /// Whether it is what the caller thinks that it is.
    fn agrees(&self, asked: &Asked) -> bool {
        let same = |asked: u32, is: u32| asked == 0 || asked == is;
        (asked.access == Access::Uid || asked.access == self.access)
            && same(asked.mbuf_size, self.region.mbuf_size())
            && same(asked.mbufs, self.region.mbufs())
    }
}

struct Inner {
    next: u32,
    by_id: RBTree<u32, Group>,
}

impl Inner {
    fn find(&self, asked: Option<&Asked>) -> Option<u32> {
        let Some(asked) = asked else {
            return self.by_id.get(&DEFAULT).map(|_| DEFAULT);
        };
        let mut named = self.by_id.iter().filter(|(&id, _)| id != DEFAULT);
        let found = named.find(|(_, group)| group.name == asked.name);
        found.map(|(&id, _)| id)
    }

    fn new_id(&mut self) -> u32 {
        loop {
            let id = self.next;
            self.next = id.wrapping_add(1).max(1);
            if self.by_id.get(&id).is_none() {
                return id;
            }
        }
    }
}

/// The groups that there are.
#[pin_data]
pub(crate) struct Groups {
    mbuf_size: u32,
    mbufs: u32,
    huge: bool,
    events: Arc<Events>,
    #[pin]
    making: Mutex<()>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Groups {
    /// None yet; the default one will have a region of this size. All take huge pages if they shall.
    pub(crate) fn new(
        mbuf_size: u32,
        mbufs: u32,
        huge: bool,
        events: Arc<Events>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                mbuf_size,
                mbufs,
                huge,
                events,
                making <- new_mutex!((), "nettap_making"),
                inner <- new_mutex!(
                    Inner {
                        next: 1,
                        by_id: RBTree::new(),
                    },
                    "nettap_groups"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// Joins a group, the default one if none is asked for, and charges its region to the caller; makes
    /// it, if it is not there. The errors are those of `MAP`.
    pub(crate) fn join(self: &Arc<Self>, asked: Option<&Asked>) -> Result<Membership> {
        // Whoever maps a region sees every packet in it.
        if asked.is_none() && !may_administer() {
            return Err(EPERM);
        }
        if let Some(there) = self.join_existing(asked) {
            return there;
        }
        let _making = self.making.lock();
        // Somebody else may have been quicker.
        match self.join_existing(asked) {
            Some(there) => there,
            None => self.make(asked),
        }
    }

    fn join_existing(self: &Arc<Self>, asked: Option<&Asked>) -> Option<Result<Membership>> {
        let (id, region, charge) = {
            let mut inner = self.inner.lock();
            let id = inner.find(asked)?;
            let group = inner.by_id.get_mut(&id)?;
            if let Some(asked) = asked {
                if !group.admits() {
                    return Some(Err(EACCES));
                }
                if !group.agrees(asked) {
                    return Some(Err(EEXIST));
                }
            }
            let region = Arc::clone(&group.region);
            // Before it counts: whoever leaves last has something to leave behind.
            let charge = match charge_for(region.mbuf_size(), region.mbufs()) {
                Ok(charge) => charge,
                Err(error) => return Some(Err(error)),
            };
            group.members = group.members.wrapping_add(1);
            (id, region, charge)
        };
        Some(Ok(Membership::of(self, id, region, charge)))
    }

    /// The caller has found that it is not there, and holds `making`.
    fn make(self: &Arc<Self>, asked: Option<&Asked>) -> Result<Membership> {
        let or = |asked: u32, default: u32| if asked == 0 { default } else { asked };
        let (name, access, mbuf_size, mbufs) = match asked {
            None => ([0; GROUP_MAX], Access::Uid, self.mbuf_size, self.mbufs),
            Some(asked) => {
                if !Namespace::of(-1)?.may_administer() {
                    return Err(EPERM);
                }
                let size = or(asked.mbuf_size, self.mbuf_size);
                (asked.name, asked.access, size, or(asked.mbufs, self.mbufs))
            }
        };
        if !sizes_are_possible(mbuf_size, mbufs) {
            return Err(EINVAL);
        }
        // Before the memory is taken.
        let charge = charge_for(mbuf_size, mbufs)?;
        let id = match asked {
            None => DEFAULT,
            Some(_) => self.inner.lock().new_id(),
        };
        let region = Region::new(id, mbuf_size, mbufs, self.huge)?;
        let group = Group {
            name,
            access,
            owner: match asked {
                None => Owner::root(),
                Some(_) => Owner::current(),
            },
            region: Arc::clone(&region),
            members: 1,
        };
        self.inner
            .lock()
            .by_id
            .try_create_and_insert(id, group, GFP_KERNEL_ACCOUNT)?;
        if id != DEFAULT {
            self.tell(EventKind::GroupMade, id, &name);
        }
        Ok(Membership::of(self, id, region, charge))
    }

    /// One leaves, whom the region has counted as this.
    fn leave(&self, id: u32, charge: &Arc<Pinned>) {
        let gone = {
            let mut inner = self.inner.lock();
            let Some(group) = inner.by_id.get_mut(&id) else {
                return;
            };
            group.members = group.members.wrapping_sub(1);
            if group.members != 0 || id == DEFAULT {
                return;
            }
            inner.by_id.remove(&id)
        };
        // Dropped here, not under the mutex: it may be much memory.
        if let Some(gone) = gone {
            gone.region.keep(Arc::clone(charge));
            self.tell(EventKind::GroupGone, id, &gone.name);
        }
    }

    /// Tells listeners of a named group.
    fn tell(&self, kind: EventKind, id: u32, name: &[u8; GROUP_MAX]) {
        self.events.tell(kind, |event| {
            event.group = id;
            event.group_name = *name;
            event.by = current_pid();
        });
    }

    /// The record of the first region with an id from `from` on, but for its taps. The default one's
    /// stands first even before it is made.
    pub(crate) fn stats(&self, from: u32) -> Option<RegionStats> {
        let mut stats = RegionStats::default();
        let region = {
            let inner = self.inner.lock();
            if from == DEFAULT && inner.by_id.get(&DEFAULT).is_none() {
                return Some(stats);
            }
            let next = inner.by_id.cursor_lower_bound(&from)?;
            let (&id, group) = next.current();
            stats.id = id;
            stats.group = group.name;
            stats.access = group.access.raw();
            (stats.uid, stats.gid) = group.owner.ids();
            stats.sessions = group.members;
            Arc::clone(&group.region)
        };
        region.census(&mut stats);
        Some(stats)
    }
}

/// What a region counts against the limit of each who maps it.
fn charge_for(mbuf_size: u32, mbufs: u32) -> Result<Arc<Pinned>> {
    let bytes = u64::from(mbufs).wrapping_mul(u64::from(mbuf_size));
    let bytes = bytes.wrapping_add(u64::from(LOCKS_LEN));
    Ok(Arc::new(Pinned::charge(bytes)?, GFP_KERNEL_ACCOUNT)?)
}

/// A session's place in a group; dropped, the session has left it. Process context.
struct Place {
    groups: Arc<Groups>,
    id: u32,
    /// For what the last to leave leaves behind, with packets that have not left yet.
    charge: Arc<Pinned>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.groups.leave(self.id, &self.charge);
    }
}

/// A session's membership. Fields go in order: the charge is given back when the memory is.
pub(crate) struct Membership {
    _place: Place,
    region: Arc<Region>,
    /// What the region counts against the program's limit of locked memory. Mappings hold it too:
    /// leaving does not give it back as long as the program has the pages.
    charge: Arc<Pinned>,
}

impl Membership {
    /// Of one who has been counted.
    fn of(groups: &Arc<Groups>, id: u32, region: Arc<Region>, charge: Arc<Pinned>) -> Self {
        Self {
            _place: Place {
                groups: Arc::clone(groups),
                id,
                charge: Arc::clone(&charge),
            },
            region,
            charge,
        }
    }

    /// The group's region.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The charge for it.
    pub(crate) fn charge(&self) -> &Arc<Pinned> {
        &self.charge
    }
}
