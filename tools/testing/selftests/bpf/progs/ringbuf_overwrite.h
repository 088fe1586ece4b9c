/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __RINGBUF_OVERWRITE_H
#define __RINGBUF_OVERWRITE_H

/* The argument of the program produce(). */
struct overwrite_args {
	__u32 producer;
	__u32 count;
};

#endif
