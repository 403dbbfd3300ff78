#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: TCP with all offloads on passes an echo program in both directions byte for byte, super-packets whole, and
# nothing is lost on the way: no retransmission is due to the tap.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (echo: INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
noise "$WORK/data" 8

tapped echo box echo --mode input,output --ring 1024 b0
part "from client to box"
tcp_sink down box 8000 "$WORK/down"
tcp_send client "$WORK/data" 10.1.0.1 8000
finish down
same "$WORK/data" "$WORK/down"

part "from box to client, through sendfile of nginx too"
tcp_sink up client 8000 "$WORK/up"
tcp_send box "$WORK/data" 10.1.0.2 8000
finish up
same "$WORK/data" "$WORK/up"
web box 10.1.0.1
cp "$WORK/data" "$WORK/www/data"
fetch client http://10.1.0.1/data "$WORK/fetched"
same "$WORK/data" "$WORK/fetched"

part "super-packets were among them, in both directions"
quiet b0 input
quiet b0 output
counts b0 input detoured.gso -gt 0
counts b0 output detoured.gso -gt 0 extra.undelivered -eq 0
balance
kill -TERM "${PIDS[echo]}"
finish echo
