// SPDX-License-Identifier: GPL-2.0-only

//! The frame of all requests: the handshake, the growth rules of uapi/src/lib.rs, and what is no
//! request at all.

use super::session::{request_on, tap_request, Session};
use crate::checks::Checks;
use crate::Outcome;
use nettap_uapi::ioctl::{self, Info};
use nettap_uapi::tap::TAP_OUTPUT;
use nettap_uapi::ABI_VERSION;
use nix::errno::Errno;
use std::os::fd::AsFd;
use zerocopy::IntoBytes;

/// An [`Info`] of a later version of the ABI.
#[repr(C)]
#[derive(Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
struct LongerInfo {
    known: Info,
    later: [u64; 2],
}

pub(super) fn run() -> Outcome {
    let mut checks = Checks::default();
    handshake(&mut checks)?;
    growth(&mut checks)?;
    nonsense(&mut checks)?;
    checks.verdict()
}

fn handshake(checks: &mut Checks) -> Outcome {
    let session = Session::open()?;
    for version in [0, ABI_VERSION] {
        let mut info = Info {
            abi_version: version,
            ..Default::default()
        };
        checks.equal(
            format!("a program of ABI {version} is served"),
            session.call(ioctl::INFO, &mut info),
            Ok(()),
        );
        checks.equal(
            "and told the module's version",
            info.abi_version,
            ABI_VERSION,
        );
    }
    let mut newer = Info {
        abi_version: ABI_VERSION + 1,
        ..Default::default()
    };
    checks.equal(
        "a newer program is refused",
        session.call(ioctl::INFO, &mut newer),
        Err(Errno::EPROTO),
    );

    let mut info = Info::default();
    session.call(ioctl::INFO, &mut info)?;
    checks.that(
        "an mbuf has a size",
        info.mbuf_size.is_power_of_two() || info.mbuf_size > 0,
        info.mbuf_size,
    );
    checks.that("a region has mbufs", info.mbufs > 0, info.mbufs);
    checks.that(
        "alpha has bounds",
        info.alpha_min_us > 0 && info.alpha_min_us <= info.alpha_max_us,
        format!("{info:?}"),
    );
    let other = Session::open()?;
    let mut second = Info::default();
    other.call(ioctl::INFO, &mut second)?;
    checks.that(
        "every open is a session of its own",
        info.session != second.session,
        info.session,
    );
    Ok(())
}

