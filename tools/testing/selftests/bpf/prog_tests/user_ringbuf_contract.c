// SPDX-License-Identifier: GPL-2.0
/* What BPF_MAP_TYPE_USER_RINGBUF promises, each line of the contract a subtest. */
#include <poll.h>
#include "ringbuf_common.h"
#include "user_ringbuf_contract.skel.h"

#define BUSY BPF_RINGBUF_BUSY_BIT
#define DISCARD BPF_RINGBUF_DISCARD_BIT
#define SECOND 1000000000ULL
#define MAX_SAMPLES (128 * 1024)	/* of one drain */

static struct user_ringbuf_contract *skel;

/* The ring: here consumer_pos can only be read, and all else be written. */
static struct ring ring;

static bool setup_sized(__u32 size)
{
	void *mem;

	memset(&ring, 0, sizeof(ring));
	skel = user_ringbuf_contract__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	bpf_map__set_max_entries(skel->maps.ring, size);
	if (!ASSERT_OK(user_ringbuf_contract__load(skel), "load skeleton"))
		return false;
	ring.fd = bpf_map__fd(skel->maps.ring);
	ring.size = size;
	mem = mmap(NULL, page_size(), PROT_READ, MAP_SHARED, ring.fd, 0);
	if (!ASSERT_NEQ(mem, MAP_FAILED, "map consumer_pos"))
		return false;
	ring.consumer_pos = mem;
	mem = mmap(NULL, page_size() + 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd,
		   page_size());
	if (!ASSERT_NEQ(mem, MAP_FAILED, "map producer_pos and data")) {
		munmap(ring.consumer_pos, page_size());
		ring.consumer_pos = NULL;
		return false;
	}
	ring.producer_pos = mem;
	ring.data = mem + page_size();
	return true;
}

static bool setup(void)
{
	return setup_sized(page_size());
}

static void teardown(void)
{
	ring_unmap(&ring);
	ring.consumer_pos = NULL;
	user_ringbuf_contract__destroy(skel);
	skel = NULL;
}

static void produce_to(unsigned long pos)
{
	__atomic_store_n(ring.producer_pos, pos, __ATOMIC_RELEASE);
}

/* A sample with such a header, its flags included, and its number as payload. */
static void put(__u32 len, __u64 number)
{
	unsigned long pos = *ring.producer_pos;

	memcpy(payload_at(&ring, pos), &number,
	       (len & ~(BUSY | DISCARD)) < sizeof(number) ? 0 : sizeof(number));
	__atomic_store_n(&hdr_at(&ring, pos)->len, len, __ATOMIC_RELEASE);
	produce_to(pos + record_bytes(len));
}

/* A header at @pos, and that producer_pos is so many bytes after it. */
static void put_header(unsigned long pos, __u32 len, unsigned long advertised)
{
	hdr_at(&ring, pos)->len = len;
	produce_to(pos + advertised);
}

static int drain(void)
{
	skel->bss->seen = 0;
	skel->bss->sum = 0;
	return run_prog(skel->progs.drain);
}

static struct holder slow_drain(void)
{
	return (struct holder) {
		.prog = skel->progs.drain_slowly,
		.step = &skel->bss->step,
		.go = &skel->bss->go,
		.late = &skel->bss->late,
	};
}

/* --- samples ----------------------------------------------------------------- */

static void empty_ring(void)
{
	ASSERT_EQ(drain(), 0, "drain");
	ASSERT_EQ(skel->bss->seen, 0, "samples seen");
}

static void samples_are_counted(void)
{
	put(8, 1);
	put(100, 2);
	put(8, 4);
	ASSERT_EQ(drain(), 3, "drain");
	ASSERT_EQ(skel->bss->seen, 3, "samples seen");
	ASSERT_EQ(skel->bss->sum, 7, "their payload");
	ASSERT_EQ(consumer(&ring), producer(&ring), "consumer_pos");
	ASSERT_EQ(drain(), 0, "drain again");
}

