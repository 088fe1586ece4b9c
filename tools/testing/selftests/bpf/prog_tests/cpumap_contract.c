// SPDX-License-Identifier: GPL-2.0
/*
 * What BPF_MAP_TYPE_CPUMAP promises to system calls, each line of the contract a subtest.
 *
 * On stock 6.12.117, all that is wrong with a program's fd is -ENOMEM, a map's memory is without
 * its entries, and fdinfo has no counters.
 */
#include "cpumap_common.h"
#include "cpumap_contract.skel.h"

#define TYPE BPF_MAP_TYPE_CPUMAP
#define QSIZE 64
#define MAX_QSIZE 16384

static struct cpumap_contract *skel;
static int map;

/* As many CPUs as the kernel is built for. */
static __u32 nr_cpus(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/kernel_max", "r");
	__u32 last = 0;

	if (ASSERT_OK_PTR(file, "open kernel_max")) {
		ASSERT_EQ(fscanf(file, "%u", &last), 1, "read kernel_max");
		fclose(file);
	}
	return last + 1;
}

static void create_sizes(void)
{
	static const __u32 bad_keys[] = { 0, 1, 2, 3, 5, 8, UINT_MAX };
	static const __u32 bad_values[] = { 0, 1, 2, 3, 5, 6, 7, 9, 12, 16, UINT_MAX };
	int i;

	for (i = 0; i < ARRAY_SIZE(bad_keys); i++)
		assert_create(TYPE, bad_keys[i], 8, 1, 0, -EINVAL, "key of another size than 4");
	for (i = 0; i < ARRAY_SIZE(bad_values); i++)
		assert_create(TYPE, 4, bad_values[i], 1, 0, -EINVAL, "value of another size");
	assert_create(TYPE, 4, 4, 1, 0, 0, "value of 4 bytes");
	assert_create(TYPE, 4, 8, 1, 0, 0, "value of 8 bytes");
}

static void create_entries(void)
{
	__u32 nr = nr_cpus();

	assert_create(TYPE, 4, 8, 0, 0, -EINVAL, "no entries");
	assert_create(TYPE, 4, 8, 1, 0, 0, "one");
	assert_create(TYPE, 4, 8, nr, 0, 0, "NR_CPUS");
	assert_create(TYPE, 4, 8, nr + 1, 0, -E2BIG, "one more");
	assert_create(TYPE, 4, 8, UINT_MAX, 0, -E2BIG, "as many as can be said");
}

static void create_flags(void)
{
	assert_known_flags(TYPE, 4, 8, 1, BPF_F_NUMA_NODE);
	assert_create(TYPE, 4, 8, 1, BPF_F_NUMA_NODE, 0, "map of node 0");
}

/* --- entries ------------------------------------------------------------------ */

static int set(__u32 cpu, __u32 qsize, int prog_fd, __u64 flags)
{
	struct bpf_cpumap_val val = { .qsize = qsize, .bpf_prog.fd = prog_fd };

	return bpf_map_update_elem(map, &cpu, &val, flags);
}

/* The entry has this size and program; nothing of @prog is no program. */
static void assert_entry(__u32 cpu, __u32 qsize, const struct bpf_program *prog, const char *what)
{
	struct bpf_cpumap_val val = { 0xa5a5a5a5, { 0xa5a5a5a5 } };

	if (!ASSERT_OK(bpf_map_lookup_elem(map, &cpu, &val), what))
		return;
	ASSERT_EQ(val.qsize, qsize, what);
	ASSERT_EQ(val.bpf_prog.id, prog ? prog_id(prog) : 0, what);
}

static void assert_no_entry(__u32 cpu, const char *what)
{
	struct bpf_cpumap_val val;

	ASSERT_EQ(bpf_map_lookup_elem(map, &cpu, &val), -ENOENT, what);
}

/* With @max_entries, or with as many as there may be CPUs if it is 0. */
static bool new_map(__u32 value_size, __u32 max_entries)
{
	map = create_map(TYPE, 4, value_size, max_entries ?: libbpf_num_possible_cpus(), 0);
	return ASSERT_OK_FD(map, "create map");
}

static void update_lookup_delete(void)
{
	__u32 key = 0;

	assert_no_entry(0, "before");
	ASSERT_OK(set(0, QSIZE, 0, 0), "create entry");
	assert_entry(0, QSIZE, NULL, "new entry");
	ASSERT_OK(set(0, 2 * QSIZE, 0, 0), "replace");
	assert_entry(0, 2 * QSIZE, NULL, "replaced entry");
	ASSERT_OK(bpf_map_delete_elem(map, &key), "delete");
	assert_no_entry(0, "after deletion");
	ASSERT_OK(bpf_map_delete_elem(map, &key), "delete what is not there");
	ASSERT_OK(set(0, QSIZE, 0, 0), "create it again");
	assert_entry(0, QSIZE, NULL, "entry again");
}

