// SPDX-License-Identifier: GPL-2.0
/* Many operations on a queue or stack in one run, and how long that took. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "workers.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1024);
	__uint(value_size, 8);
} map SEC(".maps");

static long pairs_one(__u32 i, struct cpu_result **me)
{
	if (!bpf_map_push_elem(&map, (*me)->value, BPF_ANY))
		count(*me, bpf_map_pop_elem(&map, (*me)->value));
	else
		count(*me, 1);
	return 0;
}

static long push_one(__u32 i, struct cpu_result **me)
{
	count(*me, bpf_map_push_elem(&map, (*me)->value, BPF_ANY));
	return 0;
}

static long pop_one(__u32 i, struct cpu_result **me)
{
	count(*me, bpf_map_pop_elem(&map, (*me)->value));
	return 0;
}

RUN(pairs)
RUN(push)
RUN(pop)
