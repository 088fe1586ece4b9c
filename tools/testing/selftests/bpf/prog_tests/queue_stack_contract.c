// SPDX-License-Identifier: GPL-2.0
/*
 * What BPF_MAP_TYPE_QUEUE and BPF_MAP_TYPE_STACK promise, each line of the contract a
 * subtest, each subtest for both types.
 */
#include <sys/mman.h>
#include "queue_stack_ops.h"
#include "queue_stack_contract.skel.h"

/* KMALLOC_MAX_SIZE, 1 << (MAX_PAGE_ORDER + PAGE_SHIFT), where nobody raised MAX_PAGE_ORDER. */
#define LARGEST_VALUE (1024U * getpagesize())

#define GUARD 64
#define GUARD_BYTE 0xa5

static struct queue_stack_contract *open_skel(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = queue_stack_contract__open();

	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return NULL;
	bpf_map__set_type(skel->maps.map, type);
	bpf_map__set_autocreate(skel->maps.outer, false);
	return skel;
}

/* The three programs push, pop and peek on a map of two entries. */
static struct queue_stack_contract *
load_skel(enum bpf_map_type type, __u32 value_size, __u32 map_flags)
{
	struct queue_stack_contract *skel = open_skel(type);

	if (!skel)
		return NULL;
	bpf_map__set_value_size(skel->maps.map, value_size);
	bpf_map__set_map_flags(skel->maps.map, map_flags);
	bpf_program__set_autoload(skel->progs.push, true);
	bpf_program__set_autoload(skel->progs.pop, true);
	bpf_program__set_autoload(skel->progs.peek, true);
	memset(&skel->bss->buf, GUARD_BYTE, sizeof(skel->bss->buf));
	if (!ASSERT_OK(queue_stack_contract__load(skel), "load skeleton")) {
		queue_stack_contract__destroy(skel);
		return NULL;
	}
	return skel;
}

static struct bpf_program *
prog_named(struct queue_stack_contract *skel, const char *name)
{
	return bpf_object__find_program_by_name(skel->obj, name);
}

/* The verifier refuses the named program, saying why. */
static void assert_rejected(enum bpf_map_type type, const char *prog, __u32 map_flags,
			    const char *why)
{
	struct queue_stack_contract *skel = open_skel(type);
	char *log;

	if (!skel)
		return;
	bpf_map__set_map_flags(skel->maps.map, map_flags);
	bpf_program__set_autoload(prog_named(skel, prog), true);
	if (!ASSERT_OK(start_libbpf_log_capture(), "capture log"))
		goto out;
	ASSERT_ERR(queue_stack_contract__load(skel), prog);
	log = stop_libbpf_log_capture();
	ASSERT_HAS_SUBSTR(log, why, "verifier's reason");
	free(log);
out:
	queue_stack_contract__destroy(skel);
}

static bool all_bytes(const __u8 *value, __u32 size, __u8 byte)
{
	while (size--)
		if (*value++ != byte)
			return false;
	return true;
}

/* A buffer of @size bytes between two guards. */
static __u8 *guarded_alloc(__u32 size)
{
	__u8 *mem = malloc(GUARD + size + GUARD);

	if (!ASSERT_OK_PTR(mem, "buffer"))
		return NULL;
	memset(mem, GUARD_BYTE, GUARD + size + GUARD);
	return mem + GUARD;
}

static bool guards_intact(const __u8 *value, __u32 size)
{
	return all_bytes(value - GUARD, GUARD, GUARD_BYTE) &&
	       all_bytes(value + size, GUARD, GUARD_BYTE);
}

static void guarded_free(__u8 *value)
{
	if (value)
		free(value - GUARD);
}

/* --- creation ---------------------------------------------------------------- */

static void create_sizes(enum bpf_map_type type)
{
	assert_create(type, 4, 4, 1, 0, -EINVAL, "key size not zero");
	assert_create(type, 0, 0, 1, 0, -EINVAL, "value size zero");
	assert_create(type, 0, 4, 0, 0, -EINVAL, "no entries");
}

static void create_flags_unknown(enum bpf_map_type type)
{
	__u32 known = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG |
		      BPF_F_WRONLY_PROG;

	assert_known_flags(type, 0, 4, 2, known);
}

static void create_flags_contradictory(enum bpf_map_type type)
{
	assert_create(type, 0, 4, 2, BPF_F_RDONLY | BPF_F_WRONLY, -EINVAL,
		      "read-only and write-only for system calls");
	assert_create(type, 0, 4, 2, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG, -EINVAL,
		      "read-only and write-only for programs");
}

