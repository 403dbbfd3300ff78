#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: whatever travels on Ethernet passes: IPv4, IPv6 with its neighbour discovery, ARP, multicast, fragments.
#
#	client c0 10.1.0.2, fd01::2 ───── b0 10.1.0.1, fd01::1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair
with_ipv6 client box
address client c0 fd01::2/64
address box b0 fd01::1/64
ip -n client neighbour del 10.1.0.1 dev c0
ip -n box neighbour del 10.1.0.2 dev b0
seen() { [[ $(jq -R "fromjson? | select($1)" <"$WORK/relay.log") ]]; }

tapped relay box ntdrive relay --tap b0:input --tap b0:output --print
part "IPv4 with ARP"
pings client 10.1.0.1 10
await "ARP is seen" seen '.ethertype == "0806"'
part "IPv6 with neighbour discovery"
pings client fd01::1 10
ns client ndisc6 -q -w 2000 fd01::1 c0 >/dev/null || fail "the box does not answer a neighbour solicitation"
await "IPv6 is seen" seen '.ethertype == "86dd"'
receiver recv box '[fd01::1]:7000' --count 200
datagrams client '[fd01::1]:7000' --count 200
finish recv
part "multicast"
receiver recv box 0.0.0.0:7000 --count 50 --join 239.1.2.3 10.1.0.1
datagrams client 239.1.2.3:7000 --count 50 --via 10.1.0.2
finish recv
await "multicast is seen" seen '.multicast and .port == 7000'
part "multicast that the host sends and hears itself, which stands on the interface without an Ethernet header"
receiver recv box 0.0.0.0:7002 --count 50 --join 239.1.2.3 10.1.0.1
datagrams box 239.1.2.3:7002 --count 50 --via 10.1.0.1
finish recv
counts b0 input passed -ge 50
part "fragments of datagrams longer than the link"
receiver recv box 10.1.0.1:7001 --count 30
datagrams client 10.1.0.1:7001 --count 30 --size 9000
finish recv
receiver recv client 10.1.0.2:7001 --count 30
datagrams box 10.1.0.2:7001 --count 30 --size 9000
finish recv
quiet b0 input
stop relay
