// SPDX-License-Identifier: GPL-2.0
/*
 * How fast programs write records of various sizes into a ring buffer:
 *
 *   ringbuf_sizes [-t MILLISECONDS] [-p PRODUCERS] [-s BYTES]
 *
 * measures each point for that long, with 1, 2, 4... pinned producers up to that many, and
 * prints a line for each: what was called, producers, bytes of payload, millions of records
 * a second, the share in percent of the runs that counted, how many records were refused, and
 * how many ns a cache line took from one CPU to the next (whether a host runs both on one core
 * or not matters more than all else). "loop" calls nothing: what measuring costs. -s: records of
 * this size only, and "reserve" only.
 *
 * A program writes many records in a run and takes the time itself, so system calls do not
 * count. There is no consumer thread: after each run a producer moves consumer_pos up to
 * producer_pos, but into the middle of a record, where none starts, so nobody is woken.
 *
 * The rate is the median over the runs. CPUs may be threads of a busy host: with more than one
 * producer, a run that was interrupted for long does not count, nor does one while another
 * producer stood still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "progs/ringbuf_sizes.h"
#include "ringbuf_sizes.skel.h"

#define MAX_RUNS	65536
#define MIN_RING	(1024 * 1024)
/* A ring has room for this many, even of the longest. */
#define MIN_RECORDS	256
/* A run takes some 100 us; one that takes a multiple of that was interrupted. */
#define MAX_BATCH	1024
#define INTERRUPTED_NS	1500000
#define TURNS		4000

static const unsigned int sizes[] = { 8, 64, 256, 1024, 4096, 16384 };

static enum { WARM_UP, MEASURE, STOP } phase;
static struct ringbuf_sizes *skel;
static unsigned long *consumer_pos;
static const unsigned long *producer_pos;
static pthread_barrier_t start;
static int nr_producers, prog_fd;
static int turn;

static struct producer {
	pthread_t thread;
	unsigned long runs, counted;
	double ns[MAX_RUNS];	/* per record, of those counted */
} producers[MAX_CPUS];

static void fail(const char *what, int err)
{
	fprintf(stderr, "ringbuf_sizes: %s: %s\n", what, strerror(err));
	exit(1);
}

static unsigned long records(int i)
{
	return __atomic_load_n(&skel->bss->results[i].records, __ATOMIC_RELAXED);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity", errno);
}

/* Two threads in turns: 0 and 1. */
static void *take_turns(void *arg)
{
	int i, me = (long)arg;

	pin(me);
	for (i = 0; i < TURNS; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_RELAXED) != me)
			;
		__atomic_store_n(&turn, !me, __ATOMIC_RELAXED);
	}
	return NULL;
}

static double distance(void)
{
	struct timespec begin, end;
	double ns, best = 1e9;
	pthread_t thread[2];
	long i, round;

	for (round = 0; round < 10; round++) {
		clock_gettime(CLOCK_MONOTONIC, &begin);
		for (i = 0; i < 2; i++)
			pthread_create(&thread[i], NULL, take_turns, (void *)i);
		for (i = 0; i < 2; i++)
			pthread_join(thread[i], NULL);
		clock_gettime(CLOCK_MONOTONIC, &end);
		ns = (end.tv_sec - begin.tv_sec) * 1e9 + end.tv_nsec - begin.tv_nsec;
		if (ns / TURNS / 2 < best)
			best = ns / TURNS / 2;
	}
	return best;
}

