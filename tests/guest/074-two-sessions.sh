#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: two sessions on different interfaces work at once and know nothing of each other: each sees its own packets,
# and when one is killed the other does not notice.
#
#	client c0 ───── b0 10.1.0.1 box 10.2.0.1 b1 ───── s0 server
#	       (session one: b0)         (session two: b1)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road

# Rings for all that comes: a program that gets no processor for a while is not what is tested.
tapped one box ntdrive relay --tap b0:input --tap b0:output --ring-cells 4096
tapped two box ntdrive relay --tap b1:input --tap b1:output --ring-cells 4096
part "forwarded packets pass both"
receiver recv server 10.2.0.2:7000 --count 1000
datagrams client 10.2.0.2:7000 --count 1000 --gap 30
finish recv
pings client 10.2.0.2 20
for tap in 'b0 input' 'b1 output'; do
	# shellcheck disable=SC2086  # two words
	quiet $tap
	# shellcheck disable=SC2086
	counts $tap ended.reverted -eq 1020
done
counts b0 output ended.reverted -eq 20
counts b1 input ended.reverted -eq 20
expect "sessions" "$(region sessions)" -eq 2

part "one is killed under traffic, the other goes on"
receiver recv server 10.2.0.2:7000 --count 1500 --seconds 30
start sender client ntdrive udp-send 10.2.0.2:7000 --count 1500 --gap 100
reaches b1 output ended.reverted -gt 1100
kill_hard one
finish sender
finish recv
quiet b1 output ended.reverted -eq 2520
expect "sessions" "$(region sessions)" -eq 1
stop two
