// SPDX-License-Identifier: GPL-2.0
/* Waiting for a queue or stack that is empty or full. */
#include <poll.h>
#include <sys/select.h>
#include "queue_stack_ops.h"
#include "queue_stack_poll.skel.h"

#define FOREVER 20000		/* ms; nobody waits that long unless a wakeup was lost */
#define ROUNDS 20000

static __u32 ready(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLOUT };

	return poll(&pfd, 1, 0) == 1 ? pfd.revents : 0;
}

static struct queue_stack_poll *load_skel_with(enum bpf_map_type type, bool wakes)
{
	struct queue_stack_poll *skel = queue_stack_poll__open();

	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return NULL;
	bpf_map__set_type(skel->maps.map, type);
	bpf_program__set_autoload(skel->progs.at_pushed, wakes);
	bpf_program__set_autoload(skel->progs.at_popped, wakes);
	if (ASSERT_OK(queue_stack_poll__load(skel), "load skeleton"))
		return skel;
	queue_stack_poll__destroy(skel);
	return NULL;
}

static struct queue_stack_poll *load_skel(enum bpf_map_type type)
{
	return load_skel_with(type, false);
}

static void states(enum bpf_map_type type)
{
	struct timeval now = {};
	int fd = create(type, sizeof(__u32), 2);
	fd_set in, out;
	__u32 value;

	ASSERT_EQ(ready(fd), POLLOUT, "empty");
	push(fd, 1);
	ASSERT_EQ(ready(fd), POLLIN | POLLOUT, "one of two");
	push(fd, 2);
	ASSERT_EQ(ready(fd), POLLIN, "full");
	push_exist(fd, 3);
	ASSERT_EQ(ready(fd), POLLIN, "full after BPF_EXIST");
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	ASSERT_EQ(select(fd + 1, &in, &out, NULL, &now), 1, "select");
	ASSERT_TRUE(FD_ISSET(fd, &in), "readable");
	ASSERT_FALSE(FD_ISSET(fd, &out), "writable");
	pop(fd, &value);
	pop(fd, &value);
	ASSERT_EQ(ready(fd), POLLOUT, "empty again");
	close(fd);
}

static void level(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2), epoll = epoll_on(fd, EPOLLIN);
	__u32 value;

	ASSERT_EQ(epoll_events(epoll, 0), 0, "empty");
	push(fd, 1);
	ASSERT_EQ(epoll_events(epoll, 0), EPOLLIN, "first look");
	ASSERT_EQ(epoll_events(epoll, 0), EPOLLIN, "second look");
	pop(fd, &value);
	ASSERT_EQ(epoll_events(epoll, 0), 0, "empty again");
	close(epoll);
	close(fd);
}

/* The interrupt that wakes comes on the CPU of the operation, before the call is over. */
static void edge(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 2), i;
	int in = epoll_on(fd, EPOLLIN | EPOLLET), out = epoll_on(fd, EPOLLOUT | EPOLLET);
	__u32 values[2] = { 1, 2 }, value, count;

	pin_to(0);
	ASSERT_EQ(epoll_events(in, 0), 0, "empty: in");
	ASSERT_EQ(epoll_events(out, 0), EPOLLOUT, "empty: out");
	for (i = 0; i < 3; i++) {
		push(fd, 1);
		ASSERT_EQ(epoll_events(in, 0), EPOLLIN, "no longer empty");
		ASSERT_EQ(epoll_events(in, 0), 0, "told once");
		push(fd, 2);
		ASSERT_EQ(epoll_events(in, 0), 0, "not empty before either");
		ASSERT_EQ(epoll_events(out, 0), 0, "nothing popped");
		pop(fd, &value);
		ASSERT_EQ(epoll_events(out, 0), EPOLLOUT, "no longer full");
		ASSERT_EQ(epoll_events(out, 0), 0, "told once");
		pop(fd, &value);
		ASSERT_EQ(epoll_events(out, 0), 0, "not full before either");

		count = 2;
		bpf_map_update_batch(fd, NULL, values, &count, NULL);
		ASSERT_EQ(epoll_events(in, 0), EPOLLIN, "batch pushed");
		bpf_map_lookup_and_delete_batch(fd, NULL, NULL, NULL, values, &count, NULL);
		ASSERT_EQ(epoll_events(out, 0), EPOLLOUT, "batch popped");
	}
	unpin();
	close(in);
	close(out);
	close(fd);
}

