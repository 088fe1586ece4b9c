// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of kernel/bpf/queue_stack_maps.c as part of a program; see shim.h.
 *
 *   queue_test [-t seconds in all] [-s seed] [-f part of a test's name] [-x] [-e]
 *
 * -x interrupts after all instructions in all cases, not only as many as there is time for. -e ends
 * with the first test that fails.
 *
 * One thread against a model; one thread that is interrupted after each single instruction, and
 * threads that start together, whose histories must be linearizable; threads that wait for each
 * other by poll; and threads that run for long, interrupted at random by timers, where each value
 * must come out once and in order.
 */
#include "shim.h"
#include MAP_C
#include "check.h"
#include "linear.h"
#include "step.h"
#include <sys/syscall.h>

/* What only the new file has is skipped in the old one. */
#ifdef STOCK
#define NEW	false
#else
#define NEW	true
#endif

#define MAX_VALUE	1024

static struct bpf_map *map_new(bool stack, u32 capacity, u32 value_size)
{
	union bpf_attr attr = {
		.map_type = stack ? BPF_MAP_TYPE_STACK : BPF_MAP_TYPE_QUEUE,
		.max_entries = capacity,
		.value_size = value_size,
	};
	const struct bpf_map_ops *ops = stack ? &stack_map_ops : &queue_map_ops;
	int err = ops->map_alloc_check(&attr);
	struct bpf_map *map = err ? ERR_PTR(err) : ops->map_alloc(&attr);

	if (check(!IS_ERR(map), "%ld", PTR_ERR(map)))
		map->ops = ops;
	else
		shim_die("no map");
	return map;
}

static bool all_bytes(const u8 *value, u32 size, u8 byte)
{
	while (size--) {
		if (*value++ != byte)
			return false;
	}
	return true;
}

#ifdef HAVE_STEP
static bool op_stepped;
#define OP(call)	(op_stepped ? STEPPED(call) : (call))
#else
#define OP(call)	(call)
#endif

/* One operation; a value's bytes are all the same. */
static void op_run(struct bpf_map *map, struct op *op)
{
	u8 value[MAX_VALUE] __aligned(8);
	u32 size = map->value_size;

	if (op->kind <= PUSH_EXIST) {
		memset(value, op->value, size);
		op->err = OP(map->ops->map_push_elem(map, value,
						     op->kind == PUSH ? BPF_ANY : BPF_EXIST));
		return;
	}
	memset(value, 0xa5, size);
	op->err = op->kind == POP ? OP(map->ops->map_pop_elem(map, value)) :
				    OP(map->ops->map_peek_elem(map, value));
	op->value = value[0];
	check(all_bytes(value, size, value[0]), "torn: %x %x", value[0], value[size - 1]);
	check(!op->err == !!op->value, "%ld, value %x", op->err, op->value);
}

static struct op do_op(struct bpf_map *map, enum op_kind kind, u8 value)
{
	struct op op = { .kind = kind, .value = value };

	op_run(map, &op);
	return op;
}

/* Empty, and after some rounds, so that slots and counters are any. */
static void map_empty(struct bpf_map *map, u32 rounds)
{
	while (!do_op(map, POP, 0).err && !failures)
		;
	while (rounds-- && !failures) {
		do_op(map, PUSH, 1);
		do_op(map, POP, 0);
	}
}

/* The contract */

static int alloc_check(u32 key_size, u32 value_size, u32 max_entries, u32 flags)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_QUEUE, .key_size = key_size, .value_size = value_size,
		.max_entries = max_entries, .map_flags = flags,
	};

	return queue_map_ops.map_alloc_check(&attr);
}

static void test_create(void)
{
	if (!begin("create: what is refused"))
		return;
	check(alloc_check(0, 8, 1, 0) == 0, "the least");
	check(alloc_check(0, 8, 1, BPF_F_NUMA_NODE | BPF_F_RDONLY_PROG) == 0, "flags");
	check(alloc_check(4, 8, 1, 0) == -EINVAL, "key");
	check(alloc_check(0, 0, 1, 0) == -EINVAL, "no value");
	check(alloc_check(0, 8, 0, 0) == -EINVAL, "no entries");
	check(alloc_check(0, 8, 1, BPF_F_NO_PREALLOC) == -EINVAL, "flag");
	check(alloc_check(0, 8, 1, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) == -EINVAL, "both");
	check(alloc_check(0, KMALLOC_MAX_SIZE + 1, 1, 0) == -E2BIG, "large value");
	check(!NEW || alloc_check(0, 4, U32_MAX / 4, 0) == -E2BIG, "4 GiB");
	check(!NEW || alloc_check(0, 1, U32_MAX, 0) == -E2BIG, "U32_MAX entries");
	end();
}

