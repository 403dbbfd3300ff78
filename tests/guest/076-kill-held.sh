#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: kill -9 while packets are held: with on_exit revert every one goes on, in order, exactly once; with drop none
# does. Session, tap and mbufs are gone at once. KILLS= says how often it is killed under traffic (3).
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0, their program holds 200 packets in each)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# killed POLICY COUNT
killed() {
	tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold --only 7000 --on-exit "$1"
	receiver into box 10.1.0.1:7000 --count "$2" --until-told
	receiver out client 10.1.0.2:7000 --count "$2" --until-told
	datagrams client 10.1.0.1:7000 --count 200
	datagrams box 10.1.0.2:7000 --count 200
	reaches b0 input detoured.in_flight -eq 200
	reaches b0 output detoured.in_flight -eq 200
	balance
	kill_hard relay
	await "the taps are gone" open_taps 0
	expect "sessions" "$(region sessions)" -eq 0
	heard into
	heard out
}

part "on_exit revert"
killed revert 200
part "on_exit drop"
killed drop 0

part "killed again and again under traffic: every packet arrives once"
for ((round = 1; round <= ${KILLS:-3}; round++)); do
	tapped relay box ntdrive relay --tap b0:input --tap b0:output
	receiver recv box 10.1.0.1:7000 --count 2000 --unordered --seconds 20
	start sender client ntdrive udp-send 10.1.0.1:7000 --count 2000 --gap 20
	reaches b0 input ended.reverted -gt $((round * 50))
	kill_hard relay
	finish sender
	finish recv
done
