#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: shared locks keep programs apart, also when they are killed with a lock in hand: the lock is free when the
# exit is over, the next owner is told, and the count that it guards is exact. Requests and scribbled words are survived.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

part "requests, waits, deaths and scribbled words, by hand"
ntdrive raw locks

part "four programs count under a lock, and are killed at random moments"
ntdrive locks --kills 60

part "who has registered locks is shown"
expect "sessions that have registered locks" \
	"$(tapctl --json session list | jq '[.sessions[] | select(.locks > 0)] | length')" -eq 0
