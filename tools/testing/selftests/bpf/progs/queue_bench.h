/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __QUEUE_BENCH_H
#define __QUEUE_BENCH_H

#define MAX_CPUS 2
#define MAX_WORDS 8

/* Written by the programs on one CPU; no two on a cache line, nor on neighbours. */
struct cpu_result {
	unsigned long long done;	/* in all */
	unsigned long long refused;	/* in all: no room, no value */
	unsigned long long ns;		/* that the last run took */
	unsigned long long value[MAX_WORDS];
	unsigned long long unused[21];
};

#endif
