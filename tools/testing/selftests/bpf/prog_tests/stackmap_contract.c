// SPDX-License-Identifier: GPL-2.0
/*
 * What BPF_MAP_TYPE_STACK_TRACE, bpf_get_stackid(), bpf_get_stack() and bpf_get_task_stack()
 * promise, each line of the contract a subtest.
 */
#include <dlfcn.h>
#include <poll.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <bpf/btf.h>
#include "stackmap_programs.h"

#define TYPE BPF_MAP_TYPE_STACK_TRACE
#define DEPTH 4			/* of stacks where it does not matter */
#define WORDS 8			/* frames that a map has room for */

/* --- programs ---------------------------------------------------------------- */

typedef int (*batch_fn)(int fd, void *in, void *out, void *keys, void *values, __u32 *count,
			const struct bpf_map_batch_opts *opts);

/* A test that is run with different arguments. */
struct variant {
	const char *name;
	void (*run)(const struct variant *v);
	const char *prog, *why;
	batch_fn batch;
	bool removes, in_keys;
	enum what outer, inner;
};

static struct bpf_program *find_program(const struct variant *v)
{
	return bpf_object__find_program_by_name(skel->obj, v->prog);
}

/* A map of @max_entries, with the program at the tracepoint. */
static bool setup(__u32 max_entries)
{
	return open_sized(max_entries, WORDS * sizeof(__u64), 0) &&
	       load_with(skel->progs.at_tracepoint);
}

static bool setup_build_ids(__u32 max_entries, __u32 depth)
{
	return open_sized(max_entries, depth * IDS_SIZE, BPF_F_STACK_BUILD_ID) &&
	       load_with(skel->progs.at_tracepoint);
}

static long take_deep(__u64 n, __u32 depth, __u64 flags)
{
	return take(forge_stack(chain, n, depth), flags);
}

/* The id of stack @n, of four frames. */
static long take_nr(__u64 n)
{
	return take_deep(n, DEPTH, USER);
}

static long take_reusing(__u64 n)
{
	return take_deep(n, DEPTH, USER | BPF_F_REUSE_STACKID);
}

/* Stacks @from to @to are stored, in as many ids. */
static bool fill(__u64 from, __u64 to)
{
	long id;

	for (; from <= to; from++) {
		id = take_nr(from);
		if (id < 0 || id >= bpf_map__max_entries(skel->maps.stacks))
			return ASSERT_FAIL("stack %llu has id %ld", from, id);
	}
	return true;
}

/* The id reads back this stack, without @skip frames. */
static void assert_reads(long id, __u64 n, __u32 depth, __u32 skip)
{
	if (!ASSERT_GE(id, 0, "id") || !ASSERT_OK(lookup(id), "look up"))
		return;
	ASSERT_TRUE(is_stack(value, words, n, depth, skip), "the stack that was looked up");
	ASSERT_EQ(value[words], 0xa5a5a5a5a5a5a5a5ULL, "what is behind the value");
}

static void assert_stack(long id, __u64 n)
{
	assert_reads(id, n, DEPTH, 0);
}

static int lookup_and_delete(__u32 id, void *to)
{
	return bpf_map_lookup_and_delete_elem(map, &id, to);
}

static int next_key(const __u32 *key, __u32 *next)
{
	*next = ~0U;
	return bpf_map_get_next_key(map, key, next);
}

/* --- creation ---------------------------------------------------------------- */

static void create_key_sizes(void)
{
	static const __u32 bad[] = { 0, 1, 2, 3, 5, 8, 1 << 20, UINT_MAX };
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_create(TYPE, bad[i], 8, 1, 0, -EINVAL, "key of another size than 4");
	assert_create(TYPE, 4, 8, 1, 0, 0, "key of 4 bytes");
}

static void create_value_sizes(void)
{
	static const __u32 bad[] = { 0, 1, 4, 7, 9, 12, 100, 1020, UINT_MAX, UINT_MAX - 7 };
	__u32 depth = read_max_stack();
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_create(TYPE, 4, bad[i], 1, 0, -EINVAL, "value of another size");
	assert_create(TYPE, 4, 8, 1, 0, 0, "one frame");
	assert_create(TYPE, 4, 8 * depth, 1, 0, 0, "as many frames as perf_event_max_stack");
	assert_create(TYPE, 4, 8 * (depth + 1), 1, 0, -EINVAL, "one more");
}

static void create_value_sizes_build_ids(void)
{
	__u32 depth = read_max_stack(), size;

	for (size = 0; size < IDS_SIZE; size += 8)
		assert_create(TYPE, 4, size, 1, BPF_F_STACK_BUILD_ID, -EINVAL, "part of a frame");
	assert_create(TYPE, 4, IDS_SIZE, 1, BPF_F_STACK_BUILD_ID, 0, "one frame");
	assert_create(TYPE, 4, IDS_SIZE + 8, 1, BPF_F_STACK_BUILD_ID, -EINVAL,
		      "one frame and a part");
	assert_create(TYPE, 4, IDS_SIZE * depth, 1, BPF_F_STACK_BUILD_ID, 0, "as many frames");
	assert_create(TYPE, 4, IDS_SIZE * (depth + 1), 1, BPF_F_STACK_BUILD_ID, -EINVAL,
		      "one more");
}

static void create_follows_perf_event_max_stack(void)
{
	__u32 depth = read_max_stack();

	if (set_max_stack(depth + 50)) {
		assert_create(TYPE, 4, 8 * (depth + 50), 1, 0, 0, "raised limit");
		assert_create(TYPE, 4, 8 * (depth + 51), 1, 0, -EINVAL, "one more");
	}
	if (set_max_stack(3)) {
		assert_create(TYPE, 4, 24, 1, 0, 0, "lowered limit");
		assert_create(TYPE, 4, 32, 1, 0, -EINVAL, "one more");
	}
	set_max_stack(depth);
}

static void create_entries(void)
{
	assert_create(TYPE, 4, 8, 0, 0, -EINVAL, "no entries");
	assert_create(TYPE, 4, 8, 1, 0, 0, "one entry");
	assert_create(TYPE, 4, 8, 3, 0, 0, "not a power of two");
	assert_create(TYPE, 4, 8, (1U << 31) + 1, 0, -E2BIG, "one more than 1 << 31");
	assert_create(TYPE, 4, 8, UINT_MAX, 0, -E2BIG, "as many as can be said");
}

/*
 * CVE-2021-41864 and CVE-2024-26883: products and rounding that overflow. More memory than there
 * is, so they get none.
 */
static void create_overflowing_sizes(void)
{
	static const struct {
		__u32 value_size, max_entries, flags;
	} maps[] = {
		{ 8, 1U << 31 }, { 1016, 1U << 31 }, { 1016, 1U << 30 }, { 1016, (1U << 30) + 1 },
		{ 1000, 4294968 * 100 }, { 8, 1U << 30 }, { 32, 1U << 27, BPF_F_STACK_BUILD_ID },
		{ 4064, (1U << 20) + 1, BPF_F_STACK_BUILD_ID },
		{ 4064, 1U << 31, BPF_F_STACK_BUILD_ID },
		/* Entries of 4080 bytes: little more than 4 GiB, all of them. */
		{ 4064, 1052689, BPF_F_STACK_BUILD_ID },
	};
	int i;

	if (sysconf(_SC_PHYS_PAGES) > (4LL << 30) / getpagesize()) {
		printf("SKIP: this machine would really allocate some GiB\n");
		test__skip();
		return;
	}
	for (i = 0; i < ARRAY_SIZE(maps); i++)
		assert_create(TYPE, 4, maps[i].value_size, maps[i].max_entries, maps[i].flags,
			      -ENOMEM, "more than there is");
}

static void create_flags(void)
{
	__u32 known = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_STACK_BUILD_ID;
	int bit;

	assert_known_flags(TYPE, 4, 32, 1, known);
	for (bit = 0; bit < 32; bit++)
		if (known & 1U << bit)
			assert_create(TYPE, 4, 32, 1, 1U << bit, 0, "create with a known flag");
	assert_create(TYPE, 4, 32, 1, BPF_F_RDONLY | BPF_F_WRONLY, -EINVAL, "for nobody");
}

static void create_numa_node(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NUMA_NODE);

	opts.numa_node = 1 << 20;
	ASSERT_EQ(bpf_map_create(TYPE, "contract", 4, 8, 1, &opts), -EINVAL,
		  "create on a node that does not exist");
}

static void btf_layout(void)
{
	assert_begins_with_map("bpf_stack_map");
}

/* 6.12.117 kept 24 bytes for each entry beside the value. */
static void memory_reported(void)
{
	static const struct {
		__u32 value_size, max_entries;
		int percent;
	} maps[] = {
		{ 1016, 1 << 10, 102 }, { 1016, 1000, 102 }, { 1016, 1 << 16, 102 },
		{ 8, 1 << 10, 130 }, { 8, 1 << 16, 130 }, { 8, 100000, 130 }, { 64, 3000, 130 },
	};
	const unsigned long fixed = 2 * getpagesize();
	unsigned long memlock, stock;
	__u32 heads;
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		fd = create_map(TYPE, 4, maps[i].value_size, maps[i].max_entries, 0);
		if (!ASSERT_OK_FD(fd, "create"))
			return;
		for (heads = 1; heads < maps[i].max_entries; heads *= 2)
			;
		stock = 8UL * heads + (16UL + maps[i].value_size) * maps[i].max_entries;
		memlock = fdinfo_line(fd, "memlock");
		ASSERT_GE(memlock, (unsigned long)maps[i].value_size * maps[i].max_entries,
			  "memlock");
		ASSERT_LE(memlock, stock * maps[i].percent / 100 + fixed, "memlock against stock");
		close(fd);
	}
}

/* --- flags of the helpers ---------------------------------------------------- */

/* Each bit that is not in @known, alone and with a known one. */
static void assert_flags_refused(enum what what, __u64 known, __u32 size)
{
	const struct frame *fp = forge_stack(chain, 1, DEPTH);
	int bit;

	req->what = what;
	req->size = size;
	for (bit = 0; bit < 64; bit++) {
		if (known & 1ULL << bit)
			continue;
		memset(req->buf, 0xa5, sizeof(req->buf));
		req->flags = 1ULL << bit;
		if (!ASSERT_EQ(ask(fp), -EINVAL, "an unknown flag"))
			printf("flag %#llx\n", req->flags);
		req->flags |= USER;
		if (!ASSERT_EQ(ask(fp), -EINVAL, "an unknown flag, and user frames"))
			printf("flag %#llx\n", req->flags);
		if (what != STACKID && (req->buf[0] || req->buf[size / 8 - 1]))
			ASSERT_FAIL("the buffer is not zeroed");
	}
}

#define STACKID_FLAGS (BPF_F_SKIP_FIELD_MASK | USER | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID)
#define STACK_FLAGS (BPF_F_SKIP_FIELD_MASK | USER | BPF_F_USER_BUILD_ID)

static void stackid_flags(void)
{
	if (setup(16)) {
		assert_flags_refused(STACKID, STACKID_FLAGS, 0);
		assert_fdinfo(map, 0, 0);
		ASSERT_GE(take_deep(1, DEPTH, USER | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID |
				    1), 0, "all known flags");
	}
	teardown();
}

static void stack_flags(void)
{
	if (setup(16))
		assert_flags_refused(STACK, STACK_FLAGS, 64);
	teardown();
}

static void task_stack_flags(void)
{
	if (setup(16))
		assert_flags_refused(TASK_STACK, STACK_FLAGS, 64);
	teardown();
}

/* The buffer's first @len bytes are given; the others up to @size zeroed, none behind it. */
static void assert_buffer(__u32 len, __u32 size)
{
	__u8 *bytes = (__u8 *)req->buf;
	__u32 i;

	for (i = len; i < size; i++)
		if (bytes[i])
			break;
	ASSERT_GE(i, size, "zeroed bytes");
	ASSERT_EQ(bytes[size], 0xa5, "byte behind the buffer");
}

/* Of bpf_get_stack() and bpf_get_task_stack(). */
static void assert_size_errors(enum what what)
{
	const struct frame *fp = forge_stack(chain, 1, DEPTH);
	__u32 size;

	for (size = 1; size < 80; size++) {
		if (size % 8) {
			ASSERT_EQ(get(what, size, USER, fp), -EINVAL, "size not of frames");
			assert_buffer(0, size);
		}
		if (size % IDS_SIZE) {
			ASSERT_EQ(get(what, size, USER | BPF_F_USER_BUILD_ID, fp), -EINVAL,
				  "size not of frames with build id");
			assert_buffer(0, size);
		}
	}
	ASSERT_EQ(get(what, 64, BPF_F_USER_BUILD_ID, fp), -EINVAL, "build ids of the kernel");
	assert_buffer(0, 64);
	ASSERT_EQ(get(what, 0, USER, fp), 0, "no room at all");
	assert_buffer(0, 0);
}

static void stack_sizes(void)
{
	if (setup(16))
		assert_size_errors(STACK);
	teardown();
}

