// SPDX-License-Identifier: GPL-2.0-only
/*
 * BPF ring buffers: BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_USER_RINGBUF
 */

/**
 * DOC: ring buffers
 *
 * Memory that the kernel and user space share, one writing records and the other one reading
 * them. The data is mapped twice in a row, so that no record is ever broken at the end::
 *
 *   private pages | consumer_pos | producer_pos  | data ... | data again ...
 *                 |  (one page)  | overwrite_pos |          |
 *                 |              |  (one page)   |          |
 *                 ^ mmap() offset 0
 *
 * Positions count bytes since creation and wrap at the size of a long; a position's low bits
 * are its place in the data. They are compared by their difference only. A record is a
 * header of 8 bytes (length and flags, place in the mapping) and the payload, rounded up to 8;
 * the next one follows without a gap.
 *
 * Kernel ring
 * ===========
 *
 * User space can write consumer_pos only, and may write anything there. A program reserves
 * space, fills it, and commits or discards it; the consumer stops at the first record whose
 * header has the busy bit::
 *
 *          tail        pending            producer_pos       stamped
 *   consumed |  committed  |  committed, busy   |  free, stamped  | free
 *   ---------+-------------+--------------------+-----------------+--------
 *
 *   producer_pos   end of the newest record; moved by cmpxchg
 *   stamped        from producer_pos up to here, each slot of 8 bytes is a header with the
 *                  busy bit, so a record there reads as busy before its header is written
 *   pending        all records before it are committed
 *   tail           what is before it may be used again
 *
 * Fast path: where a reservation ends before stamped, one cmpxchg on producer_pos is all. It
 * takes no lock, may be interrupted anywhere, and may interrupt anything.
 *
 * Slow path, by the owner of &bpf_ringbuf.owner: walk pending over what has been committed
 * since; if there is no room before tail + size, move tail up to consumer_pos; stamp a
 * window of slots behind the new record, for the fast path of those to come; move
 * producer_pos over the record, then move stamped. After a refusal the next ones look without
 * the lock whether the ring is still full.
 *
 * Stamps are worth their price where CPUs would wait for each other. As long as the owner is
 * always the same CPU, and for large records always, there is no window: such a record
 * costs what a lock costs. Tiny records always have one. Who is refused, as an NMI in the
 * slow path is, counts as another CPU.
 *
 * Invariants (with size for the ring's size; 1 and 2 without BPF_F_RB_OVERWRITE):
 *
 * 1. tail - pending - producer_pos is their order, and producer_pos <= tail + size - 8.
 * 2. producer_pos <= stamped <= tail + size - 8, but while the owner moves both: then
 *    producer_pos may be ahead, and every other reservation waits for the owner (or, on its
 *    own CPU, is refused).
 * 3. Only the owner writes to [stamped, tail + size), and moves pending, tail and stamped.
 *    None ever goes back.
 * 4. consumer_pos is read once, and counts only if it is between tail and producer_pos.
 *
 * Barriers:
 *
 * A. The owner stamps, then store-releases stamped. A producer load-acquires it, then
 *    moves producer_pos with release. The consumer load-acquires producer_pos, then reads
 *    headers: it sees the stamp or what came after. Where nothing is stamped the owner
 *    writes the header itself before it store-releases producer_pos.
 * B. Commit's xchg on the header orders the payload before it; the consumer load-acquires
 *    the header. So does the owner before it gives the space away (with A: old stores to a
 *    record are before the new ones).
 * C. The consumer store-releases consumer_pos after its last read of a record. The owner
 *    load-acquires it before it moves tail, and so before anything is written there.
 * D. Commit's xchg is a full barrier before it reads consumer_pos, as is the smp_mb() in poll
 *    between the consumer's last store to it and the look at producer_pos: at least one of
 *    the two sees the other's store, so no wakeup is lost.
 *
 * With BPF_F_RB_OVERWRITE a reservation that finds no room drops the oldest records, and
 * consumer_pos does not matter. Dropping and reserving must be one step, so every
 * reservation is the owner's, and nothing is stamped ahead:
 *
 * E. The owner stores overwrite_pos. Each owner has an smp_wmb() before it writes to space that
 *    it or an earlier owner has freed, or lets the payload be written. A consumer
 *    that has copied a record reads overwrite_pos again, after smp_rmb(): if it is beyond
 *    the record, the copy is void.
 *
 * A reservation that is refused is counted, with each unread record that was dropped. The
 * owner looks at each record that it drops: the time is bounded by the size of the new one.
 *
 * User ring
 * =========
 *
 * The other way around: user space may write anything to producer_pos, headers and data;
 * consumer_pos is the kernel's. One drain at a time, marked by &bpf_ringbuf.busy. What is
 * checked is a copy, and only that copy is used.
 */

#include <linux/bpf.h>
#include <linux/bpf_reslock.h>
#include <linux/btf_ids.h>
#include <linux/cache.h>
#include <linux/err.h>
#include <linux/filter.h>
#include <linux/irq_work.h>
#include <linux/kmemleak.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <uapi/linux/btf.h>

