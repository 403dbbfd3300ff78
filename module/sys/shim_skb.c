// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C end of the fence, packets. In these files each function wraps what Rust cannot name (static
 * inlines, macros, bit fields, unbound functions). Decisions are taken in Rust; where a wrapper has a
 * branch, it is the one that the wrapped kernel function demands of its callers.
 */

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/list_sort.h>
#include <linux/netdevice.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter_netdev.h>
#include <linux/sctp.h>
#include <linux/skbuff.h>
#include <linux/udp.h>
#include <linux/virtio_net.h>
#include <net/dst_metadata.h>
#include <net/gre.h>
#include <net/gso.h>
#include <net/ipv6.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/request_sock.h>
#include <net/sock.h>
#include <net/xfrm.h>

#include "shim.h"

/*
 * An ingress hook gets packets with data at the network header, an egress hook at the mac header.
 * mac_len is how far the frame begins before data.
 */
static u32 mac_len_of(const struct sk_buff *skb, bool received)
{
	return received ? skb->data - skb_mac_header(skb) : 0;
}

static __always_inline u32 csum_of(const struct sk_buff *skb)
{
	/* A number of four bits for each of the four states. */
	const u32 states = 1 << (4 * CHECKSUM_PARTIAL) | 2 << (4 * CHECKSUM_UNNECESSARY);

	return states >> (4 * skb->ip_summed) & 3;
}

/*
 * Whether a packet has the connection of a namespace that is not its interface's, as one that leaves a container by a
 * VLAN of the host's interface: that namespace could not go before the connection does.
 */
static __always_inline bool has_foreign_connection(const struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	enum ip_conntrack_info info;
	struct nf_conn *connection = nf_ct_get(skb, &info);

	return unlikely(connection) && !net_eq(nf_ct_net(connection), dev_net(skb->dev));
#else
	return false;
#endif
}

/*
 * Whether it has the route of another namespace, in the same way. Its operations lie in that namespace, which does not
 * wait for routes that somebody holds: it leaves them to a device that leads nowhere.
 */
static __always_inline bool has_foreign_route(const struct sk_buff *skb)
{
	const struct net_device *dev;

	if (!skb_valid_dst(skb))
		return false;
	dev = READ_ONCE(skb_dst(skb)->dev);
	return dev == blackhole_netdev || !net_eq(dev_net(dev), dev_net(skb->dev));
}

/* Whether its route may stay with it as it is. */
static __always_inline bool is_route_keepable(const struct sk_buff *skb)
{
	return !skb->_skb_refdst || (!skb_dst_is_noref(skb) && !has_foreign_route(skb));
}

/*
 * Whether it counts in the send buffer of one of the kernel's own sockets, of which there is one a processor for all that
 * answers in all namespaces: those that wait would silence the others.
 */
static __always_inline bool is_kernels_own(const struct sk_buff *skb)
{
	return skb->destructor == sock_wfree && unlikely(!skb->sk->sk_net_refcnt);
}

/* Whether nettap_skb_keep() would have nothing to do. */
static __always_inline bool is_keepable(const struct sk_buff *skb)
{
	return !skb_shared(skb) && is_route_keepable(skb) && !skb_sk_is_prefetched((struct sk_buff *)skb) &&
	       !(skb_shinfo(skb)->flags & SKBFL_ZEROCOPY_ENABLE) && !has_foreign_connection(skb) &&
	       !is_kernels_own(skb);
}

/* Whether a bridge has netfilter look at it. */
static __always_inline bool is_of_bridge(const struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER)
	return unlikely(skb_ext_exist(skb, SKB_EXT_BRIDGE_NF));
#else
	return false;
#endif
}

/*
 * Whether a bridge, which has translated the packet's address, takes it back behind the hook and then goes by the port that
 * it came in by (br_nf_pre_routing_finish_bridge_slow()): that may be no port any more when it has waited.
 */
static __always_inline bool is_bound_to_port(const struct sk_buff *skb)
{
#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER)
	return is_of_bridge(skb) && nf_bridge_info_get(skb)->bridged_dnat;
#else
	return false;
#endif
}

/*
 * Whether a BPF program has answered for a listener (bpf_sk_assign_tcp_reqsk()), and the packet has a request that names
 * that listener without counting it: it may be gone when the packet has waited.
 */
static __always_inline bool is_bound_to_listener(const struct sk_buff *skb)
{
	return unlikely(skb_sk_is_prefetched((struct sk_buff *)skb)) && skb->sk->sk_state == TCP_NEW_SYN_RECV &&
	       inet_reqsk(skb->sk)->syncookie;
}

/* Whether a packet can be captured: its bytes can be read, and it may wait. */
static __always_inline bool is_capturable(const struct sk_buff *skb)
{
	return skb_frags_readable(skb) && !is_bound_to_port(skb) && !is_bound_to_listener(skb);
}

/* Whether that needs no further question, as nearly always. */
static __always_inline bool is_captured_easily(const struct sk_buff *skb)
{
	return skb_frags_readable(skb) && !is_of_bridge(skb) && !skb_sk_is_prefetched((struct sk_buff *)skb);
}

/* In NETTAP_C_PACKET_ bits. */
static int nature_of(const struct sk_buff *skb)
{
	return (skb_is_gso(skb) ? NETTAP_C_PACKET_GSO : 0) |
	       (is_keepable(skb) ? NETTAP_C_PACKET_KEEPABLE : 0);
}

/* From so many bytes on the processor's string instructions are worth their beginning. */
#define STRING_MIN 256

/*
 * What memcpy() does. That is a call which copies eight bytes at a time on processors that lack fast short
 * strings (arch/x86/lib/memcpy_64.S). Packets are short, which takes no loop, or long, and long strings are fast
 * on all of them. Where every access is to be checked, memcpy() does it.
 */
static __always_inline void copy_bytes(u8 *to, const u8 *from, u32 len)
{
#if defined(CONFIG_X86_64) && !defined(CONFIG_KASAN)
	unsigned long words = len / 8;

	if (len < 32) {
		memcpy(to, from, len);
		return;
	}
	/* The last bytes first: the rest may then be copied in whole pieces, some of it twice. */
	__builtin_memcpy(to + len - 32, from + len - 32, 32);
	if (len >= STRING_MIN) {
		asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
		return;
	}
	__builtin_memcpy(to, from, 32);
	while (unlikely(len > 64)) {
		to += 32, from += 32, len -= 32;
		__builtin_memcpy(to, from, 32);
	}
#else
	memcpy(to, from, len);
#endif
}

/* Whether so many bytes of the frame lie in one piece, `offset` from its data on. */
static __always_inline bool in_one_piece(const struct sk_buff *skb, int offset, u32 len)
{
	return skb->data + offset >= skb->head && offset + (int)len <= (int)skb_headlen(skb);
}

static __always_inline int copy_out(const struct sk_buff *skb, int offset, void *to, int len)
{
	/* Nearly always it is. */
	if (in_one_piece(skb, offset, len)) {
		copy_bytes(to, skb->data + offset, len);
		return 0;
	}
	return skb_copy_bits(skb, offset, to, len);
}

int nettap_skb_copy_out(const struct sk_buff *skb, int offset, void *to, int len)
{
	return copy_out(skb, offset, to, len);
}

