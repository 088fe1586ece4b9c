// SPDX-License-Identifier: GPL-2.0
/*
 * The examples of Documentation/bpf/{map_queue_stack,ringbuf,map_stack_trace,map_cpumap,
 * tool_authors}.rst, and that they work. The documents show what is between the marks.
 */
#include <poll.h>
#include <sys/mman.h>
#include <linux/perf_event.h>
#include <bpf/btf.h>
#include "test_progs.h"
#include "network_helpers.h"
#include "progs/map_examples.h"
#include "map_examples_queue.skel.h"
#include "map_examples_ringbuf.skel.h"
#include "map_examples_stack_trace.skel.h"
#include "map_examples_cpumap.skel.h"

/* doc: create-queue */
static int create_queue(void)
{
	return bpf_map_create(BPF_MAP_TYPE_QUEUE,
			      "sample_queue",	/* name */
			      0,		/* key size, must be zero */
			      sizeof(__u32),	/* value size */
			      10,		/* max entries */
			      NULL);		/* create options */
}

/* doc: drain-queue */
/* Wait until there is something, and take all of it out. How many there were, or an error. */
static int wait_and_drain(int fd, int timeout_ms, void (*handle)(__u32 pid))
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	__u32 pids[256], count, i;
	int err, nr = 0;

	if (poll(&pfd, 1, timeout_ms) < 0)
		return -errno;
	do {
		count = ARRAY_SIZE(pids);
		err = bpf_map_lookup_and_delete_batch(fd, NULL, NULL, NULL, pids, &count, NULL);
		if (err)
			return err == -ENOENT ? nr : err;
		for (i = 0; i < count; i++)
			handle(pids[i]);
		nr += count;
	} while (count == ARRAY_SIZE(pids));
	return nr;
}

/* doc: events */
static int print_event(void *ctx, void *data, size_t size)
{
	const struct event *e = data;
	__u32 *lost = ctx;

	if ((__s32)(e->lost - *lost) > 0) {
		printf("%u events lost\n", e->lost - *lost);
		*lost = e->lost;
	}
	printf("%u %.16s\n", e->pid, e->comm);
	return 0;
}

/* Print so many events, or some more. How many, less after the timeout; or an error. */
static int print_events(int map_fd, int nr, int timeout_ms)
{
	struct ring_buffer *rb;
	int seen = 0, ret = 1;
	__u32 lost = 0;

	rb = ring_buffer__new(map_fd, print_event, &lost, NULL);
	if (!rb)
		return -errno;
	while (seen < nr && ret > 0) {
		ret = ring_buffer__poll(rb, timeout_ms);
		seen += ret > 0 ? ret : 0;
	}
	ring_buffer__free(rb);
	return ret < 0 ? ret : seen;
}

/* doc: newest */
struct newest {
	unsigned long *producer_pos;	/* overwrite_pos is two further */
	char *data;
	unsigned long size;
};

static int map_newest(struct newest *n, int fd, unsigned long size)
{
	long page = sysconf(_SC_PAGESIZE);
	char *mem;

	/* consumer_pos is left alone: it does not matter in this mode. */
	mem = mmap(NULL, page + 2 * size, PROT_READ, MAP_SHARED, fd, page);
	if (mem == MAP_FAILED)
		return -errno;
	n->producer_pos = (unsigned long *)mem;
	n->data = mem + page;
	n->size = size;
	return 0;
}

