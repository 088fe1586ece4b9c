/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As much of the kernel as kernel/bpf/ringbuf.c and queue_stack_maps.c use, for one program of one
 * source file.
 *
 * A thread is a CPU: what the kernel keeps per CPU is thread-local here. SIGUSR1 is an NMI,
 * SIGUSR2 an interrupt that local_irq_save() holds off; a program sets what they do with
 * shim_nmi and shim_irq, and sends them with pthread_kill().
 *
 * Pages are pages of one memfd, so vmap() and mmap() can map one of them several times.
 *
 * Atomic operations are the compiler's, with the kernel's order. ThreadSanitizer knows no
 * fences: for it smp_mb() and its like are a read-modify-write of one variable of all
 * threads. That orders more than a fence does, so it can miss a race at a place that has a
 * fence, but reports none that is not there. It also delays a signal until the thread calls
 * libc, so there signals arrive between operations of the ring and never within.
 */
#ifndef SHIM_H
#define SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef __LP64__
#define CONFIG_64BIT 1
#define BITS_PER_LONG 64
#else
#define BITS_PER_LONG 32
#endif
#define CONFIG_ARCH_HAVE_NMI_SAFE_CMPXCHG 1
#define CONFIG_SMP 1
#define CONFIG_MMU 1

/* New names, for old system headers. */
#define BPF_F_RB_OVERWRITE	(1U << 19)
#define BPF_RB_OVERWRITE_POS	4
#define BPF_RB_LOST		0x100

/* Types and the compiler */

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef unsigned int gfp_t;
typedef unsigned int __poll_t;
typedef struct { int counter; } atomic_t;
typedef struct { long counter; } atomic_long_t;
typedef struct { s64 counter; } atomic64_t;
typedef struct { unsigned long pgprot; } pgprot_t;

#define __force
#define __user
#define __rcu
#define notrace
#define __init
#define __maybe_unused		__attribute__((unused))
#define __must_check		__attribute__((warn_unused_result))
#define __packed		__attribute__((packed))
#define __aligned(n)		__attribute__((aligned(n)))
#define __printf(a, b)		__attribute__((format(printf, a, b)))
#define ____cacheline_aligned	__aligned(64)
#define ____cacheline_aligned_in_smp ____cacheline_aligned
#undef __always_inline
#define __always_inline		inline __attribute__((always_inline))
#undef noinline
#define noinline		__attribute__((noinline))
#define likely(x)		__builtin_expect(!!(x), 1)
#define unlikely(x)		__builtin_expect(!!(x), 0)
#define barrier()		asm volatile("" ::: "memory")
#define prefetchw(p)		__builtin_prefetch(p, 1)
#define prefetch(p)		__builtin_prefetch(p, 0)
#define BUILD_BUG_ON(x)		_Static_assert(!(x), #x)
#define static_assert		_Static_assert
#define WARN_ON_ONCE(x)		({ bool __w = (x); if (__w) shim_die("WARN_ON " #x); __w; })
#define WARN_ON(x)		WARN_ON_ONCE(x)
#define BIT(n)			(1UL << (n))
#define _THIS_IP_		0UL

#define __shim_one_1		0,
#define __shim_second(skip, val, ...) val
#define __shim_is(x)		__shim_is2(x)
#define __shim_is2(x)		__shim_is3(__shim_one_##x)
#define __shim_is3(x)		__shim_second(x 1, 0)
#define IS_ENABLED(option)	__shim_is(option)

#undef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define min(a, b)								\
	({ __auto_type __a = (a); __auto_type __b = (b); __a < __b ? __a : __b; })
#define max(a, b)								\
	({ __auto_type __a = (a); __auto_type __b = (b); __a > __b ? __a : __b; })
#define min_t(t, a, b)		min((t)(a), (t)(b))
#define max_t(t, a, b)		max((t)(a), (t)(b))
#define swap(a, b)		({ __auto_type __t = (a); (a) = (b); (b) = __t; })
#define round_up(x, y)		((((x) - 1) | ((typeof(x))((y) - 1))) + 1)
#define round_down(x, y)	((x) & ~((typeof(x))((y) - 1)))
#define is_power_of_2(n)	((n) && !((n) & ((n) - 1)))
#define offsetofend(t, m)	(offsetof(t, m) + sizeof(((t *)0)->m))
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define SZ_64K			0x10000
#define SZ_4M			0x400000
#define NSEC_PER_SEC		1000000000L
#define time_after64(a, b)	((s64)((b) - (a)) < 0)