static void test_flags(void)
{
	struct bpf_map *map;
	char value[8] = {};

	if (!begin("what needs a key, and flags of push"))
		return;
	map = map_new(false, 1, 8);
	check(map->ops->map_push_elem(map, value, BPF_NOEXIST) == -EINVAL, "BPF_NOEXIST");
	check(map->ops->map_push_elem(map, value, BPF_EXIST | 4) == -EINVAL, "unknown");
	check(do_op(map, PEEK, 0).err == -ENOENT, "nothing pushed");
	check(!map->ops->map_lookup_elem(map, NULL), "lookup");
	check(map->ops->map_update_elem(map, NULL, value, 0) == -EINVAL, "update");
	check(map->ops->map_delete_elem(map, NULL) == -EINVAL, "delete");
	check(map->ops->map_get_next_key(map, NULL, value) == -EINVAL, "next key");
	map->ops->map_free(map);
	end();
}

static void test_free_with_wakeup(void)
{
	poll_table table = {};
	struct bpf_map *map;

	if (!NEW || !begin("free while a wakeup is under way"))
		return;
	map = map_new(false, 1, 8);
	map->ops->map_poll(map, NULL, &table);
	check(!do_op(map, PUSH, 1).err, "push");
	check(shim_irq_works == 1, "%d wakeups under way", shim_irq_works);
	map->ops->map_free(map);
	check(!shim_irq_works, "%d wakeups after the end", shim_irq_works);
	end();
}

static void model_run(bool stack, u32 capacity, u32 size, int steps)
{
	struct bpf_map *map = map_new(stack, capacity, size);
	u32 first = 0, nr = 0, filling = 8;
	u8 *model = calloc(capacity, 1), want, next = 0;
	u64 rng = mix(seed + capacity * size);
	struct op op;

	while (steps-- && !failures) {
		/* Full and empty are reached with any capacity. */
		if (!rnd(&rng, 2 * capacity))
			filling = 2 + 10 * rnd(&rng, 2);
		if (rnd(&rng, 14) < filling) {
			next = next % 255 + 1;
			op = do_op(map, rnd(&rng, 4) ? PUSH : PUSH_EXIST, next);
			if (nr == capacity && op.kind == PUSH) {
				check(op.err == -E2BIG, "%ld, %u of %u", op.err, nr, capacity);
				continue;
			}
			check(!op.err, "%ld, %u of %u", op.err, nr, capacity);
			if (nr == capacity)
				first++;
			else
				nr++;
			model[(first + nr - 1) % capacity] = next;
			continue;
		}
		op = do_op(map, rnd(&rng, 4) ? POP : PEEK, 0);
		if (!nr) {
			check(op.err == -ENOENT, "%ld, empty", op.err);
			continue;
		}
		want = model[(stack ? first + nr - 1 : first) % capacity];
		check(!op.err && op.value == want, "%ld, %u, not %u", op.err, op.value, want);
		if (op.kind == POP) {
			first += !stack;
			nr--;
		}
	}
	if (failures)
		note("%s of %u times %u bytes", stack ? "stack" : "queue", capacity, size);
	free(model);
	map->ops->map_free(map);
}

static void test_model(const char *name, bool stack)
{
	static const u32 capacities[] = { 1, 2, 3, 4, 7, 64, 100 }, sizes[] = { 1, 4, 8, 12, 1000 };
	int i, j, steps = 40000 * time_scale;

	if (!begin(name))
		return;
	for (i = 0; i < ARRAY_SIZE(capacities); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes) && !failures; j++)
			model_run(stack, capacities[i], sizes[j], max(steps, 2000));
	}
	end();
}

/* Histories */

static u64 now;			/* orders starts and ends */

