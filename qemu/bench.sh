#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# `make bench` and its relatives: build what is measured and measure it, in a guest whose clock counts instructions; or
# with --time in one that has a clock, which measures something only where KVM lends the processors.
#
#	bench.sh [LINE]…		paths, lines or patterns, as `ntbench list` names them; without any, all
#	bench.sh --counts [LINE]…	and what happens for a packet: calls, wake-ups, locked instructions, copies
#	bench.sh --profile [LINE]…	and in which functions it goes
#	bench.sh --time [LINE]…		nanoseconds, throughput and percentiles of latency; CPUS=1: in one processor
#
# Results: build/bench/bench.json, drawn in bench.svg, and time.json of --time; with counts, the plugin's in
# build/bench/counts. Counting is the work of a plugin of QEMU's emulator (tests/bench/plugin) and does not change what is
# counted: the clock is the guest's instructions.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

readonly OUT=$NETTAP/build/bench
# The kernel stays where its symbols say, and keeps its LOCK prefixes, which it would drop on one processor.
readonly APPEND="nokaslr noreplace-smp"

ntbench() { bound qemu/enter.sh -- build/target/release/ntbench "$@"; }

# plugin RELEASE: QEMU's argument. Which addresses the kernel's copying functions have, a guest has to tell once.
plugin() {
	local symbols=build/bench/symbols-$1
	if [[ ! -s $symbols ]]; then
		step "symbols of $1" bound qemu/run.sh --out "$OUT" --append "$APPEND" -- \
			bash -c "grep -v '\[' /proc/kallsyms >/out/symbols-$1"
	fi
	echo "/nettap/build/target/release/libntcount.so,out=/out/counts$(ntbench plugin-arguments "$symbols")"
}

main() {
	local counts='' profile='' time='' options=() arguments=() name=bench files line release status=0
	cd "$NETTAP"
	while [[ ${1:-} == --* ]]; do
		case $1 in
		--counts) counts=1 ;;
		--profile) counts=1 profile=1 ;;
		--time) time=1 name=time ;;
		*) die "bench.sh: unknown option $1" ;;
		esac
		shift
	done
	release=$(basename "$("$NETTAP/qemu/kernel.sh" "${KERNEL:-}")"/root/usr/lib/modules/*)
	qemu/module.sh "${KERNEL:-}" >/dev/null
	step "benchmark" bound qemu/enter.sh -- \
		cargo build --release --package nettap-bench --package nettap-bench-plugin
	mkdir -p "$OUT"
	if [[ $time ]]; then
		# A processor for the generator, one for the program, and one for whatever else the guest does.
		options+=(--smp "${CPUS:-3}" --mem 2048)
		arguments+=(--time ${EACH:+--seconds "$EACH"})
	else
		options+=(--icount --append "$APPEND")
		arguments+=(${PACKETS:+--packets "$PACKETS"})
	fi
	[[ -z $counts ]] || options+=(--plugin "$(plugin "$release")")
	bound qemu/run.sh --timeout "${TIMEOUT:-7200}" --out "$OUT" "${options[@]}" -- \
		tests/bench/run.sh "$name" "${arguments[@]}" "$@" || status=$?
	files=(--json build/bench/bench.json --counts build/bench/counts --symbols build/bench/symbols)
	[[ -z $counts ]] || ntbench count "${files[@]}"
	if [[ $profile ]]; then
		for line in "$@"; do
			ntbench profile "${files[@]}" "$line"
		done
	else
		ntbench table "build/bench/$name.json"
		[[ $time ]] || ntbench picture build/bench/bench.json >"$OUT/bench.svg"
	fi
	return "$status"
}

main "$@"
