// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that take a stack into the map while another program, or a system call, is in the middle
 * of an operation on it: at functions reached there, and at every instruction. Nothing hangs,
 * and each gets its own stack.
 *
 * On stock 6.12.117, a program on the exit of get_perf_callchain() changes the stack that was just
 * captured, and one on contention_end can hang the CPU in its own free-list lock.
 */
#include "stackmap_common.h"
#include "stackmap_reentry.skel.h"

#define WORDS 8
#define DEPTH 5
#define USER BPF_F_USER_STACK

static struct stackmap_reentry *skel;
static int map;
static struct frame chain[DEPTH];
static __u64 nr_wrong;
static bool contender_stop;

static bool open_skel(__u32 max_entries)
{
	nr_wrong = 0;
	skel = stackmap_reentry__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	bpf_map__set_max_entries(skel->maps.stacks, max_entries);
	bpf_program__set_autoload(skel->progs.at_getpgid, true);
	bpf_program__set_autoattach(skel->progs.at_kprobe, false);
	bpf_program__set_autoattach(skel->progs.at_breakpoint, false);
	skel->bss->flags = USER;
	skel->bss->nested_flags[0] = USER;
	skel->bss->nested_flags[1] = USER | 1;
	return true;
}

static bool load_skel(void)
{
	if (!ASSERT_OK(stackmap_reentry__load(skel), "load skeleton") ||
	    !ASSERT_OK(stackmap_reentry__attach(skel), "attach"))
		return false;
	map = bpf_map__fd(skel->maps.stacks);
	skel->bss->pid = sys_gettid();
	return true;
}

static void reuse_stacks(void)
{
	skel->bss->flags |= BPF_F_REUSE_STACKID;
	skel->bss->nested_flags[0] |= BPF_F_REUSE_STACKID;
	skel->bss->nested_flags[1] |= BPF_F_REUSE_STACKID;
}

static void teardown(void)
{
	stackmap_reentry__destroy(skel);
	skel = NULL;
}

static long take(__u64 n)
{
	skel->bss->id = -12345;
	forged_getpgid(forge_stack(chain, n, DEPTH), 0);
	return skel->bss->id;
}

static bool reads(__u32 id, __u64 n, __u32 skip)
{
	__u64 value[WORDS];

	return !bpf_map_lookup_elem(map, &id, value) && is_stack(value, WORDS, n, DEPTH, skip);
}

static void expect(bool ok, const char *what, __u64 n, long got)
{
	if (ok)
		return;
	if (!nr_wrong++)
		ASSERT_FAIL("%s: stack %llu, %ld", what, n, got);
}

/* Nested programs got their own stacks, where they got any. */
static void check_nested(__u64 n)
{
	if (skel->bss->nested_id[0] >= 0)
		expect(reads(skel->bss->nested_id[0], n, 0), "nested stack", n,
		       skel->bss->nested_id[0]);
	if (skel->bss->nested_id[1] >= 0)
		expect(reads(skel->bss->nested_id[1], n, 1), "nested stack without a frame", n,
		       skel->bss->nested_id[1]);
}

/* A map with room: whatever is nested, the outer stack is stored. */
static void use_map(__u64 n)
{
	__u32 key, next, count = 4, cursor, keys[4];
	__u64 value[WORDS], values[4 * WORDS];
	long id;

	skel->bss->nested_id[0] = -1;
	skel->bss->nested_id[1] = -1;
	id = take(n);
	expect(id >= 0 && reads(id, n, 0), "new stack", n, id);
	check_nested(n);
	if (skel->bss->nested_id[0] >= 0)
		expect(skel->bss->nested_id[0] == id, "nested id of the same stack", n, id);
	expect(take(n) == id, "id of the same stack", n, skel->bss->id);

	skel->bss->in_system_call = true;
	key = id;
	expect(!bpf_map_lookup_elem(map, &key, value), "look up", n, id);
	bpf_map_get_next_key(map, &key, &next);
	expect(!bpf_map_delete_elem(map, &key), "delete", n, id);
	skel->bss->in_system_call = false;
	expect(bpf_map_lookup_elem(map, &key, value) || !is_stack(value, WORDS, n, DEPTH, 0),
	       "stack that was deleted", n, id);

	id = take(n);
	expect(id >= 0 && reads(id, n, 0), "stack again", n, id);
	key = id;
	skel->bss->in_system_call = true;
	expect(!bpf_map_lookup_and_delete_elem(map, &key, value) &&
	       is_stack(value, WORDS, n, DEPTH, 0), "look up and delete", n, id);
	bpf_map_lookup_and_delete_batch(map, NULL, &cursor, keys, values, &count, NULL);
	skel->bss->in_system_call = false;
}

