// SPDX-License-Identifier: GPL-2.0
/* Many operations on a queue or stack in one run, and how long that took. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "queue_bench.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1024);
	__uint(value_size, 8);
} map SEC(".maps");

const volatile __u32 batch = 1;	/* operations in a run */

struct cpu_result results[MAX_CPUS];

static void count(struct cpu_result *me, long err)
{
	if (err)
		me->refused++;
	else
		me->done++;
}

static long loop_one(__u32 i, struct cpu_result **me)
{
	count(*me, 0);
	return 0;
}

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

#define RUN(one)							\
SEC("raw_tp")								\
int one(void *ctx)							\
{									\
	struct cpu_result *me;						\
	__u64 start;							\
									\
	me = &results[bpf_get_smp_processor_id() % MAX_CPUS];		\
	start = bpf_ktime_get_ns();					\
	bpf_loop(batch, one##_one, &me, 0);				\
	me->ns = bpf_ktime_get_ns() - start;				\
	return 0;							\
}

RUN(loop)
RUN(pairs)
RUN(push)
RUN(pop)