static noinline void show_offload(const struct sk_buff *skb, u32 mac_len, struct nettap_header *to)
{
	struct virtio_net_hdr hdr;

	/* A kind of super-packet that virtio has no name for is shown as an ordinary packet. */
	if (virtio_net_hdr_from_skb(skb, &hdr, true, true, mac_len))
		return;
	to->gso_type = hdr.gso_type;
	to->gso_size = le16_to_cpu((__force __le16)hdr.gso_size);
	to->gso_hdr_len = le16_to_cpu((__force __le16)hdr.hdr_len);
}

/* The time stamp that a packet brings, or 0. */
static __always_inline u64 stamp_of(const struct sk_buff *skb)
{
	return skb->tstamp_type == SKB_CLOCK_REALTIME ? ktime_to_ns(skb->tstamp) : 0;
}

/*
 * The header of an mbuf but for segmentation: what `mbuf` says of it, what the tap's headers have in common, and
 * what the kernel knows of the packet. Nothing is read back: a program may write there at the same time.
 */
static __always_inline void show(const struct sk_buff *skb, u32 mac_len, u64 timestamp,
				 const struct nettap_mbuf *mbuf, const struct nettap_origin *origin,
				 struct nettap_header *to)
{
	const bool tagged = skb_vlan_tag_present(skb);
	const u32 csum = csum_of(skb);

	u64 place, sum, rest;

	/* Each value is written before the next is made: none has to wait in memory. */
	to->timestamp = timestamp;
	to->holder = origin->holder;
	to->next = mbuf->next;
	to->packet_len = mbuf->packet_len;
	to->wire_len = skb->len + mac_len;
	to->ifindex = origin->ifindex;
	to->hash = skb_get_hash_raw(skb);
	to->mark = skb->mark;
	to->priority = skb->priority;
	/* A field at a time, the last 24 bytes would take longer than all before. */
	place = origin->offset | (u64)mbuf->len << 16;
	if (unlikely(tagged))
		place |= (u64)skb_vlan_tag_get(skb) << 32 | (u64)ntohs(skb->vlan_proto) << 48;
	*(u64 *)&to->offset = place;
	sum = 0;
	if (csum == 1)
		sum = (u16)(mac_len + skb_checksum_start_offset(skb)) | (u32)skb->csum_offset << 16;
	*(u64 *)&to->csum_start = sum;
	rest = (u64)csum << 8 | (u64)origin->direction << 16 | (u64)mbuf->flags << 24;
	if (unlikely(tagged))
		rest |= (u64)NETTAP_C_MBUF_VLAN << 24;
	if (skb_rx_queue_recorded(skb))
		rest |= (u64)skb_get_rx_queue(skb) << 32;
	*(u64 *)&to->gso_type = rest;
}

#define FOLLOWS(field, other) (offsetof(struct nettap_header, field) == offsetof(struct nettap_header, other) + \
			       sizeof(((struct nettap_header *)NULL)->other))
static_assert(IS_ENABLED(CONFIG_CPU_LITTLE_ENDIAN) || IS_ENABLED(CONFIG_X86));
static_assert(VIRTIO_NET_HDR_GSO_NONE == 0);
static_assert(FOLLOWS(len, offset) && FOLLOWS(vlan_tci, len) && FOLLOWS(vlan_proto, vlan_tci));
static_assert(FOLLOWS(csum_start, vlan_proto) && FOLLOWS(csum_offset, csum_start) &&
	      FOLLOWS(gso_size, csum_offset) && FOLLOWS(gso_hdr_len, gso_size));
static_assert(FOLLOWS(gso_type, gso_hdr_len) && FOLLOWS(csum, gso_type) && FOLLOWS(direction, csum) &&
	      FOLLOWS(flags, direction) && FOLLOWS(queue, flags) && FOLLOWS(reserved, queue));

static __always_inline void show_whole(const struct sk_buff *skb, u32 mac_len, u64 timestamp, u32 len,
				       const struct nettap_origin *origin, struct nettap_header *to)
{
	const struct nettap_mbuf mbuf = {
		.next = NETTAP_C_NO_MBUF,
		.packet_len = len,
		.len = len,
		.flags = unlikely(len < skb->len + mac_len) ? NETTAP_C_MBUF_SNAPPED : 0,
	};

	show(skb, mac_len, timestamp, &mbuf, origin, to);
}

/*
 * A packet with bytes in device memory, which no processor can read, is not captured, not even in part: a
 * program's changes could not be written back.
 *
 * The rare half of nettap_skb_capture(), and all that calls somebody: its caller has no registers to save. */
static noinline int capture_slowly(const struct sk_buff *skb, u32 mac_len, u32 len,
				   const struct nettap_origin *origin, struct nettap_header *to)
{
	const int err = is_capturable(skb) ?
			copy_out(skb, -(int)mac_len, (u8 *)to + origin->offset, len) : -EFAULT;
	u64 timestamp = stamp_of(skb);

	if (err)
		return err;
	if (!timestamp && origin->stamps)
		timestamp = ktime_get_real_ns();
	show_whole(skb, mac_len, timestamp, len, origin, to);
	if (skb_is_gso(skb))
		show_offload(skb, mac_len, to);
	return nature_of(skb);
}

/*
 * Fills an mbuf at `to` as its program sees it: the first bytes of the frame, so many, and the header. What the
 * packet is in NETTAP_C_PACKET_ bits, or an error.
 */
int nettap_skb_capture(const struct sk_buff *skb, u32 mac_len, u32 len,
		       const struct nettap_origin *origin, struct nettap_header *to)
{
	const u64 timestamp = stamp_of(skb);

	/* What lies before the packet's stand is in one piece with what lies behind. */
	if (unlikely((!timestamp && origin->stamps) || skb_is_gso(skb) || len < 32 ||
		     !is_captured_easily(skb) || (int)(len - mac_len) > (int)skb_headlen(skb)))
		return capture_slowly(skb, mac_len, len, origin, to);
	show_whole(skb, mac_len, timestamp, len, origin, to);
	copy_bytes((u8 *)to + origin->offset, skb->data - mac_len, len);
	return is_keepable(skb) ? NETTAP_C_PACKET_KEEPABLE : 0;
}

/* The same for one of several mbufs of a frame: its bytes from `from` on, and what `mbuf` says of it. */
int nettap_skb_capture_part(const struct sk_buff *skb, u32 mac_len, u32 from,
			    const struct nettap_mbuf *mbuf, const struct nettap_origin *origin,
			    struct nettap_header *to)
{
	const int err = is_capturable(skb) ?
			copy_out(skb, (int)(from - mac_len), (u8 *)to + origin->offset, mbuf->len) :
			-EFAULT;
	u64 timestamp = stamp_of(skb);

	if (err)
		return err;
	if (!timestamp && origin->stamps)
		timestamp = ktime_get_real_ns();
	show(skb, mac_len, timestamp, mbuf, origin, to);
	if (skb_is_gso(skb))
		show_offload(skb, mac_len, to);
	return nature_of(skb);
}

bool nettap_skb_is_gso(const struct sk_buff *skb)
{
	return skb_is_gso(skb);
}

/* Symmetric: an input and an output tap see both directions of a connection in one bucket. */
u32 nettap_skb_flow_hash(struct sk_buff *skb)
{
	return __skb_get_hash_symmetric(skb);
}

/*
 * Makes a packet safe to keep beyond the hook, as __nf_queue() does (net/netfilter/nf_queue.c):
 * nobody else may share it, its route must be counted, and an early-demultiplexed socket must be
 * held or let go. Of a received one, whose sender may be a program on this machine that waits for its
 * memory, the fragments are copied, as for a socket. A connection and a route of another namespace are left, and the send
 * buffer of a socket of the kernel's own, as netem does before it delays. NULL: no memory or a dead route, the packet is gone.
 */
