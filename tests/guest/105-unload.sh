#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: attempts to unload the module while programs open, map, tap and end all the time: each is refused, or
# succeeds in a moment when nobody has it; never does anybody have what is gone.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0, now and then)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
seconds=$((${MINUTES:-0} * 60))
((seconds)) || seconds=$((5 + SLOWNESS))

# shellcheck disable=SC2016  # the inner shells expand it
for name in one two; do
	start "$name" box bash -c 'while :; do
			tenths=$((SLOWNESS * (1 + RANDOM % 4)))
			timeout -s KILL $((tenths / 10)).$((tenths % 10)) ntdrive relay --tap b0:input --tap b0:output
			ntdrive raw try-map
		done' 2>/dev/null
done
start flood client ping -n -i 0.005 -w $((seconds + 60 * SLOWNESS)) 10.1.0.1

unloaded=0 refused=0 end=$((SECONDS + seconds))
part "$seconds seconds of attempts"
while ((SECONDS < end)); do
	if rmmod nettap 2>/dev/null; then
		unloaded=$((unloaded + 1))
		insmod "$NETTAP_MODULE"
		# For a while, so that there is something to refuse.
		for _ in {1..8}; do
			if rmmod nettap 2>/dev/null; then
				unloaded=$((unloaded + 1))
				insmod "$NETTAP_MODULE"
			else
				refused=$((refused + 1))
			fi
			pause 0.05
		done
	else
		refused=$((refused + 1))
	fi
done
kill_hard one
kill_hard two
expect "attempts refused" "$refused" -gt 0
expect "attempts that succeeded" "$unloaded" -gt 0
kill -INT "${PIDS[flood]}"
finish flood
answered flood || fail "pings were lost"
figure "$((unloaded + refused)) attempts to unload the module: $unloaded found it free, $refused were refused; no ping lost"
