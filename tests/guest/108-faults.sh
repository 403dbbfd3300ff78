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
figure "$(summary faults '"\(.faults) allocations and copies refused, one at a time, in all requests: \(.steps)"')"

# Allocations of the module only: those whose callers stand between its first and last instruction.
part "allocations of the data path, one in twenty"
[[ -e $DEBUG/failslab/require-start ]] || { echo "this kernel cannot pick allocations by their callers" && exit 0; }
text=$(cat /sys/module/nettap/sections/.text)
size=$(awk '/^nettap / { print $2 }' /proc/modules)
# Cells that change, so that new headers are allocated, and packets that are made.
tapped relay box ntdrive relay --tap b0:input --tap b0:output --only 7000 --tag 10
for knob in failslab fail_page_alloc; do
	inject "$knob" "require-start=$text" "require-end=$(printf '0x%x' $((text + size)))" stacktrace-depth=32 task-filter=N probability=5
done
datagrams client 10.1.0.1:7000 --count 2000 --gap 200
datagrams box 10.1.0.2:7000 --count 2000 --gap 200 --tolerant
for knob in failslab fail_page_alloc; do inject "$knob" probability=0 require-start=0 require-end=0; done
quiet b0 input
quiet b0 output
figure "of $(count b0 input detoured.packets) packets in and $(count b0 output detoured.packets) out $(($(count b0 input ended.refused_memory) + $(count b0 output ended.refused_memory))) were lost for want of memory, each counted"
stop relay
tapped relay box ntdrive relay --tap b0:input --tap b0:output
pings client 10.1.0.1
stop relay
