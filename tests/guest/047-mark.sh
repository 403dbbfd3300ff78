#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: mark and priority of a packet go up with it, in both directions; they stay what they were when it goes on as
# it was, and come back changed: nftables sees them in the host, the interface's queue on the way out.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT and OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

# Before the tap: what is received gets mark 7 and priority 3, what is sent 9 and 6. Behind it, in the host, both are
# counted; on the way out the queue has a class for priority 5, one for 6, and one for a mark.
ns box nft -f - <<-END
	table netdev before {
		chain received {
			type filter hook ingress device b0 priority 0
			udp dport 7000 meta mark set 7 meta priority set 0:3
		}
	}
	table ip host {
		counter same {}
		counter changed {}
		chain received {
			type filter hook prerouting priority 0
			udp dport 7000 meta mark 7 meta priority 0:3 counter name same
			udp dport 7000 meta mark 42 meta priority 0:5 counter name changed
		}
		chain sent {
			type filter hook output priority 0
			udp dport 7000 meta mark set 9 meta priority set 0:6
		}
	}
END
counted() { ns box nft -j list counter ip host "$1" | jq '.nftables[].counter.packets // empty'; }

readonly BY_PRIORITY_5=1 BY_PRIORITY_6=2 BY_MARK=3
# queue [MARK]: anew; without a mark the priority decides.
queue() {
	ns box tc qdisc del dev b0 root 2>/dev/null || true
	ns box tc qdisc add dev b0 root handle 1: prio bands 4 priomap 3 3 3 3 3 0 1 3 3 3 3 3 3 3 3 3
	[[ ! ${1:-} ]] || ns box tc filter add dev b0 parent 1: protocol ip handle "$1" fw classid 1:$BY_MARK
}
# queued CLASS: packets that went through it.
queued() { ns box tc -s class show dev b0 | awk -v class="1:$1" '$1 == "class" { here = $3 == class } here && $1 == "Sent" { print $4 }'; }

# exchange FROM TO ADDRESS
exchange() {
	receiver recv "$2" "$3" --count 10
	datagrams "$1" "$3" --count 10
	finish recv
}
# shown DIRECTION MARK PRIORITY: packets that the program saw so.
shown() { jq -R -c "fromjson? | select(.direction == \"$1\" and .mark == $2 and .priority == $3)" <"$WORK/relay.log" | wc -l; }

part "as they were"
queue 9
tapped relay box ntdrive relay --tap b0:input --tap b0:output --print
exchange client box 10.1.0.1:7000
exchange box client 10.1.0.2:7000
quiet b0 input
quiet b0 output
counts b0 input ended.reverted -eq 10
counts b0 output ended.reverted -eq 10
expect "in the queue, by mark 9" "$(queued $BY_MARK)" -eq 10
queue
exchange box client 10.1.0.2:7000
expect "in the queue, by priority 6" "$(queued $BY_PRIORITY_6)" -eq 10
stop relay
expect "in the host" "$(counted same)" -eq 10
expect "shown as received, 7 and 3" "$(shown Received 7 3)" -eq 10
expect "shown as sent, 9 and 6" "$(shown Sent 9 6)" -eq 20

part "changed, and nothing else of the packet"
queue 42
tapped relay box ntdrive relay --tap b0:input --tap b0:output --mark 42 --priority 5
exchange client box 10.1.0.1:7000
exchange box client 10.1.0.2:7000
quiet b0 input
quiet b0 output
counts b0 input ended.changed -eq 10
counts b0 output ended.changed -eq 10
expect "in the queue, by mark 42" "$(queued $BY_MARK)" -eq 10
queue
exchange box client 10.1.0.2:7000
expect "in the queue, by priority 5" "$(queued $BY_PRIORITY_5)" -eq 10
stop relay
expect "in the host, 42 and 5" "$(counted changed)" -eq 10
expect "in the host as they had been" "$(counted same)" -eq 10

part "changed bytes keep them"
queue 9
tapped relay box ntdrive relay --tap b0:input --tap b0:output --upper
receiver recv box 10.1.0.1:7000 --count 10 --text
datagrams client 10.1.0.1:7000 --count 10 --text "netTAP 7"
finish recv
receiver recv client 10.1.0.2:7000 --count 10 --text
datagrams box 10.1.0.2:7000 --count 10 --text "netTAP 7"
finish recv
counts b0 input ended.changed -eq 10
expect "in the host, 7 and 3" "$(counted same)" -eq 20
expect "in the queue, by mark 9" "$(queued $BY_MARK)" -eq 10
stop relay
