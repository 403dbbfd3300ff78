#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an OUTPUT tap sees what the host sends and nothing else, and what reverts leaves by the interface.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv client 10.1.0.2:7000 --count 500
tapped relay box ntdrive relay --tap b0:output
datagrams box 10.1.0.2:7000 --count 500
finish recv
quiet b0 output detoured.packets -eq 500 ended.reverted -eq 500

part "what the box receives does not detour"
receiver recv box 10.1.0.1:7000 --count 100
datagrams client 10.1.0.1:7000 --count 100
finish recv
counts b0 output detoured.packets -eq 500

part "replies detour, requests do not"
pings client 10.1.0.1 20
quiet b0 output ended.reverted -eq 520
stop relay
pings client 10.1.0.1
