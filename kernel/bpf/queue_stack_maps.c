// SPDX-License-Identifier: GPL-2.0-only
/*
 * BPF queue and stack maps
 */

/**
 * DOC: queue and stack maps
 *
 * Bounded containers of values of one size, without keys, allocated in full at creation. A
 * queue gives back the oldest value first, a stack the newest. Both are one ring of slots::
 *
 *            out.slot (queue)              in.slot
 *              |                             |
 *   [     ][ oldest ][        ][ ... ][ newest ][     ]
 *
 *   push   fills the slot behind the newest; when all are taken it fails, or with
 *          BPF_EXIST drops the oldest
 *   pop    takes the oldest (queue) or the newest (stack)
 *   peek   copies what pop would take
 *
 * A queue has two sides, each with a lock and cache lines of its own: who pushes (in) and who
 * pops or peeks (out) do not wait for each other. Each side counts the values that passed it,
 * and remembers what it last saw of the other's count; it looks again only when there seems to
 * be too little room, or too few values. Only BPF_EXIST in a full queue takes both locks. All
 * of a stack is under in's lock, and in.pushed and in.other are the exact counts.
 *
 * Invariants (count is in.done - out.done, in a stack in.pushed - in.other):
 *
 * 1. count <= max_entries; at the end of a push that drops there is one more for an instant,
 *    but only for those who look without the locks.
 * 2. in.slot follows the newest value, and out.slot is the oldest's: each moves with its
 *    side's done.
 * 3. A slot with a value is read by the owner of out's lock and written by nobody, except by
 *    who has both locks. A slot without one belongs to the owner of in's lock.
 * 4. What a side remembers of the other's count is never ahead of it, and never so far behind
 *    that there seem to be more values, or more room, than there can be:
 *    out.done <= out.other <= in.done, in.done - max_entries <= in.other <= out.done.
 *
 * Whoever finds no room, or no value, holds the lock of its own side, so that its own count
 * stands still: at the moment when it read the other one the queue was really full, or empty.
 *
 * Barriers:
 *
 * A. A push fills the slot, then store-releases in.done. A pop load-acquires in.done, then reads
 *    the slot.
 * B. A pop reads the slot, then store-releases out.done. A push load-acquires out.done, then
 *    writes to the slot. What an earlier owner saw was acquired by it, and came with the lock.
 * C. The first poller sets polled, and has waited for an RCU grace period before it looks at
 *    the counts. Operations read polled with interrupts off: they see it set, or the poller
 *    sees what they did. So a map that nobody polls needs no more than that read.
 * D. With polled set, there is a full barrier after the store to one's own count and before
 *    the looks at the wait queue and the other count. A poller has one between entering the wait
 *    queue and the first count, and between its looks at the counts. If it saw the
 *    queue empty at count p, the push that moves in.done from p sees that out.done has reached
 *    p, and wakes it; likewise for full. Later pushes need not; so that push is not preempted
 *    before it has done it. A pop that fails has such a barrier before its last look, too:
 *    who then waits for an edge of epoll does not look again.
 *
 * Programs in any context, NMI included, and system calls may come in at any time. The locks
 * are &struct bpf_reslock: an operation that would have to wait for the one that it interrupted
 * on its own CPU gets -EBUSY, and none waits for longer than the lock's bound. Nothing inside
 * calls a traceable function, unless the memory of a system call's caller is missing.
 *
 * System calls copy to user space under the lock, with page faults off. If a page is missing,
 * nothing is removed; the page is brought in without the lock, and the copy starts again. So a
 * value is removed if and only if it has been copied.
 *
 * A program's destination that gets no value is zeroed, whatever the error, since programs may
 * hand in memory that they have not initialised.
 */

#include <linux/bpf.h>
#include <linux/bpf_reslock.h>
#include <linux/btf_ids.h>
#include <linux/cache.h>
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/irq_work.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/pagemap.h>
#include <linux/poll.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#define QUEUE_STACK_CREATE_FLAGS (BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK)

/* What a batch copies in one go, in bytes, if a value is not larger. */
#define BATCH_BYTES	SZ_64K
/* The same where all is to be of one moment; other CPUs wait about a millisecond. */
#define MOMENT_BYTES	(IS_ENABLED(CONFIG_PREEMPT_RT) ? BATCH_BYTES : SZ_4M)
/* How many values of a stack, which are copied one by one. */
#define MOMENT_VALUES	SZ_64K
/* How often a copy is started again whose pages went away again. */
#define BATCH_TRIES	16
/* How often a push that needs both locks finds the second one taken. */
#define EXIST_TRIES	64

