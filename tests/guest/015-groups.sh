#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a named group has a region of its own, of the size that its creator gave; its access rule, and nothing else,
# says who may join; it goes with its last session, and fresh memory is zero. Whoever administers only a network of his own
# makes groups and taps there, and nowhere else.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
netns box

# In a kernel that clears what it allocates it sees what a group leaves behind, at most: `make test` has a guest that does
# not.
part "fresh memory"
rmmod nettap
insmod "$NETTAP_MODULE"
ntdrive raw fresh

part "names, sizes, coming and going"
ntdrive raw groups

# Joiners are users without any privilege, so the device must be theirs to open.
chmod 666 /dev/nettap

# user UID GID GROUPS COMMAND…: without privilege.
user() {
	local uid=$1 gid=$2 groups=$3
	shift 3
	setpriv --reuid "$uid" --regid "$gid" --groups "$groups" --inh-caps=-all -- "$@"
}
join() { user "$1" "$2" "$3" ntdrive raw try-map --group web; }

# make RULE [MBUFS]: a group of user 1000, who administers the network.
make() {
	start creator box setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=+net_admin \
		-- ntdrive raw try-map --group web --mbufs "${2:-64}" --access "$1" --stay
	ready creator
	said creator '^ok' || fail "the group was not made: $(cat "$WORK/creator.log")"
}
unmake() {
	kill_hard creator
	await "the group goes with its last session" no_groups
}
no_groups() { [[ $(tapctl --json region show | jq -c .region.groups) == '[]' ]]; }
listed() { tapctl --json group list | jq -r ".groups[1].$1"; }

part "access uid: its creator's user only, whatever the group, root neither"
make 0
expect "its row" "$(listed group) $(listed access) $(listed uid) $(listed gid) $(listed mbufs) $(listed sessions)" = "web uid 1000 1000 64 1"
expect "its user" "$(join 1000 1001 1001)" = ok
expect "a fellow of its group" "$(join 1001 1000 1000)" = EACCES
expect "root" "$(ntdrive raw try-map --group web)" = EACCES
unmake

part "access gid: whoever is in its creator's group, by the effective or another one"
make 1
expect "its row" "$(listed access)" = gid
expect "a fellow" "$(join 1001 1000 1001)" = ok
expect "a fellow by another group" "$(join 1001 1001 1000)" = ok
expect "a stranger" "$(join 1001 1001 1001)" = EACCES
unmake

part "access all: whoever can open the device"
make 2
expect "a stranger" "$(join 1001 1001 1001)" = ok
unmake

part "making a group takes CAP_NET_ADMIN over one's own network namespace"
expect "by a user" "$(user 1000 1000 1000 ntdrive raw try-map --group web --mbufs 64)" = EPERM
expect "by root of another user namespace, in this network namespace" \
	"$(user 1000 1000 1000 unshare --user --map-root-user ntdrive raw try-map --group web --mbufs 64)" = EPERM
expect "in one of its own" \
	"$(user 1000 1000 1000 unshare --user --map-root-user --net ntdrive raw try-map --group web --mbufs 64)" = ok
expect "but the default group is not for it" \
	"$(user 1000 1000 1000 unshare --user --map-root-user --net ntdrive raw try-map)" = EPERM

part "who has it in a namespace of one's own taps the interfaces there, and none elsewhere"
stranger() { ns box setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all -- unshare --user --map-root-user "$@"; }
ip -n box link add d0 up type dummy
make 2 512
expect "elsewhere" "$(stranger tapctl --json tap add --dev d0 --mode input --group web --foreground | jq -r .error.errno)" = EPERM
stranger --net sh -c 'ip link add d0 up type dummy &&
	exec tapctl tap add --dev d0 --mode input --group web --group-mbufs 512 --confirm 1 --foreground'
unmake
chmod 660 /dev/nettap

part "the memory of groups is limited like any"
limited() { setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock="$1" "${@:2}"; }
expect "8 MiB with 4 MiB to lock" "$(limited 4194304 ntdrive raw try-map --group web --mbufs 4096)" = ENOBUFS
expect "1 MiB" "$(limited 4194304 ntdrive raw try-map --group web --mbufs 512)" = ok
no_groups || fail "a group is left: $(tapctl group list)"
