// SPDX-License-Identifier: GPL-2.0
/*
 * BPF_F_RB_OVERWRITE: a kernel ring that drops its oldest records when there is no room, whole
 * ones, and only as many as it must.
 */
#include "ringbuf_programs.h"
#include "progs/ringbuf_overwrite.h"
#include "ringbuf_overwrite.skel.h"

static __u8 next;		/* first byte of the next record */

static bool setup(void)
{
	next = 0;
	skel = ringbuf_contract__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	bpf_map__set_map_flags(skel->maps.ring, BPF_F_RB_OVERWRITE);
	return setup_sized(page_size(), 8);
}

/* A record that takes so many bytes in the ring; records are numbered by their payload. */
static int put(__u64 bytes)
{
	int err;

	skel->bss->size = bytes - BPF_RINGBUF_HDR_SZ;
	skel->bss->buf[0] = next;
	skel->bss->commit_flags = BPF_RB_NO_WAKEUP;
	err = run_prog(skel->progs.output);
	next += !err;
	return err;
}

static void put_many(int count, __u64 bytes)
{
	while (count--)
		if (!ASSERT_OK(put(bytes), "output"))
			return;
}

/* A record of 16 bytes that is discarded. */
static void put_discarded(void)
{
	skel->bss->discard = true;
	ASSERT_OK(run_prog(skel->progs.reserve), "discard");
	skel->bss->discard = false;
	next++;
}

/* What is left is one whole record after the other, numbered from @oldest. */
static void assert_left(__u8 oldest)
{
	unsigned long pos = overwritten(&ring), end = producer(&ring);

	for (; pos < end; oldest++) {
		__u32 len = len_at(&ring, pos);

		if (!(len & BPF_RINGBUF_DISCARD_BIT) && len &&
		    !ASSERT_EQ(*(__u8 *)payload_at(&ring, pos), oldest, "number of the record"))
			return;
		pos += record_bytes(len);
	}
	ASSERT_EQ(pos, end, "end of the last record");
	ASSERT_EQ(oldest, next, "number of records");
}

/* --- what is dropped --------------------------------------------------------- */

static void nothing_dropped_with_room(void)
{
	put_many(7, 512);
	ASSERT_OK(put(504), "output into all but the last eight bytes");
	ASSERT_EQ(producer(&ring), ring.size - 8, "producer_pos");
	ASSERT_EQ(overwritten(&ring), 0, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 0, "lost");
	assert_left(0);
}

static void one_record_dropped(void)
{
	put_many(8, 512);
	ASSERT_EQ(overwritten(&ring), 512, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 1, "lost");
	assert_left(1);
}

/* The record after that fits into what is left of the dropped one. */
static void no_more_than_needed(void)
{
	put_many(8, 512);
	put_many(1, 504);
	ASSERT_EQ(overwritten(&ring), 512, "overwrite_pos");
	put_many(1, 16);
	ASSERT_EQ(overwritten(&ring), 1024, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 2, "lost");
	assert_left(2);
}

static void several_dropped_for_a_large_one(void)
{
	put_many(28, 128);
	put_many(1, 1024);
	/* 28 * 128 + 1024 - (4096 - 8), rounded up to records. */
	ASSERT_EQ(overwritten(&ring), 5 * 128, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 5, "lost");
	assert_left(5);
}

static void all_dropped_for_the_largest(void)
{
	put_many(20, 128);
	put_many(1, ring.size - 8);
	ASSERT_EQ(overwritten(&ring), 20 * 128, "overwrite_pos");
	assert_left(20);
	put_many(1, ring.size - 8);
	ASSERT_EQ(overwritten(&ring), 20 * 128 + ring.size - 8, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 21, "lost");
	assert_left(21);
}

static void too_large_drops_nothing(void)
{
	put_many(7, 512);
	ASSERT_EQ(put(ring.size), -EAGAIN, "as large as the ring");
	ASSERT_EQ(put(4 * ring.size), -EAGAIN, "larger");
	ASSERT_EQ(overwritten(&ring), 0, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 2, "lost");
	assert_left(0);
}

static void records_of_all_sizes(void)
{
	unsigned long bytes;
	__u8 oldest;

	for (bytes = 16; bytes < 600; bytes += 8) {
		put_many(1, bytes);
		ASSERT_LT(producer(&ring) - overwritten(&ring), ring.size, "bytes in the ring");
	}
	oldest = *(__u8 *)payload_at(&ring, overwritten(&ring));
	ASSERT_EQ(query(BPF_RB_LOST), oldest, "lost");
	assert_left(oldest);
	/* The last one that was dropped did not fit too: it was 8 bytes shorter than the oldest. */
	bytes = record_bytes(len_at(&ring, overwritten(&ring))) - 8;
	ASSERT_GE(producer(&ring) - overwritten(&ring) + bytes, ring.size, "bytes with that one");
}

