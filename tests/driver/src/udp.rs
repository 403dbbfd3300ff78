// SPDX-License-Identifier: GPL-2.0-only

//! Numbered UDP datagrams through ordinary sockets, IPv4, IPv6 and multicast.

use crate::checks::slowly;
use crate::payload::{numbered, Tally};
use crate::signals::Signals;
use crate::sockets::switch_on;
use crate::Outcome;
use anyhow::{bail, Context, Result};
use clap::Args;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimestampns, SndBufForce};
use nix::sys::socket::{recvmsg, setsockopt, ControlMessageOwned, MsgFlags};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Arguments of `udp-send`.
#[derive(Args)]
pub(crate) struct Send {
    /// Where to.
    to: SocketAddr,
    /// Datagrams.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Number of the first.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Bytes of payload.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// This text as payload instead of a number.
    #[arg(long)]
    text: Option<String>,
    /// Microseconds between two datagrams.
    #[arg(long, default_value_t = 0)]
    gap: u64,
    /// Send from this port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Interface for multicast (IPv4 address of it).
    #[arg(long)]
    via: Option<Ipv4Addr>,
    /// Let sends that fail for want of a buffer or by a filter (`ENOBUFS`, `EPERM`) pass, and count them.
    #[arg(long)]
    tolerant: bool,
    /// Lend the kernel the payload's pages instead of having them copied: `MSG_ZEROCOPY`.
    #[arg(long)]
    lend: bool,
}

impl Send {
    pub(crate) fn run(self) -> Outcome {
        let from: IpAddr = if self.to.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            [0u16; 8].into()
        };
        let socket = UdpSocket::bind((from, self.port)).context("bind")?;
        // Over a veth link a packet counts as the sender's until it has arrived, so packets that a
        // program holds are in its buffer.
        setsockopt(&socket, SndBufForce, &(16 << 20)).context("SO_SNDBUFFORCE")?;
        if let Some(via) = self.via {
            SockRef::from(&socket)
                .set_multicast_if_v4(&via)
                .context("IP_MULTICAST_IF")?;
        }
        if self.lend {
            switch_on(&socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY).context("SO_ZEROCOPY")?;
        }
        // Connected sockets hear of ICMP errors; these tests judge by what arrives.
        let signals = Signals::catch()?;
        let (mut sent, mut failed) = (0u64, 0u64);
        for number in self.first..self.first + self.count {
            if signals.stop() {
                break;
            }
            let payload = match &self.text {
                Some(text) => text.clone().into_bytes(),
                None => numbered(number, self.size),
            };
            let way = if self.lend { libc::MSG_ZEROCOPY } else { 0 };
            match SockRef::from(&socket).send_to_with_flags(&payload, &self.to.into(), way) {
                Ok(_) => sent += 1,
                Err(error) if self.tolerant && is_local_refusal(&error) => failed += 1,
                Err(error) => return Err(error).context("sendto"),
            }
            if self.gap > 0 {
                sleep(Duration::from_micros(self.gap));
            }
        }
        println!("{}", serde_json::json!({ "sent": sent, "failed": failed }));
        Ok(())
    }
}

fn is_local_refusal(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EPERM))
}

/// Arguments of `udp-recv`.
#[derive(Args)]
pub(crate) struct Recv {
    /// Address and port to receive on.
    bind: SocketAddr,
    /// Datagrams to wait for.
    #[arg(long)]
    count: u64,
    /// Seconds to wait for them.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Stop when something has come, and then nothing for this many seconds.
    #[arg(long)]
    idle: Option<f64>,
    /// Seconds to listen for what should not come, once all is there.
    #[arg(long, default_value_t = 0.2)]
    linger: f64,
    /// Listen for what should not come until SIGTERM.
    #[arg(long)]
    until_told: bool,
    /// Print payloads as text, one a line, instead of judging numbers.
    #[arg(long)]
    text: bool,
    /// Be content with fewer than `count`, as long as none is harmed, doubled or overtaken.
    #[arg(long)]
    some: bool,
    /// Do not mind the order.
    #[arg(long)]
    unordered: bool,
    /// Expect of each datagram that it had arrived so many milliseconds before it came: its time stamp says so.
    #[arg(long)]
    waited: Option<u64>,
    /// Join this multicast group on the interface with the given address.
    #[arg(long, num_args = 2, value_names = ["GROUP", "ADDRESS"])]
    join: Option<Vec<Ipv4Addr>>,
}

