#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a session that asks for it is served by a thread of the kernel's without rest: packets go on without a call
# and without the timer, in order while the thread is moved, and while it comes and goes; everybody sees it, and nothing of
# it is left, however the session ends.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# The server's timer, as the kernel lists those that are armed; in a test's namespaces, too.
is_timed() { grep -q '\<server_timer\>' /proc/timer_list; }
never_timed() { for _ in {1..20}; do ! is_timed || fail "the server's timer is armed"; pause 0.01; done; }
threads() { outside bash -c 'grep -hs "^napi/nettap" /proc/[0-9]*/comm || true' >"$WORK/threads.txt"; }
no_thread() { threads; [[ ! -s $WORK/threads.txt ]]; }
# thread: of the only session, in $thread.
thread() { outside ntdrive session thread >"$WORK/thread.txt" && read -r thread <"$WORK/thread.txt"; }
# turn NAME busy|'at ease': a relay does it and says so.
turn() {
	local before
	before=$(grep -cx "$2" "$WORK/$1.log" || true)
	kill -USR2 "${PIDS[$1]}"
	await "$1 is $2" eval "((\$(grep -cx '$2' '$WORK/$1.log') > $before))"
}

part "the request"
outside ntdrive raw busy || fail "the suite failed"
no_thread || fail "a thread is left: $(<"$WORK/threads.txt")"

part "it needs CAP_NET_ADMIN over the machine"
tapped relay box ntdrive relay --tap b0:input --group shared --group-mbufs 512
refuses "a busy session without it" ns box setpriv --bounding-set=-net_admin --inh-caps=-net_admin \
	ntdrive relay --tap b0:output --group shared --busy
grep -q 'serve: EPERM' "$WORK/refuses.log" || fail "it was something else: $(<"$WORK/refuses.log")"
no_thread || fail "a thread is there: $(<"$WORK/threads.txt")"
stop relay

part "who looks after the machine sees it"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --busy
thread
expect "the thread's number" "$thread" -gt 0
outside cat "/proc/$thread/comm" >"$WORK/name.txt"
[[ $(<"$WORK/name.txt") =~ ^napi/nettap[0-9]+-0$ ]] || fail "it is called $(<"$WORK/name.txt")"
outside tapctl session list >"$WORK/list.txt"
grep -q "thread $thread\$" "$WORK/list.txt" || fail "tapctl session list: $(<"$WORK/list.txt")"
expect "its number where it is not" "$(ntdrive session thread)" -eq 0
tapctl session list >"$WORK/list.txt"
grep -q 'thread$' "$WORK/list.txt" || fail "tapctl session list: $(<"$WORK/list.txt")"
tapctl status >"$WORK/status.txt"
grep -q '^sessions .* 1 busy' "$WORK/status.txt" || fail "tapctl status: $(<"$WORK/status.txt")"

part "packets of both directions, in order"
pings client 10.1.0.1 20
receiver into box 10.1.0.1:7000 --count 2000 --seconds 60
receiver out client 10.1.0.2:7000 --count 2000 --seconds 60
start sender client ntdrive udp-send 10.1.0.1:7000 --count 2000 --gap 50
datagrams box 10.1.0.2:7000 --count 2000 --gap 50
finish sender
finish into
finish out
quiet b0 input ended.reverted -ge 2000
quiet b0 output ended.reverted -ge 2000

stop relay
await "no thread is left" no_thread

part "own packets into an idle ring, one by one, without a call"
receiver recv client 10.1.0.2:7000 --count 20 --linger 0
start inject box ntdrive inject --tap b0:output --src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" --dst-mac "$MAC_C0" \
	--count 20 --gap 100000 --idle $((3000 * SLOWNESS)) --busy
ready inject
calls=$(session calls)
never_timed
finish recv
is_running inject || fail "the packets left only when the tap was flushed and closed"
expect "calls for 20 packets" "$(session calls)" -eq "$calls"
finish inject

part "held packets: no timer looks after them; and one does as soon as the thread has gone"
# It polls: a program that sleeps calls, to sleep.
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000 --wait poll --busy
receiver recv box 10.1.0.1:7000 --count 10 --seconds 1000
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
never_timed
turn relay 'at ease'
await "the timer is armed" is_timed
no_thread || fail "a thread is left: $(<"$WORK/threads.txt")"
turn relay busy
never_timed
calls=$(session calls)
release relay
finish recv
expect "calls for 10 packets given back" "$(session calls)" -eq "$calls"
stop relay

part "it comes and goes under load"
tapped relay box ntdrive relay --tap b0:input --wait poll
receiver recv box 10.1.0.1:7000 --count 1000000 --some --seconds 1000
start sender client ntdrive udp-send 10.1.0.1:7000 --count 1000000 --gap 100
for ((round = 1; round <= 8; round++)); do
	passed=$(count b0 input ended.reverted)
	turn relay busy
	reaches b0 input ended.reverted -gt $((passed + 50))
	turn relay 'at ease'
	reaches b0 input ended.reverted -gt $((passed + 100))
done
turn relay busy

part "who waits until a packet is taken is told, and a thread that shall go goes, whatever there is to do"
new() {
	start inject box ntdrive inject --tap b0:output --src 10.1.0.1:7001 --dst 10.1.0.2:7001 --src-mac "$MAC_B0" \
		--dst-mac "$MAC_C0" --turn "$@"
	finish inject
	expect "turns" "$(tail -n 1 "$WORK/inject.log" | jq .turned)" -gt 0
}
new --count 40 --each --prealloc 0
new --count 2000

part "it is moved from processor to processor under load"
if (($(nproc) > 1)); then
	thread
	for ((round = 1; round <= 40; round++)); do
		outside taskset -pc $((round % 2)) "$thread" >"$WORK/taskset.txt" || fail "$(<"$WORK/taskset.txt")"
		pause 0.02
	done
fi
kill -TERM "${PIDS[sender]}"
finish sender
heard recv
expect "datagrams that arrived, in order" "$(got recv unique)" -eq "$(got sender sent)"
figure "$(got sender sent) datagrams arrived in order while the thread came, went and was moved"
stop relay

part "max_age holds; it pauses the server, which goes on after that"
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000 --max-age 300 --busy
receiver recv box 10.1.0.1:7000 --count 10
datagrams client 10.1.0.1:7000 --count 10
finish recv
reaches b0 input ended.reinjected -eq 10
rounds=$(session rounds)
more_rounds() { (($(session rounds) > rounds + 1000)); }
await "rounds go on" more_rounds
never_timed
stop relay
await "no thread is left" no_thread

part "kill -9: what was held goes on, in order, and the thread goes"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold --only 7000 --busy
receiver into box 10.1.0.1:7000 --count 200
receiver out client 10.1.0.2:7000 --count 200
datagrams client 10.1.0.1:7000 --count 200
datagrams box 10.1.0.2:7000 --count 200
reaches b0 input detoured.in_flight -eq 200
reaches b0 output detoured.in_flight -eq 200
refuses "rmmod" rmmod nettap
kill_hard relay
await "the taps are gone" open_taps 0
finish into
finish out
await "no thread is left" no_thread
rmmod nettap
insmod "$NETTAP_MODULE"
