// SPDX-License-Identifier: GPL-2.0-only

//! Where the packets of one mode of an interface come in: one tap, or several of a fan-out that share
//! them, and what decides over a packet before it has a tap.
//!
//! Every session that opens a shared tap has a tap of its own, with rings, account and figures; a packet is
//! given to one of them here, in the hook. So sessions that share packets cannot touch each other's, and
//! when one ends the kernel knows which packets were with it.
//!
//! Who is here is published by RCU and changes under RTNL.

use crate::sys::atomic::Apart;
use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KBox;
use kernel::alloc::KVec;
use kernel::cpu::CpuId;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::rcu;
use kernel::sync::Arc;
use kernel::sync::Mutex;

use crate::detour::detour;
use crate::detour::detour_here;
use crate::detour::Inlet;
use crate::detour::Missed;
use crate::drops;
use crate::filter::Admit;
use crate::filter::Filter;
use crate::filter::Named;
use crate::flows::Flows;
use crate::flows::NO_FLOW;
use crate::policies::way_of;
use crate::policies::Common;
use crate::stats::End;
use crate::stats::Miss;
use crate::sys::hook;
use crate::sys::hook::Hook;
use crate::sys::hook::OnPacket;
use crate::sys::hook::Verdict;
use crate::sys::hook::Way;
use crate::sys::netdev::Device;
use crate::sys::netdev::Rtnl;
use crate::sys::rcu::Published;
use crate::sys::rcu::Reading;
use crate::sys::skb::Skb;
use crate::sys::task::BottomHalvesOff;
use crate::tap::Tap;
use crate::uapi::stats::TapStats;
use crate::uapi::tap::Fanout;
use crate::uapi::tap::Gso;
use crate::uapi::tap::Mode;
use crate::uapi::tap::NoConsumer;
use crate::uapi::tap::OnFull;

/// Most taps that share an intake.
const MEMBERS_MAX: usize = 64;

/// Who is at an intake: those on standby behind the others.
struct Members {
    all: KVec<Arc<Inlet>>,
    /// How many are not on standby.
    consumers: usize,
}