static void update_qsize_0_deletes(void)
{
	ASSERT_OK(set(0, QSIZE, 0, 0), "create entry");
	ASSERT_OK(set(0, 0, 0, 0), "size 0");
	assert_no_entry(0, "after size 0");
	ASSERT_OK(set(0, 0, 0, 0), "size 0 without an entry");
	assert_no_entry(0, "after size 0 twice");
}

static void update_qsize_limit(void)
{
	ASSERT_OK(set(0, 1, 0, 0), "size 1");
	assert_entry(0, 1, NULL, "size 1");
	ASSERT_OK(set(0, MAX_QSIZE, 0, 0), "largest size");
	assert_entry(0, MAX_QSIZE, NULL, "largest size");
	ASSERT_EQ(set(0, MAX_QSIZE + 1, 0, 0), -EOVERFLOW, "one more");
	ASSERT_EQ(set(0, UINT_MAX, 0, 0), -EOVERFLOW, "as large as can be said");
	assert_entry(0, MAX_QSIZE, NULL, "entry after failures");
}

static void update_flags(void)
{
	ASSERT_EQ(set(0, QSIZE, 0, BPF_NOEXIST), -EEXIST, "BPF_NOEXIST without an entry");
	assert_no_entry(0, "after BPF_NOEXIST");
	ASSERT_OK(set(0, QSIZE, 0, BPF_EXIST), "BPF_EXIST without an entry");
	assert_entry(0, QSIZE, NULL, "created with BPF_EXIST");
	ASSERT_EQ(set(0, 2 * QSIZE, 0, BPF_NOEXIST), -EEXIST, "BPF_NOEXIST with an entry");
	ASSERT_EQ(set(0, 2 * QSIZE, 0, BPF_EXIST + 1), -EINVAL, "unknown flag");
	ASSERT_EQ(set(0, 2 * QSIZE, 0, BPF_F_LOCK), -EINVAL, "BPF_F_LOCK");
	ASSERT_EQ(set(0, 2 * QSIZE, 0, 1ULL << 63), -EINVAL, "highest bit");
	assert_entry(0, QSIZE, NULL, "entry after failures");
}

static void keys_out_of_range(void)
{
	__u32 bad[] = { libbpf_num_possible_cpus(), 1U << 31, UINT_MAX };
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_EQ(set(bad[i], QSIZE, 0, 0), -E2BIG, "update");
		ASSERT_EQ(bpf_map_delete_elem(map, &bad[i]), -EINVAL, "delete");
		assert_no_entry(bad[i], "lookup");
	}
}

static void cpu_that_cannot_be(void)
{
	__u32 cpu = libbpf_num_possible_cpus(), i;

	if (cpu >= nr_cpus()) {
		printf("SKIP: there may be as many CPUs as NR_CPUS\n");
		test__skip();
		return;
	}
	close(map);
	if (!new_map(8, nr_cpus()))
		return;
	for (; cpu < nr_cpus(); cpu++) {
		ASSERT_EQ(set(cpu, QSIZE, 0, 0), -ENODEV, "entry of no CPU");
		assert_no_entry(cpu, "entry of no CPU");
	}
	for (i = 0; i < libbpf_num_possible_cpus(); i++)
		ASSERT_OK(set(i, QSIZE, 0, 0), "entry of a CPU");
}

static void walk_keys(void)
{
	__u32 key, next = ~0U, last = libbpf_num_possible_cpus() - 1;

	ASSERT_OK(bpf_map_get_next_key(map, NULL, &next), "first key");
	ASSERT_EQ(next, 0, "first key");
	for (key = 0; key < last; key++) {
		ASSERT_OK(bpf_map_get_next_key(map, &key, &next), "next key");
		ASSERT_EQ(next, key + 1, "next key");
	}
	ASSERT_EQ(bpf_map_get_next_key(map, &last, &next), -ENOENT, "behind the last key");
	key = last + 1;
	ASSERT_OK(bpf_map_get_next_key(map, &key, &next), "key out of range");
	ASSERT_EQ(next, 0, "key behind a key out of range");
}

static void small_value(void)
{
	__u32 cpu = 0, val[2] = { QSIZE, 0xa5a5a5a5 };

	close(map);
	if (!new_map(4, 0))
		return;
	ASSERT_OK(bpf_map_update_elem(map, &cpu, val, 0), "create entry");
	val[0] = 0;
	ASSERT_OK(bpf_map_lookup_elem(map, &cpu, val), "lookup");
	ASSERT_EQ(val[0], QSIZE, "size");
	ASSERT_EQ(val[1], 0xa5a5a5a5, "what is behind the value");
}

