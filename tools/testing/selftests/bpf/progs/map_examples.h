/* SPDX-License-Identifier: GPL-2.0 */
/* What programs and user space of the examples share. */
#ifndef __MAP_EXAMPLES_H
#define __MAP_EXAMPLES_H

/* doc: event */
struct event {
	__u32 pid;
	__u32 lost;	/* records that were lost so far */
	char comm[16];
};

/* doc: command */
struct command {
	__u64 add;
};

/* doc: sample */
#define DEPTH 127

struct sample {
	__u32 tgid;
	__s32 user;	/* ids of stacks, or negative errors */
	__s32 kernel;
};

/* doc: end */
#endif
