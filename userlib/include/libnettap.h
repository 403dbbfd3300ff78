/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * libnettap.h - NetTap for C programs.
 *
 * The six calls have the names and meanings of the patent; one process has one session. Packets
 * travel through queues in memory that is shared with the kernel:
 *
 *     detour     packets that come up from a tap     nt_dequeue
 *     revert     packets that go on                  nt_enqueue (changed), nt_enqueue_same
 *     alloc      mbufs for new packets               nt_dequeue
 *     dealloc    mbufs that are not needed any more  nt_enqueue; a received packet is dropped by it
 *
 * The nt_ functions are inline, use the compiler's atomics, and make no system call and no call of
 * any library, unless the kernel has gone to sleep and asks to be woken. Several threads may use one
 * queue at once.
 *
 * What is taken out of a queue belongs to the program until it is put into one, also when the packet's
 * tap has ended meanwhile: then put it into dealloc, or the session keeps it for nothing. After that neither
 * its header nor its bytes may be touched. Bytes are edited in place; a first mbuf's offset and a
 * last mbuf's len may be moved; see nettap.h for what the other fields mean. A packet longer than
 * one mbuf is a chain through header.next, and its first mbuf stands for all of it.
 *
 * Calls return 0 or a descriptor, or a negative errno (-EPERM: needs CAP_NET_ADMIN; -ENOENT from
 * mbuf_map: load nettap.ko; -ENOBUFS: raise ulimit -l; -EPROTO: the module is older than this).
 *
 * After fork() the child has none of this memory: it must not use the parent's queues and entries,
 * and may call mbuf_map() for itself.
 */
#ifndef LIBNETTAP_H
#define LIBNETTAP_H

#include <linux/errno.h>
#include <stddef.h>
#include <stdint.h>

#include "nettap.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One end of a ring. The library makes it and nobody changes it; read by the functions below. */
struct nettap_queue {
	const struct nettap_words *ro;  /* the words that the kernel writes */
	struct nettap_words *rw;        /* the words that programs write */
	struct nettap_cell *cells;
	unsigned char *region;          /* the first mbuf */
	uint32_t mask;                  /* cells - 1 */
	uint32_t log2;                  /* of the number of cells */
	uint32_t mbuf_size;
	uint32_t mbufs;
	int32_t tap;                    /* descriptor; -1 for alloc and dealloc */
	uint32_t reserved;
};

/* An mbuf in the program's hands. */
struct nettap_entry {
	struct nettap_header *mbuf;     /* its header; the bytes are at nt_data() */
	uint32_t index;                 /* its name in the region, for header.next of a new chain */
	uint16_t generation;            /* which use of it this is; given back as it came */
	uint16_t reserved;
};

/* What mbuf_map tells. */
struct mbuf_rings {
	struct nettap_queue *alloc;
	struct nettap_queue *dealloc;
	uint32_t mbuf_size;
	uint32_t mbufs;
	uint32_t data_offset;           /* where the bytes of a new packet begin */
	uint32_t session;
};

/* Which group mbuf_map_group joins, or creates: a region of its own that only the group's sessions see.
 * Zero everywhere but in `size` and `name` joins a group whatever it is like, and creates one that is
 * as large as the default region and for the caller's effective user. */
struct nettap_group {
	uint32_t size;                  /* sizeof(struct nettap_group) */
	uint32_t access;                /* NETTAP_ACCESS_: who may join, if it is created */
	uint32_t mbuf_size;             /* of a group that is created, a power of two; 0: default */
	uint32_t mbufs;                 /* likewise */
	const char *name;               /* 1 to 31 characters of ASCII without spaces */
};

