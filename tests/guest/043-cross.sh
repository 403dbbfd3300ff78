#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a packet of one tap leaves through another: from A's input out of B, from A's output into B's input, changed
# and unchanged. (From bypass to bypass: 023.)
#
#	client c0 10.1.0.2 ───── b0 box b1 ───── s0 10.1.0.9 server

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
ip -n server address add 10.1.0.9/24 dev s0
neighbour client c0 10.1.0.9 "$MAC_S0"

# crossing OPTION…: numbered datagrams cross over, each once and in order.
crossing() {
	tapped relay box ntdrive relay --tap b0:input --tap b1:output --do cross --only 7000 "$@"
	receiver recv server 10.1.0.9:7000 --count 300
	datagrams client 10.1.0.9:7000 --count 300
	finish recv
	quiet b0 input ended.crossed -eq 300
	counts b1 output extra.crossed_in -eq 300
	stop relay
}

part "from the input of b0 out of b1"
crossing

part "one in three changed on the way, in order with the others"
crossing --every 3 --touch

part "changed on the way, the checksum left to b1, which computes in software"
ns box ethtool -K b1 tx off >/dev/null
tapped relay box ntdrive relay --tap b0:input --tap b1:output --do cross --only 7000 --upper
receiver recv server 10.1.0.9:7000 --count 3 --text
datagrams client 10.1.0.9:7000 --count 3 --text "crossed over"
finish recv
says recv 3 "CROSSED OVER"
stop relay
ns box ethtool -K b1 tx on >/dev/null

part "super-packets cross whole"
noise "$WORK/data" 2
ip -n server route replace 10.1.0.2/32 dev s0
neighbour server s0 10.1.0.2 "$MAC_C0"
tapped relay box ntdrive relay --tap b0:bypass --tap b1:bypass --do cross --ring-cells 1024
tcp_sink sink server 8000 "$WORK/there"
tcp_send client "$WORK/data" 10.1.0.9 8000
finish sink
same "$WORK/data" "$WORK/there"
counts b0 bypass detoured.gso -gt 0
stop relay

part "what is too long for the other interface is counted and lost"
ip -n box link set b1 mtu 1000
tapped relay box ntdrive relay --tap b0:input --tap b1:output --do cross --only 7000
datagrams client 10.1.0.9:7000 --count 10 --size 1200
reaches b0 input ended.refused_change -eq 10
stop relay
ip -n box link set b1 mtu 1500

# The box sends to 10.3.0.2 by b1; coming back in through b0 that address is the client's.
part "from the output of b1 into the input of b0"
ip -n client address add 10.3.0.2/32 dev lo
ip -n box route add 10.3.0.2/32 dev b1
neighbour box b1 10.3.0.2 "$MAC_B0"
ip -n box rule add iif b0 lookup 100
ip -n box route add 10.3.0.2/32 via 10.1.0.2 table 100
everywhere box ipv4 rp_filter 0
everywhere box ipv4 accept_local 1
tapped relay box ntdrive relay --tap b1:output --tap b0:input --do cross --only 7000
receiver recv client 10.3.0.2:7000 --count 100
datagrams box 10.3.0.2:7000 --count 100
finish recv
quiet b1 output ended.crossed -eq 100
counts b0 input extra.crossed_in -eq 100
stop relay