/**
 * struct queue_stack_side - where values go in, or come out
 * @lock: protects all below
 * @polled: there has been a poller: look whether to wake one
 * @slot: the next one to be filled, or the oldest value's
 * @other: @done of the other side, as last seen; of a stack, how many values came out
 * @pushed: of a stack, how many went in, as nobody needs @done
 * @done: how many values passed since creation; wraps. On a line of its own, since the other
 *	side reads it: what its owner alone needs stays where it is
 */
struct queue_stack_side {
	struct bpf_reslock lock;
	bool polled;
	u32 slot;
	unsigned long other;
	unsigned long pushed;
	unsigned long done ____cacheline_aligned_in_smp;
} ____cacheline_aligned_in_smp;

/**
 * struct bpf_queue_stack - a queue or a stack
 * @map: the generic part; first, since BTF users read it there
 * @waitq: pollers
 * @work: wakes them, outside of whatever an operation may have interrupted
 * @events: what it wakes them for
 * @pollable: the grace period after @polled was set is over
 * @in: where values are pushed; a stack's only side
 * @out: where a queue's values are popped
 * @values: max_entries slots of value_size bytes, without gaps
 */
struct bpf_queue_stack {
	struct bpf_map map;
	wait_queue_head_t waitq;
	struct irq_work work;
	atomic_t events;
	bool pollable;
	struct queue_stack_side in;
	struct queue_stack_side out;
	char values[] __aligned(8);
};

/* A constant wherever speed matters. */
enum queue_stack_type { QS_QUEUE, QS_STACK };

static __always_inline struct bpf_queue_stack *to_queue_stack(const struct bpf_map *map)
{
	return container_of(map, struct bpf_queue_stack, map);
}

static __always_inline enum queue_stack_type type_of(const struct bpf_queue_stack *qs)
{
	return qs->map.map_type == BPF_MAP_TYPE_STACK ? QS_STACK : QS_QUEUE;
}

/* The slot @n behind @slot, in a circle; their sum may exceed a u32. */
static __always_inline u32 slot_after(const struct bpf_queue_stack *qs, u32 slot, u32 n)
{
	u32 to_end = qs->map.max_entries - slot;

	return n < to_end ? slot + n : n - to_end;
}

static __always_inline void *slot_value(struct bpf_queue_stack *qs, u32 slot)
{
	return qs->values + (size_t)slot * qs->map.value_size;
}

/* The side where values come out. */
static __always_inline struct queue_stack_side *
out_side(struct bpf_queue_stack *qs, enum queue_stack_type type)
{
	return type == QS_STACK ? &qs->in : &qs->out;
}

/* How many values came out: for reading without the lock, too. */
static __always_inline unsigned long *
out_done(struct bpf_queue_stack *qs, enum queue_stack_type type)
{
	return type == QS_STACK ? &qs->in.other : &qs->out.done;
}

/* How many values went in: likewise. */
static __always_inline unsigned long *
in_done(struct bpf_queue_stack *qs, enum queue_stack_type type)
{
	return type == QS_STACK ? &qs->in.pushed : &qs->in.done;
}

/* With the lock of the side where values come out: how many there are, @wanted if so many. */
static __always_inline unsigned long
nr_values(struct bpf_queue_stack *qs, unsigned long wanted, enum queue_stack_type type)
{
	if (type == QS_STACK)
		return qs->in.pushed - qs->in.other;
	if (qs->out.other - qs->out.done < wanted) {
		if (unlikely(qs->out.polled))
			smp_mb(); /* Barrier D */
		qs->out.other = smp_load_acquire(&qs->in.done); /* Barrier A */
	}
	return qs->out.other - qs->out.done;
}

/* The slot of the nth value in the order of pops. */
static __always_inline u32
nth_slot(struct bpf_queue_stack *qs, u32 n, enum queue_stack_type type)
{
	if (type == QS_STACK)
		return slot_after(qs, qs->in.slot, qs->map.max_entries - 1 - n);
	return slot_after(qs, qs->out.slot, n);
}

