// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! A tap: packets of one interface come out of its detour ring and go back through its revert ring.
//!
//! [`Tap::recv`] takes a packet as an owned [`Mbuf`], [`Tap::revert`] consumes it. Neither makes a
//! system call, unless the kernel's server of this session has gone to sleep and asked to be woken.
//! Taking a packet writes nothing but the consumers' position.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nettap_uapi::ioctl;
use nettap_uapi::ring::{Booking, Entry, Flags};
use nettap_uapi::stats::TapStats;
use nettap_uapi::tap::{self as uapi, Fanout, Gso, Mode, NoConsumer, OnExit, OnFull};
use nettap_uapi::FEATURE_FANOUT_CPU;
use nix::errno::Errno;
use nix::poll::{ppoll, PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use crate::admin;
use crate::burst::Burst;
use crate::error::{Error, Rejected, Result};
use crate::filter::Filter;
use crate::map::{Filler, Ring};
use crate::mbuf::Mbuf;
use crate::session::{Session, Shelf};

/// How a tap is to be opened; see [`Session::tap`].
#[derive(Debug, Clone)]
pub struct TapBuilder<'a> {
    session: &'a Session,
    ifname: &'a str,
    mode: Option<Mode>,
    netns: Option<BorrowedFd<'a>>,
    filter: Option<Filter>,
    request: ioctl::Tap,
}

impl<'a> TapBuilder<'a> {
    pub(crate) fn new(session: &'a Session, ifname: &'a str) -> Self {
        Self {
            session,
            ifname,
            mode: None,
            netns: None,
            filter: None,
            request: ioctl::Tap::default(),
        }
    }

    /// Received packets, before the host's network layer sees them.
    pub fn input(self) -> Self {
        self.mode(Mode::Input)
    }

    /// The host's packets, before the interface sees them.
    pub fn output(self) -> Self {
        self.mode(Mode::Output)
    }

    /// The interface and the program only; the host's network layer is cut off.
    pub fn bypass(self) -> Self {
        self.mode(Mode::Bypass)
    }

    /// One of the three modes; there is no default.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Looks for the interface in this network namespace instead of the caller's.
    pub fn netns(mut self, namespace: BorrowedFd<'a>) -> Self {
        self.netns = Some(namespace);
        self
    }

    /// Copies only the first bytes of each packet; the rest stays with the kernel. 0 copies all.
    pub fn snaplen(mut self, bytes: u32) -> Self {
        self.request.snaplen = bytes;
        self
    }

    /// What happens to a packet that finds no room. The default lets it pass.
    pub fn on_full(mut self, policy: OnFull) -> Self {
        self.request.on_full = match policy {
            OnFull::Pass => uapi::ON_FULL_PASS,
            OnFull::Drop => uapi::ON_FULL_DROP,
        };
        self
    }

    /// What happens to held packets when the tap ends. The default sends them on.
    pub fn on_exit(mut self, policy: OnExit) -> Self {
        self.request.on_exit = match policy {
            OnExit::Revert => uapi::ON_EXIT_REVERT,
            OnExit::Drop => uapi::ON_EXIT_DROP,
        };
        self
    }

    /// How super-packets come. The default is whole.
    pub fn gso(mut self, option: Gso) -> Self {
        self.request.gso = match option {
            Gso::Whole => uapi::GSO_WHOLE,
            Gso::Segment => uapi::GSO_SEGMENT,
        };
        self
    }