/* All gone, and as many as there can be can be inserted again. */
static void assert_sound(void)
{
	__u32 max = bpf_map__max_entries(skel->maps.stacks), key, n;
	long id;

	ASSERT_EQ(nr_wrong, 0, "wrong results");
	ASSERT_EQ(skel->bss->worst, 0, "error of a nested program");
	skel->bss->pid = 0;
	ASSERT_EQ(count_keys(map), fdinfo_line(map, "entries"), "entries");
	while (!bpf_map_get_next_key(map, NULL, &key))
		if (!ASSERT_OK(bpf_map_delete_elem(map, &key), "delete"))
			return;
	ASSERT_EQ(fdinfo_line(map, "entries"), 0, "entries");
	for (n = 0; n < max; n++) {
		id = take(100000 + n);
		if (id < 0 || !reads(id, 100000 + n, 0)) {
			ASSERT_FAIL("stack %u of %u has id %ld", n, max, id);
			return;
		}
	}
	ASSERT_EQ(fdinfo_line(map, "entries"), max, "entries");
}

static void assert_nested(__u64 at_least)
{
	printf("%llu nested programs, %llu stacks stored, %llu refused\n", skel->bss->hits,
	       skel->bss->stored, skel->bss->refused);
	ASSERT_GE(skel->bss->hits, at_least, "nested programs");
}

/* Programs on entry to and exit from the function. */
static void at_function(const char *name)
{
	int i;

	if (!open_skel(1024))
		return;
	bpf_program__set_autoload(skel->progs.at_entry, true);
	bpf_program__set_autoload(skel->progs.at_exit, true);
	bpf_program__set_attach_target(skel->progs.at_entry, 0, name);
	bpf_program__set_attach_target(skel->progs.at_exit, 0, name);
	if (load_skel()) {
		for (i = 0; i < 100; i++)
			use_map(i);
		assert_nested(100);
		assert_sound();
	}
	teardown();
}

static void at_kprobe(const char *name)
{
	struct bpf_link *link;
	int i;

	if (!open_skel(1024))
		return;
	bpf_program__set_autoload(skel->progs.at_kprobe, true);
	if (load_skel()) {
		link = bpf_program__attach_kprobe(skel->progs.at_kprobe, false, name);
		if (ASSERT_OK_PTR(link, "attach kprobe")) {
			for (i = 0; i < 100; i++)
				use_map(i);
			bpf_link__destroy(link);
			assert_nested(100);
			assert_sound();
		}
	}
	teardown();
}

/*
 * 557c0c6e7df8: where the page allocator holds the lock of its zone. Nothing is allocated for a
 * stack, so nobody waits for that.
 */
static void in_allocator(void)
{
	__u64 end = get_time_ns() + 60000000000ULL;
	const size_t size = 4 << 20;
	struct bpf_link *link;
	void *mem;

	if (!open_skel(1024))
		return;
	bpf_program__set_autoload(skel->progs.at_kprobe, true);
	if (!load_skel())
		goto out;
	link = bpf_program__attach_kprobe(skel->progs.at_kprobe, false, "__mod_zone_page_state");
	if (!ASSERT_OK_PTR(link, "attach kprobe"))
		goto out;
	skel->bss->in_system_call = true;
	/* How many pages the allocator hands on at a time is its own affair. */
	do {
		mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		munmap(mem, size);
	} while (*(volatile __u64 *)&skel->bss->hits < 100 && get_time_ns() < end);
	skel->bss->in_system_call = false;
	bpf_link__destroy(link);
	assert_nested(100);
	ASSERT_EQ(skel->bss->refused, 0, "stacks refused");
	assert_sound();
out:
	teardown();
}

/*
 * On the other CPU: stacks that come and go in the same map, and the lock of the address space
 * held for writing now and then.
 */
static void *contend(void *arg)
{
	static struct frame frames[DEPTH];
	const size_t size = 4 << 20;
	__u64 n = 0;
	void *mem;
	int i;

	pin_to(1);
	while (!__atomic_load_n(&contender_stop, __ATOMIC_RELAXED)) {
		for (i = 0; i < 50; i++)
			forged_getpgid(forge_stack(frames, 1000 + n++ % 500, DEPTH), 1);
		mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		munmap(mem, size);
	}
	return NULL;
}

/* Take out into fresh memory: this has to wait for the lock of the address space. */
static void take_out_to_fresh_memory(void)
{
	__u32 key, size = getpagesize();
	void *mem;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	skel->bss->in_system_call = true;
	if (!bpf_map_get_next_key(map, NULL, &key))
		bpf_map_lookup_and_delete_elem(map, &key, mem);
	skel->bss->in_system_call = false;
	munmap(mem, size);
}

/*
 * Where a lock was contended, and is held. Shows the free list whose lock fires the tracepoint:
 * on stock 6.12.117 the guest hangs. The new map has no such lock; there, the program runs in the
 * middle of its system calls.
 */
