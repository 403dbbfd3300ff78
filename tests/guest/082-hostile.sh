#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: forged, duplicate and stale entries, foreign mbufs, scribbled positions and tags are counted by cause and
# change nothing else; the traffic of another session goes on meanwhile. So does others' on the processor that goes through
# the largest ring that there can be, which somebody keeps full of lies.
#
#	client c0 10.1.0.2 ───── b0 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	        (OUTPUT tap on b0: the liar)  (INPUT and OUTPUT taps on b1: the neighbour)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road

tapped neighbour box ntdrive relay --tap b1:input --tap b1:output
receiver beside box 10.2.0.1:7001 --count 1000000 --some --seconds 1000
start sender server ntdrive udp-send 10.2.0.1:7001 --count 1000000 --gap 500

receiver recv client 10.1.0.2:7000 --count 1000000 --some --unordered --seconds 120
ns box ntdrive raw hostile b0 10.1.0.2:7000 | tee "$WORK/hostile.log"
heard recv
expect "packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/hostile.log")"

part "the neighbour's traffic"
kill_hard sender
heard beside
quiet b1 input
expect "what the neighbour's tap passed" "$(count b1 input ended.reverted)" -eq "$(got beside unique)"
expect "its first and last number" "$(got beside first)-$(got beside last)" = "0-$(($(got beside unique) - 1))"
stop neighbour
