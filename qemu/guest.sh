#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# The part of run.sh that happens inside the root filesystem, in namespaces of its own: shares folders with the guest
# (virtiofsd), boots it (QEMU), waits for it, and tells how it ended. All processes started here die with the namespace.
#
#	GUEST_…=… guest.sh RELEASE COMMAND ARG…		(the settings are run.sh's options)

set -euo pipefail

readonly SHARE=/run/share RELEASE=$1
readonly MISTIMED=98 PANICKED=99 TIME_UP=124 NO_GUEST=125
shift

# tree/ becomes the guest's /: the root filesystem's folders, this kernel's modules, our init. host/ holds what is alive.
make_share() {
	local entry
	mkdir -p "$SHARE"/{tree,host/{nettap,out,run}}
	for entry in /guest/rootfs/*; do
		if [[ -L $entry ]]; then
			cp -P "$entry" "$SHARE/tree/"
		else
			mkdir -p "$SHARE/tree/${entry##*/}"
			mount --bind "$entry" "$SHARE/tree/${entry##*/}"
		fi
	done
	mount --bind /usr/lib/modules "$SHARE/tree/usr/lib/modules"
	cp /nettap/qemu/init "$SHARE/tree/init"
	mount --bind /nettap "$SHARE/host/nettap"
	mount -o remount,bind,ro "$SHARE/host/nettap"
	mount --bind /out "$SHARE/host/out"
	echo "${@@Q}" >"$SHARE/host/run/command"
	cat >"$SHARE/host/run/settings" <<-E
		INTERACTIVE='$GUEST_INTERACTIVE' NET='$GUEST_NET' SIZE='$GUEST_SIZE' TERM='$TERM' V='${V:-}' CI='${CI:-}'
	E
}

# serve TAG FOLDER OPTION…
serve() {
	local tag=$1 folder=$2
	shift 2
	/usr/libexec/virtiofsd --socket-path "/run/$tag.sock" --shared-dir "$folder" --sandbox none --log-level error \
		--inode-file-handles=never "$@" >>"/out/virtiofsd.log" 2>&1 &
}

wait_for() {
	local tries
	for ((tries = 0; tries < 200; tries++)); do
		[[ ! -e $1 ]] || return 0
		sleep 0.05
	done
	return 1
}

# shellcheck disable=SC2054  # the commas are QEMU's
boot() {
	local options=(-nodefaults -no-user-config -display none -no-reboot -m "$GUEST_MEM" -smp "$GUEST_SMP,sockets=$GUEST_NODES"
		-kernel "/usr/lib/modules/$RELEASE/vmlinuz"
		-serial "file:/out/console.log"
		-chardev stdio,id=tty,signal=off -device virtio-serial-pci -device virtconsole,chardev=tty
		-chardev socket,id=root,path=/run/root.sock -device vhost-user-fs-pci,chardev=root,tag=root
		-chardev socket,id=host,path=/run/host.sock -device vhost-user-fs-pci,chardev=host,tag=host)
	local node cpus=$((GUEST_SMP / GUEST_NODES)) mem=$((GUEST_MEM / GUEST_NODES))
	if ((GUEST_NODES == 1)); then
		options+=(-object "memory-backend-memfd,id=mem,size=${GUEST_MEM}M,share=on" -machine q35,memory-backend=mem)
	else
		options+=(-machine q35)
		for ((node = 0; node < GUEST_NODES; node++)); do
			options+=(-object "memory-backend-memfd,id=mem$node,size=${mem}M,share=on"
				-numa "node,nodeid=$node,memdev=mem$node,cpus=$((node * cpus))-$((node * cpus + cpus - 1))")
		done
	fi
	# The last three spare the kernel measurements of timers that are slow, and sometimes wrong, in emulation.
	local line="root=root rootfstype=virtiofs ro init=/init devtmpfs.mount=1 console=ttyS0 panic=-1 oops=panic \
lpj=10000000 tsc=reliable no_timer_check"

	case $GUEST_ACCEL in
	kvm) options+=(-accel kvm -cpu host) ;;
	# Four levels of page tables: an interrupt while the kernel, early, looks its processor over again for what it can do
	# has KASAN take addresses of five levels for wild ones.
	tcg) options+=(-accel "tcg,thread=multi" -cpu max,-la57) ;;
	# Without the fast string instructions: the kernel would copy by them, and the emulator counts each byte as one.
	icount) options+=(-accel tcg -icount shift=0 -cpu "max,-la57,-erms,-fsrm,-fsrs,-fzrm") ;;
	esac
	# virtiofsd writes into the guest's memory behind the emulator's back. A page that held code before would go on
	# running what was translated then, unless the guest writes to it first.
	[[ $GUEST_ACCEL == kvm ]] || line+=" init_on_alloc=1"
	# The debug kernel on a busy machine: a processor that gets no time for a minute is no fault of the guest's.
	[[ $RELEASE != *-debug ]] || line+=" rcupdate.rcu_cpu_stall_timeout=300"
	# Tests are judged by all that the kernel has logged since they began, and some go on for hours.
	line+=" log_buf_len=8M"
	[[ -z $GUEST_PLUGIN ]] || options+=(-plugin "$GUEST_PLUGIN")
	[[ -z $GUEST_NET ]] || options+=(-netdev user,id=net -device virtio-net-pci,netdev=net)
	exec qemu-system-x86_64 "${options[@]}" -append "$line$GUEST_APPEND"
}