static void consume(void)
{
	unsigned long prod = __atomic_load_n(producer_pos, __ATOMIC_ACQUIRE) - 4;
	unsigned long cons = __atomic_load_n(consumer_pos, __ATOMIC_RELAXED);

	while ((long)(prod - cons) > 0 &&
	       !__atomic_compare_exchange_n(consumer_pos, &cons, prod, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

static void *produce(void *arg)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct producer *me = arg;
	int i, cpu = me - producers;
	struct cpu_result *result = &skel->bss->results[cpu];
	unsigned long before[MAX_CPUS], done, batch = skel->rodata->batch;
	bool counts;

	pin(cpu);
	pthread_barrier_wait(&start);

	while (__atomic_load_n(&phase, __ATOMIC_RELAXED) != STOP) {
		for (i = 0; i < nr_producers; i++)
			before[i] = records(i);
		if (bpf_prog_test_run_opts(prog_fd, &opts))
			fail("bpf_prog_test_run_opts", errno);
		if (consumer_pos)
			consume();
		if (__atomic_load_n(&phase, __ATOMIC_RELAXED) != MEASURE || me->counted == MAX_RUNS)
			continue;

		me->runs++;
		counts = nr_producers == 1 || result->ns < INTERRUPTED_NS;
		for (i = 0; i < nr_producers; i++)
			counts &= records(i) - before[i] >= batch / 4;
		done = records(cpu) - before[cpu];
		if (counts && done)
			me->ns[me->counted++] = (double)result->ns / done;
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static unsigned int ring_size(unsigned int size)
{
	unsigned int ring = MIN_RING;

	while (ring < MIN_RECORDS * (size + 8))
		ring *= 2;
	return ring;
}

static void map_positions(void)
{
	long page = sysconf(_SC_PAGESIZE);
	int fd = bpf_map__fd(skel->maps.ring);

	consumer_pos = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	producer_pos = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, page);
	if (consumer_pos == MAP_FAILED || producer_pos == MAP_FAILED)
		fail("mmap", errno);
}

static void unmap_positions(void)
{
	long page = sysconf(_SC_PAGESIZE);

	munmap(consumer_pos, page);
	munmap((void *)producer_pos, page);
	consumer_pos = NULL;
}

static void measure(const char *what, unsigned int size, unsigned int ms)
{
	bool overwrite = !strcmp(what, "overwrite");
	unsigned long runs = 0, counted = 0, refused = 0, batch;
	struct bpf_program *prog;
	double rate = 0, ns;
	int i, err;

	skel = ringbuf_sizes__open();
	if (!skel)
		fail("open", errno);
	/* Never full: all producers may be one run ahead of the one who consumes. */
	batch = ring_size(size) / (size + 8) / 2 / nr_producers;
	skel->rodata->batch = batch < MAX_BATCH ? batch : MAX_BATCH;
	skel->rodata->size = size;
	bpf_map__set_max_entries(skel->maps.ring, ring_size(size));
	if (overwrite)
		bpf_map__set_map_flags(skel->maps.ring, BPF_F_RB_OVERWRITE);
	err = ringbuf_sizes__load(skel);
	if (err)
		fail("load", -err);
	prog = bpf_object__find_program_by_name(skel->obj, overwrite ? "reserve" : what);
	prog_fd = bpf_program__fd(prog);
	if (!overwrite)
		map_positions();

	ns = nr_producers > 1 ? distance() : 0;
	phase = WARM_UP;
	pthread_barrier_init(&start, NULL, nr_producers + 1);
	for (i = 0; i < nr_producers; i++) {
		producers[i].runs = 0;
		producers[i].counted = 0;
		err = pthread_create(&producers[i].thread, NULL, produce, &producers[i]);
		if (err)
			fail("pthread_create", err);
	}
	pthread_barrier_wait(&start);
	usleep(ms * 1000 / 4);
	__atomic_store_n(&phase, MEASURE, __ATOMIC_RELAXED);
	usleep(ms * 1000);
	__atomic_store_n(&phase, STOP, __ATOMIC_RELAXED);
	for (i = 0; i < nr_producers; i++) {
		struct producer *p = &producers[i];

		pthread_join(p->thread, NULL);
		qsort(p->ns, p->counted, sizeof(*p->ns), by_value);
		if (p->counted)
			rate += 1000 / p->ns[p->counted / 2];
		runs += p->runs;
		counted += p->counted;
		refused += skel->bss->results[i].refused;
	}
	printf("%s\t%d\t%u\t%.6f\t%lu\t%lu\t%.0f\n", what, nr_producers, size, rate,
	       runs ? counted * 100 / runs : 0, refused, ns);
	fflush(stdout);

	if (!overwrite)
		unmap_positions();
	ringbuf_sizes__destroy(skel);
	pthread_barrier_destroy(&start);
}

static bool has_overwrite(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_RB_OVERWRITE);
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, NULL, 0, 0, 1 << 16, &opts);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int main(int argc, char **argv)
{
	unsigned int i, ms = 300, max_producers = 1, size = 0;
	int opt;

	while ((opt = getopt(argc, argv, "t:p:s:")) != -1) {
		switch (opt) {
		case 't':
			ms = atoi(optarg);
			break;
		case 'p':
			max_producers = atoi(optarg);
			break;
		case 's':
			size = atoi(optarg);
			break;
		default:
			return 2;
		}
	}
	if (!ms || !max_producers || max_producers > MAX_CPUS)
		return 2;

	nr_producers = 1;
	measure("loop", sizes[0], ms);
	for (; nr_producers <= max_producers; nr_producers *= 2) {
		if (size)
			measure("reserve", size, ms);
		for (i = 0; !size && i < sizeof(sizes) / sizeof(*sizes); i++) {
			measure("reserve", sizes[i], ms);
			measure("output", sizes[i], ms);
			if (has_overwrite())
				measure("overwrite", sizes[i], ms);
		}
	}
	return 0;
}
