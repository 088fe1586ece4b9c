// SPDX-License-Identifier: GPL-2.0
/*
 * Two threads on one queue or stack: every value comes out exactly once, whole, from a queue
 * in order, and no operation is refused without need.
 */
#include "queue_stack_common.h"

/* Two threads on map a, each on a CPU of its own. */
static void load(enum bpf_map_type type, __u32 words, __u32 max_entries, __u64 push_flags,
		 struct worker first, struct worker second)
{
	struct queue_stack_stress *skel;

	skel = stress_open(type, type, words, max_entries);
	if (!skel)
		return;
	skel->bss->push_flags = push_flags;
	if (!stress_load(skel))
		goto out;
	first.skel = skel;
	second.skel = skel;
	second.cpu = 1;

	run_two(&first, &second);

	assert_worked(skel, 0, 0, first.mix);
	assert_worked(skel, 0, 1, second.mix);
	assert_settled(skel, 0);
out:
	queue_stack_stress__destroy(skel);
}

static void by_syscalls(enum bpf_map_type type)
{
	struct worker worker = { .how = BY_SYSCALL, .msecs = 600 };

	load(type, 1, 16, BPF_ANY, worker, worker);
}

static void by_programs(enum bpf_map_type type)
{
	struct worker worker = { .how = BY_PROGRAM, .msecs = 600 };

	load(type, 1, 16, BPF_ANY, worker, worker);
}

static void by_both(enum bpf_map_type type)
{
	struct worker program = { .how = BY_PROGRAM, .msecs = 400 };
	struct worker syscalls = { .how = BY_SYSCALL, .msecs = 400 };

	load(type, 8, 3, BPF_ANY, program, syscalls);
}

static void one_pushes_one_pops(enum bpf_map_type type)
{
	struct worker producer = { .mix = MIX_PUSH, .msecs = 400 };
	struct worker consumer = { .mix = MIX_POP, .msecs = 400 };

	load(type, 8, 64, BPF_ANY, producer, consumer);
}

static void one_entry(enum bpf_map_type type)
{
	struct worker worker = { .msecs = 300 };

	load(type, 8, 1, BPF_ANY, worker, worker);
}

static void large_values(enum bpf_map_type type)
{
	struct worker worker = { .how = BY_BOTH, .msecs = 400 };

	load(type, 1024, 3, BPF_ANY, worker, worker);
}

static void dropping_oldest(enum bpf_map_type type)
{
	struct worker worker = { .how = BY_BOTH, .msecs = 400 };

	load(type, 8, 3, BPF_EXIST, worker, worker);
}

/*
 * Each of the two threads pops only after it pushed: there are always values for all that pop,
 * and room for all that push. A refusal would be for nothing.
 */
static void never_refused(enum bpf_map_type type)
{
	struct worker worker = { .mix = MIX_PUSH_POP, .how = BY_BOTH, .msecs = 600 };

	load(type, 1, 2, BPF_ANY, worker, worker);
}

#define LOAD(name) { #name, name }

static const struct {
	const char *name;
	void (*run)(enum bpf_map_type type);
} loads[] = {
	LOAD(by_syscalls),
	LOAD(by_programs),
	LOAD(by_both),
	LOAD(one_pushes_one_pops),
	LOAD(one_entry),
	LOAD(large_values),
	LOAD(dropping_oldest),
	LOAD(never_refused),
};

static void load_type(enum bpf_map_type type)
{
	char name[64];
	int i;

	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		snprintf(name, sizeof(name), "%s_%s", type_name(type), loads[i].name);
		if (test__start_subtest(name) && two_cpus())
			loads[i].run(type);
	}
}

void serial_test_queue_stack_stress(void)
{
	load_type(BPF_MAP_TYPE_QUEUE);
	load_type(BPF_MAP_TYPE_STACK);
}
