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
 * There is no consumer thread: after each run a producer moves consumer_pos up to producer_pos,
 * but into the middle of a record, where none starts, so nobody is woken. The rate is the median
 * over the runs; workers.h says which of them count.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <time.h>
#include "workers.h"
#include "ringbuf_sizes.skel.h"

#define MAX_RUNS	65536
#define MIN_RING	(1024 * 1024)
/* A ring has room for this many, even of the longest. */
#define MIN_RECORDS	256
#define MAX_BATCH	1024	/* some 100 us */
#define TURNS		4000

static const unsigned int sizes[] = { 8, 64, 256, 1024, 4096, 16384 };

static struct ringbuf_sizes *skel;
static unsigned long *consumer_pos;
static const unsigned long *producer_pos;
static int turn;

/* For each record, in the runs that counted. */
static double ns_taken[MAX_CPUS][MAX_RUNS];
static int nr_taken[MAX_CPUS];

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

static void after_run(void)
{
	unsigned long prod, cons;

	if (!consumer_pos)
		return;
	prod = __atomic_load_n(producer_pos, __ATOMIC_ACQUIRE) - 4;
	cons = __atomic_load_n(consumer_pos, __ATOMIC_RELAXED);
	while ((long)(prod - cons) > 0 &&
	       !__atomic_compare_exchange_n(consumer_pos, &cons, prod, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

static void count_run(int cpu, unsigned long done, unsigned long ns)
{
	if (done && nr_taken[cpu] < MAX_RUNS)
		ns_taken[cpu][nr_taken[cpu]++] = (double)ns / done;
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
	const char *progs[MAX_CPUS];
	unsigned long share, refused;
	double rate = 0, ns;
	int i, err;

	skel = ringbuf_sizes__open();
	if (!skel)
		fail("open", errno);
	/* Never full: all producers may be one run ahead of the one who consumes. */
	run_ops = ring_size(size) / (size + 8) / 2 / nr_workers;
	if (run_ops > MAX_BATCH)
		run_ops = MAX_BATCH;
	skel->rodata->batch = run_ops;
	skel->rodata->size = size;
	bpf_map__set_max_entries(skel->maps.ring, ring_size(size));
	if (overwrite)
		bpf_map__set_map_flags(skel->maps.ring, BPF_F_RB_OVERWRITE);
	err = ringbuf_sizes__load(skel);
	if (err)
		fail("load", -err);
	results = skel->bss->results;
	if (!overwrite)
		map_positions();

	ns = nr_workers > 1 ? distance() : 0;
	for (i = 0; i < nr_workers; i++) {
		progs[i] = overwrite ? "reserve" : what;
		nr_taken[i] = 0;
	}
	run_workers(skel->obj, progs, ms, &share, &refused);
	for (i = 0; i < nr_workers; i++) {
		qsort(ns_taken[i], nr_taken[i], sizeof(double), by_value);
		if (nr_taken[i])
			rate += 1000 / ns_taken[i][nr_taken[i] / 2];
	}
	printf("%s\t%d\t%u\t%.6f\t%lu\t%lu\t%.0f\n", what, nr_workers, size, rate, share,
	       refused, ns);
	fflush(stdout);

	if (!overwrite)
		unmap_positions();
	ringbuf_sizes__destroy(skel);
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

	measure("loop", sizes[0], ms);
	for (; nr_workers <= max_producers; nr_workers *= 2) {
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