#define RINGBUF_CREATE_FLAGS	(BPF_F_NUMA_NODE | BPF_F_RB_OVERWRITE)

/* Longer records are refused whatever the ring's size: the flags need the upper bits. */
#define RINGBUF_MAX_RECORD_SZ	(UINT_MAX / 4)

/* Records up to this many bytes, header included, may have slots stamped behind them... */
#define RINGBUF_SMALL		(2048 + BPF_RINGBUF_HDR_SZ)
/* ... and up to this many always have: a stamp costs less than the lock. */
#define RINGBUF_TINY		(64 + BPF_RINGBUF_HDR_SZ)
/* How much is stamped at a time; fits the L1 cache beside the records being written. */
#define RINGBUF_WINDOW		8192
/* After how many windows for one CPU the ring is no longer taken for shared. */
#define RINGBUF_SHARED		16
/* How many headers the owner looks at before it lets others in. */
#define RINGBUF_WALK		(RINGBUF_WINDOW / BPF_RINGBUF_HDR_SZ)

/* Pages before consumer_pos, and with the two pages of positions. */
#define RINGBUF_PGOFF	(offsetof(struct bpf_ringbuf, consumer_pos) >> PAGE_SHIFT)
#define RINGBUF_META_PAGES	(RINGBUF_PGOFF + 2)

/**
 * struct bpf_ringbuf - the memory of a ring, mapped as drawn above
 * @waitq: pollers
 * @work: wakes them, outside of whatever a commit may have interrupted
 * @mask: size of the data in bytes, minus 1
 * @pages: all pages, the data's a second time at the end
 * @nr_pages: how many different ones
 * @overwrite: BPF_F_RB_OVERWRITE was given
 * @full: kernel ring: the last owner found no room; it is worth a look before the next one
 * @small: kernel ring: records up to this many bytes, header included, try the fast path
 * @busy: user ring: not 0 while a program drains it
 * @owner: kernel ring: protects all writes to what follows, and to a producer_pos that
 *	leaves @stamped behind; on a line of its own, as others wait for it
 * @last_cpu: the last owner; -1 if somebody was refused since
 * @shared: not 0: several CPUs reserve; how many windows until that is in doubt
 * @pending: all records before it are committed
 * @tail: what is before it may be used again
 * @stamped: see above
 * @lost: refused reservations and dropped records
 * @consumer_pos: kernel ring: written by user space
 * @producer_pos: end of the newest record
 * @unused: keeps overwrite_pos where mainline has it
 * @overwrite_pos: end of the last record that was dropped
 * @data: the records
 */
struct bpf_ringbuf {
	wait_queue_head_t waitq;
	struct irq_work work;
	unsigned long mask;
	struct page **pages;
	int nr_pages;
	bool overwrite;
	bool full;
	u32 small;
	atomic_t busy;
	struct bpf_reslock owner ____cacheline_aligned_in_smp;
	int last_cpu;
	unsigned int shared;
	unsigned long pending ____cacheline_aligned_in_smp;
	unsigned long tail;
	unsigned long stamped;
	atomic_long_t lost ____cacheline_aligned_in_smp;

	unsigned long consumer_pos __aligned(PAGE_SIZE);
	unsigned long producer_pos __aligned(PAGE_SIZE);
	unsigned long unused;
	unsigned long overwrite_pos;
	char data[] __aligned(PAGE_SIZE);
};

/**
 * struct bpf_ringbuf_map - a map of either type
 * @map: the generic part
 * @rb: the ring
 */
struct bpf_ringbuf_map {
	struct bpf_map map;
	struct bpf_ringbuf *rb;
};

/**
 * struct bpf_ringbuf_hdr - header of a record
 * @len: payload in bytes, with BPF_RINGBUF_BUSY_BIT and BPF_RINGBUF_DISCARD_BIT
 * @pg_off: kernel ring: pages from &struct bpf_ringbuf to this header
 */
struct bpf_ringbuf_hdr {
	u32 len;
	u32 pg_off;
};

/* A header of eight bytes that reads as busy. */
static const union {
	struct bpf_ringbuf_hdr hdr;
	u64 word;
} busy_stamp = { .hdr.len = BPF_RINGBUF_BUSY_BIT };

static __always_inline struct bpf_ringbuf *map_to_ringbuf(const struct bpf_map *map)
{
	return container_of(map, struct bpf_ringbuf_map, map)->rb;
}

static __always_inline unsigned long ringbuf_size(const struct bpf_ringbuf *rb)
{
	return rb->mask + 1;
}

static __always_inline struct bpf_ringbuf_hdr *
ringbuf_hdr(struct bpf_ringbuf *rb, unsigned long pos)
{
	return (void *)rb->data + (pos & rb->mask);
}

/* Bytes that a record takes in the ring; @len may have flags. */
static __always_inline u32 record_size(u32 len)
{
	len &= ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
	return round_up(len + BPF_RINGBUF_HDR_SZ, 8);
}

/* Memory */

static void ringbuf_notify(struct irq_work *work)
{
	struct bpf_ringbuf *rb = container_of(work, struct bpf_ringbuf, work);

	wake_up_all(&rb->waitq);
}

