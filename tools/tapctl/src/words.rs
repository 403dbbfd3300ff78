// SPDX-License-Identifier: GPL-2.0-only

//! The words that values have on the command line, and what they are to the library: policies, numbers
//! with units, names.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::ValueEnum;
use nettap::uapi::mbuf::{MBUF_SIZE_MAX, MBUF_SIZE_MIN};
use nettap::uapi::tap::{self, Access, Fanout, Gso, Mode, NoConsumer, OnExit, OnFull};
use nettap::EventKind;
use std::time::Duration;

/// [`Mode`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeWord {
    /// Received packets, before the host's network layer sees them
    Input,
    /// Packets that the host sends, before the interface sees them
    Output,
    /// Both, with the host cut off
    Bypass,
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Input => Self::Input,
            ModeWord::Output => Self::Output,
            ModeWord::Bypass => Self::Bypass,
        }
    }
}

/// [`OnFull`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFullWord {
    /// It goes on as if there were no tap
    Pass,
    /// It is dropped and counted
    Drop,
}

impl From<OnFullWord> for OnFull {
    fn from(word: OnFullWord) -> Self {
        match word {
            OnFullWord::Pass => Self::Pass,
            OnFullWord::Drop => Self::Drop,
        }
    }
}

/// [`OnExit`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExitWord {
    /// They go on as they were, in order
    Revert,
    /// They are dropped and counted
    Drop,
}

impl From<OnExitWord> for OnExit {
    fn from(word: OnExitWord) -> Self {
        match word {
            OnExitWord::Revert => Self::Revert,
            OnExitWord::Drop => Self::Drop,
        }
    }
}

/// [`Access`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessWord {
    /// The user who creates it
    Uid,
    /// Whoever is in that user's group
    Gid,
    /// Everybody who can open the device
    All,
}

impl From<AccessWord> for Access {
    fn from(word: AccessWord) -> Self {
        match word {
            AccessWord::Uid => Self::Uid,
            AccessWord::Gid => Self::Gid,
            AccessWord::All => Self::All,
        }
    }
}

/// [`Gso`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GsoWord {
    /// As the kernel has them
    Whole,
    /// Cut into packets of wire size
    Segment,
}

impl From<GsoWord> for Gso {
    fn from(word: GsoWord) -> Self {
        match word {
            GsoWord::Whole => Self::Whole,
            GsoWord::Segment => Self::Segment,
        }
    }
}

/// [`Fanout`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FanoutWord {
    /// Each packet goes to the session that holds least
    Any,
    /// The packets of a flow go to the same session
    Flow,
    /// The packets that come on a CPU go to the same session
    Cpu,
}

impl From<FanoutWord> for Fanout {
    fn from(word: FanoutWord) -> Self {
        match word {
            FanoutWord::Any => Self::Any,
            FanoutWord::Flow => Self::Flow,
            FanoutWord::Cpu => Self::Cpu,
        }
    }
}

/// [`NoConsumer`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NoConsumerWord {
    /// They go on as if there were no tap
    Pass,
    /// They wait for the next program that opens the tap
    Hold,
}

impl From<NoConsumerWord> for NoConsumer {
    fn from(word: NoConsumerWord) -> Self {
        match word {
            NoConsumerWord::Pass => Self::Pass,
            NoConsumerWord::Hold => Self::Hold,
        }
    }
}

/// A time: a whole number and its unit.
pub(crate) fn time(word: &str) -> Result<Duration, String> {
    // Microseconds of each; "s" is the end of the others, so it comes last.
    let units = [("us", 1), ("ms", 1000), ("s", 1_000_000)];
    if word == "0" {
        return Ok(Duration::ZERO);
    }
    let named = units
        .iter()
        .find_map(|(unit, us)| Some((word.strip_suffix(unit)?, us)));
    let (digits, us) = named.ok_or_else(|| String::from("write us, ms or s behind the number"))?;
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    let time = number.checked_mul(*us).ok_or("too long")?;
    Ok(Duration::from_micros(time))
}

/// A kind of event, by the word for it.
pub(crate) fn event_kind() -> impl TypedValueParser<Value = EventKind> {
    let words = EventKind::ALL.map(EventKind::name);
    PossibleValuesParser::new(words).try_map(|word| {
        let mut kinds = EventKind::ALL.into_iter();
        kinds
            .find(|kind| kind.name() == word)
            .ok_or("there is no such kind of event")
    })
}

/// An interface's name: what the kernel's dev_valid_name() accepts.
pub(crate) fn interface(word: &str) -> Result<String, String> {
    let longest = tap::IFNAME_MAX - 1;
    if word.is_empty() || word.len() > longest {
        return Err(format!("an interface's name has 1 to {longest} bytes"));
    }
    let odd = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace();
    if word == "." || word == ".." || word.contains(odd) {
        return Err(String::from("no interface can have this name"));
    }
    Ok(String::from(word))
}

/// A group's name.
pub(crate) fn group(word: &str) -> Result<String, String> {
    let longest = tap::GROUP_MAX - 1;
    if word.is_empty() || word.len() > longest || !word.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "a group's name has 1 to {longest} characters of ASCII without spaces"
        ));
    }
    Ok(String::from(word))
}

/// Size of an mbuf.
pub(crate) fn mbuf_size(word: &str) -> Result<u32, String> {
    let bytes: u32 = word.parse().map_err(|error| format!("{error}"))?;
    if bytes.is_power_of_two() && (MBUF_SIZE_MIN..=MBUF_SIZE_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!(
        "an mbuf has a power of two of bytes, {MBUF_SIZE_MIN} to {MBUF_SIZE_MAX}"
    ))
}

/// Cells of a ring.
pub(crate) fn ring(word: &str) -> Result<u32, String> {
    let cells: u32 = word.parse().map_err(|error| format!("{error}"))?;
    if cells.is_power_of_two() && (tap::RING_MIN..=tap::RING_MAX).contains(&cells) {
        return Ok(cells);
    }
    Err(format!(
        "a ring has a power of two of cells, {} to {}",
        tap::RING_MIN,
        tap::RING_MAX
    ))
}

/// A number of bytes.
pub(crate) fn size(word: &str) -> Result<u64, String> {
    let (digits, shift) = match word.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if word.ends_with('K') => (digits, 10),
        Some(digits) if word.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (word, 0),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err(String::from("a tap that may hold nothing detours nothing")),
        Some(bytes) => Ok(bytes),
        None => Err(String::from("too large")),
    }
}
