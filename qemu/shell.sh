#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What `make shell` runs in the guest: loads the module and leaves a shell, with the tools in the path.

insmod "build/$(uname -r)/nettap.ko" || echo "nettap.ko did not load: see dmesg" >&2
export PATH=/nettap/build/target/release:/nettap/build/target/release/examples:$PATH
echo "Linux $(uname -r), nettap $(cat /sys/module/nettap/initstate 2>/dev/null || echo not loaded); leave with exit."
exec bash
