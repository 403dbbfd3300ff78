#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: with a filter only the packets that match detour, each counted, and the others go on untouched: expressions
# of tcpdump, also about VLAN tags beside the bytes, and eBPF programs, received and sent. (Bypass, and what is refused: 036.)
#
#	client c0, c0.5 10.1.0.2, 10.5.0.2, fd01::2 ───── b0, b0.5 10.1.0.1, 10.5.0.1, fd01::1 box (taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
ip -n client link add link c0 name c0.5 up type vlan id 5
ip -n box link add link b0 name b0.5 up type vlan id 5
address client c0.5 10.5.0.2/24
address box b0.5 10.5.0.1/24
neighbour client c0.5 10.5.0.1 "$MAC_B0"
neighbour box b0.5 10.5.0.2 "$MAC_C0"

# exchange FROM TO [ADDRESS COUNT]…: so many datagrams to each address arrive.
exchange() {
	local from=$1 to=$2 place
	local -A places=()
	shift 2
	while (($#)); do
		places[$1]=$2
		start "recv_$1" "$to" ntdrive udp-recv "$1" --count "$2"
		shift 2
	done
	for place in "${!places[@]}"; do ready "recv_$place"; done
	for place in "${!places[@]}"; do datagrams "$from" "$place" --count "${places[$place]}"; done
	for place in "${!places[@]}"; do finish "recv_$place"; done
}

# tried MODE NUMBER OTHERS FILTER…: so many packets detour, and so many pass.
tried() {
	local mode=$1 detoured=$2 passed=$3 from=client to=box last=1
	shift 3
	[[ $mode == input ]] || from=box to=client last=2
	tapped echo box tapctl run echo --mode "$mode" "$@" b0
	exchange $from $to 10.1.0.$last:7000 20 10.1.0.$last:7001 30 10.5.0.$last:7000 40
	quiet b0 "$mode" detoured.packets -eq "$detoured" ended.reverted -eq "$detoured" passed.filter -eq "$passed"
	stop echo
}

part "expressions, received packets"
tried input 90 0
tried input 20 70 --filter 'udp port 7000 and not vlan'
tried input 40 50 --filter 'vlan 5'
tried input 30 60 --filter 'ip and len > 20 and udp[2:2] = 7001'
tried input 0 90 --filter 'tcp port 80 or arp'

part "expressions, sent packets"
tried output 20 70 --filter 'udp port 7000 and not vlan'
tried output 40 50 --filter 'vlan 5 and ip src 10.5.0.1'

part "an eBPF program, which is pinned"
mkdir "$WORK/bpf"
mount -t bpf bpf "$WORK/bpf"
ntdrive bpf-pin "$WORK/bpf/udp" --port 7000
tried input 60 30 --filter-bpf "$WORK/bpf/udp"
tried output 60 30 --filter-bpf "$WORK/bpf/udp"

part "IPv6"
with_ipv6 client box
address client c0 fd01::2/64
address box b0 fd01::1/64
neighbour client c0 fd01::1 "$MAC_B0"
tapped echo box tapctl run echo --mode input --filter 'ip6 and udp port 7000' b0
exchange client box '[fd01::1]:7000' 20 '[fd01::1]:7001' 10 10.1.0.1:7000 10
quiet b0 input detoured.packets -eq 20 passed.filter -ge 20
stop echo
for space in client box; do everywhere $space ipv6 disable_ipv6 1; done

part "super-packets, whole and cut: all of TCP detours, no ping does"
noise "$WORK/data" 2
for gso in whole segment; do
	tapped echo box tapctl run echo --filter 'tcp port 8000' --ring 1024 --gso $gso --mode input,output b0
	tcp_sink sink box 8000 "$WORK/there"
	tcp_send client "$WORK/data" 10.1.0.1 8000
	finish sink
	same "$WORK/data" "$WORK/there"
	pings client 10.1.0.1 20
	quiet b0 input
	quiet b0 output
	counts b0 input detoured.packets -gt 20 passed.filter -eq 20
	counts b0 output passed.filter -eq 20
	stop echo
done
umount "$WORK/bpf"
