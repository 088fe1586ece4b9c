// SPDX-License-Identifier: GPL-2.0-only
/*
 * BPF stack traces: BPF_MAP_TYPE_STACK_TRACE and the bpf_get_stack*() helpers
 */

/**
 * DOC: stack traces
 *
 * A map of this type gives each different stack that programs hand in a number, its id, and
 * gives the stack back to who has the id. The id is the index of an entry; all entries are
 * allocated with the map. Entries are found through a hash table of chains::
 *
 *   heads   [ version, first ] [ version, first ] ...     one for each entry, or more
 *                        |
 *   entries [ ... ] [ next, hash, words, state | frames ] [ ... ]
 *                       \__________________________________^
 *   used    0 1 1 ...    one bit for each entry
 *
 * So any free entry can hold any stack, and none is lost while there is one, whatever the
 * hashes are. An entry's state is a generation and one of
 *
 *   FREE     nobody's
 *   PRIVATE  of who fills or frees it; or in its chain, but its id is not known yet
 *   LIVE     in its chain, its id is known
 *   DYING    still in its chain, but not found any more
 *
 * The generation counts how often the entry was given back.
 *
 * Insert, in any context, without a lock: walk the chain; if the stack is not there, take an
 * entry, fill it, and make it the first by cmpxchg on the head. Each change of a chain
 * changes its head's version, so success proves that the stack was not there.
 *
 * Remove, under a &struct bpf_reslock: LIVE to DYING, unlink, next generation, FREE. System
 * calls do it, and programs with BPF_F_REUSE_STACKID in a full map.
 *
 * Invariants:
 *
 * 1. An entry is in a chain only if it is PRIVATE, LIVE or DYING. Of those with equal frames
 *    at most one is PRIVATE or LIVE.
 * 2. Frames are written only while the entry is PRIVATE and in no chain.
 * 3. A link is counted in nr_entries after it was made; a removal, before the bit is used again
 *    by its owner, or after it was cleared. So it may be off by those that are under way, but
 *    if it is max_entries or more, there was no room. Where it is less but no bit is free,
 *    somebody is about to insert, to count, or to give up an entry.
 *
 * Barriers:
 *
 * A. The insert's cmpxchg on the head releases the entry; walkers load-acquire the head.
 * B. A walker reads next, then, after smp_rmb(), the head again: if that has not changed, next
 *    was read from the chain. Remove changes the head before it gives the entry away (full
 *    barrier of its cmpxchg), so whoever sees a next that is of the entry's next life sees
 *    the change.
 * C. Who reads frames without being in the chain (system calls) reads the state before
 *    (acquire) and after (smp_rmb()): same generation, same stack. Remove sets the new
 *    generation before the bit is cleared (release), and frames are written after the bit
 *    was set (full barrier); evict_entry() has an smp_wmb() instead.
 * D. An insert counts the entry after the head has changed (full barrier). Who finds the map
 *    full reads the head again after that (smp_rmb()): its stack may be there.
 *
 * Capture
 * =======
 *
 * Unwinding goes into a buffer of this CPU and context, which is kept until the frames were
 * copied or compared: a program that runs nested in the same kind of context gets no buffer,
 * and so cannot overwrite it. Preemption is off as long as it is kept. What perf samples goes
 * to other buffers: the sample that a program was given stays as it is.
 *
 * Build ids
 * =========
 *
 * An address of user space is stored as build id and offset in the file, and these identify
 * the stack. Mappings are looked up under the mmap lock, if it can be had at once, and a few
 * of the last are remembered for the call. Where the helper may sleep, the lock of a mapping
 * is enough; and if the file's pages are not there, the file is read after everything was
 * let go, and the capture repeated.
 */

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/bpf.h>
#include <linux/bpf_reslock.h>
#include <linux/btf_ids.h>
#include <linux/buildid.h>
#include <linux/cleanup.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/jhash.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched/task_stack.h>
#include <linux/seq_file.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "mmap_unlock_work.h"

#define STACK_MAP_CREATE_FLAGS \
	(BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_STACK_BUILD_ID)

#define STACKID_FLAGS \
	(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID)

#define STACK_FLAGS	(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_USER_BUILD_ID)

/* How often a walk or a search starts again because others were faster. */
#define STACK_MAP_RETRIES	64

/* How many bits to look at, about, for one that is free. */
#define STACK_MAP_SCAN		BIT(22)

/* Mappings that one call remembers; a stack seldom goes through more files. */
#define NR_MAPPINGS		8

/* Reads of files that one call waits for. */
#define MAX_FILE_READS		(2 * NR_MAPPINGS)

/* Of an entry's state. */
#define ENTRY_FREE		0
#define ENTRY_PRIVATE		1
#define ENTRY_LIVE		2
#define ENTRY_DYING		3
#define ENTRY_KIND		3
#define ENTRY_GENERATION	4

/**
 * struct stack_entry - a stack
 * @next: 1 + id of the next entry in the chain, or 0
 * @hash: of the frames
 * @words: length of the frames, in words of 64 bits
 * @state: generation and state
 * @frames: addresses, or an array of &struct bpf_stack_build_id
 */
struct stack_entry {
	u32 next;
	u32 hash;
	u32 words;
	atomic_t state;
	u64 frames[];
};

/**
 * struct bpf_stack_map - a map of stacks
 * @map: the generic part; first, since BTF users read it there
 * @entry_size: bytes from one entry to the next
 * @head_mask: number of heads, minus 1
 * @seed: secret, so that nobody can make stacks with equal hashes
 * @entries: array of &struct stack_entry, each with value_size bytes of frames
 * @used: one bit for each entry that is not free
 * @scratch: build-id mode: value_size bytes for each CPU and kind of context
 * @lock: who removes
 * @nr_entries: how many are linked, for which programs have or will have the id; below 0 for
 *              a moment where one was removed before its insert has counted it
 * @lost: stacks that could not be stored
 * @heads: version in the upper half, 1 + id of the first entry or 0 in the lower
 */