static void empty_records(void)
{
	put_many(1000, 8);
	ASSERT_EQ(producer(&ring), 8000, "producer_pos");
	ASSERT_EQ(overwritten(&ring), 8000 - (ring.size - 8), "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 1000 - (ring.size / 8 - 1), "lost");
}

/* Reserve and dynptr as well as output. */
static void by_all_helpers(void)
{
	put_many(8, 504);
	ASSERT_EQ(overwritten(&ring), 0, "overwrite_pos");
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_EQ(overwritten(&ring), 504, "overwrite_pos");
	skel->bss->size = 504;
	ASSERT_OK(run_prog(skel->progs.reserve_dynptr), "reserve a dynptr");
	ASSERT_EQ(overwritten(&ring), 2 * 504, "overwrite_pos");
}

/* --- a record that is not committed ------------------------------------------ */

static void stops_at_busy_record(void)
{
	struct holder holder = holder_of(skel->progs.hold_one);

	if (!holder_start(&holder))
		return;
	put_many(7, 512);
	ASSERT_EQ(put(512), -EAGAIN, "output that would drop it");
	ASSERT_EQ(overwritten(&ring), 0, "overwrite_pos");
	ASSERT_EQ(producer(&ring), 16 + 7 * 512, "producer_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 1, "lost");
	put_many(1, 488);
	ASSERT_EQ(put(8), -EAGAIN, "smallest record without room");
	holder_next(&holder);
	put_many(1, 512);
	/* The one of 16 bytes alone is not enough. */
	ASSERT_EQ(overwritten(&ring), 16 + 512, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 4, "lost");
	ASSERT_OK(holder_end(&holder), "program");
}

/* Older ones are not dropped either, if that does not make enough room. */
static void drops_nothing_before_busy_record(void)
{
	struct holder holder;

	put_many(4, 64);
	holder = holder_of(skel->progs.hold_one);
	if (!holder_start(&holder))
		return;
	put_many(1, ring.size - 8 - 256 - 16);
	ASSERT_EQ(put(512), -EAGAIN, "output that would drop the busy record");
	ASSERT_EQ(overwritten(&ring), 0, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 1, "lost");
	put_many(1, 256);
	ASSERT_EQ(overwritten(&ring), 256, "overwrite_pos after all before it were dropped");
	ASSERT_EQ(put(8), -EAGAIN, "output that would drop the busy record");
	ASSERT_EQ(query(BPF_RB_LOST), 6, "lost");
	ASSERT_EQ(*(__u64 *)payload_at(&ring, 256), 1, "payload of the busy record");
	ASSERT_OK(holder_end(&holder), "program");
}

/* --- the consumer ------------------------------------------------------------ */

static void consumer_does_not_limit(void)
{
	unsigned long positions[] = { 0, 8, 1UL << 40, -8UL, ~0UL };
	unsigned long before;
	int i;

	for (i = 0; i < ARRAY_SIZE(positions); i++) {
		consume_to(&ring, positions[i]);
		before = producer(&ring);
		put_many(100, 128);
		ASSERT_EQ(producer(&ring), before + 100 * 128, "producer_pos");
		ASSERT_EQ(overwritten(&ring), producer(&ring) - 31 * 128, "overwrite_pos");
	}
}

static void consumed_is_not_lost(void)
{
	put_many(7, 512);
	consume_to(&ring, 3 * 512);
	put_many(2, 512);
	ASSERT_EQ(overwritten(&ring), 2 * 512, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 0, "consumed records lost");
	put_many(2, 512);
	ASSERT_EQ(overwritten(&ring), 4 * 512, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 1, "the first that was not consumed");
}

static void discarded_is_not_lost(void)
{
	put_discarded();
	put_many(1, 496);
	put_discarded();
	put_many(7, 504);
	ASSERT_EQ(overwritten(&ring), 0, "overwrite_pos");
	put_many(1, 504);
	ASSERT_EQ(overwritten(&ring), 512, "overwrite_pos after a discard and a record");
	ASSERT_EQ(query(BPF_RB_LOST), 1, "lost");
	put_many(1, 504);
	ASSERT_EQ(overwritten(&ring), 1032, "overwrite_pos after another discard and record");
	ASSERT_EQ(query(BPF_RB_LOST), 2, "lost");
}

static void available_data_is_what_is_left(void)
{
	put_many(7, 512);
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), 7 * 512, "nothing consumed or dropped");
	consume_to(&ring, 512);
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), 6 * 512, "the first consumed");
	put_many(3, 512);
	ASSERT_EQ(overwritten(&ring), 3 * 512, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), 7 * 512, "more dropped than consumed");
	consume_to(&ring, 5 * 512);
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), 5 * 512, "more consumed than dropped");
	consume_all(&ring);
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), 0, "all consumed");
}

