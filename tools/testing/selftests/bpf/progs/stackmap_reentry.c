// SPDX-License-Identifier: GPL-2.0
/*
 * A program takes the stack of a system call; others run inside of that, on functions that the
 * helper calls, and at breakpoints in it, and take a stack into the same map.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "bpf_misc.h"
#include "stackmap_forged.h"

#define EBUSY 16
#define EEXIST 17
#define ENOMEM 12
#define EFAULT 14

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 64);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 8 * sizeof(__u64));
} stacks SEC(".maps");

__u32 pid;			/* whose helpers and system calls are interrupted */
__u64 flags;			/* of the outer stack */
__u64 nested_flags[2];		/* of the stacks inside */
long id;			/* of the outer one */
long other_id;			/* of another thread's */
long nested_id[2];		/* of the last ones inside that were stored */
bool inside;			/* of the helper */
long nr_sampled;		/* stacks of the timer's events that have an id */
bool in_system_call;		/* programs run inside of those on the map as well */
__u64 hits, stored, refused;
long worst;			/* an error that none of this may give */

/* Each program but the outer one. */
static __always_inline int take_nested(void *ctx)
{
	long ret;
	int i;

	if ((__u32)bpf_get_current_pid_tgid() != pid || (!inside && !in_system_call))
		return 0;
	hits++;
	for (i = 0; i < 2; i++) {
		ret = bpf_get_stackid(ctx, &stacks, nested_flags[i]);
		if (ret >= 0) {
			stored++;
			nested_id[i] = ret;
		} else {
			refused++;
			/* No buffer, full, or given up: all else is wrong. */
			if (ret != -EFAULT && ret != -ENOMEM && ret != -EEXIST && ret != -EBUSY)
				worst = ret;
		}
	}
	return 0;
}

SEC("?fentry/" SYS_PREFIX "sys_getpgid")
int BPF_PROG(at_getpgid, struct pt_regs *regs)
{
	if (!IS_FORGED_PID(PT_REGS_PARM1_SYSCALL(regs)))
		return 0;
	/* Of another thread, which nobody nested counts. */
	if (FORGED_SLOT(PT_REGS_PARM1_SYSCALL(regs))) {
		other_id = bpf_get_stackid(ctx, &stacks, flags);
		return 0;
	}
	inside = true;
	id = bpf_get_stackid(ctx, &stacks, flags);
	inside = false;
	return 0;
}

/* The test says at which function. */
SEC("?fentry/perf_callchain_user")
int BPF_PROG(at_entry)
{
	return take_nested(ctx);
}

SEC("?fexit/perf_callchain_user")
int BPF_PROG(at_exit)
{
	return take_nested(ctx);
}

SEC("?kprobe")
int at_kprobe(struct pt_regs *ctx)
{
	return take_nested(ctx);
}

SEC("?tp_btf/contention_end")
int BPF_PROG(at_contention_end)
{
	return take_nested(ctx);
}

SEC("?perf_event")
int at_breakpoint(struct bpf_perf_event_data *ctx)
{
	return take_nested(ctx);
}

/* An event of a timer, which may come at any time. */
SEC("?perf_event")
int at_timer(struct bpf_perf_event_data *ctx)
{
	nr_sampled += bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK) >= 0;
	return 0;
}
