// SPDX-License-Identifier: GPL-2.0
/* Calls of bpf_get_stackid(), and how long they took. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
} stacks SEC(".maps");

const volatile __u64 flags;
const volatile __u32 batch = 1;	/* calls in a run */

__u64 ns;	/* of the last run */
__u64 failed;	/* calls in all */
long last;	/* what the last call returned */

SEC("raw_tp")
int get(void *ctx)
{
	__u64 start = bpf_ktime_get_ns();
	int i;

	bpf_for(i, 0, batch) {
		last = bpf_get_stackid(ctx, &stacks, flags);
		if (last < 0)
			failed++;
	}
	ns = bpf_ktime_get_ns() - start;
	return 0;
}

SEC("raw_tp")
int loop(void *ctx)
{
	__u64 start = bpf_ktime_get_ns();
	int i;

	bpf_for(i, 0, batch) {
		last = i;
		if (last < 0)
			failed++;
	}
	ns = bpf_ktime_get_ns() - start;
	return 0;
}
