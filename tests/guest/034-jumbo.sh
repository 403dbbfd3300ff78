#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: frames of 9000 bytes, longer than an mbuf, pass whole as chains, byte for byte.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0, MTU 9000 on the link)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
MTU=9000 pair

tapped relay box ntdrive relay --tap b0:input --tap b0:output --do revert --touch --print
receiver recv box 10.1.0.1:7000 --count 100
datagrams client 10.1.0.1:7000 --count 100 --size 8900 --gap 200
finish recv
receiver recv client 10.1.0.2:7000 --count 100
datagrams box 10.1.0.2:7000 --count 100 --size 8900 --gap 200
finish recv
quiet b0 input
quiet b0 output
counts b0 input ended.changed -ge 100
counts b0 output ended.changed -ge 100
stop relay
expect "chains of 8942 bytes" "$(jq -R 'fromjson? | select(.len == 8942 and .chain)' -c <"$WORK/relay.log" | wc -l)" -eq 200
