// SPDX-License-Identifier: GPL-2.0
/*
 * What BPF_MAP_TYPE_RINGBUF promises, each line of the contract a subtest; and what both
 * types of ring allow user space to map.
 */
#include <poll.h>
#include "ringbuf_programs.h"

#define ONE_RECORD 16		/* bytes in the ring, of a record of 8 */

/* --- programs ---------------------------------------------------------------- */

/* A ring of one page. */
static bool setup(void)
{
	return setup_sized(page_size(), 8);
}

static int output(__u64 size, __u64 flags)
{
	skel->bss->size = size;
	skel->bss->commit_flags = flags;
	return run_prog(skel->progs.output);
}

/* A record of eight bytes. */
static int put(void)
{
	return output(8, BPF_RB_NO_WAKEUP);
}

static int reserve(__u64 reserve_flags)
{
	skel->bss->reserve_flags = reserve_flags;
	return run_prog(skel->progs.reserve);
}

static int reserve_dynptr(__u64 size, __u64 reserve_flags)
{
	skel->bss->size = size;
	skel->bss->reserve_flags = reserve_flags;
	return run_prog(skel->progs.reserve_dynptr);
}

/* As many records of eight bytes as fit. */
static int fill_ring(void)
{
	int count = 0;

	while (!put())
		count++;
	return count;
}

/* --- creation ---------------------------------------------------------------- */

static const enum bpf_map_type ring_types[] = { BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_USER_RINGBUF };

static void create_sizes(void)
{
	__u32 page = page_size();
	int i;

	for (i = 0; i < ARRAY_SIZE(ring_types); i++) {
		enum bpf_map_type type = ring_types[i];

		assert_create(type, 0, 0, page, 0, 0, "one page");
		assert_create(type, 0, 0, 16 * page, 0, 0, "16 pages");
		assert_create(type, 4, 0, page, 0, -EINVAL, "key size");
		assert_create(type, 0, 4, page, 0, -EINVAL, "value size");
		assert_create(type, 0, 0, 0, 0, -EINVAL, "no size");
		assert_create(type, 0, 0, page / 2, 0, -EINVAL, "half a page");
		assert_create(type, 0, 0, page + 8, 0, -EINVAL, "no power of two");
		assert_create(type, 0, 0, 3 * page, 0, -EINVAL, "three pages");
		assert_create(type, 0, 0, UINT_MAX, 0, -EINVAL, "largest number");
	}
}

static void create_flags(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(ring_types); i++)
		assert_known_flags(ring_types[i], 0, 0, page_size(),
				   BPF_F_NUMA_NODE | BPF_F_RB_OVERWRITE);
}

static void create_overwrite(void)
{
	assert_create(BPF_MAP_TYPE_RINGBUF, 0, 0, page_size(), BPF_F_RB_OVERWRITE, 0,
		      "kernel ring");
	assert_create(BPF_MAP_TYPE_USER_RINGBUF, 0, 0, page_size(), BPF_F_RB_OVERWRITE, -EINVAL,
		      "user ring");
}

static void create_on_numa_node(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NUMA_NODE, .numa_node = 1023);
	int i;

	for (i = 0; i < ARRAY_SIZE(ring_types); i++) {
		assert_create(ring_types[i], 0, 0, page_size(), BPF_F_NUMA_NODE, 0, "first node");
		ASSERT_EQ(bpf_map_create(ring_types[i], "contract", 0, 0, page_size(), &opts),
			  -EINVAL, "no such node");
	}
}

/* --- system calls ------------------------------------------------------------ */

/* There are none. */
static void elements(void)
{
	__u64 key = 0, value = 0;
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(ring_types); i++) {
		fd = bpf_map_create(ring_types[i], "contract", 0, 0, page_size(), NULL);
		if (!ASSERT_OK_FD(fd, "create"))
			continue;
		ASSERT_EQ(bpf_map_lookup_elem(fd, NULL, &value), -ENOTSUPP, "lookup");
		ASSERT_EQ(bpf_map_update_elem(fd, NULL, &value, 0), -ENOTSUPP, "update");
		ASSERT_EQ(bpf_map_delete_elem(fd, NULL), -ENOTSUPP, "delete");
		ASSERT_EQ(bpf_map_get_next_key(fd, NULL, &value), -ENOTSUPP, "get next key");

		ASSERT_EQ(bpf_map_lookup_elem(fd, &key, &value), -EINVAL, "lookup a key");
		ASSERT_EQ(bpf_map_update_elem(fd, &key, &value, 0), -EINVAL, "update a key");
		ASSERT_EQ(bpf_map_delete_elem(fd, &key), -EINVAL, "delete a key");
		ASSERT_EQ(bpf_map_get_next_key(fd, &key, &value), -EINVAL, "key after a key");
		close(fd);
	}
}

static void fdinfo_is_query(void)
{
	if (!setup())
		goto out;
	fill_ring();
	consume_to(&ring, 5 * ONE_RECORD);
	put();
	ASSERT_EQ(put(), 0, "output");

	ASSERT_EQ(fdinfo_line(ring.fd, "consumer_pos"), query(BPF_RB_CONS_POS), "consumer_pos");
	ASSERT_EQ(fdinfo_line(ring.fd, "producer_pos"), query(BPF_RB_PROD_POS), "producer_pos");
	ASSERT_EQ(fdinfo_line(ring.fd, "overwrite_pos"), query(BPF_RB_OVERWRITE_POS),
		  "overwrite_pos");
	ASSERT_EQ(fdinfo_line(ring.fd, "avail_data"), query(BPF_RB_AVAIL_DATA), "avail_data");
	ASSERT_EQ(fdinfo_line(ring.fd, "lost"), query(BPF_RB_LOST), "lost");
	ASSERT_GT(fdinfo_line(ring.fd, "consumer_pos"), 0, "consumer_pos");
	ASSERT_GT(fdinfo_line(ring.fd, "lost"), 0, "lost");
out:
	teardown();
}

static int inner_of(__u32 size, __u32 flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags);
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "inner", 0, 0, size, &opts);

	ASSERT_OK_FD(fd, "create inner map");
	return fd;
}

