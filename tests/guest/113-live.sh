#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: every policy that may change while a tap is open does so from the next packet on, and what is refused changes
# nothing; a tap that was added on probation ends by itself, unless it is confirmed.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# change OPTION…: of the tap for received packets.
change() { tapctl tap set "$(tap_id b0 input)" "$@" >/dev/null; }
# listed FIELD: what the list of taps says of it.
listed() { tapctl --json tap list | jq -c "[.taps[] | select(.mode == \"input\")][0].$1"; }
# detours NUMBER PORT: of ten datagrams to the port so many detour, and all arrive.
detours() {
	local before
	before=$(count b0 input detoured.packets)
	receiver recv box "10.1.0.1:$2" --count 10
	datagrams client "10.1.0.1:$2" --count 10
	finish recv
	quiet b0 input
	expect "detoured packets to $2" "$(($(count b0 input detoured.packets) - before))" -eq "$1"
}

part "filters"
tapped relay box ntdrive relay --tap b0:input
detours 10 7000
change --filter 'udp port 7001'
detours 0 7000
detours 10 7001
expect "filter" "$(listed filter)" = '"classic"'
mkdir "$WORK/bpf"
mount -t bpf bpf "$WORK/bpf"
ntdrive bpf-pin "$WORK/bpf/udp" --port 7000
change --filter-bpf "$WORK/bpf/udp"
detours 10 7000
detours 0 7001
expect "filter" "$(listed filter)" = '"ebpf"'
refuses "an expression that is none" change --filter 'udp or or'
refuses "a program that is not there" change --filter-bpf "$WORK/bpf/nothing"
refuses "a tap of another namespace than was said" tapctl --netns client tap set "$(tap_id b0 input)" --filter udp
tapctl --netns box tap set "$(tap_id b0 input)" --filter-bpf "$WORK/bpf/udp" >/dev/null
refuses "two filters" change --no-filter --filter udp
detours 10 7000
detours 0 7001
change --no-filter
detours 10 7001
expect "filter" "$(listed filter)" = '"none"'
umount "$WORK/bpf"
stop relay

part "snap length"
tapped echo box tapctl run echo --mode input b0
detours 10 7000
change --snaplen 60
pings client 10.1.0.1 5
expect "snap length" "$(listed snaplen)" -eq 60
stop echo

part "no room: by ring and by bytes, passed or dropped"
tapped relay box ntdrive relay --tap b0:input --ring-cells 16 --do hold --only 7000
kill -STOP "${PIDS[relay]}"
datagrams client 10.1.0.1:7000 --count 30
reaches b0 input passed.ring -eq 14
change --on-full drop
datagrams client 10.1.0.1:7000 --count 30
reaches b0 input dropped.ring -eq 30
change --on-full pass
datagrams client 10.1.0.1:7000 --count 30
reaches b0 input passed.ring -eq 44
kill -CONT "${PIDS[relay]}"
release relay
quiet b0 input
change --max-bytes 1
datagrams client 10.1.0.1:7001 --count 10
reaches b0 input passed.bytes -ge 9
change --max-bytes 1M
detours 10 7001

stop relay

part "the end"
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000
change --on-exit drop
receiver recv box 10.1.0.1:7000 --count 0 --until-told
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
expect "on-exit" "$(listed on_exit)" = '"drop"'
kill_hard relay
heard recv
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000 --on-exit drop
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
receiver recv box 10.1.0.1:7000 --count 10
change --on-exit revert
kill_hard relay
finish recv

part "age"
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000
receiver recv box 10.1.0.1:7000 --count 10
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
change --max-age 200ms
finish recv
release relay
stop relay

part "nobody consumes: what waits moves on when it no longer may"
tapped keeper box ntdrive relay --tap b0:input --fanout any --standby
pings client 10.1.0.1 5
change --no-consumer hold
receiver recv box 10.1.0.1:7000 --count 20
datagrams client 10.1.0.1:7000 --count 20
total_reaches b0 input detoured.in_flight -eq 20
change --no-consumer pass
finish recv
pings client 10.1.0.1 5
stop keeper

part "values that name nothing, and taps that are not there"
tapped relay box ntdrive relay --tap b0:input
refuses "a policy" change --on-full perhaps
refuses "nothing" change
refuses "a tap" tapctl tap set 4000000000 --max-age 1s
refuses "without privilege" setpriv --bounding-set=-net_admin --inh-caps=-net_admin tapctl tap set "$(tap_id b0 input)" --max-age 1s
stop relay

part "on probation: it ends by itself, and what went through it goes on"
start pings client ping -n -i 0.05 10.1.0.1
ns box tapctl tap add --dev b0 --mode input --confirm $((2 * SLOWNESS)) >/dev/null
reaches b0 input ended.reverted -gt 5
await "it ends" open_taps 0
pings client 10.1.0.1 5
part "confirmed in time: it stays"
ns box tapctl tap add --dev b0 --mode input --confirm $((2 * ${SLOWNESS:-1})) >/dev/null
tapctl tap confirm "$(tap_id b0 input)" >/dev/null
pause $((2 * ${SLOWNESS:-1} + 1))
pings client 10.1.0.1 5
open_taps 1 || fail "a confirmed tap has ended"
kill -INT "${PIDS[pings]}"
finish pings
answered pings || fail "pings were lost: $(tail -n 3 "$WORK/pings.log")"
refuses "confirming another program's tap" tapctl tap confirm 4000000000
tapctl tap del --all >/dev/null
await "the holder ends" open_taps 0
part "on probation: a session by the tapped interface freezes, and is there again when the tap ends"
mkfifo "$WORK/typed"
tcp_sink host box 22 "$WORK/there"
start shell client socat -u "OPEN:$WORK/typed" TCP:10.1.0.1:22
exec {typing}>"$WORK/typed"
echo before >&"$typing"
await "what is typed arrives" grep -q before "$WORK/there"
ns box tapctl tap add --dev b0 --mode input --fanout any --standby --no-consumer hold --confirm $((2 * SLOWNESS)) >/dev/null
echo meanwhile >&"$typing"
total_reaches b0 input detoured.in_flight -ge 1
await "it ends" open_taps 0
await "what was typed arrives" grep -q meanwhile "$WORK/there"
echo after >&"$typing"
exec {typing}>&-
finish shell
finish host
expect "what arrived" "$(tr '\n' ' ' <"$WORK/there")" = "before meanwhile after "
part "one that was added for good is not confirmed, and ends by nobody who looks elsewhere"
ns box tapctl tap add --dev b0 --mode input >/dev/null
id=$(tap_id b0 input)
refuses "confirming it" tapctl tap confirm "$id"
refuses "ending it" tapctl --netns client tap del "$id"
refuses "changing it" tapctl --netns client tap set "$id" --on-exit drop
tapctl --netns box tap del "$id" >/dev/null
await "the holder ends" open_taps 0
part "a program of tapctl's that waits for no confirmation is not ended by one"
tapped delay box tapctl run delay --ms 1 --mode input b0
refuses "confirming it" tapctl tap confirm "$(tap_id b0 input)"
pings client 10.1.0.1 5
is_running delay || fail "it has ended"
stop delay
