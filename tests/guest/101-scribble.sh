#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a program that writes over all shared memory that it may write, lies in every header and names mbufs of
# others, while packets flow through its taps, costs nobody else a packet; its own balance closes. MINUTES= says how long.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	   (INPUT and OUTPUT taps on b0: the scribbler)  (INPUT and OUTPUT taps on b1: the victim)
#	                               box b2 10.3.0.1 ───── s1 10.3.0.2 server
#	                                   (INPUT and OUTPUT taps on b2: a victim in a group of its own)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
seconds=$((${MINUTES:-0} * 60))
((seconds)) || seconds=5
road
victim
start flood client ping -q -n -i "$(often 2)" 10.1.0.1
start large client ping -q -n -i "$(often 20)" -s 20000 10.1.0.1

part "$seconds seconds of scribbling"
ns box nthostile scribble --tap b0:input --tap b0:output --to 10.1.0.2:9 --seconds "$seconds" --seed "${SEED:-$RANDOM}" |
	tee "$WORK/scribble.log"
kill_hard flood
kill_hard large
expect "tricks of every kind" "$(summary scribble '[.tricks[] | select(. == 0)] | length')" -eq 0
expect "entries refused" "$(summary scribble .taps.refused_entries)" -gt 0
figure "$(summary scribble '"\(.seconds) s of scribbling, seed \(.seed): \(.tricks | add) tricks, \(.deeds | add) packets dealt with in " +
	"\(.rounds) sessions; refused: \(.taps.refused_entries) entries, \(.taps.refused_packets) packets"')"
unharmed
