// SPDX-License-Identifier: GPL-2.0-only
/* The C end of the fence: clocks, work for later, how much the kernel's log takes. */

#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>

#include "shim.h"

u64 nettap_realtime_ns(void)
{
	return ktime_get_real_ns();
}

u64 nettap_monotonic_ns(void)
{
	return ktime_get_ns();
}

bool nettap_may_log(void)
{
	static DEFINE_RATELIMIT_STATE(rate, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&rate);
}

struct nettap_later {
	struct delayed_work work;
	nettap_later_fn fn;
	void *owner;
};

static void later_work(struct work_struct *work)
{
	struct nettap_later *later = container_of(work, struct nettap_later, work.work);

	later->fn(later->owner);
}

/* Disabled until it is started: who asks before asks in vain. */
struct nettap_later *nettap_later_new(void)
{
	struct nettap_later *later = kzalloc(sizeof(*later), GFP_KERNEL);

	if (!later)
		return NULL;
	INIT_DELAYED_WORK(&later->work, later_work);
	disable_delayed_work(&later->work);
	return later;
}

void nettap_later_start(struct nettap_later *later, nettap_later_fn fn, void *owner)
{
	later->fn = fn;
	later->owner = owner;
	enable_delayed_work(&later->work);
}

void nettap_later_stop(struct nettap_later *later)
{
	disable_delayed_work_sync(&later->work);
}

/* From any context; the first who asks says when. */
void nettap_later_ask(struct nettap_later *later, u64 ns)
{
	if (!delayed_work_pending(&later->work))
		schedule_delayed_work(&later->work, nsecs_to_jiffies(ns) + 1);
}

void nettap_later_free(struct nettap_later *later)
{
	kfree(later);
}