struct bpf_stack_map {
	struct bpf_map map;
	u32 entry_size;
	u32 head_mask;
	u64 seed[2];
	void *entries;
	unsigned long *used;
	void *scratch;
	struct bpf_reslock lock ____cacheline_aligned_in_smp;
	atomic_long_t nr_entries;
	atomic_long_t lost;
	atomic64_t heads[] ____cacheline_aligned_in_smp;
};

static __always_inline struct bpf_stack_map *to_stack_map(const struct bpf_map *map)
{
	return container_of(map, struct bpf_stack_map, map);
}

static __always_inline struct stack_entry *nth_entry(const struct bpf_stack_map *smap, u32 id)
{
	return smap->entries + (size_t)id * smap->entry_size;
}

static __always_inline bool has_build_ids(const struct bpf_map *map)
{
	return map->map_flags & BPF_F_STACK_BUILD_ID;
}

static __always_inline size_t frame_size(bool build_ids)
{
	return build_ids ? sizeof(struct bpf_stack_build_id) : sizeof(u64);
}

/* Entries and chains */

static __always_inline s64 new_head(s64 old, u32 first)
{
	return (((u64)old >> 32) + 1) << 32 | first;
}

#ifdef CONFIG_ARCH_SUPPORTS_INT128
static __always_inline u64 fold(u64 a, u64 b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (u64)product ^ (u64)(product >> 64);
}

/*
 * Two words by one multiplication, after wyhash (Wang Yi, "Modern Non-Cryptographic Hash
 * Function and Pseudorandom Generator", 2021), with secrets in place of its constants.
 */
static __always_inline u32 stack_hash(const struct bpf_stack_map *smap, const u64 *frames,
				      u32 words)
{
	u64 hash = smap->seed[0], key = smap->seed[1];
	u32 i;

	for (i = 0; i + 1 < words; i += 2)
		hash = fold(frames[i] ^ key, frames[i + 1] ^ hash);
	if (i < words)
		hash = fold(frames[i] ^ key, hash);
	return fold(hash ^ key, smap->seed[0] ^ words) >> 16;
}
#else
static __always_inline u32 stack_hash(const struct bpf_stack_map *smap, const u64 *frames,
				      u32 words)
{
	return jhash2((const u32 *)frames, words * 2, smap->seed[0]);
}
#endif

static __always_inline bool frames_equal(const u64 *frame, const u64 *frames, u32 words)
{
	u32 i;

	for (i = 0; i < words; i++) {
		/* It may be rewritten: find_stack() sees that in the head. */
		if (data_race(frame[i]) != frames[i])
			return false;
	}
	return true;
}

/* Nothing happens where another one has done it, and maybe removed the entry, already. */
static __always_inline void make_live(struct stack_entry *e, int state)
{
	atomic_try_cmpxchg(&e->state, &state, state - ENTRY_PRIVATE + ENTRY_LIVE);
}

/*
 * The id of the stack in the chain that starts with @head, plus 1; 0 if it is not there, or a
 * negative value if the chain has changed meanwhile.
 */
static __always_inline s64 find_stack(struct bpf_stack_map *smap, atomic64_t *headp, s64 head,
				      u32 hash, const u64 *frames, u32 words, bool fast)
{
	u32 link, next;

	for (link = head; link; link = next) {
		struct stack_entry *e = nth_entry(smap, link - 1);
		int state = atomic_read(&e->state);
		bool hit;

		next = READ_ONCE(e->next);
		hit = READ_ONCE(e->hash) == hash && READ_ONCE(e->words) == words &&
		      ((state & ENTRY_KIND) == ENTRY_LIVE ||
		       (state & ENTRY_KIND) == ENTRY_PRIVATE) &&
		      (fast || frames_equal(e->frames, frames, words));
		/* Barrier B */
		smp_rmb();
		if (atomic64_read(headp) != head)
			return -1;
		if (!hit)
			continue;
		/* Who inserts it may be the program that this one interrupted. */
		if ((state & ENTRY_KIND) == ENTRY_PRIVATE)
			make_live(e, state);
		return link;
	}
	return 0;
}

/* Under the lock. Take @e out of the chain of its hash. */
static __always_inline void unlink_entry(struct bpf_stack_map *smap, struct stack_entry *e,
					 u32 id)
{
	atomic64_t *headp = &smap->heads[e->hash & smap->head_mask];
	s64 head = atomic64_read(headp);
	struct stack_entry *prev;
	u32 first, link;

	/* Others may insert before the first meanwhile, nobody else removes. */
	do {
		first = head;
		if (first == id + 1) {
			first = e->next;
			continue;
		}
		for (link = first; link; link = prev->next) {
			prev = nth_entry(smap, link - 1);
			if (prev->next == id + 1)
				WRITE_ONCE(prev->next, e->next);
		}
	} while (!atomic64_try_cmpxchg(headp, &head, new_head(head, first))); /* Barrier B */
}

/* Under the lock. An entry that is LIVE in @state, and still is, leaves the map as PRIVATE. */
static __always_inline bool remove_entry(struct bpf_stack_map *smap, u32 id, int state)
{
	struct stack_entry *e = nth_entry(smap, id);
	int dying = state - ENTRY_LIVE + ENTRY_DYING;

	if ((state & ENTRY_KIND) != ENTRY_LIVE || atomic_cmpxchg(&e->state, state, dying) != state)
		return false;
	unlink_entry(smap, e, id);
	atomic_set(&e->state, dying - ENTRY_DYING + ENTRY_GENERATION + ENTRY_PRIVATE);
	return true;
}

/* Give back a PRIVATE entry that is in no chain. */
static __always_inline void free_entry(struct bpf_stack_map *smap, u32 id)
{
	atomic_sub(ENTRY_PRIVATE, &nth_entry(smap, id)->state);
	/* Release: barrier C */
	clear_bit_unlock(id, smap->used);
}

