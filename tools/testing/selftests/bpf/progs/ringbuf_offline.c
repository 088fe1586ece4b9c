// SPDX-License-Identifier: GPL-2.0
/* Records of a CPU that is going offline. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

__u64 committed, refused;

static __always_inline int record(__u64 flags)
{
	__u32 *sample = bpf_ringbuf_reserve(&ring, sizeof(*sample), 0);

	if (!sample) {
		__sync_fetch_and_add(&refused, 1);
		return 1;
	}
	*sample = 0;
	bpf_ringbuf_submit(sample, flags);
	__sync_fetch_and_add(&committed, 1);
	return 0;
}

/*
 * Its stopper is the last task that CPU 1 switches to while it is online, and so while
 * tracepoints run programs. A wakeup is wanted whether or not the consumer has kept up.
 */
SEC("?tp_btf/sched_switch")
int BPF_PROG(at_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	char comm[16];

	if (bpf_get_smp_processor_id() == 1 &&
	    bpf_probe_read_kernel_str(comm, sizeof(comm), next->comm) > 0 &&
	    !bpf_strncmp(comm, 10, "migration/"))
		record(BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* Later, with nothing to come: the CPU takes no interrupts any more. */
SEC("?fentry/cpuhp_report_idle_dead")
int BPF_PROG(at_death)
{
	record(BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("syscall")
int produce(void *ctx)
{
	return record(0);
}
