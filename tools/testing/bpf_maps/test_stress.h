/* SPDX-License-Identifier: GPL-2.0-only */
/* Producers in threads, interrupted at random; a record tells what it must look like. */
#ifndef TEST_STRESS_H
#define TEST_STRESS_H

struct open_rec {
	u8 *sample;
	u64 seq;
	u32 hdr[2];
};

/* What runs in one context of one CPU: a task, an interrupt or an NMI. */
struct ctx {
	u32 id;
	u64 seq, rng;
	int nr_open, max_open;
	struct open_rec open[6];
	unsigned long sent, kept, refused;
};

#include "stress.h"

struct consumed {
	u64 next_seq[3 * MAX_THREADS];
	unsigned long seen, kept, tiny, skipped_tiny;
};

static struct stress {
	const char *name;
	u32 size, flags, max_size, threads;
	unsigned long start;
	/* Nothing interrupts, and each record is committed before the next. */
	bool quick;
	enum { KEEP_UP, SLEEP, LAG, HOSTILE, NEVER } consumer;

	struct ring ring;
	bool done;
	struct consumed consumed;
	/* Slots that a live record has. */
	u8 slots[MAX_RING / 8];
	struct thread threads_[MAX_THREADS];
} stress;

static u64 rec_key(u32 id, u64 seq)
{
	return mix(mix(seed + id) + seq);
}

static u32 rec_size(u32 id, u64 seq)
{
	u64 key = rec_key(id, seq);

	/* Interrupts are short. */
	return some_size(&key, id % 3 ? 200 : stress.max_size);
}

static bool rec_discard(u32 id, u64 seq)
{
	return rec_key(id, seq) % 5 == 0;
}

/* Byte @i of the payload is byte i % 8 of this word. */
static u64 rec_word(u32 id, u64 seq, u32 i)
{
	/* Too small to tell who it is from. */
	if (rec_size(id, seq) < 8)
		return 0x5a5a5a5a5a5a5a5a;
	if (i < 8)
		return (u64)id << 56 | seq;
	return rec_key(id, seq) + i;
}

/* Loops of their own, for speed. */
static void rec_fill(u8 *sample, u32 id, u64 seq, u64 flip)
{
	u32 size = rec_size(id, seq), i;
	u64 key = rec_key(id, seq), word;

	word = rec_word(id, seq, 0) ^ flip;
	memcpy(sample, &word, min(size, 8U));
	for (i = 8; i < size; i += 8) {
		word = (key + i) ^ flip;
		memcpy(sample + i, &word, min(size - i, 8U));
	}
}

static bool rec_intact(const u8 *sample, u32 id, u64 seq, u64 flip)
{
	u32 size = rec_size(id, seq), i;
	u64 key = rec_key(id, seq), word;

	word = rec_word(id, seq, 0) ^ flip;
	if (memcmp(sample, &word, min(size, 8U)))
		return false;
	for (i = 8; i < size; i += 8) {
		word = (key + i) ^ flip;
		if (memcmp(sample + i, &word, min(size - i, 8U)))
			return false;
	}
	return true;
}

/* Relaxed, so that this orders nothing that the ring does not. */
static void claim(u8 *sample, u32 size, u8 from, u8 to)
{
	unsigned long slot = (sample - HDR - (u8 *)stress.ring.rb->data) / 8, nr = total(size) / 8;
	u8 was;

	while (nr--) {
		was = xchg_relaxed(&stress.slots[slot++ & (stress.ring.mask >> 3)], to);
		if (!check(was == from, "slot %lu: %u, not %u; overlap", slot - 1, was, from))
			break;
	}
}

static bool ctx_reserve(struct ctx *ctx)
{
	struct open_rec *rec = &ctx->open[ctx->nr_open];
	u32 size = rec_size(ctx->id, ctx->seq);
	u8 *sample = reserve(&stress.ring, size);
	u32 *hdr;

	if (!sample) {
		ctx->refused++;
		/* A task may let the consumer run. */
		if (ctx->id % 3 == 0 && !ctx->nr_open)
			sched_yield();
		return false;
	}
	claim(sample, size, 0, ctx->id + 1);
	hdr = (u32 *)(sample - HDR);
	rec->sample = sample;
	rec->seq = ctx->seq++;
	rec->hdr[0] = READ_ONCE(hdr[0]);
	rec->hdr[1] = READ_ONCE(hdr[1]);
	check(rec->hdr[0] == (size | BUSY), "%x", rec->hdr[0]);
	check(rec->hdr[1] == page_of(&stress.ring, sample - HDR - (u8 *)stress.ring.rb->data),
	      "%u", rec->hdr[1]);
	rec_fill(sample, ctx->id, rec->seq, ~0ULL);
	ctx->nr_open++;
	ctx->sent++;
	ctx->kept += !rec_discard(ctx->id, rec->seq);
	return true;
}

