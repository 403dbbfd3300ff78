// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Policies of an open tap: a request names what was said and nothing else.

use std::time::Duration;

use nettap_uapi::ioctl::{self, Set};
use nettap_uapi::tap::{NoConsumer, OnExit, OnFull, FILTER_CLASSIC};
use nix::errno::Errno;
use zerocopy::IntoBytes;

use crate::admin::{set_on, Policies};
use crate::filter::{Filter, Instruction};
use crate::mock::Machine;

/// What is asked of the kernel for these policies.
fn asked(policies: &Policies) -> Set {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    set_on(&kernel, tap.id(), policies).unwrap();
    let asked = kernel.state().set.pop().unwrap();
    assert_eq!(asked.id, tap.id());
    asked
}

#[test]
fn each_policy_is_asked_for_alone() {
    let none = Policies::new;
    let is = |policies: Policies, wanted: Set| {
        let wanted = Set { id: 1, ..wanted };
        assert_eq!(
            asked(&policies).as_bytes(),
            wanted.as_bytes(),
            "{policies:?}"
        );
    };
    let what = |what| Set {
        what,
        ..Set::default()
    };
    is(
        none().on_full(OnFull::Drop),
        Set {
            on_full: OnFull::Drop as u32,
            ..what(ioctl::SET_ON_FULL)
        },
    );
    is(
        none().on_exit(OnExit::Drop),
        Set {
            on_exit: OnExit::Drop as u32,
            ..what(ioctl::SET_ON_EXIT)
        },
    );
    is(
        none().no_consumer(NoConsumer::Hold),
        Set {
            no_consumer: NoConsumer::Hold as u32,
            ..what(ioctl::SET_NO_CONSUMER)
        },
    );
    is(
        none().snaplen(60),
        Set {
            snaplen: 60,
            ..what(ioctl::SET_SNAPLEN)
        },
    );
    is(
        none().max_bytes(1 << 40),
        Set {
            max_bytes: 1 << 40,
            ..what(ioctl::SET_MAX_BYTES)
        },
    );
    is(none().no_filter(), what(ioctl::SET_FILTER));
    is(none(), Set::default());
}

#[test]
fn a_time_that_is_not_zero_does_not_become_zero() {
    for (age, us) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(200), 200_000),
        (Duration::MAX, u64::MAX),
    ] {
        let asked = asked(&Policies::new().max_age(age));
        assert_eq!((asked.what, asked.max_age_us), (ioctl::SET_MAX_AGE, us));
    }
}

#[test]
fn several_are_one_request_and_the_last_word_on_each_counts() {
    let all = [Instruction {
        code: 6,
        jt: 0,
        jf: 0,
        k: 60,
    }; 3];
    let policies = Policies::new()
        .on_full(OnFull::Drop)
        .snaplen(60)
        .no_filter()
        .filter(Filter::classic(all))
        .on_full(OnFull::Pass);
    let asked = asked(&policies);
    assert_eq!(
        asked.what,
        ioctl::SET_ON_FULL | ioctl::SET_SNAPLEN | ioctl::SET_FILTER
    );
    assert_eq!((asked.on_full, asked.snaplen), (OnFull::Pass as u32, 60));
    assert_eq!(
        (asked.filter.kind, asked.filter.len_or_fd),
        (FILTER_CLASSIC, 3)
    );
}

#[test]
fn a_tap_that_is_not_there_is_named() {
    let (_session, kernel) = Machine::default().session();
    let error = set_on(&kernel, 7, &Policies::new().snaplen(60)).unwrap_err();
    assert_eq!(error.errno(), Errno::ENOENT as i32);
    assert!(error.to_string().contains('7'), "{error}");
}
