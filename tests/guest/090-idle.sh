#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an idle tap costs nothing: no rounds of the server, no system calls, no processor time; and a packet that is
# written into an idle ring leaves without any other traffic to carry it.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

part "an idle echo"
tapped echo box echo --mode input,output --wait adaptive b0
pings client 10.1.0.1 20
quiet b0 input
quiet b0 output
# What is asynchronous comes to rest.
rests() { local before; before=$(session rounds); pause 0.1; [[ $(session rounds) == "$before" ]]; }
await "the server sleeps" rests
rounds=$(session rounds) calls=$(session calls) used=$(ticks "${PIDS[echo]}") begun=$SECONDS
pause 2
expect "rounds in 2 s" "$(session rounds)" -eq "$rounds"
# It wakes once a second, to look after signals, and then asks twice about each tap. A slow guest takes longer than 2 s.
calls_now=$(session calls) used_now=$(ticks "${PIDS[echo]}") passed=$((SECONDS - begun + 1))
expect "calls in $passed s" "$calls_now" -le $((calls + 8 * passed))
expect "processor ticks in $passed s" "$used_now" -le $((used + passed * ${SLOWNESS:-1}))
part "and it wakes up at once"
pings client 10.1.0.1 20
balance
kill -TERM "${PIDS[echo]}"
finish echo

part "single packets into an idle ring, nothing else going on"
receiver recv client 10.1.0.2:7000 --count 5 --linger 0
start inject box ntdrive inject --tap b0:output --src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" --dst-mac "$MAC_C0" \
	--count 5 --gap 300000 --idle 2000
finish recv
is_running inject || fail "the packets left only when the tap was flushed and closed"
finish inject

part "packets that a program kept for a while, reverted into an idle ring"
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000
receiver recv box 10.1.0.1:7000 --count 10
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
release relay
finish recv
stop relay