#ifndef PAGE_SIZE
#define PAGE_SIZE		4096
#endif
#define PAGE_SHIFT		(__builtin_ctzl(PAGE_SIZE))
#define PAGE_MASK		(~(PAGE_SIZE - 1UL))
#define PAGE_ALIGNED(x)		(!((unsigned long)(x) & ~PAGE_MASK))

#define ENOTSUPP		524
#define MAX_ERRNO		4095
#define ERR_PTR(err)		((void *)(long)(err))
#define PTR_ERR(ptr)		((long)(ptr))
#define IS_ERR(ptr)		((unsigned long)(ptr) >= (unsigned long)-MAX_ERRNO)
#define IS_ERR_OR_NULL(ptr)	(!(ptr) || IS_ERR(ptr))
#define ERR_CAST(ptr)		((void *)(ptr))

#define U32_MAX			(~0U)
#define KMALLOC_MAX_SIZE	(1UL << (PAGE_SHIFT + 10))
#define BPF_F_ACCESS_MASK							\
	(BPF_F_RDONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY | BPF_F_WRONLY_PROG)

static inline void __attribute__((noreturn)) shim_die(const char *what)
{
	fprintf(stderr, "shim: %s\n", what);
	abort();
}

/* Memory order */

#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#define smp_load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define smp_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)

#ifdef __SANITIZE_THREAD__
static int shim_fence_word __maybe_unused;
#define __shim_fence(order)	((void)__atomic_fetch_add(&shim_fence_word, 0, __ATOMIC_ACQ_REL))
#else
#define __shim_fence(order)	__atomic_thread_fence(order)
#endif
#define smp_mb()		__shim_fence(__ATOMIC_SEQ_CST)
#define smp_rmb()		__shim_fence(__ATOMIC_ACQUIRE)
#define smp_wmb()		__shim_fence(__ATOMIC_RELEASE)
#define smp_mb__before_atomic()	smp_mb()
#define smp_mb__after_atomic()	smp_mb()
#define smp_store_mb(x, v)	do { WRITE_ONCE(x, v); smp_mb(); } while (0)

#define __shim_cmpxchg(p, old, new, order)					\
({										\
	typeof(*(p)) __old = (old);						\
										\
	__atomic_compare_exchange_n(p, &__old, new, false, order,		\
				    order == __ATOMIC_SEQ_CST ? __ATOMIC_SEQ_CST :	\
				    order == __ATOMIC_ACQUIRE ? __ATOMIC_ACQUIRE :	\
				    __ATOMIC_RELAXED);				\
	__old;									\
})
#define cmpxchg(p, old, new)	__shim_cmpxchg(p, old, new, __ATOMIC_SEQ_CST)
#define cmpxchg_acquire(p, old, new) __shim_cmpxchg(p, old, new, __ATOMIC_ACQUIRE)
#define cmpxchg_release(p, old, new) __shim_cmpxchg(p, old, new, __ATOMIC_RELEASE)
#define cmpxchg_relaxed(p, old, new) __shim_cmpxchg(p, old, new, __ATOMIC_RELAXED)

#define __shim_try(p, oldp, new, order, fail)					\
	__atomic_compare_exchange_n(p, oldp, new, false, order, fail)
