// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! The wait strategies: what each costs, and that each sees the packet and the time.

use std::time::{Duration, Instant};

use crate::mock::Machine;
use crate::{Error, Wait};

const SHORT: Duration = Duration::from_millis(3);

#[test]
fn every_strategy_sees_the_time_and_a_packet_of_another_thread() {
    for wait in [Wait::Poll, Wait::Sleep, Wait::Adaptive { spin: 100 }] {
        let (session, kernel) = Machine::default().session();
        let tap = session.tap("eth0").input().open().unwrap();
        let mut waiter = wait.waiter();
        let begin = Instant::now();
        assert_eq!(
            session.wait_with(&mut waiter, &[&tap], Some(SHORT)),
            Ok(false)
        );
        assert!(begin.elapsed() >= SHORT, "{wait:?}");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(SHORT);
                kernel.packet(0, b"now").unwrap();
            });
            assert_eq!(
                session.wait_with(&mut waiter, &[&tap], None),
                Ok(true),
                "{wait:?}"
            );
        });
        assert!(tap.recv().is_some());
    }
}

#[test]
fn polling_and_finding_make_no_system_call() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let calls = session.system_calls();
    let mut poll = Wait::Poll.waiter();
    assert_eq!(
        session.wait_with(&mut poll, &[&tap], Some(SHORT)),
        Ok(false)
    );
    kernel.packet(0, b"there").unwrap();
    for wait in [Wait::Poll, Wait::Sleep, Wait::Adaptive { spin: 1 }] {
        assert_eq!(
            session.wait_with(&mut wait.waiter(), &[&tap], None),
            Ok(true)
        );
    }
    assert_eq!(session.system_calls(), calls);
}

#[test]
fn adaptive_sleeps_when_looking_is_in_vain() {
    let (session, _kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let calls = session.system_calls();
    let mut waiter = Wait::Adaptive { spin: 8 }.waiter();
    for _ in 0..3 {
        assert_eq!(
            session.wait_with(&mut waiter, &[&tap], Some(SHORT)),
            Ok(false)
        );
    }
    assert_eq!(session.system_calls() - calls, 3);
}

#[test]
fn the_session_waits_for_any_of_its_taps() {
    let (session, kernel) = Machine::default().session();
    let taps = [
        session.tap("eth0").input().open().unwrap(),
        session.tap("eth1").input().open().unwrap(),
    ];
    assert_eq!(session.wait(Some(SHORT)), Ok(false));
    kernel.packet(1, b"second").unwrap();
    assert_eq!(session.wait(None), Ok(true));
    assert!(taps[0].recv().is_none() && taps[1].recv().is_some());

    let (stranger, _other) = Machine::default().session();
    let mut waiter = Wait::Poll.waiter();
    assert_eq!(
        stranger.wait_with(&mut waiter, &[&taps[0]], None),
        Err(Error::OtherSession)
    );
}
