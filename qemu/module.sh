#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds nettap.ko out of tree, into build/RELEASE/, and prints where it is:
#
#	module.sh [--clippy] [KERNEL]		for a Debian kernel (see kernel.sh), in the root filesystem
#	KDIR=/some/tree module.sh		for any prepared tree that has Rust, with the compilers that prepared it
#
# A tree of one's own is compiled on the host when the host has the tree's rustc, else in the root filesystem.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

# setting KDIR NAME: the value of CONFIG_NAME in a tree.
setting() { sed -n "s/^CONFIG_$2=\"\?\([^\"]*\)\"\?$/\1/p" "$1/.config" | tail -n 1; }

# compiler KDIR: the make arguments that choose the compiler that the tree was prepared with.
compiler() {
	local kdir=$1 text number
	text=$(setting "$kdir" CC_VERSION_TEXT)
	if [[ $(setting "$kdir" CC_IS_CLANG) ]]; then
		number=$(setting "$kdir" CLANG_VERSION)
		echo "LLVM=-$((number / 10000))"
	else
		echo "CC=${text%% *}"
	fi
}

host_rustc_fits() {
	command -v rustc bindgen make >/dev/null &&
		[[ $(rustc --version) == "$(setting "$1" RUSTC_VERSION_TEXT)" ]]
}

main() {
	local clippy=() where kernel_dir release place=/nettap tree
	[[ ${1:-} != --clippy ]] || { clippy=(CLIPPY=1) && shift; }
	if [[ ${KDIR:-} ]]; then
		[[ -f $KDIR/include/config/kernel.release && -f $KDIR/.config ]] ||
			die "KDIR=$KDIR is no prepared kernel tree: run 'make modules_prepare' in it first"
		[[ $(setting "$KDIR" RUST) ]] || die "KDIR=$KDIR has no CONFIG_RUST=y, which nettap.ko needs"
		tree=$KDIR where=("$NETTAP/qemu/enter.sh" --bind "$KDIR:$KDIR" --)
		! host_rustc_fits "$KDIR" || where=(env) place=$NETTAP
	else
		kernel_dir=$("$NETTAP/qemu/kernel.sh" "$@")
		KDIR=$kernel_dir/tree tree=/cache/${kernel_dir##*/}/tree where=("$NETTAP/qemu/enter.sh" --)
	fi
	release=$(<"$KDIR/include/config/kernel.release")
	mkdir -p "$NETTAP/build/$release"
	step "nettap.ko for $release" bound "${where[@]}" make ${V:+V=$V} -C "$tree" "$(compiler "$KDIR")" "${clippy[@]}" \
		"M=$place" "MO=$place/build/$release" modules || die "nettap.ko was not built for $release"
	[[ ! -f ${kernel_dir:-}/build-info ]] || cp "$kernel_dir/build-info" "$NETTAP/build/$release/build-info"
	echo "$NETTAP/build/$release/nettap.ko"
}

main "$@"