impl Members {
    /// Nobody, with room for all that there may be.
    fn new() -> Result<KBox<Self>> {
        let all = KVec::with_capacity(MEMBERS_MAX, GFP_KERNEL_ACCOUNT)?;
        Ok(KBox::new(Self { all, consumers: 0 }, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds one.
    fn add(&mut self, member: Arc<Inlet>) -> Result {
        let consumes = usize::from(!member.tap.options.standby);
        self.all.push_within_capacity(member).map_err(|_| ENOSPC)?;
        self.consumers = self.consumers.wrapping_add(consumes);
        Ok(())
    }

    /// The place of whoever serves this CPU; nothing: nobody consumes. Bottom halves are off.
    #[inline]
    fn place_of_cpu(&self) -> Option<usize> {
        let cpu = CpuId::current().as_u32() as usize;
        cpu.checked_rem(self.consumers)
    }
}

/// An intake.
#[pin_data]
pub(crate) struct Intake {
    mode: Mode,
    fanout: Fanout,
    gso: Gso,
    on_full: Atomic<u32>,
    no_consumer: Atomic<u32>,
    members: Published<Members>,
    /// The other list, empty: to be filled and published next.
    #[pin]
    spare: Mutex<Option<KBox<Members>>>,
    filter: Filter,
    flows: Option<Arc<Flows>>,
    /// Who is asked first among equals.
    turn: Apart<Atomic<u32>>,
    #[pin]
    hooks: Mutex<[Option<Hook<Intake>>; 2]>,
}

/// What became of a packet that was offered to the members.
enum Offer<'a> {
    Taken,
    Missed(Missed, &'a Tap),
    /// No gate is open.
    Nobody(Skb),
}

impl Intake {
    /// An intake without members.
    pub(crate) fn new(common: Common, filter: Option<KBox<Named>>) -> Result<Arc<Self>> {
        let flows = match common.fanout {
            Fanout::Flow => Some(Arc::new(Flows::new()?, GFP_KERNEL_ACCOUNT)?),
            Fanout::None | Fanout::Any | Fanout::Cpu => None,
        };
        let members = Published::new();
        drop(members.replace(Some(Members::new()?)));
        let spare = Members::new()?;
        Arc::pin_init(
            pin_init!(Self {
                mode: common.mode,
                fanout: common.fanout,
                gso: common.gso,
                on_full: Atomic::new(common.on_full as u32),
                no_consumer: Atomic::new(common.no_consumer as u32),
                members,
                filter: Filter::new(filter),
                spare <- new_mutex!(Some(spare), "nettap_members"),
                flows,
                turn: Apart::new(Atomic::new(0)),
                hooks <- new_mutex!([None, None], "nettap_hooks"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// What its taps have in common now.
    pub(crate) fn common(&self) -> Common {
        Common {
            mode: self.mode,
            fanout: self.fanout,
            gso: self.gso,
            on_full: self.on_full(),
            no_consumer: self.no_consumer(),
        }
    }

    /// Whether its filter is this one.
    pub(crate) fn has_filter(&self, filter: Option<&Named>) -> bool {
        self.filter.is(filter)
    }

    fn on_full(&self) -> OnFull {
        OnFull::from_raw(self.on_full.load(Relaxed)).unwrap_or(OnFull::Pass)
    }

    fn no_consumer(&self) -> NoConsumer {
        NoConsumer::from_raw(self.no_consumer.load(Relaxed)).unwrap_or(NoConsumer::Pass)
    }

    /// The flows that its taps share, if it goes by flows.
    pub(crate) fn flows(&self) -> Option<Arc<Flows>> {
        self.flows.clone()
    }

    /// Puts it on the interface's road.
    pub(crate) fn attach(self: &Arc<Self>, device: &Device, _rtnl: &Rtnl) -> Result {
        let hook = |way| Hook::attach(device, way, Arc::clone(self));
        let hooks = match self.mode {
            Mode::Input => [Some(hook(Way::Received)?), None],
            Mode::Output => [Some(hook(Way::Sent)?), None],
            Mode::Bypass => [Some(hook(Way::Received)?), Some(hook(Way::Sent)?)],
        };
        *self.hooks.lock() = hooks;
        Ok(())
    }

    /// One tap more. `ENOSPC`: there are as many as there may be. Sleeps.
    pub(crate) fn join(&self, inlet: Arc<Inlet>, rtnl: &Rtnl) -> Result {
        self.publish(|_| true, Some(inlet), rtnl).map(drop)
    }

    /// A tap has closed: nobody is on the way into it any more when this returns. With the last one the
    /// hooks go. Never fails; sleeps.
    pub(crate) fn leave(&self, tap: &Tap, rtnl: &Rtnl) {
        let others = |member: &Inlet| member.tap.label.id != tap.label.id;
        if self.publish(others, None, rtnl) == Ok(0) {
            let mut hooks = core::mem::replace(&mut *self.hooks.lock(), [None, None]);
            hook::end(hooks.iter_mut().filter_map(Option::take));
        }
    }

    /// Publishes a list of those who stay and who comes, and waits until nobody reads the old one; how
    /// many there are. It is written into the list that was published before the last, so that no memory
    /// is needed to leave.
    fn publish(
        &self,
        stays: impl Fn(&Inlet) -> bool,
        comes: Option<Arc<Inlet>>,
        _rtnl: &Rtnl,
    ) -> Result<usize> {
        let mut spare = self.spare.lock();
        let mut next = spare.take().ok_or(EINVAL)?;
        let filled = {
            let reading = rcu::read_lock();
            let staying = self
                .list((&reading).into())
                .iter()
                .filter(|member| stays(member));
            let all = || Iterator::chain(staying.clone(), &comes);
            [false, true].into_iter().try_for_each(|standby| {
                let mut these = all().filter(|m| m.tap.options.standby == standby);
                these.try_for_each(|member| next.add(Arc::clone(member)))
            })
        };
        let count = next.all.len();
        let mut old = match filled {
            Ok(()) => self.members.replace(Some(next)).wait().ok_or(EINVAL)?,
            Err(_) => next,
        };
        old.all.clear();
        old.consumers = 0;
        *spare = Some(old);
        filled.map(|()| count)
    }

    #[inline]
    fn list<'a>(&'a self, reading: Reading<'a>) -> &'a [Arc<Inlet>] {
        self.members
            .get(reading)
            .map_or(&[], |members| &members.all)
    }

    /// Writes what its taps have in common into a record.
    pub(crate) fn export(&self, to: &mut TapStats) {
        to.on_full = self.on_full() as u32;
        to.no_consumer = self.no_consumer() as u32;
        to.fanout = self.fanout as u32;
        to.gso = self.gso as u32;
        to.filter = self.filter.kind();
    }
}

/// The way in. Bottom halves are off.
impl Intake {
    /// One packet, or one piece of one.
    #[inline(always)]
    fn one(&self, members: &Members, mut skb: Skb, way: Way, snap: u32) -> Verdict {
        // Nearly always there is one tap, or one for this CPU, and it takes the packet.
        let nearest = match &*members.all {
            [only] if self.flows.is_none() => Some(only),
            _ => self.of_this_cpu(members),
        };
        if let Some(nearest) = nearest {
            if nearest.tap.takes() {
                match detour_here(nearest, skb, way, NO_FLOW, snap) {
                    Ok(()) => return Verdict::Stolen,
                    Err(Missed {
                        skb: Some(again),
                        miss: None,
                    }) => skb = again,
                    Err(missed) => return self.missed(&nearest.tap, missed),
                }
            }
        }
        self.one_of_many(members, skb, way, snap)
    }

    #[inline(never)]
    fn one_of_many(&self, members: &Members, skb: Skb, way: Way, snap: u32) -> Verdict {
        match self.offer(members, skb, way, snap) {
            Offer::Taken => Verdict::Stolen,
            Offer::Missed(missed, by) => self.missed(by, missed),
            Offer::Nobody(skb) => {
                if let Some(inlet) = self.who_counts(members) {
                    inlet.tap.passed_stalled.add(1);
                }
                Verdict::Pass(skb)
            }
        }
    }

    /// Whoever serves this CPU, if the CPU decides. Bottom halves are off.
    #[inline(never)]
    fn of_this_cpu<'a>(&self, members: &'a Members) -> Option<&'a Arc<Inlet>> {
        if self.fanout != Fanout::Cpu {
            return None;
        }
        members.all.get(members.place_of_cpu()?)
    }

    /// Who counts a packet that goes to nobody: one for all, or for each CPU one, so that they share no counter.
    #[inline(never)]
    fn who_counts<'a>(&self, members: &'a Members) -> Option<&'a Arc<Inlet>> {
        self.of_this_cpu(members).or(members.all.first())
    }

    /// Gives a packet to a tap whose gate is open; the gate may close meanwhile, then to another.
    fn offer<'a>(&self, members: &'a Members, skb: Skb, way: Way, snap: u32) -> Offer<'a> {
        let mut skb = skb;
        // Each turn one gate more has been seen to close.
        for _ in 0..=members.all.len() {
            let Some((inlet, flow)) = self.choose(members, &skb) else {
                break;
            };
            match detour(inlet, skb, way, flow, snap) {
                Ok(()) => return Offer::Taken,
                Err(missed) => {
                    inlet.tap.leave_flow(flow);
                    match (missed.miss, missed.skb) {
                        (None, Some(again)) => skb = again,
                        (miss, skb) => return Offer::Missed(Missed { skb, miss }, &inlet.tap),
                    }
                }
            }
        }
        Offer::Nobody(skb)
    }

    /// The tap that a packet is for, and its flow.
    fn choose<'a>(&self, members: &'a Members, skb: &Skb) -> Option<(&'a Arc<Inlet>, u32)> {
        if let [only] = &*members.all {
            let takes = only.tap.takes();
            let flow = |flows: &Arc<Flows>| flows.enter_alone(only.tap.label.id);
            return takes.then(|| (only, self.flows.as_ref().map_or(NO_FLOW, flow)));
        }
        match &self.flows {
            Some(flows) => of_flow(flows, &members.all, skb),
            None if self.fanout == Fanout::Cpu => Some((nearest(members)?, NO_FLOW)),
            None => Some((self.emptiest(&members.all)?, NO_FLOW)),
        }
    }

    /// The open tap that holds least; among equals they take turns.
    fn emptiest<'a>(&self, members: &'a [Arc<Inlet>]) -> Option<&'a Arc<Inlet>> {
        let turn = self.turn.load(Relaxed) as usize;
        let start = turn.checked_rem(members.len())?;
        let (before, from) = members.split_at_checked(start)?;
        let least = Iterator::chain(from.iter(), before)
            .filter(|m| m.tap.takes())
            .min_by_key(|m| m.tap.held())?;
        // Lost updates only make a turn come again.
        self.turn.store(turn.wrapping_add(1) as u32, Relaxed);
        Some(least)
    }

    /// The `on_full` policy, for a packet that a tap had no room for.
    #[inline(never)]
    fn missed(&self, tap: &Tap, missed: Missed) -> Verdict {
        let miss = missed.miss.unwrap_or(Miss::Other);
        match missed.skb {
            Some(skb) if self.on_full() == OnFull::Pass => {
                tap.passed.count(miss);
                tap.tell_drop(drops::missed(miss), 1, 0);
                Verdict::Pass(skb)
            }
            Some(skb) => {
                tap.dropped.count(miss);
                tap.tell_drop(drops::missed(miss), 0, 1);
                Verdict::Drop(skb)
            }
            None => {
                tap.dropped.count(miss);
                tap.tell_drop(drops::missed(miss), 0, 1);
                Verdict::Stolen
            }
        }
    }

    /// Each piece is a packet of its own: those that find no room go their way by themselves.
    #[inline(never)]
    fn segments(&self, members: &Members, skb: Skb, way: Way, snap: u32) -> Verdict {
        let Some(counting) = self.who_counts(members) else {
            return Verdict::Pass(skb);
        };
        let segments = match skb.segment(way) {
            Ok(segments) => segments,
            Err(Some(skb)) if !members.all.iter().any(|member| member.tap.takes()) => {
                counting.tap.passed_stalled.add(1);
                return Verdict::Pass(skb);
            }
            Err(skb) => {
                let miss = Some(Miss::Other);
                return self.missed(&counting.tap, Missed { skb, miss });
            }
        };
        for segment in segments {
            if let Verdict::Pass(skb) = self.one_of_many(members, segment, way, snap) {
                match way {
                    Way::Received => skb.deliver_input(),
                    Way::Sent => skb.deliver_output(),
                };
            }
        }
        Verdict::Stolen
    }
}