static void ringbuf_free_pages(struct page **pages, int nr_pages)
{
	while (nr_pages)
		__free_page(pages[--nr_pages]);
	bpf_map_area_free(pages);
}

static struct bpf_ringbuf *ringbuf_alloc(u32 size, int numa_node, bool overwrite)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN | __GFP_ZERO;
	int nr_data = size >> PAGE_SHIFT, nr_pages = RINGBUF_META_PAGES + nr_data, i;
	struct bpf_ringbuf *rb;
	struct page **pages;

	pages = bpf_map_area_alloc((u64)(nr_pages + nr_data) * sizeof(*pages), numa_node);
	if (!pages)
		return NULL;
	for (i = 0; i < nr_pages; i++) {
		pages[i] = alloc_pages_node(numa_node, gfp, 0);
		if (!pages[i])
			goto free;
		if (i >= RINGBUF_META_PAGES)
			pages[nr_data + i] = pages[i];
	}
	rb = vmap(pages, nr_pages + nr_data, VM_MAP | VM_USERMAP, PAGE_KERNEL);
	if (!rb)
		goto free;

	/* Its only reference is in one of its own pages, which kmemleak does not scan. */
	kmemleak_not_leak(pages);
	rb->pages = pages;
	rb->nr_pages = nr_pages;
	rb->mask = size - 1;
	rb->overwrite = overwrite;
	rb->small = overwrite ? 0 : RINGBUF_TINY;
	rb->last_cpu = -1;
	bpf_reslock_init(&rb->owner);
	init_waitqueue_head(&rb->waitq);
	/* Not a HARD one: on PREEMPT_RT a wakeup takes sleeping locks. */
	init_irq_work(&rb->work, ringbuf_notify);
	return rb;

free:
	ringbuf_free_pages(pages, i);
	return NULL;
}

static struct bpf_map *ringbuf_create(union bpf_attr *attr, u32 flags)
{
	struct bpf_ringbuf_map *rb_map;

	if (attr->map_flags & ~flags)
		return ERR_PTR(-EINVAL);
	if (attr->key_size || attr->value_size ||
	    !is_power_of_2(attr->max_entries) || !PAGE_ALIGNED(attr->max_entries))
		return ERR_PTR(-EINVAL);

	rb_map = bpf_map_area_alloc(sizeof(*rb_map), NUMA_NO_NODE);
	if (!rb_map)
		return ERR_PTR(-ENOMEM);
	bpf_map_init_from_attr(&rb_map->map, attr);
	rb_map->rb = ringbuf_alloc(attr->max_entries, rb_map->map.numa_node,
				   attr->map_flags & BPF_F_RB_OVERWRITE);
	if (!rb_map->rb) {
		bpf_map_area_free(rb_map);
		return ERR_PTR(-ENOMEM);
	}
	return &rb_map->map;
}

static struct bpf_map *ringbuf_map_alloc(union bpf_attr *attr)
{
	return ringbuf_create(attr, RINGBUF_CREATE_FLAGS);
}

static struct bpf_map *user_ringbuf_map_alloc(union bpf_attr *attr)
{
	return ringbuf_create(attr, BPF_F_NUMA_NODE);
}

static void ringbuf_map_free(struct bpf_map *map)
{
	struct bpf_ringbuf *rb = map_to_ringbuf(map);
	struct page **pages = rb->pages;
	int nr_pages = rb->nr_pages;

	/* A commit just before the last reference went may have queued it. */
	irq_work_sync(&rb->work);
	vunmap(rb);
	ringbuf_free_pages(pages, nr_pages);
	bpf_map_area_free(container_of(map, struct bpf_ringbuf_map, map));
}

static u64 ringbuf_map_mem_usage(const struct bpf_map *map)
{
	u64 nr_data = map->max_entries >> PAGE_SHIFT, nr_pages = RINGBUF_META_PAGES + nr_data;

	return sizeof(struct bpf_ringbuf_map) + (nr_pages << PAGE_SHIFT) +
	       (nr_pages + nr_data) * sizeof(struct page *);
}

static int ringbuf_map(struct bpf_map *map, struct vm_area_struct *vma)
{
	/* Fails with -EINVAL beyond the end. */
	return remap_vmalloc_range(vma, map_to_ringbuf(map), vma->vm_pgoff + RINGBUF_PGOFF);
}

/* The generic code has made a mapping without VM_WRITE unable to get it later. */

static int ringbuf_map_mmap_kern(struct bpf_map *map, struct vm_area_struct *vma)
{
	/* Only the page of consumer_pos, alone, may be written. */
	if (vma->vm_flags & VM_WRITE &&
	    (vma->vm_pgoff || vma->vm_end - vma->vm_start != PAGE_SIZE))
		return -EPERM;
	return ringbuf_map(map, vma);
}

static int ringbuf_map_mmap_user(struct bpf_map *map, struct vm_area_struct *vma)
{
	/* Everything but the page of consumer_pos may be written. */
	if (vma->vm_flags & VM_WRITE && !vma->vm_pgoff)
		return -EPERM;
	return ringbuf_map(map, vma);
}

