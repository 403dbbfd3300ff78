#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: munmap, mbuf_unmap, close of the tap and close of the session come in any order, with and without a tap that
# holds packets; afterwards everything is free, and every held packet has gone on.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv client 10.1.0.2:7000 --count 1000000 --some --seconds 60
ns box ntdrive raw orders b0 10.1.0.2:7000 | tee "$WORK/orders.log"
heard recv
expect "held packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/orders.log")"
