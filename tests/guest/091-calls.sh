#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: no system call per packet in the steady state, counted three ways over more than a thousand packets each:
# by the library, by the kernel's session, by strace.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0; its program looks and does not sleep)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
relay=(ntdrive relay --tap b0:input --ring-cells 4096 --only 7000 --wait poll)

# A program that stood still for long finds the server asleep and rings for it, once: in a slow kernel that happens.
most=$((SLOWNESS > 1 ? 25 : 0))

part "the library and the kernel count"
tapped relay box "${relay[@]}" --count-calls-from 100
receiver recv box 10.1.0.1:7000 --count 2500 --seconds 60
start sender client ntdrive udp-send 10.1.0.1:7000 --count 2500 --gap 100
reaches b0 input ended.reverted -ge 100
from=$(count b0 input ended.reverted) before=$(session calls)
finish sender
finish recv
reaches b0 input ended.reverted -ge 2500
to=$(count b0 input ended.reverted) after=$(session calls)
stop relay
expect "packets that the kernel counted over" $((to - from)) -gt 1000
expect "calls that the kernel's session counted" "$((after - before))" -le "$most"
expect "packets that the library counted over" "$(got relay counted)" -gt 1000
expect "calls that the library counted" "$(got relay calls)" -le "$most"

part "strace counts"
tapped relay box "${relay[@]}"
receiver recv box 10.1.0.1:7000 --count 4000 --seconds 60
start sender client ntdrive udp-send 10.1.0.1:7000 --count 4000 --gap 100
reaches b0 input ended.reverted -ge 100
timeout -s INT $((60 * SLOWNESS)) strace -f -c -S calls -U name,calls -o "$WORK/strace.txt" -p "${PIDS[relay]}" 2>"$WORK/strace.log" &
strace=$!
await "strace is attached" said strace attached
from=$(count b0 input ended.reverted)
finish sender
finish recv
to=$(count b0 input ended.reverted)
kill -INT "$(pgrep -P $strace strace)"
wait $strace || true
stop relay
expect "packets under strace" $((to - from)) -gt 1000
# Where the processor's clock is no use to user space, reading the time is a system call; it is none of NetTap's.
calls=$(awk '$1 ~ /^(ioctl|poll|ppoll|epoll|select|pselect|read|write|recv|send|futex|mmap|munmap)/ { n += $2 } END { print n + 0 }' "$WORK/strace.txt")
expect "system calls that strace saw" "$calls" -le "$most"
echo "$((to - from)) packets under strace, $calls system calls"
