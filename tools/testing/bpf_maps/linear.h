/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a history of concurrent operations could come from a bounded queue or stack that does
 * one after the other, each at some time between its start and its end: the search of Wing and
 * Gong, "Testing and verifying concurrent objects" (1993), that remembers where it has been,
 * as in Lowe, "Testing for linearizability" (2017).
 *
 * Values are 1 to 15, each pushed once at most. -EBUSY means that nothing happened.
 */
#ifndef LINEAR_H
#define LINEAR_H

#define MAX_OPS		16
#define MAX_VALUES	15
#define MEMO_SIZE	(1 << 16)

enum op_kind { PUSH, PUSH_EXIST, POP, PEEK, OP_KINDS };

struct op {
	enum op_kind kind;
	u8 value;		/* pushed, or got */
	long err;
	u64 start, end;
};

struct history {
	bool stack;
	u32 capacity;
	u64 before;		/* what there was at its start, as below */
	u32 nr;
	struct op op[MAX_OPS];
};

/* Contents have 4 bits a value, the lowest for the oldest. */
static u32 values_in(u64 contents)
{
	return contents ? (67 - __builtin_clzll(contents)) / 4 : 0;
}

/* Does one operation with what the map holds. False if its result is another one. */
static bool op_apply(const struct history *h, const struct op *op, u64 *contents)
{
	u32 nr = values_in(*contents), at = h->stack && nr ? 4 * (nr - 1) : 0;

	switch (op->kind) {
	case PUSH:
	case PUSH_EXIST:
		if (nr == h->capacity) {
			if (op->kind == PUSH)
				return op->err == -E2BIG;
			*contents >>= 4;
			nr--;
		}
		*contents |= (u64)op->value << (4 * nr);
		return !op->err;
	default:
		if (!nr)
			return op->err == -ENOENT;
		if (op->err || op->value != (*contents >> at & 15))
			return false;
		if (op->kind == POP)
			*contents = h->stack ? *contents & ~(15ULL << at) : *contents >> 4;
		return true;
	}
}

/* Where the search has been: which operations were done, and what there was then. */
static struct {
	u64 contents;
	u32 done, run;
} memo[MEMO_SIZE];
static u32 memo_run;

static bool been_there(u32 done, u64 contents)
{
	u32 slot = mix(contents ^ (u64)done << 48) % MEMO_SIZE, tries;

	for (tries = 0; tries < MEMO_SIZE; tries++, slot = (slot + 1) % MEMO_SIZE) {
		if (memo[slot].run != memo_run) {
			memo[slot].run = memo_run;
			memo[slot].done = done;
			memo[slot].contents = contents;
			return false;
		}
		if (memo[slot].done == done && memo[slot].contents == contents)
			return true;
	}
	shim_die("memo is full");
}

static bool linear_from(const struct history *h, const u32 *ended_before, u32 done, u64 contents)
{
	u64 next;
	u32 i;

	if (done == (1U << h->nr) - 1)
		return true;
	if (been_there(done, contents))
		return false;
	for (i = 0; i < h->nr; i++) {
		/* The next one must not have begun after the end of another one to be done. */
		if (done & 1U << i || ended_before[i] & ~done)
			continue;
		next = contents;
		if ((h->op[i].err == -EBUSY || op_apply(h, &h->op[i], &next)) &&
		    linear_from(h, ended_before, done | 1U << i, next))
			return true;
	}
	return false;
}

static bool linear(const struct history *h)
{
	u32 ended_before[MAX_OPS] = {}, i, j;

	for (i = 0; i < h->nr; i++) {
		for (j = 0; j < h->nr; j++) {
			if (h->op[j].end < h->op[i].start)
				ended_before[i] |= 1U << j;
		}
	}
	memo_run++;
	return linear_from(h, ended_before, 0, h->before);
}

static void history_note(const struct history *h)
{
	static const char * const names[] = { "push", "push, BPF_EXIST", "pop", "peek" };
	u32 i;

	note("%s of %u, holds %llx", h->stack ? "stack" : "queue", h->capacity,
	     (unsigned long long)h->before);
	for (i = 0; i < h->nr; i++)
		note("%3llu-%3llu %s %x: %ld", (unsigned long long)h->op[i].start,
		     (unsigned long long)h->op[i].end, names[h->op[i].kind], h->op[i].value,
		     h->op[i].err);
}

/* Histories of which is known what they are. */

#define HISTORY_OF(is_stack, cap, contents, ...)				\
	(&(struct history) {							\
		.stack = (is_stack), .capacity = (cap), .before = (contents),	\
		.nr = sizeof((struct op[]) { __VA_ARGS__ }) / sizeof(struct op),	\
		.op = { __VA_ARGS__ },						\
	})
#define HISTORY(...)	HISTORY_OF(false, __VA_ARGS__)
#define STACK(...)	HISTORY_OF(true, __VA_ARGS__)

