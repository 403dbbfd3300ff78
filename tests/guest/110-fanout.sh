#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: four sessions share a tap: each packet goes to exactly one of them; by flows, a flow keeps its order while
# sessions join, leave and are killed; who does not want to share, or with other options, is told so.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (four programs on b0, INPUT and OUTPUT)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
readonly FLOWS='7001 7002 7003 7004 7005 7006 7007 7008'

# program NAME FANOUT OPTION…
program() {
	local name=$1 fanout=$2
	shift 2
	tapped "$name" box ntdrive relay --tap b0:input --tap b0:output --fanout "$fanout" "$@"
}

# listen COUNT OPTION…, send COUNT GAP, judge: a receiver and a sender for each flow.
listen() {
	local port count=$1
	shift
	for port in $FLOWS; do
		receiver "recv$port" box "10.1.0.1:$port" --count "$count" --seconds 60 "$@"
	done
}
send() {
	local port
	for port in $FLOWS; do
		start "send$port" client ntdrive udp-send "10.1.0.1:$port" --count "$1" --gap "$2"
	done
}
judge() {
	local port
	for port in $FLOWS; do
		finish "send$port"
		finish "recv$port"
	done
}

for fanout in any flow; do
	part "four programs, fanout $fanout"
	for name in one two three four; do program $name $fanout; done
	# The kernel draws the key of the flow hash at boot: eight flows all fall on one of four programs in one boot of 16384.
	order=() sharing=2
	[[ $fanout == flow ]] || order=(--unordered) sharing=4
	listen 100 "${order[@]}"
	send 100 100
	judge
	total_reaches b0 input detoured.in_flight -eq 0
	expect "packets of all four" "$(total b0 input ended.reverted)" -eq 800
	expect "programs that had some" "$(sharers b0 input ended.reverted)" -ge "$sharing"
	pings client 10.1.0.1 5
	stop one
	stop two
	stop three
	stop four
done

part "programs come, go and are killed under traffic: every flow whole and in order"
program one flow
program two flow
listen 500
send 500 6000
program three flow
program four flow
kill_hard one
program five flow
kill_hard three
stop two
program six flow
kill_hard five
judge
total_reaches b0 input detoured.in_flight -eq 0
stop four
stop six
await "the taps are gone" open_taps 0

part "a program that was alone keeps the flows that it has packets of, when another one joins"
tapped one box ntdrive relay --tap b0:input --fanout flow --do hold
listen 6
for port in $FLOWS; do datagrams client "10.1.0.1:$port" --count 3; done
total_reaches b0 input detoured.in_flight -eq 24
tapped two box ntdrive relay --tap b0:input --fanout flow
for port in $FLOWS; do datagrams client "10.1.0.1:$port" --count 3 --first 3; done
total_reaches b0 input detoured.in_flight -eq 48
release one
for port in $FLOWS; do finish "recv$port"; done
total_reaches b0 input detoured.in_flight -eq 0
stop one
stop two

part "all are killed while they hold packets: the others' do not move, none is lost"
program one any --do hold --only 7001
program two any --do hold --only 7001
receiver recv box 10.1.0.1:7001 --count 100 --unordered
datagrams client 10.1.0.1:7001 --count 100
total_reaches b0 input detoured.in_flight -eq 100
expect "programs that hold" "$(sharers b0 input detoured.in_flight)" -eq 2
balance
kill_hard one
total_reaches b0 input detoured.in_flight -eq 50
kill_hard two
finish recv
await "the taps are gone" open_taps 0

# refused WHY WHAT OPTION…: nobody with these options joins on b0:input, and the error says so.
refused() {
	refuses "$2" ns box ntdrive relay --tap b0:input --count 0 "${@:3}"
	grep -q "$1" "$WORK/refuses.log" || fail "$2 is refused otherwise: $(<"$WORK/refuses.log")"
}

part "who shares must agree"
program one any
tapctl tap set "$(tap_id b0 input)" --filter udp >/dev/null
refused EBUSY "a tap that does not share"
refused EEXIST "another fan-out" --fanout flow
refused EEXIST "another filter" --fanout any
tapctl tap set "$(tap_id b0 input)" --no-filter >/dev/null
refused EEXIST "another way with a full ring" --fanout any --on-full drop
refused EEXIST "another way when nobody consumes" --fanout any --no-consumer hold
refused EEXIST "another way with super-packets" --fanout any --gso segment
refused "needs a fan-out" "standby without sharing" --standby
program two any --snaplen 128
stop one
stop two
