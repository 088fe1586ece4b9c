// SPDX-License-Identifier: GPL-2.0
/* Two producers on a ring that overwrites its oldest records. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "ringbuf_overwrite.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(map_flags, BPF_F_RB_OVERWRITE);
	__uint(max_entries, 4096);
} ring SEC(".maps");

const volatile __u32 record_size;	/* 0: any, at random */
const volatile bool hold;		/* keep a record busy while others are written */

__u64 written[2], refused[2];
__u64 bufs[2][64];

static __always_inline void put(__u32 me)
{
	__u32 size = record_size ?: (bpf_get_prandom_u32() % 63 + 1) * 8;
	__u64 number = (__u64)me << 32 | (__u32)written[me];
	int i;

	for (i = 0; i < 64; i++)
		bufs[me][i] = number;
	if (size > sizeof(bufs[0]))
		return;
	if (bpf_ringbuf_output(&ring, bufs[me], size, BPF_RB_NO_WAKEUP))
		refused[me]++;
	else
		written[me]++;
}

SEC("syscall")
int produce(struct overwrite_args *args)
{
	__u32 me = args->producer & 1;
	void *sample = NULL;
	int i;

	if (hold) {
		sample = bpf_ringbuf_reserve(&ring, 120, 0);
		if (sample)
			written[me]++;
		else
			refused[me]++;
	}
	bpf_for(i, 0, args->count)
		put(me);
	if (sample)
		bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
	return 0;
}