struct sk_buff *nettap_skb_keep(struct sk_buff *skb, bool received)
{
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (!skb)
		return NULL;
	if (has_foreign_route(skb))
		skb_dst_drop(skb);
	if ((received && skb_orphan_frags_rx(skb, GFP_ATOMIC)) ||
	    (skb_dst(skb) && !skb_dst_force(skb))) {
		kfree_skb(skb);
		return NULL;
	}
	if (has_foreign_connection(skb))
		nf_reset_ct(skb);
	if (is_kernels_own(skb))
		skb_orphan_partial(skb);
#ifdef CONFIG_INET
	if (skb_sk_is_prefetched(skb)) {
		struct sock *sk = skb->sk;

		/* One that is counted holds its count already; of the others one must be taken. */
		if (!sk_is_refcounted(sk)) {
			if (refcount_inc_not_zero(&sk->sk_refcnt))
				skb->destructor = sock_edemux;
			else
				skb_orphan(skb);
		}
	}
#endif
	return skb;
}

/* Whether a packet's socket lives on for nothing but such packets: closed, given up, or no more than a request to connect. */
static bool is_past(const struct sock *sk)
{
	return !sk_fullsock(sk) || sock_flag(sk, SOCK_DEAD) || !refcount_read(&sk->sk_refcnt);
}

/*
 * A closed socket lives on, and its namespace with it, for as long as a packet counts in its send buffer, or has bytes that
 * its program lends: one that is held for long leaves it. Pieces of a super-packet have lent bytes and no socket.
 */
void nettap_skb_leave_closed(struct sk_buff *skb)
{
	const struct sock *sk = skb->sk;

	/* A decrypted packet is of use with its socket only; one that was looked up ahead holds what it will be given to. */
	if (sk && (!is_past(sk) || skb_is_decrypted(skb) || skb_sk_is_prefetched(skb)))
		return;
	/* Without memory it is tried again. */
	if (!skb_orphan_frags_rx(skb, GFP_ATOMIC | __GFP_NOWARN) && sk)
		skb_orphan(skb);
}

/* Takes a piece off its list and returns the rest. */
struct sk_buff *nettap_skb_unlink(struct sk_buff *skb)
{
	struct sk_buff *rest = skb->next;

	skb_mark_not_on_list(skb);
	return rest;
}

/*
 * The nth piece of a packet that IPsec is still to encrypt gets an account of its own, with its own number: the pieces
 * have one in common, from which the kernel takes numbers as it encrypts one after the other, and ours go their ways.
 */
static bool number_piece(struct sk_buff *piece, u32 nth)
{
#ifdef CONFIG_XFRM
	struct xfrm_offload *offload;
	u32 low;

	if (!xfrm_offload(piece))
		return true;
	if (!skb_ext_add(piece, SKB_EXT_SEC_PATH))
		return false;
	offload = xfrm_offload(piece);
	low = offload->seq.low;
	offload->seq.low += nth;
	if (offload->seq.low < low)
		offload->seq.hi++;
#endif
	return true;
}

/* Whether a member of a super-packet's list has more in one piece than the pieces that it is cut into. */
static bool has_long_member(const struct sk_buff *skb)
{
	const struct sk_buff *member;

	skb_walk_frags(skb, member) {
		if (skb_headlen(member) > skb_shinfo(skb)->gso_size)
			return true;
	}
	return false;
}

/*
 * Cuts a super-packet; the pieces hang on ->next and stand at the same header as the whole did. NULL:
 * it could not be cut; *damaged then says that it is not whole any more (skb_segment_list() takes its
 * list away before it can fail).
 */
struct sk_buff *nettap_skb_segment(struct sk_buff *skb, bool received, bool *damaged)
{
	const bool is_list = skb_shinfo(skb)->gso_type & SKB_GSO_FRAGLIST;
	const u32 mac_len = mac_len_of(skb, received);
	struct sk_buff *pieces, *piece;
	u32 nth = 0;

	/* As a whole or not at all: what is said of a port is said of all pieces at once, and taken back with the first. */
	if (!is_capturable(skb))
		return NULL;
	/* GRO before 7.3 makes what skb_segment() cannot cut. */
	if (!is_list && skb_shinfo(skb)->gso_size != GSO_BY_FRAGS && has_long_member(skb) && skb_linearize(skb))
		return NULL;
	__skb_push(skb, mac_len);
	pieces = __skb_gso_segment(skb, NETIF_F_SG, !received);
	if (IS_ERR_OR_NULL(pieces)) {
		__skb_pull(skb, mac_len);
		*damaged = is_list;
		return NULL;
	}
	/* The whole may be the first of the pieces (skb_segment_list()). */
	for (piece = pieces; piece; piece = piece->next) {
		if (likely(number_piece(piece, nth++)))
			continue;
		*damaged = is_list;
		if (pieces == skb) {
			pieces = nettap_skb_unlink(skb);
			/* As one of the pieces it was counted once more. */
			kfree_skb(skb);
		}
		kfree_skb_list(pieces);
		__skb_pull(skb, mac_len);
		return NULL;
	}
	for (piece = pieces; piece; piece = piece->next) {
		skb_reset_mac_header(piece);
		piece->mac_len = skb->mac_len;
		__skb_pull(piece, mac_len);
	}
	return pieces;
}

void nettap_skb_free(struct sk_buff *skb)
{
	kfree_skb(skb);
}

/* The control block is ours while we hold the packet. */
void nettap_skb_number(struct sk_buff *skb, u64 number)
{
	*(u64 *)skb->cb = number;
}

void nettap_skb_chain(struct sk_buff **list, struct sk_buff *skb)
{
	skb->next = *list;
	*list = skb;
}

static int by_number(void *unused, const struct list_head *a, const struct list_head *b)
{
	const u64 left = *(u64 *)list_entry(a, struct sk_buff, list)->cb;
	const u64 right = *(u64 *)list_entry(b, struct sk_buff, list)->cb;

	return left > right;
}

/* Orders a singly linked list of packets by their numbers. */
void nettap_skb_sort(struct sk_buff **list)
{
	struct sk_buff *skb, *rest;
	LIST_HEAD(head);

	for (skb = *list; skb; skb = rest) {
		rest = skb->next;
		list_add(&skb->list, &head);
	}
	list_sort(NULL, &head, by_number);
	*list = NULL;
	while (!list_empty(&head)) {
		skb = list_last_entry(&head, struct sk_buff, list);
		list_del_init(&skb->list);
		skb_mark_not_on_list(skb);
		skb->prev = NULL;
		nettap_skb_chain(list, skb);
	}
}

/* From here on the frame is changed with data at its mac header. */
void nettap_skb_at_mac(struct sk_buff *skb, bool received)
{
	__skb_push(skb, mac_len_of(skb, received));
}

/*
 * Moves the frame's ends: positive grows, negative shrinks. What grows comes first: a frame that moves
 * by more than its length would else have to shrink below nothing in between, which pskb_trim() takes
 * for no shrinking at all. Where IPsec is still to encrypt, it relies on the headers that it has laid out itself.
 */
