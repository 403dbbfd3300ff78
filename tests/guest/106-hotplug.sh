#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: processors go and come while packets flow through taps: every packet arrives once, and the server finds a
# processor to go on.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
readonly SWITCH=/sys/devices/system/cpu/cpu1/online
[[ -w $SWITCH ]] || skip "this machine has no second processor to switch off"
times=$((${MINUTES:-0} * 6))
((times)) || times=2
pair
tapped relay box ntdrive relay --tap b0:input --tap b0:output
flow in client box 10.1.0.1:7000
flow out box client 10.1.0.2:7000

part "$times times off and on"
for ((time = 0; time < times; time++)); do
	before=$(count b0 input ended.reverted)
	echo 0 >$SWITCH
	reaches b0 input ended.reverted -gt $((before + 20))
	before=$(count b0 input ended.reverted)
	echo 1 >$SWITCH
	reaches b0 input ended.reverted -gt $((before + 20))
done
flowed in
flowed out
quiet b0 input
quiet b0 output
figure "a processor off and on $times times: $(got recv_in unique) and $(got recv_out unique) datagrams, each arrived once"
stop relay
