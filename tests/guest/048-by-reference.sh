#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: long packets of a program's own leave without being copied: their mbufs stay with the interface for as long as
# it has them, whatever becomes of the program, the group and the module meanwhile, and are free right after.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0, which keeps each packet for two seconds; MTU 9000)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
MTU=9000 pair
to_client=(--src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" --dst-mac "$MAC_C0")

# slow [SECONDS]
slow() { ns box tc qdisc replace dev b0 root netem limit 10000 delay $((${1:-2} * SLOWNESS))s; }
fast() { ns box tc qdisc del dev b0 root; }
# inject OPTION…: new packets; the program has ended when this returns.
inject() { ns box ntdrive inject --tap b0:output "${to_client[@]}" "$@" >"$WORK/inject.log" || fail "inject: $(<"$WORK/inject.log")"; }
under_way() { [[ $(region held.kernel) == "$1" ]]; }
# Without a session there would be no region to look at.
tapped keeper box ntdrive relay --tap b0:input

part "the program has ended, its packets are under way, with its mbufs"
receiver recv client 10.1.0.2:7000 --count 100
slow
inject --count 100 --size 3000
expect "mbufs under way, two a packet" "$(region held.kernel)" -eq 200
finish recv
await "all mbufs are free" under_way 0

part "chains, and super-packets that the kernel has to cut"
ns box ethtool -K b0 tx off >/dev/null
receiver recv client 10.1.0.2:7000 --count 50
inject --count 50 --size 8000
mbufs=$(region held.kernel)
expect "mbufs under way" "$mbufs" -ge 100
finish recv
receiver recv client 10.1.0.2:7000 --count 200
inject --count 200 --size 1000 --datagrams-per-packet 20
finish recv
ns box ethtool -K b0 tx on >/dev/null
await "all mbufs are free" under_way 0

part "more than may be under way: the others are copied"
receiver recv client 10.1.0.2:7000 --count 1000
inject --count 1000 --size 3000
mbufs=$(region held.kernel)
expect "mbufs under way" "$mbufs" -ge 200
expect "mbufs under way" "$mbufs" -lt 2000
finish recv
await "all mbufs are free" under_way 0

part "those that Ethernet carries everywhere are copied"
receiver recv client 10.1.0.2:7000 --count 100
inject --count 100 --size 1472
expect "mbufs under way" "$(region held.kernel)" -eq 0
finish recv
fast

part "a socket of this machine gets a copy, however long it does not read"
receiver recv client 10.1.0.2:7000 --count 100
kill -STOP "${PIDS[recv]}"
inject --count 100 --size 3000
await "all mbufs are free" under_way 0
kill -CONT "${PIDS[recv]}"
finish recv

part "so does a tap that holds what it has received"
tapped holder client ntdrive relay --tap c0:input --do hold --only 7000
inject --count 100 --size 3000
reaches c0 input detoured.in_flight -eq 100
await "all mbufs are free but those of the copies" under_way 0
receiver recv client 10.1.0.2:7000 --count 100
release holder
finish recv
stop holder

part "their group is gone, and the module stays until they have left"
stop keeper
slow
receiver recv client 10.1.0.2:7000 --count 100
inject --group passing --group-mbufs 2048 --count 100 --size 3000
open_taps 0 || fail "a tap is left"
refuses "unloading the module" rmmod nettap
finish recv
await "the module goes" rmmod nettap
insmod "$NETTAP_MODULE"

part "what they have pinned counts against their sender's limit until they have left"
# A region of 4 MB, of which the limit allows one.
limited() {
	ns box setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=6291456 \
		ntdrive inject --tap b0:output "${to_client[@]}" --group "$1" --group-mbufs 2048 --count 10 --size 3000
}
receiver recv client 10.1.0.2:7000 --count 10
limited one >"$WORK/inject.log" || fail "inject: $(<"$WORK/inject.log")"
refuses "one more region" limited two
grep -q ENOBUFS "$WORK/refuses.log" || fail "it was something else: $(<"$WORK/refuses.log")"
finish recv
fast
await "it counts no more" limited three

part "kill -9 of the program, and then the interface goes, with its packets"
tapped keeper box ntdrive relay --tap lo:input
slow 60
start killed box ntdrive inject --tap b0:output "${to_client[@]}" --count 100 --size 3000 --idle $((3000 * SLOWNESS))
await "they are under way" under_way 200
kill_hard killed
expect "mbufs under way" "$(region held.kernel)" -eq 200
ip -n box link del b0
await "all mbufs are free" under_way 0
stop keeper
