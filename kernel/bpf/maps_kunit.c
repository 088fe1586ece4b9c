// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of queues and stacks, ring buffers, stack traces and cpumaps: the bpf_map_ops as
 * other parts of the kernel call them, without system calls, programs or the verifier.
 *
 * They pass with CONFIG_BPF_STOCK_MAPS, too, where what is new is skipped. Not here: -ENOMEM,
 * and -EBUSY of operations that interrupted another one; the selftests have programs for that.
 */

#include <kunit/resource.h>
#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/bpf.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/etherdevice.h>
#include <linux/file.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/netdevice.h>
#include <linux/perf_event.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/threads.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <net/xdp.h>

#define IN	((__force unsigned int)(EPOLLIN | EPOLLRDNORM))
#define OUT	((__force unsigned int)(EPOLLOUT | EPOLLWRNORM))

/* As a helper takes it. */
#define ARG(x)	((u64)(unsigned long)(x))

struct shape {
	u32 key_size;
	u32 value_size;
	u32 max_entries;
	u32 flags;
};

struct type {
	enum bpf_map_type type;
	const struct bpf_map_ops *ops;
	const char *name;
};

/* Creation of @shape gives @err, with the new files @err_new if that is not 0. */
struct creation {
	struct shape shape;
	int err;
	int err_new;
};

static void type_name(const struct type *type, char *desc)
{
	strscpy(desc, type->name, KUNIT_PARAM_DESC_SIZE);
}

static void only_new(struct kunit *test)
{
	if (IS_ENABLED(CONFIG_BPF_STOCK_MAPS))
		kunit_skip(test, "the previous file does not have this");
}

/* What the system call does. */
static struct bpf_map *create(const struct type *type, const struct shape *shape)
{
	union bpf_attr attr;
	struct bpf_map *map;
	int err;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = type->type;
	attr.key_size = shape->key_size;
	attr.value_size = shape->value_size;
	attr.max_entries = shape->max_entries;
	attr.map_flags = shape->flags;
	if (type->ops->map_alloc_check) {
		err = type->ops->map_alloc_check(&attr);
		if (err)
			return ERR_PTR(err);
	}
	map = type->ops->map_alloc(&attr);
	if (!IS_ERR(map)) {
		map->ops = type->ops;
		map->map_type = type->type;
		atomic64_set(&map->refcnt, 1);
	}
	return map;
}

static void destroy(void *data)
{
	struct bpf_map *map = data;

	/* A cpumap's entries hold references while they go away. */
	while (atomic64_read(&map->refcnt) > 1)
		msleep(20);
	map->ops->map_free(map);
}

/* A map that is freed at the end of the test. */
static struct bpf_map *make(struct kunit *test, const struct type *type, struct shape shape)
{
	struct bpf_map *map = create(type, &shape);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, map);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, destroy, map), 0);
	return map;
}

static void check_creations(struct kunit *test, const struct type *type,
			    const struct creation *creations, int nr)
{
	struct bpf_map *map;
	int i, err;

	for (i = 0; i < nr; i++) {
		err = creations[i].err;
		if (creations[i].err_new && !IS_ENABLED(CONFIG_BPF_STOCK_MAPS))
			err = creations[i].err_new;
		map = create(type, &creations[i].shape);
		KUNIT_EXPECT_EQ_MSG(test, PTR_ERR_OR_ZERO(map), err, "line %d", i);
		if (!IS_ERR(map))
			destroy(map);
	}
}

static void check_mem_usage(struct kunit *test, struct bpf_map *map, u64 least, u64 most)
{
	u64 usage = map->ops->map_mem_usage(map);

	KUNIT_EXPECT_GE(test, usage, least);
	KUNIT_EXPECT_LE(test, usage, most);
}

static void check_fdinfo(struct kunit *test, struct bpf_map *map, const char *text)
{
	struct seq_file m = { .size = PAGE_SIZE };

	m.buf = kunit_kzalloc(test, m.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	map->ops->map_show_fdinfo(map, &m);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(m.buf, text), "no \"%s\" in:\n%s", text, m.buf);
}

static void __user *user_memory(struct kunit *test, size_t size)
{
	unsigned long addr;

	if (!IS_ENABLED(CONFIG_MMU))
		kunit_skip(test, "there is no user memory without an MMU");
	addr = kunit_vm_mmap(test, NULL, 0, size, PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_NE(test, addr, 0UL);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	return (void __user *)addr;
}

static int map_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct bpf_map *map = file->private_data;

	return map->ops->map_mmap(map, vma);
}

static const struct file_operations map_mmap_fops = {
	.mmap = map_mmap,
};

/* mmap() @nr of the map's pages: the address, or an error. */
static unsigned long map_pages(struct kunit *test, struct bpf_map *map, unsigned long first,
			       unsigned long nr, unsigned long prot)
{
	struct file *file;
	unsigned long addr;

	if (!IS_ENABLED(CONFIG_MMU))
		kunit_skip(test, "there is no user memory without an MMU");
	file = anon_inode_getfile("bpf-map", &map_mmap_fops, map, O_RDWR);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	addr = kunit_vm_mmap(test, file, 0, nr * PAGE_SIZE, prot, MAP_SHARED, first * PAGE_SIZE);
	fput(file);
	return addr;
}

static unsigned int poll_events(struct bpf_map *map)
{
	return (__force unsigned int)map->ops->map_poll(map, NULL, NULL);
}

struct poller {
	struct poll_table_struct table;
	struct wait_queue_entry wait;
	wait_queue_head_t *head;
	struct completion woken;
};

static int poller_wake(struct wait_queue_entry *wait, unsigned int mode, int sync, void *key)
{
	complete(&container_of(wait, struct poller, wait)->woken);
	return 0;
}

static void poller_enter(struct file *file, wait_queue_head_t *head,
			 struct poll_table_struct *table)
{
	struct poller *poller = container_of(table, struct poller, table);

	poller->head = head;
	add_wait_queue(head, &poller->wait);
}

static void poller_leave(void *data)
{
	struct poller *poller = data;

	remove_wait_queue(poller->head, &poller->wait);
}

/* Somebody who waits for the map's events until the end of the test. */
static struct poller *start_poller(struct kunit *test, struct bpf_map *map)
{
	struct poller *poller = kunit_kzalloc(test, sizeof(*poller), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, poller);
	init_completion(&poller->woken);
	init_waitqueue_func_entry(&poller->wait, poller_wake);
	init_poll_funcptr(&poller->table, poller_enter);
	map->ops->map_poll(map, NULL, &poller->table);
	KUNIT_ASSERT_NOT_NULL(test, poller->head);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, poller_leave, poller), 0);
	return poller;
}

/* Queues and stacks */

static const struct type queue_stack_types[] = {
	{ BPF_MAP_TYPE_QUEUE, &queue_map_ops, "queue" },
	{ BPF_MAP_TYPE_STACK, &stack_map_ops, "stack" },
};

KUNIT_ARRAY_PARAM(queue_stack, queue_stack_types, type_name);

static const struct type *param(struct kunit *test)
{
	return test->param_value;
}

static bool is_stack(struct kunit *test)
{
	return param(test)->type == BPF_MAP_TYPE_STACK;
}

/* The value that is pushed as number @n; an odd size, so that slots are not aligned. */
struct value {
	u8 bytes[7];
};

static struct value value_of(int n)
{
	struct value value;

	memset(&value, 0x40 + n, sizeof(value));
	return value;
}

static struct bpf_map *make_queue_stack(struct kunit *test, u32 max_entries)
{
	return make(test, param(test), (struct shape){ 0, sizeof(struct value), max_entries });
}

static long push(struct bpf_map *map, int n, u64 flags)
{
	struct value value = value_of(n);

	return map->ops->map_push_elem(map, &value, flags);
}