/* Remove @n values, @n > 0. */
static __always_inline void
remove_values(struct bpf_queue_stack *qs, u32 n, enum queue_stack_type type)
{
	if (type == QS_STACK) {
		qs->in.slot = nth_slot(qs, n - 1, type);
		WRITE_ONCE(qs->in.other, qs->in.other + n);
	} else {
		qs->out.slot = nth_slot(qs, n, type);
		smp_store_release(&qs->out.done, qs->out.done + n); /* Barrier B */
	}
}

/* Pollers */

static void queue_stack_notify(struct irq_work *work)
{
	struct bpf_queue_stack *qs = container_of(work, struct bpf_queue_stack, work);
	__poll_t events = (__force __poll_t)atomic_xchg(&qs->events, 0);

	/* If none, a run on another CPU has taken them; 0 would stand for all. */
	if (events)
		__wake_up(&qs->waitq, TASK_NORMAL, 0, poll_to_key(events));
}

static void queue_stack_wake(struct bpf_queue_stack *qs, __poll_t events)
{
	atomic_or((__force int)events, &qs->events);
	irq_work_queue(&qs->work);
}

/* After a push that moved in.done from @before on. */
static noinline void queue_stack_pushed(struct bpf_queue_stack *qs, unsigned long before)
{
	/* Barrier D */
	smp_mb();
	/* If pops have not come that far, there was something to pop all the time. */
	if (waitqueue_active(&qs->waitq) && /* After the barrier */
	    (long)(READ_ONCE(*out_done(qs, type_of(qs))) - before) >= 0)
		queue_stack_wake(qs, EPOLLIN | EPOLLRDNORM);
}

/* After a pop that moved the other count from @before on. */
static noinline void queue_stack_popped(struct bpf_queue_stack *qs, unsigned long before)
{
	/* Barrier D */
	smp_mb();
	if (waitqueue_active(&qs->waitq) && /* After the barrier */
	    READ_ONCE(*in_done(qs, type_of(qs))) - before >= qs->map.max_entries)
		queue_stack_wake(qs, EPOLLOUT | EPOLLWRNORM);
}

/*
 * Release the lock of a side whose count an operation has moved from @before on, and @wake who
 * waits for that. A reschedule that was due with interrupts off comes after both.
 */
static __always_inline void
release_and_wake(struct bpf_queue_stack *qs, struct bpf_reslock *lock, unsigned long flags,
		 void (*wake)(struct bpf_queue_stack *qs, unsigned long before),
		 unsigned long before)
{
	bool polled = container_of(lock, struct queue_stack_side, lock)->polled;

	if (unlikely(polled))
		preempt_disable_notrace();	/* The lock is held */
	bpf_reslock_release(lock, flags);
	if (unlikely(polled)) {
		wake(qs, before);
		preempt_enable_notrace();
	}
}

/* How many values there were at one moment, without the locks. */
static u32 queue_stack_count(struct bpf_queue_stack *qs)
{
	unsigned long *out_count = out_done(qs, type_of(qs));
	unsigned long *in_count = in_done(qs, type_of(qs)), in, out;

	do {
		smp_mb(); /* Barrier D: after the wait queue was entered */
		out = READ_ONCE(*out_count);
		smp_mb(); /* Barrier D */
		in = READ_ONCE(*in_count);
		smp_mb(); /* Barrier D */
	} while (READ_ONCE(*out_count) != out);
	/* One too many: see invariant 1. */
	return min(in - out, qs->map.max_entries);
}

static __poll_t queue_stack_map_poll(struct bpf_map *map, struct file *filp,
				     struct poll_table_struct *pts)
{
	struct bpf_queue_stack *qs = to_queue_stack(map);
	__poll_t events = 0;
	u32 count;

	/* Acquire pairs with the release below: the grace period is over for this poller, too. */
	if (!smp_load_acquire(&qs->pollable)) {
		WRITE_ONCE(qs->in.polled, true);
		WRITE_ONCE(qs->out.polled, true);
		synchronize_rcu(); /* Barrier C */
		smp_store_release(&qs->pollable, true);
	}
	poll_wait(filp, &qs->waitq, pts);
	count = queue_stack_count(qs);
	if (count)
		events |= EPOLLIN | EPOLLRDNORM;
	if (count < map->max_entries)
		events |= EPOLLOUT | EPOLLWRNORM;
	return events;
}

