// SPDX-License-Identifier: GPL-2.0-only
/*
 * profile COMMAND FILE: profiles all CPUs while a shell command runs. Writes a line for each stack:
 * "NAME;FRAME;FRAME... COUNT", the outermost frame first, those of user space as BUILD_ID+OFFSET.
 */
#include <sys/syscall.h>
#include <linux/perf_event.h>
#include "tour.h"
#include "profile.skel.h"

enum { HZ = 499 };

/* By their ids. */
static __u64 kernel[MAX_STACKS][DEPTH];
static struct bpf_stack_build_id user[MAX_STACKS][DEPTH];

static struct bpf_link *start_clock(struct bpf_program *prog, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(attr),
		.freq = 1,
		.sample_freq = HZ,
	};
	int fd = syscall(__NR_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? NULL : bpf_program__attach_perf_event(prog, fd);
}

/* tour: drain */
/* Take all stacks out of the map, and put each where its id says. */
static int drain(int map_fd, void *stacks, size_t size)
{
	static struct bpf_stack_build_id frames[64][DEPTH];
	__u32 ids[ARRAY_SIZE(frames)], next, count, i;
	void *from = NULL;		/* the start */
	int err, nr = 0;

	do {
		count = ARRAY_SIZE(ids);
		err = bpf_map_lookup_and_delete_batch(map_fd, from, &next, ids, frames, &count,
						      NULL);
		check(!err || err == -ENOENT, "cannot empty the map: %s", strerror(-err));
		for (i = 0; i < count; i++)
			memcpy(stacks + ids[i] * size, (void *)frames + i * size, size);
		nr += count;
		from = &next;
	} while (!err);			/* -ENOENT is the end */
	return nr;
}

/* tour: end */
static void write_stack(FILE *f, const struct sample *s, __u64 count)
{
	const struct bpf_stack_build_id *frame;
	int i, j;

	fprintf(f, "%.16s", s->comm);
	for (i = DEPTH - 1; s->user >= 0 && i >= 0; i--) {
		frame = &user[s->user][i];
		if (frame->status == BPF_STACK_BUILD_ID_EMPTY)
			continue;
		fputc(';', f);
		for (j = 0; j < BPF_BUILD_ID_SIZE; j++)
			fprintf(f, "%02x", frame->build_id[j]);
		fprintf(f, "+%llx", frame->offset);
	}
	for (i = DEPTH - 1; s->kernel >= 0 && i >= 0; i--) {
		if (kernel[s->kernel][i])
			fprintf(f, ";%llx", kernel[s->kernel][i]);
	}
	fprintf(f, " %llu\n", count);
}

int main(int argc, char **argv)
{
	int fd, i, lost, nr, nr_cpus = libbpf_num_possible_cpus();
	struct profile *skel = profile__open_and_load();
	struct bpf_link *clock[MAX_CPUS];
	struct sample s, *prev = NULL;
	__u64 count, sum = 0;
	FILE *f;

	check(argc == 3, "usage: %s COMMAND FILE", argv[0]);
	check(skel && nr_cpus <= MAX_CPUS, "cannot load");
	f = fopen(argv[2], "w");
	check(f, "cannot write %s", argv[2]);
	for (i = 0; i < nr_cpus; i++) {
		clock[i] = start_clock(skel->progs.profile, i);
		check(clock[i], "no clock on CPU %d", i);
	}
	check(!system(argv[1]), "the command failed");
	for (i = 0; i < nr_cpus; i++)
		bpf_link__destroy(clock[i]);

	fd = bpf_map__fd(skel->maps.user_stacks);
	lost = atoi(map_fdinfo(fd, "lost"));
	nr = drain(fd, user, sizeof(user[0]));
	fd = bpf_map__fd(skel->maps.kernel_stacks);
	lost += atoi(map_fdinfo(fd, "lost"));
	nr += drain(fd, kernel, sizeof(kernel[0]));
	check(!atoi(map_fdinfo(fd, "entries")), "not all stacks came out");
	fd = bpf_map__fd(skel->maps.counts);
	while (!bpf_map_get_next_key(fd, prev, &s)) {
		check(!bpf_map_lookup_elem(fd, &s, &count), "no count");
		write_stack(f, &s, count);
		sum += count;
		prev = &s;
	}
	check(!fclose(f), "cannot write %s", argv[2]);
	printf("%llu samples, %d different stacks, %d stacks lost\n", sum, nr, lost);
	check(sum && sum == skel->bss->samples, "%llu samples were taken", skel->bss->samples);
	check(!lost, "stacks were lost");
	profile__destroy(skel);
	return 0;
}
