#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Generates include/nettap.h from src/ with cbindgen, as cbindgen.toml says:
#
#	header.sh			writes the header
#	header.sh --print		prints it
#	header.sh --check [HEADER]	writes nothing; shows the difference and fails when HEADER (the committed one) is stale
#
# The header is committed, so that C programs build without Rust; lint and tests/abi run the check.

set -euo pipefail
cd "$(dirname "$0")"

generate() {
	local raw
	command -v cbindgen >/dev/null || {
		echo "header.sh: cbindgen is missing (apt-get install cbindgen)" >&2
		exit 1
	}
	raw=$(mktemp)
	cbindgen --quiet --config cbindgen.toml --output "$raw" src/lib.rs
	# Links of the Rust documentation lead nowhere in C: [`Map`](super::ioctl::Map) becomes `Map`. C is indented by tabs.
	# shellcheck disable=SC2016  # backquotes of the documentation
	sed -E -e 's/\[(`[^`]*`)\](\([^)]*\))?/\1/g' -e 's/^ {8}/\t/' "$raw"
	rm -f "$raw"
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
generate >"$new"
case ${1-} in
--print)
	cat "$new"
	;;
--check)
	diff -u --label "${2:-include/nettap.h} (committed)" --label "nettap.h (generated from src/)" "${2:-include/nettap.h}" "$new" || {
		echo "header.sh: the header is stale: run 'make header'" >&2
		exit 1
	}
	;;
'')
	mkdir -p include
	cat "$new" >include/nettap.h
	;;
*)
	echo "header.sh: what is '$1'?" >&2
	exit 2
	;;
esac
