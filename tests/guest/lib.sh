# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the guest tests share: expectations, waiting for conditions, network namespaces, programs in the background, the
# module's counters. Sourced by each NNN-name.sh, which tests/run.sh starts in mount, pid and network namespaces of its
# own: whatever is left over dies with them. Nobody sleeps and hopes: what has to happen is awaited by `await`.
#
# In emulation a program that is started costs 50 to 150 ms, a subshell 25 ms, and what the shell does itself nothing. So
# the helpers do in the shell what it can, and ask ntdrive, once, for what it cannot.

set -euo pipefail

[[ ${NETTAP_TEST:-} ]] || { echo "tests/run.sh runs the tests, each in namespaces of its own" >&2; exit 1; }

# Seconds that anything may take: an emulated processor on a busy host stands still for seconds. run.sh sets SLOWNESS.
readonly PATIENCE=$((30 * ${SLOWNESS:-1}))
WORK=$(mktemp -d)
readonly WORK
mount -t tmpfs tmpfs /run/netns
# How often `outside` has been asked.
ASKED=0
# A pipe from which nothing ever comes: what `pause` waits for.
exec {NEVER}<> <(:)

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

# pause SECONDS: sleep, without starting a program.
pause() { read -r -t "$1" -u "$NEVER" || true; }

# await WHAT COMMAND…: until the command succeeds.
await() {
	local what=$1 end=$((SECONDS + PATIENCE))
	shift
	until "$@" >"$WORK/await.log" 2>&1; do
		((SECONDS < end)) || fail "waited $PATIENCE s in vain for: $what ($*): $(tail -n 3 "$WORK/await.log")"
		pause 0.02
	done
}

# refuses WHAT COMMAND…: it must fail.
refuses() {
	local what=$1
	shift
	! "$@" >"$WORK/refuses.log" 2>&1 || fail "$what succeeded: $*"
}

# outside COMMAND…: in the initial pid namespace, where the kernel's threads are, and in no other of the test's.
outside() {
	local answer=$WORK/outside.$((++ASKED)) status
	printf '%q ' "$answer" "$@" >&"$OUTSIDE"
	echo >&"$OUTSIDE"
	until [[ -s $answer.status ]]; do pause 0.01; done
	read -r status <"$answer.status"
	cat "$answer"
	return "$status"
}

# same FILE FILE
same() {
	cmp -s "$1" "$2" || fail "$1 ($(wc -c <"$1") bytes) and $2 ($(wc -c <"$2") bytes) differ"
}

# --- programs ---------------------------------------------------------------------------------------------------------

declare -A PIDS=()

# within NAMESPACE COMMAND…: what runs it there, in the array `within`; ntdrive goes by itself.
within() {
	case $2 in
	ntdrive) within=(ntdrive --inside "$1" "${@:3}") ;;
	*) within=(nsenter --net="/run/netns/$1" -- "${@:2}") ;;
	esac
}

# ns NAMESPACE COMMAND…: runs there.
ns() {
	local within
	within "$@"
	"${within[@]}"
}

# start NAME NAMESPACE COMMAND…: in the background; its pid is in PIDS, its output in $WORK/NAME.log.
start() {
	local within
	within "${@:2}"
	# Before it starts, lest anybody reads what another of this name had to say.
	: >"$WORK/$1.log"
	"${within[@]}" >"$WORK/$1.log" 2>&1 &
	PIDS[$1]=$!
}

# said NAME REGEX: on some line of its output.
said() {
	local line lines
	mapfile -t lines <"$WORK/$1.log"
	for line in "${lines[@]}"; do
		[[ ! $line =~ $2 ]] || return 0
	done
	return 1
}
is_running() { kill -0 "${PIDS[$1]}" 2>/dev/null; }
has_ended() { ! is_running "$1"; }

