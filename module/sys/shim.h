/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the Rust side borrows from C: static inlines, macros, bit fields and functions that the
 * kernel crate does not bind. Only plain integers and opaque pointers cross, so no layout of a
 * kernel structure is known twice. bindgen reads this file; nothing else of C is seen by Rust.
 */
#ifndef NETTAP_SHIM_H
#define NETTAP_SHIM_H

#include <linux/types.h>

struct sk_buff;
struct bpf_prog;
struct net_device;
struct net;
struct file;
struct vm_area_struct;
struct vm_fault;
struct page;
struct poll_table_struct;
struct file_operations;
struct nf_hook_state;
struct nettap_server;
struct nettap_sleepers;
struct nettap_later;
struct nettap_hook;

/* ---- packets ---- */

/* What a captured packet is, beside its bytes. */
#define NETTAP_C_PACKET_GSO 1
/* It can be kept beyond the hook as it is. */
#define NETTAP_C_PACKET_KEEPABLE 2

/* MBUF_VLAN of uapi/src/mbuf.rs. */
#define NETTAP_C_MBUF_VLAN 1
/* MBUF_SNAPPED. */
#define NETTAP_C_MBUF_SNAPPED 2
/* NO_MBUF. */
#define NETTAP_C_NO_MBUF 0xffffffff

/* The mbuf header of uapi/src/mbuf.rs, field by field; skb.rs compares the two. */
struct nettap_header {
	u64 timestamp;
	u32 holder;
	u32 next;
	u32 packet_len;
	u32 wire_len;
	u32 ifindex;
	u32 hash;
	u32 mark;
	u32 priority;
	u16 offset;
	u16 len;
	u16 vlan_tci;
	u16 vlan_proto;
	u16 csum_start;
	u16 csum_offset;
	u16 gso_size;
	u16 gso_hdr_len;
	u8 gso_type;
	u8 csum;
	u8 direction;
	u8 flags;
	u16 queue;
	u16 reserved;
};

/* What the headers of all packets of a tap have in common. */
struct nettap_origin {
	u32 holder;
	u32 ifindex;
	u16 offset;
	u8 direction;
	/* Whether a packet that brings no time stamp gets one. */
	u8 stamps;
};

/* What a header says of the mbuf itself, and how much of the frame is in it. */
struct nettap_mbuf {
	u32 next;
	u32 packet_len;
	u16 len;
	u8 flags;
	u8 pad;
};

int nettap_skb_capture(const struct sk_buff *skb, u32 mac_len, u32 len,
		       const struct nettap_origin *origin, struct nettap_header *to);
int nettap_skb_capture_part(const struct sk_buff *skb, u32 mac_len, u32 from,
			    const struct nettap_mbuf *mbuf, const struct nettap_origin *origin,
			    struct nettap_header *to);
bool nettap_skb_is_gso(const struct sk_buff *skb);
u32 nettap_skb_flow_hash(struct sk_buff *skb);
struct sk_buff *nettap_skb_keep(struct sk_buff *skb, bool received);
void nettap_skb_leave_closed(struct sk_buff *skb);
struct sk_buff *nettap_skb_segment(struct sk_buff *skb, bool received, bool *damaged);
struct sk_buff *nettap_skb_unlink(struct sk_buff *skb);
void nettap_skb_free(struct sk_buff *skb);
void nettap_skb_number(struct sk_buff *skb, u64 number);
void nettap_skb_chain(struct sk_buff **list, struct sk_buff *skb);
void nettap_skb_sort(struct sk_buff **list);
int nettap_skb_copy_out(const struct sk_buff *skb, int offset, void *to, int len);

void nettap_skb_at_mac(struct sk_buff *skb, bool received);
int nettap_skb_resize(struct sk_buff *skb, int head, int tail);
u32 nettap_skb_writable(const struct sk_buff *skb, u32 offset, u32 len);
bool nettap_skb_is_plain(const struct sk_buff *skb);
int nettap_skb_store(struct sk_buff *skb, u32 offset, const void *from, u32 len);
int nettap_skb_settle(struct sk_buff *skb, const struct nettap_header *offload, bool moved);
void nettap_skb_at_network(struct sk_buff *skb, struct net_device *dev);
int nettap_skb_change(struct sk_buff *skb, bool received, const struct nettap_header *offload,
		      const void *from, u32 len, struct net_device *dev);