static void inner_map(void)
{
	int larger = -1, other_flags = -1, outer;
	unsigned long *positions;
	__u32 key = 0;

	skel = ringbuf_contract__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return;
	bpf_program__set_autoload(skel->progs.inner_output, true);
	if (!ASSERT_OK(ringbuf_contract__load(skel), "load skeleton"))
		goto out;
	outer = bpf_map__fd(skel->maps.outer);
	larger = inner_of(4 * page_size(), 0);
	other_flags = inner_of(page_size(), BPF_F_NUMA_NODE);

	ASSERT_EQ(bpf_map_update_elem(outer, &key, &other_flags, 0), -EINVAL, "other flags");
	ASSERT_OK(bpf_map_update_elem(outer, &key, &larger, 0), "another size");
	ASSERT_OK(run_prog(skel->progs.inner_output), "output to the inner map");
	positions = mmap(NULL, page_size(), PROT_READ, MAP_SHARED, larger, page_size());
	if (ASSERT_NEQ(positions, MAP_FAILED, "map producer_pos")) {
		ASSERT_EQ(*positions, ONE_RECORD, "producer_pos of the inner map");
		munmap(positions, page_size());
	}
out:
	close(larger);
	close(other_flags);
	teardown();
}

/* --- mappings ---------------------------------------------------------------- */

/* Rings of four pages are mapped: consumer_pos, producer_pos, 4 of data, the same 4 again. */
#define DATA_PAGES 4
#define ALL_PAGES (2 + 2 * DATA_PAGES)

static const struct mapping {
	const char *what;
	int offset, pages;	/* in pages */
	int prot, flags;
	int kernel_error, user_error;
} mappings[] = {
	{ "read consumer_pos", 0, 1, PROT_READ, MAP_SHARED },
	{ "write consumer_pos", 0, 1, PROT_READ | PROT_WRITE, MAP_SHARED, 0, EPERM },
	{ "only write consumer_pos", 0, 1, PROT_WRITE, MAP_SHARED, 0, EPERM },
	{ "write consumer_pos and producer_pos", 0, 2, PROT_READ | PROT_WRITE, MAP_SHARED,
	  EPERM, EPERM },
	{ "write all", 0, ALL_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, EPERM, EPERM },
	{ "write producer_pos", 1, 1, PROT_READ | PROT_WRITE, MAP_SHARED, EPERM, 0 },
	{ "only write producer_pos", 1, 1, PROT_WRITE, MAP_SHARED, EPERM, 0 },
	{ "write producer_pos and data", 1, ALL_PAGES - 1, PROT_READ | PROT_WRITE, MAP_SHARED,
	  EPERM, 0 },
	{ "write data", 2, DATA_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, EPERM, 0 },
	{ "write the second data", 2 + DATA_PAGES, DATA_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED,
	  EPERM, 0 },
	{ "write the last page", ALL_PAGES - 1, 1, PROT_READ | PROT_WRITE, MAP_SHARED, EPERM, 0 },
	{ "read all", 0, ALL_PAGES, PROT_READ, MAP_SHARED },
	{ "read producer_pos and data", 1, ALL_PAGES - 1, PROT_READ, MAP_SHARED },
	{ "read the last page", ALL_PAGES - 1, 1, PROT_READ, MAP_SHARED },
	{ "read one page too many", 0, ALL_PAGES + 1, PROT_READ, MAP_SHARED, EINVAL, EINVAL },
	{ "read one page too many from an offset", 1, ALL_PAGES, PROT_READ, MAP_SHARED,
	  EINVAL, EINVAL },
	{ "read beyond", ALL_PAGES, 1, PROT_READ, MAP_SHARED, EINVAL, EINVAL },
	{ "read far beyond", 1 << 20, 1, PROT_READ, MAP_SHARED, EINVAL, EINVAL },
	{ "read privately", 0, 1, PROT_READ, MAP_PRIVATE, EINVAL, EINVAL },
	{ "write consumer_pos privately", 0, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE,
	  EINVAL, EINVAL },
	{ "write data privately", 2, DATA_PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE,
	  EINVAL, EINVAL },
};

static void mmap_type(enum bpf_map_type type)
{
	int fd, i, error, expected;
	void *mem;

	fd = bpf_map_create(type, "contract", 0, 0, DATA_PAGES * page_size(), NULL);
	if (!ASSERT_OK_FD(fd, "create"))
		return;
	for (i = 0; i < ARRAY_SIZE(mappings); i++) {
		const struct mapping *m = &mappings[i];

		mem = mmap(NULL, m->pages * page_size(), m->prot, m->flags, fd,
			   m->offset * page_size());
		error = mem == MAP_FAILED ? errno : 0;
		expected = type == BPF_MAP_TYPE_RINGBUF ? m->kernel_error : m->user_error;
		ASSERT_EQ(error, expected, m->what);
		if (mem != MAP_FAILED)
			munmap(mem, m->pages * page_size());
	}
	close(fd);
}

/* 04ea3086c4d7: what was mapped to be read stays so, and does not grow. */
static void assert_not_widened(int fd, int offset, int pages)
{
	size_t size = pages * page_size();
	void *mem, *moved;

	mem = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, offset * page_size());
	if (!ASSERT_NEQ(mem, MAP_FAILED, "map to read"))
		return;
	ASSERT_ERR(mprotect(mem, size, PROT_READ | PROT_WRITE), "mprotect to write");
	ASSERT_EQ(errno, EACCES, "error of mprotect");
	ASSERT_ERR(mprotect(mem, page_size(), PROT_WRITE), "mprotect one page to write");
	ASSERT_EQ(errno, EACCES, "error of mprotect");
	ASSERT_ERR(mprotect(mem, size, PROT_READ | PROT_EXEC), "mprotect to execute");
	ASSERT_EQ(errno, EACCES, "error of mprotect");
	moved = mremap(mem, size, size + page_size(), MREMAP_MAYMOVE);
	ASSERT_EQ(moved, MAP_FAILED, "mremap to grow");
	/* A second mapping of the same. */
	moved = mremap(mem, 0, size, MREMAP_MAYMOVE);
	if (moved != MAP_FAILED) {
		ASSERT_ERR(mprotect(moved, size, PROT_READ | PROT_WRITE), "mprotect the copy");
		munmap(moved, size);
	}
	munmap(mem, size);
}

