#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: the alloc ring keeps its floor by itself, mbuf_pull(n) brings n more, mbuf_push(-1) empties the dealloc ring.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

ntdrive raw supply