static void create_value_too_large(enum bpf_map_type type)
{
	assert_create(type, 0, LARGEST_VALUE + 1, 1, 0, -E2BIG, "one byte too large");
	assert_create(type, 0, UINT_MAX, 1, 0, -E2BIG, "largest value size");
}

static void create_too_many_entries(enum bpf_map_type type)
{
	__u32 sizes[] = { 1, 3, 8, 4096, LARGEST_VALUE };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_create(type, 0, sizes[i], UINT_MAX / sizes[i], 0, -E2BIG, "at the limit");
		assert_create(type, 0, sizes[i], UINT_MAX, 0, -E2BIG, "far above the limit");
	}
}

/* Needs 4 GiB, so it is only tried where there is less: the limit lets it through. */
static void create_just_below_limit(enum bpf_map_type type)
{
	__u32 sizes[] = { 1, 8, LARGEST_VALUE };
	int i;

	if (sysconf(_SC_PHYS_PAGES) > (1LL << 32) / getpagesize()) {
		printf("SKIP: this machine would really allocate 4 GiB\n");
		test__skip();
		return;
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_create(type, 0, sizes[i], UINT_MAX / sizes[i] - 1, 0, -ENOMEM,
			      "below the limit");
}

static void create_numa_node(enum bpf_map_type type)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NUMA_NODE);
	int fd;

	fd = bpf_map_create(type, "contract", 0, 4, 1, &opts);
	if (ASSERT_OK_FD(fd, "create on node 0")) {
		assert_push(fd, 1, 1);
		close(fd);
	}

	opts.numa_node = 1 << 20;
	ASSERT_EQ(bpf_map_create(type, "contract", 0, 4, 1, &opts), -EINVAL,
		  "create on a node that does not exist");
}

/* --- memory ------------------------------------------------------------------ */

/* 6.12.117 kept a header and one slot more than max_entries. */
static void memory_reported(enum bpf_map_type type)
{
	static const struct {
		__u32 value_size, max_entries;
	} maps[] = { { 1, 1 }, { 8, 1000 }, { 3, 100000 }, { 65536, 16 } };
	const unsigned long header = 1024;
	unsigned long memlock, values;
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		fd = create(type, maps[i].value_size, maps[i].max_entries);
		if (fd < 0)
			return;
		values = (unsigned long)maps[i].value_size * maps[i].max_entries;
		memlock = fdinfo_line(fd, "memlock");
		ASSERT_GE(memlock, values, "memlock");
		ASSERT_LE(memlock, values + maps[i].value_size + header + getpagesize(),
			  "memlock");
		close(fd);
	}
}

static void btf_layout(enum bpf_map_type type)
{
	assert_begins_with_map("bpf_queue_stack");
}

/* --- order and capacity ------------------------------------------------------ */

/* From any position in the ring, exactly @max_entries values fit and come out in order. */
static void fill_and_drain(enum bpf_map_type type, __u32 max_entries, __u32 offset)
{
	int fd = create(type, sizeof(__u32), max_entries);
	__u32 i, value;

	if (fd < 0)
		return;
	for (i = 0; i < offset; i++) {
		assert_push(fd, 7, 7);
		ASSERT_OK(pop(fd, &value), "pop");
	}

	assert_push(fd, 1, max_entries);
	ASSERT_EQ(push(fd, 0), -E2BIG, "push into the full map");
	assert_drains(type, fd, 1, max_entries);
	close(fd);
}

static void capacity_exact(enum bpf_map_type type)
{
	__u32 max_entries, offset;

	for (max_entries = 1; max_entries <= 3; max_entries++)
		for (offset = 0; offset <= 2 * max_entries; offset++)
			fill_and_drain(type, max_entries, offset);
	fill_and_drain(type, 1000, 0);
	fill_and_drain(type, 1000, 1);
	fill_and_drain(type, 1000, 999);
}

static void peek_keeps_value(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 value = 0, other = 0;

	if (fd < 0)
		return;
	assert_push(fd, 1, 2);

	ASSERT_OK(peek(fd, &value), "peek");
	ASSERT_OK(peek(fd, &other), "peek again");

	ASSERT_EQ(value, type == BPF_MAP_TYPE_QUEUE ? 1 : 2, "peeked value");
	ASSERT_EQ(other, value, "value peeked again");
	assert_drains(type, fd, 1, 2);
	close(fd);
}

