#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: interfaces, namespaces and whole drivers go at once, under load and with packets of them held: within a
# second, and nobody waits for a reference.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0; d0, a dummy, OUTPUT tap)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
netns client box

link() {
	wire client c0 "$MAC_C0" box b0 "$MAC_B0"
	address client c0 10.1.0.2/24
	address box b0 10.1.0.1/24
	neighbour client c0 10.1.0.1 "$MAC_B0"
	neighbour box b0 10.1.0.2 "$MAC_C0"
}

# held SPACE: a program there holds packets of both ways of b0, and others flood through.
held() {
	tapped relay "$1" ntdrive relay --tap b0:input --tap b0:output --netns box --do hold --only 7000 --until-gone
	datagrams client 10.1.0.1:7000 --count 20
	datagrams box 10.1.0.2:7000 --count 20
	start flood client ping -q -n -f 10.1.0.1
	reaches b0 input detoured.in_flight -ge 20
	reaches b0 output detoured.in_flight -ge 20
	reaches b0 input ended.reverted -gt 50
}

gone() {
	kill_hard flood
	finish relay
	said relay '^gone' || fail "the program was not told"
	open_taps 0 || fail "a tap outlived its interface"
}

part "an interface"
link
held box
quickly "deleting an interface" ip -n box link del b0
gone

part "a namespace"
link
netns elsewhere
held elsewhere
gone_from() { ! ip -n "$1" link show "$2"; }
without() { ip netns del "$1" && await "the other end goes with it" gone_from client c0; }
quickly "deleting a namespace and its interfaces" without box
gone
netns box

# removable DRIVER: as a module, which it is in every kernel that tests run on.
removable() { grep -q "^$1 " /proc/modules || fail "$1 is part of this kernel and cannot be unloaded"; }

part "the driver veth"
link
removable veth
held box
quickly "unloading veth" rmmod veth
gone
link

part "the driver dummy"
ip -n box link add d0 type dummy
address box d0 10.9.0.1/24
ip -n box link set d0 up
neighbour box d0 10.9.0.2 "$MAC_S0"
removable dummy
tapped relay box ntdrive relay --tap d0:output --do hold --until-gone
datagrams box 10.9.0.2:7000 --count 20
reaches d0 output detoured.in_flight -eq 20
quickly "unloading dummy" rmmod dummy
finish relay
said relay '^gone' || fail "the program was not told"
! dmesg | grep 'unregister_netdevice: waiting' || fail "an interface was waited for"
