#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# One ABI for everybody: what C and C++ compilers make of nettap.h, for 64 and 32 bits, is what the Rust side has, and
# the header is the one that cbindgen makes of uapi/src today.
#
# There is no Rust compiler for 32 bits in Debian's packages for amd64, so the C compilers carry that half: structures
# without padding come out alike, and a 32-bit C program is held against the 64-bit Rust table. Runs in the root filesystem
# (qemu/enter.sh -- tests/abi/run.sh), in the checkout. Prints PASS or FAIL for each case.

set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# check NAME COMMAND…: one case; its output is shown only when it fails.
check() {
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "PASS $name"
		passed=$((passed + 1))
	else
		echo "FAIL $name"
		sed 's/^/     /' "$work/log"
		failed=$((failed + 1))
	fi
}

# list_of HEADER: all that it defines, as calls of layout.c's macros.
list_of() {
	awk '
		/^struct nettap_[a-z_]+ \{$/ { name = $2; print "STRUCT(" name ")"; next }
		/^}/ { name = "" }
		name && /^\t[a-z].*;$/ { field = $NF; sub(/(\[.*\])?;$/, "", field); print "FIELD(" name ", " field ")" }
		/^#define NETTAP_IOC_/ { print "REQUEST(" $2 ")"; next }
		/^#define (NETTAP|TAP)_[A-Z0-9_]+ / { print "CONSTANT(" $2 ")" }
	' "$1"
}

# layout NAME COMPILER…: builds layout.c and compares what it prints with the Rust side.
layout() {
	local name=$1
	shift
	# Linking for C++ and 32 bits would need another library; the C compiler links, since nothing of it is used.
	"$@" -Wall -Wextra -Wpedantic -Werror -Iuapi/include -I"$work" -c tests/abi/layout.c -o "$work/$name.o" &&
		gcc "${bits[@]}" "$work/$name.o" -o "$work/$name" &&
		"$work/$name" | LC_ALL=C sort >"$work/$name.txt" &&
		diff -u --label rust --label "$name" "$work/rust.txt" "$work/$name.txt"
}

# A list that lost the greater part of the header would agree with nothing and prove nothing.
lists_the_header() {
	local want
	for want in "STRUCT(nettap_tap_stats)" "FIELD(nettap_header, vlan_tci)" "FIELD(nettap_tap, reserved)" \
		"FIELD(nettap_words, reserved)" "REQUEST(NETTAP_IOC_UNMAP)" "CONSTANT(TAP_BYPASS)" "CONSTANT(NETTAP_NO_MBUF)"; do
		grep -qxF "$want" "$work/abi-list.inc" || { echo "missing: $want" && return 1; }
	done
	[[ $(grep -c '^STRUCT' "$work/abi-list.inc") == "$(grep -c '^struct .* {' uapi/include/nettap.h)" ]]
}

# stale SED-EXPRESSION: the freshness check must accept the header of now, and refuse it when it was changed so.
stale() {
	uapi/header.sh --print >"$work/fresh.h"
	uapi/header.sh --check "$work/fresh.h" || return 1
	sed "$1" "$work/fresh.h" >"$work/stale.h"
	if cmp -s "$work/fresh.h" "$work/stale.h"; then
		echo "the expression '$1' changed nothing"
		return 1
	fi
	! uapi/header.sh --check "$work/stale.h"
}

# drift SED-EXPRESSION: the layout comparison must refuse a header that was changed so (its own assertions are off, in C99).
drift() {
	mkdir -p "$work/drift"
	sed "$1" uapi/include/nettap.h >"$work/drift/nettap.h"
	list_of "$work/drift/nettap.h" >"$work/drift/abi-list.inc"
	gcc -std=c99 -I"$work/drift" tests/abi/layout.c -o "$work/drift/layout" &&
		"$work/drift/layout" | LC_ALL=C sort >"$work/drift.txt" &&
		! diff -q "$work/rust.txt" "$work/drift.txt"
}

# asserted SED-EXPRESSION: the header's own assertions must refuse it, in C and in C++.
asserted() {
	mkdir -p "$work/asserted"
	sed "$1" uapi/include/nettap.h >"$work/asserted/nettap.h"
	! gcc -std=c11 -I"$work/asserted" -include nettap.h -fsyntax-only -x c /dev/null &&
		! g++ -std=c++11 -I"$work/asserted" -include nettap.h -fsyntax-only -x c++ /dev/null
}

cargo run --quiet --locked --package nettap-host-tests --bin abi-layout >"$work/rust.out"
LC_ALL=C sort "$work/rust.out" >"$work/rust.txt"
list_of uapi/include/nettap.h >"$work/abi-list.inc"

check "the list of the header is complete" lists_the_header
bits=(-m64)
check "C99, 64 bits" layout c64 gcc -m64 -std=c99
check "C11, 64 bits, with assertions" layout c11 gcc -m64 -std=c11
check "C++11, 64 bits, with assertions" layout cpp64 g++ -x c++ -m64 -std=c++11
bits=(-m32)
check "C11, 32 bits, with assertions" layout c32 gcc -m32 -std=c11
check "C++11, 32 bits, with assertions" layout cpp32 g++ -x c++ -m32 -std=c++11
check "a moved field is noticed" drift 's/^\tuint32_t prealloc;/\tuint64_t prealloc;/'
check "a missing field is noticed" drift '/^\tuint16_t queue;/d'
check "another value is noticed" drift 's/^#define NETTAP_RING_CELLS 64/#define NETTAP_RING_CELLS 128/'
check "another request is noticed" drift 's/^#define NETTAP_NR_PUSH 68/#define NETTAP_NR_PUSH 69/'
check "the assertions hold a moved field" asserted 's/^\tuint32_t prealloc;/\tuint64_t prealloc;/'
check "the header is fresh" uapi/header.sh --check
check "a stale constant is noticed" stale 's/^#define NETTAP_ON_FULL_DROP 1/#define NETTAP_ON_FULL_DROP 2/'
check "a stale comment is noticed" stale '0,/kernel/s//kernels/'
check "a missing line is noticed" stale '/^#define NETTAP_CHAIN_MAX /d'

echo "$passed passed, $failed failed"
((failed == 0))
