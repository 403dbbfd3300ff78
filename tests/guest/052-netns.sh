#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: an interface in another namespace is tapped from outside (option netns), by the library and by tapctl.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box        a program elsewhere has the taps on b0

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
netns elsewhere

tapped relay elsewhere ntdrive relay --tap b0:input --tap b0:output --netns box
pings client 10.1.0.1 20
quiet b0 input ended.reverted -eq 20
counts b0 output ended.reverted -eq 20
part "the tap says where it stands"
expect "namespace of the tap" "$(count b0 input netns)" -eq "$(stat -L -c %i /run/netns/box)"
stop relay

part "there is no such interface here"
expect "tap in the wrong namespace" "$(ns elsewhere ntdrive raw try-tap b0 input)" = ENODEV

part "tapctl does it too"
tapctl --netns box tap add --dev b0 --mode input >"$WORK/add.log"
pings client 10.1.0.1 5
quiet b0 input ended.reverted -eq 5
tapctl --netns box tap del --dev b0
open_taps 0 || fail "the tap is still there"
pings client 10.1.0.1 2
