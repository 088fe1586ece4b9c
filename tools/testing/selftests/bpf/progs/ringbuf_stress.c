// SPDX-License-Identifier: GPL-2.0
/*
 * Producers in every context a program can run in, on one ring, and programs that interrupt
 * a producer in the middle of an operation to do another one on the same ring.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "bpf_misc.h"
#include "ringbuf_stress.h"

#define CLOCK_MONOTONIC 1

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16384);
} ring SEC(".maps");

struct timer_on_cpu {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_CPUS_USED);
	__type(key, __u32);
	__type(value, struct timer_on_cpu);
} timers SEC(".maps");

const volatile __u32 size_bits = 13;	/* records are shorter than 1 << size_bits */
const volatile __u64 timer_nsecs = 100000;
const volatile bool default_wakeups;	/* else with any flags, at random */
const volatile bool polite;		/* nothing is sent while the ring is half full */
const volatile pid_t pid;

struct actor actors[NR_ACTORS];

/* What records are made of, one after another: the actor's byte everywhere. */
__u8 bufs[NR_ACTORS][MAX_RECORD];

/* On each CPU: an actor that can be interrupted is in a helper. */
__u32 in_op[NR_CPUS_USED];
__u32 in_nested[NR_CPUS_USED];
bool stop;

/* Breakpoints that were hit, by a number that each of them has. */
__u32 hits[NR_BREAKPOINTS];

static __always_inline __u64 *word_at(__u32 number, __u32 offset)
{
	offset &= MAX_RECORD - 8;
	return (__u64 *)&bufs[number % NR_ACTORS][offset];
}

static __always_inline void put_tags(__u32 number, __u32 len, __u64 word)
{
	*word_at(number, 0) = word;
	*word_at(number, TAG_MIDDLE(len)) = word;
	*word_at(number, TAG_END(len)) = word;
}

/* A length below 1 << size_bits; each power of two is as likely. */
static __always_inline __u32 random_len(void)
{
	__u32 random = bpf_get_prandom_u32();

	return random & ((1U << ((random >> 24) % (size_bits + 1))) - 1);
}

static __always_inline __u64 random_flags(void)
{
	__u32 random = bpf_get_prandom_u32() % 8;

	if (default_wakeups)
		return 0;
	return random == 0 ? BPF_RB_FORCE_WAKEUP : random == 1 ? BPF_RB_NO_WAKEUP : 0;
}

static __always_inline void count(struct actor *me, __u32 len, long err)
{
	if (err)
		me->refused++;
	else if (len < 8)
		me->sent_small++;
	else
		me->sent++;
}

static __always_inline void by_output(__u32 number, struct actor *me)
{
	__u32 len = random_len();
	long err;

	if (len >= 8)
		put_tags(number, len, TAG(number, len, me->sent));
	barrier_var(len);
	if (len > MAX_RECORD)
		return;
	err = bpf_ringbuf_output(&ring, bufs[number % NR_ACTORS], len, random_flags());
	if (len >= 8)
		put_tags(number, len, FILL_WORD(number));
	count(me, len, err);
}

static __always_inline void by_dynptr(__u32 number, struct actor *me)
{
	__u32 len = random_len();
	struct bpf_dynptr ptr;
	long err;

	err = bpf_ringbuf_reserve_dynptr(&ring, len, 0, &ptr);
	if (!err && len >= 8) {
		put_tags(number, len, TAG(number, len, me->sent));
		barrier_var(len);
		if (len <= MAX_RECORD)
			bpf_dynptr_write(&ptr, 0, bufs[number % NR_ACTORS], len, 0);
		put_tags(number, len, FILL_WORD(number));
	}
	/* Before the commit, as whoever interrupts it may count another one. */
	count(me, len, err);
	bpf_ringbuf_submit_dynptr(&ptr, random_flags());
}

/* Records as long as a constant, reserved and filled. */
static __always_inline __u64 *reserve(__u32 number, struct actor *me, const __u32 len)
{
	__u64 *sample, tag = TAG(number, len, me->sent);
	__u32 i;

	sample = bpf_ringbuf_reserve(&ring, len, 0);
	count(me, len, !sample);
	if (!sample)
		return NULL;
	for (i = 0; i < len / 8; i++)
		sample[i] = FILL_WORD(number);
	sample[0] = tag;
	sample[TAG_MIDDLE(len) / 8] = tag;
	sample[TAG_END(len) / 8] = tag;
	return sample;
}

static __always_inline void by_reserve(__u32 number, struct actor *me)
{
	__u64 *sample = reserve(number, me, 48);

	if (sample)
		bpf_ringbuf_submit(sample, random_flags());
}

