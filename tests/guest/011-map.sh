#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: mbuf_map refuses what cannot be with a clear errno, and what is mapped has the permissions of uapi/layout.rs.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

ntdrive raw mapping

part "the locked-memory limit holds for who may not exceed it"
limited() { setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock="$1" ntdrive raw try-map; }
expect "map with 64 KiB to lock" "$(limited 65536)" = ENOBUFS
expect "map with 1 GiB to lock" "$(limited 1073741824)" = ok
expect "map again with 64 KiB: nothing stayed behind" "$(limited 65536)" = ENOBUFS

part "mapping and tapping are for administrators of the network"
expect "map without CAP_NET_ADMIN" "$(setpriv --bounding-set=-net_admin --inh-caps=-net_admin ntdrive raw try-map)" = EPERM
ip link add d0 type dummy
ip link set d0 up
expect "tap without CAP_NET_ADMIN" "$(ntdrive raw try-tap d0 input --without-privilege)" = EPERM
expect "tap with it" "$(ntdrive raw try-tap d0 input)" = ok

part "an interface's namespace counts, not the caller's: root of another user namespace has no say here"
chmod 666 /dev/nettap
expect "tap by a user namespace's root" "$(unshare --user --map-root-user ntdrive raw try-tap d0 input 2>&1 | grep -o 'EPERM\|ok')" = EPERM
chmod 660 /dev/nettap
