// SPDX-License-Identifier: GPL-2.0
/* An example of Documentation/bpf/map_cpumap.rst: packets go to other CPUs, filtered there. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* doc: */
#define MAX_CPUS 64

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
	__uint(max_entries, MAX_CPUS);
} cpu_map SEC(".maps");

const volatile __u32 cpus[MAX_CPUS];	/* those that have an entry */
const volatile __u32 nr_cpus = 1;

static struct iphdr *ipv4_header(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return NULL;
	return ip;
}

/* Runs where packets are received. */
SEC("xdp")
int spread(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(ctx);
	__u32 i;

	if (!ip)
		return XDP_PASS;
	/* What two hosts say to each other stays in order, and GRO can merge it. */
	i = ((ip->saddr ^ ip->daddr) * 0x61c88647 >> 16) % nr_cpus;
	/* Without an entry for that CPU the packet goes to the stack on this one. */
	return bpf_redirect_map(&cpu_map, cpus[i % MAX_CPUS], XDP_PASS);
}

/* Runs on the CPU of the entry. */
SEC("xdp/cpumap")
int only_tcp(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(ctx);

	return ip && ip->protocol == IPPROTO_TCP ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
