#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: who else looks at packets sees each exactly once: tcpdump, tc, nftables at every hook. What nftables drops
# before the tap is never detoured.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
ns box nft -f - <<-END
	table inet t {
		chain prerouting { type filter hook prerouting priority 0; udp dport 7000 counter; }
		chain input { type filter hook input priority 0; udp dport 7000 counter; }
		chain output { type filter hook output priority 0; udp dport 7000 counter; }
		chain postrouting { type filter hook postrouting priority 0; udp dport 7000 counter; }
	}
	table netdev n {
		chain ingress { type filter hook ingress device b0 priority 0; udp dport 7000 counter; udp dport 7009 drop; }
		chain egress { type filter hook egress device b0 priority 0; udp dport 7000 counter; }
	}
END
ns box tc qdisc add dev b0 clsact
for way in ingress egress; do
	ns box tc filter add dev b0 $way protocol ip flower ip_proto udp dst_port 7000 action pass
done
start dump box tcpdump -B 16384 -i b0 -n -U --immediate-mode -w "$WORK/box.pcap" udp dst port 7000
await "tcpdump listens" said dump 'listening on'

tapped relay box ntdrive relay --tap b0:input --tap b0:output
receiver recv box 10.1.0.1:7000 --count 200
datagrams client 10.1.0.1:7000 --count 200
finish recv
receiver recv client 10.1.0.2:7000 --count 200
datagrams box 10.1.0.2:7000 --count 200
finish recv

part nftables
nft_count() { ns box nft list chain "$1" "$2" "$3" | sed -n 's/.*dport 7000 counter packets \([0-9]*\).*/\1/p'; }
for chain in 'inet t prerouting' 'inet t input' 'inet t output' 'inet t postrouting' 'netdev n ingress' 'netdev n egress'; do
	# shellcheck disable=SC2086  # three words
	expect "packets at $chain" "$(nft_count $chain)" -eq 200
done
part tc
for way in ingress egress; do
	expect "packets at tc $way" "$(ns box tc -j -s filter show dev b0 $way | jq '[.. | .packets? // empty] | max')" -eq 200
done
part tcpdump
kill -INT "${PIDS[dump]}"
finish dump
expect "packets in the capture" "$(tcpdump -B 16384 -r "$WORK/box.pcap" -n 2>/dev/null | wc -l)" -eq 400

part "dropped before the tap"
before=$(count b0 input detoured.packets)
receiver recv box 10.1.0.1:7009 --count 0 --until-told
datagrams client 10.1.0.1:7009 --count 20
heard recv
counts b0 input detoured.packets -eq "$before"
stop relay
