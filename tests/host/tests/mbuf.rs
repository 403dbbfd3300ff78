// SPDX-License-Identifier: GPL-2.0-only

//! The mbuf header: any 64 bytes are one, and the only way from its integers to a range of bytes
//! stays inside the mbuf.

use nettap_uapi::mbuf::{
    Header, Window, CSUM_NONE, CSUM_PARTIAL, CSUM_VALID, DATA_OFFSET, DIR_RECEIVED, DIR_SENT,
    GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, HEADER_SIZE, MBUFS_MAX,
    MBUF_SIZE_DEFAULT, MBUF_SIZE_MAX, MBUF_SIZE_MIN, NO_MBUF,
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
