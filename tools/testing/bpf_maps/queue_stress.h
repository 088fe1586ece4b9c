/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads that push and pop for long, interrupted at random; each value comes out once. */
#ifndef QUEUE_STRESS_H
#define QUEUE_STRESS_H

#define MAX_THREADS	4
#define MAX_CTX		(3 * MAX_THREADS)
#define MAX_SEQ		(1 << 19)
#define MAX_STRESS_BATCH 8

/* What runs in one context of one CPU: a task, an interrupt or an NMI. */
struct ctx {
	u32 id;
	bool pushes, pops;
	u64 rng, seq;
	/* The latest that was popped of those of each context. */
	u64 latest[MAX_CTX];
	unsigned long full, empty, busy, popped;
};

#include "stress.h"

static struct stress {
	const char *name;
	bool stack, pipe, batches;
	u32 capacity, size, threads;
	u64 flags;

	struct bpf_map *map;
	/* How often each value was popped. */
	u8 *seen[MAX_CTX];
	struct thread threads_[MAX_THREADS];
} stress;

static void value_fill(u64 *value, u64 word)
{
	u32 i;

	for (i = 0; i < stress.size / 8; i++)
		value[i] = i ? mix(word) + i : word;
}

static void ctx_push(struct ctx *ctx)
{
	u64 value[MAX_VALUE / 8];
	long err;

	if (ctx->seq == MAX_SEQ)
		return;
	/* Counted from 1, as in @latest. */
	value_fill(value, (u64)ctx->id << 32 | (ctx->seq + 1));
	err = stress.map->ops->map_push_elem(stress.map, value, stress.flags);
	ctx->full += err == -E2BIG;
	ctx->busy += err == -EBUSY;
	ctx->seq += !err;
	check(!err || err == -EBUSY || (err == -E2BIG && stress.flags == BPF_ANY), "%ld", err);
}

/* One that came out. */
static bool ctx_value(struct ctx *ctx, const u64 *value, bool remove)
{
	u64 want[MAX_VALUE / 8], seq;
	u32 id = value[0] >> 32;

	seq = (u32)value[0];
	if (!check(id < 3 * stress.threads && seq && seq <= MAX_SEQ, "%lx", (long)value[0]))
		return false;
	value_fill(want, value[0]);
	check(!memcmp(value, want, stress.size), "ctx %u: %lu is not intact", id, (long)seq);
	/* Who peeked may see it again. */
	if (!stress.stack)
		check(seq >= ctx->latest[id] + remove || seq == ctx->latest[id],
		      "ctx %u: %lu after %lu", id, (long)seq, (long)ctx->latest[id]);
	ctx->latest[id] = seq;
	if (!remove)
		return true;
	ctx->popped++;
	/* Relaxed, so that this orders nothing that the map does not. */
	seq = __atomic_fetch_add(&stress.seen[id][seq - 1], 1, __ATOMIC_RELAXED);
	check(!seq, "ctx %u: popped twice", id);
	return true;
}

/* False if there was none. */
static bool ctx_pop(struct ctx *ctx, bool remove)
{
	u64 value[MAX_VALUE / 8];
	long err;

	memset(value, 0xa5, stress.size);
	err = remove ? stress.map->ops->map_pop_elem(stress.map, value) :
		       stress.map->ops->map_peek_elem(stress.map, value);
	if (err) {
		ctx->empty += err == -ENOENT;
		ctx->busy += err == -EBUSY;
		check(err == -EBUSY || err == -ENOENT, "%ld", err);
		check(all_bytes((u8 *)value, stress.size, 0), "error, and not zeroed");
		return false;
	}
	return ctx_value(ctx, value, remove);
}

static void ctx_push_batch(struct ctx *ctx)
{
	u64 values[MAX_STRESS_BATCH][MAX_VALUE / 8], *value = values[0];
	u32 nr = 1 + rnd(&ctx->rng, MAX_STRESS_BATCH), i, done;
	int err;

	if (ctx->seq + nr > MAX_SEQ)
		return;
	for (i = 0; i < nr; i++, value += stress.size / 8)
		value_fill(value, (u64)ctx->id << 32 | (ctx->seq + 1 + i));
	done = nr;
	err = push_batch(stress.map, values[0], &done, BPF_ANY);
	ctx->full += err == -E2BIG;
	ctx->busy += err == -EBUSY;
	ctx->seq += done;
	check(err ? (err == -E2BIG || err == -EBUSY) && done < nr : done == nr, "%d, %u of %u",
	      err, done, nr);
}

