#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: kill -9 in the middle of TCP transfers in both directions, five programs in a row: the transfers complete,
# byte for byte, and no packet was lost by us: the senders had nothing to send again.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (echo on b0: INPUT and OUTPUT)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
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
echo "killed $kills times; segments sent again: $(lost_segments)"