static void task_stack_sizes(void)
{
	if (setup(16))
		assert_size_errors(TASK_STACK);
	teardown();
}

/* --- what the helpers give --------------------------------------------------- */

/* For each skip and depth; CVE-2025-68378 and e17d62fedd10: traces deeper than the room. */
static void assert_gets(enum what what)
{
	static const __u32 depths[] = { 1, 2, 5, 126, 127 }, rooms[] = { 1, 2, 5, 127, 200 };
	__u32 i, j, skip, depth, room, nr, seen;
	const struct frame *fp;
	long len;

	for (i = 0; i < ARRAY_SIZE(depths); i++) {
		depth = depths[i];
		fp = forge_stack(chain, i, depth);
		for (j = 0; j < ARRAY_SIZE(rooms); j++) {
			room = rooms[j];
			for (skip = 0; skip < 256; skip += skip < 8 || skip > 120 ? 1 : 7) {
				nr = skip < depth ? depth - skip : 0;
				nr = nr < room ? nr : room;
				len = get(what, room * 8, USER | skip, fp);
				if (len != (skip > depth ? -EFAULT : (long)nr * 8))
					goto bad;
				seen = nr < room ? nr + 1 : room;
				if (!is_stack(req->buf, nr, i, depth, skip) ||
				    (seen > nr && req->buf[nr]) || req->buf[room] + 1 < 2)
					goto bad;
			}
		}
	}
	return;
bad:
	ASSERT_FAIL("depth %u, room %u, skip %u: %ld", depth, room, skip, len);
}

static void stack_of_user(void)
{
	if (setup(16)) {
		assert_gets(STACK);
		get(STACK, 160, USER, forge_stack(chain, 1, DEPTH));
		assert_buffer(DEPTH * 8, 160);
	}
	teardown();
}

static void task_stack_of_user(void)
{
	if (setup(16)) {
		assert_gets(TASK_STACK);
		get(TASK_STACK, 160, USER, forge_stack(chain, 1, DEPTH));
		assert_buffer(DEPTH * 8, 160);
	}
	teardown();
}

/* Once more than the kernel ever unwinds, in any program. */
static void assert_user_stacks(void)
{
	long id = take_nr(1), len;

	assert_stack(id, 1);
	ASSERT_NEQ(take_nr(2), id, "id of another stack");
	ASSERT_EQ(take_nr(1), id, "id of the same stack");
	len = get(STACK, 80, USER | 1, forge_stack(chain, 3, DEPTH));
	ASSERT_EQ(len, (DEPTH - 1) * 8, "length");
	ASSERT_TRUE(is_stack(req->buf, 10, 3, DEPTH, 1), "stack");
	len = get(TASK_STACK, 80, USER, forge_stack(chain, 3, DEPTH));
	ASSERT_EQ(len, DEPTH * 8, "length");
	ASSERT_TRUE(is_stack(req->buf, 10, 3, DEPTH, 0), "stack");
}

/* All that follows the first frame is the same wherever in a system call it is taken. */
static bool all_of_kernel(const __u64 *ips, __u32 nr)
{
	__u32 i;

	for (i = 0; i < nr; i++)
		if (!((long)ips[i] < 0))
			return false;
	return nr;
}

static void assert_kernel_stacks(void)
{
	long id = take(NULL, 0), other, len;
	__u32 nr;

	if (!ASSERT_GE(id, 0, "id of a stack of the kernel") || !ASSERT_OK(lookup(id), "look up"))
		return;
	for (nr = 0; nr < words && value[nr]; nr++)
		;
	ASSERT_TRUE(all_of_kernel(value, nr), "frames of the kernel");
	other = take_nr(1);
	ASSERT_NEQ(other, id, "id of the user's stack");
	/* As deep as it is: not one frame of user space. */
	len = get(STACK, 127 * 8, 0, forge_stack(chain, 1, DEPTH));
	ASSERT_GT(len, 0, "length");
	ASSERT_TRUE(all_of_kernel(req->buf, len / 8), "frames of the kernel");
	len = get(TASK_STACK, 127 * 8, 0, forge_stack(chain, 1, DEPTH));
	ASSERT_GT(len, 0, "length");
	ASSERT_TRUE(all_of_kernel(req->buf, len / 8), "frames of the kernel");
}

static void in_program(const struct variant *v)
{
	if (open_sized(16, 64, 0) && load_with(find_program(v))) {
		assert_user_stacks();
		assert_kernel_stacks();
	}
	teardown();
}

/* The stack that a kernel's stack has at the same place is the same one. */
static void kernel_same_id(void)
{
	long first, id;
	int i;

	if (setup(16)) {
		first = take(NULL, 0);
		ASSERT_GE(first, 0, "id");
		for (i = 0; i < 5; i++) {
			id = take(forge_stack(chain, i, DEPTH), 0);
			ASSERT_EQ(id, first, "id of the same stack of the kernel");
		}
		assert_fdinfo(map, 1, 0);
	}
	teardown();
}

/* The probe's address, then the forged frames. */
static void in_probe(const struct variant *v)
{
	__u64 ip;
	long id;

	if (!open_sized(16, 64, 0) || !load_with(find_program(v)) ||
	    !attach_uprobe(find_program(v)))
		goto out;
	req->what = STACKID;
	req->flags = USER;
	id = ask_by_call(forge_stack(chain, 1, DEPTH));
	ASSERT_EQ(ask_by_call(forge_stack(chain, 1, DEPTH)), id, "id of the same stack");
	if (!ASSERT_GE(id, 0, "id") || !ASSERT_OK(lookup(id), "look up"))
		goto out;
	ip = value[0];
	ASSERT_EQ(ip, (__u64)forged_probe, "first frame");
	value[0] = (__u64)forged_ip;
	ASSERT_TRUE(is_stack(value, words, 1, DEPTH, 0), "other frames");

	req->what = STACK;
	req->size = 80;
	ASSERT_EQ(ask_by_call(forge_stack(chain, 2, DEPTH)), DEPTH * 8, "length");
	ASSERT_TRUE(is_stack(req->buf + 1, 3, 2, DEPTH, 1), "frames");
out:
	teardown();
}

static void kthread_has_no_user_stack(void)
{
	__u64 end = get_time_ns() + 20000000000ULL;

	if (!open_sized(16, 64, 0))
		return;
	/* It starts with its request: set before it is loaded. */
	skel->bss->requests[0].what = STACKID;
	skel->bss->requests[0].flags = USER;
	skel->bss->requests[0].ret = NO_RET;
	if (load_with(skel->progs.in_kthread)) {
		while (!*(volatile __u32 *)&req->runs && get_time_ns() < end)
			kern_sync_rcu();
		ASSERT_GT(req->runs, 0, "switches from a thread of the kernel");
		ASSERT_EQ(req->ret, -EFAULT, "its stack of user space");
		assert_fdinfo(map, 0, 0);
	}
	teardown();
}

static void stack_of_other_task(void)
{
	pthread_t thread;
	int pipe_fd[2];
	long len;

	if (!open_sized(16, 64, 0) || !load_with(skel->progs.take_other) ||
	    !ASSERT_OK(pipe(pipe_fd), "pipe"))
		goto out;
	skel->bss->other_pid = 0;
	if (!ASSERT_OK(pthread_create(&thread, NULL, wait_in_read, pipe_fd), "start thread"))
		goto out;
	while (!thread_sleeps(*(volatile int *)&skel->bss->other_pid))
		sched_yield();

	len = get(TASK_STACK, 640, 0, NULL);
	if (ASSERT_GT(len, 0, "length")) {
		ASSERT_EQ(len % 8, 0, "part of a frame");
		ASSERT_TRUE(all_of_kernel(req->buf, len / 8), "frames of the kernel");
		assert_buffer(len, 640);
	}
	ASSERT_EQ(get(TASK_STACK, len - 8, 0, NULL), len - 8, "one frame less");
	assert_buffer(len - 8, len - 8);
	ASSERT_EQ(get(TASK_STACK, 640, 1, NULL), len - 8, "one frame skipped");
	assert_buffer(len - 8, 640);
	ASSERT_EQ(get(TASK_STACK, 640, len / 8, NULL), 0, "all skipped");
	ASSERT_EQ(get(TASK_STACK, 640, len / 8 + 1, NULL), -EFAULT, "more skipped");
	assert_buffer(0, 640);
	ASSERT_EQ(get(TASK_STACK, 64, USER, NULL), -EOPNOTSUPP, "its stack of user space");
	assert_buffer(0, 64);
	ASSERT_EQ(get(TASK_STACK, 64, USER | BPF_F_USER_BUILD_ID, NULL), -EOPNOTSUPP,
		  "with build ids");

	ASSERT_EQ(write(pipe_fd[1], "", 1), 1, "write");
	pthread_join(thread, NULL);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
out:
	teardown();
}

/* --- ids --------------------------------------------------------------------- */

static void same_stack_same_id(void)
{
	long ids[16];
	int i;

	if (!setup(16))
		goto out;
	for (i = 0; i < 16; i++)
		ids[i] = take_nr(i);
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(take_nr(i), ids[i], "id of the same stack");
		assert_stack(ids[i], i);
	}
	assert_fdinfo(map, 16, 0);
out:
	teardown();
}

/* As many stacks as there are entries, each has its own id below that. */
static void ids_below_max_entries(void)
{
	static const __u32 sizes[] = { 1, 2, 3, 4, 5, 7, 8, 31, 33, 100, 1000 };
	bool seen[1000];
	__u32 i, n;
	long id;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		memset(seen, 0, sizeof(seen));
		if (!setup(sizes[i]))
			goto out;
		for (n = 0; n < sizes[i]; n++) {
			id = take_nr(n);
			if (id < 0 || id >= sizes[i] || seen[id]) {
				ASSERT_FAIL("stack %u of %u has id %ld", n, sizes[i], id);
				goto out;
			}
			seen[id] = true;
		}
		assert_fdinfo(map, sizes[i], 0);
		teardown();
	}
	return;
out:
	teardown();
}

static void skipped_frames(void)
{
	__u32 skip;
	long id;

	if (!open_sized(256, 127 * 8, 0) || !load_with(skel->progs.at_tracepoint))
		goto out;
	for (skip = 0; skip < 127; skip++) {
		id = take_deep(7, 127, USER | skip);
		if (id < 0 || lookup(id) || !is_stack(value, words, 7, 127, skip)) {
			ASSERT_FAIL("skip %u: id %ld", skip, id);
			break;
		}
	}
	assert_fdinfo(map, 127, 0);
out:
	teardown();
}

static void skip_leaves_nothing(void)
{
	__u32 skip;

	if (!setup(16))
		goto out;
	ASSERT_GE(take_deep(1, DEPTH, USER | (DEPTH - 1)), 0, "one frame is left");
	for (skip = DEPTH; skip < 256; skip++)
		if (!ASSERT_EQ(take_deep(1, DEPTH, USER | skip), -EFAULT, "nothing is left"))
			break;
	ASSERT_EQ(take(NULL, 255), -EFAULT, "nothing of the kernel's is left");
	assert_fdinfo(map, 1, 0);
out:
	teardown();
}

/* Also where the skipped ones are counted in. */
static void depth_is_cut(void)
{
	__u32 skip;
	long id;

	for (skip = 0; skip < 20; skip++) {
		if (!setup(16))
			goto out;
		id = take_deep(1, 40, USER | skip);
		if (ASSERT_OK(lookup(id), "look up"))
			ASSERT_TRUE(is_stack(value, words, 1, 40, skip), "first frames");
		ASSERT_EQ(take_deep(1, skip + WORDS, USER | skip), id,
			  "id of a stack with the same frames");
		ASSERT_NEQ(take_deep(1, skip + WORDS - 1, USER | skip), id,
			   "id of a stack with one frame less");
		assert_fdinfo(map, 2, 0);
		teardown();
	}
	return;
out:
	teardown();
}

static void one_frame_deep(void)
{
	long id;

	if (!open_sized(4, 8, 0) || !load_with(skel->progs.at_tracepoint))
		goto out;
	id = take_deep(1, 1, USER);
	assert_reads(id, 0, 1, 0);
	ASSERT_EQ(take_deep(9, 50, USER), id, "id of a deeper stack");
	assert_reads(take_deep(9, 50, USER | 1), 9, 50, 1);
out:
	teardown();
}

/* Stacks that begin alike, or are longer by zeros, are different ones. */
static void depth_tells_stacks_apart(void)
{
	long id[WORDS + 1];
	__u32 depth;
	__u64 ip = 0;

	if (!setup(16))
		goto out;
	for (depth = 1; depth <= WORDS; depth++)
		id[depth] = take_deep(1, depth, USER);
	for (depth = 1; depth <= WORDS; depth++) {
		ASSERT_EQ(take_deep(1, depth, USER), id[depth], "id of the same stack");
		assert_reads(id[depth], 1, depth, 0);
	}
	id[0] = take(forge(chain, &ip, 1), USER);
	ASSERT_NEQ(id[0], id[1], "id with a frame that is zero");
	assert_fdinfo(map, WORDS + 1, 0);
out:
	teardown();
}

