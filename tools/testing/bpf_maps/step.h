/* SPDX-License-Identifier: GPL-2.0-only */
/* One thread that is interrupted after one single instruction, by the trap flag. */
#ifndef STEP_H
#define STEP_H

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define HAVE_STEP

#include <ucontext.h>

/* Two levels: what interrupts can be interrupted. */
static struct trap {
	/* After how many instructions, and what to do then. */
	unsigned long at;
	void (*hit)(void);
	unsigned long seen, last_ip;
	bool fired;
} traps[2];

static int trap_level;

static void trap_set(int level, unsigned long at, void (*hit)(void))
{
	traps[level] = (struct trap) { .at = at, .hit = hit };
}

static void trap_flag(bool on)
{
	unsigned long flags = __builtin_ia32_readeflags_u64() & ~0x100UL;

	if (!traps[trap_level].fired && traps[trap_level].hit)
		__builtin_ia32_writeeflags_u64(flags | (on ? 0x100 : 0));
}

/* Something that is interrupted. */
#define STEPPED(what)								\
({										\
	trap_flag(true);							\
	typeof(what) __what = (what);						\
	trap_flag(false);							\
	__what;									\
})

static void trap_handler(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct trap *trap = &traps[trap_level];
	unsigned long irqs_off = shim_irqs_off;
	int cpu = shim_cpu, nmi = shim_nmi_depth;

	/* The rounds of a string instruction count as one. */
	if (regs[REG_RIP] == trap->last_ip)
		return;
	trap->last_ip = regs[REG_RIP];
	if (trap->seen++ != trap->at)
		return;
	regs[REG_EFL] &= ~0x100;
	trap->fired = true;
	trap_level++;
	trap->hit();
	trap_level--;
	shim_cpu = cpu;
	shim_nmi_depth = nmi;
	shim_irqs_off = irqs_off;
}

static void trap_signals(void)
{
	struct sigaction act = {
		.sa_sigaction = trap_handler,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGTRAP, &act, NULL);
}

#endif

#endif
