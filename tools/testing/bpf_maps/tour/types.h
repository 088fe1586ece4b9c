/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs of the tour in the kernel and those in user space share. */
#ifndef __TOUR_TYPES_H
#define __TOUR_TYPES_H

struct ended {
	__u32 pid;
	__u32 status;
};

struct start {
	__u32 nr;		/* how many were started before */
	__u32 lost;		/* records lost before */
	char file[120];
};

#define DEPTH 64		/* frames of a stack */
#define MAX_STACKS 8192

struct sample {
	__s32 user, kernel;	/* ids of stacks, or negative errors */
	char comm[16];
};

#define MAX_CPUS 64
#define DISCARD 9		/* the UDP port that the filter drops */

#endif
