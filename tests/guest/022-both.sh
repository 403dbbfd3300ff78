#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: INPUT and OUTPUT taps stand together on one interface, of one session or of two, and each sees its direction.
# What a packet has beside its bytes it keeps meanwhile: when it arrived, and whose send buffer it counts in.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

both_see() {
	pings client 10.1.0.1 50
	quiet b0 input
	quiet b0 output
	counts b0 input ended.reverted -eq 50
	counts b0 output ended.reverted -eq 50
}

part "one session"
tapped relay box ntdrive relay --tap b0:input --tap b0:output
both_see
stop relay

part "a session each"
tapped in box ntdrive relay --tap b0:input
tapped out box ntdrive relay --tap b0:output
both_see
part "one ends, the other goes on"
stop in
pings client 10.1.0.1 10
quiet b0 output ended.reverted -eq 60
stop out

part "a packet that was held says when it arrived"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold --only 7000
receiver recv box 10.1.0.1:7000 --count 10 --waited 500
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
pause 0.5

mkfifo "$WORK/never"

part "and one that is to leave counts as its sender's until it does"
# owed: whether a socket of the box has something in its send buffer.
owed() { ns box ss -uanm dst 10.1.0.2 | grep -q ',t[1-9]'; }
paid() { ! owed; }
# shellcheck disable=SC2016  # that shell keeps its socket open
start sender box bash -c 'exec 3>/dev/udp/10.1.0.2/7000; for _ in {1..10}; do echo x >&3; done; read -r <"$0"' "$WORK/never"
reaches b0 output detoured.in_flight -eq 10
owed || fail "nothing is in the sender's buffer: $(ns box ss -uanm)"
release relay
finish recv
quiet b0 input
quiet b0 output
await "the sender has its buffer back" paid
kill_hard sender
stop relay