/* What interface_tap can be told. Zero everywhere but in `size` is the default. */
struct nettap_options {
	uint32_t size;                  /* sizeof(struct nettap_options) */
	uint32_t snaplen;               /* longest part of a packet to copy; 0 copies all */
	uint32_t ring_cells;            /* a power of two; 0 lets the kernel choose */
	uint32_t on_full;               /* NETTAP_ON_FULL_ */
	uint32_t on_exit;               /* NETTAP_ON_EXIT_ */
	uint32_t gso;                   /* NETTAP_GSO_WHOLE or NETTAP_GSO_SEGMENT */
	int32_t netns;                  /* descriptor of a network namespace; 0 for the caller's */
	uint32_t fanout;                /* NETTAP_FANOUT_ */
	uint64_t max_bytes;             /* most bytes of packets that the tap may hold; 0: default */
	uint32_t no_consumer;           /* NETTAP_NO_CONSUMER_ */
	uint32_t flags;                 /* NETTAP_TAP_STANDBY, NETTAP_TAP_UNSTAMPED, both, or 0 */
	uint64_t max_age_us;            /* longest time that a packet may be held; 0: any */
	struct nettap_filter filter;    /* which packets; zero: all. Read by interface_tap() only */
};

#if defined(__cplusplus)
#define LIBNETTAP_ASSERT(holds) static_assert(holds, #holds)
#else
#define LIBNETTAP_ASSERT(holds) _Static_assert(holds, #holds)
#endif
LIBNETTAP_ASSERT(sizeof(struct nettap_queue) == 4 * sizeof(void *) + 24);
LIBNETTAP_ASSERT(sizeof(struct mbuf_rings) == 2 * sizeof(void *) + 16);
LIBNETTAP_ASSERT(sizeof(struct nettap_group) == sizeof(void *) + 16);
LIBNETTAP_ASSERT(sizeof(struct nettap_options) == 72);
#undef LIBNETTAP_ASSERT

/* Opens the session; the kernel keeps at least `prealloc` mbufs in the alloc ring. `out` may be NULL. */
int mbuf_map(unsigned int prealloc, struct mbuf_rings *out);
/* The same in a group; NULL is the default one. -EACCES: it does not let the caller's user in. -EEXIST:
 * it is there with another size or rule. */
int mbuf_map_group(unsigned int prealloc, const struct nettap_group *group, struct mbuf_rings *out);
/* Ends the session, its taps and its queues. */
int mbuf_unmap(void);
/* n > 0: puts n more mbufs into the alloc ring. n == 0: sleeps until a tap has a packet. At most
 * `usec` microseconds (-ETIMEDOUT), 0 is for ever; a signal interrupts it (-EINTR). */
int mbuf_pull(unsigned int n, unsigned long long usec);
/* Sleeps until the kernel has taken n entries from the tap's revert ring, or all if there are fewer;
 * n == 0 asks it to look and does not sleep. With tap -1: has it empty the dealloc ring. */
int mbuf_push(int tap, unsigned int n);
/* Opens a tap; mode is TAP_INPUT, TAP_OUTPUT or TAP_BYPASS. Returns a descriptor that poll() and
 * epoll understand. It is closed with interface_untap(), which also ends the queues. */
int interface_tap(const char *ifname, int mode, const struct nettap_options *options,
		  struct nettap_queue **detour, struct nettap_queue **revert);
int interface_untap(int tap);
/* Changes policies of an open tap from the next packet on: those that `what` names by NETTAP_SET_ bits. All
 * of them change or, with an error, none. `id` is not looked at; zero in whatever is not named will do. */
int nettap_tap_set(int tap, const struct nettap_set *policies);
/* Wakes the kernel for a queue. The functions below call it when the kernel asks. */
int nettap_doorbell(const struct nettap_queue *queue);
/*
 * Shared locks: NETTAP_LOCKS_MAX words, by their numbers, that all programs of a group share. One that is
 * free is taken and released without a system call. A program that ends with a lock in hand loses it
 * to the kernel, and the next owner is told. A lock belongs to one thread at a time, and is not to be
 * taken again by who has it. mbuf_unmap() ends what was opened before it (-ENXIO); close it all the same.
 */
struct nettap_shared_lock;
int nettap_lock_open(unsigned int number, struct nettap_shared_lock **lock);
/* 0: taken. 1: taken, and the last owner died with it, so that what it guards may be half done. At most
 * `usec` microseconds (-ETIMEDOUT), 0 is for ever; a signal interrupts it (-EINTR). */
