#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an INPUT tap sees what the interface receives and nothing else, and what reverts goes on into the host.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv box 10.1.0.1:7000 --count 500
tapped relay box ntdrive relay --tap b0:input
datagrams client 10.1.0.1:7000 --count 500
finish recv
quiet b0 input detoured.packets -eq 500 ended.reverted -eq 500

part "what the box sends does not detour"
receiver recv client 10.1.0.2:7000 --count 100
datagrams box 10.1.0.2:7000 --count 100
finish recv
counts b0 input detoured.packets -eq 500

part "requests detour, replies do not"
pings client 10.1.0.1 20
quiet b0 input ended.reverted -eq 520
stop relay

part "without the tap nothing is different"
pings client 10.1.0.1
