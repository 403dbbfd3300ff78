// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Headers, rings and answers that cannot be: nothing panics, nothing reads outside an mbuf.

use nettap_uapi::mbuf::{Header, HEADER_SIZE, NO_MBUF};
use zerocopy::FromBytes;

use crate::mock::Machine;
use crate::{Error, Session};

#[test]
fn a_window_outside_the_mbuf_is_empty_and_the_packet_still_reverts() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let size = 512u16;
    let head = HEADER_SIZE as u16;
    for (offset, len) in [
        (0, 10),
        (head - 1, 1),
        (size, 1),
        (size - 4, 5),
        (u16::MAX, u16::MAX),
        (head, size),
    ] {
        kernel
            .packet_with(0, b"x", |header| {
                (header.offset, header.len) = (offset, len)
            })
            .unwrap();
        let mbuf = tap.recv().unwrap();
        assert_eq!((mbuf.bytes(), mbuf.len()), (&[][..], 0), "{offset}+{len}");
        // As it was: the kernel does not look at the header, and neither does the mock's account.
        let index = mbuf.index();
        kernel.set_header(
            index,
            Header {
                offset: head,
                next: NO_MBUF,
                ..Default::default()
            },
        );
        tap.revert(mbuf).unwrap();
        kernel.serve();
    }
    assert_eq!(kernel.state().refused, 0);
}

#[test]
fn what_changes_after_the_first_look_changes_nothing() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let index = kernel.packet(0, b"steady").unwrap();
    let mbuf = tap.recv().unwrap();
    assert_eq!(mbuf.bytes(), b"steady");
    let header = kernel.header(index);
    kernel.set_header(
        index,
        Header {
            offset: 65000,
            len: 65000,
            next: 3,
            ..header
        },
    );
    assert_eq!(
        (mbuf.bytes(), mbuf.is_chain(), mbuf.len()),
        (&b"steady"[..], false, 6)
    );
    kernel.set_header(index, header);
}

#[test]
fn chains_that_are_none_are_cut() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    // To itself, out of the region, and to another mbuf that points back.
    for (next, parts) in [
        (None, 1),
        (Some(128), 1),
        (Some(NO_MBUF - 1), 1),
        (Some(127), 2),
    ] {
        let index = kernel.packet(0, b"chain").unwrap();
        let next = next.unwrap_or(index);
        kernel.set_header(
            index,
            Header {
                next,
                ..kernel.header(index)
            },
        );
        kernel.set_header(
            127,
            Header {
                next: index,
                ..Default::default()
            },
        );
        let mut mbuf = tap.recv().unwrap();
        assert_eq!((mbuf.segments().count(), mbuf.len()), (parts, 5), "{next}");
        assert_eq!(mbuf.segments_mut().count(), parts);
        kernel.set_header(
            index,
            Header {
                next: NO_MBUF,
                ..kernel.header(index)
            },
        );
    }
}

#[test]
fn any_bits_in_a_header_are_survived() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    // A small generator suffices: what counts is that every field takes odd values.
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut byte = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    for _ in 0..5000 {
        let random: [u8; 64] = std::array::from_fn(|_| byte());
        let index = kernel.packet(0, b"odd").unwrap();
        kernel.set_header(index, Header::read_from_bytes(&random).unwrap());
        let mut mbuf = tap.recv().unwrap();
        let n = usize::from(byte());
        let _ = (
            mbuf.meta(),
            mbuf.len(),
            mbuf.push_head(n).is_ok(),
            mbuf.push_tail(n).is_ok(),
        );
        let _ = (mbuf.pull_head(n), mbuf.trim_tail(n));
        mbuf.segments_mut().for_each(|part| part.fill(1));
        let mut copy = Vec::new();
        mbuf.copy_to(&mut copy);
        kernel.set_header(
            index,
            Header {
                next: NO_MBUF,
                ..Default::default()
            },
        );
        drop(mbuf);
        kernel.serve();
    }
    assert_eq!(kernel.state().refused, 0);
}

#[test]
fn answers_that_cannot_be_are_refused() {
    let lie = Machine {
        told_mbufs: Some(1 << 20),
        ..Default::default()
    };
    let error = Session::builder()
        .open_on(Box::new(lie.mock()))
        .unwrap_err();
    assert!(matches!(error, Error::Kernel(_)), "{error}");
    let old = Machine {
        abi_version: 0,
        ..Default::default()
    };
    let error = Session::builder()
        .open_on(Box::new(old.mock()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("EPROTO") && error.contains("newer than the module"),
        "{error}"
    );
    let odd = Machine {
        mbuf_size: 520,
        ..Default::default()
    };
    assert!(Session::builder().open_on(Box::new(odd.mock())).is_err());
}

#[test]
fn no_module_says_so() {
    let error = Session::builder()
        .device("/nonexistent/nettap")
        .open()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("load the module: insmod nettap.ko"),
        "{error}"
    );
    assert_eq!(error.errno(), nix::errno::Errno::ENOENT as i32);
}