/* The frames of a longer stack do not show through. */
static void lookup_zero_fills(void)
{
	long id;

	if (!setup(1))
		goto out;
	id = take_deep(1, WORDS, USER);
	assert_reads(id, 1, WORDS, 0);
	ASSERT_OK(delete(id), "delete");
	id = take_deep(2, 2, USER);
	assert_reads(id, 2, 2, 0);
out:
	teardown();
}

static void lookup_errors(void)
{
	__u32 id;

	if (!setup(3))
		goto out;
	for (id = 0; id < 10; id++)
		ASSERT_EQ(lookup(id), -ENOENT, "look up in the empty map");
	ASSERT_EQ(lookup(UINT_MAX), -ENOENT, "look up out of range");
	ASSERT_EQ(lookup(1U << 31), -ENOENT, "look up out of range");
	fill(1, 3);
	for (id = 3; id < 10; id++)
		ASSERT_EQ(lookup(id), -ENOENT, "look up out of range");
	id = 0;
	ASSERT_EQ(bpf_map_lookup_elem_flags(map, &id, value, BPF_F_LOCK), -EINVAL, "BPF_F_LOCK");
	ASSERT_EQ(bpf_map_lookup_elem(map, &id, NULL), -EFAULT, "look up to nowhere");
	ASSERT_EQ(bpf_map_lookup_elem(map, NULL, value), -EFAULT, "look up without a key");
out:
	teardown();
}

static void delete_errors(void)
{
	long id;

	if (!setup(3))
		goto out;
	ASSERT_EQ(delete(0), -ENOENT, "delete what is not there");
	ASSERT_EQ(delete(2), -ENOENT, "delete what is not there");
	ASSERT_EQ(delete(3), -E2BIG, "delete out of range");
	ASSERT_EQ(delete(UINT_MAX), -E2BIG, "delete out of range");
	id = take_nr(1);
	ASSERT_OK(delete(id), "delete");
	ASSERT_EQ(delete(id), -ENOENT, "delete again");
	ASSERT_EQ(lookup(id), -ENOENT, "look up what was deleted");
	assert_fdinfo(map, 0, 0);
out:
	teardown();
}

static void deleted_stack_comes_again(void)
{
	long id, i;

	if (!setup(3))
		goto out;
	fill(1, 3);
	for (i = 0; i < 100; i++) {
		id = take_nr(1 + i % 3);
		ASSERT_OK(delete(id), "delete");
		id = take_nr(1 + i % 3);
		if (id < 0 || lookup(id) || !is_stack(value, words, 1 + i % 3, DEPTH, 0)) {
			ASSERT_FAIL("round %ld: id %ld", i, id);
			break;
		}
	}
	assert_fdinfo(map, 3, 0);
out:
	teardown();
}

static void next_key_ascends(void)
{
	__u32 max = 37, key, next, expected;
	bool there[37] = {};
	int i;

	if (!setup(max))
		goto out;
	ASSERT_EQ(next_key(NULL, &next), -ENOENT, "first key of the empty map");
	for (i = 0; i < 20; i++)
		there[take_nr(i) % max] = true;

	for (expected = 0; !there[expected]; expected++)
		;
	ASSERT_OK(next_key(NULL, &key), "first key");
	ASSERT_EQ(key, expected, "first key");
	for (;;) {
		for (expected = key + 1; expected < max && !there[expected]; expected++)
			;
		if (expected == max)
			break;
		if (!ASSERT_OK(next_key(&key, &next), "next key") ||
		    !ASSERT_EQ(next, expected, "next key"))
			goto out;
		key = next;
	}
	ASSERT_EQ(next_key(&key, &next), -ENOENT, "key after the last one");
out:
	teardown();
}

static void next_key_starts_over(void)
{
	__u32 first, key, next;

	if (!setup(8))
		goto out;
	fill(1, 5);
	ASSERT_OK(next_key(NULL, &first), "first key");
	for (key = 0; key < 8; key++) {
		if (!lookup(key))
			continue;
		ASSERT_OK(next_key(&key, &next), "key after an absent one");
		ASSERT_EQ(next, first, "key after an absent one");
	}
	for (key = 8; key < 1 << 30; key *= 3) {
		ASSERT_OK(next_key(&key, &next), "key after one out of range");
		ASSERT_EQ(next, first, "key after one out of range");
	}
	key = UINT_MAX;
	ASSERT_OK(next_key(&key, &next), "key after one out of range");
	ASSERT_EQ(next, first, "key after one out of range");
out:
	teardown();
}

static void update_refused(void)
{
	static const __u64 flags[] = { BPF_ANY, BPF_NOEXIST, BPF_EXIST };
	__u64 frames[WORDS] = { 1, 2, 3 };
	__u32 key;
	int i;

	if (!setup(3))
		goto out;
	fill(1, 1);
	for (key = 0; key < 5; key++)
		for (i = 0; i < ARRAY_SIZE(flags); i++)
			ASSERT_EQ(bpf_map_update_elem(map, &key, frames, flags[i]), -EINVAL,
				  "update");
	assert_stack(take_nr(1), 1);
	assert_fdinfo(map, 1, 0);
out:
	teardown();
}

/* --- permissions ------------------------------------------------------------- */

/* What writes is refused; what only reads is not. */
static void frozen_map(void)
{
	__u32 key, next, count = 1, keys[4], cursor;
	long id;

	if (!setup(4))
		goto out;
	id = take_nr(1);
	key = id;
	if (!ASSERT_OK(bpf_map_freeze(map), "freeze"))
		goto out;
	ASSERT_EQ(delete(id), -EPERM, "delete");
	ASSERT_EQ(lookup_and_delete(id, value), -EPERM, "look up and delete");
	ASSERT_EQ(bpf_map_delete_batch(map, &key, &count, NULL), -EPERM, "delete in a batch");
	ASSERT_EQ(bpf_map_lookup_and_delete_batch(map, NULL, &cursor, keys, value, &count, NULL),
		  -EPERM, "look up and delete in a batch");
	ASSERT_EQ(bpf_map_update_elem(map, &key, value, 0), -EPERM, "update");
	assert_stack(id, 1);
	ASSERT_OK(next_key(NULL, &next), "first key");
	count = 1;
	ASSERT_OK(bpf_map_lookup_batch(map, NULL, &cursor, keys, value, &count, NULL),
		  "look up in a batch");
	assert_stack(take_nr(2), 2);
out:
	teardown();
}

static void map_for_reading(void)
{
	__u32 key, count = 1, keys[4], cursor;
	long id;

	if (!open_sized(4, 64, BPF_F_RDONLY) || !load_with(skel->progs.at_tracepoint))
		goto out;
	id = take_nr(1);
	key = id;
	assert_stack(id, 1);
	ASSERT_EQ(delete(id), -EPERM, "delete");
	ASSERT_EQ(lookup_and_delete(id, value), -EPERM, "look up and delete");
	ASSERT_EQ(bpf_map_delete_batch(map, &key, &count, NULL), -EPERM, "delete in a batch");
	ASSERT_EQ(bpf_map_lookup_and_delete_batch(map, NULL, &cursor, keys, value, &count, NULL),
		  -EPERM, "look up and delete in a batch");
	assert_stack(id, 1);
out:
	teardown();
}

static void map_for_writing(void)
{
	__u32 count = 1, keys[4], cursor, next;
	long id;

	if (!open_sized(4, 64, BPF_F_WRONLY) || !load_with(skel->progs.at_tracepoint))
		goto out;
	id = take_nr(1);
	ASSERT_EQ(lookup(id), -EPERM, "look up");
	ASSERT_EQ(next_key(NULL, &next), -EPERM, "first key");
	ASSERT_EQ(lookup_and_delete(id, value), -EPERM, "look up and delete");
	ASSERT_EQ(bpf_map_lookup_batch(map, NULL, &cursor, keys, value, &count, NULL), -EPERM,
		  "look up in a batch");
	ASSERT_EQ(bpf_map_lookup_and_delete_batch(map, NULL, &cursor, keys, value, &count, NULL),
		  -EPERM, "look up and delete in a batch");
	ASSERT_OK(delete(id), "delete");
out:
	teardown();
}

static void rejected(const struct variant *v)
{
	char *log;

	if (!open_sized(4, 64, 0))
		return;
	bpf_program__set_autoload(find_program(v), true);
	if (ASSERT_OK(start_libbpf_log_capture(), "capture log")) {
		ASSERT_ERR(stackmap_contract__load(skel), "load");
		log = stop_libbpf_log_capture();
		ASSERT_HAS_SUBSTR(log, v->why, "verifier's reason");
		free(log);
	}
	teardown();
}

static void rejected_walk(void)
{
	if (open_sized(4, 64, 0)) {
		bpf_program__set_autoload(skel->progs.walk_elems, true);
		ASSERT_EQ(stackmap_contract__load(skel), -ENOTSUPP, "load");
	}
	teardown();
}

/* --- full maps --------------------------------------------------------------- */

static const __u32 small_sizes[] = { 1, 2, 3, 7, 8, 100 };

/* New stacks are refused and counted, those that are there keep their ids. */
static void full_map_refuses(void)
{
	__u32 i, n, max;
	long ids[100];

	for (i = 0; i < ARRAY_SIZE(small_sizes); i++) {
		max = small_sizes[i];
		if (!setup(max))
			goto out;
		for (n = 0; n < max; n++)
			ids[n] = take_nr(n);
		for (n = max; n < max + 5; n++)
			ASSERT_EQ(take_nr(n), -ENOMEM, "id in a full map");
		assert_fdinfo(map, max, 5);
		for (n = 0; n < max; n++) {
			if (take_nr(n) != ids[n] || lookup(ids[n]) ||
			    !is_stack(value, words, n, DEPTH, 0))
				ASSERT_FAIL("stack %u of %u", n, max);
		}
		assert_fdinfo(map, max, 5);
		ASSERT_OK(delete(ids[max / 2]), "delete");
		ASSERT_EQ(take_nr(max), ids[max / 2], "the only id that is free");
		ASSERT_EQ(take_nr(max / 2), -ENOMEM, "id in a full map");
		assert_fdinfo(map, max, 6);
		teardown();
	}
	return;
out:
	teardown();
}

/*
 * One that was there is gone, the others are whole and where they were. Stock 6.12.117 gives away
 * a slot that its hash says, also in a map with room, and others lose their stack.
 */
static void reuse_evicts_one(void)
{
	__u32 i, n, max, gone, round, in_map[101];
	long id, ids[100];

	for (i = 0; i < ARRAY_SIZE(small_sizes); i++) {
		max = small_sizes[i];
		if (!setup(max))
			goto out;
		for (n = 0; n < max; n++) {
			id = take_reusing(n);
			if (id < 0 || id >= max) {
				ASSERT_FAIL("stack %u of %u has id %ld", n, max, id);
				goto out;
			}
			ids[n] = id;
			in_map[id] = n;
		}
		for (n = 0; n < max; n++)
			if (in_map[ids[n]] != n || lookup(ids[n]) ||
			    !is_stack(value, words, n, DEPTH, 0))
				ASSERT_FAIL("stack %u of %u gave way to another one", n, max);

		for (round = 0; round < 30; round++) {
			id = take_reusing(1000 + round);
			if (!ASSERT_GE(id, 0, "id in a full map") ||
			    !ASSERT_LT(id, max, "id in a full map"))
				goto out;
			in_map[id] = 1000 + round;
			for (n = gone = 0; n < max; n++)
				gone += lookup(n) || !is_stack(value, words, in_map[n], DEPTH, 0);
			if (!ASSERT_EQ(gone, 0, "stacks changed beside the one that gave way"))
				goto out;
		}
		assert_fdinfo(map, max, 0);
		ASSERT_EQ(count_keys(map), max, "keys");
		teardown();
	}
	return;
out:
	teardown();
}

static void reuse_finds_what_is_there(void)
{
	long id;
	int i;

	if (!setup(4))
		goto out;
	fill(1, 4);
	for (i = 1; i <= 4; i++) {
		id = take_nr(i);
		ASSERT_EQ(take_reusing(i), id, "id of a stack that is there");
	}
	for (i = 1; i <= 4; i++)
		assert_stack(take_nr(i), i);
	assert_fdinfo(map, 4, 0);
out:
	teardown();
}

static void fast_cmp(void)
{
	long id, i;

	if (!setup(100))
		goto out;
	for (i = 0; i < 100; i++) {
		id = take_deep(i, DEPTH, USER | BPF_F_FAST_STACK_CMP);
		if (id < 0 || id != take_nr(i) || lookup(id) ||
		    !is_stack(value, words, i, DEPTH, 0) ||
		    take_deep(i, DEPTH, USER | BPF_F_FAST_STACK_CMP) != id)
			ASSERT_FAIL("stack %ld has id %ld", i, id);
	}
	assert_fdinfo(map, 100, 0);
	ASSERT_EQ(take_deep(100, DEPTH, USER | BPF_F_FAST_STACK_CMP), -ENOMEM, "full map");
out:
	teardown();
}

