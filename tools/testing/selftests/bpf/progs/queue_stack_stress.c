// SPDX-License-Identifier: GPL-2.0
/*
 * A load on queues and stacks, and programs that interrupt it in the middle of an operation
 * to operate on the same map, or on the other one.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "bpf_misc.h"
#include "queue_stack_stress.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8);
	__uint(value_size, 8);
} map_a SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8);
	__uint(value_size, 8);
} map_b SEC(".maps");

/* Set by the test. */
pid_t pid;
__u32 words;			/* of a value */
__u64 push_flags;
bool nest_other;		/* nested programs use the other map */
__u32 nest_one_in;		/* of so many times that they could */
bool nest_on_cpu0_only;
bool nest_at_jumps;		/* only there, not at breakpoints */
__u64 text_start;		/* of the kernel's code that is probed */

struct account accounts[NR_MAPS];
__u64 values[NR_ACTORS][MAX_WORDS];

/* 1 + the map that each actor is operating on, set around the call. */
__u32 in_op[NR_ACTORS];
__u32 in_nested[NR_CPUS_USED];
__u64 nested_ops;
__u64 nested_refused_outside;		/* -EBUSY although no operation was interrupted */

/* By offset from text_start, whether a nested operation was done there. */
__u8 nested_at[8192];

static __always_inline long call_op(__u32 map, enum op op, __u64 *value)
{
	switch (op) {
	case OP_PUSH:
		return map ? bpf_map_push_elem(&map_b, value, push_flags)
			   : bpf_map_push_elem(&map_a, value, push_flags);
	case OP_POP:
		return map ? bpf_map_pop_elem(&map_b, value) : bpf_map_pop_elem(&map_a, value);
	default:
		return map ? bpf_map_peek_elem(&map_b, value) : bpf_map_peek_elem(&map_a, value);
	}
}

/* Not static: verified once, not for each call. */
__noinline int do_op(__u32 map, __u32 number, enum op op)
{
	struct account *account = &accounts[map % NR_MAPS];
	struct actor *me = &account->actors[number % NR_ACTORS];
	__u64 *value = values[number % NR_ACTORS];
	long err;

	if (op == OP_PUSH) {
		if (me->pushed >= MAX_VALUES)
			return -ENOSPC;
		make_value(value, words, number, me->pushed);
	} else {
		make_value(value, words, number, MAX_VALUES);
	}

	in_op[number % NR_ACTORS] = map + 1;
	err = call_op(map, op, value);
	in_op[number % NR_ACTORS] = 0;

	if (op == OP_PUSH)
		count_push(me, err);
	else if (err)
		count_nothing(me, value, words, err);
	else
		count_value(account, me, value, words, op);
	return err;
}

/* Until it is not refused: 0, or an error that must not come. */
static __always_inline int insist(__u32 map, __u32 number, enum op op)
{
	int i, err = -EBUSY;

	bpf_for(i, 0, 1000) {
		err = do_op(map, number, op);
		if (err != -EBUSY)
			break;
	}
	return err;
}

SEC("syscall")
int drive(struct drive *args)
{
	__u32 cpu = args->cpu % NR_CPUS_USED, map = args->map, mix = args->mix;
	int i;

	bpf_for(i, 0, args->ops) {
		if (mix == MIX_PUSH_POP) {
			if (insist(map, cpu, OP_PUSH) ||
			    insist(map, cpu, OP_PEEK) ||
			    insist(map, cpu, OP_POP))
				return 1;
		} else {
			do_op(map, cpu, pick_op(mix, bpf_get_prandom_u32()));
		}
	}
	return 0;
}

/* This code interrupts our thread on one of the two CPUs: which, or -1. */
static __always_inline int interrupted_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	if (cpu >= (nest_on_cpu0_only ? 1 : NR_CPUS_USED))
		return -1;
	if (bpf_get_current_pid_tgid() >> 32 != pid || in_nested[cpu])
		return -1;
	return cpu;
}

/* Operate on a map in the middle of whatever was interrupted: was it an operation? */
static __always_inline bool nested(bool anywhere)
{
	int err, cpu = interrupted_cpu();
	__u32 outer, map;

	if (cpu < 0 || cpu >= NR_CPUS_USED)
		return false;
	outer = in_op[cpu];
	if (!outer && !anywhere)
		return false;
	if (nest_one_in && bpf_get_prandom_u32() % nest_one_in)
		return false;

	in_nested[cpu] = 1;
	map = outer ? outer - 1 : 0;
	if (nest_other)
		map ^= 1;
	err = do_op(map, ACTOR_NESTED + cpu, pick_op(MIX_ALL, bpf_get_prandom_u32()));
	if (outer)
		__sync_fetch_and_add(&nested_ops, 1);
	else if (err == -EBUSY)
		__sync_fetch_and_add(&nested_refused_outside, 1);
	in_nested[cpu] = 0;
	return outer;
}

SEC("?fentry/_raw_spin_unlock_irqrestore")
int BPF_PROG(at_unlock)
{
	nested(false);
	return 0;
}

SEC("?fentry/queue_map_push_elem")
int BPF_PROG(at_push)
{
	nested(false);
	return 0;
}

SEC("?fexit/queue_map_push_elem")
int BPF_PROG(after_push)
{
	nested(false);
	return 0;
}

SEC("?fentry/queue_map_pop_elem")
int BPF_PROG(at_pop)
{
	nested(false);
	return 0;
}

SEC("?fexit/queue_map_pop_elem")
int BPF_PROG(after_pop)
{
	nested(false);
	return 0;
}

SEC("?tp_btf/nmi_handler")
int BPF_PROG(at_nmi)
{
	nested(true);
	return 0;
}

/* What the kernel put in place of the instruction is a jump, not a breakpoint. */
static bool is_jump(__u64 addr)
{
	__u8 opcode = 0;

	bpf_probe_read_kernel(&opcode, 1, (void *)addr);
	return opcode == 0xe9;
}

SEC("?syscall")
int is_jump_at(__u64 *addr)
{
	return is_jump(*addr);
}

SEC("?kprobe")
int at_instruction(struct pt_regs *ctx)
{
	/* The breakpoint's own byte has been passed. */
	__u64 addr = PT_REGS_IP(ctx) - 1, offset = addr - text_start;

	if (nest_at_jumps && !is_jump(addr))
		return 0;
	if (nested(false) && offset < sizeof(nested_at))
		nested_at[offset] = 1;
	return 0;
}
