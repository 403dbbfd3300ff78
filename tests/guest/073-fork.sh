#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a forked child shares the session, has none of the memory, and ends neither session nor tap before the last
# copy is closed.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT tap on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

receiver recv client 10.1.0.2:7000 --count 2 --seconds 30
ns box ntdrive raw fork b0 10.1.0.2:7000
finish recv
