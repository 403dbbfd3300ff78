#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: SCTP, whose super-packets are lists of packets and whose checksum is not the Internet's, goes through taps; a
# program that changes such packets costs those packets at most, and nobody behind it: interfaces that have to cut them or
# to compute their checksum in software.
#
#	client c0 10.1.0.2 ───── b0 box b1 ───── 10.2.0.2 s0 server
#	         (INPUT tap on b0 or OUTPUT tap on b1, which cuts and sums in software)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
modprobe -q sctp || skip "this kernel has no SCTP"
road
ns box ethtool -K b1 tx-sctp-segmentation off tx-checksum-sctp off >/dev/null
# Without the byte that one part writes: it would change nothing.
noise "$WORK/noise" 4
tr X Y <"$WORK/noise" >"$WORK/data"

# relayed MODE IF FILTER OPTION…: one association through a tap that sees what the filter wants.
relayed() {
	local mode=$1 on=$2 filter=$3
	shift 3
	tapped relay box ntdrive relay --tap "$on:$mode" "$@"
	tapctl tap set "$(tap_id "$on" "$mode")" --filter "$filter" >/dev/null
	rm -f "$WORK/there"
	start sink server socat -u SCTP-LISTEN:7000,reuseaddr "OPEN:$WORK/there,creat,trunc"
	await "it listens" ns server grep -q ' 7000 ' /proc/net/sctp/eps
	ns client timeout $((4 * PATIENCE)) socat -u "OPEN:$WORK/data" SCTP:10.2.0.2:7000 || fail "the association ended"
	finish sink
	quiet "$on" "$mode"
}

part "as it is, with super-packets among it"
relayed output b1 sctp
same "$WORK/data" "$WORK/there"
counts b1 output detoured.gso -ge 1
stop relay

part "super-packets whose headers alone are touched"
relayed output b1 "sctp and greater 3000" --touch
same "$WORK/data" "$WORK/there"
counts b1 output ended.changed -ge 1
stop relay

part "super-packets from another address of Ethernet's"
relayed output b1 "sctp and greater 3000" --poke 11=153
same "$WORK/data" "$WORK/there"
counts b1 output ended.changed -ge 1 ended.refused_change -eq 0
stop relay

part "super-packets whose last byte is changed: it lies in a packet of the list, and would take that from it"
relayed output b1 "sctp and greater 3000" --poke -1=88 --every 2
same "$WORK/data" "$WORK/there"
counts b1 output ended.changed -eq 0
counts b1 output ended.refused_change -ge 1
stop relay

part "a sum of the Internet's in place of SCTP's"
ns client ethtool -K c0 gso off tx-sctp-segmentation off >/dev/null
relayed input b0 "sctp and greater 1000" --sum-of-last 2 --every 50
same "$WORK/data" "$WORK/there"
counts b0 input ended.changed -ge 1 detoured.gso -eq 0
stop relay

with_ipv6 client box server
everywhere box ipv6 forwarding 1
address client c0 fd01::2/64
address box b0 fd01::1/64
address box b1 fd02::1/64
address server s0 fd02::2/64
ip -n client route add default via fd01::1
ip -n server route add default via fd02::1
ns client ethtool -K c0 gso on tx-sctp-segmentation on >/dev/null
reachable client fd02::2

# misled OPTION…: every other super-packet of an association over IPv6 has headers that end elsewhere than they
# did, which is refused: of its pieces the kernel knows nothing but that each begins behind the headers. on= and mode= say where.
misled() {
	local on=${on:-b1} mode=${mode:-output}
	tapped relay box ntdrive relay --tap "$on:$mode" --every 2 "$@"
	tapctl tap set "$(tap_id "$on" "$mode")" --filter "ip6 proto 132 and greater 1600" >/dev/null
	head -c 90000 "$WORK/noise" >"$WORK/data"
	rm -f "$WORK/there"
	start sink server socat -u SCTP6-LISTEN:7000,reuseaddr "OPEN:$WORK/there,creat,trunc"
	await "it listens" ns server grep -q ' 7000 ' /proc/net/sctp/eps
	ns client timeout $((4 * PATIENCE)) socat -u -b 1800 "OPEN:$WORK/data" 'SCTP6:[fd02::2]:7000' || fail "the association ended"
	finish sink
	quiet "$on" "$mode"
	same "$WORK/data" "$WORK/there"
	counts "$on" "$mode" ended.changed -eq 0
	counts "$on" "$mode" ended.refused_offload -ge 1
	stop relay
}

part "super-packets whose headers become shorter: IPv4's in place of IPv6's"
misled --poke 12=8 --poke 13=0 --poke 14=69 --poke 23=132
part "and whose headers swallow all that follows them"
misled --poke 20=60 --poke 54=132 --poke 55=228

part "and that end before what follows, for who receives them and goes by that"
on=b0 mode=input misled --poke 18=0 --poke 19=12
