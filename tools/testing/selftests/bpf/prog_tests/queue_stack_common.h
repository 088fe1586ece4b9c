/* SPDX-License-Identifier: GPL-2.0 */
/* Threads that load queues and stacks, and the check that nothing was lost or doubled. */
#ifndef __QUEUE_STACK_COMMON_H
#define __QUEUE_STACK_COMMON_H

#include "bpf_maps_common.h"
#include "progs/queue_stack_stress.h"
#include "queue_stack_stress.skel.h"

/* Operations of a thread before it looks whether to end; values that show that it worked. */
#define MAX_BATCH 128
#define WORKED 10

enum how { BY_PROGRAM, BY_SYSCALL, BY_BOTH };

/*
 * A thread on one CPU that operates on one of the maps: for a time, and on until it got
 * something done and so many nested operations were.
 */
struct worker {
	struct queue_stack_stress *skel;
	__u32 cpu;
	__u32 map;
	enum mix mix;
	enum how how;
	__u64 msecs;
	__u64 nested;
	int batch;
	bool stop;		/* before that time */

	pthread_t thread;
	int err;
};

static const char *type_name(enum bpf_map_type type)
{
	return type == BPF_MAP_TYPE_QUEUE ? "queue" : "stack";
}

static struct bpf_map *stress_map(struct queue_stack_stress *skel, __u32 map)
{
	return map ? skel->maps.map_b : skel->maps.map_a;
}

static struct queue_stack_stress *
stress_open(enum bpf_map_type type_a, enum bpf_map_type type_b, __u32 words, __u32 max_entries)
{
	struct queue_stack_stress *skel = queue_stack_stress__open();
	int map;

	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return NULL;
	bpf_map__set_type(skel->maps.map_a, type_a);
	bpf_map__set_type(skel->maps.map_b, type_b);
	for (map = 0; map < NR_MAPS; map++) {
		bpf_map__set_value_size(stress_map(skel, map), words * sizeof(__u64));
		bpf_map__set_max_entries(stress_map(skel, map), max_entries);
	}
	skel->bss->words = words;
	skel->bss->pid = getpid();
	return skel;
}

static bool stress_load(struct queue_stack_stress *skel)
{
	return ASSERT_OK(queue_stack_stress__load(skel), "load skeleton");
}

/* One operation by system call, accounted for as the programs do it. */
static long syscall_op(struct worker *worker, __u64 *value, enum op op)
{
	struct queue_stack_stress *skel = worker->skel;
	struct account *account = &skel->bss->accounts[worker->map];
	int fd = bpf_map__fd(stress_map(skel, worker->map));
	struct actor *me = &account->actors[worker->cpu];
	__u32 *in_op = &skel->bss->in_op[worker->cpu];
	__u32 words = skel->bss->words;
	long err;

	if (op == OP_PUSH)
		make_value(value, words, worker->cpu, me->pushed);
	__atomic_store_n(in_op, worker->map + 1, __ATOMIC_SEQ_CST);
	if (op == OP_PUSH)
		err = bpf_map_update_elem(fd, NULL, value, skel->bss->push_flags);
	else if (op == OP_POP)
		err = bpf_map_lookup_and_delete_elem(fd, NULL, value);
	else
		err = bpf_map_lookup_elem(fd, NULL, value);
	__atomic_store_n(in_op, 0, __ATOMIC_SEQ_CST);

	if (op == OP_PUSH)
		count_push(me, err);
	else if (err)
		count_error(me, err);
	else
		count_value(account, me, value, words, op);
	return err;
}

static long syscall_insist(struct worker *worker, __u64 *value, enum op op)
{
	long err;

	do {
		err = syscall_op(worker, value, op);
	} while (err == -EBUSY);
	return err;
}

static int work_by_syscall(struct worker *worker, __u64 *value, unsigned int *seed, int ops)
{
	while (ops--) {
		if (worker->mix == MIX_PUSH_POP) {
			if (syscall_insist(worker, value, OP_PUSH) ||
			    syscall_insist(worker, value, OP_PEEK) ||
			    syscall_insist(worker, value, OP_POP))
				return 1;
		} else {
			syscall_op(worker, value, pick_op(worker->mix, rand_r(seed)));
		}
	}
	return 0;
}

static int work_by_program(struct worker *worker, int ops)
{
	struct drive args = {
		.cpu = worker->cpu, .map = worker->map, .mix = worker->mix, .ops = ops,
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));

	return bpf_prog_test_run_opts(bpf_program__fd(worker->skel->progs.drive), &opts) ?:
	       opts.retval;
}

/* It got values in and out. */
static bool has_worked(const struct actor *actor, enum mix mix)
{
	return (mix == MIX_POP || actor->pushed > WORKED) &&
	       (mix == MIX_PUSH || actor->popped > WORKED);
}

