// SPDX-License-Identifier: GPL-2.0
/*
 * Batches of queues and stacks, and pops into memory that is not there: what cannot be copied
 * stays in the map.
 */
#include <sys/wait.h>
#include "queue_stack_ops.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define NR 8

static int push_batch(int fd, const void *values, __u32 *count, __u64 elem_flags, __u64 flags)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = elem_flags, .flags = flags);

	return bpf_map_update_batch(fd, NULL, values, count, &opts);
}

static int pop_batch(int fd, void *values, __u32 *count)
{
	return bpf_map_lookup_and_delete_batch(fd, NULL, NULL, NULL, values, count, NULL);
}

static int peek_batch(int fd, void *values, __u32 *count)
{
	return bpf_map_lookup_batch(fd, NULL, NULL, NULL, values, count, NULL);
}

/* The values from @oldest on, as a pop of @n of @all of them gives them. */
static void assert_order(enum bpf_map_type type, const __u32 *values, __u32 n, __u32 oldest,
			 __u32 all)
{
	__u32 i;

	for (i = 0; i < n; i++)
		if (!ASSERT_EQ(values[i], type == BPF_MAP_TYPE_QUEUE ? oldest + i :
			       oldest + all - 1 - i, "value"))
			return;
}

/* At each place where the ring may begin. */
static void order(enum bpf_map_type type)
{
	__u32 values[NR], count, shift, i, value;
	int fd;

	for (shift = 0; shift < NR; shift++) {
		fd = create(type, sizeof(__u32), NR);
		if (fd < 0)
			return;
		/* A stack's bottom moves by dropping, a queue's front too. */
		assert_push(fd, 1, NR);
		for (i = 0; i < shift; i++)
			ASSERT_OK(push_exist(fd, 0), "push with BPF_EXIST");
		for (i = 0; i < NR; i++)
			ASSERT_OK(pop(fd, &value), "pop");

		for (i = 0; i < NR; i++)
			values[i] = 100 + i;
		count = NR;
		ASSERT_OK(push_batch(fd, values, &count, BPF_ANY, 0), "push");
		ASSERT_EQ(count, NR, "pushed");
		count = NR;
		memset(values, 0, sizeof(values));
		ASSERT_OK(peek_batch(fd, values, &count), "peek");
		ASSERT_EQ(count, NR, "peeked");
		assert_order(type, values, NR, 100, NR);
		count = 3;
		memset(values, 0xff, sizeof(values));
		ASSERT_OK(pop_batch(fd, values, &count), "pop 3");
		ASSERT_EQ(count, 3, "popped");
		assert_order(type, values, 3, 100, NR);
		ASSERT_EQ(values[3], ~0U, "behind the third");
		count = NR;
		ASSERT_OK(pop_batch(fd, values, &count), "pop the rest");
		ASSERT_EQ(count, NR - 3, "popped");
		assert_order(type, values, NR - 3, type == BPF_MAP_TYPE_QUEUE ? 103 : 100, NR - 3);
		count = NR;
		ASSERT_EQ(pop_batch(fd, values, &count), -ENOENT, "pop the empty map");
		ASSERT_EQ(count, 0, "popped");
		count = NR;
		ASSERT_EQ(peek_batch(fd, values, &count), -ENOENT, "peek the empty map");
		ASSERT_EQ(count, 0, "peeked");
		close(fd);
	}
}

static void too_many(enum bpf_map_type type)
{
	__u32 values[] = { 1, 2, 3, 4, 5, 6, 7 }, count = 7;
	int fd = create(type, sizeof(__u32), 3);

	if (fd < 0)
		return;
	ASSERT_EQ(push_batch(fd, values, &count, BPF_ANY, 0), -E2BIG, "push 7");
	ASSERT_EQ(count, 3, "pushed");
	count = 7;
	ASSERT_EQ(push_batch(fd, values, &count, BPF_ANY, 0), -E2BIG, "push into the full map");
	ASSERT_EQ(count, 0, "pushed");
	assert_drains(type, fd, 1, 3);

	assert_push(fd, 0, 0);
	count = 7;
	ASSERT_OK(push_batch(fd, values, &count, BPF_EXIST, 0), "push 7 with BPF_EXIST");
	ASSERT_EQ(count, 7, "pushed");
	assert_drains(type, fd, 5, 7);
	close(fd);
}

