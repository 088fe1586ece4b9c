// SPDX-License-Identifier: GPL-2.0
/* Stacks from system calls, and from what interrupts those, into one map. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "stackmap_forged.h"

#define ENOMEM 12

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 512);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 16 * sizeof(__u64));
} stacks SEC(".maps");

__u64 flags;
__u64 forged_ip;		/* first frame of a system call that is ours */
long ids[NR_SLOTS];
__u64 stored[3], full[3], failed[3];	/* by system calls, interrupts, NMIs */
bool inserting[64];		/* on each CPU */
__u64 inside[3];		/* interrupts in the middle of a system call's insert */

static __always_inline long take(void *ctx, __u32 kind, __u64 more)
{
	long id = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | flags | more);

	if (id >= 0)
		__sync_fetch_and_add(&stored[kind], 1);
	else if (id == -ENOMEM)
		__sync_fetch_and_add(&full[kind], 1);
	else
		__sync_fetch_and_add(&failed[kind], 1);
	return id;
}

SEC("tp/syscalls/sys_enter_getpgid")
int at_getpgid(struct syscall_trace_enter *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id() % 64;

	if (!IS_FORGED_PID(ctx->args[0]))
		return 0;
	inserting[cpu] = true;
	ids[FORGED_SLOT(ctx->args[0])] = take(ctx, 0, 0);
	inserting[cpu] = false;
	return 0;
}

/* The stack that the system call has, and the same without its first frame. */
static __always_inline void interrupt(void *ctx, __u32 kind)
{
	__u64 ip = 0;

	if (bpf_get_stack(ctx, &ip, sizeof(ip), BPF_F_USER_STACK) < 0 || ip != forged_ip)
		return;
	if (inserting[bpf_get_smp_processor_id() % 64])
		__sync_fetch_and_add(&inside[kind], 1);
	take(ctx, kind, 0);
	take(ctx, kind, 1);
}

SEC("?perf_event")
int at_clock(struct bpf_perf_event_data *ctx)
{
	interrupt(ctx, 1);
	return 0;
}

SEC("?tp_btf/nmi_handler")
int BPF_PROG(at_nmi)
{
	interrupt(ctx, 2);
	return 0;
}
