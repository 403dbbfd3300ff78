#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: the module belongs to the running stock kernel, loads, makes its device with the permissions it should have,
# refuses parameters that cannot be, and goes away and comes back.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

part "modinfo shows this kernel's vermagic"
expect vermagic "$(modinfo -F vermagic "$NETTAP_MODULE" | cut -d' ' -f1)" = "$(uname -r)"
expect license "$(modinfo -F license "$NETTAP_MODULE")" = GPL

part "the device is for root and its group"
expect mode "$(stat -c '%a %U' /dev/nettap)" = "660 root"

part "it has parameters"
for parameter in mbuf_size mbufs alpha_min_us alpha_max_us huge_pages; do
	modinfo -F parm "$NETTAP_MODULE" | grep "^$parameter:" >/dev/null || fail "no parameter $parameter"
done

part "it can be unloaded and loaded"
rmmod nettap
[[ ! -e /dev/nettap ]] || fail "the device outlived its module"
insmod "$NETTAP_MODULE" mbufs=1024 mbuf_size=4096
expect "mbufs of the region" "$(region mbufs)" = 1024
expect "size of an mbuf" "$(region mbuf_size)" = 4096
rmmod nettap

part "parameters that cannot be are refused or brought into range, and never believed"
for parameters in mbuf_size=0 mbuf_size=100 mbuf_size=65536 mbufs=0 mbufs=4000000000 alpha_min_us=0 "alpha_min_us=900 alpha_max_us=1" huge_pages=2; do
	# shellcheck disable=SC2086  # two words
	if insmod "$NETTAP_MODULE" $parameters 2>"$WORK/insmod.log"; then
		expect "mbuf_size after $parameters" "$(region mbuf_size)" -ge 512
		expect "mbufs after $parameters" "$(region mbufs)" -ge 1
		rmmod nettap
	fi
done
insmod "$NETTAP_MODULE"
