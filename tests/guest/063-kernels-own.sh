#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: answers of the kernel's own that a program holds, more than its sockets for them have room for, silence nobody
# else: those sockets are one a processor for all interfaces and namespaces.
#
#	client c0 10.1.0.2 ───── b0 10.1.0.1 box b1 10.2.0.1 ───── s0 10.2.0.2 server
#	             (OUTPUT tap on b0: holds)

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
tapped relay box ntdrive relay --tap b0:output --do hold
ns client ping -q -n -c 700 -i 0.002 -W 0.1 10.1.0.1 >/dev/null && fail "an answer was not held"
reaches b0 output detoured.in_flight -ge 600

part "the host answers elsewhere, whichever processor it is"
pings server 10.2.0.1 50
part "another namespace answers"
pings box 10.2.0.2 50
release relay
quiet b0 output ended.reverted -ge 600
stop relay