/* Several at a time, the last one first. */
static __always_inline void by_several(__u32 number, struct actor *me)
{
	__u64 *first, *second, *third, *fourth;

	first = reserve(number, me, 16);
	second = reserve(number, me, 200);
	third = bpf_ringbuf_reserve(&ring, 40, 0);
	if (third)
		me->discarded++;
	else
		me->refused++;
	fourth = reserve(number, me, 8);
	if (fourth)
		bpf_ringbuf_submit(fourth, random_flags());
	if (third)
		bpf_ringbuf_discard(third, random_flags());
	if (second)
		bpf_ringbuf_submit(second, random_flags());
	if (first)
		bpf_ringbuf_submit(first, random_flags());
}

static __noinline int produce(__u32 number)
{
	struct actor *me = &actors[number % NR_ACTORS];

	switch (bpf_get_prandom_u32() % 8) {
	case 0:
	case 1:
	case 2:
		by_output(number, me);
		break;
	case 3:
		by_dynptr(number, me);
		break;
	case 4:
	case 5:
		by_reserve(number, me);
		break;
	default:
		by_several(number, me);
	}
	return 0;
}

/* So many operations, or until there is no room. */
SEC("syscall")
int drive(struct drive *args)
{
	__u32 cpu = args->cpu % NR_CPUS_USED, number = KIND_TASK * NR_CPUS_USED + cpu;
	__u64 refused = actors[number].refused;
	int i;

	bpf_for(i, 0, args->ops) {
		if (polite && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >
			      bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE) / 2)
			break;
		in_op[cpu]++;
		produce(number);
		in_op[cpu]--;
		if (actors[number].refused != refused)
			break;
	}
	return 0;
}

/* One that runs on a CPU of ours: its number, or -1. */
static __always_inline int this_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return cpu < NR_CPUS_USED && !stop ? cpu : -1;
}

static __always_inline void interrupt(enum kind kind, __u32 cpu)
{
	__u32 number = kind * NR_CPUS_USED + cpu;

	if (in_op[cpu % NR_CPUS_USED])
		actors[number % NR_ACTORS].inside++;
	produce(number);
}

static int at_timer(void *map, __u32 *key, struct timer_on_cpu *value)
{
	int cpu = this_cpu();

	if (cpu >= 0)
		interrupt(KIND_TIMER, cpu);
	if (!stop)
		bpf_timer_start(&value->timer, timer_nsecs, BPF_F_TIMER_CPU_PIN);
	return 0;
}

/* On the CPU where this runs. */
SEC("syscall")
int start_timer(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct timer_on_cpu *value = bpf_map_lookup_elem(&timers, &cpu);
	int err;

	if (!value)
		return 1;
	err = bpf_timer_init(&value->timer, &timers, CLOCK_MONOTONIC);
	if (err)
		return err;
	if (bpf_timer_set_callback(&value->timer, at_timer))
		return 1;
	return bpf_timer_start(&value->timer, timer_nsecs, BPF_F_TIMER_CPU_PIN);
}

SEC("syscall")
int cancel_timers(void *ctx)
{
	struct timer_on_cpu *value;
	__u32 cpu;

	stop = true;
	for (cpu = 0; cpu < NR_CPUS_USED; cpu++) {
		__u32 key = cpu;

		value = bpf_map_lookup_elem(&timers, &key);
		if (value)
			bpf_timer_cancel(&value->timer);
	}
	return 0;
}

SEC("?tp_btf/sched_switch")
int BPF_PROG(at_switch)
{
	int cpu = this_cpu();

	if (cpu >= 0)
		interrupt(KIND_SWITCH, cpu);
	return 0;
}

SEC("?tp_btf/nmi_handler")
int BPF_PROG(at_nmi)
{
	int cpu = this_cpu();

	if (cpu >= 0)
		interrupt(KIND_NMI, cpu);
	return 0;
}

/* Produce inside of what our thread is just about to do with the ring. */
static __always_inline bool nested(void)
{
	int cpu = this_cpu();

	if (cpu < 0 || cpu >= NR_CPUS_USED || bpf_get_current_pid_tgid() >> 32 != pid)
		return false;
	if (!in_op[cpu] || in_nested[cpu])
		return false;
	in_nested[cpu] = 1;
	interrupt(KIND_NESTED, cpu);
	in_nested[cpu] = 0;
	return true;
}

SEC("?fentry/_raw_spin_unlock_irqrestore")
int BPF_PROG(at_unlock)
{
	nested();
	return 0;
}

SEC("?fentry/bpf_ringbuf_submit")
int BPF_PROG(at_submit)
{
	nested();
	return 0;
}

SEC("?perf_event")
int at_breakpoint(struct bpf_perf_event_data *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);

	if (nested())
		__sync_fetch_and_add(&hits[cookie % NR_BREAKPOINTS], 1);
	return 0;
}
