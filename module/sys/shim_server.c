// SPDX-License-Identifier: GPL-2.0-only
/* The C end of the fence, the server's engine: a NAPI, its timer or its thread, and what its rounds put off. */

#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/netdevice.h>
#include <linux/pid.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include "shim.h"

struct nettap_server {
	struct net_device *dummy;
	struct napi_struct napi;
	struct hrtimer timer;
	struct work_struct work;
	call_single_data_t call;
	/* The CPU of the last round, whose timer is there; and whether it is being called. */
	int home;
	atomic_t calling;
	/* A thread polls without end; and since when it waits for the CPU that it was on, or 0. */
	bool busy;
	unsigned long moving;
	nettap_poll_fn poll;
	nettap_deferred_fn deferred;
	void *owner;
};

/* Softirqs that carry on what a round has delivered. */
#define CARRIERS (BIT(NET_RX_SOFTIRQ) | BIT(NET_TX_SOFTIRQ))

static void asked_for_carriers(void *data)
{
	*(bool *)data = in_serving_softirq() || (local_softirq_pending() & CARRIERS);
}

/*
 * The scheduler moves a thread whenever it likes. What a busy server delivers from its new CPU must not
 * overtake what lies in the backlog of the one before, so it asks there, and waits for no longer than
 * softirqs that have too much to do would take for a round among themselves (net_rx_action()).
 */
static bool server_moves(struct nettap_server *server)
{
	bool carries = false;

	if (!server->busy || server->home == smp_processor_id()) {
		server->moving = 0;
		return false;
	}
	if (!server->moving)
		server->moving = jiffies ?: 1;
	if (!smp_call_function_single(server->home, asked_for_carriers, &carries, true) &&
	    carries && time_before(jiffies, server->moving + 2))
		return true;
	server->moving = 0;
	return false;
}

static int server_poll(struct napi_struct *napi, int budget)
{
	struct nettap_server *server = container_of(napi, struct nettap_server, napi);
	int work;

	/* Who polls without end comes again; nobody else would. */
	if (test_bit(NAPI_STATE_SCHED_THREADED, &napi->state) && server_moves(server))
		return 0;
	WRITE_ONCE(server->home, smp_processor_id());
	work = server->poll(server->owner, budget);
	/*
	 * A thread that shall end is waited for (napi_stop_kthread()), and would come again as long as there is work: it
	 * hands over to a softirq.
	 */
	if (work >= budget && !READ_ONCE(server->busy) &&
	    test_bit(NAPI_STATE_SCHED_THREADED, &napi->state)) {
		work = budget - 1;
		napi_complete_done(napi, work);
		napi_schedule(napi);
	}
	return work;
}

static void server_called(void *data)
{
	struct nettap_server *server = data;

	/* Whoever finds the word set from here on has come too late for this round. */
	atomic_set(&server->calling, 0);
	smp_mb__after_atomic();
	napi_schedule(&server->napi);
}

static void server_work(struct work_struct *work)
{
	struct nettap_server *server = container_of(work, struct nettap_server, work);

	server->deferred(server->owner);
}

/* A call must not be queued twice, and its own lock does not see to that (kernel/smp.c). */
static bool call_home(struct nettap_server *server, int home)
{
	if (atomic_xchg(&server->calling, 1))
		return true;
	if (!smp_call_function_single_async(home, &server->call))
		return true;
	atomic_set(&server->calling, 0);
	return false;
}

static enum hrtimer_restart server_timer(struct hrtimer *timer)
{
	napi_schedule(&container_of(timer, struct nettap_server, timer)->napi);
	return HRTIMER_NORESTART;
}

struct nettap_server *nettap_server_new(u32 name, nettap_poll_fn poll,
					nettap_deferred_fn deferred)
{
	struct nettap_server *server = kzalloc(sizeof(*server), GFP_KERNEL_ACCOUNT);

	if (!server)
		return NULL;
	server->dummy = alloc_netdev_dummy(0);
	if (!server->dummy) {
		kfree(server);
		return NULL;
	}
	/* Nobody else's: it is never registered. What the thread is called by. */
	scnprintf(server->dummy->name, sizeof(server->dummy->name), "nettap%u", name);
	server->poll = poll;
	server->deferred = deferred;
	INIT_WORK(&server->work, server_work);
	hrtimer_setup(&server->timer, server_timer, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED_SOFT);
	INIT_CSD(&server->call, server_called, server);
	/*
	 * Without a number by which sockets and io_uring rings, of whomever, could poll it: such a round takes the
	 * place of one that was asked for (busy_poll_stop()), and comes on any CPU.
	 */
	netif_napi_add_tx(server->dummy, &server->napi, server_poll);
	return server;
}

void nettap_server_start(struct nettap_server *server, void *owner)
{
	server->owner = owner;
	napi_enable(&server->napi);
}

