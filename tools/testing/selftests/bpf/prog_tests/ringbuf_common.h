/* SPDX-License-Identifier: GPL-2.0 */
/* A ring buffer as user space sees it, and what tests of it share. */
#ifndef __RINGBUF_COMMON_H
#define __RINGBUF_COMMON_H

#include <sys/mman.h>
#include "bpf_maps_common.h"

/* A kernel ring, mapped: consumer_pos can be written, all else only be read. */
struct ring {
	int fd;
	size_t size;
	unsigned long *consumer_pos;
	unsigned long *producer_pos;
	unsigned long *overwrite_pos;
	void *data;
};

struct ring_hdr {
	__u32 len;
	__u32 pg_off;
};

static inline size_t page_size(void)
{
	return getpagesize();
}

static inline bool ring_map(struct ring *ring, const struct bpf_map *map)
{
	void *mem;

	memset(ring, 0, sizeof(*ring));
	ring->fd = bpf_map__fd(map);
	ring->size = bpf_map__max_entries(map);
	mem = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (!ASSERT_NEQ(mem, MAP_FAILED, "map consumer_pos"))
		return false;
	ring->consumer_pos = mem;
	mem = mmap(NULL, page_size() + 2 * ring->size, PROT_READ, MAP_SHARED, ring->fd,
		   page_size());
	if (!ASSERT_NEQ(mem, MAP_FAILED, "map producer_pos and data")) {
		munmap(ring->consumer_pos, page_size());
		ring->consumer_pos = NULL;
		return false;
	}
	ring->producer_pos = mem;
	ring->overwrite_pos = mem + 2 * sizeof(long);
	ring->data = mem + page_size();
	return true;
}

static inline void ring_unmap(struct ring *ring)
{
	if (!ring->consumer_pos)
		return;
	munmap(ring->consumer_pos, page_size());
	munmap(ring->producer_pos, page_size() + 2 * ring->size);
}

static inline unsigned long consumer(const struct ring *ring)
{
	return __atomic_load_n(ring->consumer_pos, __ATOMIC_ACQUIRE);
}

static inline unsigned long producer(const struct ring *ring)
{
	return __atomic_load_n(ring->producer_pos, __ATOMIC_ACQUIRE);
}

static inline unsigned long overwritten(const struct ring *ring)
{
	return __atomic_load_n(ring->overwrite_pos, __ATOMIC_ACQUIRE);
}

static inline void consume_to(struct ring *ring, unsigned long pos)
{
	__atomic_store_n(ring->consumer_pos, pos, __ATOMIC_RELEASE);
}

static inline void consume_all(struct ring *ring)
{
	consume_to(ring, producer(ring));
}

static inline struct ring_hdr *hdr_at(const struct ring *ring, unsigned long pos)
{
	return ring->data + (pos & (ring->size - 1));
}

static inline __u32 len_at(const struct ring *ring, unsigned long pos)
{
	return __atomic_load_n(&hdr_at(ring, pos)->len, __ATOMIC_ACQUIRE);
}

static inline void *payload_at(const struct ring *ring, unsigned long pos)
{
	return hdr_at(ring, pos) + 1;
}

/* Bytes that a record of that length takes. */
static inline unsigned long record_bytes(__u32 len)
{
	len &= ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
	return (len + BPF_RINGBUF_HDR_SZ + 7UL) & ~7UL;
}

/* A thread that runs a program once, which may stop in the middle at steps of its own. */
struct holder {
	const struct bpf_program *prog;
	__u32 *step, *go;
	bool *late;
	pthread_t thread;
	int err, retval;
	bool ended;
};

static inline void *holder_run(void *arg)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct holder *holder = arg;

	holder->err = bpf_prog_test_run_opts(bpf_program__fd(holder->prog), &opts);
	holder->retval = opts.retval;
	__atomic_store_n(&holder->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Until the program has done its next step. */
static inline bool holder_wait(struct holder *holder, __u32 step)
{
	while (__atomic_load_n(holder->step, __ATOMIC_ACQUIRE) < step &&
	       !__atomic_load_n(&holder->ended, __ATOMIC_ACQUIRE))
		sched_yield();
	return ASSERT_EQ(*holder->step, step, "step of the program");
}

static inline bool holder_start(struct holder *holder)
{
	*holder->step = 0;
	*holder->go = 0;
	if (!ASSERT_OK(pthread_create(&holder->thread, NULL, holder_run, holder), "start thread"))
		return false;
	holder_wait(holder, 1);
	return true;
}

static inline void holder_next(struct holder *holder)
{
	__u32 step = __atomic_add_fetch(holder->go, 1, __ATOMIC_RELEASE);

	holder_wait(holder, step + 1);
}

/* The program does all that is left of it; what it returned. */
static inline int holder_end(struct holder *holder)
{
	__atomic_store_n(holder->go, 100, __ATOMIC_RELEASE);
	pthread_join(holder->thread, NULL);
	ASSERT_OK(holder->err, "test run");
	ASSERT_FALSE(*holder->late, "program waited in vain");
	return holder->retval;
}

/* The kernel's taint flags: a warning sets one. */
static inline unsigned long taint_flags(void)
{
	unsigned long flags = ~0UL;
	FILE *file = fopen("/proc/sys/kernel/tainted", "r");

	if (!ASSERT_OK_PTR(file, "open taint flags"))
		return flags;
	ASSERT_EQ(fscanf(file, "%lu", &flags), 1, "read taint flags");
	fclose(file);
	return flags;
}

#endif
