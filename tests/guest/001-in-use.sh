#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: the module cannot be unloaded while a descriptor, a mapping or a tap is in use, and can be at once when not.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

part "an open descriptor"
exec 7<>/dev/nettap
refuses "rmmod with the device open" rmmod nettap
exec 7>&-
rmmod nettap
insmod "$NETTAP_MODULE"

part "a tap, idle and under traffic"
tapped relay box ntdrive relay --tap b0:input --tap b0:output
refuses "rmmod with taps open" rmmod nettap
ns client ping -q -n -c 200 -i 0.005 10.1.0.1 >"$WORK/ping.log" &
ping=$!
for _ in {1..20}; do refuses "rmmod under traffic" rmmod nettap; done
wait $ping || fail "pings were lost: $(tail -n 2 "$WORK/ping.log")"
stop relay

part "and when all is closed"
rmmod nettap
insmod "$NETTAP_MODULE"
pings client 10.1.0.1
