#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: whatever a program changes in packets (any byte, lengths, tags, checksums, segments), wherever they come from
# and whatever is still to be done with them, costs those packets at most: the box goes on. MINUTES= says how long.
#
#	client c0 10.1.0.2 ───── b0 box b1 10.2.0.1 ───── s0 10.2.0.2 server     guest g0 10.5.0.2 ───── p0 of br0 box
#	   VLAN 7, VXLAN, IPsec over b0       GRE over b1, a MACVLAN on it, NAT out of it, all in software
#	(taps, both ways, on lo, on b0, b1, p0 and on all that is on top of them)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
seconds=$((${MINUTES:-0} * 60))
((seconds)) || seconds=$((8 * SLOWNESS))
modprobe -qa nsh mpls_router pppoe sctp esp4_offload vxlan ip_gre macvlan br_netfilter || true

part "networks"
road
with_ipv6 client box server
netns guest
# Fragments that wait for others, and what nobody acknowledges any more, keep mbufs for as long as the host says: a second.
for name in client box server guest; do
	ns "$name" sysctl -q net.ipv4.ipfrag_time=1 net.ipv6.ip6frag_time=1 \
		net.ipv4.tcp_rto_max_ms=1000 net.ipv4.tcp_orphan_retries=1 net.ipv4.tcp_fin_timeout=1
done
# What leaves by b1 is cut and summed in software, behind the tap.
ns box ethtool -K b1 tx off sg off >/dev/null
configure client <<-END
	address add fd01::2/64 dev c0
	route add default via fd01::1
	link add c0.7 up link c0 type vlan id 7
	address add 10.7.0.2/24 dev c0.7
	link add vx0 up type vxlan id 9 dev c0 remote 10.1.0.1 dstport 4789
	address add 10.3.0.2/24 dev vx0
END
configure server <<-END
	address add fd02::2/64 dev s0
	route add default via fd02::1
	route add 10.5.0.0/24 via 10.2.0.1
	neighbour replace 10.2.0.9 lladdr 02:00:00:00:00:09 dev s0 nud permanent
	link add gt0 up type gretap local 10.2.0.2 remote 10.2.0.1
	address add 10.4.0.2/24 dev gt0
END
configure box <<-END
	address add fd01::1/64 dev b0
	address add fd02::1/64 dev b1
	link add br0 up type bridge
	address add 10.5.0.1/24 dev br0
	link add p0 up master br0 type veth peer name g0 netns guest
	link add b0.7 up link b0 type vlan id 7
	address add 10.7.0.1/24 dev b0.7
	link add vx0 up type vxlan id 9 dev b0 remote 10.1.0.2 dstport 4789
	address add 10.3.0.1/24 dev vx0
	link add gt0 up type gretap local 10.2.0.1 remote 10.2.0.2
	address add 10.4.0.1/24 dev gt0
	link add mv0 up address 02:00:00:00:00:09 link b1 type macvlan mode bridge
	address add 10.2.0.9/32 dev mv0
	neighbour replace 10.2.0.2 lladdr $MAC_S0 dev mv0 nud permanent
	route add 10.2.0.2 dev mv0 src 10.2.0.9 table 9
	rule add from 10.2.0.9 table 9
END
configure guest <<-END
	link set g0 up
	address add 10.5.0.2/24 dev g0
	route add default via 10.5.0.1
END
secured
ns box sysctl -q net.ipv6.conf.all.forwarding=1 net.bridge.bridge-nf-call-iptables=1
ns box nft -f - <<-END
	table ip t {
		chain out { type nat hook postrouting priority srcnat; oifname "b1" ip saddr 10.5.0.0/24 masquerade; }
		chain in { type filter hook input priority filter; ct state new counter; }
	}
END

# Who goes by what stands in packets, behind the taps.
ip -n box link add d0 up type dummy
for on in b0 b1; do
	ns box tc qdisc add dev "$on" clsact
	ns box tc filter add dev "$on" egress matchall action mirred ingress mirror dev d0
	ns box tc filter add dev "$on" ingress protocol ip flower ip_proto tcp action mirred egress mirror dev d0
done

part "traffic"
# speaks NAMESPACE ADDRESS…: everything that it speaks, to each of them.
speaks() {
	local name=$1 to=()
	shift
	for at; do to+=(--tcp "$at:5000" --udp "$at:5000" --sctp "$at:5000"); done
	start "speaks_$name" "$name" nthostile chatter --gap "$gap" "${to[@]}"
	ready "speaks_$name"
}
gap=$((20000 * SLOWNESS))
for name in box client server; do
	start "serves_$name" "$name" nthostile chatter --serve --tcp '[::]:5000' --udp '[::]:5000' --sctp '[::]:5000'
	ready "serves_$name"
done
speaks box 127.0.0.1 '[::1]' 10.4.0.2
speaks client 10.1.0.1 '[fd01::1]' 10.2.0.2 '[fd02::2]' 10.7.0.1 10.3.0.1 10.9.0.1
speaks guest 10.5.0.1 10.2.0.2
speaks server 10.4.0.1 10.2.0.9
taps=()
for on in lo b0 b1 p0 br0 b0.7 vx0 gt0 mv0; do taps+=(--tap "$on:input" --tap "$on:output"); done
start flood client ping -q -n -i "$(often 5)" -s 3000 10.2.0.2

part "$seconds seconds of changes"
ns box nthostile mangle "${taps[@]}" --seconds "$seconds" --round $((3 * SLOWNESS)) --seed "${SEED:-$RANDOM}" | tee "$WORK/mangle.log"
figure "$(summary mangle '"\(.seconds) s of changes, seed \(.seed): \(.packets) packets through taps, \(.taps.changed) went on changed, " +
	"\(.taps.refused_packets) were refused, \(.crossed) left by another tap, \(.new) were new"')"
for name in flood speaks_{box,client,guest,server} serves_{box,client,server}; do kill_hard "$name"; done

part "and everything goes on"
pings client 10.2.0.2 3
pings client fd01::1 3
pings client 10.7.0.1 3
pings client 10.3.0.1 3
pings client 10.9.0.1 3
pings guest 10.2.0.2 3
pings server 10.4.0.1 3
pings server 10.2.0.9 3
pings box 127.0.0.1 3