static void entries_counts(void)
{
	int i;

	if (!setup(8))
		goto out;
	assert_fdinfo(map, 0, 0);
	for (i = 1; i <= 8; i++) {
		take_nr(i);
		ASSERT_EQ(fdinfo_line(map, "entries"), i, "entries");
		ASSERT_EQ(count_keys(map), i, "keys");
	}
	for (i = 1; i <= 8; i++) {
		ASSERT_OK(delete(take_nr(i)), "delete");
		ASSERT_EQ(fdinfo_line(map, "entries"), 8 - i, "entries");
		ASSERT_EQ(count_keys(map), 8 - i, "keys");
	}
out:
	teardown();
}

/* --- draining ---------------------------------------------------------------- */

/* @pages pages that can be used, and one behind them that cannot. */
static void *pages_before_hole(int pages)
{
	void *mem = mmap(NULL, (pages + 1) * getpagesize(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!ASSERT_NEQ(mem, MAP_FAILED, "mmap"))
		return NULL;
	ASSERT_OK(mprotect(mem + pages * getpagesize(), getpagesize(), PROT_NONE), "mprotect");
	return mem;
}

static void free_pages(void *mem, int pages)
{
	if (mem)
		munmap(mem, (pages + 1) * getpagesize());
}

/* Not in 6.12.117. */
static void lookup_and_delete_one(void)
{
	long id, other;

	if (!setup(3))
		goto out;
	id = take_nr(1);
	other = take_nr(2);
	memset(value, 0xa5, sizeof(value));
	ASSERT_OK(lookup_and_delete(id, value), "look up and delete");
	ASSERT_TRUE(is_stack(value, words, 1, DEPTH, 0), "stack");
	ASSERT_EQ(value[words], 0xa5a5a5a5a5a5a5a5ULL, "what is behind the value");
	ASSERT_EQ(lookup(id), -ENOENT, "look up what is gone");
	assert_stack(other, 2);
	assert_fdinfo(map, 1, 0);
	assert_stack(take_nr(1), 1);
out:
	teardown();
}

static void lookup_and_delete_errors(void)
{
	__u32 key;
	long id;
	int bit;

	if (!setup(3))
		goto out;
	id = take_nr(1);
	key = id;
	ASSERT_EQ(lookup_and_delete((id + 1) % 3, value), -ENOENT, "what is not there");
	ASSERT_EQ(lookup_and_delete(3, value), -ENOENT, "out of range");
	ASSERT_EQ(lookup_and_delete(UINT_MAX, value), -ENOENT, "out of range");
	for (bit = 0; bit < 64; bit++)
		if (!ASSERT_EQ(bpf_map_lookup_and_delete_elem_flags(map, &key, value, 1ULL << bit),
			       -EINVAL, "a flag"))
			printf("flag %#llx\n", 1ULL << bit);
	assert_stack(id, 1);
	assert_fdinfo(map, 1, 0);
out:
	teardown();
}

/* Before the stack, in its middle, and in the zeros behind it. */
static void lookup_and_delete_fault_keeps(void)
{
	void *mem = pages_before_hole(1);
	__u32 room;
	long id;

	if (!setup(3) || !mem)
		goto out;
	id = take_nr(1);
	for (room = 0; room < WORDS * 8; room += 4) {
		ASSERT_EQ(lookup_and_delete(id, mem + getpagesize() - room), -EFAULT,
			  "look up and delete into a hole");
		assert_stack(id, 1);
		ASSERT_EQ(take_nr(1), id, "id of the stack");
	}
	assert_fdinfo(map, 1, 0);
	ASSERT_OK(lookup_and_delete(id, mem + getpagesize() - WORDS * 8), "before the hole");
	assert_fdinfo(map, 0, 0);
out:
	free_pages(mem, 1);
	teardown();
}

#define BATCH_MAX 40

static struct {
	__u32 keys[BATCH_MAX + 1];
	__u64 values[(BATCH_MAX + 1) * WORDS];
	__u32 cursor, count;
} batch;

/* One batch; what it said. */
static int next_batch(batch_fn fn, bool first, __u32 count)
{
	__u32 in = batch.cursor;

	memset(batch.values, 0xa5, sizeof(batch.values));
	memset(batch.keys, 0xa5, sizeof(batch.keys));
	batch.count = count;
	return fn(map, first ? NULL : &in, &batch.cursor, batch.keys, batch.values, &batch.count,
		  NULL);
}

static __u64 batch_number(__u32 i)
{
	return IP_NUMBER(batch.values[i * WORDS + 1]);
}

/* All stacks in batches of @count: each once, in the order of their ids, the end as -ENOENT. */
static void assert_batches(batch_fn fn, __u32 count, const long *ids, __u32 nr)
{
	__u32 i, total = 0, last = 0;
	bool first = true;
	int err;

	do {
		err = next_batch(fn, first, count);
		first = false;
		if (err ? err != -ENOENT : batch.count != count) {
			ASSERT_FAIL("error %d, %u stacks", err, batch.count);
			return;
		}
		for (i = 0; i < batch.count; i++, total++) {
			if ((total && batch.keys[i] <= last) || batch_number(i) >= nr ||
			    ids[batch_number(i)] != batch.keys[i] ||
			    !is_stack(batch.values + i * WORDS, WORDS, batch_number(i), DEPTH, 0))
				ASSERT_FAIL("stack %u of batches of %u", total, count);
			last = batch.keys[i];
		}
		if (batch.count <= BATCH_MAX)
			ASSERT_EQ(batch.keys[batch.count], 0xa5a5a5a5, "what is behind the keys");
	} while (!err);
	ASSERT_EQ(total, nr, "stacks");
}

static void batches(const struct variant *v)
{
	static const __u32 counts[] = { 1, 2, 3, 7, 19, 20, 21, BATCH_MAX };
	long ids[20];
	int i, n;

	if (!setup(37))
		goto out;
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		for (n = 0; n < 20; n++)
			ids[n] = take_nr(n);
		assert_batches(v->batch, counts[i], ids, 20);
		assert_fdinfo(map, v->removes ? 0 : 20, 0);
		ASSERT_EQ(count_keys(map), v->removes ? 0 : 20, "keys");
	}
out:
	teardown();
}

static void batch_of_full_map(void)
{
	long ids[20];
	int n;

	if (!setup(20))
		goto out;
	for (n = 0; n < 20; n++)
		ids[n] = take_nr(n);
	assert_batches(bpf_map_lookup_batch, 20, ids, 20);
	assert_batches(bpf_map_lookup_and_delete_batch, 20, ids, 20);
	fill(20, 39);
out:
	teardown();
}

static void batch_of_empty_map(void)
{
	if (!setup(20))
		goto out;
	ASSERT_EQ(next_batch(bpf_map_lookup_batch, true, 5), -ENOENT, "look up");
	ASSERT_EQ(batch.count, 0, "stacks");
	ASSERT_EQ(next_batch(bpf_map_lookup_and_delete_batch, true, 5), -ENOENT, "and delete");
	ASSERT_EQ(batch.count, 0, "stacks");
out:
	teardown();
}

/* The cursor is the next id: deleting what was seen does not make it start over. */
static void batch_cursor_survives_deletion(void)
{
	__u32 i, total = 0;
	int err;

	if (!setup(20))
		goto out;
	fill(0, 19);
	do {
		err = next_batch(bpf_map_lookup_batch, !total, 3);
		total += batch.count;
		for (i = 0; i < batch.count; i++)
			ASSERT_OK(delete(batch.keys[i]), "delete what was seen");
	} while (!err && total <= 20);
	ASSERT_EQ(err, -ENOENT, "end");
	ASSERT_EQ(total, 20, "stacks");
	assert_fdinfo(map, 0, 0);
out:
	teardown();
}

/* A stack that comes while the map is drained, at an id still to come, is in it too. */
static void batch_sees_what_comes(void)
{
	__u32 last, i, found = 0;
	int err;

	if (!setup(20))
		goto out;
	fill(0, 19);
	last = 19;
	ASSERT_OK(next_batch(bpf_map_lookup_and_delete_batch, true, 5), "first batch");
	ASSERT_OK(delete(last), "delete the last");
	/* Those before are free as well: until it has the last one's place. */
	for (i = 100; i < 106; i++)
		if (take_nr(i) == last)
			found = i;
	ASSERT_GT(found, 0, "stack at the last id");
	err = next_batch(bpf_map_lookup_and_delete_batch, false, 30);
	ASSERT_EQ(err, -ENOENT, "the rest");
	ASSERT_EQ(batch.count, 15, "stacks");
	ASSERT_EQ(batch_number(14), found, "last stack");
out:
	teardown();
}

static void batch_errors(const struct variant *v)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	batch_fn fn = v->batch;
	__u32 count, in;
	int bit;

	if (!setup(20))
		goto out;
	fill(0, 9);
	for (bit = 0; bit < 64; bit++) {
		opts.elem_flags = 1ULL << bit;
		opts.flags = 0;
		count = 5;
		ASSERT_EQ(fn(map, NULL, &batch.cursor, batch.keys, batch.values, &count, &opts),
			  -EINVAL, "a flag for elements");
		opts.elem_flags = 0;
		opts.flags = 1ULL << bit;
		ASSERT_EQ(fn(map, NULL, &batch.cursor, batch.keys, batch.values, &count, &opts),
			  -EINVAL, "a flag");
	}
	count = 0;
	ASSERT_OK(fn(map, NULL, &batch.cursor, batch.keys, batch.values, &count, NULL),
		  "no stacks wanted");
	count = 5;
	ASSERT_EQ(fn(map, (void *)1, &batch.cursor, batch.keys, batch.values, &count, NULL),
		  -EFAULT, "cursor from nowhere");
	count = 5;
	ASSERT_EQ(fn(map, NULL, NULL, batch.keys, batch.values, &count, NULL), -EFAULT,
		  "cursor to nowhere");
	for (in = 20; in < 1 << 30; in *= 5) {
		count = 5;
		ASSERT_EQ(fn(map, &in, &batch.cursor, batch.keys, batch.values, &count, NULL),
			  -ENOENT, "cursor out of range");
		ASSERT_EQ(count, 0, "stacks");
	}
	in = UINT_MAX;
	count = 5;
	ASSERT_EQ(fn(map, &in, &batch.cursor, batch.keys, batch.values, &count, NULL), -ENOENT,
		  "cursor out of range");
	assert_fdinfo(map, 10, 0);
	ASSERT_EQ(count_keys(map), 10, "keys");
out:
	teardown();
}

/*
 * A hole in the values, or in the keys, after @room stacks: so many have come, and the next
 * call goes on with the one that has not.
 */
static void batch_fault(const struct variant *v)
{
	bool in_keys = v->in_keys, removes = v->removes;
	batch_fn fn = v->batch;
	__u32 room, count, left, in, cursor, i;
	void *mem = pages_before_hole(1), *end;
	bool seen[10];
	int err;

	if (!setup(20) || !mem)
		goto out;
	end = mem + getpagesize();
	for (room = 0; room < 10; room++) {
		memset(seen, 0, sizeof(seen));
		fill(0, 9);
		count = 20;
		/* The hole cuts the next value in two. */
		if (in_keys)
			err = fn(map, NULL, &cursor, end - room * 4, batch.values, &count, NULL);
		else
			err = fn(map, NULL, &cursor, batch.keys, end - room * WORDS * 8 - 16,
				 &count, NULL);
		ASSERT_EQ(err, -EFAULT, "batch into a hole");
		if (!ASSERT_EQ(count, room, "stacks that came"))
			goto out;
		assert_fdinfo(map, removes ? 10 - room : 10, 0);
		for (i = 0; i < room; i++) {
			if (in_keys)
				seen[batch_number(i) % 10] = true;
			else
				seen[IP_NUMBER(((__u64 *)(end - room * WORDS * 8 - 16))
					       [i * WORDS + 1]) % 10] = true;
		}
		in = cursor;
		left = 20;
		err = fn(map, &in, &cursor, batch.keys, batch.values, &left, NULL);
		ASSERT_EQ(err, -ENOENT, "the rest");
		ASSERT_EQ(left, 10 - room, "stacks of the rest");
		for (i = 0; i < left; i++)
			seen[batch_number(i) % 10] = true;
		for (i = 0; i < 10; i++)
			if (!seen[i])
				ASSERT_FAIL("room for %u: stack %u is lost", room, i);
		assert_fdinfo(map, removes ? 0 : 10, 0);
	}
out:
	free_pages(mem, 1);
	teardown();
}

static void delete_batches(void)
{
	__u32 keys[20], count, i;

	if (!setup(20))
		goto out;
	for (i = 0; i < 20; i++)
		keys[i] = take_nr(i);
	count = 7;
	ASSERT_OK(bpf_map_delete_batch(map, keys, &count, NULL), "delete");
	ASSERT_EQ(count, 7, "deleted");
	assert_fdinfo(map, 13, 0);
	for (i = 0; i < 7; i++)
		ASSERT_EQ(lookup(keys[i]), -ENOENT, "look up what was deleted");
	for (; i < 20; i++)
		assert_stack(keys[i], i);
	count = 14;
	ASSERT_EQ(bpf_map_delete_batch(map, keys + 6, &count, NULL), -ENOENT, "one is gone");
	ASSERT_EQ(count, 0, "deleted");
	count = 13;
	ASSERT_OK(bpf_map_delete_batch(map, keys + 7, &count, NULL), "delete the rest");
	assert_fdinfo(map, 0, 0);
	fill(20, 39);
out:
	teardown();
}

