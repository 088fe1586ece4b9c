/* SPDX-License-Identifier: GPL-2.0 */
/* The programs of ringbuf_contract, and what makes them run. */
#ifndef __RINGBUF_PROGRAMS_H
#define __RINGBUF_PROGRAMS_H

#include "ringbuf_common.h"
#include "ringbuf_contract.skel.h"

static struct ringbuf_contract *skel;
static struct ring ring;

/* What the test set in a skeleton that it opened itself stays. */
static inline bool setup_sized(__u32 ring_size, __u64 record_size)
{
	if (!skel)
		skel = ringbuf_contract__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	bpf_map__set_max_entries(skel->maps.ring, ring_size);
	bpf_map__set_autocreate(skel->maps.outer, false);
	skel->rodata->record_size = record_size;
	skel->bss->size = 8;
	return ASSERT_OK(ringbuf_contract__load(skel), "load skeleton") &&
	       ring_map(&ring, skel->maps.ring);
}

static inline void teardown(void)
{
	ring_unmap(&ring);
	ring.consumer_pos = NULL;
	ringbuf_contract__destroy(skel);
	skel = NULL;
}

static inline __u64 query(__u64 what)
{
	skel->bss->what = what;
	skel->bss->value = ~0ULL;
	ASSERT_OK(run_prog(skel->progs.query), "query");
	return skel->bss->value;
}

static inline struct holder holder_of(const struct bpf_program *prog)
{
	return (struct holder) {
		.prog = prog,
		.step = &skel->bss->step,
		.go = &skel->bss->go,
		.late = &skel->bss->late,
	};
}

#endif