#define try_cmpxchg(p, oldp, new) __shim_try(p, oldp, new, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
#define try_cmpxchg_acquire(p, oldp, new)					\
	__shim_try(p, oldp, new, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define try_cmpxchg_release(p, oldp, new)					\
	__shim_try(p, oldp, new, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
#define try_cmpxchg_relaxed(p, oldp, new)					\
	__shim_try(p, oldp, new, __ATOMIC_RELAXED, __ATOMIC_RELAXED)

#define xchg(p, v)		__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define xchg_acquire(p, v)	__atomic_exchange_n(p, v, __ATOMIC_ACQUIRE)
#define xchg_release(p, v)	__atomic_exchange_n(p, v, __ATOMIC_RELEASE)
#define xchg_relaxed(p, v)	__atomic_exchange_n(p, v, __ATOMIC_RELAXED)

/* The same for atomic_t and atomic_long_t. */
#define atomic_read(a)		READ_ONCE((a)->counter)
#define atomic_read_acquire(a)	smp_load_acquire(&(a)->counter)
#define atomic_set(a, v)	WRITE_ONCE((a)->counter, v)
#define atomic_set_release(a, v) smp_store_release(&(a)->counter, v)
#define atomic_add(v, a)	((void)__atomic_fetch_add(&(a)->counter, v, __ATOMIC_RELAXED))
#define atomic_sub(v, a)	((void)__atomic_fetch_sub(&(a)->counter, v, __ATOMIC_RELAXED))
#define atomic_inc(a)		atomic_add(1, a)
#define atomic_dec(a)		atomic_sub(1, a)
#define atomic_or(v, a)		((void)__atomic_fetch_or(&(a)->counter, v, __ATOMIC_RELAXED))
#define atomic_xchg(a, v)	xchg(&(a)->counter, v)
#define atomic_cmpxchg(a, old, new) cmpxchg(&(a)->counter, old, new)
#define atomic_cmpxchg_acquire(a, old, new) cmpxchg_acquire(&(a)->counter, old, new)
#define atomic_try_cmpxchg(a, oldp, new) try_cmpxchg(&(a)->counter, oldp, new)
#define atomic_try_cmpxchg_acquire(a, oldp, new) try_cmpxchg_acquire(&(a)->counter, oldp, new)
#define atomic_try_cmpxchg_release(a, oldp, new) try_cmpxchg_release(&(a)->counter, oldp, new)
#define atomic_try_cmpxchg_relaxed(a, oldp, new) try_cmpxchg_relaxed(&(a)->counter, oldp, new)
#define atomic_long_read	atomic_read
#define atomic_long_set		atomic_set
#define atomic_long_add		atomic_add
#define atomic_long_inc		atomic_inc

static inline void memset64(u64 *p, u64 v, size_t n)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
	asm volatile("rep stosq" : "+c" (n), "+D" (p) : "a" (v) : "memory");
#else
	while (n--)
		*p++ = v;
#endif
}

/* CPUs, interrupts, clock */

static __thread int shim_cpu, shim_nmi_depth;
static __thread volatile unsigned long shim_irqs_off, shim_irq_pending;
static void (*shim_nmi)(void), (*shim_irq)(void);

#define raw_smp_processor_id()	shim_cpu
#define smp_processor_id()	shim_cpu
#define in_nmi()		(shim_nmi_depth != 0)
#define preempt_disable()	barrier()
#define preempt_enable()	barrier()
#define preempt_disable_notrace() barrier()
#define preempt_enable_notrace() barrier()
#define irqs_disabled()		(shim_irqs_off != 0)

static noinline __maybe_unused void shim_irq_run(void)
{
	while (!shim_irqs_off && shim_irq_pending && !in_nmi()) {
		shim_irqs_off = 1;
		shim_irq_pending = 0;
		shim_irq();
		shim_irqs_off = 0;
	}
}

#define local_irq_save(flags)							\
do {										\
	(flags) = shim_irqs_off;						\
	shim_irqs_off = 1;							\
	barrier();								\
} while (0)

#define local_irq_restore(flags)						\
do {										\
	barrier();								\
	shim_irqs_off = (flags);						\
	if (unlikely(shim_irq_pending))						\
		shim_irq_run();							\
} while (0)

static __maybe_unused void shim_signal(int sig)
{
	int err = errno;

	if (sig == SIGUSR1) {
		shim_nmi_depth++;
		shim_nmi();
		shim_nmi_depth--;
	} else {
		shim_irq_pending = 1;
		shim_irq_run();
	}
	errno = err;
}

/* An NMI holds off interrupts; both hold off their own kind. */
static __maybe_unused void shim_signals(void (*nmi)(void), void (*irq)(void))
{
	struct sigaction act = { .sa_handler = shim_signal, .sa_flags = SA_RESTART };

	shim_nmi = nmi;
	shim_irq = irq;
	sigaddset(&act.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &act, NULL);
	sigaction(SIGUSR2, &act, NULL);
}

/* Makes waits end soon: a second passes whenever somebody looks. */
static bool shim_clock_jumps;

static inline u64 shim_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * (u64)NSEC_PER_SEC + ts.tv_nsec;
}

