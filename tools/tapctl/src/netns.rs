// SPDX-License-Identifier: GPL-2.0-only

//! Network namespaces by name, as `ip netns` keeps them, and by the inode number that the module
//! reports for each tap.
//!
//! Looking needs no privilege; [`Netns::enter`] does, and is left to the commands that must stand
//! in the namespace.

use crate::failure::Failure;
use nix::errno::Errno;
use nix::sched::{setns, CloneFlags};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where `ip netns add` puts names.
const NAMES: &str = "/run/netns";

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    inode: u32,
    named: bool,
}

impl Netns {
    /// The namespace with this name, or the caller's own.
    pub fn find(name: Option<&str>) -> Result<Self, Failure> {
        let path = match name {
            Some(name) => Path::new(NAMES).join(name),
            None => PathBuf::from("/proc/self/ns/net"),
        };
        let inode = inode(&path).map_err(|error| {
            let failure = Failure::io(
                format_args!("network namespace {}", name.unwrap_or("of this process")),
                &error,
            );
            failure.hint("`ip netns list` shows the names there are")
        })?;
        Ok(Self {
            path,
            inode,
            named: name.is_some(),
        })
    }

    /// Number by which the module knows it.
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Whether the command line named it; a command then shows this namespace only.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Goes there, with what this thread opens and starts from now on.
    pub fn enter(&self) -> Result<(), Failure> {
        if !self.named {
            return Ok(());
        }
        let what = format_args!("enter {}", self.path.display()).to_string();
        let file = File::open(&self.path).map_err(|error| Failure::io(&what, &error))?;
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            let failure = Failure::system(&what, errno);
            match errno {
                Errno::EPERM => failure.hint("needs CAP_SYS_ADMIN: run it with sudo"),
                Errno::EINVAL => failure.hint("the file is no namespace: `ip netns add` makes one"),
                _ => failure,
            }
        })
    }
}

/// Names of namespaces by their inode number.
///
/// What cannot be read has no name: names are for people and never decide anything.
pub fn names() -> BTreeMap<u32, String> {
    let Ok(entries) = fs::read_dir(NAMES) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let inode = inode(&entry.path()).ok()?;
            Some((inode, entry.file_name().to_string_lossy().into_owned()))
        })
        .collect()
}

fn inode(path: &Path) -> std::io::Result<u32> {
    let inode = fs::metadata(path)?.ino();
    // proc_alloc_inum() of fs/proc/generic.c hands out unsigned ints; other files are no namespaces.
    Ok(u32::try_from(inode).unwrap_or(0))
}
