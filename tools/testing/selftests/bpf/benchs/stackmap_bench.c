// SPDX-License-Identifier: GPL-2.0
/*
 * How long bpf_get_stackid() takes:
 *
 *   stackmap_bench [-t MILLISECONDS]
 *
 * measures each point for that long and prints a line for each: what, frames of the stack,
 * load of the map in percent, ns of a call (the median over the runs), calls, how many of them
 * failed. "known" stacks are in the map already, "new" ones are not: those are as many as 5
 * percent of the map, and only calls that stored them count. "build-id" stacks go back and
 * forth between 6 mappings of a file. "loop" calls nothing: what measuring costs.
 *
 * Stacks of user space are chains of frames in memory, with the frame pointer on the first one
 * when the program is run; the kernel's are what is there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "stackmap_bench.skel.h"

#define MAX_DEPTH	127
#define MAX_RUNS	65536
#define MIN_CALLS	(ENTRIES / 20)
#define BATCH		16
#define ENTRIES		8192
#define NR_MAPPINGS	6

struct frame {
	const struct frame *next;
	__u64 ip;
};

#ifdef __x86_64__
/* bpf(), with the frame pointer on @fp */
static long forged_bpf(const struct frame *fp, long cmd, union bpf_attr *attr, long size)
{
	long ret = __NR_bpf;

	asm volatile("xchg %%rbp, %[fp]; syscall; xchg %%rbp, %[fp]"
		     : "+a" (ret), [fp] "+r" (fp)
		     : "D" (cmd), "S" (attr), "d" (size)
		     : "rcx", "r11", "memory");
	return ret;
}
#else
#error "the call of bpf() with a frame pointer is written for x86-64 only"
#endif

static double results[MAX_RUNS];
static struct frame frames[MAX_DEPTH];
static __u64 mapped[NR_MAPPINGS];

static void fail(const char *what, int err)
{
	fprintf(stderr, "stackmap_bench: %s: %s\n", what, strerror(err));
	exit(1);
}

/* Stack number @n. With the real frame of the call, it has @depth frames. */
static void forge(unsigned int n, unsigned int depth, bool build_ids)
{
	unsigned int i;

	for (i = 0; i + 1 < depth; i++) {
		frames[i].next = i + 2 < depth ? &frames[i + 1] : NULL;
		frames[i].ip = build_ids ? mapped[i % NR_MAPPINGS] + 16 * i :
					   0x100000000000ULL + n * 256ULL + i;
	}
}

static void map_file(void)
{
	int i, fd = open("/proc/self/exe", O_RDONLY);
	void *p;

	if (fd < 0)
		fail("open", errno);
	for (i = 0; i < NR_MAPPINGS; i++) {
		/* With a hole behind each, or they would be one. */
		p = mmap(NULL, 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED ||
		    mmap(p, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) != p)
			fail("mmap", errno);
		mapped[i] = (__u64)p;
	}
	close(fd);
}

static void run(int prog_fd, const struct frame *fp)
{
	union bpf_attr attr = {};

	attr.test.prog_fd = prog_fd;
	if (forged_bpf(fp, BPF_PROG_TEST_RUN, &attr, sizeof(attr)))
		fail("BPF_PROG_TEST_RUN", EINVAL);
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

enum what { LOOP, KERNEL, KNOWN, NEW, BUILD_ID };
static const char * const names[] = { "loop", "known kernel", "known", "new", "build-id" };

/* Fill the map to @load percent, as far as it takes the stacks. */
static unsigned int fill(struct stackmap_bench *skel, int prog_fd, unsigned int load,
			 unsigned int depth)
{
	unsigned int n, stored = 0;

	for (n = 0; stored < ENTRIES * load / 100 && n < ENTRIES * 4; n++) {
		forge(n, depth, false);
		run(prog_fd, frames);
		stored += skel->bss->last >= 0;
	}
	return n;
}

static void empty_map(struct stackmap_bench *skel)
{
	__u32 key;

	while (!bpf_map_get_next_key(bpf_map__fd(skel->maps.stacks), NULL, &key))
		bpf_map_delete_elem(bpf_map__fd(skel->maps.stacks), &key);
}

static void measure(enum what what, unsigned int depth, unsigned int load, unsigned int ms)
{
	unsigned int entry = what == BUILD_ID ? sizeof(struct bpf_stack_build_id) : 8;
	unsigned long calls = 0, nr = 0, n = 0, failed = 0;
	double until;
	struct stackmap_bench *skel;
	int prog_fd;

	skel = stackmap_bench__open();
	if (!skel)
		fail("open", errno);
	skel->rodata->flags = what == KERNEL ? 0 : BPF_F_USER_STACK;
	skel->rodata->batch = what == NEW ? 1 : BATCH;
	bpf_map__set_max_entries(skel->maps.stacks, ENTRIES);
	bpf_map__set_value_size(skel->maps.stacks, MAX_DEPTH * entry);
	if (what == BUILD_ID)
		bpf_map__set_map_flags(skel->maps.stacks, BPF_F_STACK_BUILD_ID);
	if (stackmap_bench__load(skel))
		fail("load", errno);
	prog_fd = bpf_program__fd(what == LOOP ? skel->progs.loop : skel->progs.get);

	if (what == KNOWN)
		fill(skel, prog_fd, load, depth);
	forge(what == KNOWN ? 0 : ~0U, depth, what == BUILD_ID);
	if (what == KNOWN || what == BUILD_ID || what == KERNEL)
		run(prog_fd, frames);
	until = now() + ms;
	/* To fill the map takes longer than to measure. */
	while ((now() < until || calls < MIN_CALLS) && nr < MAX_RUNS) {
		if (what == NEW && calls % MIN_CALLS == 0) {
			/* No more than a few percent above the load. */
			empty_map(skel);
			n = fill(skel, prog_fd, load, depth);
		}
		if (what == NEW)
			forge(n++, depth, false);
		skel->bss->failed = 0;
		run(prog_fd, frames);
		calls += skel->rodata->batch;
		failed += skel->bss->failed;
		if (!skel->bss->failed)
			results[nr++] = (double)skel->bss->ns / skel->rodata->batch;
	}
	if (!nr)
		fail("no call succeeded", EINVAL);
	qsort(results, nr, sizeof(*results), by_value);
	printf("%s\t%u\t%u\t%.1f\t%lu\t%lu\n", names[what], depth, load, results[nr / 2], calls,
	       failed);
	fflush(stdout);
	stackmap_bench__destroy(skel);
}

int main(int argc, char **argv)
{
	static const unsigned int depths[] = { 20, 100 }, loads[] = { 10, 50, 90 };
	unsigned int ms = 300, i, j;
	cpu_set_t set;
	int opt;

	while ((opt = getopt(argc, argv, "t:")) != -1) {
		if (opt != 't')
			return 2;
		ms = atoi(optarg);
	}
	if (!ms)
		return 2;
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity", errno);
	map_file();

	measure(LOOP, 0, 0, ms);
	measure(KERNEL, 0, 0, ms);
	for (i = 0; i < 2; i++) {
		measure(KNOWN, depths[i], 10, ms);
		for (j = 0; j < 3; j++)
			measure(NEW, depths[i], loads[j], ms);
	}
	measure(BUILD_ID, 60, 0, ms);
	return 0;
}
