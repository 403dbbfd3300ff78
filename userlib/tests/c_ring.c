/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The other process of c_ring.rs: takes packets out of a detour ring and puts them into a revert ring
 * with nothing but the inline functions of libnettap.h. Packets with an odd first byte are changed.
 * Arguments: a descriptor of the memory, cells, mbufs, size of an mbuf, packets. */
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "libnettap.h"

static unsigned int doorbells;

int nettap_doorbell(const struct nettap_queue *queue)
{
	(void)queue;
	return (int)++doorbells;
}

int main(int argc, char **argv)
{
	enum { SIDE = 65536 };
	uint32_t cells = argc == 6 ? (uint32_t)atoi(argv[2]) : 1, log2 = 0;
	uint32_t mbufs = (uint32_t)atoi(argv[3]), size = (uint32_t)atoi(argv[4]);
	size_t region = (size_t)mbufs * size;
	long left = atol(argv[5]);
	unsigned char *memory = (unsigned char *)mmap(NULL, region + 4 * SIDE, PROT_READ | PROT_WRITE,
						      MAP_SHARED, atoi(argv[1]), 0);
	unsigned char *side = memory + region;
	struct nettap_entry packets[7];

	while ((1u << log2) < cells)
		log2++;
	struct nettap_queue detour = {
		(struct nettap_words *)side, (struct nettap_words *)(side + SIDE),
		(struct nettap_cell *)(side + NETTAP_RING_CELLS),
		memory, cells - 1, log2, size, mbufs, 3, 0,
	};
	struct nettap_queue revert = {
		(struct nettap_words *)(side + 2 * SIDE), (struct nettap_words *)(side + 3 * SIDE),
		(struct nettap_cell *)(side + 3 * SIDE + NETTAP_RING_CELLS),
		memory, cells - 1, log2, size, mbufs, 3, 0,
	};
	while (left > 0) {
		unsigned int n = nt_dequeue_burst(&detour, packets, 7), i;

		if (n == 0)
			sched_yield();
		for (i = 0; i < n; i++, left--) {
			unsigned char *data = nt_data(nt_mbuf(packets[i]));

			if (data[0] & 1) {
				data[1] ^= 0xff;
				while (nt_enqueue(&revert, packets[i]) < 0)
					sched_yield();
			} else {
				while (nt_enqueue_same(&revert, packets[i]) < 0)
					sched_yield();
			}
		}
	}
	return doorbells == 0 ? 0 : 1;
}