fn growth(checks: &mut Checks) -> Outcome {
    let session = Session::open()?;
    let mut short = [0u8; 16];
    let size = short.len();
    checks.equal(
        "a shorter structure is an older program",
        session.call_sized(ioctl::INFO, size, short.as_mut_ptr()),
        Ok(()),
    );
    let mut longer = LongerInfo::default();
    checks.equal(
        "a longer one whose rest is zero is served",
        session.call(ioctl::INFO, &mut longer),
        Ok(()),
    );
    longer = LongerInfo {
        later: [0, 1],
        ..Default::default()
    };
    checks.equal(
        "a longer one whose rest is not is E2BIG",
        session.call(ioctl::INFO, &mut longer),
        Err(Errno::E2BIG),
    );

    let mut info = Info {
        reserved: [0, 0, 0, 1],
        ..Default::default()
    };
    checks.equal(
        "INFO: a reserved field",
        session.call(ioctl::INFO, &mut info),
        Err(Errno::EINVAL),
    );
    let map = ioctl::Map {
        reserved: 1,
        ..Default::default()
    };
    checks.equal(
        "MAP: a reserved field",
        session.map_only(map).err(),
        Some(Errno::EINVAL),
    );
    let map = ioctl::Map {
        flags: 1,
        ..Default::default()
    };
    checks.equal(
        "MAP: an unknown flag",
        session.map_only(map).err(),
        Some(Errno::EINVAL),
    );
    let map = ioctl::Map {
        pad: 1,
        ..Default::default()
    };
    checks.equal(
        "MAP: another reserved field",
        session.map_only(map).err(),
        Some(Errno::EINVAL),
    );

    let session = Session::ready()?;
    let mut pull = ioctl::Pull {
        n: 1,
        reserved: 1,
        timeout_us: 1,
    };
    checks.equal(
        "PULL: a reserved field",
        session.call(ioctl::PULL, &mut pull),
        Err(Errno::EINVAL),
    );
    let tap = ioctl::Tap {
        flags: 1,
        ..tap_request("lo", TAP_OUTPUT)
    };
    checks.equal(
        "TAP: an unknown flag",
        session.tap_only(tap).err(),
        Some(Errno::EINVAL),
    );
    let tap = ioctl::Tap {
        reserved: [0, 0, 0, 1],
        ..tap_request("lo", TAP_OUTPUT)
    };
    checks.equal(
        "TAP: a reserved field",
        session.tap_only(tap).err(),
        Some(Errno::EINVAL),
    );
    for (what, tap) in [
        (
            "mode",
            ioctl::Tap {
                mode: 4,
                ..tap_request("lo", TAP_OUTPUT)
            },
        ),
        (
            "on_full",
            ioctl::Tap {
                on_full: 2,
                ..tap_request("lo", TAP_OUTPUT)
            },
        ),
        (
            "on_exit",
            ioctl::Tap {
                on_exit: 2,
                ..tap_request("lo", TAP_OUTPUT)
            },
        ),
        (
            "gso",
            ioctl::Tap {
                gso: 2,
                ..tap_request("lo", TAP_OUTPUT)
            },
        ),
        (
            "ring_cells",
            ioctl::Tap {
                ring_cells: 17,
                ..tap_request("lo", TAP_OUTPUT)
            },
        ),
        (
            "ifname without its zero",
            ioctl::Tap {
                ifname: [b'x'; 16],
                ..tap_request("lo", TAP_OUTPUT)
            },
        ),
    ] {
        checks.equal(
            format!("TAP: no such {what}"),
            session.tap_only(tap).err(),
            Some(Errno::EINVAL),
        );
    }
    let gone = tap_request("nosuch0", TAP_OUTPUT);
    checks.equal(
        "TAP: no such interface",
        session.tap_only(gone).err(),
        Some(Errno::ENODEV),
    );
    checks.equal(
        "UNTAP: no such tap",
        session.untap(0xffff_fff0),
        Err(Errno::ENOENT),
    );
    Ok(())
}

fn nonsense(checks: &mut Checks) -> Outcome {
    let session = Session::ready()?;
    let mut info = Info::default();
    checks.equal(
        "no such request",
        session.call(0x7f, &mut info),
        Err(Errno::ENOTTY),
    );
    let size = info.as_bytes().len();
    let nowhere = std::ptr::without_provenance_mut(8);
    checks.equal(
        "a structure at no address",
        session.call_sized(ioctl::INFO, size, nowhere),
        Err(Errno::EFAULT),
    );
    let mut query = ioctl::Query {
        kind: 99,
        record_size: 8,
        ..Default::default()
    };
    checks.equal(
        "QUERY: no such kind",
        session.call(ioctl::QUERY, &mut query),
        Err(Errno::EINVAL),
    );
    let mut query = ioctl::Query {
        kind: ioctl::QUERY_REGION,
        record_size: 8,
        from_id: 0,
        count: 1,
        records: 8,
    };
    checks.equal(
        "QUERY: records at no address",
        session.call(ioctl::QUERY, &mut query),
        Err(Errno::EFAULT),
    );
    let tap = session.tap(tap_request("lo", TAP_OUTPUT))?;
    let on_tap = request_on(tap.fd.as_fd(), ioctl::INFO, &mut Info::default());
    checks.equal(
        "a session's request on a tap's descriptor",
        on_tap,
        Err(Errno::ENOTTY),
    );
    Ok(())
}
