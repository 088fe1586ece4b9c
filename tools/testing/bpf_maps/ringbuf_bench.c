// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast programs reserve and submit records:
 *
 *   ringbuf_bench [-s payload bytes] [-p producers] [-t seconds] [-w] [-o] [-b ring bytes]
 *
 * -w fills the payload, -o is for overwrite mode. Prints millions of records a second, the
 * share of the time, in percent, that was measured, and the number of refused reservations.
 *
 * There is no consumer thread: each producer moves consumer_pos up to producer_pos now and
 * then, but into the middle of a slot, where no record starts, so nothing is woken.
 */
#include "shim.h"
#include MAP_C
#include "bench.h"

static struct bpf_map *map;
static unsigned long *consumer_pos, *producer_pos;
static unsigned int ring = 1 << 20, per_batch;
static bool fill;

/* Fewer records if the ring is full. */
static unsigned int batch(struct worker *me)
{
	unsigned int i;
	void *sample;

	for (i = 0; i < per_batch; i++) {
		sample = (void *)bpf_ringbuf_reserve(map, size, 0);
		if (unlikely(!sample)) {
			me->refused++;
			break;
		}
		if (fill)
			memset(sample, i, size);
		bpf_ringbuf_submit(sample, 0);
	}
	smp_store_release(consumer_pos, READ_ONCE(*producer_pos) - 4);
	return i;
}

static unsigned long *map_page(unsigned long pgoff, unsigned long vm_flags)
{
	unsigned long addr = (unsigned long)shim_reserve_range(PAGE_SIZE);
	struct vm_area_struct vma = {
		.vm_start = addr,
		.vm_end = addr + PAGE_SIZE,
		.vm_pgoff = pgoff,
		.vm_flags = vm_flags,
	};

	if (ringbuf_map_ops.map_mmap(map, &vma))
		shim_die("map_mmap");
	return (unsigned long *)addr;
}

int main(int argc, char **argv)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_RINGBUF };
	int opt;

	size = 64;
	while ((opt = next_option(argc, argv, "s:p:t:b:wo")) != -1) {
		switch (opt) {
		case 'b':
			ring = atoi(optarg);
			break;
		case 'w':
			fill = true;
			break;
		case 'o':
			attr.map_flags = BPF_F_RB_OVERWRITE;
			break;
		default:
			return 2;
		}
	}
	if (!workers || workers > ARRAY_SIZE(worker))
		return 2;

	attr.max_entries = ring;
	map = ringbuf_map_ops.map_alloc(&attr);
	if (IS_ERR(map)) {
		fprintf(stderr, "map_alloc: %ld\n", PTR_ERR(map));
		return 1;
	}
	consumer_pos = map_page(0, VM_READ | VM_WRITE);
	producer_pos = map_page(1, VM_READ);

	per_batch = max(1UL, min(64UL, ring / 16 / workers / (size + 8UL)));
	run_workers();
	return 0;
}
