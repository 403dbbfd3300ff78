#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# `make demo`, the guest's side: real traffic of this stock kernel goes through ordinary programs and back, in all three
# modes, and a readable report says what was shown, with the figures. Exit status 0 when all of it came true.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box 10.2.0.1 b1 ───── s0 10.2.0.2 server

set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd -P)
readonly HERE
if [[ ! ${NETTAP_TEST:-} ]]; then
	NETTAP_MODULE=${NETTAP_MODULE:-$HERE/../build/$(uname -r)/nettap.ko}
	PATH=$HERE/../build/target/release:$HERE/../build/target/release/examples:$PATH
	export NETTAP_MODULE PATH NETTAP_TEST=1
	grep -q '^nettap ' /proc/modules || insmod "$NETTAP_MODULE"
	exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private -- bash "$0" "$@"
fi

# shellcheck source-path=SCRIPTDIR source=guest/lib.sh
. "$HERE/guest/lib.sh"
trap - EXIT

# Megabytes of each transfer.
readonly MEGABYTES=${MEGABYTES:-64}
failures=0

shown() { printf '    \033[32m✓\033[0m %s\n' "$*"; }

# chapter LETTER TITLE FUNCTION: in a shell and a network of its own; the rest goes on when it fails.
chapter() {
	local status=0 start=$SECONDS
	printf '\n\033[1m(%s) %s\033[0m\n' "$1" "$2"
	set +e
	(
		set -e
		"$3"
	)
	status=$?
	set -e
	if ((status)); then
		printf '    \033[31m✗\033[0m (%s) did not come true\n' "$1"
		tail -n 5 "$WORK"/*.log 2>/dev/null | sed 's/^/        /' || true
		failures=$((failures + 1))
	fi
	# What the chapter left running ends here, and its networks with it.
	jobs -p | xargs -r kill -KILL 2>/dev/null || true
	ip netns pids box 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
	ip netns pids client 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
	ip netns pids server 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
	ip -all netns del
	rm -f "$WORK"/*.log
	printf '    %d s\n' $((SECONDS - start))
}

tap_line() { echo "b0 $1: $(count b0 "$1" detoured.packets) packets detoured, $(count b0 "$1" detoured.gso) of them super-packets, $(count b0 "$1" ended.reverted) reverted"; }

balanced() {
	balance
	grep -h 'balance:' "$WORK/balance.txt" | while read -r line; do shown "$line"; done
}

firewall() {
	ns box nft -f - <<-END
		table inet demo {
			chain input { type filter hook input priority 0; tcp dport 80 counter; udp dport 9 drop; }
			chain forward { type filter hook forward priority 0; counter; }
		}
	END
}
firewalled() { ns box nft list chain inet demo "$1" | sed -n 's/.*counter packets \([0-9]*\).*/\1/p' | head -n 1; }

through_echo() {
	road
	web box 10.1.0.1
	firewall
	ln -f "$WORK/data" "$WORK/www/data"
	tapped echo box echo --mode input,output --ring 1024 b0
	fetch client http://10.1.0.1/data "$WORK/down"
	same "$WORK/data" "$WORK/down"
	shown "download of $MEGABYTES MB from the box's own nginx, SHA-256 equal"
	pings client 10.2.0.2 10
	upload client "$WORK/data" http://10.1.0.1/up
	same "$WORK/data" "$WORK/www/up"
	shown "upload of $MEGABYTES MB to it, SHA-256 equal"
	expect "forwarded packets" "$(firewalled forward)" -ge 20
	shown "forwarding through the box works: 10 pings, nftables counted $(firewalled forward) forwarded packets"
	expect "packets to port 80" "$(firewalled input)" -gt 0
	receiver recv box 10.1.0.1:9 --count 0
	datagrams client 10.1.0.1:9 --count 5
	finish recv
	shown "nftables of the box works: $(firewalled input) packets counted to port 80, its drop rule drops"
	quiet b0 input
	quiet b0 output
	counts b0 input detoured.gso -gt 0
	shown "$(tap_line input)"
	shown "$(tap_line output)"
	balanced
	rm -f "$WORK/www/up" "$WORK/down"
}

killed() {
	local had
	road
	web box 10.1.0.1
	ln -f "$WORK/data" "$WORK/www/data"
	tapped echo box echo --mode input,output --ring 1024 b0
	start curl client curl -sS --max-time 120 -o "$WORK/down" http://10.1.0.1/data
	reaches b0 output detoured.packets -gt 50
	kill_hard echo
	is_running curl || fail "the transfer was over before the kill"
	had=$(stat -c %s "$WORK/down")
	await "the taps are gone" open_taps 0
	shown "kill -9 after $((had >> 20)) of $MEGABYTES MB; the taps are gone"
	finish curl
	same "$WORK/data" "$WORK/down"
	shown "the transfer completed, SHA-256 equal"
	tapped hold box ntdrive relay --tap b0:input --do hold --only 7000
	receiver recv box 10.1.0.1:7000 --count 200
	datagrams client 10.1.0.1:7000 --count 200
	reaches b0 input detoured.in_flight -eq 200
	kill_hard hold
	finish recv
	shown "killed with 200 datagrams in its hands: all 200 arrived, in order, each once"
	rm -f "$WORK/down"
}

bridged() {
	road
	ip -n server address add 10.1.0.9/24 dev s0
	ip -n client neighbour flush dev c0 nud permanent
	web server 10.1.0.9
	ln -f "$WORK/data" "$WORK/www/data"
	tapped bridge box bridge --ring 1024 b0 b1
	pings client 10.1.0.9 20
	shown "20 pings across the bridge"
	fetch client http://10.1.0.9/data "$WORK/down"
	same "$WORK/data" "$WORK/down"
	shown "$MEGABYTES MB by HTTP across it, SHA-256 equal"
	lost client 10.1.0.1
	lost box 10.1.0.2
	expect "packets of the host turned away" "$(count b0 bypass dropped.cut_off)" -gt 0
	shown "the box's own stack is cut off: it answers no ping, and $(count b0 bypass dropped.cut_off) packets that it sent went nowhere"
	quiet b0 bypass
	quiet b1 bypass
	balanced
	rm -f "$WORK/down"
}

translated() {
	road
	ip -n box address add 10.2.0.50/32 dev b1
	neighbour server s0 10.2.0.50 "$MAC_B1"
	web server 10.2.0.2
	noise "$WORK/www/small" 2
	tapped nat box nat --outside b1 --inside-net 10.1.0.0/24 --address 10.2.0.50
	fetch client http://10.2.0.2/small "$WORK/down"
	same "$WORK/www/small" "$WORK/down"
	expect "client that the server saw" "$(cut -d' ' -f1 "$WORK/access.log" | sort -u)" = 10.2.0.50
	shown "2 MB by HTTP from 10.1.0.2; the server's log says the client was $(cut -d' ' -f1 "$WORK/access.log" | sort -u)"
	balanced
}

dumped() {
	pair
	tapped dump box dump --mode input,output -w "$WORK/dump.pcapng" b0
	pings client 10.1.0.1 10
	quiet b0 input
	quiet b0 output
	balanced
	kill -TERM "${PIDS[dump]}"
	finish dump
	tcpdump -n -r "$WORK/dump.pcapng" >"$WORK/tcpdump.txt" 2>/dev/null
	expect "echo requests and replies" "$(grep -c 'ICMP echo' "$WORK/tcpdump.txt")" -eq 20
	shown "tcpdump reads the pcapng: $(wc -l <"$WORK/tcpdump.txt") packets, for example"
	head -n 2 "$WORK/tcpdump.txt" | sed 's/^/          /'
}

counted() {
	local from to before after
	pair
	tapped relay box ntdrive relay --tap b0:input --ring-cells 4096 --only 7000 --wait poll --count-calls-from 100
	receiver recv box 10.1.0.1:7000 --count 5000 --seconds 60
	start sender client ntdrive udp-send 10.1.0.1:7000 --count 5000 --gap 100
	reaches b0 input ended.reverted -ge 100
	from=$(count b0 input ended.reverted) before=$(session calls)
	finish sender
	finish recv
	reaches b0 input ended.reverted -ge 5000
	to=$(count b0 input ended.reverted) after=$(session calls)
	balanced
	stop relay
	expect "packets counted over" $((to - from)) -gt 1000
	expect "system calls counted by the kernel" $((after - before)) -eq 0
	expect "system calls counted by the library" "$(got relay calls)" -eq 0
	shown "$((to - from)) packets, $((after - before)) system calls counted by the kernel; $(got relay counted) packets, $(got relay calls) counted by the library"
}

unloaded() {
	await "no session is left" test "$(region sessions)" = 0
	expect "taps" "$(region taps)" -eq 0
	rmmod nettap
	shown "rmmod works"
	if dmesg | grep -E 'BUG[: ]|WARNING:|Oops|rcu:.*stall|unregister_netdevice: waiting|Bad rss|Call Trace'; then
		fail "the kernel's log complains"
	fi
	shown "the kernel's log is clean"
}

echo "NetTap on $(uname -r), a stock Debian kernel; a client, a box and a server in network namespaces."
noise "$WORK/data" "$MEGABYTES"
chapter a "INPUT and OUTPUT taps on the box's interface, and echo: the box works as if nothing were there" through_echo
chapter b "the program is killed (kill -9) in the middle" killed
chapter c "BYPASS: a program bridges two interfaces" bridged
chapter d "nat: clients behind the box reach the server with the translated address" translated
chapter e "dump: a tap's packets for tcpdump" dumped
chapter f "the steady state makes no system call" counted
chapter f "and it goes away without a trace" unloaded

if ((failures)); then
	printf '\n\033[31m%d chapters did not come true.\033[0m\n' "$failures"
	exit 1
fi
printf '\nAll of it came true, in %d s.\n' "$SECONDS"