static void sample_lengths(void)
{
	__u32 len;

	for (len = 0; len < 200; len++) {
		put(len, 1);
		if (!ASSERT_EQ(drain(), 1, "drain") ||
		    !ASSERT_EQ(skel->bss->last_len, len, "length of the dynptr"))
			return;
	}
	ASSERT_EQ(consumer(&ring), producer(&ring), "consumer_pos");
}

/* Other than in the kernel's ring, not a byte need be free. */
static void full_capacity(void)
{
	int i;

	for (i = 0; i < ring.size / 16; i++)
		put(8, 1);
	ASSERT_EQ(producer(&ring), ring.size, "producer_pos");
	ASSERT_EQ(drain(), ring.size / 16, "drain");
	ASSERT_EQ(skel->bss->sum, ring.size / 16, "payload");
	put(ring.size - 8, 5);
	ASSERT_EQ(drain(), 1, "drain a sample as large as the ring");
	ASSERT_EQ(skel->bss->last_len, ring.size - 8, "its length");
	ASSERT_EQ(skel->bss->sum, 5, "payload");
}

static void sample_across_the_end(void)
{
	put(3000, 1);
	ASSERT_EQ(drain(), 1, "drain");
	put(3000, 77);
	ASSERT_EQ(drain(), 1, "drain");
	ASSERT_EQ(skel->bss->sum, 77, "payload");
	ASSERT_EQ(skel->bss->last_len, 3000, "length");
}

static void discarded_are_skipped(void)
{
	put(8, 1);
	put(8 | DISCARD, 10);
	put(8 | DISCARD, 100);
	put(8, 1000);
	put(8 | DISCARD, 10000);
	ASSERT_EQ(drain(), 2, "drain");
	ASSERT_EQ(skel->bss->sum, 1001, "payload");
	ASSERT_EQ(consumer(&ring), producer(&ring), "consumer_pos");
}

static void discarded_is_skipped_even_if_busy(void)
{
	put(8 | DISCARD | BUSY, 1);
	put(8, 10);
	ASSERT_EQ(drain(), 1, "drain");
	ASSERT_EQ(skel->bss->sum, 10, "payload");
}

static void busy_ends_the_drain(void)
{
	put(8, 1);
	put(8 | BUSY, 10);
	put(8, 100);
	ASSERT_EQ(drain(), 1, "drain");
	ASSERT_EQ(skel->bss->sum, 1, "payload");
	ASSERT_EQ(consumer(&ring), 16, "consumer_pos");
	ASSERT_EQ(drain(), 0, "drain again");
	hdr_at(&ring, 16)->len = 8;
	ASSERT_EQ(drain(), 2, "drain when it is no longer busy");
	ASSERT_EQ(skel->bss->sum, 110, "payload");
}

static void callback_stops_the_drain(void)
{
	put(8, 1);
	put(8, 10);
	put(8, 100);
	skel->bss->stop_after = 2;
	ASSERT_EQ(drain(), 2, "drain");
	ASSERT_EQ(skel->bss->sum, 11, "payload");
	ASSERT_EQ(consumer(&ring), 32, "consumer_pos");
	skel->bss->stop_after = 0;
	ASSERT_EQ(drain(), 1, "drain the rest");
}

/* By libbpf, which keeps header and positions as it likes. */
static void libbpf_producer(void)
{
	struct user_ring_buffer *producer;
	__u64 *sample;

	producer = user_ring_buffer__new(ring.fd, NULL);
	if (!ASSERT_OK_PTR(producer, "libbpf's user ring buffer"))
		return;
	sample = user_ring_buffer__reserve(producer, sizeof(*sample));
	if (ASSERT_OK_PTR(sample, "reserve")) {
		*sample = 5;
		ASSERT_EQ(drain(), 0, "drain a busy sample");
		user_ring_buffer__submit(producer, sample);
	}
	sample = user_ring_buffer__reserve(producer, sizeof(*sample));
	if (ASSERT_OK_PTR(sample, "reserve"))
		user_ring_buffer__discard(producer, sample);
	ASSERT_EQ(drain(), 1, "drain");
	ASSERT_EQ(skel->bss->sum, 5, "payload");
	user_ring_buffer__free(producer);
}