static void exist_drops_oldest(enum bpf_map_type type)
{
	__u32 max_entries, next;
	int fd;

	for (max_entries = 1; max_entries <= 3; max_entries++) {
		fd = create(type, sizeof(__u32), max_entries);
		if (fd < 0)
			return;
		assert_push(fd, 1, max_entries);

		for (next = max_entries + 1; next <= 10; next++)
			ASSERT_OK(push_exist(fd, next), "push into the full map");

		assert_drains(type, fd, 10 - max_entries + 1, 10);
		close(fd);
	}
}

static void exist_keeps_all_with_room(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 3);

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);

	ASSERT_OK(push_exist(fd, 2), "push with room");
	ASSERT_OK(push_exist(fd, 3), "push into the last slot");

	assert_drains(type, fd, 1, 3);
	close(fd);
}

/* A plain list, oldest value first, to compare with. */
struct model {
	__u32 values[8];
	__u32 count;
};

static int model_push(struct model *model, __u32 value, __u64 flags)
{
	if (model->count == ARRAY_SIZE(model->values)) {
		if (flags != BPF_EXIST)
			return -E2BIG;
		model->count--;
		memmove(model->values, model->values + 1, model->count * sizeof(__u32));
	}
	model->values[model->count++] = value;
	return 0;
}

static int model_take(struct model *model, enum bpf_map_type type, __u32 *value, bool remove)
{
	__u32 at = type == BPF_MAP_TYPE_QUEUE ? 0 : model->count - 1;

	*value = 0;
	if (!model->count)
		return -ENOENT;
	*value = model->values[at];
	if (remove) {
		model->count--;
		memmove(model->values + at, model->values + at + 1,
			(model->count - at) * sizeof(__u32));
	}
	return 0;
}

/* Alone on the map, every operation does exactly what the model does: none is refused. */
static void like_model(enum bpf_map_type type)
{
	struct model model = {};
	int fd, i, err, expected;
	unsigned int seed = 1;
	__u32 value, wanted;

	fd = create(type, sizeof(__u32), ARRAY_SIZE(model.values));
	if (fd < 0)
		return;
	for (i = 0; i < 20000; i++) {
		value = 0;
		wanted = 0;
		switch (rand_r(&seed) % 8) {
		case 0: case 1: case 2:
			expected = model_push(&model, i, BPF_ANY);
			err = push(fd, i);
			break;
		case 3:
			expected = model_push(&model, i, BPF_EXIST);
			err = push_exist(fd, i);
			break;
		case 4:
			expected = model_take(&model, type, &wanted, false);
			err = peek(fd, &value);
			break;
		default:
			expected = model_take(&model, type, &wanted, true);
			err = pop(fd, &value);
			break;
		}
		if (err != expected || value != wanted)
			break;
	}
	if (!ASSERT_EQ(i, 20000, "operations like the model's"))
		printf("got %d and value %u, expected %d and %u\n", err, value, expected, wanted);
	close(fd);
}

/* The same through programs. */
static void like_model_in_program(enum bpf_map_type type)
{
	struct queue_stack_contract *skel;
	int i, err = 0, expected = 0;
	struct model model = {};
	__u32 value, wanted = 0;
	unsigned int seed = 2;

	skel = open_skel(type);
	if (!skel)
		return;
	bpf_map__set_value_size(skel->maps.map, sizeof(__u32));
	bpf_map__set_max_entries(skel->maps.map, ARRAY_SIZE(model.values));
	bpf_program__set_autoload(skel->progs.push, true);
	bpf_program__set_autoload(skel->progs.pop, true);
	bpf_program__set_autoload(skel->progs.peek, true);
	if (!ASSERT_OK(queue_stack_contract__load(skel), "load skeleton"))
		goto out;

	for (i = 0; i < 5000; i++) {
		memcpy(skel->bss->buf.value, &i, sizeof(i));
		wanted = i;
		switch (rand_r(&seed) % 8) {
		case 0: case 1: case 2:
			skel->bss->flags = BPF_ANY;
			expected = model_push(&model, i, BPF_ANY);
			err = run_prog(skel->progs.push);
			break;
		case 3:
			skel->bss->flags = BPF_EXIST;
			expected = model_push(&model, i, BPF_EXIST);
			err = run_prog(skel->progs.push);
			break;
		case 4:
			expected = model_take(&model, type, &wanted, false);
			err = run_prog(skel->progs.peek);
			break;
		default:
			expected = model_take(&model, type, &wanted, true);
			err = run_prog(skel->progs.pop);
			break;
		}
		memcpy(&value, skel->bss->buf.value, sizeof(value));
		if (err != expected || value != wanted)
			break;
	}
	if (!ASSERT_EQ(i, 5000, "operations like the model's"))
		printf("got %d and value %u, expected %d and %u\n", err, value, expected, wanted);
out:
	queue_stack_contract__destroy(skel);
}

