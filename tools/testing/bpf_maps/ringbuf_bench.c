// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast programs reserve and submit records:
 *
 *   ringbuf_bench [-s payload bytes] [-p producers] [-t seconds] [-w] [-o] [-b ring bytes]
 *
 * -w fills the payload, -o is for overwrite mode. Prints millions of records a second, the
 * share of the time, in percent, that was measured, and the number of refused reservations.
 *
 * There is no consumer thread: each producer moves consumer_pos up to producer_pos now and
 * then, but into the middle of a slot, where no record starts, so nothing is woken.
 *
 * What else runs on the machine would make producers take turns. So time is cut in slices of
 * about 20 us, and a slice counts if it was not interrupted for long and all other producers
 * made progress in it.
 */
#include "shim.h"
#include RINGBUF_C

static struct bpf_map *map;
static unsigned long *consumer_pos, *producer_pos;
static unsigned int size = 64, producers = 1, ring = 1 << 20;
static bool fill;
static int running, stop;

#define SLICE_NS	20000
#define INTERRUPTED_NS	200000

static struct producer {
	pthread_t thread;
	unsigned long beats;	/* read by the others */
	double rate, share;
	unsigned long refused;
} __aligned(128) producer[16];

#if defined(__x86_64__) || defined(__i386__)
#define ticks()		__builtin_ia32_rdtsc()
#else
#define ticks()		shim_clock()
#endif

/* One after the other of those that this process may use. */
static void pin(int nr)
{
	cpu_set_t may, one;
	int cpu;

	sched_getaffinity(getpid(), sizeof(may), &may);
	nr %= CPU_COUNT(&may);
	for (cpu = 0; !CPU_ISSET(cpu, &may) || nr--; cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
}

/* Up to @nr records, fewer if the ring is full; how many. */
static unsigned int batch(unsigned int nr)
{
	unsigned int i;
	void *sample;

	for (i = 0; i < nr; i++) {
		sample = (void *)bpf_ringbuf_reserve(map, size, 0);
		if (unlikely(!sample))
			break;
		if (fill)
			memset(sample, i, size);
		bpf_ringbuf_submit(sample, 0);
	}
	smp_store_release(consumer_pos, READ_ONCE(*producer_pos) - 4);
	return i;
}

/* All others have done something since the last call. */
static bool others_run(const struct producer *me, unsigned long *seen)
{
	bool all = true;
	unsigned int i;

	for (i = 0; i < producers; i++) {
		unsigned long beats = READ_ONCE(producer[i].beats);

		if (&producer[i] != me && beats == seen[i])
			all = false;
		seen[i] = beats;
	}
	return all;
}

static void *produce(void *arg)
{
	unsigned int done, nr = max(1UL, min(64UL, ring / 16 / producers / (size + 8UL)));
	unsigned long records = 0, slice = 0, refused = 0, seen[ARRAY_SIZE(producer)] = {};
	u64 start, wall, begin, now, measured = 0;
	struct producer *me = arg;
	double ns_per_tick;

	shim_cpu = me - producer;
	pin(shim_cpu);
	__atomic_fetch_add(&running, 1, __ATOMIC_SEQ_CST);
	while (READ_ONCE(running) < producers)
		cpu_relax();

	/* The first slice warms up, and tells how long a tick is. */
	wall = shim_clock();
	start = ticks();
	do
		batch(nr);
	while ((now = shim_clock()) - wall < 20 * 1000 * 1000);
	begin = ticks();
	ns_per_tick = (double)(now - wall) / (begin - start);

	start = begin;
	others_run(me, seen);
	while (!READ_ONCE(stop)) {
		done = batch(nr);
		slice += done;
		refused += done < nr;
		WRITE_ONCE(me->beats, me->beats + 1);
		now = ticks();
		if ((now - begin) * ns_per_tick < SLICE_NS)
			continue;
		if (others_run(me, seen) && (now - begin) * ns_per_tick < INTERRUPTED_NS) {
			records += slice;
			measured += now - begin;
		}
		slice = 0;
		begin = ticks();
	}

	me->refused = refused;
	if (measured)
		me->rate = records / (measured * ns_per_tick);
	me->share = (double)measured / (now - start);
	return NULL;
}

static unsigned long *map_page(unsigned long pgoff, unsigned long vm_flags)
{
	unsigned long addr = (unsigned long)shim_reserve_range(PAGE_SIZE);
	struct vm_area_struct vma = {
		.vm_start = addr,
		.vm_end = addr + PAGE_SIZE,
		.vm_pgoff = pgoff,
		.vm_flags = vm_flags,
	};

	if (ringbuf_map_ops.map_mmap(map, &vma))
		shim_die("map_mmap");
	return (unsigned long *)addr;
}

/* With real-time priority the producers would not let this thread stop them. */
static void stay_in_control(void)
{
	struct sched_param param;
	int policy = sched_getscheduler(0);

	if (policy != SCHED_FIFO && policy != SCHED_RR)
		return;
	sched_getparam(0, &param);
	param.sched_priority++;
	if (sched_setscheduler(0, policy, &param))
		shim_die("sched_setscheduler");
}

int main(int argc, char **argv)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_RINGBUF };
	double time = 0.3, rate = 0, share = 0;
	unsigned long refused = 0;
	unsigned int i;
	int opt;

	while ((opt = getopt(argc, argv, "s:p:t:b:wo")) != -1) {
		switch (opt) {
		case 's':
			size = atoi(optarg);
			break;
		case 'p':
			producers = atoi(optarg);
			break;
		case 't':
			time = atof(optarg);
			break;
		case 'b':
			ring = atoi(optarg);
			break;
		case 'w':
			fill = true;
			break;
		case 'o':
			attr.map_flags = BPF_F_RB_OVERWRITE;
			break;
		default:
			return 2;
		}
	}
	if (!producers || producers > ARRAY_SIZE(producer))
		return 2;

	attr.max_entries = ring;
	map = ringbuf_map_ops.map_alloc(&attr);
	if (IS_ERR(map)) {
		fprintf(stderr, "map_alloc: %ld\n", PTR_ERR(map));
		return 1;
	}
	consumer_pos = map_page(0, VM_READ | VM_WRITE);
	producer_pos = map_page(1, VM_READ);

	for (i = 0; i < producers; i++)
		pthread_create(&producer[i].thread, NULL, produce, &producer[i]);
	stay_in_control();
	usleep(time * 1e6);
	WRITE_ONCE(stop, 1);
	for (i = 0; i < producers; i++) {
		pthread_join(producer[i].thread, NULL);
		rate += producer[i].rate;
		share += producer[i].share / producers;
		refused += producer[i].refused;
	}
	printf("%.3f %.2f %lu\n", rate * 1e3, share * 100, refused);
	return 0;
}
