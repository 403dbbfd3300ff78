// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! For whoever looks after the machine: what the module counts, and how to end a tap.
//!
//! Each function opens the device for itself and maps nothing, so that looking takes no mbufs.

use std::path::Path;

use nettap_uapi::ioctl;
use nettap_uapi::stats::{RegionStats, SessionStats, TapStats};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{Error, Result};
use crate::session::{handshake, Info, DEVICE};
use crate::sys::{Device, Kernel};

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

/// The region and the module as a whole.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn region() -> Result<RegionStats> {
    let mut record = [RegionStats::default()];
    device()?.query(
        ioctl::QUERY_REGION,
        0,
        size_of::<RegionStats>(),
        record.as_mut_bytes(),
    )?;
    let [record] = record;
    Ok(record)
}

/// All sessions, in ascending order of their ids.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn sessions() -> Result<Vec<SessionStats>> {
    records(
        &device()?,
        ioctl::QUERY_SESSIONS,
        0,
        usize::MAX,
        |one: &SessionStats| one.id,
    )
}

/// All taps, in ascending order of their ids.
///
/// # Errors
///
/// [`Error::Request`]: no module, no permission.
pub fn taps() -> Result<Vec<TapStats>> {
    taps_from(&device()?, 0, usize::MAX)
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
