/* SPDX-License-Identifier: GPL-2.0-only */
/* One thread that is interrupted after each single instruction. */
#ifndef TEST_STEP_H
#define TEST_STEP_H

#ifdef HAVE_STEP

static struct step {
	struct ring ring;
	bool overwrite, other_cpu, commit_first;
	u32 size;
	void *left_open[2];
	unsigned long sent, refused, consumed, lost, wakeups;
} step;

static void *step_reserved(void *sample, u32 size)
{
	if (sample) {
		step.sent++;
		memset(sample, size % 251, size);
	} else {
		step.refused++;
	}
	return sample;
}

static void *step_reserve(u32 size)
{
	return step_reserved(reserve(&step.ring, size), size);
}

static void step_commit(void *sample)
{
	if (sample)
		bpf_ringbuf_submit(sample, 0);
}

/*
 * All that is committed; and that is as step_reserved() left it. Who gets a wakeup later must
 * have looked at the number of them before.
 */
static void step_consume(bool all)
{
	unsigned long prod, cons = *step.ring.cons;
	u32 len, i, *hdr;

	step.wakeups = wakeups(&step.ring);
	prod = smp_load_acquire(step.ring.prod);
	if (step.overwrite && (long)(*step.ring.over - cons) > 0)
		cons = *step.ring.over;
	check(prod - cons <= step.ring.mask, "prod %lx cons %lx", prod, cons);
	while (cons != prod) {
		hdr = hdr_at(&step.ring, cons);
		len = smp_load_acquire(hdr);
		if (len & BUSY)
			break;
		if (!check(total(len) <= prod - cons, "%x at %lx of %lx", len, cons, prod))
			break;
		for (i = 0; i < len; i++) {
			if (!check(((u8 *)(hdr + 2))[i] == len % 251, "byte %u of %u at %lx", i,
				   len, cons))
				break;
		}
		cons += total(len);
		step.consumed++;
	}
	check(!all || cons == prod, "stopped at %lx of %lx", cons, prod);
	smp_store_release(step.ring.cons, cons);
}

/* Another CPU than those before. */
static void step_second(void)
{
	shim_cpu = 2;
	shim_nmi_depth = 0;
	shim_irqs_off = 0;
	step_consume(false);
	step.left_open[1] = step_reserve(24);
	step_consume(false);
}

/* Another CPU, or an NMI on this one. */
static void step_first(void)
{
	void *sample, *other;

	if (step.other_cpu) {
		shim_cpu = 1;
		shim_irqs_off = 0;
	} else {
		shim_nmi_depth = 1;
	}
	step_consume(false);
	sample = step_reserved(STEPPED(reserve(&step.ring, step.size)), step.size);
	if (step.commit_first)
		step_commit(sample);
	other = step_reserved(STEPPED(reserve(&step.ring, 16)), 16);
	step_commit(other);
	step_consume(false);
	if (!step.commit_first)
		step_commit(sample);
	if (step.other_cpu)
		step.left_open[0] = step_reserve(40);
	step_consume(false);
}

struct step_state {
	/* Bytes that went through the ring, the last @keep of them are still there. */
	unsigned long before, keep;
	/* The first of those is not committed. */
	bool held;
};

static void step_once(const struct step_state *state, u32 size)
{
	struct ring *ring = &step.ring;
	void *sample, *held = NULL;
	unsigned long made;

	memset(ring->rb->data, 0, ring->size);
	ring_start_at(ring, -64UL);
	step.sent = step.refused = step.consumed = 0;
	step.lost = query(ring, BPF_RB_LOST);
	step.left_open[0] = step.left_open[1] = NULL;
	for (made = 0; made < state->before; made += 64) {
		sample = step_reserve(56);
		if (state->held && made == state->before - state->keep)
			held = sample;
		else
			step_commit(sample);
		if (made < state->before - state->keep)
			step_consume(true);
	}
	/* Whoever sleeps has looked. */
	step_consume(false);

	sample = step_reserved(STEPPED(reserve(ring, size)), size);
	/* No room is a reason only if there is none, with all that the interrupts reserve. */
	if (!state->held && (step.overwrite ? 0 : state->keep) + total(size) + total(step.size) +
			    total(16) + total(40) + total(24) < ring->size)
		check(sample, "refused");
	if (sample)
		STEPPED(bpf_ringbuf_submit(sample, 0));
	step_commit(step.left_open[0]);
	step_commit(step.left_open[1]);
	step_commit(held);

	ring_check(ring);
	if (*ring->cons != *ring->prod)
		check(wakeups(ring) != step.wakeups, "lost wakeup at %lx of %lx", *ring->cons,
		      *ring->prod);
	step_consume(true);
	step.lost = query(ring, BPF_RB_LOST) - step.lost;
	if (step.overwrite)
		check(step.consumed + step.lost >= step.sent + step.refused,
		      "%lu + %lu < %lu + %lu", step.consumed, step.lost, step.sent, step.refused);
	else
		check(step.consumed == step.sent, "%lu, not %lu", step.consumed, step.sent);
	if (NEW && !step.overwrite)
		check(step.lost == step.refused, "%lu, not %lu", step.lost, step.refused);
}

