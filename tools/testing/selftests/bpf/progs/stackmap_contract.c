// SPDX-License-Identifier: GPL-2.0
/* The helpers for stacks, in each kind of program that has them; the test says what to do. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpf_misc.h"
#include "stackmap_forged.h"
#include "stackmap_contract.h"

#define PF_KTHREAD 0x00200000

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 8 * sizeof(__u64));
} stacks SEC(".maps");

struct stack_request requests[NR_SLOTS];
bool nest;
struct stack_request nested;		/* what a program inside of another one's helper does */
__u64 fault_addr;		/* where the event is wanted */
int other_pid;			/* whose stack OTHER_STACK takes */
__u64 reads, reads_locked;	/* of files, by our helper; with the mmap lock held */
bool hold, held, held_in_vain;	/* a program that waits at its place */

struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
void bpf_task_release(struct task_struct *p) __ksym;
void bpf_rcu_read_lock(void)
	__ksym;
void bpf_rcu_read_unlock(void)
	__ksym;
void bpf_preempt_disable(void)
	__ksym;
void bpf_preempt_enable(void)
	__ksym;

/* Without the map, which stock 6.12.117 refuses to sleepable programs. */
static __always_inline void copy(void *ctx, struct stack_request *req)
{
	__u32 size = req->size;

	switch (req->what) {
	case STACK:
		if (size <= sizeof(req->buf))
			req->ret = bpf_get_stack(ctx, req->buf, size, req->flags);
		break;
	case TASK_STACK:
		if (size <= sizeof(req->buf))
			req->ret = bpf_get_task_stack(bpf_get_current_task_btf(), req->buf, size,
						      req->flags);
		break;
	}
	req->runs++;
}

static __always_inline void take(void *ctx, struct stack_request *req)
{
	if (req->what == STACKID)
		req->ret = bpf_get_stackid(ctx, &stacks, req->flags);
	copy(ctx, req);
}

static __always_inline void take_forged(void *ctx, unsigned long pid)
{
	if (IS_FORGED_PID(pid))
		take(ctx, &requests[FORGED_SLOT(pid)]);
}

SEC("?tp/syscalls/sys_enter_getpgid")
int at_tracepoint(struct syscall_trace_enter *ctx)
{
	take_forged(ctx, ctx->args[0]);
	return 0;
}

SEC("?raw_tp/sys_enter")
int at_raw_tracepoint(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];

	take_forged(ctx, PT_REGS_PARM1_CORE_SYSCALL(regs));
	return 0;
}

SEC("?kprobe/" SYS_PREFIX "sys_getpgid")
int at_kprobe(struct pt_regs *ctx)
{
	take_forged(ctx, PT_REGS_PARM1_CORE_SYSCALL(PT_REGS_SYSCALL_REGS(ctx)));
	return 0;
}

