#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes the Debian 13 root filesystem, once, in the cache, and prints where it is. It compiles everything, runs QEMU, and
# is the guest's root; nobody writes into it afterwards (enter.sh and the guest mount it read-only).

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

readonly SUITE=trixie

sources() {
	local uri
	uri=$(mirror)
	echo "deb [signed-by=$ARCHIVE_KEYRING] $uri $SUITE main"
	echo "deb [signed-by=$ARCHIVE_KEYRING] $uri $SUITE-backports main"
}

packages() { sed -e 's/#.*//' "$NETTAP/qemu/packages" | xargs | tr ' ' ,; }

# The empty folders are what enter.sh and the guest's init mount on.
# shellcheck disable=SC2016  # mmdebstrap's shell expands $1
build() {
	local dir=$1 packages
	packages=$(packages)
	sources >"$CACHE/sources.$$.list"
	step "Debian 13 root filesystem, $(tr , '\n' <<<"$packages" | wc -l) packages and what they need (about 2 minutes)" \
		in_namespaces mmdebstrap --mode=root --variant=minbase --include="$packages" \
		--aptopt='Acquire::Languages "none"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--customize-hook='mkdir -p "$1/nettap" "$1/cache" "$1/out" "$1/usr/lib/modules" && printf "127.0.0.1 localhost nettap\n::1 localhost nettap\n" >"$1/etc/hosts"' \
		--customize-hook='chroot "$1" dpkg-query -W gcc-14 rustc bindgen >"$1/etc/nettap-toolchain"' \
		--customize-hook='ln -sf ../proc/mounts "$1/etc/mtab"' \
		"$SUITE" "$dir" "$CACHE/sources.$$.list"
	rm -f "$CACHE/sources.$$.list"
}

main() {
	local name
	need mmdebstrap=mmdebstrap "$ARCHIVE_KEYRING=debian-archive-keyring" flock=util-linux
	((EUID == 0)) || need newuidmap=uidmap
	name=rootfs-$({ declare -f build && packages; } | key_of)
	mkdir -p "$CACHE"
	cache_entry "$name" build
	echo "$CACHE/$name"
}

main "$@"
