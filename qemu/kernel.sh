#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Takes a stock Debian kernel and prepares the tree that modules for it compile against, once, in the cache, and prints
# where it is:
#
#	kernel.sh [--release] [SERIES | VERSION | RELEASE]		7.2, 7.2.12 or 7.2.12+deb13-cloud-amd64
#	kernel.sh [--release] [SERIES- | VERSION-]debug			the debug kernel, which debug-kernel.sh makes
#
# Without an argument: the newest release of the newest supported series. Below the printed folder stand root/ (vmlinuz,
# config and modules, unpacked from Debian's packages, unmodified), tree/ (prepared; use it as KDIR) and build-info.
# Debian's linux-headers lack what a Rust module needs (rust/), hence the source; its configuration and Module.symvers
# are the stock kernel's, so the modules load there.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=qemu/archive.sh
. "$NETTAP/qemu/archive.sh"

# What may differ between the stock kernel's configuration and the tree's: names, and keys that only Debian has.
readonly OWN_CONFIG='^(#|$)|CONFIG_(LOCALVERSION|BUILD_SALT|CC_VERSION_TEXT|MODULE_SIG_ALL|MODULE_SIG_KEY|SYSTEM_TRUSTED_KEYS|SYSTEM_REVOCATION_KEYS)='

# --- making it --------------------------------------------------------------------------------------------------------

# unpack DIR: what Debian ships becomes root/, the headers' Module.symvers and the source become tree/.
unpack() {
	local dir=/cache/${1#"$CACHE"/}
	# shellcheck disable=SC2016
	in_rootfs bash -euc 'cd "$1"; release=$2
		for deb in linux-binary-*.deb linux-modules-*.deb linux-base-*.deb; do dpkg-deb -x "$deb" root; done
		dpkg-deb -x linux-headers-*.deb headers
		dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" |
			xz -dT0 | tar -x --one-top-level=tree --strip-components=1
		cp "root/usr/lib/modules/$release/config" tree/.config
		depmod -b root/usr "$release"
		chown -R 0:0 root tree' sh "$dir" "$2"
}

prepare() {
	local dir=/cache/${1#"$CACHE"/}
	# shellcheck disable=SC2016
	in_rootfs bash -euc 'cd "$1/tree"; release=$2; version=${release%%+*}; sublevel=${version##*.}
		sed -i "s/^SUBLEVEL =.*/SUBLEVEL = $sublevel/" Makefile
		scripts/config --set-str LOCALVERSION "${release#"$version"}" --disable LOCALVERSION_AUTO --set-str SYSTEM_TRUSTED_KEYS "" \
			--set-str SYSTEM_REVOCATION_KEYS "" --set-str MODULE_SIG_KEY ""
		flags="CC=gcc-14 HOSTCC=gcc-14 LOCALVERSION= -j$(nproc)"
		make $flags olddefconfig
		# Whatever the tools of this root filesystem lack would silently change the layout of structures.
		if diff <(grep -vE "$3" "../root/usr/lib/modules/$release/config") <(grep -vE "$3" .config); then
			: the configurations agree
		else
			echo "the tools do not suit this kernel: the lines above differ from its configuration"
			exit 1
		fi
		make $flags modules_prepare
		made=$(make -s $flags kernelrelease)
		[ "$made" = "$release" ] || { echo "the tree calls itself $made instead of $release"; exit 1; }
		cp "../headers/usr/src/linux-headers-$release/Module.symvers" .' sh "$dir" "$2" "$OWN_CONFIG"
}

build() {
	local dir=$1 release=$2 version source series
	[[ -d $CACHE/apt/lists ]] || update_lists
	series=${release%%+*}
	series=${series%.*}
	version=$(package_version "linux-binary-$release")
	[[ $version ]] || { update_lists && version=$(package_version "linux-binary-$release"); }
	source=$(package_version "linux-source-$series" "$version")
	[[ $version && $source ]] || die "the archive no longer has $release: choose another with KERNEL="
	[[ $version == "$source" ]] ||
		say "  no source of $version in the archive: the tree for $release is made from $source"
	step "$release: packages and source" download "$dir" linux-{binary,modules,base,headers}-"$release=$version" \
		"linux-source-$series=$source"
	step "$release: unpacking" unpack "$dir" "$release"
	step "$release: preparing the tree (about 2 minutes)" prepare "$dir" "$release"
	{
		echo "release=$release"
		echo "package=$version"
		echo "source=$source"
		as_root cat "$rootfs/etc/nettap-toolchain" | sed 's/\t/=/'
	} >"$dir/build-info"
	as_root rm -rf "$dir"/*.deb "$dir/headers"
}

main() {
	local only_release='' request release key
	[[ ${1:-} != --release ]] || { only_release=1 && shift; }
	request=${1:-${KERNEL:-}}
	if [[ $request == debug || $request == *-debug ]]; then
		exec "$NETTAP/qemu/debug-kernel.sh" ${only_release:+--release} "$request"
	fi
	rootfs=$("$NETTAP/qemu/rootfs.sh")
	release=$(resolve "$request")
	if [[ $only_release ]]; then
		echo "$release"
		return
	fi
	key=$({ declare -f unpack prepare && echo "$OWN_CONFIG" && as_root cat "$rootfs/etc/nettap-toolchain"; } | key_of)
	cache_entry "kernel-$release-$key" build "$release"
	echo "$CACHE/kernel-$release-$key"
}

main "$@"