impl Recv {
    pub(crate) fn run(self) -> Outcome {
        let signals = Signals::catch()?;
        let socket = self.socket()?;
        println!("ready");
        let deadline = Instant::now() + slowly(Duration::from_secs_f64(self.seconds));
        let mut tally = Tally::default();
        let mut came = 0;
        let mut buffer = vec![0u8; 65536];
        while came < self.count {
            let quiet = match self.idle {
                Some(idle) if tally.unique() > 0 => {
                    deadline.min(Instant::now() + slowly(Duration::from_secs_f64(idle)))
                }
                _ => deadline,
            };
            let Some((bytes, age)) = receive(&socket, &mut buffer, quiet, &signals)? else {
                break;
            };
            self.mind(age)?;
            self.take(bytes, &mut tally);
            came = if self.text { came + 1 } else { tally.unique() };
        }
        // Who is told to end has listened to the silence already.
        let aftermath = match self.until_told {
            true => after(FOR_EVER),
            false if signals.stop() => Instant::now(),
            false => after(self.linger),
        };
        while let Some((bytes, _)) = receive(&socket, &mut buffer, aftermath, &signals)? {
            self.take(bytes, &mut tally);
            came += u64::from(self.text);
        }
        self.judge(came, &tally)
    }

    fn socket(&self) -> Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(self.bind),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_address(true)?;
        // Room for what arrives while an emulated CPU does something else; beyond the system's limit.
        setsockopt(&socket, RcvBufForce, &(16 << 20)).context("SO_RCVBUFFORCE")?;
        if self.waited.is_some() {
            setsockopt(&socket, ReceiveTimestampns, &true).context("SO_TIMESTAMPNS")?;
        }
        socket.bind(&self.bind.into()).context("bind")?;
        let socket = UdpSocket::from(socket);
        if let Some([group, address]) = self.join.as_deref() {
            socket
                .join_multicast_v4(group, address)
                .context("IP_ADD_MEMBERSHIP")?;
        }
        Ok(socket)
    }

    fn mind(&self, age: Option<Duration>) -> Outcome {
        let least = self.waited.map(Duration::from_millis);
        if age < least {
            bail!("a datagram is {age:?} old, expected {least:?}");
        }
        Ok(())
    }

    fn take(&self, bytes: &[u8], tally: &mut Tally) {
        if self.text {
            println!("{}", String::from_utf8_lossy(bytes));
        } else {
            tally.add(bytes);
        }
    }

    fn judge(&self, came: u64, tally: &Tally) -> Outcome {
        if !self.text {
            println!("{}", tally.json());
        }
        let good = match (self.text, self.some) {
            (true, _) => came == self.count,
            (false, true) => tally.is_clean(self.unordered),
            (false, false) => tally.is_exactly(self.count, self.unordered),
        };
        if !good {
            bail!(
                "expected {} datagrams, each once, unharmed and in order; got {}",
                self.count,
                tally.json()
            );
        }
        Ok(())
    }
}

fn after(seconds: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(seconds)
}

/// Seconds after which tests/run.sh has long killed a test.
const FOR_EVER: f64 = 1e6;
/// How long nothing comes before a receiver that was told to end does so, since what was sent may
/// still be under way.
const SILENCE: Duration = Duration::from_millis(300);

/// One datagram, and how long ago it arrived if the socket has it told; or nothing when the time is over, or when a signal
/// has said so and no more comes.
fn receive<'a>(
    socket: &UdpSocket,
    buffer: &'a mut [u8],
    deadline: Instant,
    signals: &Signals,
) -> Result<Option<(&'a [u8], Option<Duration>)>> {
    let silence = slowly(SILENCE);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left.min(silence)))?;
        match receive_now(socket, buffer) {
            Ok((length, age)) => return Ok(buffer.get(..length).map(|bytes| (bytes, age))),
            // The signal itself: from now on the whole of the silence.
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if signals.stop() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error).context("recvmsg"),
        }
    }
}

/// A datagram's length, and how long ago it arrived.
fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> nix::Result<(usize, Option<Duration>)> {
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let arrived = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let age = arrived.and_then(|at| now().ok()?.checked_sub(at));
    Ok((message.bytes, age))
}
