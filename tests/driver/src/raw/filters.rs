// SPDX-License-Identifier: GPL-2.0-only

//! Filters by hand: what is refused, with which errno and without a trace; what a program sees of a
//! packet; and what its result does.

use super::session::{tap_request, Datagrams, Session};
use super::Peer;
use crate::checks::Checks;
use crate::ebpf;
use crate::Outcome;
use anyhow::Result;
use nettap::Instruction;
use nettap_uapi::ioctl::{self, Filter};
use nettap_uapi::mbuf::MBUF_SNAPPED;
use nettap_uapi::tap::{FILTER_CLASSIC, FILTER_EBPF, FILTER_MAX, FILTER_NONE, TAP_OUTPUT};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes of a datagram's frame: 64 of payload behind Ethernet, IPv4 and UDP.
const FRAME: u32 = 64 + 42;
// Codes of classic BPF: linux/bpf_common.h.
const LOAD_LENGTH: u16 = 0x80;
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;
const STORE: u16 = 0x02;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn classic(program: &[Instruction]) -> Filter {
    Filter {
        kind: FILTER_CLASSIC,
        len_or_fd: program.len() as u32,
        program: program.as_ptr() as u64,
    }
}

fn ebpf_of(fd: impl AsFd) -> Filter {
    Filter {
        kind: FILTER_EBPF,
        len_or_fd: fd.as_fd().as_raw_fd() as u32,
        program: 0,
    }
}

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    refused(&mut checks, &session, peer)?;
    let datagrams = Datagrams::to(peer)?;
    seen(&mut checks, &session, peer, &datagrams)?;
    println!("expect {}", datagrams.sent());
    checks.verdict()
}

/// A request with this filter.
fn request(peer: &Peer, filter: Filter) -> ioctl::Tap {
    ioctl::Tap {
        filter,
        ..tap_request(&peer.ifname, TAP_OUTPUT)
    }
}

fn refused(checks: &mut Checks, session: &Session, peer: &Peer) -> Outcome {
    let fine = [op(RETURN, 0, 0, u32::MAX)];
    let no_end = [op(LOAD_LENGTH, 0, 0, 0)];
    let jump_out = [op(JUMP_EQUAL, 9, 0, 0), op(RETURN, 0, 0, 1)];
    let no_such_instruction = [op(0xffff, 0, 0, 0), op(RETURN, 0, 0, 1)];
    let memory_outside = [op(STORE, 0, 0, 16), op(RETURN, 0, 0, 1)];
    let too_long = vec![op(RETURN, 0, 0, 1); FILTER_MAX as usize + 1];
    let (null, map) = (File::open("/dev/null")?, ebpf::map()?);
    let other_kind = ebpf::load(ebpf::XDP, &[ebpf::result(2), ebpf::EXIT])?;
    let socket_filter = ebpf::load(ebpf::SOCKET_FILTER, &[ebpf::result(0), ebpf::EXIT])?;
    let raw = |kind, len_or_fd, program| Filter {
        kind,
        len_or_fd,
        program,
    };
    let address = fine.as_ptr() as u64;
    let cases = [
        ("no such kind", raw(3, 1, address), Errno::EINVAL),
        ("none, with a length", raw(FILTER_NONE, 1, 0), Errno::EINVAL),
        (
            "none, with an address",
            raw(FILTER_NONE, 0, 8),
            Errno::EINVAL,
        ),
        ("no instructions", classic(&[]), Errno::ENOEXEC),
        ("one too many", classic(&too_long), Errno::ENOEXEC),
        // Cut to 16 bits it would be a good one.
        ("65537", raw(FILTER_CLASSIC, 65537, address), Errno::ENOEXEC),
        ("no address", raw(FILTER_CLASSIC, 1, 0), Errno::ENOEXEC),
        ("nobody's address", raw(FILTER_CLASSIC, 1, 8), Errno::EFAULT),
        (
            "the kernel's address",
            raw(FILTER_CLASSIC, 1, 0xffff_8000_0000_0000),
            Errno::EFAULT,
        ),
        ("no end", classic(&no_end), Errno::ENOEXEC),
        ("a jump out of it", classic(&jump_out), Errno::ENOEXEC),
        (
            "no such instruction",
            classic(&no_such_instruction),
            Errno::ENOEXEC,
        ),
        ("memory outside", classic(&memory_outside), Errno::ENOEXEC),
        ("no descriptor", raw(FILTER_EBPF, u32::MAX, 0), Errno::EBADF),
        ("a closed one", raw(FILTER_EBPF, 1000, 0), Errno::EBADF),
        ("a file's", ebpf_of(&null), Errno::ENOEXEC),
        ("a map's", ebpf_of(&map), Errno::ENOEXEC),
        ("an XDP program's", ebpf_of(&other_kind), Errno::ENOEXEC),
        (
            "with an address",
            Filter {
                program: address,
                ..ebpf_of(&socket_filter)
            },
            Errno::EINVAL,
        ),
    ];
    for (what, filter, errno) in cases {
        let outcome = session.tap_only(request(peer, filter));
        checks.equal(format!("refused: {what}"), outcome.err(), Some(errno));
    }
    checks.equal("refusals leave no tap", session.all_taps()?.len(), 0);

    let longest = vec![op(RETURN, 0, 0, 1); FILTER_MAX as usize];
    checks.that(
        "the longest is taken",
        session.tap(request(peer, classic(&longest))).is_ok(),
        "it was refused",
    );
    checks.equal(
        "which has ended with its descriptor",
        session.all_taps()?.len(),
        0,
    );
    Ok(())
}

