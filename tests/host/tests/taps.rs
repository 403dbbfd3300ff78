// SPDX-License-Identifier: GPL-2.0-only

//! The vocabulary of taps: which modes stand together, which integers name something, and the
//! balance of the counters.

use nettap_uapi::stats::TapStats;
use nettap_uapi::tap::{
    Gso, Mode, OnExit, OnFull, GSO_SEGMENT, GSO_WHOLE, ON_EXIT_DROP, ON_EXIT_REVERT, ON_FULL_DROP,
    ON_FULL_PASS, RING_DEFAULT, RING_MAX, RING_MIN,
};
use proptest::prelude::*;

const MODES: [Mode; 3] = [Mode::Input, Mode::Output, Mode::Bypass];

/// The whole table: only input beside output, either way round.
#[test]
fn only_input_stands_beside_output() {
    let table = [
        [false, true, false],
        [true, false, false],
        [false, false, false],
    ];
    for (mode, row) in MODES.into_iter().zip(table) {
        for (other, beside) in MODES.into_iter().zip(row) {
            assert_eq!(mode.beside(other), beside, "{mode:?} beside {other:?}");
        }
    }
}

#[test]
fn modes_have_names_and_numbers() {
    for (mode, name) in MODES.into_iter().zip(["input", "output", "bypass"]) {
        assert_eq!(Mode::from_raw(mode.raw()), Some(mode));
        assert_eq!(mode.name(), name);
    }
}

#[test]
fn zero_is_the_default_policy_and_no_mode() {
    assert_eq!(Mode::from_raw(0), None);
    assert_eq!(OnFull::from_raw(ON_FULL_PASS), Some(OnFull::Pass));
    assert_eq!(OnFull::from_raw(ON_FULL_DROP), Some(OnFull::Drop));
    assert_eq!(OnExit::from_raw(ON_EXIT_REVERT), Some(OnExit::Revert));
    assert_eq!(OnExit::from_raw(ON_EXIT_DROP), Some(OnExit::Drop));
    assert_eq!(Gso::from_raw(GSO_WHOLE), Some(Gso::Whole));
    assert_eq!(Gso::from_raw(GSO_SEGMENT), Some(Gso::Segment));
    assert_eq!((ON_FULL_PASS, ON_EXIT_REVERT, GSO_WHOLE), (0, 0, 0));
}

#[test]
fn the_default_ring_is_a_ring() {
    for size in [RING_MIN, RING_DEFAULT, RING_MAX] {
        assert!(size.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&size));
    }
}

proptest! {
    /// Integers beyond those with a name are refused, never taken for one.
    #[test]
    fn other_integers_name_nothing(raw in 4..=u32::MAX) {
        prop_assert_eq!(Mode::from_raw(raw), None);
        prop_assert_eq!(OnFull::from_raw(raw), None);
        prop_assert_eq!(OnExit::from_raw(raw), None);
        prop_assert_eq!(Gso::from_raw(raw), None);
    }

    /// The balance closes when each detoured packet stands in one of the counters that the
    /// documentation lists, and not when one packet is missing or counted twice.
    #[test]
    fn the_balance_closes(counts: [u32; 11], other: [u32; 4]) {
        let [reverted, changed, crossed, dropped_by_program, reinjected, dropped_by_policy, refused_shape,
            refused_offload, refused_change, refused_memory, in_flight] = counts.map(u64::from);
        let mut stats = TapStats {
            detoured: counts.iter().copied().map(u64::from).sum(),
            reverted, changed, crossed, dropped_by_program, reinjected, dropped_by_policy,
            refused_shape, refused_offload, refused_change, refused_memory, in_flight,
            // Packets that were never detoured are not part of it.
            passed_ring: other[0].into(),
            dropped_mbufs: other[1].into(),
            injected: other[2].into(),
            cut_off: other[3].into(),
            ..TapStats::default()
        };
        prop_assert!(stats.balances());
        prop_assert_eq!(stats.ended() + in_flight, stats.detoured);
        stats.reverted += 1;
        prop_assert!(!stats.balances());
        stats.detoured += 2;
        prop_assert!(!stats.balances());
    }
}
