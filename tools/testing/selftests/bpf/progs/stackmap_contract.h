/* SPDX-License-Identifier: GPL-2.0 */
/* What a test asks of a program. */
#ifndef __STACKMAP_CONTRACT_H
#define __STACKMAP_CONTRACT_H

enum what { NOTHING, STACKID, STACK, TASK_STACK };

struct stack_request {
	__u32 what;
	__u32 size;		/* of the buffer, in bytes */
	__u64 flags;
	__s64 ret;
	__u32 runs;		/* how often a program has done it */
	__u64 buf[520];
};

#endif
