#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an administrator ends a tap by its id; what the program holds follows the tap's policy; the program hears of
# it, and its late reverts are harmless.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0, its program holds 20 packets)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

for policy in revert drop; do
	part "on_exit $policy"
	tapped relay box ntdrive relay --tap b0:input --do hold --only 7000 --on-exit $policy --until-gone
	arrive=20
	[[ $policy == revert ]] || arrive=0
	receiver recv box 10.1.0.1:7000 --count $arrive --until-told
	datagrams client 10.1.0.1:7000 --count 20
	reaches b0 input detoured.in_flight -eq 20
	tapctl tap del "$(tap_id b0 input)"
	heard recv
	finish relay
	said relay '^gone' || fail "the program was not told"
	open_taps 0 || fail "the tap is still there"
done

part "an id that nobody has"
refuses "tap del 999999" tapctl tap del 999999
part "all at once"
tapped relay box ntdrive relay --tap b0:input --tap b0:output --until-gone
tapctl tap del --all
finish relay
pings client 10.1.0.1

part "by the name that the interface has now"
tapped relay box ntdrive relay --tap b0:input --until-gone
ip -n box link set b0 down
ip -n box link set b0 name old0
ip -n box link add b0 type dummy
refuses "ending a tap of another interface" ns box tapctl tap del --dev b0
ns box tapctl tap del --dev old0
finish relay