/// What a filter makes of a datagram: nothing if it goes on alone, else the bytes that the program gets.
fn sent_through(
    session: &Session,
    peer: &Peer,
    datagrams: &Datagrams,
    filter: Filter,
    snaplen: u32,
) -> Result<Option<(u32, bool)>> {
    let tap = session.tap(ioctl::Tap {
        snaplen,
        ..request(peer, filter)
    })?;
    datagrams.send(1)?;
    let stats = tap.stats(session)?;
    // The hook runs in the sender's own call: by now it has decided.
    if stats.passed_filter == 1 && stats.detoured == 0 {
        return Ok(None);
    }
    let entry = tap.receive()?;
    let header = session.mapped()?.header(entry.index)?;
    tap.revert.put(entry)?;
    session.push(tap.number(), 1, 1_000_000)?;
    Ok(Some((header.packet_len, header.flags & MBUF_SNAPPED != 0)))
}

fn seen(checks: &mut Checks, session: &Session, peer: &Peer, datagrams: &Datagrams) -> Outcome {
    let ether_type = |kind| {
        [
            op(LOAD_HALF, 0, 0, 12),
            op(JUMP_EQUAL, 0, 1, kind),
            op(RETURN, 0, 0, u32::MAX),
            op(RETURN, 0, 0, 0),
        ]
    };
    let just = |bytes| [op(RETURN, 0, 0, bytes)];
    let length = [op(LOAD_LENGTH, 0, 0, 0), op(RETURN_A, 0, 0, 0)];
    let whole = Some((FRAME, false));
    let mut case = |what: &str, filter, snaplen, wanted| -> Outcome {
        let found = sent_through(session, peer, datagrams, filter, snaplen)?;
        checks.equal(what, found, wanted);
        Ok(())
    };
    case("no filter", Filter::default(), 0, whole)?;
    case("result 0", classic(&just(0)), 0, None)?;
    case("all of it", classic(&just(u32::MAX)), 0, whole)?;
    case("as much as there is", classic(&just(FRAME)), 0, whole)?;
    case("the first 20", classic(&just(20)), 0, Some((20, true)))?;
    case(
        "20, snap length 10",
        classic(&just(20)),
        10,
        Some((10, true)),
    )?;
    case(
        "20, snap length 60",
        classic(&just(20)),
        60,
        Some((20, true)),
    )?;
    case("the first byte", classic(&just(1)), 0, Some((1, true)))?;
    case("its own length", classic(&length), 0, whole)?;
    case("IPv4", classic(&ether_type(0x0800)), 0, whole)?;
    case("ARP", classic(&ether_type(0x0806)), 0, None)?;

    let length = [ebpf::LENGTH, ebpf::EXIT];
    let length = ebpf::load(ebpf::SOCKET_FILTER, &length)?;
    case("eBPF: its length", ebpf_of(&length), 0, whole)?;
    let scribble = [ebpf::SCRIBBLE, ebpf::result(30), ebpf::EXIT];
    let scribble = ebpf::load(ebpf::SOCKET_FILTER, &scribble)?;
    case("eBPF: 30", ebpf_of(&scribble), 0, Some((30, true)))?;
    let port = ebpf::load(ebpf::SOCKET_FILTER, &ebpf::udp_to(peer.to.port(), i32::MAX))?;
    case("eBPF: its port", ebpf_of(&port), 0, whole)?;
    let port = ebpf::load(ebpf::SOCKET_FILTER, &ebpf::udp_to(1, i32::MAX))?;
    case("eBPF: another", ebpf_of(&port), 0, None)
}