static void ctx_pop_batch(struct ctx *ctx, bool remove)
{
	u64 values[MAX_STRESS_BATCH][MAX_VALUE / 8], *value = values[0], latest[MAX_CTX];
	u32 nr = 1 + rnd(&ctx->rng, MAX_STRESS_BATCH), i;
	int err = take_batch(stress.map, values[0], &nr, remove);

	ctx->empty += err == -ENOENT;
	ctx->busy += err == -EBUSY;
	check(err ? (err == -ENOENT || err == -EBUSY) && !nr : nr, "%d, %u", err, nr);
	memcpy(latest, ctx->latest, sizeof(latest));
	for (i = 0; i < nr; i++, value += stress.size / 8)
		ctx_value(ctx, value, remove);
	/* All of them will be seen again. */
	if (!remove)
		memcpy(ctx->latest, latest, sizeof(latest));
}

static void ctx_step(struct ctx *ctx)
{
	/* Tasks only: batches are system calls. */
	if (stress.batches && ctx == self->ctx && rnd(&ctx->rng, 2)) {
		if (rnd(&ctx->rng, 2))
			ctx_push_batch(ctx);
		else
			ctx_pop_batch(ctx, rnd(&ctx->rng, 8));
		return;
	}
	if (ctx->pushes && (!ctx->pops || rnd(&ctx->rng, 2)))
		ctx_push(ctx);
	else
		ctx_pop(ctx, rnd(&ctx->rng, 8));
}

static void ctx_end(struct ctx *ctx)
{
	/* No operation is left open. */
}

static void stress_irq(void)
{
#ifndef STOCK
	struct bpf_queue_stack *qs = to_queue_stack(stress.map);

	/* It could only be refused. */
	check(atomic_read(&qs->in.lock.owner) != shim_cpu + 1 &&
	      atomic_read(&qs->out.lock.owner) != shim_cpu + 1, "interrupted with a lock");
#endif
	interrupted(0);
}

/* Nobody else is there any more. */
static void stress_check(void)
{
	unsigned long pushed = 0, popped = 0, full = 0, empty = 0, busy = 0, hits = 0, left = 0;
	struct ctx drain = {};
	int i, j;
	u64 seq;

	while (ctx_pop(&drain, true) && !failures)
		left++;
	check(left <= stress.capacity, "%lu", left);
	for (i = 0; i < stress.threads; i++) {
		hits += stress.threads_[i].hits[0] + stress.threads_[i].hits[1];
		for (j = 0; j < 3; j++) {
			struct ctx *ctx = &stress.threads_[i].ctx[j];

			pushed += ctx->seq;
			popped += ctx->popped;
			full += ctx->full;
			empty += ctx->empty;
			busy += ctx->busy;
			for (seq = 0; seq < ctx->seq && stress.flags == BPF_ANY; seq++) {
				if (!check(stress.seen[ctx->id][seq] == 1, "ctx %u: %lu lost",
					   ctx->id, (long)seq + 1))
					break;
			}
		}
	}
	note("%lu pushed, %lu popped, %lu full, %lu empty, %lu refused, %lu interrupts", pushed,
	     popped, full, empty, busy, hits);
	check(pushed && popped && hits, "nothing done");
}

static void stress_run(double seconds)
{
	int i, j;

	if (!begin(stress.name))
		return;
	stress.map = map_new(stress.stack, stress.capacity, stress.size);
	shim_signals(stress_nmi, stress_irq);
	for (i = 0; i < stress.threads; i++) {
		struct thread *thread = &stress.threads_[i];

		thread->cpu = i;
		for (j = 0; j < 3; j++) {
			struct ctx *ctx = &thread->ctx[j];

			ctx->id = 3 * i + j;
			ctx->rng = mix(seed + ctx->id);
			ctx->pushes = !stress.pipe || !i;
			ctx->pops = !stress.pipe || i;
			stress.seen[ctx->id] = calloc(MAX_SEQ, 1);
		}
	}
	stress_threads(stress.threads_, stress.threads, seconds);
	if (!failures)
		stress_check();
	for (i = 0; i < 3 * stress.threads; i++)
		free(stress.seen[i]);
	stress.map->ops->map_free(stress.map);
	end();
}

#endif
