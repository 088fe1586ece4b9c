// SPDX-License-Identifier: GPL-2.0
/* Examples of Documentation/bpf/ringbuf.rst: events, the newest of them, and commands. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "map_examples.h"

/* doc: events */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tp/sched/sched_process_exit")
int task_ends(void *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)		/* no room: the kernel has counted the loss */
		return 0;
	e->pid = bpf_get_current_pid_tgid();
	e->lost = bpf_ringbuf_query(&events, BPF_RB_LOST);
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* doc: newest */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(map_flags, BPF_F_RB_OVERWRITE);
	__uint(max_entries, 64 * 1024);
} newest SEC(".maps");

SEC("tp/sched/sched_switch")
int task_switches(void *ctx)
{
	struct event e = { .pid = bpf_get_current_pid_tgid() };

	bpf_get_current_comm(e.comm, sizeof(e.comm));
	/* Nobody waits: who wants to know looks into the ring. */
	bpf_ringbuf_output(&newest, &e, sizeof(e), BPF_RB_NO_WAKEUP);
	return 0;
}

/* doc: commands */
struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 64 * 1024);
} commands SEC(".maps");

__u64 total;

static long do_command(struct bpf_dynptr *sample, void *ctx)
{
	const struct command *c = bpf_dynptr_data(sample, 0, sizeof(*c));

	if (!c)			/* shorter than a command */
		return 1;	/* leave the rest for later */
	total += c->add;
	return 0;
}

SEC("syscall")
int do_commands(void *ctx)
{
	return bpf_user_ringbuf_drain(&commands, do_command, NULL, 0);
}

/* doc: end */
char LICENSE[] SEC("license") = "GPL";
