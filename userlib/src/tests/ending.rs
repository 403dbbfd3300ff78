// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! How things end: in any order, on any thread, on one side only, and across `fork`.

#![allow(unsafe_code)]

use std::sync::Arc;

use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{fork, ForkResult};

use crate::mock::Machine;
use crate::Error;

#[test]
fn session_tap_and_mbuf_drop_in_any_order() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let (session, kernel) = Machine::default().session();
        let tap = session.tap("eth0").input().open().unwrap();
        kernel.packet(0, b"last").unwrap();
        let mbuf = tap.recv().unwrap();
        let (mut session, mut tap, mut mbuf) = (Some(session), Some(tap), Some(mbuf));
        for what in order {
            match what {
                0 => drop(session.take()),
                1 => drop(tap.take()),
                _ => {
                    let mbuf = mbuf.take().unwrap();
                    assert_eq!(mbuf.bytes(), b"last");
                    drop(mbuf);
                }
            }
        }
        kernel.serve();
        assert_eq!(kernel.tally(), (0, 1, 0), "{order:?}");
        assert_eq!(Arc::strong_count(&kernel), 1, "the session has closed");
    }
}

#[test]
fn an_mbuf_drops_on_another_thread() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel.packet(0, b"far").unwrap();
    let mbuf = tap.recv().unwrap();
    drop((session, tap));
    std::thread::spawn(move || drop(mbuf)).join().unwrap();
    kernel.serve();
    assert_eq!(kernel.state().dropped.len(), 1);
}

#[test]
fn a_tap_that_has_ended_says_so_and_keeps_no_packet() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel.end(0);
    assert_eq!(tap.flush(1, None), Err(Error::Ended));
    let mut waiter = crate::Wait::Sleep.waiter();
    assert_eq!(
        session.wait_with(&mut waiter, &[&tap], None),
        Err(Error::Ended)
    );
}

/// What is put into the ring of a tap that has ended goes nowhere, so it stays with the program.
#[test]
fn what_a_tap_that_has_ended_did_not_take_comes_back() {
    let (session, kernel) = Machine::default().session();
    let there = session.tap("eth0").input().open().unwrap();
    let over = session.tap("eth1").output().open().unwrap();
    for bytes in [b"a", b"b", b"c", b"d", b"e", b"f"] {
        kernel.packet(0, bytes).unwrap();
    }
    over.revert(there.recv().unwrap()).unwrap();
    let mut first: Vec<_> = there.recv().into_iter().collect();
    over.revert_batch(&mut first).unwrap();
    kernel.end(1);
    assert_eq!(kernel.tally(), (2, 0, 0), "put before the end");

    let rejected = over.revert(there.recv().unwrap()).unwrap_err();
    assert_eq!(rejected.error, Error::Ended);
    assert_eq!(rejected.value.bytes(), b"c");
    there.revert(rejected.value).unwrap();

    let mut batch: Vec<_> = there.recv().into_iter().collect();
    assert_eq!(over.revert_batch(&mut batch), Err(Error::Ended));
    assert_eq!(over.revert_all(&mut batch), Err(Error::Ended));
    assert_eq!(batch.len(), 1);
    there.revert_all(&mut batch).unwrap();

    let mut burst = session.burst(4);
    assert_eq!(there.recv_burst(&mut burst), Ok(2));
    assert_eq!(over.revert_burst(&mut burst), Err(Error::Ended));
    assert_eq!(burst.len(), 2);
    there.revert_burst_all(&mut burst).unwrap();

    assert_eq!(over.send_burst(&[b"new"]), Err(Error::Ended));
    kernel.serve();
    assert_eq!(kernel.tally(), (6, 1, 0), "the new one was not needed");
}

/// Also when its ring is full, where there is no place to be told from.
#[test]
fn a_full_ring_of_a_tap_that_has_ended_says_so() {
    let machine = Machine {
        cells: 2,
        prealloc: 2,
        ..Machine::default()
    };
    let (session, kernel) = machine.session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel.end(0);
    for _ in 0..4 {
        let rejected = tap.revert(session.alloc().unwrap()).unwrap_err();
        assert_eq!(rejected.error, Error::Ended);
        drop(rejected);
        kernel.serve();
    }
    let mut batch: Vec<_> = session.alloc().into_iter().collect();
    assert_eq!(tap.revert_batch(&mut batch), Err(Error::Ended));
    assert_eq!(batch.len(), 1);
}

#[test]
fn a_child_finds_nothing_and_breaks_nothing() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel.packet(0, b"parent").unwrap();
    kernel.packet(0, b"next").unwrap();
    let mut mbuf = tap.recv().unwrap();
    let calls = session.system_calls();

    // SAFETY: the child touches this thread's values and the allocator, which glibc keeps usable
    // across `fork`, and leaves by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let inert = tap.recv().is_none()
                && !tap.is_ready()
                && session.alloc().is_none()
                && mbuf.bytes().is_empty()
                && mbuf.bytes_mut().is_empty()
                && mbuf.meta().packet_len == 0
                && mbuf.push_head(1).is_ok_and(|new| new.is_empty())
                && session.push() == Err(Error::Forked)
                && tap.flush(1, None) == Err(Error::Forked)
                && tap.stats().is_err()
                && tap
                    .revert(mbuf)
                    .is_err_and(|rejected| rejected.error == Error::Forked);
            drop((tap, session));
            // SAFETY: ends the child without running what belongs to the parent's test.
            unsafe { libc_exit(if inert { 0 } else { 1 }) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    assert_eq!(
        (mbuf.bytes(), session.system_calls()),
        (&b"parent"[..], calls)
    );
    assert_eq!(tap.recv().unwrap().bytes(), b"next");
    tap.revert(mbuf).unwrap();
    kernel.serve();
    assert_eq!(kernel.tally(), (1, 1, 0));
}

extern "C" {
    #[link_name = "_exit"]
    fn libc_exit(status: i32) -> !;
}