static void ctx_commit(struct ctx *ctx, int i)
{
	struct open_rec rec = ctx->open[i];
	u32 *hdr = (u32 *)(rec.sample - HDR);
	u64 flags = 0;

	if (stress.consumer != SLEEP)
		flags = some_flags(&ctx->rng);
	check(READ_ONCE(hdr[0]) == rec.hdr[0] && READ_ONCE(hdr[1]) == rec.hdr[1],
	      "header of a live record: %x %x, was %x %x", hdr[0], hdr[1], rec.hdr[0], rec.hdr[1]);
	check(rec_intact(rec.sample, ctx->id, rec.seq, ~0ULL), "ctx %u: live record changed",
	      ctx->id);
	rec_fill(rec.sample, ctx->id, rec.seq, 0);
	claim(rec.sample, rec_size(ctx->id, rec.seq), ctx->id + 1, 0);
	ctx->open[i] = ctx->open[--ctx->nr_open];
	if (rec_discard(ctx->id, rec.seq))
		bpf_ringbuf_discard(rec.sample, flags);
	else
		bpf_ringbuf_submit(rec.sample, flags);
}

static void ctx_step(struct ctx *ctx)
{
	if (ctx->nr_open < ctx->max_open && rnd(&ctx->rng, 8) < 5 && ctx_reserve(ctx))
		return;
	if (ctx->nr_open)
		ctx_commit(ctx, rnd(&ctx->rng, ctx->nr_open));
}

static void ctx_end(struct ctx *ctx)
{
	while (ctx->nr_open)
		ctx_commit(ctx, rnd(&ctx->rng, ctx->nr_open));
}

static void stress_irq(void)
{
	interrupted(0);
}

/* A committed record; also used on copies. */
static void consume_one(u32 len, const u8 *sample, bool gaps)
{
	struct consumed *c = &stress.consumed;
	u32 size = len & ~DISCARD, id;
	u64 word, seq;

	c->seen++;
	c->kept += !(len & DISCARD);
	if (size < 8) {
		word = 0x5a5a5a5a5a5a5a5a;
		check(!memcmp(sample, &word, size), "record of %u bytes", size);
		c->tiny++;
		return;
	}
	memcpy(&word, sample, 8);
	id = word >> 56;
	seq = word << 8 >> 8;
	if (!check(id < 3 * stress.threads, "id %u, len %x", id, len))
		return;
	for (; c->next_seq[id] < seq && !gaps; c->next_seq[id]++) {
		if (!check(rec_size(id, c->next_seq[id]) < 8, "ctx %u: %lu after %lu", id,
			   (unsigned long)seq, (unsigned long)c->next_seq[id] - 1))
			break;
		c->skipped_tiny++;
	}
	check(seq >= c->next_seq[id], "ctx %u: %lu after %lu", id, (unsigned long)seq,
	      (unsigned long)c->next_seq[id] - 1);
	c->next_seq[id] = seq + 1;
	check(size == rec_size(id, seq), "ctx %u seq %lu: size %u", id, (unsigned long)seq, size);
	check(!(len & DISCARD) == !rec_discard(id, seq), "ctx %u seq %lu: %x", id,
	      (unsigned long)seq, len);
	check(rec_intact(sample, id, seq, 0), "ctx %u seq %lu, %u bytes: not intact", id,
	      (unsigned long)seq, size);
}

/* Until the next busy record. */
static bool consume_some(int most)
{
	unsigned long prod, cons = *stress.ring.cons;
	struct ring *ring = &stress.ring;
	bool some = false;
	u32 *hdr, len;

	prod = smp_load_acquire(ring->prod);
	check(prod - cons <= ring->mask, "prod %lx cons %lx", prod, cons);
	while (cons != prod && most-- && !READ_ONCE(failures)) {
		hdr = hdr_at(ring, cons);
		len = smp_load_acquire(hdr);
		if (len & BUSY)
			break;
		if (!check(total(len) <= prod - cons, "%x at %lx of %lx", len, cons, prod))
			break;
		check(hdr[1] == page_of(ring, cons), "page %u at %lx", hdr[1], cons);
		consume_one(len, (u8 *)(hdr + 2), false);
		cons += total(len);
		smp_store_release(ring->cons, cons);
		some = true;
	}
	return some;
}

