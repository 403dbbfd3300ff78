// SPDX-License-Identifier: GPL-2.0-only
/* The C end of the fence: those who sleep until something is so. */

#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "shim.h"

struct nettap_sleepers {
	wait_queue_head_t queue;
};

struct nettap_sleepers *nettap_sleepers_new(void)
{
	struct nettap_sleepers *sleepers = kzalloc(sizeof(*sleepers), GFP_KERNEL_ACCOUNT);

	if (sleepers)
		init_waitqueue_head(&sleepers->queue);
	return sleepers;
}

void nettap_sleepers_free(struct nettap_sleepers *sleepers)
{
	kfree(sleepers);
}

/*
 * wq_has_sleeper() has the full barrier that pairs with the sleeper's. Who waits for his turn among several
 * (EPOLLEXCLUSIVE) is woken too: the one that has it may be killed before it looks.
 */
bool nettap_sleepers_wake(struct nettap_sleepers *sleepers, u32 events)
{
	if (!wq_has_sleeper(&sleepers->queue))
		return false;
	__wake_up(&sleepers->queue, TASK_INTERRUPTIBLE, 0, poll_to_key((__force __poll_t)events));
	return true;
}

/* 0: the condition holds; -ETIME, -ERESTARTSYS as the macro says. ns 0 waits for ever. */
int nettap_sleepers_wait(struct nettap_sleepers *sleepers, nettap_condition_fn condition,
			 void *owner, u64 ns)
{
	if (!ns)
		return wait_event_interruptible(sleepers->queue, condition(owner));
	return wait_event_interruptible_hrtimeout(sleepers->queue, condition(owner),
						  ns_to_ktime(ns));
}

/* Which events a caller of poll() wants to be told; who does not say, all. */
u32 nettap_poll_asked(const struct poll_table_struct *table)
{
	return (__force u32)poll_requested_events(table);
}

void nettap_sleepers_poll_wait(struct nettap_sleepers *sleepers, struct file *file,
			       struct poll_table_struct *table)
{
	poll_wait(file, &sleepers->queue, table);
}
