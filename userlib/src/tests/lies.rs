// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Headers, rings and answers that cannot be: nothing panics, nothing reads outside an mbuf.

use nettap_uapi::mbuf::{Header, HEADER_SIZE, NO_MBUF};
use proptest::prelude::*;
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

/// A place or a length in an mbuf of 512 bytes, more often than not.
fn near() -> impl Strategy<Value = u16> {
    prop_oneof![3 => 0..=520u16, 1 => any::<u16>()]
}

/// A header of any bits, most likely with a window and a next mbuf that there are.
fn lie() -> impl Strategy<Value = Header> {
    let next = prop_oneof![3 => 0..130u32, 1 => any::<u32>(), 1 => Just(NO_MBUF)];
    let bits = prop::collection::vec(any::<u8>(), HEADER_SIZE as usize);
    (bits, next, near(), near()).prop_map(|(bits, next, offset, len)| Header {
        next,
        offset,
        len,
        ..Header::read_from_bytes(&bits).unwrap()
    })
}

/// What a program does with a packet.
#[derive(Clone, Debug)]
enum Edit {
    PushHead(usize),
    PushTail(usize),
    PullHead(usize),
    TrimTail(usize),
    Fill,
    /// The header is another one meanwhile.
    Changed(Header),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        near().prop_map(|n| Edit::PushHead(n.into())),
        near().prop_map(|n| Edit::PushTail(n.into())),
        near().prop_map(|n| Edit::PullHead(n.into())),
        near().prop_map(|n| Edit::TrimTail(n.into())),
        Just(Edit::Fill),
        lie().prop_map(Edit::Changed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn any_bits_in_headers_are_survived(
        first in lie(),
        others in prop::collection::vec((0..128u32, lie()), 0..8),
        edits in prop::collection::vec(edit(), 0..8),
    ) {
        let (session, kernel) = Machine::default().session();
        let tap = session.tap("eth0").input().open().unwrap();
        let index = kernel.packet(0, b"odd").unwrap();
        for (other, header) in others {
            kernel.set_header(other, header);
        }
        kernel.set_header(index, first);
        let mut mbuf = tap.recv().unwrap();
        for edit in edits {
            let before = mbuf.len();
            let done = match edit {
                Edit::PushHead(n) => mbuf.push_head(n).map(|room| (room.len() == n, before + n)),
                Edit::PushTail(n) => mbuf.push_tail(n).map(|room| (room.len() == n, before + n)),
                Edit::PullHead(n) => mbuf.pull_head(n).map(|()| (true, before - n)),
                Edit::TrimTail(n) => mbuf.trim_tail(n).map(|()| (true, before - n)),
                Edit::Fill => {
                    mbuf.segments_mut().for_each(|part| part.fill(1));
                    Ok((true, before))
                }
                Edit::Changed(header) => {
                    kernel.set_header(index, header);
                    let _ = mbuf.meta();
                    Ok((true, before))
                }
            };
            let (whole, after) = done.unwrap_or((true, before));
            prop_assert!(whole, "another length than was asked for");
            prop_assert_eq!(mbuf.len(), after);
        }
        let parts: usize = mbuf.segments().map(<[u8]>::len).sum();
        let mut copy = Vec::new();
        mbuf.copy_to(&mut copy);
        prop_assert_eq!((parts, copy.len()), (mbuf.len(), mbuf.len()));
        // The mock frees what the header names, and believes it.
        let none = Header { next: NO_MBUF, ..Header::default() };
        kernel.set_header(index, none);
        drop(mbuf);
        kernel.serve();
        prop_assert_eq!(kernel.state().refused, 0);
    }
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
