#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Boots a stock Debian kernel in QEMU and runs a command in it, as root, in /nettap (this checkout, read-only):
#
#	run.sh [OPTION]… [--] COMMAND ARG…
#
#	--kernel REL     a series, version or release as kernel.sh takes it; default: $KERNEL, else the newest
#	--smp N          CPUs (2)                        --mem M        megabytes (1024)
#	--nodes N        NUMA nodes that share CPUs and memory equally (1)
#	--timeout S      seconds until the guest is killed (600)
#	--out DIR        stands at /out in the guest, writable, and takes console.log; default: gone when the command succeeds
#	--append TEXT    more of the kernel's command line
#	--net            a network card with a way to the host's network (tests make their own networks and need none)
#	--icount         guest time counts instructions (repeatable, slow, one CPU)
#	--plugin TEXT    a plugin of QEMU's emulator, as its -plugin takes it; paths as in the root filesystem
#	--console        shows the kernel's console too
#	--interactive    the terminal belongs to the command
#
# The exit status is the command's, or 124: time is up, 125: no guest, 99: the kernel panicked, 98: three guests have
# measured their clocks wrongly, which happens on busy machines. The guest's root is the
# root filesystem under a layer in memory: whatever the guest changes is gone with it, but for /out.

# shellcheck source=qemu/lib.sh
. "$(dirname "$0")/lib.sh"

# What guest.sh ends with when it is worth to boot again.
readonly MISTIMED=98

# The verdict on KVM: it counts only if this kernel really boots with it. Remembered for this host's kernel and processor.
accelerator() {
	local verdict
	if [[ ${NETTAP_ACCEL:-} ]]; then
		echo "$NETTAP_ACCEL"
		return
	elif [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then
		echo tcg
		return
	fi
	verdict=$CACHE/accel-$({ uname -rv && grep -m1 'model name' /proc/cpuinfo; } | key_of)
	if [[ ! -s $verdict ]]; then
		printf '  does KVM boot this kernel? (10 s at most) … ' >&2
		if NETTAP_ACCEL=kvm bound "$0" --kernel "$release" --timeout 10 --out "$CACHE/log/kvm" -- true >/dev/null 2>&1; then
			say yes
			echo kvm >"$verdict"
		else
			say "no: QEMU emulates the processor (TCG)"
			echo tcg >"$verdict"
		fi
	fi
	cat "$verdict"
}

# guest COMMAND…: boots it.
guest() {
	bound "$NETTAP/qemu/enter.sh" --bind "$kernel_dir/root/usr/lib/modules:/usr/lib/modules:ro" \
		--bind "$rootfs:/guest/rootfs:ro" --bind "$out:/out" --keep GUEST_ -- \
		/nettap/qemu/guest.sh "$release" "$@"
}

# An out folder that nobody asked for is kept only when there is something to read in it.
main() {
	local kernel=${KERNEL:-} out='' temporary='' kernel_dir rootfs status=0
	export GUEST_SMP=2 GUEST_MEM=1024 GUEST_NODES=1 GUEST_TIMEOUT=${TIMEOUT:-600} GUEST_APPEND='' GUEST_NET='' GUEST_ICOUNT='' \
		GUEST_PLUGIN='' GUEST_CONSOLE='' GUEST_INTERACTIVE='' GUEST_ACCEL GUEST_SIZE
	while (($#)); do
		case $1 in
		--kernel) kernel=$2 && shift ;;
		--smp) GUEST_SMP=$2 && shift ;;
		--mem) GUEST_MEM=$2 && shift ;;
		--nodes) GUEST_NODES=$2 && shift ;;
		--timeout) GUEST_TIMEOUT=$2 && shift ;;
		--out) out=$2 && shift ;;
		--append) GUEST_APPEND+=" $2" && shift ;;
		--net) GUEST_NET=1 ;;
		--icount) GUEST_ICOUNT=1 GUEST_SMP=1 ;;
		--plugin) GUEST_PLUGIN=$2 && shift ;;
		--console) GUEST_CONSOLE=1 ;;
		--interactive) GUEST_INTERACTIVE=1 ;;
		--) shift && break ;;
		-*) die "run.sh: unknown option $1" ;;
		*) break ;;
		esac
		shift
	done
	(($#)) || die "run.sh: which command? (see the head of $0)"

	kernel_dir=$("$NETTAP/qemu/kernel.sh" "$kernel")
	release=$(basename "$kernel_dir"/root/usr/lib/modules/*)
	rootfs=$("$NETTAP/qemu/rootfs.sh")
	GUEST_ACCEL=$(accelerator)
	[[ -z $GUEST_ICOUNT ]] || GUEST_ACCEL=icount
	GUEST_SIZE=$(stty size 2>/dev/null || echo "24 80")
	if [[ $out ]]; then
		mkdir -p "$out"
		out=$(cd "$out" && pwd -P)
	else
		mkdir -p "$NETTAP/build/guest"
		out=$(mktemp -d "$NETTAP/build/guest/XXXXXX")
		temporary=1
	fi
	export NETTAP_ROOTFS=$rootfs
	for _ in 1 2 3; do
		status=0
		guest "$@" || status=$?
		((status == MISTIMED)) || break
	done
	if [[ $temporary ]]; then
		if ((status)); then say "nettap: the console's log is $out/console.log"; else rm -rf "$out"; fi
	fi
	exit "$status"
}

main "$@"
