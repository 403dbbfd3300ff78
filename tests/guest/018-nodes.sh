#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: a region lies on the NUMA node that the memory policy, or the cpuset, of the program that makes it says.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
readonly GROUP=/sys/fs/cgroup/nettap-nodes
[[ -d /sys/devices/system/node/node1 ]] || skip "this machine has one NUMA node; qemu/run.sh --nodes 2 has two"

part "a policy"
expect "nodes of a region made with memory of node 1 only" "$(ntdrive raw node --bind 1 | paste -sd ' ' -)" = "1 1"
expect "of node 0 only" "$(ntdrive raw node --bind 0 | paste -sd ' ' -)" = "0 0"

part "no policy: where the program runs"
expect "nodes of a region made on the last processor" "$(taskset -c "$(($(nproc) - 1))" ntdrive raw node | paste -sd ' ' -)" = "1 1"
expect "on the first" "$(taskset -c 0 ntdrive raw node | paste -sd ' ' -)" = "0 0"

part "a cpuset"
echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control || skip "this kernel has no cpusets"
mkdir $GROUP
echo 1 >$GROUP/cpuset.mems
# shellcheck disable=SC2016  # the inner shell expands it
in_set() { bash -c 'echo $$ >'$GROUP'/cgroup.procs && exec "$@"' sh "$@"; }
expect "nodes of a region made in a set with node 1" "$(in_set taskset -c 0 ntdrive raw node | paste -sd ' ' -)" = "1 1"
rmdir $GROUP