/* Pop values numbers @first to @last, in either direction. */
static void check_pops(struct kunit *test, struct bpf_map *map, int first, int last)
{
	int step = first <= last ? 1 : -1, n;
	struct value value, expected;

	for (n = first; n != last + step; n += step) {
		expected = value_of(n);
		KUNIT_ASSERT_EQ(test, map->ops->map_peek_elem(map, &value), 0);
		KUNIT_EXPECT_MEMEQ(test, &value, &expected, sizeof(value));
		memset(&value, 0xff, sizeof(value));
		KUNIT_ASSERT_EQ(test, map->ops->map_pop_elem(map, &value), 0);
		KUNIT_EXPECT_MEMEQ(test, &value, &expected, sizeof(value));
	}
}

static void check_empty(struct kunit *test, struct bpf_map *map)
{
	struct {
		struct value value;
		u8 behind;
	} __packed buf;

	memset(&buf, 0xff, sizeof(buf));
	KUNIT_EXPECT_EQ(test, map->ops->map_peek_elem(map, &buf.value), -ENOENT);
	KUNIT_EXPECT_TRUE(test, mem_is_zero(&buf.value, sizeof(buf.value)));
	memset(&buf, 0xff, sizeof(buf));
	KUNIT_EXPECT_EQ(test, map->ops->map_pop_elem(map, &buf.value), -ENOENT);
	KUNIT_EXPECT_TRUE(test, mem_is_zero(&buf.value, sizeof(buf.value)));
	KUNIT_EXPECT_EQ(test, buf.behind, 0xff);
}

static void queue_stack_create(struct kunit *test)
{
	static const struct creation creations[] = {
		{ { 0, 8, 4 }, 0 },
		{ { 0, 1, 1, BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY_PROG }, 0 },
		{ { 4, 8, 4 }, -EINVAL },
		{ { 0, 0, 4 }, -EINVAL },
		{ { 0, 8, 0 }, -EINVAL },
		{ { 0, 8, 4, BPF_F_NO_PREALLOC }, -EINVAL },
		{ { 0, 8, 4, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG }, -EINVAL },
		{ { 0, KMALLOC_MAX_SIZE + 1, 1 }, -E2BIG },
		{ { 0, 8, U32_MAX / 8 }, -E2BIG },
		{ { 0, 1, U32_MAX }, -E2BIG },
	};
	static const struct shape largest[] = {
		{ 0, 8, U32_MAX / 8 - 1 },
		{ 0, 1, U32_MAX - 1 },
		{ 0, KMALLOC_MAX_SIZE, 1 },
	};
	union bpf_attr attr;
	int i;

	check_creations(test, param(test), creations, ARRAY_SIZE(creations));
	/* The memory for these need not be there. */
	for (i = 0; i < ARRAY_SIZE(largest); i++) {
		memset(&attr, 0, sizeof(attr));
		attr.value_size = largest[i].value_size;
		attr.max_entries = largest[i].max_entries;
		KUNIT_EXPECT_EQ(test, param(test)->ops->map_alloc_check(&attr), 0);
	}
}

static void queue_stack_order(struct kunit *test)
{
	struct bpf_map *map = make_queue_stack(test, 3);
	int round, i;

	/* So that values are at all places, and some across the end. */
	for (round = 0; round < 4; round++) {
		check_empty(test, map);
		for (i = 1; i <= 2; i++)
			KUNIT_EXPECT_EQ(test, push(map, i, round & 1 ? BPF_EXIST : BPF_ANY), 0);
		check_pops(test, map, is_stack(test) ? 2 : 1, is_stack(test) ? 1 : 2);
	}
}

static void queue_stack_full(struct kunit *test)
{
	struct bpf_map *map = make_queue_stack(test, 3);
	int i;

	for (i = 1; i <= 3; i++)
		KUNIT_EXPECT_EQ(test, push(map, i, BPF_ANY), 0);
	KUNIT_EXPECT_EQ(test, push(map, 9, BPF_ANY), -E2BIG);
	/* The oldest ones give way: 1 and 2. */
	KUNIT_EXPECT_EQ(test, push(map, 4, BPF_EXIST), 0);
	KUNIT_EXPECT_EQ(test, push(map, 5, BPF_EXIST), 0);
	KUNIT_EXPECT_EQ(test, push(map, 9, BPF_ANY), -E2BIG);
	check_pops(test, map, is_stack(test) ? 5 : 3, is_stack(test) ? 3 : 5);
	check_empty(test, map);
}

static void queue_stack_push_flags(struct kunit *test)
{
	struct bpf_map *map = make_queue_stack(test, 3);

	KUNIT_EXPECT_EQ(test, push(map, 1, BPF_NOEXIST), -EINVAL);
	KUNIT_EXPECT_EQ(test, push(map, 1, BPF_EXIST + 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, push(map, 1, 1ULL << 32), -EINVAL);
	check_empty(test, map);
}

static void queue_stack_no_keys(struct kunit *test)
{
	struct bpf_map *map = make_queue_stack(test, 3);
	struct value value = value_of(1);
	u32 key = 0;

	KUNIT_EXPECT_EQ(test, push(map, 2, BPF_ANY), 0);
	KUNIT_EXPECT_NULL(test, map->ops->map_lookup_elem(map, &key));
	KUNIT_EXPECT_EQ(test, map->ops->map_update_elem(map, &key, &value, BPF_ANY), -EINVAL);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &key), -EINVAL);
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, &key), -EINVAL);
	check_pops(test, map, 2, 2);
	check_empty(test, map);
}

static void queue_stack_mem_usage(struct kunit *test)
{
	check_mem_usage(test, make_queue_stack(test, 1), 7, PAGE_SIZE);
	check_mem_usage(test, make_queue_stack(test, 10000), 70000, 70000 + PAGE_SIZE);
}

static void queue_stack_meta_equal(struct kunit *test)
{
	struct bpf_map *a = make(test, param(test), (struct shape){ 0, 8, 4 });
	struct bpf_map *b = make(test, param(test), (struct shape){ 0, 8, 5 });
	struct bpf_map *c = make(test, param(test), (struct shape){ 0, 4, 4 });

	KUNIT_EXPECT_TRUE(test, a->ops->map_meta_equal(a, b));
	KUNIT_EXPECT_FALSE(test, a->ops->map_meta_equal(a, c));
}

static void queue_stack_poll(struct kunit *test)
{
	struct value value;
	struct bpf_map *map;

	only_new(test);
	map = make_queue_stack(test, 2);
	KUNIT_EXPECT_EQ(test, poll_events(map), OUT);
	push(map, 1, BPF_ANY);
	KUNIT_EXPECT_EQ(test, poll_events(map), IN | OUT);
	check_fdinfo(test, map, "entries:\t1\n");
	push(map, 2, BPF_ANY);
	KUNIT_EXPECT_EQ(test, poll_events(map), IN);
	check_fdinfo(test, map, "entries:\t2\n");
	push(map, 3, BPF_EXIST);
	KUNIT_EXPECT_EQ(test, poll_events(map), IN);
	map->ops->map_pop_elem(map, &value);
	map->ops->map_pop_elem(map, &value);
	KUNIT_EXPECT_EQ(test, poll_events(map), OUT);
	check_fdinfo(test, map, "entries:\t0\n");
}

static void queue_stack_wakeup(struct kunit *test)
{
	struct poller *poller;
	struct bpf_map *map;

	only_new(test);
	map = make_queue_stack(test, 1);
	poller = start_poller(test, map);
	KUNIT_ASSERT_EQ(test, push(map, 1, BPF_ANY), 0);
	wait_for_completion(&poller->woken);
	check_pops(test, map, 1, 1);
	wait_for_completion(&poller->woken);
}

/* What a batch has in user memory. */
struct batch {
	union bpf_attr attr;
	struct value values[8];
};