/* Discarded ones use up the limit, and are not counted. */
static void samples_per_call(void)
{
	int i;

	if (!setup_sized(2 << 20))
		goto out;
	for (i = 0; i < MAX_SAMPLES + 10; i++)
		put(i % 4 ? 0 : DISCARD, 0);
	ASSERT_EQ(drain(), MAX_SAMPLES / 4 * 3, "drain");
	ASSERT_EQ(consumer(&ring), MAX_SAMPLES * 8, "consumer_pos");
	ASSERT_EQ(drain(), 7, "drain the rest");
	ASSERT_EQ(consumer(&ring), producer(&ring), "consumer_pos");
out:
	teardown();
}

/* Samples of almost 16 MiB, of which nothing is ever written, pass 4 GiB. */
static void positions_beyond_4_gib(void)
{
	const __u32 len = (1 << 24) - 16;
	unsigned long pos = 0;

	if (!setup_sized(32 << 20))
		goto out;
	while (pos < 1UL << 32) {
		put(len, 1);
		pos += record_bytes(len);
		if (!ASSERT_EQ(drain(), 1, "drain") ||
		    !ASSERT_EQ(consumer(&ring), pos, "consumer_pos"))
			break;
	}
	put(8, 5);
	ASSERT_EQ(drain(), 1, "drain");
	ASSERT_EQ(skel->bss->sum, 5, "payload");
out:
	teardown();
}

/* --- errors ------------------------------------------------------------------ */

static void unknown_flags(void)
{
	put(8, 1);
	skel->bss->flags = 4;
	ASSERT_EQ(drain(), -EINVAL, "unknown flag");
	skel->bss->flags = 1ULL << 32 | BPF_RB_NO_WAKEUP;
	ASSERT_EQ(drain(), -EINVAL, "unknown flag beside a known one");
	ASSERT_EQ(consumer(&ring), 0, "consumer_pos");
	skel->bss->flags = BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP;
	ASSERT_EQ(drain(), 1, "known flags");
}

/* An error at the head of the ring leaves consumer_pos. */
static void assert_drain_fails(int error)
{
	unsigned long before = consumer(&ring);

	ASSERT_EQ(drain(), error, "drain");
	ASSERT_EQ(skel->bss->seen, 0, "samples seen");
	ASSERT_EQ(consumer(&ring), before, "consumer_pos");
}

static void misaligned_position(void)
{
	int i;

	put(8, 1);
	for (i = 1; i < 8; i++) {
		produce_to(16 + i);
		assert_drain_fails(-EINVAL);
	}
	produce_to(16);
	ASSERT_EQ(drain(), 1, "drain when it is aligned");
}

static void larger_than_advertised(void)
{
	put_header(0, 9, 16);
	assert_drain_fails(-EINVAL);
	put_header(0, 8, 8);
	assert_drain_fails(-EINVAL);
	put_header(0, 0x3fffffff, 4096);
	assert_drain_fails(-EINVAL);
	put_header(0, 0x3fffffff | DISCARD, 4096);
	assert_drain_fails(-EINVAL);
	put_header(0, 8, 16);
	ASSERT_EQ(drain(), 1, "drain as much as advertised");
}

static void larger_than_the_ring(void)
{
	put_header(0, ring.size, 3 * ring.size);
	assert_drain_fails(-E2BIG);
	put_header(0, ring.size - 7, 3 * ring.size);
	assert_drain_fails(-E2BIG);
	put_header(0, 0x3fffffff, 1UL << 31);
	assert_drain_fails(-E2BIG);
	put_header(0, 0x3fffffff | DISCARD, 1UL << 31);
	assert_drain_fails(-E2BIG);
}

