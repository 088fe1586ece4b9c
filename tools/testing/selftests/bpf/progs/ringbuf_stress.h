/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Accounts of the records that go through a ring under load.
 *
 * Whoever produces is an actor: a kind of context on one CPU, of which there is one at a time.
 * A record of at least eight bytes begins with a tag: actor, length, and the actor's count of
 * such records so far. The tag stands in its middle and at its end again, with the actor's
 * own byte everywhere else: so it is known whether a record is whole, and came in order.
 */
#ifndef __RINGBUF_STRESS_H
#define __RINGBUF_STRESS_H

#define NR_CPUS_USED 4

enum kind {
	KIND_TASK,		/* a system call's program */
	KIND_TIMER,		/* in a soft interrupt */
	KIND_SWITCH,		/* tracepoint of the scheduler */
	KIND_NMI,
	KIND_NESTED,		/* inside of another's operation */
	NR_KINDS,
};

/* A power of two, for the verifier. */
#define NR_ACTORS 32

#define NR_BREAKPOINTS 4	/* as many as a CPU has registers */

#define MAX_RECORD (128 << 10)

#define TAG(actor, len, seq) ((__u64)(actor) << 56 | (__u64)(len) << 32 | (__u32)(seq))
#define FILL_BYTE(actor) (0xa0 + (actor))
#define FILL_WORD(actor) (0x0101010101010101ULL * FILL_BYTE(actor))

/* Places of the tag's copies. */
#define TAG_MIDDLE(len) ((len) / 2 & ~7U)
#define TAG_END(len) (((len) & ~7U) - 8)

/* The argument of the program drive(). */
struct drive {
	__u32 cpu;
	__u32 ops;
};

/* What one actor did. */
struct actor {
	__u64 sent;		/* records with a tag */
	__u64 sent_small;	/* shorter ones */
	__u64 discarded;
	__u64 refused;
	__u64 inside;		/* operations inside of an operation of another actor */
};

#endif
