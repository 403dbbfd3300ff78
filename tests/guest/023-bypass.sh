#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a BYPASS tap cuts the host's own stack off, ARP and IPv6 too, and joins interface and program only; two of
# them, crossed, are a bridge; when they end the host is back.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box 10.2.0.1 b1 ───── s0 10.1.0.9 server
#	                         └── BYPASS, crossed: ── BYPASS ──┘

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
ip -n server address add 10.1.0.9/24 dev s0
ip -n client neighbour flush dev c0 nud permanent
pings client 10.1.0.1 2

part "a program that drops: the host is cut off in both directions"
tapped drop box ntdrive relay --tap b0:bypass --do drop
lost client 10.1.0.1
lost box 10.1.0.2
reaches b0 bypass dropped.cut_off -gt 0
reaches b0 bypass ended.dropped_by_program -gt 0
part "who sends frames is told, and who sends datagrams is not"
ns box ntdrive frame-send b0 --src-mac $MAC_B0 --dst-mac $MAC_C0 --src 10.1.0.1:9 --dst 10.1.0.2:9 --count 5 >"$WORK/frames.log"
expect "frames that the sender was told ENOBUFS for" "$(got frames enobufs)" -eq 5
datagrams box 10.1.0.2:9 --count 5
part "its ARP as well: nobody answers for the box"
ip -n client neighbour flush dev c0
refuses "ARP to the box" ns client arping -q -c 1 -w 1 -I c0 10.1.0.1
stop drop
pings client 10.1.0.1

part "two, crossed, are a bridge: client and server are neighbours, the box is not there"
tapped bridge box ntdrive relay --tap b0:bypass --tap b1:bypass --do cross
pings client 10.1.0.9 20
lost client 10.1.0.1
noise "$WORK/up" 2
tcp_sink sink server 8000 "$WORK/there"
tcp_send client "$WORK/up" 10.1.0.9 8000
finish sink
same "$WORK/up" "$WORK/there"
quiet b0 bypass
quiet b1 bypass
expect "crossed out of b0 and into b1" "$(count b0 bypass ended.crossed)" -eq "$(count b1 bypass extra.crossed_in)"
expect "crossed out of b1 and into b0" "$(count b1 bypass ended.crossed)" -eq "$(count b0 bypass extra.crossed_in)"
counts b0 bypass extra.undelivered -eq 0
stop bridge

part "and then the box is back"
neighbour client c0 10.1.0.1 "$MAC_B0"
pings client 10.1.0.1
pings box 10.2.0.2
