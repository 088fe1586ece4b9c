// SPDX-License-Identifier: GPL-2.0
/*
 * Two CPUs, and their interrupts, insert the same and different stacks at once, while others look
 * up, delete, drain and evict. Whatever is read is a whole stack that was inserted; in the end
 * each stack is there once, and no entry was lost.
 *
 * STACKMAP_STRESS_SECS is how long each load runs, 2 seconds if it is not set.
 *
 * On stock 6.12.117, a lookup hides the stack from all others, and an insert meanwhile is lost.
 */
#include "stackmap_common.h"
#include "stackmap_stress.skel.h"

#define WORDS 16
#define BATCH 32
#define MAX_STACKS 4096
#define NOT_RUN -12345
#define MIN_DONE 10		/* of each thread */
#define MIN_STORED 200		/* by system calls */
#define MIN_COMMON 100		/* stacks that both CPUs inserted */
#define MIN_READS 2000

static const struct load {
	const char *name;
	__u32 max_entries;
	__u32 stacks;		/* different ones that come in system calls */
	bool reuse, deletes, drains, interrupts;
} loads[] = {
	{ "insert", 8192, 3000 },
	{ "delete", 1024, 400, .deletes = true },
	{ "delete_from_full_map", 100, 400, .deletes = true },
	{ "drain", 1000, 400, .drains = true },
	{ "drain_full_map", 64, 400, .drains = true },
	{ "delete_and_drain", 1024, 100, .deletes = true, .drains = true },
	{ "few_stacks", 16, 4, .deletes = true, .drains = true },
	{ "reuse", 64, 400, .reuse = true },
	{ "reuse_one_entry", 1, 3, .reuse = true },
	{ "reuse_delete_and_drain", 64, 400, .reuse = true, .deletes = true, .drains = true },
	{ "interrupts", 8192, 3000, .interrupts = true },
	{ "interrupts_delete_and_drain", 1024, 100, .deletes = true, .drains = true,
	  .interrupts = true },
	{ "interrupts_reuse", 64, 400, .reuse = true, .deletes = true, .interrupts = true },
};

static const struct load *load;
static struct stackmap_stress *skel;
static int map;
static bool stop;
static __u64 nr_broken;		/* values that are no stack of ours */
static __u64 nr_strange;	/* ids and errors that cannot be */
static __u64 nr_vanished;	/* stacks that are not there although nobody removes any */
static __u64 nr_mistaken;	/* ids of a stack that read back another one */
static __u64 nr_moved;		/* stacks with another id than before */

/* Stacks vanish, and come back with other ids. */
static bool removes(void)
{
	return load->reuse || load->deletes || load->drains;
}

