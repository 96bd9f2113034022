/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * One flow, wherever the kernel drops, queues or receives it: tp_btf programs on kfree_skb (with the reason, since
 * 5.17), net_dev_queue and netif_receive_skb. Only packets of the flow leave the kernel: between the given addresses,
 * with one of the given ports, plain or wrapped once (VXLAN, Geneve, GRE, IP in IP); ICMP to one of the addresses from
 * anybody. Whoever reads the events knows their layout by the same order (pathfit.wire.traced).
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define HOSTS 16
#define PORTS 8
#define DEPTH 20
#define HEADERS 160
#define GENEVE 6081
#define ONCE _Pragma("clang loop unroll(disable)") /* bounded loops: since 5.3 */

enum { DROPPED = 1, QUEUED = 2, RECEIVED = 3 };
enum { TCP = 6, UDP = 17, ICMP = 1, ICMPV6 = 58, IPIP = 4, SIXINFOUR = 41, GRE = 47 };

struct event {
	u64 time, skb, location, stack[DEPTH];
	u32 reason, netns, link, length, egress, egress_mtu, egress_netns, entered;
	u16 gso_size, gso_segs, protocol;
	u8 hook, kept;
	char device[16], egress_device[16];
	u8 headers[HEADERS];
};

_Static_assert(sizeof(struct event) == 416, "pathfit.wire.traced knows this layout");

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 21); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, u32); __type(value, u64); } counts SEC(".maps");

/* Set before loading. Addresses and ports in the order of the wire. One value, so that its layout is what stands here. */
const volatile struct {
	u32 some4, some6, some_ports, some_tunnels;
	u32 hosts4[HOSTS], hosts6[HOSTS][4];
	u16 ports[PORTS], tunnels[PORTS];
} flow;
_Static_assert(sizeof(flow) == 368, "pathfit.wire.traced knows this layout");

struct head { u8 version, protocol; u16 size; u8 later, ours, told; };

static __noinline int host4(u32 address)
{
	ONCE for (u32 i = 0; i < HOSTS && i < flow.some4; i++)
		if (flow.hosts4[i] == address)
			return 1;
	return 0;
}

static __noinline int host6(const u32 *a)
{
	ONCE for (u32 i = 0; i < HOSTS && i < flow.some6; i++)
		if (flow.hosts6[i][0] == a[0] && flow.hosts6[i][1] == a[1] && flow.hosts6[i][2] == a[2] && flow.hosts6[i][3] == a[3])
			return 1;
	return 0;
}

/* Is it a UDP port that carries VXLAN? */
static __noinline int vxlan(u16 port)
{
	ONCE for (u32 i = 0; i < PORTS && i < flow.some_tunnels; i++)
		if (flow.tunnels[i] == port)
			return 1;
	return 0;
}

/* The first look: most packets are somebody else's. 0 for IPv4 without options that is neither between two of the
 * flow's addresses nor ICMP to one, and wraps nothing; matches() would have said the same, for three times as much. */
static __always_inline int perhaps(const u8 *l3)
{
	struct { u8 start, tos; u16 size, id, part; u8 ttl, protocol; u16 sum; u32 from, to; u16 source, port; } h;

	if (bpf_probe_read_kernel(&h, sizeof(h), l3))
		return 0;
	if (h.start != 0x45)
		return 1;
	if (host4(h.to) && (h.protocol == ICMP || host4(h.from)))
		return 1;
	if (h.protocol == UDP)
		return h.port == bpf_htons(GENEVE) || vxlan(h.port);
	return h.protocol == IPIP || h.protocol == SIXINFOUR || h.protocol == GRE;
}

/* The IP header at l3. Returns 0 when there is none. */
static __noinline int read_head(const u8 *l3, struct head *h)
{
	u8 raw[40];
	const u32 *w = (const u32 *)raw;
	int to;

	if (bpf_probe_read_kernel(raw, sizeof(raw), l3))
		return 0;
	h->version = raw[0] >> 4;
	if (h->version == 4) {
		h->protocol = raw[9];
		h->size = (raw[0] & 15) * 4;
		h->later = !!(*(u16 *)(raw + 6) & bpf_htons(0x1fff));
		to = host4(w[4]);
		h->ours = to && host4(w[3]);
		h->told = to && h->protocol == ICMP;
		return h->size >= 20;
	}
	if (h->version != 6)
		return 0;
	h->protocol = raw[6];
	h->size = 40;
	h->later = 0;
	to = host6(w + 6);
	h->ours = to && host6(w + 2);
	h->told = to && h->protocol == ICMPV6;
	return 1;
}

/* Is it the flow's? What has no ports there (a later fragment, an extension header) is let through. */
static __noinline int is_ours(const u8 *l3, const struct head *h)
{
	u16 both[2];

	if (h->told)
		return 1;
	if (!h->ours)
		return 0;
	if (!flow.some_ports || h->later || (h->protocol != TCP && h->protocol != UDP))
		return 1;
	if (bpf_probe_read_kernel(both, sizeof(both), l3 + h->size))
		return 0;
	ONCE for (u32 i = 0; i < PORTS && i < flow.some_ports; i++)
		if (flow.ports[i] == both[0] || flow.ports[i] == both[1])
			return 1;
	return 0;
}