# ready NAME: it has said so; one that ends before has failed.
ready() {
	local end=$((SECONDS + PATIENCE))
	until said "$1" '^ready'; do
		is_running "$1" || { cat "$WORK/$1.log" >&2; fail "$1 ended before it was ready"; }
		((SECONDS < end)) || fail "$1 was not ready in $PATIENCE s"
		pause 0.02
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

# signal NAME SIGNAL: it must be there still: who ended before was not meant to.
signal() { kill "-$2" "${PIDS[$1]}" 2>/dev/null || fail "$1 had ended by itself"; }

# stop NAME: checks the balance of every tap, tells it to end, and expects that it ends well.
stop() {
	balance
	signal "$1" TERM
	finish "$1"
}

# kill_hard NAME: kill -9, and nothing of it is left.
kill_hard() {
	signal "$1" KILL
	bury "$1"
}

# kill_any NAME: the same of one that may have ended by itself.
kill_any() {
	kill -KILL "${PIDS[$1]}" 2>/dev/null || true
	bury "$1"
}

# bury NAME: it ends, however.
bury() {
	wait "${PIDS[$1]}" 2>/dev/null || true
	unset "PIDS[$1]"
}

# heard NAME: a receiver that listens for as long as it is not told to end hears what may still be under way, and judges.
heard() {
	signal "$1" TERM
	finish "$1"
}

# release NAME: a holding `ntdrive relay` lets go of what it holds.
release() {
	signal "$1" USR1
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

# count IF MODE FIELD: a counter of a tap, named as in `tapctl --json tap stats`, such as ended.reverted; the name of a
# group of them, such as dropped, is its sum.
count() { ntdrive count "$@"; }

# counts IF MODE FIELD OPERATOR NUMBER [FIELD OPERATOR NUMBER]…: expects it of counters; reaches: awaits it; test_counts:
# whether it is so. The operators are those of test(1).
test_counts() { ntdrive counts "$@" 2>"$WORK/counts.log"; }
counts() { test_counts "$@" || fail "$(<"$WORK/counts.log")"; }
reaches() { test_counts --within "$PATIENCE" "$@" || fail "in $PATIENCE s: $(<"$WORK/counts.log")"; }

# quiet IF MODE [FIELD OPERATOR NUMBER]…: nothing of this tap is out, and that is so.
quiet() { reaches "$1" "$2" detoured.in_flight -eq 0 "${@:3}"; }

# total IF MODE FIELD: of all taps of a fan-out; total_reaches IF MODE FIELD OPERATOR NUMBER: awaits it; sharers: how many
# of them have some.
total() { ntdrive count --of all "$@"; }
total_reaches() { reaches --of all "$@"; }
sharers() { ntdrive count --of sharers "$@"; }

# tap_id IF MODE
tap_id() { count "$1" "$2" id; }

# open_taps NUMBER: whether so many are open.
open_taps() { ntdrive open-taps "$1" 2>"$WORK/counts.log"; }

# balance: closes for every open tap; tapctl's exit status says so.
balance() { tapctl tap stats >"$WORK/balance.txt" || fail "a balance does not close: $(grep balance "$WORK/balance.txt")"; }

# session FIELD: of the first session that has mapped; region FIELD: of the default group's.
session() { ntdrive session "$1"; }
region() { ntdrive region "$1"; }

# --- networks ---------------------------------------------------------------------------------------------------------

# Ethernet addresses that do not change from run to run.
readonly MAC_C0=02:00:00:00:00:c0 MAC_B0=02:00:00:00:00:b0 MAC_B1=02:00:00:00:00:b1 MAC_B2=02:00:00:00:00:b2
readonly MAC_S0=02:00:00:00:00:50 MAC_S1=02:00:00:00:00:51
export MAC_C0 MAC_B0 MAC_B1 MAC_B2 MAC_S0 MAC_S1

# netns NAME…: without IPv6, whose own packets would disturb the counting; `with_ipv6` brings it.
netns() {
	local name
	for name; do
		: >"/run/netns/$name"
		unshare --net="/run/netns/$name" -- \
			sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec ip link set lo up'
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
		# shellcheck disable=SC2016  # the inner shell expands it
		ns "$name" sh -c 'for conf in /proc/sys/net/ipv6/conf/*; do
			echo 0 >"$conf/accept_dad"
			echo 0 >"$conf/router_solicitations"
			echo 0 >"$conf/disable_ipv6"
		done'
	done
}

# wire NS IF MAC NS IF MAC: a veth pair, its offloads on as the kernel makes it; MTU=9000 before it makes it a jumbo link.
wire() {
	local mtu=${MTU:-1500}
	ip -n "$1" link add "$2" up address "$3" mtu "$mtu" type veth peer name "$5" address "$6" mtu "$mtu" netns "$4"
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

# configure NS: by the commands of ip on standard input.
configure() { ip -n "$1" -batch -; }

# neighbour NS IF ADDRESS MAC: known for ever, so that no ARP disturbs the counting.
neighbour() { ip -n "$1" neighbour replace "$3" lladdr "$4" dev "$2" nud permanent; }

# pair: the smallest network.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box
pair() {
	local mtu=${MTU:-1500}
	netns client box
	configure client <<-END
		link add c0 up address $MAC_C0 mtu $mtu type veth peer name b0 address $MAC_B0 mtu $mtu netns box
		address add 10.1.0.2/24 dev c0
		neighbour replace 10.1.0.1 lladdr $MAC_B0 dev c0 nud permanent
	END
	configure box <<-END
		link set b0 up
		address add 10.1.0.1/24 dev b0
		neighbour replace 10.1.0.2 lladdr $MAC_C0 dev b0 nud permanent
	END
}

# road: the box forwards between a client and a server.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box b1 10.2.0.1 ───── s0 10.2.0.2 server
road() {
	local mtu=${MTU:-1500}
	pair
	netns server
	ip -n client route add default via 10.1.0.1
	configure server <<-END
		link add s0 up address $MAC_S0 mtu $mtu type veth peer name b1 address $MAC_B1 mtu $mtu netns box
		address add 10.2.0.2/24 dev s0
		neighbour replace 10.2.0.1 lladdr $MAC_B1 dev s0 nud permanent
		route add default via 10.2.0.1
	END
	configure box <<-END
		link set b1 up
		address add 10.2.0.1/24 dev b1
		neighbour replace 10.2.0.2 lladdr $MAC_S0 dev b1 nud permanent
	END
	ns box sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

# secured: between client and box of a `pair` or `road` a tunnel of IPsec's: 10.9.0.2 ═════ 10.9.0.1. False: this kernel has none.
secured() {
	local key
	# ends NAMESPACE OUT IN: both ends of the tunnel as this one sees them.
	ends() {
		configure "$1" <<-END
			xfrm state add src 10.1.0.1 dst 10.1.0.2 proto esp spi 0x101 reqid 1 mode tunnel aead rfc4106(gcm(aes)) $key 128
			xfrm state add src 10.1.0.2 dst 10.1.0.1 proto esp spi 0x102 reqid 2 mode tunnel aead rfc4106(gcm(aes)) $key 128
			xfrm policy add src 10.9.0.1 dst 10.9.0.2 dir $2 tmpl src 10.1.0.1 dst 10.1.0.2 proto esp reqid 1 mode tunnel
			xfrm policy add src 10.9.0.2 dst 10.9.0.1 dir $3 tmpl src 10.1.0.2 dst 10.1.0.1 proto esp reqid 2 mode tunnel
		END
	}
	printf -v key '0x%040d' 7
	ends box out in 2>"$WORK/secured.log" && ends client in out || return
	address client c0 10.9.0.2/32
	address box b0 10.9.0.1/32
	ip -n box route add 10.9.0.2 via 10.1.0.2 dev b0 src 10.9.0.1
	ip -n client route add 10.9.0.1 via 10.1.0.1 dev c0 src 10.9.0.2
}

# --- traffic ----------------------------------------------------------------------------------------------------------

# receiver NAME NAMESPACE ADDRESS OPTION…: numbered datagrams will be judged; `finish NAME` gives the verdict when all have
# come, `heard NAME` when all that will come was sent: where nothing must come (--count 0 --until-told), or nobody says
# how many (--count 1000000 --some).
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

# says NAME NUMBER TEXT: a receiver with --text has printed so many lines that are exactly this.
says() {
	local line lines number=0
	mapfile -t lines <"$WORK/$1.log"
	for line in "${lines[@]}"; do
		[[ $line != "$3" ]] || number=$((number + 1))
	done
	expect "number of datagrams that are '$3' at $1" "$number" -eq "$2"
}

# become SENT ARRIVED 'FROM TO ADDRESS'…: three datagrams with the one text, sent to port 7000 there, arrive with the other.
become() {
	local sent=$1 arrived=$2 place from to address
	shift 2
	for place; do
		read -r from to address <<<"$place"
		start "at_$address" "$to" ntdrive udp-recv "$address:7000" --count 3 --text
	done
	for place; do
		read -r from to address <<<"$place"
		ready "at_$address"
		datagrams "$from" "$address:7000" --count 3 --text "$sent"
	done
	for place; do
		read -r from to address <<<"$place"
		finish "at_$address"
		says "at_$address" 3 "$arrived"
	done
}

# got NAME FIELD: from the last line of JSON that has it.
got() {
	local line lines value=
	mapfile -t lines <"$WORK/$1.log"
	for line in "${lines[@]}"; do
		[[ ! $line =~ ^\{.*\"$2\":([^],}]+) ]] || value=${BASH_REMATCH[1]}
	done
	echo "$value"
}

# printed NAME FILTER: of the packets that a relay with --print has printed, an array, as jq sees it.
printed() { jq -nrR "[inputs | fromjson? | objects | select(has(\"wire_len\"))] | $2" <"$WORK/$1.log"; }

# pings NAMESPACE ADDRESS [COUNT]: all are answered.
pings() { ns "$1" ping -q -n -c "${3:-5}" -i 0.005 -W "$PATIENCE" "$2" >"$WORK/ping.log" || fail "ping $2: $(tail -n 3 "$WORK/ping.log")"; }

# answered NAME: of the pings in its log all up to the last that was answered; behind it some may have been under way.
answered() { sed -n 's/.*icmp_seq=\([0-9]*\) .*/\1/p' "$WORK/$1.log" | sort -nu | awk '$1 != NR { exit 1 }'; }

# reachable NAMESPACE ADDRESS: awaits an answer. An IPv6 address that is new listens to its neighbours a moment later, and
# who has asked too early asks again after a second, at every hop.
reachable() { await "$2 answers $1" ns "$1" ping -q -n -c 1 -W 1 "$2"; }

# lost NAMESPACE ADDRESS: no ping is answered.
lost() { ! ns "$1" ping -q -n -c 2 -i 0.05 -W 0.5 "$2" >"$WORK/ping.log" 2>&1 || fail "$2 answers a ping from $1"; }

# noise FILE MEGABYTES: AMPLE times as many; less in a slow kernel, since what it looks for is on every packet's way.
noise() { head -c "$((($2 * ${AMPLE:-1} + ${SLOWNESS:-1} - 1) / ${SLOWNESS:-1}))M" /dev/urandom >"$1"; }

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
	await "the web server listens" listens nginx 80
}

# listens NAME PORT [tcp|udp]: a program of `start` does.
listens() {
	local port line lines kind=${3:-tcp} state=0A
	[[ $kind == tcp ]] || state=07
	printf -v port %04X "$2"
	for kind in "$kind" "${kind}6"; do
		mapfile -t lines <"/proc/${PIDS[$1]}/net/$kind"
		for line in "${lines[@]}"; do
			[[ ! $line =~ :$port\ 0+:0000\ $state\  ]] || return 0
		done
	done
	return 1
}

# fetch NAMESPACE URL FILE; upload NAMESPACE FILE URL
fetch() { ns "$1" curl -sS --max-time $((6 * PATIENCE)) -o "$3" "$2" || fail "download of $2"; }
upload() { ns "$1" curl -sS --max-time $((6 * PATIENCE)) -f -T "$2" "$3" || fail "upload to $3"; }

# tcp_sink NAME NAMESPACE PORT FILE: one connection's bytes go to the file.
tcp_sink() {
	start "$1" "$2" socat -u "TCP-LISTEN:$3,reuseaddr" "OPEN:$4,creat,trunc"
	await "$1 listens" listens "$1" "$3"
}
# tcp_send NAMESPACE FILE ADDRESS PORT
tcp_send() { ns "$1" socat -u "OPEN:$2" "TCP:$3:$4"; }

# --- beside hostile programs ------------------------------------------------------------------------------------------

# often MILLISECONDS: in seconds, and more of them in a slow kernel, lest what goes on all the while takes the processors
# from what is tried beside it.
often() { printf '%d.%03d' $(($1 * SLOWNESS / 1000)) $(($1 * SLOWNESS % 1000)); }

# flow NAME FROM TO ADDRESS: numbered datagrams without end, one in GAP microseconds (3000, in a slow kernel more);
# `flowed NAME` ends them, and each must have arrived once.
flow() {
	start "recv_$1" "$3" ntdrive udp-recv "$4" --count 1000000000 --some --unordered --seconds 1000000
	ready "recv_$1"
	start "send_$1" "$2" ntdrive udp-send "$4" --count 1000000000 --gap "${GAP:-$((3000 * SLOWNESS))}" --tolerant
}

flowed() {
	local sent
	kill -TERM "${PIDS[send_$1]}"
	finish "send_$1"
	sent=$(got "send_$1" sent)
	heard "recv_$1"
	expect "datagrams sent" "$sent" -gt 0
	expect "different datagrams that arrived, of $sent" "$(got "recv_$1" unique)" -eq "$sent"
	expect "datagrams that arrived, of $sent" "$(got "recv_$1" received)" -eq "$sent"
}

# victim: a well-meaning session on b1 of a `road`, with traffic, which shares the hostile program's region; and another,
# by a link of its own, in a group of its own. `unharmed`: neither ever noticed anything.
#
#	box b1 10.2.0.1 (INPUT and OUTPUT taps, echo) ───── s0 10.2.0.2 server, which sends without end
#	box b2 10.3.0.1 (the same, group apart)       ───── s1 10.3.0.2
victim() {
	tapped victim box ntdrive relay --tap b1:input --tap b1:output
	flow victim server box 10.2.0.1:7001
	wire box b2 "$MAC_B2" server s1 "$MAC_S1"
	address box b2 10.3.0.1/24
	address server s1 10.3.0.2/24
	neighbour box b2 10.3.0.2 "$MAC_S1"
	neighbour server s1 10.3.0.1 "$MAC_B2"
	tapped apart box ntdrive relay --group apart --group-mbufs 4096 --ring-cells 4096 --tap b2:input --tap b2:output
	flow apart server box 10.3.0.1:7001
}

unharmed() {
	local passed came own
	flowed victim
	flowed apart
	quiet b1 input
	passed=$(count b1 input passed)
	came=$(got recv_victim unique)
	expect "packets that the victim's tap echoed or let by" "$(($(count b1 input ended.reverted) + passed))" -ge "$came"
	counts b1 input dropped -eq 0 refused -eq 0 ended.reverted -gt 0
	stop victim
	# Nothing that others do with their region takes from it.
	own=$(got recv_apart unique)
	quiet b2 input passed -eq 0 dropped -eq 0 refused -eq 0 detoured.packets -eq "$own" ended.reverted -eq "$own"
	stop apart
	figure "the victim beside it: $came datagrams, each arrived once; $passed passed by for want of mbufs;" \
		"in a group of its own: $own, all through the program"
}

# figure TEXT: what the test measured; run.sh shows it.
figure() { echo "figure: $*"; }

# quickly WHAT COMMAND…: with packets held, within a second, where STOPPED= asks for what is promised (make hostile); among
# other tests an emulated processor may stand still for longer: for MOST= milliseconds in all (1500).
quickly() {
	local what=$1 start=$EPOCHREALTIME took most=${MOST:-1500}
	[[ ! ${STOPPED:-} ]] || most=1000
	shift
	"$@"
	took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
	expect "milliseconds for $what" "$took" -lt $((most * SLOWNESS))
	figure "$what with packets held: $took ms"
}

# summary NAME FILTER: from the line of JSON that a program ended with, as jq sees it.
summary() {
	local line lines last=
	mapfile -t lines <"$WORK/$1.log"
	for line in "${lines[@]}"; do
		[[ $line != '{'* ]] || last=$line
	done
	jq -r "$2" <<<"$last"
}
