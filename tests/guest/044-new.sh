#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: new packets from the alloc ring leave by the interface or come into the host: single, chained, with the
# checksum left to be computed, as super-packets; many more of them than the region has mbufs.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT, BYPASS, INPUT tap on b0; MTU 9000)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
MTU=9000 pair
to_client=(--src 10.1.0.1:7000 --dst 10.1.0.2:7000 --src-mac "$MAC_B0" --dst-mac "$MAC_C0")
to_box=(--src 10.1.0.2:7000 --dst 10.1.0.1:7000 --src-mac "$MAC_C0" --dst-mac "$MAC_B0")

# made MODE COUNT OPTION…: so many datagrams arrive, each once, unharmed and in order.
made() {
	local mode=$1 count=$2 where=client address=10.1.0.2 to=("${to_client[@]}")
	shift 2
	if [[ $mode == input ]]; then where=box address=10.1.0.1 to=("${to_box[@]}"); fi
	receiver recv "$where" "$address:7000" --count "$count"
	ns box ntdrive inject --tap "b0:$mode" "${to[@]}" --count "$count" "$@" >"$WORK/inject.log" || fail "inject: $(cat "$WORK/inject.log")"
	finish recv
	expect "new packets refused" "$(got inject injected_refused)" -eq 0
}

for mode in output input bypass; do
	part "$mode: single packets, more than there are mbufs"
	made $mode $(($(region mbufs) + 500)) --size 100
	part "$mode: chains"
	made $mode 50 --size 8000
	part "$mode: the checksum left to be computed"
	made $mode 50 --checksum partial
	made $mode 50 --checksum partial --size 8000
	part "$mode: super-packets of 20 datagrams"
	made $mode 400 --size 1000 --datagrams-per-packet 20
	expect "packets injected" "$(got inject injected)" -eq 20
done

part "super-packets that are no work for the kernel, or too much"
made output 5 --size 6000 --fragments 1400
# unmade OPTION…: all five are refused.
unmade() {
	ns box ntdrive inject --tap b0:output "${to_client[@]}" --count 5 "$@" >"$WORK/inject.log" || fail "inject: $(cat "$WORK/inject.log")"
	expect "new packets refused" "$(got inject injected_refused)" -eq 5
}
unmade --size 6000 --fragments 1
unmade --size 6000 --fragments 1400 --ethertype 35151
ip -n box link set b0 mtu 1500
unmade --size 6000 --fragments 1600
made output 5 --size 6000 --fragments 1400
ip -n box link set b0 mtu 9000

part "left to be computed, and nobody there who can: the kernel does"
ns box ethtool -K b0 tx off >/dev/null
made output 50 --checksum partial
made output 400 --size 1000 --datagrams-per-packet 20
ns box ethtool -K b0 tx on >/dev/null

part "a mark of the program's is the firewall's to see"
ns box nft -f - <<-END
	table inet t { chain c { type filter hook input priority 0; meta mark 42 counter; }; }
END
made input 10 --mark 42
ns box nft list table inet t | grep 'counter packets 10 ' >/dev/null || fail "nftables saw no mark: $(ns box nft list table inet t)"

part "a tag beside the bytes leaves with the packet"
ip -n client link add link c0 name c0.7 up type vlan id 7
made output 10 --vlan 7
expect "packets on c0.7" "$(ip -n client -s -j link show c0.7 | jq '.[0].stats64.rx.packets')" -ge 10
