// SPDX-License-Identifier: GPL-2.0-only

//! What a command says when it fails: what was tried, the errno by its name, and what to do.
//!
//! The same three things are printed for people and for programs, and travel from a tap's holder in
//! the background to the command that started it. See [`crate::out`] for the printing.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Exit code of a command that was refused, by the kernel or because something is not there.
pub const REFUSED: u8 = 1;
/// Exit code of a command line that makes no sense.
pub const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried and what came of it.
    pub message: String,
    /// Name of the errno, when the kernel said no.
    pub errno: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code.
    pub exit: u8,
}

impl Failure {
    /// A refusal that no system call made.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            errno: None,
            hint: None,
            exit: REFUSED,
        }
    }

    /// The system refused `what`.
    pub fn system(what: impl fmt::Display, errno: Errno) -> Self {
        Self {
            errno: Some(format!("{errno:?}")),
            ..Self::new(format!("{what}: {}", errno.desc()))
        }
    }

    /// As [`Failure::system`], for the standard library's errors.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Self::system(what, Errno::from_raw(raw)),
            None => Self::new(format!("{what}: {error}")),
        }
    }

    /// Adds what to do, in place of what was there.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the kernel said this errno.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno.as_deref() == Some(format!("{errno:?}").as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(errno) = &self.errno {
            write!(f, " ({errno})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
