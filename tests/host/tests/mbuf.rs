// SPDX-License-Identifier: GPL-2.0-only

//! The mbuf header: any 64 bytes are one, and the only way from its integers to a range of bytes
//! stays inside the mbuf.

use nettap_uapi::mbuf::{
    Header, Shape, Window, CSUM_NONE, CSUM_PARTIAL, CSUM_VALID, DATA_OFFSET, DIR_RECEIVED,
    DIR_SENT, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, HEADER_SIZE, MBUFS_MAX,
    MBUF_SIZE_DEFAULT, MBUF_SIZE_MAX, MBUF_SIZE_MIN, MBUF_SNAPPED, MBUF_VLAN, NO_MBUF,
};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

proptest! {
    /// Bytes become a header and the same bytes again, and its window lies in the mbuf or is none.
    #[test]
    fn any_bytes_are_a_header(bytes: [[u8; 32]; 2], mbuf_size in MBUF_SIZE_MIN..=MBUF_SIZE_MAX) {
        let header = Header::read_from_bytes(bytes.as_flattened()).unwrap();
        prop_assert_eq!(header.as_bytes(), bytes.as_flattened());
        if let Some(window) = Window::of(header.offset, header.len, mbuf_size) {
            prop_assert!(window.offset() >= HEADER_SIZE);
            prop_assert!(window.end() <= mbuf_size);
        }
    }

    /// The window is what it was asked for, and none exactly when it would leave the mbuf.
    #[test]
    fn a_window_is_exact(offset in edges(), len in edges(), mbuf_size in MBUF_SIZE_MIN..=MBUF_SIZE_MAX) {
        let end = u64::from(offset) + u64::from(len);
        let fits = u32::from(offset) >= HEADER_SIZE && end <= u64::from(mbuf_size);
        match Window::of(offset, len, mbuf_size) {
            None => prop_assert!(!fits),
            Some(window) => {
                prop_assert!(fits);
                prop_assert_eq!(window.offset(), u32::from(offset));
                prop_assert_eq!(window.len(), u32::from(len));
                prop_assert_eq!(u64::from(window.end()), end);
                prop_assert_eq!(window.is_empty(), len == 0);
            }
        }
    }
}

/// A mbuf of a chain: bytes that the kernel put there, and what the program did to offset and length.
fn laid() -> impl Strategy<Value = (u32, i32, i32)> {
    let moved = || prop_oneof![6 => Just(0i32), 1 => -70..70i32, 1 => -5000..5000i32];
    (0..=MBUF_SIZE_DEFAULT - DATA_OFFSET, moved(), moved())
}

