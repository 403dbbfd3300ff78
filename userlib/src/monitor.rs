// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! What happens on the machine: sessions and taps that come and go, what was taken back, drops by
//! cause. The kernel tells it; nobody looks at counters again and again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nettap_uapi::event::{Event, EventKind, EVENT_QUEUE};
use nettap_uapi::ioctl;
use zerocopy::FromBytes;

use crate::error::{Error, Result};
use crate::session::{handshake, DEVICE};
use crate::sys::{Device, Kernel};

const RECORD: usize = size_of::<Event>();

/// Listens to events, from when it is opened on.
///
/// As an iterator it waits for each and does not end by itself. Its descriptor, for an event loop, is
/// readable when the kernel has events; those that were read with one and are still here are not seen
/// by it, so take events until there is none.
///
/// ```no_run
/// use nettap::{EventKind, Monitor};
///
/// fn main() -> nettap::Result<()> {
///     for event in Monitor::open(&[EventKind::TapOpen, EventKind::TapClose])? {
///         let event = event?;
///         println!("tap {} of process {}", event.tap, event.pid);
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Monitor {
    device: Device,
    /// Read and not yet taken.
    ahead: VecDeque<Event>,
}

impl Monitor {
    /// Begins to listen to events of these kinds; of all kinds when none is named.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] from `open` (no module, no permission), `info` (library too new) or `monitor`
    /// (no privilege, too many listeners).
    pub fn open(kinds: &[EventKind]) -> Result<Self> {
        let device = Device::open_nonblocking(Path::new(DEVICE))?;
        handshake(&device)?;
        let mut ask = ioctl::Monitor {
            kinds: kinds.iter().fold(0, |all, kind| all | kind.bit()),
            record_size: u32::try_from(RECORD).unwrap_or(0),
            ..Default::default()
        };
        device.monitor(&mut ask)?;
        Ok(Self {
            device,
            ahead: VecDeque::new(),
        })
    }

    /// The next event that there is now.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], or what the kernel says.
    pub fn take(&mut self) -> Result<Option<Event>> {
        if self.ahead.is_empty() {
            let mut bytes = vec![0; RECORD * EVENT_QUEUE as usize];
            let read = self.device.read(&mut bytes)?;
            let records = bytes.get(..read).unwrap_or_default();
            self.ahead.extend(parse(records)?);
        }
        Ok(self.ahead.pop_front())
    }

    /// The next event; waits for it, `None` for ever. Nothing: the time passed.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], or what the kernel says.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
        loop {
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let found = self.device.poll(&[self.device.fd()], left)?;
            if left.is_some_and(|left| left.is_zero()) && !found.iter().any(|one| one.packet) {
                return Ok(None);
            }
        }
    }
}

/// The records of one `read`.
fn parse(bytes: &[u8]) -> Result<impl Iterator<Item = Event> + '_> {
    let records = bytes.chunks_exact(RECORD);
    if !records.remainder().is_empty() {
        return Err(Error::Kernel("events that are cut off"));
    }
    Ok(records.filter_map(|record| Event::read_from_bytes(record).ok()))
}

impl Iterator for Monitor {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.wait(None).transpose()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, Event, EventKind, RECORD};
    use zerocopy::IntoBytes;

    #[test]
    fn records_are_read_whole() {
        let events: Vec<Event> = (1..=3)
            .map(|number| Event {
                number,
                kind: EventKind::Drop.raw(),
                ..Event::default()
            })
            .collect();
        let bytes: Vec<u8> = events
            .iter()
            .flat_map(|event| event.as_bytes())
            .copied()
            .collect();
        let numbers: Vec<u64> = parse(&bytes)
            .expect("whole")
            .map(|event| event.number)
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(parse(&bytes[..RECORD - 1]).is_err());
        assert_eq!(parse(&[]).expect("nothing").count(), 0);
    }

    #[test]
    fn kinds_have_names_and_bits_of_their_own() {
        for (nth, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.raw() as usize, nth + 1);
            assert_eq!(EventKind::from_raw(kind.raw()), Some(kind));
            assert_eq!(kind.bit(), 2 << nth);
            let same = EventKind::ALL
                .into_iter()
                .filter(|other| other.name() == kind.name());
            assert_eq!(same.count(), 1);
        }
        assert_eq!(EventKind::from_raw(0), None);
    }
}
