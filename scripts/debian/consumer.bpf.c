// SPDX-License-Identifier: GPL-2.0-only
/* Programs for consumer.c, built with the distribution's libbpf headers. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "consumer.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_SIZE);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, RING_SIZE);
} user_ring SEC(".maps");

struct state state SEC(".data.state");
static __u8 buffer[MAX_SIZE];

/* Records as consumer.c expects them; every DISCARD_EVERYth is discarded. */
SEC("syscall")
int produce(struct produce_ctx *ctx)
{
	__u64 *record, seq;
	int i;

	for (i = 0; i < BATCH; i++) {
		seq = state.next;
		if (seq % DISCARD_EVERY == 0) {
			record = bpf_ringbuf_reserve(&ring, 64, 0);
			if (!record)
				goto full;
			bpf_ringbuf_discard(record, 0);
			state.next = seq + 1;
			continue;
		}
		if (seq % 2) {
			record = bpf_ringbuf_reserve(&ring, FIXED_SIZE, 0);
			if (!record)
				goto full;
			*record = seq;
			bpf_ringbuf_submit(record, 0);
		} else {
			*(volatile __u64 *)buffer = seq;
			if (bpf_ringbuf_output(&ring, buffer, VARIABLE_SIZE(seq), 0))
				goto full;
		}
		state.next = seq + 1;
	}
	return 0;
full:
	state.refused++;
	return 0;
}

static long drained(struct bpf_dynptr *dynptr, void *ctx)
{
	__u64 value;

	if (bpf_dynptr_read(&value, sizeof(value), dynptr, 0, 0))
		return 1;
	state.samples++;
	state.sum += value;
	return 0;
}

SEC("syscall")
int drain(struct produce_ctx *ctx)
{
	return bpf_user_ringbuf_drain(&user_ring, drained, NULL, 0);
}

SEC("syscall")
int ask(struct produce_ctx *ctx)
{
	state.lost = bpf_ringbuf_query(&ring, BPF_RB_LOST);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
