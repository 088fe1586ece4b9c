// SPDX-License-Identifier: GPL-2.0-only
/* Processes that start go through a ring buffer. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

struct task_struct {
	int tgid;
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

struct trace_event_raw_sched_process_exec {
	__u32 __data_loc_filename;
} __attribute__((preserve_access_index));

const volatile int parent;	/* whose children count */
__u32 started;

/* tour: submit */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);	/* for 30 records: it will overflow */
} ring SEC(".maps");

SEC("tp/sched/sched_process_exec")
int process_starts(struct trace_event_raw_sched_process_exec *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct start *s;
	__u32 nr;

	if (task->real_parent->tgid != parent)
		return 0;
	nr = __sync_fetch_and_add(&started, 1);
	s = bpf_ringbuf_reserve(&ring, sizeof(*s), 0);
	if (!s)		/* no room: the kernel has counted it */
		return 0;
	s->nr = nr;
	s->lost = bpf_ringbuf_query(&ring, BPF_RB_LOST);
	bpf_probe_read_kernel_str(s->file, sizeof(s->file),
				  (void *)ctx + (ctx->__data_loc_filename & 0xffff));
	bpf_ringbuf_submit(s, 0);
	return 0;
}

/* tour: end */
char LICENSE[] SEC("license") = "GPL";
