#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: the programs that come with NetTap do what they say, run as `tapctl run NAME`: bridge, nat, dump, delay.
# (echo: 030.)
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box 10.2.0.1 b1 ───── s0 10.2.0.2 server

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road

end() { balance; kill -TERM "${PIDS[$1]}"; finish "$1"; }

part "delay: a ping takes longer by as much, each way"
tapped delay box tapctl run delay --ms 50 --mode input,output b0
ns client ping -q -n -c 3 -i 0.2 10.1.0.1 >"$WORK/ping.log" || fail "$(cat "$WORK/ping.log")"
expect "least round trip in ms" "$(sed -n 's|.*= \([0-9]*\)\..*|\1|p' "$WORK/ping.log")" -ge 100
end delay

part "delay: the end of one tap costs the others no packet"
tapped delay box tapctl run delay --ms $((3000 * SLOWNESS)) --mode input b0 b1
receiver recv box 10.1.0.1:7000 --count 20
datagrams client 10.1.0.1:7000 --count 20
reaches b0 input detoured.in_flight -eq 20
ns box tapctl tap del --dev b1 >/dev/null
finish recv
await "it has ended" open_taps 0
! wait "${PIDS[delay]}" || fail "it did not say so"
unset "PIDS[delay]"

part "dump: pcapng that tcpdump reads"
tapped dump box tapctl run dump --mode input,output -w "$WORK/dump.pcapng" b0
pings client 10.1.0.1 10
quiet b0 input
end dump
expect "echo requests in the dump" "$(tcpdump -n -r "$WORK/dump.pcapng" 2>/dev/null | grep -c 'echo request')" -eq 10
expect "echo replies in the dump" "$(tcpdump -n -r "$WORK/dump.pcapng" 2>/dev/null | grep -c 'echo reply')" -eq 10

part "dump: a file that is there stays when no packet can come"
size=$(stat -c %s "$WORK/dump.pcapng")
refuses "a dump of an interface that is not there" ns box tapctl dump -w "$WORK/dump.pcapng" b7
expect "bytes of the file" "$(stat -c %s "$WORK/dump.pcapng")" -eq "$size"
refuses "a dump into a folder that is not there" ns box tapctl dump -w "$WORK/nowhere/dump.pcapng" b0
grep -q "$WORK/nowhere/dump.pcapng: No such file" "$WORK/refuses.log" || fail "$(<"$WORK/refuses.log")"

part "dump: a VLAN tag beside snapped bytes"
tapped dump box tapctl dump --mode input --snaplen 64 -w "$WORK/vlan.pcapng" b0
ip -n client link add link c0 name c0.5 type vlan id 5
ip -n client address add 10.5.0.2/24 dev c0.5
ip -n client neighbour replace 10.5.0.1 lladdr "$MAC_B0" dev c0.5 nud permanent
ip -n client link set c0.5 up
datagrams client 10.5.0.1:7000 --count 5 --size 200
quiet b0 input ended.reverted -ge 5
end dump
tcpdump -n -e -r "$WORK/vlan.pcapng" >"$WORK/vlan.txt" 2>&1 || fail "tcpdump: $(<"$WORK/vlan.txt")"
expect "tagged datagrams in the dump" "$(grep -c 'vlan 5,' "$WORK/vlan.txt")" -eq 5

part "a program that only looks learns that its tap has ended"
start echo box tapctl run echo --wait poll --mode input b0
await "its tap is open" open_taps 1
ns box tapctl tap del --all >/dev/null
! wait "${PIDS[echo]}" || fail "it did not say so"
unset "PIDS[echo]"
grep -q 'ended' "$WORK/echo.log" || fail "it said: $(<"$WORK/echo.log")"

part "dump: a full disk costs no packet"
# Room for the file's head, whenever that is written, and not for the packets.
mkdir "$WORK/small"
mount -t tmpfs -o size=8k small "$WORK/small"
tapped dump box tapctl run dump --mode input -w "$WORK/small/dump.pcapng" b0
receiver recv box 10.1.0.1:7000 --count 20
kill -STOP "${PIDS[dump]}"
datagrams client 10.1.0.1:7000 --count 20 --size 1400
reaches b0 input detoured.in_flight -eq 20
kill -CONT "${PIDS[dump]}"
finish recv
await "it has ended" open_taps 0
! wait "${PIDS[dump]}" || fail "it did not say so"
unset "PIDS[dump]"

part "nat: the server sees the translated address, the client its answers"
ip -n box address add 10.2.0.50/32 dev b1
neighbour server s0 10.2.0.50 "$MAC_B1"
tapped nat box tapctl run nat --outside b1 --inside-net 10.1.0.0/24 --address 10.2.0.50
web server 10.2.0.2
noise "$WORK/www/data" 2
fetch client http://10.2.0.2/data "$WORK/data"
same "$WORK/www/data" "$WORK/data"
expect "address that the server saw" "$(cut -d' ' -f1 "$WORK/access.log" | sort -u)" = 10.2.0.50
pings client 10.2.0.2 5
end nat
fetch client http://10.2.0.2/data "$WORK/data"
expect "without nat it sees the client" "$(tail -n 1 "$WORK/access.log" | cut -d' ' -f1)" = 10.1.0.2

part "bridge: client and server are neighbours, the box is cut off"
ip -n server address add 10.1.0.9/24 dev s0
tapped bridge box tapctl run bridge b0 b1
pings client 10.1.0.9 10
lost client 10.1.0.1
end bridge
pings client 10.1.0.1
