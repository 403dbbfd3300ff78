#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# `make test`: sets up and builds, then runs every layer of tests in order, cheapest first, and closes with one line
# "N passed, N failed, N skipped". A layer that fails does not stop the others; a build that fails does.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

passed=0 failed=0 skipped=0
failures=()

# tally LOG STATUS: adds what a layer's own closing lines say; a layer without any counts as one test.
tally() {
	local status=$2 p f s
	read -r p f s < <(sed 's/\x1b\[[0-9;]*m//g; s/\r$//' "$1" | awk '
		/^test result: / { p += $4; f += $6; s += $8 }
		/^([A-Za-z]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
			sub(/^[A-Za-z]+: /, ""); gsub(/,/, ""); p += $1; f += $3; s += $5 }
		END { print p + 0, f + 0, s + 0 }')
	if ((p + f + s == 0)); then
		((status)) && f=1 || p=1
	elif ((status && f == 0)); then
		f=1
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# layer NAME COMMAND…
layer() {
	local name=$1 log=$NETTAP/build/test/$1.log status=0 start=$SECONDS
	shift
	echo "=== $name"
	bound "$@" 2>&1 | tee "$log" || status=$?
	closes "$name" "$status" $((SECONDS - start))
}

closes() {
	local name=$1 status=$2 took=$3
	tally "$NETTAP/build/test/$name.log" "$status"
	if ((status)); then
		failures+=("$name")
		echo "=== $name FAILED with $status after $took s"
	else
		echo "=== $name done in $took s"
	fi
}

# why LOG: what a layer has to say for itself, so that the last lines of everything tell: twenty lines of it. Of a guest's
# test that is the last part that it began, and what it said then.
why() {
	sed 's/\x1b\[[0-9;]*m//g; s/\r$//' "$1" | awk '
		# All is read to its end: who writes into a closed pipe fails.
		function say(line) { if (++said <= 20) print "  " substr(line, 1, 200) }
		/^ *ok / { next }
		/^FAIL / { failing = 1; part = ""; say($0); next }
		!/^      / || /^      ---/ { failing = 0 }
		failing && /^      - / { part = $0; next }
		failing { if (part) say(part); part = ""; say($0) }
		!failing && /^  FAIL |^error|panicked at|^nettap: / && !/ ready in / { say($0) }'
}

# guests KERNEL: the tests of the module, in one guest or, with GUESTS=2, shared out to two: that wants four processors.
# The first one's output is shown as it comes, the other's when both have ended.
guests() {
	local parts=$((${GUESTS:-1} > 1 ? 2 : 1)) log status start=$SECONDS
	local command=("$NETTAP/qemu/run.sh" --kernel "$1" --timeout "${TIMEOUT:-3000}")
	local other=''
	if ((parts > 1)); then
		log=$NETTAP/build/test/guest-2.log
		bound "${command[@]}" --out build/test/guest-2 -- tests/run.sh --part 2/2 >"$log" 2>&1 &
		other=$!
	fi
	layer guest-1 "${command[@]}" --out build/test/guest-1 -- tests/run.sh --part "1/$parts"
	if [[ $other ]]; then
		status=0
		wait "$other" || status=$?
		echo "=== guest-2"
		cat "$log"
		closes guest-2 "$status" $((SECONDS - start))
	fi
}

# The module of another release must load and leave without a word of complaint in the log.
# shellcheck disable=SC2016  # the guest's shell expands them
readonly LOADS='set -e
	insmod "build/$(uname -r)/nettap.ko"
	grep -q "^nettap .* Live" /proc/modules
	rmmod nettap
	if dmesg | grep -E "WARNING:|BUG:|Oops|nettap.*(disagrees|Unknown symbol)"; then exit 1; fi
	echo "nettap.ko loads into $(uname -r)"'

# Emulated guests have the kernel clear all memory that it allocates (see guest.sh), and so do kernels as they are
# shipped. That the module clears its own shows in a guest that does not, and does as little as it can.
# shellcheck disable=SC2016  # the guest's shell expands them
readonly FRESH='set -e
	grep -q "init_on_alloc=0" /proc/cmdline
	insmod "build/$(uname -r)/nettap.ko"
	build/target/release/ntdrive raw fresh
	echo "fresh memory is zero, cleared by nobody else"'

main() {
	local kernel name enter=$NETTAP/qemu/enter.sh run=$NETTAP/qemu/run.sh
	cd "$NETTAP"
	mkdir -p build/test
	unset KDIR KERNEL
	read -ra kernels <<<"${KERNELS:-7.3 7.2}"
	for kernel in "${kernels[@]}"; do
		qemu/module.sh "$kernel" >/dev/null
	done
	qemu/user.sh
	layer lint "$enter" tests/lint.sh
	layer host "$enter" cargo test --workspace
	# Without optimisation its largest cases are cut short.
	layer loom "$enter" cargo test --release --package nettap-host-tests --test loom
	layer abi "$enter" tests/abi/run.sh
	guests "${kernels[0]}"
	layer nodes "$run" --kernel "${kernels[0]}" --nodes 2 -- tests/run.sh 017 018
	layer fresh "$run" --kernel "${kernels[0]}" --append init_on_alloc=0 -- bash -c "$FRESH"
	for kernel in "${kernels[@]:1}"; do
		layer "loads-$kernel" "$run" --kernel "$kernel" -- bash -c "$LOADS"
	done
	for name in "${failures[@]}"; do
		echo "failed: $name (build/test/$name.log)"
		why "build/test/$name.log"
	done
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0 && ${#failures[@]} == 0))
}

main "$@"
