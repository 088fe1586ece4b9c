// SPDX-License-Identifier: GPL-2.0-only
/* Starts programs, reads of it from a ring buffer too late, and knows how many it missed. */
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include "tour.h"
#include "ring.skel.h"

enum { NR = 100, MISS = 30 };

static bool done;

static void *start_programs(void *arg)
{
	static char *const names[] = { "date", "id", "ls", "true", "uname" };
	char *argv[2] = {}, *envp[1] = {};
	posix_spawn_file_actions_t quiet;
	pid_t pid;
	int i, status;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	for (i = 0; i < NR; i++) {
		argv[0] = names[i % ARRAY_SIZE(names)];
		check(!posix_spawnp(&pid, argv[0], &quiet, NULL, argv, envp) &&
		      waitpid(pid, &status, 0) == pid && !status, "%s failed", argv[0]);
	}
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* tour: read */
struct reader {
	__u32 received, lost;
};

static int handle(void *ctx, void *data, size_t size)
{
	const struct start *s = data;
	struct reader *r = ctx;

	check(r->received + s->lost == s->nr, "number %u knows of %u lost", s->nr, s->lost);
	if (s->lost > r->lost)
		printf("... %u are missing here ...\n", s->lost - r->lost);
	if (r->received < 3 || s->lost > r->lost)
		printf("start %u is %s\n", s->nr, s->file);
	r->received++;
	r->lost = s->lost;
	return 0;
}

/* tour: end */
int main(void)
{
	struct ring *skel = ring__open();
	struct reader r = {};
	struct ring_buffer *rb;
	pthread_t thread;
	__u32 lost;
	int fd;

	check(skel, "cannot open");
	setlinebuf(stdout);
	skel->rodata->parent = getpid();
	check(!ring__load(skel) && !ring__attach(skel), "cannot load");
	fd = bpf_map__fd(skel->maps.ring);
	rb = ring_buffer__new(fd, handle, &r, NULL);
	check(rb && !pthread_create(&thread, NULL, start_programs, NULL), "cannot start");
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		/* A slow reader: it comes when some have been lost already. */
		if (atoi(map_fdinfo(fd, "lost")) < MISS)
			usleep(1000);
		else
			check(ring_buffer__poll(rb, 100) >= 0, "cannot read");
	}
	pthread_join(thread, NULL);
	check(ring_buffer__consume(rb) >= 0, "cannot read");
	lost = atoi(map_fdinfo(fd, "lost"));
	printf("%u received + %u lost (fdinfo) = %u; %d were started\n", r.received, lost,
	       r.received + lost, NR);
	check(lost >= MISS && r.received + lost == NR && skel->bss->started == NR,
	      "the sum is wrong");
	ring_buffer__free(rb);
	ring__destroy(skel);
	return 0;
}
