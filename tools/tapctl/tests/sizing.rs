// SPDX-License-Identifier: GPL-2.0-only

//! Objective: `tune` measures what the counters say and advises what its formulas give, at their edges too.

mod common;

use common::{run, Fake, Form};
use nettap::uapi::stats::{RegionStats, SessionStats, TapStats};
use nettap::uapi::tap::RING_MAX;
use nix::errno::Errno;
use std::time::Duration;
use tapctl::measure::{Meter, Missed, Sample, Traffic};
use tapctl::sizing::{advice, come, mbufs, mbufs_a_packet, Advice, Model, Size};

const MS: Duration = Duration::from_millis(1);

fn tap() -> TapStats {
    TapStats {
        id: 3,
        session: 2,
        ring_cells: 256,
        max_bytes: 32 << 20,
        ..TapStats::default()
    }
}

/// What a meter makes of readings: when in milliseconds, the tap, rounds of its session.
fn measured(readings: &[(u32, TapStats, u64)]) -> Traffic {
    let sample = |(at, tap, rounds): &(u32, TapStats, u64)| Sample {
        at: *at * MS,
        taps: vec![*tap],
        sessions: vec![SessionStats {
            id: 2,
            rounds: *rounds,
            ..SessionStats::default()
        }],
    };
    let mut samples = readings.iter().map(sample);
    let first = samples.next().expect("a reading");
    let mut meter = Meter::new(&first, &first.taps[0]);
    samples.for_each(|sample| meter.read(&sample));
    meter.traffic()
}

#[test]
fn rates_are_those_of_packets_that_were_to_detour() {
    let mut then = tap();
    then.detoured = 300;
    then.passed_ring = 50;
    then.dropped_bytes = 10;
    then.passed_filter = 1000;
    let traffic = measured(&[(0, tap(), 0), (1000, then, 0)]);
    assert_eq!((traffic.mean, traffic.peak), (360, 360));
    assert_eq!((traffic.detoured, traffic.missed.sum()), (300, 60));
    assert_eq!(traffic.missed.bytes, 10);
}

#[test]
fn the_peak_is_that_of_a_tenth_of_a_second() {
    let at = |ms: u32, detoured: u64| (ms, TapStats { detoured, ..tap() }, 0);
    // 50 packets in 10 ms are no 5000 a second; the 100 ms around them have 70.
    let readings = [
        at(0, 0),
        at(40, 10),
        at(50, 60),
        at(100, 70),
        at(140, 80),
        at(1000, 100),
    ];
    let traffic = measured(&readings);
    assert_eq!((traffic.mean, traffic.peak), (100, 700));
    let short = measured(&readings[..3]);
    assert_eq!((short.mean, short.peak), (1200, 1200));
}

#[test]
fn time_out_is_by_littles_law() {
    // Ten packets out all the time, 1000 packets in a second: each for 10 ms.
    let mut then = tap();
    (then.detoured, then.in_flight, then.held_bytes) = (1000, 10, 9000);
    (then.detoured_bytes, then.ring_used) = (100_001, 7);
    let traffic = measured(&[(0, tap(), 0), (1000, then, 0)]);
    assert_eq!(traffic.out, 10 * MS);
    assert_eq!(traffic.held, Some(900));
    assert_eq!((traffic.length, traffic.most_out), (101, 10));
    assert_eq!(traffic.most_used, 7);
}

#[test]
fn alpha_is_measured_while_packets_come() {
    let busy = TapStats {
        detoured: 5,
        ..tap()
    };
    // The second half is sleep.
    let traffic = measured(&[(0, tap(), 100), (10, busy, 120), (2000, busy, 121)]);
    assert_eq!(traffic.alpha, Some(MS / 2));
    let none = measured(&[(0, tap(), 100), (10, busy, 100)]);
    assert_eq!(none.alpha, None);
}

#[test]
fn a_tap_that_ends_keeps_its_last_reading() {
    let busy = TapStats {
        detoured: 5,
        ..tap()
    };
    let other = TapStats { id: 4, ..tap() };
    let traffic = measured(&[(0, tap(), 0), (500, busy, 9), (1000, other, 9)]);
    assert!(traffic.ended);
    assert_eq!((traffic.detoured, traffic.interval), (5, 500 * MS));
}

fn traffic(peak: u64) -> Traffic {
    let idle = measured(&[(0, tap(), 0)]);
    Traffic {
        mean: peak,
        peak,
        alpha: Some(MS),
        out: 2 * MS,
        length: 500,
        held: Some(1000),
        ..idle
    }
}

#[test]
fn the_lower_bound_is_sepcoms() {
    // The paper's section 5.2: 200 kpps and 1 ms.
    let model = Model::of(&traffic(200_000), 2048, MS, Duration::ZERO).expect("traffic");
    assert_eq!((model.bound, model.cells.needed), (200, 200));
    assert_eq!(model.packets, 400, "out for longer than α");
}

#[test]
fn away_comes_on_top() {
    let model = Model::of(&traffic(20_000), 2048, MS, 10 * MS).expect("traffic");
    assert_eq!(model.cells.needed, 220);
    assert_eq!(model.cells.lasts, Duration::from_micros(12_800));
    assert_eq!(model.packets, 240);
    let bytes = model.bytes.expect("held");
    assert_eq!((bytes.now, bytes.needed), (32 << 20, 240_000));
    assert_eq!(advice(&model, None, &Missed::default()), []);
}

