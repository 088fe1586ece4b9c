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
 *            first                first + count - 1
 *              |                          |
 *   [     ][ oldest ][        ][ ... ][ newest ][     ]
 *
 *   push   fills the slot behind the newest; when all are taken it fails, or with
 *          BPF_EXIST drops the oldest first
 *   pop    takes the oldest (queue) or the newest (stack)
 *   peek   copies what pop would take
 *
 * Invariants, true whenever the lock is free: first < max_entries, count <= max_entries,
 * and the count slots from first on, in a circle, hold the values in the order of their
 * push.
 *
 * Programs in any context, NMI included, and system calls may come in at any time. All
 * state is under a &struct bpf_reslock: an operation that interrupted another one on the
 * same map and CPU gets -EBUSY, and none waits for longer than the lock's bound. Nothing
 * inside calls a traceable function.
 *
 * A destination that gets no value is zeroed, whatever the error, since programs may hand in
 * memory that they have not initialised.
 */

#include <linux/bpf.h>
#include <linux/bpf_reslock.h>
#include <linux/btf_ids.h>
#include <linux/cache.h>
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/limits.h>
#include <linux/slab.h>
#include <linux/string.h>

#define QUEUE_STACK_CREATE_FLAGS (BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK)

/**
 * struct bpf_queue_stack - a queue or a stack
 * @map: the generic part; first, since BTF users read it there
 * @lock: protects all below
 * @first: slot of the oldest value
 * @count: how many values there are
 * @values: max_entries slots of value_size bytes, without gaps
 */
struct bpf_queue_stack {
	struct bpf_map map;
	struct bpf_reslock lock ____cacheline_aligned_in_smp;
	u32 first;
	u32 count;
	char values[] __aligned(8);
};

/* Which end a value is taken from. */
enum queue_stack_end { QS_OLDEST, QS_NEWEST };

static __always_inline struct bpf_queue_stack *to_queue_stack(struct bpf_map *map)
{
	return container_of(map, struct bpf_queue_stack, map);
}

/* The slot of the nth value counted from the oldest; first + nth may exceed a u32. */
static __always_inline void *nth_slot(struct bpf_queue_stack *qs, u32 nth)
{
	u32 to_end = qs->map.max_entries - qs->first;
	u32 slot = nth < to_end ? qs->first + nth : nth - to_end;

	return qs->values + (size_t)slot * qs->map.value_size;
}

static __always_inline void drop_oldest(struct bpf_queue_stack *qs)
{
	if (++qs->first == qs->map.max_entries)
		qs->first = 0;
	qs->count--;
}

/* Peek or pop: copy the value at @end, and remove it if @remove. */
static __always_inline long copy_out(struct bpf_map *map, void *value,
				     enum queue_stack_end end, bool remove)
{
	struct bpf_queue_stack *qs = to_queue_stack(map);
	unsigned long flags;
	long err = 0;

	if (unlikely(!bpf_reslock_acquire(&qs->lock, &flags))) {
		err = -EBUSY;
		goto no_value;
	}
	if (unlikely(!qs->count)) {
		bpf_reslock_release(&qs->lock, flags);
		err = -ENOENT;
		goto no_value;
	}
	memcpy(value, nth_slot(qs, end == QS_OLDEST ? 0 : qs->count - 1), map->value_size);
	if (remove && end == QS_OLDEST)
		drop_oldest(qs);
	else if (remove)
		qs->count--;
	bpf_reslock_release(&qs->lock, flags);
	return 0;

no_value:
	memset(value, 0, map->value_size);
	return err;
}

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
	bpf_reslock_init(&qs->lock);
	return &qs->map;
}

static void queue_stack_map_free(struct bpf_map *map)
{
	bpf_map_area_free(to_queue_stack(map));
}

static u64 queue_stack_map_mem_usage(const struct bpf_map *map)
{
	return queue_stack_map_size(map->max_entries, map->value_size);
}

static long queue_stack_map_push_elem(struct bpf_map *map, void *value, u64 flags)
{
	struct bpf_queue_stack *qs = to_queue_stack(map);
	unsigned long irqflags;

	if (flags != BPF_ANY && flags != BPF_EXIST)
		return -EINVAL;
	if (unlikely(!bpf_reslock_acquire(&qs->lock, &irqflags)))
		return -EBUSY;

	if (unlikely(qs->count == map->max_entries)) {
		if (flags != BPF_EXIST) {
			bpf_reslock_release(&qs->lock, irqflags);
			return -E2BIG;
		}
		drop_oldest(qs);
	}
	memcpy(nth_slot(qs, qs->count), value, map->value_size);
	qs->count++;
	bpf_reslock_release(&qs->lock, irqflags);
	return 0;
}

static long queue_map_pop_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, QS_OLDEST, true);
}

static long queue_map_peek_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, QS_OLDEST, false);
}

static long stack_map_pop_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, QS_NEWEST, true);
}

static long stack_map_peek_elem(struct bpf_map *map, void *value)
{
	return copy_out(map, value, QS_NEWEST, false);
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
	.map_push_elem = queue_stack_map_push_elem,
	.map_pop_elem = queue_map_pop_elem,
	.map_peek_elem = queue_map_peek_elem,
	.map_lookup_elem = queue_stack_map_lookup_elem,
	.map_update_elem = queue_stack_map_update_elem,
	.map_delete_elem = queue_stack_map_delete_elem,
	.map_get_next_key = queue_stack_map_get_next_key,
	.map_btf_id = &queue_stack_map_btf_ids[0],
};

const struct bpf_map_ops stack_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc_check = queue_stack_map_alloc_check,
	.map_alloc = queue_stack_map_alloc,
	.map_free = queue_stack_map_free,
	.map_mem_usage = queue_stack_map_mem_usage,
	.map_push_elem = queue_stack_map_push_elem,
	.map_pop_elem = stack_map_pop_elem,
	.map_peek_elem = stack_map_peek_elem,
	.map_lookup_elem = queue_stack_map_lookup_elem,
	.map_update_elem = queue_stack_map_update_elem,
	.map_delete_elem = queue_stack_map_delete_elem,
	.map_get_next_key = queue_stack_map_get_next_key,
	.map_btf_id = &queue_stack_map_btf_ids[0],
};