/* Remove an entry for a system call, if it is LIVE in @state. */
static int delete_entry(struct bpf_stack_map *smap, u32 id, int state)
{
	unsigned long flags;
	bool done;

	if (!bpf_reslock_acquire(&smap->lock, &flags))
		return -EBUSY;
	done = remove_entry(smap, id, state);
	if (done) {
		free_entry(smap, id);
		/* Not before: invariant 3 */
		atomic_long_dec(&smap->nr_entries);
	}
	bpf_reslock_release(&smap->lock, flags);
	return done ? 0 : -ENOENT;
}

/* The map is full: an old stack gives way. Which one is left to the hash. */
static __always_inline s64 evict_entry(struct bpf_stack_map *smap, u32 hash)
{
	u32 max = smap->map.max_entries, id = reciprocal_scale(hash, max), n;
	unsigned long flags;
	s64 ret = -EEXIST;

	if (!bpf_reslock_acquire(&smap->lock, &flags))
		return -EEXIST;
	for (n = min(max, STACK_MAP_RETRIES); n; n--) {
		if (remove_entry(smap, id, atomic_read(&nth_entry(smap, id)->state))) {
			atomic_long_dec(&smap->nr_entries);
			/* Barrier C */
			smp_wmb();
			ret = id;
			break;
		}
		if (++id == max)
			id = 0;
	}
	bpf_reslock_release(&smap->lock, flags);
	return ret;
}

/* A free entry, made PRIVATE, its id; or an error. */
static __always_inline s64 take_entry(struct bpf_stack_map *smap, u32 hash, u64 flags)
{
	u32 max = smap->map.max_entries, id = reciprocal_scale(hash, max);
	u32 tries = 2 + min(STACK_MAP_SCAN / max, 1024);

	while (tries--) {
		if (atomic_long_read(&smap->nr_entries) >= (long)max)
			return flags & BPF_F_REUSE_STACKID ? evict_entry(smap, hash) : -ENOMEM;
		id = find_next_zero_bit(smap->used, max, id);
		if (id >= max)
			id = find_first_zero_bit(smap->used, max);
		/* An insert that this one interrupted may have the last one. */
		if (id >= max && flags & BPF_F_REUSE_STACKID)
			return evict_entry(smap, hash);
		/* A full barrier: C */
		if (id < max && !test_and_set_bit(id, smap->used)) {
			atomic_add(ENTRY_PRIVATE, &nth_entry(smap, id)->state);
			return id;
		}
		if (id >= max)
			id = 0;
		cpu_relax();
	}
	return -EEXIST;
}

/* The id of the stack, which is stored if it is new. Preemption is off. */
static __always_inline long stack_id(struct bpf_stack_map *smap, const u64 *frames, u32 words,
				     u64 flags)
{
	u32 hash = stack_hash(smap, frames, words);
	atomic64_t *headp = &smap->heads[hash & smap->head_mask];
	bool fast = flags & BPF_F_FAST_STACK_CMP;
	struct stack_entry *e = NULL;
	s64 head, found, id = 0;
	int tries, state;

	for (tries = 0; tries < STACK_MAP_RETRIES; tries++) {
		/* Barrier A */
		head = atomic64_read_acquire(headp);
		found = find_stack(smap, headp, head, hash, frames, words, fast);
		if (found < 0)
			continue;
		if (found > 0) {
			if (e)
				free_entry(smap, id);
			return found - 1;
		}
		if (!e) {
			id = take_entry(smap, hash, flags);
			if (id < 0) {
				/* Barrier D: the last one may have been taken for this stack. */
				smp_rmb();
				if (atomic64_read(headp) != head)
					continue;
				break;
			}
			e = nth_entry(smap, id);
			WRITE_ONCE(e->hash, hash);
			WRITE_ONCE(e->words, words);
			memcpy(e->frames, frames, words * sizeof(u64));
		}
		WRITE_ONCE(e->next, (u32)head);
		state = atomic_read(&e->state);
		/* Release: barrier A */
		if (atomic64_try_cmpxchg_release(headp, &head, new_head(head, id + 1))) {
			/* Barrier D */
			smp_mb__before_atomic();
			atomic_long_inc(&smap->nr_entries);
			make_live(e, state);
			return id;
		}
	}
	if (e)
		free_entry(smap, id);
	atomic_long_inc(&smap->lost);
	return id < 0 ? id : -EEXIST;
}

/* Build ids */

/**
 * struct mapping - a mapping that was looked up
 * @start: address of its first byte
 * @end: address behind its last byte
 * @offset: what to add to an address to get its place in the file
 * @known: whether the file has a build id
 * @build_id: the build id
 */
struct mapping {
	unsigned long start;
	unsigned long end;
	u64 offset;
	bool known;
	unsigned char build_id[BUILD_ID_SIZE_MAX];
};

/**
 * struct mappings - those that one call has met last
 * @nr: how many there were in all
 * @reads_left: how many files may still be read; 0 where the call may not sleep
 * @missing: a file that must be read for the mapping looked up last, or NULL
 * @last: the last ones
 */
struct mappings {
	u32 nr;
	u32 reads_left;
	struct file *missing;
	struct mapping last[NR_MAPPINGS];
};

static void init_mappings(struct mappings *maps, bool may_sleep)
{
	maps->nr = 0;
	/*
	 * Programs that may sleep also call with RCU held, preemption off, and from timers. Without
	 * a count of that nobody can tell.
	 */
	may_sleep = may_sleep && IS_ENABLED(CONFIG_PREEMPT_COUNT) && !in_atomic() &&
		    !rcu_preempt_depth();
	maps->reads_left = may_sleep ? MAX_FILE_READS : 0;
	maps->missing = NULL;
}

static struct mapping *known_mapping(struct mappings *maps, unsigned long ip)
{
	struct mapping *m;
	u32 i;