int nettap_skb_resize(struct sk_buff *skb, int head, int tail)
{
	int err;

	if (xfrm_offload(skb))
		return -EINVAL;
	if (tail > 0) {
		err = skb_linearize(skb);
		if (!err && (skb_cloned(skb) || skb_tailroom(skb) < tail))
			err = pskb_expand_head(skb, 0, tail, GFP_ATOMIC);
		if (err)
			return err;
		skb_put_zero(skb, tail);
	}
	if (head > 0) {
		err = skb_cow_head(skb, head);
		if (err)
			return err;
		skb_push(skb, head);
	}
	if (tail < 0) {
		err = pskb_trim(skb, skb->len + tail);
		if (err)
			return err;
	}
	if (head < 0 && !pskb_pull(skb, -head))
		return -ENOMEM;
	/* What an XDP program has left stands before the place where the frame began. */
	if (head)
		skb_metadata_clear(skb);
	skb_reset_mac_header(skb);
	return 0;
}

static __always_inline bool is_plain(const struct sk_buff *skb)
{
	return !skb_is_nonlinear(skb) && !skb_cloned(skb);
}

/*
 * How many of the next `len` bytes can be written at once: the headers of a super-packet that is a list of its pieces
 * (nettap_skb_store()) by themselves.
 */
u32 nettap_skb_writable(const struct sk_buff *skb, u32 offset, u32 len)
{
	if (skb_shinfo(skb)->gso_size == GSO_BY_FRAGS && offset < skb_headlen(skb))
		return min(len, skb_headlen(skb) - offset);
	return len;
}

/* Whether all of it lies in one piece of memory that nobody else sees. */
bool nettap_skb_is_plain(const struct sk_buff *skb)
{
	return is_plain(skb);
}

/* Tags among the bytes that are followed at most, as everywhere in the kernel. */
#define VLAN_TAGS_MAX 8

/* A protocol that stands before this place of a packet, and behind tags among the bytes the one there; 0: it ends before. */
static __be16 behind_tags(struct sk_buff *skb, __be16 protocol, u32 *at)
{
	u32 tags;

	for (tags = 0; eth_type_vlan(protocol); tags++) {
		if (tags == VLAN_TAGS_MAX || !pskb_may_pull(skb, *at + VLAN_HLEN))
			return 0;
		protocol = ((const struct vlan_hdr *)(skb->data + *at))->h_vlan_encapsulated_proto;
		*at += VLAN_HLEN;
	}
	return protocol;
}

/* Writes into bytes that nobody else sees: unlike skb_store_bits(), never into shared fragments. */
static __always_inline int store(struct sk_buff *skb, u32 offset, const void *from, u32 len)
{
	const int err = skb_ensure_writable(skb, offset + len);

	if (!err)
		copy_bytes(skb->data + offset, from, len);
	return err;
}

/* Room for the types before IP's header and a tunnel's headers, with all of Geneve's options. */
#define FROZEN_MAX 400
/* The type of an Ethernet header, which may be a tag's. */
#define TYPE_OFFSET (2 * ETH_ALEN)

/*
 * The same into a tunnel's super-packet. -EMSGSIZE: it would be another tunnel's, or what leads to the inner packet longer or
 * shorter, and who unpacks it, or cuts it, would find that somewhere else. So what leads there stays: types and tags, version,
 * length and protocol of the outer IP header, and all between that and the inner one's. A sum of UDP's that is to be
 * computed covers the outer addresses, and may change as they do.
 */
static noinline int store_in_tunnel(struct sk_buff *skb, u32 offset, const void *from, u32 len)
{
	const int end = skb_inner_network_offset(skb);
	const u8 *after;
	u8 before[FROZEN_MAX];
	u32 at = ETH_HLEN, n, ip, between;
	__be16 network;
	int err;

	if (end < ETH_HLEN || end - TYPE_OFFSET > FROZEN_MAX || !pskb_may_pull(skb, end))
		return -EMSGSIZE;
	network = behind_tags(skb, *(const __be16 *)(skb->data + TYPE_OFFSET), &at);
	between = at + (network == htons(ETH_P_IPV6) ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	if ((network != htons(ETH_P_IP) && network != htons(ETH_P_IPV6)) || end < (int)between)
		return -EMSGSIZE;
	n = end - TYPE_OFFSET;
	memcpy(before, skb->data + TYPE_OFFSET, n);
	err = store(skb, offset, from, len);
	if (err)
		return err;
	after = skb->data + TYPE_OFFSET;
	ip = at - TYPE_OFFSET;
	between -= TYPE_OFFSET;
	if (network == htons(ETH_P_IP)) {
		if (before[ip] != after[ip] ||
		    before[ip + offsetof(struct iphdr, protocol)] != after[ip + offsetof(struct iphdr, protocol)])
			return -EMSGSIZE;
	} else if (before[ip] >> 4 != after[ip] >> 4 ||
		   before[ip + offsetof(struct ipv6hdr, nexthdr)] != after[ip + offsetof(struct ipv6hdr, nexthdr)]) {
		return -EMSGSIZE;
	}
	if (skb_shinfo(skb)->gso_type & SKB_GSO_UDP_TUNNEL_CSUM && n >= between + sizeof(struct udphdr))
		memcpy(before + between + offsetof(struct udphdr, check), after + between + offsetof(struct udphdr, check),
		       sizeof(__sum16));
	return memcmp(before, after, ip) || memcmp(before + between, after + between, n - between) ? -EMSGSIZE : 0;
}

/*
 * The same into any packet. -EMSGSIZE: the pieces of the super-packet are the members of its list, as SCTP makes them, and
 * moving their bytes to the front would take them away; or it is a tunnel's, and must keep these bytes.
 */
int nettap_skb_store(struct sk_buff *skb, u32 offset, const void *from, u32 len)
{
	if (skb_shinfo(skb)->gso_size == GSO_BY_FRAGS && offset + len > skb_headlen(skb))
		return -EMSGSIZE;
	/* Of IPsec's and SCTP's, which have their own answer (settle_sum()), the inner header's place is not always known. */
	if (unlikely(skb->encapsulation && skb_is_gso(skb) && !xfrm_offload(skb) &&
		     skb_shinfo(skb)->gso_size != GSO_BY_FRAGS))
		return store_in_tunnel(skb, offset, from, len);
	return store(skb, offset, from, len);
}

/* Where the network's header is behind tags, or the first of them is, if they do not end. */
static noinline u32 end_of_tags(struct sk_buff *skb)
{
	u32 at = ETH_HLEN;

	return behind_tags(skb, skb->protocol, &at) ? at : ETH_HLEN;
}

/* The network's header, of a frame that stands at its mac header: behind tags among the bytes, as senders' have it. */
static __always_inline void set_network(struct sk_buff *skb)
{
	skb_set_network_header(skb, unlikely(eth_type_vlan(skb->protocol)) ? end_of_tags(skb) : ETH_HLEN);
}

/* A sum begins behind the headers: the kernel takes its start for the transport header. */
#define CSUM_START_MIN (ETH_HLEN + sizeof(struct iphdr))

static void set_vlan(struct sk_buff *skb, const struct nettap_header *offload)
{
	__vlan_hwaccel_clear_tag(skb);
	if (offload->flags & NETTAP_C_MBUF_VLAN)
		__vlan_hwaccel_put_tag(skb, htons(offload->vlan_proto), offload->vlan_tci);
}

/* Whether a sum is still to be computed, and where, is what it was before the program had the packet. */
static __always_inline bool is_sum_kept(const struct sk_buff *skb, const struct nettap_header *offload)
{
	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return offload->csum != 1;
	return offload->csum == 1 && offload->csum_start == skb_checksum_start_offset(skb) &&
	       offload->csum_offset == skb->csum_offset;
}

/*
 * Whether a super-packet with a list can be cut whatever its headers say now (skb_segment()). The kernel comes from one member
 * to the next in the middle of a piece only where the first has bytes in pages, and the members theirs too; or it copies
 * them all, as it does where the first has too few before its pages. A member that has lost bytes to the headers ends where
 * nothing else does, and one with too many bytes in one piece cannot be cut at all.
 */
static bool is_list_cuttable(const struct sk_buff *skb)
{
	const struct skb_shared_info *whole = skb_shinfo(skb);
	const bool copies = skb_headlen(skb) < whole->gso_size;
	const struct sk_buff *member;

	/* Whose members are packets as they are, and may have lost their first bytes to headers that have become longer. */
	if (whole->gso_type & SKB_GSO_FRAGLIST)
		return false;
	skb_walk_frags(skb, member) {
		if (member->next && member->len % whole->gso_size)
			return false;
		if (skb_headlen(member) && (!whole->nr_frags || !(member->head_frag || copies)))
			return false;
	}
	return !has_long_member(skb);
}

static bool is_ip(__be16 protocol)
{
	return protocol == htons(ETH_P_IP) || protocol == htons(ETH_P_IPV6);
}

/* Where an IP header ends that begins here, with the options or headers that follow it, and what then follows; -1: nowhere. */
static int end_of_ip(struct sk_buff *skb, bool is_v6, u32 at, u8 *protocol)
{
	__be16 fragment;

	if (!pskb_may_pull(skb, at + (is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr))))
		return -1;
	if (!is_v6) {
		*protocol = ((const struct iphdr *)(skb->data + at))->protocol;
		return at + ((const struct iphdr *)(skb->data + at))->ihl * 4;
	}
	*protocol = ((const struct ipv6hdr *)(skb->data + at))->nexthdr;
	return ipv6_skip_exthdr(skb, at + sizeof(struct ipv6hdr), protocol, &fragment);
}

