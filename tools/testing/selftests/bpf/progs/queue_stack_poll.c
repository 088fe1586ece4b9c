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

extern bool CONFIG_PREEMPT_COUNT __kconfig __weak;

__u32 wakes, preemptible;
bool counted;			/* the kernel knows whether it can be preempted; we can read it */

static __always_inline int at_wake(void)
{
	wakes++;
#ifdef __TARGET_ARCH_x86
	extern const struct pcpu_hot pcpu_hot __ksym;
	const struct pcpu_hot *hot = bpf_this_cpu_ptr(&pcpu_hot);

	counted = CONFIG_PREEMPT_COUNT;
	if (!(hot->preempt_count & 0xff))
		preemptible++;
#endif
	return 0;
}

SEC("?fentry/queue_stack_pushed")
int BPF_PROG(at_pushed)
{
	return at_wake();
}

SEC("?fentry/queue_stack_popped")
int BPF_PROG(at_popped)
{
	return at_wake();
}
