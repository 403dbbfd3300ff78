// SPDX-License-Identifier: GPL-2.0-only

//! A program that executes another. The memory goes in any case; a session or a tap lives on if its
//! descriptor does, and a tap only with its session.

use super::{until, Before, Taps};
use crate::figures::{Control, Sum};
use crate::Outcome;
use anyhow::{ensure, Result};
use clap::Args;
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{fork, ForkResult, Pid};
use serde_json::json;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Arguments of `exec`.
#[derive(Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    taps: Taps,
    /// Milliseconds that the other program lives.
    #[arg(long, default_value_t = 200)]
    millis: u64,
}

impl Exec {
    pub(super) fn run(self) -> Outcome {
        let control = Control::open()?;
        let begun = Before::now(&control)?;
        println!("ready");
        for (session, taps) in [(true, true), (true, false), (false, true), (false, false)] {
            self.once(&control, session, taps)?;
        }
        let mut sum = Sum::default();
        for tap in begun.ended(&control)? {
            sum.add(&tap)?;
        }
        println!("{}", json!({ "lost": sum.lost(), "taps": sum.json() }));
        ensure!(sum.lost() == 0, "packets were lost");
        Ok(())
    }

    /// With the descriptors of the session, or of the taps, given on or not.
    fn once(&self, control: &Control, session: bool, taps: bool) -> Outcome {
        let before = Before::now(control)?;
        // SAFETY: this process has one thread, so the child may do what it likes.
        let child = match unsafe { fork() }? {
            ForkResult::Child => {
                let error = self.become_another(session, taps);
                eprintln!("nthostile: exec: {error:?}");
                std::process::exit(1)
            }
            ForkResult::Parent { child } => child,
        };
        // It has its name a moment before what it does not inherit is closed.
        until("the other program runs", || Ok(name_of(child) == "sleep"))?;
        let expected = if session && taps {
            self.taps.places.len()
        } else {
            0
        };
        let what = format!("{expected} taps are open, session given on {session}, taps {taps}");
        until(&what, || {
            let open = before.taps(control)?.len();
            Ok(open == expected && before.sessions(control)? == usize::from(session))
        })?;
        // Packets come meanwhile, and nobody takes them.
        sleep(Duration::from_millis(self.millis));
        kill(child, Signal::SIGKILL)?;
        waitpid(child, None)?;
        ensure!(
            before.sessions(control)? == 0,
            "a session outlived its last process"
        );
        before.until_gone(control)
    }

    /// Comes back only when it fails.
    fn become_another(&self, session: bool, taps: bool) -> Result<()> {
        let (opened, open_taps) = self.taps.open()?;
        if session {
            keep_over_exec(opened.as_fd())?;
        }
        for tap in open_taps.iter().filter(|_| taps) {
            keep_over_exec(tap.fd.as_fd())?;
        }
        // Whatever becomes of us, it does not go on.
        let death = [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize];
        crate::sys::syscall(libc::SYS_prctl, &death)?;
        let mut other = Command::new("sleep");
        Err(other.arg("600").stdout(Stdio::null()).exec().into())
    }
}

fn keep_over_exec(fd: BorrowedFd<'_>) -> Result<()> {
    let arguments = [fd.as_raw_fd() as usize, libc::F_SETFD as usize, 0];
    crate::sys::syscall(libc::SYS_fcntl, &arguments)?;
    Ok(())
}

/// What a process calls itself.
fn name_of(pid: Pid) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.unwrap_or_default().trim().to_owned()
}