static void arguments(enum bpf_map_type type)
{
	static const __u64 bad[] = { BPF_NOEXIST, BPF_F_LOCK, 3, 1ULL << 63 };
	__u32 values[2] = { 2, 3 }, count, i;
	int fd = create(type, sizeof(__u32), 2);

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = bad[i]);

		count = 2;
		ASSERT_EQ(push_batch(fd, values, &count, bad[i], 0), -EINVAL, "push: elem_flags");
		ASSERT_EQ(count, 0, "pushed");
		count = 2;
		ASSERT_EQ(push_batch(fd, values, &count, BPF_ANY, bad[i]), -EINVAL, "push: flags");
		ASSERT_EQ(count, 0, "pushed");
		count = 2;
		ASSERT_EQ(bpf_map_lookup_batch(fd, NULL, NULL, NULL, values, &count, &opts),
			  -EINVAL, "peek: elem_flags");
		ASSERT_EQ(count, 0, "peeked");
		count = 2;
		ASSERT_EQ(bpf_map_lookup_and_delete_batch(fd, NULL, NULL, NULL, values, &count,
							  &opts), -EINVAL, "pop: elem_flags");
		ASSERT_EQ(count, 0, "popped");
	}
	count = 0;
	ASSERT_OK(push_batch(fd, NULL, &count, BPF_ANY, 0), "push none");
	ASSERT_OK(pop_batch(fd, NULL, &count), "pop none");
	ASSERT_OK(peek_batch(fd, NULL, &count), "peek none");
	count = 1;
	ASSERT_EQ(bpf_map_delete_batch(fd, values, &count, NULL), -ENOTSUPP, "delete");

	/* Keys and cursors are not looked at. */
	count = 1;
	ASSERT_OK(bpf_map_update_batch(fd, (void *)1, values, &count, NULL), "push with keys");
	count = 2;
	ASSERT_OK(bpf_map_lookup_batch(fd, (void *)1, (void *)1, (void *)1, values, &count, NULL),
		  "peek with keys");
	ASSERT_OK(bpf_map_lookup_and_delete_batch(fd, (void *)1, (void *)1, (void *)1, values,
						  &count, NULL), "pop with keys");
	ASSERT_EQ(count, 2, "popped");
	assert_order(type, values, 2, 1, 2);
	close(fd);
}

static void frozen(enum bpf_map_type type)
{
	__u32 values[2] = { 5, 6 }, count = 1;
	int fd = create(type, sizeof(__u32), 2);

	if (fd < 0)
		return;
	assert_push(fd, 1, 1);
	ASSERT_OK(bpf_map_freeze(fd), "freeze");
	ASSERT_EQ(push_batch(fd, values, &count, BPF_ANY, 0), -EPERM, "push");
	ASSERT_EQ(pop_batch(fd, values, &count), -EPERM, "pop");
	count = 2;
	ASSERT_OK(peek_batch(fd, values, &count), "peek");
	ASSERT_EQ(count, 1, "peeked");
	ASSERT_EQ(values[0], 1, "peeked value");
	close(fd);
}