/* Creation */

static int queue_stack_map_alloc_check(union bpf_attr *attr)
{
	if (attr->key_size || !attr->value_size || !attr->max_entries)
		return -EINVAL;
	if (attr->map_flags & ~QUEUE_STACK_CREATE_FLAGS ||
	    !bpf_map_flags_access_ok(attr->map_flags))
		return -EINVAL;

	/* What kmalloc() could copy for a system call; users know the error. */
	if (attr->value_size > KMALLOC_MAX_SIZE)
		return -E2BIG;
	/* All slots together stay below 4 GiB. */
	if (attr->max_entries >= U32_MAX / attr->value_size)
		return -E2BIG;
	return 0;
}

static u64 queue_stack_map_size(u32 max_entries, u32 value_size)
{
	return offsetof(struct bpf_queue_stack, values) + (u64)max_entries * value_size;
}

static struct bpf_map *queue_stack_map_alloc(union bpf_attr *attr)
{
	u64 size = queue_stack_map_size(attr->max_entries, attr->value_size);
	struct bpf_queue_stack *qs;

	qs = bpf_map_area_alloc(size, bpf_map_attr_numa_node(attr));
	if (!qs)
		return ERR_PTR(-ENOMEM);

	bpf_map_init_from_attr(&qs->map, attr);
	bpf_reslock_init(&qs->in.lock);
	bpf_reslock_init(&qs->out.lock);
	init_waitqueue_head(&qs->waitq);
	/* Not a HARD one: on PREEMPT_RT a wakeup takes sleeping locks. */
	init_irq_work(&qs->work, queue_stack_notify);
	return &qs->map;
}

static void queue_stack_map_free(struct bpf_map *map)
{
	struct bpf_queue_stack *qs = to_queue_stack(map);

	/* An operation just before the last reference went may have queued it. */
	irq_work_sync(&qs->work);
	bpf_map_area_free(qs);
}

static u64 queue_stack_map_mem_usage(const struct bpf_map *map)
{
	return queue_stack_map_size(map->max_entries, map->value_size);
}

static void queue_stack_map_show_fdinfo(const struct bpf_map *map, struct seq_file *m)
{
	seq_printf(m, "entries:\t%u\n", queue_stack_count(to_queue_stack(map)));
}

/* Push */

/*
 * Push to a full queue, and drop its oldest value if it is still full. Whoever waits for one
 * lock does not hold the other one: an NMI in that one's section may wait for ours.
 */
static noinline long push_dropping(struct bpf_queue_stack *qs, const void *value)
{
	struct queue_stack_side *in = &qs->in, *out = &qs->out;
	struct bpf_reslock *first = &in->lock, *second = &out->lock;
	unsigned long flags, second_flags, before;
	bool drop;
	int tries;

	for (tries = 0; tries < EXIST_TRIES; tries++) {
		if (!bpf_reslock_acquire(first, &flags))
			return -EBUSY;
		if (bpf_reslock_tryacquire(second, &second_flags))
			goto locked;
		bpf_reslock_release(first, flags);
		/* Wait for the one that was not free. */
		swap(first, second);
	}
	return -EBUSY;

locked:
	before = in->done;
	in->other = out->done;
	drop = before - in->other == qs->map.max_entries;
	/* If the queue is full this is the oldest value's slot. */
	memcpy(slot_value(qs, in->slot), value, qs->map.value_size);
	in->slot = slot_after(qs, in->slot, 1);
	smp_store_release(&in->done, before + 1); /* Barrier A */
	out->other = before + 1;
	/* Last, so that nobody sees room where there never was any. */
	if (drop) {
		in->other++;
		remove_values(qs, 1, QS_QUEUE);
	}
	bpf_reslock_release(second, second_flags);
	release_and_wake(qs, first, flags, queue_stack_pushed, before);
	return 1;
}

