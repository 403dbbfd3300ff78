#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: mbuf_pull(0) sleeps until a packet, the time or a signal comes, to the microsecond as far as the machine
# allows; mbuf_push(tap, n) waits until entries are taken; poll and epoll work on sessions and taps; untap is POLLHUP.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv client 10.1.0.2:7000 --count 1000000 --some --seconds 60
ns box ntdrive raw waiting b0 10.1.0.2:7000 | tee "$WORK/waiting.log"
heard recv
expect "packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/waiting.log")"