/* Whether what was read at *@pos was valid no more. If so, *@pos is where to go on. */
static bool dropped(const unsigned long *overwrite_pos, unsigned long *pos)
{
	unsigned long over;

	/* A read barrier: what was read before is not read after overwrite_pos. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	over = __atomic_load_n(overwrite_pos, __ATOMIC_ACQUIRE);
	if ((long)(over - *pos) <= 0)
		return false;
	*pos = over;
	return true;
}

typedef void (*record_fn)(void *ctx, const void *data, __u32 len);

/* The records that are there now, from the oldest on. */
static void read_newest(const struct newest *n, record_fn handle, void *ctx)
{
	unsigned long *overwrite_pos = n->producer_pos + 2, pos, end;
	__u32 len, copied, *hdr;
	char buf[256];

	pos = __atomic_load_n(overwrite_pos, __ATOMIC_ACQUIRE);
	end = __atomic_load_n(n->producer_pos, __ATOMIC_ACQUIRE);
	while ((long)(end - pos) > 0) {
		hdr = (__u32 *)(n->data + (pos & (n->size - 1)));
		len = __atomic_load_n(hdr, __ATOMIC_ACQUIRE);
		/* A record may be dropped at any time, even while it is copied. */
		if (dropped(overwrite_pos, &pos))
			continue;
		if (len & BPF_RINGBUF_BUSY_BIT)
			return;
		if (!(len & BPF_RINGBUF_DISCARD_BIT)) {
			copied = len < sizeof(buf) ? len : sizeof(buf);
			memcpy(buf, hdr + 2, copied);
			if (dropped(overwrite_pos, &pos))
				continue;
			handle(ctx, buf, copied);
		}
		len &= ~BPF_RINGBUF_DISCARD_BIT;
		pos += (len + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
	}
}

/* doc: commands */
/* Hand numbers to the program do_commands(). How many it took, or an error. */
static int send_commands(int map_fd, int prog_fd, const __u64 *numbers, int nr)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	struct user_ring_buffer *rb;
	struct command *c;
	int i, err;

	rb = user_ring_buffer__new(map_fd, NULL);
	if (!rb)
		return -errno;
	for (i = 0; i < nr; i++) {
		c = user_ring_buffer__reserve(rb, sizeof(*c));
		if (!c)		/* full, if errno is ENOSPC */
			break;
		c->add = numbers[i];
		user_ring_buffer__submit(rb, c);
	}
	err = bpf_prog_test_run_opts(prog_fd, &run);
	user_ring_buffer__free(rb);
	return err ?: (int)run.retval;
}

/* doc: drain-stacks */
/* Take all stacks out. How many there were, or an error. */
static int drain_stacks(int fd, void (*handle)(__u32 id, const __u64 *frames))
{
	static __u64 frames[64][DEPTH];
	__u32 ids[64], cursor, count, i;
	void *from = NULL;		/* the start */
	int err, nr = 0;

	do {
		count = ARRAY_SIZE(ids);
		err = bpf_map_lookup_and_delete_batch(fd, from, &cursor, ids, frames, &count,
						      NULL);
		/* These two come with a count: the end, and a map that was busy for long. */
		if (err && err != -ENOENT && err != -EBUSY)
			return err;
		for (i = 0; i < count; i++)
			handle(ids[i], frames[i]);
		nr += count;
		from = &cursor;
	} while (err != -ENOENT);
	return nr;
}

/* doc: cpus */
static int add_cpu(int map_fd, __u32 cpu, int prog_fd)
{
	struct bpf_cpumap_val val = {
		.qsize = 2048,
		.bpf_prog.fd = prog_fd,
	};

	return bpf_map_update_elem(map_fd, &cpu, &val, BPF_ANY);
}

/* doc: fdinfo */
/* The value of a line of fdinfo, or NULL if the kernel does not tell it. */
static char *map_fdinfo(int map_fd, const char *key, char *line, int size)
{
	size_t len = strlen(key);
	char *value = NULL;
	FILE *f;

	snprintf(line, size, "/proc/self/fdinfo/%d", map_fd);
	f = fopen(line, "r");
	if (!f)
		return NULL;
	while (!value && fgets(line, size, f)) {
		/* The whole key: "entries" is the end of another one. */
		if (!strncmp(line, key, len) && line[len] == ':')
			value = line + len + 1 + strspn(line + len + 1, "\t ");
	}
	fclose(f);
	return value;
}

/* doc: cpu-counter */
/* What became of the packets for a CPU, by one of the names in fdinfo; -1 if it has no line. */
static long long cpu_counter(int map_fd, __u32 cpu, const char *name)
{
	char path[64], line[512], *token;
	long long value = -1;
	bool found;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", map_fd);
	f = fopen(path, "r");
	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "cpu:", 4) || strtoul(line + 4, NULL, 10) != cpu)
			continue;
		strtok(line + 4, "\t ");		/* the CPU, then names with numbers */
		do {
			token = strtok(NULL, "\n ");
			found = token && !strcmp(token, name);
			token = strtok(NULL, "\n ");
			if (found && token)
				value = strtoll(token, NULL, 10);
		} while (token && !found);
	}
	fclose(f);
	return value;
}

