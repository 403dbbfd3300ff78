#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a filter before a bypass tap leaves the host what does not match; what is no filter is refused, by tapctl and
# by the kernel; what a tap's filter is, shows.
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

# exchange FROM TO ADDRESS COUNT
exchange() {
	receiver recv "$2" "$3" --count "$4"
	datagrams "$1" "$3" --count "$4"
	finish recv
}

mkdir "$WORK/bpf"
mount -t bpf bpf "$WORK/bpf"
ntdrive bpf-pin "$WORK/bpf/udp" --port 7000

part "bypass: the host is cut off from what matches, and from nothing else"
tapped echo box tapctl run echo --mode bypass --filter 'udp port 7000' b0
pings client 10.1.0.1 10
exchange box client 10.1.0.2:7001 10
counts b0 bypass passed.filter -eq 30
receiver out client 10.1.0.2:7000 --count 0 --until-told
receiver in box 10.1.0.1:7000 --count 0 --until-told
datagrams box 10.1.0.2:7000 --count 10 --tolerant
datagrams client 10.1.0.1:7000 --count 10
reaches b0 bypass dropped.cut_off -eq 10 detoured.packets -eq 10
heard out
heard in
counts b0 bypass dropped.cut_off -eq 10 detoured.packets -eq 10
stop echo

part "what a tap's filter is, shows"
ns box tapctl tap add --dev b0 --mode input --filter 'tcp port 80'
ns box tapctl tap add --dev b0 --mode output --filter-bpf "$WORK/bpf/udp"
expect "kinds" "$(tapctl --json tap list | jq -r '[.taps[].filter] | join(" ")')" = "classic ebpf"
ns box tapctl tap del --dev b0

part "what is no filter, is told so"
refuses "an expression with a mistake" ns box tapctl tap add --dev b0 --mode input --filter 'tcp prot 80'
grep -q "filter 'tcp prot 80': .*syntax error" "$WORK/refuses.log" || fail "$(cat "$WORK/refuses.log")"
refuses "a file that is not there" ns box tapctl tap add --dev b0 --mode input --filter-bpf "$WORK/bpf/nothing"
grep -q 'nothing is pinned there' "$WORK/refuses.log" || fail "$(cat "$WORK/refuses.log")"
expect "taps" "$(tapctl --json tap list | jq '.taps | length')" -eq 0

part "programs that the kernel refuses, and what others see and do"
receiver recv client 10.1.0.2:7000 --count 1000000 --some --seconds 60
ns box ntdrive raw filters b0 10.1.0.2:7000 | tee "$WORK/filters.log"
heard recv
expect "packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/filters.log")"

part "an interface that is down"
ip -n box link set b0 down
ns box tapctl tap add --dev b0 --mode input --filter 'vlan 5'
ip -n box link set b0 up
neighbour box b0 10.1.0.2 "$MAC_C0"
ip -n box link set b0.5 up
exchange client box 10.5.0.1:7000 10
exchange client box 10.1.0.1:7000 10
quiet b0 input ended.reverted -eq 10
ns box tapctl tap del --dev b0
umount "$WORK/bpf"