/* Values of all sizes, more than are copied in one go, into memory never touched before. */
static void sizes(enum bpf_map_type type)
{
	static const struct { __u32 size, n; } shapes[] = {
		{ 1, 1000 }, { 3, 100 }, { 8, 20000 }, { 4096, 100 }, { 70000, 4 }, { 65536, 100 },
	};
	__u32 i, j, seed, size, n, count;
	__u8 *values, *out;
	size_t len;
	int fd;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		size = shapes[i].size;
		n = shapes[i].n;
		len = (size_t)size * n;
		fd = create(type, size, n);
		values = malloc(len);
		for (j = 0; j < n; j++)
			fill_pattern(values + (size_t)j * size, size, j);
		count = n;
		ASSERT_OK(push_batch(fd, values, &count, BPF_ANY, 0), "push");
		ASSERT_EQ(count, n, "pushed");
		free(values);

		out = mmap(NULL, 2 * len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
		if (!ASSERT_NEQ(out, MAP_FAILED, "mmap"))
			goto close;
		count = 2 * n;
		ASSERT_OK(peek_batch(fd, out, &count), "peek");
		ASSERT_EQ(count, n, "peeked");
		count = 2 * n;
		ASSERT_OK(pop_batch(fd, out + len, &count), "pop");
		ASSERT_EQ(count, n, "popped");
		for (j = 0; j < 2 * n; j++) {
			seed = type == BPF_MAP_TYPE_QUEUE ? j % n : n - 1 - j % n;
			if (!ASSERT_TRUE(has_pattern(out + (size_t)j * size, size, seed), "value"))
				break;
		}
		munmap(out, 2 * len);
close:
		close(fd);
	}
}

/* --- memory that is missing -------------------------------------------------- */