static void delete_batch_errors(void)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	__u32 keys[3], count;
	int bit;

	if (!setup(20))
		goto out;
	keys[0] = take_nr(0);
	keys[1] = take_nr(1);
	keys[2] = 20;
	for (bit = 0; bit < 64; bit++) {
		count = 2;
		opts.elem_flags = 1ULL << bit;
		opts.flags = 0;
		ASSERT_EQ(bpf_map_delete_batch(map, keys, &count, &opts), -EINVAL,
			  "a flag for elements");
		opts.elem_flags = 0;
		opts.flags = 1ULL << bit;
		ASSERT_EQ(bpf_map_delete_batch(map, keys, &count, &opts), -EINVAL, "a flag");
	}
	count = 2;
	ASSERT_EQ(bpf_map_delete_batch(map, NULL, &count, NULL), -EFAULT, "keys from nowhere");
	ASSERT_EQ(count, 0, "deleted");
	assert_fdinfo(map, 2, 0);
	count = 3;
	ASSERT_EQ(bpf_map_delete_batch(map, keys, &count, NULL), -E2BIG, "out of range");
	ASSERT_EQ(count, 2, "deleted before");
	assert_fdinfo(map, 0, 0);
out:
	teardown();
}

/* --- build ids --------------------------------------------------------------- */

static __u8 own_id[BPF_BUILD_ID_SIZE];

static const struct bpf_stack_build_id *frames_read(void)
{
	return (const struct bpf_stack_build_id *)value;
}

static bool is_resolved(const struct bpf_stack_build_id *frame, const __u8 *id, __u64 offset)
{
	if (frame->status == BPF_STACK_BUILD_ID_VALID && frame->offset == offset &&
	    !memcmp(frame->build_id, id, BPF_BUILD_ID_SIZE))
		return true;
	printf("status %d offset %#llx instead of %#llx, id %02x%02x%02x%02x\n", frame->status,
	       frame->offset, offset, frame->build_id[0], frame->build_id[1], frame->build_id[2],
	       frame->build_id[3]);
	return false;
}

/* The address alone. */
static bool is_raw(const struct bpf_stack_build_id *frame, __u64 ip)
{
	static const __u8 none[BPF_BUILD_ID_SIZE];

	if (frame->status == BPF_STACK_BUILD_ID_IP && frame->ip == ip &&
	    !memcmp(frame->build_id, none, BPF_BUILD_ID_SIZE))
		return true;
	printf("status %d ip %#llx instead of %#llx\n", frame->status, frame->ip, ip);
	return false;
}

/* The stack through these addresses, after the real frame. */
static bool read_ips(const __u64 *ips, __u32 nr)
{
	long id = take(forge(chain, ips, nr), USER);

	return ASSERT_GE(id, 0, "id") && ASSERT_OK(lookup(id), "look up");
}

static bool find_own_id(void)
{
	return ASSERT_GT(read_build_id("/proc/self/exe", (char *)own_id, sizeof(own_id)), 0,
			 "build id of the program");
}

static bool is_own_frame(const struct bpf_stack_build_id *frame)
{
	return is_resolved(frame, own_id, get_uprobe_offset(forged_ip));
}

/* The file, and the place in it, of an address. */
static bool find_file(__u64 ip, char *path, __u64 *offset)
{
	unsigned long start, end, pgoff;
	char line[512];
	bool found = false;
	FILE *file;

	file = fopen("/proc/self/maps", "r");
	if (!ASSERT_OK_PTR(file, "open maps"))
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		found = sscanf(line, "%lx-%lx %*s %lx %*s %*s %255s", &start, &end, &pgoff,
			       path) == 4 && ip >= start && ip < end;
		*offset = ip - start + pgoff;
	}
	fclose(file);
	return found;
}

static void build_id_of_program(void)
{
	if (setup_build_ids(16, 4) && find_own_id() && read_ips(NULL, 0)) {
		ASSERT_TRUE(is_own_frame(frames_read()), "frame of the program");
		ASSERT_EQ(frames_read()[1].status, BPF_STACK_BUILD_ID_EMPTY, "what is behind it");
	}
	teardown();
}

static void build_id_of_library(void)
{
	__u64 ip = (__u64)dlsym(RTLD_DEFAULT, "puts") + 5, offset;
	__u8 id[BPF_BUILD_ID_SIZE] = {};
	char path[256];

	if (!setup_build_ids(16, 4) || !ASSERT_TRUE(find_file(ip, path, &offset), "find libc") ||
	    !ASSERT_GT(read_build_id(path, (char *)id, sizeof(id)), 0, path) ||
	    !read_ips(&ip, 1))
		goto out;
	ASSERT_TRUE(is_resolved(frames_read() + 1, id, offset), "frame of the library");
out:
	teardown();
}

static void build_id_of_vdso(void)
{
	__u64 ip = getauxval(AT_SYSINFO_EHDR);

	if (!setup_build_ids(16, 4) || !ASSERT_NEQ(ip, 0, "vdso"))
		goto out;
	ip += 0x700;
	if (read_ips(&ip, 1))
		ASSERT_TRUE(is_raw(frames_read() + 1, ip), "frame of the vdso");
out:
	teardown();
}

static void build_id_of_memory(void)
{
	void *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	__u64 ips[] = { (__u64)mem + 8, (__u64)chain, 0x10, FORGED_IP(1, 1), -4096 };
	int i;

	if (!setup_build_ids(16, 6) || !read_ips(ips, 5))
		goto out;
	for (i = 0; i < 5; i++)
		if (ips[i] != (__u64)chain)
			ASSERT_TRUE(is_raw(frames_read() + 1 + i, ips[i]), "frame of memory");
out:
	munmap(mem, 4096);
	teardown();
}

/* Without one, a file's address is as good as any. */
static void build_id_of_other_file(void)
{
	int fd = memfd_create("stackmap", MFD_CLOEXEC);
	__u64 ips[2];
	void *mem;

	if (!setup_build_ids(16, 4) || !ASSERT_OK(ftruncate(fd, 8192), "size of the file"))
		goto out;
	mem = map_file(fd, NULL, 2, 0);
	ips[0] = (__u64)mem + 100;
	ips[1] = (__u64)mem + 4096;
	if (mem && read_ips(ips, 2)) {
		ASSERT_TRUE(is_raw(frames_read() + 1, ips[0]), "frame of the file");
		ASSERT_TRUE(is_raw(frames_read() + 2, ips[1]), "frame of the file");
	}
	munmap(mem, 8192);
out:
	close(fd);
	teardown();
}

/* Shorter ones are filled with zeros. */
static void build_id_sizes(void)
{
	static const __u32 sizes[] = { 20, 16, 8, 1 };
	__u8 id[BPF_BUILD_ID_SIZE];
	__u64 ip;
	void *mem;
	int i, fd;

	if (!setup_build_ids(16, 4))
		goto out;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fd = make_elf(40 + i, sizes[i], 4);
		mem = map_file(fd, NULL, 4, 0);
		if (!mem)
			goto out;
		make_id(id, 40 + i, sizes[i]);
		ip = (__u64)mem + 0x2345;
		if (read_ips(&ip, 1))
			ASSERT_TRUE(is_resolved(frames_read() + 1, id, 0x2345), "frame");
		munmap(mem, 4 * 4096);
		close(fd);
	}
out:
	teardown();
}

/* At different addresses, and different parts of it. */
static void build_id_file_mapped_twice(void)
{
	int fd = make_elf(1, 20, 8);
	__u8 id[BPF_BUILD_ID_SIZE];
	void *mem, *part;
	__u64 ips[4];

	mem = map_file(fd, NULL, 8, 0);
	part = map_file(fd, NULL, 2, 5);
	make_id(id, 1, 20);
	if (!setup_build_ids(16, 8) || !mem || !part)
		goto out;
	ips[0] = (__u64)mem + 0x5123;
	ips[1] = (__u64)part + 0x123;
	ips[2] = (__u64)part + 0x1fff;
	ips[3] = (__u64)mem + 0x7fff;
	if (!read_ips(ips, 4))
		goto out;
	ASSERT_TRUE(is_resolved(frames_read() + 1, id, 0x5123), "first mapping");
	ASSERT_TRUE(is_resolved(frames_read() + 2, id, 0x5123), "second mapping");
	ASSERT_TRUE(is_resolved(frames_read() + 3, id, 0x6fff), "second mapping's last byte");
	ASSERT_TRUE(is_resolved(frames_read() + 4, id, 0x7fff), "first mapping's last byte");
out:
	munmap(mem, 8 * 4096);
	munmap(part, 2 * 4096);
	close(fd);
	teardown();
}

/*
 * Ranges end before their end, and begin at their start. Stock 6.12.117 gives what is below a
 * mapping, and the first byte after it, the build id of the mapping.
 */
static void build_id_at_borders(void)
{
	int a = make_elf(1, 20, 4), b = make_elf(2, 20, 4);
	__u8 id_a[BPF_BUILD_ID_SIZE], id_b[BPF_BUILD_ID_SIZE];
	__u64 base, ips[12];
	void *mem;
	int i;

	/* . A A . . B B . */
	mem = empty_range(8);
	base = (__u64)mem;
	make_id(id_a, 1, 20);
	make_id(id_b, 2, 20);
	if (!setup_build_ids(16, 16) || !map_file(a, mem + 4096, 2, 0) ||
	    !map_file(b, mem + 5 * 4096, 2, 2))
		goto out;
	ips[0] = base + 0xfff;		/* below A, seen first */
	ips[1] = base + 0x1000;		/* A's first byte */
	ips[2] = base + 0x2fff;		/* A's last byte */
	ips[3] = base + 0x3000;		/* behind A */
	ips[4] = base + 0x4fff;		/* below B */
	ips[5] = base + 0x5000;
	ips[6] = base + 0x6fff;
	ips[7] = base + 0x7000;
	ips[8] = base + 0xfff;		/* below A, with A known */
	ips[9] = base + 0x2000;
	ips[10] = base + 0x3000;
	ips[11] = base + 0x6000;
	if (!read_ips(ips, 12))
		goto out;
	for (i = 0; i < 12; i++)
		if (i == 0 || i == 3 || i == 4 || i == 7 || i == 8 || i == 10)
			ASSERT_TRUE(is_raw(frames_read() + 1 + i, ips[i]), "frame in a hole");
	ASSERT_TRUE(is_resolved(frames_read() + 2, id_a, 0), "first byte");
	ASSERT_TRUE(is_resolved(frames_read() + 3, id_a, 0x1fff), "last byte");
	ASSERT_TRUE(is_resolved(frames_read() + 6, id_b, 0x2000), "first byte");
	ASSERT_TRUE(is_resolved(frames_read() + 7, id_b, 0x3fff), "last byte");
	ASSERT_TRUE(is_resolved(frames_read() + 10, id_a, 0x1000), "middle");
	ASSERT_TRUE(is_resolved(frames_read() + 12, id_b, 0x3000), "middle");
out:
	munmap(mem, 8 * 4096);
	close(a);
	close(b);
	teardown();
}

static void build_id_adjacent_mappings(void)
{
	int a = make_elf(1, 20, 4), b = make_elf(2, 20, 4);
	__u8 id_a[BPF_BUILD_ID_SIZE], id_b[BPF_BUILD_ID_SIZE];
	void *mem = empty_range(2);
	__u64 ips[4];

	make_id(id_a, 1, 20);
	make_id(id_b, 2, 20);
	if (!setup_build_ids(16, 8) || !map_file(a, mem, 1, 0) ||
	    !map_file(b, mem + 4096, 1, 0))
		goto out;
	ips[0] = (__u64)mem + 0xfff;
	ips[1] = (__u64)mem + 0x1000;
	ips[2] = (__u64)mem;
	ips[3] = (__u64)mem + 0x1fff;
	if (!read_ips(ips, 4))
		goto out;
	ASSERT_TRUE(is_resolved(frames_read() + 1, id_a, 0xfff), "last byte of the first");
	ASSERT_TRUE(is_resolved(frames_read() + 2, id_b, 0), "first byte of the second");
	ASSERT_TRUE(is_resolved(frames_read() + 3, id_a, 0), "first byte of the first");
	ASSERT_TRUE(is_resolved(frames_read() + 4, id_b, 0xfff), "last byte of the second");
out:
	munmap(mem, 8192);
	close(a);
	close(b);
	teardown();
}

#define MANY 24

