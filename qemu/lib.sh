# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the scripts of qemu/ share: where things are, how they speak, the cache, and the step into namespaces of one's own.
# Sourced, never run. Messages and progress go to stderr, so that a script's stdout can be its answer.

set -euo pipefail

NETTAP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/nettap
FLAVOUR=${FLAVOUR:-cloud-amd64}
ARCHIVE_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# shellcheck disable=SC2034  # some are for the scripts that source this
readonly NETTAP CACHE FLAVOUR ARCHIVE_KEYRING
export NETTAP PATH=$PATH:/usr/sbin:/sbin

# --- speech -----------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }

die() {
	say "nettap: $*"
	exit 1
}

# step TEXT COMMAND…: one line of progress with the time it took; the output goes to a log, shown when the command fails.
step() {
	local text=$1 log start=$SECONDS status=0
	shift
	mkdir -p "$CACHE/log"
	log=$CACHE/log/$(tr -cs '[:alnum:].+-' '_' <<<"${text%% (*}" | cut -c1-60).$$.log
	printf '  %s … ' "$text" >&2
	if [[ ${V:-} ]]; then
		printf '\n+ %s\n' "$*" >&2
		"$@" > >(tee "$log" >&2) 2>&1 || status=$?
	else
		"$@" >"$log" 2>&1 || status=$?
	fi
	if ((status)); then
		say "FAILED after $((SECONDS - start)) s; the end of $log:"
		tail -n 60 "$log" >&2
		return "$status"
	fi
	say "$((SECONDS - start)) s"
	rm -f "$log"
}

# --- privileges -------------------------------------------------------------------------------------------------------

# Root keeps its uid; anybody else becomes root of a user namespace with the subordinate ids of /etc/subuid.
as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		unshare --map-root-user --map-auto -- "$@"
	fi
}

# A script that starts another for long: the other must not outlive it.
bound() { setpriv --pdeathsig KILL -- "$@"; }

# Runs a command as pid 1 of its own mount and pid namespaces: its mounts and processes end with it, and it ends with us,
# however we end (the kernel sends the signals, no trap is needed).
in_namespaces() {
	as_root setpriv --pdeathsig KILL -- unshare --mount --pid --fork --kill-child --propagation private -- "$@"
}

# --- the cache --------------------------------------------------------------------------------------------------------
# An entry is a folder built beside its place under a temporary name and moved in when it is complete. Its stamp, written
# last, is a digest of every path and size in it: a half-made, damaged or touched entry does not match and is made anew.

# The name of an entry carries a digest of the recipe, which comes on stdin.
key_of() { sha256sum | cut -c1-12; }

cache_digest() { (cd "$1" && as_root find . -path ./.stamp -prune -o -printf '%p %s %y\n' | LC_ALL=C sort | sha256sum); }

cache_good() { [[ -f $1/.stamp ]] && [[ $(cache_digest "$1") == "$(<"$1/.stamp")" ]]; }

cache_remove() { as_root rm -rf --one-file-system -- "$@"; }

# What a killed run left half-made, and what nobody has used for a month.
cache_prune() {
	local path name
	for path in "$CACHE"/*.tmp.*; do
		[[ ! -e $path || -e /proc/${path##*.} ]] || cache_remove "$path"
	done
	for path in "$CACHE"/{rootfs,kernel}-*/.stamp; do
		name=$(basename "$(dirname "$path")")
		[[ ! -e $path || $(find "$path" "$CACHE/lock/$name" -mtime -30) ]] || cache_remove "$CACHE/$name"
	done
}

# cache_entry NAME BUILDER ARGS…: makes sure that $CACHE/NAME is whole; else runs BUILDER DIR ARGS… to make it.
cache_entry() {
	local name=$1 dir=$CACHE/$1 new=$CACHE/$1.tmp.$$ lock
	shift
	mkdir -p "$CACHE/lock"
	touch "$CACHE/lock/$name"
	cache_good "$dir" && return
	exec {lock}>"$CACHE/lock/$name"
	flock -n "$lock" || {
		say "  $name: waiting for another run that is making it"
		flock "$lock"
	}
	if ! cache_good "$dir"; then
		[[ ! -e $dir ]] || say "  $name: damaged, made anew"
		cache_remove "$dir"
		cache_prune
		mkdir "$new"
		"$1" "$new" "${@:2}"
		cache_digest "$new" >"$CACHE/lock/$name.stamp"
		as_root cp "$CACHE/lock/$name.stamp" "$new/.stamp"
		mv -T "$new" "$dir"
	fi
	exec {lock}>&-
}

# --- the host ---------------------------------------------------------------------------------------------------------

# need COMMAND=PACKAGE…: installs what is missing when root, else says in one line what to install.
need() {
	local pair missing=()
	for pair in "$@"; do
		[[ -e ${pair%%=*} ]] || command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	((${#missing[@]})) || return 0
	if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
		die "please install first: apt-get install ${missing[*]}"
	fi
	step "host packages: ${missing[*]}" install_packages "${missing[@]}"
}

install_packages() {
	apt-get -q update
	DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install "$@"
}

# The archive to install from: NETTAP_MIRROR, else the first Debian archive of the host's own apt configuration.
mirror() {
	local codename uri
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	uri=${NETTAP_MIRROR:-$(apt-get indextargets --format "\$(REPO_URI) \$(RELEASE) \$(COMPONENT)" 2>/dev/null |
		awk -v c="$codename" '$3 == "main" && ($2 == c || $2 ~ /^(stable|oldstable|testing|unstable|sid|trixie)$/) { print $1; exit }')}
	[[ $uri ]] || die "no Debian archive in the host's apt configuration: set NETTAP_MIRROR to the address of one"
	echo "$uri"
}
