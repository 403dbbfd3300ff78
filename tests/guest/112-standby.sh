#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a tap on standby keeps its place while no program consumes: packets pass, or with no_consumer=hold they wait for
# the next program, which gets them in order: a program is replaced without a packet passing it by.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# keeper POLICY OPTION…, consumer NAME POLICY OPTION…
keeper() {
	local policy=$1
	shift
	tapped keeper box ntdrive relay --tap b0:input --fanout any --no-consumer "$policy" --standby "$@"
}
consumer() {
	local name=$1 policy=$2
	shift 2
	tapped "$name" box ntdrive relay --tap b0:input --fanout any --no-consumer "$policy" "$@"
}

part "pass: as if there were no tap"
keeper pass
pings client 10.1.0.1 5
expect "packets that waited" "$(total b0 input detoured.packets)" -eq 0
consumer one pass
pings client 10.1.0.1 5
expect "packets that the program had" "$(total b0 input ended.reverted)" -eq 5
stop one
pings client 10.1.0.1 5
stop keeper

part "hold: packets wait for the program, and come to it in order"
keeper hold
receiver recv box 10.1.0.1:7000 --count 300
datagrams client 10.1.0.1:7000 --count 100
total_reaches b0 input detoured.in_flight -eq 100
consumer one hold
total_reaches b0 input ended.handed_over -eq 100
datagrams client 10.1.0.1:7000 --count 100 --first 100
total_reaches b0 input ended.reverted -eq 200
part "the program is replaced"
balance
stop one
datagrams client 10.1.0.1:7000 --count 100 --first 200
total_reaches b0 input detoured.in_flight -eq 100
consumer two hold
finish recv
stop two
part "nobody comes: what has waited follows on_exit"
receiver recv box 10.1.0.1:7000 --count 100
datagrams client 10.1.0.1:7000 --count 100
total_reaches b0 input detoured.in_flight -eq 100
stop keeper
finish recv

part "one whose time is over says nothing of the others of its session, nor of a program that takes nothing"
tapped keeper box ntdrive relay --tap b0:input --tap b0:output --fanout any --no-consumer hold --standby \
	--max-age $((5000 * SLOWNESS))
tapctl tap set "$(tap_id b0 input)" --max-age $((3000 * SLOWNESS))ms >/dev/null
kill -STOP "${PIDS[keeper]}"
receiver into box 10.1.0.1:7000 --count 10
receiver out client 10.1.0.2:7000 --count 10
datagrams client 10.1.0.1:7000 --count 10
pause $((2 * SLOWNESS))
datagrams box 10.1.0.2:7000 --count 10
reaches b0 input watchdog.failed_open -eq 1 ended.reinjected -eq 10
counts b0 output watchdog.failed_open -eq 0 detoured.in_flight -eq 10
finish into
finish out
kill -CONT "${PIDS[keeper]}"
stop keeper

part "nor longer than max_age"
keeper hold --max-age 300
receiver recv box 10.1.0.1:7000 --count 100
datagrams client 10.1.0.1:7000 --count 100
finish recv
pings client 10.1.0.1 5
stop keeper
