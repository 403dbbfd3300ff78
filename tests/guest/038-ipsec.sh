#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: what IPsec is still to encrypt, behind the tap, goes through it as it is and with other bytes; a program that
# gives it another length or another place for its checksum costs that packet and no more.
#
#	client c0 10.1.0.2, 10.9.0.2 ═════ b0 box 10.1.0.1, 10.9.0.1 (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# From then on the kernel encrypts when a packet leaves, and not before it is queued.
modprobe -q esp4_offload || skip "this kernel encrypts nothing behind the tap"
pair
secured

# relayed OPTION…: the answers' packets through a tap on the side that answers.
relayed() {
	tapped relay box ntdrive relay --tap b0:output "$@"
	tapctl tap set "$(tap_id b0 output)" --filter esp >/dev/null
}

part "as it is, and changed in place"
relayed
pings client 10.9.0.1 5
quiet b0 output ended.reverted -ge 5
stop relay
relayed --touch
pings client 10.9.0.1 5
quiet b0 output ended.changed -ge 5 ended.refused_offload -eq 0 ended.refused_change -eq 0
stop relay

part "cut, which moves what the encrypted packet is built by"
relayed --cut 20
ns client ping -q -n -c 3 -i 0.2 -W 1 10.9.0.1 >/dev/null && fail "a packet of 20 bytes was an answer"
quiet b0 output ended.changed -eq 0 ended.refused_change -ge 3
stop relay

part "a checksum where there is none"
relayed --sum-of-last 2
ns client ping -q -n -c 3 -i 0.2 -W 1 10.9.0.1 >/dev/null && fail "a packet with a sum inside was an answer"
quiet b0 output ended.changed -eq 0 ended.refused_offload -ge 3
stop relay

part "tags among the bytes, where the header was from which it is encrypted"
relayed --poke 12=129 --poke 13=0 --poke 16=129 --poke 17=0 --poke 20=129 --poke 21=0 --poke 24=129 --poke 25=0 \
	--poke 28=129 --poke 29=0 --poke 32=129 --poke 33=0 --poke 36=129 --poke 37=0 --poke 40=129 --poke 41=0
ns client ping -q -n -c 3 -s 0 -i 0.2 -W 1 10.9.0.1 >/dev/null && fail "a packet of tags was an answer"
quiet b0 output ended.changed -ge 3
stop relay

part "and afterwards all is as before"
pings client 10.9.0.1 3
