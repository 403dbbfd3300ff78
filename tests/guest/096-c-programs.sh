#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Objective: the C ABI by the patent's names: the bridge of its figure 7 in C, built against nettap.h and libnettap.so
# and run; and echo in C; the calls that the patent has no names for.
#
#	client c0 10.1.0.2 ───── b0 box b1 ───── s0 10.1.0.9 server

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
road
test_taps() { ! open_taps 0; }
ip -n server address add 10.1.0.9/24 dev s0
ip -n client neighbour flush dev c0 nud permanent
library=$(dirname "$(command -v ntdrive)")
[[ -e $library/libnettap.so ]] || skip "no libnettap.so in $library"
# Those that `make user` has built are not built again, as long as they are newer than their sources.
sources=$(dirname "$0")/../..
mkdir "$WORK/c"
[[ ! -e $sources/build/c/bridge-c ]] || cp -p "$sources"/build/c/*-c "$WORK/c"
make -s -C "$sources/userlib/c" OUT="$WORK/c" LIBDIR="$library"
export LD_LIBRARY_PATH=$library

part bridge
start bridge box "$WORK/c/bridge-c" b0 b1
await "two taps are open" open_taps 2
pings client 10.1.0.9 20
noise "$WORK/data" 4
tcp_sink sink server 8000 "$WORK/there"
tcp_send client "$WORK/data" 10.1.0.9 8000
finish sink
same "$WORK/data" "$WORK/there"
balance
tapctl tap del --all >/dev/null
finish bridge
open_taps 0 || fail "a tap is left"

part echo
start echo box "$WORK/c/echo-c" b0
await "a tap is open" test_taps
pings client 10.1.0.1 20
balance
kill -KILL "${PIDS[echo]}"
wait "${PIDS[echo]}" || true

# busy WHAT: whether `tapctl` knows of a session that is.
busy() { [[ $(tapctl --json session list | jq 'any(.sessions[]; .busy)') == "$1" ]]; }

part "options: a filter by hand, which wants nothing; and a session that is busy until it is told"
cat >"$WORK/filter.c" <<-END
	#include <linux/filter.h>
	#include <signal.h>
	#include <unistd.h>
	#include "libnettap.h"

	static void told(int signal)
	{
		(void)signal;
	}

	int main(void)
	{
		struct sock_filter nothing[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
		struct nettap_options options = {
			.size = sizeof(options),
			.filter = { NETTAP_FILTER_CLASSIC, 1, (uintptr_t)nothing },
		};
		struct nettap_queue *detour, *revert;

		if (mbuf_map(0, NULL) < 0 || interface_tap("b0", TAP_INPUT, &options, &detour, &revert) < 0)
			return 1;
		options.filter.len_or_fd = 0;
		if (interface_tap("b0", TAP_OUTPUT, &options, &detour, &revert) != -ENOEXEC)
			return 2;
		signal(SIGUSR1, told);
		if (nettap_busy(1) < 0)
			return 3;
		pause();
		if (nettap_busy(0) != 0)
			return 4;
		return pause();
	}
END
cc "$WORK/filter.c" -Wall -Wextra -Werror -I"$sources/uapi/include" -I"$sources/userlib/include" -L"$library" -lnettap -o "$WORK/filter"
start filter box "$WORK/filter"
await "a tap is open" test_taps
pings client 10.1.0.1 20
counts b0 input passed.filter -eq 20 detoured.packets -eq 0
await "the session is busy" busy true
kill -USR1 "${PIDS[filter]}"
await "it is not" busy false
kill -KILL "${PIDS[filter]}"
wait "${PIDS[filter]}" || true

part "a tap that ends: what is put into its ring then is the program's still"
cat >"$WORK/ended.c" <<-END
	#include <poll.h>
	#include <stdio.h>
	#include "libnettap.h"

	int main(void)
	{
		struct nettap_queue *detour, *revert;
		struct nettap_entry entry;
		struct mbuf_rings rings;
		struct pollfd ended = { 0 };

		if (mbuf_map(0, &rings) < 0)
			return 1;
		ended.fd = interface_tap("b0", TAP_INPUT, NULL, &detour, &revert);
		if (ended.fd < 0 || mbuf_pull(0, 0) < 0 || nt_dequeue(detour, &entry) != 1)
			return 2;
		puts("taken");
		fflush(stdout);
		if (poll(&ended, 1, -1) != 1 || !(ended.revents & POLLHUP))
			return 3;
		if (nt_enqueue_same(revert, entry) != -ENODEV || nt_enqueue(revert, entry) != -ENODEV)
			return 4;
		if (nt_enqueue_burst_same(revert, &entry, 1) != 0)
			return 5;
		return nt_enqueue(rings.dealloc, entry);
	}
END
cc "$WORK/ended.c" -Wall -Wextra -Werror -I"$sources/uapi/include" -I"$sources/userlib/include" -L"$library" -lnettap -o "$WORK/ended"
start ended box "$WORK/ended"
await "a tap is open" test_taps
ns client ping -q -c 1 -W 1 10.1.0.1 >"$WORK/ping.log" || true
await "it has a packet" said ended '^taken'
tapctl tap del --all
finish ended

part "policies of an open tap"
cat >"$WORK/policies.c" <<-END
	#include <signal.h>
	#include <stdio.h>
	#include "libnettap.h"

	int main(void)
	{
		struct nettap_set policies = { .what = NETTAP_SET_SNAPLEN | NETTAP_SET_MAX_AGE, .snaplen = 60, .max_age_us = 1500 };
		struct nettap_queue *detour, *revert;
		sigset_t told;
		int tap, signal;

		sigemptyset(&told);
		sigaddset(&told, SIGUSR1);
		sigprocmask(SIG_BLOCK, &told, NULL);
		if (nettap_tap_set(0, &policies) != -EBADF || mbuf_map(0, NULL) < 0)
			return 1;
		tap = interface_tap("b0", TAP_INPUT, NULL, &detour, &revert);
		if (tap < 0 || nettap_tap_set(tap, &policies) != 0)
			return 2;
		policies.what = NETTAP_SET_ON_FULL | NETTAP_SET_ON_EXIT | NETTAP_SET_NO_CONSUMER;
		policies.on_exit = policies.no_consumer = 1;
		policies.on_full = 7;
		if (nettap_tap_set(tap, &policies) != -EINVAL)
			return 3;
		puts("refused");
		fflush(stdout);
		sigwait(&told, &signal);
		policies.on_full = NETTAP_ON_FULL_DROP;
		policies.on_exit = NETTAP_ON_EXIT_DROP;
		policies.no_consumer = NETTAP_NO_CONSUMER_HOLD;
		if (nettap_tap_set(tap, &policies) != 0)
			return 4;
		sigwait(&told, &signal);
		return interface_untap(tap) != 0 || nettap_tap_set(tap, &policies) != -EBADF || nettap_tap_set(tap, NULL) != -EFAULT;
	}
END
cc "$WORK/policies.c" -Wall -Wextra -Werror -I"$sources/uapi/include" -I"$sources/userlib/include" -L"$library" -lnettap -o "$WORK/policies"
# has POLICIES: of the tap, as the list of taps says them.
has() { [[ $(tapctl --json tap list | jq -r '.taps[] | "\(.snaplen) \(.max_age_us) \(.on_full) \(.on_exit) \(.no_consumer)"') == "$1" ]]; }
start policies box "$WORK/policies"
await "it was refused something" said policies '^refused'
has "60 1500 pass revert pass" || fail "some have not changed, or one that was refused has"
kill -USR1 "${PIDS[policies]}"
await "the others have changed" has "60 1500 drop drop hold"
kill -USR1 "${PIDS[policies]}"
finish policies

part "a lock ends with the mapping"
cat >"$WORK/lock.c" <<-END
	#include <errno.h>
	#include "libnettap.h"

	int main(void)
	{
		struct nettap_shared_lock *lock;

		if (mbuf_map(0, NULL) < 0 || nettap_lock_open(3, &lock) < 0 || nettap_lock_take(lock, 0) != 0)
			return 1;
		if (mbuf_unmap() < 0)
			return 2;
		if (nettap_lock_release(lock) != -ENXIO || nettap_lock_take(lock, 0) != -ENXIO ||
		    nettap_lock_try(lock) != -ENXIO || nettap_lock_data(lock))
			return 3;
		nettap_lock_close(lock);
		/* It was released, and its owner died. */
		return mbuf_map(0, NULL) < 0 || nettap_lock_open(3, &lock) < 0 || nettap_lock_take(lock, 0) != 1;
	}
END
cc "$WORK/lock.c" -Wall -Wextra -Werror -I"$sources/uapi/include" -I"$sources/userlib/include" -L"$library" -lnettap -o "$WORK/lock"
"$WORK/lock" || fail "it said $?"