proptest! {
    /// A changed packet is accepted exactly when only its ends have moved, within their mbufs; and then it
    /// is as long as what it was and what it grew by.
    #[test]
    fn a_shape_is_what_its_ends_make_it(mbufs in prop::collection::vec(laid(), 1..6)) {
        let mut shape = Shape::new(mbufs.len() as u32, MBUF_SIZE_DEFAULT);
        let (mut copied, mut now, mut refused) = (0u32, 0u32, false);
        for (nth, (len, head, tail)) in mbufs.iter().copied().enumerate() {
            let offset = DATA_OFFSET as i32 - head;
            let new_len = len as i32 + head + tail;
            let header = Header {
                offset: offset as u16,
                len: new_len as u16,
                ..Header::default()
            };
            let end = i64::from(header.offset) + i64::from(header.len);
            let inside = u32::from(header.offset) >= HEADER_SIZE && end <= i64::from(MBUF_SIZE_DEFAULT);
            // What wrapped around is another change than was meant, and judged as what it is.
            let head = DATA_OFFSET as i32 - i32::from(header.offset);
            let tail = (end - i64::from(DATA_OFFSET + len)) as i32;
            let fixed = (nth > 0 && head != 0) || (nth + 1 < mbufs.len() && tail != 0);
            let window = shape.add(&header, len);
            prop_assert_eq!(window.is_some(), inside && !fixed);
            let Some(window) = window else {
                refused = true;
                break;
            };
            prop_assert!(window.offset() >= HEADER_SIZE && window.end() <= MBUF_SIZE_DEFAULT);
            copied += len;
            now += window.len();
        }
        if !refused {
            prop_assert_eq!((shape.copied(), shape.len()), (copied, now));
            let grown = i64::from(shape.head()) + i64::from(shape.tail());
            prop_assert_eq!(i64::from(now), i64::from(copied) + grown);
            prop_assert!(shape.add(&Header::default(), 0).is_none(), "longer than its chain");
        }
    }

    /// Any headers and any account of what was there: no panic, and what is accepted lies in the mbufs.
    #[test]
    fn any_chain_is_a_shape_or_none(
        mbufs in prop::collection::vec(([any::<u8>(); 64], any::<u32>()), 0..5),
        count: u32,
        mbuf_size in MBUF_SIZE_MIN..=MBUF_SIZE_MAX,
    ) {
        let mut shape = Shape::new(count, mbuf_size);
        for (bytes, len) in mbufs {
            let header = Header::read_from_bytes(&bytes).unwrap();
            if let Some(window) = shape.add(&header, len) {
                prop_assert!(window.offset() >= HEADER_SIZE && window.end() <= mbuf_size);
            }
            let _ = header.is_known();
        }
    }

    /// A header that is known has one of the states that the documentation lists, in each field.
    #[test]
    fn a_known_header_names_what_exists(csum: u8, flags: u8, vlan_proto in edges(), reserved in 0..3u16) {
        for vlan_proto in [vlan_proto, 0x8100, 0x88a8] {
            let header = Header { csum, flags, vlan_proto, reserved, ..Header::default() };
            let states = [CSUM_NONE, CSUM_PARTIAL, CSUM_VALID].contains(&csum);
            let tag = flags & MBUF_VLAN == 0 || [0x8100, 0x88a8].contains(&vlan_proto);
            let known = states && tag && flags & !(MBUF_VLAN | MBUF_SNAPPED) == 0 && reserved == 0;
            prop_assert_eq!(header.is_known(), known);
        }
    }
}

/// Any u16, but often one next to a limit.
fn edges() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0u16),
        Just(u16::MAX),
        63..66u16,
        510..514u16,
        2046..2050u16,
        32766..=32768u16,
        any::<u16>()
    ]
}

#[test]
fn windows_at_the_edges() {
    let size = MBUF_SIZE_DEFAULT;
    assert!(Window::of(64, 0, size).is_some());
    assert!(Window::of(63, 1, size).is_none());
    assert!(Window::of(64, size as u16 - 64, size).is_some());
    assert!(Window::of(64, size as u16 - 63, size).is_none());
    assert!(Window::of(u16::MAX, u16::MAX, MBUF_SIZE_MAX).is_none());
    assert!(Window::of(DATA_OFFSET as u16, 0, MBUF_SIZE_MIN).is_some());
}

/// Offsets and lengths are 16 bits wide, an index is never the end of a chain.
const _: () = {
    assert!(MBUF_SIZE_MAX <= u16::MAX as u32);
    assert!(MBUFS_MAX < NO_MBUF);
    assert!(DATA_OFFSET >= HEADER_SIZE && DATA_OFFSET < MBUF_SIZE_MIN);
};

/// The numbers that travel are those of `struct virtio_net_hdr` where the documentation says so, and
/// no two of one field are the same.
#[test]
fn values_are_distinct() {
    assert_eq!(
        [GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4],
        [0, 1, 3, 4, 5]
    );
    assert_eq!(GSO_ECN, 0x80);
    assert_eq!([CSUM_NONE, CSUM_PARTIAL, CSUM_VALID], [0, 1, 2]);
    assert_ne!(DIR_RECEIVED, DIR_SENT);
}
