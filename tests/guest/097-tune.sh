#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: `tapctl tune` measures the rate of a known flow, its advice follows from its own figures by the formulas that
# docs/performance.md states, a tap without traffic gets none, and nothing is changed by it.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0 with 16 cells; nothing goes out)

# shellcheck disable=SC2016  # jq expands them
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# Microseconds between two datagrams of a `flow`, and what it sends in a second at most, since it sleeps at least so long.
# Some that were late may come beside them.
GAP=4000
readonly FASTEST=$((1000000 / GAP))

# tune OPTION…: what it says of the input tap and of the output tap; in `gone`, how many packets the input tap detoured
# meanwhile, while the programs that say so started and ended, too.
tune() {
	local begun
	begun=$(count b0 input detoured.packets)
	tapctl --json --netns box tune --dev b0 "$@" >"$WORK/tune.json"
	gone=$(($(count b0 input detoured.packets) - begun))
	input=$(jq '.tune[] | select(.mode == "input")' "$WORK/tune.json")
	output=$(jq '.tune[] | select(.mode == "output")' "$WORK/tune.json")
}

# holds WHAT FILTER: of the input tap, as jq sees it.
holds() { jq -e "$2" <<<"$input" >"$WORK/holds.log" || fail "$1: $input"; }

# What whoever administers taps can set, and what cannot be changed.
settings() {
	tapctl --json tap list | jq -c '.taps[] | [.id, .mode, .session, .ring_cells, .max_bytes, .max_age_us, .snaplen,
		.on_full, .on_exit, .gso, .filter, .fanout, .standby, .no_consumer]'
	tapctl --json region show | jq -c '.region | [.mbufs, .mbuf_size]'
	tapctl --json session list | jq -c '.sessions[] | [.id, .taps, .prealloc]'
}

tapped relay box ntdrive relay --tap b0:input --tap b0:output --ring-cells 16 --only 7000
flow steady client box 10.1.0.1:7000
reaches b0 input ended.reverted -gt 10
settings >"$WORK/before"

part "the rate"
tune --seconds 2 --away 1000
holds "no packets" '.detoured > 0'
holds "more packets than came: $gone" ".detoured <= $gone"
holds "less than a quarter of the packets that came: $gone" ".detoured * 4 * ${SLOWNESS:-1} >= $gone"
holds "it looked for less than 2 s" '.interval_ns >= 2e9'
holds "the rate is not that of its packets" \
	'.rate_mean == ((.detoured + ([.missed[]] | add)) * 1e9 / .interval_ns | ceil)'
holds "the rate is far above $FASTEST" ".rate_mean <= $FASTEST * 3 / 2 and .rate_peak >= .rate_mean"
holds "datagrams of 64 bytes are 106 on the wire" '.length == 106'

part "the advice follows from the figures"
holds "the cells" '.model as $m | $m.rate == .rate_peak and $m.away_ns == 1e9 and $m.cells.now == 16
	and $m.alpha_ns == .alpha_ns and $m.cells.needed == ($m.rate * ($m.alpha_ns + $m.away_ns) / 1e9 | ceil)
	and $m.bound == ($m.rate * $m.alpha_ns / 1e9 | ceil)'
holds "packets and mbufs" '.model as $m | ([$m.alpha_ns, .out_ns] | max) as $out
	| $m.packets == ($m.rate * ($out + $m.away_ns) / 1e9 | ceil) and $m.mbufs_a_packet == 1
	and $m.mbufs.needed == $m.packets + $m.allocated'
holds "alpha is not between 1 us and 1 s" '.alpha_ns >= 1000 and .alpha_ns <= 1e9'
holds "the next power of two" '.model.cells.needed as $n | .advice | length == 1 and .[0].setting == "ring"
	and .[0].needed == $n and .[0].advised == ([range(4; 17) | pow(2; .)] | map(select(. >= $n)) | first)'
figure "$(jq -r '"\(.rate_mean) packets a second, α \(.alpha_ns / 1000 | floor) us, out for \(.out_ns / 1000 | floor) us"' <<<"$input")"

part "a tap without traffic"
expect "model and advice for the output tap" "$(jq -c '[.detoured, .rate_peak, .model, .advice]' <<<"$output")" = '[0,0,null,[]]'
id=$(tap_id b0 output)
tapctl tune "$id" --seconds 1 >"$WORK/words"
grep -q "no packets in .*, so no advice" "$WORK/words" || fail "$(<"$WORK/words")"

part "a program that is stopped: what misses it misses it for no size"
kill -STOP "${PIDS[relay]}"
reaches b0 input passed.ring -gt 0
tune --seconds 1 --away 0
kill -CONT "${PIDS[relay]}"
holds "packets that found the ring full" '.missed.ring > 0 and .ring_used == 16 and .most_out == 16'
holds "the advice" '.model.cells.needed <= 16 and [.advice[].setting] == ["program"]'

part "nothing has changed"
settings >"$WORK/after"
same "$WORK/before" "$WORK/after"
refuses "a tap that is not there" tapctl tune 999999 --seconds 1
flowed steady
stop relay
