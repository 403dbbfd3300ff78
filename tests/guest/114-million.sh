#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: four programs share a tap by flows, and are killed and started again at any moment while numbered packets
# stream: each arrives exactly once, and those of a flow in their order; a lock that they share does not stay with one
# that was killed. PACKETS= says how many (1000000).
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (four programs on b0, INPUT)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
packets=${PACKETS:-4000}
readonly FLOWS=8
pair
# What finds a ring full passes by at once, and overtakes what is in it: room for as long as a program that is killed, and the
# one that takes its place, may want for a processor.
cells=${CELLS:-4096}
rmmod nettap
insmod "$NETTAP_MODULE" mbufs=$((cells > 1024 ? 4 * cells : 4096))
RANDOM=${SEED:-$RANDOM}
each=$((packets / FLOWS))
kills=0 started=$SECONDS

# program NAME: those that share must agree.
program() { tapped "$1" box ntdrive relay --tap b0:input --fanout flow --ring-cells "$cells" --lock 7; }
streaming() {
	local flow
	for ((flow = 0; flow < FLOWS; flow++)); do
		! is_running "send$flow" || return 0
	done
	return 1
}

# ended TAPS: so many taps have told of their end, and before it of what passed them by.
ended() { [[ $(grep -c '"tap-close"' "$WORK/events.log") -eq $1 ]]; }

part "$packets packets"
tapped account box nthostile account
start events box tapctl --json monitor drop tap-close
for name in one two three four; do program $name; done
for ((flow = 0; flow < FLOWS; flow++)); do
	receiver "recv$flow" box "10.1.0.1:$((7001 + flow))" --count "$each" --seconds $((30 + packets / 500))
done
for ((flow = 0; flow < FLOWS; flow++)); do
	start "send$flow" client ntdrive udp-send "10.1.0.1:$((7001 + flow))" --count "$each" --gap 100
done
names=(one two three four)
while streaming; do
	name=${names[RANDOM % 4]}
	pause 0.$((RANDOM % 10))
	kill_hard "$name"
	kills=$((kills + 1))
	program "$name"
done
for ((flow = 0; flow < FLOWS; flow++)); do finish "send$flow"; done
total_reaches b0 input detoured.in_flight -eq 0
for name in one two three four; do stop $name; done
await "the taps are gone" open_taps 0
await "all ends are told" ended $((kills + 4))
kill_hard events
passed=$(jq -s '[.[].event | select(.kind == "drop") | .passed + .dropped] | add + 0' <"$WORK/events.log")
expect "packets that found a ring full, and went by" "$passed" -eq 0
finish account
read -r taps sharers came ended < <(summary account '"\(.taps.taps) \(.sharers) \(.taps.detoured - .taps.handed_over) \(.taps.ended - .taps.handed_over)"')
expect "taps that have ended" "$taps" -eq $((kills + 4))
expect "packets that went through the programs, or were taken back from the killed" "$came $ended" = "$((each * FLOWS)) $((each * FLOWS))"
expect "programs that had packets at one moment, at most" "$sharers" -gt 1
for ((flow = 0; flow < FLOWS; flow++)); do finish "recv$flow"; done
figure "$((each * FLOWS)) packets of $FLOWS flows through four programs on $(nproc) processors in $((SECONDS - started)) s, $kills kills:" \
	"each packet once and in the order of its flow; $(got four deaths) of the killed had the lock that all share," \
	"$(summary account '"\(.taps.reinjected) packets were sent on for them, \(.taps.handed_over) handed over, \(.sharers) had packets at one moment"')"
expect "kills" "$kills" -gt 0
# One in six has it; where few are killed, perhaps none.
expect "programs that were killed with the lock in hand" "$(got four deaths)" -ge $((kills / 50))
expect "free mbufs" "$(region held.free)" -eq "$(region mbufs)"