#[test]
fn nothing_follows_from_no_packets() {
    assert!(Model::of(&traffic(0), 2048, MS, 10 * MS).is_none());
}

#[test]
fn without_a_round_alpha_is_the_longest() {
    let stopped = Traffic {
        alpha: None,
        ..traffic(1000)
    };
    let model = Model::of(&stopped, 2048, 3 * MS, 10 * MS).expect("traffic");
    assert_eq!((model.alpha, model.cells.needed), (3 * MS, 13));
}

#[test]
fn advice_is_the_next_power_of_two() {
    // 255.99, 256.003 and 55000 cells, where there are 256.
    for (rate, wanted) in [
        (23_272, None),
        (23_273, Some(Advice::Ring(512))),
        (5_000_000, Some(Advice::Ring(65_536))),
    ] {
        let mut flow = traffic(rate);
        flow.held = None;
        let model = Model::of(&flow, 2048, MS, 10 * MS).expect("traffic");
        let found = advice(&model, None, &Missed::default());
        assert_eq!(found, Vec::from_iter(wanted), "{rate}");
    }
    assert_eq!(Size::new(256, 257, 1).advised(16, 1 << 16), Some(512));
    assert_eq!(Size::new(256, 256, 1).advised(16, 1 << 16), None);
    assert_eq!(Size::new(0, 3, 1).advised(16, 1 << 16), Some(16));
    assert_eq!(Size::new(1, u64::MAX, 1).advised(1, 64), Some(64));
}

#[test]
fn beyond_the_largest_ring_sessions_share() {
    let mut flow = traffic(10_000_000);
    flow.tap.ring_cells = RING_MAX;
    flow.held = None;
    let model = Model::of(&flow, 2048, MS, 10 * MS).expect("traffic");
    assert_eq!(
        advice(&model, None, &Missed::default()),
        [Advice::Share],
        "no larger ring is advised"
    );
}

#[test]
fn taps_of_a_region_share_its_mbufs() {
    let region = RegionStats {
        mbufs: 4096,
        mbuf_size: 2048,
        allocated: 96,
        ..RegionStats::default()
    };
    let mut long = traffic(100_000);
    long.length = 9000;
    let short = Model::of(&traffic(100_000), 2048, MS, 10 * MS).expect("traffic");
    let long = Model::of(&long, 2048, MS, 10 * MS).expect("traffic");
    assert_eq!((short.mbufs_a_packet, long.mbufs_a_packet), (1, 5));
    let size = mbufs(&region, [&short, &long].into_iter());
    // 1200 packets each, and what programs have for new ones.
    assert_eq!((size.now, size.needed), (4096, 1200 + 6000 + 96));
    assert_eq!(size.lasts, Duration::from_nanos(6_666_666));
    let found = advice(&short, Some(&size), &Missed::default());
    assert_eq!(found, [Advice::Ring(2048), Advice::Mbufs(8192)]);
}

#[test]
fn mbufs_of_a_packet() {
    for (length, snaplen, mbuf_size, wanted) in [
        (0, 0, 2048, 1),
        (1920, 0, 2048, 1),
        (1921, 0, 2048, 2),
        (9000, 128, 2048, 1),
        (65_535, 0, 512, 64),
    ] {
        let found = mbufs_a_packet(length, snaplen, mbuf_size);
        assert_eq!(found, wanted, "{length} {snaplen} {mbuf_size}");
    }
}

#[test]
fn bytes_that_are_held_have_room() {
    let mut flow = traffic(10_000);
    flow.tap.max_bytes = 100_000;
    let model = Model::of(&flow, 2048, MS, 10 * MS).expect("traffic");
    assert_eq!(
        advice(&model, None, &Missed::default()),
        [Advice::MaxBytes(1 << 17)]
    );
}

#[test]
fn packets_that_missed_it_for_no_size_are_the_programs_business() {
    let model = Model::of(&traffic(1000), 2048, MS, 10 * MS).expect("traffic");
    for missed in [
        Missed {
            ring: 1,
            ..Missed::default()
        },
        Missed {
            stalled: 1,
            ..Missed::default()
        },
    ] {
        assert_eq!(advice(&model, None, &missed), [Advice::Program]);
    }
    // A ring that is too small explains it.
    let model = Model::of(&traffic(100_000), 2048, MS, 10 * MS).expect("traffic");
    let missed = Missed {
        ring: 1,
        ..Missed::default()
    };
    assert_eq!(advice(&model, None, &missed), [Advice::Ring(2048)]);
}

#[test]
fn sums_do_not_overflow() {
    assert_eq!(come(u64::MAX, Duration::from_secs(60)), u64::MAX);
    assert_eq!(come(1, Duration::from_nanos(1)), 1);
    assert_eq!(come(0, MS), 0);
    let model = Model::of(&traffic(u64::MAX), 2048, MS, 60_000 * MS).expect("traffic");
    let size = mbufs(&RegionStats::default(), [&model, &model].into_iter());
    assert_eq!(size.needed, u64::MAX);
}

#[test]
fn a_tap_that_is_not_there_is_refused() {
    let (_, ended) = run(&Fake::default(), Form::Plain, &["tune", "9"]);
    assert!(ended.expect_err("no such tap").is(Errno::ENOENT));
}