/* Back and forth between more of them than any cache has room for. */
static void build_id_many_mappings(void)
{
	__u8 id[BPF_BUILD_ID_SIZE];
	__u64 ips[4 * MANY];
	void *mem[MANY];
	int fd[MANY], i;

	for (i = 0; i < MANY; i++) {
		fd[i] = make_elf(i, 20, 3);
		mem[i] = map_file(fd[i], NULL, 3, 0);
	}
	for (i = 0; i < MANY; i++) {
		ips[i] = (__u64)mem[i] + i;
		ips[MANY + i] = (__u64)mem[MANY - 1 - i] + 0x2000 + i;
		ips[2 * MANY + i] = i % 2 ? (__u64)mem[3] + i : (__u64)mem[i] + 0x1000;
		ips[3 * MANY + i] = i % 2 ? FORGED_IP(1, i) : (__u64)mem[i] + 0xfff;
	}
	if (!setup_build_ids(16, 4 * MANY + 1) || !read_ips(ips, 4 * MANY))
		goto out;
	for (i = 0; i < 4 * MANY; i++) {
		const struct bpf_stack_build_id *frame = frames_read() + 1 + i;
		int at = i % MANY, nr = i < MANY ? at : i < 2 * MANY ? MANY - 1 - at :
				    i < 3 * MANY && at % 2 ? 3 : at;

		make_id(id, nr, 20);
		if (i >= 3 * MANY && at % 2 ? !is_raw(frame, ips[i]) :
		    !is_resolved(frame, id, ips[i] - (__u64)mem[nr]))
			ASSERT_FAIL("frame %d", i);
	}
out:
	for (i = 0; i < MANY; i++) {
		munmap(mem[i], 3 * 4096);
		close(fd[i]);
	}
	teardown();
}

/* In another process: the file at @mem there, and its stack. */
static long take_in_child(int fd, void *old, void *mem)
{
	int status;
	pid_t pid;

	req->ret = NO_RET;
	pid = fork();
	if (!pid) {
		__u64 ips[2] = { (__u64)mem + 0x1234, (__u64)mem + 0x42 };

		munmap(old, 4 * 4096);
		if (mmap(mem, 4 * 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) != mem)
			_exit(1);
		forged_getpgid(forge(chain, ips, 2), 0);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid, "wait");
	ASSERT_EQ(status, 0, "exit status");
	return req->ret;
}

/* The same places of the same files, whatever their addresses are. */
static void build_id_same_in_processes(void)
{
	int fd = make_elf(1, 20, 4);
	void *mem = map_file(fd, NULL, 4, 0), *other = empty_range(4);
	__u64 ips[2] = { (__u64)mem + 0x1234, (__u64)mem + 0x42 };
	long id;

	if (!setup_build_ids(16, 4) || !mem)
		goto out;
	id = take(forge(chain, ips, 2), USER);
	ASSERT_GE(id, 0, "id");
	ASSERT_EQ(take_in_child(fd, mem, other), id, "id in another process");
	assert_fdinfo(map, 1, 0);
	ASSERT_EQ(take_in_child(fd, mem, other + 4096), id, "id in a third process");
	assert_fdinfo(map, 1, 0);
out:
	munmap(mem, 4 * 4096);
	close(fd);
	teardown();
}

/* bpf_get_stack() and bpf_get_task_stack() resolve in the same way. */
static void build_id_in_buffer(void)
{
	int fd = make_elf(1, 20, 4), i;
	void *mem = map_file(fd, NULL, 2, 1);
	const struct bpf_stack_build_id *ids;
	__u64 ips[3] = { (__u64)mem + 0x1234, FORGED_IP(1, 1), (__u64)mem };
	__u8 id[BPF_BUILD_ID_SIZE];

	make_id(id, 1, 20);
	if (!setup(16) || !mem || !find_own_id())
		goto out;
	ids = (void *)req->buf;
	for (i = STACK; i <= TASK_STACK; i++) {
		ASSERT_EQ(get(i, 6 * IDS_SIZE, USER | BPF_F_USER_BUILD_ID, forge(chain, ips, 3)),
			  4 * IDS_SIZE, "length");
		assert_buffer(4 * IDS_SIZE, 6 * IDS_SIZE);
		ASSERT_TRUE(is_own_frame(ids), "frame of the program");
		ASSERT_TRUE(is_resolved(ids + 1, id, 0x2234), "frame of the file");
		ASSERT_TRUE(is_raw(ids + 2, ips[1]), "frame of nothing");
		ASSERT_TRUE(is_resolved(ids + 3, id, 0x1000), "frame of the file");

		ASSERT_EQ(get(i, 2 * IDS_SIZE, USER | BPF_F_USER_BUILD_ID | 1,
			      forge(chain, ips, 3)), 2 * IDS_SIZE, "length");
		assert_buffer(2 * IDS_SIZE, 2 * IDS_SIZE);
		ASSERT_TRUE(is_resolved(ids, id, 0x2234), "frame of the file");
		ASSERT_TRUE(is_raw(ids + 1, ips[1]), "frame of nothing");
	}
out:
	munmap(mem, 2 * 4096);
	close(fd);
	teardown();
}

/* Stacks of the kernel have no build ids. */
static void build_id_of_kernel(void)
{
	__u32 i;
	long id;

	if (!setup_build_ids(16, 4))
		goto out;
	id = take(NULL, 0);
	if (!ASSERT_GE(id, 0, "id") || !ASSERT_OK(lookup(id), "look up"))
		goto out;
	for (i = 0; i < 4 && frames_read()[i].status != BPF_STACK_BUILD_ID_EMPTY; i++)
		ASSERT_TRUE(is_raw(frames_read() + i, frames_read()[i].ip) &&
			    (long)frames_read()[i].ip < 0, "frame of the kernel");
	ASSERT_GT(i, 0, "frames");
	ASSERT_EQ(take(NULL, 0), id, "id of the same stack");
out:
	teardown();
}

static void *map_something(void *arg)
{
	void *mem;

	*(volatile int *)&skel->bss->other_pid = sys_gettid();
	mem = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NEQ(mem, MAP_FAILED, "mmap");
	munmap(mem, 4096);
	return NULL;
}

/*
 * While another thread, or this one, changes mappings: nobody waits, addresses stay raw. What is
 * not resolved is another stack.
 */
static void build_id_under_mmap_lock(struct bpf_program *prog)
{
	int fd = make_elf(1, 20, 4);
	void *mem = map_file(fd, NULL, 4, 0);
	__u64 ip = (__u64)mem + 0x1234, end;
	__u8 build_id[BPF_BUILD_ID_SIZE];
	pthread_t thread;
	long id;

	make_id(build_id, 1, 20);
	bpf_program__set_autoload(skel->progs.under_mmap_lock, true);
	if (!mem || !load_with(prog))
		goto out;
	id = take(forge(chain, &ip, 1), USER);
	skel->bss->other_pid = 0;
	skel->bss->nested.what = STACKID;
	skel->bss->nested.flags = USER;
	skel->bss->nested.ret = NO_RET;
	skel->bss->hold = true;
	if (!ASSERT_OK(pthread_create(&thread, NULL, map_something, NULL), "start thread"))
		goto out;
	end = get_time_ns() + 20000000000ULL;
	while (!*(volatile bool *)&skel->bss->held && get_time_ns() < end)
		sched_yield();
	req->ret = NO_RET;
	forged_getpgid(forge(chain, &ip, 1), 0);
	*(volatile bool *)&skel->bss->hold = false;
	pthread_join(thread, NULL);

	ASSERT_TRUE(skel->bss->held, "program ran under the lock");
	ASSERT_FALSE(skel->bss->held_in_vain, "program waited too long");
	ASSERT_NEQ(req->ret, id, "id of another stack");
	if (ASSERT_GE(req->ret, 0, "id") && ASSERT_OK(lookup(req->ret), "look up")) {
		ASSERT_TRUE(is_raw(frames_read(), (__u64)forged_ip), "first frame");
		ASSERT_TRUE(is_raw(frames_read() + 1, ip), "second frame");
	}
	if (ASSERT_GE(skel->bss->nested.ret, 0, "id under the lock") &&
	    ASSERT_OK(lookup(skel->bss->nested.ret), "look up"))
		ASSERT_TRUE(is_raw(frames_read(), frames_read()->ip), "first frame");
	/* The lock was let go by all: it can be had again. */
	ASSERT_EQ(take(forge(chain, &ip, 1), USER), id, "id afterwards");
	if (ASSERT_OK(lookup(id), "look up"))
		ASSERT_TRUE(is_resolved(frames_read() + 1, build_id, 0x1234), "second frame");
out:
	munmap(mem, 4 * 4096);
	close(fd);
}

static void build_id_mmap_lock_taken(void)
{
	if (two_cpus() && open_sized(16, 4 * IDS_SIZE, BPF_F_STACK_BUILD_ID))
		build_id_under_mmap_lock(skel->progs.at_tracepoint);
	teardown();
}

static void build_id_mmap_lock_taken_sleepable(void)
{
	if (two_cpus() && open_sized(16, 4 * IDS_SIZE, BPF_F_STACK_BUILD_ID))
		build_id_under_mmap_lock(skel->progs.at_sleepable_fentry);
	teardown();
}

/* A file whose pages are not in memory; the kernel may take its time to let them go. */
static bool page_out(int fd, void *mem, int pages)
{
	__u64 end = get_time_ns() + 20000000000ULL;
	unsigned char resident[16];
	int i, nr;

	do {
		ASSERT_OK(fsync(fd), "write the file out");
		madvise(mem, pages * 4096, MADV_PAGEOUT);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (!ASSERT_OK(mincore(mem, pages * 4096, resident), "mincore"))
			return false;
		for (i = nr = 0; i < pages; i++)
			nr += resident[i] & 1;
	} while (nr && get_time_ns() < end);
	return ASSERT_EQ(nr, 0, "pages in memory");
}

/*
 * @prog at the probe, with the helpers from @first on, on a file that is not in memory: not
 * resolved where nobody may wait for it, else read.
 */
static void build_id_paged_out(struct bpf_program *prog, enum what first, bool resolved)
{
	char path[] = "stackmap_paged_out.XXXXXX";
	__u8 id[BPF_BUILD_ID_SIZE];
	__u64 ips[3], ip_of_frame;
	void *mem = NULL;
	int fd, i;
	long ret;

	fd = mkstemp(path);
	if (!ASSERT_OK_FD(fd, "create file") || !write_elf(fd, 1, 20, 4) || !load_with(prog) ||
	    !attach_uprobe(prog))
		goto out;
	mem = map_file(fd, NULL, 4, 0);
	if (!mem)
		goto out;
	make_id(id, 1, 20);
	ips[0] = (__u64)mem + 0x3456;
	ips[1] = FORGED_IP(1, 1);
	ips[2] = (__u64)mem + 0x2000;
	for (i = first; i <= TASK_STACK; i++) {
		if (!page_out(fd, mem, 4))
			goto out;
		req->what = i;
		req->size = 8 * IDS_SIZE;
		req->flags = USER | (i == STACKID ? 0 : BPF_F_USER_BUILD_ID);
		ret = ask_by_call(forge(chain, ips, 3));
		if (i == STACKID) {
			if (!ASSERT_GE(ret, 0, "id") || !ASSERT_OK(lookup(ret), "look up"))
				goto out;
		} else {
			if (!ASSERT_EQ(ret, 4 * IDS_SIZE, "length"))
				goto out;
			memcpy(value, req->buf, 8 * IDS_SIZE);
		}
		ip_of_frame = (__u64)mem + 0x3456;
		if (resolved) {
			ASSERT_TRUE(is_resolved(frames_read() + 1, id, 0x3456), "first frame");
			ASSERT_TRUE(is_resolved(frames_read() + 3, id, 0x2000), "third frame");
		} else {
			ASSERT_TRUE(is_raw(frames_read() + 1, ip_of_frame), "first frame");
			ASSERT_TRUE(is_raw(frames_read() + 3, ips[2]), "third frame");
		}
		ASSERT_TRUE(is_raw(frames_read() + 2, ips[1]), "second frame");
		ASSERT_EQ(frames_read()[4].status, BPF_STACK_BUILD_ID_EMPTY, "what is behind");
	}
	assert_fdinfo(map, first == STACKID, 0);
out:
	if (mem)
		munmap(mem, 4 * 4096);
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
}

static void build_id_paged_out_atomic(void)
{
	if (open_sized(16, 8 * IDS_SIZE, BPF_F_STACK_BUILD_ID))
		build_id_paged_out(skel->progs.at_uprobe, STACKID, false);
	teardown();
}

static void build_id_paged_out_sleepable(void)
{
	if (open_sized(16, 8 * IDS_SIZE, BPF_F_STACK_BUILD_ID))
		build_id_paged_out(skel->progs.at_sleepable_uprobe, STACKID, true);
	teardown();
}

/* A kernel that is not preemptible does not count sections, and cannot tell. */
static void build_id_paged_out_in_section(const struct variant *v)
{
	if (open_sized(16, 8 * IDS_SIZE, BPF_F_STACK_BUILD_ID))
		build_id_paged_out(find_program(v), STACK, !kernel_is("PREEMPT"));
	teardown();
}