static u64 tick(void)
{
	return __atomic_add_fetch(&now, 1, __ATOMIC_SEQ_CST);
}

static void op_timed(struct bpf_map *map, struct op *op)
{
	op->start = tick();
	op_run(map, op);
	op->end = tick();
}

/* Values 1 to @nr, as op_apply() has them. */
static u64 map_fill(struct bpf_map *map, u32 nr)
{
	u64 contents = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		check(!do_op(map, PUSH, i + 1).err, "no room for %u of %u", i + 1, nr);
		contents |= (u64)(i + 1) << (4 * i);
	}
	return contents;
}

/* What is left is part of the history. Frees nothing. */
static void history_check(struct history *h, struct bpf_map *map)
{
	struct op *op;

	do {
		op = &h->op[h->nr++];
		*op = (struct op) { .kind = POP };
		op_timed(map, op);
	} while (!op->err && h->nr < MAX_OPS);
	if (!check(linear(h), "not linearizable"))
		history_note(h);
}

#ifdef HAVE_STEP

static struct step {
	struct history h;
	struct bpf_map *map;
	struct op *outer;
	u32 values;
	u64 rng;
	bool other_cpu, second;
	unsigned long refused;
} step;

static struct op *step_op(void)
{
	struct op *op = &step.h.op[step.h.nr++];
	enum op_kind kind = rnd(&step.rng, OP_KINDS);

	if (step.values == MAX_VALUES && kind <= PUSH_EXIST)
		kind = POP;
	*op = (struct op) { .kind = kind };
	if (kind <= PUSH_EXIST)
		op->value = ++step.values;
	return op;
}

/* Refused, but there was no need to. */
static void step_refused(const struct op *op, const struct op *interrupted)
{
	if (op->err != -EBUSY)
		return;
	step.refused++;
	if (!NEW || step.h.stack || step.second)
		return;
	/* One that may need both ends. */
	if (op->kind == PUSH_EXIST || interrupted->kind == PUSH_EXIST)
		return;
	check((op->kind == PUSH) == (interrupted->kind == PUSH), "refused for the other end");
}

/* Another CPU than those before. */
static void step_second(void)
{
	step.second = true;
	op_stepped = false;
	shim_cpu = 2;
	shim_nmi_depth = 0;
	shim_irqs_off = 0;
	op_timed(step.map, step_op());
	op_timed(step.map, step_op());
}

/* Another CPU, or an NMI on this one. */
static void step_first(void)
{
	int i, nr = 1 + rnd(&step.rng, 3);
	struct op *op;

	if (step.other_cpu) {
		shim_cpu = 1;
		shim_irqs_off = 0;
	} else {
		shim_nmi_depth = 1;
	}
	for (i = 0; i < nr; i++) {
		op = step_op();
		op_timed(step.map, op);
		step_refused(op, step.outer);
	}
}

/* False if there are not so many instructions. */
static bool step_case(bool stack, u32 capacity, u32 fill, enum op_kind kind, unsigned long at)
{
	u32 size = rnd(&step.rng, 2) ? 8 : 48;

	step.h = (struct history) { .stack = stack, .capacity = capacity };
	step.map = map_new(stack, capacity, size);
	map_empty(step.map, rnd(&step.rng, 2 * capacity));
	step.h.before = map_fill(step.map, fill);
	step.values = fill;
	step.second = false;
	now = 0;

	step.outer = &step.h.op[step.h.nr++];
	*step.outer = (struct op) { .kind = kind };
	if (kind <= PUSH_EXIST)
		step.outer->value = ++step.values;
	trap_set(0, at, step_first);
	/* With a lock that does not time out, a CPU would wait for what it interrupted. */
	trap_set(1, rnd(&step.rng, 150), NEW && rnd(&step.rng, 2) ? step_second : NULL);
	op_stepped = true;
	op_timed(step.map, step.outer);
	op_stepped = false;
	/* Whoever got in between is through. */
	check(step.outer->err != -EBUSY, "refused");
	history_check(&step.h, step.map);
	if (failures)
		note("interrupted after %lu", at);
	step.map->ops->map_free(step.map);
	return traps[0].fired;
}

#define STEP_CAPACITIES	3

