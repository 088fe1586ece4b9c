// SPDX-License-Identifier: GPL-2.0-only
/* Processes that end go into a queue. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "types.h"

struct task_struct {
	int pid, tgid, exit_code;
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

const volatile int parent;	/* whose children count */

/* tour: push */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, struct ended);
	__uint(max_entries, 1024);
} queue SEC(".maps");

SEC("tp/sched/sched_process_exit")
int process_ends(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct ended e = { .pid = task->pid, .status = task->exit_code >> 8 };

	if (task->real_parent->tgid == parent)
		bpf_map_push_elem(&queue, &e, BPF_ANY);
	return 0;
}

/* tour: end */
char LICENSE[] SEC("license") = "GPL";
