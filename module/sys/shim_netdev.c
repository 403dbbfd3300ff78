// SPDX-License-Identifier: GPL-2.0-only
/* The C end of the fence: interfaces, namespaces, hooks on interfaces. */

#include <linux/capability.h>
#include <linux/if_arp.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/nsproxy.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/net_namespace.h>

#include "shim.h"

struct net *nettap_net_get(int fd)
{
	return fd < 0 ? get_net(current->nsproxy->net_ns) : get_net_ns_by_fd(fd);
}

void nettap_net_put(struct net *net)
{
	put_net(net);
}

bool nettap_net_capable(struct net *net)
{
	return ns_capable(net->user_ns, CAP_NET_ADMIN);
}

bool nettap_capable(void)
{
	return capable(CAP_NET_ADMIN);
}

u32 nettap_net_inum(struct net *net)
{
	return net->ns.inum;
}

struct net_device *nettap_dev_get(struct net *net, const char *name)
{
	return dev_get_by_name(net, name);
}

void nettap_dev_put(struct net_device *dev)
{
	dev_put(dev);
}

struct net *nettap_dev_net(struct net_device *dev)
{
	return dev_net(dev);
}

u32 nettap_dev_ifindex(const struct net_device *dev)
{
	return dev->ifindex;
}

bool nettap_dev_is_ethernet(const struct net_device *dev)
{
	return (dev->type == ARPHRD_ETHER || dev->type == ARPHRD_LOOPBACK) &&
	       dev->hard_header_len >= ETH_HLEN && dev->addr_len == ETH_ALEN;
}

void nettap_dev_name(const struct net_device *dev, char *to)
{
	strscpy(to, dev->name, IFNAMSIZ);
}

void nettap_rtnl_lock(void)
{
	rtnl_lock();
}

void nettap_rtnl_unlock(void)
{
	rtnl_unlock();
}

void nettap_synchronize_net(void)
{
	synchronize_net();
}

static nettap_gone_fn gone_fn;
static void *gone_listener;

static int on_event(struct notifier_block *unused, unsigned long event, void *info)
{
	/* A bond or a team becomes another kind of interface by its first port. */
	if (event == NETDEV_UNREGISTER || event == NETDEV_PRE_TYPE_CHANGE)
		gone_fn(gone_listener, netdev_notifier_info_to_dev(info));
	return NOTIFY_DONE;
}

static struct notifier_block notifier = { .notifier_call = on_event };

int nettap_notifier_register(nettap_gone_fn gone, void *listener)
{
	gone_listener = listener;
	gone_fn = gone;
	return register_netdevice_notifier(&notifier);
}

void nettap_notifier_unregister(void)
{
	unregister_netdevice_notifier(&notifier);
}

struct nettap_hook {
	struct nf_hook_ops ops;
	struct net *net;
};

struct nettap_hook *nettap_hook_attach(struct net_device *dev, bool received,
				       nettap_hook_fn fn, void *owner)
{
	struct nettap_hook *hook = kzalloc(sizeof(*hook), GFP_KERNEL_ACCOUNT);
	int err;

	if (!hook)
		return ERR_PTR(-ENOMEM);
	hook->net = dev_net(dev);
	hook->ops.hook = fn;
	hook->ops.dev = dev;
	hook->ops.priv = owner;
	hook->ops.pf = NFPROTO_NETDEV;
	hook->ops.hooknum = received ? NF_NETDEV_INGRESS : NF_NETDEV_EGRESS;
	hook->ops.priority = INT_MAX;
	err = nf_register_net_hook(hook->net, &hook->ops);
	if (err) {
		kfree(hook);
		return ERR_PTR(err);
	}
	return hook;
}

void nettap_hook_unregister(struct nettap_hook *hook)
{
	nf_unregister_net_hook(hook->net, &hook->ops);
}

void nettap_hook_free(struct nettap_hook *hook)
{
	kfree(hook);
}
