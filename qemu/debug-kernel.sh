#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Compiles a kernel that watches itself (KASAN, lockdep and the like: debug.config), once, in the cache, from the source of
# the Debian kernel that is tested otherwise, and prints where it is:
#
#	debug-kernel.sh [--release] [SERIES- | VERSION-]debug		debug, 7.3-debug, 7.2.12-debug
#
# Below the printed folder stands the same as kernel.sh makes: root/, tree/ and build-info. Whatever takes a kernel's name
# takes this one's. Clang compiles it, because KASAN together with Rust wants one LLVM for both languages.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=qemu/archive.sh
. "$NETTAP/qemu/archive.sh"

readonly CONFIG=$NETTAP/qemu/debug.config COMPILERS="clang-19 lld-19 rustc bindgen"

unpack_source() {
	# shellcheck disable=SC2016
	in_rootfs bash -euc 'cd "$1"; sublevel=$2
		dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" |
			xz -dT0 | tar -x --one-top-level=tree --strip-components=1
		sed -i "s/^SUBLEVEL =.*/SUBLEVEL = $sublevel/" tree/Makefile
		chown -R 0:0 tree' sh "/cache/${1#"$CACHE"/}" "$2"
}

# configure DIR: all that debug.config wants must come true, or a check would be missing and nobody would notice.
configure() {
	# shellcheck disable=SC2016
	in_rootfs bash -euc 'cd "$1/tree"; wanted=/nettap/qemu/debug.config
		make LLVM=-19 KCONFIG_ALLCONFIG="$wanted" alldefconfig
		missing=$(
			grep "^CONFIG_" "$wanted" | grep -vxFf .config || true
			sed -n "s/^# \(CONFIG_[A-Z0-9_]*\) is not set/^\1=/p" "$wanted" | grep -f - .config || true
		)
		[ -z "$missing" ] || { echo "the source or the tools do not take debug.config:"; echo "$missing"; exit 1; }' \
		sh "/cache/${1#"$CACHE"/}"
}

# What only the link of vmlinux needed goes: it is most of the folder.
compile() {
	# shellcheck disable=SC2016
	in_rootfs bash -euc 'cd "$1/tree"; release=$2; modules=../root/usr/lib/modules/$release
		flags="LLVM=-19 LOCALVERSION= -j$(nproc)"
		made=$(make -s $flags kernelrelease)
		[ "$made" = "$release" ] || { echo "the tree calls itself $made instead of $release"; exit 1; }
		make $flags bzImage modules
		make $flags INSTALL_MOD_PATH=../root/usr modules_install
		rm -f "$modules/build"
		cp arch/x86/boot/bzImage "$modules/vmlinuz"
		cp .config "$modules/config"
		cp System.map "$modules/"
		find . \( -path ./scripts -o -path ./tools \) -prune -o \
			-type f \( -name "*.[oa]" -o -name "vmlinux*" -o -name ".tmp_vmlinux*" \) ! -name "*.lds*" -print0 | xargs -0 rm -f' sh "/cache/${1#"$CACHE"/}" "$2"
}

build() {
	local dir=$1 release=$2 version=${2%-debug} package=$3 wanted source
	[[ -d $CACHE/apt/lists ]] || update_lists
	wanted=$(package_version "linux-binary-$package")
	source=$(package_version "linux-source-${version%.*}" "$wanted")
	[[ $source ]] || die "the archive no longer has the source of $version: choose another with KERNEL="
	[[ $wanted == "$source" ]] || say "  no source of $version in the archive: $release is made from $source"
	step "$release: source" download "$dir" "linux-source-${version%.*}=$source"
	step "$release: unpacking" unpack_source "$dir" "${version##*.}"
	step "$release: configuration" configure "$dir"
	step "$release: compiling (about 20 minutes on two processors)" compile "$dir" "$release"
	{
		echo "release=$release"
		echo "source=$source"
		compilers | sed 's/\t/=/'
	} >"$dir/build-info"
	as_root rm -f "$dir"/*.deb
}

# shellcheck disable=SC2086  # the names are words
compilers() { dpkg-query --admindir="$rootfs/var/lib/dpkg" -W $COMPILERS; }

main() {
	local only_release='' request package release key
	[[ ${1:-} != --release ]] || { only_release=1 && shift; }
	request=${1:-debug}
	request=${request%debug}
	rootfs=$("$NETTAP/qemu/rootfs.sh")
	package=$(resolve "${request%-}")
	release=${package%%+*}-debug
	if [[ $only_release ]]; then
		echo "$release"
		return
	fi
	key=$({ declare -f unpack_source configure compile && cat "$CONFIG" && compilers; } | key_of)
	cache_entry "kernel-$release-$key" build "$release" "$package"
	echo "$CACHE/kernel-$release-$key"
}

main "$@"
