#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: OUTPUT stands beside INPUT and nothing beside BYPASS; whoever comes second gets EBUSY and nothing has
# changed, in all nine combinations, by one session and by two. So it is with more taps than a session may have, and with
# more sessions than may share one: ENOSPC.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv client 10.1.0.2:7000 --count 5 --seconds 30
ns box ntdrive raw modes b0 10.1.0.2:7000
finish recv

part "on several interfaces at once, any mode"
for i in 0 1 2; do ip -n box link add "d$i" up type dummy; done
tapped three box ntdrive relay --tap d0:bypass --tap d1:input --tap d1:output --tap d2:output
open_taps 4 || fail "not four taps"
stop three

part "as many as a session may have, and as many as may share one"
for ((i = 3; i <= 64; i++)); do echo "link add d$i up type dummy"; done | configure box
receiver recv client 10.1.0.2:7000 --count 2 --seconds 30
ns box ntdrive raw full b0 10.1.0.2:7000
finish recv
