// SPDX-License-Identifier: GPL-2.0
/* Programs that an entry of a cpumap takes, and programs that it does not. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} owned SEC(".maps"), owned_by_frags SEC(".maps");

SEC("xdp")
int owner(struct xdp_md *ctx)
{
	return bpf_redirect_map(&owned, 0, XDP_PASS);
}

SEC("xdp.frags")
int frags_owner(struct xdp_md *ctx)
{
	return bpf_redirect_map(&owned_by_frags, 0, XDP_PASS);
}

SEC("xdp/cpumap")
int good(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp/cpumap")
int good_too(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp.frags/cpumap")
int frags(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp/devmap")
int for_devmap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("socket")
int not_xdp(struct __sk_buff *skb)
{
	return 0;
}

/* Bound to a device by the test. */
SEC("?xdp/cpumap")
int bound(struct xdp_md *ctx)
{
	return XDP_PASS;
}