SEC("?fentry/" SYS_PREFIX "sys_getpgid")
int BPF_PROG(at_fentry, struct pt_regs *regs)
{
	take_forged(ctx, PT_REGS_PARM1_SYSCALL(regs));
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int BPF_PROG(at_sleepable_fentry, struct pt_regs *regs)
{
	take_forged(ctx, PT_REGS_PARM1_SYSCALL(regs));
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int BPF_PROG(copy_at_sleepable_fentry, struct pt_regs *regs)
{
	if (IS_FORGED_PID(PT_REGS_PARM1_SYSCALL(regs)))
		copy(ctx, &requests[0]);
	return 0;
}

SEC("?uprobe")
int at_uprobe(struct pt_regs *ctx)
{
	take(ctx, &requests[0]);
	return 0;
}

SEC("?uprobe.s")
int at_sleepable_uprobe(struct pt_regs *ctx)
{
	take(ctx, &requests[0]);
	return 0;
}

SEC("?uprobe.s")
int copy_at_sleepable_uprobe(struct pt_regs *ctx)
{
	copy(ctx, &requests[0]);
	return 0;
}

/* Where a program that may sleep otherwise must not. */
SEC("?uprobe.s")
int copy_with_rcu_held(struct pt_regs *ctx)
{
	bpf_rcu_read_lock();
	copy(ctx, &requests[0]);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("?uprobe.s")
int copy_with_preemption_off(struct pt_regs *ctx)
{
	bpf_preempt_disable();
	copy(ctx, &requests[0]);
	bpf_preempt_enable();
	return 0;
}

SEC("?uprobe.s")
int take_with_rcu_held(struct pt_regs *ctx)
{
	bpf_rcu_read_lock();
	requests[0].ret = bpf_get_stackid(ctx, &stacks, 0);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("?uprobe.s")
int take_with_preemption_off(struct pt_regs *ctx)
{
	bpf_preempt_disable();
	requests[0].ret = bpf_get_stackid(ctx, &stacks, 0);
	bpf_preempt_enable();
	return 0;
}

/* At the page fault that the test makes: 1 lets the event go on to its buffer. */
SEC("?perf_event")
int at_event(struct bpf_perf_event_data *ctx)
{
	int i;

	if (ctx->addr != fault_addr)
		return 0;
	for (i = 0; i < NR_SLOTS; i++)
		take(ctx, &requests[i]);
	return 1;
}

SEC("?fentry/" SYS_PREFIX "sys_getpgid")
int BPF_PROG(take_other, struct pt_regs *regs)
{
	struct stack_request *req = &requests[0];
	struct task_struct *task;
	__u32 size = req->size;

	if (!IS_FORGED_PID(PT_REGS_PARM1_SYSCALL(regs)))
		return 0;
	task = bpf_task_from_pid(other_pid);
	if (!task)
		return 0;
	if (size <= sizeof(req->buf))
		req->ret = bpf_get_task_stack(task, req->buf, size, req->flags);
	req->runs++;
	bpf_task_release(task);
	return 0;
}

/* The first time that a thread of the kernel gives up its CPU. */
SEC("?tp_btf/sched_switch")
int BPF_PROG(in_kthread, bool preempt, struct task_struct *prev)
{
	if (prev->flags & PF_KTHREAD && !requests[0].runs)
		take(ctx, &requests[0]);
	return 0;
}

/* Our thread only, and only in the middle of a helper. */
static __always_inline int take_nested(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 == other_pid && nest) {
		nest = false;
		take(ctx, &nested);
		nest = true;
	}
	return 0;
}

SEC("?fexit/perf_callchain_fill")
int BPF_PROG(after_unwinding)
{
	return take_nested(ctx);
}

/* Stock 6.12.117 has given the buffer away by then. */
SEC("?fexit/get_perf_callchain")
int BPF_PROG(after_giving_away)
{
	return take_nested(ctx);
}

/* Not in stock 6.12.117. */
SEC("?fexit/put_kept_callchain_entry")
int BPF_PROG(after_putting)
{
	return take_nested(ctx);
}

/* On PREEMPT_RT. */
struct rw_semaphore___rt {
	struct {
		atomic_t readers;
	} rwbase;
} __attribute__((preserve_access_index));

static bool is_locked(struct rw_semaphore *sem)
{
	struct rw_semaphore___rt *rt = (void *)sem;

	if (bpf_core_field_exists(rt->rwbase))
		return BPF_CORE_READ(rt, rwbase.readers.counter) != (int)(1U << 31);
	return BPF_CORE_READ(sem, count.counter);
}

SEC("?fentry/__kernel_read")
int BPF_PROG(at_kernel_read)
{
	if (bpf_get_current_pid_tgid() >> 32 == other_pid && nest) {
		reads++;
		if (is_locked(&bpf_get_current_task_btf()->mm->mmap_lock))
			reads_locked++;
	}
	return 0;
}

/* Called with the mmap lock held for writing. */
SEC("?fentry/do_mmap")
int BPF_PROG(under_mmap_lock)
{
	int i;

	if ((__u32)bpf_get_current_pid_tgid() != other_pid || !hold)
		return 0;
	take(ctx, &nested);
	*(volatile bool *)&held = true;
	bpf_for(i, 0, 1 << 23) {
		if (!*(volatile bool *)&hold)
			return 0;
		bpf_ktime_get_ns();
	}
	held_in_vain = true;
	return 0;
}

/* The verifier must refuse them. */

SEC("?raw_tp/sys_enter")
int lookup_elem(void *ctx)
{
	__u32 key = 0;

	return !bpf_map_lookup_elem(&stacks, &key);
}

SEC("?raw_tp/sys_enter")
int update_elem(void *ctx)
{
	__u64 value[8] = {};
	__u32 key = 0;

	return bpf_map_update_elem(&stacks, &key, value, BPF_ANY);
}

SEC("?raw_tp/sys_enter")
int delete_elem(void *ctx)
{
	__u32 key = 0;

	return bpf_map_delete_elem(&stacks, &key);
}

static long nothing(void *map, void *key, void *value, void *ctx)
{
	return 0;
}

SEC("?raw_tp/sys_enter")
int walk_elems(void *ctx)
{
	return bpf_for_each_map_elem(&stacks, nothing, NULL, 0);
}
