// SPDX-License-Identifier: GPL-2.0-only
/* Starts processes, waits at a queue for their ends, and takes these out many at a time. */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include "tour.h"
#include "queue.skel.h"

enum { NR = 300 };

/* One after the other; the exit status is a number that counts up. */
static void *start_processes(void *arg)
{
	pid_t pid;
	int i;

	for (i = 0; i < NR; i++) {
		pid = fork();
		if (!pid)
			_exit(i % 256);
		check(waitpid(pid, NULL, 0) == pid, "process %d did not start", i);
	}
	return NULL;
}

/* tour: drain */
static int wait_and_drain(int epoll_fd, int queue_fd, struct ended *values, __u32 room)
{
	struct epoll_event event;
	int err;

	if (epoll_wait(epoll_fd, &event, 1, TIMEOUT_MS) != 1)
		return -ETIMEDOUT;
	err = bpf_map_lookup_and_delete_batch(queue_fd, NULL, NULL, NULL, values, &room, NULL);
	return err ?: room;
}

/* tour: end */
int main(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd, epoll_fd = epoll_create1(0);
	struct queue *skel = queue__open();
	struct ended values[256];
	int i, nr, seen = 0;
	pthread_t thread;

	check(skel && epoll_fd >= 0, "cannot open");
	setlinebuf(stdout);
	skel->rodata->parent = getpid();
	check(!queue__load(skel) && !queue__attach(skel), "cannot load");
	fd = bpf_map__fd(skel->maps.queue);
	check(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), "a queue cannot be waited for");
	check(!pthread_create(&thread, NULL, start_processes, NULL), "no thread");
	while (seen < NR) {
		nr = wait_and_drain(epoll_fd, fd, values, ARRAY_SIZE(values));
		check(nr > 0, "drain: %s", strerror(-nr));
		printf("one call took %3d: processes %u to %u\n", nr, values[0].pid,
		       values[nr - 1].pid);
		for (i = 0; i < nr; i++, seen++)
			check(values[i].status == seen % 256, "number %d is not in order", seen);
		usleep(200000);		/* there is other work to do */
	}
	pthread_join(thread, NULL);
	check(!atoi(map_fdinfo(fd, "entries")), "more ended than were started");
	printf("%d processes started, %d came out, in the order they ended\n", NR, seen);
	queue__destroy(skel);
	return 0;
}
