/* SPDX-License-Identifier: GPL-2.0 */
/* A program that stops at its steps until the test, struct holder, lets it go on. */
#ifndef __RINGBUF_STEPS_H
#define __RINGBUF_STEPS_H

__u32 step, go;
bool late;

static long look(__u32 i, void *ctx)
{
	__u64 *deadline = ctx;

	if (*(volatile __u32 *)&go >= step)
		return 1;
	if (bpf_ktime_get_ns() < *deadline)
		return 0;
	late = true;
	return 1;
}

/* The test sees that this step is done, and lets the next one begin. */
static __always_inline void pause(void)
{
	__u64 deadline = bpf_ktime_get_ns() + 5000000000ULL;

	__sync_fetch_and_add(&step, 1);
	bpf_loop(1 << 23, look, &deadline, 0);
}

#endif
