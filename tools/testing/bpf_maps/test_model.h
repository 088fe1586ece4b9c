/* SPDX-License-Identifier: GPL-2.0-only */
/* One thread: the rules of the map, and each operation against a model. */
#ifndef TEST_MODEL_H
#define TEST_MODEL_H

struct model_rec {
	unsigned long pos;
	u32 size;
	bool busy, discard;
	void *sample;
};

struct model {
	struct ring ring;
	bool overwrite;
	unsigned long cons, prod, over, lost, wakeups;
	/* Those that hold space, oldest first. */
	struct model_rec recs[MAX_RING / 8];
	unsigned long first, last;
	u64 rng;
};

static struct model model;

#define rec_at(m, i)	(&(m)->recs[(i) % ARRAY_SIZE((m)->recs)])

static bool model_may_reserve(struct model *m, u64 size)
{
	unsigned long tail, over = m->over, i;

	if (size > UINT_MAX / 4 || total(size) > m->ring.mask)
		return false;
	if (!m->overwrite) {
		while (m->first != m->last && !rec_at(m, m->first)->busy)
			m->first++;
		tail = m->first == m->last ? m->prod : rec_at(m, m->first)->pos;
		if (m->prod - m->cons > m->prod - tail)
			tail = m->cons;
		return m->prod + total(size) - tail <= m->ring.mask;
	}
	for (i = m->first; m->prod + total(size) - over > m->ring.mask; i++) {
		if (rec_at(m, i)->busy)
			return false;
		over += total(rec_at(m, i)->size);
	}
	for (; m->first != i; m->first++) {
		struct model_rec *rec = rec_at(m, m->first);

		m->lost += !rec->discard && (long)(m->cons - rec->pos) <= 0;
	}
	m->over = over;
	return true;
}

static void model_check(struct model *m)
{
	unsigned long avail = m->prod - m->cons;
	struct ring *ring = &m->ring;

	if (m->overwrite)
		avail = min(avail, m->prod - m->over);
	check(*ring->prod == m->prod, "%lx, not %lx", *ring->prod, m->prod);
	check(query(ring, BPF_RB_PROD_POS) == m->prod, "%lx", m->prod);
	check(query(ring, BPF_RB_CONS_POS) == m->cons, "%lx", m->cons);
	check(query(ring, BPF_RB_RING_SIZE) == ring->size, "%lx", ring->size);
	check(query(ring, BPF_RB_AVAIL_DATA) == avail, "%lx", avail);
	if (NEW) {
		check(query(ring, BPF_RB_LOST) == m->lost, "%lu, not %lu",
		      (unsigned long)query(ring, BPF_RB_LOST), m->lost);
		check(!m->overwrite || *ring->over == m->over, "%lx, not %lx", *ring->over,
		      m->over);
		check(!m->overwrite || query(ring, BPF_RB_OVERWRITE_POS) == m->over, "%lx",
		      m->over);
	}
	check(wakeups(ring) == m->wakeups, "%lu, not %lu", wakeups(ring), m->wakeups);
	ring_check(ring);
}

static void model_committed(struct model *m, struct model_rec *rec, bool discard, u64 flags)
{
	u32 len = rec->size | (discard ? DISCARD : 0);

	rec->busy = false;
	rec->discard = discard;
	check(hdr_at(&m->ring, rec->pos)[0] == len, "%x", hdr_at(&m->ring, rec->pos)[0]);
	if (flags & BPF_RB_FORCE_WAKEUP)
		m->wakeups++;
	else if (!(flags & BPF_RB_NO_WAKEUP))
		m->wakeups += !((m->cons ^ rec->pos) & m->ring.mask);
}

static u64 some_flags(u64 *rng)
{
	switch (rnd(rng, 8)) {
	case 0:
		return BPF_RB_FORCE_WAKEUP;
	case 1:
		return BPF_RB_NO_WAKEUP;
	case 2:
		return BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP;
	default:
		return 0;
	}
}

