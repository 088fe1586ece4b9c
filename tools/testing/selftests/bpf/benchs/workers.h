/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Workers, each on a CPU of its own, that run a program again and again. The program does many
 * operations in a run and takes the time itself, so system calls do not count.
 *
 * CPUs may be threads of a busy host: with more than one worker, a run that was interrupted for
 * long does not count, nor does one while another worker stood still.
 */
#ifndef __WORKERS_H
#define __WORKERS_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "progs/workers.h"

/* A run takes some 100 us; one that takes a multiple of that was interrupted. */
#define INTERRUPTED_NS	1500000

static enum { WARM_UP, MEASURE, STOP } phase;
static pthread_barrier_t start;
static int nr_workers = 1;
static unsigned int run_ops;		/* operations in a run */
static struct cpu_result *results;	/* of the programs */

static struct worker {
	pthread_t thread;
	int prog_fd;
	unsigned long runs, counted;
} workers[MAX_CPUS];

/* After each run; and after one that counts. */
static void after_run(void);
static void count_run(int cpu, unsigned long done, unsigned long ns);

static void fail(const char *what, int err)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(err));
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity", errno);
}

static unsigned long done(int cpu)
{
	return __atomic_load_n(&results[cpu].done, __ATOMIC_RELAXED);
}

static unsigned long tried(int cpu)
{
	return done(cpu) + __atomic_load_n(&results[cpu].refused, __ATOMIC_RELAXED);
}

static void *work(void *arg)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct worker *me = arg;
	int i, cpu = me - workers;
	unsigned long before[MAX_CPUS], done_before;
	bool counts;

	pin(cpu);
	pthread_barrier_wait(&start);
	while (__atomic_load_n(&phase, __ATOMIC_RELAXED) != STOP) {
		for (i = 0; i < nr_workers; i++)
			before[i] = tried(i);
		done_before = done(cpu);
		if (bpf_prog_test_run_opts(me->prog_fd, &opts))
			fail("bpf_prog_test_run_opts", errno);
		after_run();
		if (__atomic_load_n(&phase, __ATOMIC_RELAXED) != MEASURE)
			continue;

		me->runs++;
		counts = nr_workers == 1 || results[cpu].ns < INTERRUPTED_NS;
		for (i = 0; i < nr_workers; i++)
			counts &= tried(i) - before[i] >= run_ops / 4;
		if (counts) {
			me->counted++;
			count_run(cpu, done(cpu) - done_before, results[cpu].ns);
		}
	}
	return NULL;
}

/*
 * Worker @i runs the program of name @progs[i]. In @share the percentage of the runs that
 * counted, in @refused all operations that were refused.
 */
static void run_workers(const struct bpf_object *obj, const char *const *progs, unsigned int ms,
			unsigned long *share, unsigned long *refused)
{
	unsigned long runs = 0, counted = 0;
	int i, err;

	phase = WARM_UP;
	pthread_barrier_init(&start, NULL, nr_workers + 1);
	for (i = 0; i < nr_workers; i++) {
		workers[i] = (struct worker) {
			.prog_fd = bpf_program__fd(bpf_object__find_program_by_name(obj, progs[i])),
		};
		err = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
		if (err)
			fail("pthread_create", err);
	}
	pthread_barrier_wait(&start);
	usleep(ms * 1000 / 4);
	__atomic_store_n(&phase, MEASURE, __ATOMIC_RELAXED);
	usleep(ms * 1000);
	__atomic_store_n(&phase, STOP, __ATOMIC_RELAXED);
	*refused = 0;
	for (i = 0; i < nr_workers; i++) {
		pthread_join(workers[i].thread, NULL);
		runs += workers[i].runs;
		counted += workers[i].counted;
		*refused += results[i].refused;
	}
	*share = runs ? counted * 100 / runs : 0;
	pthread_barrier_destroy(&start);
}

#endif