static void overwrite_pos_is_everywhere(void)
{
	put_many(20, 512);
	ASSERT_EQ(overwritten(&ring), 13 * 512, "in the page of producer_pos");
	ASSERT_EQ(query(BPF_RB_OVERWRITE_POS), 13 * 512, "by query");
	ASSERT_EQ(fdinfo_line(ring.fd, "overwrite_pos"), 13 * 512, "in fdinfo");
	ASSERT_EQ(fdinfo_line(ring.fd, "avail_data"), 7 * 512, "available data in fdinfo");
	ASSERT_EQ(fdinfo_line(ring.fd, "lost"), 13, "lost in fdinfo");
}

static void readable_while_overwritten(void)
{
	int epoll = epoll_on(ring.fd, EPOLLIN);

	put_many(20, 512);
	skel->bss->commit_flags = BPF_RB_FORCE_WAKEUP;
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_EQ(epoll_events(epoll, 5000), EPOLLIN, "records");
	consume_all(&ring);
	ASSERT_EQ(epoll_events(epoll, 0), 0, "all consumed");
	close(epoll);
}

/* The consumer that has caught up is woken although the ring has been round. */
static void wakes_who_caught_up(void)
{
	int epoll = epoll_on(ring.fd, EPOLLIN | EPOLLET);

	pin_to(0);
	put_many(20, 512);
	ASSERT_FALSE(epoll_events(epoll, 0), "woken although it was told not to");
	consume_all(&ring);
	skel->bss->commit_flags = 0;
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_EQ(epoll_events(epoll, 0), EPOLLIN, "woken");
	ASSERT_OK(run_prog(skel->progs.reserve), "reserve");
	ASSERT_FALSE(epoll_events(epoll, 0), "woken when behind");
	unpin();
	close(epoll);
}

/* --- two producers ----------------------------------------------------------- */

#define LOAD_NSECS 1500000000ULL

static struct ringbuf_overwrite *load;
static bool load_stop;

/* At least once. */
static void *produce(void *arg)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct overwrite_args args = { .producer = (long)arg, .count = 100 };
	long err = 0;

	opts.ctx_in = &args;
	opts.ctx_size_in = sizeof(args);
	pin_to(args.producer);
	do {
		err = bpf_prog_test_run_opts(bpf_program__fd(load->progs.produce), &opts);
	} while (!err && !__atomic_load_n(&load_stop, __ATOMIC_RELAXED));
	return (void *)err;
}

static bool load_setup(__u32 record_size, bool hold)
{
	load = ringbuf_overwrite__open();
	if (!ASSERT_OK_PTR(load, "open skeleton"))
		return false;
	load->rodata->record_size = record_size;
	load->rodata->hold = hold;
	bpf_map__set_max_entries(load->maps.ring, page_size());
	return ASSERT_OK(ringbuf_overwrite__load(load), "load skeleton") &&
	       ring_map(&ring, load->maps.ring);
}

static void load_teardown(void)
{
	ring_unmap(&ring);
	ring.consumer_pos = NULL;
	ringbuf_overwrite__destroy(load);
	load = NULL;
}

static void start_producers(pthread_t *threads, bool once)
{
	long i;

	__atomic_store_n(&load_stop, once, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, produce, (void *)i);
}

static bool end_producers(pthread_t *threads)
{
	bool ok = true;
	void *err;
	int i;

	__atomic_store_n(&load_stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], &err);
		ok &= ASSERT_NULL(err, "test run");
	}
	return ok;
}

/*
 * All records are of one size: whenever the producers stop, so many are left as there is room
 * for. Had any been dropped for a reservation that then failed, there would be less. With
 * @hold each producer keeps one busy while it writes, so that reservations do fail.
 */
static void no_drop_for_a_failure(bool hold)
{
	unsigned long bytes = record_bytes(120), fit;
	__u64 written, refused, end;
	pthread_t threads[2];
	int rounds = 0;

	if (!load_setup(120, hold))
		goto out;
	fit = (ring.size - 8) / bytes * bytes;
	end = get_time_ns() + LOAD_NSECS;
	do {
		start_producers(threads, true);
		if (!end_producers(threads) ||
		    !ASSERT_EQ(producer(&ring) - overwritten(&ring), fit, "bytes left"))
			break;
		rounds++;
	} while (get_time_ns() < end);

	written = load->bss->written[0] + load->bss->written[1];
	refused = load->bss->refused[0] + load->bss->refused[1];
	printf("%d rounds, %llu records written, %llu refused\n", rounds, written, refused);
	ASSERT_EQ(producer(&ring), written * bytes, "records reserved");
	ASSERT_EQ(fdinfo_line(ring.fd, "lost"), refused + overwritten(&ring) / bytes, "lost");
	ASSERT_GT(written, 1000, "records written");
	if (hold)
		ASSERT_GT(refused, 0, "records refused");
out:
	load_teardown();
}