    /// Most bytes of packets that the tap may hold; 0 for the default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.request.max_bytes = bytes;
        self
    }

    /// Shares the packets of this mode of the interface with other sessions that say the same; what they
    /// have in common must be the same: policy when full, without a consumer, form of super-packets, filter. The
    /// default does not share.
    pub fn fanout(mut self, fanout: Fanout) -> Self {
        self.request.fanout = fanout as u32;
        self
    }

    /// What happens to packets while all taps of the fan-out are on standby. The default lets them pass.
    pub fn no_consumer(mut self, policy: NoConsumer) -> Self {
        self.request.no_consumer = policy as u32;
        self
    }

    /// Keeps the tap open for others and consumes nothing: of its packets none are to be taken.
    pub fn standby(mut self, standby: bool) -> Self {
        self.flag(uapi::TAP_STANDBY, standby);
        self
    }

    /// Whether packets that bring no time stamp get one, which costs a look at the clock for each. The default
    /// is yes; without, [`Meta::timestamp`](crate::Meta::timestamp) is 0 for them.
    pub fn timestamps(mut self, wanted: bool) -> Self {
        self.flag(uapi::TAP_UNSTAMPED, !wanted);
        self
    }

    fn flag(&mut self, flag: u32, is: bool) {
        self.request.flags = self.request.flags & !flag | if is { flag } else { 0 };
    }

    /// How long a packet may be held. One held longer has all of the tap's packets follow its policy at
    /// exit, and packets pass until the program has caught up. Zero, the default: any time.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.request.max_age_us = microseconds(age);
        self
    }

    /// Cells of the detour and revert rings, a power of two; 0 lets the kernel choose.
    pub fn ring_cells(mut self, cells: u32) -> Self {
        self.request.ring_cells = cells;
        self
    }

    /// Only packets that the filter wants, as many bytes of each; the others go on as if there were no tap.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// The same, as a program of another language says it.
    pub(crate) fn raw_filter(mut self, filter: ioctl::Filter) -> Self {
        self.request.filter = filter;
        self
    }

    /// Opens the tap: packets detour from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] without a mode; [`Error::Request`] from `interface_tap` (no such interface,
    /// another tap there, a filter that the kernel refuses, no privilege, no memory).
    pub fn open(self) -> Result<Tap> {
        let mode = self
            .mode
            .ok_or(Error::Invalid("say which mode: input, output or bypass"))?;
        let mut request = self.request;
        request.mode = mode.raw();
        request.netns = self.netns.map_or(-1, |namespace| namespace.as_raw_fd());
        if let Some(filter) = &self.filter {
            request.filter = filter.request();
        }
        // The module refuses it, too, among many other values.
        if request.flags & uapi::TAP_STANDBY != 0 && request.fanout == uapi::FANOUT_NONE {
            let why = "a tap on standby takes the place of others: it needs a fan-out";
            return Err(Error::Invalid(why));
        }
        // One byte less than the field: the name ends with a zero.
        let name = self.ifname.as_bytes();
        match request.ifname.get_mut(..name.len()) {
            Some(room) if name.len() < uapi::IFNAME_MAX && !name.contains(&0) => {
                room.copy_from_slice(name);
            }
            _ => return Err(Error::request("interface_tap", self.ifname, Errno::ENODEV)),
        }
        let shelf = Arc::clone(&self.session.shelf);
        // An older module would only say that it does not know the number.
        let is_known = shelf.info().features & FEATURE_FANOUT_CPU != 0;
        if request.fanout == uapi::FANOUT_CPU && !is_known {
            let errno = Errno::EOPNOTSUPP;
            return Err(Error::request("interface_tap", self.ifname, errno));
        }
        let fd = shelf
            .call()?
            .tap(&mut request)
            .map_err(|error| error.about(self.ifname))?;
        let kernel = shelf.kernel();
        Ok(Tap {
            detour: Ring::map(kernel, &shelf.guard, &request.detour, Filler::Kernel)?,
            revert: Ring::map(kernel, &shelf.guard, &request.revert, Filler::Program)?,
            id: request.id,
            ifindex: request.ifindex,
            name: self.ifname.to_owned(),
            mode,
            fd,
            shelf,
        })
    }
}

/// For a structure's field; 0 says no time at all there, and less than a microsecond is none.
pub(crate) fn microseconds(time: Duration) -> u64 {
    let whole = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    whole.max(u64::from(!time.is_zero()))
}

/// An open tap. Dropping it ends it; the kernel's `on_exit` policy decides on packets still held.
#[derive(Debug)]
pub struct Tap {
    pub(crate) detour: Ring,
    pub(crate) revert: Ring,
    id: u32,
    ifindex: u32,
    name: String,
    mode: Mode,
    fd: OwnedFd,
    pub(crate) shelf: Arc<Shelf>,
}

impl Tap {
    /// The next packet, if there is one now.
    pub fn recv(&self) -> Option<Mbuf> {
        let mut first = None;
        self.detour
            .take(&self.shelf.region, 1, |buffer| first = Some(buffer));
        Some(Mbuf::received(Arc::clone(&self.shelf), first?))
    }

    /// Appends up to `max` packets that are there now, oldest first; returns how many.
    ///
    /// One claim on the ring serves up to 64 packets; prefer this to [`Tap::recv`] under load.
    pub fn recv_batch(&self, out: &mut Vec<Mbuf>, max: usize) -> usize {
        self.detour.take(&self.shelf.region, max, |buffer| {
            out.push(Mbuf::received(Arc::clone(&self.shelf), buffer));
        })
    }

