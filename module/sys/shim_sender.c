// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C end of the fence: packets of our own whose fragments are shared memory, so that none of it is
 * copied. The network stack says when it is done with each (struct ubuf_info, as MSG_ZEROCOPY and
 * io_uring have it), on any CPU and in any context.
 */

#include <linux/llist.h>
#include <linux/module.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "shim.h"

/* Packets of a sender that are under way at once. */
#define UNDER_WAY_MAX 256

/* More than ever are under way. */
#define OWNED (1 << 16)

/* One packet that is under way, or a place for one. */
struct sending {
	struct ubuf_info ubuf;
	struct nettap_sender *sender;
	struct llist_node node;
	u32 name;
};

/*
 * It outlives its owner for as long as packets are under way, and while any are, the module stays. The
 * packets hold references of their own on the pages; what these count as is kept until the end.
 */
struct nettap_sender {
	/* How many packets are under way, and OWNED. */
	atomic_t users;
	/* What the network stack is done with. */
	struct llist_head done;
	/* The owner's: places to take, and what it has taken from `done`. */
	struct llist_node *free;
	struct llist_node *finished;
	void *kept;
	nettap_let_go_fn let_go;
	struct sending all[UNDER_WAY_MAX];
};

static void sender_free(struct nettap_sender *sender)
{
	if (sender->kept)
		sender->let_go(sender->kept);
	kfree(sender);
}

/* The owner goes, and `let_go` is called with `kept`, unless that is null, when no packet is under way any more. */
void nettap_sender_put(struct nettap_sender *sender, void *kept, nettap_let_go_fn let_go)
{
	sender->kept = kept;
	sender->let_go = let_go;
	if (atomic_sub_return(OWNED, &sender->users) == 0)
		sender_free(sender);
}

/* A packet is no longer under way. */
static void arrived(struct nettap_sender *sender)
{
	const int users = atomic_dec_return(&sender->users);

	if (users == 0)
		sender_free(sender);
	/* Whoever unloads the module waits for a grace period before its code goes. */
	if (users == 0 || users == OWNED)
		module_put(THIS_MODULE);
}

/* May come for each clone and each segment; the last one counts. */
static void on_complete(struct sk_buff *skb, struct ubuf_info *ubuf, bool not_copied)
{
	struct sending *sending = container_of(ubuf, struct sending, ubuf);
	struct nettap_sender *sender;

	rcu_read_lock();
	if (refcount_dec_and_test(&ubuf->refcnt)) {
		sender = sending->sender;
		llist_add(&sending->node, &sender->done);
		arrived(sender);
	}
	rcu_read_unlock();
}

static const struct ubuf_info_ops sending_ops = {
	.complete = on_complete,
};

struct nettap_sender *nettap_sender_new(void)
{
	struct nettap_sender *sender = kzalloc(sizeof(*sender), GFP_KERNEL_ACCOUNT);
	struct sending *sending;

	if (!sender)
		return NULL;
	atomic_set(&sender->users, OWNED);
	init_llist_head(&sender->done);
	for (sending = sender->all; sending < sender->all + UNDER_WAY_MAX; sending++) {
		sending->sender = sender;
		sending->ubuf.ops = &sending_ops;
		/*
		 * A device may take the fragments as they are, as io_uring's (io_uring/notif.c). Who receives them gets a
		 * copy, but for a packet socket that is the only one to want the frame.
		 */
		sending->ubuf.flags = SKBFL_ZEROCOPY_FRAG | SKBFL_DONT_ORPHAN;
		sending->node.next = sender->free;
		sender->free = &sending->node;
	}
	return sender;
}

/*
 * The owner's: a packet's fragments will be under way under a name. False: too many are, or the packet's
 * fragments are somebody's already.
 */
bool nettap_sender_send(struct nettap_sender *sender, struct sk_buff *skb, u32 name)
{
	struct sending *sending;

	if (!sender->free || skb_zcopy(skb))
		return false;
	sending = llist_entry(sender->free, struct sending, node);
	sender->free = sender->free->next;
	sending->name = name;
	refcount_set(&sending->ubuf.refcnt, 1);
	/* The caller has a file of the module's open, so there is no hurry. */
	if (atomic_inc_return(&sender->users) == OWNED + 1)
		__module_get(THIS_MODULE);
	skb_zcopy_init(skb, &sending->ubuf);
	return true;
}

/* The owner's: a name that is not under way any more. */
bool nettap_sender_done(struct nettap_sender *sender, u32 *name)
{
	struct sending *sending;

	if (!sender->finished) {
		if (llist_empty(&sender->done))
			return false;
		sender->finished = llist_del_all(&sender->done);
	}
	sending = llist_entry(sender->finished, struct sending, node);
	sender->finished = sender->finished->next;
	*name = sending->name;
	sending->node.next = sender->free;
	sender->free = &sending->node;
	return true;
}

/* Shared memory becomes the packet's next bytes. */
int nettap_skb_attach(struct sk_buff *skb, struct page *page, u32 offset, u32 len)
{
	const int nth = skb_shinfo(skb)->nr_frags;

	if (nth >= MAX_SKB_FRAGS)
		return -EMSGSIZE;
	get_page(page);
	skb_fill_page_desc(skb, nth, page, offset, len);
	skb->len += len;
	skb->data_len += len;
	skb->truesize += len;
	return 0;
}