struct sk_buff *nettap_skb_new(struct net_device *dev, u32 len);
struct sk_buff *nettap_skb_make(struct net_device *dev, const struct nettap_header *offload,
				const void *from, u32 len, bool leaves);
int nettap_skb_fill(struct sk_buff *skb, u32 offset, const void *from, u32 len);
int nettap_skb_attach(struct sk_buff *skb, struct page *page, u32 offset, u32 len);
int nettap_skb_offload(struct sk_buff *skb, const struct nettap_header *offload);

bool nettap_dev_fits(struct net_device *dev, struct sk_buff *skb);
bool nettap_skb_cross_to_output(struct sk_buff *skb, struct net_device *dev, bool received);
bool nettap_skb_cross_to_input(struct sk_buff *skb, struct net_device *dev, bool received);
bool nettap_deliver_input(struct sk_buff *skb);
bool nettap_deliver_output(struct sk_buff *skb);
bool nettap_deliver_output_all(struct sk_buff **list, u32 *lost);
struct sk_buff *nettap_deliver_input_all(struct sk_buff *list);
void nettap_skb_free_all(struct sk_buff *list, int budget);

/* ---- packets by reference ---- */

struct nettap_sender *nettap_sender_new(void);
typedef void (*nettap_let_go_fn)(void *kept);
void nettap_sender_put(struct nettap_sender *sender, void *kept, nettap_let_go_fn let_go);
bool nettap_sender_send(struct nettap_sender *sender, struct sk_buff *skb, u32 name);
bool nettap_sender_done(struct nettap_sender *sender, u32 *name);

/* ---- filters ---- */

struct bpf_prog *nettap_filter_classic(u64 address, u16 count);
struct bpf_prog *nettap_filter_ebpf(u32 fd);
void nettap_filter_put(struct bpf_prog *prog);
bool nettap_filter_same(const struct bpf_prog *a, const struct bpf_prog *b);
u32 nettap_filter_run(const struct bpf_prog *prog, struct sk_buff *skb, bool received);

/* ---- interfaces ---- */

struct net *nettap_net_get(int fd);
void nettap_net_put(struct net *net);
bool nettap_net_capable(struct net *net);
bool nettap_capable(void);
u32 nettap_net_inum(struct net *net);
struct net_device *nettap_dev_get(struct net *net, const char *name);
void nettap_dev_put(struct net_device *dev);
struct net *nettap_dev_net(struct net_device *dev);
u32 nettap_dev_ifindex(const struct net_device *dev);
bool nettap_dev_is_ethernet(const struct net_device *dev);
void nettap_dev_name(const struct net_device *dev, char *to);
void nettap_rtnl_lock(void);
void nettap_rtnl_unlock(void);
void nettap_synchronize_net(void);

typedef void (*nettap_gone_fn)(void *listener, struct net_device *dev);
int nettap_notifier_register(nettap_gone_fn gone, void *listener);
void nettap_notifier_unregister(void);

typedef unsigned int (*nettap_hook_fn)(void *owner, struct sk_buff *skb,
				       const struct nf_hook_state *state);
struct nettap_hook *nettap_hook_attach(struct net_device *dev, bool received,
				       nettap_hook_fn fn, void *owner);
void nettap_hook_unregister(struct nettap_hook *hook);
void nettap_hook_free(struct nettap_hook *hook);

/* ---- the server: NAPI, timer, thread ---- */

typedef int (*nettap_poll_fn)(void *owner, int budget);
typedef void (*nettap_deferred_fn)(void *owner);
struct nettap_server *nettap_server_new(u32 name, nettap_poll_fn poll,
					nettap_deferred_fn deferred);
