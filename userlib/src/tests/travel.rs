// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! Packets come up, go back, go elsewhere, are dropped, are made; rings run full; nobody is lost.

use std::time::Duration;

use crate::mock::{Holder, Machine};
use crate::{Error, Mbuf, Mode};

#[test]
fn a_packet_reverts_as_it_was_without_a_system_call() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let before = session.system_calls();

    assert!(tap.recv().is_none());
    let index = kernel.packet(0, b"hello").unwrap();
    let mbuf = tap.recv().unwrap();
    assert_eq!(
        (mbuf.bytes(), mbuf.index(), mbuf.is_changed()),
        (&b"hello"[..], index, false)
    );
    tap.revert(mbuf).unwrap();

    assert_eq!(session.system_calls(), before);
    kernel.serve();
    let state = kernel.state();
    assert_eq!((state.sent.len(), state.refused), (1, 0));
    assert_eq!((state.sent[0].index, state.sent[0].changed), (index, false));
}

#[test]
fn a_mutable_look_makes_it_changed() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").output().open().unwrap();
    kernel.packet(0, b"hello").unwrap();
    let mut mbuf = tap.recv().unwrap();
    mbuf.bytes_mut()[0] = b'j';
    tap.revert(mbuf).unwrap();
    kernel.serve();
    assert!(kernel.state().sent[0].changed);
    assert_eq!(kernel.state().sent[0].bytes, b"jello");
}

#[test]
fn a_packet_leaves_through_another_tap_but_not_through_another_session() {
    let (session, kernel) = Machine::default().session();
    let (left, right) = (
        session.tap("eth0").bypass().open().unwrap(),
        session.tap("eth1").mode(Mode::Bypass).open().unwrap(),
    );
    let (stranger, _other) = Machine::default().session();
    let strange = stranger.tap("eth0").bypass().open().unwrap();

    kernel.packet(0, b"across").unwrap();
    let mbuf = left.recv().unwrap();
    let rejected = strange.revert(mbuf).unwrap_err();
    assert_eq!(rejected.error, Error::OtherSession);
    right.revert(rejected.value).unwrap();
    kernel.serve();
    assert_eq!(kernel.state().sent[0].tap, 1);

    kernel.packet(0, b"one").unwrap();
    let mut batch = vec![left.recv().unwrap()];
    assert_eq!(strange.revert_batch(&mut batch), Err(Error::OtherSession));
    assert_eq!(batch.len(), 1);
}

#[test]
fn dropping_a_packet_gives_it_to_the_kernel_once() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let ready = kernel.held();
    let index = kernel.packet(0, b"gone").unwrap();
    drop(tap.recv().unwrap());
    kernel.serve();
    assert_eq!(kernel.tally(), (0, 1, 0));
    assert_eq!(kernel.state().dropped, [index]);
    assert_eq!(kernel.held(), ready);
}

#[test]
fn a_full_revert_ring_hands_the_packet_back_and_waiting_finds_room() {
    let machine = Machine {
        cells: 16,
        ..Default::default()
    };
    let (session, kernel) = machine.session();
    let tap = session.tap("eth0").input().open().unwrap();
    for round in 0..2 {
        for number in 0..16u8 {
            kernel.packet(0, &[round, number]).unwrap();
        }
        let mut batch = Vec::new();
        assert_eq!(tap.recv_batch(&mut batch, 100), 16);
        let room = if round == 0 { 16 } else { 0 };
        assert_eq!(tap.revert_batch(&mut batch), Ok(room));
        if round == 1 {
            let rejected = tap.revert(batch.remove(0)).unwrap_err();
            assert_eq!(rejected.error, Error::Full);
            batch.insert(0, rejected.value);
            assert_eq!(tap.backlog(), 16);
            tap.revert_all(&mut batch).unwrap();
        }
        assert!(batch.is_empty());
    }
    tap.flush(16, Some(Duration::from_millis(1))).unwrap();
    let order: Vec<_> = kernel
        .state()
        .sent
        .iter()
        .map(|sent| sent.bytes.clone())
        .collect();
    let expected: Vec<_> = (0..2)
        .flat_map(|round| (0..16).map(move |n| vec![round, n]))
        .collect();
    assert_eq!(order, expected);
}

#[test]
fn a_full_dealloc_ring_loses_nothing() {
    let (session, kernel) = Machine {
        cells: 16,
        ..Default::default()
    }
    .session();
    let tap = session.tap("eth0").input().open().unwrap();
    let mut held = Vec::new();
    for _ in 0..6 {
        (0..16).for_each(|_| assert!(kernel.packet(0, b"x").is_some()));
        tap.recv_batch(&mut held, usize::MAX);
    }
    assert_eq!(held.len(), 96);
    drop(held);
    kernel.serve();
    assert_eq!(kernel.tally(), (0, 96, 0));
}