/*
 * Whoever waits for the file waits without the mmap lock, which who reads files may want. Seen on
 * stock 6.12.117: all of the reads are under the lock.
 */
static void build_id_read_without_lock(void)
{
	char path[] = "stackmap_paged_out.XXXXXX";
	__u8 id[BPF_BUILD_ID_SIZE];
	void *mem = NULL;
	int fd = -1;
	__u64 ip;

	if (!open_sized(16, 8 * IDS_SIZE, BPF_F_STACK_BUILD_ID))
		goto out;
	bpf_program__set_autoload(skel->progs.at_kernel_read, true);
	fd = mkstemp(path);
	if (!ASSERT_OK_FD(fd, "create file") || !write_elf(fd, 1, 20, 4) ||
	    !load_with(skel->progs.copy_at_sleepable_uprobe) ||
	    !attach_uprobe(skel->progs.copy_at_sleepable_uprobe))
		goto out;
	mem = map_file(fd, NULL, 4, 0);
	if (!mem || !page_out(fd, mem, 4))
		goto out;
	make_id(id, 1, 20);
	ip = (__u64)mem + 0x3456;
	req->what = STACK;
	req->size = 8 * IDS_SIZE;
	req->flags = USER | BPF_F_USER_BUILD_ID;
	skel->bss->nest = true;
	ASSERT_EQ(ask_by_call(forge(chain, &ip, 1)), 2 * IDS_SIZE, "length");
	skel->bss->nest = false;
	memcpy(value, req->buf, 8 * IDS_SIZE);
	ASSERT_TRUE(is_resolved(frames_read() + 1, id, 0x3456), "second frame");
	ASSERT_GT(skel->bss->reads, 0, "reads of files");
	ASSERT_EQ(skel->bss->reads_locked, 0, "reads with the mmap lock held");
out:
	if (mem)
		munmap(mem, 4 * 4096);
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	teardown();
}

/* More files to read than one call remembers mappings. */
static void build_id_many_paged_out(void)
{
	char path[12][32] = {};
	__u8 id[BPF_BUILD_ID_SIZE];
	void *mem[12] = {};
	int fd[12], i, nr;
	__u64 ips[12];
	long ret;

	for (nr = 0; nr < 12; nr++) {
		snprintf(path[nr], sizeof(path[nr]), "stackmap_paged_out.XXXXXX");
		fd[nr] = mkstemp(path[nr]);
		if (!ASSERT_OK_FD(fd[nr], "create file"))
			goto out;
		if (!write_elf(fd[nr], nr, 20, 4))
			goto out;
		mem[nr] = map_file(fd[nr], NULL, 4, 0);
		if (!mem[nr])
			goto out;
		ips[nr] = (__u64)mem[nr] + 0x3000 + nr;
	}
	if (!open_sized(16, 16 * IDS_SIZE, BPF_F_STACK_BUILD_ID) ||
	    !load_with(skel->progs.at_sleepable_uprobe) ||
	    !attach_uprobe(skel->progs.at_sleepable_uprobe))
		goto out;
	for (i = 0; i < 12; i++)
		if (!page_out(fd[i], mem[i], 4))
			goto out;
	req->what = STACKID;
	req->flags = USER;
	ret = ask_by_call(forge(chain, ips, 12));
	if (!ASSERT_GE(ret, 0, "id") || !ASSERT_OK(lookup(ret), "look up"))
		goto out;
	for (i = 0; i < 12; i++) {
		make_id(id, i, 20);
		ASSERT_TRUE(is_resolved(frames_read() + 1 + i, id, 0x3000 + i), "frame");
	}
	/* Nobody keeps a file: its mapping was the last that did. */
	assert_fdinfo(map, 1, 0);
out:
	for (i = 0; i <= nr && i < 12; i++) {
		if (mem[i])
			munmap(mem[i], 4 * 4096);
		if (path[i][0] && fd[i] >= 0) {
			close(fd[i]);
			unlink(path[i]);
		}
	}
	teardown();
}

/* --- perf events ------------------------------------------------------------- */

/* The callchain that the event has put to its buffer. */
static const __u64 *sampled(__u64 *nr)
{
	struct perf_event_header *header = (void *)event_ring + 4096 +
					   event_ring->data_tail % (RING_PAGES * 4096);
	__u64 *sample = (__u64 *)(header + 1);

	*nr = 0;
	if (!ASSERT_NEQ(event_ring->data_head, event_ring->data_tail, "sample") ||
	    !ASSERT_EQ(header->type, PERF_RECORD_SAMPLE, "record") ||
	    !ASSERT_LT(event_ring->data_tail % (RING_PAGES * 4096) + header->size,
		       RING_PAGES * 4096, "sample that is not cut in two"))
		return NULL;
	*nr = sample[0];
	return sample + 1;
}

static void fault_at(int event, __u64 n)
{
	fault(event, forge_stack(chain, n, DEPTH));
}

static void ask_event(int slot, enum what what, __u64 flags)
{
	req[slot].what = what;
	req[slot].size = 127 * 8;
	req[slot].flags = flags;
}

/* Frames of the kernel, then stack 5, each kind after a marker. */
static void assert_sample(const __u64 *sample, __u64 nr, __u64 *kernel)
{
	ASSERT_EQ(sample[0], (__u64)PERF_CONTEXT_KERNEL, "marker");
	for (*kernel = 0; *kernel < nr && sample[*kernel] != (__u64)PERF_CONTEXT_USER; ++*kernel)
		;
	ASSERT_EQ(nr - *kernel, 1 + DEPTH, "user's frames with marker in the sample");
	ASSERT_TRUE(is_stack(sample + *kernel + 1, DEPTH, 5, DEPTH, 0), "the user's frames");
}

/* Two requests, one for each kind of frames, got them. */
static void assert_halves(const struct stack_request *two, const __u64 *sample, __u64 nr,
			  __u64 kernel)
{
	ASSERT_EQ(two[0].ret, kernel * 8, "length of the kernel's frames");
	ASSERT_OK(memcmp(two[0].buf, sample, kernel * 8), "the kernel's frames");
	ASSERT_EQ(two[0].buf[kernel], 0, "what is behind them");
	ASSERT_EQ(two[1].ret, (nr - kernel) * 8, "length of the user's frames");
	ASSERT_OK(memcmp(two[1].buf, sample + kernel, (nr - kernel) * 8), "the user's frames");
	ASSERT_EQ(two[1].buf[nr - kernel], 0, "what is behind them");
}

/*
 * The sample's callchain is what the helpers give, marker and all, and it is whole after that.
 * Shows the callchain that bpf_get_stack_pe() leaves cut: stock 6.12.117 cuts it behind the last
 * user's frame that had room in a buffer.
 */
static void event_with_callchain(void)
{
	const __u64 *sample;
	__u64 nr, kernel;
	int event;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	ask_event(0, STACK, 0);
	req[0].size = 16;
	ask_event(1, STACK, USER);
	req[1].size = 16;
	ask_event(2, STACK, 0);
	ask_event(3, STACK, USER);
	fault_at(event, 1);
	fault_at(event, 5);

	sample = sampled(&nr);
	if (!sample)
		goto out;
	assert_sample(sample, nr, &kernel);
	ASSERT_EQ(req[0].ret, 16, "length of some of the kernel's frames");
	ASSERT_OK(memcmp(req[0].buf, sample, 16), "some of the kernel's frames");
	ASSERT_EQ(req[1].ret, 16, "length of some of the user's frames");
	ASSERT_OK(memcmp(req[1].buf, sample + kernel, 16), "some of the user's frames");
	assert_halves(&req[2], sample, nr, kernel);
out:
	close_event();
	teardown();
}

/* What bpf_get_task_stack() unwinds does not go to where the sample is, as in stock 6.12.117. */
static void event_task_stack_keeps_callchain(void)
{
	static const __u64 flags[] = { 0, USER };
	const __u64 *sample;
	__u64 nr, kernel;
	int event, i;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	ask_event(1, NOTHING, 0);
	ask_event(2, STACK, 0);
	ask_event(3, STACK, USER);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ask_event(0, TASK_STACK, flags[i]);
		fault_at(event, 5);
		sample = sampled(&nr);
		if (!sample)
			goto out;
		assert_sample(sample, nr, &kernel);
		ASSERT_GT(req[0].ret, 0, "length of the task's stack");
		assert_halves(&req[2], sample, nr, kernel);
	}
	ASSERT_TRUE(is_stack(req[0].buf, 127, 5, DEPTH, 0), "the task's frames");
out:
	close_event();
	teardown();
}

static void event_with_callchain_ids(void)
{
	const __u64 *sample;
	__u64 nr, kernel;
	int event;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	ask_event(0, STACKID, USER);
	ask_event(1, STACKID, 0);
	ask_event(2, STACKID, USER | 1);
	ask_event(3, STACKID, 1);
	fault_at(event, 5);

	sample = sampled(&nr);
	if (!sample)
		goto out;
	for (kernel = 0; kernel < nr && sample[kernel] != (__u64)PERF_CONTEXT_USER; kernel++)
		;
	if (ASSERT_GE(req[0].ret, 0, "id") && ASSERT_OK(lookup(req[0].ret), "look up")) {
		ASSERT_EQ(value[0], (__u64)PERF_CONTEXT_USER, "marker");
		ASSERT_TRUE(is_stack(value + 1, 126, 5, DEPTH, 0), "the user's frames");
	}
	if (ASSERT_GE(req[1].ret, 0, "id") && ASSERT_OK(lookup(req[1].ret), "look up")) {
		ASSERT_OK(memcmp(value, sample, kernel * 8), "the kernel's frames");
		ASSERT_EQ(value[kernel], 0, "what is behind them");
	}
	assert_reads(req[2].ret, 5, DEPTH, 0);
	if (ASSERT_GE(req[3].ret, 0, "id") && ASSERT_OK(lookup(req[3].ret), "look up")) {
		ASSERT_OK(memcmp(value, sample + 1, (kernel - 1) * 8), "without the marker");
		ASSERT_EQ(value[kernel - 1], 0, "what is behind them");
	}
	assert_fdinfo(map, 4, 0);
out:
	close_event();
	teardown();
}

/*
 * CVE-2025-68378: a sample with more frames than a value has room for. What has no room does not
 * count: stacks that differ only there are the same.
 */
static void event_deeper_than_map(void)
{
	int event, depth;
	long id = NO_RET;

	if (!setup_event_sized(2 * 8))
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	ask_event(0, STACKID, USER | 1);
	for (depth = DEPTH; depth < 100; depth += 10) {
		fault(event, forge_stack(chain, 5, depth));
		if (!ASSERT_GE(req[0].ret, 0, "id"))
			break;
		if (id == NO_RET)
			id = req[0].ret;
		ASSERT_EQ(req[0].ret, id, "id of the same frames");
	}
	assert_reads(id, 5, DEPTH, 0);
	assert_fdinfo(map, 1, 0);
out:
	close_event();
	teardown();
}

/*
 * Of a sample, the first perf_event_max_stack frames count, those of the kernel included. Stock
 * 6.12.117 gives ids of no frames, and of those behind.
 */
static void event_skips_past_limit(void)
{
	__u32 limit = read_max_stack(), kernel, skip;
	int event;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	ask_event(0, STACK, 0);
	fault(event, forge_stack(chain, 1, 200));
	kernel = req[0].ret / 8;
	if (!ASSERT_GT(kernel, 0, "frames of the kernel") ||
	    !ASSERT_LT(kernel, limit, "frames of the kernel"))
		goto out;
	for (skip = limit - kernel - 1; skip < limit - kernel + 4; skip++) {
		ask_event(1, STACKID, USER | skip);
		fault(event, forge_stack(chain, 1, 200));
		if (kernel + skip >= limit) {
			ASSERT_EQ(req[1].ret, -EFAULT, "id of nothing");
		} else if (ASSERT_GE(req[1].ret, 0, "id") &&
			   ASSERT_OK(lookup(req[1].ret), "look up")) {
			ASSERT_EQ(value[0], FORGED_IP(1, skip - 1), "last frame");
			ASSERT_EQ(value[1], 0, "what is behind it");
		}
	}
	assert_fdinfo(map, 1, 0);
out:
	close_event();
	teardown();
}

static void event_without_callchain(void)
{
	int event;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_IP, false, false);
	if (event < 0)
		goto out;
	ask_event(0, STACKID, USER);
	ask_event(1, STACKID, 0);
	ask_event(2, STACK, USER);
	ask_event(3, STACK, 0);
	fault_at(event, 5);

	assert_reads(req[0].ret, 5, DEPTH, 0);
	ASSERT_EQ(req[2].ret, DEPTH * 8, "length");
	ASSERT_TRUE(is_stack(req[2].buf, 127, 5, DEPTH, 0), "the user's frames");
	if (ASSERT_GE(req[1].ret, 0, "id") && ASSERT_OK(lookup(req[1].ret), "look up")) {
		ASSERT_GT(req[3].ret, 0, "length");
		ASSERT_OK(memcmp(value, req[3].buf, 127 * 8), "the kernel's frames");
		ASSERT_TRUE(all_of_kernel(value, req[3].ret / 8), "the kernel's frames");
	}