/* --- values ------------------------------------------------------------------ */

static void values_whole(enum bpf_map_type type)
{
	__u32 sizes[] = { 1, 3, 8, 4096, LARGEST_VALUE };
	__u32 i, seed, front, size;
	__u8 *value;
	int fd;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		size = sizes[i];
		fd = create(type, size, 2);
		value = guarded_alloc(size);
		if (fd < 0 || !value)
			goto next;

		/* Three values through two slots: the last one wraps. */
		for (seed = 1; seed <= 3; seed++) {
			fill_pattern(value, size, seed);
			ASSERT_OK(bpf_map_update_elem(fd, NULL, value, BPF_EXIST), "push");
		}

		front = type == BPF_MAP_TYPE_QUEUE ? 2 : 3;
		memset(value, 0, size);
		ASSERT_OK(bpf_map_lookup_elem(fd, NULL, value), "peek");
		ASSERT_TRUE(has_pattern(value, size, front), "peeked value");
		memset(value, 0, size);
		ASSERT_OK(bpf_map_lookup_and_delete_elem(fd, NULL, value), "pop");
		ASSERT_TRUE(has_pattern(value, size, front), "popped value");
		memset(value, 0, size);
		ASSERT_OK(bpf_map_lookup_and_delete_elem(fd, NULL, value), "pop the other");
		ASSERT_TRUE(has_pattern(value, size, front ^ 1), "the other value");
		ASSERT_TRUE(guards_intact(value, size), "bytes around the buffer");
next:
		guarded_free(value);
		if (fd >= 0)
			close(fd);
	}
}

static void program_values(enum bpf_map_type type, __u32 size)
{
	struct queue_stack_contract *skel = load_skel(type, size, 0);
	__u8 *value, *end;

	if (!skel)
		return;
	value = skel->bss->buf.value;
	end = skel->bss->buf.after + sizeof(skel->bss->buf.after);

	fill_pattern(value, size, 1);
	ASSERT_OK(run_prog(skel->progs.push), "push");
	fill_pattern(value, size, 2);
	ASSERT_OK(run_prog(skel->progs.push), "push");

	memset(value, 0, size);
	ASSERT_OK(run_prog(skel->progs.peek), "peek");
	ASSERT_TRUE(has_pattern(value, size, type == BPF_MAP_TYPE_QUEUE ? 1 : 2), "peeked value");
	memset(value, 0, size);
	ASSERT_OK(run_prog(skel->progs.pop), "pop");
	ASSERT_TRUE(has_pattern(value, size, type == BPF_MAP_TYPE_QUEUE ? 1 : 2), "popped value");

	ASSERT_TRUE(all_bytes(skel->bss->buf.before, sizeof(skel->bss->buf.before), GUARD_BYTE),
		    "bytes before the buffer");
	ASSERT_TRUE(all_bytes(value + size, end - (value + size), GUARD_BYTE),
		    "bytes after the buffer");
	queue_stack_contract__destroy(skel);
}

static void values_whole_in_program(enum bpf_map_type type)
{
	program_values(type, 1);
	program_values(type, 3);
	program_values(type, 8);
	program_values(type, 4096);
}

/* --- errors of push, pop and peek -------------------------------------------- */

static const __u64 bad_push_flags[] = {
	BPF_NOEXIST, BPF_NOEXIST | BPF_EXIST, BPF_F_LOCK, BPF_F_LOCK | BPF_EXIST, 1ULL << 3,
	1ULL << 32, (1ULL << 32) | BPF_EXIST, 1ULL << 63,
};

static void push_flags(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 value = 1, i;

	if (fd < 0)
		return;
	for (i = 0; i < ARRAY_SIZE(bad_push_flags); i++)
		ASSERT_EQ(bpf_map_update_elem(fd, NULL, &value, bad_push_flags[i]), -EINVAL,
			  "push with a flag other than BPF_EXIST");
	ASSERT_EQ(pop(fd, &value), -ENOENT, "pop");
	close(fd);
}

