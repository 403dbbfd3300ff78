#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: `tapctl monitor` prints events as they happen, for people and as JSON lines, of the kinds and the namespace
# that it was asked for; listeners may be killed at any moment; without privilege nobody listens; packets that went with
# their interface are in the kernel's log.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# watch NAME OPTION…: `tapctl monitor` in the background. It listens once it tells of a session that was opened.
watch() {
	start "$1" box tapctl "${@:2}"
	await "$1 listens" hears "$1"
}
# A command that asks for versions opens a session, and that is an event.
hears() { tapctl version >/dev/null && [[ -s $WORK/$1.log ]]; }

# events NAME FILTER: of a monitor with --json, as jq sees them.
events() { jq -c ".event | $2" <"$WORK/$1.log"; }
# one NAME FILTER: there is such an event; it is awaited.
one() { await "$1 is told: $2" happened "$1" "$2"; }
happened() { [[ $(events "$1" "select($2)") ]]; }

# caught_up: packets come, until one of them finds the tap open again.
caught_up() {
	pings client 10.1.0.1 1
	[[ $(count b0 input watchdog.failed_open) == 0 ]]
}

part "the life of a program that is killed while it holds packets"
watch all --json monitor
watch plain monitor session-open tap-open tap-close
tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold --only 7000
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
id=$(tap_id b0 input)
session=$(tapctl --json tap list | jq "[.taps[] | select(.id == $id)][0].session")
kill_hard relay
open_taps 0 || fail "a tap outlived its program"
one all ".kind == \"tap-open\" and .tap == $id and .dev == \"b0\" and .mode == \"input\" and .session == $session"
one all ".kind == \"reclaim\" and .tap == $id and .count == 20 and .passed == 20 and .dropped == 0 and .cause == \"exit\""
one all ".kind == \"tap-close\" and .tap == $id and .cause == \"exit\" and .by == null"
one all '.kind == "session-close" and .comm == "ntdrive" and .cause == "exit"'
await "the same for people" said plain "tap-close .*tap $id \(input, b0\), pid [0-9]* \(ntdrive\): exit"

part "who ended a tap by its id"
tapped relay box ntdrive relay --tap b0:input --until-gone
id=$(tap_id b0 input)
tapctl tap del "$id" >/dev/null
finish relay
one all ".kind == \"tap-close\" and .tap == $id and .cause == \"untap\" and .by > 0 and .by != .pid"

part "a program that stands still, and a policy that somebody changes"
tapped relay box ntdrive relay --tap b0:input --do hold --only 7000 --max-age $((300 * SLOWNESS))
id=$(tap_id b0 input)
datagrams client 10.1.0.1:7000 --count 10
reaches b0 input detoured.in_flight -eq 10
# One that looks at its signals now and then shows life by it, and would have the tap again at once.
kill -STOP "${PIDS[relay]}"
one all ".kind == \"fail-open\" and .tap == $id"
one all ".kind == \"reclaim\" and .tap == $id and .cause == \"max-age\" and .count == 10 and .passed == 10"
datagrams client 10.1.0.1:7001 --count 5
kill -CONT "${PIDS[relay]}"
release relay
await "it has caught up" caught_up
one all ".kind == \"fail-open-end\" and .tap == $id and .passed >= 5"
tapctl tap set "$id" --max-age 0 >/dev/null
one all ".kind == \"policy\" and .tap == $id and .what == [\"max_age\"] and .by > 0 and .by != .pid"
stop relay
for line in 'lets packets pass: its program is stopped or too slow' 'takes packets again'; do
	dmesg | grep -E "nettap: b0: tap $id of ntdrive .*$line" >/dev/null || fail "the kernel's log does not say so: $line"
done

# told CAUSE FIELD: packets that the drop events of the tap told for this cause.
told() { jq -s "[.[].event | select(.kind == \"drop\" and .tap == $id and .cause == \"$1\") | .$2] | add // 0" <"$WORK/all.log"; }

# adds_up CAUSE FIELD OPTION…: of 300 packets of which few find room the rest is told, all of it when the tap has closed.
adds_up() {
	local cause=$1 field=$2 rest
	shift 2
	tapped relay box ntdrive relay --tap b0:input --do hold --only 7000 "$@"
	kill -STOP "${PIDS[relay]}"
	id=$(tap_id b0 input)
	datagrams client 10.1.0.1:7000 --count 300
	rest=$(count b0 input "$field.$cause")
	expect "packets that found no room" "$rest" -ge 200
	kill -CONT "${PIDS[relay]}"
	release relay
	stop relay
	one all ".kind == \"tap-close\" and .tap == $id and .cause == \"closed\""
	expect "packets that drop events told, for $cause" "$(told "$cause" "$field")" -eq "$rest"
}

part "what finds no room is told by cause, and adds up to the counters"
adds_up ring passed --ring-cells 16
adds_up ring dropped --ring-cells 16 --on-full drop
adds_up bytes passed --max-bytes 20000
adds_up mbufs passed --group tiny --group-mbufs 64 --prealloc 16
adds_up mbufs dropped --group tiny --group-mbufs 64 --prealloc 16 --on-full drop

part "so are changes and new packets that are refused"
receiver sink client 10.1.0.2:7000 --count 1000000 --some --seconds 60
ns box ntdrive raw shapes b0 10.1.0.2:7000 >"$WORK/shapes.log"
heard sink
for cause in shape offload; do one all ".kind == \"drop\" and .cause == \"$cause\" and .dropped > 5"; done