static void not_widened(enum bpf_map_type type)
{
	int fd = bpf_map_create(type, "contract", 0, 0, DATA_PAGES * page_size(), NULL);

	if (!ASSERT_OK_FD(fd, "create"))
		return;
	assert_not_widened(fd, 0, 1);
	assert_not_widened(fd, 0, ALL_PAGES);
	assert_not_widened(fd, 1, 1);
	assert_not_widened(fd, 1, ALL_PAGES - 1);
	assert_not_widened(fd, 2, DATA_PAGES);
	close(fd);
}

static void mmap_kernel_ring(void)
{
	mmap_type(BPF_MAP_TYPE_RINGBUF);
}

static void mmap_user_ring(void)
{
	mmap_type(BPF_MAP_TYPE_USER_RINGBUF);
}

static void read_only_stays_kernel_ring(void)
{
	not_widened(BPF_MAP_TYPE_RINGBUF);
}

static void read_only_stays_user_ring(void)
{
	not_widened(BPF_MAP_TYPE_USER_RINGBUF);
}

/* The page of consumer_pos that may be written does not lead to the next one. */
static void writable_page_does_not_grow(void)
{
	void *moved;

	if (!setup())
		goto out;
	moved = mremap(ring.consumer_pos, page_size(), 2 * page_size(), MREMAP_MAYMOVE);
	ASSERT_EQ(moved, MAP_FAILED, "mremap to grow");
out:
	teardown();
}

/* The data is there twice in a row. */
static void data_is_mapped_twice(void)
{
	if (!setup())
		goto out;
	memset(skel->bss->buf, 0x5a, sizeof(skel->bss->buf));
	ASSERT_OK(output(100, 0), "output");
	ASSERT_OK(memcmp(ring.data, ring.data + ring.size, ring.size), "compare the two");
	ASSERT_EQ(*(__u8 *)(ring.data + ring.size + 8), 0x5a, "second mapping");
out:
	teardown();
}

/* --- records ----------------------------------------------------------------- */

static void positions_advance_without_gaps(void)
{
	unsigned long expected = 0;
	__u64 size;

	if (!setup())
		goto out;
	for (size = 0; size < 300; size++) {
		if (!ASSERT_OK(size % 2 ? output(size, 0) : reserve_dynptr(size, 0), "produce"))
			break;
		ASSERT_EQ(len_at(&ring, expected), size, "length");
		expected += record_bytes(size);
		if (!ASSERT_EQ(producer(&ring), expected, "producer_pos"))
			break;
		consume_all(&ring);
	}
out:
	teardown();
}

static void empty_record(void)
{
	if (!setup_sized(page_size(), 0))
		goto out;
	ASSERT_OK(output(0, 0), "output of nothing");
	ASSERT_OK(reserve(0), "reserve nothing");
	ASSERT_EQ(producer(&ring), 16, "producer_pos");
	ASSERT_EQ(len_at(&ring, 0), 0, "length");
	ASSERT_EQ(len_at(&ring, 8), 0, "length");
out:
	teardown();
}

static void payload_arrives(void)
{
	__u32 sizes[] = { 1, 7, 8, 9, 1000, 3000, 4080 };
	unsigned long pos = 0;
	int i, j;

	if (!setup())
		goto out;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < sizes[i]; j++)
			skel->bss->buf[j] = 31 * j + i + (j >> 8);
		ASSERT_OK(output(sizes[i], 0), "output");
		ASSERT_EQ(len_at(&ring, pos), sizes[i], "length");
		ASSERT_OK(memcmp(payload_at(&ring, pos), skel->bss->buf, sizes[i]), "payload");
		pos += record_bytes(sizes[i]);
		consume_to(&ring, pos);
	}
out:
	teardown();
}

/* What the header says while a record is reserved, committed, or discarded. */
static void header_bits(void)
{
	struct holder holder;

	if (!setup())
		goto out;
	holder = holder_of(skel->progs.hold_three);
	skel->bss->discard = true;
	if (!holder_start(&holder))
		goto out;
	ASSERT_EQ(len_at(&ring, 0), 8 | BPF_RINGBUF_BUSY_BIT, "first reserved");
	ASSERT_EQ(len_at(&ring, 16), 8 | BPF_RINGBUF_BUSY_BIT, "second reserved");
	ASSERT_EQ(len_at(&ring, 32), 8 | BPF_RINGBUF_BUSY_BIT, "third reserved");
	ASSERT_EQ(producer(&ring), 48, "producer_pos");
	holder_next(&holder);
	ASSERT_EQ(len_at(&ring, 32), 8, "third submitted");
	holder_next(&holder);
	ASSERT_EQ(len_at(&ring, 16), 8 | BPF_RINGBUF_DISCARD_BIT, "second discarded");
	ASSERT_EQ(len_at(&ring, 0), 8 | BPF_RINGBUF_BUSY_BIT, "first still reserved");
	holder_next(&holder);
	ASSERT_EQ(len_at(&ring, 0), 8, "first submitted");
	ASSERT_OK(holder_end(&holder), "program");
out:
	teardown();
}

static int count_sample(void *ctx, void *data, size_t size)
{
	__u64 *order = ctx;

	*order = *order * 10 + *(__u64 *)data;
	return 0;
}

