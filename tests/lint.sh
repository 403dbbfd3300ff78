#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# What can be said about the sources without running them. Runs in the root filesystem, in the checkout:
#
#	qemu/enter.sh -- tests/lint.sh [CHECK…]		all checks, or those named (`--list` names them)
#
# One line for each check, what is wrong below it, a count at the end. The module's panic symbols are read from the
# nettap.ko of build/, so `make module` comes first; without one that check says SKIP, and a skip is no pass.

set -euo pipefail
cd "$(dirname "$0")/.."

# --- who may use whom in module/ (the direction of dependencies) --------------------------------------------------------
# FILE: the modules that it may name as crate::X. A row may only name rows above it, so there are no circles. uapi and sys
# stand left of all; main.rs stands right of all and is free; sys/ uses nothing but itself and uapi.
LEVELS='
	stats:
	rings:
	events:
	drops:     stats events
	flows:
	lock:
	account:
	region:    account stats lock
	filter:
	policies:  filter
	group:     events region
	tap:       account policies stats events drops rings flows region
	watch:     tap
	tapend:    account stats drops tap watch
	revert:    stats region tap
	supply:    account region rings
	outbox:    flows revert
	haul:      policies stats events flows region tap revert
	round:     account region rings stats tap watch tapend supply outbox
	drain:     account policies stats drops flows region tap tapend revert outbox round
	serve:     account stats tap tapend outbox haul round
	detour:    stats region tap serve
	intake:    policies stats drops filter flows tap revert serve detour
	reclaim:   stats region tap tapend haul serve detour intake
	registry:  policies stats events filter region group haul tap serve intake reclaim
	tapfile:   serve reclaim registry
	session:   policies stats lock events drops filter region group rings tap tapend supply serve detour intake reclaim registry tapfile
	control:   policies stats filter region group rings tap intake reclaim registry tapfile session
	device:    registry session control
'

# --- where `unsafe` may stand -------------------------------------------------------------------------------------------
UNSAFE_FENCE='^(module/sys/|userlib/src/(sys|map|capi)\.rs$|userlib/src/mock/|tools/tapctl/src/detach\.rs$|userlib/(src/)?tests/|tests/)'

# --- tools --------------------------------------------------------------------------------------------------------------

# files REGEX: the project's own files whose path matches; what is built or downloaded is none of them.
files() {
	find . \( -path ./build -o -path ./.git -o -name target \) -prune -o -type f -printf '%P\n' | LC_ALL=C sort | grep -E "$1"
}

# none TEXT…: fails with what is on stdin, if there is anything.
none() {
	local found
	found=$(cat)
	[[ -z $found ]] || { printf '%s\n' "$*:" "$found" && return 1; }
}

# code FILE: a Rust file without its comments, lines counted as before.
code() { sed -E 's,(^|[^:"])//.*,\1,' "$1"; }

# --- the checks: each is a function check_NAME whose first line of comment says what holds ---------------------------------

# Rust is formatted as rustfmt does it.
check_format() {
	local status=0
	# The files' names suffice; `cargo fmt` or `rustfmt` shows and mends the rest.
	cargo fmt --all --check -- -l || status=1
	rustfmt --check -l --edition 2021 module/main.rs || status=1
	return "$status"
}

# clippy has nothing to say about any target of the workspace.
check_clippy() {
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
}

# `unsafe` stands only where it is fenced in.
check_fence() {
	local file
	while read -r file; do
		[[ $file =~ $UNSAFE_FENCE ]] || code "$file" | grep -nE '\bunsafe\b' | sed "s,^,$file:," || true
	done < <(files '\.rs$') | none "unsafe outside of the fence"
}

# The compiler keeps the fence: deny or forbid at each root, allow only inside the fence.
check_forbid() {
	local file
	{
		grep -qx '#!\[deny(unsafe_code)\]' module/main.rs || echo "module/main.rs: no #![deny(unsafe_code)]"
		grep -qx '#!\[forbid(unsafe_code)\]' uapi/src/lib.rs || echo "uapi/src/lib.rs: no #![forbid(unsafe_code)]"
		grep -qxE '#!\[(deny|forbid)\(unsafe_code\)\]' userlib/src/lib.rs || echo "userlib/src/lib.rs: no #![deny(unsafe_code)]"
		files '\.rs$' | while read -r file; do
			[[ $file =~ $UNSAFE_FENCE ]] || grep -nE '(allow|expect)\(.*unsafe_code' "$file" | sed "s,^,$file:," || true
		done
	} | none "the compiler does not keep the fence"
}

# Each unsafe block and impl has a SAFETY comment above its statement, each unsafe function a Safety section.
check_safety() {
	# shellcheck disable=SC2016  # awk expands them
	files '\.rs$' | xargs awk '
		FNR == 1 { safety = section = 0 }
		{ line = $0; sub(/^[ \t]+/, "", line) }
		line ~ /^\/\// {
			if (line ~ /SAFETY:/) safety = 1
			if (line ~ /# Safety/) section = 1
			next
		}
		line ~ /^#!?\[/ || line == "" { next }
		{
			sub(/\/\/.*/, "", line)
			if (line ~ /(^|[^a-z_])unsafe (impl|\{)|(^|[^a-z_])unsafe$/ && !safety)
				print FILENAME ":" FNR ": no SAFETY comment: " line
			if (line ~ /(^|\) |pub )unsafe (extern "C" )?fn [a-z_]/ && !section && !safety)
				print FILENAME ":" FNR ": no Safety section: " line
			if (line ~ /[;{}]$/) safety = section = 0
		}' | none "unsafe without its reason"
}

