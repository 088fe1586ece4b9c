/* SPDX-License-Identifier: GPL-2.0 */
/* Programs that do many operations in one run, and take the time of it. */
#ifndef __PROGS_WORKERS_H
#define __PROGS_WORKERS_H

#define MAX_CPUS 16
#define MAX_WORDS 8

/* Written by the programs on one CPU; no two on a cache line, nor on neighbours. */
struct cpu_result {
	unsigned long long done;	/* in all */
	unsigned long long refused;	/* in all: no room, no value */
	unsigned long long ns;		/* that the last run took */
	unsigned long long value[MAX_WORDS];
	unsigned long long unused[21];
};

#ifdef __bpf__
const volatile __u32 batch = 1;	/* operations in a run */

struct cpu_result results[MAX_CPUS];

static void count(struct cpu_result *me, long err)
{
	if (err)
		me->refused++;
	else
		me->done++;
}

static long loop_one(__u32 i, struct cpu_result **me)
{
	count(*me, 0);
	return 0;
}

/* A program that does an operation @batch times. */
#define RUN(one)							\
SEC("raw_tp")								\
int one(void *ctx)							\
{									\
	struct cpu_result *me;						\
	__u64 start;							\
									\
	me = &results[bpf_get_smp_processor_id() % MAX_CPUS];		\
	start = bpf_ktime_get_ns();					\
	bpf_loop(batch, one##_one, &me, 0);				\
	me->ns = bpf_ktime_get_ns() - start;				\
	return 0;							\
}

RUN(loop)
#endif

#endif
