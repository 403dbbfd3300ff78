#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a namespace that is deleted while packets of an interface in it are held goes, with its interfaces and its
# connection tracking; the program, which lives elsewhere, hears of it. One whose sockets have sent what is held of another
# namespace's interface goes at once, too.
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

part "deleted while its answers are held, which left by a VLAN of another namespace's interface"
netns guest
netns box
with_ipv6 client guest
ip -n client link add c0 address "$MAC_C0" type veth peer name b0 address "$MAC_B0" netns box
configure client <<-END
	link set c0 up
	link add link c0 name c0.7 up type vlan id 7
	address add 10.7.0.2/24 dev c0.7
	address add fd07::2/64 dev c0.7 nodad
	neighbour replace 10.7.0.1 lladdr $MAC_B0 dev c0.7 nud permanent
	neighbour replace fd07::1 lladdr $MAC_B0 dev c0.7 nud permanent
END
configure box <<-END
	link set b0 up
	link add link b0 name v0 type vlan id 7
	link set v0 netns guest
END
configure guest <<-END
	link set v0 up
	address add 10.7.0.1/24 dev v0
	address add fd07::1/64 dev v0 nodad
	neighbour replace 10.7.0.2 lladdr $MAC_C0 dev v0 nud permanent
	neighbour replace fd07::2 lladdr $MAC_C0 dev v0 nud permanent
END
start listener guest socat -u TCP-LISTEN:7000,fork OPEN:/dev/null
await "it listens" listens listener 7000
ns guest nft add table inet t '{ chain o { type filter hook output priority 0; ct state established counter; }; }'
tapped relay box ntdrive relay --tap b0:output --do hold
for address in 10.7.0.1 fd07::1; do ns client ping -q -n -c 5 -i 0.2 -W 1 "$address" >/dev/null || true; done
reaches b0 output detoured.in_flight -ge 10
# The answer to who wants to connect holds a request, and that the listener.
start caller client socat -u OPEN:/dev/null TCP:10.7.0.1:7000
reaches b0 output detoured.in_flight -ge 11
kill_hard caller
# Datagrams whose bytes their program has lent, and that has ended.
ns guest ntdrive udp-send 10.7.0.2:7000 --size 1400 --count 5 --lend
reaches b0 output detoured.in_flight -ge 16
# No program's socket is in it any more, whose end the namespace would wait for.
kill_hard listener
ip -n guest link add y0 type veth peer name y1 netns client
without() { ip netns del "$1" && await "the client's end of another pair goes with the namespace" gone_from client "$2"; }
MOST=3000 quickly "deleting their senders' namespace" without guest y1
# Namespaces are cleaned up one after the other.
netns after
ip -n client link add c1 type veth peer name a0 netns after
ip netns del after
await "the next namespace goes too" gone_from client c1
# Their routes were that namespace's.
counts b0 output detoured.in_flight -ge 16
stop relay
ip netns del box
await "the client's end goes with the namespace" gone_from client c0

part "deleted with the program inside: it lives until the program ends"
netns box
ip -n client link add c0 type veth peer name b0 netns box
ip -n client link set c0 up
ip -n box link set b0 up
tapped relay box ntdrive relay --tap b0:input --tap b0:output --do hold
ip netns del box
kill_hard relay
await "the client's end goes with the namespace" gone_from client c0