static inline u64 ktime_get_mono_fast_ns(void)
{
	static u64 jumped;

	if (unlikely(shim_clock_jumps))
		jumped += NSEC_PER_SEC;
	return jumped + shim_clock();
}

/* There may be more threads than real CPUs. */
static inline void cpu_relax(void)
{
	static __thread unsigned int spins;

	if (++spins % 1024 == 0)
		sched_yield();
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	barrier();
#endif
}

/* Locks */

struct lock_class_key { int unused; };

#define lockdep_init_map_wait(map, name, key, sub, inner)	((void)(key))
#define lock_acquire_exclusive(map, sub, try, nest, ip)		do { } while (0)
#define lock_release(map, ip)					do { } while (0)

/* As the kernel's queued spinlock: locked byte, pending byte; but no queue behind that. */
typedef union {
	u32 val;
	struct { u8 locked, pending; };
} raw_spinlock_t;
typedef raw_spinlock_t spinlock_t;

#define raw_spin_lock_init(l)	((l)->val = 0)
#define spin_lock_init(l)	raw_spin_lock_init(l)

static inline bool raw_spin_trylock(raw_spinlock_t *lock)
{
	u32 old = 0;

	return try_cmpxchg_acquire(&lock->val, &old, 1);
}

static noinline __maybe_unused void shim_spin_wait(raw_spinlock_t *lock)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	for (;;) {
		u32 old = __atomic_fetch_or(&lock->val, 0x100, __ATOMIC_ACQUIRE);

		if (!(old & 0x100))
			break;
		while (READ_ONCE(lock->val) & 0x100)
			cpu_relax();
	}
	while (smp_load_acquire(&lock->locked))
		cpu_relax();
	/* Locked and not pending. */
	WRITE_ONCE(*(u16 *)lock, 1);
#else
	while (!raw_spin_trylock(lock))
		cpu_relax();
#endif
}

static inline void raw_spin_lock(raw_spinlock_t *lock)
{
	if (!likely(raw_spin_trylock(lock)))
		shim_spin_wait(lock);
}

static inline void raw_spin_unlock(raw_spinlock_t *lock)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	smp_store_release(&lock->locked, 0);
#else
	smp_store_release(&lock->val, 0);
#endif
}

#define raw_spin_lock_irqsave(l, flags)						\
	do { local_irq_save(flags); raw_spin_lock(l); } while (0)
#define raw_spin_unlock_irqrestore(l, flags)					\
	do { raw_spin_unlock(l); local_irq_restore(flags); } while (0)
#define raw_spin_trylock_irqsave(l, flags)					\
({										\
	local_irq_save(flags);							\
	raw_spin_trylock(l) ? true : ({ local_irq_restore(flags); false; });	\
})
/* On PREEMPT_RT these sleep: not for what programs call. */
#define spin_lock(l)							\
	((void)(l), shim_die("a lock that sleeps on PREEMPT_RT"))
#define spin_unlock(l)		((void)(l))
#define spin_lock_irqsave(l, flags) spin_lock(l)
#define spin_unlock_irqrestore(l, flags) spin_unlock(l)

/* Memory */

struct page { unsigned int index; };

struct vm_struct {
	struct vm_struct *next;
	void *addr;
	unsigned int *index, nr;
};

struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_pgoff, vm_flags;
};

#define GFP_KERNEL_ACCOUNT	0
#define GFP_KERNEL		0
#define GFP_USER		0
#define __GFP_RETRY_MAYFAIL	0
#define __GFP_NOWARN		0
#define __GFP_ACCOUNT		0
#define __GFP_ZERO		1
#define NUMA_NO_NODE		(-1)
#define PAGE_KERNEL		((pgprot_t) { 0 })
#define VM_READ			1
#define VM_WRITE		2
#define VM_MAYWRITE		0x20
#define VM_MAP			4
#define VM_USERMAP		8
#define vm_flags_clear(vma, f)	((vma)->vm_flags &= ~(f))
#define kmemleak_not_leak(p)	((void)(p))

static int shim_memfd = -1;
static unsigned int shim_pages;		/* of the memfd; a freed one is not used again */
static long shim_pages_live;
static struct vm_struct *shim_vms;

