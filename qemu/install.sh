#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# `make install`: puts what was built into this machine (or below DESTDIR): the module for the kernel that KDIR prepares,
# tapctl, the library and its headers. The programs are Debian 13's and need its C library or a newer one.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}

main() {
	local ko release built=$NETTAP/build/target/release
	ko=$("$NETTAP/qemu/module.sh")
	release=$(basename "$(dirname "$ko")")
	install -Dm644 "$ko" "$DESTDIR/lib/modules/$release/updates/nettap.ko"
	install -Dm755 "$built/tapctl" "$DESTDIR$PREFIX/bin/tapctl"
	install -Dm644 -t "$DESTDIR$PREFIX/lib" "$built/libnettap.so"
	install -Dm644 -t "$DESTDIR$PREFIX/include" "$NETTAP/uapi/include/nettap.h" "$NETTAP"/userlib/include/*.h
	if [[ ! $DESTDIR ]]; then
		depmod "$release"
		ldconfig
	fi
	say "installed nettap.ko for $release and tapctl below ${DESTDIR}$PREFIX; load it with: modprobe nettap"
}

main