static void at_contention_end(void)
{
	__u64 end = get_time_ns() + 120000000000ULL, n;
	pthread_t thread;
	__u32 key;
	long id;

	if (!open_skel(4))
		return;
	bpf_program__set_autoload(skel->progs.at_contention_end, true);
	if (!load_skel())
		goto out;
	reuse_stacks();
	contender_stop = false;
	pin_to(0);
	if (!ASSERT_OK(pthread_create(&thread, NULL, contend, NULL), "start thread"))
		goto out;
	for (n = 0; (n < 10000 || skel->bss->hits < 20) && get_time_ns() < end; n++) {
		id = take(n % 500);
		expect((id >= 0 && id < 4) || id == -EEXIST, "stack", n, id);
		key = n / 3 % 4;
		if (n % 3 == 0)
			bpf_map_delete_elem(map, &key);
		if (n % 5 == 0)
			take_out_to_fresh_memory();
	}
	__atomic_store_n(&contender_stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_nested(20);
	skel->bss->flags = USER;
	assert_sound();
out:
	unpin();
	teardown();
}

/* --- a sample overwritten ----------------------------------------------------- */

/* Events at each call of @function by this thread, sampled with the kernel's frames. */
static int open_probe_event(const char *function)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.kprobe_func = (__u64)function,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_CALLCHAIN,
		.exclude_callchain_user = 1,
	};
	FILE *file = fopen("/sys/bus/event_source/devices/kprobe/type", "r");
	bool known = file && fscanf(file, "%u", &attr.type) == 1;

	if (file)
		fclose(file);
	if (!ASSERT_TRUE(known, "type of kprobe events"))
		return -1;
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* Frames for the samples to have. */
static noinline void spin(int depth)
{
	volatile int i;

	if (depth)
		spin(depth - 1);
	for (i = 0; i < 10000; i++)
		;
}

/* Kernel's addresses in a stack of user's; a marker is not one. */
static int nr_of_kernel(const struct bpf_stack_build_id *ids, int nr)
{
	int i, found = 0;

	for (i = 0; i < nr; i++)
		found += ids[i].status == BPF_STACK_BUILD_ID_IP && (__s64)ids[i].ip < -4096;
	return found;
}

/*
 * While the helper looks up the files of what perf has sampled for its program, another event, at
 * a probe on a function called for that, is sampled into the same buffer of perf's. The stack
 * that is stored has none of the frames of that one.
 */
static void sample_overwritten(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(attr),
		.sample_period = 200000,
		.sample_type = PERF_SAMPLE_CALLCHAIN,
	};
	struct bpf_stack_build_id ids[WORDS];
	__u64 end = get_time_ns() + 60000000000ULL, events = 0;
	int timer = -1, probe = -1, wrong = 0, nr = 0;
	__u32 key, *last = NULL;

	if (!open_skel(4096))
		return;
	bpf_program__set_autoload(skel->progs.at_timer, true);
	bpf_program__set_autoattach(skel->progs.at_timer, false);
	bpf_map__set_value_size(skel->maps.stacks, sizeof(ids));
	bpf_map__set_map_flags(skel->maps.stacks, BPF_F_STACK_BUILD_ID);
	if (!load_skel())
		goto out;
	probe = open_probe_event("__filemap_get_folio");
	timer = syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (!ASSERT_OK_FD(probe, "open event at a probe") ||
	    !ASSERT_OK_FD(timer, "open event of a timer"))
		goto out;
	skel->links.at_timer = bpf_program__attach_perf_event(skel->progs.at_timer, timer);
	if (!ASSERT_OK_PTR(skel->links.at_timer, "attach"))
		goto out;
	timer = -1;
	while (*(volatile long *)&skel->bss->nr_sampled < 200 && get_time_ns() < end)
		spin(WORDS);
	bpf_link__destroy(skel->links.at_timer);
	skel->links.at_timer = NULL;

	for (; !bpf_map_get_next_key(map, last, &key); last = &key, nr++) {
		if (!ASSERT_OK(bpf_map_lookup_elem(map, &key, ids), "look up"))
			break;
		wrong += nr_of_kernel(ids, WORDS);
	}
	ASSERT_EQ(read(probe, &events, sizeof(events)), sizeof(events), "read the probe's events");
	printf("%ld samples, %llu events at the probe, %d stacks\n", skel->bss->nr_sampled, events,
	       nr);
	ASSERT_GE(skel->bss->nr_sampled, 200, "samples");
	ASSERT_GT(events, skel->bss->nr_sampled / 2, "events at the probe");
	ASSERT_GT(nr, 0, "stacks");
	ASSERT_EQ(wrong, 0, "frames of the other event");
out:
	if (timer >= 0)
		close(timer);
	if (probe >= 0)
		close(probe);
	teardown();
}

