// SPDX-License-Identifier: GPL-2.0-only

//! Headers that cannot be: of changed packets (refused and lost, as the ABI says, and counted by
//! cause) and of new ones (refused, the mbufs go home).

use super::session::{tap_request, Datagrams, Session, Tap};
use super::Peer;
use crate::checks::Checks;
use crate::Outcome;
use anyhow::{Context, Result};
use nettap_uapi::mbuf::{Header, CSUM_PARTIAL, GSO_TCPV4, GSO_TCPV6, NO_MBUF};
use nettap_uapi::ring::{Entry, REVERT_CHANGED};
use nettap_uapi::stats::TapStats;
use nettap_uapi::tap::TAP_OUTPUT;

/// Which counter a lie ends in.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Shape,
    Offload,
}

type Lie = (&'static str, Cause, fn(&mut Header, u32));

/// What can be wrong with one header; the `u32` is the mbuf's size.
const LIES: [Lie; 10] = [
    ("offset inside the header", Cause::Shape, |header, _| {
        header.offset = 63
    }),
    ("offset 0", Cause::Shape, |header, _| header.offset = 0),
    ("offset outside the mbuf", Cause::Shape, |header, size| {
        header.offset = size as u16
    }),
    ("offset 65535", Cause::Shape, |header, _| {
        header.offset = u16::MAX
    }),
    ("length beyond the mbuf", Cause::Shape, |header, size| {
        header.len = size as u16
    }),
    ("length 65535", Cause::Shape, |header, _| {
        header.len = u16::MAX
    }),
    ("length 0", Cause::Shape, |header, _| header.len = 0),
    ("checksum beyond the packet", Cause::Offload, |header, _| {
        header.csum = CSUM_PARTIAL;
        header.csum_start = 2000;
    }),
    (
        "checksum inside the headers",
        Cause::Offload,
        |header, _| {
            header.csum = CSUM_PARTIAL;
            header.csum_start = 14;
            header.csum_offset = 2;
        },
    ),
    ("checksum state unknown", Cause::Offload, |header, _| {
        header.csum = 77
    }),
];

pub(super) fn run(peer: &Peer) -> Outcome {
    let mut checks = Checks::default();
    let session = Session::ready()?;
    let tap = session.tap(tap_request(&peer.ifname, TAP_OUTPUT))?;
    let datagrams = Datagrams::to(peer)?;
    for (what, cause, lie) in LIES {
        changed(&mut checks, (&session, &tap, &datagrams), what, cause, lie)?;
        made_up(&mut checks, (&session, &tap), what, lie)?;
    }
    made_up(
        &mut checks,
        (&session, &tap),
        "super-packet of no protocol",
        |header, _| {
            header.gso_type = 0x7f;
            header.gso_size = 100;
        },
    )?;
    made_up(
        &mut checks,
        (&session, &tap),
        "super-packet of segments of 0 bytes",
        |header, _| header.gso_type = GSO_TCPV4,
    )?;
    super_packets(&mut checks, &session, &tap)?;
    chains(&mut checks, &session, &tap)?;
    as_it_was(&mut checks, &session, &tap, &datagrams)?;
    // Those that were refused as changed are lost; the receiver counts what is left.
    println!("expect {}", datagrams.sent() - LIES.len() as u64);
    checks.verdict()
}

fn refused(stats: &TapStats) -> (u64, u64) {
    (stats.refused_shape, stats.refused_offload)
}

fn changed(
    checks: &mut Checks,
    (session, tap, datagrams): (&Session, &Tap, &Datagrams),
    what: &str,
    cause: Cause,
    lie: fn(&mut Header, u32),
) -> Outcome {
    let mapped = session.mapped()?;
    let before = refused(&tap.stats(session)?);
    datagrams.send(1)?;
    let entry = tap.receive()?;
    let mut header = mapped.header(entry.index)?;
    lie(&mut header, mapped.told.mbuf_size);
    mapped.set_header(entry.index, header)?;
    tap.revert.put(Entry {
        flags: REVERT_CHANGED,
        ..entry
    })?;
    session.push(tap.number(), 1, 1_000_000)?;
    let wanted = match cause {
        Cause::Shape => (before.0 + 1, before.1),
        Cause::Offload => (before.0, before.1 + 1),
    };
    let stats = tap.stats(session)?;
    checks.equal(
        format!("changed, {what}: refused ({cause:?})"),
        refused(&stats),
        wanted,
    );
    checks.that(
        "  the balance closes",
        stats.balances() && stats.in_flight == 0,
        format!("{stats:?}"),
    );
    Ok(())
}

/// A new packet with a lie in its first header.
fn made_up(
    checks: &mut Checks,
    (session, tap): (&Session, &Tap),
    what: &str,
    lie: fn(&mut Header, u32),
) -> Outcome {
    let mapped = session.mapped()?;
    let entry = fresh(session)?;
    let mut header = Header {
        next: NO_MBUF,
        offset: 128,
        len: 100,
        packet_len: 100,
        ..Default::default()
    };
    lie(&mut header, mapped.told.mbuf_size);
    mapped.set_header(entry.index, header)?;
    expect_refused(checks, session, tap, &format!("new, {what}"), entry)
}

fn fresh(session: &Session) -> Result<Entry> {
    let mapped = session.mapped()?;
    if mapped.alloc.waiting()? == 0 {
        session.pull(8, 1_000_000)?;
    }
    mapped.alloc.take()?.context("no mbuf from the alloc ring")
}

fn expect_refused(
    checks: &mut Checks,
    session: &Session,
    tap: &Tap,
    what: &str,
    entry: Entry,
) -> Outcome {
    let before = tap.stats(session)?;
    tap.revert.put(Entry {
        flags: REVERT_CHANGED,
        ..entry
    })?;
    session.push(tap.number(), 1, 1_000_000)?;
    let after = tap.stats(session)?;
    checks.equal(
        format!("{what}: refused"),
        after.injected_refused,
        before.injected_refused + 1,
    );
    checks.equal("  and nothing was sent", after.injected, before.injected);
    let region = session.region_stats()?;
    let sum = region.free + region.allocated + region.detoured + region.kernel;
    checks.equal("  every mbuf is somewhere", sum, region.mbufs);
    Ok(())
}

/// Where the options, and behind them TCP, begin in a segment.
const OPTIONS: usize = 14 + 40;
const TCP: usize = OPTIONS + 8;

/// A TCP segment of three pieces, over IPv6 with options, that goes nowhere; and what is to be said of it.
fn segment() -> (Vec<u8>, Header) {
    let mut frame = vec![0; TCP + 20 + 1200];
    frame[0] = 2;
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    let payload = frame.len() - OPTIONS;
    frame[18..20].copy_from_slice(&(payload as u16).to_be_bytes());
    frame[20] = 60;
    frame[21] = 64;
    frame[OPTIONS..TCP].copy_from_slice(&[6, 0, 1, 4, 0, 0, 0, 0]);
    frame[TCP + 12] = 0x50;
    let header = Header {
        next: NO_MBUF,
        offset: 128,
        len: frame.len() as u16,
        packet_len: frame.len() as u32,
        gso_type: GSO_TCPV6,
        gso_size: 400,
        gso_hdr_len: (TCP + 20) as u16,
        csum: CSUM_PARTIAL,
        csum_start: TCP as u16,
        csum_offset: 16,
        ..Default::default()
    };
    (frame, header)
}

/// New super-packets whose headers lead to something else than they say.
fn super_packets(checks: &mut Checks, session: &Session, tap: &Tap) -> Outcome {
    type Lie = (&'static str, fn(&mut [u8], &mut Header));
    const LIES: [Lie; 5] = [
        ("summed from its options on", |_, header| {
            header.csum_start = OPTIONS as u16
        }),
        ("with GRE behind its options", |frame, _| {
            frame[OPTIONS] = 47
        }),
        ("with UDP behind its options", |frame, _| {
            frame[OPTIONS] = 17
        }),
        ("whose options have no end", |frame, _| {
            frame[OPTIONS + 1] = 255
        }),
        ("of the other version of IP", |frame, _| {
            frame[12..14].copy_from_slice(&[0x08, 0x00])
        }),
    ];
    let mapped = session.mapped()?;
    let put = |lie: &dyn Fn(&mut [u8], &mut Header)| -> Result<Entry> {
        let (mut frame, mut header) = segment();
        lie(&mut frame, &mut header);
        let entry = fresh(session)?;
        mapped.write(entry.index, header.offset.into(), &frame)?;
        mapped.set_header(entry.index, header)?;
        Ok(entry)
    };
    let before = tap.stats(session)?.injected;
    tap.revert.put(put(&|_, _| ())?)?;
    session.push(tap.number(), 1, 1_000_000)?;
    let after = tap.stats(session)?.injected;
    checks.equal("new, an honest super-packet: sent", after, before + 1);
    for (what, lie) in LIES {
        let what = format!("new, a super-packet {what}");
        expect_refused(checks, session, tap, &what, put(&lie)?)?;
    }
    Ok(())
}

/// Chains of new packets that lead nowhere, in a circle, or to what is not ours.
fn chains(checks: &mut Checks, session: &Session, tap: &Tap) -> Outcome {
    let mapped = session.mapped()?;
    let mbufs = mapped.told.mbufs;
    let header = |next| Header {
        next,
        offset: 128,
        len: 100,
        packet_len: 200,
        ..Default::default()
    };
    let entry = fresh(session)?;
    mapped.set_header(entry.index, header(entry.index))?;
    expect_refused(checks, session, tap, "new, chained to itself", entry)?;

    let (one, two) = (fresh(session)?, fresh(session)?);
    mapped.set_header(one.index, header(two.index))?;
    mapped.set_header(two.index, header(one.index))?;
    expect_refused(checks, session, tap, "new, a chain in a circle", one)?;

    for (what, next) in [
        ("outside the region", mbufs),
        ("to the largest index", NO_MBUF - 1),
    ] {
        let entry = fresh(session)?;
        mapped.set_header(entry.index, header(next))?;
        expect_refused(checks, session, tap, &format!("new, chained {what}"), entry)?;
    }
    let victim = Session::ready()?;
    let foreign = fresh(&victim)?;
    victim
        .mapped()?
        .set_header(foreign.index, header(NO_MBUF))?;
    let entry = fresh(session)?;
    mapped.set_header(entry.index, header(foreign.index))?;
    expect_refused(
        checks,
        session,
        tap,
        "new, chained to another session's mbuf",
        entry,
    )?;
    victim.mapped()?.dealloc.put(foreign)?;
    victim.push(-1, 0, 1_000_000)?;
    checks.equal(
        "  which that session still has",
        victim.stats()?.refused.holder,
        0,
    );
    Ok(())
}

/// Reverted as it was, a packet does not depend on what its header says.
fn as_it_was(checks: &mut Checks, session: &Session, tap: &Tap, datagrams: &Datagrams) -> Outcome {
    let mapped = session.mapped()?;
    let before = tap.stats(session)?.reverted;
    for (_, _, lie) in LIES {
        datagrams.send(1)?;
        let entry = tap.receive()?;
        let mut header = mapped.header(entry.index)?;
        let (offset, bytes) = (header.offset, mapped.bytes(entry.index)?);
        mapped.write(entry.index, offset.into(), &vec![0xaa; bytes.len()])?;
        lie(&mut header, mapped.told.mbuf_size);
        header.next = entry.index;
        mapped.set_header(entry.index, header)?;
        tap.revert.put(entry)?;
        session.push(tap.number(), 1, 1_000_000)?;
    }
    let after = tap.stats(session)?;
    checks.equal(
        "reverted as it was, header and bytes are not read",
        after.reverted,
        before + LIES.len() as u64,
    );
    Ok(())
}