static void larger_than_a_dynptr(void)
{
	if (!setup_sized(32 << 20))
		goto out;
	put_header(0, 1 << 24, 32 << 20);
	assert_drain_fails(-E2BIG);
	put_header(0, (1 << 24) - 1, (1 << 24) + 8);
	ASSERT_EQ(drain(), 1, "drain the largest dynptr");
	ASSERT_EQ(skel->bss->last_len, (1 << 24) - 1, "its length");
out:
	teardown();
}

/* What is before the offending sample has been drained. */
static void error_after_samples(void)
{
	put(8, 1);
	put(8, 10);
	put_header(32, 1000, 16);
	ASSERT_EQ(drain(), -EINVAL, "drain");
	ASSERT_EQ(skel->bss->sum, 11, "payload");
	ASSERT_EQ(consumer(&ring), 32, "consumer_pos");
}

static void producer_behind_consumer(void)
{
	put(8, 1);
	ASSERT_EQ(drain(), 1, "drain");
	produce_to(8);
	ASSERT_EQ(drain(), 0, "producer_pos behind");
	produce_to(-8UL);
	ASSERT_EQ(drain(), 0, "producer_pos far behind");
	ASSERT_EQ(consumer(&ring), 16, "consumer_pos");
}

/* --- one drain at a time ----------------------------------------------------- */

static void busy_in_callback(void)
{
	put(8, 1);
	put(8, 10);
	ASSERT_EQ(run_prog(skel->progs.drain_nested), 2, "drain");
	ASSERT_EQ(skel->bss->nested, -EBUSY, "drain inside of it");
	ASSERT_EQ(skel->bss->seen, 2, "samples seen");
	put(8, 1);
	ASSERT_EQ(drain(), 1, "drain afterwards");
}

static void busy_on_another_cpu(void)
{
	struct holder holder = slow_drain();

	put(8, 1);
	if (!holder_start(&holder))
		return;
	ASSERT_EQ(run_prog(skel->progs.drain), -EBUSY, "drain while another drains");
	ASSERT_EQ(run_prog(skel->progs.drain), -EBUSY, "drain again");
	ASSERT_EQ(consumer(&ring), 0, "consumer_pos");
	ASSERT_EQ(holder_end(&holder), 1, "the other drain");
	put(8, 1);
	ASSERT_EQ(drain(), 1, "drain afterwards");
}

/* --- wakeups ----------------------------------------------------------------- */

static int poll_events(void)
{
	struct pollfd poll_fd = {
		.fd = ring.fd,
		.events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLPRI,
	};

	ASSERT_GE(poll(&poll_fd, 1, 0), 0, "poll");
	return poll_fd.revents;
}

static void poll_is_level(void)
{
	int writable = POLLOUT | POLLWRNORM;

	ASSERT_EQ(poll_events(), writable, "empty ring");
	put(ring.size - 16, 1);
	ASSERT_EQ(poll_events(), writable, "eight bytes left");
	put(0, 0);
	ASSERT_EQ(poll_events(), 0, "full ring");
	ASSERT_EQ(drain(), 2, "drain");
	ASSERT_EQ(poll_events(), writable, "drained ring");
}

/* Whether a drain of what @put_all leaves in the ring wakes an edge-triggered epoll. */
static void assert_wakeup(__u64 flags, __u32 len, bool expected)
{
	int epoll;

	pin_to(0);
	epoll = epoll_on(ring.fd, EPOLLOUT | EPOLLET);
	/* There is room at first. */
	epoll_events(epoll, 0);
	if (len) {
		put(len, 1);
		put(len, 1);
	}
	ASSERT_FALSE(epoll_events(epoll, 0), "woken before the drain");
	skel->bss->flags = flags;
	ASSERT_GE(drain(), 0, "drain");
	ASSERT_EQ(!!epoll_events(epoll, 0), expected, "woken by the drain");
	ASSERT_FALSE(epoll_events(epoll, 0), "woken again");
	close(epoll);
	unpin();
}

static void samples_wake(void)
{
	assert_wakeup(0, 8, true);
}

