/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_BPF_RESLOCK_H
#define _LINUX_BPF_RESLOCK_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/hardirq.h>
#include <linux/instruction_pointer.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/processor.h>
#include <linux/smp.h>
#include <linux/time64.h>
#include <linux/timekeeping.h>
#include <linux/types.h>

/**
 * DOC: bpf_reslock, a spinlock for BPF maps that refuses instead of hanging
 *
 * A BPF program can run between almost any two instructions of the kernel: in an NMI, at a
 * kprobe, on entry to a function, at a tracepoint. It may use the very map whose critical
 * section it interrupted, where a spinlock would wait for ever. With a trylock in NMI the
 * program would be refused although another CPU is about to release the lock.
 *
 * This lock tells the two apart::
 *
 *   owner   0        free
 *           CPU + 1  held by that CPU, whose interrupts are off
 *           | STUCK  somebody has waited for that owner in vain
 *
 * Interrupts are off from before the lock is taken until after it is released. So whoever
 * finds its own CPU's number there runs nested in the critical section itself, which cannot
 * go on before the nested context ends: it is refused at once. Whoever finds another CPU's
 * number waits, in every context, but for %BPF_RESLOCK_TIMEOUT_NS at most. That ends cycles
 * of CPUs, each in an NMI inside the lock that the next one wants, and waits for an owner
 * whose virtual CPU does not run. Who has waited in vain marks the owner as stuck, and until
 * it releases the lock nobody waits for it again: retries in a cycle cost no more time.
 *
 * Rules for users:
 *
 * - A refused caller must not touch what the lock protects. It fails its own operation with
 *   -EBUSY, or counts a loss.
 * - Call no traceable function between acquire and release. A program there can do no harm,
 *   but its operation on the map is refused for no good reason; the same holds at a kprobe.
 * - The section must be short against the bound.
 *
 * Lockdep sees every acquisition as a trylock: nothing waits for ever here, so no order of
 * these locks is wrong. Outside NMI it knows who holds (or waits for) what, and complains of
 * a sleeping lock inside.
 */

/*
 * In nanoseconds: long against copying a map value (4 MiB where pages have 4 KiB), short
 * against the watchdogs that panic.
 */
#define BPF_RESLOCK_TIMEOUT_NS	(NSEC_PER_SEC / 4)

/* Ends a wait, after seconds, even where the clock stands still for want of an interrupt. */
#define BPF_RESLOCK_MAX_SPINS	BIT(26)

#define BPF_RESLOCK_STUCK	BIT(30)

/**
 * struct bpf_reslock - a lock that is refused rather than waited for in vain
 * @owner: 0 if free, else the number of the CPU that holds it, plus 1, maybe marked as stuck
 * @dep_map: lockdep's view
 */
struct bpf_reslock {
	atomic_t owner;
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	struct lockdep_map dep_map;
#endif
};

/**
 * bpf_reslock_init - initialise a lock, unlocked
 * @lock: the lock, a pointer to &struct bpf_reslock; each call site is a lockdep class
 */
#define bpf_reslock_init(lock)							\
do {										\
	static struct lock_class_key __key;					\
	struct bpf_reslock *__lock = (lock);					\
										\
	atomic_set(&__lock->owner, 0);						\
	lockdep_init_map_wait(&__lock->dep_map, #lock, &__key, 0, LD_WAIT_SPIN); \
} while (0)

/* Out of line, since a free lock is the common case. */
static noinline notrace __maybe_unused bool
__bpf_reslock_wait(struct bpf_reslock *lock, int self)
{
	int owner, first = atomic_read(&lock->owner);
	u64 now, end = 0;
	u32 spins;

	for (spins = 1; spins < BPF_RESLOCK_MAX_SPINS; spins++) {
		owner = atomic_read(&lock->owner);
		if (owner == self || owner & BPF_RESLOCK_STUCK)
			return false;
		/* Acquire pairs with the release in bpf_reslock_release(). */
		if (!owner && atomic_try_cmpxchg_acquire(&lock->owner, &owner, self))
			return true;
		if (owner != first)
			first = 0;
		cpu_relax();
		/* Seldom, because a clock can be slow; this one may be read in NMI. */
		if (spins % 64)
			continue;
		now = ktime_get_mono_fast_ns();
		if (!end)
			end = now + BPF_RESLOCK_TIMEOUT_NS;
		else if (time_after64(now, end))
			break;
	}
	/* Stuck, unless there were several owners; then it was only crowded. */
	if (owner && owner == first)
		atomic_try_cmpxchg_relaxed(&lock->owner, &owner, owner | BPF_RESLOCK_STUCK);
	return false;
}

static __always_inline bool
__bpf_reslock_acquire(struct bpf_reslock *lock, unsigned long *flags, bool wait)
{
	int owner = 0, self;

	if (!IS_ENABLED(CONFIG_ARCH_HAVE_NMI_SAFE_CMPXCHG) && in_nmi())
		return false;

	local_irq_save(*flags);
	/* Lockdep has tracepoints: it is told before the lock is taken, and after release. */
	lock_acquire_exclusive(&lock->dep_map, 0, 1, NULL, _THIS_IP_);
	self = raw_smp_processor_id() + 1;
	/* Acquire pairs with the release in bpf_reslock_release(). */
	if (likely(atomic_try_cmpxchg_acquire(&lock->owner, &owner, self)) ||
	    (wait && __bpf_reslock_wait(lock, self)))
		return true;

	lock_release(&lock->dep_map, _THIS_IP_);
	local_irq_restore(*flags);
	return false;
}

/**
 * bpf_reslock_acquire - turn interrupts off and take the lock
 * @lock: the lock
 * @flags: where the state of the interrupts is kept for bpf_reslock_release()
 *
 * Context: Any, NMI included. On success interrupts are off until the release. Who holds
 * another such lock must not wait for this one: see bpf_reslock_tryacquire().
 *
 * Return: true if the lock was taken. false, with interrupts as they were, if this CPU holds
 * it already, if it could not be had within %BPF_RESLOCK_TIMEOUT_NS, if another wait for the
 * same owner ended like that, or in NMI where the architecture's cmpxchg is not NMI-safe.
 */
static __always_inline __must_check bool
bpf_reslock_acquire(struct bpf_reslock *lock, unsigned long *flags)
{
	return __bpf_reslock_acquire(lock, flags, true);
}

/**
 * bpf_reslock_tryacquire - turn interrupts off and take the lock if it is free
 * @lock: the lock
 * @flags: where the state of the interrupts is kept for bpf_reslock_release()
 *
 * For who holds another lock: if that were waited for by an NMI inside this one, neither
 * would go on before the bound.
 *
 * Context: Any, NMI included. On success interrupts are off until the release.
 *
 * Return: true if the lock was taken; else false, with interrupts as they were.
 */
static __always_inline __must_check bool
bpf_reslock_tryacquire(struct bpf_reslock *lock, unsigned long *flags)
{
	return __bpf_reslock_acquire(lock, flags, false);
}

/**
 * bpf_reslock_release - release the lock and restore interrupts
 * @lock: the lock, taken by this context
 * @flags: what bpf_reslock_acquire() or bpf_reslock_tryacquire() stored
 *
 * Context: The one that took the lock, interrupts off.
 */
static __always_inline void
bpf_reslock_release(struct bpf_reslock *lock, unsigned long flags)
{
	/* Release pairs with the acquire in bpf_reslock_acquire() and its wait. */
	atomic_set_release(&lock->owner, 0);
	lock_release(&lock->dep_map, _THIS_IP_);
	local_irq_restore(flags);
}

#endif /* _LINUX_BPF_RESLOCK_H */