/* libbpf sees records in the order of their reservation, and stops at a busy one. */
static void reservation_order(void)
{
	struct ring_buffer *consumer = NULL;
	struct holder holder;
	__u64 order = 0;

	if (!setup())
		goto out;
	consumer = ring_buffer__new(ring.fd, count_sample, &order, NULL);
	if (!ASSERT_OK_PTR(consumer, "libbpf's ring buffer"))
		goto out;
	holder = holder_of(skel->progs.hold_three);
	if (!holder_start(&holder))
		goto out;
	ASSERT_EQ(ring_buffer__consume(consumer), 0, "consume with all reserved");
	holder_next(&holder);
	ASSERT_EQ(ring_buffer__consume(consumer), 0, "consume with the third submitted");
	holder_next(&holder);
	ASSERT_EQ(ring_buffer__consume(consumer), 0, "consume with the second submitted");
	holder_next(&holder);
	ASSERT_EQ(ring_buffer__consume(consumer), 3, "consume with all submitted");
	ASSERT_EQ(order, 123, "order");
	ASSERT_OK(holder_end(&holder), "program");
out:
	ring_buffer__free(consumer);
	teardown();
}

static void discarded_is_skipped(void)
{
	struct ring_buffer *consumer = NULL;
	struct holder holder;
	__u64 order = 0;

	if (!setup())
		goto out;
	consumer = ring_buffer__new(ring.fd, count_sample, &order, NULL);
	if (!ASSERT_OK_PTR(consumer, "libbpf's ring buffer"))
		goto out;
	skel->bss->discard = true;
	holder = holder_of(skel->progs.hold_three);
	if (holder_start(&holder))
		ASSERT_OK(holder_end(&holder), "program");
	ASSERT_EQ(ring_buffer__consume(consumer), 2, "consume");
	ASSERT_EQ(order, 13, "order");
	ASSERT_EQ(*ring.consumer_pos, 48, "consumer_pos");
out:
	ring_buffer__free(consumer);
	teardown();
}

static void sleepable_program(void)
{
	__u64 source = 0x1234567887654321ULL;

	if (!setup())
		goto out;
	skel->bss->user_ptr = &source;
	ASSERT_OK(run_prog(skel->progs.sleep_with_record), "copy from user into a record");
	ASSERT_EQ(*(__u64 *)payload_at(&ring, 0), source, "payload");
out:
	teardown();
}

/* --- room -------------------------------------------------------------------- */

/* One byte less than the size can be used, in steps of eight. */
static void capacity(void)
{
	int count;

	if (!setup())
		goto out;
	for (count = 0; !output(0, 0); count++)
		;
	ASSERT_EQ(count, ring.size / 8 - 1, "empty records that fit");
	ASSERT_EQ(producer(&ring), ring.size - 8, "producer_pos");
	ASSERT_EQ(output(0, 0), -EAGAIN, "output without room");
	ASSERT_EQ(producer(&ring), ring.size - 8, "producer_pos after a refusal");
out:
	teardown();
}

static void largest_record(void)
{
	if (!setup())
		goto out;
	ASSERT_EQ(output(ring.size - 8, 0), -EAGAIN, "record as large as the ring");
	ASSERT_EQ(output(ring.size - 15, 0), -EAGAIN, "a byte too much");
	ASSERT_OK(output(ring.size - 16, 0), "largest record");
	ASSERT_EQ(producer(&ring), ring.size - 8, "producer_pos");
	consume_all(&ring);
	ASSERT_OK(output(ring.size - 16, 0), "largest record, across the end");
	ASSERT_EQ(producer(&ring), 2 * (ring.size - 8), "producer_pos");
out:
	teardown();
}

/* Room is freed by bytes, not by records. */
static void room_by_bytes(void)
{
	if (!setup())
		goto out;
	ASSERT_OK(output(ring.size - 16, 0), "fill");
	ASSERT_EQ(output(0, 0), -EAGAIN, "output without room");
	consume_to(&ring, 8);
	ASSERT_OK(output(0, 0), "output into eight bytes");
	ASSERT_EQ(output(0, 0), -EAGAIN, "output without room");
	consume_to(&ring, 40);
	ASSERT_EQ(output(32, 0), -EAGAIN, "output of more than what was freed");
	ASSERT_OK(output(24, 0), "output of what was freed");
	ASSERT_EQ(output(0, 0), -EAGAIN, "output without room");
out:
	teardown();
}

/* What user space has consumed before it was committed is not free. */
static void busy_record_keeps_room(void)
{
	struct holder holder;

	if (!setup())
		goto out;
	holder = holder_of(skel->progs.hold_one);
	if (!holder_start(&holder))
		goto out;
	ASSERT_EQ(fill_ring(), ring.size / ONE_RECORD - 2, "records behind the busy one");
	consume_all(&ring);
	ASSERT_EQ(put(), -EAGAIN, "output with the oldest record busy");
	ASSERT_EQ(producer(&ring), ring.size - 16, "producer_pos");
	holder_next(&holder);
	ASSERT_OK(put(), "output with all records committed");
	ASSERT_OK(holder_end(&holder), "program");
out:
	teardown();
}

static void ring_of_64_mib(void)
{
	const __u32 size = 64 << 20;
	__u64 i;

	if (!setup_sized(size, size - 16))
		goto out;
	ASSERT_OK(reserve(0), "record as large as the ring allows");
	ASSERT_EQ(producer(&ring), size - 8, "producer_pos");
	ASSERT_EQ(len_at(&ring, 0), size - 16, "length");
	ASSERT_EQ(reserve(0), -ENOSPC, "another one");
	consume_all(&ring);
	for (i = 0; i < 64; i++) {
		memset(skel->bss->buf, i, 65536);
		ASSERT_OK(output(65536, 0), "output");
	}
	for (i = 0; i < 64; i++)
		ASSERT_OK(memcmp(payload_at(&ring, size - 8 + i * 65544),
				 memset(skel->bss->buf, i, 65536), 65536), "payload");
out:
	teardown();
}

