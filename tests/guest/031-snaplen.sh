#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: with a snap length the program sees the first bytes only, and the whole packet goes on.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0, snap length 60)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
noise "$WORK/data" 4

tapped relay box ntdrive relay --tap b0:input --tap b0:output --snaplen 60 --print
tcp_sink down box 8000 "$WORK/down"
tcp_send client "$WORK/data" 10.1.0.1 8000
finish down
same "$WORK/data" "$WORK/down"
quiet b0 input
balance
stop relay

part "no packet showed more than 60 bytes, and long ones say so"
read -r longest unmarked marked chains < <(printed relay '[
	(map(.len) | max),
	(map(select(.len < .wire_len and (.snapped | not))) | length),
	(map(select(.len == .wire_len and .snapped)) | length),
	(map(select(.chain)) | length)] | join(" ")')
expect "longest capture" "$longest" -eq 60
expect "long packets not marked as snapped" "$unmarked" -eq 0
expect "short packets marked as snapped" "$marked" -eq 0
expect "chains" "$chains" -eq 0
