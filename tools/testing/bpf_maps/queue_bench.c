// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast programs push to a queue and pop from it:
 *
 *   queue_bench [-m pairs | pipe] [-s value bytes] [-p workers] [-t seconds] [-c capacity] [-l]
 *
 * pairs: each worker pushes and pops in turns; pipe: half of them push, the others pop. -l
 * takes a stack. Prints millions of pops a second, the share of the time, in percent, that was
 * measured, and the number of times that there was no room, or no value.
 */
#include "shim.h"
#include MAP_C
#include "bench.h"

#define BATCH		64
#define MAX_VALUE	4096

static struct bpf_map *map;
static bool pipes;
/* Not known to the compiler, as a program's call. */
static long (*volatile push)(struct bpf_map *map, void *value, u64 flags);
static long (*volatile pop)(struct bpf_map *map, void *value);

static bool pushes(const struct worker *me)
{
	return !pipes || (me - worker) % 2 == 0;
}

static bool pops(const struct worker *me)
{
	return !pipes || (me - worker) % 2;
}

static unsigned int batch(struct worker *me)
{
	char value[MAX_VALUE] __aligned(8) = {};
	unsigned int i, done = 0;

	for (i = 0; i < BATCH; i++) {
		if (pushes(me) && push(map, value, BPF_ANY)) {
			me->refused++;
			cpu_relax();
		}
		if (!pops(me))
			continue;
		if (pop(map, value)) {
			me->refused++;
			cpu_relax();
		} else {
			done++;
		}
	}
	return done;
}

int main(int argc, char **argv)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_QUEUE, .max_entries = 1024 };
	const struct bpf_map_ops *ops = &queue_map_ops;
	int opt;

	while ((opt = next_option(argc, argv, "m:s:p:t:c:l")) != -1) {
		switch (opt) {
		case 'm':
			pipes = !strcmp(optarg, "pipe");
			break;
		case 'c':
			attr.max_entries = atoi(optarg);
			break;
		case 'l':
			attr.map_type = BPF_MAP_TYPE_STACK;
			ops = &stack_map_ops;
			break;
		default:
			return 2;
		}
	}
	if (!workers || workers > ARRAY_SIZE(worker) || (pipes && workers % 2) || size > MAX_VALUE)
		return 2;

	attr.value_size = size;
	map = ops->map_alloc_check(&attr) ? ERR_PTR(-EINVAL) : ops->map_alloc(&attr);
	if (IS_ERR(map)) {
		fprintf(stderr, "map_alloc: %ld\n", PTR_ERR(map));
		return 1;
	}
	push = ops->map_push_elem;
	pop = ops->map_pop_elem;
	run_workers();
	return 0;
}
