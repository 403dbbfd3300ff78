// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! For whoever looks after the machine: what the module counts, how to end a tap, and how to change its
//! policies.
//!
//! Each function opens the device for itself and maps nothing, so that looking takes no mbufs. Who looks many
//! times a second keeps it open: [`Counters`].

use std::path::Path;
use std::time::Duration;

use nettap_uapi::ioctl;
use nettap_uapi::stats::{RegionStats, SessionStats, TapStats};
use nettap_uapi::tap::{NoConsumer, OnExit, OnFull};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::session::{handshake, Info, DEVICE};
use crate::sys::{Device, Kernel};
use crate::tap::microseconds;

/// Records asked for at once.
const PAGE: usize = 64;

fn device() -> Result<Device> {
    Device::open(Path::new(DEVICE))
}

/// What the module is, without a session that maps.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn info() -> Result<Info> {
    handshake(&device()?)
}

/// What the module counts, read by one open of the device as often as one likes: an open is a session, which
/// has its events and its costs.
#[derive(Debug)]
pub struct Counters {
    device: Device,
}

impl Counters {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// [`Error::Request`]: no module, no permission.
    pub fn open() -> Result<Self> {
        let device = device()?;
        Ok(Self { device })
    }

    /// As [`regions`].
    ///
    /// # Errors
    ///
    /// [`Error::Request`]: the module refused.
    pub fn regions(&self) -> Result<Vec<RegionStats>> {
        let id = |one: &RegionStats| one.id;
        records(&self.device, ioctl::QUERY_REGION, 0, usize::MAX, id)
    }

    /// As [`sessions`].
    ///
    /// # Errors
    ///
    /// [`Error::Request`]: the module refused.
    pub fn sessions(&self) -> Result<Vec<SessionStats>> {
        let id = |one: &SessionStats| one.id;
        records(&self.device, ioctl::QUERY_SESSIONS, 0, usize::MAX, id)
    }

    /// As [`taps`].
    ///
    /// # Errors
    ///
    /// [`Error::Request`]: the module refused.
    pub fn taps(&self) -> Result<Vec<TapStats>> {
        taps_from(&self.device, 0, usize::MAX)
    }
}

/// The regions: that of the default group first, even before it is made, then those of named groups.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn regions() -> Result<Vec<RegionStats>> {
    Counters::open()?.regions()
}

/// The region of the default group.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn region() -> Result<RegionStats> {
    let mut all = regions()?.into_iter();
    all.next()
        .ok_or(Error::Kernel("no record of the default region"))
}

/// All sessions, in ascending order of their ids.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn sessions() -> Result<Vec<SessionStats>> {
    Counters::open()?.sessions()
}

/// All taps, in ascending order of their ids.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn taps() -> Result<Vec<TapStats>> {
    Counters::open()?.taps()
}

/// Ends the tap with this id, whoever opened it.
///
/// # Errors
///
/// [`Error::Request`]: no such tap, no permission.
pub fn untap(id: u32) -> Result<()> {
    device()?
        .untap(&mut ioctl::Untap { id, reserved: 0 })
        .map_err(|error| error.about(&id.to_string()))
}

/// Policies of an open tap that are to change; what is not named stays.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    request: ioctl::Set,
    filter: Option<Filter>,
}

impl Policies {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, what: u32, set: impl FnOnce(&mut ioctl::Set)) -> Self {
        self.request.what |= what;
        set(&mut self.request);
        self
    }

    /// As [`TapBuilder::on_full`](crate::TapBuilder::on_full); for all taps of a fan-out.
    pub fn on_full(self, policy: OnFull) -> Self {
        self.with(ioctl::SET_ON_FULL, |set| set.on_full = policy as u32)
    }

    /// As [`TapBuilder::on_exit`](crate::TapBuilder::on_exit).
    pub fn on_exit(self, policy: OnExit) -> Self {
        self.with(ioctl::SET_ON_EXIT, |set| set.on_exit = policy as u32)
    }

    /// As [`TapBuilder::no_consumer`](crate::TapBuilder::no_consumer); for all taps of a fan-out.
    pub fn no_consumer(self, policy: NoConsumer) -> Self {
        self.with(ioctl::SET_NO_CONSUMER, |set| {
            set.no_consumer = policy as u32;
        })
    }

    /// As [`TapBuilder::snaplen`](crate::TapBuilder::snaplen).
    pub fn snaplen(self, bytes: u32) -> Self {
        self.with(ioctl::SET_SNAPLEN, |set| set.snaplen = bytes)
    }

    /// As [`TapBuilder::max_bytes`](crate::TapBuilder::max_bytes).
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.with(ioctl::SET_MAX_BYTES, |set| set.max_bytes = bytes)
    }

    /// As [`TapBuilder::max_age`](crate::TapBuilder::max_age).
    pub fn max_age(self, age: Duration) -> Self {
        let us = microseconds(age);
        self.with(ioctl::SET_MAX_AGE, |set| set.max_age_us = us)
    }

    /// As [`TapBuilder::filter`](crate::TapBuilder::filter); for all taps of a fan-out.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self.with(ioctl::SET_FILTER, |_| {})
    }

    /// All packets detour.
    pub fn no_filter(mut self) -> Self {
        self.filter = None;
        self.with(ioctl::SET_FILTER, |_| {})
    }
}

/// Changes policies of the tap with this id, whoever opened it, from the next packet on.
///
/// # Errors
///
/// [`Error::Request`]: no such tap, no permission, a filter that the kernel refuses.
pub fn set(id: u32, policies: &Policies) -> Result<()> {
    set_on(&device()?, id, policies)
}

pub(crate) fn set_on(kernel: &dyn Kernel, id: u32, policies: &Policies) -> Result<()> {
    let mut request = policies.request;
    request.id = id;
    if let Some(filter) = &policies.filter {
        request.filter = filter.request();
    }
    kernel
        .set(&mut request)
        .map_err(|error| error.about(&id.to_string()))
}

pub(crate) fn taps_from(kernel: &dyn Kernel, from_id: u32, max: usize) -> Result<Vec<TapStats>> {
    records(kernel, ioctl::QUERY_TAPS, from_id, max, |one: &TapStats| {
        one.id
    })
}

/// Asks for records until there are no more, or `max`.
fn records<T>(
    kernel: &dyn Kernel,
    kind: u32,
    mut from_id: u32,
    max: usize,
    id: impl Fn(&T) -> u32,
) -> Result<Vec<T>>
where
    T: Copy + Default + FromBytes + IntoBytes + Immutable,
{
    let mut all = Vec::new();
    while all.len() < max {
        let mut page = vec![T::default(); PAGE.min(max - all.len())];
        let found = kernel.query(kind, from_id, size_of::<T>(), page.as_mut_bytes())?;
        let asked = page.len();
        page.truncate(found);
        let Some(last) = page.last().map(&id) else {
            break;
        };
        if last < from_id {
            return Err(Error::Kernel("records out of order"));
        }
        all.extend(page);
        // A page that is not full is the last; so is one that ends with the highest id there can be.
        match last.checked_add(1) {
            Some(next) if found == asked => from_id = next,
            _ => break,
        }
    }
    Ok(all)
}
