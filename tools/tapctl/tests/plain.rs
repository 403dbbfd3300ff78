// SPDX-License-Identifier: GPL-2.0-only

//! Objective: people read what is so, and commands do what they say: which taps are ended, when a
//! balance is wrong, who stands in whose way.

mod common;

use common::{printed, run, Fake, Form, ELSEWHERE};
use nettap::uapi::tap::Mode;
use nix::errno::Errno;
use snapbox::{assert_data_eq, str};
use tapctl::cmd::add::{in_the_way, obstacle};
use tapctl::cmd::{dev, Owners, Verdict};
use tapctl::link::{links, Link};

#[test]
fn taps_are_a_table() {
    let text = printed(&Fake::default(), Form::Plain, &["tap", "list"]);
    assert_data_eq!(
        text,
        str![[r#"
id  dev      mode    owner            ring   detoured  in flight  on-full  on-exit  options
 3  eth0     input   pid 812 (snort)  1/256      1234          4  pass     revert   -
 5  veth1@7  bypass  pid 812 (snort)  0/256         0          0  drop     drop     filter classic, snaplen 128, gso segment

"#]]
    );
}

#[test]
fn quiet_tables_have_no_heading() {
    let text = printed(
        &Fake::default(),
        Form::Quiet,
        &["tap", "list", "--dev", "eth0"],
    );
    assert_data_eq!(
        text,
        str![[r#"
3  eth0  input  pid 812 (snort)  1/256  1234  4  pass  revert  -

"#]]
    );
}

#[test]
fn groups_are_a_table() {
    let text = printed(&Fake::default(), Form::Plain, &["group", "list"]);
    assert_data_eq!(
        text,
        str![[r#"
id  group      access         uid   gid  mbufs  size of each  free  sessions  taps
 0  (default)  CAP_NET_ADMIN  -     -     4096         2 KiB  4000         1     2
 2  web        gid            1000  100   1024         512 B  1000         1     0

"#]]
    );
}

#[test]
fn regions_of_groups_are_lines() {
    let text = printed(&Fake::default(), Form::Plain, &["region", "show"]);
    let line = text.lines().last().expect("lines").trim();
    assert_eq!(
        line,
        "web: 1024 mbufs of 512 B, free 1000, with programs, for new packets 16, with taps 8, in the kernel's hands 0; 1 sessions, 0 taps"
    );
}

#[test]
fn the_balance_is_a_sentence() {
    let (text, ended) = run(&Fake::default(), Form::Plain, &["tap", "stats", "3"]);
    assert_eq!(ended, Ok(Verdict::Good));
    let line = text.lines().last().expect("lines").trim();
    assert_eq!(
        line,
        "balance: detoured 1234 = reverted 1200 + dropped by the program 30 + in flight 4: closes"
    );
}

#[test]
fn a_balance_that_does_not_close_is_no_success() {
    let (text, ended) = run(&Fake::ailing(), Form::Plain, &["tap", "stats"]);
    assert_eq!(ended, Ok(Verdict::Bad));
    assert!(text.contains("DOES NOT CLOSE, 1 missing"), "{text}");
}

#[test]
fn status_says_what_to_do() {
    let text = printed(&Fake::ailing(), Form::Plain, &["status"]);
    assert_data_eq!(
        text,
        str![[r#"
module     loaded, ABI 1, serves this tool (ABI 1)
region     4096 mbufs of 2 KiB: 17 free, 64 for new packets, 32 with taps, 0 in the kernel's hands; 8 MiB in huge pages
sessions   1
taps       2: 1234 packets detoured, 3 in flight, NOT ALL BALANCES CLOSE
past them  17 packets sent on, 0 dropped without the program
warnings
  tap 3 (eth0, pid 812 (snort)): balance does not close: this is a defect of the module: report `tapctl --json tap stats` and dmesg
  tap 3 (eth0, pid 812 (snort)): its program has stalled, so packets pass it by: see what the program waits for; the tap is its own again when it has caught up
  tap 3 (eth0, pid 812 (snort)): 12 packets found the detour ring full: the program is too slow or stopped; a larger ring (`--ring`) rides out bursts
  tap 3 (eth0, pid 812 (snort)): 2 entries of its rings were refused: the program gives back what is not its own, or what was taken from it meanwhile; nothing else is harmed
  only 17 of 4096 mbufs are free: see who has them: `tapctl session list`, `tapctl tap list`; the module's parameters make a larger region

"#]]
    );
}

#[test]
fn a_name_does_nothing_to_the_terminal() {
    let mut fake = Fake::default();
    for session in &mut fake.sessions {
        session.comm[..6].copy_from_slice(b"\x1b[2J\n\0");
    }
    let text = printed(&fake, Form::Quiet, &["tap", "list", "--dev", "eth0"]);
    assert!(text.contains("(\u{fffd}[2J\u{fffd})"), "{text:?}");
}

#[test]
fn tune_says_what_to_change() {
    let text = printed(&Fake::default(), Form::Plain, &["tune"]);
    assert_data_eq!(
        text,
        str![[r#"
tap 3: input of eth0, pid 812 (snort)
  packets  66000 detoured in 3 s; 22010 a second, 50000 in the busiest 100 ms
  missed   30 ring full
  α        200 us between two rounds of its session
  out      1.8 ms each, at most 40 at once
  length   500 bytes, mbufs of such a packet: 1
  ring     at most 32 of 256 cells in use, 256 since it was opened
  sizes
    in packets: p × α = 10, p × (α + 10 ms away) = 510
    cells of each ring: 510 needed; 256 last 5.1 ms
    mbufs of the region: 655 needed; 4096 last 80.6 ms
    max-bytes: 577.1 KiB needed; 32 MiB last 671 ms
  advice
    ring: open the tap with 512 cells: `tapctl tap add --ring 512`, or `ring_cells(512)` in a program
tap 5: bypass of veth1, pid 812 (snort)
  no packets in 3 s, so no advice

"#]]
    );
}

#[test]
fn tune_of_what_is_enough() {
    let mut fake = Fake::default();
    fake.taps[0].ring_cells = 1024;
    let words = &["tune", "--dev", "eth0", "--seconds", "1", "--away", "15"];
    let text = printed(&fake, Form::Quiet, words);
    assert_data_eq!(
        text,
        str![[r#"
  packets  26000 detoured in 1 s; 26030 a second, 50300 in the busiest 100 ms
  missed   30 ring full
  α        200 us between two rounds of its session
  out      1.5 ms each, at most 40 at once
  length   500 bytes, mbufs of such a packet: 1
  ring     at most 32 of 1024 cells in use, 256 since it was opened
  sizes
    in packets: p × α = 11, p × (α + 15 ms away) = 765
    cells of each ring: 765 needed; 1024 last 20.3 ms
    mbufs of the region: 896 needed; 4096 last 80.1 ms
    max-bytes: 812.5 KiB needed; 32 MiB last 667 ms
  advice
    program: packets missed it although there was room: it was away for longer than 15 ms, is too slow, or bursts came faster than 100 ms show; see what it waits for, or plan with a longer `--away`

"#]]
    );
}

#[test]
fn tune_of_no_taps() {
    let text = printed(&Fake::default(), Form::Plain, &["tune", "--dev", "eth1"]);
    assert_eq!(text, "no taps\n");
}

#[test]
fn events_are_lines() {
    let text = printed(&Fake::default(), Form::Plain, &["monitor"]);
    assert_data_eq!(
        text,
        str![[r#"
2026-11-21T19:00:00.001500Z  session-open    session 2, pid 812 (snort)
2026-11-21T19:00:00.003000Z  tap-open        tap 3 (input, eth0), pid 812 (snort)
2026-11-21T19:00:00.004500Z  drop            tap 3 (input, eth0), pid 812 (snort): ring, 49 packets sent on, 0 dropped
2026-11-21T19:00:00.006000Z  reclaim         tap 3 (input, eth0), pid 812 (snort): untap, 20 mbufs, 19 packets sent on, 1 dropped, 7 events before this one lost
2026-11-21T19:00:00.007500Z  tap-close       tap 3 (input, eth0), pid 812 (snort): untap, by pid 900
2026-11-21T19:00:00.009000Z  session-close   session 2, pid 812 (snort): exit
2026-11-21T19:00:00.010500Z  interface-gone  veth1@7: interface-gone, 2 taps, 1 packet dropped
2026-11-21T19:00:00.012000Z  99              session 2, pid 812 (snort)

"#]]
    );
}

#[test]
fn events_of_some_kinds_and_so_many() {
    let cases: [(&[&str], &[&str]); 3] = [
        (
            &["monitor", "tap-open", "tap-close"],
            &["tap-open", "tap-close"],
        ),
        (&["monitor", "--count", "1"], &["session-open"]),
        (&["monitor", "drop", "--count", "5"], &["drop"]),
    ];
    for (words, kinds) in cases {
        let text = printed(&Fake::default(), Form::Plain, words);
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(found, kinds, "{words:?}");
    }
}

#[test]
fn del_ends_what_was_named() {
    let cases: [(&[&str], &[u32]); 4] = [
        (&["tap", "del", "5"], &[5]),
        (&["tap", "del", "3", "5"], &[3, 5]),
        (&["tap", "del", "--all"], &[3, 5]),
        (&["tap", "del", "--dev", "eth0"], &[3]),
    ];
    for (words, ids) in cases {
        let fake = Fake::default();
        printed(&fake, Form::Plain, words);
        assert_eq!(*fake.ended.borrow(), ids, "{words:?}");
    }
}

#[test]
fn del_by_interface_means_this_namespace() {
    let fake = Fake::default();
    assert_eq!(fake.taps[1].netns, ELSEWHERE);
    let (_, ended) = run(&fake, Form::Plain, &["tap", "del", "--dev", "veth1"]);
    assert_eq!(
        ended.expect_err("no such tap here").message,
        "no tap is on veth1"
    );
    assert!(fake.ended.borrow().is_empty());
}

#[test]
fn del_of_no_tap_is_refused() {
    let (_, ended) = run(&Fake::default(), Form::Plain, &["tap", "del", "9"]);
    assert!(ended.expect_err("no such tap").is(Errno::ENOENT));
}

#[test]
fn stats_of_no_tap_is_refused() {
    let (_, ended) = run(&Fake::default(), Form::Plain, &["tap", "stats", "9"]);
    assert!(ended.expect_err("no such tap").is(Errno::ENOENT));
}

#[test]
fn who_stands_in_the_way() {
    let fake = Fake::default();
    let (input, bypass) = (&fake.taps[..1], &fake.taps[1..]);
    assert!(in_the_way(input, Mode::Output).is_none());
    assert!(in_the_way(input, Mode::Input).is_some());
    assert!(in_the_way(input, Mode::Bypass).is_some());
    let found = in_the_way(bypass, Mode::Input).expect("bypass stands alone");
    assert_eq!(
        obstacle(found, &Owners::of(&fake.sessions)),
        "bypass tap 5 held by pid 812 (snort)"
    );
}

/// The members `can` and `why_not` of an interface's record.
fn can(link: &Link, fake: &Fake, taps: usize, privileged: bool) -> String {
    let owners = Owners::of(&fake.sessions);
    let record = dev::record(link, &[], &fake.taps[..taps], &owners, privileged);
    let mut text = Vec::new();
    tapctl::out::Out::new(true, false, &mut text)
        .sheet("dev", &record)
        .expect("writing to memory");
    let document: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    format!("{} {}", document["dev"]["can"], document["dev"]["why_not"])
}

#[test]
fn why_an_interface_cannot_be_tapped() {
    let fake = Fake::default();
    let ethernet = Link {
        name: String::from("eth0"),
        index: 4,
        up: true,
        ethernet: true,
        ..Link::default()
    };
    let tunnel = Link {
        ethernet: false,
        ..ethernet.clone()
    };
    assert_eq!(
        can(&ethernet, &fake, 0, true),
        r#"["input","output","bypass"] []"#
    );
    assert_eq!(
        can(&ethernet, &fake, 1, true),
        r#"["output"] ["input tap 3 held by pid 812 (snort)"]"#
    );
    assert_eq!(
        can(&ethernet, &fake, 0, false),
        r#"[] ["needs CAP_NET_ADMIN: run it with sudo"]"#
    );
    assert_eq!(
        can(&tunnel, &fake, 0, true),
        r#"[] ["its packets have no Ethernet header"]"#
    );
}

#[test]
fn the_kernel_lists_interfaces() {
    let links = links().expect("netlink answers everybody");
    let lo = links.iter().find(|link| link.name == "lo").expect("lo");
    assert_eq!((lo.index, lo.kind.as_str()), (1, "loopback"));
    assert!(lo.loopback && lo.ethernet && lo.mtu > 0);
}