static inline struct page *alloc_pages_node(int node, gfp_t gfp, unsigned int order)
{
	struct page *page = malloc(sizeof(*page));

	if (shim_memfd < 0)
		shim_memfd = memfd_create("pages", MFD_CLOEXEC);
	if (order || !page || ftruncate(shim_memfd, (off_t)(shim_pages + 1) * PAGE_SIZE))
		shim_die("alloc_pages_node");
	page->index = shim_pages++;
	shim_pages_live++;
	if (!(gfp & __GFP_ZERO)) {
		char dirt[PAGE_SIZE];

		memset(dirt, 0xa5, PAGE_SIZE);
		if (pwrite(shim_memfd, dirt, PAGE_SIZE,
			   (off_t)page->index * PAGE_SIZE) != PAGE_SIZE)
			shim_die("pwrite");
	}
	return page;
}

#define alloc_page(gfp)		alloc_pages_node(NUMA_NO_NODE, gfp, 0)

static inline void __free_page(struct page *page)
{
	fallocate(shim_memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (off_t)page->index * PAGE_SIZE, PAGE_SIZE);
	shim_pages_live--;
	free(page);
}

/* Runs of neighbours in one go: the number of mappings of a process has a limit. */
static inline void shim_map(void *addr, const unsigned int *index, unsigned int nr, int prot)
{
	unsigned int i, run;

	for (i = 0; i < nr; i += run) {
		for (run = 1; i + run < nr && index[i + run] == index[i] + run; run++)
			;
		if (mmap((char *)addr + i * (size_t)PAGE_SIZE, run * (size_t)PAGE_SIZE, prot,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, shim_memfd,
			 (off_t)index[i] * PAGE_SIZE) == MAP_FAILED)
			shim_die("mmap");
	}
}

static inline void *shim_reserve_range(size_t size)
{
	void *addr = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		shim_die("mmap");
	return addr;
}

static inline void *vmap(struct page **pages, unsigned int nr, unsigned long flags, pgprot_t prot)
{
	struct vm_struct *vm = malloc(sizeof(*vm));
	unsigned int i;

	vm->nr = nr;
	vm->index = calloc(nr, sizeof(*vm->index));
	for (i = 0; i < nr; i++)
		vm->index[i] = pages[i]->index;
	vm->addr = shim_reserve_range((size_t)nr * PAGE_SIZE);
	shim_map(vm->addr, vm->index, nr, PROT_READ | PROT_WRITE);
	vm->next = shim_vms;
	shim_vms = vm;
	return vm->addr;
}

static inline void vunmap(const void *addr)
{
	struct vm_struct *vm, **prev;

	for (prev = &shim_vms; (vm = *prev); prev = &vm->next) {
		if (vm->addr != (const void *)((unsigned long)addr & PAGE_MASK))
			continue;
		*prev = vm->next;
		munmap(vm->addr, (size_t)vm->nr * PAGE_SIZE);
		free(vm->index);
		free(vm);
		return;
	}
	shim_die("vunmap");
}

/* The range of @vma must have been reserved. */
static inline int remap_vmalloc_range(struct vm_area_struct *vma, void *addr, unsigned long pgoff)
{
	unsigned long nr = (vma->vm_end - vma->vm_start) / PAGE_SIZE;
	struct vm_struct *vm;

	for (vm = shim_vms; vm; vm = vm->next) {
		if (vm->addr != addr)
			continue;
		if (pgoff > vm->nr || nr > vm->nr - pgoff)
			return -EINVAL;
		shim_map((void *)vma->vm_start, vm->index + pgoff, nr,
			 PROT_READ | (vma->vm_flags & VM_WRITE ? PROT_WRITE : 0));
		return 0;
	}
	return -EINVAL;
}

/* irq_work, wait queues, poll */

struct irq_work {
	void (*func)(struct irq_work *work);
	int pending;
};

/* Who waits looks at the number of wakeups. Nobody leaves. */
typedef struct {
	unsigned long wakeups;
	bool active;
} wait_queue_head_t;

struct file { int unused; };
typedef struct poll_table_struct {
	wait_queue_head_t *wq;
	unsigned long seen;
} poll_table;

/* The one that shim_irq_work_run() runs. */
static struct irq_work *shim_irq_work;

#define init_irq_work(work, fn)							\
do {										\
	(work)->func = (fn);							\
	(work)->pending = 0;							\
	shim_irq_work = (work);							\
} while (0)

/* How many were queued and have not run. */
static int shim_irq_works;