static __u64 stress_nsecs(void)
{
	const char *secs = getenv("STACKMAP_STRESS_SECS");

	return (secs ? atoi(secs) : 2) * 1000000000ULL;
}

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void count(__u64 *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

static __u32 depth_of(__u64 n)
{
	return 3 + n % (WORDS - 2);
}

/* A number for each stack that there can be, with or without its first frame; or -1. */
static long identify(const __u64 *value)
{
	bool skipped = value[0] != (__u64)forged_ip;
	__u64 ip = value[!skipped], n = IP_NUMBER(ip);

	if (!IP_IS_FORGED(ip) || !is_stack(value, WORDS, n, depth_of(n), skipped))
		return -1;
	return n * 2 + skipped;
}

static void check(const __u64 *value)
{
	if (identify(value) < 0)
		count(&nr_broken);
}

struct worker {
	pthread_t thread;
	int cpu;
	void (*work)(struct worker *me);
	unsigned int seed;
	long ids[MAX_STACKS];	/* of an inserter's stacks, or -1 */
	struct frame frames[WORDS];
	__u64 done;
};

static void insert_one(struct worker *me, __u64 n)
{
	__u64 value[WORDS];
	__u32 key;
	long id;

	skel->bss->ids[me->cpu] = NOT_RUN;
	forged_getpgid(forge_stack(me->frames, n, depth_of(n)), me->cpu);
	id = *(volatile long *)&skel->bss->ids[me->cpu];
	/* No tracepoint's program runs while another thread on this CPU is in the map's code. */
	if (id == NOT_RUN)
		return;
	if (id >= (long)load->max_entries ||
	    (id < 0 && id != -ENOMEM && id != -EEXIST)) {
		count(&nr_strange);
		return;
	}
	me->done++;
	if (id < 0)
		return;
	key = id;
	if (bpf_map_lookup_elem(map, &key, value)) {
		/* Only if somebody removes stacks. */
		if (!removes())
			count(&nr_vanished);
	} else {
		check(value);
		if (!removes() && identify(value) != n * 2)
			count(&nr_mistaken);
	}
	if (me->ids[n] >= 0 && me->ids[n] != id && !removes())
		count(&nr_moved);
	me->ids[n] = id;
}

/* Several in a row, so that the two CPUs often insert the same stacks at the same time. */
static void insert(struct worker *me)
{
	__u64 first = rand_r(&me->seed) % load->stacks, i;

	for (i = 0; i < 20 && !stopped(); i++)
		insert_one(me, (first + i) % load->stacks);
}

static void look_up(struct worker *me)
{
	__u32 key = rand_r(&me->seed) % load->max_entries, next;
	__u64 value[WORDS];

	if (!bpf_map_get_next_key(map, &key, &next)) {
		if (next >= load->max_entries)
			count(&nr_strange);
		key = next;
	}
	if (!bpf_map_lookup_elem(map, &key, value))
		check(value);
	me->done++;
}

static void delete(struct worker *me)
{
	__u32 key = rand_r(&me->seed) % load->max_entries;
	__u64 value[WORDS];
	int err;

	if (rand_r(&me->seed) % 2) {
		err = bpf_map_delete_elem(map, &key);
	} else {
		err = bpf_map_lookup_and_delete_elem(map, &key, value);
		if (!err)
			check(value);
	}
	if (err && err != -ENOENT && err != -EBUSY)
		count(&nr_strange);
	me->done++;
	look_up(me);
}

static void drain(struct worker *me)
{
	__u32 keys[BATCH], in, out, count_of, i;
	__u64 values[BATCH * WORDS];
	bool remove = rand_r(&me->seed) % 2, first = true;
	int err;

	do {
		count_of = 1 + rand_r(&me->seed) % BATCH;
		err = (remove ? bpf_map_lookup_and_delete_batch : bpf_map_lookup_batch)
			(map, first ? NULL : &in, &out, keys, values, &count_of, NULL);
		if (err && err != -ENOENT && err != -EBUSY) {
			count(&nr_strange);
			break;
		}
		for (i = 0; i < count_of; i++)
			check(values + i * WORDS);
		first = false;
		in = out;
		me->done++;
	} while (!err && !stopped());
}

static void *run_worker(void *arg)
{
	struct worker *me = arg;

	pin_to(me->cpu);
	while (!stopped())
		me->work(me);
	return NULL;
}

static struct worker workers[6];
static int nr_workers;

static void start_worker(int cpu, void (*work)(struct worker *me))
{
	struct worker *worker = &workers[nr_workers];

	memset(worker, 0, sizeof(*worker));
	memset(worker->ids, 0xff, sizeof(worker->ids));
	worker->cpu = cpu;
	worker->work = work;
	worker->seed = nr_workers + 1;
	if (ASSERT_OK(pthread_create(&worker->thread, NULL, run_worker, worker), "start thread"))
		nr_workers++;
}

/* --- interrupts -------------------------------------------------------------- */

static bool interrupts_came(void)
{
	volatile struct stackmap_stress__bss *bss = skel->bss;

	return bss->stored[1] && bss->stored[2] && bss->inside[1] + bss->inside[2];
}

/* Longer on a slow machine, until some have come where they are wanted. */
static void send_nmis(__u64 nsecs)
{
	__u64 start = get_time_ns();
	struct console console;
	int cpu = 0;

	silence_console(&console);
	while (get_time_ns() - start < (interrupts_came() ? nsecs : nsecs + 30000000000ULL)) {
		pin_to(cpu++ % 2);
		if (!raise_nmis())
			break;
	}
	unpin();
	restore_console(&console);
}

/* A clock on each CPU, which interrupts it. */
static bool start_clocks(struct bpf_link **links)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(attr),
		.sample_period = 200000,
	};
	int cpu, fd;

	for (cpu = 0; cpu < 2; cpu++) {
		fd = syscall(__NR_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
		if (!ASSERT_OK_FD(fd, "open clock"))
			return false;
		links[cpu] = bpf_program__attach_perf_event(skel->progs.at_clock, fd);
		if (!ASSERT_OK_PTR(links[cpu], "attach to clock"))
			return false;
	}
	return true;
}

/* --- afterwards -------------------------------------------------------------- */

