#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: super-packets of tunnels go through taps below them, as they are and with other bytes, and are cut behind in
# software; a program that changes what the kernel steps over from the outer headers to the inner ones costs that packet.
#
#	client c0 10.1.0.2, in VXLAN 10.3.0.2, in GRE 10.4.0.2 ───── b0 box 10.1.0.1, 10.3.0.1, 10.4.0.1 (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
modprobe -qa vxlan ip_gre || skip "this kernel has no tunnels"
pair
configure client <<-END
	link add vx0 up type vxlan id 9 dev c0 remote 10.1.0.1 dstport 4789
	address add 10.3.0.2/24 dev vx0
	link add gt0 up type gretap local 10.1.0.2 remote 10.1.0.1
	address add 10.4.0.2/24 dev gt0
END
configure box <<-END
	link add vx0 up type vxlan id 9 dev b0 remote 10.1.0.2 dstport 4789
	address add 10.3.0.1/24 dev vx0
	link add gt0 up type gretap local 10.1.0.1 remote 10.1.0.2
	address add 10.4.0.1/24 dev gt0
END
ns box ethtool -K b0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off tx-gre-segmentation off \
	tx-gre-csum-segmentation off >/dev/null
noise "$WORK/data" 8

# relayed ADDRESS OPTION…: a transfer through the tunnel, whose super-packets a program has on their way out.
relayed() {
	local to=$1
	shift
	tapped relay box ntdrive relay --tap b0:output "$@"
	tapctl tap set "$(tap_id b0 output)" --filter "greater 3000" >/dev/null
	rm -f "$WORK/there"
	tcp_sink sink client 5000 "$WORK/there"
	tcp_send box "$WORK/data" "$to" 5000
	finish sink
	same "$WORK/data" "$WORK/there"
	quiet b0 output detoured.gso -ge 1
	balance
}

for to in 10.3.0.2 10.4.0.2; do
	part "$to: as they are"
	relayed "$to"
	stop relay

	part "$to: the outer sender's address of Ethernet is another"
	relayed "$to" --poke 11=153
	counts b0 output ended.changed -ge 1 ended.refused_offload -eq 0 ended.refused_change -eq 0
	stop relay

	part "$to: an outer header that says that it ends behind the inner one's begin"
	relayed "$to" --poke 14=79 --every 10
	counts b0 output ended.changed -eq 0 ended.refused_offload -ge 1
	stop relay

	part "$to: another protocol where the tunnel's header was"
	relayed "$to" --poke 23=6 --every 10
	counts b0 output ended.changed -eq 0 ended.refused_offload -ge 1
	stop relay

	part "$to: a protocol of which one is in the other without end"
	relayed "$to" --poke 12=137 --poke 13=79 --every 10
	counts b0 output ended.changed -eq 0 ended.refused_offload -ge 1
	stop relay
done