report() {
	local status=$1
	if [[ -s $SHARE/host/run/status ]]; then
		exit "$(<"$SHARE/host/run/status")"
	fi
	{
		if ((status == MISTIMED)); then
			echo "nettap: the guest has measured its clock wrongly, which happens on a busy machine"
			exit "$status"
		elif ((status == TIME_UP)); then
			echo "nettap: the guest was stopped after $GUEST_TIMEOUT s; the end of its console:"
		elif grep -q 'Kernel panic' /out/console.log; then
			status=$PANICKED
			echo "nettap: the guest's kernel panicked; the end of its console:"
		else
			status=$NO_GUEST
			echo "nettap: the guest ended without a result; the end of its console:"
		fi
		tail -n 40 /out/console.log
		cat /out/virtiofsd.log
	} >&2
	exit "$status"
}

# mistimed: whether the kernel takes its processor for one that there is not. While it boots it measures the clock of the
# processor, and when the emulator stands still in the wrong moment it finds 170 GHz: time would go by 70 times slower.
mistimed() {
	local megahertz
	megahertz=$(sed -n 's/.*tsc: Detected \([0-9]*\)\.[0-9]* MHz processor.*/\1/p' /out/console.log)
	[[ $megahertz ]] && ((megahertz > 10000 || megahertz < 200))
}

# Waits for QEMU (its pid is $1) and watches the clock.
watch() {
	local start=${EPOCHREALTIME/./} now ready='' status=0
	while kill -0 "$1" 2>/dev/null; do
		now=$(((${EPOCHREALTIME/./} - start) / 100000))
		if [[ ! $ready && -e $SHARE/host/run/ready ]]; then
			ready=1
			if mistimed; then
				kill -KILL "$1"
				return "$MISTIMED"
			fi
			echo "nettap: guest $RELEASE ready in $((now / 10)).$((now % 10)) s ($GUEST_ACCEL, $GUEST_SMP CPUs)" >&2
		fi
		if ((now > GUEST_TIMEOUT * 10)); then
			kill -KILL "$1"
			wait "$1" 2>/dev/null || return "$TIME_UP"
		fi
		sleep 0.1
	done
	wait "$1" || status=$?
	return "$status"
}

main() {
	local status=0
	make_share "$@"
	: >/out/console.log
	: >/out/virtiofsd.log
	serve root "$SHARE/tree" --cache always --readonly --no-announce-submounts
	# Whoever works in the guest wants to see what is built meanwhile; tests start the same programs many hundred times.
	serve host "$SHARE/host" --cache "$([[ $GUEST_INTERACTIVE ]] && echo auto || echo always)"
	if ! wait_for /run/root.sock || ! wait_for /run/host.sock; then
		report "$NO_GUEST"
	fi
	[[ ! $GUEST_CONSOLE ]] || tail -f /out/console.log >&2 &
	if [[ $GUEST_INTERACTIVE ]]; then boot <&0 & else boot </dev/null & fi
	watch $! || status=$?
	report "$status"
}

main "$@"
