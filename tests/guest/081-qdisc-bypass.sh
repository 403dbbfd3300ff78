#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a sender that goes around the queueing discipline (PACKET_QDISC_BYPASS) enters the hook with softirqs on,
# unlike all others; its packets detour and leave once each. (It is told ENOBUFS, which docs/ says.)
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
frames=(--src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" --dst-mac "$MAC_C0")

for option in '' --qdisc-bypass; do
	part "frames ${option:-through the queueing discipline}"
	tapped relay box ntdrive relay --tap b0:output --ring-cells 1024
	receiver recv client 10.1.0.2:7000 --count 1000
	# shellcheck disable=SC2086  # nothing or one word
	ns box ntdrive frame-send b0 "${frames[@]}" --count 1000 $option
	finish recv
	quiet b0 output ended.reverted -eq 1000
	stop relay
done

part "with sockets sending at the same time"
# A ring for all of them: a program that gets no processor for a while is not what is tested.
tapped relay box ntdrive relay --tap b0:output --ring-cells 2048
receiver recv client 10.1.0.2:7000 --count 1000
receiver more client 10.1.0.2:7001 --count 1000
start frames box ntdrive frame-send b0 "${frames[@]}" --count 1000 --qdisc-bypass
datagrams box 10.1.0.2:7001 --count 1000
finish frames
finish recv
finish more
quiet b0 output ended.reverted -eq 2000
stop relay
