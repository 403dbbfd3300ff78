#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: where there is no memory for a region or for rings, the program that asked is told, nobody is killed for
# it, and all is as it was: under a memory cgroup's limit, and for a region larger than the machine.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
readonly GROUP=/sys/fs/cgroup/nettap-test
pair
killings() { awk '/^oom_kill / { print $2 }' /proc/vmstat; }
before=$(killings)

# limited BYTES COMMAND…: in a memory cgroup of its own.
limited() {
	local limit=$1
	shift
	mkdir -p $GROUP
	echo "$limit" >$GROUP/memory.max
	# shellcheck disable=SC2016  # the inner shell expands it
	bash -c 'echo $$ >'$GROUP'/cgroup.procs && exec "$@"' sh "$@"
}
echo +memory >/sys/fs/cgroup/cgroup.subtree_control || skip "this kernel has no memory cgroups"

part "a region that the group may not have"
rmmod nettap
insmod "$NETTAP_MODULE" mbufs=16384
expect "map of 32 MB in a group of 12 MB" "$(limited 12M ntdrive raw try-map)" = ENOMEM
expect "a region made" "$(tapctl --json region show | jq .region.made)" = false
expect "map without the limit" "$(ntdrive raw try-map)" = ok

part "rings that the group may not have"
expect "rings of 65536 cells in a group of 1.5 MB" \
	"$(limited 1500K ntdrive raw try-map --ring-cells 65536)" = ENOMEM
expect "rings of 16 cells" "$(limited 12M ntdrive raw try-map --ring-cells 16)" = ok

part "a region that the machine has not"
rmmod nettap
insmod "$NETTAP_MODULE" mbufs=16777216
expect "map of 32 GB" "$(ntdrive raw try-map)" = ENOMEM
expect "processes that were killed for want of memory" "$(($(killings) - before))" -eq 0
rmmod nettap
insmod "$NETTAP_MODULE"
expect "map of a region of the usual size" "$(ntdrive raw try-map)" = ok

part "and packets go their way"
tapped relay box ntdrive relay --tap b0:input --tap b0:output
pings client 10.1.0.1
stop relay
rmdir $GROUP
figure "no memory for a region of 32 MB in a cgroup of 12 MB, for rings, for a region of 32 GB: ENOMEM each time, nobody killed"