static inline bool irq_work_queue(struct irq_work *work)
{
	if (xchg(&work->pending, 1))
		return false;
	__atomic_fetch_add(&shim_irq_works, 1, __ATOMIC_RELAXED);
	return true;
}

static inline void irq_work_sync(struct irq_work *work)
{
	if (READ_ONCE(work->pending) && xchg(&work->pending, 0)) {
		__atomic_fetch_sub(&shim_irq_works, 1, __ATOMIC_RELAXED);
		work->func(work);
	}
}

static inline void shim_irq_work_run(void)
{
	irq_work_sync(shim_irq_work);
}

#define init_waitqueue_head(wq)	(*(wq) = (wait_queue_head_t) { 0 })
#define waitqueue_active(wq)	READ_ONCE((wq)->active)
#define wake_up_all(wq)		((void)__atomic_fetch_add(&(wq)->wakeups, 1, __ATOMIC_SEQ_CST))

#define TASK_NORMAL		3
#define poll_to_key(events)	((void *)(unsigned long)(events))
#define __wake_up(wq, mode, nr, key) ((void)(key), wake_up_all(wq))

/* All operations are short: only for tests where nobody is in one. */
#define synchronize_rcu()	smp_mb()

static inline void poll_wait(struct file *file, wait_queue_head_t *wq, poll_table *table)
{
	WRITE_ONCE(wq->active, true);
	table->wq = wq;
	table->seen = __atomic_load_n(&wq->wakeups, __ATOMIC_SEQ_CST);
}

/* User memory, all of it there */

#define u64_to_user_ptr(u)	((void *)(uintptr_t)(u))
#define access_ok(p, size)	((void)(p), (void)(size), true)
#define put_user(v, p)		(*(p) = (v), 0)
#define pagefault_disable()	barrier()
#define pagefault_enable()	barrier()
#define fault_in_safe_writeable(p, size) ((void)(p), (size_t)0)
#define fatal_signal_pending(task) false
#define cond_resched()		((void)0)
#define kvmalloc_array(n, size, gfp) calloc(n, size)
#define kvfree(p)		free(p)

static inline unsigned long __copy_to_user_inatomic(void *to, const void *from, unsigned long n)
{
	memcpy(to, from, n);
	return 0;
}

static inline unsigned long copy_from_user(void *to, const void *from, unsigned long n)
{
	memcpy(to, from, n);
	return 0;
}

/* BPF */

struct seq_file { FILE *file; };

#define seq_printf(m, ...)	fprintf((m)->file, __VA_ARGS__)

struct bpf_map {
	const struct bpf_map_ops *ops;
	u32 map_type, key_size, value_size, max_entries, map_flags;
	int numa_node;
	/* What follows a map is as far from the above as in the kernel. */
	char rest[208] __aligned(8);
};

struct bpf_map_ops {
	bool (*map_meta_equal)(const struct bpf_map *a, const struct bpf_map *b);
	int (*map_alloc_check)(union bpf_attr *attr);
	struct bpf_map *(*map_alloc)(union bpf_attr *attr);
	void (*map_free)(struct bpf_map *map);
	u64 (*map_mem_usage)(const struct bpf_map *map);
	int (*map_mmap)(struct bpf_map *map, struct vm_area_struct *vma);
	__poll_t (*map_poll)(struct bpf_map *map, struct file *file, poll_table *table);
	void (*map_show_fdinfo)(const struct bpf_map *map, struct seq_file *m);
	long (*map_push_elem)(struct bpf_map *map, void *value, u64 flags);
	long (*map_pop_elem)(struct bpf_map *map, void *value);
	long (*map_peek_elem)(struct bpf_map *map, void *value);
	void *(*map_lookup_elem)(struct bpf_map *map, void *key);
	long (*map_update_elem)(struct bpf_map *map, void *key, void *value, u64 flags);
	long (*map_delete_elem)(struct bpf_map *map, void *key);
	int (*map_lookup_and_delete_user)(struct bpf_map *map, void *key, void *value, u64 flags);
	int (*map_lookup_batch)(struct bpf_map *map, const union bpf_attr *attr,
				union bpf_attr *uattr);
	int (*map_lookup_and_delete_batch)(struct bpf_map *map, const union bpf_attr *attr,
					   union bpf_attr *uattr);
	int (*map_update_batch)(struct bpf_map *map, struct file *file,
				const union bpf_attr *attr, union bpf_attr *uattr);
	int (*map_get_next_key)(struct bpf_map *map, void *key, void *next);
	int *map_btf_id;
};

