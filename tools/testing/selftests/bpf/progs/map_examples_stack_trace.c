// SPDX-License-Identifier: GPL-2.0
/* Examples of Documentation/bpf/map_stack_trace.rst: a profile, and who calls a function. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "map_examples.h"

/* doc: profile */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DEPTH * sizeof(__u64));
	__uint(max_entries, 16384);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct sample);
	__type(value, __u64);
	__uint(max_entries, 16384);
} counts SEC(".maps");

SEC("perf_event")
int profile(void *ctx)
{
	struct sample s = {
		.tgid = bpf_get_current_pid_tgid() >> 32,
		.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK),
		.kernel = bpf_get_stackid(ctx, &stacks, 0),
	};
	__u64 one = 1, *count;

	count = bpf_map_lookup_elem(&counts, &s);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counts, &s, &one, BPF_NOEXIST);
	return 0;
}

/* doc: callers */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(map_flags, BPF_F_STACK_BUILD_ID);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DEPTH * sizeof(struct bpf_stack_build_id));
	__uint(max_entries, 1024);
} callers SEC(".maps");

/* Sleepable, so that build ids are read from files which are not in memory. */
SEC("uprobe.s")
int function_entered(void *ctx)
{
	bpf_get_stackid(ctx, &callers, BPF_F_USER_STACK);
	return 0;
}

/* doc: end */
char LICENSE[] SEC("license") = "GPL";