static void *two_pages(void)
{
	void *mem = mmap(NULL, 2 * getpagesize(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return ASSERT_NEQ(mem, MAP_FAILED, "mmap") ? mem : NULL;
}

static void pop_faults(int fd, void *buffer)
{
	__u32 count = 5;

	ASSERT_EQ(bpf_map_lookup_and_delete_elem(fd, NULL, buffer), -EFAULT, "pop one");
	ASSERT_EQ(pop_batch(fd, buffer, &count), -EFAULT, "pop");
	ASSERT_EQ(count, 0, "popped");
	count = 5;
	ASSERT_EQ(peek_batch(fd, buffer, &count), -EFAULT, "peek");
	ASSERT_EQ(count, 0, "peeked");
}

/* Seen on stock 6.12.117: each single pop that fails with -EFAULT takes a value with it. */
static void bad_buffer(enum bpf_map_type type)
{
	int fd = create(type, sizeof(__u32), 5);

	if (fd < 0)
		return;
	assert_push(fd, 1, 5);
	with_bad_buffers(fd, pop_faults);
	pop_faults(fd, (void *)-4096L);
	assert_drains(type, fd, 1, 5);
	close(fd);
}

/* Room for so many whole values, and for a part of the next one, before the end of memory. */
static void partly_mapped(enum bpf_map_type type)
{
	__u32 fit, count, i, value[3] = {}, size = sizeof(value);
	char *mem = two_pages(), *buf;
	int fd;

	if (!mem)
		return;
	mprotect(mem + getpagesize(), getpagesize(), PROT_READ);
	for (fit = 0; fit < 5; fit++) {
		fd = create(type, size, 5);
		for (i = 1; i <= 5; i++) {
			value[0] = i;
			value[2] = i;
			ASSERT_OK(bpf_map_update_elem(fd, NULL, value, BPF_ANY), "push");
		}
		buf = mem + getpagesize() - fit * size - 4;
		count = 5;
		ASSERT_EQ(peek_batch(fd, buf, &count), -EFAULT, "peek");
		ASSERT_EQ(count, fit, "peeked");
		count = 5;
		ASSERT_EQ(pop_batch(fd, buf, &count), -EFAULT, "pop");
		ASSERT_EQ(count, fit, "popped");
		/* These came, and the others are still there. */
		for (i = 0; i < 5; i++) {
			if (i < fit)
				memcpy(value, buf + i * size, size);
			else
				ASSERT_OK(bpf_map_lookup_and_delete_elem(fd, NULL, value), "pop");
			ASSERT_EQ(value[2], type == BPF_MAP_TYPE_QUEUE ? i + 1 : 5 - i, "value");
		}
		close(fd);
	}
	munmap(mem, 2 * getpagesize());
}

static void push_from_partly_mapped(enum bpf_map_type type)
{
	char *mem = two_pages();
	__u32 *values, count = 5, i;
	int fd = create(type, sizeof(__u32), 5);

	if (fd < 0 || !mem)
		return;
	mprotect(mem + getpagesize(), getpagesize(), PROT_NONE);
	/* The fourth value is cut through. */
	values = (void *)mem + getpagesize() - 3 * sizeof(__u32) - 2;
	for (i = 0; i < 3; i++)
		memcpy((char *)values + i * sizeof(__u32), &(__u32){ i + 1 }, sizeof(__u32));
	ASSERT_EQ(push_batch(fd, values, &count, BPF_ANY, 0), -EFAULT, "push");
	ASSERT_EQ(count, 3, "pushed");
	assert_drains(type, fd, 1, 3);
	munmap(mem, 2 * getpagesize());
	close(fd);
}

/* The count cannot be written: nothing happens. */
static void count_read_only(enum bpf_map_type type)
{
	__u32 values[2];
	union bpf_attr *attr = two_pages();
	int fd = create(type, sizeof(__u32), 5);

	if (fd < 0 || !attr)
		return;
	assert_push(fd, 1, 2);
	attr->batch.map_fd = fd;
	attr->batch.values = (unsigned long)values;
	attr->batch.count = 2;
	mprotect(attr, getpagesize(), PROT_READ);
	ASSERT_EQ(syscall(__NR_bpf, BPF_MAP_LOOKUP_AND_DELETE_BATCH, attr, sizeof(*attr)), -1,
		  "pop");
	ASSERT_EQ(errno, EFAULT, "pop's error");
	ASSERT_EQ(syscall(__NR_bpf, BPF_MAP_UPDATE_BATCH, attr, sizeof(*attr)), -1, "push");
	ASSERT_EQ(errno, EFAULT, "push's error");
	assert_drains(type, fd, 1, 2);
	munmap(attr, 2 * getpagesize());
	close(fd);
}

/* A process that pops is killed at any time: what is not in its memory is in the map. */
static void killed(enum bpf_map_type type)
{
	const __u32 all = 20000, step = 700;
	__u32 *shared, *values, round, i, count, left, lost = 0, twice = 0;
	int fd = create(type, sizeof(__u32), all);
	size_t len = all * sizeof(__u32);
	char *seen = calloc(all, 1);
	pid_t pid;

	shared = mmap(NULL, len, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	values = malloc(len);
	if (fd < 0 || !ASSERT_NEQ(shared, MAP_FAILED, "mmap"))
		return;
	for (round = 0; round < 30; round++) {
		for (i = 0; i < all; i++)
			values[i] = i + 1;
		count = all;
		ASSERT_OK(push_batch(fd, values, &count, BPF_ANY, 0), "push");
		memset(shared, 0, len);
		pid = fork();
		if (!pid) {
			/* A copy that met a missing page has been begun, and removed nothing. */
			if (madvise(shared, len, MADV_POPULATE_WRITE))
				_exit(1);
			for (i = 0; i < all; i += step) {
				count = step < all - i ? step : all - i;
				pop_batch(fd, shared + i, &count);
			}
			_exit(0);
		}
		/* Once it has begun. */
		while (!__atomic_load_n(&shared[round % 10 * step], __ATOMIC_RELAXED) &&
		       !waitpid(pid, NULL, WNOHANG))
			;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);

		memset(seen, 0, all);
		left = all;
		if (pop_batch(fd, values, &left))
			left = 0;
		for (i = 0; i < left; i++)
			twice += seen[values[i] - 1]++ > 0;
		for (i = 0; i < all; i++)
			if (shared[i])
				twice += seen[shared[i] - 1]++ > 0;
		for (i = 0; i < all; i++)
			lost += !seen[i];
	}
	ASSERT_EQ(lost, 0, "values lost");
	ASSERT_EQ(twice, 0, "values twice");
	munmap(shared, len);
	free(values);
	free(seen);
	close(fd);
}

/* --- others at work --------------------------------------------------------- */

#define PER_THREAD 20000
#define MOST 16			/* values of a batch */

/* A thread that pushes its values, and pops whatever comes, one or many at a time. */
struct mixer {
	pthread_t thread;
	int fd;
	__u32 nr;
	bool queue;
	__u8 *seen;		/* how often each value came out */
	__u32 pushed, last[2];
	__u32 wrong, batches, singles;
};

static void mixer_value(struct mixer *mixer, __u32 value)
{
	__u32 from = value / PER_THREAD;

	if (from > 1) {
		mixer->wrong++;
		return;
	}
	__atomic_fetch_add(&mixer->seen[value], 1, __ATOMIC_RELAXED);
	/* Who pops meets the values of each pusher in their order. */
	if (mixer->queue && mixer->last[from] && value < mixer->last[from])
		mixer->wrong++;
	mixer->last[from] = value;
}

static void mixer_push(struct mixer *mixer, bool one)
{
	__u32 values[MOST], n = one ? 1 : MOST, i;
	int err;

	if (n > PER_THREAD - mixer->pushed)
		n = PER_THREAD - mixer->pushed;
	if (!n)
		return;
	for (i = 0; i < n; i++)
		values[i] = mixer->nr * PER_THREAD + mixer->pushed + i;
	if (one) {
		err = bpf_map_update_elem(mixer->fd, NULL, values, BPF_ANY);
		n = !err;
	} else {
		err = push_batch(mixer->fd, values, &n, BPF_ANY, 0);
	}
	mixer->pushed += n;
	mixer->wrong += err && err != -E2BIG;
	if (one)
		mixer->singles += n;
	else
		mixer->batches += n > 1;
}

static void mixer_pop(struct mixer *mixer, bool one)
{
	__u32 values[MOST], n = one ? 1 : MOST, i;
	int err;

	if (one)
		err = bpf_map_lookup_and_delete_elem(mixer->fd, NULL, values);
	else
		err = pop_batch(mixer->fd, values, &n);
	mixer->wrong += err && err != -ENOENT;
	for (i = 0; !err && i < n; i++)
		mixer_value(mixer, values[i]);
}

static void *mix(void *arg)
{
	struct mixer *mixer = arg;
	unsigned int seed = mixer->nr + 1;

	pin_to(mixer->nr);
	while (mixer->pushed < PER_THREAD && !mixer->wrong) {
		if (rand_r(&seed) & 0x1000)
			mixer_push(mixer, rand_r(&seed) & 0x1000);
		else
			mixer_pop(mixer, rand_r(&seed) & 0x1000);
	}
	return NULL;
}

/* Batches and single operations on two CPUs: each value comes out once. */
static void beside_singles(enum bpf_map_type type)
{
	struct mixer mixers[2] = {};
	__u32 i, lost = 0, twice = 0;
	__u8 *seen;
	int fd;

	if (!two_cpus())
		return;
	fd = create(type, sizeof(__u32), 3 * MOST);
	seen = calloc(2, PER_THREAD);
	for (i = 0; i < 2; i++) {
		mixers[i] = (struct mixer) {
			.fd = fd, .nr = i, .queue = type == BPF_MAP_TYPE_QUEUE, .seen = seen,
		};
		if (!ASSERT_OK(pthread_create(&mixers[i].thread, NULL, mix, &mixers[i]), "thread"))
			return;
	}
	for (i = 0; i < 2; i++)
		pthread_join(mixers[i].thread, NULL);
	for (i = 0; i < 3 * MOST; i++)
		mixer_pop(&mixers[0], true);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(mixers[i].wrong, 0, "unexpected errors, values, or their order");
		ASSERT_EQ(mixers[i].pushed, PER_THREAD, "pushed");
		ASSERT_GT(mixers[i].batches, 0, "batches that pushed several");
		ASSERT_GT(mixers[i].singles, 0, "single pushes");
	}
	for (i = 0; i < 2 * PER_THREAD; i++) {
		lost += !seen[i];
		twice += seen[i] > 1;
	}
	ASSERT_EQ(lost, 0, "values lost");
	ASSERT_EQ(twice, 0, "values twice");
	free(seen);
	close(fd);
}

/* So many that they cannot be copied under one hold of the lock. */
#define MUCH (8U << 20)
#define MUCH_SIZE 4096U
#define MUCH_NR (MUCH / MUCH_SIZE)

struct popper {
	pthread_t thread;
	int fd;
	__u32 popped, limit;
	bool busy, stop;
};

#define LOAD(x)		__atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_SEQ_CST)

static void *pop_while_others_look(void *arg)
{
	struct popper *popper = arg;
	char value[MUCH_SIZE];

	pin_to(1);
	while (!LOAD(popper->stop)) {
		STORE(popper->busy, true);
		if (popper->popped < LOAD(popper->limit) &&
		    !bpf_map_lookup_and_delete_elem(popper->fd, NULL, value))
			STORE(popper->popped, popper->popped + 1);
		STORE(popper->busy, false);
	}
	return NULL;
}

/* What was copied was there at one moment; all of it, unless it was disturbed. */
static bool assert_moment(enum bpf_map_type type, const char *values, __u32 n, int err,
			  __u32 gone_before, __u32 gone_after)
{
	__u32 first = *(const __u32 *)values, i, want, gone;
	bool queue = type == BPF_MAP_TYPE_QUEUE;
	const __u32 *value;

	if (!n)
		return ASSERT_EQ(err, -EBUSY, "error of none");
	/* How many had been popped at that moment. */
	gone = queue ? first : MUCH_NR - 1 - first;
	if (!ASSERT_GE(gone, gone_before, "popped") || !ASSERT_LE(gone, gone_after, "popped"))
		return false;
	if (!err && !ASSERT_EQ(n, MUCH_NR - gone, "all that were left"))
		return false;
	for (i = 0; i < n; i++) {
		value = (const void *)(values + (size_t)i * MUCH_SIZE);
		want = queue ? first + i : first - i;
		if (!ASSERT_EQ(value[0], want, "value") ||
		    !ASSERT_EQ(value[MUCH_SIZE / 4 - 1], want, "its end"))
			return false;
	}
	return true;
}

/* Look at all that is left, while values are popped. */
static int look(enum bpf_map_type type, struct popper *popper, char *out, bool *ok)
{
	__u32 count = MUCH_NR, before = LOAD(popper->popped), after;
	int err;

	STORE(popper->limit, before + 40);
	err = peek_batch(popper->fd, out, &count);
	STORE(popper->limit, 0);
	while (LOAD(popper->busy))
		;
	after = LOAD(popper->popped);
	*ok = (!err || ASSERT_EQ(err, -EBUSY, "peek")) &&
	      assert_moment(type, out, count, err, before, after);
	return after - before;
}

/* One moment's contents, of more than is copied in one go. */
static void much_at_one_moment(enum bpf_map_type type)
{
	struct popper popper = {};
	char *values, *out;
	__u32 count, i;
	bool ok = true;

	if (!two_cpus())
		return;
	popper.fd = create(type, MUCH_SIZE, MUCH_NR);
	values = calloc(MUCH_NR, MUCH_SIZE);
	out = calloc(MUCH_NR, MUCH_SIZE);
	for (i = 0; i < MUCH_NR; i++) {
		*(__u32 *)(values + (size_t)i * MUCH_SIZE) = i;
		*(__u32 *)(values + (size_t)(i + 1) * MUCH_SIZE - 4) = i;
	}
	count = MUCH_NR;
	ASSERT_OK(push_batch(popper.fd, values, &count, BPF_ANY, 0), "push");
	count = MUCH_NR;
	ASSERT_OK(peek_batch(popper.fd, out, &count), "peek undisturbed");
	ASSERT_EQ(count, MUCH_NR, "peeked");
	if (!assert_moment(type, out, count, 0, 0, 0) ||
	    !ASSERT_OK(pthread_create(&popper.thread, NULL, pop_while_others_look, &popper),
		       "thread"))
		goto close;
	/* After the last time it still is more than 4 MiB. */
	for (i = 0; ok && i < 20; )
		i += look(type, &popper, out, &ok) > 0;
	STORE(popper.stop, true);
	pthread_join(popper.thread, NULL);
close:
	free(values);
	free(out);
	close(popper.fd);
}

/* --- how others see it ------------------------------------------------------- */

static void fdinfo_entries(enum bpf_map_type type)
{
	char path[64], line[128];
	int fd = create(type, sizeof(__u32), 3), i, entries;
	__u32 value;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	for (i = 0; i <= 5; i++) {
		entries = -1;
		file = fopen(path, "r");
		if (!ASSERT_OK_PTR(file, path))
			break;
		while (fgets(line, sizeof(line), file))
			sscanf(line, "entries: %d", &entries);
		fclose(file);
		ASSERT_EQ(entries, i < 4 ? i : 6 - i, "entries");
		if (i < 3)
			push(fd, i);
		else if (i == 3)
			push_exist(fd, i);
		if (i >= 3)
			pop(fd, &value);
	}
	close(fd);
}

static void run_bpftool(int fd, const char *command, char *out, size_t size)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	char line[128];
	size_t n;
	FILE *pipe;

	out[0] = '\0';
	ASSERT_OK(bpf_map_get_info_by_fd(fd, &info, &len), "info");
	snprintf(line, sizeof(line), "./bpftool %s id %u", command, info.id);
	pipe = popen(line, "r");
	if (!ASSERT_OK_PTR(pipe, line))
		return;
	n = fread(out, 1, size - 1, pipe);
	out[n] = '\0';
	ASSERT_OK(pclose(pipe), line);
}