static bool keep_working(const struct worker *worker, __u64 start)
{
	struct queue_stack_stress *skel = worker->skel;
	const struct actor *me = &skel->bss->accounts[worker->map].actors[worker->cpu];
	__u64 msecs = (get_time_ns() - start) / 1000000;

	if (worker->err || READ_ONCE(worker->stop) || msecs > 60000 ||
	    me->pushed + MAX_BATCH >= MAX_VALUES)
		return false;
	return msecs < worker->msecs || me->pushed + me->popped < 4 * WORKED ||
	       !has_worked(me, worker->mix) ||
	       READ_ONCE(skel->bss->nested_ops) < worker->nested;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	__u64 *value = calloc(worker->skel->bss->words, sizeof(*value));
	int ops = worker->batch ?: MAX_BATCH / 2;
	unsigned int seed = worker->cpu + 1;
	__u64 start = get_time_ns();

	pin_to(worker->cpu);
	while (keep_working(worker, start)) {
		if (worker->how != BY_SYSCALL)
			worker->err = work_by_program(worker, ops);
		if (worker->how != BY_PROGRAM && !worker->err)
			worker->err = work_by_syscall(worker, value, &seed, ops);
	}
	free(value);
	return NULL;
}

static bool start_worker(struct worker *worker)
{
	return ASSERT_OK(pthread_create(&worker->thread, NULL, work, worker), "start thread");
}

static void end_worker(struct worker *worker)
{
	pthread_join(worker->thread, NULL);
	ASSERT_OK(worker->err, "operations of the thread");
}

static void run_two(struct worker *first, struct worker *second)
{
	if (!start_worker(first))
		return;
	if (start_worker(second))
		end_worker(second);
	end_worker(first);
}

static void run_one(struct worker *worker)
{
	if (start_worker(worker))
		end_worker(worker);
}

/* Values of @producer that came out. */
static __u64 nr_seen(const struct account *account, __u32 producer)
{
	__u64 sum = 0;
	int i;

	for (i = 0; i < MAX_VALUES / 64; i++)
		sum += __builtin_popcountll(account->seen[producer][i]);
	return sum;
}

static bool seen_beyond(const struct account *account, __u32 producer, __u64 pushed)
{
	__u64 i;

	for (i = pushed; i < MAX_VALUES; i++)
		if (account->seen[producer][i / 64] & (1ULL << (i % 64)))
			return true;
	return false;
}

/*
 * Take out what is left: how many. Values of one producer come out in the order of their push,
 * or from a stack in the opposite one.
 */
static int drain(struct queue_stack_stress *skel, __u32 map)
{
	struct account *account = &skel->bss->accounts[map];
	struct actor *me = &account->actors[ACTOR_DRAIN];
	bool stack = bpf_map__type(stress_map(skel, map)) == BPF_MAP_TYPE_STACK;
	int i, err, left = 0, fd = bpf_map__fd(stress_map(skel, map));
	__u64 *value, before[NR_ACTORS], rising = 0;
	__u32 words = skel->bss->words;

	value = calloc(words, sizeof(*value));
	memset(me->last, 0, sizeof(me->last));
	while (!(err = bpf_map_lookup_and_delete_elem(fd, NULL, value))) {
		left++;
		memcpy(before, me->last, sizeof(before));
		count_value(account, me, value, words, OP_POP);
		for (i = 0; i < NR_ACTORS; i++)
			rising += before[i] && me->last[i] > before[i];
	}
	ASSERT_EQ(err, -ENOENT, "pop the empty map");
	ASSERT_EQ(stack ? rising : me->overtaken, 0, "values left in a wrong order");
	free(value);
	return left;
}

/* Every value that was pushed comes out once, whole, and in the order it should. */
static void assert_settled(struct queue_stack_stress *skel, __u32 map)
{
	struct account *account = &skel->bss->accounts[map];
	bool queue = bpf_map__type(stress_map(skel, map)) == BPF_MAP_TYPE_QUEUE;
	bool lossy = skel->bss->push_flags == BPF_EXIST;
	__u64 pushed = 0, popped = 0;
	struct actor *actor;
	int i, left;

	for (i = 0; i < NR_ACTORS; i++) {
		actor = &account->actors[i];
		pushed += actor->pushed;
		popped += actor->popped;
		if (actor->pushed || actor->popped || actor->busy) {
			printf("map %u actor %d: pushed %llu popped %llu peeked %llu ", map, i,
			       actor->pushed, actor->popped, actor->peeked);
			printf("full %llu empty %llu busy %llu\n", actor->full, actor->empty,
			       actor->busy);
		}
		ASSERT_EQ(actor->failed, 0, "unexpected errors");
		ASSERT_EQ(actor->uncleared, 0, "buffers not zeroed on an error");
		if (queue)
			ASSERT_EQ(actor->overtaken, 0, "values in a wrong order");
	}

	left = drain(skel, map);
	if (lossy)
		ASSERT_LE(left, bpf_map__max_entries(stress_map(skel, map)), "values left");
	else
		ASSERT_EQ(left, pushed - popped, "values left");

	for (i = 0; i < NR_ACTORS; i++) {
		actor = &account->actors[i];
		ASSERT_EQ(actor->damaged, 0, "damaged values");
		ASSERT_EQ(actor->again, 0, "values that came out twice");
		if (!lossy)
			ASSERT_EQ(nr_seen(account, i), actor->pushed, "values that came out");
		ASSERT_FALSE(seen_beyond(account, i, actor->pushed), "values never pushed");
	}
}

/* The load of the thread on that CPU was one. */
static void assert_worked(struct queue_stack_stress *skel, __u32 map, __u32 cpu, enum mix mix)
{
	ASSERT_TRUE(has_worked(&skel->bss->accounts[map].actors[cpu], mix), "the thread worked");
}

#endif
