#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: when no mbuf is free, packets follow the tap's policy and are counted, sessions that need mbufs are told,
# and everything is as before when mbufs come back.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0, a region of 256 mbufs, its program holds them)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
rmmod nettap
insmod "$NETTAP_MODULE" mbufs=256
expect "mbufs of the region" "$(region mbufs)" = 256

# exhaust POLICY COUNTER OPTION…: 500 datagrams are held until no mbuf is left.
exhaust() {
	tapped relay box ntdrive relay --tap b0:input --ring-cells 512 --prealloc 16 --do hold --only 7000 --on-full "$1"
	receiver recv box 10.1.0.1:7000 --count 500 --unordered --seconds 60 "${@:3}"
	datagrams client 10.1.0.1:7000 --count 500 --gap 50
	reaches b0 input "$2.mbufs" -gt 0
	detoured=$(count b0 input detoured.packets)
	expect "detoured packets" "$detoured" -gt 100
	expect "detoured packets" "$detoured" -le 256
	counts b0 input "$2.mbufs" -eq $((500 - detoured))
	balance
}

part pass
exhaust pass passed
part "another session gets no mbufs, and is told"
expect "map with 16 mbufs" "$(ntdrive raw try-map)" = ENOMEM
release relay
finish recv
expect "arrived" "$(got recv unique)" -eq 500
quiet b0 input ended.reverted -eq "$detoured"
part "and when they are back it gets some"
expect "map with 16 mbufs" "$(ntdrive raw try-map)" = ok
stop relay

part drop
exhaust drop dropped --some
release relay
quiet b0 input
heard recv
expect "arrived" "$(got recv unique)" -eq "$detoured"
stop relay
pings client 10.1.0.1

rmmod nettap
insmod "$NETTAP_MODULE"
