// SPDX-License-Identifier: GPL-2.0-only

//! What the commands ask of the module, as a trait: the device answers through the library, and the
//! tests answer with records of their own.
//!
//! No command opens the device in another way. Programs that carry packets (`tap add`, `run`,
//! `dump`) are the exception: they are sessions of the library.

use crate::failure::Failure;
use crate::measure::Sample;
use nettap::admin::{self, Counters, Policies};
use nettap::uapi::stats::{RegionStats, SessionStats, TapStats};
use nettap::{Error, Event, EventKind, Info};
use nix::errno::Errno;
use std::thread;
use std::time::{Duration, Instant};

/// What the library calls opening the device.
const OPEN: &str = "open";
/// Time between two samples.
const EVERY: Duration = Duration::from_millis(10);
/// A sample of many taps takes its time; so many times that passes until the next, lest measuring is what is
/// measured.
const SPARING: u32 = 9;

/// The module's introspection and its administrative requests.
pub trait Kernel {
    /// Versions and limits.
    fn info(&self) -> Result<Info, Failure>;
    /// The regions, the default group's first.
    fn regions(&self) -> Result<Vec<RegionStats>, Failure>;
    /// The default group's region.
    fn region(&self) -> Result<RegionStats, Failure> {
        default_region(&self.regions()?).copied()
    }
    /// All sessions, in the order of their ids.
    fn sessions(&self) -> Result<Vec<SessionStats>, Failure>;
    /// All taps of the machine, in the order of their ids.
    fn taps(&self) -> Result<Vec<TapStats>, Failure>;
    /// Ends a tap.
    fn untap(&self, id: u32) -> Result<(), Failure>;
    /// Changes policies of a tap.
    fn set(&self, id: u32, policies: &Policies) -> Result<(), Failure>;
    /// Events of these kinds, or of all, as they come.
    fn events(&self, kinds: &[EventKind]) -> Result<Events, Failure>;
    /// The counters again and again for so long: at once, then about every 10 ms, and at the end.
    fn samples(&self, time: Duration) -> Result<Samples, Failure>;
}

/// Events without an end.
pub type Events = Box<dyn Iterator<Item = Result<Event, Failure>>>;

/// Samples until the time is over.
pub type Samples = Box<dyn Iterator<Item = Result<Sample, Failure>>>;

/// The module of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Device;

impl Kernel for Device {
    fn info(&self) -> Result<Info, Failure> {
        Ok(admin::info()?)
    }

    fn regions(&self) -> Result<Vec<RegionStats>, Failure> {
        Ok(admin::regions()?)
    }

    fn sessions(&self) -> Result<Vec<SessionStats>, Failure> {
        Ok(admin::sessions()?)
    }

    fn taps(&self) -> Result<Vec<TapStats>, Failure> {
        Ok(admin::taps()?)
    }

    fn events(&self, kinds: &[EventKind]) -> Result<Events, Failure> {
        let monitor = nettap::Monitor::open(kinds)?;
        Ok(Box::new(monitor.map(|event| Ok(event?))))
    }

    fn samples(&self, time: Duration) -> Result<Samples, Failure> {
        Ok(Box::new(Sampling {
            counters: Counters::open()?,
            begun: None,
            time,
            rest: Some(Duration::ZERO),
        }))
    }

    fn untap(&self, id: u32) -> Result<(), Failure> {
        admin::untap(id).map_err(|error| about(error, "end", id))
    }

    fn set(&self, id: u32, policies: &Policies) -> Result<(), Failure> {
        admin::set(id, policies).map_err(|error| about(error, "change", id))
    }
}

/// Samples of the device.
struct Sampling {
    counters: Counters,
    /// When the first was.
    begun: Option<Instant>,
    time: Duration,
    /// How long to wait for the next one; nothing: there is none.
    rest: Option<Duration>,
}

impl Sampling {
    fn read(&self, at: Duration) -> Result<Sample, Failure> {
        Ok(Sample {
            at,
            taps: self.counters.taps()?,
            sessions: self.counters.sessions()?,
        })
    }
}

impl Iterator for Sampling {
    type Item = Result<Sample, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        thread::sleep(self.rest?);
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        // Of the first none at all, so that the last is the whole time after it.
        let at = now.saturating_duration_since(begun);
        let sample = self.read(at);
        let now = begun.elapsed();
        let pause = EVERY.max(now.saturating_sub(at).saturating_mul(SPARING));
        let left = self.time.saturating_sub(now);
        // The first that is not before the end is the last.
        self.rest = (at < self.time && sample.is_ok()).then(|| pause.min(left));
        Some(sample)
    }
}

/// A refused request about a tap.
fn about(error: Error, what: &str, id: u32) -> Failure {
    // The device can be missing with the same errno; only the module knows ids.
    let by_module = !matches!(&error, Error::Request { request, .. } if *request == OPEN);
    let failure = Failure::from(error);
    if by_module && failure.is(Errno::ENOENT) {
        return no_tap(what, id);
    }
    failure
}

/// No tap has this id, so nothing can be done to it.
pub fn no_tap(verb: &str, id: u32) -> Failure {
    Failure::system(format_args!("{verb} tap {id}"), Errno::ENOENT)
        .hint("no tap has this id: see `tapctl tap list`")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The library's text is a fact and then, behind a semicolon, advice.
        let text = error.to_string();
        let (message, advice) = match text.split_once("; ") {
            Some((message, advice)) => (message, Some(String::from(advice))),
            None => (text.as_str(), None),
        };
        let errno = Errno::from_raw(error.errno());
        // nix puts the errno's name before its meaning, and so does our own Display behind it.
        let named = format!("{errno:?}: ");
        let failure = Self {
            errno: Some(format!("{errno:?}")),
            hint: advice,
            ..Self::new(message.replacen(&named, "", 1))
        };
        match error {
            Error::Request {
                request: OPEN, ..
            } if matches!(errno, Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => failure.hint(
                "the module is not loaded; load it: `modprobe nettap`, or `insmod nettap.ko` where it was built",
            ),
            _ => failure,
        }
    }
}

/// The first region.
pub fn default_region(regions: &[RegionStats]) -> Result<&RegionStats, Failure> {
    let first = regions.first();
    first.ok_or_else(|| Failure::new("the module has no record of its region"))
}

/// A zero-terminated name of a structure. Whoever runs a program names it, and a terminal obeys control characters: they
/// are replaced.
pub fn name(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default())
        .replace(char::is_control, "\u{fffd}")
}
