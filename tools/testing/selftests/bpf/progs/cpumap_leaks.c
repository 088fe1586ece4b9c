// SPDX-License-Identifier: GPL-2.0
/* Page pools that were given up and wait for their pages. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __s32);		/* pages that are missing */
} waiting SEC(".maps");

__u64 released;

/* Whenever a pool is looked at that was given up: the last time is when all pages are back. */
SEC("tp_btf/page_pool_release")
int BPF_PROG(at_release, const struct page_pool *pool, s32 inflight, u32 hold, u32 release)
{
	__u64 key = (__u64)pool;

	if (inflight) {
		bpf_map_update_elem(&waiting, &key, &inflight, BPF_ANY);
	} else {
		bpf_map_delete_elem(&waiting, &key);
		__sync_fetch_and_add(&released, 1);
	}
	return 0;
}
