#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: what a program has mapped counts against its limit of locked memory until the last part of the mapping goes,
# however often it maps and unmaps sessions meanwhile.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=10485760 ntdrive raw locked
part "and nothing stays behind"
setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=10485760 ntdrive raw locked