static const struct step_state step_states[] = {
	{ 0, 0 }, { 64, 64 }, { 2048, 0 }, { 2048, 2048 }, { 3904, 3904 }, { 4032, 4032 },
	{ 4032, 0 }, { 8192, 2048 }, { 8192, 2048, true }, { 4032, 4032, true },
};
static const u32 step_sizes[] = { 24, 1016, 1017, 2040 };

#define STEP_CASES	(ARRAY_SIZE(step_states) * ARRAY_SIZE(step_sizes) * ARRAY_SIZE(step_sizes))

/* One of all combinations of state and sizes. False if there are not so many instructions. */
static bool step_case(int nr, unsigned long at, u64 *rng)
{
	int state = nr / ARRAY_SIZE(step_sizes) / ARRAY_SIZE(step_sizes);
	u32 size = step_sizes[nr / ARRAY_SIZE(step_sizes) % ARRAY_SIZE(step_sizes)];

	trap_set(0, at, step_first);
	/* With a lock that does not time out, a CPU would wait for what it interrupted. */
	trap_set(1, rnd(rng, 150), NEW && rnd(rng, 2) ? step_second : NULL);
	step.size = step_sizes[nr % ARRAY_SIZE(step_sizes)];
	step.commit_first = rnd(rng, 2);
	step_once(&step_states[state], size);
	if (failures)
		note("state %d, size %u, interrupted by %u after %lu, by %d after %lu", state,
		     size, step.size, at, traps[1].fired, traps[1].at);
	return traps[0].fired;
}

/* As many of all cases as there is time for. */
static void test_step(const char *name, u32 flags, bool other_cpu, double seconds)
{
	unsigned long runs = 0, refused = 0, at, length[STEP_CASES];
	double until;
	u64 rng = seed;
	int nr;

	if (!begin(name))
		return;
	trap_signals();
	if (!ring_new(&step.ring, BPF_MAP_TYPE_RINGBUF, PAGE_SIZE, flags))
		goto out;
	step.overwrite = flags;
	step.other_cpu = other_cpu;
	for (nr = 0; nr < STEP_CASES; nr++)
		length[nr] = 100;
	/* Of processor time, as there are no other threads. */
	until = clock() + seconds * CLOCKS_PER_SEC;
	shim_clock_jumps = true;
	for (nr = 0; exhaustive && nr < STEP_CASES && !failures; nr++) {
		for (at = 0; step_case(nr, at, &rng) && !failures; at++) {
			runs++;
			refused += step.refused;
		}
	}
	while (!exhaustive && clock() < until && !failures) {
		nr = rnd(&rng, STEP_CASES);
		at = rnd(&rng, length[nr]);
		if (!step_case(nr, at, &rng))
			length[nr] = at + 1;
		else if (at + 1 == length[nr])
			length[nr] *= 2;
		runs++;
		refused += step.refused;
	}
	shim_clock_jumps = false;
	ring_free(&step.ring);
	note("%lu runs, %lu reservations refused", runs, refused);
out:
	end();
}

/* What poll says while others are at work. At no time is there nothing to read, or no room. */

static __poll_t poll_seen;

static __poll_t poll_now(void)
{
	poll_table table = {};

	return step.ring.map->ops->map_poll(step.ring.map, NULL, &table);
}

static void other_cpu(void)
{
	shim_cpu = 1;
	shim_irqs_off = 0;
}

/* One record more, then one less. */
static void produce_consume(void)
{
	other_cpu();
	step_commit(step_reserve(8));
	smp_store_release(step.ring.cons, *step.ring.cons + total(8));
}

/* All records that are there are dropped. */
static void produce_a_round(void)
{
	unsigned long end = *step.ring.prod;

	other_cpu();
	while (*step.ring.over != end)
		step_commit(step_reserve(8));
}

static void poll_here(void)
{
	other_cpu();
	poll_seen = poll_now();
}

/* One sample more, then all are drained. */
static void fill_drain(void)
{
	*step.ring.prod += total(0);
	smp_store_release(&step.ring.rb->consumer_pos, *step.ring.prod);
}

static void test_poll_step(const char *name, u32 type, u32 flags, u32 size, void (*hit)(void))
{
	unsigned long at;
	void *sample;

	if (!begin(name))
		return;
	trap_signals();
	trap_set(1, 0, NULL);
	for (at = 0; !failures; at++) {
		if (!ring_new(&step.ring, type, PAGE_SIZE, flags))
			break;
		if (type == BPF_MAP_TYPE_USER_RINGBUF)
			*step.ring.prod = total(0);
		else
			step_commit(step_reserve(size));
		trap_set(0, at, hit);
		if (hit == poll_here) {
			poll_seen = EPOLLIN;
			sample = STEPPED(reserve(&step.ring, size));
			check(sample, "refused");
		} else {
			poll_seen = STEPPED(poll_now());
		}
		check(poll_seen, "interrupted after %lu", at);
		if (hit == produce_consume) {
			trap_set(0, at, hit);
			check((long)STEPPED(query(&step.ring, BPF_RB_AVAIL_DATA)) > 0,
			      "interrupted after %lu", at);
		}
		ring_free(&step.ring);
		/* Both have fewer instructions. */
		if (at == 1000)
			break;
	}
	check(!traps[0].fired, "more instructions");
	end();
}

#endif

#endif
