#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: packets of the machine to itself pass taps on the loopback interface, unchanged and changed, in both
# directions: what was sent out of it comes in with its route, and must be taken as the host's own.
#
#	box lo 127.0.0.1 (INPUT and OUTPUT taps on lo)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
netns box
with_ipv6 box

for taps in '--tap lo:input' '--tap lo:output' '--tap lo:input --tap lo:output'; do
	part "$taps"
	# shellcheck disable=SC2086  # words
	tapped relay box ntdrive relay $taps --only 7000 --upper
	for address in 127.0.0.1 '[::1]'; do
		receiver recv box "$address:7001" --count 200
		datagrams box "$address:7001" --count 200
		finish recv
	done
	become "to myself" "TO MYSELF" 'box box 127.0.0.1' 'box box [::1]'
	stop relay
done

part "what becomes a packet of another protocol has no route of that, and nobody follows the one that it had"
for taps in lo:input lo:output; do
	tapped relay box ntdrive relay --tap "$taps" --only 7000 --poke 12=134 --poke 13=221
	datagrams box 127.0.0.1:7000 --count 20
	quiet lo "${taps#lo:}" ended.changed -eq 20
	stop relay
	tapped relay box ntdrive relay --tap "$taps" --only 7000 --poke 12=8 --poke 13=0
	datagrams box '[::1]:7000' --count 20
	quiet lo "${taps#lo:}" ended.changed -eq 20
	stop relay
done
