#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a port of a kernel bridge can be tapped, and the bridge itself; both go on bridging.
#
#	client c0 10.1.0.2 ───── b0 ─┬─ br0 10.1.0.1 box
#	server s0 10.1.0.3 ───── b1 ─┘  (taps on b0 and on br0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
netns client box server
wire client c0 "$MAC_C0" box b0 "$MAC_B0"
wire server s0 "$MAC_S0" box b1 "$MAC_B1"
ip -n box link add br0 up type bridge
ip -n box link set b0 master br0
ip -n box link set b1 master br0
address client c0 10.1.0.2/24
address server s0 10.1.0.3/24
address box br0 10.1.0.1/24
pings client 10.1.0.3 2
noise "$WORK/data" 2

exchange() {
	pings client 10.1.0.3 20
	pings client 10.1.0.1 20
	tcp_sink sink server 8000 "$WORK/there"
	tcp_send client "$WORK/data" 10.1.0.3 8000
	finish sink
	same "$WORK/data" "$WORK/there"
}

part "a port"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --ring-cells 1024
exchange
quiet b0 input
quiet b0 output
counts b0 input ended.reverted -ge 40
counts b0 output ended.reverted -ge 40
counts b0 input extra.undelivered -eq 0
stop relay

part "the bridge: what is for the box"
tapped relay box ntdrive relay --tap br0:input --tap br0:output
exchange
quiet br0 input ended.reverted -ge 20 ended.reverted -lt 60
stop relay

part "a port that is cut off by a bypass is no port for that time"
tapped relay box ntdrive relay --tap b0:bypass --do drop
lost client 10.1.0.3
stop relay
pings client 10.1.0.3
