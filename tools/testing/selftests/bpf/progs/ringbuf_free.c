// SPDX-License-Identifier: GPL-2.0
/* A producer that runs until the map is gone. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

__u64 committed;

SEC("tp_btf/sched_switch")
int BPF_PROG(at_switch)
{
	void *sample;

	sample = bpf_ringbuf_reserve(&ring, 8, 0);
	if (!sample)
		return 0;
	bpf_ringbuf_discard(sample, BPF_RB_FORCE_WAKEUP);
	__sync_fetch_and_add(&committed, 1);
	return 0;
}