/* All is quiet: each stack is there once, is whole, and is counted. */
static void assert_each_once(void)
{
	static bool seen[2 * MAX_STACKS];
	__u32 key, next, total = 0;
	__u64 value[WORDS];
	long n;
	int err;

	memset(seen, 0, sizeof(seen));
	for (err = bpf_map_get_next_key(map, NULL, &next); !err;
	     err = bpf_map_get_next_key(map, &key, &next)) {
		key = next;
		if (!ASSERT_OK(bpf_map_lookup_elem(map, &key, value), "look up"))
			return;
		n = identify(value);
		if (!ASSERT_GE(n, 0, "stack") || !ASSERT_LT(n, 2 * load->stacks, "stack"))
			return;
		if (seen[n])
			ASSERT_FAIL("stack %ld is there twice", n);
		seen[n] = true;
		total++;
	}
	ASSERT_EQ(fdinfo_line(map, "entries"), total, "entries");
}

/* No entry was lost: as many as there can be can be inserted again, after all are gone. */
static void assert_all_free(void)
{
	struct worker *me = &workers[0];
	__u32 key;
	__u64 n;
	long id;

	while (!bpf_map_get_next_key(map, NULL, &key))
		if (!ASSERT_OK(bpf_map_delete_elem(map, &key), "delete"))
			return;
	ASSERT_EQ(fdinfo_line(map, "entries"), 0, "entries");
	skel->bss->flags = 0;
	for (n = 0; n < load->max_entries; n++) {
		forged_getpgid(forge_stack(me->frames, 100000 + n, depth_of(100000 + n)), 0);
		id = skel->bss->ids[0];
		if (id < 0 || id >= load->max_entries) {
			ASSERT_FAIL("stack %llu of %u has id %ld", n, load->max_entries, id);
			return;
		}
	}
	ASSERT_EQ(fdinfo_line(map, "entries"), load->max_entries, "entries");
	ASSERT_EQ(count_keys(map), load->max_entries, "keys");
	forged_getpgid(forge_stack(me->frames, 99999, WORDS), 0);
	ASSERT_EQ(skel->bss->ids[0], -ENOMEM, "one more");
}

/* Nobody removes any: the two CPUs got the same ids. */
static void assert_same_ids(void)
{
	__u32 n;

	for (n = 0; n < load->stacks; n++) {
		if (workers[0].ids[n] < 0 || workers[1].ids[n] < 0)
			continue;
		if (workers[0].ids[n] != workers[1].ids[n])
			ASSERT_FAIL("stack %u has ids %ld and %ld", n, workers[0].ids[n],
				    workers[1].ids[n]);
	}
}

static void assert_counted(void)
{
	static const char *const kinds[] = { "system calls", "interrupts", "NMIs" };
	__u64 refused = 0;
	int i;

	for (i = 0; i < 3; i++) {
		printf("%s: %llu stored, %llu full, %llu failed, %llu inside\n", kinds[i],
		       skel->bss->stored[i], skel->bss->full[i], skel->bss->failed[i],
		       skel->bss->inside[i]);
		refused += skel->bss->full[i] + skel->bss->failed[i];
		if (load->max_entries >= 2 * load->stacks)
			ASSERT_EQ(skel->bss->full[i], 0, "refused with room");
	}
	ASSERT_EQ(fdinfo_line(map, "lost"), refused, "lost");
	if (!removes())
		ASSERT_EQ(refused, 0, "refused");
	if (load->interrupts) {
		ASSERT_GT(skel->bss->stored[1], 0, "stacks from interrupts");
		ASSERT_GT(skel->bss->stored[2], 0, "stacks from NMIs");
		ASSERT_GT(skel->bss->inside[1] + skel->bss->inside[2], 0, "inside of an insert");
	}
	ASSERT_EQ(nr_broken, 0, "values that are not a stack");
	ASSERT_EQ(nr_strange, 0, "ids and errors that cannot be");
	ASSERT_EQ(nr_vanished, 0, "stacks that vanished");
	ASSERT_EQ(nr_mistaken, 0, "stacks taken for another one");
	ASSERT_EQ(nr_moved, 0, "stacks with another id than before");
}

static int nr_common(void)
{
	volatile long *a = workers[0].ids, *b = workers[1].ids;
	__u32 n;
	int sum = 0;

	for (n = 0; n < load->stacks; n++)
		sum += a[n] >= 0 && b[n] >= 0;
	return sum;
}

/* It was a load. A slow machine takes longer. */
static bool worked_enough(void)
{
	int i;

	for (i = 0; i < nr_workers; i++)
		if (*(volatile __u64 *)&workers[i].done < MIN_DONE)
			return false;
	return *(volatile __u64 *)&skel->bss->stored[0] >= MIN_STORED &&
	       (removes() || nr_common() >= MIN_COMMON);
}

