// SPDX-License-Identifier: GPL-2.0-only

//! A program's whole life, with everything failing once that the kernel can make fail: each request is
//! made with its first allocation or copy refused, then with its second, and so on until none is left
//! to refuse (`/proc/thread-self/fail-nth`, Documentation/fault-injection). A refused request must be
//! as if it had not been made: the same one, made again, succeeds.

use crate::abi::{open, request, tap_request, Session, Tap, DEVICE};
use crate::figures::{Control, Sum};
use crate::scribble::Place;
use crate::storm::Before;
use crate::Outcome;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use nettap_uapi::event::Event;
use nettap_uapi::ioctl::{
    self, LOCK_REGISTER, LOCK_UNREGISTER, LOCK_WAKE, SET_FILTER, SET_MAX_AGE, SET_SNAPLEN,
};
use nettap_uapi::ring::Entry;
use nettap_uapi::tap::{FANOUT_FLOW, FILTER_CLASSIC, NO_CONSUMER_HOLD, TAP_INPUT};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use serde_json::{json, Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Where a thread says which of its next chances to fail is to be taken.
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";
/// No request has so many.
const MOST: u32 = 5000;

/// Arguments of `faults`.
#[derive(Args)]
pub(crate) struct Faults {
    /// The tap of this life, as INTERFACE:MODE.
    #[arg(long)]
    tap: Place,
    /// Where to send packets, so that they pass the tap.
    #[arg(long)]
    to: SocketAddr,
    /// Only say whether this kernel can do it: `yes` or `no`.
    #[arg(long)]
    ask: bool,
}

/// What there is at some moment of the life.
struct Life {
    place: Place,
    to: SocketAddr,
    socket: UdpSocket,
    file: Option<File>,
    told: Option<ioctl::Map>,
    session: Option<Session>,
    tap: Option<Tap>,
    taken: Vec<Entry>,
}

/// One request, and how to take it back when it has come about in spite of a refusal.
struct Step {
    name: &'static str,
    make: fn(&mut Life) -> Result<()>,
    unmake: fn(&mut Life),
}

const fn step(
    name: &'static str,
    make: fn(&mut Life) -> Result<()>,
    unmake: fn(&mut Life),
) -> Step {
    Step { name, make, unmake }
}

static LIFE: &[Step] = &[
    step("open", Life::open, |life| drop(life.file.take())),
    step("mbuf_map", Life::mbuf_map, Life::mbuf_unmap),
    step("mmap", Life::mmap, |life| drop(life.session.take())),
    step("interface_tap", Life::interface_tap, |life| {
        drop(life.tap.take())
    }),
    step("query", Life::query, |_| ()),
    step("poll", Life::poll, |_| ()),
    step("send", Life::send, |_| ()),
    step("mbuf_pull", Life::pull, |_| ()),
    step("mbuf_push", Life::push, |_| ()),
    step("supply", Life::supply, |_| ()),
    step("serve", Life::serve, |_| ()),
    step("info", Life::info, |_| ()),
    step("set", Life::set, |_| ()),
    step("lock", Life::lock, |_| ()),
    step("monitor", Life::monitor, |_| ()),
    step("untap", Life::untap, |_| ()),
];

impl Life {
    fn session(&self) -> Result<&Session> {
        self.session.as_ref().context("no session")
    }

    fn open(&mut self) -> Result<()> {
        self.file = Some(open()?);
        Ok(())
    }

    fn mbuf_map(&mut self) -> Result<()> {
        let file = self.file.as_ref().context("not open")?;
        let mut told = ioctl::Map {
            prealloc: 16,
            ..Default::default()
        };
        request(file.as_fd(), ioctl::MAP, &mut told)?;
        self.told = Some(told);
        Ok(())
    }

    fn mbuf_unmap(&mut self) {
        if let Some(file) = &self.file {
            use std::os::fd::AsRawFd;
            let number = ioctl::request_unmap() as usize;
            let _ = crate::sys::syscall(libc::SYS_ioctl, &[file.as_raw_fd() as usize, number, 0]);
        }
    }

    fn mmap(&mut self) -> Result<()> {
        let file = self.file.as_ref().context("not open")?.try_clone()?;
        self.session = Some(Session::adopt(file, self.told.context("not mapped")?)?);
        Ok(())
    }

    fn interface_tap(&mut self) -> Result<()> {
        let place = &self.place;
        let tap = self
            .session()?
            .tap(tap_request(&place.ifname, place.mode))?;
        self.tap = Some(tap);
        Ok(())
    }

    fn query(&mut self) -> Result<()> {
        let control = Control::open()?;
        control.regions()?;
        control.sessions()?;
        control.taps()?;
        control.ended(0)?;
        Ok(())
    }

    fn poll(&mut self) -> Result<()> {
        let tap = self.tap.as_ref().context("no tap")?;
        let mut watched = [
            PollFd::new(self.session()?.as_fd(), PollFlags::POLLIN),
            PollFd::new(tap.fd.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT),
        ];
        poll(&mut watched, PollTimeout::ZERO)?;
        Ok(())
    }

    /// A packet whose sender's own system call takes it through the tap, refusals and all.
    fn send(&mut self) -> Result<()> {
        self.socket.send_to(&[0x5a; 3000], self.to)?;
        Ok(())
    }

    fn pull(&mut self) -> Result<()> {
        match self.session()?.pull(0, 1) {
            Ok(()) | Err(Errno::ETIMEDOUT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Everything that came goes on.
    fn push(&mut self) -> Result<()> {
        let tap = self.tap.as_ref().context("no tap")?;
        let mut batch = [Entry::default(); 32];
        let came = tap.detour.take(&mut batch)?;
        for &entry in batch.iter().take(came) {
            tap.revert.put(entry)?;
        }
        Ok(self.session()?.push(tap.number(), u32::MAX, 1_000_000)?)
    }

    /// A few mbufs, and back with them.
    fn supply(&mut self) -> Result<()> {
        let session = self.session.as_ref().context("no session")?;
        let mut batch = [Entry::default(); 4];
        let came = session.alloc.take(&mut batch)?;
        self.taken.extend(batch.iter().take(came));
        session.pull(4, 1_000_000)?;
        for entry in self.taken.drain(..) {
            session.dealloc.put(entry)?;
        }
        Ok(session.push(-1, 0, 0)?)
    }

    /// A thread that serves without rest, and none.
    fn serve(&mut self) -> Result<()> {
        for flags in [ioctl::SERVE_BUSY, 0] {
            self.session()?.serve(flags)?;
        }
        Ok(())
    }

    fn info(&mut self) -> Result<()> {
        let mut info = ioctl::Info::default();
        Ok(request(self.session()?.as_fd(), ioctl::INFO, &mut info)?)
    }

    /// Other policies, and a filter that wants all.
    fn set(&mut self) -> Result<()> {
        let tap = self.tap.as_ref().context("no tap")?;
        let mut set = ioctl::Set {
            id: tap.told.id,
            what: SET_SNAPLEN | SET_MAX_AGE | SET_FILTER,
            snaplen: 2000,
            max_age_us: 60_000_000,
            filter: all(),
            ..Default::default()
        };
        Ok(request(self.session()?.as_fd(), ioctl::SET, &mut set)?)
    }

    /// A lock is registered, somebody would be woken, and it is left.
    fn lock(&mut self) -> Result<()> {
        for op in [LOCK_REGISTER, LOCK_WAKE, LOCK_UNREGISTER] {
            self.session()?.lock(op, 5, 0)?;
        }
        Ok(())
    }

    /// Who listens, and is told of a tap of a group's own and of their end.
    fn monitor(&mut self) -> Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
        let mut asked = ioctl::Monitor {
            record_size: size_of::<Event>() as u32,
            ..Default::default()
        };
        request(file.as_fd(), ioctl::MONITOR, &mut asked)?;
        let session = Session::of_group(b"faults", 16)?;
        let mut tap = tap_request("lo", TAP_INPUT);
        tap.filter = all();
        tap.fanout = FANOUT_FLOW;
        tap.no_consumer = NO_CONSUMER_HOLD;
        let tap = session.tap(tap)?;
        drop((tap, session));
        let mut events = [0; 16 * size_of::<Event>()];
        let read = (&file).read(&mut events)?;
        ensure!(read > 0, "nothing was told");
        Ok(())
    }

    /// Its tap is taken from it, and it has another.
    fn untap(&mut self) -> Result<()> {
        if let Some(tap) = self.tap.take() {
            let mut untap = ioctl::Untap {
                id: tap.told.id,
                ..Default::default()
            };
            let result = request(self.session()?.as_fd(), ioctl::UNTAP, &mut untap);
            if result.is_err() {
                self.tap = Some(tap);
            }
            result?;
        }
        self.interface_tap()
    }
}

/// A filter that wants every packet, whole.
fn all() -> ioctl::Filter {
    static ALL: libc::sock_filter = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: u32::MAX,
    };
    ioctl::Filter {
        kind: FILTER_CLASSIC,
        len_or_fd: 1,
        program: std::ptr::from_ref(&ALL) as u64,
    }
}

/// The thread's file that says what fails.
struct FailNth(File);

impl FailNth {
    fn open() -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(FAIL_NTH);
        Ok(Self(file.context(FAIL_NTH)?))
    }

    /// From here on the `n`th chance is taken.
    fn arm(&self, n: u32) -> Result<()> {
        self.0
            .write_all_at(n.to_string().as_bytes(), 0)
            .context(FAIL_NTH)
    }

    /// Nothing fails any more. Tells whether something did.
    fn disarm(&self) -> bool {
        let mut text = [0u8; 16];
        // The reading is a chance too: if it is the one, it was not taken before.
        let taken = self
            .0
            .read_at(&mut text, 0)
            .is_ok_and(|_| text.first() == Some(&b'0'));
        while self.arm(0).is_err() {}
        taken
    }
}

impl Faults {
    pub(crate) fn run(self) -> Outcome {
        if self.ask {
            let can = std::path::Path::new(FAIL_NTH).exists();
            println!("{}", if can { "yes" } else { "no" });
            return Ok(());
        }
        let control = Control::open()?;
        let before = Before::now(&control)?;
        let mut life = Life {
            socket: UdpSocket::bind("0.0.0.0:0")?,
            place: self.tap.clone(),
            to: self.to,
            file: None,
            told: None,
            session: None,
            tap: None,
            taken: Vec::new(),
        };
        let nth = FailNth::open()?;
        let mut counts = Map::new();
        for step in LIFE {
            let faults = endure(&mut life, &nth, step).context(step.name)?;
            counts.insert(step.name.to_owned(), faults.into());
        }
        drop(life.tap.take());
        drop(life);
        before.until_gone(&control)?;
        let mut sum = Sum::default();
        for tap in before.ended(&control)? {
            sum.add(&tap)?;
        }
        let faults: u64 = counts.values().filter_map(Value::as_u64).sum();
        println!(
            "{}",
            json!({ "faults": faults, "steps": counts, "taps": sum.json() })
        );
        ensure!(faults > 0, "nothing was refused");
        Ok(())
    }
}

/// Makes a request with one thing after the other refused; how many there were.
fn endure(life: &mut Life, nth: &FailNth, step: &Step) -> Result<u32> {
    for n in 1..MOST {
        nth.arm(n)?;
        let result = (step.make)(life);
        let refused = nth.disarm();
        match result {
            Ok(()) if !refused => return Ok(n - 1),
            Ok(()) => (step.unmake)(life),
            Err(_) if refused => {}
            Err(error) => return Err(error.context(format!("with nothing refused ({n})"))),
        }
    }
    bail!("more than {MOST} refusals")
}