/* IP headers in each other that are followed at most (IP_TUNNEL_RECURSION_LIMIT). */
#define IP_HEADERS_MAX 5

/* Whether IP of this protocol number that begins here has no tunnel's header of GRE's inside, of which the kernel knows no place. */
static bool is_free_of_gre(struct sk_buff *skb, u8 protocol, int at)
{
	u32 headers;

	for (headers = 0; at >= 0 && headers < IP_HEADERS_MAX; headers++) {
		if (protocol != IPPROTO_IPIP && protocol != IPPROTO_IPV6)
			return protocol != IPPROTO_GRE;
		at = end_of_ip(skb, protocol == IPPROTO_IPV6, at, &protocol);
	}
	return false;
}

/* Whether an Ethernet tunnel that begins here carries IP, by its first type as by that before the inner network's header. */
static bool carries_ip(struct sk_buff *skb, int at)
{
	const int network = skb_inner_network_offset(skb);
	u32 from = at + ETH_HLEN;

	return network >= at + ETH_HLEN && pskb_may_pull(skb, network) &&
	       is_ip(*(const __be16 *)(skb->data + network - sizeof(__be16))) &&
	       is_ip(behind_tags(skb, *(const __be16 *)(skb->data + from - sizeof(__be16)), &from));
}

/*
 * Whether the kernel still comes from the outer headers of a tunnel's super-packet, the first of which begins here, to the
 * inner ones. It steps over the outer ones by what they say, and then to where the inner ones began when they were made
 * (gre_gso_segment(), __skb_udp_tunnel_segment()): there must be the tunnel's own header in between.
 */
static bool is_tunnel_whole(struct sk_buff *skb, bool is_v6, u32 at)
{
	const u32 kinds = skb_shinfo(skb)->gso_type;
	const int inner = skb_inner_mac_header(skb) - skb->data;
	u8 protocol;
	int end = end_of_ip(skb, is_v6, at, &protocol);

	if (end < 0)
		return false;
	if (kinds & (SKB_GSO_UDP_TUNNEL | SKB_GSO_UDP_TUNNEL_CSUM)) {
		if (protocol != IPPROTO_UDP || end + (int)sizeof(struct udphdr) > inner)
			return false;
	} else if (kinds & (SKB_GSO_GRE | SKB_GSO_GRE_CSUM)) {
		/* GRE in UDP is what no kernel cuts. */
		if (protocol == IPPROTO_UDP)
			return true;
		if (protocol != IPPROTO_GRE || end + (int)sizeof(struct gre_base_hdr) > inner)
			return false;
	} else {
		return kinds & (SKB_GSO_IPXIP4 | SKB_GSO_IPXIP6) &&
		       (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6) &&
		       end <= skb_inner_network_offset(skb) && is_free_of_gre(skb, protocol, end);
	}
	if (skb->inner_protocol_type != ENCAP_TYPE_ETHER || is_ip(skb->inner_protocol))
		return true;
	return skb->inner_protocol == htons(ETH_P_TEB) && carries_ip(skb, inner);
}

/* Whether an IP header, whose bytes lie here, says that the packet ends where it does. */
static bool is_as_long(const struct sk_buff *skb, bool is_v6, u32 at)
{
	if (is_v6)
		return sizeof(struct ipv6hdr) + ntohs(((const struct ipv6hdr *)(skb->data + at))->payload_len) == skb->len - at;
	return ntohs(((const struct iphdr *)(skb->data + at))->tot_len) == skb->len - at;
}

/*
 * Whether the headers of SCTP's super-packet, that of IP begins here, still end where its first bytes do, and it where it
 * ends: who receives it cuts off the rest. What follows the headers is cut by the list that it is, and sctp_gso_segment()
 * asks nothing: with headers that end before, or within the list, or a list that has gone, skb_segment() comes to a member
 * that is not there. Where a tunnel's inner headers end is not known.
 */
static bool is_sctp_whole(struct sk_buff *skb, bool is_v6, u32 at)
{
	u8 protocol;
	const int end = skb->encapsulation ? -1 : end_of_ip(skb, is_v6, at, &protocol);

	return end >= 0 && protocol == IPPROTO_SCTP && end + sizeof(struct sctphdr) == skb_headlen(skb) &&
	       is_as_long(skb, is_v6, at);
}

/*
 * Whether the innermost IP header still leads to what the pieces are cut as; without a tunnel it is the one that begins
 * here. As another tunnel's, the packet would be unpacked in one piece by whom it is for, and cut by headers that nobody
 * has looked at, or that follow each other without end (nsh_gso_segment()). `end` is where it leads to.
 */
static bool is_of_its_kind(struct sk_buff *skb, bool is_v6, int at, int *end)
{
	const u32 kinds = skb_shinfo(skb)->gso_type;
	u8 protocol;

	if (skb->encapsulation) {
		at = skb_inner_network_offset(skb);
		if (at < ETH_HLEN || !pskb_may_pull(skb, at + 1))
			return false;
		/* Who unpacks it takes no other for either version's. */
		is_v6 = skb->data[at] >> 4 == 6;
	}
	*end = end_of_ip(skb, is_v6, at, &protocol);
	if (*end < 0)
		return false;
	if (!kinds || kinds & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6))
		return protocol == IPPROTO_TCP;
	if (kinds & (SKB_GSO_UDP | SKB_GSO_UDP_L4))
		return protocol == IPPROTO_UDP;
	return kinds & SKB_GSO_SCTP && protocol == IPPROTO_SCTP;
}

