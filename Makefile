# SPDX-License-Identifier: GPL-2.0-only
# The targets for people; `make` lists them. What they do is in qemu/*.sh, which set up whatever they need, once, in
# ~/.cache/nettap, and compile and run everything in a Debian 13 root filesystem and in QEMU: the host needs little.
#
#   KERNEL=7.2           a series (7.2), a version (7.2.12) or a release (7.2.12+deb13-cloud-amd64); default: the newest
#   KERNELS="7.3 7.2.11" the kernels that `test` boots: the first runs all tests, the others load the module
#   KDIR=/some/tree      any prepared kernel tree that has Rust, for `module` and `install`
#   GUESTS=2             guests that `test` uses side by side; two want four processors
#   TIMEOUT=600          seconds until a guest is stopped
#   V=1                  shows the commands and their output

KERNEL ?=
KDIR ?=
KERNELS ?= $(or $(KERNEL),7.3) 7.2
export KERNEL KDIR KERNELS GUESTS

ENTER := qemu/enter.sh --
RUN := qemu/run.sh

.PHONY: help demo test check shell module user header kernel-tree install clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
	@sed -n 's/^#   \([A-Z]*=\)/  \1/p' Makefile

demo: module user ## NetTap at work in a guest: a tapped interface, live
	@$(RUN) -- tests/demo.sh

test: ## every check and test, on the stock kernels, in guests
	@qemu/test.sh

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