/* A batch of @count values at @values: the error; and how many it says it did. */
static int do_batch(struct kunit *test, struct bpf_map *map, enum bpf_cmd cmd,
		    struct batch __user *u, struct value __user *values, u32 count,
		    u64 elem_flags, u64 flags, u32 *done)
{
	union bpf_attr attr;
	int err;

	memset(&attr, 0, sizeof(attr));
	attr.batch.values = ARG(values);
	attr.batch.count = count;
	attr.batch.elem_flags = elem_flags;
	attr.batch.flags = flags;
	KUNIT_ASSERT_EQ(test, put_user(count, &u->attr.batch.count), 0);
	if (cmd == BPF_MAP_UPDATE_BATCH)
		err = map->ops->map_update_batch(map, NULL, &attr, &u->attr);
	else if (cmd == BPF_MAP_LOOKUP_BATCH)
		err = map->ops->map_lookup_batch(map, &attr, &u->attr);
	else
		err = map->ops->map_lookup_and_delete_batch(map, &attr, &u->attr);
	KUNIT_ASSERT_EQ(test, get_user(*done, &u->attr.batch.count), 0);
	return err;
}

static void check_batch(struct kunit *test, struct bpf_map *map, enum bpf_cmd cmd,
			struct batch __user *u, u32 count, u64 elem_flags, int err, u32 nr)
{
	u32 done;

	KUNIT_EXPECT_EQ(test, do_batch(test, map, cmd, u, u->values, count, elem_flags, 0, &done),
			err);
	KUNIT_EXPECT_EQ(test, done, nr);
}

static void put_values(struct kunit *test, struct batch __user *u, int first, int last)
{
	struct value value;
	int i;

	for (i = 0; first + i <= last; i++) {
		value = value_of(first + i);
		KUNIT_ASSERT_EQ(test, copy_to_user(&u->values[i], &value, sizeof(value)), 0);
	}
}

static void check_values(struct kunit *test, struct batch __user *u, int first, int last)
{
	int step = first <= last ? 1 : -1, n, i = 0;
	struct value value, expected;

	for (n = first; n != last + step; n += step, i++) {
		expected = value_of(n);
		KUNIT_ASSERT_EQ(test, copy_from_user(&value, &u->values[i], sizeof(value)), 0);
		KUNIT_EXPECT_MEMEQ(test, &value, &expected, sizeof(value));
	}
}

static void queue_stack_batches(struct kunit *test)
{
	struct batch __user *u;
	struct bpf_map *map;
	bool lifo;

	only_new(test);
	lifo = is_stack(test);
	map = make_queue_stack(test, 5);
	u = user_memory(test, sizeof(*u));

	check_batch(test, map, BPF_MAP_LOOKUP_BATCH, u, 8, 0, -ENOENT, 0);
	check_batch(test, map, BPF_MAP_LOOKUP_AND_DELETE_BATCH, u, 8, 0, -ENOENT, 0);
	check_batch(test, map, BPF_MAP_UPDATE_BATCH, u, 0, BPF_ANY, 0, 0);

	put_values(test, u, 1, 8);
	check_batch(test, map, BPF_MAP_UPDATE_BATCH, u, 8, BPF_ANY, -E2BIG, 5);
	check_batch(test, map, BPF_MAP_LOOKUP_BATCH, u, 2, 0, 0, 2);
	check_values(test, u, lifo ? 5 : 1, lifo ? 4 : 2);
	check_batch(test, map, BPF_MAP_LOOKUP_AND_DELETE_BATCH, u, 2, 0, 0, 2);
	check_values(test, u, lifo ? 5 : 1, lifo ? 4 : 2);
	check_batch(test, map, BPF_MAP_LOOKUP_BATCH, u, 8, 0, 0, 3);
	check_values(test, u, 3, lifo ? 1 : 5);

	/* Room for 2, so 1 of the oldest gives way; one more than fits in all. */
	put_values(test, u, 6, 8);
	check_batch(test, map, BPF_MAP_UPDATE_BATCH, u, 3, BPF_EXIST, 0, 3);
	check_batch(test, map, BPF_MAP_LOOKUP_AND_DELETE_BATCH, u, 8, 0, 0, 5);
	check_values(test, u, lifo ? 8 : 4, lifo ? 6 : 8);
	check_empty(test, map);
}

static void queue_stack_batch_errors(struct kunit *test)
{
	static const enum bpf_cmd cmds[] = {
		BPF_MAP_UPDATE_BATCH, BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH,
	};
	struct batch __user *u;
	struct bpf_map *map;
	union bpf_attr attr;
	u32 done;
	int i;

	only_new(test);
	map = make_queue_stack(test, 5);
	u = user_memory(test, sizeof(*u));
	push(map, 1, BPF_ANY);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		KUNIT_EXPECT_EQ(test, do_batch(test, map, cmds[i], u, NULL, 1, 0, 0, &done),
				-EFAULT);
		KUNIT_EXPECT_EQ(test, done, 0);
		KUNIT_EXPECT_EQ(test, do_batch(test, map, cmds[i], u, u->values, 1,
					       1ULL << 32, 0, &done), -EINVAL);
		KUNIT_EXPECT_EQ(test, done, 0);
		KUNIT_EXPECT_EQ(test, do_batch(test, map, cmds[i], u, u->values, 1, 0, 1, &done),
				-EINVAL);
		KUNIT_EXPECT_EQ(test, done, 0);
	}
	memset(&attr, 0, sizeof(attr));
	KUNIT_EXPECT_EQ(test, map->ops->map_update_batch(map, NULL, &attr, NULL), -EFAULT);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_batch(map, &attr, NULL), -EFAULT);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_batch(map, &attr, NULL), -EFAULT);
	/* Nothing was lost, and nothing came in. */
	check_pops(test, map, 1, 1);
	check_empty(test, map);
}

static void queue_stack_pop_to_user(struct kunit *test)
{
	struct batch __user *u;
	struct bpf_map *map;

	only_new(test);
	map = make_queue_stack(test, 2);
	u = user_memory(test, sizeof(*u));
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, NULL, u->values, 0),
			-ENOENT);
	push(map, 1, BPF_ANY);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, NULL, NULL, 0), -EFAULT);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, NULL, u->values, 0), 0);
	check_values(test, u, 1, 1);
	check_empty(test, map);
}

static void queue_stack_killed(struct kunit *test)
{
	struct batch __user *u;
	struct bpf_map *map;
	u32 done;
	int err;

	only_new(test);
	map = make_queue_stack(test, 5);
	u = user_memory(test, sizeof(*u));
	push(map, 1, BPF_ANY);
	allow_signal(SIGKILL);
	send_sig(SIGKILL, current, 1);
	err = do_batch(test, map, BPF_MAP_LOOKUP_AND_DELETE_BATCH, u, u->values, 1, 0, 0, &done);
	flush_signals(current);
	disallow_signal(SIGKILL);
	KUNIT_EXPECT_EQ(test, err, -EINTR);
	KUNIT_EXPECT_EQ(test, done, 0);
	check_pops(test, map, 1, 1);
}

static struct kunit_case queue_stack_cases[] = {
	KUNIT_CASE_PARAM(queue_stack_create, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_order, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_full, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_push_flags, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_no_keys, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_mem_usage, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_meta_equal, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_poll, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_wakeup, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_batches, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_batch_errors, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_pop_to_user, queue_stack_gen_params),
	KUNIT_CASE_PARAM(queue_stack_killed, queue_stack_gen_params),
	{}
};

static struct kunit_suite queue_stack_suite = {
	.name = "bpf_queue_stack_maps",
	.test_cases = queue_stack_cases,
};

/* Ring buffers */

static const struct type ringbuf_types[] = {
	{ BPF_MAP_TYPE_RINGBUF, &ringbuf_map_ops, "ringbuf" },
	{ BPF_MAP_TYPE_USER_RINGBUF, &user_ringbuf_map_ops, "user_ringbuf" },
};

KUNIT_ARRAY_PARAM(ringbuf, ringbuf_types, type_name);

static struct bpf_map *make_ringbuf(struct kunit *test, u32 flags)
{
	return make(test, &ringbuf_types[0], (struct shape){ 0, 0, PAGE_SIZE, flags });
}

static long output(struct bpf_map *map, const void *data, u64 size, u64 flags)
{
	return bpf_ringbuf_output_proto.func(ARG(map), ARG(data), size, flags, 0);
}

