#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: with gso=segment the program sees packets of wire size only; without it super-packets come as chains that
# carry every byte.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
noise "$WORK/data" 2

# passes OPTION…: 2 MB each way through a relay; its log stays.
passes() {
	tapped relay box ntdrive relay --tap b0:input --tap b0:output --ring-cells 1024 --print "$@"
	tcp_sink down box 8000 "$WORK/down"
	tcp_send client "$WORK/data" 10.1.0.1 8000
	finish down
	same "$WORK/data" "$WORK/down"
	tcp_sink up client 8000 "$WORK/up"
	tcp_send box "$WORK/data" 10.1.0.2 8000
	finish up
	same "$WORK/data" "$WORK/up"
	quiet b0 input
	quiet b0 output
}
part whole
passes
counts b0 output detoured.gso -gt 0
stop relay
read -r longest torn < <(printed relay '"\(map(.len) | max) \(map(select(.gso != null and .len != .wire_len)) | length)"')
expect "longest packet" "$longest" -gt 1514
expect "super-packets whose bytes are not all there" "$torn" -eq 0

part segment
passes --gso segment
counts b0 output detoured.gso -eq 0
counts b0 input detoured.gso -eq 0
stop relay
read -r longest super < <(printed relay '"\(map(.len) | max) \(map(select(.gso != null)) | length)"')
expect "longest packet" "$longest" -le 1514
expect "super-packets" "$super" -eq 0
