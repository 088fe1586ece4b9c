/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads, each of them a CPU, that are interrupted at random. For who includes this, struct
 * ctx is what runs in one context of one CPU: a task, an interrupt or an NMI; it has an rng.
 */
#ifndef STRESS_H
#define STRESS_H

struct thread {
	pthread_t thread;
	int cpu;
	bool quick;		/* nothing interrupts */
	timer_t timer[2];
	struct ctx ctx[3];
	unsigned long hits[2];
};

static __thread struct thread *self;
static bool stress_stop;

/* Something that the context does; and what it ends with, to leave nothing behind. */
static void ctx_step(struct ctx *ctx);
static void ctx_end(struct ctx *ctx);

static bool stopping(void)
{
	return READ_ONCE(stress_stop) || READ_ONCE(failures);
}

static void rearm(int which)
{
	struct itimerspec spec = { };

	spec.it_value.tv_nsec = 5000 + rnd(&self->ctx[1 + which].rng, 60000);
	timer_settime(self->timer[which], 0, &spec, NULL);
}

static void interrupted(int which)
{
	struct ctx *ctx = &self->ctx[1 + which];
	int steps = rnd(&ctx->rng, 6);

	self->hits[which]++;
	while (steps--)
		ctx_step(ctx);
	ctx_end(ctx);
	rearm(which);
}

static void stress_nmi(void)
{
	interrupted(1);
}

static void *stress_thread(void *arg)
{
	struct thread *thread = arg;
	struct ctx *ctx = thread->ctx;
	sigset_t both;
	int i;

	self = thread;
	shim_cpu = thread->cpu;
	for (i = 0; i < 2 && !thread->quick; i++) {
		struct sigevent event = {
			.sigev_notify = SIGEV_THREAD_ID,
			.sigev_signo = i ? SIGUSR1 : SIGUSR2,
		};

		event._sigev_un._tid = syscall(SYS_gettid);
		if (timer_create(CLOCK_MONOTONIC, &event, &thread->timer[i]))
			shim_die("timer_create");
		rearm(i);
	}
	while (!stopping()) {
		ctx_step(ctx);
		if (!rnd(&ctx->rng, 2000))
			sched_yield();
	}

	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &both, NULL);
	for (i = 0; i < 2 && !thread->quick; i++)
		timer_delete(thread->timer[i]);
	ctx_end(ctx);
	return NULL;
}

/* All threads at once, until the time is over or a check failed. */
static void stress_threads(struct thread *threads, u32 nr, double seconds)
{
	struct timespec nap = { 0, 20 * 1000 * 1000 };
	u64 until;
	u32 i;

	WRITE_ONCE(stress_stop, false);
	for (i = 0; i < nr; i++)
		pthread_create(&threads[i].thread, NULL, stress_thread, &threads[i]);
	until = shim_clock() + seconds * NSEC_PER_SEC;
	while (shim_clock() < until && !READ_ONCE(failures))
		nanosleep(&nap, NULL);
	WRITE_ONCE(stress_stop, true);
	for (i = 0; i < nr; i++)
		pthread_join(threads[i].thread, NULL);
}

#define STRESS(seconds, ...)							\
do {										\
	memset(&stress, 0, sizeof(stress));					\
	stress = (struct stress) { __VA_ARGS__ };				\
	stress_run(seconds);							\
} while (0)

#endif