/* --- programs of entries ------------------------------------------------------ */

static void programs(void)
{
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), "entry with a program");
	assert_entry(0, QSIZE, skel->progs.good, "entry with a program");
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good_too), 0), "another");
	assert_entry(0, QSIZE, skel->progs.good_too, "another");
	ASSERT_OK(set(0, QSIZE, 0, 0), "fd 0");
	assert_entry(0, QSIZE, NULL, "fd 0 is no program");
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), "with one again");
	ASSERT_OK(set(0, QSIZE, -1, 0), "fd -1");
	assert_entry(0, QSIZE, NULL, "fd -1 is no program");
	ASSERT_OK(set(0, QSIZE, INT_MIN, 0), "lowest fd");
	assert_entry(0, QSIZE, NULL, "lowest fd is no program");
}

/* Each with its own error; on stock 6.12.117 all of these are -ENOMEM. */
static void bad_programs(void)
{
	int closed = dup(0);

	close(closed);
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), "entry with a program");
	ASSERT_EQ(set(0, 1, closed, 0), -EBADF, "closed fd");
	ASSERT_EQ(set(0, 1, INT_MAX, 0), -EBADF, "highest fd");
	ASSERT_EQ(set(0, 1, map, 0), -EINVAL, "fd of a map");
	ASSERT_EQ(set(0, 1, bpf_program__fd(skel->progs.not_xdp), 0), -EINVAL,
		  "program of another type");
	ASSERT_EQ(set(0, 1, bpf_program__fd(skel->progs.owner), 0), -EINVAL,
		  "XDP program for devices");
	ASSERT_EQ(set(0, 1, bpf_program__fd(skel->progs.for_devmap), 0), -EINVAL,
		  "XDP program for devmaps");
	assert_entry(0, QSIZE, skel->progs.good, "entry after failures");
	ASSERT_EQ(find_kthreads(map_id(map), -1, NULL), 1, "kthreads after failures");
	ASSERT_EQ(set(1, QSIZE, closed, 0), -EBADF, "closed fd without an entry");
	assert_no_entry(1, "no entry after failure");
}

/* Programs of a map agree on fragments with the one that came first. */
static void programs_with_frags(void)
{
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), "without");
	ASSERT_EQ(set(0, QSIZE, bpf_program__fd(skel->progs.frags), 0), -EINVAL, "then with");
	assert_entry(0, QSIZE, skel->progs.good, "entry after failure");
	close(map);
	if (!new_map(8, 0))
		return;
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.frags), 0), "with");
	ASSERT_EQ(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), -EINVAL, "then without");
	assert_entry(0, QSIZE, skel->progs.frags, "entry after failure");
}

/* The same where the first is a program that redirects to the map. */
static void programs_with_frags_and_owner(void)
{
	close(map);
	map = dup(bpf_map__fd(skel->maps.owned));
	ASSERT_EQ(set(0, QSIZE, bpf_program__fd(skel->progs.frags), 0), -EINVAL,
		  "with frags, owner without");
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), "both without");
	close(map);
	map = dup(bpf_map__fd(skel->maps.owned_by_frags));
	ASSERT_EQ(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), -EINVAL,
		  "without frags, owner with");
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.frags), 0), "both with");
}

static void program_bound_to_device(void)
{
	struct cpumap_contract *bound = NULL;
	struct bpf_program *prog;
	struct nstoken *token;

	if (!create_net())
		return;
	token = open_netns(DST);
	bound = cpumap_contract__open();
	if (!ASSERT_OK_PTR(token, "enter namespace") || !ASSERT_OK_PTR(bound, "open"))
		goto out;
	bpf_object__for_each_program(prog, bound->obj)
		bpf_program__set_autoload(prog, prog == bound->progs.bound);
	bpf_program__set_ifindex(bound->progs.bound, if_nametoindex("dst0"));
	bpf_program__set_flags(bound->progs.bound, BPF_F_XDP_DEV_BOUND_ONLY);
	if (!ASSERT_OK(cpumap_contract__load(bound), "load program bound to a device"))
		goto out;
	ASSERT_EQ(set(0, QSIZE, bpf_program__fd(bound->progs.bound), 0), -EINVAL, "bound program");
	assert_no_entry(0, "after failure");
	ASSERT_OK(set(0, QSIZE, bpf_program__fd(skel->progs.good), 0), "program that is not");
out:
	cpumap_contract__destroy(bound);
	close_netns(token);
	delete_net();
}

/* --- kthreads, memory, fdinfo -------------------------------------------------- */

