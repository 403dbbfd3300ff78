// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Growing, shrinking, chains, new packets, and what the header says of it afterwards.

use nettap_uapi::mbuf::{CSUM_PARTIAL, DATA_OFFSET, GSO_TCPV4, HEADER_SIZE, MBUF_SNAPPED};

use crate::mock::Machine;
use crate::{Csum, Error, Segmentation, Segments, Vlan};

/// Bytes that tell where they were.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn head_and_tail_grow_and_shrink_within_the_mbuf() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let index = kernel.packet(0, b"payload").unwrap();
    let mut mbuf = tap.recv().unwrap();
    mbuf.push_head(4).unwrap().copy_from_slice(b"head");
    mbuf.push_tail(4).unwrap().copy_from_slice(b"tail");
    assert_eq!((mbuf.bytes(), mbuf.len()), (&b"headpayloadtail"[..], 15));
    mbuf.pull_head(2).unwrap();
    mbuf.trim_tail(3).unwrap();
    assert_eq!(mbuf.bytes(), b"adpayloadt");
    assert_eq!((mbuf.meta().packet_len, mbuf.meta().wire_len), (10, 10));

    let headroom = (DATA_OFFSET - HEADER_SIZE) as usize - 2;
    let wanted = headroom + 1;
    assert_eq!(
        mbuf.push_head(wanted).unwrap_err(),
        Error::NoRoom {
            wanted,
            room: headroom
        }
    );
    assert_eq!(mbuf.push_head(headroom).unwrap(), &vec![0; headroom][..]);
    assert!(matches!(mbuf.push_tail(512), Err(Error::NoRoom { .. })));
    assert!(matches!(mbuf.pull_head(500), Err(Error::NoRoom { .. })));
    assert!(matches!(
        mbuf.trim_tail(usize::MAX),
        Err(Error::NoRoom { .. })
    ));
    mbuf.pull_head(headroom + 2).unwrap();

    tap.revert(mbuf).unwrap();
    kernel.serve();
    let sent = &kernel.state().sent[0];
    assert_eq!(
        (sent.index, sent.changed, sent.bytes.as_slice()),
        (index, true, &b"payloadt"[..])
    );
}

#[test]
fn a_partial_checksum_keeps_its_place_when_the_head_moves() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").output().open().unwrap();
    kernel
        .packet_with(0, &pattern(100), |header| {
            (header.csum, header.csum_start, header.csum_offset) = (CSUM_PARTIAL, 34, 16);
        })
        .unwrap();
    let mut mbuf = tap.recv().unwrap();
    mbuf.push_head(4).unwrap();
    assert_eq!(
        mbuf.meta().csum,
        Csum::Partial {
            start: 38,
            offset: 16
        }
    );
    mbuf.pull_head(20).unwrap();
    assert_eq!(
        mbuf.meta().csum,
        Csum::Partial {
            start: 18,
            offset: 16
        }
    );
    assert!(matches!(mbuf.pull_head(19), Err(Error::Invalid(_))));
    mbuf.set_csum_none();
    mbuf.pull_head(19).unwrap();
    assert_eq!(mbuf.meta().csum, Csum::None);
}

#[test]
fn super_packets_and_snapped_tails_do_not_change_their_length() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel
        .packet_with(0, &pattern(300), |header| header.gso_type = GSO_TCPV4)
        .unwrap();
    let mut mbuf = tap.recv().unwrap();
    assert_eq!(mbuf.meta().gso.unwrap().into, Segments::TcpV4);
    assert_eq!(mbuf.push_head(1).unwrap_err(), Error::Fixed);
    assert_eq!(mbuf.pull_head(1), Err(Error::Fixed));
    assert_eq!(mbuf.push_tail(1).unwrap_err(), Error::Fixed);
    assert_eq!(mbuf.set_gso(None), Err(Error::Fixed));
    assert!(!mbuf.is_changed());

    kernel
        .packet_with(0, &pattern(96), |header| {
            header.flags = MBUF_SNAPPED;
            header.wire_len = 1500;
        })
        .unwrap();
    let mut mbuf = tap.recv().unwrap();
    assert!(mbuf.meta().snapped);
    assert_eq!(mbuf.trim_tail(1), Err(Error::Fixed));
    mbuf.push_head(8).unwrap();
    assert_eq!((mbuf.meta().packet_len, mbuf.meta().wire_len), (104, 1508));
}

