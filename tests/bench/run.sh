#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# The guest's side of `make bench` and `make bench-time`: loads the module and measures the lines that are named, or all.
# /out gets the results, in NAME.json, and the guest's symbols.
#
#	qemu/run.sh --icount --out DIR -- tests/bench/run.sh NAME [OPTION]… [LINE]…	(options: those of `ntbench measure`)

set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd -P)
readonly HERE

results=/out/$1.json
shift
insmod "${NETTAP_MODULE:-$HERE/../../build/$(uname -r)/nettap.ko}"
# The guest is still busy with its own start; to read all names takes longer than that.
cp /proc/kallsyms /out/symbols
status=0
"$HERE/../../build/target/release/ntbench" measure --json "$results" "$@" || status=$?
# Once more, because the modules of links and peers are loaded by their use.
cp /proc/kallsyms /out/symbols
exit "$status"