static void test_step(const char *name, bool stack, bool other_cpu, double seconds)
{
	unsigned long runs = 0, at, length[OP_KINDS][STEP_CAPACITIES + 1] = {};
	double until = clock() + seconds * CLOCKS_PER_SEC;
	u32 capacity, fill, kind, round;

	if (!begin(name))
		return;
	trap_signals();
	step.other_cpu = other_cpu;
	step.rng = mix(seed);
	step.refused = 0;
	/* A second passes whenever somebody looks: no wait is long. */
	shim_clock_jumps = true;
	for (capacity = 1; exhaustive && capacity <= STEP_CAPACITIES; capacity++) {
		for (fill = 0; fill <= capacity; fill++) {
			for (kind = 0; kind < OP_KINDS; kind++) {
				at = 0;
				do {
					for (round = 0; round < 4 && !failures; round++, runs++)
						step_case(stack, capacity, fill, kind, at);
					at++;
				} while (traps[0].fired && !failures);
			}
		}
	}
	while (!exhaustive && clock() < until && !failures) {
		capacity = 1 + rnd(&step.rng, STEP_CAPACITIES);
		fill = rnd(&step.rng, capacity + 1);
		kind = rnd(&step.rng, OP_KINDS);
		if (!length[kind][capacity])
			length[kind][capacity] = 150;
		at = rnd(&step.rng, length[kind][capacity]);
		if (!step_case(stack, capacity, fill, kind, at))
			length[kind][capacity] = max(at + 1, 20UL);
		else if (at + 20 > length[kind][capacity])
			length[kind][capacity] *= 2;
		runs++;
	}
	shim_clock_jumps = false;
	note("%lu runs, %lu operations refused", runs, step.refused);
	end();
}

#endif

/* Threads that start together, again and again. */

#define MAX_PARTIES	3
#define PARTY_OPS	4

static struct party {
	pthread_t thread;
	u32 nr;
	u8 pause[PARTY_OPS];
	struct op op[PARTY_OPS];
} __aligned(128) parties[MAX_PARTIES];

static struct {
	struct bpf_map *map;
	u32 round, left, parties;
	bool stop;
} meet __aligned(128);

static void wait_a_bit(u32 *spins)
{
	/* There may be more threads than CPUs. */
	if (++*spins % 128 == 0)
		sched_yield();
	else
		cpu_relax();
}

static void party_round(struct party *party)
{
	u32 i, pause;

	for (i = 0; i < party->nr; i++) {
		for (pause = party->pause[i]; pause; pause--)
			barrier();
		op_timed(meet.map, &party->op[i]);
	}
	__atomic_sub_fetch(&meet.left, 1, __ATOMIC_RELEASE);
}

static void *party_thread(void *arg)
{
	struct party *party = arg;
	u32 seen = 0, spins = 0;

	shim_cpu = party - parties;
	for (;;) {
		while (smp_load_acquire(&meet.round) == seen)
			wait_a_bit(&spins);
		seen++;
		if (meet.stop)
			return NULL;
		party_round(party);
	}
}

static void meet_once(bool stack, u64 *rng)
{
	u32 capacity = meet.map->max_entries, fill = rnd(rng, capacity + 1), values = fill, i, j;
	struct history h = { .stack = stack, .capacity = capacity };
	u32 spins = 0, most = min(12 / meet.parties, (u32)PARTY_OPS);

	map_empty(meet.map, rnd(rng, capacity + 1));
	h.before = map_fill(meet.map, fill);
	now = 0;
	for (i = 0; i < meet.parties; i++) {
		struct party *party = &parties[i];

		party->nr = 1 + rnd(rng, most);
		for (j = 0; j < party->nr; j++) {
			enum op_kind kind = rnd(rng, OP_KINDS);

			party->op[j] = (struct op) { .kind = kind };
			party->pause[j] = rnd(rng, 4) ? rnd(rng, 8) : rnd(rng, 200);
			if (kind <= PUSH_EXIST)
				party->op[j].value = ++values;
		}
	}
	meet.left = meet.parties;
	smp_store_release(&meet.round, meet.round + 1);
	party_round(&parties[0]);
	while (smp_load_acquire(&meet.left))
		wait_a_bit(&spins);
	for (i = 0; i < meet.parties; i++) {
		for (j = 0; j < parties[i].nr; j++)
			h.op[h.nr++] = parties[i].op[j];
	}
	history_check(&h, meet.map);
}

