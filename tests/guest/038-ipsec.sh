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
address client c0 10.9.0.2/32
address box b0 10.9.0.1/32

# secure NAMESPACE OUT IN: both ends of the tunnel as this one sees them.
KEY=0x$(printf '%040d' 7)
secure() {
	local namespace=$1 out=$2 in=$3
	ip -n "$namespace" xfrm state add src 10.1.0.1 dst 10.1.0.2 proto esp spi 0x101 reqid 1 mode tunnel aead 'rfc4106(gcm(aes))' "$KEY" 128
	ip -n "$namespace" xfrm state add src 10.1.0.2 dst 10.1.0.1 proto esp spi 0x102 reqid 2 mode tunnel aead 'rfc4106(gcm(aes))' "$KEY" 128
	ip -n "$namespace" xfrm policy add src 10.9.0.1 dst 10.9.0.2 dir "$out" tmpl src 10.1.0.1 dst 10.1.0.2 proto esp reqid 1 mode tunnel
	ip -n "$namespace" xfrm policy add src 10.9.0.2 dst 10.9.0.1 dir "$in" tmpl src 10.1.0.2 dst 10.1.0.1 proto esp reqid 2 mode tunnel
}
secure box out in
secure client in out
ip -n box route add 10.9.0.2 via 10.1.0.2 dev b0 src 10.9.0.1
ip -n client route add 10.9.0.1 via 10.1.0.1 dev c0 src 10.9.0.2
pings client 10.9.0.1 3

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

part "and afterwards all is as before"
pings client 10.9.0.1 3