static void *reserve(struct bpf_map *map, u64 size, u64 flags)
{
	return (void *)(unsigned long)bpf_ringbuf_reserve_proto.func(ARG(map), size, flags, 0, 0);
}

static unsigned long query(struct bpf_map *map, u64 what)
{
	return bpf_ringbuf_query_proto.func(ARG(map), what, 0, 0, 0);
}

static void ringbuf_create(struct kunit *test)
{
	static const struct creation creations[] = {
		{ { 0, 0, PAGE_SIZE }, 0 },
		{ { 0, 0, 4 * PAGE_SIZE, BPF_F_NUMA_NODE }, 0 },
		{ { 4, 0, PAGE_SIZE }, -EINVAL },
		{ { 0, 4, PAGE_SIZE }, -EINVAL },
		{ { 0, 0, 0 }, -EINVAL },
		{ { 0, 0, PAGE_SIZE / 2 }, -EINVAL },
		{ { 0, 0, 3 * PAGE_SIZE }, -EINVAL },
		{ { 0, 0, PAGE_SIZE, BPF_F_RDONLY }, -EINVAL },
	};

	check_creations(test, param(test), creations, ARRAY_SIZE(creations));
}

static void ringbuf_create_overwrite(struct kunit *test)
{
	static const struct creation creation = {
		{ 0, 0, PAGE_SIZE, BPF_F_RB_OVERWRITE }, -EINVAL
	};

	check_creations(test, &ringbuf_types[1], &creation, 1);
	if (IS_ENABLED(CONFIG_BPF_STOCK_MAPS))
		check_creations(test, &ringbuf_types[0], &creation, 1);
	else
		make_ringbuf(test, BPF_F_RB_OVERWRITE);
}

static void ringbuf_no_elements(struct kunit *test)
{
	struct bpf_map *map = make(test, param(test), (struct shape){ 0, 0, PAGE_SIZE });
	u32 key = 0;

	KUNIT_EXPECT_EQ(test, PTR_ERR(map->ops->map_lookup_elem(map, &key)), -ENOTSUPP);
	KUNIT_EXPECT_EQ(test, map->ops->map_update_elem(map, &key, &key, BPF_ANY), -ENOTSUPP);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &key), -ENOTSUPP);
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, &key), -ENOTSUPP);
}

static void ringbuf_mem_usage(struct kunit *test)
{
	check_mem_usage(test, make(test, param(test), (struct shape){ 0, 0, 8 * PAGE_SIZE }),
			10 * PAGE_SIZE, 15 * PAGE_SIZE);
}

static void ringbuf_meta_equal(struct kunit *test)
{
	struct bpf_map *a = make(test, param(test), (struct shape){ 0, 0, PAGE_SIZE });
	struct bpf_map *b = make(test, param(test), (struct shape){ 0, 0, 2 * PAGE_SIZE });
	struct bpf_map *c = make(test, param(test),
				 (struct shape){ 0, 0, PAGE_SIZE, BPF_F_NUMA_NODE });

	KUNIT_EXPECT_TRUE(test, a->ops->map_meta_equal(a, b));
	KUNIT_EXPECT_FALSE(test, a->ops->map_meta_equal(a, c));
}

/* Pages: consumer's position, producer's, the data twice. */
static void ringbuf_mmap(struct kunit *test)
{
	struct bpf_map *map = make(test, param(test), (struct shape){ 0, 0, PAGE_SIZE });
	bool user = map->map_type == BPF_MAP_TYPE_USER_RINGBUF;
	unsigned long rw = PROT_READ | PROT_WRITE;

	KUNIT_EXPECT_FALSE(test, IS_ERR_VALUE(map_pages(test, map, 0, 4, PROT_READ)));
	KUNIT_EXPECT_EQ(test, map_pages(test, map, 0, 5, PROT_READ), -EINVAL);
	KUNIT_EXPECT_EQ(test, map_pages(test, map, 4, 1, PROT_READ), -EINVAL);
	KUNIT_EXPECT_EQ(test, map_pages(test, map, 0, 2, rw), -EPERM);
	if (user) {
		KUNIT_EXPECT_EQ(test, map_pages(test, map, 0, 1, rw), -EPERM);
		KUNIT_EXPECT_FALSE(test, IS_ERR_VALUE(map_pages(test, map, 1, 3, rw)));
	} else {
		KUNIT_EXPECT_FALSE(test, IS_ERR_VALUE(map_pages(test, map, 0, 1, rw)));
		KUNIT_EXPECT_EQ(test, map_pages(test, map, 1, 1, rw), -EPERM);
		KUNIT_EXPECT_EQ(test, map_pages(test, map, 2, 1, rw), -EPERM);
	}
}

/* What user space has of a ring. */
struct user_ring {
	unsigned long __user *consumer_pos;
	unsigned long __user *producer_pos;
	char __user *data;
};

static struct user_ring map_ring(struct kunit *test, struct bpf_map *map)
{
	bool user = map->map_type == BPF_MAP_TYPE_USER_RINGBUF;
	unsigned long rw = PROT_READ | PROT_WRITE;
	unsigned long cons = map_pages(test, map, 0, 1, user ? PROT_READ : rw);
	unsigned long prod = map_pages(test, map, 1, 3, user ? rw : PROT_READ);

	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(cons));
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(prod));
	return (struct user_ring){ (void __user *)cons, (void __user *)prod,
				   (void __user *)(prod + PAGE_SIZE) };
}

static unsigned long read_pos(struct kunit *test, unsigned long __user *pos)
{
	unsigned long value = 0;

	KUNIT_EXPECT_EQ(test, get_user(value, pos), 0);
	return value;
}

static void write_pos(struct kunit *test, unsigned long __user *pos, unsigned long value)
{
	KUNIT_EXPECT_EQ(test, put_user(value, pos), 0);
}

static u32 read_len(struct kunit *test, struct user_ring *ring, unsigned long pos)
{
	u32 len = 0;

	KUNIT_EXPECT_EQ(test, get_user(len, (u32 __user *)(ring->data + pos)), 0);
	return len;
}

static void ringbuf_records(struct kunit *test)
{
	struct bpf_map *map = make_ringbuf(test, 0);
	struct user_ring ring = map_ring(test, map);
	char payload[11] = "";
	void *sample;

	KUNIT_EXPECT_EQ(test, poll_events(map), 0);
	KUNIT_EXPECT_EQ(test, output(map, "hello ring", 11, 0), 0);
	KUNIT_EXPECT_EQ(test, poll_events(map), IN);
	KUNIT_EXPECT_EQ(test, read_pos(test, ring.producer_pos), 24);
	KUNIT_EXPECT_EQ(test, read_len(test, &ring, 0), 11);
	KUNIT_EXPECT_EQ(test, copy_from_user(payload, ring.data + 8, 11), 0);
	KUNIT_EXPECT_STREQ(test, payload, "hello ring");

	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_AVAIL_DATA), 24);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_RING_SIZE), PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_PROD_POS), 24);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_CONS_POS), 0);
	KUNIT_EXPECT_EQ(test, query(map, 99), 0);
	write_pos(test, ring.consumer_pos, 24);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_CONS_POS), 24);
	KUNIT_EXPECT_EQ(test, poll_events(map), 0);

	sample = reserve(map, 4, 0);
	KUNIT_ASSERT_NOT_NULL(test, sample);
	KUNIT_EXPECT_EQ(test, read_len(test, &ring, 24), 4 | BPF_RINGBUF_BUSY_BIT);
	KUNIT_EXPECT_EQ(test, poll_events(map), IN);
	bpf_ringbuf_submit_proto.func(ARG(sample), 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, read_len(test, &ring, 24), 4);

	sample = reserve(map, 4, 0);
	KUNIT_ASSERT_NOT_NULL(test, sample);
	bpf_ringbuf_discard_proto.func(ARG(sample), 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, read_len(test, &ring, 40), 4 | BPF_RINGBUF_DISCARD_BIT);
}

