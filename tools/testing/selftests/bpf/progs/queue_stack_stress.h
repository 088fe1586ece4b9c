/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Accounts of the values that go through a queue or stack under load, kept by the programs
 * and by the threads of the tests alike.
 *
 * Whoever operates on a map is an actor with a number of its own and does one thing at a
 * time. A value carries its producer and the producer's count of values so far, in its first,
 * middle and last word, so that it is known when it comes out: whether it is whole, whether
 * it came out before, and whether it overtook another one.
 */
#ifndef __QUEUE_STACK_STRESS_H
#define __QUEUE_STACK_STRESS_H

#include <errno.h>

#define NR_MAPS 2
#define NR_CPUS_USED 2

/* The thread on each of the CPUs, the programs that interrupt it, the end of the test. */
#define ACTOR_NESTED 2
#define ACTOR_DRAIN 4
#define NR_ACTORS 8

#define MAX_VALUES 0x100000	/* of one producer on one map */
#define MAX_WORDS 8192		/* of a value, a power of two */

/* What an actor does, one of them at random each time. */
enum mix {
	MIX_ALL,
	MIX_PUSH,
	MIX_POP,
	MIX_PUSH_POP,	/* push, peek and pop in turn, each until it is not refused */
};

enum op { OP_PUSH, OP_POP, OP_PEEK };

/* The argument of the program drive(). */
struct drive {
	__u32 cpu;
	__u32 map;
	__u32 mix;
	__u32 ops;
};

/* What one actor did on one map. */
struct actor {
	__u64 pushed;
	__u64 popped;
	__u64 peeked;
	__u64 full;
	__u64 empty;
	__u64 busy;
	__u64 failed;		/* with any other error */
	__u64 damaged;		/* values that nobody pushed */
	__u64 uncleared;	/* buffers not zeroed although there was an error */
	__u64 again;		/* values that had come out before */
	__u64 overtaken;	/* values of a producer in another order than pushed */
	__u64 last[NR_ACTORS];	/* 1 + number of the last value popped, by producer */
};

struct account {
	struct actor actors[NR_ACTORS];
	__u64 seen[NR_ACTORS][MAX_VALUES / 64];	/* a bit for each value that came out */
};

static inline enum op pick_op(enum mix mix, __u32 random)
{
	if (mix == MIX_PUSH)
		return OP_PUSH;
	if (mix == MIX_POP)
		return OP_POP;
	random %= 8;
	return random < 3 ? OP_PUSH : random < 6 ? OP_POP : OP_PEEK;
}

static inline __u64 *middle_word(__u64 *value, __u32 words)
{
	return &value[words / 2 % MAX_WORDS];
}

static inline __u64 *last_word(__u64 *value, __u32 words)
{
	return &value[(words - 1) % MAX_WORDS];
}

static inline void make_value(__u64 *value, __u32 words, __u32 producer, __u64 number)
{
	__u64 tag = 0x5150ULL << 48 | (__u64)producer << 32 | number;

	value[0] = tag;
	*middle_word(value, words) = tag;
	*last_word(value, words) = tag;
}

static inline void count_error(struct actor *me, long err)
{
	if (err == -EBUSY)
		me->busy++;
	else if (err == -ENOENT)
		me->empty++;
	else if (err == -E2BIG)
		me->full++;
	else
		me->failed++;
}

static inline void count_push(struct actor *me, long err)
{
	if (err)
		count_error(me, err);
	else
		me->pushed++;
}

/* Nothing came out, and the program's buffer must say so. */
static inline void count_nothing(struct actor *me, __u64 *value, __u32 words, long err)
{
	count_error(me, err);
	if (value[0] || *middle_word(value, words) || *last_word(value, words))
		me->uncleared++;
}

/* A value came out, removed from the map or only looked at. */
static inline void count_value(struct account *account, struct actor *me, __u64 *value,
			       __u32 words, enum op op)
{
	__u64 tag = value[0], bit;
	__u32 producer, number;

	producer = (tag >> 32) & 0xffff;
	number = tag;
	/* Else the compiler tests one register and indexes with another. */
	asm volatile("" : "+r"(producer), "+r"(number));
	if (tag >> 48 != 0x5150 || producer >= NR_ACTORS || number >= MAX_VALUES ||
	    *middle_word(value, words) != tag || *last_word(value, words) != tag) {
		me->damaged++;
		return;
	}
	if (op == OP_PEEK) {
		me->peeked++;
		return;
	}
	me->popped++;
	bit = 1ULL << (number % 64);
	if (__sync_fetch_and_or(&account->seen[producer][number / 64], bit) & bit)
		me->again++;
	if (number < me->last[producer])
		me->overtaken++;
	me->last[producer] = (__u64)number + 1;
}

#endif