/* Until a wakeup that came after @seen. */
static void wait_for_wakeup(unsigned long seen)
{
	struct ring *ring = &stress.ring;
	unsigned long cons = *ring->cons;
	bool done;

	do {
		done = smp_load_acquire(&stress.done);
		if (wakeups(ring) != seen)
			return;
		sched_yield();
	} while (!done && !READ_ONCE(failures));
	/* All that was to come has come. */
	check(!done || smp_load_acquire(ring->prod) == cons, "lost wakeup at %lx", cons);
}

static void *consume(void *arg)
{
	struct ring *ring = &stress.ring;
	poll_table table = {};
	u64 rng = seed;

	while (!READ_ONCE(stress.done) && !READ_ONCE(failures)) {
		switch (stress.consumer) {
		case SLEEP:
			/* Ready or not, as with edge-triggered epoll. */
			ring->map->ops->map_poll(ring->map, NULL, &table);
			/* The old file leaves it to the locks of the system call. */
			if (!NEW)
				smp_mb();
			if (!consume_some(INT_MAX))
				wait_for_wakeup(table.seen);
			break;
		case LAG:
			wakeups(ring);
			if (!consume_some(rnd(&rng, 100)) || !rnd(&rng, 3))
				usleep(rnd(&rng, 2000));
			break;
		default:
			wakeups(ring);
			if (!consume_some(INT_MAX))
				sched_yield();
		}
	}
	consume_some(INT_MAX);
	return NULL;
}

/* Any value at any time. */
static void *consume_hostile(void *arg)
{
	struct ring *ring = &stress.ring;
	unsigned long pos = 0;
	u64 rng = seed;

	while (!READ_ONCE(stress.done)) {
		switch (rnd(&rng, 8)) {
		case 0:
			pos = mix(rng);
			break;
		case 1:
			pos = READ_ONCE(*ring->prod) + rnd(&rng, ring->size);
			break;
		case 2:
			pos = READ_ONCE(*ring->prod) - ring->size + rnd(&rng, 64) - 32;
			break;
		case 3:
			pos -= 8 * rnd(&rng, 64);
			break;
		case 4:
			pos = READ_ONCE(*ring->prod) + rnd(&rng, 64) - 32;
			break;
		case 5:
			pos = READ_ONCE(*ring->prod) + (1UL << rnd(&rng, BITS_PER_LONG));
			break;
		default:
			/* So that there is room for the others to do something. */
			pos = READ_ONCE(*ring->prod);
		}
		smp_store_release(ring->cons, pos);
		if (!rnd(&rng, 4))
			sched_yield();
	}
	return NULL;
}

/*
 * The sanitizer would be right about these: they read what may be written, and find out later.
 * Words, so that there is no call of memcpy(), which it does know.
 */
static noinline __attribute__((no_sanitize("thread"))) u32 len_racy(const u32 *hdr)
{
	return __atomic_load_n(hdr, __ATOMIC_ACQUIRE);
}

static noinline __attribute__((no_sanitize("thread"))) void
copy_racy(u64 *to, const u64 *from, u32 size)
{
	u32 i;

	for (i = 0; i < size; i += 8)
		*(volatile u64 *)to++ = *(volatile const u64 *)from++;
}

static void *consume_overwrite(void *arg)
{
	static u64 copy[MAX_RING / 8];
	struct ring *ring = &stress.ring;
	unsigned long pos = stress.start, prod, over;
	u64 rng = seed;
	u32 len;

	while (!READ_ONCE(stress.done) && !READ_ONCE(failures)) {
		wakeups(ring);
		over = smp_load_acquire(ring->over);
		if ((long)(over - pos) > 0)
			pos = over;
		prod = smp_load_acquire(ring->prod);
		smp_rmb();
		if (READ_ONCE(*ring->over) == over)
			check(prod - over <= ring->mask, "prod %lx over %lx", prod, over);
		if (pos == prod) {
			sched_yield();
			continue;
		}
		len = len_racy(hdr_at(ring, pos));
		smp_rmb();
		if ((long)(READ_ONCE(*ring->over) - pos) > 0)
			continue;
		if (len & BUSY) {
			sched_yield();
			continue;
		}
		if (!check(total(len) <= prod - pos, "%x at %lx of %lx", len, pos, prod))
			break;
		copy_racy(copy, (u64 *)(hdr_at(ring, pos) + 2), len & ~DISCARD);
		smp_rmb();
		if ((long)(READ_ONCE(*ring->over) - pos) > 0)
			continue;
		consume_one(len, (u8 *)copy, true);
		pos += total(len);
		smp_store_release(ring->cons, pos);
		if (stress.consumer == LAG && !rnd(&rng, 500))
			usleep(rnd(&rng, 2000));
	}
	return NULL;
}