static void discards_wake(void)
{
	assert_wakeup(0, 8 | DISCARD, true);
}

static void busy_does_not_wake(void)
{
	assert_wakeup(0, 8 | BUSY, false);
}

static void nothing_does_not_wake(void)
{
	assert_wakeup(0, 0, false);
}

static void told_not_to_wake(void)
{
	assert_wakeup(BPF_RB_NO_WAKEUP, 8, false);
}

static void forced_to_wake(void)
{
	assert_wakeup(BPF_RB_FORCE_WAKEUP, 0, true);
}

static void forced_to_wake_wins(void)
{
	assert_wakeup(BPF_RB_FORCE_WAKEUP | BPF_RB_NO_WAKEUP, 0, true);
}

static void *wait_for_room(void *arg)
{
	int *epoll = arg;

	return (void *)(long)epoll_events(*epoll, 10000);
}

static void sleeper_is_woken(void)
{
	pthread_t thread;
	void *events;
	int epoll;

	put(ring.size - 8, 1);
	epoll = epoll_on(ring.fd, EPOLLOUT);
	if (ASSERT_OK(pthread_create(&thread, NULL, wait_for_room, &epoll), "start thread")) {
		ASSERT_EQ(drain(), 1, "drain");
		pthread_join(thread, &events);
		ASSERT_EQ((long)events, EPOLLOUT, "events");
	}
	close(epoll);
}

/* --- a hostile producer ------------------------------------------------------ */

enum attack { HEADERS, POSITIONS, BOTH };

struct hostile {
	pthread_t thread;
	enum attack attack;
	bool stop;
	unsigned int seed;
};

static __u32 hostile_len(unsigned int *seed)
{
	__u32 len = rand_r(seed) % 256;

	switch (rand_r(seed) % 8) {
	case 0:
		return rand_r(seed) << 1;
	case 1:
		return len | BUSY;
	case 2:
		return len | DISCARD;
	case 3:
		return rand_r(seed) % (2 * ring.size);
	case 4:
		return 0x3fffffff - len;
	default:
		return len;
	}
}

static unsigned long hostile_pos(unsigned int *seed)
{
	unsigned long pos = consumer(&ring);

	switch (rand_r(seed) % 8) {
	case 0:
		return (unsigned long)rand_r(seed) << 33 | rand_r(seed);
	case 1:
		return pos + rand_r(seed) % 64;
	case 2:
		return pos - rand_r(seed) % 4096;
	case 3:
		return pos + (1UL << 31);
	default:
		return pos + ring.size;
	}
}

/* Rewrites what the kernel reads, mostly the header that it is just about to use. */
static void *attack(void *arg)
{
	struct hostile *me = arg;
	unsigned long pos;
	int i;

	while (!__atomic_load_n(&me->stop, __ATOMIC_RELAXED)) {
		if (me->attack != HEADERS)
			produce_to(hostile_pos(&me->seed));
		for (i = 0; i < 8 && me->attack != POSITIONS; i++) {
			pos = consumer(&ring);
			if (i % 2)
				pos += 8 * (rand_r(&me->seed) % 64);
			__atomic_store_n(&hdr_at(&ring, pos)->len, hostile_len(&me->seed),
					 __ATOMIC_RELAXED);
		}
		if (me->attack == HEADERS)
			produce_to(consumer(&ring) + ring.size);
	}
	return NULL;
}