/* Push as many of @n values as there is room for, one at least: how many, or an error. */
static __always_inline long push_values(struct bpf_queue_stack *qs, const void *values, u32 n,
					u64 flags, enum queue_stack_type type)
{
	u32 size = qs->map.value_size, max = qs->map.max_entries, i;
	struct queue_stack_side *in = &qs->in;
	unsigned long irqflags, before, room;
	bool drop = false;

	if (unlikely(!bpf_reslock_acquire(&in->lock, &irqflags)))
		return -EBUSY;

	before = *in_done(qs, type);
	room = max - (before - in->other);
	if (unlikely(room < n) && type == QS_QUEUE) {
		if (unlikely(in->polled))
			smp_mb(); /* Barrier D */
		in->other = smp_load_acquire(&qs->out.done); /* Barrier B */
		room = max - (before - in->other);
	}
	if (unlikely(!room)) {
		if (flags != BPF_EXIST || type == QS_QUEUE) {
			bpf_reslock_release(&in->lock, irqflags);
			return flags == BPF_EXIST ? push_dropping(qs, values) : -E2BIG;
		}
		/* The oldest value's slot is the next one. */
		drop = true;
		room = 1;
	}
	n = min(n, room);
	for (i = 0; i < n; i++) {
		memcpy(slot_value(qs, in->slot), values + (size_t)i * size, size);
		in->slot = slot_after(qs, in->slot, 1);
	}
	smp_store_release(in_done(qs, type), before + n); /* Barrier A */
	if (unlikely(drop))
		WRITE_ONCE(in->other, in->other + 1);
	release_and_wake(qs, &in->lock, irqflags, queue_stack_pushed, before);
	return n;
}

static __always_inline long push_elem(struct bpf_map *map, void *value, u64 flags,
				      enum queue_stack_type type)
{
	long ret;

	if (unlikely(flags != BPF_ANY && flags != BPF_EXIST))
		return -EINVAL;
	ret = push_values(to_queue_stack(map), value, 1, flags, type);
	return ret < 0 ? ret : 0;
}

static long queue_map_push_elem(struct bpf_map *map, void *value, u64 flags)
{
	return push_elem(map, value, flags, QS_QUEUE);
}

static long stack_map_push_elem(struct bpf_map *map, void *value, u64 flags)
{
	return push_elem(map, value, flags, QS_STACK);
}

static int queue_stack_map_update_batch(struct bpf_map *map, struct file *map_file,
					const union bpf_attr *attr, union bpf_attr __user *uattr)
{
	u32 size = map->value_size, max = attr->batch.count, nr = 0, chunk, n, i;
	const void __user *values = u64_to_user_ptr(attr->batch.values);
	struct bpf_queue_stack *qs = to_queue_stack(map);
	u64 flags = attr->batch.elem_flags;
	long err = 0, ret;
	void *buf;

	if (put_user(0, &uattr->batch.count))
		return -EFAULT;
	if (attr->batch.flags || (flags != BPF_ANY && flags != BPF_EXIST))
		return -EINVAL;
	if (!max)
		return 0;
	chunk = min(max, max_t(u32, BATCH_BYTES / size, 1));
	buf = kvmalloc_array(chunk, size, GFP_USER | __GFP_NOWARN);
	if (!buf)
		return -ENOMEM;

	while (nr < max && !err) {
		n = min(max - nr, chunk);
		ret = copy_from_user(buf, values, (size_t)n * size);
		if (ret) {
			n -= DIV_ROUND_UP(ret, size);
			err = -EFAULT;
		}
		for (i = 0; i < n; i += ret) {
			ret = push_values(qs, buf + (size_t)i * size, n - i, flags, type_of(qs));
			if (ret < 0) {
				err = ret;
				break;
			}
		}
		nr += i;
		values += (size_t)i * size;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	kvfree(buf);
	return put_user(nr, &uattr->batch.count) ? -EFAULT : err;
}

/* Pop and peek */

static __always_inline long copy_out(struct bpf_map *map, void *value, bool remove,
				     enum queue_stack_type type)
{
	struct bpf_queue_stack *qs = to_queue_stack(map);
	struct queue_stack_side *side = out_side(qs, type);
	unsigned long irqflags, before;
	long err = -EBUSY;

	if (unlikely(!bpf_reslock_acquire(&side->lock, &irqflags)))
		goto no_value;
	if (unlikely(!nr_values(qs, 1, type))) {
		bpf_reslock_release(&side->lock, irqflags);
		err = -ENOENT;
		goto no_value;
	}
	memcpy(value, slot_value(qs, nth_slot(qs, 0, type)), map->value_size);
	before = *out_done(qs, type);
	if (remove) {
		remove_values(qs, 1, type);
		release_and_wake(qs, &side->lock, irqflags, queue_stack_popped, before);
	} else {
		bpf_reslock_release(&side->lock, irqflags);
	}
	return 0;

no_value:
	memset(value, 0, map->value_size);
	return err;
}

static long queue_map_pop_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, true, QS_QUEUE);
}

