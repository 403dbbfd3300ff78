# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# The archive that kernels come from: which there are, which one a request means, and their packages. Sourced by the
# scripts that make kernels, after lib.sh; they set `rootfs`, whose apt is used. Its lists live in the cache.

readonly SUPPORTED_SERIES="7.3 7.2"
# How long a choice "newest" stays valid before the archive is asked again.
readonly CHOICE_DAYS=7

# shellcheck disable=SC2154  # rootfs is the sourcing script's
in_rootfs() { NETTAP_ROOTFS=$rootfs "$NETTAP/qemu/enter.sh" -- "$@"; }

apt_options=(-o Dir::Etc::sourcelist=/cache/apt/sources.list -o Dir::Etc::sourceparts=/dev/null
	-o Dir::State::lists=/cache/apt/lists -o Dir::Cache=/cache/apt/cache -o APT::Sandbox::User=root
	-o Acquire::Languages=none -q)

update_lists() {
	local uri
	uri=$(mirror)
	mkdir -p "$CACHE/apt/lists/partial" "$CACHE/apt/cache/archives/partial"
	echo "deb [signed-by=$ARCHIVE_KEYRING] $uri trixie-backports main" >"$CACHE/apt/sources.list"
	step "list of kernels in the archive" in_rootfs apt-get "${apt_options[@]}" update
}

# All releases of the supported series in this flavour, oldest first.
releases() {
	in_rootfs apt-cache "${apt_options[@]}" pkgnames linux-binary- |
		sed -n "s/^linux-binary-\(\(${SUPPORTED_SERIES//[ ]/\\|}\)\.[0-9]\+[^ ]*-$FLAVOUR\)$/\1/p" | sort -V
}

# newest_match REQUEST: the newest release that REQUEST may mean, among stdin's.
newest_match() { awk -v want="$1" 'want == "" || $0 == want || index($0, want ".") == 1 || index($0, want "+") == 1' | tail -n 1; }

resolve() {
	local request=$1 choice=$CACHE/choice-$FLAVOUR-${1:-newest} release
	if [[ $request == *+* && -d $(echo "$CACHE/kernel-$request"-*/root) ]]; then
		echo "$request"
		return
	fi
	if [[ $(find "$choice" -mtime "-$CHOICE_DAYS" 2>/dev/null) ]]; then
		cat "$choice"
		return
	fi
	update_lists || [[ -f $choice ]] || die "cannot reach the archive: set NETTAP_MIRROR, or try again later"
	release=$(releases | newest_match "$request")
	[[ $release ]] || die "no kernel '$request' for $FLAVOUR in the archive, which has: $(releases | xargs)"
	echo "$release" >"$choice"
	echo "$release"
}

# package_version NAME [WANTED]: WANTED if the archive has it, else the newest.
package_version() {
	in_rootfs apt-cache "${apt_options[@]}" madison "$1" | awk -v want="${2:-}" \
		'{ if (!first) first = $3; if ($3 == want) hit = want } END { print hit ? hit : first }'
}

download() {
	local dir=$1
	shift
	# shellcheck disable=SC2016
	in_rootfs sh -c 'cd "$1" && shift && apt-get "$@"' sh "/cache/${dir#"$CACHE"/}" "${apt_options[@]}" download "$@"
}