	for (i = 1; i <= min(maps->nr, NR_MAPPINGS); i++) {
		m = &maps->last[(maps->nr - i) % NR_MAPPINGS];
		if (ip >= m->start && ip < m->end)
			return m;
	}
	return NULL;
}

/* The mapping is locked, or the mmap lock held. */
static struct mapping *add_mapping(struct mappings *maps, struct vm_area_struct *vma)
{
	struct mapping *m = &maps->last[maps->nr++ % NR_MAPPINGS];
	int err;

	m->start = vma->vm_start;
	m->end = vma->vm_end;
	m->offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) - vma->vm_start;
	err = build_id_parse_nofault(vma, m->build_id, NULL);
	m->known = !err;
	/*
	 * The error does not say whether a page was missing. To read another kind of file
	 * could have effects, or take for ever.
	 */
	if (err && maps->reads_left && vma->vm_file && S_ISREG(file_inode(vma->vm_file)->i_mode))
		maps->missing = get_file(vma->vm_file);
	return m;
}

/* Wait for the file that is missing. Nothing is held, so an inode lock may be taken. */
static bool read_missing(struct mappings *maps)
{
	struct mapping *m = &maps->last[(maps->nr - 1) % NR_MAPPINGS];

	if (!maps->missing)
		return false;
	m->known = !build_id_parse_file(maps->missing, m->build_id, NULL);
	fput(maps->missing);
	maps->missing = NULL;
	maps->reads_left--;
	return true;
}

/*
 * Resolve @nr addresses; @ids has no holes that were not written, since it may be hashed.
 * Stops early, with maps->missing set, where a file must be read first.
 */
static void fill_build_ids(struct bpf_stack_build_id *ids, const u64 *ips, u32 nr, bool user,
			   struct mappings *maps)
{
	struct mm_struct *mm = user ? current->mm : NULL;
	bool by_vma = IS_ENABLED(CONFIG_PER_VMA_LOCK) && maps->reads_left;
	struct mmap_unlock_irq_work *work = NULL;
	struct vm_area_struct *vma;
	struct mapping *m;
	u32 i;

	if (mm && !by_vma) {
		work = bpf_mmap_unlock_guard_get();
		if (IS_ERR(work)) {
			mm = NULL;
		} else if (!mmap_read_trylock(mm)) {
			bpf_mmap_unlock_guard_put(work);
			mm = NULL;
		}
	}

	for (i = 0; i < nr && !maps->missing; i++) {
		m = mm ? known_mapping(maps, ips[i]) : NULL;
		if (mm && !m) {
			vma = by_vma ? lock_vma_under_rcu(mm, ips[i]) : vma_lookup(mm, ips[i]);
			if (vma) {
				m = add_mapping(maps, vma);
				if (by_vma)
					vma_end_read(vma);
			}
		}
		memset(&ids[i], 0, sizeof(ids[i]));
		if (m && m->known) {
			ids[i].status = BPF_STACK_BUILD_ID_VALID;
			memcpy(ids[i].build_id, m->build_id, BUILD_ID_SIZE_MAX);
			ids[i].offset = ips[i] + m->offset;
		} else {
			ids[i].status = BPF_STACK_BUILD_ID_IP;
			ids[i].ip = ips[i];
		}
	}

	if (mm && !by_vma)
		bpf_mmap_unlock_mm(work, mm);
}

/* Capture */

/**
 * struct stack_source - whose stack
 * @regs: the registers to start from
 * @task: a task that is named, or NULL for what runs here
 * @sample: the callchain that perf has taken already, or NULL
 */
struct stack_source {
	struct pt_regs *regs;
	struct task_struct *task;
	struct perf_callchain_entry *sample;
};

/**
 * struct capture - a stack, in a buffer that nobody else gets
 * @rctx: kind of context, for perf and for the scratch memory
 * @nr: how many frames
 * @ips: the frames
 */
struct capture {
	int rctx;
	u32 nr;
	const u64 *ips;
};

/*
 * What perf has sampled: the kernel's frames, then a marker and the user's. Markers count as
 * frames; there may be more in all than the limit, which programs never see.
 */
static u32 sampled_of_kernel(const struct perf_callchain_entry *sample)
{
	u32 i, nr = min_t(u64, sample->nr, sysctl_perf_event_max_stack);

	for (i = 0; i < nr; i++) {
		if (sample->ip[i] == PERF_CONTEXT_USER)
			break;
	}
	return i;
}

/*
 * Perf's buffer may be used again by now: an event at a probe that this CPU passes is sampled into
 * it. Here it passes none.
 */
static noinline void copy_sample(struct perf_callchain_entry *entry,
				 const struct perf_callchain_entry *sample)
{
	entry->nr = min_t(u64, READ_ONCE(sample->nr), sysctl_perf_event_max_stack);
	memcpy(entry->ip, sample->ip, entry->nr * sizeof(u64));
}

NOKPROBE_SYMBOL(copy_sample);

/* The kernel's frames of a sample count as skipped before the user's. */
static __always_inline bool skips_too_many(const struct stack_source *src, u64 flags)
{
	return src->sample && flags & BPF_F_USER_STACK &&
	       sampled_of_kernel(src->sample) + (flags & BPF_F_SKIP_FIELD_MASK) >
	       BPF_F_SKIP_FIELD_MASK;
}

static void capture_task(struct perf_callchain_entry *entry, struct task_struct *task, u32 max)
{
	entry->nr = 0;
#ifdef CONFIG_STACKTRACE
	entry->nr = stack_trace_save_tsk(task, (unsigned long *)entry->ip, max, 0);
	/* From the end, since a long may be the shorter one. */
	if (sizeof(long) != sizeof(u64)) {
		unsigned long *from = (unsigned long *)entry->ip;
		u32 i;

		for (i = entry->nr; i; i--)
			entry->ip[i - 1] = from[i - 1];
	}
#endif
}

/*
 * Capture up to @max frames, after @skip. False if there is no buffer. Preemption is off, and
 * RCU held, until after capture_end().
 */
