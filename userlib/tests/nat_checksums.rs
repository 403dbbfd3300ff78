// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The checksums that `nat` corrects by the difference are those that computing them anew gives.

#[path = "../examples/common/ipv4.rs"]
mod ipv4;

use std::net::Ipv4Addr;

use ipv4::{address, Network, Packet, Side};

const IP: usize = 14;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// RFC 1071, over pieces of even length but for the last.
fn sum<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let words = pieces.into_iter().flat_map(|piece| piece.chunks(2));
    let mut sum: u32 = words
        .map(|pair| (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of pseudo-header and, unless it is still to be computed, transport.
fn transport(bytes: &[u8], whole: bool) -> u16 {
    let protocol = [0, bytes[IP + 9]];
    let payload = &bytes[IP + 20..];
    let len = (payload.len() as u16).to_be_bytes();
    let pseudo: [&[u8]; 3] = [&bytes[IP + 12..IP + 20], &protocol, &len];
    let pseudo = if protocol[1] == ICMP {
        &[][..]
    } else {
        &pseudo[..]
    };
    sum(pseudo.iter().copied().chain(whole.then_some(payload)))
}

fn checksum_at(protocol: u8) -> usize {
    IP + 20
        + match protocol {
            TCP => 16,
            UDP => 6,
            _ => 2,
        }
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A packet with right checksums and bytes that depend on `seed`.
fn packet(protocol: u8, seed: u32, partial: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..IP as u32 + 61)
        .map(|at| ((at * at * 31 + seed * 7919) >> 3) as u8)
        .collect();
    set(&mut bytes, 12, 0x0800);
    bytes[IP] = 0x45;
    set(&mut bytes, IP + 6, 0x4000);
    bytes[IP + 9] = protocol;
    if protocol == ICMP {
        bytes[IP + 20] = 8;
    }
    set(&mut bytes, IP + 10, 0);
    let header = !sum([&bytes[IP..IP + 20]]);
    set(&mut bytes, IP + 10, header);
    let at = checksum_at(protocol);
    set(&mut bytes, at, 0);
    let value = transport(&bytes, !partial);
    set(&mut bytes, at, if partial { value } else { !value });
    bytes
}

#[test]
fn rewriting_keeps_every_checksum_right() {
    for protocol in [ICMP, TCP, UDP] {
        for seed in 0..3000u32 {
            for side in [Side::Source, Side::Destination] {
                let mut bytes = packet(protocol, seed, false);
                let parsed = Packet::parse(&bytes).expect("it has ports");
                let to = (
                    Ipv4Addr::from(seed.wrapping_mul(2_654_435_761)),
                    (seed * 21) as u16,
                );
                parsed.rewrite(&mut bytes, false, side, to);
                assert_eq!(address(&bytes, side), Some(to.0));
                assert_eq!(
                    Packet::parse(&bytes).expect("still").port(side),
                    (protocol, to.1)
                );
                assert_eq!(sum([&bytes[IP..IP + 20]]), 0xffff);
                assert_eq!(transport(&bytes, true), 0xffff, "{protocol} {seed}");
            }
        }
    }
}

#[test]
fn a_checksum_to_be_computed_keeps_the_sum_of_the_pseudo_header() {
    for protocol in [TCP, UDP] {
        for seed in 0..3000u32 {
            let mut bytes = packet(protocol, seed, true);
            let parsed = Packet::parse(&bytes).expect("it has ports");
            let to = (Ipv4Addr::from(seed.wrapping_mul(40503)), 61001);
            parsed.rewrite(&mut bytes, true, Side::Source, to);
            // 0 and 0xffff are one number in ones' complement.
            let field = get(&bytes, checksum_at(protocol)) % 0xffff;
            assert_eq!(
                field,
                transport(&bytes, false) % 0xffff,
                "{protocol} {seed}"
            );
        }
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut bytes = packet(UDP, 1, false);
    set(&mut bytes, checksum_at(UDP), 0);
    let parsed = Packet::parse(&bytes).expect("it has ports");
    parsed.rewrite(&mut bytes, false, Side::Source, (Ipv4Addr::LOCALHOST, 7));
    assert_eq!(get(&bytes, checksum_at(UDP)), 0);
}

#[test]
fn what_has_no_ports_is_not_parsed_and_short_packets_are_survived() {
    let whole = packet(TCP, 5, false);
    for len in 0..whole.len() {
        let _ = (
            Packet::parse(&whole[..len]).is_some(),
            address(&whole[..len], Side::Source),
        );
    }
    let mut fragment = whole.clone();
    set(&mut fragment, IP + 6, 0x2001);
    let mut error = packet(ICMP, 5, false);
    error[IP + 20] = 3;
    let mut other = whole.clone();
    other[IP + 9] = 47;
    for bytes in [fragment, error, other] {
        assert!(Packet::parse(&bytes).is_none());
    }
    let mut v6 = whole;
    set(&mut v6, 12, 0x86dd);
    assert_eq!(address(&v6, Side::Source), None);
}

#[test]
fn networks_are_read_and_contain() {
    let network: Network = "10.0.1.77/24".parse().expect("a network");
    assert!(network.contains([10, 0, 1, 1].into()) && !network.contains([10, 0, 2, 1].into()));
    let all: Network = "0.0.0.0/0".parse().expect("a network");
    assert!(all.contains([9, 9, 9, 9].into()));
    for wrong in ["10.0.1.0", "10.0.1.0/33", "ten/8", "10.0.1.0/"] {
        assert!(wrong.parse::<Network>().is_err(), "{wrong}");
    }
}