#[test]
fn a_chain_is_whole_and_its_ends_move() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let bytes = pattern(1000);
    kernel.packet(0, &bytes).unwrap();
    let mut mbuf = tap.recv().unwrap();
    let mut copy = Vec::new();
    mbuf.copy_to(&mut copy);
    assert_eq!(
        (mbuf.is_chain(), mbuf.len(), mbuf.segments().count()),
        (true, 1000, 3)
    );
    assert!(copy == bytes && !mbuf.is_changed());

    mbuf.segments_mut().for_each(|part| part[0] = 255);
    assert!(mbuf.is_changed());
    mbuf.push_tail(2).unwrap().copy_from_slice(b"zz");
    mbuf.trim_tail(1).unwrap();
    mbuf.pull_head(1).unwrap();
    assert_eq!((mbuf.len(), mbuf.meta().packet_len), (1000, 1000));
    tap.revert(mbuf).unwrap();
    kernel.serve();
    let mut expected = bytes;
    [0, 384, 768].into_iter().for_each(|at| expected[at] = 255);
    expected.push(b'z');
    expected.remove(0);
    assert_eq!(kernel.state().sent[0].bytes, expected);
}

#[test]
fn dropping_a_received_chain_gives_its_first_mbuf_only() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let ready = kernel.held();
    let index = kernel.packet(0, &pattern(2000)).unwrap();
    let mbuf = tap.recv().unwrap();
    assert_eq!(mbuf.len(), 2000);
    drop(mbuf);
    kernel.serve();
    assert_eq!(kernel.tally(), (0, 1, 0));
    assert_eq!(kernel.state().dropped, [index]);
    assert_eq!(kernel.held(), ready);
}

#[test]
fn a_new_packet_is_filled_sent_and_carries_what_was_set() {
    let (session, kernel) = Machine {
        prealloc: 12,
        ..Default::default()
    }
    .session();
    let tap = session.tap("eth0").output().open().unwrap();
    let mut mbuf = session.alloc().unwrap();
    assert!(mbuf.is_empty() && mbuf.is_changed());
    mbuf.set_payload(b"short").unwrap();
    mbuf.set_csum_partial(14, 6);
    mbuf.set_vlan(Some(Vlan {
        tci: 5,
        protocol: 0x8100,
    }));
    mbuf.set_mark(9);
    mbuf.set_priority(3);
    let gso = Segmentation {
        into: Segments::Udp,
        size: 1000,
        header_len: 42,
        ecn: true,
    };
    mbuf.set_gso(Some(gso)).unwrap();
    let meta = mbuf.meta();
    assert_eq!(
        (meta.csum, meta.mark, meta.priority),
        (
            Csum::Partial {
                start: 14,
                offset: 6
            },
            9,
            3
        )
    );
    assert_eq!(
        (meta.gso, meta.vlan),
        (
            Some(gso),
            Some(Vlan {
                tci: 5,
                protocol: 0x8100
            })
        )
    );
    mbuf.set_vlan(None);
    mbuf.set_gso(None).unwrap();
    assert_eq!((mbuf.meta().gso, mbuf.meta().vlan), (None, None));
    tap.revert(mbuf).unwrap();
    kernel.serve();
    let sent = kernel.state().sent[0].clone();
    assert_eq!(
        (sent.new, sent.changed, sent.bytes.as_slice()),
        (true, true, &b"short"[..])
    );
}

#[test]
fn a_long_new_packet_takes_a_chain_and_gives_all_of_it_back() {
    let (session, kernel) = Machine {
        prealloc: 8,
        ..Default::default()
    }
    .session();
    let tap = session.tap("eth0").output().open().unwrap();
    let bytes = pattern(1500);
    let mut mbuf = session.alloc().unwrap();
    mbuf.set_payload(&bytes).unwrap();
    assert_eq!((mbuf.segments().count(), mbuf.len()), (4, 1500));

    // Longer than what is there: as it was. Shorter: the surplus goes back, the rest is kept.
    assert_eq!(mbuf.set_payload(&pattern(384 * 10)), Err(Error::Empty));
    assert_eq!(mbuf.len(), 1500);
    assert!(matches!(
        mbuf.set_payload(&pattern(384 * 65)),
        Err(Error::NoRoom { .. })
    ));
    // What was taken in vain went back; the kernel hands it out again when it has served.
    kernel.serve();
    mbuf.set_payload(&pattern(400)).unwrap();
    assert_eq!((mbuf.segments().count(), mbuf.len()), (2, 400));
    mbuf.set_payload(&bytes).unwrap();
    tap.revert(mbuf).unwrap();
    kernel.serve();
    assert_eq!(kernel.state().sent[0].bytes, bytes);

    let mut mbuf = session.alloc().unwrap();
    mbuf.set_payload(&bytes).unwrap();
    let (_, before, _) = kernel.tally();
    drop(mbuf);
    kernel.serve();
    assert_eq!(kernel.tally(), (1, before + 4, 0));
    assert_eq!(kernel.held(), 8, "only the alloc ring's");
}

#[test]
fn a_received_packet_keeps_its_payload_as_a_whole() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel.packet(0, b"theirs").unwrap();
    let mut mbuf = tap.recv().unwrap();
    assert_eq!(mbuf.set_payload(b"ours"), Err(Error::Fixed));
    assert_eq!(mbuf.bytes(), b"theirs");
}