/* Kernel ring: state as seen by programs and user space */

static unsigned long ringbuf_avail_data(struct bpf_ringbuf *rb)
{
	unsigned long cons, over, prod;

	/* Acquire, and producer_pos last, so that it is not behind what is subtracted. */
	cons = smp_load_acquire(&rb->consumer_pos);
	over = smp_load_acquire(&rb->overwrite_pos); /* Likewise */
	prod = READ_ONCE(rb->producer_pos);
	return rb->overwrite ? min(prod - cons, prod - over) : prod - cons;
}

static __poll_t ringbuf_map_poll_kern(struct bpf_map *map, struct file *filp,
				      struct poll_table_struct *pts)
{
	struct bpf_ringbuf *rb = map_to_ringbuf(map);
	unsigned long cons;

	poll_wait(filp, &rb->waitq, pts);
	/* Barrier D */
	smp_mb();
	/*
	 * Who is told that there is nothing must really have seen everything, or no commit
	 * would wake it. So busy and dropped records count, and producer_pos is read last:
	 * others may produce and consume in between.
	 */
	cons = smp_load_acquire(&rb->consumer_pos);
	return READ_ONCE(rb->producer_pos) != cons ? EPOLLIN | EPOLLRDNORM : 0;
}

static __poll_t ringbuf_map_poll_user(struct bpf_map *map, struct file *filp,
				      struct poll_table_struct *pts)
{
	struct bpf_ringbuf *rb = map_to_ringbuf(map);
	unsigned long prod;

	poll_wait(filp, &rb->waitq, pts);
	/* As in the other direction: before the look at consumer_pos... */
	smp_mb();
	/* ... which is the last, hence acquire. */
	prod = smp_load_acquire(&rb->producer_pos);
	/* What was drained meanwhile may be beyond prod. */
	return (long)(prod - READ_ONCE(rb->consumer_pos)) < (long)ringbuf_size(rb) ?
	       EPOLLOUT | EPOLLWRNORM : 0;
}

static void ringbuf_map_show_fdinfo(const struct bpf_map *map, struct seq_file *m)
{
	struct bpf_ringbuf *rb = map_to_ringbuf(map);

	seq_printf(m,
		   "consumer_pos:\t%lu\n"
		   "producer_pos:\t%lu\n"
		   "overwrite_pos:\t%lu\n"
		   "avail_data:\t%lu\n"
		   "lost:\t%lu\n",
		   READ_ONCE(rb->consumer_pos), READ_ONCE(rb->producer_pos),
		   READ_ONCE(rb->overwrite_pos), ringbuf_avail_data(rb),
		   atomic_long_read(&rb->lost));
}

/* There are no elements. */

static void *ringbuf_map_lookup_elem(struct bpf_map *map, void *key)
{
	return ERR_PTR(-ENOTSUPP);
}

static long ringbuf_map_update_elem(struct bpf_map *map, void *key, void *value, u64 flags)
{
	return -ENOTSUPP;
}

static long ringbuf_map_delete_elem(struct bpf_map *map, void *key)
{
	return -ENOTSUPP;
}

static int ringbuf_map_get_next_key(struct bpf_map *map, void *key, void *next_key)
{
	return -ENOTSUPP;
}

BTF_ID_LIST_SINGLE(ringbuf_map_btf_ids, struct, bpf_ringbuf_map)

const struct bpf_map_ops ringbuf_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc = ringbuf_map_alloc,
	.map_free = ringbuf_map_free,
	.map_mem_usage = ringbuf_map_mem_usage,
	.map_mmap = ringbuf_map_mmap_kern,
	.map_poll = ringbuf_map_poll_kern,
	.map_show_fdinfo = ringbuf_map_show_fdinfo,
	.map_lookup_elem = ringbuf_map_lookup_elem,
	.map_update_elem = ringbuf_map_update_elem,
	.map_delete_elem = ringbuf_map_delete_elem,
	.map_get_next_key = ringbuf_map_get_next_key,
	.map_btf_id = &ringbuf_map_btf_ids[0],
};

const struct bpf_map_ops user_ringbuf_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc = user_ringbuf_map_alloc,
	.map_free = ringbuf_map_free,
	.map_mem_usage = ringbuf_map_mem_usage,
	.map_mmap = ringbuf_map_mmap_user,
	.map_poll = ringbuf_map_poll_user,
	.map_show_fdinfo = ringbuf_map_show_fdinfo,
	.map_lookup_elem = ringbuf_map_lookup_elem,
	.map_update_elem = ringbuf_map_update_elem,
	.map_delete_elem = ringbuf_map_delete_elem,
	.map_get_next_key = ringbuf_map_get_next_key,
	.map_btf_id = &ringbuf_map_btf_ids[0],
};

/* Kernel ring: reserve */

/*
 * Owner only. How many bytes to stamp behind a record. As long as one CPU alone reserves,
 * taking the lock for each record costs it less than the stamps.
 */
