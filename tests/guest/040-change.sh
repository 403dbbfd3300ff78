#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: packets changed in place arrive changed, with checksums that the receiver verifies: UDP and TCP, IPv4 and
# IPv6, in both directions; where the checksum is left to an interface, the interface or the kernel computes it.
#
#	client 10.1.0.2, fd01::2 ───── b0 box b1 ───── 10.2.0.2, fd02::2 server
#	                       (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
with_ipv6 client box server
address client c0 fd01::2/64
address box b0 fd01::1/64
address box b1 fd02::1/64
address server s0 fd02::2/64
ip -n client -6 route add default via fd01::1
ip -n server -6 route add default via fd02::1
ns box sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
reachable client fd02::2

checksum_errors() { ns "$1" nstat -asz | awk '/Udp6?InCsumErrors/ { n += $2 } END { print n + 0 }'; }

readonly BOTH_WAYS=('client box 10.1.0.1' 'client box [fd01::1]' 'box client 10.1.0.2' 'box client [fd01::2]')

part "with the whole checksum, which receivers verify"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --only 7000 --upper --full-checksum
become "netTAP 7" "NETTAP 7" "${BOTH_WAYS[@]}"
stop relay

part "they do verify: a wrong one is thrown away and counted"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --only 7000 --upper --full-checksum --wrong-checksum
for place in "${BOTH_WAYS[@]}"; do
	read -r from to address <<<"$place"
	before=$(checksum_errors "$to")
	receiver recv "$to" "$address:7000" --count 0 --until-told
	datagrams "$from" "$address:7000" --count 3
	heard recv
	expect "checksum errors at $address" "$(checksum_errors "$to")" -eq $((before + 3))
done
quiet b0 input ended.changed -ge 6
counts b0 output ended.changed -ge 6
stop relay

part "senders that compute checksums themselves: the change is theirs to verify as well"
ns client ethtool -K c0 tx off >/dev/null
ns box ethtool -K b0 tx off >/dev/null
tapped relay box ntdrive relay --tap b0:input --tap b0:output --only 7000 --upper
become "netTAP 7" "NETTAP 7" "${BOTH_WAYS[@]}"
stop relay
ns client ethtool -K c0 tx on >/dev/null
ns box ethtool -K b0 tx on >/dev/null

part "left to the interface: the box forwards through one that computes in software"
ns box ethtool -K b1 tx off >/dev/null
tapped relay box ntdrive relay --tap b0:input --only 7000 --upper
before=$(checksum_errors server)
become "netTAP 7" "NETTAP 7" 'client server 10.2.0.2' 'client server [fd02::2]'
expect "checksum errors" "$(checksum_errors server)" -eq "$before"
stop relay

part "one in three, given back together: each is what it should be, and in order"
tapped relay box ntdrive relay --tap b0:input --only 7000 --do hold --every 3 --upper
receiver recv box 10.1.0.1:7000 --count 90 --text
datagrams client 10.1.0.1:7000 --count 90 --text "netTAP 7"
reaches b0 input detoured.in_flight -eq 90
release relay
finish recv
says recv 60 "netTAP 7"
says recv 30 "NETTAP 7"
quiet b0 input ended.changed -eq 30
counts b0 input ended.reverted -ge 60
stop relay
tapped relay box ntdrive relay --tap b0:input --only 7000 --do hold --every 3 --touch
receiver recv box 10.1.0.1:7000 --count 200
datagrams client 10.1.0.1:7000 --count 200
reaches b0 input detoured.in_flight -eq 200
release relay
finish recv
quiet b0 input ended.changed -eq 66
stop relay

part "TCP with super-packets, and segment by segment with checksums of its own"
head -c 393216 /dev/urandom | base64 -w 0 >"$WORK/data"
tr '[:lower:]' '[:upper:]' <"$WORK/data" >"$WORK/wanted"
for gso in whole segment; do
	for tx in on off; do
		ns client ethtool -K c0 tx $tx >/dev/null
		tapped relay box ntdrive relay --tap b0:input --tap b0:output --gso $gso --ring-cells 1024 --only 7000 --upper
		tcp_sink sink box 7000 "$WORK/there"
		tcp_send client "$WORK/data" 10.1.0.1 7000
		finish sink
		same "$WORK/wanted" "$WORK/there"
		tcp_sink sink client 7000 "$WORK/there"
		tcp_send box "$WORK/data" 10.1.0.2 7000
		finish sink
		same "$WORK/wanted" "$WORK/there"
		quiet b0 input
		quiet b0 output
		counts b0 input ended.changed -gt 0
		counts b0 output ended.changed -gt 0
		stop relay
	done
done