static void push_flags_in_program(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = load_skel(type, sizeof(__u32), 0);
	int i;

	if (!skel)
		return;
	for (i = 0; i < ARRAY_SIZE(bad_push_flags); i++) {
		skel->bss->flags = bad_push_flags[i];
		ASSERT_EQ(run_prog(skel->progs.push), -EINVAL,
			  "push with a flag other than BPF_EXIST");
	}
	ASSERT_EQ(run_prog(skel->progs.pop), -ENOENT, "pop");
	queue_stack_contract__destroy(skel);
}

/* The flags are looked at first: a full map makes no difference. */
static void push_flags_when_full(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 1);
	__u32 value = 2;

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	ASSERT_EQ(bpf_map_update_elem(fd, NULL, &value, BPF_NOEXIST), -EINVAL, "push");
	assert_drains(type, fd, 1, 1);
	close(fd);
}

/* Nothing but zeros may reach the buffer of a call that found nothing. */
static void empty_map(enum bpf_map_type type)
{
	int fd = create(type, 8, 2);
	__u8 *value;
	__u32 i;

	value = guarded_alloc(8);
	if (fd < 0 || !value)
		goto out;
	ASSERT_EQ(bpf_map_lookup_elem(fd, NULL, value), -ENOENT, "peek");
	ASSERT_EQ(bpf_map_lookup_and_delete_elem(fd, NULL, value), -ENOENT, "pop");
	for (i = 0; i < 8; i++)
		ASSERT_TRUE(value[i] == 0 || value[i] == GUARD_BYTE, "byte of the buffer");
	ASSERT_TRUE(guards_intact(value, 8), "bytes around the buffer");
out:
	guarded_free(value);
	if (fd >= 0)
		close(fd);
}

static void program_empty(enum bpf_map_type type, __u32 size)
{
	struct queue_stack_contract *skel = load_skel(type, size, 0);
	__u8 *value, *end;

	if (!skel)
		return;
	value = skel->bss->buf.value;
	end = skel->bss->buf.after + sizeof(skel->bss->buf.after);

	memset(value, 0xff, size);
	ASSERT_EQ(run_prog(skel->progs.peek), -ENOENT, "peek");
	ASSERT_TRUE(all_bytes(value, size, 0), "peeked value is zero");
	memset(value, 0xff, size);
	ASSERT_EQ(run_prog(skel->progs.pop), -ENOENT, "pop");
	ASSERT_TRUE(all_bytes(value, size, 0), "popped value is zero");

	ASSERT_TRUE(all_bytes(value + size, end - (value + size), GUARD_BYTE),
		    "bytes after the buffer");
	queue_stack_contract__destroy(skel);
}

static void empty_map_in_program(enum bpf_map_type type)
{
	program_empty(type, 1);
	program_empty(type, 3);
	program_empty(type, 8);
	program_empty(type, 4096);
}

static void full_map_in_program(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = load_skel(type, sizeof(__u32), 0);

	if (!skel)
		return;
	ASSERT_OK(run_prog(skel->progs.push), "push the first");
	ASSERT_OK(run_prog(skel->progs.push), "push the second");
	ASSERT_EQ(run_prog(skel->progs.push), -E2BIG, "push into the full map");
	skel->bss->flags = BPF_EXIST;
	ASSERT_OK(run_prog(skel->progs.push), "push with BPF_EXIST");
	queue_stack_contract__destroy(skel);
}

/* --- system calls ------------------------------------------------------------ */

static void key_must_be_null(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 key = 0, value = 5;

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	ASSERT_EQ(bpf_map_update_elem(fd, &key, &value, BPF_ANY), -EINVAL, "push with a key");
	ASSERT_EQ(bpf_map_lookup_elem(fd, &key, &value), -EINVAL, "peek with a key");
	ASSERT_EQ(bpf_map_lookup_and_delete_elem(fd, &key, &value), -EINVAL, "pop with a key");
	assert_drains(type, fd, 1, 1);
	close(fd);
}

static void no_delete_no_next_key(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 key = 0, next;

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	ASSERT_EQ(bpf_map_delete_elem(fd, NULL), -EINVAL, "delete");
	ASSERT_EQ(bpf_map_delete_elem(fd, &key), -EINVAL, "delete with a key");
	ASSERT_EQ(bpf_map_get_next_key(fd, NULL, &next), -EINVAL, "first key");
	ASSERT_EQ(bpf_map_get_next_key(fd, &key, &next), -EINVAL, "next key");
	assert_drains(type, fd, 1, 1);
	close(fd);
}