/*
 * What was put off pauses the NAPI, so it must be over first, and nothing may be put off any more. The
 * timer schedules the NAPI and the NAPI arms the timer: cancel it on both sides of the disable.
 */
void nettap_server_stop(struct nettap_server *server)
{
	disable_work_sync(&server->work);
	hrtimer_cancel(&server->timer);
	napi_disable(&server->napi);
	hrtimer_cancel(&server->timer);
}

/*
 * No round runs from here on until the next start; who asks for one meanwhile asks in vain. The caller may
 * deliver what is left, and stays on one CPU for that, as rounds do.
 */
void nettap_server_pause(struct nettap_server *server)
{
	napi_disable(&server->napi);
	hrtimer_cancel(&server->timer);
	migrate_disable();
}

/*
 * While it is paused: what was delivered last, in a round or by who pauses it, may wait in that CPU's backlog for a
 * thread of the softirqs' (wakeup_softirqd()), which no grace period waits for.
 */
void nettap_server_settle(struct nettap_server *server)
{
	const unsigned long end = jiffies + 2;
	bool carries;

	do {
		carries = false;
		if (smp_call_function_single(READ_ONCE(server->home), asked_for_carriers, &carries, true) || !carries)
			return;
		usleep_range(20, 200);
	} while (time_before(jiffies, end));
}

/*
 * napi_enable() remembers that there is a thread, and not that it never rests. The thread begins when it is
 * asked for once. It can be stopped only while the NAPI is enabled: napi_stop_kthread() waits for that.
 */
void nettap_server_resume(struct nettap_server *server)
{
	WRITE_ONCE(server->home, smp_processor_id());
	nettap_server_settle(server);
	migrate_enable();
	napi_enable(&server->napi);
	if (server->busy) {
		dev_set_threaded(server->dummy, NETDEV_NAPI_THREADED_BUSY_POLL);
		local_bh_disable();
		napi_schedule(&server->napi);
		local_bh_enable();
	} else if (server->napi.thread) {
		dev_set_threaded(server->dummy, NETDEV_NAPI_THREADED_DISABLED);
	}
}

/* While it is paused: from the next round on, a thread polls without end or nobody does. */
int nettap_server_set_busy(struct nettap_server *server, bool busy)
{
	if (busy) {
		int err = dev_set_threaded(server->dummy, NETDEV_NAPI_THREADED_ENABLED);

		if (err)
			return err;
	}
	WRITE_ONCE(server->busy, busy);
	return 0;
}

/* The same: the thread, whose numbers stay known when it has ended. */
struct pid *nettap_server_thread(struct nettap_server *server)
{
	return get_task_pid(server->napi.thread, PIDTYPE_PID);
}

void nettap_server_free(struct nettap_server *server)
{
	/* A call that was on its way must have come; netif_napi_del() then waits for its end. */
	while (atomic_read(&server->calling))
		usleep_range(20, 200);
	netif_napi_del(&server->napi);
	free_netdev(server->dummy);
	kfree(server);
}

/*
 * Rounds stay on one CPU while its timer is armed: packets that left by turns from two would overtake
 * each other in the backlogs and transmit queues that each CPU has of its own. So it is also while the
 * timer runs: it has left its queue then and not asked for the round yet. Elsewhere an ordinary request
 * trusts a timer in its queue, whose round is still to come. One that runs may have asked for a round that
 * has been since: so then, and if the request is urgent, that CPU is interrupted. Bottom halves off, or on:
 * then a round here runs before this returns. A busy server need not be asked.
 */
void nettap_server_schedule(struct nettap_server *server, bool urgent)
{
	const int home = READ_ONCE(server->home);

	if (READ_ONCE(server->busy))
		return;
	local_bh_disable();
	if (home == smp_processor_id() || !hrtimer_active(&server->timer))
		napi_schedule(&server->napi);
	else if ((urgent || !nettap_server_is_armed(server)) && !call_home(server, home))
		napi_schedule(&server->napi);
	local_bh_enable();
}

bool nettap_server_complete(struct nettap_server *server, int work)
{
	return napi_complete_done(&server->napi, work);
}

/* What rounds put off: with a worker of its own, since memory may wait for a packet that the watchdog lets go. */
static struct workqueue_struct *put_off;

int nettap_put_off_start(void)
{
	put_off = alloc_workqueue("nettap", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return put_off ? 0 : -ENOMEM;
}

void nettap_put_off_stop(void)
{
	destroy_workqueue(put_off);
}

void nettap_server_defer(struct nettap_server *server)
{
	queue_work(put_off, &server->work);
}

bool nettap_server_is_armed(const struct nettap_server *server)
{
	return hrtimer_is_queued((struct hrtimer *)&server->timer);
}

void nettap_server_arm(struct nettap_server *server, u64 ns)
{
	if (!nettap_server_is_armed(server))
		hrtimer_start(&server->timer, ns_to_ktime(ns), HRTIMER_MODE_REL_PINNED_SOFT);
}