static __always_inline unsigned long window(struct bpf_ringbuf *rb, u32 len)
{
	int cpu = raw_smp_processor_id();

	if (unlikely(READ_ONCE(rb->last_cpu) != cpu)) {
		WRITE_ONCE(rb->last_cpu, cpu);
		rb->shared = RINGBUF_SHARED;
		WRITE_ONCE(rb->small, RINGBUF_SMALL);
	}
	if (len > rb->small)
		return 0;
	if (rb->shared && !--rb->shared)
		WRITE_ONCE(rb->small, RINGBUF_TINY);
	return RINGBUF_WINDOW;
}

/* Owner only. Slots [@from, @to) read as busy records from now on. */
static __always_inline void stamp(struct bpf_ringbuf *rb, unsigned long from, unsigned long to)
{
	if ((long)(to - from) > 0)
		memset64((u64 *)ringbuf_hdr(rb, from), busy_stamp.word, (to - from) / 8);
}

/*
 * Owner only. Move pending over committed records. Done whenever the owner is here, as their
 * headers are still in the cache. False if the number of headers ended the walk.
 */
static __always_inline bool walk(struct bpf_ringbuf *rb, unsigned long prod)
{
	unsigned long pending = rb->pending;
	int left = RINGBUF_WALK;

	while (pending != prod && left--) {
		u32 len = smp_load_acquire(&ringbuf_hdr(rb, pending)->len); /* Barrier B */

		if (len & BPF_RINGBUF_BUSY_BIT)
			break;
		pending += record_size(len);
	}
	rb->pending = pending;
	return left >= 0;
}

/* Owner only. Move tail up to what is consumed and committed. */
static __always_inline void reclaim(struct bpf_ringbuf *rb, unsigned long prod)
{
	unsigned long tail = rb->tail, cons;

	/* Acquire: barrier C. Space is reused in slots. */
	cons = smp_load_acquire(&rb->consumer_pos) & ~7UL;
	/* Invariant 4 */
	if (cons - tail <= prod - tail)
		rb->tail = tail + min(cons - tail, rb->pending - tail);
}

/* Owner only, overwrite mode. Drop old records until one may end at @end. */
static __always_inline bool drop(struct bpf_ringbuf *rb, unsigned long prod, unsigned long end)
{
	unsigned long over = rb->overwrite_pos, cons, lost = 0;
	u32 len;

	if (end - over <= rb->mask)
		return true;
	/* Only to tell what was read; the consumer does not limit anything here. */
	cons = READ_ONCE(rb->consumer_pos);
	do {
		len = smp_load_acquire(&ringbuf_hdr(rb, over)->len); /* Barrier B */
		if (len & BPF_RINGBUF_BUSY_BIT)
			return false;
		if (!(len & BPF_RINGBUF_DISCARD_BIT) && cons - over - 1 >= prod - over)
			lost++;
		over += record_size(len);
	} while (end - over > rb->mask);

	WRITE_ONCE(rb->overwrite_pos, over);
	if (lost)
		atomic_long_add(lost, &rb->lost);
	return true;
}

/* It reads as busy before and after; the payload comes with the commit. */
static __always_inline void *write_header(struct bpf_ringbuf *rb, unsigned long pos, u32 size)
{
	struct bpf_ringbuf_hdr *hdr = ringbuf_hdr(rb, pos);

	WRITE_ONCE(hdr->len, size | BPF_RINGBUF_BUSY_BIT);
	hdr->pg_off = ((void *)hdr - (void *)rb) >> PAGE_SHIFT;
	return hdr + 1;
}

/* The one way with BPF_F_RB_OVERWRITE. NULL if there is no room, or if the lock was refused. */
static noinline notrace void *ringbuf_reserve_overwrite(struct bpf_ringbuf *rb, u32 size)
{
	unsigned long prod, end, flags;
	void *sample = NULL;

	if (!bpf_reslock_acquire(&rb->owner, &flags))
		return NULL;
	/* Only owners move it. */
	prod = rb->producer_pos;
	end = prod + record_size(size);
	if (drop(rb, prod, end)) {
		/* Barrier E */
		smp_wmb();
		sample = write_header(rb, prod, size);
		/* Release: barrier A */
		smp_store_release(&rb->producer_pos, end);
	}
	bpf_reslock_release(&rb->owner, flags);
	return sample;
}

/*
 * By what the consumer says; a look that costs no lock. Nonsense says no. The position that
 * is read first can only be too low, so what is full here was full when the second was read.
 */
static __always_inline bool looks_full(struct bpf_ringbuf *rb, u32 len)
{
	unsigned long prod, used;

	/* Acquire, for that order. */
	prod = smp_load_acquire(&rb->producer_pos);
	used = prod - (READ_ONCE(rb->consumer_pos) & ~7UL);
	return used <= rb->mask && used + len > rb->mask;
}

/*
 * The slow path: become the owner, make room, and reserve. NULL if there is no room, or if
 * the lock was refused.
 */