static bool capture_begin(struct capture *c, const struct stack_source *src, bool user,
			  u32 skip, u32 max)
{
	struct perf_callchain_entry *entry = get_kept_callchain_entry(&c->rctx);
	u32 depth = min_t(u64, (u64)max + skip, sysctl_perf_event_max_stack), kernel;

	if (!entry)
		return false;
	if (src->sample) {
		copy_sample(entry, src->sample);
		kernel = sampled_of_kernel(entry);
		c->ips = user ? entry->ip + kernel : entry->ip;
		c->nr = user ? entry->nr - kernel : kernel;
	} else {
		if (src->task && !user)
			capture_task(entry, src->task, depth);
		else
			perf_callchain_fill(entry, src->regs, !user, user, depth, false, false);
		c->ips = entry->ip;
		c->nr = entry->nr;
	}
	return true;
}

static void capture_end(const struct capture *c)
{
	put_kept_callchain_entry(c->rctx);
}

/* Stack map: helpers */

/* One attempt; with a file missing in @maps the result is void. */
static __always_inline long try_get_stackid(struct bpf_stack_map *smap,
					    const struct stack_source *src, u64 flags,
					    struct mappings *maps)
{
	u32 max = smap->map.value_size / frame_size(maps), skip = flags & BPF_F_SKIP_FIELD_MASK, nr;
	bool user = flags & BPF_F_USER_STACK;
	struct capture c;
	void *scratch;
	long id;

	guard(rcu)();
	guard(preempt)();
	if (unlikely(!capture_begin(&c, src, user, skip, max))) {
		atomic_long_inc(&smap->lost);
		return -EFAULT;
	}
	if (unlikely(c.nr <= skip)) {
		id = -EFAULT;
		goto out;
	}
	c.ips += skip;
	nr = min(c.nr - skip, max);
	if (!maps) {
		id = stack_id(smap, c.ips, nr, flags);
		goto out;
	}

	scratch = smap->scratch + smap->map.value_size *
		  ((size_t)smp_processor_id() * PERF_NR_CONTEXTS + c.rctx);
	fill_build_ids(scratch, c.ips, nr, user, maps);
	id = 0;
	if (!maps->missing)
		id = stack_id(smap, scratch, nr * (frame_size(true) / sizeof(u64)), flags);
out:
	capture_end(&c);
	return id;
}

/* On its own because of the size of its frame. */
static noinline long get_stackid_build_ids(struct bpf_stack_map *smap,
					   const struct stack_source *src, u64 flags,
					   bool may_sleep)
{
	struct mappings maps;
	long id;

	init_mappings(&maps, may_sleep);
	do {
		id = try_get_stackid(smap, src, flags, &maps);
	} while (read_missing(&maps));
	return id;
}

static __always_inline long get_stackid(struct bpf_map *map, const struct stack_source *src,
					u64 flags, bool may_sleep)
{
	struct bpf_stack_map *smap = to_stack_map(map);

	if (unlikely(flags & ~STACKID_FLAGS))
		return -EINVAL;
	if (unlikely(skips_too_many(src, flags)))
		return -EFAULT;
	/* Neither the entry nor the loss could be counted. */
	if (!IS_ENABLED(CONFIG_ARCH_HAVE_NMI_SAFE_CMPXCHG) || IS_ENABLED(CONFIG_GENERIC_ATOMIC64)) {
		if (in_nmi())
			return -EBUSY;
	}
	if (has_build_ids(map))
		return get_stackid_build_ids(smap, src, flags, may_sleep);
	return try_get_stackid(smap, src, flags, NULL);
}

BPF_CALL_3(bpf_get_stackid, struct pt_regs *, regs, struct bpf_map *, map, u64, flags)
{
	return get_stackid(map, &(struct stack_source){ .regs = regs }, flags, false);
}

const struct bpf_func_proto bpf_get_stackid_proto = {
	.func		= bpf_get_stackid,
	.gpl_only	= true,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_CTX,
	.arg2_type	= ARG_CONST_MAP_PTR,
	.arg3_type	= ARG_ANYTHING,
};

BPF_CALL_3(bpf_get_stackid_sleepable, struct pt_regs *, regs, struct bpf_map *, map, u64, flags)
{
	return get_stackid(map, &(struct stack_source){ .regs = regs }, flags, true);
}

const struct bpf_func_proto bpf_get_stackid_sleepable_proto = {
	.func		= bpf_get_stackid_sleepable,
	.gpl_only	= true,
	.might_sleep	= true,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_CTX,
	.arg2_type	= ARG_CONST_MAP_PTR,
	.arg3_type	= ARG_ANYTHING,
};

/* False if the event has no callchain where it should. */
static bool sample_source(struct stack_source *src, struct bpf_perf_event_data_kern *ctx)
{
	src->task = NULL;
	src->regs = (struct pt_regs *)ctx->regs;
	src->sample = NULL;
	if (!(ctx->event->attr.sample_type & PERF_SAMPLE_CALLCHAIN))
		return true;
	src->sample = ctx->data->callchain;
	return src->sample;
}

BPF_CALL_3(bpf_get_stackid_pe, struct bpf_perf_event_data_kern *, ctx, struct bpf_map *, map,
	   u64, flags)
{
	struct stack_source src;

	if (unlikely(!sample_source(&src, ctx)))
		return flags & ~STACKID_FLAGS ? -EINVAL : -EFAULT;
	return get_stackid(map, &src, flags, false);
}

const struct bpf_func_proto bpf_get_stackid_proto_pe = {
	.func		= bpf_get_stackid_pe,
	.gpl_only	= true,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_CTX,
	.arg2_type	= ARG_CONST_MAP_PTR,
	.arg3_type	= ARG_ANYTHING,
};

/* Helpers that copy a stack */

