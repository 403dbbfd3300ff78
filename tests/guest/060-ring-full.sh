#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a stopped program whose detour ring is full does what its policy says, packet by packet: with `pass` the
# rest goes on without it, with `drop` it is dropped; the counters say exactly what was sent.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0 with 16 cells; its program is stopped)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# 116 datagrams to a stopped program.
overwhelm() {
	tapped relay box ntdrive relay --tap b0:input --ring-cells 16 --on-full "$1"
	kill -STOP "${PIDS[relay]}"
	receiver recv box 10.1.0.1:7000 --count "$2" --unordered
	datagrams client 10.1.0.1:7000 --count 116
	counts b0 input detoured.packets -eq 16 detoured.in_flight -eq 16
	balance
	kill -CONT "${PIDS[relay]}"
	finish recv
	quiet b0 input ended.reverted -eq 16
}

part pass
overwhelm pass 116
counts b0 input passed.ring -eq 100 dropped.ring -eq 0
stop relay

part drop
overwhelm drop 16
counts b0 input passed.ring -eq 0 dropped.ring -eq 100
stop relay

part "a stopped program with pass: TCP goes on, past it"
noise "$WORK/data" 2
tapped relay box ntdrive relay --tap b0:input --tap b0:output --ring-cells 16
tcp_sink sink box 8000 "$WORK/there"
kill -STOP "${PIDS[relay]}"
# What is in the rings when they are full waits for the program; the connection must not be among it.
datagrams client 10.1.0.1:9 --count 40
datagrams box 10.1.0.2:9 --count 40 --tolerant
counts b0 input passed.ring -gt 0
counts b0 output passed.ring -gt 0
tcp_send client "$WORK/data" 10.1.0.1 8000
kill -CONT "${PIDS[relay]}"
finish sink
same "$WORK/data" "$WORK/there"
quiet b0 input
quiet b0 output
stop relay
