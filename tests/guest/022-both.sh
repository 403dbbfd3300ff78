#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: INPUT and OUTPUT taps stand together on one interface, of one session or of two, and each sees its direction.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

both_see() {
	pings client 10.1.0.1 50
	quiet b0 input
	quiet b0 output
	counts b0 input ended.reverted -eq 50
	counts b0 output ended.reverted -eq 50
}

part "one session"
tapped relay box ntdrive relay --tap b0:input --tap b0:output
both_see
stop relay

part "a session each"
tapped in box ntdrive relay --tap b0:input
tapped out box ntdrive relay --tap b0:output
both_see
part "one ends, the other goes on"
stop in
pings client 10.1.0.1 10
quiet b0 output ended.reverted -eq 60
stop out