/* One attempt, as above. The bytes written, or an error. */
static __always_inline long try_get_stack(const struct stack_source *src, void *buf, u32 size,
					  u64 flags, struct mappings *maps)
{
	u32 max = size / frame_size(maps), skip = flags & BPF_F_SKIP_FIELD_MASK, nr;
	bool user = flags & BPF_F_USER_STACK;
	struct capture c;
	long len = -EFAULT;

	guard(rcu)();
	guard(preempt)();
	if (unlikely(!capture_begin(&c, src, user, skip, max)))
		return -EFAULT;
	if (likely(c.nr >= skip)) {
		nr = min(c.nr - skip, max);
		len = nr * frame_size(maps);
		if (maps)
			fill_build_ids(buf, c.ips + skip, nr, user, maps);
		else
			memcpy(buf, c.ips + skip, len);
	}
	capture_end(&c);
	return len;
}

static noinline long get_stack_build_ids(const struct stack_source *src, void *buf, u32 size,
					 u64 flags, bool may_sleep)
{
	struct mappings maps;
	long len;

	init_mappings(&maps, may_sleep);
	do {
		len = try_get_stack(src, buf, size, flags, &maps);
	} while (read_missing(&maps));
	return len;
}

static long get_stack(const struct stack_source *src, void *buf, u32 size, u64 flags,
		      bool may_sleep)
{
	bool user = flags & BPF_F_USER_STACK, build_ids = flags & BPF_F_USER_BUILD_ID;
	long len;

	if (unlikely(flags & ~STACK_FLAGS))
		len = -EINVAL;
	else if (unlikely(skips_too_many(src, flags)))
		len = -EFAULT;
	else if ((build_ids && !user) || size % frame_size(build_ids))
		len = -EINVAL;
	else if (src->task && user && !user_mode(src->regs))
		len = -EFAULT;
	else if (src->task && user && src->task != current)
		len = -EOPNOTSUPP;
	else if (build_ids)
		len = get_stack_build_ids(src, buf, size, flags, may_sleep);
	else
		len = try_get_stack(src, buf, size, flags, NULL);
	memset(buf + max(len, 0L), 0, size - max(len, 0L));
	return len;
}

BPF_CALL_4(bpf_get_stack, struct pt_regs *, regs, void *, buf, u32, size, u64, flags)
{
	return get_stack(&(struct stack_source){ .regs = regs }, buf, size, flags, false);
}

const struct bpf_func_proto bpf_get_stack_proto = {
	.func		= bpf_get_stack,
	.gpl_only	= true,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_CTX,
	.arg2_type	= ARG_PTR_TO_UNINIT_MEM,
	.arg3_type	= ARG_CONST_SIZE_OR_ZERO,
	.arg4_type	= ARG_ANYTHING,
};

BPF_CALL_4(bpf_get_stack_sleepable, struct pt_regs *, regs, void *, buf, u32, size, u64, flags)
{
	return get_stack(&(struct stack_source){ .regs = regs }, buf, size, flags, true);
}

const struct bpf_func_proto bpf_get_stack_sleepable_proto = {
	.func		= bpf_get_stack_sleepable,
	.gpl_only	= true,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_CTX,
	.arg2_type	= ARG_PTR_TO_UNINIT_MEM,
	.arg3_type	= ARG_CONST_SIZE_OR_ZERO,
	.arg4_type	= ARG_ANYTHING,
};

static long get_task_stack(struct task_struct *task, void *buf, u32 size, u64 flags,
			   bool may_sleep)
{
	struct stack_source src = { .task = task };
	long len = -EFAULT;

	if (!try_get_task_stack(task)) {
		memset(buf, 0, size);
		return len;
	}
	src.regs = task_pt_regs(task);
	if (src.regs)
		len = get_stack(&src, buf, size, flags, may_sleep);
	else
		memset(buf, 0, size);
	put_task_stack(task);
	return len;
}

BPF_CALL_4(bpf_get_task_stack, struct task_struct *, task, void *, buf, u32, size, u64, flags)
{
	return get_task_stack(task, buf, size, flags, false);
}

const struct bpf_func_proto bpf_get_task_stack_proto = {
	.func		= bpf_get_task_stack,
	.gpl_only	= false,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_BTF_ID,
	.arg1_btf_id	= &btf_tracing_ids[BTF_TRACING_TYPE_TASK],
	.arg2_type	= ARG_PTR_TO_UNINIT_MEM,
	.arg3_type	= ARG_CONST_SIZE_OR_ZERO,
	.arg4_type	= ARG_ANYTHING,
};

BPF_CALL_4(bpf_get_task_stack_sleepable, struct task_struct *, task, void *, buf, u32, size,
	   u64, flags)
{
	return get_task_stack(task, buf, size, flags, true);
}

const struct bpf_func_proto bpf_get_task_stack_sleepable_proto = {
	.func		= bpf_get_task_stack_sleepable,
	.gpl_only	= false,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_BTF_ID,
	.arg1_btf_id	= &btf_tracing_ids[BTF_TRACING_TYPE_TASK],
	.arg2_type	= ARG_PTR_TO_UNINIT_MEM,
	.arg3_type	= ARG_CONST_SIZE_OR_ZERO,
	.arg4_type	= ARG_ANYTHING,
};

BPF_CALL_4(bpf_get_stack_pe, struct bpf_perf_event_data_kern *, ctx, void *, buf, u32, size,
	   u64, flags)
{
	struct stack_source src;

	if (unlikely(!sample_source(&src, ctx))) {
		memset(buf, 0, size);
		return flags & ~STACK_FLAGS ? -EINVAL : -EFAULT;
	}
	return get_stack(&src, buf, size, flags, false);
}

const struct bpf_func_proto bpf_get_stack_proto_pe = {
	.func		= bpf_get_stack_pe,
	.gpl_only	= true,
	.ret_type	= RET_INTEGER,
	.arg1_type	= ARG_PTR_TO_CTX,
	.arg2_type	= ARG_PTR_TO_UNINIT_MEM,
	.arg3_type	= ARG_CONST_SIZE_OR_ZERO,
	.arg4_type	= ARG_ANYTHING,
};