static void oneshot(enum bpf_map_type type)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT };
	int fd = create(type, sizeof(__u32), 2), epoll = epoll_on(fd, event.events);

	push(fd, 1);
	ASSERT_EQ(epoll_events(epoll, 0), EPOLLIN, "first look");
	ASSERT_EQ(epoll_events(epoll, 0), 0, "second look");
	ASSERT_OK(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event), "arm again");
	ASSERT_EQ(epoll_events(epoll, 0), EPOLLIN, "armed again");
	close(epoll);
	close(fd);
}

struct waiter {
	int fd;
	short events;
	int result;
	pid_t tid;
	pthread_t thread;
};

static void *wait_for(void *arg)
{
	struct waiter *waiter = arg;
	struct pollfd pfd = { .fd = waiter->fd, .events = waiter->events };

	__atomic_store_n(&waiter->tid, gettid(), __ATOMIC_RELEASE);
	waiter->result = poll(&pfd, 1, FOREVER);
	return NULL;
}

/* Started, and asleep in poll(). */
static void start_waiter(struct waiter *waiter, int fd, short events)
{
	char path[64], state = 0;
	FILE *file;

	*waiter = (struct waiter){ .fd = fd, .events = events };
	ASSERT_OK(pthread_create(&waiter->thread, NULL, wait_for, waiter), "start thread");
	while (state != 'S') {
		sched_yield();
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat",
			 __atomic_load_n(&waiter->tid, __ATOMIC_ACQUIRE));
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		fclose(file);
	}
}

static void assert_woken(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	ASSERT_EQ(waiter->result, 1, "woken");
}

static void several(enum bpf_map_type type)
{
	struct queue_stack_poll *skel = load_skel(type);
	struct waiter waiters[4];
	int fd, i;

	if (!skel)
		return;
	fd = bpf_map__fd(skel->maps.map);
	for (i = 0; i < 4; i++)
		start_waiter(&waiters[i], fd, POLLIN);
	ASSERT_OK(run_prog(skel->progs.push), "push");
	for (i = 0; i < 4; i++)
		assert_woken(&waiters[i]);
	ASSERT_OK(run_prog(skel->progs.push), "push");
	for (i = 0; i < 4; i++)
		start_waiter(&waiters[i], fd, POLLOUT);
	ASSERT_OK(run_prog(skel->progs.pop), "pop");
	for (i = 0; i < 4; i++)
		assert_woken(&waiters[i]);
	queue_stack_poll__destroy(skel);
}

/* sysrq l sends an NMI to each other CPU. */
static void nmi(enum bpf_map_type type)
{
	struct queue_stack_poll *skel = load_skel(type);
	struct waiter waiter;
	int i, fd;

	if (!skel)
		return;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		printf("SKIP: needs two CPUs\n");
		test__skip();
		goto out;
	}
	if (!ASSERT_OK(queue_stack_poll__attach(skel), "attach"))
		goto out;
	start_waiter(&waiter, bpf_map__fd(skel->maps.map), POLLIN);
	skel->bss->in_nmi = true;
	fd = open("/proc/sysrq-trigger", O_WRONLY);
	for (i = 0; i < 100 && !READ_ONCE(skel->bss->pushed_in_nmi); i++)
		ASSERT_EQ(write(fd, "l", 1), 1, "sysrq");
	close(fd);
	ASSERT_GT(skel->bss->pushed_in_nmi, 0, "pushed in NMI");
	assert_woken(&waiter);
out:
	queue_stack_poll__destroy(skel);
}

/*
 * Only one operation wakes who waits: those behind it find that the map was not empty, or not full.
 * So it must not be preempted between its last store and that, for however long.
 */
