// SPDX-License-Identifier: GPL-2.0-only

//! Traffic that nothing discourages: connections that are made again when they break, datagrams in all
//! sizes, super-packets. `chatter --serve` answers. Nobody judges what arrives; a program in between
//! changes it (`mangle`).

use crate::chance::Chance;
use crate::fuzz::seed_of_the_moment;
use crate::scribble::cut_by_kernel;
use crate::sys::{add, get, syscall};
use crate::Outcome;
use anyhow::{Context, Result};
use clap::Args;
use nix::errno::Errno;
use nix::sys::socket::{
    bind, connect, listen, setsockopt, sockopt, Backlog, SockaddrIn, SockaddrIn6,
};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Longest time that a call on a connection takes.
const PATIENCE: Duration = Duration::from_millis(700);
/// Connections of one address that are answered at the same time.
const CONNECTIONS: u64 = 4;
/// What is said at once at most.
const WORD_MAX: usize = 60_000;

/// Arguments of `chatter`.
#[derive(Args)]
pub(crate) struct Chatter {
    /// Answer at these addresses instead of speaking to them.
    #[arg(long)]
    serve: bool,
    /// An address for TCP; may be given several times, as the others.
    #[arg(long)]
    tcp: Vec<SocketAddr>,
    /// An address for SCTP.
    #[arg(long)]
    sctp: Vec<SocketAddr>,
    /// An address for UDP.
    #[arg(long)]
    udp: Vec<SocketAddr>,
    /// Microseconds between words.
    #[arg(long, default_value_t = 1000)]
    gap: u64,
    /// End after so many seconds.
    #[arg(long, default_value_t = 1_000_000)]
    seconds: u64,
}

/// What was said and heard.
#[derive(Default)]
struct Tally {
    connections: AtomicU64,
    words: AtomicU64,
    heard: AtomicU64,
}

/// A connection-oriented protocol.
#[derive(Clone, Copy)]
struct Kind(libc::c_int);

const TCP: Kind = Kind(libc::IPPROTO_TCP);
const SCTP: Kind = Kind(libc::IPPROTO_SCTP);

impl Chatter {
    pub(crate) fn run(self) -> Outcome {
        let tally = Tally::default();
        let over = AtomicBool::new(false);
        let (seconds, gap) = (
            Duration::from_secs(self.seconds),
            Duration::from_micros(self.gap),
        );
        let both = [(TCP, &self.tcp), (SCTP, &self.sctp)];
        let streams = both
            .iter()
            .flat_map(|(kind, to)| to.iter().map(|to| (*kind, *to)));
        let (tally, over) = (&tally, &over);
        scope(|scope| {
            for (kind, at) in streams {
                match self.serve {
                    true => {
                        let listener =
                            listener(kind, at).with_context(|| format!("listen at {at}"))?;
                        scope.spawn(move || answer(&listener, tally, over));
                    }
                    false => drop(scope.spawn(move || speak(kind, at, gap, tally, over))),
                }
            }
            for &at in &self.udp {
                match self.serve {
                    true => {
                        let socket = heard_at(at)?;
                        scope.spawn(move || echo(&socket, tally, over));
                    }
                    false => drop(scope.spawn(move || say(at, gap, tally, over))),
                }
            }
            println!("ready");
            let begun = Instant::now();
            while begun.elapsed() < seconds {
                sleep(PATIENCE);
            }
            over.store(true, Ordering::Relaxed);
            Ok::<_, anyhow::Error>(())
        })?;
        println!(
            "{}",
            json!({ "connections": get(&tally.connections), "words": get(&tally.words), "heard": get(&tally.heard) })
        );
        Ok(())
    }
}

/// A socket of one connection, whatever its protocol; all of its calls end after a while.
fn socket(kind: Kind, to: SocketAddr) -> Result<OwnedFd> {
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let arguments = [family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, kind.0];
    let arguments = arguments.map(|number| number as usize);
    let fd = syscall(libc::SYS_socket, &arguments).context("socket")?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
    let patience = nix::sys::time::TimeVal::new(0, PATIENCE.as_micros() as i64);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
    Ok(fd)
}

fn listener(kind: Kind, at: SocketAddr) -> Result<TcpListener> {
    let fd = socket(kind, at)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    let own = fd.as_raw_fd();
    match at {
        SocketAddr::V4(at) => bind(own, &SockaddrIn::from(at)),
        SocketAddr::V6(at) => bind(own, &SockaddrIn6::from(at)),
    }
    .context("bind")?;
    listen(&fd, Backlog::new(16)?)?;
    Ok(TcpListener::from(fd))
}

