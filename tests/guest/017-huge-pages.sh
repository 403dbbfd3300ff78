#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a region lies in huge pages as far as there are any, its mappings show them, and whatever a program does to a
# mapping, every page stays what it was; with some huge pages, or none, packets flow as with all.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (INPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
readonly POLICY=/sys/kernel/mm/transparent_hugepage/enabled
[[ -e $POLICY ]] || skip "this kernel has no huge pages for programs"
pair
# For packets whose bytes the network stack takes from the mapping.
ip link set lo up
policy=$(sed 's/.*\[\(.*\)\].*/\1/' $POLICY)

# loaded PARAMETER…: the module, anew.
loaded() {
	rmmod nettap
	insmod "$NETTAP_MODULE" "$@"
}
# flows BYTES: packets go up and down through a region of which so many bytes lie in huge pages.
flows() {
	tapped relay box ntdrive relay --tap b0:input
	expect "bytes in huge pages" "$(tapctl --json region show | jq .region.huge_bytes)" = "$1"
	receiver recv box 10.1.0.1:7000 --count 50
	datagrams client 10.1.0.1:7000 --count 50
	finish recv
	quiet b0 input ended.reverted -eq 50
	stop relay
}

part "the usual region, all of it"
loaded
expect "before it is made" "$(tapctl --json region show | jq .region.huge_bytes)" = null
ntdrive raw huge --bytes 8388608
flows 8388608
tapctl status | grep -q '8 MiB in huge pages' || fail "status does not say so: $(tapctl status)"

part "the machine's policy for huge pages"
echo madvise >$POLICY
ntdrive raw huge --bytes 8388608 >"$WORK/madvise.log" || fail "with madvise: $(grep FAIL "$WORK/madvise.log")"
echo "$policy" >$POLICY

part "a region that is no multiple of a huge page"
loaded mbufs=1300
ntdrive raw huge --bytes 2097152
flows 2097152

part "one smaller than a huge page"
loaded mbufs=512
flows 0

part "no huge pages"
loaded huge_pages=0
flows 0

part "huge pages that are not to be had"
if [[ -d /sys/kernel/debug/fail_page_alloc ]]; then
	cd /sys/kernel/debug/fail_page_alloc
	loaded
	echo 9 >min-order
	echo N >ignore-gfp-wait
	echo 0 >verbose
	echo -1 >./times
	echo 2 >interval
	echo 100 >probability
	ntdrive raw try-map
	echo 0 >probability
	echo 1 >interval
	cd - >/dev/null
	huge=$(tapctl --json region show | jq .region.huge_bytes)
	expect "bytes in huge pages" "$huge" -lt 8388608
	expect "bytes in huge pages" "$huge" -gt 0
	ntdrive raw huge --bytes "$huge"
	flows "$huge"
	figure "$huge bytes of 8388608 in huge pages where every other one is refused"
fi
loaded