static void not_preempted(enum bpf_map_type type)
{
	struct queue_stack_poll *skel = load_skel_with(type, true);
	__u32 values[2] = { 1, 2 }, count = 2, value;
	int fd;

	if (!skel)
		return;
	if (!ASSERT_OK(queue_stack_poll__attach(skel), "attach"))
		goto out;
	fd = bpf_map__fd(skel->maps.map);
	push(fd, 1);
	pop(fd, &value);
	ASSERT_EQ(skel->bss->wakes, 0, "looks for pollers of a map that has none");
	ASSERT_EQ(ready(fd), POLLOUT, "first poll");

	push(fd, 1);
	push(fd, 2);
	push_exist(fd, 3);
	pop(fd, &value);
	ASSERT_EQ(skel->bss->wakes, 4, "looks for pollers");
	pop(fd, &value);
	ASSERT_OK(bpf_map_update_batch(fd, NULL, values, &count, NULL), "push two");
	ASSERT_OK(bpf_map_lookup_and_delete_batch(fd, NULL, NULL, NULL, values, &count, NULL),
		  "pop two");
	ASSERT_EQ(skel->bss->wakes, 7, "looks for pollers, with those of batches");
	ASSERT_OK(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.push), NULL), "push");
	ASSERT_OK(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.pop), NULL), "pop");
	ASSERT_EQ(skel->bss->wakes, 9, "looks for pollers, with those of programs");
	if (!skel->bss->counted) {
		printf("SKIP: who can be preempted is not counted here\n");
		test__skip();
		goto out;
	}
	ASSERT_EQ(skel->bss->preemptible, 0, "of which preemptible");
out:
	queue_stack_poll__destroy(skel);
}

static bool wait_until(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, FOREVER) == 1;
}

static void *produce(void *arg)
{
	int fd = *(int *)arg, i;

	for (i = 1; i <= ROUNDS; i++)
		while (push(fd, i) == -E2BIG)
			if (!wait_until(fd, POLLOUT))
				return "lost a wakeup of the producer";
	return NULL;
}

/* Each waits as soon as there is nothing to do. */
static void no_lost_wakeup(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 1), i;
	pthread_t producer;
	void *failure;
	__u32 value;

	ASSERT_OK(pthread_create(&producer, NULL, produce, &fd), "start thread");
	for (i = 1; i <= ROUNDS; i++) {
		while (pop(fd, &value))
			if (!ASSERT_TRUE(wait_until(fd, POLLIN), "woken"))
				goto out;
		if (!ASSERT_EQ(value, i, "value"))
			break;
	}
out:
	pthread_join(producer, &failure);
	ASSERT_NULL(failure, "producer");
	close(fd);
}

static void *push_one(void *arg)
{
	push(*(int *)arg, 1);
	return NULL;
}

/* The first poller comes at the time of a push: it sees the value, or is woken. */
static void first_poll(enum bpf_map_type type)
{
	pthread_t producer;
	int fd, i;

	for (i = 0; i < 50; i++) {
		fd = create(type, sizeof(__u32), 1);
		ASSERT_OK(pthread_create(&producer, NULL, push_one, &fd), "start thread");
		ASSERT_TRUE(wait_until(fd, POLLIN), "woken");
		pthread_join(producer, NULL);
		close(fd);
	}
}

/* The map is freed with a wakeup just queued. */
static void freed(enum bpf_map_type type)
{
	int fd, epoll, i;

	for (i = 0; i < 50; i++) {
		fd = create(type, sizeof(__u32), 1);
		epoll = epoll_on(fd, EPOLLIN);
		ASSERT_OK(push(fd, 1), "push");
		close(fd);
		close(epoll);
	}
}

static const struct type_case cases[] = {
	CASE(states),
	CASE(level),
	CASE(edge),
	CASE(oneshot),
	CASE(several),
	CASE(nmi),
	CASE(not_preempted),
	CASE(no_lost_wakeup),
	CASE(first_poll),
	CASE(freed),
};

void serial_test_queue_stack_poll(void)
{
	check_types(cases, ARRAY_SIZE(cases));
}
