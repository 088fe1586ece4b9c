// SPDX-License-Identifier: GPL-2.0
/* Programs that redirect all to a CPU, and count what arrives. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

const volatile bool plain;	/* no redirect */
__u64 gap;			/* ns from one packet to the next, or 0: as fast as possible */
__u64 received;			/* by the socket */

/* By CPU. */
struct {
	__u64 packets;		/* redirected, or passed if plain */
	__u64 next;		/* when */
	__u64 pad[6];
} sent[2];

SEC("xdp")
int to_cpu(struct xdp_md *ctx)
{
	__u32 me = bpf_get_smp_processor_id() & 1;
	__u64 now;

	if (gap) {
		now = bpf_ktime_get_ns();
		if (now < sent[me].next)
			return XDP_DROP;
		/* It does not catch up with what it missed while something else ran. */
		sent[me].next = (now - sent[me].next < 1000000 ? sent[me].next : now) + gap;
	}
	sent[me].packets++;
	return plain ? XDP_PASS : bpf_redirect_map(&cpus, 1, XDP_DROP);
}

SEC("socket")
int count(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&received, 1);
	return 0;
}
