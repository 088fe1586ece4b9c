// SPDX-License-Identifier: GPL-2.0-only
/* A profile: which stacks, how often. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct sample);
	__type(value, __u64);
	__uint(max_entries, 4 * MAX_STACKS);
} counts SEC(".maps");

__u64 samples;

/* tour: profile */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DEPTH * sizeof(__u64));
	__uint(max_entries, MAX_STACKS);
} kernel_stacks SEC(".maps");

/* By build id and offset: names can be looked up when the processes are gone. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(map_flags, BPF_F_STACK_BUILD_ID);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DEPTH * sizeof(struct bpf_stack_build_id));
	__uint(max_entries, MAX_STACKS);
} user_stacks SEC(".maps");

SEC("perf_event")
int profile(void *ctx)
{
	__u64 zero = 0, *count;
	struct sample s = {};

	if (!(__u32)bpf_get_current_pid_tgid())
		return 0;	/* idle */
	__sync_fetch_and_add(&samples, 1);
	s.user = bpf_get_stackid(ctx, &user_stacks, BPF_F_USER_STACK);
	s.kernel = bpf_get_stackid(ctx, &kernel_stacks, 0);
	bpf_get_current_comm(s.comm, sizeof(s.comm));
	/* Another CPU may be first: then it is there. */
	bpf_map_update_elem(&counts, &s, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&counts, &s);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

/* tour: end */
char LICENSE[] SEC("license") = "GPL";
