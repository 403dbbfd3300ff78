#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: what the kernel takes back from a program that lives on is memory that stays that program's until it lets go:
# nobody else's packets come into its hands. What it had not looked at yet is free at once. What it puts into the ring
# of a tap that has ended, it is told.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
MTU=9000 pair

# with_programs NUMBER: whether so many mbufs are with programs, as packets.
with_programs() { [[ $(region held.detoured) -eq $1 ]]; }
let_go() { said "$1" '^20 intact, released'; }

# others: a second program takes as many packets as there are mbufs that anybody could have mistaken for free ones.
others() {
	tapped others box ntdrive relay --tap b0:input --do hold --only 7001
	datagrams client 10.1.0.1:7001 --count 300
	reaches b0 input detoured.in_flight -eq 300
}

# intact_until_let_go: what the holder has is nobody else's until it lets go of it, and free then.
intact_until_let_go() {
	others
	signal holder USR1
	await "what it held is what it was" let_go holder
	await "and is free" with_programs 300
	kill_hard others
	await "all is free" with_programs 0
	stop holder
}

part "the tap is ended by somebody else: what its program holds stays what it was, and in its hands"
receiver recv box 10.1.0.1:7000 --count 20 --until-told
tapped holder box ntdrive relay --tap b0:input --do hold --only 7000 --keep
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
tapctl tap del "$(tap_id b0 input)"
await "the program is told" said holder '^gone'
heard recv
with_programs 20 || fail "$(region held.detoured) mbufs are with the program, that holds 20"
intact_until_let_go

part "the interface is gone"
tapped holder box ntdrive relay --tap b0:input --do hold --only 7000 --keep
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
ip -n box link del b0
await "the program is told" said holder '^gone'
with_programs 20 || fail "$(region held.detoured) mbufs are with the program, that holds 20"
MTU=9000 wire client c0 "$MAC_C0" box b0 "$MAC_B0"
address client c0 10.1.0.2/24
address box b0 10.1.0.1/24
neighbour client c0 10.1.0.1 "$MAC_B0"
neighbour box b0 10.1.0.2 "$MAC_C0"
intact_until_let_go

part "max_age is over"
receiver recv box 10.1.0.1:7000 --count 20 --until-told
tapped holder box ntdrive relay --tap b0:input --do hold --only 7000 --keep --max-age 300
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input ended.reinjected -eq 20
heard recv
with_programs 20 || fail "$(region held.detoured) mbufs are with the program, that holds 20"
tapctl tap del "$(tap_id b0 input)"
intact_until_let_go

part "max_age is over, and nobody has looked: as much is free when the tap ends"
receiver recv box 10.1.0.1:7000 --count 20 --until-told
tapped holder box ntdrive relay --tap b0:input --keep --max-age 300
pings client 10.1.0.1
kill -STOP "${PIDS[holder]}"
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input ended.reinjected -eq 20
heard recv
with_programs 20 || fail "$(region held.detoured) mbufs are in the ring, that has 20"
tapctl tap del "$(tap_id b0 input)"
with_programs 0 || fail "$(region held.detoured) mbufs are with a program that has taken none"
kill -CONT "${PIDS[holder]}"
await "the program is told" said holder '^gone'
stop holder

part "max_age again and again: a program that gives nothing back gets no more"
tapped holder box ntdrive relay --tap b0:input --do hold --only 7000 --keep --max-age 100 --ring-cells 16
most=0
for ((round = 1; round <= 8; round++)); do
	datagrams client 10.1.0.1:7000 --count 16
	quiet b0 input
	pings client 10.1.0.1 1
	((most = $(region held.detoured) > most ? $(region held.detoured) : most))
	pause 0.2
done
expect "mbufs in its hands" "$most" -ge 16
expect "mbufs in its hands" "$most" -le 32
held=$(region held.detoured)
kill -USR1 "${PIDS[holder]}"
await "it lets go" said holder "^$held intact, released"
await "all is free" with_programs 0
pings client 10.1.0.1
reaches b0 input watchdog.failed_open -eq 0
stop holder

part "what a program has not taken out of its ring is free at once"
receiver recv box 10.1.0.1:7000 --count 20 --until-told
tapped holder box ntdrive relay --tap b0:input --keep
pings client 10.1.0.1
kill -STOP "${PIDS[holder]}"
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
tapctl tap del "$(tap_id b0 input)"
heard recv
with_programs 0 || fail "$(region held.detoured) mbufs are with a program that has taken none"
kill -CONT "${PIDS[holder]}"
await "the program is told" said holder '^gone'
stop holder

part "a program that dies with what was taken back"
tapped holder box ntdrive relay --tap b0:input --do hold --only 7000 --keep
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
tapctl tap del "$(tap_id b0 input)"
await "the program is told" said holder '^gone'
with_programs 20 || fail "$(region held.detoured) mbufs are with the program, that holds 20"
kill_hard holder
await "all is free" with_programs 0

part "long packets, of several mbufs"
tapped holder box ntdrive relay --tap b0:input --do hold --only 7000 --keep
datagrams client 10.1.0.1:7000 --count 20 --size 5000
reaches b0 input detoured.in_flight -eq 20
with_programs 60 || fail "$(region held.detoured) mbufs are with the program, that holds 20 packets of three"
tapctl tap del "$(tap_id b0 input)"
await "the program is told" said holder '^gone'
intact_until_let_go

part "a program that only sends is told of its tap's end"
start sender box ntdrive inject --tap b0:output --src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" \
	--dst-mac "$MAC_C0" --count 1000000000 --gap 200
reaches b0 output extra.injected -ge 100
tapctl tap del "$(tap_id b0 output)"
await "it ends" has_ended sender
! wait "${PIDS[sender]}" || fail "the program took the end of its tap for success"
unset "PIDS[sender]"
said sender 'ended' || fail "the program was not told what happened"
await "all is free" with_programs 0