/* Whether the sum of what is cut begins where its header does, which is the one that the kernel cuts by. */
static bool is_sum_at(const struct sk_buff *skb, int end)
{
	return skb->ip_summed != CHECKSUM_PARTIAL || skb_checksum_start_offset(skb) == end;
}

/*
 * Readies a super-packet, data at the mac header, for being cut after its bytes were changed. The kernel looks at the headers
 * of IP's by itself (SKB_GSO_DODGY) but for a tunnel's and SCTP's; other protocols' it follows without end (nsh_gso_segment()).
 * -EINVAL: it is none any more that can be cut. -ENOMEM.
 */
static noinline int ready_to_cut(struct sk_buff *skb)
{
	const bool by_list = skb_shinfo(skb)->gso_size == GSO_BY_FRAGS;
	__be16 network;
	bool is_v6;
	u32 at = ETH_HLEN;
	int end;

	network = behind_tags(skb, skb->protocol, &at);
	is_v6 = network == htons(ETH_P_IPV6);
	if (!is_ip(network) || (by_list && !is_sctp_whole(skb, is_v6, at)) ||
	    (skb->encapsulation && !is_tunnel_whole(skb, is_v6, at)) ||
	    !is_of_its_kind(skb, is_v6, at, &end) || !is_sum_at(skb, end))
		return -EINVAL;
	/* Behind the looks at headers, which may have taken bytes from the list. */
	if (skb_has_frag_list(skb) && !by_list && !is_list_cuttable(skb) && skb_linearize(skb))
		return -ENOMEM;
	/* What a card has put together for good has no kind, and is known by that and by its pages (skb_warn_if_lro()). */
	if (skb_shinfo(skb)->gso_type)
		skb_shinfo(skb)->gso_type |= SKB_GSO_DODGY;
	else if (!skb_is_nonlinear(skb))
		return -EINVAL;
	skb_shinfo(skb)->gso_segs = 0;
	return 0;
}

/* The state of its sum becomes what its header says. */
static __always_inline int settle_sum(struct sk_buff *skb, const struct nettap_header *offload, bool moved)
{
	const bool kept = is_sum_kept(skb, offload);

	/* The pieces are cut by it, or the encrypted packet is built by it; of both not even the pieces' number may change. */
	if (unlikely(skb_is_gso(skb)))
		return kept && !xfrm_offload(skb) ? ready_to_cut(skb) : -EINVAL;
	if (unlikely(xfrm_offload(skb)))
		return kept ? 0 : -EINVAL;
	/* In a tunnel a sum is the inner packet's, and the transport header the outer one's: both stay. */
	if (kept && !moved && offload->csum == 1)
		return pskb_may_pull(skb, (u32)offload->csum_start + offload->csum_offset + 2) ? 0 : -EINVAL;
	/* Otherwise it is no tunnel's any more, as far as anybody knows, and another sum is the Internet's, and not SCTP's. */
	skb->encapsulation = 0;
	if (!kept)
		skb_reset_csum_not_inet(skb);
	if (offload->csum == 1) {
		if (offload->csum_start < CSUM_START_MIN ||
		    !pskb_may_pull(skb, (u32)offload->csum_start + offload->csum_offset + 2))
			return -EINVAL;
		return skb_partial_csum_set(skb, offload->csum_start, offload->csum_offset) ? 0 : -EINVAL;
	}
	skb->ip_summed = offload->csum == 2 ? CHECKSUM_UNNECESSARY : CHECKSUM_NONE;
	skb->csum_level = 0;
	return 0;
}

/* Whether a card encrypts what its sender's connection sends, or the kernel in its place, which looks at each packet for that. */
static __always_inline bool is_encrypted_later(const struct sk_buff *skb)
{
	const struct sock *sk = skb->sk;

	if (likely(!sk) || skb_sk_is_prefetched((struct sk_buff *)skb))
		return false;
#ifdef CONFIG_SOCK_VALIDATE_XMIT
	if (sk_fullsock(sk) && READ_ONCE(sk->sk_validate_xmit_skb))
		return true;
#endif
	return skb_is_decrypted(skb);
}

/* Tags hide which protocol a frame is of, and a route is of one. */
static noinline void drop_strange_route(struct sk_buff *skb)
{
	u32 at = ETH_HLEN;
	const __be16 network = behind_tags(skb, skb->protocol, &at);
	const u16 family = network == htons(ETH_P_IP) ? AF_INET : network == htons(ETH_P_IPV6) ? AF_INET6 : AF_UNSPEC;

	if (skb_valid_dst(skb) && skb_dst(skb)->ops->family != family)
		skb_dst_drop(skb);
}

/*
 * Keeps the packet's own account honest after its bytes were changed, data at the mac header.
 * `moved` says that the frame no longer begins where it did. What a card is still to encrypt for its sender's
 * connection is not changed: that card, or the kernel in its place, takes its lengths from the headers. What one has
 * decrypted as it came is an ordinary packet.
 */
static __always_inline int settle(struct sk_buff *skb, const struct nettap_header *offload, bool moved)
{
	const struct ethhdr *eth;
	int err;

	if (unlikely(is_encrypted_later(skb)) || !pskb_may_pull(skb, ETH_HLEN))
		return -EINVAL;
	skb_reset_mac_header(skb);
	eth = eth_hdr(skb);
	if (unlikely(skb->protocol != eth->h_proto) && eth_proto_is_802_3(eth->h_proto)) {
		/* Who follows a route believes that it is of the packet's protocol (bpf_skb_change_proto()). */
		if (skb_valid_dst(skb))
			skb_dst_drop(skb);
		skb->protocol = eth->h_proto;
	} else if (unlikely(eth_type_vlan(skb->protocol))) {
		drop_strange_route(skb);
	}
	/* Also where the frame ends before the place that it had. IPsec's, which cannot, is encrypted by that place. */
	if (likely(!xfrm_offload(skb)))
		set_network(skb);
	if (moved)
		skb_reset_mac_len(skb);

	skb->csum_valid = 0;
	err = settle_sum(skb, offload, moved);
	if (err)
		return err;
	skb_clear_hash(skb);
	set_vlan(skb, offload);
	skb->mark = offload->mark;
	skb->priority = offload->priority;
	return 0;
}

int nettap_skb_settle(struct sk_buff *skb, const struct nettap_header *offload, bool moved)
{
	return settle(skb, offload, moved);
}

static __always_inline void at_network(struct sk_buff *skb, struct net_device *dev)
{
	/*
	 * What was looked up for the packet as it came need not fit what it is now. On loopback, and on a VRF
	 * for its own, it is the sender's route, without which the input path refuses local sources.
	 */
	if (skb_valid_dst(skb) && !(dev->flags & IFF_LOOPBACK) && !netif_is_l3_master(dev))
		skb_dst_drop(skb);
	if (skb_sk_is_prefetched(skb))
		skb_orphan(skb);
	skb->pkt_type = PACKET_HOST;
	skb->protocol = eth_type_trans(skb, dev);
#if IS_ENABLED(CONFIG_VLAN_8021Q)
	/* A VLAN's interface that leaves the tag among the bytes has taken it off already (vlan_do_receive()). */
	if (unlikely(is_vlan_dev(dev)) && !(vlan_dev_priv(dev)->flags & VLAN_FLAG_REORDER_HDR) &&
	    eth_type_vlan(skb->protocol) && pskb_may_pull(skb, VLAN_HLEN)) {
		vlan_set_encap_proto(skb, (struct vlan_hdr *)skb->data);
		__skb_pull(skb, VLAN_HLEN);
	}
#endif
	skb_reset_network_header(skb);
	if (!skb_transport_header_was_set(skb))
		skb_reset_transport_header(skb);
	skb_reset_mac_len(skb);
}