/* Records of 32 MiB, of which nothing is ever written, move the positions beyond 4 GiB. */
static void positions_beyond_4_gib(void)
{
	const unsigned long step = (32UL << 20) + 8, limit = 1UL << 32;
	unsigned long pos = 0, start;
	int i;

	if (!setup_sized(64 << 20, 32 << 20))
		goto out;
	skel->bss->discard = true;
	while (pos + step < limit) {
		if (!ASSERT_OK(reserve(0), "reserve"))
			goto out;
		pos += step;
		if (!ASSERT_EQ(producer(&ring), pos, "producer_pos"))
			goto out;
		consume_to(&ring, pos);
	}
	start = pos;
	for (i = 0; i < 3; i++) {
		ASSERT_OK(reserve(0), "reserve");
		consume_all(&ring);
	}
	ASSERT_EQ(producer(&ring), start + 3 * step, "producer_pos");
	ASSERT_GT(producer(&ring), limit, "producer_pos");
	memset(skel->bss->buf, 0x3c, 100);
	ASSERT_OK(output(100, 0), "output");
	ASSERT_EQ(len_at(&ring, start + 3 * step), 100, "length");
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), record_bytes(100), "available data");
out:
	teardown();
}

/* --- errors ------------------------------------------------------------------ */

static void reserve_with_flags(void)
{
	if (!setup())
		goto out;
	ASSERT_EQ(reserve(BPF_RB_NO_WAKEUP), -ENOSPC, "reserve with a flag");
	ASSERT_EQ(reserve(1ULL << 63), -ENOSPC, "reserve with a flag");
	ASSERT_EQ(producer(&ring), 0, "producer_pos");
	ASSERT_OK(reserve(0), "reserve");
out:
	teardown();
}

/* CVE-2021-3489 */
static void reserve_too_large(void)
{
	if (!setup())
		goto out;
	ASSERT_EQ(run_prog(skel->progs.reserve_too_large), 0, "large records granted");
	ASSERT_EQ(producer(&ring), 0, "producer_pos");
	ASSERT_OK(put(), "output");
out:
	teardown();
}

static void output_errors(void)
{
	if (!setup())
		goto out;
	ASSERT_EQ(output(8, 4), -EINVAL, "unknown flag");
	ASSERT_EQ(output(8, 1ULL << 32), -EINVAL, "unknown flag");
	ASSERT_EQ(output(8192, 0), -EAGAIN, "larger than the ring");
	ASSERT_EQ(producer(&ring), 0, "producer_pos");
	fill_ring();
	ASSERT_EQ(output(8, 0), -EAGAIN, "no room");
	ASSERT_EQ(output(8, 4), -EINVAL, "unknown flag without room");
out:
	teardown();
}

static void commit_ignores_unknown_flags(void)
{
	if (!setup())
		goto out;
	skel->bss->commit_flags = ~0ULL & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP);
	ASSERT_OK(reserve(0), "reserve");
	skel->bss->discard = true;
	ASSERT_OK(reserve(0), "reserve");
	ASSERT_EQ(len_at(&ring, 0), 8, "submitted");
	ASSERT_EQ(len_at(&ring, 16), 8 | BPF_RINGBUF_DISCARD_BIT, "discarded");
out:
	teardown();
}

static void dynptr_errors(void)
{
	if (!setup())
		goto out;
	ASSERT_OK(reserve_dynptr(8, 0), "reserve");
	ASSERT_EQ(reserve_dynptr(8, 1), -EINVAL, "flags");
	ASSERT_EQ(reserve_dynptr(ring.size, 0), -EINVAL, "larger than the ring");
	ASSERT_EQ(reserve_dynptr((1 << 24) - 1, 0), -EINVAL, "largest dynptr, no room");
	ASSERT_EQ(reserve_dynptr(1 << 24, 0), -E2BIG, "too large for a dynptr");
	ASSERT_EQ(reserve_dynptr(UINT_MAX, 0), -E2BIG, "too large for a dynptr");
	fill_ring();
	ASSERT_EQ(reserve_dynptr(8, 0), -EINVAL, "no room");
	skel->bss->discard = true;
	ASSERT_EQ(reserve_dynptr(8, 0), -EINVAL, "no room, discarded");
out:
	teardown();
}

static void dynptr_largest(void)
{
	if (!setup_sized(64 << 20, 8))
		goto out;
	ASSERT_OK(reserve_dynptr((1 << 24) - 1, 0), "largest dynptr");
	ASSERT_EQ(len_at(&ring, 0), (1 << 24) - 1, "length");
	ASSERT_EQ(reserve_dynptr(1 << 24, 0), -E2BIG, "too large for a dynptr");
out:
	teardown();
}

static void failed_dynptr_is_null(void)
{
	if (!setup())
		goto out;
	fill_ring();
	skel->bss->size = 8;
	ASSERT_EQ(run_prog(skel->progs.failed_dynptr_is_null), 1, "without room");
	skel->bss->size = 1 << 24;
	ASSERT_EQ(run_prog(skel->progs.failed_dynptr_is_null), 1, "too large");
	skel->bss->size = 8;
	skel->bss->reserve_flags = 1;
	ASSERT_EQ(run_prog(skel->progs.failed_dynptr_is_null), 1, "flags");
out:
	teardown();
}

/* --- queries ----------------------------------------------------------------- */

static void queries(void)
{
	if (!setup())
		goto out;
	ASSERT_OK(put(), "output");
	ASSERT_OK(put(), "output");
	consume_to(&ring, 8);
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), 2 * ONE_RECORD - 8, "available data");
	ASSERT_EQ(query(BPF_RB_RING_SIZE), ring.size, "size");
	ASSERT_EQ(query(BPF_RB_CONS_POS), 8, "consumer_pos");
	ASSERT_EQ(query(BPF_RB_PROD_POS), 2 * ONE_RECORD, "producer_pos");
	ASSERT_EQ(query(BPF_RB_OVERWRITE_POS), 0, "overwrite_pos");
	ASSERT_EQ(query(BPF_RB_LOST), 0, "lost");
out:
	teardown();
}

static void unknown_queries(void)
{
	__u64 unknown[] = { 5, 6, 0xff, 0x101, UINT_MAX, 1ULL << 32, ~0ULL };
	int i;

	if (!setup())
		goto out;
	ASSERT_EQ(put(), 0, "output");
	for (i = 0; i < ARRAY_SIZE(unknown); i++)
		ASSERT_EQ(query(unknown[i]), 0, "unknown query");
out:
	teardown();
}

