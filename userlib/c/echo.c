/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Every packet that an interface receives goes through this program and on into the host. */
#include "libnettap.h"

int main(int argc, char **argv)
{
	struct nettap_queue *detour, *revert;
	struct nettap_entry packets[64];
	int tap = argc == 2 ? mbuf_map(0, NULL) : -EINVAL;

	if (tap == 0)
		tap = interface_tap(argv[1], TAP_INPUT, NULL, &detour, &revert);
	while (tap >= 0) {
		unsigned int n = nt_dequeue_burst(detour, packets, 64), done = 0;

		if (n == 0 && mbuf_pull(0, 0) < 0)      /* nothing there: sleep; a signal ends */
			break;
		while ((done += nt_enqueue_burst_same(revert, packets + done, n - done)) < n)
			if (mbuf_push(tap, 1) < 0)      /* full: wait for room */
				return 1;
	}
	return tap < 0;
}