impl OnPacket for Intake {
    #[inline(always)]
    fn on_packet(&self, skb: Skb, way: Way, reading: Reading<'_>) -> Verdict {
        let Some(members) = self.members.get(reading) else {
            return Verdict::Pass(skb);
        };
        // First of all: what the filter does not want, a bypass tap does not cut off either.
        let snap = match self.filter.admits(&skb, way, reading) {
            Admit::Take(bytes) => bytes,
            Admit::Pass => {
                if let Some(inlet) = self.who_counts(members) {
                    inlet.tap.passed_filter.add(1);
                }
                return Verdict::Pass(skb);
            }
        };
        if self.mode == Mode::Bypass && way == Way::Sent {
            if let Some(inlet) = self.who_counts(members) {
                inlet.tap.cut_off.add(1);
            }
            return Verdict::Drop(skb);
        }
        if !skb.is_frame(way) {
            if let Some(inlet) = self.who_counts(members) {
                inlet.tap.passed.count(Miss::Other);
            }
            return Verdict::Pass(skb);
        }
        if self.gso == Gso::Segment && skb.is_gso() {
            self.segments(members, skb, way, snap)
        } else {
            self.one(members, skb, way, snap)
        }
    }
}

/// The tap that has a packet's flow, or shall have it, and the flow.
fn of_flow<'a>(
    flows: &Flows,
    members: &'a [Arc<Inlet>],
    skb: &Skb,
) -> Option<(&'a Arc<Inlet>, u32)> {
    let bucket = Flows::bucket(skb.flow_hash());
    let open = |tap| {
        let is_it = |m: &&Arc<Inlet>| m.tap.label.id == tap && m.tap.takes();
        members.iter().find(is_it)
    };
    let prefer = || {
        if let Some(alone) = flows.alone().filter(|&tap| open(tap).is_some()) {
            return Some(alone);
        }
        let open = members.iter().filter(|m| m.tap.takes());
        let ids = open.map(|m| m.tap.label.id);
        ids.max_by_key(|&id| Flows::pull(bucket, id))
    };
    let tap = flows.enter(bucket, |tap| open(tap).is_some(), prefer)?;
    let inlet = members.iter().find(|m| m.tap.label.id == tap)?;
    Some((inlet, bucket))
}