/* doc: features */
/* Whether this kernel has batches for a queue, a stack, or a stack trace map. */
static bool has_batches(int map_fd)
{
	__u32 none = 0;

	/* Copies nothing. Kernels without it say -ENOTSUPP. */
	return !bpf_map_lookup_batch(map_fd, NULL, NULL, NULL, NULL, &none, NULL);
}

/* Whether a queue or a stack can be waited for. */
static bool has_poll(int map_fd)
{
	struct pollfd pfd = { .fd = map_fd, .events = POLLIN };

	/* Kernels without it report POLLERR for any map that has no poll(). */
	return poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLERR);
}

/* Whether losses are counted, of a ring buffer or a stack trace map. */
static bool counts_losses(int map_fd)
{
	char line[256];

	return map_fdinfo(map_fd, "lost", line, sizeof(line));
}

static bool has_overwrite(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_RB_OVERWRITE);
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, NULL, 0, 0, sysconf(_SC_PAGESIZE), &opts);

	if (fd < 0)
		return false;	/* -EINVAL */
	close(fd);
	return true;
}

/* doc: end */

/* --- that they work ---------------------------------------------------------- */

#define TIMEOUT_MS 30000	/* that only a failure meets */

static __u32 wanted;
static int found;

/* A process that ends: its pid. */
static __u32 short_process(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (!ASSERT_GT(pid, 0, "fork"))
		return 0;
	ASSERT_EQ(waitpid(pid, NULL, 0), pid, "wait for the process");
	return pid;
}

static void look_for_pid(__u32 pid)
{
	found += pid == wanted;
}

static void tasks_that_ended(void)
{
	struct map_examples_queue *skel;
	int fd = create_queue();
	char line[256], *value;
	__u32 v = 7;

	if (!ASSERT_GE(fd, 0, "create queue"))
		return;
	ASSERT_OK(bpf_map_update_elem(fd, NULL, &v, BPF_ANY), "push");
	value = map_fdinfo(fd, "entries", line, sizeof(line));
	if (ASSERT_OK_PTR(value, "line of fdinfo"))
		ASSERT_EQ(atoi(value), 1, "entries");
	close(fd);

	skel = map_examples_queue__open_and_load();
	if (!ASSERT_OK_PTR(skel, "open and load"))
		return;
	if (ASSERT_OK(map_examples_queue__attach(skel), "attach")) {
		found = 0;
		wanted = short_process();
		ASSERT_GE(wait_and_drain(bpf_map__fd(skel->maps.ended), TIMEOUT_MS, look_for_pid),
			  1, "processes that ended");
		ASSERT_EQ(found, 1, "ours among them");
	}
	map_examples_queue__destroy(skel);
}

static void events(void)
{
	struct map_examples_ringbuf *skel = map_examples_ringbuf__open_and_load();
	struct bpf_link *link;
	int i;

	if (!ASSERT_OK_PTR(skel, "open and load"))
		return;
	link = bpf_program__attach(skel->progs.task_ends);
	if (ASSERT_OK_PTR(link, "attach")) {
		for (i = 0; i < 3; i++)
			short_process();
		ASSERT_GE(print_events(bpf_map__fd(skel->maps.events), 3, TIMEOUT_MS), 3,
			  "events");
	}
	bpf_link__destroy(link);
	map_examples_ringbuf__destroy(skel);
}

static void look_for_event(void *ctx, const void *data, __u32 len)
{
	const struct event *e = data;

	if (ASSERT_EQ(len, sizeof(*e), "length of an event"))
		found += e->pid == wanted;
}

