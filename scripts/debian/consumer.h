/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CONSUMER_H
#define CONSUMER_H

/* Not in the distribution's headers. */
#define BPF_RB_LOST	0x100

#define RING_SIZE	65536
#define MAX_SIZE	4096
#define BATCH		50
#define DISCARD_EVERY	7
#define FIXED_SIZE	40
#define VARIABLE_SIZE(seq) (8 + ((seq) * 13 & 2047))

struct produce_ctx {
	__u64 unused;
};

struct state {
	__u64 next;		/* record */
	__u64 refused;
	__u64 lost;		/* by the kernel's count */
	__u64 samples, sum;	/* of the user ring */
};

#endif