/* A frame at its mac header becomes one that was received on dev. */
void nettap_skb_at_network(struct sk_buff *skb, struct net_device *dev)
{
	at_network(skb, dev);
}

/*
 * nettap_skb_at_mac(), _store(), _settle() and, for a received packet, _at_network() in one, for a packet at its stand that
 * gets other bytes, `len` of them, an Ethernet header at least. -EAGAIN: it is a super-packet, does not lie in one piece
 * that nobody else sees, or is not so long; then it is as it was.
 */
int nettap_skb_change(struct sk_buff *skb, bool received, const struct nettap_header *offload,
		      const void *from, u32 len, struct net_device *dev)
{
	const u32 mac_len = mac_len_of(skb, received);
	int err;

	if (unlikely(!is_plain(skb) || skb_is_gso(skb) || len > skb->len + mac_len))
		return -EAGAIN;
	__skb_push(skb, mac_len);
	copy_bytes(skb->data, from, len);
	err = settle(skb, offload, false);
	if (!err && received)
		at_network(skb, dev);
	return err;
}

static __always_inline u32 room_of(const struct net_device *dev)
{
	return LL_RESERVED_SPACE(dev) + NET_IP_ALIGN;
}

/* So many bytes of a frame lie in one piece at most. */
static __always_inline u32 linear_of(u32 room, u32 len)
{
	return min_t(u32, len, SKB_WITH_OVERHEAD(PAGE_SIZE) - room);
}

/* Bottom halves are off, so the heads that the NAPIs of this CPU keep are ours too. */
static __always_inline struct sk_buff *new_linear(struct net_device *dev, u32 room, u32 len)
{
	struct sk_buff *skb = __alloc_skb(len + room, GFP_ATOMIC, SKB_ALLOC_NAPI, NUMA_NO_NODE);

	if (unlikely(!skb))
		return NULL;
	skb_reserve(skb, room);
	__skb_put(skb, len);
	skb->dev = dev;
	return skb;
}

static noinline struct sk_buff *new_in_fragments(struct net_device *dev, u32 room, u32 len)
{
	const u32 linear = linear_of(room, len);
	struct sk_buff *skb;
	int err;

	skb = alloc_skb_with_frags(linear + room, len - linear, PAGE_ALLOC_COSTLY_ORDER, &err,
				   GFP_ATOMIC);
	if (!skb)
		return NULL;
	skb_reserve(skb, room);
	__skb_put(skb, linear);
	skb->data_len = len - linear;
	skb->len += len - linear;
	skb->dev = dev;
	return skb;
}

/* A frame of our own, its bytes not written yet, nor where its headers are; long ones get fragments, none is shared. */
struct sk_buff *nettap_skb_new(struct net_device *dev, u32 len)
{
	const u32 room = room_of(dev);

	return linear_of(room, len) == len ? new_linear(dev, room, len) : new_in_fragments(dev, room, len);
}

/* The bytes of a new frame, none of whose memory is shared. */
int nettap_skb_fill(struct sk_buff *skb, u32 offset, const void *from, u32 len)
{
	if (unlikely(offset + len > skb_headlen(skb)))
		return skb_store_bits(skb, offset, from, len);
	copy_bytes(skb->data + offset, from, len);
	return 0;
}

/* Packets that a new super-packet is cut into at most: a UDP datagram can be as many fragments as it has bytes. */
#define PIECES_MAX 1024

/*
 * Whether a new super-packet is what its kind says, and no more work than it should be. Its headers must lead to where it
 * says that they do: up to there they are a copy, and behind there may be memory that a program goes on writing.
 */
static bool is_sound(struct sk_buff *skb, u8 kind)
{
	u32 at = ETH_HLEN;
	const __be16 network = behind_tags(skb, skb->protocol, &at);
	int end;

	return skb->len / skb_shinfo(skb)->gso_size <= PIECES_MAX && virtio_net_hdr_match_proto(network, kind) &&
	       is_of_its_kind(skb, network == htons(ETH_P_IPV6), at, &end) && end == skb_transport_offset(skb);
}

/* The kernel's own check of what a program says of checksum and segmentation, and what it leaves out. */
static noinline int offload_to_skb(struct sk_buff *skb, const struct nettap_header *offload)
{
	const struct virtio_net_hdr hdr = {
		.flags = offload->csum == 1 ? VIRTIO_NET_HDR_F_NEEDS_CSUM :
			 offload->csum == 2 ? VIRTIO_NET_HDR_F_DATA_VALID : 0,
		.gso_type = offload->gso_type,
		.hdr_len = (__force __virtio16)cpu_to_le16(offload->gso_hdr_len),
		.gso_size = (__force __virtio16)cpu_to_le16(offload->gso_size),
		.csum_start = (__force __virtio16)cpu_to_le16(offload->csum_start),
		.csum_offset = (__force __virtio16)cpu_to_le16(offload->csum_offset),
	};
	int err;

	if (offload->csum == 1 && offload->csum_start < CSUM_START_MIN)
		return -EINVAL;
	err = virtio_net_hdr_to_skb(skb, &hdr, true);
	if (err)
		return err;
	if (skb_is_gso(skb) && !is_sound(skb, hdr.gso_type))
		return -EINVAL;
	if (offload->csum == 2)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	return 0;
}

/* A new packet stands as on a packet that comes from a wire; who cuts it wants to know where it does. */
static noinline void find_transport_header(struct sk_buff *skb)
{
	if (skb_is_gso(skb))
		skb_probe_transport_header(skb);
	else if (!skb_transport_header_was_set(skb))
		skb_set_transport_header(skb, ETH_HLEN);
}

/* An Ethernet header lies at the data. */
static __always_inline int apply_offload(struct sk_buff *skb, const struct nettap_header *offload)
{
	const struct ethhdr *eth;
	int err;

	skb_reset_mac_header(skb);
	eth = eth_hdr(skb);
	skb->protocol = eth_proto_is_802_3(eth->h_proto) ? eth->h_proto : htons(ETH_P_802_2);
	skb->mac_len = ETH_HLEN;
	/* Nearly always it says nothing of either. */
	if (offload->csum || offload->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		skb_set_network_header(skb, ETH_HLEN);
		err = offload_to_skb(skb, offload);
		if (err)
			return err;
		find_transport_header(skb);
	} else {
		skb_set_transport_header(skb, ETH_HLEN);
	}
	/* Who looked for the headers has stepped over tags from there. */
	set_network(skb);
	if (unlikely(offload->flags & NETTAP_C_MBUF_VLAN))
		set_vlan(skb, offload);
	skb->mark = offload->mark;
	skb->priority = offload->priority;
	return 0;
}

/* Checks and applies what a new packet's header says of its checksum and segmentation. */
int nettap_skb_offload(struct sk_buff *skb, const struct nettap_header *offload)
{
	return pskb_may_pull(skb, ETH_HLEN) ? apply_offload(skb, offload) : -EINVAL;
}

/* Of a super-packet the pieces must fit. */
static __always_inline bool dev_fits(const struct net_device *dev, const struct sk_buff *skb)
{
	const u32 mtu = READ_ONCE(dev->mtu), max = mtu + dev->hard_header_len + VLAN_HLEN;

	if (likely(!skb_is_gso(skb)))
		return skb->len <= max;
	if (skb->encapsulation)
		return skb_shinfo(skb)->gso_size <= mtu;
	return skb_gso_validate_mac_len(skb, max);
}

