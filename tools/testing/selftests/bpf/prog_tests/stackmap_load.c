// SPDX-License-Identifier: GPL-2.0
/*
 * Stack trace maps filled to a part of max_entries, or to the last entry: no stack is lost, none
 * reads back as another one, and ids stay as long as their stack.
 *
 * Stock 6.12.117 has one place for a stack, by its hash: of as many different stacks as
 * max_entries, a third gets no id, and at 10 % it is one in 23.
 */
#include "stackmap_common.h"
#include "stackmap_load.skel.h"

#define BATCH 512

static struct stackmap_load *skel;
static int map;
static __u32 max, depth_max;
static __u64 nr_lost, nr_wrong, nr_moved;
static long *ids;		/* of each stack, or -1 */
static __u64 *owners;		/* of each id: 1 + number of its stack, or 0 */

/* All depths from 2 on; a stack of one frame is always the same. */
static __u32 depth_of(__u64 n)
{
	return 2 + n % (depth_max - 1);
}

static long take(__u64 n)
{
	static struct frame frames[128];

	skel->bss->id = -12345;
	skel->bss->flags = BPF_F_USER_STACK;
	forged_getpgid(forge_stack(frames, n, depth_of(n)), 0);
	return skel->bss->id;
}

static bool setup(__u32 max_entries, __u32 depth)
{
	max = max_entries;
	depth_max = depth;
	nr_lost = 0;
	nr_wrong = 0;
	nr_moved = 0;
	ids = malloc(max * sizeof(*ids));
	owners = calloc(max, sizeof(*owners));
	skel = stackmap_load__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton") || !ASSERT_OK_PTR(ids, "memory") ||
	    !ASSERT_OK_PTR(owners, "memory"))
		return false;
	memset(ids, 0xff, max * sizeof(*ids));
	bpf_map__set_max_entries(skel->maps.stacks, max);
	bpf_map__set_value_size(skel->maps.stacks, depth * sizeof(__u64));
	if (!ASSERT_OK(stackmap_load__load(skel), "load skeleton") ||
	    !ASSERT_OK(stackmap_load__attach(skel), "attach"))
		return false;
	map = bpf_map__fd(skel->maps.stacks);
	return true;
}

static void teardown(void)
{
	stackmap_load__destroy(skel);
	free(ids);
	free(owners);
	skel = NULL;
	ids = NULL;
	owners = NULL;
}

/* Stacks @from to @to - 1, each new or there already; the place in @ids is their number's. */
static void take_range(__u64 from, __u64 to)
{
	__u64 n;
	long id;

	for (n = from; n < to; n++) {
		id = take(n);
		if (id < 0 || id >= max) {
			nr_lost++;
			continue;
		}
		if (ids[n % max] >= 0 && ids[n % max] != id)
			nr_moved++;
		if (owners[id] && owners[id] != 1 + n)
			nr_wrong++;
		ids[n % max] = id;
		owners[id] = 1 + n;
	}
}

/* One at a time. */
static void look_up_range(__u64 from, __u64 to)
{
	__u64 value[128], n;
	__u32 key;

	for (n = from; n < to; n++) {
		key = ids[n % max];
		if (bpf_map_lookup_elem(map, &key, value) ||
		    !is_stack(value, depth_max, n, depth_of(n), 0))
			nr_wrong++;
	}
}

/* All that is in the map, in batches: how many, each what its owner put there. */
static __u64 look_up_all(bool remove)
{
	__u32 *keys = malloc(BATCH * sizeof(*keys)), i, count, in, out;
	__u64 *values = malloc(BATCH * depth_max * sizeof(*values)), total = 0, n;
	bool first = true;
	int err;

	do {
		count = BATCH;
		err = remove ? bpf_map_lookup_and_delete_batch(map, first ? NULL : &in, &out, keys,
							       values, &count, NULL) :
			       bpf_map_lookup_batch(map, first ? NULL : &in, &out, keys, values,
						    &count, NULL);
		if (err && !ASSERT_EQ(err, -ENOENT, "batch"))
			break;
		first = false;
		in = out;
		for (i = 0; i < count; i++) {
			if (keys[i] >= max || !owners[keys[i]]) {
				nr_wrong++;
				continue;
			}
			n = owners[keys[i]] - 1;
			if (!is_stack(values + i * depth_max, depth_max, n, depth_of(n), 0))
				nr_wrong++;
			if (remove) {
				owners[keys[i]] = 0;
				ids[n % max] = -1;
			}
		}
		total += count;
	} while (!err);
	free(keys);
	free(values);
	return total;
}

static void assert_nothing_lost(unsigned long entries)
{
	ASSERT_EQ(nr_lost, 0, "stacks lost");
	ASSERT_EQ(nr_wrong, 0, "stacks wrong");
	ASSERT_EQ(nr_moved, 0, "stacks with another id than before");
	assert_fdinfo(map, entries, 0);
}

static void delete_every_third(__u64 to)
{
	__u32 key;
	__u64 n;

	for (n = 0; n < to; n += 3) {
		key = ids[n];
		if (ids[n] < 0 || bpf_map_delete_elem(map, &key)) {
			nr_wrong++;
			continue;
		}
		owners[key] = 0;
		ids[n] = -1;
	}
}

/*
 * Fill to @percent in steps of a tenth; take all again; delete every third, and take all again;
 * delete all, and fill it to the brim with others.
 */