static void kthread_of_each_entry(void)
{
	int nr = libbpf_num_possible_cpus(), cpu;
	__u32 id = map_id(map);
	pid_t pid = 0, old;

	ASSERT_EQ(find_kthreads(id, -1, NULL), 0, "kthreads of the empty map");
	for (cpu = 0; cpu < nr; cpu++) {
		ASSERT_OK(set(cpu, QSIZE, 0, 0), "create entry");
		ASSERT_EQ(find_kthreads(id, cpu, &pid), 1, "kthreads of the entry");
		ASSERT_TRUE(is_bound(pid, cpu), "kthread is bound to its CPU");
	}
	ASSERT_EQ(find_kthreads(id, -1, NULL), nr, "kthreads of the full map");
	find_kthreads(id, 0, &pid);
	old = pid;
	ASSERT_OK(set(0, QSIZE, 0, 0), "replace entry");
	ASSERT_TRUE(wait_for(find_kthreads(id, 0, &pid) == 1 && pid != old),
		    "the replaced entry's kthread ends");
	ASSERT_OK(set(0, 0, 0, 0), "delete entry");
	ASSERT_TRUE(wait_for(!find_kthreads(id, 0, NULL)), "the deleted entry's kthread ends");
	close(map);
	map = -1;
	ASSERT_TRUE(wait_for(!find_kthreads(id, -1, NULL)), "the map's kthreads end with it");
}

static unsigned long memory(void)
{
	unsigned long bytes = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", map);
	file = fopen(path, "r");
	if (!ASSERT_OK_PTR(file, "open the map's fdinfo"))
		return 0;
	while (fgets(line, sizeof(line), file))
		sscanf(line, "memlock: %lu", &bytes);
	fclose(file);
	return bytes;
}

/* On stock, entries cost nothing. */
static void memory_of_entries(void)
{
	unsigned long empty = memory(), small, large;

	ASSERT_GE(empty, libbpf_num_possible_cpus() * sizeof(void *), "empty map");
	ASSERT_OK(set(0, 1, 0, 0), "create entry");
	small = memory();
	ASSERT_GT(small, empty, "with an entry");
	ASSERT_OK(set(0, MAX_QSIZE, 0, 0), "replace by a large one");
	large = memory();
	ASSERT_GE(large, small + (MAX_QSIZE - 1) * sizeof(void *), "with a large entry");
	ASSERT_OK(set(0, 1, 0, 0), "replace by a small one");
	ASSERT_TRUE(wait_for(memory() == small), "with the small one again");
	ASSERT_OK(set(0, 0, 0, 0), "delete entry");
	/* What stays, of what the entry needed, are its counters. */
	ASSERT_TRUE(wait_for(memory() < small), "without it");
}

static void fdinfo_lines(void)
{
	struct counters c, none = {};

	ASSERT_EQ(read_counters(map, -1, &c), 0, "lines of the empty map");
	ASSERT_OK(set(1, QSIZE, 0, 0), "create entry");
	ASSERT_EQ(read_counters(map, -1, &c), 1, "lines with an entry");
	ASSERT_EQ(read_counters(map, 1, &c), 1, "lines of the entry");
	ASSERT_OK(memcmp(&c, &none, sizeof(c)), "counters of the new entry");
	ASSERT_OK(set(1, 0, 0, 0), "delete entry");
	ASSERT_EQ(read_counters(map, 1, &c), 1, "lines of the deleted entry");
	ASSERT_OK(set(1, QSIZE, 0, 0), "create it again");
	ASSERT_EQ(read_counters(map, -1, &c), 1, "lines of the entry, there again");
}

static void run(const char *name, void (*test)(void))
{
	if (!test__start_subtest(name))
		return;
	skel = cpumap_contract__open_and_load();
	if (ASSERT_OK_PTR(skel, "load programs")) {
		if (new_map(8, 0))
			test();
		if (map >= 0)
			close(map);
	}
	cpumap_contract__destroy(skel);
}

#define RUN(test) run(#test, test)

void serial_test_cpumap_contract(void)
{
	RUN(create_sizes);
	RUN(create_entries);
	RUN(create_flags);
	RUN(update_lookup_delete);
	RUN(update_qsize_0_deletes);
	RUN(update_qsize_limit);
	RUN(update_flags);
	RUN(keys_out_of_range);
	RUN(cpu_that_cannot_be);
	RUN(walk_keys);
	RUN(small_value);
	RUN(programs);
	RUN(bad_programs);
	RUN(programs_with_frags);
	RUN(programs_with_frags_and_owner);
	RUN(program_bound_to_device);
	RUN(kthread_of_each_entry);
	RUN(memory_of_entries);
	RUN(fdinfo_lines);
}