static void ringbuf_full(struct kunit *test)
{
	struct bpf_map *map = make_ringbuf(test, 0);
	struct user_ring ring = map_ring(test, map);
	void *data = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, data);
	KUNIT_EXPECT_EQ(test, output(map, data, 8, 1ULL << 32), -EINVAL);
	KUNIT_EXPECT_NULL(test, reserve(map, 8, 1));
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_LOST), 0);

	/* With its header it would take the whole ring; the last byte cannot be used. */
	KUNIT_EXPECT_EQ(test, output(map, data, PAGE_SIZE - 8, 0), -EAGAIN);
	KUNIT_EXPECT_NULL(test, reserve(map, UINT_MAX / 4 + 1, 0));
	KUNIT_EXPECT_EQ(test, output(map, data, PAGE_SIZE - 16, 0), 0);
	KUNIT_EXPECT_EQ(test, output(map, data, 0, 0), -EAGAIN);
	KUNIT_EXPECT_NULL(test, reserve(map, 0, 0));
	if (!IS_ENABLED(CONFIG_BPF_STOCK_MAPS)) {
		KUNIT_EXPECT_EQ(test, query(map, BPF_RB_LOST), 4);
		check_fdinfo(test, map, "lost:\t4\n");
	}
	write_pos(test, ring.consumer_pos, PAGE_SIZE - 8);
	KUNIT_EXPECT_EQ(test, output(map, data, 0, 0), 0);
}

static void ringbuf_overwrites(struct kunit *test)
{
	struct bpf_map *map;
	void *data, *busy;

	only_new(test);
	map = make_ringbuf(test, BPF_F_RB_OVERWRITE);
	data = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, data);
	KUNIT_EXPECT_EQ(test, output(map, data, 16, 0), 0);
	KUNIT_EXPECT_EQ(test, output(map, data, PAGE_SIZE - 48, 0), 0);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_OVERWRITE_POS), 0);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_LOST), 0);
	busy = reserve(map, 16, 0);
	KUNIT_ASSERT_NOT_NULL(test, busy);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_OVERWRITE_POS), 24);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_LOST), 1);
	/* It would have to drop one that is not committed. */
	KUNIT_EXPECT_EQ(test, output(map, data, PAGE_SIZE - 16, 0), -EAGAIN);
	bpf_ringbuf_submit_proto.func(ARG(busy), 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, output(map, data, PAGE_SIZE - 16, 0), 0);
	KUNIT_EXPECT_EQ(test, query(map, BPF_RB_AVAIL_DATA), PAGE_SIZE - 8);
}

static void ringbuf_wakeup(struct kunit *test)
{
	struct bpf_map *map = make_ringbuf(test, 0);
	struct poller *poller = start_poller(test, map);

	KUNIT_ASSERT_EQ(test, output(map, "", 1, 0), 0);
	wait_for_completion(&poller->woken);
}

struct drain {
	struct bpf_map *map;
	char payload[8];
	long nested;
	int calls;
	int stop_at;
};

static u64 drain_one(u64 dynptr, u64 ctx, u64 unused1, u64 unused2, u64 unused3)
{
	struct drain *drain = (void *)(unsigned long)ctx;
	const void *data = __bpf_dynptr_data((void *)(unsigned long)dynptr, 5);

	if (data)
		memcpy(drain->payload, data, 5);
	drain->nested = bpf_user_ringbuf_drain_proto.func(ARG(drain->map), ARG(drain_one), ctx,
							  0, 0);
	return ++drain->calls == drain->stop_at;
}

static long do_drain(struct drain *drain, u64 flags)
{
	drain->calls = 0;
	return bpf_user_ringbuf_drain_proto.func(ARG(drain->map), ARG(drain_one), ARG(drain),
						 flags, 0);
}

static void put_sample(struct kunit *test, struct user_ring *ring, unsigned long pos, u32 len)
{
	char __user *hdr = ring->data + pos % PAGE_SIZE;

	KUNIT_EXPECT_EQ(test, put_user(len, (u32 __user *)hdr), 0);
	KUNIT_EXPECT_EQ(test, copy_to_user(hdr + 8, "1234", 5), 0);
}

static void user_ringbuf_drain(struct kunit *test)
{
	struct bpf_map *map = make(test, &ringbuf_types[1], (struct shape){ 0, 0, PAGE_SIZE });
	struct user_ring ring = map_ring(test, map);
	struct drain drain = { .map = map };

	KUNIT_EXPECT_EQ(test, do_drain(&drain, 1 << 8), -EINVAL);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, 0), 0);
	KUNIT_EXPECT_EQ(test, poll_events(map), OUT);

	put_sample(test, &ring, 0, 5);
	write_pos(test, ring.producer_pos, 16);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, 0), 1);
	KUNIT_EXPECT_EQ(test, drain.calls, 1);
	KUNIT_EXPECT_STREQ(test, drain.payload, "1234");
	KUNIT_EXPECT_EQ(test, drain.nested, -EBUSY);
	KUNIT_EXPECT_EQ(test, read_pos(test, ring.consumer_pos), 16);

	/* One that is discarded, two that count, one that is not ready. */
	put_sample(test, &ring, 16, 5 | BPF_RINGBUF_DISCARD_BIT);
	put_sample(test, &ring, 32, 5);
	put_sample(test, &ring, 48, 5);
	put_sample(test, &ring, 64, 5 | BPF_RINGBUF_BUSY_BIT);
	write_pos(test, ring.producer_pos, 80);
	drain.stop_at = 1;
	KUNIT_EXPECT_EQ(test, do_drain(&drain, BPF_RB_NO_WAKEUP), 1);
	KUNIT_EXPECT_EQ(test, read_pos(test, ring.consumer_pos), 48);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, BPF_RB_NO_WAKEUP), 1);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, BPF_RB_NO_WAKEUP), 0);
	KUNIT_EXPECT_EQ(test, read_pos(test, ring.consumer_pos), 64);
}

static void user_ringbuf_drain_errors(struct kunit *test)
{
	struct bpf_map *map = make(test, &ringbuf_types[1], (struct shape){ 0, 0, PAGE_SIZE });
	struct user_ring ring = map_ring(test, map);
	struct drain drain = { .map = map };

	put_sample(test, &ring, 0, 5);
	write_pos(test, ring.producer_pos, 15);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, 0), -EINVAL);
	/* It is longer than what is there. */
	write_pos(test, ring.producer_pos, 8);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, 0), -EINVAL);
	/* It is longer than the ring. */
	put_sample(test, &ring, 0, PAGE_SIZE);
	write_pos(test, ring.producer_pos, 4 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, do_drain(&drain, 0), -E2BIG);
	KUNIT_EXPECT_EQ(test, drain.calls, 0);
	KUNIT_EXPECT_EQ(test, read_pos(test, ring.consumer_pos), 0);

	write_pos(test, ring.producer_pos, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, poll_events(map), 0);
}

static struct kunit_case ringbuf_cases[] = {
	KUNIT_CASE_PARAM(ringbuf_create, ringbuf_gen_params),
	KUNIT_CASE(ringbuf_create_overwrite),
	KUNIT_CASE_PARAM(ringbuf_no_elements, ringbuf_gen_params),
	KUNIT_CASE_PARAM(ringbuf_mem_usage, ringbuf_gen_params),
	KUNIT_CASE_PARAM(ringbuf_meta_equal, ringbuf_gen_params),
	KUNIT_CASE_PARAM(ringbuf_mmap, ringbuf_gen_params),
	KUNIT_CASE(ringbuf_records),
	KUNIT_CASE(ringbuf_full),
	KUNIT_CASE(ringbuf_overwrites),
	KUNIT_CASE(ringbuf_wakeup),
	KUNIT_CASE(user_ringbuf_drain),
	KUNIT_CASE(user_ringbuf_drain_errors),
	{}
};

static struct kunit_suite ringbuf_suite = {
	.name = "bpf_ringbuf_maps",
	.test_cases = ringbuf_cases,
};

kunit_test_suites(&queue_stack_suite, &ringbuf_suite);

/* Stack traces */

#ifdef CONFIG_PERF_EVENTS