/* --- every instruction ------------------------------------------------------- */

static __u64 places[16384];
static int nr_places;

static void add_places(const char *symbol, __u64 start, __u64 end)
{
	for (; start < end && nr_places < ARRAY_SIZE(places); start += instructions_stride())
		places[nr_places++] = start;
}

static bool find_places(void)
{
	static const char *const names[] = {
		"bpf_get_stackid", "____bpf_get_stackid", "capture_begin", "delete_entry",
		"evict_entry", "take_entry", "stack_id", "take_out", "bpf_stackmap_copy",
		"stack_map_delete_elem", "do_lookup_batch", "next_live",
	};

	return nr_places || (visit_text(add_places, names, ARRAY_SIZE(names)) &&
			     ASSERT_GT(nr_places, 0, "text of the map"));
}

/* A full map in which all, nested or not, let an old stack give way. */
static void use_full_map(__u64 n)
{
	__u32 max = bpf_map__max_entries(skel->maps.stacks), key, i;
	__u64 value[WORDS];
	long id;

	for (i = 0; i <= max; i++) {
		id = take(n * 10 + i);
		/* Somebody nested may have the lock, or have had this one give way already. */
		expect((id >= 0 && id < max) || id == -EEXIST, "stack in a full map", n, id);
	}
	skel->bss->in_system_call = true;
	for (key = 0; key < max; key++) {
		if (bpf_map_lookup_elem(map, &key, value))
			continue;
		/* Those of system calls are real ones. */
		if (IP_IS_FORGED(value[1]))
			expect(is_stack(value, WORDS, IP_NUMBER(value[1]), DEPTH, 0) ||
			       is_stack(value, WORDS, IP_NUMBER(value[1]), DEPTH, 1),
			       "stack read", n, key);
	}
	key = n % max;
	bpf_map_delete_elem(map, &key);
	skel->bss->in_system_call = false;
	i = fdinfo_line(map, "entries");
	expect(count_keys(map) == i, "entries", n, i);
}

/* A program at every instruction of the operations, in a context like NMI. */
static void every_instruction(__u32 max_entries, bool reuse)
{
	struct bpf_link *links[NR_BREAKPOINTS];
	int from, i, hit = 0, rounds = 0;
	__u64 hits;

	if (!open_skel(max_entries))
		return;
	bpf_program__set_autoload(skel->progs.at_breakpoint, true);
	if (!find_places() || !load_skel())
		goto out;
	if (reuse)
		reuse_stacks();
	pin_to(0);
	for (from = 0; from < nr_places && nr_wrong < 10; from += NR_BREAKPOINTS) {
		hits = skel->bss->hits;
		for (i = 0; i < NR_BREAKPOINTS; i++)
			links[i] = from + i >= nr_places ? NULL :
				   attach_breakpoint(skel->progs.at_breakpoint, places[from + i],
						     0, -1, 0);
		if (reuse)
			use_full_map(rounds);
		else
			use_map(rounds);
		for (i = 0; i < NR_BREAKPOINTS; i++)
			bpf_link__destroy(links[i]);
		hit += skel->bss->hits != hits;
		rounds++;
	}
	unpin();
	printf("%d places, nested at %d of %d groups\n", nr_places, hit, rounds);
	ASSERT_GT(hit, 100 / instructions_stride(), "groups of places nested at");
	assert_nested(100);
	skel->bss->flags = USER;
	assert_sound();
out:
	teardown();
}

void serial_test_stackmap_reentry(void)
{
	static const char *const functions[] = {
		"perf_callchain_fill", "perf_callchain_user", "get_kept_callchain_entry",
		"put_kept_callchain_entry", "bpf_stackmap_copy", "stack_map_delete_elem",
		"stack_map_get_next_key",
	};
	char name[64];
	int i;

	for (i = 0; i < ARRAY_SIZE(functions); i++) {
		snprintf(name, sizeof(name), "traced_%s", functions[i]);
		if (test__start_subtest(name) && can_forge())
			at_function(functions[i]);
	}
	if (test__start_subtest("kprobe_perf_callchain_user") && can_forge())
		at_kprobe("perf_callchain_user");
	if (test__start_subtest("kprobe_put_kept_callchain_entry") && can_forge())
		at_kprobe("put_kept_callchain_entry");
	if (test__start_subtest("kprobe_in_allocator") && can_forge())
		in_allocator();
	if (test__start_subtest("contention_end") && can_forge() && two_cpus())
		at_contention_end();
	if (test__start_subtest("sample_overwritten"))
		sample_overwritten();
	if (test__start_subtest("every_instruction") && can_forge())
		every_instruction(1024, false);
	if (test__start_subtest("every_instruction_full_map") && can_forge())
		every_instruction(4, true);
}