/* Whatever user space says. */
static void available_data_is_unclamped(void)
{
	if (!setup())
		goto out;
	ASSERT_EQ(put(), 0, "output");
	consume_to(&ring, 1UL << 40);
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), ONE_RECORD - (1UL << 40), "consumer ahead");
	consume_to(&ring, -(1UL << 40));
	ASSERT_EQ(query(BPF_RB_AVAIL_DATA), ONE_RECORD + (1UL << 40), "consumer far behind");
out:
	teardown();
}

/* Each refused reservation, and nothing else. */
static void lost_counts_refusals(void)
{
	__u64 lost = 0;

	if (!setup())
		goto out;
	fill_ring();
	ASSERT_EQ(query(BPF_RB_LOST), ++lost, "output without room");
	ASSERT_EQ(output(0, 0), 0, "output into the last eight bytes");
	ASSERT_EQ(reserve(0), -ENOSPC, "reserve");
	ASSERT_EQ(query(BPF_RB_LOST), ++lost, "reserve without room");
	ASSERT_EQ(reserve_dynptr(8, 0), -EINVAL, "reserve a dynptr");
	ASSERT_EQ(query(BPF_RB_LOST), ++lost, "dynptr without room");
	ASSERT_EQ(output(8192, 0), -EAGAIN, "output");
	ASSERT_EQ(query(BPF_RB_LOST), ++lost, "output larger than the ring");
	ASSERT_EQ(run_prog(skel->progs.reserve_too_large), 0, "reserve");
	lost += 11;
	ASSERT_EQ(query(BPF_RB_LOST), lost, "reserve more than the ring");

	ASSERT_EQ(reserve(1), -ENOSPC, "reserve with flags");
	ASSERT_EQ(output(8, 4), -EINVAL, "output with flags");
	ASSERT_EQ(reserve_dynptr(8, 1), -EINVAL, "dynptr with flags");
	ASSERT_EQ(reserve_dynptr(1 << 24, 0), -E2BIG, "dynptr too large");
	ASSERT_EQ(query(BPF_RB_LOST), lost, "what is not a refused reservation");

	consume_all(&ring);
	ASSERT_OK(put(), "output");
	skel->bss->discard = true;
	ASSERT_OK(reserve(0), "discard");
	ASSERT_EQ(query(BPF_RB_LOST), lost, "what was not refused");
out:
	teardown();
}

/* --- wakeups ----------------------------------------------------------------- */

enum commit { BY_OUTPUT, BY_SUBMIT, BY_DISCARD, BY_DYNPTR, BY_DYNPTR_DISCARD, NR_COMMITS };

static void commit_one(enum commit how, __u64 flags)
{
	skel->bss->discard = how == BY_DISCARD || how == BY_DYNPTR_DISCARD;
	skel->bss->commit_flags = flags;
	if (how == BY_OUTPUT)
		ASSERT_OK(output(8, flags), "output");
	else if (how == BY_DYNPTR || how == BY_DYNPTR_DISCARD)
		ASSERT_OK(reserve_dynptr(8, 0), "reserve a dynptr");
	else
		ASSERT_OK(reserve(0), "reserve");
}

/*
 * An edge-triggered epoll reports each wakeup once. The interrupt that does it comes on the
 * CPU that committed, before the system call is over.
 */
static bool woken(int epoll)
{
	return epoll_events(epoll, 0);
}

static void assert_wakeups(__u64 flags, bool caught_up, bool behind)
{
	enum commit how;
	int epoll;

	if (!setup())
		goto out;
	pin_to(0);
	epoll = epoll_on(ring.fd, EPOLLIN | EPOLLET);
	ASSERT_FALSE(woken(epoll), "woken by an empty ring");
	for (how = 0; how < NR_COMMITS; how++) {
		commit_one(how, flags);
		ASSERT_EQ(woken(epoll), caught_up, "woken when caught up");
		ASSERT_FALSE(woken(epoll), "woken again");
		commit_one(how, flags);
		ASSERT_EQ(woken(epoll), behind, "woken when behind");
		commit_one(how, flags);
		ASSERT_EQ(woken(epoll), behind, "woken when far behind");
		consume_all(&ring);
		ASSERT_FALSE(woken(epoll), "woken by nothing");
	}
	close(epoll);
	unpin();
out:
	teardown();
}

static void wakeup_default(void)
{
	assert_wakeups(0, true, false);
}

static void wakeup_never(void)
{
	assert_wakeups(BPF_RB_NO_WAKEUP, false, false);
}

static void wakeup_forced(void)
{
	assert_wakeups(BPF_RB_FORCE_WAKEUP, true, true);
}

static void wakeup_forced_wins(void)
{
	assert_wakeups(BPF_RB_FORCE_WAKEUP | BPF_RB_NO_WAKEUP, true, true);
}

/* The commit of the record that the consumer waits for wakes it, others do not. */
static void wakeup_out_of_order(void)
{
	struct holder holder;
	int epoll;

	if (!setup())
		goto out;
	holder = holder_of(skel->progs.hold_three);
	epoll = epoll_on(ring.fd, EPOLLIN | EPOLLET);
	if (holder_start(&holder)) {
		/* New in the ring, but nobody has said so. */
		woken(epoll);
		holder_next(&holder);
		ASSERT_EQ(epoll_events(epoll, 100), 0, "woken by the third");
		holder_next(&holder);
		ASSERT_EQ(epoll_events(epoll, 100), 0, "woken by the second");
		holder_next(&holder);
		ASSERT_EQ(epoll_events(epoll, 5000), EPOLLIN, "woken by the first");
		ASSERT_OK(holder_end(&holder), "program");
	}
	close(epoll);
out:
	teardown();
}

static void *wait_long(void *arg)
{
	int *epoll = arg;

	return (void *)(long)epoll_events(*epoll, 10000);
}

