#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs a command inside the Debian 13 root filesystem, as root there, in /nettap (this checkout):
#
#	enter.sh [--kernel REL] [--bind SRC:DST[:ro]]… [--keep PREFIX]… [--] COMMAND ARG…
#
# With --kernel (a series, a version or a full release) the kernel's modules stand in /lib/modules and KDIR names its
# prepared tree; --keep passes on the variables of that prefix. Everything happens in mount and pid namespaces of its
# own: nothing is left over, however it ends.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

# Cargo's settings of the host (a registry of its own, a proxy) hold inside as well.
take_cargo_settings() {
	local from=${CARGO_HOME:-$HOME/.cargo}/config.toml to=$CACHE/cargo/config.toml
	mkdir -p "$CACHE/cargo"
	if [[ -f $from ]]; then
		cmp -s "$from" "$to" || cp "$from" "$to"
	else
		rm -f "$to"
	fi
}

main() {
	local binds=() kernel='' kernel_dir
	export ROOTFS CACHE KEEP="CARGO_HTTP_ CARGO_NET_ CARGO_REGISTR"
	while (($#)); do
		case $1 in
		--kernel) kernel=$2 && shift ;;
		--bind) binds+=("$2") && shift ;;
		--keep) KEEP+=" $2" && shift ;;
		--) shift && break ;;
		-*) die "enter.sh: unknown option $1" ;;
		*) break ;;
		esac
		shift
	done
	(($#)) || set -- bash
	ROOTFS=${NETTAP_ROOTFS:-$("$NETTAP/qemu/rootfs.sh")}
	if [[ $kernel ]]; then
		kernel_dir=$("$NETTAP/qemu/kernel.sh" "$kernel")
		export KDIR=/cache/${kernel_dir##*/}/tree
		binds+=("$kernel_dir/root/usr/lib/modules:/usr/lib/modules:ro")
	fi
	take_cargo_settings
	mkdir -p "$NETTAP/build"
	in_namespaces "$NETTAP/qemu/chroot.sh" "${binds[@]}" -- "$@"
}

main "$@"