/// Hears all connections, some at a time, and says something back now and then.
fn answer(listener: &TcpListener, tally: &Tally, over: &AtomicBool) {
    let open = AtomicU64::new(0);
    let open = &open;
    scope(|scope| {
        while !over.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                continue;
            };
            if get(open) >= CONNECTIONS {
                continue;
            }
            add(open, 1);
            add(&tally.connections, 1);
            scope.spawn(move || {
                hear(stream, tally, over);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn hear(mut stream: TcpStream, tally: &Tally, over: &AtomicBool) {
    let mut chance = Chance::new(seed_of_the_moment());
    let mut word = vec![0; WORD_MAX];
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut word) {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                add(&tally.heard, n as u64);
                let back = chance.pick(&[0, 0, 1, 100, 3000, 20_000]).unwrap_or(0);
                if stream
                    .write_all(word.get(..back).unwrap_or_default())
                    .is_err()
                {
                    return;
                }
            }
        }
        chance.forget();
    }
}

fn connected(kind: Kind, to: SocketAddr) -> Result<TcpStream> {
    let fd = socket(kind, to)?;
    let own = fd.as_raw_fd();
    match to {
        SocketAddr::V4(to) => connect(own, &SockaddrIn::from(to)),
        SocketAddr::V6(to) => connect(own, &SockaddrIn6::from(to)),
    }?;
    Ok(TcpStream::from(fd))
}

/// Connects, speaks, and begins anew: at the latest when nothing goes any more.
fn speak(kind: Kind, to: SocketAddr, gap: Duration, tally: &Tally, over: &AtomicBool) {
    let mut chance = Chance::new(seed_of_the_moment());
    let word = vec![0x5a; WORD_MAX];
    while !over.load(Ordering::Relaxed) {
        if let Ok(stream) = connected(kind, to) {
            add(&tally.connections, 1);
            let _ = talk(stream, &word, gap, &mut chance, tally, over);
        }
        chance.forget();
        sleep(gap);
    }
}

fn talk(
    mut stream: TcpStream,
    word: &[u8],
    gap: Duration,
    chance: &mut Chance,
    tally: &Tally,
    over: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nodelay(chance.one_in(2))?;
    let mut back = vec![0; WORD_MAX];
    for _ in 0..1 + chance.below(300) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let size = chance
            .pick(&[1, 100, 1448, 3000, 20_000, WORD_MAX])
            .unwrap_or(1);
        stream.write_all(word.get(..size).unwrap_or(word))?;
        add(&tally.words, 1);
        stream.set_nonblocking(true)?;
        while matches!(stream.read(&mut back), Ok(n) if n > 0) {}
        stream.set_nonblocking(false)?;
        chance.forget();
        sleep(gap);
    }
    Ok(())
}

/// A UDP socket that takes its datagrams in super-packets.
fn heard_at(at: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(at).with_context(|| format!("bind to {at}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    setsockopt(&socket.as_fd(), sockopt::UdpGroSegment, &true)?;
    Ok(socket)
}

fn echo(socket: &UdpSocket, tally: &Tally, over: &AtomicBool) {
    let mut word = vec![0; 0xffff];
    while !over.load(Ordering::Relaxed) {
        let Ok((n, from)) = socket.recv_from(&mut word) else {
            continue;
        };
        add(&tally.heard, n as u64);
        let back = word.get(..n.min(1400)).unwrap_or_default();
        if get(&tally.heard) % 4 == 0 {
            let _ = socket.send_to(back, from);
        }
    }
}

/// Datagrams: small ones, long ones that are fragmented, and super-packets.
fn say(to: SocketAddr, gap: Duration, tally: &Tally, over: &AtomicBool) -> Outcome {
    let mut chance = Chance::new(seed_of_the_moment());
    let word = vec![0x5a; WORD_MAX];
    let own = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let (plain, cut) = (UdpSocket::bind(own)?, UdpSocket::bind(own)?);
    cut_by_kernel(&cut, 1000)?;
    while !over.load(Ordering::Relaxed) {
        let size = chance.pick(&[1, 64, 64, 1400, 4000, 20_000]).unwrap_or(1);
        let socket = if chance.one_in(3) { &cut } else { &plain };
        // What nobody hears, or does not fit, is not heard.
        match socket.send_to(word.get(..size).unwrap_or(&word), to) {
            Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => {
                return Err(error.into())
            }
            _ => add(&tally.words, 1),
        };
        chance.forget();
        sleep(gap);
    }
    Ok(())
}
