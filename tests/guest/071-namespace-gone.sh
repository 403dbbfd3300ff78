#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a namespace that is deleted while packets of an interface in it are held goes, with its interfaces and its
# connection tracking; the program, which lives elsewhere, hears of it.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box        a program elsewhere has the taps on b0 and holds 20 packets each

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
gone_from() { ! ip -n "$1" link show "$2"; }
netns elsewhere
# Connection tracking, whose entries the held packets keep.
ns box nft -f - <<-END
	table inet t {
		chain i { type filter hook input priority 0; ct state new counter; }
		chain o { type filter hook output priority 0; ct state new counter; }
	}
END

tapped relay elsewhere ntdrive relay --tap b0:input --tap b0:output --netns box --do hold --only 7000 --until-gone
datagrams client 10.1.0.1:7000 --count 20
datagrams box 10.1.0.2:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
reaches b0 output detoured.in_flight -eq 20
ip netns del box
await "the client's end goes with the namespace" gone_from client c0
finish relay
said relay '^gone' || fail "the program was not told"
open_taps 0 || fail "a tap outlived its namespace"

part "deleted with the program inside: it lives until the program ends"
netns box
ip -n client link add c0 type veth peer name b0 netns box
ip -n client link set c0 up
ip -n box link set b0 up
tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold
ip netns del box
kill_hard relay
await "the client's end goes with the namespace" gone_from client c0
