#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: packets grow and shrink at either end, in both directions: payload appended and cut with lengths and
# checksums right, a VLAN tag put among the bytes and taken from them.
#
#	client 10.1.0.2, fd01::2 c0 ───── b0 10.1.0.1, fd01::1 box (INPUT and OUTPUT taps on b0)
#	               VLAN 10: c0.10      b0.10

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
with_ipv6 client box
address client c0 fd01::2/64
address box b0 fd01::1/64
reachable client fd01::1
taps=(--tap b0:input --tap b0:output --only 7000 --full-checksum)

# becomes SENT ARRIVED: in both directions, over IPv4 and IPv6.
becomes() { become "$1" "$2" 'client box 10.1.0.1' 'client box [fd01::1]' 'box client 10.1.0.2' 'box client [fd01::2]'; }

seen() { (($(grep -c ' > 10\.1\.0\.2\.7000:' "$WORK/dump.log") >= $1)); }

part "grown at the tail"
tapped relay box ntdrive relay "${taps[@]}" --append " and more"
becomes less "less and more"
quiet b0 input ended.changed -eq 6
stop relay
part "shrunk at the tail"
tapped relay box ntdrive relay "${taps[@]}" --trim 5
becomes "too long by 5" "too long"
stop relay
part "shrunk to nothing, grown from nothing"
tapped relay box ntdrive relay "${taps[@]}" --trim 7
becomes nothing ""
stop relay

part "grown by much, past the packet's own buffer"
tapped relay box ntdrive relay "${taps[@]}" --append "$(printf '%01000d' 7)"
becomes "" "$(printf '%01000d' 7)"
stop relay

# A frame of 106 bytes loses its payload, and what is left moves by more than its length: it goes on with 42 bytes, and
# nothing of the packet's buffer goes with it.
for distance in -64 1000; do
	part "shrunk, and moved by $distance bytes"
	tapped relay box ntdrive relay --tap b0:output --only 7000 --full-checksum --trim 64 --shift $distance
	start dump client tcpdump -l -i c0 -n -e -U --immediate-mode udp dst port 7000
	await "tcpdump listens" said dump 'listening on'
	receiver recv client 10.1.0.2:7000 --count 20 --text
	datagrams box 10.1.0.2:7000 --count 20
	finish recv
	counts b0 output ended.changed -eq 20
	await "tcpdump has seen all" seen 20
	expect "frames of 42 bytes" "$(grep -c 'length 42: 10\.1\.0\.1' "$WORK/dump.log")" -eq 20
	kill -INT "${PIDS[dump]}"
	finish dump
	stop relay
done

# VLAN 10, on which the same addresses are heard. Its devices are without IPv6, whose multicast reports would be counted.
for side in 'client c0 10.1.0.2' 'box b0 10.1.0.1'; do
	read -r space dev address <<<"$side"
	ns "$space" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
	ip -n "$space" link add link "$dev" name "$dev.10" up type vlan id 10
	everywhere "$space" ipv4 rp_filter 0
done
received() { ip -n "$1" -s -j link show "$2" | jq '.[0].stats64.rx.packets'; }

# through_vlan FROM TO ADDRESS DEV: 20 datagrams arrive, on the VLAN's device.
through_vlan() {
	local before
	before=$(received "$2" "$4")
	receiver recv "$2" "$3:7000" --count 20
	datagrams "$1" "$3:7000" --count 20
	finish recv
	expect "packets on $4" "$(received "$2" "$4")" -eq $((before + 20))
}
for way in --tag --vlan; do
	part "grown at the head: $way"
	tapped relay box ntdrive relay --tap b0:input --tap b0:output --only 7000 $way 10
	through_vlan client box 10.1.0.1 b0.10
	through_vlan box client 10.1.0.2 c0.10
	quiet b0 output
	counts b0 input ended.changed -eq 20
	counts b0 output ended.changed -eq 20
	stop relay
done

part "shrunk at the head: a tag among the bytes is taken away"
frames=(--src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" --dst-mac "$MAC_C0" --vlan 99 --count 20)
receiver recv client 10.1.0.2:7000 --count 0 --until-told
ns box ntdrive frame-send b0 "${frames[@]}" >/dev/null
heard recv
tapped relay box ntdrive relay --tap b0:output --untag
receiver recv client 10.1.0.2:7000 --count 20
ns box ntdrive frame-send b0 "${frames[@]}" >/dev/null
finish recv
counts b0 output ended.changed -eq 20
stop relay