/* Stack map: system calls */

static bool is_live(struct bpf_stack_map *smap, u32 id)
{
	return (atomic_read(&nth_entry(smap, id)->state) & ENTRY_KIND) == ENTRY_LIVE;
}

/* The first id from @id on that a program has, or max_entries. */
static u32 next_live(struct bpf_stack_map *smap, u32 id)
{
	u32 max = smap->map.max_entries;

	for (; id < max; id++) {
		id = find_next_bit(smap->used, max, id);
		if (id < max && is_live(smap, id))
			break;
	}
	return id;
}

/* Copy a stack, zero what is behind it, and tell the state in which it was all the time. */
static int copy_stack(struct bpf_stack_map *smap, u32 id, void *value, int *state)
{
	u32 size = smap->map.value_size, len;
	struct stack_entry *e;

	if (unlikely(id >= smap->map.max_entries))
		return -ENOENT;
	e = nth_entry(smap, id);
	/* Acquire: barrier C */
	*state = atomic_read_acquire(&e->state);
	if ((*state & ENTRY_KIND) != ENTRY_LIVE)
		return -ENOENT;
	len = min_t(u32, READ_ONCE(e->words) * sizeof(u64), size);
	/* If the frames are of another stack meanwhile, that will be seen. */
	data_race(memcpy(value, e->frames, len));
	memset(value + len, 0, size - len);
	/* Barrier C */
	smp_rmb();
	return (atomic_read(&e->state) ^ *state) & ~ENTRY_KIND ? -ENOENT : 0;
}

/* Copy a stack to user space by way of @buf, and remove it. It stays if it cannot be copied. */
static int take_out(struct bpf_stack_map *smap, u32 id, void *buf, void __user *value)
{
	int state, err;

	err = copy_stack(smap, id, buf, &state);
	if (err)
		return err;
	if (copy_to_user(value, buf, smap->map.value_size))
		return -EFAULT;
	/* That it is in the same state proves that nobody else has removed this stack. */
	return delete_entry(smap, id, state);
}

/**
 * bpf_stackmap_copy - copy a stack for a system call
 * @map: the map
 * @key: the id, a pointer to a u32
 * @value: where the stack goes, value_size bytes; what is behind the stack is zeroed
 *
 * Context: Any. Takes no lock, and changes nothing.
 *
 * Return: 0, or -ENOENT if there is no stack with this id or if it was removed meanwhile.
 */
int bpf_stackmap_copy(struct bpf_map *map, void *key, void *value)
{
	int state;

	return copy_stack(to_stack_map(map), *(u32 *)key, value, &state);
}

static int stack_map_lookup_and_delete_user(struct bpf_map *map, void *key, void __user *value,
					    u64 flags)
{
	void *buf;
	int err;

	if (flags)
		return -EINVAL;
	buf = kvmalloc(map->value_size, GFP_USER | __GFP_NOWARN);
	if (!buf)
		return -ENOMEM;
	err = take_out(to_stack_map(map), *(u32 *)key, buf, value);
	kvfree(buf);
	return err;
}

/* The stacks from the cursor on. @remove: each is removed as soon as it has been copied. */
static int do_lookup_batch(struct bpf_map *map, const union bpf_attr *attr,
			   union bpf_attr __user *uattr, bool remove)
{
	u32 __user *keys = u64_to_user_ptr(attr->batch.keys);
	void __user *value = u64_to_user_ptr(attr->batch.values);
	void __user *cursor = u64_to_user_ptr(attr->batch.out_batch);
	struct bpf_stack_map *smap = to_stack_map(map);
	u32 id = 0, nr = 0, max = attr->batch.count;
	int err = 0, state;
	void *buf;

	if (attr->batch.elem_flags || attr->batch.flags)
		return -EINVAL;
	if (!max)
		return 0;
	if (put_user(0, &uattr->batch.count))
		return -EFAULT;
	if (attr->batch.in_batch &&
	    copy_from_user(&id, u64_to_user_ptr(attr->batch.in_batch), sizeof(id)))
		return -EFAULT;
	/* Stacks would be gone if this failed at the end. */
	if (copy_to_user(cursor, &id, sizeof(id)))
		return -EFAULT;
	buf = kvmalloc(map->value_size, GFP_USER | __GFP_NOWARN);
	if (!buf)
		return -ENOMEM;

	for (; nr < max; id++) {
		id = next_live(smap, id);
		if (id >= map->max_entries) {
			err = -ENOENT;
			break;
		}
		if (put_user(id, keys + nr))
			err = -EFAULT;
		else if (remove)
			err = take_out(smap, id, buf, value);
		else
			err = copy_stack(smap, id, buf, &state);
		if (!err && !remove && copy_to_user(value, buf, map->value_size))
			err = -EFAULT;
		/* Removed by somebody else meanwhile: that is as if it was not there. */
		if (err && err != -ENOENT)
			break;
		if (!err) {
			nr++;
			value += map->value_size;
		}
		err = 0;
		cond_resched();
	}
	kvfree(buf);
	if (copy_to_user(cursor, &id, sizeof(id)) || put_user(nr, &uattr->batch.count))
		err = -EFAULT;
	return err;
}

static int stack_map_lookup_batch(struct bpf_map *map, const union bpf_attr *attr,
				  union bpf_attr __user *uattr)
{
	return do_lookup_batch(map, attr, uattr, false);
}

static int stack_map_lookup_and_delete_batch(struct bpf_map *map, const union bpf_attr *attr,
					     union bpf_attr __user *uattr)
{
	return do_lookup_batch(map, attr, uattr, true);
}

static int stack_map_delete_batch(struct bpf_map *map, const union bpf_attr *attr,
				  union bpf_attr __user *uattr)
{
	if (attr->batch.elem_flags || attr->batch.flags)
		return -EINVAL;
	return generic_map_delete_batch(map, attr, uattr);
}