    /// Adds packets that are there now to a burst, oldest first, as many as it has room for; returns how
    /// many.
    ///
    /// # Errors
    ///
    /// [`Error::OtherSession`].
    #[inline]
    pub fn recv_burst(&self, burst: &mut Burst) -> Result<usize> {
        if !Arc::ptr_eq(&self.shelf, &burst.shelf) {
            return Err(Error::OtherSession);
        }
        Ok(burst.bundle.fill(&self.detour, &self.shelf.region))
    }

    /// Reverts from the front of a burst what finds room now, in order, as [`Tap::revert`] does; the rest
    /// stays. Returns how many went.
    ///
    /// # Errors
    ///
    /// [`Error::OtherSession`], [`Error::Forked`], [`Error::Ended`]: then none went.
    pub fn revert_burst(&self, burst: &mut Burst) -> Result<usize> {
        if !self.shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        if !Arc::ptr_eq(&self.shelf, &burst.shelf) {
            return Err(Error::OtherSession);
        }
        if burst.is_empty() {
            return Ok(0);
        }
        let mut ended = false;
        let gone = burst.bundle.give(&self.revert, Flags::Kept, |given| {
            let left = self.after_push(given);
            ended = left.is_some();
            left.unwrap_or(0)
        });
        if ended && gone == 0 {
            return Err(Error::Ended);
        }
        Ok(gone)
    }

    /// Reverts all of a burst in order, waiting for room where there is none, as [`Tap::revert_all`].
    ///
    /// # Errors
    ///
    /// As [`Tap::revert_burst`] and [`Tap::flush`]; all that did not go is still in the burst.
    #[inline]
    pub fn revert_burst_all(&self, burst: &mut Burst) -> Result<()> {
        let is_ours = Arc::ptr_eq(&self.shelf, &burst.shelf);
        // Nearly always all find room.
        if is_ours && !burst.is_empty() {
            let left = |given: &Booking| self.ring(Some(given)).unwrap_or(0);
            burst.bundle.give_all(&self.revert, Flags::Kept, left);
            if burst.is_empty() {
                return Ok(());
            }
        }
        self.revert_burst_rest(burst)
    }

    /// The same, when some or all are there still.
    #[inline(never)]
    fn revert_burst_rest(&self, burst: &mut Burst) -> Result<()> {
        loop {
            self.revert_burst(burst)?;
            if burst.is_empty() {
                return Ok(());
            }
            self.flush(1, None)?;
        }
    }

    /// Whether a packet is there now. A look at shared memory, no system call.
    pub fn is_ready(&self) -> bool {
        self.detour.is_ready()
    }

    /// Sends a packet on: into the host's input for an input tap, out of the interface otherwise.
    ///
    /// A received packet that nobody changed goes on exactly as it was, in the kernel's own copy. A
    /// packet of another tap of the session leaves through this one. A new packet is sent.
    ///
    /// # Errors
    ///
    /// Hands the mbuf back: [`Error::Full`] when the ring has no room now, [`Error::Ended`] when the tap has ended,
    /// [`Error::OtherSession`], [`Error::Forked`]. A received packet whose own tap has ended has gone on by then, or
    /// was dropped, as the policy says; its mbuf is only memory.
    pub fn revert(&self, mbuf: Mbuf) -> Result<(), Rejected<Mbuf>> {
        let error = if !self.shelf.guard.is_owner() {
            Error::Forked
        } else if !mbuf.is_of(&self.shelf) {
            Error::OtherSession
        } else {
            match self.give(&[mbuf.revert_entry()]) {
                (1, _) => {
                    mbuf.given();
                    return Ok(());
                }
                (_, true) => Error::Ended,
                (_, false) => Error::Full,
            }
        };
        Err(Rejected { value: mbuf, error })
    }

    /// Reverts from the front of `mbufs` what finds room now, in order; the rest stays. Returns how
    /// many went. One booking on the ring serves up to 64 packets.
    ///
    /// # Errors
    ///
    /// [`Error::OtherSession`] when the next mbuf is not of this session, [`Error::Ended`] when the tap has ended,
    /// [`Error::Forked`]: then none went. Nothing is lost: all that did not go is still in `mbufs`.
    pub fn revert_batch(&self, mbufs: &mut Vec<Mbuf>) -> Result<usize> {
        const BATCH: usize = 64;
        if !self.shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        let mut entries = [Entry::default(); BATCH];
        let mut gone = 0;
        let (mut strange, mut ended) = (false, false);
        while gone < mbufs.len() && !strange {
            let mut count = 0;
            for (entry, mbuf) in entries.iter_mut().zip(mbufs.iter().skip(gone)) {
                if !mbuf.is_of(&self.shelf) {
                    strange = true;
                    break;
                }
                *entry = mbuf.revert_entry();
                count += 1;
            }
            let room;
            (room, ended) = self.give(entries.get(..count).unwrap_or(&[]));
            gone += room;
            if room < count {
                strange = false;
                break;
            }
        }
        mbufs.drain(..gone).for_each(Mbuf::given);
        match (strange, ended) {
            _ if gone > 0 => Ok(gone),
            (true, _) => Err(Error::OtherSession),
            (_, true) => Err(Error::Ended),
            _ => Ok(0),
        }
    }

