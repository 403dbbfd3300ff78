#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: packets for as long as one likes, of every kind that the other tests send, and at the end everything is as
# it was at the beginning: nothing held, nothing lost, memory where it was. MINUTES= says how long, GAP= how many
# microseconds lie between two datagrams (100), and a hundredth of what lies between two pings.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	                (INPUT and OUTPUT taps on b0)  (the same on b1, another session)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
minutes=${MINUTES:-0}
end=$((SECONDS + (minutes ? minutes * 60 : 5)))
road
noise "$WORK/data" 4
export GAP=${GAP:-$((100 * SLOWNESS))}
between=$(printf '%d.%03d' $((GAP / 10000)) $((GAP / 10 % 1000)))
tapped one box ntdrive relay --tap b0:input --tap b0:output
tapped two box ntdrive relay --tap b1:input --tap b1:output

slab() { awk '/^SUnreclaim:/ { print $2 }' /proc/meminfo; }
packets() { tapctl --json tap stats | jq '[.taps[].detoured.packets] | add'; }
rounds=0 datagrams=0 first=0 spoken=$SECONDS

# A round of half a minute at most: datagrams both ways, TCP both ways, pings, then a moment of nothing.
round() {
	local rest=$((end - SECONDS)) length=25
	((rest > length)) || length=$((rest > 3 ? rest : 3))
	flow there client server 10.2.0.2:7000
	flow back server client 10.1.0.2:7000
	start pings client ping -q -n -i "$between" -w "$length" -s 4000 10.2.0.2
	tcp_sink down server 8000 "$WORK/down"
	tcp_sink up client 8001 "$WORK/up"
	tcp_send client "$WORK/data" 10.2.0.2 8000
	tcp_send server "$WORK/data" 10.1.0.2 8001
	finish down
	finish up
	same "$WORK/data" "$WORK/down"
	same "$WORK/data" "$WORK/up"
	finish pings
	flowed there
	flowed back
	datagrams=$((datagrams + $(got recv_there unique) + $(got recv_back unique)))
	for tap in 'b0 input' 'b0 output' 'b1 input' 'b1 output'; do
		# shellcheck disable=SC2086  # two words
		quiet $tap
	done
	balance
	rounds=$((rounds + 1))
}

while ((rounds == 0 || SECONDS < end)); do
	round
	# The first rounds fill caches of the kernel that stay.
	((rounds > 3)) || first=$(slab)
	if ((SECONDS - spoken > 60)); then
		echo "$SECONDS s: $(packets) packets, unreclaimable slab $(slab) kB" | tee /dev/kmsg
		spoken=$SECONDS
	fi
done
grown=$(($(slab) - first))
expect "kilobytes of kernel memory more than after the first rounds" "$grown" -lt 8192
figure "$(packets) packets through four taps in $SECONDS s, $datagrams numbered datagrams among them, each arrived once;" \
	"$((rounds * $(stat -c %s "$WORK/data") >> 19)) MB by TCP; kernel memory $grown kB more than after the first rounds"
stop one
stop two