static void model_reserve(struct model *m)
{
	u64 size = rnd(&m->rng, 40) ? some_size(&m->rng, m->ring.mask) :
				      UINT_MAX / 4 - 10 + rnd(&m->rng, 20);
	bool may = model_may_reserve(m, size), output = size < 256 && rnd(&m->rng, 4) == 0;
	u64 flags = some_flags(&m->rng);
	struct ring *ring = &m->ring;
	struct model_rec *rec;
	char copy[256];
	void *sample;
	long err = 0;

	if (output) {
		memset(copy, size, size);
		err = bpf_ringbuf_output(ring->map, copy, size, flags);
		check(err == (may ? 0 : -EAGAIN), "%ld, size %lu", err, (unsigned long)size);
		sample = err ? NULL : ring->rb->data + (m->prod & ring->mask) + HDR;
	} else {
		sample = reserve(ring, size);
		check(!!sample == may, "size %lu prod %lx cons %lx over %lx",
		      (unsigned long)size, m->prod, m->cons, m->over);
	}
	if (!sample || !may) {
		m->lost += !sample;
		return;
	}
	rec = rec_at(m, m->last++);
	*rec = (struct model_rec) {
		.pos = m->prod, .size = size, .busy = true, .sample = sample,
	};
	m->prod += total(size);
	check(sample == ring->rb->data + (rec->pos & ring->mask) + HDR, "%p", sample);
	check(hdr_at(ring, rec->pos)[1] == page_of(ring, rec->pos), "%u",
	      hdr_at(ring, rec->pos)[1]);
	if (output) {
		check(!memcmp(hdr_at(ring, rec->pos) + 2, copy, size), "output");
		model_committed(m, rec, false, flags);
	} else {
		check(hdr_at(ring, rec->pos)[0] == (size | BUSY), "%x",
		      hdr_at(ring, rec->pos)[0]);
		memset(sample, rec->pos >> 3, size);
	}
}

/* One of the oldest, if it is not committed yet. */
static void model_commit(struct model *m, unsigned long i)
{
	struct model_rec *rec = rec_at(m, i);
	bool discard = rnd(&m->rng, 4) == 0;
	u64 flags = some_flags(&m->rng);
	u32 byte;

	if (!rec->busy)
		return;
	for (byte = 0; byte < rec->size; byte++) {
		if (!check(((u8 *)rec->sample)[byte] == (u8)(rec->pos >> 3), "byte %u", byte))
			break;
	}
	if (discard)
		bpf_ringbuf_discard(rec->sample, flags);
	else
		bpf_ringbuf_submit(rec->sample, flags);
	model_committed(m, rec, discard, flags);
}

static void model_consume(struct model *m)
{
	unsigned long used = m->prod - m->cons;

	switch (rnd(&m->rng, 4)) {
	case 0:
		m->cons = m->prod;
		break;
	case 1:
		/* Maybe into a record. */
		m->cons += used ? rnd(&m->rng, used / 8 + 1) * 8 : 0;
		break;
	default:
		if (m->first != m->last && (long)(rec_at(m, m->first)->pos - m->cons) > 0)
			m->cons = rec_at(m, m->first)->pos;
	}
	smp_store_release(m->ring.cons, m->cons);
}

static void model_run(u32 size, u32 flags, unsigned long start, int steps)
{
	struct model *m = &model;

	memset(m, 0, offsetof(struct model, recs));
	m->first = m->last = 0;
	m->rng = mix(seed + size + start);
	m->overwrite = flags;
	if (!ring_new(&m->ring, BPF_MAP_TYPE_RINGBUF, size, flags))
		return;
	ring_start_at(&m->ring, start);
	m->cons = m->prod = m->over = start;
	while (steps-- && !failures) {
		switch (rnd(&m->rng, 8)) {
		case 0 ... 3:
			model_reserve(m);
			break;
		case 4 ... 6:
			if (m->first != m->last)
				model_commit(m, m->first +
					     rnd(&m->rng, min(m->last - m->first, 12UL)));
			break;
		default:
			model_consume(m);
		}
		model_check(m);
	}
	ring_free(&m->ring);
}

static void test_model(const char *name, u32 flags)
{
	const u32 sizes[] = { PAGE_SIZE, 16 * PAGE_SIZE, 64 * PAGE_SIZE };
	const unsigned long starts[] = { 0, (1UL << 31) * 2 - 4096, -8UL, -5000UL & ~7UL };
	int i, j, steps = 8000 * time_scale;

	if (!begin(name))
		return;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < ARRAY_SIZE(starts); j++)
			model_run(sizes[i], flags, starts[j], max(steps, 500));
	}
	end();
}

/* Contract of the map itself */

