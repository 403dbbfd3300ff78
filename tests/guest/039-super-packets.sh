#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: super-packets that are more than TCP over IP go through taps, as they are and with other bytes, and are cut
# behind in software: tunnels', below the tunnel, and lists of packets that the interface has put together. A program that
# changes what the kernel cuts them by costs that packet.
#
#	client c0 10.1.0.2 ───── b0 box b1 ───── 10.2.0.2 s0 server
#	   (tunnels between client and box: OUTPUT tap on b0; lists from the client to the server: INPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
modprobe -qa vxlan ip_gre ipip || skip "this kernel has no tunnels"
road
with_ipv6 client box
configure client <<-END
	link add vx0 up type vxlan id 9 dev c0 remote 10.1.0.1 dstport 4789
	address add 10.3.0.2/24 dev vx0
	link add gt0 up type gretap local 10.1.0.2 remote 10.1.0.1
	address add 10.4.0.2/24 dev gt0
	link add ip0 up type ipip local 10.1.0.2 remote 10.1.0.1
	address add 10.5.0.2/24 dev ip0
	address add fd01::2/64 dev c0
	link add vx6 up type vxlan id 10 dev c0 remote fd01::1 dstport 4789
	address add 10.6.0.2/24 dev vx6
END
configure box <<-END
	link add vx0 up type vxlan id 9 dev b0 remote 10.1.0.2 dstport 4789
	address add 10.3.0.1/24 dev vx0
	link add gt0 up type gretap local 10.1.0.1 remote 10.1.0.2
	address add 10.4.0.1/24 dev gt0
	link add ip0 up type ipip local 10.1.0.1 remote 10.1.0.2
	address add 10.5.0.1/24 dev ip0
	address add fd01::1/64 dev b0
	link add vx6 up type vxlan id 10 dev b0 remote fd01::2 dstport 4789
	address add 10.6.0.1/24 dev vx6
END
ns box ethtool -K b0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off tx-gre-segmentation off \
	tx-gre-csum-segmentation off tx-ipxip4-segmentation off >/dev/null
noise "$WORK/data" 2

# relayed ADDRESS OPTION…: a transfer through the tunnel, whose super-packets a program has on their way out.
relayed() {
	local to=$1
	shift
	tapped relay box ntdrive relay --tap b0:output "$@"
	tapctl tap set "$(tap_id b0 output)" --filter "greater 1600" >/dev/null
	rm -f "$WORK/there"
	tcp_sink sink client 5000 "$WORK/there"
	tcp_send box "$WORK/data" "$to" 5000
	finish sink
	same "$WORK/data" "$WORK/there"
	quiet b0 output detoured.gso -ge 1
	balance
}

for to in 10.3.0.2 10.4.0.2 10.5.0.2 10.6.0.2; do
	part "$to: as they are"
	relayed "$to"
	stop relay

	part "$to: the outer sender's address of Ethernet, and the outer hop limit, are others"
	relayed "$to" --poke 11=153 --poke "$([[ $to == 10.6.0.2 ]] && echo 21=63 || echo 15=4)"
	counts b0 output ended.changed -ge 1 ended.refused_offload -eq 0 ended.refused_change -eq 0
	stop relay

	# IPv6's headers have no length to lie about.
	[[ $to != 10.6.0.2 ]] || continue
	part "$to: an outer header that says that it ends behind the inner one's begin"
	relayed "$to" --poke 14=79 --every 10
	counts b0 output ended.changed -eq 0 ended.refused_change -ge 1
	stop relay

	part "$to: another protocol where the tunnel's header was"
	relayed "$to" --poke 23=6 --every 10
	counts b0 output ended.changed -eq 0 ended.refused_change -ge 1
	stop relay

	part "$to: a protocol of which one is in the other without end"
	relayed "$to" --poke 12=137 --poke 13=79 --every 10
	counts b0 output ended.changed -eq 0 ended.refused_change -ge 1
	stop relay
done

# By what a tunnel's own header says, who unpacks it would find the inner packet somewhere else.
while read -r to byte what; do
	part "$to: another tunnel's: $what"
	relayed "$to" --poke "$byte" --every 10
	counts b0 output ended.changed -eq 0 ended.refused_change -ge 1
	stop relay
done <<-END
	10.3.0.2 37=1 a port of UDP's
	10.3.0.2 63=79 the inner frame's type
	10.4.0.2 34=16 GRE's flags
	10.6.0.2 57=1 a port of UDP's over IPv6
	10.6.0.2 20=60 the outer IP's protocol
	10.6.0.2 13=0 the outer type
END
while read -r to byte; do
	part "$to: a tunnel's header in the inner packet, where there is none"
	relayed "$to" --poke "$byte" --every 10
	counts b0 output ended.changed -eq 0 ended.refused_offload -ge 1
	stop relay
done <<-END
	10.3.0.2 73=47
	10.4.0.2 61=115
	10.5.0.2 43=47
END

# What the client sends lies in one piece each, and is put together where it comes in.
ns client ethtool -K c0 sg off tso off gso off >/dev/null
ns box ethtool -K b0 gro on >/dev/null
ns box ethtool -K b1 tso off >/dev/null
# listed OPTION…: a transfer to the server, whose lists of packets a program has on their way in.
listed() {
	tapped relay box ntdrive relay --tap b0:input "$@"
	tapctl tap set "$(tap_id b0 input)" --filter "greater 1600" >/dev/null
	rm -f "$WORK/there"
	tcp_sink sink server 5000 "$WORK/there"
	tcp_send client "$WORK/data" 10.2.0.2 5000
	finish sink
	quiet b0 input detoured.gso -ge 1
}
part "lists of packets, as they are"
listed
same "$WORK/data" "$WORK/there"
stop relay
part "as a tunnel's packet by their bytes, which who it is for would unpack in one piece"
listed --poke 23=47 --every 10
same "$WORK/data" "$WORK/there"
counts b0 input ended.changed -eq 0 ended.refused_offload -ge 1
stop relay
part "with another byte of Ethernet's address"
listed --poke 11=153
same "$WORK/data" "$WORK/there"
counts b0 input ended.changed -ge 1
stop relay
# Their sums are computed when they are cut: what a program makes of them arrives.
part "with another byte in the second packet"
listed --poke 1600=1 --every 20
expect "bytes that arrived" "$(stat -c %s "$WORK/there")" -eq "$(stat -c %s "$WORK/data")"
counts b0 input ended.changed -ge 1
stop relay

# mangled BYTE: TCP's header says that it has another length, and nobody can make anything of that connection.
mangled() {
	tapped relay box ntdrive relay --tap b0:input --poke "46=$1" --every 3
	tapctl tap set "$(tap_id b0 input)" --filter "greater 1600" >/dev/null
	start sink server socat -u TCP-LISTEN:5000,reuseaddr OPEN:/dev/null
	await "it listens" listens sink 5000
	start sender client socat -u "OPEN:$WORK/data" TCP:10.2.0.2:5000
	reaches b0 input ended.changed -ge 5
	# On a quick machine all of it has been sent by now.
	kill_any sender
	kill_any sink
	stop relay
}
part "with a header of TCP's that says that it is shorter, or longer"
mangled 112
mangled 144
part "and afterwards all is as before"
listed
same "$WORK/data" "$WORK/there"
stop relay
