// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C end of the fence, filters: programs of the kernel's own BPF machine, checked by the kernel before
 * anybody runs them. Both kinds are what a socket would take (net/core/filter.c, sk_attach_filter() and
 * sk_attach_bpf()).
 */

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/skbuff.h>

#include "shim.h"

/* Copies the instructions, checks the copy, and keeps the source for nettap_filter_same(). Sleeps. */
struct bpf_prog *nettap_filter_classic(u64 address, u16 count)
{
	struct sock_fprog source = { .len = count, .filter = u64_to_user_ptr(address) };
	struct bpf_prog *prog;
	int err = bpf_prog_create_from_user(&prog, &source, NULL, true);

	return err ? ERR_PTR(err) : prog;
}

struct bpf_prog *nettap_filter_ebpf(u32 fd)
{
	return bpf_prog_get_type(fd, BPF_PROG_TYPE_SOCKET_FILTER);
}

/* Gives back either kind. */
void nettap_filter_put(struct bpf_prog *prog)
{
	bpf_prog_destroy(prog);
}

/* An eBPF program has no source here; it is the same when it is the same object. */
bool nettap_filter_same(const struct bpf_prog *a, const struct bpf_prog *b)
{
	if (!a->orig_prog || !b->orig_prog)
		return a == b;
	return a->orig_prog->len == b->orig_prog->len &&
	       !memcmp(a->orig_prog->filter, b->orig_prog->filter, bpf_classic_proglen(a->orig_prog));
}

/*
 * The program sees the packet from its mac header on, as with a packet socket (packet_rcv()). The control
 * block is the stack's here, and a program that writes into it must not disturb that.
 */
u32 nettap_filter_run(const struct bpf_prog *prog, struct sk_buff *skb, bool received)
{
	const u32 mac_len = received ? skb->data - skb_mac_header(skb) : 0;
	u32 result;

	__skb_push(skb, mac_len);
	result = bpf_prog_run_save_cb(prog, skb);
	__skb_pull(skb, mac_len);
	return result;
}