static void drops_are_never_in_vain(void)
{
	no_drop_for_a_failure(false);
}

static void drops_are_never_in_vain_at_busy_records(void)
{
	no_drop_for_a_failure(true);
}

/*
 * A consumer copies a record, and then believes it only if overwrite_pos has not passed it.
 * What it believes is whole, and each producer's records are in order.
 */
static void consume_overwritten(void)
{
	__u64 end = get_time_ns() + LOAD_NSECS;
	__u64 buf[512], last[2] = {}, whole = 0, torn = 0, damaged = 0, order = 0, missed = 0;
	unsigned long pos = 0, over;
	__u32 len, i;

	while (get_time_ns() < end) {
		if (pos == producer(&ring))
			continue;
		over = overwritten(&ring);
		if ((long)(over - pos) > 0) {
			pos = over;
			missed++;
		}
		len = len_at(&ring, pos);
		if (len & BPF_RINGBUF_BUSY_BIT)
			continue;
		if (len > sizeof(buf)) {
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
			damaged += overwritten(&ring) <= pos;
			torn++;
			continue;
		}
		memcpy(buf, payload_at(&ring, pos), len);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if ((long)(overwritten(&ring) - pos) > 0) {
			torn++;
			continue;
		}
		pos += record_bytes(len);
		consume_to(&ring, pos);
		whole++;
		if (len & BPF_RINGBUF_DISCARD_BIT)
			continue;
		for (i = 1; i < len / 8; i++)
			damaged += buf[i] != buf[0];
		if (buf[0] >> 32 > 1) {
			damaged++;
			continue;
		}
		order += (__u32)buf[0] < last[buf[0] >> 32];
		last[buf[0] >> 32] = (__u32)buf[0] + 1;
	}
	printf("%llu whole, %llu torn and noticed, %llu times behind\n", whole, torn, missed);
	ASSERT_GT(whole, 20, "whole records");
	ASSERT_GT(missed, 0, "times the consumer was behind");
	ASSERT_EQ(damaged, 0, "damaged records that looked whole");
	ASSERT_EQ(order, 0, "records in a wrong order");
}

static void consume_under_load(__u32 record_size)
{
	pthread_t threads[2];

	if (!load_setup(record_size, false))
		goto out;
	start_producers(threads, false);
	consume_overwritten();
	end_producers(threads);
out:
	load_teardown();
}

static void consumer_gets_whole_records(void)
{
	consume_under_load(504);
}

static void consumer_gets_whole_records_of_all_sizes(void)
{
	consume_under_load(0);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool two_cpus;
} tests[] = {
	{ "nothing_dropped_with_room", nothing_dropped_with_room },
	{ "one_record_dropped", one_record_dropped },
	{ "no_more_than_needed", no_more_than_needed },
	{ "several_dropped_for_a_large_one", several_dropped_for_a_large_one },
	{ "all_dropped_for_the_largest", all_dropped_for_the_largest },
	{ "too_large_drops_nothing", too_large_drops_nothing },
	{ "records_of_all_sizes", records_of_all_sizes },
	{ "empty_records", empty_records },
	{ "by_all_helpers", by_all_helpers },
	{ "stops_at_busy_record", stops_at_busy_record, true },
	{ "drops_nothing_before_busy_record", drops_nothing_before_busy_record, true },
	{ "consumer_does_not_limit", consumer_does_not_limit },
	{ "consumed_is_not_lost", consumed_is_not_lost },
	{ "discarded_is_not_lost", discarded_is_not_lost },
	{ "available_data_is_what_is_left", available_data_is_what_is_left },
	{ "overwrite_pos_is_everywhere", overwrite_pos_is_everywhere },
	{ "readable_while_overwritten", readable_while_overwritten },
	{ "wakes_who_caught_up", wakes_who_caught_up },
};

static const struct {
	const char *name;
	void (*run)(void);
} loads[] = {
	{ "drops_are_never_in_vain", drops_are_never_in_vain },
	{ "drops_are_never_in_vain_at_busy_records", drops_are_never_in_vain_at_busy_records },
	{ "consumer_gets_whole_records", consumer_gets_whole_records },
	{ "consumer_gets_whole_records_of_all_sizes", consumer_gets_whole_records_of_all_sizes },
};

void serial_test_ringbuf_overwrite(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (!test__start_subtest(tests[i].name) || (tests[i].two_cpus && !two_cpus()))
			continue;
		if (setup())
			tests[i].run();
		teardown();
	}
	for (i = 0; i < ARRAY_SIZE(loads); i++)
		if (test__start_subtest(loads[i].name) && two_cpus())
			loads[i].run();
}
