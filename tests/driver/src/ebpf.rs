// SPDX-License-Identifier: GPL-2.0-only

//! eBPF programs by hand: a few instructions, loaded and pinned without a compiler in the guest.

use crate::Outcome;
use anyhow::{Context, Result};
use clap::Args;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Arguments of `bpf-pin`.
#[derive(Args)]
pub(crate) struct Pin {
    /// Where, in a BPF file system.
    path: String,
    /// Only UDP datagrams over IPv4 to this port.
    #[arg(long)]
    port: u16,
    /// Bytes of them that are wanted.
    #[arg(long, default_value_t = i32::MAX)]
    bytes: i32,
}

/// `struct bpf_insn` of linux/bpf.h; the registers are the destination in the low half, then the source.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}

/// `r0 = value`
pub(crate) const fn result(value: i32) -> Instruction {
    instruction(0xb7, 0, 0, value)
}

/// `exit`
pub(crate) const EXIT: Instruction = instruction(0x95, 0, 0, 0);
/// `r6 = r1`: where instructions that load from the packet look for it.
const PACKET: Instruction = instruction(0xbf, 0x16, 0, 0);
/// `r0 = r1->len`: the first word of `struct __sk_buff`.
pub(crate) const LENGTH: Instruction = instruction(0x61, 0x10, 0, 0);
/// `r1->cb[0] = 0x77777777`: 48 bytes behind it.
pub(crate) const SCRIBBLE: Instruction = instruction(0x62, 0x01, 48, 0x7777_7777);

/// `r0 =` 16 bits of the packet.
const fn half(at: i32) -> Instruction {
    instruction(0x28, 0, 0, at)
}

/// `r0 =` 8 bits of the packet.
const fn byte(at: i32) -> Instruction {
    instruction(0x30, 0, 0, at)
}

/// Unless `r0 == value`, skip so many.
const fn unless(value: i32, skip: i16) -> Instruction {
    instruction(0x55, 0, skip, value)
}

/// `BPF_PROG_TYPE_SOCKET_FILTER`
pub(crate) const SOCKET_FILTER: u32 = 1;
/// `BPF_PROG_TYPE_XDP`
pub(crate) const XDP: u32 = 6;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` needs.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_PIN` needs.
#[repr(C)]
struct Place {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_MAP_CREATE` needs.
#[repr(C)]
struct Map {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<i32, Errno> {
    // SAFETY: the kernel reads as many bytes as the structure has; what it names lives in the caller.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    Errno::result(answer).map(|fd| fd as i32)
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program.
pub(crate) fn load(kind: u32, instructions: &[Instruction]) -> Result<OwnedFd> {
    let license = c"GPL";
    let attributes = Load {
        kind,
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes).context("BPF_PROG_LOAD")?;
    Ok(owned(fd))
}

/// An array of one word: a descriptor of BPF's that is no program.
pub(crate) fn map() -> Result<OwnedFd> {
    let attributes = Map {
        kind: 2,
        key_size: 4,
        value_size: 4,
        entries: 1,
    };
    let fd = bpf(BPF_MAP_CREATE, &attributes).context("BPF_MAP_CREATE")?;
    Ok(owned(fd))
}

/// A filter that wants so many bytes of UDP datagrams over IPv4 to this port, and of nothing else.
pub(crate) fn udp_to(port: u16, bytes: i32) -> [Instruction; 11] {
    [
        PACKET,
        half(12),
        unless(0x0800, 6),
        byte(23),
        unless(17, 4),
        half(36),
        unless(port.into(), 2),
        result(bytes),
        EXIT,
        result(0),
        EXIT,
    ]
}

impl Pin {
    pub(crate) fn run(self) -> Outcome {
        let program = load(SOCKET_FILTER, &udp_to(self.port, self.bytes))?;
        let path = CString::new(self.path)?;
        let place = Place {
            path: path.as_ptr() as u64,
            fd: u32::try_from(program.as_raw_fd())?,
            flags: 0,
        };
        bpf(BPF_OBJ_PIN, &place).context("BPF_OBJ_PIN")?;
        Ok(())
    }
}
