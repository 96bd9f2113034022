/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The few fields of the kernel's structures that are read. CO-RE finds their real offsets when the program is loaded
 * (BTF relocations), so nothing of the running kernel is needed to build this.
 */
#include <linux/types.h>
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common { unsigned int inum; };
struct net { struct ns_common ns; };
typedef struct { struct net *net; } possible_net_t;
struct net_device { char name[16]; int ifindex; unsigned int mtu; possible_net_t nd_net; };
struct dst_entry { struct net_device *dev; };
struct sock_common { possible_net_t skc_net; };
struct sock { struct sock_common __sk_common; };
struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned int len, end;
	int skb_iif;
	__be16 protocol;
	u16 network_header;
	unsigned char *head, *data;
};
struct skb_shared_info { unsigned short gso_size, gso_segs; };
enum skb_drop_reason { SKB_DROP_REASON_NOT_SPECIFIED = 2 };
#pragma clang attribute pop
