#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: what a program drops (dealloc) goes nowhere, is counted, and its mbufs and packets are free again.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
MTU=9000 pair

tapped relay box ntdrive relay --tap b0:input --tap b0:output --do drop --only 7000
for size in 64 8000; do
	part "datagrams of $size bytes"
	receiver recv box 10.1.0.1:7000 --count 0 --until-told
	datagrams client 10.1.0.1:7000 --count 2000 --size $size --gap 20
	heard recv
done
receiver recv client 10.1.0.2:7000 --count 0 --until-told
datagrams box 10.1.0.2:7000 --count 500
heard recv
part "others pass"
pings client 10.1.0.1 10
quiet b0 input
quiet b0 output
counts b0 input ended.dropped_by_program -eq 4000
counts b0 output ended.dropped_by_program -eq 500
counts b0 input ended.reverted -eq 10 detoured.held_bytes -eq 0
expect "mbufs with taps" "$(region held.detoured)" -eq 0
stop relay
