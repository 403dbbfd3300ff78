#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: processors go and come while packets flow through taps: every packet arrives once, and the server finds a
# processor to go on.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# Those that can be switched: on x86 the first cannot.
shopt -s nullglob
switches=(/sys/devices/system/cpu/cpu[0-9]*/online)
((${#switches[@]})) || skip "this machine has no second processor to switch off"
times=$((${MINUTES:-0} * 6))
((times)) || times=2
pair

# moves: packets go on through both taps.
moves() {
	local input output
	input=$(count b0 input ended.reverted)
	output=$(count b0 output ended.reverted)
	reaches b0 input ended.reverted -gt $((input + 20))
	reaches b0 output ended.reverted -gt $((output + 20))
}

# off_and_on OPTION…: each processor in turn, under a program with these options.
off_and_on() {
	local switch time
	tapped relay box ntdrive relay --tap b0:input --tap b0:output "$@"
	flow in client box 10.1.0.1:7000
	flow out box client 10.1.0.2:7000
	for ((time = 0; time < times; time++)); do
		for switch in "${switches[@]}"; do
			before_off "${switch//[!0-9]/}"
			echo 0 >"$switch"
			moves
			echo 1 >"$switch"
			moves
		done
	done
	flowed in
	flowed out
	quiet b0 input
	quiet b0 output
	figure "${#switches[@]} of $(nproc) processors off and on $times times${*:+ with $*}: $(got recv_in unique) and $(got recv_out unique)" \
		"datagrams, each arrived once"
	stop relay
}

part "each processor that can be switched, $times times off and on"
before_off() { :; }
off_and_on

part "the same, and a thread that serves without rest is on the processor that goes"
# thread_on CPU: it was there last, as the kernel says.
thread_on() {
	local fields
	outside cat "/proc/$thread/stat" >"$WORK/stat.txt"
	read -ra fields <"$WORK/stat.txt"
	[[ ${fields[38]} == "$1" ]]
}
before_off() {
	outside ntdrive session thread >"$WORK/thread.txt"
	read -r thread <"$WORK/thread.txt"
	expect "the thread's number" "$thread" -gt 0
	outside taskset -pc "$1" "$thread" >/dev/null
	await "the thread is on processor $1" thread_on "$1"
}
off_and_on --busy
