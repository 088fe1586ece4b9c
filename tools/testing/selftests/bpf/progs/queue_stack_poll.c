// SPDX-License-Identifier: GPL-2.0
/* Operations that wake pollers. The test chooses the type of the map. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__uint(value_size, 4);
} map SEC(".maps");

__u32 pushed_in_nmi;
bool in_nmi;

SEC("syscall")
int push(void *ctx)
{
	__u32 value = 1;

	return bpf_map_push_elem(&map, &value, BPF_ANY);
}

SEC("syscall")
int pop(void *ctx)
{
	__u32 value;

	return bpf_map_pop_elem(&map, &value);
}

SEC("tp_btf/nmi_handler")
int BPF_PROG(at_nmi)
{
	__u32 value = 1;

	if (in_nmi && !bpf_map_push_elem(&map, &value, BPF_ANY))
		__sync_fetch_and_add(&pushed_in_nmi, 1);
	return 0;
}