static void pop_takes_no_flags(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 value;
	int i;

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	for (i = 0; i < ARRAY_SIZE(bad_push_flags); i++)
		ASSERT_EQ(bpf_map_lookup_and_delete_elem_flags(fd, NULL, &value,
							       bad_push_flags[i]),
			  -EINVAL, "pop with a flag");
	ASSERT_EQ(bpf_map_lookup_and_delete_elem_flags(fd, NULL, &value, BPF_EXIST), -EINVAL,
		  "pop with BPF_EXIST");
	assert_drains(type, fd, 1, 1);
	close(fd);
}

static void peek_takes_no_flags(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 value;
	int i;

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	for (i = 0; i < ARRAY_SIZE(bad_push_flags); i++)
		ASSERT_EQ(bpf_map_lookup_elem_flags(fd, NULL, &value, bad_push_flags[i]),
			  -EINVAL, "peek with a flag");
	close(fd);
}

static void peek_faults(int fd, void *buffer)
{
	ASSERT_EQ(bpf_map_lookup_elem(fd, NULL, buffer), -EFAULT, "peek");
}

static void peek_into_bad_buffer(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);

	if (fd < 0)
		return;
	assert_push(fd, 1, 2);
	with_bad_buffers(fd, peek_faults);
	assert_drains(type, fd, 1, 2);
	close(fd);
}

static void push_from_bad_buffer(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 3);
	char *page;

	if (fd < 0)
		return;
	page = mmap(NULL, getpagesize(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!ASSERT_NEQ(page, MAP_FAILED, "mmap"))
		goto out;
	assert_push(fd, 1, 2);
	ASSERT_EQ(bpf_map_update_elem(fd, NULL, page, BPF_ANY), -EFAULT, "push");
	assert_drains(type, fd, 1, 2);
	munmap(page, getpagesize());
out:
	close(fd);
}

/* --- who may do what --------------------------------------------------------- */

static void frozen_for_system_calls(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2);
	__u32 value;

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);

	ASSERT_OK(bpf_map_freeze(fd), "freeze");

	ASSERT_EQ(push(fd, 2), -EPERM, "push");
	ASSERT_EQ(pop(fd, &value), -EPERM, "pop");
	ASSERT_OK(peek(fd, &value), "peek");
	ASSERT_EQ(value, 1, "peeked value");
	close(fd);
}

static void frozen_but_not_for_programs(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = load_skel(type, sizeof(__u32), 0);
	__u32 value = 6;

	if (!skel)
		return;
	ASSERT_OK(bpf_map_freeze(bpf_map__fd(skel->maps.map)), "freeze");

	memcpy(skel->bss->buf.value, &value, sizeof(value));
	ASSERT_OK(run_prog(skel->progs.push), "push");
	ASSERT_OK(peek(bpf_map__fd(skel->maps.map), &value), "peek");
	ASSERT_EQ(value, 6, "peeked value");
	ASSERT_OK(run_prog(skel->progs.pop), "pop");
	ASSERT_EQ(peek(bpf_map__fd(skel->maps.map), &value), -ENOENT, "peek after the pop");
	queue_stack_contract__destroy(skel);
}

static void read_only_for_system_calls(enum bpf_map_type type)
{
	int fd = create_map(type, 0, sizeof(__u32), 2, BPF_F_RDONLY);
	__u32 value;

	if (!ASSERT_OK_FD(fd, "create"))
		return;
	ASSERT_EQ(push(fd, 1), -EPERM, "push");
	ASSERT_EQ(pop(fd, &value), -EPERM, "pop");
	ASSERT_EQ(peek(fd, &value), -ENOENT, "peek is let through");
	close(fd);
}

static void write_only_for_system_calls(enum bpf_map_type type)
{
	int fd = create_map(type, 0, sizeof(__u32), 2, BPF_F_WRONLY);
	__u32 value;

	if (!ASSERT_OK_FD(fd, "create"))
		return;
	ASSERT_OK(push(fd, 1), "push");
	ASSERT_EQ(pop(fd, &value), -EPERM, "pop");
	ASSERT_EQ(peek(fd, &value), -EPERM, "peek");
	close(fd);
}

static void read_only_for_programs(enum bpf_map_type type)
{
	struct queue_stack_contract *skel;

	assert_rejected(type, "push", BPF_F_RDONLY_PROG, "write into map forbidden");
	assert_rejected(type, "pop", BPF_F_RDONLY_PROG, "write into map forbidden");

	skel = open_skel(type);
	if (!skel)
		return;
	bpf_map__set_map_flags(skel->maps.map, BPF_F_RDONLY_PROG);
	bpf_program__set_autoload(skel->progs.peek, true);
	ASSERT_OK(queue_stack_contract__load(skel), "load peek");
	queue_stack_contract__destroy(skel);
}

