// SPDX-License-Identifier: GPL-2.0
/*
 * How fast programs push to a queue or stack and pop from it, and system calls do:
 *
 *   queue_bench [-t MILLISECONDS] [-p CPUS]
 *
 * measures each point for that long and prints a line for each: type, what, CPUs (1 or 2),
 * bytes of a value, millions of values a second, the share in percent of the runs that counted,
 * how many operations were refused, and 0. "pairs": each CPU pushes and pops in turns;
 * "pipe": one pushes and the other one pops; the rest are 256 values, by as many system calls
 * or in one batch, where the kernel has that. "loop" calls nothing: what measuring costs.
 *
 * Programs operate many times in a run and take the time themselves. CPUs may be threads of a busy
 * host: with two, a run that was interrupted for long does not count, nor does one while the
 * other CPU stood still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "progs/queue_bench.h"
#include "queue_bench.skel.h"

#define BATCH		512
#define INTERRUPTED_NS	1500000
#define NR		256

static enum { WARM_UP, MEASURE, STOP } phase;
static struct queue_bench *skel;
static pthread_barrier_t start;
static int nr_cpus;

static struct worker {
	pthread_t thread;
	int prog_fd;
	unsigned long runs, counted, done;
	double ns;
} workers[MAX_CPUS];

static void fail(const char *what, int err)
{
	fprintf(stderr, "queue_bench: %s: %s\n", what, strerror(err));
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

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static unsigned long done(int i)
{
	return __atomic_load_n(&skel->bss->results[i].done, __ATOMIC_RELAXED);
}

static unsigned long tried(int i)
{
	return done(i) + __atomic_load_n(&skel->bss->results[i].refused, __ATOMIC_RELAXED);
}

static void *work(void *arg)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct worker *me = arg;
	int i, cpu = me - workers;
	struct cpu_result *result = &skel->bss->results[cpu];
	unsigned long before[MAX_CPUS], done_before;
	bool counts;

	pin(cpu);
	pthread_barrier_wait(&start);
	while (__atomic_load_n(&phase, __ATOMIC_RELAXED) != STOP) {
		for (i = 0; i < nr_cpus; i++)
			before[i] = tried(i);
		done_before = done(cpu);
		if (bpf_prog_test_run_opts(me->prog_fd, &opts))
			fail("bpf_prog_test_run_opts", errno);
		if (__atomic_load_n(&phase, __ATOMIC_RELAXED) != MEASURE)
			continue;

		me->runs++;
		counts = nr_cpus == 1 || result->ns < INTERRUPTED_NS;
		for (i = 0; i < nr_cpus; i++)
			counts &= tried(i) - before[i] >= BATCH / 4;
		if (counts) {
			me->counted++;
			me->done += done(cpu) - done_before;
			me->ns += result->ns;
		}
	}
	return NULL;
}

static void load(enum bpf_map_type type, unsigned int size)
{
	skel = queue_bench__open();
	if (!skel)
		fail("open", errno);
	skel->rodata->batch = BATCH;
	bpf_map__set_type(skel->maps.map, type);
	bpf_map__set_value_size(skel->maps.map, size);
	if (queue_bench__load(skel))
		fail("load", errno);
}

static void print(enum bpf_map_type type, const char *what, int cpus, unsigned int size,
		  double rate, unsigned long share, unsigned long refused)
{
	printf("%s\t%s\t%d\t%u\t%.6f\t%lu\t%lu\t0\n",
	       type == BPF_MAP_TYPE_QUEUE ? "queue" : "stack", what, cpus, size, rate, share,
	       refused);
	fflush(stdout);
}

/* The program of each CPU; the rate is that of what they popped. */
static void measure(enum bpf_map_type type, unsigned int size, unsigned int ms, const char *what,
		    const char *first, const char *second)
{
	const char *names[MAX_CPUS];
	unsigned long runs = 0, counted = 0, refused = 0;
	double rate = 0;
	int i, err;

	load(type, size);
	names[0] = first;
	names[1] = second;
	nr_cpus = second ? 2 : 1;
	phase = WARM_UP;
	pthread_barrier_init(&start, NULL, nr_cpus + 1);
	for (i = 0; i < nr_cpus; i++) {
		workers[i] = (struct worker) {
			.prog_fd = bpf_program__fd(bpf_object__find_program_by_name(skel->obj,
										    names[i])),
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
	for (i = 0; i < nr_cpus; i++) {
		struct worker *w = &workers[i];

		pthread_join(w->thread, NULL);
		if (w->counted && strcmp(names[i], "push"))
			rate += w->done * 1e3 / w->ns;
		runs += w->runs;
		counted += w->counted;
		refused += skel->bss->results[i].refused;
	}
	print(type, what, nr_cpus, size, rate, runs ? counted * 100 / runs : 0, refused);
	pthread_barrier_destroy(&start);
	queue_bench__destroy(skel);
}

/* NR values in, and out again. False if the kernel has no batches. */
static bool fill(int fd, char *values, unsigned int size, bool batch)
{
	__u32 count = NR, i;

	if (batch)
		return !bpf_map_update_batch(fd, NULL, values, &count, NULL);
	for (i = 0; i < NR; i++)
		if (bpf_map_update_elem(fd, NULL, values + i * size, BPF_ANY))
			fail("push", errno);
	return true;
}

static void drain(int fd, char *values, unsigned int size, bool batch)
{
	__u32 count = NR, i;

	if (batch) {
		if (bpf_map_lookup_and_delete_batch(fd, NULL, NULL, NULL, values, &count, NULL) ||
		    count != NR)
			fail("pop a batch", errno);
		return;
	}
	for (i = 0; i < NR; i++)
		if (bpf_map_lookup_and_delete_elem(fd, NULL, values + i * size))
			fail("pop", errno);
}

static void measure_calls(enum bpf_map_type type, unsigned int size, unsigned int ms, bool batch)
{
	char values[NR * MAX_WORDS * 8] = {};
	double begin, middle, end, until, push = 0, pop = 0;
	unsigned long rounds = 0;
	int fd;

	load(type, size);
	pin(0);
	fd = bpf_map__fd(skel->maps.map);
	until = now_ns() + ms * 1e6;
	do {
		begin = now_ns();
		if (!fill(fd, values, size, batch))
			goto out;
		middle = now_ns();
		drain(fd, values, size, batch);
		end = now_ns();
		push += middle - begin;
		pop += end - middle;
		rounds++;
	} while (end < until);
	push = rounds * NR * 1e3 / push;
	pop = rounds * NR * 1e3 / pop;
	print(type, batch ? "push, batch" : "push, calls", 1, size, push, 100, 0);
	print(type, batch ? "pop, batch" : "pop, calls", 1, size, pop, 100, 0);
out:
	queue_bench__destroy(skel);
}

int main(int argc, char **argv)
{
	static const enum bpf_map_type types[] = { BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK };
	static const unsigned int sizes[] = { 8, 64 };
	unsigned int i, j, ms = 300, cpus = 1;
	int opt;

	while ((opt = getopt(argc, argv, "t:p:")) != -1) {
		switch (opt) {
		case 't':
			ms = atoi(optarg);
			break;
		case 'p':
			cpus = atoi(optarg);
			break;
		default:
			return 2;
		}
	}
	if (!ms || !cpus || cpus > MAX_CPUS)
		return 2;

	measure(BPF_MAP_TYPE_QUEUE, 8, ms, "loop", "loop", NULL);
	for (i = 0; i < 2; i++) {
		for (j = 0; j < 2; j++) {
			measure(types[i], sizes[j], ms, "pairs", "pairs", NULL);
			if (cpus > 1) {
				measure(types[i], sizes[j], ms, "pairs", "pairs", "pairs");
				measure(types[i], sizes[j], ms, "pipe", "push", "pop");
			}
			measure_calls(types[i], sizes[j], ms, false);
			measure_calls(types[i], sizes[j], ms, true);
		}
	}
	return 0;
}
