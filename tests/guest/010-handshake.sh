#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: program and module agree on the ABI or part as friends: versions, sizes of structures, reserved fields,
# unknown requests, bad addresses.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

ntdrive raw calls

part "tapctl knows both versions"
tapctl --json version | jq -e . >/dev/null || fail "tapctl version: $(tapctl --json version)"
