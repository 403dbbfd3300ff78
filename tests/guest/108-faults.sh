#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: whatever allocation and whatever copy to or from a program the kernel refuses, the request fails as a whole
# or succeeds; and while packets flow, a refused allocation costs that packet at most, and is counted.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0, then INPUT and OUTPUT)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
readonly DEBUG=/sys/kernel/debug
pair
[[ $(nthostile faults --tap b0:output --to 10.1.0.2:9 --ask) == yes && -d $DEBUG/failslab ]] ||
	skip "this kernel has no fault injection; make test-debug has it"

# inject KNOB SETTING=VALUE…
inject() {
	local setting knob=$1
	shift
	for setting; do
		[[ ! -e $DEBUG/$knob/${setting%%=*} ]] || echo "${setting#*=}" >"$DEBUG/$knob/${setting%%=*}"
	done
}
readonly KNOBS='failslab fail_page_alloc fail_usercopy'
for knob in $KNOBS; do
	inject "$knob" probability=0 times=-1 interval=1 space=0 verbose=0 ignore-gfp-wait=N ignore-gfp-highmem=N min-order=0
done

part "each allocation and each copy of a program's life, one after the other"
ns box nthostile faults --tap b0:output --to 10.1.0.2:9 | tee "$WORK/faults.log"
expect "refusals" "$(summary faults .faults)" -gt 20
# They allocate nothing: what is refused is the copy to the program.
for step in info query; do expect "refusals in $step" "$(summary faults .steps.$step)" -gt 0; done
figure "$(summary faults '"\(.faults) allocations and copies refused, one at a time, in all requests: \(.steps)"')"

# Allocations of the module only: those whose callers stand between its first and last instruction.
part "allocations of the data path, one in twenty"
[[ -e $DEBUG/failslab/require-start ]] || { echo "this kernel cannot pick allocations by their callers" && exit 0; }
text=$(cat /sys/module/nettap/sections/.text)
size=$(awk '/^nettap / { print $2 }' /proc/modules)
# Cells that change, so that new headers are allocated, and packets that are made; what arrives has the tag.
ip -n client link add link c0 name c0.10 up type vlan id 10
ip -n box link add link b0 name b0.10 up type vlan id 10
tapped relay box ntdrive relay --tap b0:input --tap b0:output --only 7000 --tag 10
# What the host allocates once, for the first packet: not ours to count.
receiver first_in box 10.1.0.1:7000 --count 1
receiver first_out client 10.1.0.2:7000 --count 1
datagrams client 10.1.0.1:7000
datagrams box 10.1.0.2:7000
finish first_in
finish first_out
# What passes for want of memory overtakes what the program has.
receiver in box 10.1.0.1:7000 --count 1000000 --some --unordered --seconds 1000000
receiver out client 10.1.0.2:7000 --count 1000000 --some --unordered --seconds 1000000
for knob in failslab fail_page_alloc; do
	inject "$knob" "require-start=$text" "require-end=$(printf '0x%x' $((text + size)))" stacktrace-depth=32 task-filter=N probability=5
done
start send_in client ntdrive udp-send 10.1.0.1:7000 --count 2000 --gap 200
finish send_in
start send_out box ntdrive udp-send 10.1.0.2:7000 --count 2000 --gap 200 --tolerant
finish send_out
quiet b0 input
quiet b0 output
for knob in failslab fail_page_alloc; do inject "$knob" probability=0 require-start=0 require-end=0; done
heard in
heard out

# missing MODE WAY: something met a refusal at all; and what has not arrived is what is counted as lost.
missing() {
	local lost=0 hit counter
	for counter in dropped ended.refused_memory ended.refused_change ended.refused_shape extra.undelivered; do
		lost=$((lost + $(count b0 "$1" $counter)))
	done
	hit=$(($(count b0 "$1" ended.refused_memory) + $(count b0 "$1" passed.other) + $(count b0 "$1" dropped.other)))
	expect "packets for whom memory was refused, $2" "$hit" -gt 0
	expect "packets that are missing, $2" "$(($(got "send_$2" sent) + $(got "send_$2" failed) - $(got "$2" unique)))" -eq "$lost"
	figure "$2: of $(count b0 "$1" detoured.packets) packets $lost were lost for want of memory, and $(count b0 "$1" passed.other) passed, each counted"
}
missing input in
missing output out
stop relay
tapped relay box ntdrive relay --tap b0:input --tap b0:output
pings client 10.1.0.1
stop relay

# Its cell is padding, which only the program takes away: one that is not told sleeps for ever, before a ring that lets
# nobody in. Bytes that a sender has lent are copied before they are kept.
part "packets that cannot be kept, more than there are cells, before a program that sleeps"
tapped relay box ntdrive relay --tap b0:input --ring-cells 16 --wait sleep --patient
for knob in failslab fail_page_alloc; do
	inject "$knob" "require-start=$text" "require-end=$(printf '0x%x' $((text + size)))" stacktrace-depth=32 task-filter=N probability=100
done
datagrams client 10.1.0.1:7000 --lend --size 1400 --count 60 --gap 30000
for knob in failslab fail_page_alloc; do inject "$knob" probability=0 require-start=0 require-end=0; done
counts b0 input dropped.other -eq 60 passed.ring -eq 0 detoured.packets -eq 0
datagrams client 10.1.0.1:7000 --count 5
reaches b0 input ended.reverted -eq 5
stop relay