/* A thread that sleeps in epoll_wait() is woken by a record, or by a discard. */
static void wakes_a_sleeper(bool discard)
{
	pthread_t thread;
	void *events;
	int epoll;

	if (!setup())
		goto out;
	/* Of a discard, only a level is left to see once the sleeper runs. */
	epoll = epoll_on(ring.fd, EPOLLIN);
	if (ASSERT_OK(pthread_create(&thread, NULL, wait_long, &epoll), "start thread")) {
		commit_one(discard ? BY_DISCARD : BY_SUBMIT, 0);
		pthread_join(thread, &events);
		ASSERT_EQ((long)events, EPOLLIN, "events");
	}
	close(epoll);
out:
	teardown();
}

static void sleeper_woken_by_submit(void)
{
	wakes_a_sleeper(false);
}

static void sleeper_woken_by_discard(void)
{
	wakes_a_sleeper(true);
}

/* As they are now, wakeup or not. */
static int poll_events(void)
{
	struct pollfd poll_fd = {
		.fd = ring.fd,
		.events = POLLIN | POLLRDNORM | POLLOUT | POLLPRI,
	};

	ASSERT_GE(poll(&poll_fd, 1, 0), 0, "poll");
	return poll_fd.revents;
}

static void poll_is_level(void)
{
	int readable = POLLIN | POLLRDNORM;

	if (!setup())
		goto out;
	ASSERT_EQ(poll_events(), 0, "empty ring");
	ASSERT_OK(output(8, BPF_RB_NO_WAKEUP), "output");
	ASSERT_EQ(poll_events(), readable, "a record");
	ASSERT_EQ(poll_events(), readable, "a record, still");
	consume_to(&ring, 8);
	ASSERT_EQ(poll_events(), readable, "half of it consumed");
	consume_all(&ring);
	ASSERT_EQ(poll_events(), 0, "all consumed");
out:
	teardown();
}

/* Else a consumer would sleep for ever behind a busy record that commits with NO_WAKEUP. */
static void poll_counts_busy_records(void)
{
	int readable = POLLIN | POLLRDNORM;
	struct holder holder;

	if (!setup())
		goto out;
	holder = holder_of(skel->progs.hold_one);
	if (holder_start(&holder)) {
		ASSERT_EQ(poll_events(), readable, "only a busy record");
		ASSERT_OK(holder_end(&holder), "program");
	}
out:
	teardown();
}

/* --- a hostile consumer ------------------------------------------------------ */

/* CVE-2024-41009: consumer_pos moved by user space so that two records would overlap. */
static void assert_no_overlap(unsigned long before, unsigned long after)
{
	struct holder holder;

	if (!setup_sized(16384, 8))
		goto out;
	consume_to(&ring, before);
	holder = holder_of(skel->progs.hold_two_large);
	if (!holder_start(&holder))
		goto out;
	consume_to(&ring, after);
	ASSERT_EQ(holder_end(&holder), 0, "both records granted");
out:
	teardown();
}

static void consumer_advanced(void)
{
	assert_no_overlap(0, 0x3000);
	assert_no_overlap(0, 0x3008);
	assert_no_overlap(0, 0x4000);
}

static void consumer_rewound(void)
{
	assert_no_overlap(0, -0x3000UL);
	assert_no_overlap(0, -8UL);
	assert_no_overlap(0, 0x3008 - 0x4000UL);
}

/* Near the truth, far from it, or nonsense. */
static unsigned long hostile_position(unsigned int *seed)
{
	unsigned long pos = producer(&ring);

	switch (rand_r(seed) % 6) {
	case 0:
		return (unsigned long)rand_r(seed) << 33 | rand_r(seed);
	case 1:
		return pos - rand_r(seed) % 8192;
	case 2:
		return pos + rand_r(seed) % 8192;
	case 3:
		return pos - (rand_r(seed) % 512) * 8;
	case 4:
		return rand_r(seed) % 2 ? ~0UL : 1UL << 63;
	default:
		return pos;
	}
}

struct canaries {
	pthread_t thread;
	int cpu, err;
	bool stop;
};

static void *run_canaries(void *arg)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct canaries *me = arg;

	pin_to(me->cpu);
	while (!me->err && !__atomic_load_n(&me->stop, __ATOMIC_RELAXED)) {
		/* Nonsense leaves no room; without this there would hardly be any. */
		consume_all(&ring);
		me->err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.hold_canaries), &opts);
	}
	return NULL;
}