static void load(__u32 max_entries, __u32 depth, int percent)
{
	__u64 from = 0, to, step, nr;

	if (!setup(max_entries, depth))
		goto out;
	nr = (__u64)max * percent / 100 ?: 1;
	for (step = 1; step <= percent / 10; step++) {
		to = nr * step * 10 / percent;
		take_range(from, to);
		from = to;
	}
	take_range(from, nr);
	assert_nothing_lost(nr);
	look_up_range(0, nr);
	ASSERT_EQ(look_up_all(false), nr, "stacks in the map");
	assert_nothing_lost(nr);

	take_range(0, nr);
	assert_nothing_lost(nr);

	delete_every_third(nr);
	ASSERT_EQ(fdinfo_line(map, "entries"), nr - (nr + 2) / 3, "entries");
	take_range(0, nr);
	assert_nothing_lost(nr);
	look_up_range(0, nr);
	ASSERT_EQ(nr_wrong, 0, "stacks wrong");

	ASSERT_EQ(look_up_all(true), nr, "stacks taken out");
	assert_nothing_lost(0);
	take_range(max, 2ULL * max);
	assert_nothing_lost(max);
	look_up_range(max, 2ULL * max);
	ASSERT_EQ(nr_wrong, 0, "stacks wrong");
	ASSERT_EQ(take(3ULL * max), -ENOMEM, "one more");
out:
	teardown();
}

/*
 * As many that each system call counts: fill it and read it back in batches, take some again,
 * and fill it once more after all were taken out.
 */
static void load_quickly(__u32 max_entries, __u32 depth)
{
	if (!setup(max_entries, depth))
		goto out;
	take_range(0, max);
	assert_nothing_lost(max);
	take_range(max / 2, max / 2 + max / 16);
	assert_nothing_lost(max);
	ASSERT_EQ(take(3ULL * max), -ENOMEM, "one more");
	ASSERT_EQ(look_up_all(true), max, "stacks taken out");
	assert_fdinfo(map, 0, 1);
	take_range(max, max + max / 16);
	ASSERT_EQ(look_up_all(false), max / 16, "stacks in the map");
	ASSERT_EQ(nr_lost, 0, "stacks lost");
	ASSERT_EQ(nr_wrong, 0, "stacks wrong");
out:
	teardown();
}

static void load_percents(__u32 max_entries, __u32 depth)
{
	static const int percents[] = { 10, 25, 50, 75, 90, 100 };
	int i;

	for (i = 0; i < ARRAY_SIZE(percents); i++)
		load(max_entries, depth, percents[i]);
}

/* Each depth there is, several stacks of each. */
static void every_depth(void)
{
	if (setup(127 * 8, 127)) {
		take_range(0, 127 * 8);
		assert_nothing_lost(127 * 8);
		look_up_range(0, 127 * 8);
		ASSERT_EQ(nr_wrong, 0, "stacks wrong");
	}
	teardown();
}

/* Stacks that differ in one frame only, at each place. */
static void differ_in_one_frame(void)
{
	static struct frame frames[128];
	__u64 value[127];
	__u32 i, j, key;
	long id[126];

	if (!setup(126, 127))
		goto out;
	skel->bss->flags = BPF_F_USER_STACK;
	for (i = 0; i < 126; i++) {
		forge_stack(frames, 7, 127);
		frames[i].ip ^= 0x1000000;
		forged_getpgid(frames, 0);
		id[i] = skel->bss->id;
	}
	for (i = 0; i < 126; i++) {
		for (j = 0; j < i; j++)
			if (id[i] == id[j])
				ASSERT_FAIL("frames %u and %u", i, j);
		key = id[i];
		if (!ASSERT_GE(id[i], 0, "id") ||
		    !ASSERT_OK(bpf_map_lookup_elem(map, &key, value), "look up"))
			break;
		value[i + 1] ^= 0x1000000;
		ASSERT_TRUE(is_stack(value, 127, 7, 127, 0), "stack");
	}
	assert_fdinfo(map, 126, 0);
out:
	teardown();
}

static const struct {
	const char *name;
	__u32 max_entries, depth;
	bool only_full;
} loads[] = {
	{ "entries_1", 1, 127 },
	{ "entries_2", 2, 127 },
	{ "entries_3", 3, 127 },
	{ "entries_10", 10, 127 },
	{ "entries_64", 64, 127 },
	{ "entries_1000", 1000, 127 },
	{ "entries_4096", 4096, 127 },
	{ "entries_65536", 65536, 16, true },
	{ "entries_100000", 100000, 8, true },
};

/* STACKMAP_LOAD_MAX=n leaves out larger maps, where a kernel is too slow for them. */
static bool too_large(__u32 max_entries)
{
	const char *limit = getenv("STACKMAP_LOAD_MAX");

	if (!limit || max_entries <= strtoul(limit, NULL, 0))
		return false;
	printf("SKIP: more entries than STACKMAP_LOAD_MAX\n");
	test__skip();
	return true;
}

void serial_test_stackmap_load(void)
{
	int i;

	if (test__start_subtest("every_depth") && can_forge())
		every_depth();
	if (test__start_subtest("differ_in_one_frame") && can_forge())
		differ_in_one_frame();
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		if (!test__start_subtest(loads[i].name) || !can_forge() ||
		    too_large(loads[i].max_entries))
			continue;
		if (loads[i].only_full)
			load(loads[i].max_entries, loads[i].depth, 100);
		else
			load_percents(loads[i].max_entries, loads[i].depth);
	}
	if (test__start_subtest("entries_1048576") && can_forge() && !too_large(1 << 20))
		load_quickly(1 << 20, 4);
}