out:
	close_event();
	teardown();
}

static void event_without_user_frames(void)
{
	int event;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, true);
	if (event < 0)
		goto out;
	ask_event(0, STACKID, USER);
	ask_event(1, STACKID, 0);
	ask_event(2, STACK, USER | 1);
	ask_event(3, STACK, 255);
	fault_at(event, 5);

	ASSERT_EQ(req[0].ret, -EFAULT, "id of no frames");
	ASSERT_GE(req[1].ret, 0, "id of the kernel's frames");
	ASSERT_EQ(req[2].ret, -EFAULT, "one skipped of no frames");
	ASSERT_EQ(req[2].buf[0], 0, "buffer");
	ASSERT_EQ(req[3].ret, -EFAULT, "more skipped than there are");
	assert_fdinfo(map, 1, 0);
out:
	close_event();
	teardown();
}

static void event_flags(void)
{
	int event, bit;

	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	for (bit = 8; bit < 64; bit++) {
		ask_event(0, STACKID, 1ULL << bit);
		ask_event(1, STACKID, 1ULL << bit | USER);
		ask_event(2, STACK, 1ULL << bit);
		ask_event(3, STACK, 1ULL << bit | USER);
		fault_at(event, 5);
		if (!(STACKID_FLAGS & 1ULL << bit)) {
			ASSERT_EQ(req[0].ret, -EINVAL, "an unknown flag");
			ASSERT_EQ(req[1].ret, -EINVAL, "an unknown flag");
		}
		if (!(STACK_FLAGS & 1ULL << bit)) {
			ASSERT_EQ(req[2].ret, -EINVAL, "an unknown flag");
			ASSERT_EQ(req[3].ret, -EINVAL, "an unknown flag");
			ASSERT_EQ(req[3].buf[0], 0, "buffer");
		}
	}
	ask_event(0, STACK, BPF_F_USER_BUILD_ID);
	ask_event(1, STACK, USER);
	req[1].size = 12;
	ask_event(2, STACK, USER | BPF_F_USER_BUILD_ID);
	req[2].size = 40;
	fault_at(event, 5);
	ASSERT_EQ(req[0].ret, -EINVAL, "build ids of the kernel");
	ASSERT_EQ(req[1].ret, -EINVAL, "size not of frames");
	ASSERT_EQ(req[2].ret, -EINVAL, "size not of frames with build id");
out:
	close_event();
	teardown();
}

/* --- nested programs --------------------------------------------------------- */

/*
 * A program that takes a stack when the frames were captured, and not yet copied. Stock 6.12.117
 * gives the captured ones' buffer away before, and then returns the nested program's frames.
 */
static void nested_cannot_overwrite(const struct variant *v)
{
	enum what outer = v->outer, inner = v->inner;
	long ret;

	if (!open_sized(16, 64, 0))
		return;
	bpf_program__set_autoload(skel->progs.at_fentry, true);
	bpf_program__set_autoload(skel->progs.after_unwinding, true);
	bpf_program__set_autoload(skel->progs.after_giving_away, true);
	if (!load_skel())
		goto out;
	skel->bss->nested.what = inner;
	skel->bss->nested.flags = 0;
	skel->bss->nested.size = 64;
	skel->bss->nested.ret = NO_RET;
	skel->bss->nest = true;

	ret = outer == STACKID ? take_nr(3) :
	      get(outer, WORDS * 8, USER, forge_stack(chain, 3, DEPTH));

	skel->bss->nest = false;
	ASSERT_GT(skel->bss->nested.runs, 0, "nested runs");
	ASSERT_EQ(skel->bss->nested.ret, -EFAULT, "nested helper without a buffer");
	if (outer == STACKID) {
		assert_stack(ret, 3);
	} else {
		ASSERT_EQ(ret, DEPTH * 8, "length");
		ASSERT_TRUE(is_stack(req->buf, WORDS, 3, DEPTH, 0), "stack");
	}
	assert_fdinfo(map, outer == STACKID, inner == STACKID);
	/* And the buffer was given back. */
	assert_stack(take_nr(3), 3);
out:
	teardown();
}

/* The buffer is given back when the frames were stored, and not before. */
static void nested_after_putting(void)
{
	if (!open_sized(16, 64, 0))
		goto out;
	bpf_program__set_autoload(skel->progs.at_fentry, true);
	if (!load_with(skel->progs.after_putting))
		goto out;
	skel->bss->nested.what = STACK;
	skel->bss->nested.flags = 0;
	skel->bss->nested.size = 64;
	skel->bss->nested.ret = NO_RET;
	skel->bss->nest = true;
	assert_stack(take_nr(3), 3);
	skel->bss->nest = false;
	ASSERT_GT(skel->bss->nested.ret, 0, "length of the nested program's stack");
out:
	teardown();
}

static const struct variant variants[] = {
	{ "in_tracepoint", in_program, "at_tracepoint" },
	{ "in_raw_tracepoint", in_program, "at_raw_tracepoint" },
	{ "in_kprobe", in_program, "at_kprobe" },
	{ "in_fentry", in_program, "at_fentry" },
	{ "in_uprobe", in_probe, "at_uprobe" },
	/* Refused by the verifier of stock 6.12.117. */
	{ "in_sleepable_fentry", in_program, "at_sleepable_fentry" },
	{ "in_sleepable_uprobe", in_probe, "at_sleepable_uprobe" },
	{ "build_id_paged_out_rcu_held", build_id_paged_out_in_section, "copy_with_rcu_held" },
	{ "build_id_paged_out_preemption_off", build_id_paged_out_in_section,
	  "copy_with_preemption_off" },

	{ "rejected_with_rcu_held", rejected, "take_with_rcu_held",
	  "sleepable helper bpf_get_stackid#27 in rcu_read_lock region" },
	{ "rejected_with_preemption_off", rejected, "take_with_preemption_off",
	  "sleepable helper bpf_get_stackid#27 in non-preemptible region" },
	{ "rejected_lookup", rejected, "lookup_elem",
	  "cannot pass map_type 7 into func bpf_map_lookup_elem#1" },
	{ "rejected_update", rejected, "update_elem",
	  "cannot pass map_type 7 into func bpf_map_update_elem#2" },
	{ "rejected_delete", rejected, "delete_elem",
	  "cannot pass map_type 7 into func bpf_map_delete_elem#3" },

	/* Not in 6.12.117. */
	{ "lookup_batches", batches, .batch = bpf_map_lookup_batch },
	{ "lookup_and_delete_batches", batches, .batch = bpf_map_lookup_and_delete_batch,
	  .removes = true },
	{ "lookup_batch_errors", batch_errors, .batch = bpf_map_lookup_batch },
	{ "lookup_and_delete_batch_errors", batch_errors,
	  .batch = bpf_map_lookup_and_delete_batch },
	{ "lookup_batch_fault", batch_fault, .batch = bpf_map_lookup_batch },
	{ "lookup_batch_fault_in_keys", batch_fault, .batch = bpf_map_lookup_batch,
	  .in_keys = true },
	{ "lookup_and_delete_batch_fault", batch_fault,
	  .batch = bpf_map_lookup_and_delete_batch, .removes = true },
	{ "lookup_and_delete_batch_fault_in_keys", batch_fault,
	  .batch = bpf_map_lookup_and_delete_batch, .removes = true, .in_keys = true },

	{ "nested_stackid_in_stackid", nested_cannot_overwrite, .outer = STACKID,
	  .inner = STACKID },
	{ "nested_stack_in_stackid", nested_cannot_overwrite, .outer = STACKID, .inner = STACK },
	{ "nested_stackid_in_stack", nested_cannot_overwrite, .outer = STACK, .inner = STACKID },
	{ "nested_task_stack_in_stack", nested_cannot_overwrite, .outer = STACK,
	  .inner = TASK_STACK },
	{ "nested_stackid_in_task_stack", nested_cannot_overwrite, .outer = TASK_STACK,
	  .inner = STACKID },
};

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "create_follows_perf_event_max_stack", create_follows_perf_event_max_stack },
	{ "create_key_sizes", create_key_sizes },
	{ "create_value_sizes", create_value_sizes },
	{ "create_value_sizes_build_ids", create_value_sizes_build_ids },
	{ "create_entries", create_entries },
	{ "create_overflowing_sizes", create_overflowing_sizes },
	{ "create_flags", create_flags },
	{ "create_numa_node", create_numa_node },
	{ "btf_layout", btf_layout },
	{ "memory_reported", memory_reported },
	{ "stackid_flags", stackid_flags },
	{ "stack_flags", stack_flags },
	{ "task_stack_flags", task_stack_flags },
	{ "stack_sizes", stack_sizes },
	{ "task_stack_sizes", task_stack_sizes },
	{ "stack_of_user", stack_of_user },
	{ "task_stack_of_user", task_stack_of_user },
	{ "kernel_same_id", kernel_same_id },
	{ "kthread_has_no_user_stack", kthread_has_no_user_stack },
	{ "stack_of_other_task", stack_of_other_task },
	{ "same_stack_same_id", same_stack_same_id },
	{ "ids_below_max_entries", ids_below_max_entries },
	{ "skipped_frames", skipped_frames },
	{ "skip_leaves_nothing", skip_leaves_nothing },
	{ "depth_is_cut", depth_is_cut },
	{ "one_frame_deep", one_frame_deep },
	{ "depth_tells_stacks_apart", depth_tells_stacks_apart },
	{ "lookup_zero_fills", lookup_zero_fills },
	{ "lookup_errors", lookup_errors },
	{ "delete_errors", delete_errors },
	{ "deleted_stack_comes_again", deleted_stack_comes_again },
	{ "next_key_ascends", next_key_ascends },
	{ "next_key_starts_over", next_key_starts_over },
	{ "update_refused", update_refused },
	{ "frozen_map", frozen_map },
	{ "map_for_reading", map_for_reading },
	{ "map_for_writing", map_for_writing },
	{ "rejected_walk", rejected_walk },
	{ "full_map_refuses", full_map_refuses },
	{ "reuse_evicts_one", reuse_evicts_one },
	{ "reuse_finds_what_is_there", reuse_finds_what_is_there },
	{ "fast_cmp", fast_cmp },
	{ "entries_counts", entries_counts },
	{ "lookup_and_delete_one", lookup_and_delete_one },
	{ "lookup_and_delete_errors", lookup_and_delete_errors },
	{ "lookup_and_delete_fault_keeps", lookup_and_delete_fault_keeps },
	{ "batch_of_full_map", batch_of_full_map },
	{ "batch_of_empty_map", batch_of_empty_map },
	{ "batch_cursor_survives_deletion", batch_cursor_survives_deletion },
	{ "batch_sees_what_comes", batch_sees_what_comes },
	{ "delete_batches", delete_batches },
	{ "delete_batch_errors", delete_batch_errors },
	{ "build_id_of_program", build_id_of_program },
	{ "build_id_of_library", build_id_of_library },
	{ "build_id_of_vdso", build_id_of_vdso },
	{ "build_id_of_memory", build_id_of_memory },
	{ "build_id_of_other_file", build_id_of_other_file },
	{ "build_id_of_kernel", build_id_of_kernel },
	{ "build_id_sizes", build_id_sizes },
	{ "build_id_file_mapped_twice", build_id_file_mapped_twice },
	{ "build_id_at_borders", build_id_at_borders },
	{ "build_id_adjacent_mappings", build_id_adjacent_mappings },
	{ "build_id_many_mappings", build_id_many_mappings },
	{ "build_id_same_in_processes", build_id_same_in_processes },
	{ "build_id_in_buffer", build_id_in_buffer },
	{ "build_id_mmap_lock_taken", build_id_mmap_lock_taken },
	{ "build_id_mmap_lock_taken_sleepable", build_id_mmap_lock_taken_sleepable },
	{ "build_id_paged_out_atomic", build_id_paged_out_atomic },
	{ "build_id_paged_out_sleepable", build_id_paged_out_sleepable },
	{ "build_id_read_without_lock", build_id_read_without_lock },
	{ "build_id_many_paged_out", build_id_many_paged_out },
	{ "event_with_callchain", event_with_callchain },
	{ "event_task_stack_keeps_callchain", event_task_stack_keeps_callchain },
	{ "event_with_callchain_ids", event_with_callchain_ids },
	{ "event_deeper_than_map", event_deeper_than_map },
	{ "event_skips_past_limit", event_skips_past_limit },
	{ "event_without_callchain", event_without_callchain },
	{ "event_without_user_frames", event_without_user_frames },
	{ "event_flags", event_flags },
	{ "nested_after_putting", nested_after_putting },
};

void serial_test_stackmap_contract(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++)
		if (test__start_subtest(tests[i].name) && can_forge())
			tests[i].run();
	for (i = 0; i < ARRAY_SIZE(variants); i++)
		if (test__start_subtest(variants[i].name) && can_forge())
			variants[i].run(&variants[i]);
}
