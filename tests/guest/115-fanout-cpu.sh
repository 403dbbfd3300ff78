#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: programs that share a tap by processor: the packets of a processor go to one program, each exactly once and in
# order; one that is killed, or stalls, leaves its processors to the others and takes nothing along.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (a program for each processor on b0, INPUT)
#
# Over a veth pair a packet is received on the processor that sent it: each sender stays on its own.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
cpus=$(nproc)
((cpus > 1)) || skip "one processor"
pair

# program NAME OPTION…
program() { tapped "$1" box ntdrive relay --tap b0:input --fanout cpu "${@:2}"; }

# sender CPU COUNT GAP, receivers COUNT OPTION…, judge: datagrams for a port of the processor's own.
sender() { start "send$1" client taskset -c "$1" ntdrive udp-send "10.1.0.1:$((7000 + $1))" --count "$2" --gap "$3"; }
listen() {
	local cpu
	for ((cpu = 0; cpu < cpus; cpu++)); do
		receiver "recv$cpu" box "10.1.0.1:$((7000 + cpu))" --count "$1" --seconds 60 "${@:2}"
	done
}
judge() {
	local cpu
	for ((cpu = 0; cpu < cpus; cpu++)); do
		finish "send$cpu"
		finish "recv$cpu"
	done
}

# of_each FILTER: what jq makes of each tap on b0, in the order in which they were opened.
of_each() { tapctl --json tap stats | jq -r "[.taps[] | select(.dev == \"b0\") | $1] | join(\" \")"; }

part "$cpus programs: one for each of the $cpus processors"
names=()
for ((cpu = 0; cpu < cpus; cpu++)); do
	names+=("program$cpu")
	program "program$cpu"
done
wanted=()
for ((cpu = 0; cpu < cpus; cpu++)); do
	receiver "recv$cpu" box "10.1.0.1:$((7000 + cpu))" --count $((50 * (cpu + 1))) --seconds 60
	wanted+=($((50 * (cpu + 1))))
done
# Each sends another number, so that it shows whose packets went where.
for ((cpu = 0; cpu < cpus; cpu++)); do sender "$cpu" $((50 * (cpu + 1))) 200; done
judge
total_reaches b0 input detoured.in_flight -eq 0
expect "packets of each program" "$(of_each .ended.reverted)" = "${wanted[*]}"
for name in "${names[@]}"; do stop "$name"; done

part "two programs and one on standby, which was first: every second processor's"
program keeper --no-consumer hold --standby
program even --no-consumer hold
program odd --no-consumer hold
listen 60
for ((cpu = 0; cpu < cpus; cpu++)); do sender "$cpu" 60 200; done
judge
total_reaches b0 input detoured.in_flight -eq 0
expect "packets of each" "$(of_each .ended.reverted)" = "0 $((60 * ((cpus + 1) / 2))) $((60 * (cpus / 2)))"

part "both go: what comes waits, and the next program has all of it"
stop even
stop odd
listen 30
for ((cpu = 0; cpu < cpus; cpu++)); do sender "$cpu" 30 200; done
total_reaches b0 input detoured.in_flight -eq $((30 * cpus))
program next --no-consumer hold
judge
stop next
stop keeper

part "programs come, go and are killed under traffic: every packet once"
program one
program two
listen 400 --unordered
for ((cpu = 0; cpu < cpus; cpu++)); do sender "$cpu" 400 6000; done
program three
kill_hard one
program four
kill_hard two
stop three
program five
judge
total_reaches b0 input detoured.in_flight -eq 0
stop four
stop five
await "the taps are gone" open_taps 0

part "one is killed while it holds packets: they go on in order, the others' do not move, and its processor is the next one's"
program one --do hold --only 7000
program two --do hold --only 7001
receiver recv0 box 10.1.0.1:7000 --count 100
receiver recv1 box 10.1.0.1:7001 --count 100
sender 0 100 0
sender 1 100 0
total_reaches b0 input detoured.in_flight -eq 200
balance
kill_hard one
finish recv0
finish send0
total_reaches b0 input detoured.in_flight -eq 100
expect "packets that the other has let go" "$(count b0 input ended.reverted)" -eq 0
receiver recv0 box 10.1.0.1:7000 --count 20
sender 0 20 0
finish recv0
finish send0
counts b0 input ended.reverted -eq 20 detoured.in_flight -eq 100
release two
finish recv1
finish send1
stop two

part "one stalls: its processor's packets go to the next one"
program one --max-age $((600 * SLOWNESS))
program two
# Stopped, and not with packets in hand: one that still reads has not stalled for long.
kill -STOP "${PIDS[one]}"
receiver recv0 box 10.1.0.1:7000 --count 100
sender 0 50 0
reaches b0 input watchdog.failed_open -eq 1 ended.reinjected -eq 50
finish send0
start send0 client taskset -c 0 ntdrive udp-send 10.1.0.1:7000 --count 50 --first 50
finish send0
finish recv0
total_reaches b0 input detoured.in_flight -eq 0
expect "packets that each has let go" "$(of_each .ended.reverted)" = "0 50"
kill -CONT "${PIDS[one]}"
stop one
stop two

part "who shares must agree"
program one
refuses "another fan-out" ns box ntdrive relay --tap b0:input --fanout flow --count 0
refuses "a tap that does not share" ns box ntdrive relay --tap b0:input --count 0
stop one