static const struct type stack_trace_type = {
	BPF_MAP_TYPE_STACK_TRACE, &stack_trace_map_ops, "stack_trace"
};

static struct bpf_map *make_stack_trace(struct kunit *test, u32 max_entries)
{
	return make(test, &stack_trace_type,
		    (struct shape){ 4, 8 * sysctl_perf_event_max_stack, max_entries });
}

/* As a program at the place from where it is called. */
static noinline long get_stackid(struct bpf_map *map, u64 flags)
{
	struct pt_regs regs = {};
	long id;

	preempt_disable();
	perf_fetch_caller_regs(&regs);
	id = bpf_get_stackid_proto.func(ARG(&regs), ARG(map), flags, 0, 0);
	preempt_enable();
	return id;
}

/* Ids of one stack, twice, and of another one. */
static noinline void get_stackids(struct kunit *test, struct bpf_map *map, u64 flags, long *ids)
{
	int i, twice = 2;

	/* Not two calls, which would be two stacks. */
	OPTIMIZER_HIDE_VAR(twice);
	for (i = 0; i < twice; i++)
		ids[i] = get_stackid(map, flags);
	if (ids[0] == -EFAULT)
		kunit_skip(test, "no stacks on this architecture");
	ids[2] = get_stackid(map, flags);
}

static void stack_trace_create(struct kunit *test)
{
	struct creation creations[] = {
		{ { 4, 8, 1 }, 0 },
		{ { 4, 8 * 127, 100, BPF_F_NUMA_NODE | BPF_F_RDONLY }, 0 },
		{ { 4, sizeof(struct bpf_stack_build_id), 1, BPF_F_STACK_BUILD_ID }, 0 },
		{ { 8, 8, 1 }, -EINVAL },
		{ { 4, 0, 1 }, -EINVAL },
		{ { 4, 12, 1 }, -EINVAL },
		{ { 4, 8, 0 }, -EINVAL },
		{ { 4, 8, 1, BPF_F_STACK_BUILD_ID }, -EINVAL },
		{ { 4, 8, 1, BPF_F_NO_PREALLOC }, -EINVAL },
		{ { 4, 8 * sysctl_perf_event_max_stack + 8, 1 }, -EINVAL },
		{ { 4, 8, (1U << 31) + 1 }, -E2BIG },
	};

	check_creations(test, &stack_trace_type, creations, ARRAY_SIZE(creations));
}

static void stack_trace_ids(struct kunit *test)
{
	/* So many that the previous file has room for two stacks. */
	struct bpf_map *map = make_stack_trace(test, 4096);
	u32 size = map->value_size, last = size / 8 - 1, key;
	long ids[3];
	u64 *stack;

	get_stackids(test, map, 0, ids);
	KUNIT_ASSERT_GE(test, ids[0], 0);
	KUNIT_EXPECT_LT(test, ids[0], 4096);
	KUNIT_EXPECT_EQ(test, ids[0], ids[1]);
	KUNIT_EXPECT_GE(test, ids[2], 0);
	KUNIT_EXPECT_NE(test, ids[0], ids[2]);

	stack = kunit_kmalloc(test, 2 * size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, stack);
	memset(stack, 0xff, 2 * size);
	key = ids[0];
	KUNIT_EXPECT_EQ(test, bpf_stackmap_copy(map, &key, stack), 0);
	key = ids[2];
	KUNIT_EXPECT_EQ(test, bpf_stackmap_copy(map, &key, stack + last + 1), 0);
	KUNIT_EXPECT_NE(test, stack[0], 0);
	KUNIT_EXPECT_EQ(test, stack[last], 0);
	KUNIT_EXPECT_MEMNEQ(test, stack, stack + last + 1, size);
	key = ids[0] ^ 1;
	if (key != ids[2])
		KUNIT_EXPECT_EQ(test, bpf_stackmap_copy(map, &key, stack), -ENOENT);
	key = 4096;
	KUNIT_EXPECT_EQ(test, bpf_stackmap_copy(map, &key, stack), -ENOENT);
}

static void stack_trace_errors(struct kunit *test)
{
	struct bpf_map *map = make_stack_trace(test, 16);
	long ids[3];

	KUNIT_EXPECT_EQ(test, get_stackid(map, 1 << 20), -EINVAL);
	/* Nothing is left of the stack. */
	KUNIT_EXPECT_EQ(test, get_stackid(map, BPF_F_SKIP_FIELD_MASK), -EFAULT);
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, ids), -ENOENT);

	map = make_stack_trace(test, 1);
	get_stackids(test, map, 0, ids);
	KUNIT_EXPECT_EQ(test, ids[0], 0);
	KUNIT_EXPECT_EQ(test, ids[1], 0);
	KUNIT_EXPECT_EQ(test, ids[2], IS_ENABLED(CONFIG_BPF_STOCK_MAPS) ? -EEXIST : -ENOMEM);
	/* The previous file has -ENOMEM here. */
	if (!IS_ENABLED(CONFIG_BPF_STOCK_MAPS)) {
		get_stackids(test, map, BPF_F_REUSE_STACKID, ids);
		KUNIT_EXPECT_EQ(test, ids[2], 0);
		check_fdinfo(test, map, "entries:\t1\n");
		check_fdinfo(test, map, "lost:\t1\n");
	}
}

static void stack_trace_keys(struct kunit *test)
{
	struct bpf_map *map = make_stack_trace(test, 4096);
	u32 key, first = 0, second = 0;
	long ids[3];

	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, &key), -ENOENT);
	get_stackids(test, map, 0, ids);
	KUNIT_ASSERT_GE(test, ids[2], 0);
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, &first), 0);
	KUNIT_EXPECT_EQ(test, first, min(ids[0], ids[2]));
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, &first, &second), 0);
	KUNIT_EXPECT_EQ(test, second, max(ids[0], ids[2]));
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, &second, &key), -ENOENT);
	key = 4096;
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, &key, &key), 0);
	KUNIT_EXPECT_EQ(test, key, first);

	KUNIT_EXPECT_EQ(test, PTR_ERR(map->ops->map_lookup_elem(map, &first)), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, map->ops->map_update_elem(map, &first, &key, BPF_ANY), -EINVAL);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &first), 0);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &first), -ENOENT);
	key = 4096;
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &key), -E2BIG);
	/* An absent key starts over. */
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, &first, &key), 0);
	KUNIT_EXPECT_EQ(test, key, second);
}

static void stack_trace_drain(struct kunit *test)
{
	union bpf_attr attr, __user *uattr;
	u32 __user *keys, *cursor;
	struct bpf_map *map;
	char __user *values;
	u32 size, key, done;
	long ids[3];

	only_new(test);
	map = make_stack_trace(test, 16);
	size = map->value_size;
	uattr = user_memory(test, sizeof(attr) + 64 + 4 * size);
	keys = (void __user *)(uattr + 1);
	cursor = keys + 8;
	values = (char __user *)(keys + 16);
	get_stackids(test, map, 0, ids);
	key = ids[0];
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, &key, values, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, &key, NULL, 0), -EFAULT);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, &key, values, 0), 0);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_user(map, &key, values, 0), -ENOENT);

	memset(&attr, 0, sizeof(attr));
	attr.batch.out_batch = ARG(cursor);
	attr.batch.keys = ARG(keys);
	attr.batch.values = ARG(values);
	attr.batch.count = 4;
	/* The end is reported with what was found. */
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_batch(map, &attr, uattr), -ENOENT);
	KUNIT_EXPECT_EQ(test, get_user(done, &uattr->batch.count), 0);
	KUNIT_EXPECT_EQ(test, done, 1);
	KUNIT_EXPECT_EQ(test, get_user(key, keys), 0);
	KUNIT_EXPECT_EQ(test, key, ids[2]);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_batch(map, &attr, uattr), -ENOENT);
	KUNIT_EXPECT_EQ(test, get_user(done, &uattr->batch.count), 0);
	KUNIT_EXPECT_EQ(test, done, 1);
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, &key), -ENOENT);

	attr.batch.flags = 1;
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_batch(map, &attr, uattr), -EINVAL);
	KUNIT_EXPECT_EQ(test, map->ops->map_lookup_and_delete_batch(map, &attr, uattr), -EINVAL);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_batch(map, &attr, uattr), -EINVAL);
}

