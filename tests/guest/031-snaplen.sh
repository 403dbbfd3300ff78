#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: with a snap length the program sees the first bytes only, and the whole packet goes on.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0, snap length 60)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
noise "$WORK/data" 8

tapped relay box ntdrive relay --tap b0:input --tap b0:output --snaplen 60 --print
tcp_sink down box 8000 "$WORK/down"
tcp_send client "$WORK/data" 10.1.0.1 8000
finish down
same "$WORK/data" "$WORK/down"
quiet b0 input
balance
stop relay

part "no packet showed more than 60 bytes, and long ones say so"
expect "longest capture" "$(jq -R 'fromjson? | .len // empty' <"$WORK/relay.log" | sort -n | tail -n 1)" -eq 60
expect "long packets not marked as snapped" "$(jq -R 'fromjson? | select(.len < .wire_len and (.snapped | not))' <"$WORK/relay.log" | wc -l)" -eq 0
expect "short packets marked as snapped" "$(jq -R 'fromjson? | select(.len == .wire_len and .snapped)' <"$WORK/relay.log" | wc -l)" -eq 0
expect "chains" "$(jq -R 'fromjson? | select(.chain == true)' <"$WORK/relay.log" | wc -l)" -eq 0