# Only module/sys/ names the kernel crate's bindings.
check_bindings() {
	local file
	for file in module/*.rs; do
		code "$file" | grep -nw bindings | sed "s,^,$file:," || true
	done | none "bindings outside of module/sys"
}

# The files of the module use only what stands left of them, and the table of that has no circle.
check_direction() {
	local file name row uses allowed above=" uapi sys "
	{
		while read -r name uses; do
			[[ $name ]] || continue
			for row in $uses; do
				[[ $above == *" $row "* ]] || echo "the table: ${name%:} may use $row, which does not stand above it"
			done
			above+="${name%:} "
		done <<<"$LEVELS"
		for file in module/*.rs; do
			name=$(basename "$file" .rs)
			[[ $name != main ]] || continue
			allowed=$(sed -nE "s/^[[:space:]]*$name:(.*)/\1/p" <<<"$LEVELS")
			grep -qE "^[[:space:]]*$name:" <<<"$LEVELS" || echo "$file: not in the table"
			names_used "$file" | while read -r row; do
				[[ " uapi sys $name $allowed " == *" $row "* ]] || echo "$file uses $row"
			done
		done
		for file in module/sys/*.rs; do
			names_used "$file" | grep -vxE 'uapi|sys' | sed "s,^,$file uses ," || true
		done
	} | none "against the direction"
}

# names_used FILE: the modules that a file names from the root; a group import hides names, so it counts as one that is none.
names_used() {
	{
		code "$1" | grep -oE '\bcrate::[a-z_{]+' || true
		[[ $1 == module/sys/* ]] || code "$1" | grep -oE '\bsuper::[a-z_{]+' || true
	} | sed -E 's/^[a-z]*:://' | sort -u
}

# The C header is what cbindgen makes of uapi/src.
check_header() { uapi/header.sh --check; }

# Shell scripts pass shellcheck.
check_shell() {
	local scripts
	mapfile -t scripts < <(
		files '\.sh$'
		files '' | grep -vE '\.[a-z]+$' | xargs awk 'FNR == 1 { if (/^#!.*[\/ ](ba|da|busybox )?sh( |$)/) print FILENAME; nextfile }'
	)
	((${#scripts[@]} > 5)) || { echo "only ${#scripts[@]} scripts found" && return 1; }
	shellcheck --external-sources "${scripts[@]}"
}

# Each file says under which licence it stands; recorded outputs and licences themselves cannot.
check_licence() {
	local file
	files '' | grep -vE '^LICENSES/|(^|/)Cargo\.lock$|\.(json|trycmd|png|svg|pcap|pcapng)$|/proptest-regressions/' |
		while read -r file; do
			head -n 4 "$file" | grep -q 'SPDX-License-Identifier: ' || echo "$file"
		done | none "no SPDX line"
}

# The module cannot panic: nothing of core::panicking is linked.
check_panic() {
	local found=() ko
	for ko in build/*/nettap.ko; do
		# The debug kernel's Rust checks itself, and panics.
		[[ $ko != *-debug/* ]] || continue
		[[ ! -f $ko ]] || found+=("$ko")
	done
	((${#found[@]})) || return 77
	for ko in "${found[@]}"; do
		nm "$ko" | grep -E 'core9panicking|panic_|unwrap_failed|expect_failed' | awk -v ko="$ko" '{ print ko ": " $NF }' || true
	done | none "panic symbols"
}

# The brackets in the patterns keep the line that has them out.
# No path of somebody's machine and no address of a mirror is written anywhere.
check_machine() {
	{
		files '' | grep -vE '^LICENSES/|(^|/)Cargo\.lock$' |
			xargs grep -nIE '/wor[k]/|deb\.debian\.or[g]|/hom[e]/[a-z]+/|/tm[p]/look' || true
	} | none "names of one machine"
}

# --- running them -----------------------------------------------------------------------------------------------------------

all=(format clippy fence forbid safety bindings direction header shell licence panic machine)
declare -A says
while IFS=$'\t' read -r name text; do
	says[$name]=$text
done < <(awk '/^# / { text = substr($0, 3); next } /^check_/ { sub(/\(.*/, ""); print substr($0, 7) "\t" text }' "$0")

if [[ ${1-} == --list ]]; then
	for name in "${all[@]}"; do
		printf '%-10s %s\n' "$name" "${says[$name]}"
	done
	exit 0
fi
(($# == 0)) || all=("$@")
# The checks run in shells of their own; they take the functions and tables along.
export LEVELS UNSAFE_FENCE
# shellcheck disable=SC2046  # names of functions are words
export -f $(compgen -A function)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0
for name in "${all[@]}"; do
	declare -F "check_$name" >/dev/null || { echo "lint.sh: no check '$name'; see --list" >&2 && exit 2; }
	status=0
	# A shell of its own, in which a failing command ends the check: errexit is off in whatever `||` follows.
	(bash -c 'set -euo pipefail; export LC_ALL=C.UTF-8; "check_$1"' lint "$name") >"$log" 2>&1 || status=$?
	case $status in
	0) echo "PASS $name" && passed=$((passed + 1)) ;;
	77) echo "SKIP $name: NOT CHECKED, no nettap.ko in build/ (make module)" && skipped=$((skipped + 1)) ;;
	*)
		echo "FAIL $name: ${says[$name]}"
		sed 's/^/     /' "$log"
		failed=$((failed + 1))
		;;
	esac
done
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
