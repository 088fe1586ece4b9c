/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmarks share: options, and workers, each on a CPU of its own.
 *
 * What else runs on the machine would make workers take turns. So time is cut in slices of
 * about 20 us, and a slice counts if it was not interrupted for long and all other workers
 * made progress in it.
 */
#ifndef BENCH_H
#define BENCH_H

#define SLICE_NS	20000
#define INTERRUPTED_NS	200000

static unsigned int workers = 1, size = 8;	/* of a value, or of a record's payload */
static double seconds = 0.3;
static int running, stop;

static struct worker {
	pthread_t thread;
	unsigned long beats;	/* read by the others */
	double rate, share;	/* operations in a nanosecond, and of the time */
	unsigned long refused;
} __aligned(128) worker[16];

/* Some operations of the one of that number; how many, without those refused. */
static unsigned int batch(struct worker *me);

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

/* All others have done something since the last call. */
static bool others_run(const struct worker *me, unsigned long *seen)
{
	bool all = true;
	unsigned int i;

	for (i = 0; i < workers; i++) {
		unsigned long beats = READ_ONCE(worker[i].beats);

		if (&worker[i] != me && beats == seen[i])
			all = false;
		seen[i] = beats;
	}
	return all;
}

static void *work(void *arg)
{
	unsigned long done = 0, slice = 0, seen[ARRAY_SIZE(worker)] = {};
	u64 start, wall, begin, now, measured = 0;
	struct worker *me = arg;
	double ns_per_tick;

	shim_cpu = me - worker;
	pin(shim_cpu);
	__atomic_fetch_add(&running, 1, __ATOMIC_SEQ_CST);
	while (READ_ONCE(running) < workers)
		cpu_relax();

	/* The first slice warms up, and tells how long a tick is. */
	wall = shim_clock();
	start = ticks();
	do
		batch(me);
	while ((now = shim_clock()) - wall < 20 * 1000 * 1000);
	begin = ticks();
	ns_per_tick = (double)(now - wall) / (begin - start);

	start = begin;
	others_run(me, seen);
	while (!READ_ONCE(stop)) {
		slice += batch(me);
		WRITE_ONCE(me->beats, me->beats + 1);
		now = ticks();
		if ((now - begin) * ns_per_tick < SLICE_NS)
			continue;
		if (others_run(me, seen) && (now - begin) * ns_per_tick < INTERRUPTED_NS) {
			done += slice;
			measured += now - begin;
		}
		slice = 0;
		begin = ticks();
	}

	if (measured)
		me->rate = done / (measured * ns_per_tick);
	me->share = (double)measured / (now - start);
	return NULL;
}

/* With real-time priority the workers would not let this thread stop them. */
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

/* The next option but -s, -p and -t, which all programs have; -1 if there is none. */
static int next_option(int argc, char **argv, const char *options)
{
	int opt;

	while ((opt = getopt(argc, argv, options)) != -1) {
		switch (opt) {
		case 's':
			size = atoi(optarg);
			break;
		case 'p':
			workers = atoi(optarg);
			break;
		case 't':
			seconds = atof(optarg);
			break;
		default:
			return opt;
		}
	}
	return -1;
}

/* Prints operations in a microsecond, the share of the time, and how many were refused. */
static void run_workers(void)
{
	double rate = 0, share = 0;
	unsigned long refused = 0;
	unsigned int i;

	for (i = 0; i < workers; i++)
		pthread_create(&worker[i].thread, NULL, work, &worker[i]);
	stay_in_control();
	usleep(seconds * 1e6);
	WRITE_ONCE(stop, 1);
	for (i = 0; i < workers; i++) {
		pthread_join(worker[i].thread, NULL);
		rate += worker[i].rate;
		share += worker[i].share / workers;
		refused += worker[i].refused;
	}
	printf("%.3f %.2f %lu\n", rate * 1e3, share * 100, refused);
}

#endif