static void test_create(void)
{
	const u32 type = BPF_MAP_TYPE_RINGBUF, user = BPF_MAP_TYPE_USER_RINGBUF;
	union bpf_attr attr = { .max_entries = PAGE_SIZE, .key_size = 4 };
	unsigned long size = 4 * PAGE_SIZE;
	struct bpf_map *map;
	int err;

	if (!begin("create and mmap: what is refused"))
		return;
	check(map_new(type, 0, 0) == ERR_PTR(-EINVAL), "no size");
	check(map_new(type, PAGE_SIZE / 2, 0) == ERR_PTR(-EINVAL), "half a page");
	check(map_new(type, 3 * PAGE_SIZE, 0) == ERR_PTR(-EINVAL), "no power of 2");
	check(map_new(type, PAGE_SIZE, 1) == ERR_PTR(-EINVAL), "flag");
	check(map_new(user, PAGE_SIZE, BPF_F_RB_OVERWRITE) == ERR_PTR(-EINVAL), "overwrite");
	check(ringbuf_map_ops.map_alloc(&attr) == ERR_PTR(-EINVAL), "key");

	map = map_new(type, size, 0);
	map_range(map, 0, PAGE_SIZE, VM_READ | VM_WRITE, &err);
	check(!err, "consumer page: %d", err);
	map_range(map, 0, 2 * PAGE_SIZE + 2 * size, VM_READ, &err);
	check(!err, "all: %d", err);
	map_range(map, 0, 3 * PAGE_SIZE + 2 * size, VM_READ, &err);
	check(err == -EINVAL, "too much: %d", err);
	map_range(map, 1, PAGE_SIZE, VM_READ | VM_WRITE, &err);
	check(err == -EPERM, "producer page: %d", err);
	map_range(map, 0, 2 * PAGE_SIZE, VM_READ | VM_WRITE, &err);
	check(err == -EPERM, "both pages: %d", err);
	map->ops->map_free(map);

	map = map_new(user, size, 0);
	map_range(map, 0, PAGE_SIZE, VM_READ | VM_WRITE, &err);
	check(err == -EPERM, "consumer page of a user ring: %d", err);
	map_range(map, 1, PAGE_SIZE + 2 * size, VM_READ | VM_WRITE, &err);
	check(!err, "the rest of it: %d", err);
	map_range(map, 1, 2 * PAGE_SIZE + 2 * size, VM_READ | VM_WRITE, &err);
	check(err == -EINVAL, "too much of it: %d", err);
	map->ops->map_free(map);
	check(!shim_pages_live, "%ld pages left", shim_pages_live);
	end();
}

static void test_nonsense(void)
{
	unsigned long values[] = { 8, -8UL, 4096, -4096UL, 1UL << 31, 1UL << (BITS_PER_LONG - 1) };
	void *sample;
	struct ring ring;
	int i;

	if (!begin("nonsense in consumer_pos makes no room"))
		return;
	if (!ring_new(&ring, BPF_MAP_TYPE_RINGBUF, PAGE_SIZE, 0))
		goto out;
	ring_start_at(&ring, 1 << 20);
	sample = reserve(&ring, ring.size - 2 * HDR);
	if (check(sample, "whole ring but 8"))
		bpf_ringbuf_submit(sample, 0);
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		/* After what there is, or before it. */
		smp_store_release(ring.cons, (i % 2 ? 1 << 20 : *ring.prod) + values[i]);
		check(!reserve(&ring, 8), "%lx", *ring.cons);
	}
	smp_store_release(ring.cons, *ring.prod);
	check((sample = reserve(&ring, 8)), "after it makes sense again");
	if (sample)
		bpf_ringbuf_submit(sample, 0);
	ring_check(&ring);
	ring_free(&ring);
out:
	end();
}

#ifndef STOCK
/* Produce and consume @bytes on @cpu; how many of the records had stamps behind them. */
static unsigned int records_with_window(struct ring *ring, int cpu, u32 size, unsigned int bytes)
{
	unsigned int count = 0, i;
	void *sample;

	shim_cpu = cpu;
	for (i = 0; i < bytes / total(size); i++) {
		sample = reserve(ring, size);
		if (!check(sample, "record %u of %u bytes", i, size))
			break;
		bpf_ringbuf_submit(sample, 0);
		smp_store_release(ring->cons, *ring->prod);
		count += (long)(ring->rb->stamped - *ring->prod) > 0;
		ring_check(ring);
	}
	shim_cpu = 0;
	return count;
}
#endif

/* Stamps are where they help: tiny records, and small ones if several CPUs reserve. */
static void test_windows(void)
{
#ifndef STOCK
	const unsigned int while_shared = (RINGBUF_SHARED + 1) * (RINGBUF_WINDOW + 4096);
	unsigned long flags;
	unsigned int count;
	struct ring ring;

	if (!begin("windows: where CPUs share the ring"))
		return;
	if (!ring_new(&ring, BPF_MAP_TYPE_RINGBUF, 64 * 1024, 0))
		goto out;
	records_with_window(&ring, 0, 80, while_shared);
	count = records_with_window(&ring, 0, 80, 1 << 20);
	check(!count, "%u, one CPU", count);
	count = records_with_window(&ring, 0, 8, 8192);
	check(count > 400, "%u, tiny records", count);
	records_with_window(&ring, 0, 4096, 65536);

	count = records_with_window(&ring, 1, 80, 8192);
	check(count > 80, "%u, another CPU", count);
	count = records_with_window(&ring, 1, 2048, 8192);
	check(count, "%u, larger records", count);
	records_with_window(&ring, 1, 4096, 65536);
	count = records_with_window(&ring, 1, 4096, 65536);
	check(!count, "%u, large records", count);

	records_with_window(&ring, 1, 80, while_shared);
	count = records_with_window(&ring, 1, 80, 1 << 20);
	check(!count, "%u, one CPU again", count);
	if (check(bpf_reslock_acquire(&ring.rb->owner, &flags), "lock")) {
		check(!reserve(&ring, 56), "inside of the slow path");
		bpf_reslock_release(&ring.rb->owner, flags);
	}
	count = records_with_window(&ring, 1, 80, 8192);
	check(count > 80, "%u, after a refusal", count);
	ring_free(&ring);
out:
	end();
#endif
}

