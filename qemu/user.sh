#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds what runs in user space, in the root filesystem: the library, the tools, the examples and the tests' programs in
# build/target/release/, the C examples in build/c/.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

ROOTFS=$("$NETTAP/qemu/rootfs.sh")
export NETTAP_ROOTFS=$ROOTFS
step "library, tools and examples" bound "$NETTAP/qemu/enter.sh" -- cargo build --release --workspace --lib --bins --examples
step "C examples" bound "$NETTAP/qemu/enter.sh" -- make -C userlib/c OUT=/nettap/build/c LIBDIR=/nettap/build/target/release