static void test_histories(const char *name, bool stack, u32 nr, double seconds)
{
	static const u32 sizes[] = { 8, 64 };
	struct bpf_map *maps[4][ARRAY_SIZE(sizes)];
	unsigned long rounds = 0;
	u64 rng = seed, until;
	int i, j;

	if (!begin(name))
		return;
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++)
			maps[i][j] = map_new(stack, i + 1, sizes[j]);
	}
	memset(&meet, 0, sizeof(meet));
	meet.parties = nr;
	shim_cpu = 0;
	for (i = 1; i < nr; i++)
		pthread_create(&parties[i].thread, NULL, party_thread, &parties[i]);
	until = shim_clock() + seconds * NSEC_PER_SEC;
	while (shim_clock() < until && !READ_ONCE(failures)) {
		for (i = 0; i < 64 && !READ_ONCE(failures); i++, rounds++) {
			meet.map = maps[rnd(&rng, ARRAY_SIZE(maps))][rnd(&rng, 2)];
			meet_once(stack, &rng);
		}
	}
	meet.stop = true;
	smp_store_release(&meet.round, meet.round + 1);
	for (i = 1; i < nr; i++)
		pthread_join(parties[i].thread, NULL);
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++)
			maps[i][j]->ops->map_free(maps[i][j]);
	}
	note("%lu histories", rounds);
	end();
}

#include "queue_batch.h"
#include "queue_stress.h"

int main(int argc, char **argv)
{
	double each = options(argc, argv) / 19;

	test_linear();
	test_create();
	test_flags();
	test_free_with_wakeup();
	test_model("model, queue", false);
	test_model("model, stack", true);
	if (NEW) {
		test_batches("batches, queue", false);
		test_batches("batches, stack", true);
		test_poll("poll, queue", false, each / 2);
		test_poll("poll, stack", true, each / 2);
	}
#ifdef HAVE_STEP
	test_step("queue, NMI after each instruction", false, false, each);
	test_step("stack, NMI after each instruction", true, false, each);
	if (NEW) {
		test_step("queue, other CPU after each instruction", false, true, each);
		test_step("stack, other CPU after each instruction", true, true, each);
	}
#endif
	test_histories("queue, histories of 2 threads", false, 2, 2 * each);
	test_histories("queue, histories of 3 threads", false, 3, each);
	test_histories("stack, histories of 2 threads", true, 2, each);

	STRESS(each, "queue, 2 threads", .capacity = 16, .size = 64, .threads = 2);
	STRESS(each, "queue, 4 threads, 1 entry", .capacity = 1, .size = 24, .threads = 4);
	STRESS(each, "queue, 1 pushes, 1 pops", .capacity = 7, .size = 64, .threads = 2,
	       .pipe = true);
	STRESS(each, "queue, 4 threads, 1000 entries", .capacity = 1000, .size = 200, .threads = 4);
	STRESS(each, "queue, BPF_EXIST, 2 threads", .capacity = 3, .size = 64, .threads = 2,
	       .flags = BPF_EXIST);
	STRESS(each, "queue, BPF_EXIST, 1 pushes, 1 pops", .capacity = 1, .size = 64, .threads = 2,
	       .flags = BPF_EXIST, .pipe = true);
	if (NEW) {
		STRESS(each, "queue, batches, 2 threads", .capacity = 16, .size = 64, .threads = 2,
		       .batches = true);
		STRESS(each, "stack, batches, 2 threads", .stack = true, .capacity = 16, .size = 64,
		       .threads = 2, .batches = true);
	}
	STRESS(each, "stack, 2 threads", .stack = true, .capacity = 16, .size = 64, .threads = 2);
	STRESS(each, "stack, BPF_EXIST, 4 threads", .stack = true, .capacity = 3, .size = 24,
	       .threads = 4, .flags = BPF_EXIST);

	if (begin("maps give back their memory")) {
		check(!shim_areas_live, "%ld areas", shim_areas_live);
		end();
	}
	printf("1..%d\n", tests);
	return bad_tests ? 1 : 0;
}