static void *consume_never(void *arg)
{
	return NULL;
}

static void stress_check(bool overwrite)
{
	unsigned long sent = 0, kept = 0, refused = 0, left = 0, left_kept = 0, nmi = 0, irq = 0;
	struct consumed *c = &stress.consumed;
	struct ring *ring = &stress.ring;
	unsigned long pos, lost = query(ring, BPF_RB_LOST);
	int i, j;

	for (i = 0; i < stress.threads; i++) {
		struct thread *thread = &stress.threads_[i];

		irq += thread->hits[0];
		nmi += thread->hits[1];
		for (j = 0; j < 3; j++) {
			struct ctx *ctx = &thread->ctx[j];
			u64 seq = c->next_seq[ctx->id];

			sent += ctx->sent;
			kept += ctx->kept;
			refused += ctx->refused;
			check(ctx->sent == ctx->seq, "ctx %u", ctx->id);
			if (overwrite || stress.consumer == HOSTILE)
				continue;
			for (; seq < ctx->seq && rec_size(ctx->id, seq) < 8; seq++)
				c->skipped_tiny++;
			check(seq == ctx->seq, "ctx %u: %lu seen of %lu", ctx->id,
			      (unsigned long)seq, (unsigned long)ctx->seq);
		}
	}
	note("%lu sent, %lu refused, %lu seen; %lu NMIs, %lu interrupts", sent, refused, c->seen,
	     nmi, irq);
	check(sent > 0, "nothing sent");

	if (overwrite) {
		for (pos = *ring->over; pos != *ring->prod; pos += total(*hdr_at(ring, pos))) {
			if (!check(*ring->prod - pos <= ring->mask, "no record at %lx", pos))
				return;
			left++;
			left_kept += !(*hdr_at(ring, pos) & DISCARD);
		}
		/* A record can be consumed while it is dropped. */
		if (stress.consumer == NEVER)
			check(kept + refused == lost + left_kept, "%lu + %lu != %lu + %lu", kept,
			      refused, lost, left_kept);
		else if (stress.consumer != HOSTILE)
			check(kept + refused <= lost + left_kept + c->kept,
			      "%lu + %lu > %lu + %lu + %lu", kept, refused, lost, left_kept,
			      c->kept);
		return;
	}
	if (NEW)
		check(lost == refused, "%lu, not %lu", lost, refused);
	if (stress.consumer == HOSTILE)
		return;
	check(c->seen == sent && c->kept == kept, "%lu %lu, not %lu %lu", c->seen, c->kept, sent,
	      kept);
	check(c->tiny == c->skipped_tiny, "%lu, not %lu", c->tiny, c->skipped_tiny);
	check(*ring->cons == *ring->prod, "%lx, not %lx", *ring->cons, *ring->prod);
}

static void stress_run(double seconds)
{
	bool overwrite = stress.flags & BPF_F_RB_OVERWRITE;
	struct ring *ring = &stress.ring;
	pthread_t consumer;
	void *sample;
	int i, j;

	if (!begin(stress.name))
		return;
	if (!ring_new(ring, BPF_MAP_TYPE_RINGBUF, stress.size, stress.flags))
		goto out;
	ring_start_at(ring, stress.start);
	shim_signals(stress_nmi, stress_irq);
	pthread_create(&consumer, NULL,
		       stress.consumer == HOSTILE ? consume_hostile :
		       stress.consumer == NEVER ? consume_never :
		       overwrite ? consume_overwrite : consume, NULL);
	for (i = 0; i < stress.threads; i++) {
		struct thread *thread = &stress.threads_[i];

		thread->cpu = i;
		thread->quick = stress.quick;
		for (j = 0; j < 3; j++) {
			thread->ctx[j].id = 3 * i + j;
			thread->ctx[j].rng = mix(seed + 3 * i + j);
			thread->ctx[j].max_open = stress.quick ? 1 : j ? 2 : 6;
		}
	}
	stress_threads(stress.threads_, stress.threads, seconds);
	smp_store_release(&stress.done, true);
	pthread_join(consumer, NULL);

	if (!failures)
		stress_check(overwrite);
	/* Whatever happened, with an empty ring a record as large as it goes fits in. */
	if (!failures) {
		smp_store_release(ring->cons, *ring->prod);
		sample = reserve(ring, ring->size - 2 * HDR);
		if (check(sample, "no room in an empty ring"))
			bpf_ringbuf_submit(sample, 0);
		ring_check(ring);
	}
	ring_free(ring);
out:
	end();
}

#endif
