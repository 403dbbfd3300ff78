#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an interface that is deleted, or moved to another namespace, while packets of it are held goes at once; the
# program hears of it; nothing leaks. An interface that goes down and comes up keeps its tap.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0, 20 packets held in each)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
netns elsewhere

hold() {
	tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold --only 7000 --until-gone
	datagrams client 10.1.0.1:7000 --count 20
	datagrams box 10.1.0.2:7000 --count 20
	reaches b0 input detoured.in_flight -eq 20
	reaches b0 output detoured.in_flight -eq 20
	balance
}

part deleted
hold
quickly "ip link del" ip -n box link del b0
finish relay
said relay '^gone' || fail "the program was not told"
open_taps 0 || fail "a tap outlived its interface"

part moved
wire client c0 "$MAC_C0" box b0 "$MAC_B0"
address client c0 10.1.0.2/24
address box b0 10.1.0.1/24
hold
quickly "ip link set netns" ip -n box link set b0 netns elsewhere
finish relay
said relay '^gone' || fail "the program was not told"
ip -n elsewhere link set b0 netns box
ip -n box link set b0 up
address box b0 10.1.0.1/24

part "a new tap on it works"
tapped relay box ntdrive relay --tap b0:input
pings client 10.1.0.1
part "down and up again"
ip -n box link set b0 down
ip -n box link set b0 up
pings client 10.1.0.1 20
quiet b0 input
stop relay

part "deleted under traffic"
for _ in 1 2 3; do
	tapped relay box ntdrive relay --tap b0:input --tap b0:output --until-gone
	start flood client ping -q -n -f 10.1.0.1
	reaches b0 input ended.reverted -gt 100
	ip -n box link del b0
	finish relay
	kill_hard flood
	wire client c0 "$MAC_C0" box b0 "$MAC_B0"
	address client c0 10.1.0.2/24
	address box b0 10.1.0.1/24
done