/* User space writes anything to consumer_pos while two CPUs hold records. */
static bool attack(void)
{
	struct canaries canaries[2] = { { .cpu = 0 }, { .cpu = 1 } };
	unsigned int seed = 1;
	__u64 end;
	int i;

	skel = ringbuf_contract__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	bpf_program__set_autoload(skel->progs.hold_canaries, true);
	if (!setup())
		return false;
	for (i = 0; i < ARRAY_SIZE(canaries); i++)
		pthread_create(&canaries[i].thread, NULL, run_canaries, &canaries[i]);
	end = get_time_ns() + 1000000000ULL;
	while (get_time_ns() < end && !READ_ONCE(skel->bss->overlaps))
		consume_to(&ring, hostile_position(&seed));
	for (i = 0; i < ARRAY_SIZE(canaries); i++) {
		__atomic_store_n(&canaries[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(canaries[i].thread, NULL);
		ASSERT_OK(canaries[i].err, "test run");
	}
	printf("%llu records granted, %llu refused\n", skel->bss->granted, skel->bss->refused);
	return ASSERT_GT(skel->bss->granted, 1000, "records that were granted");
}

static void attack_leaves_records_alone(void)
{
	if (attack())
		ASSERT_EQ(skel->bss->overlaps, 0, "records that changed while they were reserved");
	teardown();
}

static void attack_leaves_the_ring_sound(void)
{
	unsigned long start;

	if (!attack())
		goto out;
	consume_all(&ring);
	start = producer(&ring);
	ASSERT_EQ(fill_ring(), (ring.size - 8) / ONE_RECORD, "records that fit");
	while (start != producer(&ring) && ASSERT_EQ(len_at(&ring, start), 8, "length"))
		start += ONE_RECORD;
out:
	teardown();
}

static void attack_leaves_losses_counted(void)
{
	if (attack())
		ASSERT_EQ(query(BPF_RB_LOST), skel->bss->refused, "lost");
	teardown();
}

/* --- the verifier ------------------------------------------------------------ */

static const struct rejected {
	const char *prog;
	const char *why;
} rejected[] = {
	/* CVE-2021-34866 */
	{ "output_to_array", "cannot pass map_type 2 into func bpf_ringbuf_output" },
	{ "output_to_user_ring", "cannot pass map_type 31 into func bpf_ringbuf_output" },
	{ "reserve_in_array", "cannot pass map_type 2 into func bpf_ringbuf_reserve" },
	{ "dynptr_in_array", "cannot pass map_type 2 into func bpf_ringbuf_reserve_dynptr" },
	{ "query_array", "cannot pass map_type 2 into func bpf_ringbuf_query" },
	{ "drain_kernel_ring", "cannot pass map_type 27 into func bpf_user_ringbuf_drain" },
	{ "lookup_in_ring", "invalid zero-sized read" },
	/* CVE-2021-4204, CVE-2022-23222 */
	{ "submit_moved", "must have zero offset when passed to release func" },
	{ "discard_moved", "must have zero offset when passed to release func" },
	{ "submit_moved_by_variable", "variable ringbuf_mem access" },
	{ "move_unchecked", "pointer arithmetic on ringbuf_mem_or_null prohibited" },
	{ "write_unchecked", "invalid mem access 'ringbuf_mem_or_null'" },
	{ "write_beyond", "invalid access to memory, mem_size=64 off=64 size=8" },
	{ "write_header", "invalid access to memory, mem_size=64 off=-8 size=8" },
	{ "write_after_submit", "invalid mem access 'scalar'" },
	{ "never_commit", "Unreleased reference" },
	{ "reserve_variable", "is not a known constant" },
};

static void assert_rejected(const struct rejected *test)
{
	struct ringbuf_contract *obj = ringbuf_contract__open();
	struct bpf_program *prog;
	char *log;

	if (!ASSERT_OK_PTR(obj, "open skeleton"))
		return;
	bpf_object__for_each_program(prog, obj->obj)
		bpf_program__set_autoload(prog, !strcmp(bpf_program__name(prog), test->prog));
	if (ASSERT_OK(start_libbpf_log_capture(), "capture log")) {
		ASSERT_ERR(ringbuf_contract__load(obj), test->prog);
		log = stop_libbpf_log_capture();
		ASSERT_HAS_SUBSTR(log, test->why, "verifier's reason");
		free(log);
	}
	ringbuf_contract__destroy(obj);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool two_cpus;
} tests[] = {
	{ "create_sizes", create_sizes },
	{ "create_flags", create_flags },
	{ "create_overwrite", create_overwrite },
	{ "create_on_numa_node", create_on_numa_node },
	{ "elements", elements },
	{ "fdinfo_is_query", fdinfo_is_query },
	{ "inner_map", inner_map },
	{ "mmap_kernel_ring", mmap_kernel_ring },
	{ "mmap_user_ring", mmap_user_ring },
	{ "read_only_stays_kernel_ring", read_only_stays_kernel_ring },
	{ "read_only_stays_user_ring", read_only_stays_user_ring },
	{ "writable_page_does_not_grow", writable_page_does_not_grow },
	{ "data_is_mapped_twice", data_is_mapped_twice },
	{ "positions_advance_without_gaps", positions_advance_without_gaps },
	{ "empty_record", empty_record },
	{ "payload_arrives", payload_arrives },
	{ "header_bits", header_bits, true },
	{ "reservation_order", reservation_order, true },
	{ "discarded_is_skipped", discarded_is_skipped, true },
	{ "sleepable_program", sleepable_program },
	{ "capacity", capacity },
	{ "largest_record", largest_record },
	{ "room_by_bytes", room_by_bytes },
	{ "busy_record_keeps_room", busy_record_keeps_room, true },
	{ "ring_of_64_mib", ring_of_64_mib },
	{ "positions_beyond_4_gib", positions_beyond_4_gib },
	{ "reserve_with_flags", reserve_with_flags },
	{ "reserve_too_large", reserve_too_large },
	{ "output_errors", output_errors },
	{ "commit_ignores_unknown_flags", commit_ignores_unknown_flags },
	{ "dynptr_errors", dynptr_errors },
	{ "dynptr_largest", dynptr_largest },
	{ "failed_dynptr_is_null", failed_dynptr_is_null },
	{ "queries", queries },
	{ "unknown_queries", unknown_queries },
	{ "available_data_is_unclamped", available_data_is_unclamped },
	{ "lost_counts_refusals", lost_counts_refusals },
	{ "wakeup_default", wakeup_default },
	{ "wakeup_never", wakeup_never },
	{ "wakeup_forced", wakeup_forced },
	{ "wakeup_forced_wins", wakeup_forced_wins },
	{ "wakeup_out_of_order", wakeup_out_of_order, true },
	{ "sleeper_woken_by_submit", sleeper_woken_by_submit },
	{ "sleeper_woken_by_discard", sleeper_woken_by_discard },
	{ "poll_is_level", poll_is_level },
	{ "poll_counts_busy_records", poll_counts_busy_records, true },
	{ "consumer_advanced", consumer_advanced, true },
	{ "consumer_rewound", consumer_rewound, true },
	{ "attack_leaves_records_alone", attack_leaves_records_alone, true },
	{ "attack_leaves_the_ring_sound", attack_leaves_the_ring_sound, true },
	{ "attack_leaves_losses_counted", attack_leaves_losses_counted, true },
};

void serial_test_ringbuf_contract(void)
{
	char name[64];
	int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++)
		if (test__start_subtest(tests[i].name) && (!tests[i].two_cpus || two_cpus()))
			tests[i].run();
	for (i = 0; i < ARRAY_SIZE(rejected); i++) {
		snprintf(name, sizeof(name), "rejected_%s", rejected[i].prog);
		if (test__start_subtest(name))
			assert_rejected(&rejected[i]);
	}
}