/// The open tap that serves this CPU; where that is closed, the next one that is open. Bottom halves are off.
fn nearest(members: &Members) -> Option<&Arc<Inlet>> {
    let place = members.place_of_cpu().unwrap_or(0);
    let (consumers, standby) = members.all.split_at_checked(members.consumers)?;
    let (before, from) = consumers.split_at_checked(place)?;
    let wanted = Iterator::chain(from.iter(), before);
    let mut line = Iterator::chain(wanted, standby);
    line.find(|m| m.tap.takes())
}

/// Who has the packets while nobody consumes.
impl Intake {
    /// Whether a program consumes, apart from one that is about to end.
    fn has_consumer(&self, but: Option<u32>) -> bool {
        let reading = rcu::read_lock();
        let mut members = self.list((&reading).into()).iter();
        members.any(|m| !m.tap.options.standby && Some(m.tap.label.id) != but)
    }

    /// Calls `what` with each tap on standby.
    fn each_standby(&self, what: impl Fn(&Tap)) {
        let reading = rcu::read_lock();
        let members = self.list((&reading).into()).iter();
        let standby = members.filter(|m| m.tap.options.standby);
        standby.for_each(|m| what(&m.tap));
    }

    /// Opens a tap that has joined: one on standby only if it is its turn. Bottom halves are off.
    pub(crate) fn open(&self, tap: &Tap) {
        let turn = self.no_consumer() == NoConsumer::Hold && !self.has_consumer(None);
        if !tap.options.standby || turn {
            tap.open();
        }
    }