void nettap_server_start(struct nettap_server *server, void *owner);
void nettap_server_stop(struct nettap_server *server);
void nettap_server_pause(struct nettap_server *server);
void nettap_server_settle(struct nettap_server *server);
bool nettap_server_is_armed(const struct nettap_server *server);
void nettap_server_resume(struct nettap_server *server);
int nettap_server_set_busy(struct nettap_server *server, bool busy);
struct pid *nettap_server_thread(struct nettap_server *server);
void nettap_server_free(struct nettap_server *server);
void nettap_server_schedule(struct nettap_server *server, bool urgent);
bool nettap_server_complete(struct nettap_server *server, int work);
int nettap_put_off_start(void);
void nettap_put_off_stop(void);
void nettap_server_defer(struct nettap_server *server);
void nettap_server_arm(struct nettap_server *server, u64 ns);

/* ---- sleepers ---- */

typedef bool (*nettap_condition_fn)(void *owner);
struct nettap_sleepers *nettap_sleepers_new(void);
void nettap_sleepers_free(struct nettap_sleepers *sleepers);
bool nettap_sleepers_wake(struct nettap_sleepers *sleepers, u32 events);
int nettap_sleepers_wait(struct nettap_sleepers *sleepers, nettap_condition_fn condition,
			 void *owner, u64 ns);
u32 nettap_poll_asked(const struct poll_table_struct *table);
void nettap_sleepers_poll_wait(struct nettap_sleepers *sleepers, struct file *file,
			       struct poll_table_struct *table);

/* ---- clocks, work for later, the log ---- */

u64 nettap_realtime_ns(void);
u64 nettap_monotonic_ns(void);
bool nettap_may_log(void);

typedef void (*nettap_later_fn)(void *owner);
struct nettap_later *nettap_later_new(void);
void nettap_later_start(struct nettap_later *later, nettap_later_fn fn, void *owner);
void nettap_later_stop(struct nettap_later *later);
void nettap_later_ask(struct nettap_later *later, u64 ns);
void nettap_later_free(struct nettap_later *later);

/* ---- memory, files, contexts ---- */

struct nettap_pin {
	void *user;
	u64 pages;
};
int nettap_pin_charge(struct nettap_pin *pin, u64 bytes);
void nettap_pin_release(struct nettap_pin *pin);

u64 nettap_pages_available(void);
struct page *nettap_page_new(void);
u32 nettap_block_pages(void);
struct page *nettap_block_new(void);
void nettap_page_put(struct page *page);
void *nettap_blocks_linear(struct page **blocks, u32 count);
void *nettap_vmap(struct page **pages, unsigned int count);
void nettap_vunmap(void *address);
u64 nettap_vma_offset(const struct vm_area_struct *vma);
u64 nettap_vma_length(const struct vm_area_struct *vma);
bool nettap_vma_is_shared(const struct vm_area_struct *vma);
bool nettap_vma_is_writable(const struct vm_area_struct *vma);
int nettap_vma_map(struct vm_area_struct *vma, struct page **pages, u64 count, bool writable);
void nettap_vma_map_later(struct vm_area_struct *vma);
unsigned long nettap_unmapped_area(struct file *file, unsigned long address, unsigned long length,
				   unsigned long offset, unsigned long flags);
void *nettap_fault_private(const struct vm_fault *fault);
u64 nettap_fault_offset(const struct vm_fault *fault);
u32 nettap_fault_page(struct vm_fault *fault, struct page *page);
u32 nettap_fault_block(struct vm_fault *fault, u32 order, struct page *page);

struct file *nettap_anon_file(const char *name, const struct file_operations *fops, void *private);
void *nettap_file_private(struct file *file, const struct file_operations *fops);
void nettap_fput(struct file *file);
struct file *nettap_fget(int fd);

void nettap_full_barrier(void);
void nettap_bh_disable(void);
void nettap_bh_enable(void);
bool nettap_bh_is_off(void);
void nettap_cond_resched(void);
u32 nettap_current_tgid(void);
struct pid *nettap_current_process(void);
u32 nettap_process_seen(struct pid *pid);
void nettap_process_put(struct pid *pid);
bool nettap_current_exits(void);
void nettap_current_comm(char *to);
void nettap_current_ids(u32 *user, u32 *group);
bool nettap_current_in_group(u32 group);

#endif
