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
 * workers.h says which runs of a program count.
 */
#define _GNU_SOURCE
#include <time.h>
#include "workers.h"
#include "queue_bench.skel.h"

#define BATCH		512
#define NR		256

static struct queue_bench *skel;
static double values_done[MAX_CPUS], ns_taken[MAX_CPUS];

static void after_run(void)
{
}

static void count_run(int cpu, unsigned long done, unsigned long ns)
{
	values_done[cpu] += done;
	ns_taken[cpu] += ns;
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void load(enum bpf_map_type type, unsigned int size)
{
	skel = queue_bench__open();
	if (!skel)
		fail("open", errno);
	run_ops = BATCH;
	skel->rodata->batch = run_ops;
	bpf_map__set_type(skel->maps.map, type);
	bpf_map__set_value_size(skel->maps.map, size);
	if (queue_bench__load(skel))
		fail("load", errno);
	results = skel->bss->results;
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
	const char *const names[] = { first, second };
	unsigned long share, refused;
	double rate = 0;
	int i;

	load(type, size);
	nr_workers = second ? 2 : 1;
	memset(values_done, 0, sizeof(values_done));
	memset(ns_taken, 0, sizeof(ns_taken));
	run_workers(skel->obj, names, ms, &share, &refused);
	for (i = 0; i < nr_workers; i++)
		if (ns_taken[i] && strcmp(names[i], "push"))
			rate += values_done[i] * 1e3 / ns_taken[i];
	print(type, what, nr_workers, size, rate, share, refused);
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
	if (!ms || !cpus || cpus > 2)
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