    /// Reverts all of `mbufs` in order, waiting for room where there is none: as long as the ring is
    /// full, `mbuf_push` sleeps until the kernel has taken something.
    ///
    /// # Errors
    ///
    /// As [`Tap::revert_batch`] and [`Tap::flush`]; all that did not go is still in `mbufs`.
    pub fn revert_all(&self, mbufs: &mut Vec<Mbuf>) -> Result<()> {
        loop {
            self.revert_batch(mbufs)?;
            if mbufs.is_empty() {
                return Ok(());
            }
            self.flush(1, None)?;
        }
    }

    /// Waits until the kernel has taken `n` more entries from the revert ring, or all if there are
    /// fewer: `mbuf_push(tap, n)`. `None` waits for ever.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::Ended`].
    pub fn flush(&self, n: u32, timeout: Option<Duration>) -> Result<()> {
        let answer = self.shelf.push(self.fd.as_raw_fd(), n, timeout);
        answer.map_err(|error| match error {
            Error::Request { errno, .. } if errno == Errno::ENODEV as i32 => Error::Ended,
            other => other.about(&self.name),
        })
    }

    /// Waits until the tap ends, for programs that only keep it open. `None` waits for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when it has; [`Error::TimedOut`], [`Error::Interrupted`], [`Error::Forked`].
    pub fn wait_end(&self, timeout: Option<Duration>) -> Result<()> {
        if !self.shelf.guard.is_owner() {
            return Err(Error::Forked);
        }
        // Its end is always reported; that there are packets is not asked for.
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::empty())];
        let timeout = timeout.map(TimeSpec::from);
        match ppoll(&mut fds, timeout, None) {
            Ok(0) => Err(Error::TimedOut),
            Ok(_) => Err(Error::Ended),
            Err(errno) => Err(Error::request("poll", &self.name, errno)),
        }
    }

    /// Has the kernel look at the rings now, without waiting: `mbuf_push(tap, 0)`.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`], [`Error::Forked`].
    pub fn doorbell(&self) -> Result<()> {
        self.flush(0, None)
    }

    /// Puts entries into the revert ring, in order, and rings the doorbell if the kernel has asked for it; how many
    /// went, and whether the tap has ended.
    #[inline]
    fn give(&self, entries: &[Entry]) -> (usize, bool) {
        if entries.is_empty() {
            return (0, false);
        }
        let given = self.revert.give(entries, Flags::Kept);
        let left = self.after_push(given.as_ref());
        let count = given.map_or(0, |given| given.count() as usize);
        (count - left.unwrap_or(0), left.is_some())
    }

    /// Whether it has, as far as its revert ring says.
    pub(crate) fn has_ended(&self) -> bool {
        self.after_push(None).is_some()
    }

    /// Rings the doorbell if the kernel has asked for it. If that says that the tap has ended: how many of those that
    /// were given are still the program's. A ring that has no room and wants the doorbell is the ring of such a tap.
    #[inline]
    pub(crate) fn after_push(&self, given: Option<&Booking>) -> Option<usize> {
        if !self.revert.wants_doorbell() {
            return None;
        }
        self.ring(given)
    }

    #[cold]
    fn ring(&self, given: Option<&Booking>) -> Option<usize> {
        if self.doorbell() != Err(Error::Ended) {
            return None;
        }
        Some(given.map_or(0, |given| self.revert.left_of(given)))
    }

    /// Entries of the revert ring that the kernel has not taken yet.
    pub fn backlog(&self) -> u32 {
        self.revert.backlog()
    }

    /// Id of the tap, as `tapctl tap list` shows it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Index of the interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Name of the interface when the tap was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the tap is between.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The kernel's counters of this tap. A system call.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when the kernel does not know the tap any more.
    pub fn stats(&self) -> Result<TapStats> {
        admin::taps_from(self.shelf.call()?, self.id, 1)?
            .into_iter()
            .find(|tap| tap.id == self.id)
            .ok_or(Error::Ended)
    }

    /// Whether both are of one session, and a packet of one can go through the other.
    pub(crate) fn is_of(&self, session: &Session) -> bool {
        Arc::ptr_eq(&self.shelf, &session.shelf)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