static noinline notrace void *ringbuf_reserve_slow(struct bpf_ringbuf *rb, u32 size, u32 len)
{
	unsigned long win, prod, end, ahead, stamped, done, flags;
	bool walked, look_again;
	void *sample;

again:
	if (unlikely(READ_ONCE(rb->full)) && looks_full(rb, len))
		return NULL;
	if (unlikely(!bpf_reslock_acquire(&rb->owner, &flags))) {
		/* As if of another CPU: with a window, fewer have to come here. */
		WRITE_ONCE(rb->last_cpu, -1);
		return NULL;
	}

	win = window(rb, len);
	stamped = rb->stamped;
	done = stamped;
	prod = READ_ONCE(rb->producer_pos);
	for (;;) {
		walked = walk(rb, prod);
		end = prod + len;
		ahead = end + win;
		/* Without need it is not asked what the consumer, on another CPU, writes. */
		if (ahead - rb->tail > rb->mask) {
			reclaim(rb, prod);
			if (unlikely(end - rb->tail > rb->mask))
				goto full;
			if (rb->full)
				WRITE_ONCE(rb->full, false);
			ahead = end + min(win, rb->tail + rb->mask - 7 - end);
		}
		if (win) {
			stamp(rb, (long)(end - done) > 0 ? end : done, ahead);
			if ((long)(ahead - done) > 0)
				done = ahead;
		}

		if (likely(prod == stamped)) {
			/* There is nothing left for the fast path to take: no race. */
			sample = write_header(rb, prod, size);
			/* Release: barrier A */
			smp_store_release(&rb->producer_pos, end);
			stamped = ahead;
			break;
		}
		/* Release: barrier A. It fails if the fast path was faster. */
		if (try_cmpxchg_release(&rb->producer_pos, &prod, end)) {
			sample = write_header(rb, prod, size);
			if ((long)(ahead - stamped) > 0)
				stamped = ahead;
			break;
		}
	}
	/* Not before producer_pos has passed what is not stamped. Barrier A. */
	smp_store_release(&rb->stamped, stamped);
	bpf_reslock_release(&rb->owner, flags);
	return sample;

full:
	/* Or is it? The consumer may be beyond prod, thanks to the fast path. */
	look_again = !walked || READ_ONCE(rb->producer_pos) != prod;
	WRITE_ONCE(rb->full, true);
	bpf_reslock_release(&rb->owner, flags);
	if (look_again)
		goto again;
	return NULL;
}

static __always_inline bool ringbuf_reserve_fast(struct bpf_ringbuf *rb, u32 len,
						 unsigned long *pos)
{
	unsigned long stamped, prod, flags = 0;
	bool done = true;

	/*
	 * Where positions are short, no others may go round while one is held here. (What is
	 * left is an NMI, or another CPU, that produces 4 GiB before the next instruction.)
	 */
	if (!IS_ENABLED(CONFIG_64BIT))
		local_irq_save(flags);
	/* Barrier A */
	stamped = smp_load_acquire(&rb->stamped);
	prod = READ_ONCE(rb->producer_pos);
	do {
		if ((long)(stamped - prod) < (long)len) {
			done = false;
			break;
		}
	} while (!try_cmpxchg_release(&rb->producer_pos, &prod, prod + len));
	if (!IS_ENABLED(CONFIG_64BIT))
		local_irq_restore(flags);

	*pos = prod;
	return done;
}

static __always_inline void *ringbuf_reserve(struct bpf_ringbuf *rb, u64 size)
{
	void *sample = NULL;
	unsigned long pos;
	u32 len;

	/* Not even the loss could be counted. */
	if (!IS_ENABLED(CONFIG_ARCH_HAVE_NMI_SAFE_CMPXCHG) && in_nmi())
		return NULL;
	if (unlikely(size > RINGBUF_MAX_RECORD_SZ))
		goto out;
	len = record_size(size);
	if (unlikely(len > rb->mask))
		goto out;
	if (len <= READ_ONCE(rb->small) && ringbuf_reserve_fast(rb, len, &pos))
		sample = write_header(rb, pos, size);
	else if (rb->overwrite)
		sample = ringbuf_reserve_overwrite(rb, size);
	else
		sample = ringbuf_reserve_slow(rb, size, len);
out:
	if (unlikely(!sample))
		atomic_long_inc(&rb->lost);
	return sample;
}

/* Kernel ring: commit */

static __always_inline void ringbuf_wake(struct bpf_ringbuf *rb, bool needed, u64 flags)
{
	if (flags & BPF_RB_FORCE_WAKEUP || (needed && !(flags & BPF_RB_NO_WAKEUP)))
		irq_work_queue(&rb->work);
}

static __always_inline void ringbuf_commit(void *sample, u64 flags, bool discard)
{
	struct bpf_ringbuf_hdr *hdr = sample - BPF_RINGBUF_HDR_SZ;
	unsigned long place, cons;
	struct bpf_ringbuf *rb;
	u32 len;

	rb = (void *)((unsigned long)hdr & PAGE_MASK) - ((unsigned long)hdr->pg_off << PAGE_SHIFT);
	place = (void *)hdr - (void *)rb->data;
	len = hdr->len & ~BPF_RINGBUF_BUSY_BIT;
	if (discard)
		len |= BPF_RINGBUF_DISCARD_BIT;

	/* From here on the record is not ours. Barriers B and D. */
	xchg(&hdr->len, len);
	/*
	 * A consumer that is elsewhere will find the record by itself. One that was overtaken
	 * by whole rounds looks as if it were here, and is woken for nothing.
	 */
	cons = READ_ONCE(rb->consumer_pos) & rb->mask;
	ringbuf_wake(rb, cons == place, flags);
}

