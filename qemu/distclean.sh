#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Removes every cache of NetTap: root filesystems, kernel trees, downloaded crates.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

cache_remove "$CACHE"
