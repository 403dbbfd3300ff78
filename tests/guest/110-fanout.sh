#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: four sessions share a tap: each packet goes to exactly one of them; by flows, a flow keeps its order while
# sessions join, leave and are killed, and while packets are received on other processors than they came on; several
# threads of one session share its rings; who does not want to share, or with other options, is told so.
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

# spread CPUS: RPS gives each packet that b0 receives to one of these processors, a mask, by its flow. What /sys shows of
# interfaces depends on who has mounted it.
spread() {
	ns box unshare --mount sh -c "mount -t sysfs sysfs /sys && echo $1 >/sys/class/net/b0/queues/rx-0/rps_cpus"
}
# given: packets that processors were given by others so far.
given() {
	local fields sum=0
	while read -ra fields; do sum=$((sum + 16#${fields[9]})); done </proc/net/softnet_stat
	echo $sum
}

part "what was received is spread over the processors by flows (RPS): every flow whole and in order"
printf -v all %x $(((1 << $(nproc)) - 1))
spread "$all"
before=$(given)
for name in one two; do program $name flow; done
listen 300
send 300 1000
judge
total_reaches b0 input detoured.in_flight -eq 0
expect "packets of both" "$(total b0 input ended.reverted)" -eq 2400
expect "packets that another processor was given" $(($(given) - before)) -gt 0
pings client 10.1.0.1 5
stop one
stop two
spread 0

part "several threads of one program take from the same rings and give back into them: each packet once"
tapped threads box ntdrive relay --tap b0:input --tap b0:output --threads 4
listen 500 --unordered
send 500 100
judge
pings client 10.1.0.1 5
quiet b0 input ended.reverted -ge 4000 dropped -eq 0 refused -eq 0
quiet b0 output
stop threads
expect "packets that all have had" "$(got threads acted)" -ge 4000
expect "threads that had some" "$(summary threads '[.each[] | select(. > 0)] | length')" -ge 2

part "and what several threads drop comes back to the region"
tapped threads box ntdrive relay --tap b0:input --threads 4 --do drop --only 7008
receiver none box 10.1.0.1:7008 --count 0 --until-told
receiver all box 10.1.0.1:7001 --count 2000 --unordered
start send_all client ntdrive udp-send 10.1.0.1:7001 --count 2000 --gap 100
datagrams client 10.1.0.1:7008 --count 2000 --gap 100
finish send_all
finish all
quiet b0 input ended.dropped_by_program -eq 2000 refused -eq 0
heard none
stop threads
expect "free mbufs" "$(region held.free)" -eq "$(region mbufs)"

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