static void hostile_producer(enum attack how)
{
	struct hostile hostile = { .attack = how, .seed = 1 };
	unsigned long before = taint_flags(), pos, last = 0;
	__u64 start, calls = 0, failed = 0, wrong = 0, back = 0;
	__u64 enough;
	int ret;

	if (!ASSERT_OK(pthread_create(&hostile.thread, NULL, attack, &hostile), "start thread"))
		return;
	start = get_time_ns();
	do {
		ret = run_prog(skel->progs.drain_hostile);
		calls++;
		failed += ret < 0;
		wrong += ret > MAX_SAMPLES || (ret < 0 && ret != -EINVAL && ret != -E2BIG);
		pos = consumer(&ring);
		back += (long)(pos - last) < 0 || pos % 8;
		last = pos;
		/* A slow machine needs longer to see enough. */
		enough = skel->bss->seen > 10 ? SECOND : 20 * SECOND;
	} while (get_time_ns() - start < enough && !wrong && !back);
	__atomic_store_n(&hostile.stop, true, __ATOMIC_RELAXED);
	pthread_join(hostile.thread, NULL);

	printf("%llu drains, %llu failed, %llu samples\n", calls, failed, skel->bss->seen);
	ASSERT_EQ(wrong, 0, "drains that returned something else");
	ASSERT_EQ(back, 0, "times that consumer_pos was wrong");
	ASSERT_EQ(skel->bss->short_reads, 0, "samples of another length than their dynptr");
	ASSERT_GT(calls, 10, "drains");
	ASSERT_GT(skel->bss->seen, 10, "samples");
	ASSERT_EQ(taint_flags(), before, "taint flags");

	/* An honest producer finds a sound ring. */
	produce_to(consumer(&ring));
	put(8, 5);
	put(8, 6);
	ASSERT_EQ(drain(), 2, "drain afterwards");
	ASSERT_EQ(skel->bss->sum, 11, "payload");
}

static void hostile_headers(void)
{
	hostile_producer(HEADERS);
}

static void hostile_positions(void)
{
	hostile_producer(POSITIONS);
}

static void hostile_headers_and_positions(void)
{
	hostile_producer(BOTH);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool two_cpus;
	bool own_setup;
} tests[] = {
	{ "empty_ring", empty_ring },
	{ "samples_are_counted", samples_are_counted },
	{ "sample_lengths", sample_lengths },
	{ "full_capacity", full_capacity },
	{ "sample_across_the_end", sample_across_the_end },
	{ "discarded_are_skipped", discarded_are_skipped },
	{ "discarded_is_skipped_even_if_busy", discarded_is_skipped_even_if_busy },
	{ "busy_ends_the_drain", busy_ends_the_drain },
	{ "callback_stops_the_drain", callback_stops_the_drain },
	{ "libbpf_producer", libbpf_producer },
	{ "samples_per_call", samples_per_call, .own_setup = true },
	{ "positions_beyond_4_gib", positions_beyond_4_gib, .own_setup = true },
	{ "unknown_flags", unknown_flags },
	{ "misaligned_position", misaligned_position },
	{ "larger_than_advertised", larger_than_advertised },
	{ "larger_than_the_ring", larger_than_the_ring },
	{ "larger_than_a_dynptr", larger_than_a_dynptr, .own_setup = true },
	{ "error_after_samples", error_after_samples },
	{ "producer_behind_consumer", producer_behind_consumer },
	{ "busy_in_callback", busy_in_callback },
	{ "busy_on_another_cpu", busy_on_another_cpu, .two_cpus = true },
	{ "poll_is_level", poll_is_level },
	{ "samples_wake", samples_wake },
	{ "discards_wake", discards_wake },
	{ "busy_does_not_wake", busy_does_not_wake },
	{ "nothing_does_not_wake", nothing_does_not_wake },
	{ "told_not_to_wake", told_not_to_wake },
	{ "forced_to_wake", forced_to_wake },
	{ "forced_to_wake_wins", forced_to_wake_wins },
	{ "sleeper_is_woken", sleeper_is_woken },
	{ "hostile_headers", hostile_headers, .two_cpus = true },
	{ "hostile_positions", hostile_positions, .two_cpus = true },
	{ "hostile_headers_and_positions", hostile_headers_and_positions, .two_cpus = true },
};

void serial_test_user_ringbuf_contract(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (!test__start_subtest(tests[i].name) || (tests[i].two_cpus && !two_cpus()))
			continue;
		if (tests[i].own_setup) {
			tests[i].run();
			continue;
		}
		if (setup())
			tests[i].run();
		teardown();
	}
}
