#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: calls that no program makes, from several processes and threads, on interfaces that come and go, hurt
# neither the kernel nor the sessions beside them. CALLS= says how many (5000).
#
#	client c0 10.1.0.2 ───── b0 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	         (the fuzzer: b0, d0, lo)  (INPUT and OUTPUT taps on b1: the victim)
#	                               box b2 10.3.0.1 ───── s1 10.3.0.2 server
#	                                   (INPUT and OUTPUT taps on b2: a victim in a group of its own)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
calls=${CALLS:-5000}
# Calls look at every mbuf and map every page of a region, and a dozen sessions that hold packets are each looked at
# every α: with a small region, and rounds as rare as everything is slow, there can be many more calls.
rmmod nettap
insmod "$NETTAP_MODULE" mbufs=512 alpha_min_us=$((50 * SLOWNESS)) alpha_max_us=$((1000 * SLOWNESS))
road
victim
spare=()
for id in $(tapctl --json tap list | jq '.taps[].id'); do spare+=(--spare "$id"); done

# An interface that is there for moments only; one program does it all, since starting one costs more than many calls.
# shellcheck disable=SC2016  # the inner shell expands it
start churn box bash -c 'exec {never}<> <(:)
	exec ip -force -batch - < <(while echo "link add d0 up type dummy"; do
		moment=$((RANDOM % 5 * SLOWNESS))
		read -rt $((moment / 10)).$((moment % 10)) -u "$never"
		echo "link del d0"
	done)'
start flood client ping -q -n -i "$(often 2)" 10.1.0.1

part "$calls calls"
ns box nthostile fuzz --interface b0 --interface d0 --to 10.1.0.2:9 --to 127.0.0.1:9 --calls "$calls" \
	--seconds $((LIMIT * 9 / 10)) --seed "${SEED:-$RANDOM}" --stuck $((6 * PATIENCE)) "${spare[@]}" | tee "$WORK/fuzz.log"
kill_hard churn
kill_hard flood
read -r made reached taps maps locks < <(summary fuzz '"\(.calls) \(.reached) \(.requests.TAP.ok) \(.requests.MAP.ok) \(.requests.LOCK.ok)"')
figure "$(summary fuzz '"\(.calls) calls in \(.seconds) s, seed \(.seed), by \(.processes) processes, of which \(.killed) were killed; " +
	"\(.reached) places in the kernel reached, \(.corpus) tapes kept"')"
expect "calls" "$made" -ge "$calls"
expect "requests for taps that succeeded" "$taps" -gt 0
expect "requests to map that succeeded" "$maps" -gt 0
expect "requests for locks that succeeded" "$locks" -gt 0
[[ ! -e /sys/kernel/debug/kcov ]] || expect "places in the kernel reached" "$reached" -gt 0
unharmed
ntdrive idle --within "$PATIENCE" || fail "something is left behind"

rmmod nettap
insmod "$NETTAP_MODULE"