static void write_only_for_programs(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = load_skel(type, 8, BPF_F_WRONLY_PROG);

	if (!skel)
		return;
	ASSERT_OK(run_prog(skel->progs.push), "push");
	ASSERT_OK(run_prog(skel->progs.peek), "peek");
	ASSERT_OK(run_prog(skel->progs.pop), "pop");
	queue_stack_contract__destroy(skel);
}

/* --- programs ---------------------------------------------------------------- */

/* Programs that a hash map takes; queues and stacks have nothing to look up or delete. */
static void no_keys_in_programs(enum bpf_map_type type)
{
	static const char *const progs[] = {
		"lookup_elem", "update_elem", "delete_elem", "walk_elems",
	};
	struct queue_stack_contract *skel;
	int i;

	for (i = 0; i < ARRAY_SIZE(progs); i++) {
		skel = open_skel(BPF_MAP_TYPE_HASH);
		if (!skel)
			return;
		bpf_map__set_key_size(skel->maps.map, sizeof(__u32));
		bpf_program__set_autoload(prog_named(skel, progs[i]), true);
		ASSERT_OK(queue_stack_contract__load(skel), progs[i]);
		queue_stack_contract__destroy(skel);

		assert_rejected(type, progs[i], 0, "PROG LOAD LOG");
	}
}

static const enum bpf_prog_type prog_types[] = {
	BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_SCHED_CLS,
	BPF_PROG_TYPE_SCHED_ACT, BPF_PROG_TYPE_TRACEPOINT, BPF_PROG_TYPE_XDP,
	BPF_PROG_TYPE_PERF_EVENT, BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_CGROUP_SOCK,
	BPF_PROG_TYPE_LWT_IN, BPF_PROG_TYPE_LWT_OUT, BPF_PROG_TYPE_LWT_XMIT,
	BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_CGROUP_DEVICE, BPF_PROG_TYPE_CGROUP_SYSCTL,
	BPF_PROG_TYPE_SYSCALL,
};

/* A program that does @helper on the map with an 8-byte buffer loads. */
static int load_helper_call(enum bpf_prog_type type, int map_fd, int helper)
{
	struct bpf_insn insns[] = {
		BPF_ST_MEM(BPF_DW, BPF_REG_10, -8, 0),
		BPF_LD_MAP_FD(BPF_REG_1, map_fd),
		BPF_MOV64_REG(BPF_REG_2, BPF_REG_10),
		BPF_ALU64_IMM(BPF_ADD, BPF_REG_2, -8),
		BPF_MOV64_IMM(BPF_REG_3, BPF_ANY),
		BPF_RAW_INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper),
		BPF_MOV64_IMM(BPF_REG_0, 0),
		BPF_EXIT_INSN(),
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts);

	if (type == BPF_PROG_TYPE_SYSCALL)
		opts.prog_flags = BPF_F_SLEEPABLE;
	if (type == BPF_PROG_TYPE_CGROUP_SOCK)
		opts.expected_attach_type = BPF_CGROUP_INET_SOCK_CREATE;
	if (type == BPF_PROG_TYPE_CGROUP_SYSCTL)
		opts.expected_attach_type = BPF_CGROUP_SYSCTL;
	return bpf_prog_load(type, "contract", "GPL", insns, ARRAY_SIZE(insns), &opts);
}

static void all_program_types(enum bpf_map_type type)
{
	static const int helpers[] = {
		BPF_FUNC_map_push_elem, BPF_FUNC_map_pop_elem, BPF_FUNC_map_peek_elem,
	};
	int i, j, prog_fd, fd;

	fd = create(type, 8, 2);
	if (fd < 0)
		return;
	for (i = 0; i < ARRAY_SIZE(prog_types); i++) {
		for (j = 0; j < ARRAY_SIZE(helpers); j++) {
			prog_fd = load_helper_call(prog_types[i], fd, helpers[j]);
			if (ASSERT_OK_FD(prog_fd, libbpf_bpf_prog_type_str(prog_types[i])))
				close(prog_fd);
		}
	}
	close(fd);
}

static struct queue_stack_contract *load_with_inner(enum bpf_map_type type, int inner)
{
	struct queue_stack_contract *skel = open_skel(type);