static void newest_events(void)
{
	struct map_examples_ringbuf *skel = map_examples_ringbuf__open_and_load();
	struct newest n = {};
	struct bpf_link *link;
	int i;

	if (!ASSERT_OK_PTR(skel, "open and load"))
		return;
	link = bpf_program__attach(skel->progs.task_switches);
	if (ASSERT_OK_PTR(link, "attach") &&
	    ASSERT_OK(map_newest(&n, bpf_map__fd(skel->maps.newest),
				 bpf_map__max_entries(skel->maps.newest)), "map")) {
		/* Until the ring has been filled, and then some. */
		for (i = 0; i < 1000000 && *(volatile unsigned long *)n.producer_pos < 2 * n.size;
		     i++)
			usleep(1);
		found = 0;
		wanted = syscall(SYS_gettid);
		read_newest(&n, look_for_event, NULL);
		ASSERT_GE(found, 1, "switches of this task");
		ASSERT_GT(*(volatile unsigned long *)(n.producer_pos + 2), 0, "overwrite_pos");
		munmap(n.producer_pos, n.data - (char *)n.producer_pos + 2 * n.size);
	}
	bpf_link__destroy(link);
	map_examples_ringbuf__destroy(skel);
}

static void commands(void)
{
	struct map_examples_ringbuf *skel = map_examples_ringbuf__open_and_load();
	const __u64 numbers[] = { 1, 20, 300 };

	if (!ASSERT_OK_PTR(skel, "open and load"))
		return;
	ASSERT_EQ(send_commands(bpf_map__fd(skel->maps.commands),
				bpf_program__fd(skel->progs.do_commands), numbers, 3),
		  3, "commands");
	ASSERT_EQ(skel->bss->total, 321, "total");
	map_examples_ringbuf__destroy(skel);
}

static int stacks_seen;

static void look_for_frames(__u32 id, const __u64 *frames)
{
	stacks_seen++;
	ASSERT_NEQ(frames[0], 0, "first frame");
}

/* A clock that ticks while this process runs. */
static int open_clock(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.size = sizeof(attr),
		.freq = 1,
		.sample_freq = 1000,
	};

	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
}

static void profile(void)
{
	struct map_examples_stack_trace *skel = map_examples_stack_trace__open_and_load();
	int fd = open_clock(), map_fd, err, nr;
	struct bpf_link *link = NULL;
	struct sample s;
	__u64 end;

	if (!ASSERT_OK_PTR(skel, "open and load") || !ASSERT_GE(fd, 0, "perf_event_open"))
		goto out;
	link = bpf_program__attach_perf_event(skel->progs.profile, fd);
	if (!ASSERT_OK_PTR(link, "attach"))
		goto out;
	map_fd = bpf_map__fd(skel->maps.counts);
	/* This loop is what it samples. */
	end = get_time_ns() + TIMEOUT_MS * 1000000ULL;
	do {
		err = bpf_map_get_next_key(map_fd, NULL, &s);
	} while (err && get_time_ns() < end);
	bpf_link__destroy(link);
	link = NULL;
	if (!ASSERT_OK(err, "sample"))
		goto out;
	ASSERT_EQ(s.tgid, getpid(), "process");
	ASSERT_GE(s.user, 0, "id of the stack in user space");
	stacks_seen = 0;
	nr = drain_stacks(bpf_map__fd(skel->maps.stacks), look_for_frames);
	ASSERT_GE(nr, 1, "stacks");
	ASSERT_EQ(stacks_seen, nr, "stacks handled");
	ASSERT_EQ(drain_stacks(bpf_map__fd(skel->maps.stacks), look_for_frames), 0, "what is left");
out:
	bpf_link__destroy(link);
	if (fd >= 0)
		close(fd);
	map_examples_stack_trace__destroy(skel);
}

static noinline void called(void)
{
	asm volatile ("");
}

static void callers(void)
{
	struct map_examples_stack_trace *skel = map_examples_stack_trace__open_and_load();
	struct bpf_stack_build_id ids[DEPTH];
	struct bpf_link *link;
	__u32 id;

	if (!ASSERT_OK_PTR(skel, "open and load"))
		return;
	link = bpf_program__attach_uprobe(skel->progs.function_entered, false, 0,
					  "/proc/self/exe", get_uprobe_offset(&called));
	if (ASSERT_OK_PTR(link, "attach")) {
		called();
		ASSERT_OK(bpf_map_get_next_key(bpf_map__fd(skel->maps.callers), NULL, &id),
			  "first id");
		ASSERT_OK(bpf_map_lookup_elem(bpf_map__fd(skel->maps.callers), &id, ids), "lookup");
		ASSERT_EQ(ids[0].status, BPF_STACK_BUILD_ID_VALID, "status of the first frame");
		ASSERT_EQ(ids[0].offset, get_uprobe_offset(&called), "offset of the first frame");
	}
	bpf_link__destroy(link);
	map_examples_stack_trace__destroy(skel);
}