part "and what the queue of the interface does not take"
tapped relay box ntdrive relay --tap b0:output --do hold --only 7000
id=$(tap_id b0 output)
datagrams box 10.1.0.2:7000 --count 20
reaches b0 output detoured.in_flight -eq 20
tc -n box qdisc add dev b0 root pfifo limit 0
release relay
reaches b0 output extra.undelivered -eq 20
tc -n box qdisc del dev b0 root
stop relay
one all ".kind == \"tap-close\" and .tap == $id"
expect "packets that drop events told, for undelivered" "$(told undelivered dropped)" -eq 20

part "an interface that goes with packets held"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold --only 7000 --until-gone
datagrams client 10.1.0.1:7000 --count 5
reaches b0 input detoured.in_flight -eq 5
ip -n box link del b0
finish relay
one all '.kind == "interface-gone" and .dev == "b0" and .count == 2 and .dropped == 5'
one all '.kind == "tap-close" and .cause == "interface-gone"'
dmesg | grep -F 'nettap: b0: the interface is gone, and 5 packets that programs held of it' >/dev/null ||
	fail "the kernel's log does not say so: $(dmesg | tail -n 3)"

part "a named group comes and goes"
expect "map in a group" "$(ntdrive raw try-map --group web --mbufs 64)" = ok
one all '.kind == "group-gone" and .group_name == "web" and .by > 0'
expect "what happened in it, in its order" "$(jq -sc '
	[.[].event] | (.[] | select(.kind == "group-made" and .group_name == "web")).group as $id
	| [.[] | select(.group == $id and $id > 0) | .kind]' <"$WORK/all.log")" = \
	'["group-made","map","reclaim","unmap","group-gone"]'

part "locks of programs that die with them in hand"
ntdrive locks --kills 3 >"$WORK/locks.log"
# Its twenty sure deaths; others may come by chance.
locks_told() {
	[[ $(events all 'select(.kind == "lock-released" and .cause == "exit" and .comm == "ntdrive" and .count == 1)' | wc -l) -ge 20 ]]
}
await "all deaths are told" locks_told

part "nothing was lost, and the numbers have no hole"
expect "events that are lost" "$(jq -s '[.[].event.lost] | add' <"$WORK/all.log")" -eq 0
jq -se '[.[].event.number] == [range(1; length + 1)]' <"$WORK/all.log" >/dev/null || fail "the numbers have holes"

part "kinds, --count, and the namespace"
netns elsewhere
ip -n elsewhere link add d0 type dummy
ip -n box link add d1 type dummy
start some box tapctl --netns elsewhere --json monitor tap-open --count 1
taps_everywhere() {
	expect "tap on d1" "$(ns box ntdrive raw try-tap d1 input)" = ok
	expect "tap on d0" "$(ns elsewhere ntdrive raw try-tap d0 input)" = ok
	has_ended some
}
await "it ends after one event" taps_everywhere
finish some
expect "kind and interface" "$(events some '[.kind, .dev]')" = '["tap-open","d0"]'

part "killed listeners leave nothing behind, and nobody is disturbed"
for _ in {1..70}; do
	start killed box tapctl --json monitor
	kill_hard killed
done
watch last --json monitor
kill_hard last
one all '.kind == "session-close" and .comm == "tapctl" and .cause == "exit"'
kill -TERM "${PIDS[all]}" "${PIDS[plain]}"

part "without privilege nobody listens"
unprivileged() { setpriv --bounding-set=-net_admin --inh-caps=-net_admin tapctl --json monitor --count 1; }
expect "errno" "$(unprivileged | jq -r .error.errno)" = EPERM

part "nor root of another user namespace, whether it has a network of its own or not"
refused_to() { unshare --user --map-root-user "$@" tapctl --json monitor --count 1 | jq -r .error.errno; }
chmod 666 /dev/nettap
expect "errno in this network namespace" "$(refused_to)" = EPERM
expect "errno in one of its own" "$(refused_to --net)" = EPERM
chmod 660 /dev/nettap

part "many taps that fail open are told one by one, and the kernel's log has few lines of it"
readonly TAPS=32
configure box <<-END
	link set d1 up
	address add 10.8.0.1/24 dev d1
	neighbour replace 10.8.0.2 lladdr $MAC_S0 dev d1 nud permanent
END
watch many --json monitor session-open fail-open
places=()
for ((tap = 0; tap < TAPS; tap++)); do places+=(--tap d1:output); done
tapped relay box ntdrive relay "${places[@]}" --fanout any --ring-cells 64 --do hold --only 7000 --max-age $((1000 * SLOWNESS))
kill -STOP "${PIDS[relay]}"
datagrams box 10.8.0.2:7000 --count $((4 * TAPS))
all_told() { [[ $(events many 'select(.kind == "fail-open") | .tap' | sort -u | wc -l) -eq TAPS ]]; }
await "all $TAPS are told" all_told
kill -CONT "${PIDS[relay]}"
stop relay
kill -TERM "${PIDS[many]}"
# Ten lines in five seconds: twenty and one in less would be of more than two such times.
dmesg | sed -n 's/^\[ *\([0-9.]*\)\] nettap: d1: tap .* lets packets pass: .*/\1/p' >"$WORK/lines.txt"
expect "lines of it" "$(wc -l <"$WORK/lines.txt")" -ge 1
awk '{ at[NR] = $1 } NR > 20 && $1 - at[NR - 20] < 4.5 { exit 1 }' "$WORK/lines.txt" ||
	fail "the kernel's log has too many lines: $(tr '\n' ' ' <"$WORK/lines.txt")"
