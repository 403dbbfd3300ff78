#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: changes that cannot be are refused and counted by cause: offset, length and chain outside, checksum and
# segmentation state that means nothing, super-packets and snapped packets of another length. The rest goes on.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

part "headers that cannot be"
receiver recv client 10.1.0.2:7000 --count 1000000 --some --seconds 60
ns box ntdrive raw shapes b0 10.1.0.2:7000 | tee "$WORK/shapes.log"
heard recv
expect "packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/shapes.log")"

part "super-packets and snapped packets of another length; TCP sends the lost ones again"
noise "$WORK/data" 2
for what in super snapped; do
	start lengths box ntdrive raw lengths b0 $what
	ready lengths
	tcp_sink sink client 8000 "$WORK/there"
	tcp_send box "$WORK/data" 10.1.0.2 8000
	finish sink
	same "$WORK/data" "$WORK/there"
	stop lengths
done