static void stack_trace_mem_usage(struct kunit *test)
{
	u64 values = 1024ULL * 8 * sysctl_perf_event_max_stack;

	check_mem_usage(test, make_stack_trace(test, 1024), values, values + values / 4);
}

static struct kunit_case stack_trace_cases[] = {
	KUNIT_CASE(stack_trace_create),
	KUNIT_CASE(stack_trace_ids),
	KUNIT_CASE(stack_trace_errors),
	KUNIT_CASE(stack_trace_keys),
	KUNIT_CASE(stack_trace_drain),
	KUNIT_CASE(stack_trace_mem_usage),
	{}
};

static struct kunit_suite stack_trace_suite = {
	.name = "bpf_stack_trace_map",
	.test_cases = stack_trace_cases,
};

kunit_test_suite(stack_trace_suite);

#endif /* CONFIG_PERF_EVENTS */

/* cpumaps */

#ifdef CONFIG_NET

static const struct type cpumap_type = { BPF_MAP_TYPE_CPUMAP, &cpu_map_ops, "cpumap" };

static struct bpf_map *make_cpumap(struct kunit *test)
{
	return make(test, &cpumap_type, (struct shape){ 4, 8, CONFIG_NR_CPUS });
}

static long set_entry(struct bpf_map *map, u32 cpu, u32 qsize, u64 flags)
{
	struct bpf_cpumap_val value = { .qsize = qsize };

	return map->ops->map_update_elem(map, &cpu, &value, flags);
}

static void cpumap_create(struct kunit *test)
{
	static const struct creation creations[] = {
		{ { 4, 4, 1 }, 0 },
		{ { 4, 8, CONFIG_NR_CPUS, BPF_F_NUMA_NODE }, 0 },
		{ { 8, 4, 1 }, -EINVAL },
		{ { 4, 6, 1 }, -EINVAL },
		{ { 4, 4, 0 }, -EINVAL },
		{ { 4, 4, 1, BPF_F_RDONLY }, -EINVAL },
		{ { 4, 4, CONFIG_NR_CPUS + 1 }, -E2BIG },
	};

	check_creations(test, &cpumap_type, creations, ARRAY_SIZE(creations));
}

/* As a lookup sees it; 0 if there is no entry. */
static u32 lookup_qsize(struct bpf_map *map, u32 cpu)
{
	struct bpf_cpumap_val *value;
	u32 qsize;

	rcu_read_lock();
	value = map->ops->map_lookup_elem(map, &cpu);
	qsize = value ? value->qsize : 0;
	rcu_read_unlock();
	return qsize;
}

static void cpumap_entries(struct kunit *test)
{
	struct bpf_map *map = make_cpumap(test);
	u32 cpu = cpumask_first(cpu_online_mask);

	KUNIT_EXPECT_EQ(test, lookup_qsize(map, cpu), 0);
	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 16, BPF_ANY), 0);
	KUNIT_EXPECT_EQ(test, lookup_qsize(map, cpu), 16);
	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 32, BPF_EXIST), 0);
	KUNIT_EXPECT_EQ(test, lookup_qsize(map, cpu), 32);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &cpu), 0);
	KUNIT_EXPECT_EQ(test, lookup_qsize(map, cpu), 0);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &cpu), 0);
	/* qsize 0 deletes, too. */
	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 16384, BPF_ANY), 0);
	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 0, BPF_ANY), 0);
	KUNIT_EXPECT_EQ(test, lookup_qsize(map, cpu), 0);
}

static void cpumap_update_errors(struct kunit *test)
{
	struct bpf_cpumap_val value = { .qsize = 16, .bpf_prog.fd = INT_MAX };
	struct bpf_map *map = make_cpumap(test);
	u32 cpu = cpumask_first(cpu_online_mask), beyond = CONFIG_NR_CPUS;

	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 16, BPF_EXIST + 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 16, BPF_NOEXIST), -EEXIST);
	KUNIT_EXPECT_EQ(test, set_entry(map, CONFIG_NR_CPUS, 16, BPF_ANY), -E2BIG);
	KUNIT_EXPECT_EQ(test, set_entry(map, cpu, 16385, BPF_ANY), -EOVERFLOW);
	if (nr_cpu_ids < CONFIG_NR_CPUS)
		KUNIT_EXPECT_EQ(test, set_entry(map, nr_cpu_ids, 16, BPF_ANY), -ENODEV);
	KUNIT_EXPECT_EQ(test, map->ops->map_update_elem(map, &cpu, &value, BPF_ANY),
			IS_ENABLED(CONFIG_BPF_STOCK_MAPS) ? -ENOMEM : -EBADF);
	KUNIT_EXPECT_EQ(test, map->ops->map_delete_elem(map, &beyond), -EINVAL);
	KUNIT_EXPECT_EQ(test, lookup_qsize(map, beyond), 0);
	KUNIT_EXPECT_EQ(test, lookup_qsize(map, cpu), 0);
}

/* Each index is a key, whether or not it has an entry. */
static void cpumap_keys(struct kunit *test)
{
	struct bpf_map *map = make(test, &cpumap_type, (struct shape){ 4, 4, 1 });
	u32 key = 7;

	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, NULL, &key), 0);
	KUNIT_EXPECT_EQ(test, key, 0);
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, &key, &key), -ENOENT);
	key = 1;
	KUNIT_EXPECT_EQ(test, map->ops->map_get_next_key(map, &key, &key), 0);
	KUNIT_EXPECT_EQ(test, key, 0);
}

static void cpumap_mem_usage(struct kunit *test)
{
	struct bpf_map *map = make_cpumap(test);
	u64 before = map->ops->map_mem_usage(map);

	KUNIT_EXPECT_GE(test, before, CONFIG_NR_CPUS * sizeof(void *));
	KUNIT_ASSERT_EQ(test, set_entry(map, cpumask_first(cpu_online_mask), 1024, BPF_ANY), 0);
	if (!IS_ENABLED(CONFIG_BPF_STOCK_MAPS))
		KUNIT_EXPECT_GE(test, map->ops->map_mem_usage(map),
				before + 1024 * sizeof(void *));
}

static long redirect(struct bpf_map *map, u64 index, u64 flags)
{
	return map->ops->map_redirect(map, index, flags);
}

/* The action, and what a redirect by it would use. */
static long try_redirect(struct bpf_map *map, u64 index, u64 flags, struct bpf_redirect_info *ri)
{
	struct bpf_net_context ctx, *old;
	long action;

	local_bh_disable();
	rcu_read_lock();
	old = bpf_net_ctx_set(&ctx);
	action = redirect(map, index, flags);
	*ri = *bpf_net_ctx_get_ri();
	bpf_net_ctx_clear(old);
	rcu_read_unlock();
	local_bh_enable();
	return action;
}

static void cpumap_redirect(struct kunit *test)
{
	struct bpf_map *map = make_cpumap(test);
	u32 cpu = cpumask_first(cpu_online_mask);
	struct bpf_redirect_info ri;

	KUNIT_ASSERT_EQ(test, set_entry(map, cpu, 16, BPF_ANY), 0);
	KUNIT_EXPECT_EQ(test, try_redirect(map, cpu, XDP_TX << 4, &ri), XDP_ABORTED);
	KUNIT_EXPECT_EQ(test, try_redirect(map, cpu, XDP_PASS, &ri), XDP_REDIRECT);
	KUNIT_EXPECT_NOT_NULL(test, ri.tgt_value);
	KUNIT_EXPECT_EQ(test, ri.tgt_index, cpu);
	KUNIT_EXPECT_EQ(test, ri.map_type, BPF_MAP_TYPE_CPUMAP);
	/* No such entry: what the flags say. */
	KUNIT_EXPECT_EQ(test, try_redirect(map, CONFIG_NR_CPUS, XDP_PASS, &ri), XDP_PASS);
	KUNIT_EXPECT_NULL(test, ri.tgt_value);
	KUNIT_EXPECT_EQ(test, try_redirect(map, CONFIG_NR_CPUS, 0, &ri), XDP_ABORTED);
}

