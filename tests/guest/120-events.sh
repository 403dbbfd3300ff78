#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: who listens is told of everything that happens, in its order and exactly: sessions, taps, what was taken back,
# drops by cause; who does not read loses the oldest and is told how many; read, poll and epoll wait as they should.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box (OUTPUT taps on b0)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pair

part "the interface for programs"
start sink client socat -u UDP4-RECV:7000 /dev/null
await "the sink listens" listens sink 7000 udp
ns box ntdrive raw events b0 10.1.0.2:7000