static void bpftool_dump(enum bpf_map_type type)
{
	bool queue = type == BPF_MAP_TYPE_QUEUE;
	int fd = create(type, sizeof(__u32), 3);
	char out[4096];

	run_bpftool(fd, "map dump", out, sizeof(out));
	ASSERT_STREQ(out, "Found 0 elements\n", "empty");
	run_bpftool(fd, "-j map dump", out, sizeof(out));
	ASSERT_STREQ(out, "[]\n", "empty, JSON");
	assert_push(fd, 1, 2);
	run_bpftool(fd, "map dump", out, sizeof(out));
	ASSERT_STREQ(out, queue ? "value: 01 00 00 00\nvalue: 02 00 00 00\nFound 2 elements\n" :
		     "value: 02 00 00 00\nvalue: 01 00 00 00\nFound 2 elements\n", "plain");
	run_bpftool(fd, "-j map dump", out, sizeof(out));
	ASSERT_HAS_SUBSTR(out, queue ? "\"value\":[\"0x01\",\"0x00\",\"0x00\",\"0x00\"]},{" :
			  "\"value\":[\"0x02\",\"0x00\",\"0x00\",\"0x00\"]},{", "JSON");
	run_bpftool(fd, "map show", out, sizeof(out));
	ASSERT_HAS_SUBSTR(out, "\tentries 2", "show");
	run_bpftool(fd, "-j map show", out, sizeof(out));
	ASSERT_HAS_SUBSTR(out, "\"entries\":2", "show, JSON");
	assert_drains(type, fd, 1, 2);
	close(fd);
}