#define BTF_ID_LIST_SINGLE(name, prefix, type)	static int name[1];

static inline bool bpf_map_meta_equal(const struct bpf_map *a, const struct bpf_map *b)
{
	return a->map_type == b->map_type && a->map_flags == b->map_flags;
}

static inline bool bpf_map_flags_access_ok(u32 flags)
{
	return (flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)) !=
	       (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG);
}

static inline u32 bpf_map_attr_numa_node(const union bpf_attr *attr)
{
	return attr->map_flags & BPF_F_NUMA_NODE ? attr->numa_node : NUMA_NO_NODE;
}

static long shim_areas_live;

static inline void *bpf_map_area_alloc(u64 size, int node)
{
	u64 bytes = round_up(size, (u64)64);
	void *p = bytes < size ? NULL : aligned_alloc(64, bytes);

	if (!p)
		return NULL;
	shim_areas_live++;
	return memset(p, 0, bytes);
}

static inline void bpf_map_area_free(void *p)
{
	shim_areas_live -= !!p;
	free(p);
}

static inline void bpf_map_init_from_attr(struct bpf_map *map, union bpf_attr *attr)
{
	map->map_type = attr->map_type;
	map->key_size = attr->key_size;
	map->value_size = attr->value_size;
	map->max_entries = attr->max_entries;
	map->map_flags = attr->map_flags;
	map->numa_node = NUMA_NO_NODE;
}

enum { RET_INTEGER, RET_VOID, RET_PTR_TO_RINGBUF_MEM_OR_NULL };
enum {
	ARG_CONST_MAP_PTR, ARG_CONST_ALLOC_SIZE_OR_ZERO, ARG_ANYTHING, ARG_PTR_TO_RINGBUF_MEM,
	ARG_PTR_TO_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_PTR_TO_DYNPTR, ARG_PTR_TO_FUNC,
	ARG_PTR_TO_STACK_OR_NULL, OBJ_RELEASE = 0x100, MEM_RDONLY = 0x200,
	DYNPTR_TYPE_RINGBUF = 0x400, MEM_UNINIT = 0x800, MEM_WRITE = 0x1000,
};

struct bpf_func_proto {
	void *func;
	int ret_type, arg1_type, arg2_type, arg3_type, arg4_type, arg5_type;
};

/* Out of line, as a call from a program. */
#define BPF_CALL_2(name, t1, a1, t2, a2)					\
	static noinline u64 name(t1 a1, t2 a2)
#define BPF_CALL_3(name, t1, a1, t2, a2, t3, a3)				\
	static noinline u64 name(t1 a1, t2 a2, t3 a3)
#define BPF_CALL_4(name, t1, a1, t2, a2, t3, a3, t4, a4)			\
	static noinline u64 name(t1 a1, t2 a2, t3 a3, t4 a4)

typedef u64 (*bpf_callback_t)(u64, u64, u64, u64, u64);

#define BPF_MAX_USER_RINGBUF_SAMPLES	(128 * 1024)
#define DYNPTR_MAX_SIZE			((1U << 24) - 1)

enum bpf_dynptr_type { BPF_DYNPTR_TYPE_INVALID, BPF_DYNPTR_TYPE_LOCAL, BPF_DYNPTR_TYPE_RINGBUF };

struct bpf_dynptr_kern {
	void *data;
	u32 size;
	u32 offset;
} __aligned(8);

static inline int bpf_dynptr_check_size(u32 size)
{
	return size > DYNPTR_MAX_SIZE ? -E2BIG : 0;
}

static inline void bpf_dynptr_init(struct bpf_dynptr_kern *ptr, void *data,
				   enum bpf_dynptr_type type, u32 offset, u32 size)
{
	ptr->data = data;
	ptr->offset = offset;
	ptr->size = size | type << 24;
}

static inline void bpf_dynptr_set_null(struct bpf_dynptr_kern *ptr)
{
	memset(ptr, 0, sizeof(*ptr));
}

static inline u32 __bpf_dynptr_size(const struct bpf_dynptr_kern *ptr)
{
	return ptr->size & DYNPTR_MAX_SIZE;
}

#endif
