// SPDX-License-Identifier: GPL-2.0
/* The id of the caller's stack, for as many stacks as somebody likes to make. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "stackmap_forged.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u64));
} stacks SEC(".maps");

__u64 flags;
long id;

SEC("tp/syscalls/sys_enter_getpgid")
int at_getpgid(struct syscall_trace_enter *ctx)
{
	if (IS_FORGED_PID(ctx->args[0]))
		id = bpf_get_stackid(ctx, &stacks, flags);
	return 0;
}
