# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the guest tests share: expectations, waiting for conditions, network namespaces, programs in the background, the
# module's counters. Sourced by each NNN-name.sh, which tests/run.sh starts in mount, pid and network namespaces of its
# own: whatever is left over dies with them. Nobody sleeps and hopes: what has to happen is awaited by `await`.

set -euo pipefail

[[ ${NETTAP_TEST:-} ]] || { echo "tests/run.sh runs the tests, each in namespaces of its own" >&2; exit 1; }

# Seconds that anything may take. The tests also run under emulation, where it is not much; run.sh sets SLOWNESS.
readonly PATIENCE=$((10 * ${SLOWNESS:-1}))
WORK=$(mktemp -d)
readonly WORK
mount -t tmpfs tmpfs /run/netns
ip link set lo up

# --- speech and expectations ------------------------------------------------------------------------------------------

# part TEXT: what is tried now; the last one named stands above a failure.
part() { printf -- '- %s\n' "$*"; }

fail() {
	printf 'FAIL %s: %s\n' "$(caller_line)" "$*" >&2
	exit 1
}

skip() {
	echo "skip: $*"
	exit 77
}

# The line of the test itself, not of this library.
caller_line() {
	local depth
	for ((depth = 1; depth < ${#BASH_SOURCE[@]}; depth++)); do
		[[ ${BASH_SOURCE[depth]} == */lib.sh ]] || break
	done
	echo "${BASH_SOURCE[depth]##*/}:${BASH_LINENO[depth - 1]}"
}

# expect WHAT GOT OPERATOR WANTED: the operators are those of test(1).
expect() {
	test "$2" "$3" "$4" || fail "$1 is ${2:-nothing}, expected $3 $4"
}

# await WHAT COMMAND…: until the command succeeds.
await() {
	local what=$1 end=$((SECONDS + PATIENCE))
	shift
	until "$@" >"$WORK/await.log" 2>&1; do
		((SECONDS < end)) || fail "waited $PATIENCE s in vain for: $what ($*): $(tail -n 3 "$WORK/await.log")"
		sleep 0.02
	done
}

# refuses WHAT COMMAND…: it must fail.
refuses() {
	local what=$1
	shift
	! "$@" >"$WORK/refuses.log" 2>&1 || fail "$what succeeded: $*"
}

# same FILE FILE
same() {
	[[ $(sha256sum <"$1") == "$(sha256sum <"$2")" ]] || fail "$1 ($(wc -c <"$1") bytes) and $2 ($(wc -c <"$2") bytes) differ"
}

# --- programs ---------------------------------------------------------------------------------------------------------

declare -A PIDS=()

# ns NAMESPACE COMMAND…: runs there; a background job's pid is the command's own.
ns() {
	local space=$1
	shift
	nsenter --net="/run/netns/$space" -- "$@"
}

# start NAME NAMESPACE COMMAND…: in the background; its output is in $WORK/NAME.log.
start() {
	local name=$1 space=$2
	shift 2
	nsenter --net="/run/netns/$space" -- "$@" >"$WORK/$name.log" 2>&1 &
	PIDS[$name]=$!
}

said() { grep -q -- "$2" "$WORK/$1.log"; }
is_running() { kill -0 "${PIDS[$1]}" 2>/dev/null; }
has_ended() { ! is_running "$1"; }

# ready NAME: it has said so; one that ends before has failed.
ready() {
	local end=$((SECONDS + PATIENCE))
	until said "$1" '^ready'; do
		is_running "$1" || { cat "$WORK/$1.log" >&2; fail "$1 ended before it was ready"; }
		((SECONDS < end)) || fail "$1 was not ready in $PATIENCE s"
		sleep 0.02
	done
}

# tapped NAME NAMESPACE COMMAND…: a program that opens taps, until all are open.
tapped() {
	start "$@"
	ready "$1"
}

# finish NAME: it ends by itself, and well.
finish() {
	local status=0
	wait "${PIDS[$1]}" || status=$?
	unset "PIDS[$1]"
	((status == 0)) || { tail -n 20 "$WORK/$1.log" >&2; fail "$1 ended with status $status"; }
}

# stop NAME: checks the balance of every tap, tells it to end, and expects that it ends well.
stop() {
	balance
	kill -TERM "${PIDS[$1]}"
	finish "$1"
}

# kill_hard NAME: kill -9, and nothing of it is left.
kill_hard() {
	kill -KILL "${PIDS[$1]}"
	wait "${PIDS[$1]}" 2>/dev/null || true
	unset "PIDS[$1]"
}

# release NAME: a holding `ntdrive relay` lets go of what it holds.
release() {
	kill -USR1 "${PIDS[$1]}"
	await "$1 releases" said "$1" released
}

# On failure: what everybody had to say.
farewell() {
	local status=$? log
	if ((status != 0 && status != 77)); then
		for log in "$WORK"/*.log; do
			[[ ! -s $log ]] || { echo "--- ${log##*/}"; tail -n 15 "$log"; }
		done
		echo "--- counters"
		tapctl tap stats || true
	fi >&2
	exit "$status"
}
trap farewell EXIT

# --- the module's counters --------------------------------------------------------------------------------------------

# count IF MODE FIELD: a counter of a tap, named as in `tapctl --json tap stats`, such as ended.reverted.
count() {
	tapctl --json tap stats | jq --arg dev "$1" --arg mode "$2" "[.taps[] | select(.dev == \$dev and .mode == \$mode)][0].$3"
}

# counts IF MODE FIELD OPERATOR NUMBER: expects it of a counter; reaches: awaits it.
counts() { expect "$1 $2 $3" "$(count "$1" "$2" "$3")" "$4" "$5"; }
reaches() { await "$1 $2 $3 $4 $5 (it is $(count "$1" "$2" "$3"))" test_count "$@"; }
test_count() { test "$(count "$1" "$2" "$3")" "$4" "$5"; }

# total IF MODE FIELD: of all taps of a fan-out; shares: how many of them have some.
total() {
	tapctl --json tap stats | jq --arg dev "$1" --arg mode "$2" "[.taps[] | select(.dev == \$dev and .mode == \$mode) | .$3] | add // 0"
}
test_total() { test "$(total "$1" "$2" "$3")" "$4" "$5"; }
shares() {
	tapctl --json tap stats | jq --arg dev "$1" --arg mode "$2" "[.taps[] | select(.dev == \$dev and .mode == \$mode and .$3 > 0)] | length"
}

# tap_id IF MODE
tap_id() { count "$1" "$2" id; }

# open_taps NUMBER
open_taps() { [[ $(tapctl --json tap list | jq '.taps | length') == "$1" ]]; }

# balance: closes for every open tap; tapctl's exit status says so.
balance() { tapctl tap stats >"$WORK/balance.txt" || fail "a balance does not close: $(grep balance "$WORK/balance.txt")"; }

# quiet IF MODE: nothing of this tap is out.
quiet() { reaches "$1" "$2" detoured.in_flight -eq 0; }

# session FIELD: of the first session that has mapped.
session() { tapctl --json session list | jq "[.sessions[] | select(.mapped)][0].$1"; }

# region FIELD
region() { tapctl --json region show | jq ".region.$1"; }

# --- networks ---------------------------------------------------------------------------------------------------------

# Ethernet addresses that do not change from run to run.
readonly MAC_C0=02:00:00:00:00:c0 MAC_B0=02:00:00:00:00:b0 MAC_B1=02:00:00:00:00:b1 MAC_S0=02:00:00:00:00:50
export MAC_C0 MAC_B0 MAC_B1 MAC_S0

# netns NAME…: without IPv6, whose own packets would disturb the counting; `with_ipv6` brings it.
netns() {
	local name
	for name; do
		ip netns add "$name"
		everywhere "$name" ipv6 disable_ipv6 1
		ip -n "$name" link set lo up
	done
}

# everywhere NS FAMILY SETTING VALUE: for all interfaces of the namespace, and those to come.
everywhere() {
	# shellcheck disable=SC2016  # the inner shell expands it
	ns "$1" sh -c 'for file in /proc/sys/net/$0/conf/*/$1; do echo "$2" >"$file"; done' "$2" "$3" "$4"
}

# with_ipv6 NAME…: without the router solicitations and without waiting for duplicate addresses.
with_ipv6() {
	local name
	for name; do
		everywhere "$name" ipv6 accept_dad 0
		everywhere "$name" ipv6 router_solicitations 0
		everywhere "$name" ipv6 disable_ipv6 0
	done
}

# wire NS IF MAC NS IF MAC: a veth pair, its offloads on as the kernel makes it; MTU=9000 before it makes it a jumbo link.
wire() {
	local mtu=${MTU:-1500}
	ip -n "$1" link add "$2" address "$3" mtu "$mtu" type veth peer name "$5" address "$6" mtu "$mtu" netns "$4"
	ip -n "$1" link set "$2" up
	ip -n "$4" link set "$5" up
}

# address NS IF ADDRESS…
address() {
	local space=$1 dev=$2 address
	shift 2
	for address; do
		ip -n "$space" address add "$address" dev "$dev"
	done
}

# neighbour NS IF ADDRESS MAC: known for ever, so that no ARP disturbs the counting.
neighbour() { ip -n "$1" neighbour replace "$3" lladdr "$4" dev "$2" nud permanent; }

# pair: the smallest network.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box
pair() {
	netns client box
	wire client c0 "$MAC_C0" box b0 "$MAC_B0"
	address client c0 10.1.0.2/24
	address box b0 10.1.0.1/24
	neighbour client c0 10.1.0.1 "$MAC_B0"
	neighbour box b0 10.1.0.2 "$MAC_C0"
}

# road: the box forwards between a client and a server.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box b1 10.2.0.1 ───── s0 10.2.0.2 server
road() {
	pair
	netns server
	wire box b1 "$MAC_B1" server s0 "$MAC_S0"
	address box b1 10.2.0.1/24
	address server s0 10.2.0.2/24
	neighbour box b1 10.2.0.2 "$MAC_S0"
	neighbour server s0 10.2.0.1 "$MAC_B1"
	ip -n client route add default via 10.1.0.1
	ip -n server route add default via 10.2.0.1
	ns box sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# --- traffic ----------------------------------------------------------------------------------------------------------

# receiver NAME NAMESPACE ADDRESS OPTION…: numbered datagrams will be judged; `finish NAME` gives the verdict.
receiver() {
	local name=$1 space=$2
	shift 2
	start "$name" "$space" ntdrive udp-recv "$@"
	ready "$name"
}

# datagrams NAMESPACE ADDRESS OPTION…: sends them.
datagrams() {
	local space=$1
	shift
	ns "$space" ntdrive udp-send "$@" >>"$WORK/sent.log"
}

# got NAME FIELD: from a receiver's account.
got() { jq -R "fromjson? | select(type == \"object\") | .$2" <"$WORK/$1.log" | tail -n 1; }

# pings NAMESPACE ADDRESS [COUNT]: all are answered.
pings() { ns "$1" ping -q -n -c "${3:-5}" -i 0.02 -W 2 "$2" >"$WORK/ping.log" || fail "ping $2: $(tail -n 3 "$WORK/ping.log")"; }

# answered NAME: of the pings in its log all up to the last that was answered; behind it some may have been under way.
answered() { sed -n 's/.*icmp_seq=\([0-9]*\) .*/\1/p' "$WORK/$1.log" | sort -nu | awk '$1 != NR { exit 1 }'; }

# lost NAMESPACE ADDRESS: no ping is answered.
lost() { ! ns "$1" ping -q -n -c 2 -i 0.05 -W 0.5 "$2" >"$WORK/ping.log" 2>&1 || fail "$2 answers a ping from $1"; }

# noise FILE MEGABYTES: less in a slow kernel, since what it looks for is on every packet's way.
noise() { head -c "$((($2 + ${SLOWNESS:-1} - 1) / ${SLOWNESS:-1}))M" /dev/urandom >"$1"; }

# web NAMESPACE ADDRESS: nginx serves $WORK/www there, and takes uploads by PUT.
web() {
	mkdir -p "$WORK/www" "$WORK/body"
	cat >"$WORK/nginx.conf" <<-END
		user root;
		daemon off;
		master_process off;
		pid $WORK/nginx.pid;
		error_log stderr;
		events {}
		http {
			access_log $WORK/access.log;
			client_body_temp_path $WORK/body;
			client_max_body_size 0;
			sendfile on;
			server { listen $2:80; root $WORK/www; location / { dav_methods PUT; } }
		}
	END
	start nginx "$1" nginx -c "$WORK/nginx.conf" -e stderr
	await "the web server listens" listens "$1" 80
}
listens() { [[ $(ns "$1" ss -Hltn "sport = :$2") ]]; }

# fetch NAMESPACE URL FILE; upload NAMESPACE FILE URL
fetch() { ns "$1" curl -sS --max-time $((6 * PATIENCE)) -o "$3" "$2" || fail "download of $2"; }
upload() { ns "$1" curl -sS --max-time $((6 * PATIENCE)) -f -T "$2" "$3" || fail "upload to $3"; }

# tcp_sink NAME NAMESPACE PORT FILE: one connection's bytes go to the file.
tcp_sink() {
	start "$1" "$2" socat -u "TCP-LISTEN:$3,reuseaddr" "OPEN:$4,creat,trunc"
	await "$1 listens" listens "$2" "$3"
}
# tcp_send NAMESPACE FILE ADDRESS PORT
tcp_send() { ns "$1" socat -u "OPEN:$2" "TCP:$3:$4"; }

# --- beside hostile programs ------------------------------------------------------------------------------------------

# flow NAME FROM TO ADDRESS: numbered datagrams without end; `flowed NAME TO PORT` ends them, and each must have arrived once.
flow() {
	start "recv_$1" "$3" ntdrive udp-recv "$4" --count 1000000000 --some --unordered --seconds 1000000
	ready "recv_$1"
	start "send_$1" "$2" ntdrive udp-send "$4" --count 1000000000 --gap "${GAP:-500}" --tolerant
}

# unread NAMESPACE PORT: bytes that have arrived there, and that their program has not read yet.
unread() { ns "$1" ss -Hnul "sport = :$2" | awk '{ n += $2 } END { print n + 0 }'; }
all_read() { [[ $(unread "$1" "$2") == 0 ]]; }

flowed() {
	local sent
	kill -TERM "${PIDS[send_$1]}"
	finish "send_$1"
	sent=$(got "send_$1" sent)
	# What the last one's way is made of may still be under way: nothing, or a backlog of some CPU.
	sleep 0.3
	await "the last datagrams are read" all_read "$2" "$3"
	kill -TERM "${PIDS[recv_$1]}"
	finish "recv_$1"
	expect "datagrams sent" "$sent" -gt 0
	expect "different datagrams that arrived, of $sent" "$(got "recv_$1" unique)" -eq "$sent"
	expect "datagrams that arrived, of $sent" "$(got "recv_$1" received)" -eq "$sent"
}

# victim: a well-meaning session on b1 of a `road`, with traffic; `unharmed`: it never noticed anything.
#
#	box b1 10.2.0.1 (INPUT and OUTPUT taps, echo) ───── s0 10.2.0.2 server, which sends without end
victim() {
	tapped victim box ntdrive relay --tap b1:input --tap b1:output
	flow victim server box 10.2.0.1:7001
}

unharmed() {
	local passed
	flowed victim box 7001
	quiet b1 input
	passed=$(count b1 input 'passed | add')
	expect "packets that the victim's tap echoed or let by" "$(($(count b1 input ended.reverted) + passed))" -ge "$(got recv_victim unique)"
	counts b1 input 'dropped | add' -eq 0
	counts b1 input 'refused | add' -eq 0
	stop victim
	figure "the victim beside it: $(got recv_victim unique) datagrams, each arrived once; $passed passed by for want of mbufs"
}

# figure TEXT: what the test measured; run.sh shows it.
figure() { echo "figure: $*"; }

# summary NAME FIELD: from the line of JSON that a program ended with.
summary() { jq -R "fromjson? | select(type == \"object\") | .$2" <"$WORK/$1.log" | tail -n 1; }