static void run_load(void)
{
	struct bpf_link *clocks[2] = {};
	__u64 end;
	int i;

	nr_broken = 0;
	nr_strange = 0;
	nr_vanished = 0;
	nr_mistaken = 0;
	nr_moved = 0;
	nr_workers = 0;
	stop = false;
	skel = stackmap_stress__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return;
	bpf_map__set_max_entries(skel->maps.stacks, load->max_entries);
	skel->bss->forged_ip = (__u64)forged_ip;
	skel->bss->flags = load->reuse ? BPF_F_REUSE_STACKID : 0;
	bpf_program__set_autoload(skel->progs.at_clock, load->interrupts);
	bpf_program__set_autoattach(skel->progs.at_clock, false);
	bpf_program__set_autoload(skel->progs.at_nmi, load->interrupts);
	if (!ASSERT_OK(stackmap_stress__load(skel), "load skeleton") ||
	    !ASSERT_OK(stackmap_stress__attach(skel), "attach"))
		goto out;
	map = bpf_map__fd(skel->maps.stacks);
	if (load->interrupts && !start_clocks(clocks))
		goto out;

	start_worker(0, insert);
	start_worker(1, insert);
	start_worker(load->deletes, look_up);
	if (load->deletes)
		start_worker(0, delete);
	if (load->drains)
		start_worker(1, drain);
	if (load->interrupts)
		send_nmis(stress_nsecs());
	else
		usleep(stress_nsecs() / 1000);
	end = get_time_ns() + 60000000000ULL;
	while (!worked_enough() && get_time_ns() < end)
		usleep(10000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr_workers; i++)
		pthread_join(workers[i].thread, NULL);
	for (i = 0; i < 2; i++) {
		bpf_link__destroy(clocks[i]);
		clocks[i] = NULL;
	}
	bpf_link__destroy(skel->links.at_nmi);
	skel->links.at_nmi = NULL;
	kern_sync_rcu();

	ASSERT_TRUE(worked_enough(), "all threads worked");
	assert_counted();
	assert_each_once();
	if (!removes())
		assert_same_ids();
	assert_all_free();
out:
	for (i = 0; i < 2; i++)
		bpf_link__destroy(clocks[i]);
	stackmap_stress__destroy(skel);
}

static __u32 read_key;

static void read_one(struct worker *me)
{
	__u64 value[WORDS];

	if (bpf_map_lookup_elem(map, &read_key, value))
		count(&nr_vanished);
	else
		check(value);
	me->done++;
}

/*
 * Who reads a stack disturbs nobody who reads it at the same time. Seen on stock 6.12.117: each
 * hides it from the other meanwhile.
 */
static void two_readers(void)
{
	__u64 end = get_time_ns() + 60000000000ULL, start;
	struct frame frames[WORDS];
	int i;

	nr_broken = 0;
	nr_vanished = 0;
	nr_workers = 0;
	stop = false;
	skel = stackmap_stress__open_and_load();
	if (!ASSERT_OK_PTR(skel, "load skeleton") ||
	    !ASSERT_OK(stackmap_stress__attach(skel), "attach"))
		goto out;
	map = bpf_map__fd(skel->maps.stacks);
	forged_getpgid(forge_stack(frames, 1, depth_of(1)), 0);
	if (!ASSERT_GE(skel->bss->ids[0], 0, "id"))
		goto out;
	read_key = skel->bss->ids[0];
	start_worker(0, read_one);
	start_worker(1, read_one);
	start = get_time_ns();
	do {
		usleep(10000);
	} while (get_time_ns() < end && (get_time_ns() - start < stress_nsecs() ||
		 *(volatile __u64 *)&workers[0].done < MIN_READS ||
		 *(volatile __u64 *)&workers[1].done < MIN_READS));
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr_workers; i++) {
		pthread_join(workers[i].thread, NULL);
		ASSERT_GE(workers[i].done, MIN_READS, "reads");
	}
	ASSERT_EQ(nr_vanished, 0, "reads that did not find the stack");
	ASSERT_EQ(nr_broken, 0, "values that are not a stack");
out:
	stackmap_stress__destroy(skel);
}

void serial_test_stackmap_stress(void)
{
	int i;

	if (test__start_subtest("two_readers") && can_forge() && two_cpus())
		two_readers();

	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		if (!test__start_subtest(loads[i].name) || !can_forge() || !two_cpus())
			continue;
		load = &loads[i];
		run_load();
	}
}
