#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an idle tap costs nothing: no timer, no round of the server, no wake-up, no system call, no processor time; and
# a packet that is written into an idle ring leaves without any other traffic to carry it.
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

part "three programs that wait for as long as it takes: no timer of ours, and nothing of them runs"
# The kernel's own list of armed timers names the function of each, and its module. (The rest of ours, delayed work, is asked
# for by drops only.)
armed() { grep -q '\[nettap\]' /proc/timer_list; }
unarmed() { ! armed; }
names=(one two three)
# What has happened so far: switches to and from each program, rounds, calls and wake-ups of each session.
happened() {
	local name key value
	for name in "${names[@]}"; do
		while read -r key value; do
			[[ $key != *_ctxt_switches: ]] || echo "$name $key $value"
		done <"/proc/${PIDS[$name]}/status"
	done
	tapctl --json session list | jq -c '.sessions[] | select(.mapped) | {id, rounds, calls, wakeups}'
}
for name in "${names[@]}"; do
	tapped "$name" box ntdrive relay --tap b0:input --tap b0:output --fanout any --wait sleep --patient
done
pings client 10.1.0.1 20
total_reaches b0 input detoured.in_flight -eq 0
total_reaches b0 output detoured.in_flight -eq 0
await "no timer is armed" unarmed
all_rest() { happened >"$WORK/now" && pause 0.1 && happened | cmp -s "$WORK/now"; }
await "all servers sleep" all_rest
happened >"$WORK/before"
for _ in {1..20}; do
	unarmed || fail "a timer is armed: $(grep '\[nettap\]' /proc/timer_list)"
	pause 0.1
done
happened >"$WORK/after"
same "$WORK/before" "$WORK/after"
for name in "${names[@]}"; do stop "$name"; done
part "and that list does show a timer while a packet is out"
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000
datagrams client 10.1.0.1:7000
reaches b0 input detoured.in_flight -eq 1
await "a timer is armed" armed
stop relay

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
