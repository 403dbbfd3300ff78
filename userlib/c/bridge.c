/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The patent's figure 7: a bridge of two interfaces (on real cards: `ip link set IF promisc on`).
 *
 *     bridge-c IF1 IF2           a bypass tap on each; the host is cut off from both
 *     bridge-c --host IF1 IF2    an input and an output tap on each; the host goes on using both.
 *                                What is for the host stays, what is for all is copied to it (if
 *                                it fits an mbuf), and what it sends leaves where it wants.
 */
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libnettap.h"

struct end { int fd; struct nettap_queue *detour, *revert; };
struct side { unsigned char address[6]; struct end in, out; };

static volatile sig_atomic_t stop;
static struct mbuf_rings rings;

static void on_signal(int number) { (void)number; stop = 1; }

static int check(const char *what, int result)
{
	return result < 0 && fprintf(stderr, "%s: %s\n", what, strerror(-result));
}

static int open_side(struct side *side, const char *name, int host)
{
	struct end *in = &side->in, *out = &side->out;
	struct ifreq request = {0};
	int any = socket(AF_INET, SOCK_DGRAM, 0), asked;

	in->fd = interface_tap(name, host ? TAP_INPUT : TAP_BYPASS, NULL, &in->detour, &in->revert);
	out->fd = host ? interface_tap(name, TAP_OUTPUT, NULL, &out->detour, &out->revert) : 0;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	asked = ioctl(any, SIOCGIFHWADDR, &request);
	close(any);
	if (asked < 0)
		return check(name, -ENODEV);
	memcpy(side->address, request.ifr_hwaddr.sa_data, sizeof(side->address));
	return check(name, in->fd) || check(name, out->fd);
}

/* Sends a packet on as it was; where there is no room, waits until the kernel has taken one. */
static void put(struct end *end, struct nettap_entry packet)
{
	while (nt_enqueue_same(end->revert, packet) < 0 && mbuf_push(end->fd, 1) != -ENODEV)
		;
}

/* A new packet for the host with the bytes of one that goes on over the bridge. */
static void copy_to_host(struct end *in, struct nettap_header *from)
{
	struct nettap_entry copy;

	if (from->next != NETTAP_NO_MBUF || !nt_dequeue(rings.alloc, &copy))
		return;
	*nt_mbuf(copy) = *from;
	memcpy(nt_data(nt_mbuf(copy)), nt_data(from), from->len);
	if (nt_enqueue(in->revert, copy) < 0)
		nt_enqueue(rings.dealloc, copy);
}

static unsigned int serve(struct side *from, struct side *to, int host)
{
	struct nettap_entry packets[64];
	unsigned int in = nt_dequeue_burst(from->in.detour, packets, 64), out = 0, i;

	for (i = 0; i < in; i++) {
		const unsigned char *target = nt_data(nt_mbuf(packets[i]));

		if (host && (target[0] & 1))
			copy_to_host(&from->in, nt_mbuf(packets[i]));
		if (host && !memcmp(target, from->address, 6))
			put(&from->in, packets[i]);
		else
			put(host ? &to->out : &to->in, packets[i]);
	}
	if (host)
		out = nt_dequeue_burst(from->out.detour, packets, 64);
	for (i = 0; i < out; i++)
		put(&from->out, packets[i]);
	return in + out;
}

int main(int argc, char **argv)
{
	int host = argc == 4 && !strcmp(argv[1], "--host");
	unsigned long long packets = 0, served;
	struct side a, b;

	if (argc != 3 + host)
		return check("usage: bridge-c [--host] IF1 IF2", -EINVAL);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	if (check("mbuf_map", mbuf_map(64, &rings)) ||
	    open_side(&a, argv[1 + host], host) || open_side(&b, argv[2 + host], host))
		return 1;
	fputs("ready\n", stderr);
	while (!stop) {
		packets += served = serve(&a, &b, host) + serve(&b, &a, host);
		/* nothing there: sleep, and look after signals, as long as there is a tap */
		if (!served && mbuf_pull(0, 100000) == -ENODEV)
			break;
	}
	printf("{\"program\":\"bridge-c\",\"packets\":%llu,\"system_calls\":%llu}\n", packets,
	       nettap_system_calls());
	return mbuf_unmap() < 0;
}