/* Kernel ring: helpers */

BPF_CALL_3(bpf_ringbuf_reserve, struct bpf_map *, map, u64, size, u64, flags)
{
	if (unlikely(flags))
		return 0;
	return (unsigned long)ringbuf_reserve(map_to_ringbuf(map), size);
}

const struct bpf_func_proto bpf_ringbuf_reserve_proto = {
	.func		= bpf_ringbuf_reserve,
	.ret_type	= RET_PTR_TO_RINGBUF_MEM_OR_NULL,
	.arg1_type	= ARG_CONST_MAP_PTR,
	.arg2_type	= ARG_CONST_ALLOC_SIZE_OR_ZERO,
	.arg3_type	= ARG_ANYTHING,
};

BPF_CALL_2(bpf_ringbuf_submit, void *, sample, u64, flags)
{
	ringbuf_commit(sample, flags, false);
	return 0;
}

const struct bpf_func_proto bpf_ringbuf_submit_proto = {
	.func		= bpf_ringbuf_submit,
	.ret_type	= RET_VOID,
	.arg1_type	= ARG_PTR_TO_RINGBUF_MEM | OBJ_RELEASE,
	.arg2_type	= ARG_ANYTHING,
};

BPF_CALL_2(bpf_ringbuf_discard, void *, sample, u64, flags)
{
	ringbuf_commit(sample, flags, true);
	return 0;
}

const struct bpf_func_proto bpf_ringbuf_discard_proto = {
	.func		= bpf_ringbuf_discard,
	.ret_type	= RET_VOID,
	.arg1_type	= ARG_PTR_TO_RINGBUF_MEM | OBJ_RELEASE,
	.arg2_type	= ARG_ANYTHING,
};

BPF_CALL_4(bpf_ringbuf_output, struct bpf_map *, map, void *, data, u64, size, u64, flags)
{
	void *sample;

	if (unlikely(flags & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP)))
		return -EINVAL;
	sample = ringbuf_reserve(map_to_ringbuf(map), size);
	if (!sample)
		return -EAGAIN;
	memcpy(sample, data, size);
	ringbuf_commit(sample, flags, false);
	return 0;
}

const struct bpf_func_proto bpf_ringbuf_output_proto = {
	.func		= bpf_ringbuf_output,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_CONST_MAP_PTR,
	.arg2_type	= ARG_PTR_TO_MEM | MEM_RDONLY,
	.arg3_type	= ARG_CONST_SIZE_OR_ZERO,
	.arg4_type	= ARG_ANYTHING,
};

BPF_CALL_2(bpf_ringbuf_query, struct bpf_map *, map, u64, what)
{
	struct bpf_ringbuf *rb = map_to_ringbuf(map);

	switch (what) {
	case BPF_RB_AVAIL_DATA:
		return ringbuf_avail_data(rb);
	case BPF_RB_RING_SIZE:
		return ringbuf_size(rb);
	case BPF_RB_CONS_POS:
		return READ_ONCE(rb->consumer_pos);
	case BPF_RB_PROD_POS:
		return READ_ONCE(rb->producer_pos);
	case BPF_RB_OVERWRITE_POS:
		return READ_ONCE(rb->overwrite_pos);
	case BPF_RB_LOST:
		return atomic_long_read(&rb->lost);
	default:
		return 0;
	}
}

const struct bpf_func_proto bpf_ringbuf_query_proto = {
	.func		= bpf_ringbuf_query,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_CONST_MAP_PTR,
	.arg2_type	= ARG_ANYTHING,
};

BPF_CALL_4(bpf_ringbuf_reserve_dynptr, struct bpf_map *, map, u32, size, u64, flags,
	   struct bpf_dynptr_kern *, ptr)
{
	void *sample;
	int err;

	/* Whatever fails, a dynptr that submit and discard accept comes back. */
	bpf_dynptr_set_null(ptr);
	if (unlikely(flags))
		return -EINVAL;
	err = bpf_dynptr_check_size(size);
	if (unlikely(err))
		return err;
	sample = ringbuf_reserve(map_to_ringbuf(map), size);
	if (!sample)
		return -EINVAL;
	bpf_dynptr_init(ptr, sample, BPF_DYNPTR_TYPE_RINGBUF, 0, size);
	return 0;
}

const struct bpf_func_proto bpf_ringbuf_reserve_dynptr_proto = {
	.func		= bpf_ringbuf_reserve_dynptr,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_CONST_MAP_PTR,
	.arg2_type	= ARG_ANYTHING,
	.arg3_type	= ARG_ANYTHING,
	.arg4_type	= ARG_PTR_TO_DYNPTR | DYNPTR_TYPE_RINGBUF | MEM_UNINIT | MEM_WRITE,
};