/* As ever, these types take no BTF: a dump has nothing but bytes to show. */
static void no_btf(enum bpf_map_type type)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	struct btf *btf = btf__new_empty();
	int id;

	if (!ASSERT_OK_PTR(btf, "BTF"))
		return;
	id = btf__add_int(btf, "unsigned int", 4, 0);
	if (!ASSERT_GT(id, 0, "type") || !ASSERT_OK(btf__load_into_kernel(btf), "load BTF"))
		goto free;
	opts.btf_fd = btf__fd(btf);
	opts.btf_value_type_id = id;
	ASSERT_EQ(bpf_map_create(type, "with_btf", 0, 4, 1, &opts), -EINVAL, "create");
free:
	btf__free(btf);
}

static const struct type_case cases[] = {
	CASE(order),
	CASE(too_many),
	CASE(arguments),
	CASE(frozen),
	CASE(sizes),
	CASE(bad_buffer),
	CASE(partly_mapped),
	CASE(push_from_partly_mapped),
	CASE(count_read_only),
	CASE(killed),
	CASE(beside_singles),
	CASE(much_at_one_moment),
	CASE(fdinfo_entries),
	CASE(bpftool_dump),
	CASE(no_btf),
};

void test_queue_stack_batch(void)
{
	check_types(cases, ARRAY_SIZE(cases));
}