static void test_linear(void)
{
	if (!begin("the judge of histories"))
		return;

	check(linear(HISTORY(2, 0, { PUSH, 1, 0, 1, 2 }, { PUSH, 2, 0, 3, 4 },
			     { POP, 1, 0, 5, 6 }, { POP, 2, 0, 7, 8 })), "in order");
	check(!linear(HISTORY(2, 0, { PUSH, 1, 0, 1, 2 }, { PUSH, 2, 0, 3, 4 },
			      { POP, 2, 0, 5, 6 }, { POP, 1, 0, 7, 8 })), "not in order");
	check(linear(HISTORY(2, 0, { PUSH, 1, 0, 1, 4 }, { PUSH, 2, 0, 2, 3 },
			     { POP, 2, 0, 5, 6 }, { POP, 1, 0, 7, 8 })), "pushed together");
	check(linear(HISTORY(2, 0x21, { POP, 2, 0, 1, 4 }, { POP, 1, 0, 2, 3 })), "pops together");
	check(!linear(HISTORY(2, 0x21, { POP, 1, 0, 1, 4 }, { POP, 1, 0, 2, 3 })), "twice");
	check(!linear(HISTORY(2, 0, { POP, 1, 0, 1, 2 }, { PUSH, 1, 0, 3, 4 })), "before it was");
	check(linear(HISTORY(2, 0, { POP, 1, 0, 1, 4 }, { PUSH, 1, 0, 2, 3 })), "meanwhile");
	check(!linear(HISTORY(2, 0, { PUSH, 1, 0, 1, 2 }, { PUSH, 2, 0, 3, 4 },
			      { POP, 2, 0, 5, 6 }, { POP, 0, -ENOENT, 7, 8 })), "lost");

	/* What only looks empty or full. */
	check(!linear(HISTORY(1, 1, { POP, 0, -ENOENT, 1, 2 })), "not empty");
	check(linear(HISTORY(1, 1, { POP, 0, -ENOENT, 1, 4 }, { POP, 1, 0, 2, 3 })), "empty then");
	check(!linear(HISTORY(1, 1, { PEEK, 0, -ENOENT, 1, 4 }, { PEEK, 1, 0, 2, 3 })), "peeks");
	check(!linear(HISTORY(2, 1, { PUSH, 2, -E2BIG, 1, 2 })), "not full");
	check(linear(HISTORY(2, 1, { PUSH, 2, -E2BIG, 1, 4 }, { PUSH, 3, 0, 2, 3 })), "full then");
	check(!linear(HISTORY(3, 0x21, { PUSH, 3, -E2BIG, 1, 6 }, { POP, 1, 0, 2, 3 },
			      { PUSH, 4, 0, 4, 5 })), "old and new counter");
	check(!linear(HISTORY(2, 1, { POP, 0, -ENOENT, 1, 6 }, { PUSH, 2, 0, 2, 3 },
			      { POP, 1, 0, 4, 5 })), "one was there all the time");

	check(linear(HISTORY(1, 1, { PUSH, 2, -EBUSY, 1, 2 }, { POP, 1, 0, 3, 4 },
			     { POP, 0, -ENOENT, 5, 6 })), "refused");
	check(!linear(HISTORY(1, 1, { POP, 1, -EBUSY, 1, 2 }, { POP, 0, -ENOENT, 3, 4 })),
	      "refused, but done");

	check(linear(HISTORY(2, 0x21, { PUSH_EXIST, 3, 0, 1, 2 }, { POP, 2, 0, 3, 4 },
			     { POP, 3, 0, 5, 6 })), "oldest dropped");
	check(!linear(HISTORY(2, 0x21, { PUSH_EXIST, 3, 0, 1, 2 }, { POP, 1, 0, 3, 4 })),
	      "dropped and popped");
	check(!linear(HISTORY(2, 1, { PUSH_EXIST, 3, 0, 1, 2 }, { POP, 3, 0, 3, 4 })),
	      "dropped without need");
	check(!linear(HISTORY(2, 0x21, { PUSH_EXIST, 3, -E2BIG, 1, 2 })), "BPF_EXIST refused");

	check(linear(STACK(2, 0x21, { PEEK, 2, 0, 1, 2 }, { POP, 2, 0, 3, 4 },
			   { POP, 1, 0, 5, 6 })), "stack");
	check(!linear(STACK(2, 0x21, { POP, 1, 0, 1, 2 })), "stack as a queue");
	check(linear(STACK(2, 0x21, { PUSH_EXIST, 3, 0, 1, 2 }, { POP, 3, 0, 3, 4 },
			   { POP, 2, 0, 5, 6 })), "bottom dropped");
	check(!linear(STACK(2, 0x21, { PUSH_EXIST, 3, 0, 1, 2 }, { POP, 3, 0, 3, 4 },
			    { POP, 1, 0, 5, 6 })), "top dropped");
	end();
}

#endif