static int stack_map_get_next_key(struct bpf_map *map, void *key, void *next_key)
{
	struct bpf_stack_map *smap = to_stack_map(map);
	u32 id = key ? *(u32 *)key : U32_MAX;

	/* Without a predecessor it starts with the first one. */
	id = id < map->max_entries && is_live(smap, id) ? id + 1 : 0;
	id = next_live(smap, id);
	if (id >= map->max_entries)
		return -ENOENT;
	*(u32 *)next_key = id;
	return 0;
}

static long stack_map_delete_elem(struct bpf_map *map, void *key)
{
	struct bpf_stack_map *smap = to_stack_map(map);
	u32 id = *(u32 *)key;

	if (unlikely(id >= map->max_entries))
		return -E2BIG;
	return delete_entry(smap, id, atomic_read(&nth_entry(smap, id)->state));
}

/* System calls copy, and programs cannot look up. */
static void *stack_map_lookup_elem(struct bpf_map *map, void *key)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static long stack_map_update_elem(struct bpf_map *map, void *key, void *value, u64 flags)
{
	return -EINVAL;
}

/* Stack map: memory */

/* Those of the structure with its heads, of the entries, bits and scratch, in bytes. */
struct stack_map_sizes {
	u64 map;
	u64 entries;
	u64 used;
	u64 scratch;
};

static void stack_map_sizes(struct stack_map_sizes *s, u32 max_entries, u32 value_size,
			    bool build_ids)
{
	s->map = sizeof(struct bpf_stack_map) +
		 (u64)roundup_pow_of_two((unsigned long)max_entries) * sizeof(atomic64_t);
	s->entries = (u64)max_entries * (sizeof(struct stack_entry) + value_size);
	s->used = (u64)BITS_TO_LONGS((unsigned long)max_entries) * sizeof(long);
	s->scratch = build_ids ? (u64)nr_cpu_ids * PERF_NR_CONTEXTS * value_size : 0;
}

static void free_areas(struct bpf_stack_map *smap)
{
	bpf_map_area_free(smap->scratch);
	bpf_map_area_free(smap->used);
	bpf_map_area_free(smap->entries);
	bpf_map_area_free(smap);
}

static struct bpf_map *stack_map_alloc(union bpf_attr *attr)
{
	bool build_ids = attr->map_flags & BPF_F_STACK_BUILD_ID;
	int node = bpf_map_attr_numa_node(attr), err = -ENOMEM;
	struct stack_map_sizes sizes;
	struct bpf_stack_map *smap;

	if (attr->map_flags & ~STACK_MAP_CREATE_FLAGS)
		return ERR_PTR(-EINVAL);
	if (!attr->max_entries || attr->key_size != 4 || !attr->value_size ||
	    attr->value_size % frame_size(build_ids) ||
	    attr->value_size / frame_size(build_ids) > sysctl_perf_event_max_stack)
		return ERR_PTR(-EINVAL);
	/* An id must be positive as an int, and the number of heads fit a u32. */
	if (attr->max_entries > 1U << 31)
		return ERR_PTR(-E2BIG);

	stack_map_sizes(&sizes, attr->max_entries, attr->value_size, build_ids);
	smap = bpf_map_area_alloc(sizes.map, node);
	if (!smap)
		return ERR_PTR(-ENOMEM);
	bpf_map_init_from_attr(&smap->map, attr);
	smap->entry_size = sizeof(struct stack_entry) + attr->value_size;
	smap->head_mask = roundup_pow_of_two((unsigned long)attr->max_entries) - 1;
	get_random_bytes(smap->seed, sizeof(smap->seed));
	bpf_reslock_init(&smap->lock);

	smap->entries = bpf_map_area_alloc(sizes.entries, node);
	smap->used = bpf_map_area_alloc(sizes.used, node);
	if (build_ids)
		smap->scratch = bpf_map_area_alloc(sizes.scratch, node);
	if (!smap->entries || !smap->used || (build_ids && !smap->scratch))
		goto free;
	err = get_callchain_buffers(sysctl_perf_event_max_stack);
	if (err)
		goto free;
	return &smap->map;

free:
	free_areas(smap);
	return ERR_PTR(err);
}

static void stack_map_free(struct bpf_map *map)
{
	free_areas(to_stack_map(map));
	put_callchain_buffers();
}

static u64 stack_map_mem_usage(const struct bpf_map *map)
{
	struct stack_map_sizes sizes;

	stack_map_sizes(&sizes, map->max_entries, map->value_size, has_build_ids(map));
	return sizes.map + sizes.entries + sizes.used + sizes.scratch;
}

static void stack_map_show_fdinfo(const struct bpf_map *map, struct seq_file *m)
{
	struct bpf_stack_map *smap = to_stack_map(map);

	seq_printf(m, "entries:\t%ld\n", max(atomic_long_read(&smap->nr_entries), 0L));
	seq_printf(m, "lost:\t%lu\n", atomic_long_read(&smap->lost));
}

BTF_ID_LIST_SINGLE(stack_trace_map_btf_ids, struct, bpf_stack_map)

const struct bpf_map_ops stack_trace_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc = stack_map_alloc,
	.map_free = stack_map_free,
	.map_get_next_key = stack_map_get_next_key,
	.map_lookup_elem = stack_map_lookup_elem,
	.map_update_elem = stack_map_update_elem,
	.map_delete_elem = stack_map_delete_elem,
	.map_lookup_and_delete_user = stack_map_lookup_and_delete_user,
	.map_lookup_batch = stack_map_lookup_batch,
	.map_lookup_and_delete_batch = stack_map_lookup_and_delete_batch,
	.map_delete_batch = stack_map_delete_batch,
	.map_check_btf = map_check_no_btf,
	.map_mem_usage = stack_map_mem_usage,
	.map_show_fdinfo = stack_map_show_fdinfo,
	.map_btf_id = &stack_trace_map_btf_ids[0],
};