#[test]
fn several_threads_receive_edit_drop_and_revert_at_once() {
    let (session, kernel) = Machine {
        mbufs: 512,
        ..Default::default()
    }
    .session();
    let tap = session.tap("eth0").input().open().unwrap();
    const PACKETS: usize = 4000;
    let ended = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut batch: Vec<Mbuf> = Vec::new();
                while ended.load(std::sync::atomic::Ordering::Relaxed) < PACKETS {
                    let count = tap.recv_batch(&mut batch, 5);
                    ended.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                    batch.truncate(count.saturating_sub(1));
                    batch.iter_mut().for_each(|mbuf| mbuf.bytes_mut().fill(7));
                    tap.revert_all(&mut batch).unwrap();
                    std::thread::yield_now();
                }
            });
        }
        let mut made = 0;
        while made < PACKETS {
            made += usize::from(kernel.packet(0, &[1; 60]).is_some());
            kernel.serve();
        }
    });
    kernel.serve();
    let state = kernel.state();
    assert_eq!(
        (state.sent.len() + state.dropped.len(), state.refused),
        (PACKETS, 0)
    );
    assert!(state.sent.iter().all(|sent| sent.bytes == [7; 60]));
}

#[test]
fn a_sleeping_kernel_is_woken_by_one_doorbell() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    kernel.packet(0, b"a").unwrap();
    kernel.packet(0, b"b").unwrap();
    let (first, second) = (tap.recv().unwrap(), tap.recv().unwrap());
    kernel.sleep(true);
    let calls = session.system_calls();
    tap.revert(first).unwrap();
    assert_eq!(
        (kernel.state().doorbells, session.system_calls() - calls),
        (1, 1)
    );
    drop(second);
    assert_eq!(kernel.state().doorbells, 2);

    let before = session.system_calls();
    assert_eq!(tap.revert_batch(&mut Vec::new()), Ok(0));
    assert_eq!(session.system_calls(), before, "nothing wakes nobody");
    kernel.sleep(false);
    assert_eq!(kernel.tally(), (1, 1, 0));
}

#[test]
fn alloc_asks_a_sleeping_kernel_for_more_and_pull_fills() {
    let (session, kernel) = Machine {
        prealloc: 4,
        ..Default::default()
    }
    .session();
    let held: Vec<_> = std::iter::from_fn(|| session.alloc()).collect();
    assert_eq!(held.len(), 4);
    session.pull(3, None).unwrap();
    assert!(session.alloc().is_some());
    kernel.sleep(true);
    let more: Vec<_> = std::iter::from_fn(|| session.alloc()).take(20).collect();
    assert_eq!(
        more.len(),
        20,
        "each time it runs empty the kernel is asked"
    );
    drop((held, more));
    session.push().unwrap();
    let alloc = kernel
        .state()
        .holders
        .iter()
        .filter(|one| **one == Holder::Alloc)
        .count();
    assert_eq!(
        (alloc, kernel.tally().2),
        (4, 0),
        "only what the ring keeps ready"
    );
}

#[test]
fn a_tap_tells_what_it_is_and_a_refusal_says_what_to_do() {
    let (session, _kernel) = Machine::default().session();
    assert_eq!((session.info().session, session.info().mbufs), (7, 128));
    let tap = session.tap("eth0").output().snaplen(96).open().unwrap();
    assert_eq!(
        (tap.id(), tap.ifindex(), tap.name(), tap.mode()),
        (1, 10, "eth0", Mode::Output)
    );
    assert_eq!(tap.stats().unwrap().id, 1);

    let busy = session.tap("busy0").input().open().unwrap_err().to_string();
    assert!(
        busy.starts_with("interface_tap busy0: EBUSY") && busy.contains("tapctl tap list"),
        "{busy}"
    );
    assert!(matches!(session.tap("eth0").open(), Err(Error::Invalid(_))));
    for name in [
        "sixteen-letters-",
        "zero\0zero",
        "much-longer-than-any-interface",
    ] {
        let error = session.tap(name).input().open().unwrap_err();
        assert_eq!(error.errno(), nix::errno::Errno::ENODEV as i32);
    }
}