static __always_inline void ringbuf_commit_dynptr(struct bpf_dynptr_kern *ptr, u64 flags,
						  bool discard)
{
	if (!ptr->data)
		return;
	ringbuf_commit(ptr->data, flags, discard);
	bpf_dynptr_set_null(ptr);
}

BPF_CALL_2(bpf_ringbuf_submit_dynptr, struct bpf_dynptr_kern *, ptr, u64, flags)
{
	ringbuf_commit_dynptr(ptr, flags, false);
	return 0;
}

const struct bpf_func_proto bpf_ringbuf_submit_dynptr_proto = {
	.func		= bpf_ringbuf_submit_dynptr,
	.ret_type	= RET_VOID,
	.arg1_type	= ARG_PTR_TO_DYNPTR | DYNPTR_TYPE_RINGBUF | OBJ_RELEASE,
	.arg2_type	= ARG_ANYTHING,
};

BPF_CALL_2(bpf_ringbuf_discard_dynptr, struct bpf_dynptr_kern *, ptr, u64, flags)
{
	ringbuf_commit_dynptr(ptr, flags, true);
	return 0;
}

const struct bpf_func_proto bpf_ringbuf_discard_dynptr_proto = {
	.func		= bpf_ringbuf_discard_dynptr,
	.ret_type	= RET_VOID,
	.arg1_type	= ARG_PTR_TO_DYNPTR | DYNPTR_TYPE_RINGBUF | OBJ_RELEASE,
	.arg2_type	= ARG_ANYTHING,
};

/* User ring */

/*
 * The sample at consumer_pos: its payload, with *@len and *@flags from its header. NULL if
 * there is none, or an error if user space broke the rules.
 */
static void *user_ringbuf_peek(struct bpf_ringbuf *rb, u32 *len, u32 *flags)
{
	unsigned long prod, cons, avail;
	struct bpf_ringbuf_hdr *hdr;
	u32 word;

	/* Acquire pairs with user space's release after it wrote the header. */
	prod = smp_load_acquire(&rb->producer_pos);
	cons = rb->consumer_pos;
	avail = prod - cons;
	if (prod % 8)
		return ERR_PTR(-EINVAL);
	if ((long)avail <= 0)
		return NULL;

	/* The one read of the header. */
	hdr = ringbuf_hdr(rb, cons);
	/* Acquire pairs with user space's release of the busy bit. */
	word = smp_load_acquire(&hdr->len);
	*flags = word & (BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
	*len = word & ~*flags;
	if (record_size(*len) > avail)
		return ERR_PTR(-EINVAL);
	if (record_size(*len) > ringbuf_size(rb) || bpf_dynptr_check_size(*len))
		return ERR_PTR(-E2BIG);
	return hdr + 1;
}

BPF_CALL_4(bpf_user_ringbuf_drain, struct bpf_map *, map, void *, callback_fn,
	   void *, callback_ctx, u64, flags)
{
	bpf_callback_t callback = (bpf_callback_t)callback_fn;
	struct bpf_ringbuf *rb = map_to_ringbuf(map);
	struct bpf_dynptr_kern dynptr;
	u32 len, sample_flags;
	long samples = 0;
	int i, stop = 0;
	void *sample;

	if (unlikely(flags & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP)))
		return -EINVAL;
	/* A callback may run for long: others are turned away, not made to wait. */
	if (atomic_cmpxchg_acquire(&rb->busy, 0, 1))
		return -EBUSY;

	for (i = 0; i < BPF_MAX_USER_RINGBUF_SAMPLES && !stop; i++) {
		sample = user_ringbuf_peek(rb, &len, &sample_flags);
		if (IS_ERR_OR_NULL(sample))
			break;
		if (sample_flags == BPF_RINGBUF_BUSY_BIT) {
			sample = NULL;
			break;
		}
		if (!(sample_flags & BPF_RINGBUF_DISCARD_BIT)) {
			bpf_dynptr_init(&dynptr, sample, BPF_DYNPTR_TYPE_LOCAL, 0, len);
			stop = callback((uintptr_t)&dynptr, (uintptr_t)callback_ctx, 0, 0, 0);
			samples++;
		}
		/* Release pairs with user space's acquire before it uses the space again. */
		smp_store_release(&rb->consumer_pos, rb->consumer_pos + record_size(len));
	}
	/* Release pairs with the acquire above, for consumer_pos. */
	atomic_set_release(&rb->busy, 0);

	ringbuf_wake(rb, i > 0, flags);
	return IS_ERR(sample) ? PTR_ERR(sample) : samples;
}

const struct bpf_func_proto bpf_user_ringbuf_drain_proto = {
	.func		= bpf_user_ringbuf_drain,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_CONST_MAP_PTR,
	.arg2_type	= ARG_PTR_TO_FUNC,
	.arg3_type	= ARG_PTR_TO_STACK_OR_NULL,
	.arg4_type	= ARG_ANYTHING,
};