int nettap_lock_take(struct nettap_shared_lock *lock, unsigned long long usec);
/* The same, without waiting: -EBUSY when somebody has it. */
int nettap_lock_try(struct nettap_shared_lock *lock);
/* -EPERM: it was not with this session. */
int nettap_lock_release(struct nettap_shared_lock *lock);
/* NETTAP_LOCK_DATA words beside the lock, zero when the region was made, for what it guards. */
uint32_t *nettap_lock_data(struct nettap_shared_lock *lock);
/* The last one of a number: a lock that the session still has is released, as at its end. */
void nettap_lock_close(struct nettap_shared_lock *lock);
/*
 * Has a thread of the kernel's look at the session's queues again and again, or no more: what is put into one
 * then goes on at once, and nothing is ever to be woken. It takes a processor until it is switched off or the
 * session ends. Returns the thread's number, for taskset and chrt; 0 when there is none, or it cannot be seen
 * from the program's pid namespace. -EPERM: needs CAP_NET_ADMIN over the machine.
 */
int nettap_busy(int busy);
/* System calls made for the session since it was opened. */
unsigned long long nettap_system_calls(void);

/* The header of an entry's mbuf. */
static inline struct nettap_header *nt_mbuf(struct nettap_entry entry)
{
	return entry.mbuf;
}

/* The bytes of an mbuf; there are mbuf->len of them. */
static inline unsigned char *nt_data(struct nettap_header *mbuf)
{
	return (unsigned char *)mbuf + mbuf->offset;
}

/* The next mbuf of a packet, or NULL behind the last. */
static inline struct nettap_header *nt_next(const struct nettap_queue *queue,
					    const struct nettap_header *mbuf)
{
	if (mbuf->next >= queue->mbufs)
		return NULL;
	return (struct nettap_header *)(queue->region + (size_t)mbuf->next * queue->mbuf_size);
}

/* Wakes the kernel if it asks: the barrier is (F) of the ring's description in uapi/src/ring.rs.
 * -ENODEV: the queue's tap has ended. */
static inline int nt_wake(const struct nettap_queue *queue)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&queue->ro->need_wakeup, __ATOMIC_RELAXED))
		return nettap_doorbell(queue);
	return 0;
}

/* Takes up to n entries from a detour or alloc queue, oldest first; returns how many. */
static inline unsigned int nt_dequeue_burst(const struct nettap_queue *queue,
					    struct nettap_entry *entries, unsigned int n)
{
	unsigned int taken;

	for (;;) {
		uint32_t begin = __atomic_load_n(&queue->rw->position, __ATOMIC_RELAXED);
		uint32_t position = begin;

		for (taken = 0; taken < n; position++) {
			struct nettap_cell *cell = &queue->cells[position & queue->mask];
			uint32_t tag = __atomic_load_n(&cell->tag, __ATOMIC_ACQUIRE); /* B */
			uint32_t lap = (tag >> NETTAP_LAP_SHIFT) ^ (position >> queue->log2);
			uint32_t state = tag & NETTAP_STATE_MASK;
			uint32_t index;

			if ((lap & NETTAP_LAP_MASK) || state < NETTAP_STATE_FULL)
				break; /* not yet */
			if (state == NETTAP_STATE_PADDING)
				continue;
			index = __atomic_load_n(&cell->entry, __ATOMIC_RELAXED);
			if (index >= queue->mbufs)
				continue; /* nobody's mbuf */
			entries[taken].mbuf = (struct nettap_header *)
				(queue->region + (size_t)index * queue->mbuf_size);
			entries[taken].index = index;
			entries[taken].generation = (uint16_t)(tag >> NETTAP_GENERATION_SHIFT);
			entries[taken].reserved = 0;
			taken++;
		}
		if (position == begin) {
			/* Other consumers may have been here, and the kernel have filled the cells anew. */
			if (__atomic_load_n(&queue->rw->position, __ATOMIC_RELAXED) == begin)
				break;
			continue;
		}
		/* C. If another consumer was quicker, what was read is void. */
		if (__atomic_compare_exchange_n(&queue->rw->position, &begin, position, 0,
						__ATOMIC_SEQ_CST, __ATOMIC_RELAXED) && taken)
			break;
	}
	/* The kernel fills the alloc ring when it serves; if it sleeps, somebody must say so. */
	if (taken < n && queue->tap < 0)
		nt_wake(queue);
	return taken;
}

