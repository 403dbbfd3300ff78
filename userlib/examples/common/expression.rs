// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Expressions as tcpdump takes them (pcap-filter(7)), compiled by libpcap into filters of taps.
//!
//! libpcap compiles for a capture handle. Only with a live one does it know that a VLAN tag of Linux
//! travels beside the bytes, and makes `vlan 5` look there. So one is opened on the interface, without
//! reading from it. An interface that is down has none; the loopback's does as well, whose frames look
//! the same.

use nettap::{Filter, Instruction};
use pcap::{Active, Capture, Error};

/// The loopback interface.
const LOOPBACK: &str = "lo";
/// `BPF_RET | BPF_K`: the end of a program, its result in the instruction.
const RETURN: u16 = 0x06;

/// The filter of an expression on an interface.
///
/// # Errors
///
/// A sentence about what libpcap does not understand, or may not do.
pub(crate) fn compile(interface: &str, expression: &str) -> Result<Filter, String> {
    let said = |error: Error| match error {
        Error::PcapError(text) => format!("filter '{expression}': {text}"),
        other => format!("filter '{expression}': {other}"),
    };
    let handle = open(interface).or_else(|first| open(LOOPBACK).map_err(|_| said(first)))?;
    let program = handle.compile(expression, true).map_err(said)?;
    let instructions: Option<Vec<Instruction>> = program
        .get_instructions()
        .iter()
        .map(|instruction| read(&instruction.to_string()))
        .collect();
    instructions
        .map(Filter::classic)
        .ok_or_else(|| said(Error::InvalidString))
}

/// A live handle; the packets that come meanwhile are not looked at.
fn open(interface: &str) -> Result<Capture<Active>, Error> {
    Capture::from_device(interface)?.buffer_size(1 << 16).open()
}

/// One instruction, whose fields the `pcap` crate shows as text only: that of `tcpdump -ddd`.
///
/// A match asks for as many bytes as the handle would take. Here it asks for all; the tap's own snap
/// length, which may change, says how many.
fn read(text: &str) -> Option<Instruction> {
    let mut words = text.split_ascii_whitespace();
    let mut word = || words.next();
    let mut instruction = Instruction {
        code: word()?.parse().ok()?,
        jt: word()?.parse().ok()?,
        jf: word()?.parse().ok()?,
        k: word()?.parse().ok()?,
    };
    if instruction.code == RETURN && instruction.k != 0 {
        instruction.k = u32::MAX;
    }
    Some(instruction)
}
