#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: taps stand on a VLAN's device and on the device below it, one at a time and together; the tag beside the
# bytes shows below and survives the trip.
#
#	client c0.5 10.5.0.2 ═ c0 ───── b0 ═ b0.5 10.5.0.1 box (taps on b0 and b0.5)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
ip -n client link add link c0 name c0.5 up type vlan id 5
ip -n box link add link b0 name b0.5 up type vlan id 5
address client c0.5 10.5.0.2/24
address box b0.5 10.5.0.1/24
# In a slow kernel they would ask again for each other in the middle, and be counted.
neighbour client c0.5 10.5.0.1 "$MAC_B0"
neighbour box b0.5 10.5.0.2 "$MAC_C0"
noise "$WORK/data" 2

tagged() { jq -R -c "fromjson? | select(.tap == \"$1\" and .vlan == $2)" <"$WORK/relay.log" | wc -l; }
exchange() {
	pings client 10.5.0.1 20
	tcp_sink sink box 8000 "$WORK/there"
	tcp_send client "$WORK/data" 10.5.0.1 8000
	finish sink
	same "$WORK/data" "$WORK/there"
}

part "below"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --print
exchange
quiet b0 input
stop relay
expect "packets with tag 5" "$(tagged b0 5)" -ge 40
expect "packets without a tag" "$(tagged b0 null)" -eq 0

part "below, changed: the tag stays"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --touch
exchange
quiet b0 input ended.changed -ge 20
stop relay

part "on the VLAN's device, where the tag is gone"
tapped relay box ntdrive relay --tap b0.5:input --tap b0.5:output --print
exchange
quiet b0.5 input ended.reverted -ge 20
stop relay
expect "packets without a tag" "$(tagged b0.5 null)" -ge 40
expect "packets with tag 5" "$(tagged b0.5 5)" -eq 0

part "on a VLAN's device that leaves the tag among the bytes, changed"
ip -n client link add link c0 name c0.8 up type vlan id 8
ip -n box link add link b0 name b0.8 up type vlan id 8 reorder_hdr off
address client c0.8 10.8.0.2/24
address box b0.8 10.8.0.1/24
neighbour client c0.8 10.8.0.1 "$MAC_B0"
neighbour box b0.8 10.8.0.2 "$MAC_C0"
tapped relay box ntdrive relay --tap b0.8:input --touch
pings client 10.8.0.1 10
quiet b0.8 input ended.changed -ge 10
stop relay

part "cut before the place where the network's header was, and mirrored behind the tap by who goes there"
ip -n client link add link c0.5 name c0.5.9 up type vlan id 9
ip -n box link add link b0.5 name b0.5.9 up type vlan id 9
address client c0.5.9 10.9.0.2/24
address box b0.5.9 10.9.0.1/24
neighbour client c0.5.9 10.9.0.1 "$MAC_B0"
neighbour box b0.5.9 10.9.0.2 "$MAC_C0"
pings client 10.9.0.1 3
ns box tc qdisc add dev b0 clsact
ns box tc filter add dev b0 egress matchall action mirred ingress mirror dev lo
tapped relay box ntdrive relay --tap b0:output --cut 14
lost client 10.9.0.1
quiet b0 output ended.changed -ge 2
stop relay
ns box tc qdisc del dev b0 clsact

part "both, each packet twice"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --tap b0.5:input --tap b0.5:output
pings client 10.5.0.1 50
for dev in b0 b0.5; do
	quiet $dev input
	quiet $dev output
	counts $dev input ended.reverted -eq 50
	counts $dev output ended.reverted -eq 50
done
stop relay

part "another tag, set beside the bytes: another VLAN"
ip -n box link add link b0 name b0.6 up type vlan id 6
address box b0.6 10.6.0.1/24
tapped relay box ntdrive relay --tap b0:input --only 7000 --vlan 6
receiver recv box 10.5.0.1:7000 --count 10
everywhere box ipv4 rp_filter 0
datagrams client 10.5.0.1:7000 --count 10
finish recv
expect "packets on b0.6" "$(ip -n box -s -j link show b0.6 | jq '.[0].stats64.rx.packets')" -eq 10
stop relay
