# SPDX-License-Identifier: GPL-2.0-only
# The targets for people; `make` lists them. What they do is in qemu/*.sh, which set up whatever they need, once, in
# ~/.cache/nettap, and compile and run everything in a Debian 13 root filesystem and in QEMU: the host needs little.
#
#   KERNEL=7.2           a series (7.2), a version (7.2.12) or a release (7.2.12+deb13-cloud-amd64); default: the newest
#   KERNELS="7.3 7.2.11" the kernels that `test` boots: the first runs all tests, the others load the module
#   KDIR=/some/tree      any prepared kernel tree that has Rust, for `module` and `install`
#   TESTS="020 074"      the guest tests that `test-debug` runs: those whose names contain one of the words
#   GUESTS=2             guests that `test` uses side by side; two want four processors
#   TIMEOUT=600          seconds until a guest is stopped
#   WITHIN=1000          seconds after which `test-debug` begins no further test
#   LINES="input own"    what `bench` measures: paths, lines, or patterns with *
#   LINE=input           what `bench-profile` takes apart
#   CPUS=3               processors of the guest of `bench-time`; with several, generator and program have one each
#   EACH=1               seconds of each of its four runs of a line
#   CALLS=1000000        calls of the fuzzer, for `hostile`
#   MINUTES=10           for `hostile` and `soak`: how long each of the storms, or the soak, goes on
#   KILLS=500            times that `hostile` kills a program
#   PACKETS=1000000      numbered packets that `hostile` sends through programs that share a tap
#   V=1                  shows the commands and their output

KERNEL ?=
KDIR ?=
KERNELS ?= $(or $(KERNEL),7.3) 7.2
HOSTILE := env CALLS=$(or $(CALLS),1000000) MINUTES=$(or $(MINUTES),10) KILLS=$(or $(KILLS),500) \
	PACKETS=$(or $(PACKETS),1000000) STOPPED=10 GAP=$(or $(GAP),500) LIMIT=86400
export KERNEL KDIR KERNELS GUESTS

ENTER := qemu/enter.sh --
RUN := qemu/run.sh

.PHONY: help demo bench bench-counts bench-profile bench-time bench-gate bench-keep test test-debug hostile soak check shell module user header kernel-tree install clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
	@sed -n 's/^#   \([A-Z]*=\)/  \1/p' Makefile

demo: module user ## NetTap at work in a guest: a tapped interface, live
	@$(RUN) -- tests/demo.sh

test: ## every check and test, on the stock kernels, in guests
	@qemu/test.sh

test-debug: KERNEL := $(or $(filter %debug,$(KERNEL)),debug)
test-debug: module user ## the guest tests, or TESTS="020 074", in a kernel that watches itself (its first build: 20 minutes)
	@$(RUN) --nodes 2 --mem 2048 --timeout $(or $(TIMEOUT),9000) --out build/test/debug -- \
		tests/run.sh $(if $(WITHIN),--within $(WITHIN)) $(TESTS)

hostile: module user ## fuzzing, scribbling, mangling, storms and failures, for as long as CALLS, MINUTES, KILLS and PACKETS say
	@$(RUN) --smp 4 --mem 2048 --timeout $(or $(TIMEOUT),43200) --out build/hostile -- $(HOSTILE) tests/run.sh \
		$(or $(TESTS),fuzz scribble mangle storm drivers-gone unload hotplug 107-memory faults max-age million locks fanout-cpu)

soak: module user ## packets of all kinds for MINUTES, and everything as it was at the end
	@$(RUN) --timeout $(or $(TIMEOUT),43200) --out build/soak -- $(HOSTILE) tests/run.sh soak

bench: ## what a packet costs, in instructions: all, or LINES="input capture-pcap" (LINES='*': the names)
	@qemu/bench.sh $(LINES)

bench-counts: ## the same, and system calls, wake-ups, locked instructions and copies for a packet
	@qemu/bench.sh --counts $(LINES)

bench-profile: ## the functions in which a line's instructions go: LINE=input
	@qemu/bench.sh --profile $(or $(LINE),input)

bench-time: ## nanoseconds, packets a second and percentiles of latency, on a machine that has KVM
	@qemu/bench.sh --time $(LINES)

bench-gate: bench ## and whether NetTap costs more than in tests/bench/reference.json
	@$(ENTER) build/target/release/ntbench gate build/bench/bench.json tests/bench/reference.json

bench-keep: ## makes the last results the reference
	@$(ENTER) build/target/release/ntbench keep build/bench/bench.json tests/bench/reference.json

check: ## the lint only
	@$(ENTER) tests/lint.sh

shell: module user ## a shell in a guest that has the module loaded
	@$(RUN) --interactive --net --timeout 86400 -- qemu/shell.sh

module: ## nettap.ko, in build/RELEASE/
	@qemu/module.sh

user: ## the library and the tools, in build/target/release/
	@qemu/user.sh

header: ## uapi/include/nettap.h, from the Rust definitions
	@$(ENTER) uapi/header.sh

kernel-tree: ## a prepared tree for KERNEL, and where it is
	@echo "$$(qemu/kernel.sh)/tree"

install: module user ## into this machine: module for KERNEL or KDIR, tapctl, library, headers (root)
	@qemu/install.sh

clean: ## removes build/
	rm -rf build

distclean: clean ## removes the caches too
	@qemu/distclean.sh