/* Takes one entry; returns how many that was, 0 or 1. */
static inline unsigned int nt_dequeue(const struct nettap_queue *queue, struct nettap_entry *entry)
{
	return nt_dequeue_burst(queue, entry, 1);
}

/* Puts up to n entries into a revert or dealloc queue, in order; returns how many found room. The others are
 * still the program's; all that the kernel has not taken, if the tap has ended. */
static inline unsigned int nt_put(const struct nettap_queue *queue, const struct nettap_entry *entries,
				  unsigned int n, uint32_t flags)
{
	uint32_t first, size = queue->mask + 1;
	unsigned int count, nth;

	for (;;) {
		uint32_t consumed, used;

		first = __atomic_load_n(&queue->rw->position, __ATOMIC_RELAXED);
		consumed = __atomic_load_n(&queue->ro->position, __ATOMIC_ACQUIRE); /* D */
		used = first - consumed;
		if (used > size) {
			/* The kernel moved on between the two loads; else the ring is broken. */
			if (__atomic_load_n(&queue->rw->position, __ATOMIC_RELAXED) == first)
				return 0;
			continue;
		}
		count = n < size - used ? n : size - used;
		if (count == 0)
			break;
		if (__atomic_compare_exchange_n(&queue->rw->position, &first, first + count, 0,
						__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			break;
	}
	for (nth = 0; nth < count; nth++) {
		uint32_t position = first + nth;
		struct nettap_cell *cell = &queue->cells[position & queue->mask];
		uint32_t tag = NETTAP_STATE_FULL | flags << NETTAP_FLAGS_SHIFT |
			((position >> queue->log2) & NETTAP_LAP_MASK) << NETTAP_LAP_SHIFT |
			(uint32_t)entries[nth].generation << NETTAP_GENERATION_SHIFT;

		__atomic_store_n(&cell->entry, entries[nth].index, __ATOMIC_RELAXED);
		__atomic_store_n(&cell->tag, tag, __ATOMIC_RELEASE); /* A */
	}
	if (nt_wake(queue) == -ENODEV && count) {
		/* The kernel's position does not move any more. */
		uint32_t taken = __atomic_load_n(&queue->ro->position, __ATOMIC_ACQUIRE) - first;

		if ((int32_t)taken < 0)
			taken = 0;
		count = taken < count ? taken : count;
	}
	return count;
}

/* Why nothing found room: -ENODEV when the tap has ended, or -EAGAIN. */
static inline int nt_no_room(const struct nettap_queue *queue)
{
	return nt_wake(queue) == -ENODEV ? -ENODEV : -EAGAIN;
}

/* Puts entries as changed: the kernel reads headers and bytes. Into dealloc: gives them back. */
static inline unsigned int nt_enqueue_burst(const struct nettap_queue *queue,
					    const struct nettap_entry *entries, unsigned int n)
{
	return nt_put(queue, entries, n, queue->tap < 0 ? 0 : NETTAP_REVERT_CHANGED);
}

/* Puts packets that nobody has changed: they go on exactly as they were, in the kernel's own copy. */
static inline unsigned int nt_enqueue_burst_same(const struct nettap_queue *queue,
						 const struct nettap_entry *entries, unsigned int n)
{
	return nt_put(queue, entries, n, 0);
}

/* Puts one entry as changed; -EAGAIN when there is no room now, see mbuf_push(). -ENODEV: the tap has ended. */
static inline int nt_enqueue(const struct nettap_queue *queue, struct nettap_entry entry)
{
	return nt_enqueue_burst(queue, &entry, 1) ? 0 : nt_no_room(queue);
}

/* Puts one entry that nobody has changed. */
static inline int nt_enqueue_same(const struct nettap_queue *queue, struct nettap_entry entry)
{
	return nt_enqueue_burst_same(queue, &entry, 1) ? 0 : nt_no_room(queue);
}

#ifdef __cplusplus
}
#endif

#endif /* LIBNETTAP_H */