	if (!skel)
		return NULL;
	bpf_map__set_autocreate(skel->maps.outer, true);
	ASSERT_OK(bpf_map__set_inner_map_fd(skel->maps.outer, inner), "set inner map");
	bpf_program__set_autoload(skel->progs.inner_push, true);
	bpf_program__set_autoload(skel->progs.inner_pop, true);
	if (!ASSERT_OK(queue_stack_contract__load(skel), "load skeleton")) {
		queue_stack_contract__destroy(skel);
		return NULL;
	}
	return skel;
}

static int set_inner(struct queue_stack_contract *skel, int inner)
{
	__u32 key = 0;

	return bpf_map_update_elem(bpf_map__fd(skel->maps.outer), &key, &inner, BPF_ANY);
}

static void inner_map(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = NULL;
	__u32 value = 3;
	int inner;

	inner = create(type, sizeof(__u32), 2);
	if (inner < 0)
		return;
	skel = load_with_inner(type, inner);
	if (!skel)
		goto out;
	ASSERT_OK(set_inner(skel, inner), "set inner map");

	memcpy(skel->bss->buf.value, &value, sizeof(value));
	ASSERT_OK(run_prog(skel->progs.inner_push), "push");
	ASSERT_OK(peek(inner, &value), "peek");
	ASSERT_EQ(value, 3, "peeked value");
	assert_push(inner, 4, 4);
	ASSERT_EQ(run_prog(skel->progs.inner_push), -E2BIG, "push into the full map");
	ASSERT_OK(run_prog(skel->progs.inner_pop), "pop");
	memcpy(&value, skel->bss->buf.value, sizeof(value));
	ASSERT_EQ(value, type == BPF_MAP_TYPE_QUEUE ? 3 : 4, "popped value");
out:
	queue_stack_contract__destroy(skel);
	close(inner);
}

/* Programs follow the outer map: to another number of entries, not to another value size. */
static void inner_map_replaced(enum bpf_map_type type)
{
	struct queue_stack_contract *skel = NULL;
	int inner, longer, wider;
	__u32 value = 3;

	inner = create(type, sizeof(__u32), 2);
	longer = create(type, sizeof(__u32), 5);
	wider = create(type, sizeof(__u64), 2);
	if (inner < 0 || longer < 0 || wider < 0)
		goto out;
	skel = load_with_inner(type, inner);
	if (!skel)
		goto out;

	ASSERT_EQ(set_inner(skel, wider), -EINVAL, "set a map of another value size");
	ASSERT_OK(set_inner(skel, longer), "set a map of another length");

	memcpy(skel->bss->buf.value, &value, sizeof(value));
	ASSERT_OK(run_prog(skel->progs.inner_push), "push");
	ASSERT_EQ(peek(inner, &value), -ENOENT, "peek the first map");
	assert_drains(type, longer, 3, 3);
out:
	queue_stack_contract__destroy(skel);
	close(inner);
	close(longer);
	close(wider);
}

/* --- */

static const struct type_case contract[] = {
	CASE(create_sizes),
	CASE(create_flags_unknown),
	CASE(create_flags_contradictory),
	CASE(create_value_too_large),
	CASE(create_too_many_entries),
	CASE(create_just_below_limit),
	CASE(create_numa_node),
	CASE(memory_reported),
	CASE(btf_layout),
	CASE(capacity_exact),
	CASE(peek_keeps_value),
	CASE(exist_drops_oldest),
	CASE(exist_keeps_all_with_room),
	CASE(like_model),
	CASE(like_model_in_program),
	CASE(values_whole),
	CASE(values_whole_in_program),
	CASE(push_flags),
	CASE(push_flags_in_program),
	CASE(push_flags_when_full),
	CASE(empty_map),
	CASE(empty_map_in_program),
	CASE(full_map_in_program),
	CASE(key_must_be_null),
	CASE(no_delete_no_next_key),
	CASE(pop_takes_no_flags),
	CASE(peek_takes_no_flags),
	CASE(peek_into_bad_buffer),
	CASE(push_from_bad_buffer),
	CASE(frozen_for_system_calls),
	CASE(frozen_but_not_for_programs),
	CASE(read_only_for_system_calls),
	CASE(write_only_for_system_calls),
	CASE(read_only_for_programs),
	CASE(write_only_for_programs),
	CASE(no_keys_in_programs),
	CASE(all_program_types),
	CASE(inner_map),
	CASE(inner_map_replaced),
};

void test_queue_stack_contract(void)
{
	check_types(contract, ARRAY_SIZE(contract));
}