#[test]
fn a_burst_takes_what_is_there_and_sends_on_in_order() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let mut burst = session.burst(4);
    assert_eq!(tap.recv_burst(&mut burst), Ok(0));
    let before = session.system_calls();
    let sent: Vec<u32> = (0..6u8)
        .map(|n| kernel.packet(0, &[n; 60]).unwrap())
        .collect();

    assert_eq!(tap.recv_burst(&mut burst), Ok(4));
    assert_eq!(tap.recv_burst(&mut burst), Ok(0), "there is room for four");
    for (n, mut packet) in burst.packets().enumerate() {
        assert_eq!(packet.bytes(), [n as u8; 60]);
        assert!(!packet.is_chain());
        if n == 2 {
            packet.bytes_mut()[0] = 9;
        }
    }
    assert_eq!(tap.revert_burst(&mut burst), Ok(4));
    assert!(burst.is_empty());
    assert_eq!(tap.recv_burst(&mut burst), Ok(2));
    assert_eq!(tap.revert_burst(&mut burst), Ok(2));
    assert_eq!(session.system_calls(), before);

    kernel.serve();
    let state = kernel.state();
    let order: Vec<u32> = state.sent.iter().map(|sent| sent.index).collect();
    assert_eq!((order, state.refused), (sent, 0));
    let changed: Vec<bool> = state.sent.iter().map(|sent| sent.changed).collect();
    assert_eq!(changed, [false, false, true, false, false, false]);
    assert_eq!(state.sent[2].bytes[..2], [9, 2]);
}

#[test]
fn what_is_left_in_a_burst_is_dropped_and_what_is_popped_lives_on() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let ready = kernel.held();
    let indices: Vec<u32> = (0..3)
        .map(|_| kernel.packet(0, b"burst").unwrap())
        .collect();
    let mut burst = session.burst(8);
    tap.recv_burst(&mut burst).unwrap();
    burst.packets().next().unwrap().bytes_mut()[0] = b'B';
    let first = burst.pop().unwrap();
    assert_eq!((first.index(), first.is_changed()), (indices[0], true));
    drop(burst);
    kernel.serve();
    assert_eq!(kernel.state().dropped, indices[1..]);
    tap.revert(first).unwrap();
    kernel.serve();
    assert_eq!(kernel.state().sent[0].bytes, b"Burst");
    assert_eq!(kernel.held(), ready);
    assert_eq!(kernel.state().refused, 0);
}

#[test]
fn a_burst_of_another_session_is_refused() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").input().open().unwrap();
    let (stranger, _other) = Machine::default().session();
    let mut strange = stranger.burst(4);
    assert_eq!(tap.recv_burst(&mut strange), Err(Error::OtherSession));
    kernel.packet(0, b"one").unwrap();
    let mut burst = session.burst(4);
    tap.recv_burst(&mut burst).unwrap();
    let theirs = stranger.tap("eth0").input().open().unwrap();
    assert_eq!(theirs.revert_burst(&mut burst), Err(Error::OtherSession));
    assert_eq!(burst.len(), 1);
}

#[test]
fn new_frames_go_out_many_at_a_time_in_order() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").output().open().unwrap();
    let before = kernel.held();
    let frames: Vec<Vec<u8>> = (0..3u8).map(|n| vec![n; 60 + usize::from(n)]).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(tap.send_burst(&frames), Ok(3));
    kernel.serve();
    let state = kernel.state();
    let sent: Vec<&[u8]> = state
        .sent
        .iter()
        .map(|sent| sent.bytes.as_slice())
        .collect();
    assert_eq!((sent, state.refused), (frames, 0));
    drop(state);
    assert_eq!(kernel.held(), before);
}

#[test]
fn a_frame_longer_than_an_mbuf_is_refused_and_none_is_sent() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").output().open().unwrap();
    let long = vec![0u8; 1 << 16];
    let before = kernel.held();
    let refused = tap.send_burst(&[&[1; 60], &long]);
    assert!(
        matches!(refused, Err(Error::NoRoom { wanted: 65536, .. })),
        "{refused:?}"
    );
    kernel.serve();
    assert_eq!(kernel.held(), before);
    assert!(kernel.state().sent.is_empty());
}

#[test]
fn frames_that_find_no_mbuf_or_no_room_are_the_callers_still() {
    let (session, kernel) = Machine::default().session();
    let tap = session.tap("eth0").output().open().unwrap();
    let frame: &[u8] = &[7; 60];
    let many = vec![frame; 1000];
    let went = tap.send_burst(&many).unwrap();
    assert!((1..1000).contains(&went), "{went}");
    kernel.serve();
    let state = kernel.state();
    assert_eq!((state.sent.len(), state.refused), (went, 0));
}
