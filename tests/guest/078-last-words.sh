#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: what a program has written into its rings just before its tap ends, or just before it is killed, counts,
# whether the kernel had looked or not: dropped packets stay dropped, reverted and held ones go on, each once and in order.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0, opened and closed 50 times, by programs that are killed 20)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv client 10.1.0.2:7000 --count 1000000 --some --seconds 60
ns box ntdrive raw last-words b0 10.1.0.2:7000 | tee "$WORK/words.log"
heard recv
expect "packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/words.log")"
