/* SPDX-License-Identifier: GPL-2.0-only */
/* Batches against a model; and pollers, who must not wait for what has happened already. */
#ifndef QUEUE_BATCH_H
#define QUEUE_BATCH_H

#define MODEL_CAPACITY	64

static struct model {
	bool stack;
	u32 capacity, nr;
	u64 value[MODEL_CAPACITY];	/* the oldest first */
} model;

static void model_push(u64 value, u64 flags)
{
	if (model.nr == model.capacity)
		memmove(model.value, model.value + 1, --model.nr * sizeof(value));
	model.value[model.nr++] = value;
}

static void model_remove(u32 nr)
{
	model.nr -= nr;
	if (!model.stack)
		memmove(model.value, model.value + nr, model.nr * sizeof(u64));
}

/* Number @n in the order of pops. */
static u64 model_value(u32 n)
{
	return model.value[model.stack ? model.nr - 1 - n : n];
}

static int push_batch(struct bpf_map *map, u64 *values, u32 *nr, u64 flags)
{
	union bpf_attr attr = {
		.batch = { .values = (uintptr_t)values, .count = *nr, .elem_flags = flags },
	}, done = {};
	int err = map->ops->map_update_batch(map, NULL, &attr, &done);

	*nr = done.batch.count;
	return err;
}

static int take_batch(struct bpf_map *map, u64 *values, u32 *nr, bool remove)
{
	union bpf_attr attr = {
		.batch = { .values = (uintptr_t)values, .count = *nr },
	}, done = {};
	int err = remove ? map->ops->map_lookup_and_delete_batch(map, &attr, &done) :
			   map->ops->map_lookup_batch(map, &attr, &done);

	*nr = done.batch.count;
	return err;
}

static void batch_step(struct bpf_map *map, u64 *rng)
{
	static u64 last;
	u64 values[2 * MODEL_CAPACITY + 1] = {}, flags = rnd(rng, 2) ? BPF_ANY : BPF_EXIST;
	u32 asked = 1 + rnd(rng, 2 * model.capacity), nr = asked, fits, i;
	u32 room = model.capacity - model.nr;
	bool remove;
	int err;

	if (rnd(rng, 2)) {
		for (i = 0; i < nr; i++)
			values[i] = ++last;
		fits = flags == BPF_EXIST ? nr : min(nr, room);
		err = push_batch(map, values, &nr, flags);
		check(err == (fits < asked ? -E2BIG : 0), "push %u, room %u: %d", asked, room, err);
		check(nr == fits, "push %u, room %u: %u", asked, room, nr);
		for (i = 0; i < fits; i++)
			model_push(values[i], flags);
		return;
	}
	remove = rnd(rng, 3);
	fits = min(asked, model.nr);
	err = take_batch(map, values, &nr, remove);
	check(err == (fits ? 0 : -ENOENT), "take %u of %u: %d", asked, model.nr, err);
	check(nr == fits, "take %u of %u: %u", asked, model.nr, nr);
	for (i = 0; i < fits; i++)
		check(values[i] == model_value(i), "%u. of %u", i, fits);
	check(!values[fits], "behind the last");
	if (remove)
		model_remove(fits);
}

static void test_batches(const char *name, bool stack)
{
	static const u32 capacities[] = { 1, 2, 3, 7, MODEL_CAPACITY };
	int i, steps = max((int)(20000 * time_scale), 2000), left;
	struct bpf_map *map;
	u64 rng = seed;

	if (!begin(name))
		return;
	for (i = 0; i < ARRAY_SIZE(capacities) && !failures; i++) {
		model = (struct model) { .stack = stack, .capacity = capacities[i] };
		map = map_new(stack, capacities[i], sizeof(u64));
		for (left = steps; left && !failures; left--)
			batch_step(map, &rng);
		map->ops->map_free(map);
	}
	end();
}

/* One pushes and one pops. Each waits for a wakeup when poll has nothing for it. */

static struct {
	struct bpf_map *map;
	u64 until;
	bool stop;
	unsigned long waits[2];
} polling;

/* False if the time is over, or no wakeup comes. */
static bool wait_until(__poll_t events)
{
	u64 patience = shim_clock() + 5 * NSEC_PER_SEC;
	poll_table table = {};
	u32 spins = 0;

	while (!READ_ONCE(polling.stop)) {
		if (polling.map->ops->map_poll(polling.map, NULL, &table) & events)
			return true;
		polling.waits[events == EPOLLOUT]++;
		while (__atomic_load_n(&table.wq->wakeups, __ATOMIC_SEQ_CST) == table.seen) {
			/* As an interrupt would, at some time. */
			shim_irq_work_run();
			if (READ_ONCE(polling.stop) || READ_ONCE(failures))
				return false;
			if (!check(shim_clock() < patience, "no wakeup for %x", (int)events))
				return false;
			wait_a_bit(&spins);
		}
	}
	return false;
}

static void *polling_consumer(void *arg)
{
	u64 value, last = 0;

	shim_cpu = 1;
	while (wait_until(EPOLLIN)) {
		check(!polling.map->ops->map_pop_elem(polling.map, &value), "nothing to pop");
		check(value == last + 1, "%lu after %lu", (long)value, (long)last);
		last = value;
	}
	return NULL;
}

static void test_poll(const char *name, bool stack, double seconds)
{
	u64 value = 0, until = shim_clock() + seconds * NSEC_PER_SEC;
	pthread_t consumer;

	if (!begin(name))
		return;
	memset(&polling, 0, sizeof(polling));
	polling.map = map_new(stack, 1, sizeof(u64));
	shim_cpu = 0;
	pthread_create(&consumer, NULL, polling_consumer, NULL);
	while (shim_clock() < until && wait_until(EPOLLOUT)) {
		value++;
		check(!polling.map->ops->map_push_elem(polling.map, &value, BPF_ANY), "no room");
	}
	WRITE_ONCE(polling.stop, true);
	pthread_join(consumer, NULL);
	note("%lu values, %lu and %lu waits", (long)value, polling.waits[0], polling.waits[1]);
	check(value && polling.waits[0] && polling.waits[1], "nobody waited");
	polling.map->ops->map_free(polling.map);
	end();
}

#endif
