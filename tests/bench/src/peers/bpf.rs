// SPDX-License-Identifier: GPL-2.0-only

//! XDP programs by hand: a few instructions, loaded and attached without a compiler in the guest.

use anyhow::{Context, Result};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct bpf_insn` of linux/bpf.h; the registers are the destination in the low half, then the source.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
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

/// `rN = value`
const fn set(register: u8, value: i32) -> Instruction {
    instruction(0xb7, register, 0, value)
}

const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, helper)
}

const EXIT: Instruction = instruction(0x95, 0, 0, 0);
const XDP_PASS: i32 = 2;
const REDIRECT: i32 = 23;
const REDIRECT_MAP: i32 = 51;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XSKMAP: u32 = 17;

/// Where in the interface's way a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On packets that the kernel has made already, whatever the driver.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

/// A program that runs on an interface until this is dropped.
pub(crate) struct Attached {
    _link: OwnedFd,
    _program: OwnedFd,
    _map: Option<OwnedFd>,
}

fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<i32> {
    let length = size_of_val(attributes);
    // SAFETY: the kernel reads as many bytes as there are; what they point to lives in the caller.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), length) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer as i32)
}

fn descriptor(command: libc::c_long, attributes: &[u64]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two words of 32 bits as `union bpf_attr` has them.
fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | (u64::from(second) << 32)
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd() as u32
}

fn attach(interface: u32, place: Place, program: &[Instruction]) -> Result<(OwnedFd, OwnedFd)> {
    let license = c"GPL".as_ptr() as u64;
    let load = [
        pair(TYPE_XDP, program.len() as u32),
        program.as_ptr() as u64,
        license,
        0,
        0,
        0,
    ];
    let program = descriptor(PROG_LOAD, &load).context("loading an XDP program")?;
    let link = [
        pair(number(&program), interface),
        pair(ATTACH_XDP, place as u32),
    ];
    let link = descriptor(LINK_CREATE, &link).context("attaching an XDP program")?;
    Ok((link, program))
}

/// Everything goes on.
pub(crate) fn pass(interface: u32, place: Place) -> Result<Attached> {
    let (link, program) = attach(interface, place, &[set(0, XDP_PASS), EXIT])?;
    Ok(Attached {
        _link: link,
        _program: program,
        _map: None,
    })
}

/// Everything leaves by another interface.
pub(crate) fn redirect(interface: u32, to: u32, place: Place) -> Result<Attached> {
    let code = [set(1, to as i32), set(2, 0), call(REDIRECT), EXIT];
    let (link, program) = attach(interface, place, &code)?;
    Ok(Attached {
        _link: link,
        _program: program,
        _map: None,
    })
}

/// Everything goes to an `AF_XDP` socket that is bound to the first queue.
pub(crate) fn to_socket(interface: u32, socket: &OwnedFd, place: Place) -> Result<Attached> {
    let map = descriptor(MAP_CREATE, &[pair(XSKMAP, 4), pair(4, 1)]).context("an XSKMAP")?;
    let (key, value) = (0u32, number(socket));
    let (key, value) = (
        std::ptr::from_ref(&key) as u64,
        std::ptr::from_ref(&value) as u64,
    );
    bpf(MAP_UPDATE_ELEM, &[u64::from(number(&map)), key, value, 0]).context("an XSKMAP")?;
    let code = [
        // r2 = the queue, of struct xdp_md
        instruction(0x61, 0x12, 16, 0),
        // r1 = the map, in two parts
        instruction(0x18, 0x11, 0, map.as_raw_fd()),
        instruction(0, 0, 0, 0),
        set(3, XDP_PASS),
        call(REDIRECT_MAP),
        EXIT,
    ];
    let (link, program) = attach(interface, place, &code)?;
    Ok(Attached {
        _link: link,
        _program: program,
        _map: Some(map),
    })
}