static void cpus(void)
{
	enum { NR_PACKETS = 64 };
	LIBBPF_OPTS(bpf_test_run_opts, run,
		    .data_in = &pkt_v4,
		    .data_size_in = sizeof(pkt_v4),
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		    .repeat = NR_PACKETS,
		    );
	struct map_examples_cpumap *skel;
	__u32 last = libbpf_num_possible_cpus() - 1;
	long long enqueued;
	__u64 end;
	int fd;

	skel = map_examples_cpumap__open();
	if (!ASSERT_OK_PTR(skel, "open"))
		return;
	skel->rodata->cpus[0] = last;
	if (!ASSERT_OK(map_examples_cpumap__load(skel), "load"))
		goto out;
	fd = bpf_map__fd(skel->maps.cpu_map);
	ASSERT_EQ(cpu_counter(fd, last, "enqueued"), -1, "no line without an entry");
	if (!ASSERT_OK(add_cpu(fd, last, bpf_program__fd(skel->progs.only_tcp)), "add CPU"))
		goto out;
	ASSERT_OK(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.spread), &run), "packets");

	end = get_time_ns() + TIMEOUT_MS * 1000000ULL;
	while (cpu_counter(fd, last, "queued") && get_time_ns() < end)
		usleep(1000);
	enqueued = cpu_counter(fd, last, "enqueued");
	ASSERT_GT(enqueued, 0, "enqueued");
	ASSERT_EQ(enqueued + cpu_counter(fd, last, "dropped"), NR_PACKETS, "packets");
	ASSERT_EQ(cpu_counter(fd, last, "prog_passed"), enqueued, "passed by the program");
	ASSERT_EQ(cpu_counter(fd, last, "no such name"), -1, "no such counter");
out:
	map_examples_cpumap__destroy(skel);
}

/* All of them say what is known from the types: which implementation this kernel has. */
static void features(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	int queue_fd = create_queue(), stacks_fd, ring_fd;
	struct btf *btf = btf__load_vmlinux_btf();
	bool here;

	ring_fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, NULL, 0, 0, sysconf(_SC_PAGESIZE), &opts);
	stacks_fd = bpf_map_create(BPF_MAP_TYPE_STACK_TRACE, NULL, 4, 64, 16, &opts);
	if (!ASSERT_GE(queue_fd, 0, "queue") || !ASSERT_GE(stacks_fd, 0, "stack traces") ||
	    !ASSERT_GE(ring_fd, 0, "ring buffer") || !ASSERT_OK_PTR(btf, "types"))
		goto out;
	here = btf__find_by_name_kind(btf, "bpf_reslock", BTF_KIND_STRUCT) > 0;
	ASSERT_EQ(has_batches(queue_fd), here, "batches of a queue");
	ASSERT_EQ(has_batches(stacks_fd), here, "batches of stack traces");
	ASSERT_EQ(has_poll(queue_fd), here, "poll of a queue");
	ASSERT_EQ(counts_losses(stacks_fd), here, "losses of stack traces");
	ASSERT_EQ(counts_losses(ring_fd), here, "losses of a ring buffer");
	ASSERT_EQ(has_overwrite(), here, "overwrite mode");
	ASSERT_FALSE(has_batches(ring_fd), "batches of a ring buffer");
	ASSERT_TRUE(has_poll(ring_fd), "poll of a ring buffer");
	ASSERT_FALSE(counts_losses(queue_fd), "losses of a queue");
out:
	btf__free(btf);
	close(queue_fd);
	close(stacks_fd);
	close(ring_fd);
}

void test_map_examples(void)
{
	if (test__start_subtest("queue"))
		tasks_that_ended();
	if (test__start_subtest("events"))
		events();
	if (test__start_subtest("newest_events"))
		newest_events();
	if (test__start_subtest("commands"))
		commands();
	if (test__start_subtest("profile"))
		profile();
	if (test__start_subtest("callers"))
		callers();
	if (test__start_subtest("cpus"))
		cpus();
	if (test__start_subtest("features"))
		features();
}