/* CVE-2025-40319: the ring goes with its last reference, whoever is still to be woken. */
static void test_free_with_wakeup(void)
{
	struct ring ring;

	if (!begin("free while a wakeup is under way"))
		return;
	if (ring_new(&ring, BPF_MAP_TYPE_RINGBUF, PAGE_SIZE, 0)) {
		bpf_ringbuf_submit(reserve(&ring, 8), BPF_RB_FORCE_WAKEUP);
		check(shim_irq_works == 1, "%d wakeups under way", shim_irq_works);
		ring_free(&ring);
		check(!shim_irq_works, "%d wakeups after the end", shim_irq_works);
	}
	end();
}

static void test_helpers(void)
{
	struct bpf_dynptr_kern ptr;
	poll_table table = {};
	struct ring ring;
	void *sample;
	char data[8];
	long ret;

	if (!begin("helpers: flags, sizes, dynptr, poll"))
		return;
	if (!ring_new(&ring, BPF_MAP_TYPE_RINGBUF, PAGE_SIZE, 0))
		goto out;
	check(!bpf_ringbuf_reserve(ring.map, 8, 1), "flags");
	ret = bpf_ringbuf_output(ring.map, data, 8, 4);
	check(ret == -EINVAL, "%ld", ret);
	ret = bpf_ringbuf_output(ring.map, data, 1UL << 40, 0);
	check(ret == -EAGAIN, "%ld", ret);
	check(!bpf_ringbuf_query(ring.map, 77), "unknown");

	ret = bpf_ringbuf_reserve_dynptr(ring.map, 8, 1, &ptr);
	check(ret == -EINVAL && !ptr.data, "flags: %ld", ret);
	ret = bpf_ringbuf_reserve_dynptr(ring.map, 1 << 24, 0, &ptr);
	check(ret == -E2BIG && !ptr.data, "%ld", ret);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	ret = bpf_ringbuf_reserve_dynptr(ring.map, 2 * PAGE_SIZE, 0, &ptr);
	check(ret == -EINVAL && !ptr.data, "no room: %ld", ret);
	bpf_ringbuf_discard_dynptr(&ptr, 0);
	/* One by bpf_ringbuf_output() above, and one here. */
	check(!NEW || query(&ring, BPF_RB_LOST) == 2, "lost");

	check(!ring.map->ops->map_poll(ring.map, NULL, &table), "empty");
	ret = bpf_ringbuf_reserve_dynptr(ring.map, 100, 0, &ptr);
	check(!ret && __bpf_dynptr_size(&ptr) == 100, "%ld", ret);
	check(ring.map->ops->map_poll(ring.map, NULL, &table) == (EPOLLIN | EPOLLRDNORM), "busy");
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	check(!ptr.data && *hdr_at(&ring, 0) == 100, "%x", *hdr_at(&ring, 0));
	ret = bpf_ringbuf_reserve_dynptr(ring.map, 0, 0, &ptr);
	bpf_ringbuf_discard_dynptr(&ptr, 0);
	check(!ret && *hdr_at(&ring, 112) == DISCARD, "%x", *hdr_at(&ring, 112));
	check(wakeups(&ring) == 1, "%lu", wakeups(&ring));

	/* All but a slot may be used, and that all at once. */
	smp_store_release(ring.cons, *ring.prod);
	check(!reserve(&ring, ring.size - HDR), "whole ring");
	sample = reserve(&ring, ring.size - 2 * HDR);
	if (check(sample, "whole ring but 8"))
		bpf_ringbuf_discard(sample, 0);
	ring_check(&ring);
	if (ring.map->ops->map_show_fdinfo) {
		char text[300] = "", want[100];
		struct seq_file m = { fmemopen(text, sizeof(text), "w") };

		ring.map->ops->map_show_fdinfo(ring.map, &m);
		fclose(m.file);
		snprintf(want, sizeof(want), "consumer_pos:\t%lu\nproducer_pos:\t%lu\n", *ring.cons,
			 *ring.prod);
		check(strstr(text, want) && strstr(text, "\nlost:\t3\n"), "%s", text);
	}
	ring_free(&ring);
out:
	end();
}

#endif
