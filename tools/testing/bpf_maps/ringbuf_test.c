// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of kernel/bpf/ringbuf.c as part of a program; see shim.h.
 *
 *   ringbuf_test [-t seconds in all] [-s seed] [-f part of a test's name] [-x] [-e]
 *
 * -x interrupts after all instructions in all cases, not only as many as there is time for. -e ends
 * with the first test that fails.
 *
 * Three kinds: one thread against a model, where everything is exact; one thread that is
 * interrupted after each single instruction; and producers in threads, interrupted at random
 * by timers, where a record tells what it must look like.
 */
#include "shim.h"
#include MAP_C
#include "check.h"
#include "step.h"
#include <sys/syscall.h>

/* What only the new file has is skipped in the old one. */
#ifdef STOCK
#define NEW	false
#else
#define NEW	true
#endif

#define MAX_RING	(256 * 1024)
#define MAX_THREADS	4
#define BUSY		BPF_RINGBUF_BUSY_BIT
#define DISCARD		BPF_RINGBUF_DISCARD_BIT
#define HDR		BPF_RINGBUF_HDR_SZ

/* Few are large, but those can be half of the ring. */
static u32 some_size(u64 *state, u32 most)
{
	switch (rnd(state, 16)) {
	case 0:
		return rnd(state, most + 1);
	case 1 ... 2:
		return rnd(state, min(most, 4096U) + 1);
	case 3 ... 6:
		return rnd(state, min(most, 1024U) + 1);
	default:
		return rnd(state, min(most, 79U) + 1);
	}
}

/* A ring, and how user space sees it */

struct ring {
	struct bpf_map *map;
	struct bpf_ringbuf *rb;
	unsigned long size, mask;
	unsigned long *cons, *prod, *over;
	char *data;
	wait_queue_head_t *wq;
};

static void *map_range(struct bpf_map *map, unsigned long pgoff, unsigned long size,
		       unsigned long vm_flags, int *err)
{
	unsigned long addr = (unsigned long)shim_reserve_range(size);
	struct vm_area_struct vma = {
		.vm_start = addr,
		.vm_end = addr + size,
		.vm_pgoff = pgoff,
		.vm_flags = vm_flags,
	};

	*err = map->ops->map_mmap(map, &vma);
	if (*err) {
		munmap((void *)addr, size);
		return NULL;
	}
	return (void *)addr;
}

static struct bpf_map *map_new(u32 type, u32 size, u32 flags)
{
	union bpf_attr attr = { .map_type = type, .max_entries = size, .map_flags = flags };
	const struct bpf_map_ops *ops = type == BPF_MAP_TYPE_RINGBUF ? &ringbuf_map_ops :
								       &user_ringbuf_map_ops;
	struct bpf_map *map = ops->map_alloc(&attr);

	if (!IS_ERR(map))
		map->ops = ops;
	return map;
}

static bool ring_new(struct ring *ring, u32 type, u32 size, u32 flags)
{
	bool user = type == BPF_MAP_TYPE_USER_RINGBUF;
	poll_table table = {};
	int err, err2;

	memset(ring, 0, sizeof(*ring));
	ring->map = map_new(type, size, flags);
	if (!check(!IS_ERR(ring->map), "%ld", PTR_ERR(ring->map)))
		return false;
	ring->rb = container_of(ring->map, struct bpf_ringbuf_map, map)->rb;
	ring->size = size;
	ring->mask = size - 1;
	ring->cons = map_range(ring->map, 0, PAGE_SIZE, VM_READ | (user ? 0 : VM_WRITE), &err);
	ring->prod = map_range(ring->map, 1, PAGE_SIZE + 2 * ring->size,
			       VM_READ | (user ? VM_WRITE : 0), &err2);
	check(!err && !err2, "%d %d", err, err2);
#ifdef __SANITIZE_THREAD__
	/* It must see that these are the same places. */
	ring->cons = &ring->rb->consumer_pos;
	ring->prod = &ring->rb->producer_pos;
#endif
	ring->over = ring->prod + 2;
	ring->data = (char *)ring->prod + PAGE_SIZE;
	ring->map->ops->map_poll(ring->map, NULL, &table);
	ring->wq = table.wq;
	return true;
}

static void ring_free(struct ring *ring)
{
#ifndef __SANITIZE_THREAD__
	munmap(ring->cons, PAGE_SIZE);
	munmap(ring->prod, PAGE_SIZE + 2 * ring->size);
#endif
	ring->map->ops->map_free(ring->map);
	check(!shim_pages_live && !shim_vms && !shim_areas_live, "%ld pages, %ld areas left",
	      shim_pages_live, shim_areas_live);
}

/* As if the ring had been in use for long. */
static void ring_start_at(struct ring *ring, unsigned long pos)
{
	struct bpf_ringbuf *rb = ring->rb;

	rb->consumer_pos = rb->producer_pos = pos;
#ifdef STOCK
	rb->pending_pos = pos;
#else
	rb->overwrite_pos = rb->tail = rb->pending = rb->stamped = pos;
#endif
}

static void ring_check(struct ring *ring)
{
#ifndef STOCK
	struct bpf_ringbuf *rb = ring->rb;
	unsigned long prod = rb->producer_pos, pos;

	check(!atomic_read(&rb->owner.owner), "still owned");
	if (rb->overwrite) {
		check(prod - rb->overwrite_pos <= ring->mask, "%lx %lx", prod, rb->overwrite_pos);
		return;
	}
	check(rb->pending - rb->tail <= prod - rb->tail && prod - rb->tail <= ring->size - 8,
	      "tail %lx pending %lx prod %lx", rb->tail, rb->pending, prod);
	check(prod - rb->tail <= rb->stamped - rb->tail &&
	      rb->stamped - rb->tail <= ring->size - 8,
	      "tail %lx prod %lx stamped %lx", rb->tail, prod, rb->stamped);
	for (pos = prod; pos != rb->stamped; pos += 8) {
		if (!check(*(u32 *)(rb->data + (pos & ring->mask)) & BUSY, "%lx is not stamped",
			   pos))
			break;
	}
#endif
}

static u64 query(struct ring *ring, u64 what)
{
	return bpf_ringbuf_query(ring->map, what);
}

static void *reserve(struct ring *ring, u64 size)
{
	return (void *)bpf_ringbuf_reserve(ring->map, size, 0);
}

static u32 *hdr_at(struct ring *ring, unsigned long pos)
{
	return (u32 *)(ring->data + (pos & ring->mask));
}

static unsigned long total(u32 len)
{
	return round_up((unsigned long)(len & ~(BUSY | DISCARD)) + HDR, 8);
}

static u32 page_of(struct ring *ring, unsigned long pos)
{
	return ((unsigned long)ring->rb->data - (unsigned long)ring->rb + (pos & ring->mask)) >>
	       PAGE_SHIFT;
}

static unsigned long wakeups(struct ring *ring)
{
	shim_irq_work_run();
	return READ_ONCE(ring->wq->wakeups);
}

#include "test_model.h"
#include "test_stress.h"
#include "test_step.h"
#include "test_user.h"

int main(int argc, char **argv)
{
	double each = options(argc, argv) / 20;

	test_create();
	test_helpers();
	test_free_with_wakeup();
	if (NEW)
		test_nonsense();
	test_windows();
	test_model("model", 0);
	if (NEW)
		test_model("model, overwrite", BPF_F_RB_OVERWRITE);
#ifdef HAVE_STEP
	test_step("NMI after each instruction", 0, false, each);
	if (NEW) {
		test_step("other CPU after each instruction", 0, true, each);
		test_step("NMI after each instruction, overwrite", BPF_F_RB_OVERWRITE, false,
			  each);
		test_step("other CPU after each instruction, overwrite", BPF_F_RB_OVERWRITE, true,
			  each);
		test_poll_step("poll after each instruction of others", BPF_MAP_TYPE_RINGBUF, 0, 8,
			       produce_consume);
		test_poll_step("poll, all records dropped meanwhile", BPF_MAP_TYPE_RINGBUF,
			       BPF_F_RB_OVERWRITE, 8, produce_a_round);
		test_poll_step("poll after each instruction of a drop", BPF_MAP_TYPE_RINGBUF,
			       BPF_F_RB_OVERWRITE, 2056, poll_here);
		test_poll_step("poll, user ring", BPF_MAP_TYPE_USER_RINGBUF, 0, 0, fill_drain);
	}
#endif

	STRESS(each, "1 producer, consumer sleeps, positions wrap", .size = 64 * 1024,
	       .max_size = 32 * 1024, .threads = 1, .consumer = SLEEP, .start = -4096UL);
	STRESS(each, "1 producer, smallest records, consumer sleeps", .size = PAGE_SIZE,
	       .max_size = 7, .threads = 1, .consumer = SLEEP, .quick = true);
	STRESS(each, "2 producers, smallest ring", .size = PAGE_SIZE, .max_size = PAGE_SIZE / 2,
	       .threads = 2, .consumer = KEEP_UP);
	STRESS(each, "2 producers, consumer sleeps", .size = 64 * 1024, .max_size = 32 * 1024,
	       .threads = 2, .consumer = SLEEP, .start = (1UL << 31) * 2 - 4096);
	STRESS(each, "4 producers, small records", .size = 64 * 1024, .max_size = 64,
	       .threads = 4, .consumer = KEEP_UP);
	STRESS(each, "4 producers, consumer lags", .size = 64 * 1024, .max_size = 32 * 1024,
	       .threads = 4, .consumer = LAG);
	STRESS(each, "2 producers, large ring", .size = 256 * 1024, .max_size = 4096,
	       .threads = 2, .consumer = LAG);
	STRESS(each, "2 producers, hostile consumer, smallest ring", .size = PAGE_SIZE,
	       .max_size = PAGE_SIZE / 2, .threads = 2, .consumer = HOSTILE);
	STRESS(each, "4 producers, hostile consumer", .size = 64 * 1024, .max_size = 32 * 1024,
	       .threads = 4, .consumer = HOSTILE, .start = -4096UL);
	if (NEW) {
		STRESS(each, "2 producers, overwrite, nobody reads", .size = 16 * 1024,
		       .max_size = 8192, .threads = 2, .consumer = NEVER,
		       .flags = BPF_F_RB_OVERWRITE);
		STRESS(each, "2 producers, overwrite", .size = PAGE_SIZE,
		       .max_size = PAGE_SIZE / 2, .threads = 2, .consumer = KEEP_UP,
		       .flags = BPF_F_RB_OVERWRITE, .start = -4096UL);
		STRESS(each, "4 producers, overwrite, consumer lags", .size = 64 * 1024,
		       .max_size = 32 * 1024, .threads = 4, .consumer = LAG,
		       .flags = BPF_F_RB_OVERWRITE);
		STRESS(each, "2 producers, overwrite, hostile consumer", .size = 16 * 1024,
		       .max_size = 8192, .threads = 2, .consumer = HOSTILE,
		       .flags = BPF_F_RB_OVERWRITE);
	}

	test_user();
#ifdef HAVE_STEP
	test_user_step();
#endif
	test_user_thread("user ring: one produces, one drains", false, each);
	test_user_thread("user ring: hostile producer", true, each);

	printf("1..%d\n", tests);
	return bad_tests ? 1 : 0;
}