/* Where the IP header of an inner Ethernet frame is. */
static __always_inline const u8 *framed(const u8 *at)
{
	u16 kind;

	if (bpf_probe_read_kernel(&kind, 2, at + 12))
		return 0;
	if (kind == bpf_htons(0x8100) || kind == bpf_htons(0x88a8))
		return at + 18;
	return at + 14;
}

/* The IP header that is wrapped in this packet, or 0. */
static __always_inline const u8 *within(const u8 *l3, const struct head *h)
{
	const u8 *at = l3 + h->size;
	u8 raw[16];
	u16 port, kind;
	int skip;

	if (h->later)
		return 0;
	if (h->protocol == IPIP || h->protocol == SIXINFOUR)
		return at;
	if ((h->protocol != UDP && h->protocol != GRE) || bpf_probe_read_kernel(raw, sizeof(raw), at))
		return 0;
	if (h->protocol == GRE) {
		skip = 4 + 4 * !!(raw[0] & 0x80) + 4 * !!(raw[0] & 0x20) + 4 * !!(raw[0] & 0x10);
		kind = *(u16 *)(raw + 2);
		return kind == bpf_htons(0x6558) ? framed(at + skip) : at + skip;
	}
	port = *(u16 *)(raw + 2);
	if (port == bpf_htons(GENEVE)) {
		at += 16 + (raw[8] & 0x3f) * 4;
		return *(u16 *)(raw + 10) == bpf_htons(0x6558) ? framed(at) : at;
	}
	return vxlan(port) ? framed(at + 16) : 0;
}

static __noinline int matches(const u8 *l3)
{
	struct head outer, inner;
	const u8 *at;

	if (!read_head(l3, &outer))
		return 0;
	if (is_ours(l3, &outer))
		return 1;
	at = within(l3, &outer);
	return at && read_head(at, &inner) && is_ours(at, &inner);
}

static __always_inline void count(u32 which)
{
	u64 *value = bpf_map_lookup_elem(&counts, &which);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __noinline int emit(void *ctx, struct sk_buff *skb, u8 hook, u64 location, u32 reason)
{
	u8 *head = skb->head;
	const u8 *l3 = hook == RECEIVED || skb->network_header == (u16)~0 ? skb->data : head + skb->network_header;
	struct skb_shared_info *shared = (void *)(head + skb->end);
	struct net_device *dev = skb->dev;
	struct dst_entry *dst;
	struct sock *sk;
	struct event *e;

	if (!perhaps(l3) || !matches(l3))
		return 0;
	count(0);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(1);
		return 0;
	}
	e->time = bpf_ktime_get_ns();
	e->skb = (u64)skb;
	e->location = location;
	e->reason = reason;
	e->hook = hook;
	e->length = skb->len;
	e->protocol = bpf_ntohs(skb->protocol);
	e->entered = skb->skb_iif;
	e->gso_size = BPF_CORE_READ(shared, gso_size);
	e->gso_segs = BPF_CORE_READ(shared, gso_segs);
	e->link = e->netns = e->egress = e->egress_mtu = e->egress_netns = 0;
	e->device[0] = e->egress_device[0] = 0;
	e->stack[0] = 0;
	if (dev) {
		e->link = dev->ifindex;
		e->netns = dev->nd_net.net->ns.inum;
		bpf_probe_read_kernel_str(e->device, sizeof(e->device), dev->name);
	} else if ((sk = skb->sk)) {
		e->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	}
	if (hook == DROPPED) { /* the device that the route chose, and who called */
		dst = (void *)(skb->_skb_refdst & ~1UL);
		if (dst && BPF_CORE_READ(dst, dev)) {
			e->egress = BPF_CORE_READ(dst, dev, ifindex);
			e->egress_mtu = BPF_CORE_READ(dst, dev, mtu);
			e->egress_netns = BPF_CORE_READ(dst, dev, nd_net.net, ns.inum);
			BPF_CORE_READ_STR_INTO(&e->egress_device, dst, dev, name);
		}
		if (bpf_get_stack(ctx, e->stack, sizeof(e->stack), 0) < 0)
			e->stack[0] = 0;
	}
	e->kept = bpf_probe_read_kernel(e->headers, sizeof(e->headers), l3) ? 0 : HEADERS;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP); /* a wakeup an event costs two thirds of the rate; who reads polls */
	return 0;
}

SEC("tp_btf/kfree_skb") int dropped(u64 *ctx)
{
	/* The third argument exists since 5.17; before, this branch is dead and the verifier never looks at ctx[2]. */
	u32 reason = bpf_core_type_exists(enum skb_drop_reason) ? (u32)ctx[2] : 0;

	return emit(ctx, (void *)ctx[0], DROPPED, ctx[1], reason);
}

SEC("tp_btf/net_dev_queue") int queued(u64 *ctx) { return emit(ctx, (void *)ctx[0], QUEUED, 0, 0); }

SEC("tp_btf/netif_receive_skb") int received(u64 *ctx) { return emit(ctx, (void *)ctx[0], RECEIVED, 0, 0); }

char LICENSE[] SEC("license") = "Dual BSD/GPL";
