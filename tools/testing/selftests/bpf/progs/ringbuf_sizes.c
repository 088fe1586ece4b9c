// SPDX-License-Identifier: GPL-2.0
/* Many records in one run, and how long that took. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "workers.h"

#define MAX_SIZE 16384

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
} ring SEC(".maps");

const volatile __u32 size = 8;	/* of the payload */

char payload[MAX_SIZE];

static long reserve_one(__u32 i, struct cpu_result **me)
{
	__u64 *sample;

	sample = bpf_ringbuf_reserve(&ring, size, 0);
	if (sample) {
		*sample = i;
		bpf_ringbuf_submit(sample, 0);
	}
	count(*me, !sample);
	return 0;
}

static long output_one(__u32 i, struct cpu_result **me)
{
	count(*me, bpf_ringbuf_output(&ring, payload, size, 0));
	return 0;
}

RUN(reserve)
RUN(output)