    /// A tap is about to close: whether nobody else consumes and packets are to wait. Then those on
    /// standby admit them, and [`Intake::succeed`] is for the moment when it closes. Bottom halves are off.
    pub(crate) fn has_heirs(&self, closing: &Tap) -> bool {
        let last = !closing.options.standby && !self.has_consumer(Some(closing.label.id));
        let wait = last && self.no_consumer() == NoConsumer::Hold;
        if wait {
            self.each_standby(Tap::admit);
        }
        wait
    }

    /// Packets go to those on standby from here on. Takes no lock.
    pub(crate) fn succeed(&self) {
        self.each_standby(Tap::show);
    }

    /// The taps on standby, with whom they are served.
    pub(crate) fn standbys(&self) -> Result<KVec<Arc<Inlet>>> {
        let mut found = KVec::with_capacity(MEMBERS_MAX, GFP_KERNEL_ACCOUNT)?;
        let reading = rcu::read_lock();
        let members = self.list((&reading).into()).iter();
        for member in members.filter(|m| m.tap.options.standby) {
            found.push_within_capacity(Arc::clone(member))?;
        }
        Ok(found)
    }

    /// Gives a packet that has waited to a tap; for want of room it follows `on_full`. What became of it.
    pub(crate) fn hand_over(&self, skb: Skb, to: &Arc<Inlet>) -> End {
        let way = way_of(self.mode);
        let _bh = BottomHalvesOff::new();
        let flow = |flows: &Arc<Flows>| flows.enter_alone(to.tap.label.id);
        let flow = self.flows.as_ref().map_or(NO_FLOW, flow);
        let missed = match detour(to, skb, way, flow, u32::MAX) {
            Ok(()) => return End::HandedOver,
            Err(missed) => missed,
        };
        to.tap.leave_flow(flow);
        match self.missed(&to.tap, missed) {
            Verdict::Pass(skb) => {
                match way {
                    Way::Received => skb.deliver_input(),
                    Way::Sent => skb.deliver_output(),
                };
                End::Reinjected
            }
            Verdict::Drop(_) | Verdict::Stolen => End::DroppedByPolicy,
        }
    }
}

/// Policies that are changed while taps are open. RTNL is held.
impl Intake {
    /// Another `on_full`.
    pub(crate) fn set_on_full(&self, policy: OnFull, _rtnl: &Rtnl) {
        self.on_full.store(policy as u32, Relaxed);
    }

    /// Another filter, or none. Sleeps.
    pub(crate) fn set_filter(&self, filter: Option<KBox<Named>>, _rtnl: &Rtnl) {
        drop(self.filter.replace(filter));
    }

    /// Another `no_consumer`. If nobody holds any more, those on standby are to be emptied.
    pub(crate) fn set_no_consumer(&self, policy: NoConsumer, _rtnl: &Rtnl) {
        self.no_consumer.store(policy as u32, Relaxed);
        if policy == NoConsumer::Hold && !self.has_consumer(None) {
            let _bh = BottomHalvesOff::new();
            self.each_standby(Tap::open);
        }
    }
}
