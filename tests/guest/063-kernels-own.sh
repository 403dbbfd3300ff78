#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: answers of the kernel's own that a program holds, more than its sockets for them have room for, silence nobody
# else: those sockets are one a processor for all interfaces and namespaces.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	             (OUTPUT tap on b0: holds)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
tapped relay box ntdrive relay --tap b0:output --do hold
ns client ping -q -n -c 700 -i 0.002 -W 0.1 10.1.0.1 >/dev/null && fail "an answer was not held"
reaches b0 output detoured.in_flight -ge 600

part "the host answers elsewhere, whichever processor it is"
pings server 10.2.0.1 50
part "another namespace answers"
pings box 10.2.0.2 50
release relay
quiet b0 output ended.reverted -ge 600
stop relay

# segments NAMESPACE IF SRC_MAC DST_MAC SRC DST NUMBER: to a port that nobody has; each is answered by a reset.
segments() { ns "$1" ntdrive frame-send "$2" --tcp --src-mac "$3" --dst-mac "$4" --src "$5:9" --dst "$6:9" --count "$7" --gap 500; }
resets() { [[ $(ns "$1" nft -j list counters | jq '[.nftables[].counter | select(. != null)][0].packets') == "$2" ]]; }
for space in server box; do
	ns "$space" nft -f - <<-END
		table ip t {
			counter resets { }
			chain i { type filter hook input priority 0; tcp flags rst counter name resets drop; }
		}
	END
done

part "resets that are held: who has no connection elsewhere is told so all the same, by this host and another namespace"
tapped relay box ntdrive relay --tap b0:output --do hold
segments client c0 $MAC_C0 $MAC_B0 10.1.0.2 10.1.0.1 700
reaches b0 output detoured.in_flight -ge 600
segments server s0 $MAC_S0 $MAC_B1 10.2.0.2 10.2.0.1 50
await "the server is told 50 times" resets server 50
segments box b1 $MAC_B1 $MAC_S0 10.2.0.1 10.2.0.2 50
await "the box is told 50 times" resets box 50
release relay
quiet b0 output ended.reverted -ge 600
stop relay