#define NR_PACKETS	20
#define ETHERTYPE	ETH_P_802_EX1

/* A device that packets seem to come from, and what the stack gets of them. */
struct receiver {
	struct packet_type handler;
	struct completion done;
	int cpu;
	int nr;
	int misplaced;
};

static int receive(struct sk_buff *skb, struct net_device *dev, struct packet_type *handler,
		   struct net_device *orig_dev)
{
	struct receiver *r = container_of(handler, struct receiver, handler);

	/* In order, on the entry's CPU. */
	if (smp_processor_id() != r->cpu || !skb_headlen(skb) || skb->data[0] != r->nr)
		r->misplaced++;
	if (++r->nr == NR_PACKETS)
		complete(&r->done);
	kfree_skb(skb);
	return 0;
}

static const struct net_device_ops no_ops;

static void remove_receiver(void *data)
{
	struct receiver *r = data;

	dev_remove_pack(&r->handler);
	unregister_netdev(r->handler.dev);
	free_netdev(r->handler.dev);
}

/* The test stays on the entry's CPU: while it does not sleep, the kthread cannot run. */
static struct receiver *make_receiver(struct kunit *test)
{
	struct receiver *r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	struct net_device *dev = alloc_etherdev(0);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_ASSERT_NOT_NULL(test, dev);
	dev->netdev_ops = &no_ops;
	err = register_netdev(dev);
	if (err)
		free_netdev(dev);
	KUNIT_ASSERT_EQ(test, err, 0);
	init_completion(&r->done);
	r->cpu = cpumask_first(cpu_online_mask);
	r->handler.type = htons(ETHERTYPE);
	r->handler.dev = dev;
	r->handler.func = receive;
	dev_add_pack(&r->handler);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, remove_receiver, r), 0);
	KUNIT_ASSERT_EQ(test, set_cpus_allowed_ptr(current, cpumask_of(r->cpu)), 0);
	return r;
}

static void put_packet(struct receiver *r, void *data, u8 nr)
{
	struct ethhdr *eth = data;

	memset(data, 0, ETH_ZLEN);
	ether_addr_copy(eth->h_dest, r->handler.dev->dev_addr);
	eth->h_proto = htons(ETHERTYPE);
	*(u8 *)(eth + 1) = nr;
}

/* As a driver does, for a program that redirects. */
static int redirect_frame(struct bpf_map *map, struct receiver *r, struct page *page)
{
	struct xdp_rxq_info rxq = { .dev = r->handler.dev, .mem.type = MEM_TYPE_PAGE_ORDER0 };
	struct bpf_net_context ctx, *old;
	struct xdp_frame *frame;
	struct xdp_buff xdp;
	int err = -ENOENT;

	xdp_init_buff(&xdp, PAGE_SIZE, &rxq);
	xdp_prepare_buff(&xdp, page_address(page), XDP_PACKET_HEADROOM, ETH_ZLEN, false);
	frame = xdp_convert_buff_to_frame(&xdp);
	if (!frame)
		return -EOVERFLOW;

	local_bh_disable();
	rcu_read_lock();
	old = bpf_net_ctx_set(&ctx);
	if (redirect(map, r->cpu, 0) == XDP_REDIRECT) {
		err = cpu_map_enqueue(bpf_net_ctx_get_ri()->tgt_value, frame, r->handler.dev);
		xdp_do_flush();
	}
	bpf_net_ctx_clear(old);
	rcu_read_unlock();
	local_bh_enable();
	return err;
}

static void cpumap_frames(struct kunit *test)
{
	struct bpf_map *map = make_cpumap(test);
	struct receiver *r = make_receiver(test);
	struct page *page;
	int i;

	KUNIT_ASSERT_EQ(test, set_entry(map, r->cpu, NR_PACKETS, BPF_ANY), 0);
	for (i = 0; i < NR_PACKETS; i++) {
		page = alloc_page(GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, page);
		put_packet(r, page_address(page) + XDP_PACKET_HEADROOM, i);
		KUNIT_ASSERT_EQ(test, redirect_frame(map, r, page), 0);
	}
	wait_for_completion(&r->done);
	KUNIT_EXPECT_EQ(test, r->misplaced, 0);
}

/* As generic XDP does. */
static int redirect_skb(struct bpf_map *map, struct receiver *r, struct sk_buff *skb)
{
	struct bpf_net_context ctx, *old;
	int err = -ENOENT;

	local_bh_disable();
	rcu_read_lock();
	old = bpf_net_ctx_set(&ctx);
	if (redirect(map, r->cpu, 0) == XDP_REDIRECT)
		err = cpu_map_generic_redirect(bpf_net_ctx_get_ri()->tgt_value, skb);
	bpf_net_ctx_clear(old);
	rcu_read_unlock();
	local_bh_enable();
	return err;
}

static struct sk_buff *make_skb(struct kunit *test, struct receiver *r, u8 nr)
{
	struct sk_buff *skb = netdev_alloc_skb(r->handler.dev, ETH_ZLEN);

	KUNIT_ASSERT_NOT_NULL(test, skb);
	put_packet(r, skb_put(skb, ETH_ZLEN), nr);
	skb->protocol = eth_type_trans(skb, r->handler.dev);
	skb_reset_network_header(skb);
	skb_reset_mac_len(skb);
	/* The program sees it from its MAC header on. */
	__skb_push(skb, ETH_HLEN);
	return skb;
}

/* The ring of one entry is filled; then the entry is replaced, and what it had still arrives. */
static void cpumap_skbs(struct kunit *test)
{
	struct bpf_map *map = make_cpumap(test);
	struct receiver *r = make_receiver(test);
	struct sk_buff *skbs[NR_PACKETS + 1];
	int errs[NR_PACKETS + 1] = {}, i;

	KUNIT_ASSERT_EQ(test, set_entry(map, r->cpu, NR_PACKETS, BPF_ANY), 0);
	for (i = 0; i <= NR_PACKETS; i++)
		skbs[i] = make_skb(test, r, i);
	/* With softirqs off all the time the kthread gets no turn, but on PREEMPT_RT. */
	local_bh_disable();
	for (i = 0; i <= NR_PACKETS; i++) {
		if (i < NR_PACKETS || !IS_ENABLED(CONFIG_PREEMPT_RT))
			errs[i] = redirect_skb(map, r, skbs[i]);
		else
			errs[i] = -ENOSPC;
	}
	local_bh_enable();
	kfree_skb(skbs[NR_PACKETS]);
	for (i = 0; i < NR_PACKETS; i++)
		KUNIT_EXPECT_EQ(test, errs[i], 0);
	KUNIT_EXPECT_EQ(test, errs[NR_PACKETS], -ENOSPC);

	KUNIT_EXPECT_EQ(test, set_entry(map, r->cpu, 1, BPF_ANY), 0);
	wait_for_completion(&r->done);
	KUNIT_EXPECT_EQ(test, r->misplaced, 0);
	if (!IS_ENABLED(CONFIG_BPF_STOCK_MAPS) && !IS_ENABLED(CONFIG_PREEMPT_RT))
		check_fdinfo(test, map, " enqueued 20 dropped 1 ");
}

static struct kunit_case cpumap_cases[] = {
	KUNIT_CASE(cpumap_create),
	KUNIT_CASE(cpumap_entries),
	KUNIT_CASE(cpumap_update_errors),
	KUNIT_CASE(cpumap_keys),
	KUNIT_CASE(cpumap_mem_usage),
	KUNIT_CASE(cpumap_redirect),
	KUNIT_CASE(cpumap_frames),
	KUNIT_CASE(cpumap_skbs),
	{}
};

static struct kunit_suite cpumap_suite = {
	.name = "bpf_cpumap",
	.test_cases = cpumap_cases,
};

kunit_test_suite(cpumap_suite);

#endif /* CONFIG_NET */
