// SPDX-License-Identifier: GPL-2.0-only
/* UDP goes to another CPU, and is filtered there. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

static struct udphdr *udp_header(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
		return NULL;
	return udp;
}

__u64 steered[MAX_CPUS], filtered[MAX_CPUS];	/* packets, by CPU */
const volatile __u32 target;

/* tour: steer */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
	__uint(max_entries, MAX_CPUS);
} cpus SEC(".maps");

SEC("xdp")		/* on the CPU that receives */
int steer(struct xdp_md *ctx)
{
	if (!udp_header(ctx))
		return XDP_PASS;
	steered[bpf_get_smp_processor_id() % MAX_CPUS]++;
	return bpf_redirect_map(&cpus, target, XDP_PASS);
}

SEC("xdp/cpumap")	/* on the target */
int filter(struct xdp_md *ctx)
{
	struct udphdr *udp = udp_header(ctx);

	filtered[bpf_get_smp_processor_id() % MAX_CPUS]++;
	return udp && udp->dest == bpf_htons(DISCARD) ? XDP_DROP : XDP_PASS;
}

/* tour: end */
char LICENSE[] SEC("license") = "GPL";
