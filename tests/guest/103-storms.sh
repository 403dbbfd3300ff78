#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: signals without end in sleeping calls, sessions that go from process to process, executed programs that
# inherit one, forks of forks that share one: every packet arrives once, and what is the last one's ends with him.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
times=${MINUTES:-1}
pair

# storm NAME OPTION…: while packets flow through its taps, both ways.
storm() {
	part "$1"
	flow "in_$1" client box 10.1.0.1:7000
	flow "out_$1" box client 10.1.0.2:7000
	ns box nthostile storm "$1" --tap b0:input --tap b0:output "${@:2}" | tee "$WORK/$1.log"
	flowed "in_$1"
	flowed "out_$1"
	expect "packets lost" "$(summary "$1" .lost)" -eq 0
	expect "packets that came to the taps" "$(summary "$1" .taps.detoured)" -gt 0
	open_taps 0 || fail "taps are left"
	expect "free mbufs" "$(region held.free)" -eq "$(region mbufs)"
}

storm signals --seconds $((2 * times))
figure "$(summary signals '"\(.signals) signals, \(.interrupted) calls interrupted, \(.echoed) packets echoed meanwhile"')"
storm pass --hands $((6 * times))
figure "$(summary pass '"a session through \(.hands) hands by SCM_RIGHTS, each killed: none of \(.taps.detoured) packets lost"')"
storm exec
storm forks --processes $((60 * times))
figure "$(summary forks '"\(.processes) forks and theirs shared a session: none of \(.taps.detoured) packets lost"')"