/* Whether the interface can carry the frame that stands at its mac header. */
bool nettap_dev_fits(struct net_device *dev, struct sk_buff *skb)
{
	return dev_fits(dev, skb);
}

static noinline struct sk_buff *refuse_new(struct sk_buff *skb, int err)
{
	kfree_skb(skb);
	return ERR_PTR(err);
}

/*
 * nettap_skb_new(), _fill(), _offload() and nettap_dev_fits() in one, for a frame of an Ethernet header at least, whose
 * `len` bytes lie at `from`. -ENOMEM; -EINVAL: what `offload` says cannot be; -EMSGSIZE: too long for dev, if it
 * `leaves` by it.
 */
struct sk_buff *nettap_skb_make(struct net_device *dev, const struct nettap_header *offload,
				const void *from, u32 len, bool leaves)
{
	const u32 room = room_of(dev);
	struct sk_buff *skb;
	int err;

	if (unlikely(linear_of(room, len) != len)) {
		skb = new_in_fragments(dev, room, len);
		if (!skb)
			return ERR_PTR(-ENOMEM);
		err = skb_store_bits(skb, 0, from, len);
		if (err)
			return refuse_new(skb, -ENOMEM);
		/* An interface may want so much room that not even the header lies in one piece. */
		err = nettap_skb_offload(skb, offload);
	} else {
		skb = new_linear(dev, room, len);
		if (unlikely(!skb))
			return ERR_PTR(-ENOMEM);
		copy_bytes(skb->data, from, len);
		err = apply_offload(skb, offload);
	}
	if (unlikely(err))
		return refuse_new(skb, -EINVAL);
	if (leaves && unlikely(!dev_fits(dev, skb)))
		return refuse_new(skb, -EMSGSIZE);
	return skb;
}

/* Whether the card that it was going to encrypts it as a whole, which only its route says; IPsec's says nothing. */
static bool is_secret(const struct sk_buff *skb)
{
	const struct metadata_dst *md_dst = skb_metadata_dst((struct sk_buff *)skb);

	return md_dst && md_dst->type == METADATA_MACSEC;
}

/*
 * A kept packet leaves through another interface: what a bridge does (br_dev_queue_push_xmit()). Whether that can carry
 * it: it cannot cut what a card has put together for good (skb_warn_if_lro()).
 */
bool nettap_skb_cross_to_output(struct sk_buff *skb, struct net_device *dev, bool received)
{
	if (received) {
		if (unlikely(!skb_transport_header_was_set(skb)))
			skb_reset_transport_header(skb);
		__skb_push(skb, skb->data - skb_mac_header(skb));
		if (unlikely(eth_type_vlan(skb->protocol)))
			set_network(skb);
		skb_orphan(skb);
		skb_forward_csum(skb);
		skb_clear_tstamp(skb);
	}
	if (unlikely(!received && is_secret(skb)))
		return false;
	skb_dst_drop(skb);
	nf_reset_ct(skb);
	if (!net_eq(dev_net(skb->dev), dev_net(dev)))
		skb_scrub_packet(skb, true);
	skb->dev = dev;
	return dev_fits(dev, skb) && !(skb_is_gso(skb) && !skb_shinfo(skb)->gso_type);
}

/*
 * A kept packet enters the host as if received on dev: what dev_forward_skb() does. Whether it can: what is still to be
 * encrypted on its way out would be read as it is.
 */
bool nettap_skb_cross_to_input(struct sk_buff *skb, struct net_device *dev, bool received)
{
	if (received)
		__skb_push(skb, skb->data - skb_mac_header(skb));
	else if (unlikely(is_encrypted_later(skb) || xfrm_offload(skb) || is_secret(skb)))
		return false;
	else
		skb_reset_mac_header(skb);
	skb_orphan(skb);
	skb_scrub_packet(skb, true);
	skb->priority = 0;
	/* The queue was one of another interface, which may have more of them. */
	skb_set_queue_mapping(skb, 0);
	nettap_skb_at_network(skb, dev);
	/* One that was received, sent on, and summed up by a card, has in that what lies before the network layer's. */
	if (!received)
		skb_postpull_rcsum(skb, skb_mac_header(skb), skb->data - skb_mac_header(skb));
	return true;
}

/*
 * Into the host, past our own hook: tc_skip_classify takes the packet to the place right behind the
 * ingress hooks (__netif_receive_skb_core(), skip_classify). `redirected` keeps generic XDP, which
 * stands before, from seeing it twice; what another hook has said by it ends behind the ingress hooks. The
 * interface may have fewer queues than when it came.
 */
static __always_inline void ready_for_input(struct sk_buff *skb)
{
	const struct net_device *dev = skb->dev;

	skb->redirected = !!rcu_access_pointer(dev->xdp_prog);
	if (skb_rx_queue_recorded(skb) &&
	    unlikely(skb_get_rx_queue(skb) >= READ_ONCE(dev->real_num_rx_queues)))
		skb_set_queue_mapping(skb, 0);
	skb->tc_skip_classify = 1;
}

bool nettap_deliver_input(struct sk_buff *skb)
{
	if (!netif_running(skb->dev)) {
		kfree_skb(skb);
		return false;
	}
	ready_for_input(skb);
	return netif_receive_skb(skb) == NET_RX_SUCCESS;
}

/* The same for a list linked by ->next; those whose interface is down come back. */
struct sk_buff *nettap_deliver_input_all(struct sk_buff *list)
{
	struct sk_buff *skb, *rest, *down = NULL, **end = &down;
	struct list_head up, *last = &up;

	/* A list takes longer than one packet by itself. */
	if (!list->next && netif_running(list->dev)) {
		nettap_deliver_input(list);
		return NULL;
	}
	for (skb = list; skb; skb = rest) {
		rest = skb->next;
		skb_mark_not_on_list(skb);
		if (unlikely(!netif_running(skb->dev))) {
			*end = skb;
			end = &skb->next;
			continue;
		}
		ready_for_input(skb);
		last->next = &skb->list;
		skb->list.prev = last;
		last = &skb->list;
	}
	last->next = &up;
	up.prev = last;
	netif_receive_skb_list(&up);
	return down;
}

/* A list linked by ->next. With a NAPI's budget their heads are kept for the packets that come next. */
void nettap_skb_free_all(struct sk_buff *list, int budget)
{
	struct sk_buff *skb, *rest;

	for (skb = list; skb; skb = rest) {
		rest = skb->next;
		skb_mark_not_on_list(skb);
		napi_consume_skb(skb, budget);
	}
}

/* Out of the interface, past our own hook (__dev_queue_xmit(), nf_skip_egress). */
bool nettap_deliver_output(struct sk_buff *skb)
{
	int ret;

	nf_skip_egress(skb, true);
	ret = dev_queue_xmit(skb);
	return net_xmit_eval(ret) == NET_XMIT_SUCCESS;
}

/*
 * The same for a list linked by ->next, up to the first that was not taken: its number (queue.rs) goes to *lost, and the
 * others stay in the list. False: all were taken.
 */
bool nettap_deliver_output_all(struct sk_buff **list, u32 *lost)
{
	struct sk_buff *skb;

	while ((skb = *list)) {
		*lost = *(u32 *)skb->cb;
		*list = skb->next;
		skb_mark_not_on_list(skb);
		if (unlikely(!nettap_deliver_output(skb)))
			return true;
	}
	return false;
}
