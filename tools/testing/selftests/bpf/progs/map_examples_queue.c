// SPDX-License-Identifier: GPL-2.0
/* An example of Documentation/bpf/map_queue_stack.rst: tasks that end put their pid in a queue. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* doc: */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, __u32);
	__uint(max_entries, 1024);
} ended SEC(".maps");

SEC("tp/sched/sched_process_exit")
int task_ends(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid();

	/* If nobody came for them, the oldest give way. */
	bpf_map_push_elem(&ended, &pid, BPF_EXIST);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
