#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a session of one group cannot see, name or take what is another group's, by whatever index, chain or mmap
# offset; two groups work side by side, and the death of one's program is not noticed by the other.
#
#	client c0 10.1.0.2 ───── b0 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	                 (group left: b0)  (group right: b1)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road

part "a program that tries"
receiver recv client 10.1.0.2:7000 --count 1000000 --some --unordered --seconds 60
ns box ntdrive raw apart b0 10.1.0.2:7000 | tee "$WORK/apart.log"
heard recv
expect "packets that arrived" "$(got recv unique)" -eq "$(sed -n 's/^expect //p' "$WORK/apart.log")"

part "two groups side by side"
tapped left box ntdrive relay --tap b0:input --tap b0:output --group left --group-mbufs 2048
tapped right box ntdrive relay --tap b1:input --tap b1:output --group right --group-mbufs 4096
receiver recv server 10.2.0.2:7000 --count 1000
datagrams client 10.2.0.2:7000 --count 1000 --gap 30
finish recv
for tap in 'b0 input' 'b1 output'; do
	# shellcheck disable=SC2086  # two words
	quiet $tap
	# shellcheck disable=SC2086
	counts $tap ended.reverted -eq 1000
done
each() { tapctl --json group list | jq -c "[.groups[1:][] | .$1]"; }
expect "the groups" "$(each group)" = '["left","right"]'
expect "their mbufs" "$(each mbufs)" = '[2048,4096]'
expect "their taps" "$(each taps)" = '[2,2]'
expect "the default region is not even made for them" "$(region sessions)" -eq 0

part "one is killed under traffic"
receiver recv server 10.2.0.2:7000 --count 1500 --seconds 30
start sender client ntdrive udp-send 10.2.0.2:7000 --count 1500 --gap 100
reaches b1 output ended.reverted -gt 1100
kill_hard left
finish sender
finish recv
quiet b1 output ended.reverted -eq 2500
expect "the groups that are left" "$(each group)" = '["right"]'
stop right
expect "and then" "$(each group)" = '[]'