static long queue_map_peek_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, false, QS_QUEUE);
}

static long stack_map_pop_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, true, QS_STACK);
}

static long stack_map_peek_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, false, QS_STACK);
}

/*
 * With the lock: copy @n values to user space, from the one at @skip in the order of pops, if
 * no page of it is missing.
 */
static noinline notrace bool copy_values(struct bpf_queue_stack *qs, void __user *to, u32 skip,
					 u32 n, enum queue_stack_type type)
{
	u32 size = qs->map.value_size, slot, run;
	bool missing = !access_ok(to, (size_t)n * size);

	pagefault_disable();
	for (; n && !missing; n -= run, skip += run) {
		slot = nth_slot(qs, skip, type);
		/* Those of a queue are in this order, up to the end of the ring. */
		run = type == QS_STACK ? 1 : min(n, qs->map.max_entries - slot);
		missing = __copy_to_user_inatomic(to, slot_value(qs, slot), (size_t)run * size);
		to += (size_t)run * size;
	}
	pagefault_enable();
	return !missing;
}

/* What a peek of several values that lets go of the lock must not lose sight of. */
struct queue_stack_moment {
	unsigned long in;	/* the counts at that moment */
	unsigned long out;
};

/* With the lock: the place of value number @nr of that moment, or -EBUSY if it may be gone. */
static __always_inline long
place_now(struct bpf_queue_stack *qs, const struct queue_stack_moment *then, u32 nr,
	  enum queue_stack_type type)
{
	unsigned long gone = *out_done(qs, type) - then->out;

	if (type == QS_STACK)
		return gone ? -EBUSY : *in_done(qs, type) - then->in + nr;
	return gone > nr ? -EBUSY : nr - gone;
}

/*
 * For a system call: pop values, or copy what pops would take at one moment. *@nr tells how many;
 * without an error, less than @max means that those were all.
 */
static int take_out(struct bpf_queue_stack *qs, void __user *to, u32 max, bool remove, u32 *nr)
{
	u32 size = qs->map.value_size, all = max, tries = 0, chunk, limit, n;
	enum queue_stack_type type = type_of(qs);
	struct queue_stack_side *side = out_side(qs, type);
	struct queue_stack_moment then = {};
	unsigned long irqflags, before, left;
	bool copied;
	long place = 0;

	chunk = max_t(u32, (remove ? BATCH_BYTES : MOMENT_BYTES) / size, 1);
	if (type == QS_STACK)
		chunk = min(chunk, MOMENT_VALUES);
	for (*nr = 0, limit = chunk; *nr < max; cond_resched()) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (!bpf_reslock_acquire(&side->lock, &irqflags))
			return -EBUSY;
		before = *out_done(qs, type);
		n = min(max - *nr, limit);
		if (remove) {
			n = min(n, nr_values(qs, n, type));
		} else if (!*nr) {
			max = min(all, nr_values(qs, all, type));
			n = min(max, limit);
			then.in = READ_ONCE(*in_done(qs, type));
			then.out = before;
		} else {
			place = place_now(qs, &then, *nr, type);
			if (place < 0) {
				bpf_reslock_release(&side->lock, irqflags);
				return place;
			}
		}
		copied = !n || copy_values(qs, to, place, n, type);
		if (n && copied && remove) {
			remove_values(qs, n, type);
			release_and_wake(qs, &side->lock, irqflags, queue_stack_popped, before);
		} else {
			bpf_reslock_release(&side->lock, irqflags);
		}

		if (!n)
			break;
		if (copied) {
			*nr += n;
			to += (size_t)n * size;
			limit = chunk;
			tries = 0;
			continue;
		}
		left = fault_in_safe_writeable(to, (size_t)n * size);
		limit = n - DIV_ROUND_UP(left, size);
		/* It may be there, and fault for other reasons. */
		if (!limit || tries++ == BATCH_TRIES)
			return -EFAULT;
	}
	return *nr ? 0 : -ENOENT;
}

