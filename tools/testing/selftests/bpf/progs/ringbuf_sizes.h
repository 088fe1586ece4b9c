/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __RINGBUF_SIZES_H
#define __RINGBUF_SIZES_H

#define MAX_CPUS 16

/* Written by the programs on one CPU; no two on a cache line, nor on neighbours. */
struct cpu_result {
	unsigned long long records;	/* in all */
	unsigned long long refused;	/* in all */
	unsigned long long ns;		/* that the last run took */
	unsigned long long unused[29];
};

#endif
