#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a program that is killed over and over, at any moment of its life, while TCP transfers go through its taps:
# every transfer is complete, byte for byte; no packet is lost by us; nothing is left. KILLS= says how often (500).
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (echo on b0: INPUT and OUTPUT)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-8}
pair
noise "$WORK/data" 8
transfers=0

# One transfer each way, compared.
transfer() {
	tcp_sink down box 8000 "$WORK/down"
	tcp_sink up client 8001 "$WORK/up"
	start send_down client socat -u "OPEN:$WORK/data" TCP:10.1.0.1:8000
	start send_up box socat -u "OPEN:$WORK/data" TCP:10.1.0.2:8001
	finish send_down
	finish send_up
	finish down
	finish up
	same "$WORK/data" "$WORK/down"
	same "$WORK/data" "$WORK/up"
	transfers=$((transfers + 2))
}
sent_again() { for space in client box; do ns $space nstat -asz TcpRetransSegs; done | awk '/TcpRetransSegs/ { n += $2 } END { print n }'; }

part "$kills kills"
start storm box nthostile storm kill --kills "$kills" --moment $((200 * SLOWNESS)) --seed "${SEED:-$RANDOM}" -- echo --mode input,output --ring 1024 b0
while is_running storm; do transfer; done
finish storm
transfer
read -r reinjected lost < <(summary storm '"\(.taps.reinjected) \(.lost)"')
# Several at most kills; some find none.
expect "packets that were sent on for the dead" "$reinjected" -ge $((kills / 8))
expect "packets lost" "$lost" -eq 0
open_taps 0 || fail "taps are left"
expect "free mbufs" "$(region held.free)" -eq "$(region mbufs)"
figure "$(summary storm '"\(.kills) times kill -9 in \(.seconds) s, seed \(.seed) (\(.while_starting) while starting, \(.while_stopped) stopped); " +
	"of \(.taps.detoured) detoured packets \(.taps.reinjected) were sent on for the dead, \(.lost) lost"');" \
	"$transfers transfers of $(($(stat -c %s "$WORK/data") >> 20)) MB complete; region full, no tap left; segments sent again by TCP: $(sent_again)"
