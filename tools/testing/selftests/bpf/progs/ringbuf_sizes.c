// SPDX-License-Identifier: GPL-2.0
/* Many records in one run, and how long that took. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "ringbuf_sizes.h"

#define MAX_SIZE 16384

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
} ring SEC(".maps");

const volatile __u32 size = 8;	/* of the payload */
const volatile __u32 batch = 1;	/* records in a run */

struct cpu_result results[MAX_CPUS];
char payload[MAX_SIZE];

static long loop_one(__u32 i, struct cpu_result **me)
{
	(*me)->records++;
	return 0;
}

static long reserve_one(__u32 i, struct cpu_result **me)
{
	__u64 *sample;

	sample = bpf_ringbuf_reserve(&ring, size, 0);
	if (!sample) {
		(*me)->refused++;
		return 0;
	}
	*sample = i;
	bpf_ringbuf_submit(sample, 0);
	(*me)->records++;
	return 0;
}

static long output_one(__u32 i, struct cpu_result **me)
{
	if (bpf_ringbuf_output(&ring, payload, size, 0)) {
		(*me)->refused++;
		return 0;
	}
	(*me)->records++;
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
RUN(reserve)
RUN(output)
