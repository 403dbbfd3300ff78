// SPDX-License-Identifier: GPL-2.0-only

//! A session that goes from process to process over a socket (`SCM_RIGHTS`). Each process maps it, does
//! its work for a while, passes it on and dies; between two of them the session lives in the socket
//! only. What a dead one had in its hands is sent on when the session ends. At last one passes it to
//! nobody: the session ends with the socket.

use super::{echo_for, until, Before, Taps};
use crate::abi::{Session, Tap};
use crate::figures::{Control, Sum};
use crate::Outcome;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use nettap_uapi::ioctl;
use nix::sys::signal::{raise, Signal};
use nix::sys::socket::{
    recvmsg, sendmsg, socketpair, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags,
    SockFlag, SockType, UnixAddr,
};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{fork, ForkResult};
use serde_json::json;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// Arguments of `pass`.
#[derive(Args)]
pub(crate) struct Pass {
    #[command(flatten)]
    taps: Taps,
    /// Processes that have it in turn.
    #[arg(long, default_value_t = 10)]
    hands: u32,
    /// Milliseconds that each has it.
    #[arg(long, default_value_t = 100)]
    millis: u64,
}

/// What the next process must know beside the descriptors.
const KNOWLEDGE: usize = size_of::<ioctl::Map>() + 8 * size_of::<ioctl::Tap>();

impl Pass {
    pub(super) fn run(self) -> Outcome {
        let control = Control::open()?;
        let before = Before::now(&control)?;
        let mut sum = Sum::default();
        for circle in [false, true] {
            self.relay(&control, before, circle)?;
        }
        for tap in before.ended(&control)? {
            sum.add(&tap)?;
        }
        let summary = json!({
            "hands": 2 * self.hands,
            "lost": sum.lost(),
            "taps": sum.json(),
        });
        println!("{summary}");
        ensure!(sum.lost() == 0, "packets were lost");
        ensure!(sum.detoured() > 0, "no packet came");
        Ok(())
    }

    /// All hands once. In a circle, the last message waits in the socket that it contains.
    fn relay(&self, control: &Control, before: Before, circle: bool) -> Outcome {
        let (mut from, mut to) = pair()?;
        for nth in 0..self.hands {
            let last = nth + 1 == self.hands;
            let (next_from, next_to) = pair()?;
            // SAFETY: this process has one thread, so the child may do what it likes.
            match unsafe { fork() }? {
                ForkResult::Child => {
                    let itself = (last && circle).then_some(&next_from);
                    let outcome = self.hand(nth == 0, &from, &next_to, itself);
                    if let Err(error) = outcome {
                        eprintln!("nthostile: hand {nth}: {error:#}");
                        std::process::exit(1);
                    }
                    let _ = raise(Signal::SIGKILL);
                }
                ForkResult::Parent { child } => match waitpid(child, None)? {
                    WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
                    other => bail!("hand {nth}: {other:?}"),
                },
            }
            // Those who had it are dead; it is in the socket.
            (from, to) = (next_from, next_to);
            let open = before.taps(control)?.len();
            ensure!(
                open == self.taps.places.len(),
                "{open} taps are open while the session is in a socket"
            );
            if nth == 0 && !circle {
                println!("ready");
            }
        }
        drop((from, to));
        until("sessions and taps are gone", || {
            // The kernel looks for circles of sockets when one is closed, but not while it is looking already: what was
            // closed then is found when another is.
            if circle {
                drop(pair()?);
            }
            Ok(before.taps(control)?.is_empty() && before.sessions(control)? == 0)
        })
    }

    /// What one process does.
    fn hand(&self, first: bool, from: &OwnedFd, to: &OwnedFd, itself: Option<&OwnedFd>) -> Outcome {
        let (session, taps) = if first {
            self.taps.open()?
        } else {
            receive(from)?
        };
        echo_for(&session, &taps, Duration::from_millis(self.millis))?;
        send(to, &session, &taps, itself)
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).context("socketpair")
}

fn send(to: &OwnedFd, session: &Session, taps: &[Tap], itself: Option<&OwnedFd>) -> Outcome {
    let mut known = session.told.as_bytes().to_vec();
    let mut fds = vec![session.as_fd().as_raw_fd()];
    for tap in taps {
        known.extend(tap.told.as_bytes());
        fds.push(tap.number());
    }
    fds.extend(itself.map(AsRawFd::as_raw_fd));
    let rights = [ControlMessage::ScmRights(&fds)];
    let bytes = [IoSlice::new(&known)];
    sendmsg::<UnixAddr>(to.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None)?;
    Ok(())
}

fn receive(from: &OwnedFd) -> Result<(Session, Vec<Tap>)> {
    let mut known = vec![0; KNOWLEDGE];
    let mut room = nix::cmsg_space!([i32; 16]);
    let mut bytes = [IoSliceMut::new(&mut known)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let came = recvmsg::<UnixAddr>(from.as_raw_fd(), &mut bytes, Some(&mut room), flags)?;
    let mut fds = Vec::new();
    for message in came.cmsgs()? {
        if let ControlMessageOwned::ScmRights(some) = message {
            // SAFETY: the kernel has just made these descriptors for us and nobody else knows them.
            fds.extend(some.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    ensure!(!fds.is_empty(), "no descriptor came");
    let mut fds = fds.into_iter();
    let session = fds.next().context("no session came")?;
    let (map, mut rest) = ioctl::Map::read_from_prefix(&known)
        .ok()
        .context("too short")?;
    let session = Session::adopt(File::from(session), map)?;
    let mut taps = Vec::new();
    for fd in fds {
        let (told, more) = ioctl::Tap::read_from_prefix(rest)
            .ok()
            .context("too short")?;
        rest = more;
        taps.push(session.adopt_tap(fd, told)?);
    }
    Ok((session, taps))
}
