#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a tap holds no more bytes than max_bytes says, the kernel's bookkeeping included; what is beyond follows the
# policy and is counted.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0, at most 40000 bytes, its program holds everything)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

for policy in pass drop; do
	patience=(--seconds 60)
	[[ $policy == pass ]] || patience=(--some)
	part $policy
	tapped relay box ntdrive relay --tap b0:input --max-bytes 40000 --do hold --only 7000 --on-full $policy
	receiver recv box 10.1.0.1:7000 --count 100 --unordered "${patience[@]}"
	datagrams client 10.1.0.1:7000 --count 100 --size 1000
	detoured=$(count b0 input detoured.packets)
	expect "detoured packets" "$detoured" -gt 5
	expect "detoured packets" "$detoured" -le 40
	counts b0 input detoured.held_bytes -le 40000 detoured.held_bytes -gt 5000
	if [[ $policy == pass ]]; then
		counts b0 input passed.bytes -eq $((100 - detoured))
	else
		counts b0 input dropped.bytes -eq $((100 - detoured))
	fi
	release relay
	quiet b0 input detoured.held_bytes -eq 0
	if [[ $policy == pass ]]; then finish recv; else heard recv; fi
	if [[ $policy == pass ]]; then
		expect arrived "$(got recv unique)" -eq 100
	else
		expect arrived "$(got recv unique)" -eq "$detoured"
	fi
	stop relay
done