static int queue_stack_map_lookup_and_delete_user(struct bpf_map *map, void *key,
						  void __user *value, u64 flags)
{
	u32 nr;

	return take_out(to_queue_stack(map), value, 1, true, &nr);
}

static int do_lookup_batch(struct bpf_map *map, const union bpf_attr *attr,
			   union bpf_attr __user *uattr, bool remove)
{
	u32 nr = 0;
	int err;

	if (put_user(0, &uattr->batch.count))
		return -EFAULT;
	if (attr->batch.elem_flags || attr->batch.flags)
		return -EINVAL;
	if (!attr->batch.count)
		return 0;
	err = take_out(to_queue_stack(map), u64_to_user_ptr(attr->batch.values),
		       attr->batch.count, remove, &nr);
	return put_user(nr, &uattr->batch.count) ? -EFAULT : err;
}

static int queue_stack_map_lookup_batch(struct bpf_map *map, const union bpf_attr *attr,
					union bpf_attr __user *uattr)
{
	return do_lookup_batch(map, attr, uattr, false);
}

static int queue_stack_map_lookup_and_delete_batch(struct bpf_map *map, const union bpf_attr *attr,
						   union bpf_attr __user *uattr)
{
	return do_lookup_batch(map, attr, uattr, true);
}

/* There are no keys: what needs one is refused. */

static void *queue_stack_map_lookup_elem(struct bpf_map *map, void *key)
{
	return NULL;
}

static long queue_stack_map_update_elem(struct bpf_map *map, void *key, void *value, u64 flags)
{
	return -EINVAL;
}

static long queue_stack_map_delete_elem(struct bpf_map *map, void *key)
{
	return -EINVAL;
}

static int queue_stack_map_get_next_key(struct bpf_map *map, void *key, void *next_key)
{
	return -EINVAL;
}

BTF_ID_LIST_SINGLE(queue_stack_map_btf_ids, struct, bpf_queue_stack)

const struct bpf_map_ops queue_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc_check = queue_stack_map_alloc_check,
	.map_alloc = queue_stack_map_alloc,
	.map_free = queue_stack_map_free,
	.map_mem_usage = queue_stack_map_mem_usage,
	.map_show_fdinfo = queue_stack_map_show_fdinfo,
	.map_poll = queue_stack_map_poll,
	.map_push_elem = queue_map_push_elem,
	.map_pop_elem = queue_map_pop_elem,
	.map_peek_elem = queue_map_peek_elem,
	.map_lookup_elem = queue_stack_map_lookup_elem,
	.map_update_elem = queue_stack_map_update_elem,
	.map_delete_elem = queue_stack_map_delete_elem,
	.map_get_next_key = queue_stack_map_get_next_key,
	.map_lookup_and_delete_user = queue_stack_map_lookup_and_delete_user,
	.map_lookup_batch = queue_stack_map_lookup_batch,
	.map_lookup_and_delete_batch = queue_stack_map_lookup_and_delete_batch,
	.map_update_batch = queue_stack_map_update_batch,
	.map_btf_id = &queue_stack_map_btf_ids[0],
};

const struct bpf_map_ops stack_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc_check = queue_stack_map_alloc_check,
	.map_alloc = queue_stack_map_alloc,
	.map_free = queue_stack_map_free,
	.map_mem_usage = queue_stack_map_mem_usage,
	.map_show_fdinfo = queue_stack_map_show_fdinfo,
	.map_poll = queue_stack_map_poll,
	.map_push_elem = stack_map_push_elem,
	.map_pop_elem = stack_map_pop_elem,
	.map_peek_elem = stack_map_peek_elem,
	.map_lookup_elem = queue_stack_map_lookup_elem,
	.map_update_elem = queue_stack_map_update_elem,
	.map_delete_elem = queue_stack_map_delete_elem,
	.map_get_next_key = queue_stack_map_get_next_key,
	.map_lookup_and_delete_user = queue_stack_map_lookup_and_delete_user,
	.map_lookup_batch = queue_stack_map_lookup_batch,
	.map_lookup_and_delete_batch = queue_stack_map_lookup_and_delete_batch,
	.map_update_batch = queue_stack_map_update_batch,
	.map_btf_id = &queue_stack_map_btf_ids[0],
};
