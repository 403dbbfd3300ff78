#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# The second half of enter.sh: pid 1 of the new namespaces. Builds a root folder in memory out of the root filesystem,
# which stays read-only, and whatever else the command needs, and runs the command there. The namespaces take the mounts
# and the processes along when this ends.
#
#	ROOTFS=… CACHE=… NETTAP=… KEEP=… chroot.sh [SRC:DST[:ro]]… -- COMMAND ARG…

set -euo pipefail

readonly ROOT=$CACHE/enter

# bind SRC DST [ro]: SRC stands at DST in the new root; a SRC that the host does not have is left out.
bind() {
	[[ -e $1 ]] || return 0
	if [[ ! -e $ROOT$2 ]]; then
		mkdir -p "$ROOT$(dirname "$2")"
		if [[ -d $1 ]]; then mkdir "$ROOT$2"; else : >"$ROOT$2"; fi
	fi
	mount --bind "$1" "$ROOT$2"
	[[ -z ${3:-} ]] || mount -o remount,bind,ro "$ROOT$2"
}

make_root() {
	local entry
	mkdir -p "$ROOT"
	mount -t tmpfs -o mode=755 nettap "$ROOT"
	for entry in "$ROOTFS"/*; do
		case ${entry##*/} in
		proc | sys | dev | run | root | tmp | nettap | cache) mkdir "$ROOT/${entry##*/}" ;;
		*) if [[ -L $entry ]]; then cp -P "$entry" "$ROOT/"; else bind "$entry" "/${entry##*/}" ro; fi ;;
		esac
	done
	chmod 1777 "$ROOT/tmp"
	mount -t tmpfs -o mode=1777 nettap "$ROOT/var/tmp"
	mount -t proc proc "$ROOT/proc"
	mount --rbind /sys "$ROOT/sys"
	mount --rbind /dev "$ROOT/dev"
	bind "$CACHE" /cache
	bind "$NETTAP" /nettap
	for entry in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		bind "$entry" "$entry" ro
	done
}

main() {
	local from to mode name names prefix keep status=0
	make_root
	while [[ $1 != -- ]]; do
		IFS=: read -r from to mode <<<"$1"
		bind "$from" "$to" "$mode"
		shift
	done
	shift

	# A clean environment, but for the speech (V, CI), the way to the network, and what names this project's things.
	keep=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM="${TERM:-dumb}"
		CARGO_HOME=/cache/cargo CARGO_TARGET_DIR=/nettap/build/target)
	names=(V CI KDIR RUST_BACKTRACE http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY)
	# shellcheck disable=SC2153  # from enter.sh
	for prefix in $KEEP; do
		mapfile -t -O "${#names[@]}" names < <(compgen -e "$prefix")
	done
	for name in "${names[@]}"; do
		[[ -z ${!name+set} ]] || keep+=("$name=${!name}")
	done

	trap 'exit 130' INT
	trap 'exit 143' TERM
	# shellcheck disable=SC2016  # the inner shell expands them
	chroot "$ROOT" /usr/bin/env -i "${keep[@]}" /bin/sh -c 'cd /nettap && exec "$@"' sh "$@" || status=$?
	exit "$status"
}

main "$@"
