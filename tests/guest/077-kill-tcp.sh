#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: kill -9 in the middle of TCP transfers in both directions, five programs in a row: the transfers complete,
# byte for byte, and no packet was lost by us: no tap of those that ended has dropped or refused one, or has one left.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (echo on b0: INPUT and OUTPUT)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
# Only its own taps are among those that have ended.
rmmod nettap
insmod "$NETTAP_MODULE"
noise "$WORK/data" 24
lost_segments() { for space in client box; do ns $space nstat -asz TcpExtTCPLostRetransmit TcpRetransSegs; done | awk '/TcpRetransSegs/ { n += $2 } END { print n }'; }

tcp_sink down box 8000 "$WORK/down"
tcp_sink up client 8001 "$WORK/up"
tapped echo box echo --mode input,output --ring 1024 b0
start send_down client socat -u "OPEN:$WORK/data" TCP:10.1.0.1:8000
start send_up box socat -u "OPEN:$WORK/data" TCP:10.1.0.2:8001
under_way() { test_counts b0 input detoured.packets -gt 100 || { has_ended send_down && has_ended send_up; }; }
kills=0
for _ in 1 2 3 4 5; do
	await "packets of the transfers, or their end" under_way
	is_running send_down || is_running send_up || break
	kill_hard echo
	kills=$((kills + 1))
	tapped echo box echo --mode input,output --ring 1024 b0
done
expect "programs killed during the transfers" $kills -ge 1
finish send_down
finish send_up
finish down
finish up
same "$WORK/data" "$WORK/down"
same "$WORK/data" "$WORK/up"
quiet b0 input
quiet b0 output
balance
kill -TERM "${PIDS[echo]}"
finish echo
for mode in input output; do
	counts --of ended b0 $mode detoured.packets -gt 0 detoured.in_flight -eq 0 dropped -eq 0 refused -eq 0 \
		ended.dropped_by_program -eq 0 ended.dropped_by_policy -eq 0 \
		ended.refused_shape -eq 0 ended.refused_offload -eq 0 ended.refused_change -eq 0 ended.refused_memory -eq 0
done
reinjected=$(($(count --of ended b0 input ended.reinjected) + $(count --of ended b0 output ended.reinjected)))
figure "killed $kills times; sent on for the dead: $reinjected packets; segments that TCP sent again by itself: $(lost_segments)"
