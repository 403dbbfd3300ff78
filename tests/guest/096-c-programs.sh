#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: the C ABI by the patent's names: the bridge of its figure 7 in C, built against nettap.h and libnettap.so
# and run; and echo in C.
#
#	client c0 10.1.0.2 ───── b0 box b1 ───── s0 10.1.0.9 server

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
test_taps() { ! open_taps 0; }
ip -n server address add 10.1.0.9/24 dev s0
ip -n client neighbour flush dev c0 nud permanent
library=$(dirname "$(command -v ntdrive)")
[[ -e $library/libnettap.so ]] || skip "no libnettap.so in $library"
make -s -C "$(dirname "$0")/../../userlib/c" OUT="$WORK/c" LIBDIR="$library"
export LD_LIBRARY_PATH=$library

part bridge
start bridge box "$WORK/c/bridge-c" b0 b1
await "two taps are open" open_taps 2
pings client 10.1.0.9 20
noise "$WORK/data" 4
tcp_sink sink server 8000 "$WORK/there"
tcp_send client "$WORK/data" 10.1.0.9 8000
finish sink
same "$WORK/data" "$WORK/there"
balance
kill -TERM "${PIDS[bridge]}"
wait "${PIDS[bridge]}" || true
await "its taps are gone" open_taps 0

part echo
start echo box "$WORK/c/echo-c" b0
await "a tap is open" test_taps
pings client 10.1.0.1 20
balance
kill -KILL "${PIDS[echo]}"
wait "${PIDS[echo]}" || true
