/* SPDX-License-Identifier: GPL-2.0-only */
/* User ring. */
#ifndef TEST_USER_H
#define TEST_USER_H

static struct user {
	struct ring ring;
	unsigned long calls, bytes, stop_at;
	bool nested, contents, stop;
	u64 next, made;
} user;

static u64 user_callback(u64 dynptr, u64 ctx, u64 a, u64 b, u64 c)
{
	struct bpf_dynptr_kern *ptr = (void *)(uintptr_t)dynptr;
	u32 size = __bpf_dynptr_size(ptr);
	char *data = ptr->data + ptr->offset, *start = user.ring.rb->data;
	u64 word;
	long ret;

	check(data >= start && data + size <= start + 2 * user.ring.size,
	      "%td bytes in, %u bytes", data - start, size);
	check(size <= user.ring.size - HDR, "%u", size);
	user.calls++;
	user.bytes += size;
	if (user.nested) {
		ret = bpf_user_ringbuf_drain(user.ring.map, user_callback, NULL, 0);
		check(ret == -EBUSY, "%ld", ret);
	}
	if (user.contents) {
		memcpy(&word, data, 8);
		check(word == user.next && size == 8 + word % 100, "%lx, not %lx, %u bytes",
		      (unsigned long)word, (unsigned long)user.next, size);
		user.next++;
	}
	return user.calls == user.stop_at;
}

static long drain(u64 flags)
{
	user.calls = user.bytes = 0;
	return bpf_user_ringbuf_drain(user.ring.map, user_callback, NULL, flags);
}

/* A sample of that header at producer_pos. */
static void user_put(u32 word)
{
	unsigned long prod = *user.ring.prod;

	WRITE_ONCE(*hdr_at(&user.ring, prod), word);
	smp_store_release(user.ring.prod, prod + total(word));
}

static void user_reset(unsigned long pos)
{
	ring_start_at(&user.ring, pos);
}

static void user_rules(unsigned long start)
{
	struct ring *ring = &user.ring;
	unsigned long count, woken;
	poll_table table = {};
	long ret;

	user_reset(start);
	check(drain(0) == 0 && !user.calls, "empty");
	check(drain(4) == -EINVAL, "flags");
	check(ring->map->ops->map_poll(ring->map, NULL, &table) == (EPOLLOUT | EPOLLWRNORM),
	      "poll, empty");

	user_put(0);
	user_put(8);
	user_put(3 | DISCARD);
	user_put(9 | DISCARD | BUSY);
	user_put(100);
	user_put(50 | BUSY);
	user_put(60);
	user.nested = true;
	woken = wakeups(ring);
	ret = drain(BPF_RB_NO_WAKEUP);
	check(ret == 3 && user.calls == 3 && user.bytes == 108, "%ld", ret);
	user.nested = false;
	check(*ring->cons - start == 8 + 16 + 16 + 24 + 112, "%lx", *ring->cons);
	check(wakeups(ring) == woken, "NO_WAKEUP");
	check(drain(0) == 0, "busy");
	check(wakeups(ring) == woken, "nothing drained");
	*hdr_at(ring, *ring->cons) = 50;
	user.stop_at = 1;
	check(drain(0) == 1, "stop");
	check(wakeups(ring) == woken + 1, "drained");
	user.stop_at = 0;
	check(drain(BPF_RB_FORCE_WAKEUP) == 1 && *ring->cons == *ring->prod, "rest");
	check(wakeups(ring) == woken + 2, "FORCE_WAKEUP");
	user_put(8 | DISCARD);
	check(drain(0) == 0 && !user.calls && *ring->cons == *ring->prod, "discarded only");
	check(wakeups(ring) == woken + 3, "discarded only");

	/* All of it at once. */
	user_reset(start);
	user_put(ring->size - HDR);
	check(!ring->map->ops->map_poll(ring->map, NULL, &table), "poll, full");
	check(drain(0) == 1 && user.bytes == ring->size - HDR, "full");

	/* Against the rules. */
	user_reset(start);
	smp_store_release(ring->prod, start + 12);
	check(drain(0) == -EINVAL && *ring->cons == start, "misaligned");
	user_reset(start);
	*hdr_at(ring, start) = 17;
	smp_store_release(ring->prod, start + 24);
	check(drain(0) == -EINVAL && *ring->cons == start, "larger than advertised");
	*hdr_at(ring, start) = ring->size - HDR + 1;
	smp_store_release(ring->prod, start + 4 * ring->size);
	check(drain(0) == -E2BIG && *ring->cons == start, "larger than the ring");

	/* At most so many; discarded ones use it up. */
	user_reset(start);
	memset(ring->data, 0, ring->size);
	for (count = 0; count < ring->size / 8; count += 2)
		*hdr_at(ring, 8 * count) = DISCARD;
	smp_store_release(ring->prod, start + 8 * (BPF_MAX_USER_RINGBUF_SAMPLES + 10UL));
	ret = drain(0);
	check(ret == BPF_MAX_USER_RINGBUF_SAMPLES / 2, "%ld", ret);
	check(drain(0) == 5, "rest");
}

static void *user_hostile(void *arg)
{
	struct ring *ring = &user.ring;
	unsigned long cons;
	u64 rng = seed;
	u32 word;

	while (!READ_ONCE(user.stop)) {
		cons = READ_ONCE(*ring->cons);
		word = rnd(&rng, 3) ? rnd(&rng, 200) : mix(rng);
		if (!rnd(&rng, 3))
			word &= ~BUSY;
		WRITE_ONCE(*hdr_at(ring, (cons & ~7UL) + 8 * rnd(&rng, 8)), word);
		switch (rnd(&rng, 12)) {
		case 0:
			smp_store_release(ring->prod, mix(rng));
			break;
		case 1:
			smp_store_release(ring->prod, cons + rnd(&rng, 100));
			break;
		default:
			smp_store_release(ring->prod, (cons & ~7UL) + 8 * rnd(&rng, 2000));
		}
	}
	return NULL;
}

#ifdef HAVE_STEP

static u32 user_word;

static void user_rewrite(void)
{
	WRITE_ONCE(*hdr_at(&user.ring, *user.ring.cons), user_word);
	smp_store_release(user.ring.prod, mix(user_word));
}

/* What the callback gets is what was checked, whenever user space changes it. */
static void test_user_step(void)
{
	const u32 words[] = {
		0, 4000, 5000, 1 << 24, DISCARD - 1, DISCARD | 5000, BUSY | 5000, ~0U,
	};
	unsigned long at;
	long ret;
	int i;

	if (!begin("user ring: rewritten after each instruction"))
		return;
	memset(&user, 0, sizeof(user));
	trap_signals();
	if (!ring_new(&user.ring, BPF_MAP_TYPE_USER_RINGBUF, PAGE_SIZE, 0))
		goto out;
	for (i = 0; i < ARRAY_SIZE(words) && !failures; i++) {
		user_word = words[i];
		for (at = 0; !failures; at++) {
			user_reset(4096);
			user_put(8);
			trap_set(0, at, user_rewrite);
			user.calls = 0;
			user.stop_at = 1;
			ret = STEPPED(bpf_user_ringbuf_drain(user.ring.map, user_callback,
							     NULL, 0));
			check(ret == user.calls || ret == -EINVAL || ret == -E2BIG, "%ld", ret);
			check(!user.calls || *user.ring.cons - 4096 == total(user.bytes),
			      "%lu bytes, cons %lx", user.bytes, *user.ring.cons);
			user.bytes = 0;
			if (failures)
				note("%x, after %lu", user_word, at);
			if (!traps[0].fired)
				break;
		}
	}
	ring_free(&user.ring);
out:
	end();
}

#endif

static void *user_produce(void *arg)
{
	struct ring *ring = &user.ring;
	unsigned long prod = *ring->prod;
	u64 next = 0, rng = seed;
	u32 size;

	while (!READ_ONCE(user.stop)) {
		size = 8 + next % 100;
		if (prod + total(size) - smp_load_acquire(ring->cons) > ring->size) {
			sched_yield();
			continue;
		}
		WRITE_ONCE(*hdr_at(ring, prod), size | BUSY);
		smp_store_release(ring->prod, prod + total(size));
		memcpy(hdr_at(ring, prod) + 2, &next, 8);
		__atomic_exchange_n(hdr_at(ring, prod), size, __ATOMIC_SEQ_CST);
		prod += total(size);
		if (!rnd(&rng, 8)) {
			/* One that is not to be seen. */
			while (prod + 16 - smp_load_acquire(ring->cons) > ring->size)
				sched_yield();
			smp_store_release(hdr_at(ring, prod), 8 | DISCARD);
			prod += 16;
			smp_store_release(ring->prod, prod);
		}
		next++;
	}
	user.made = next;
	return NULL;
}

static void test_user(void)
{
	if (!begin("user ring: rules of the drain"))
		return;
	memset(&user, 0, sizeof(user));
	if (ring_new(&user.ring, BPF_MAP_TYPE_USER_RINGBUF, 4 * PAGE_SIZE, 0)) {
		user_rules(0);
		user_rules((1UL << 31) * 2 - 64);
		/* The old code gets this wrong. */
		if (NEW) {
			user_rules(-64UL);
			user_rules(-4096UL);
		}
		ring_free(&user.ring);
	}
	end();
}

static void test_user_thread(const char *name, bool hostile, double seconds)
{
	struct ring *ring = &user.ring;
	unsigned long cons, drained = 0, errors = 0;
	pthread_t thread;
	u64 until;
	long ret;

	if (!begin(name))
		return;
	memset(&user, 0, sizeof(user));
	user.contents = !hostile;
	if (!ring_new(ring, BPF_MAP_TYPE_USER_RINGBUF, PAGE_SIZE, 0))
		goto out;
	user_reset(NEW ? -8192UL : 0);
	pthread_create(&thread, NULL, hostile ? user_hostile : user_produce, NULL);
	until = shim_clock() + seconds * NSEC_PER_SEC;
	while (shim_clock() < until && !failures) {
		cons = *ring->cons;
		ret = drain(0);
		check(ret >= 0 ? ret == user.calls : hostile && (ret == -EINVAL || ret == -E2BIG),
		      "%ld, %lu calls", ret, user.calls);
		check((*ring->cons - cons) % 8 == 0 && (long)(*ring->cons - cons) >= 0,
		      "%lx, was %lx", *ring->cons, cons);
		drained += user.calls;
		errors += ret < 0;
		if (!user.calls)
			sched_yield();
	}
	WRITE_ONCE(user.stop, true);
	/* It may wait for room. */
	while (pthread_tryjoin_np(thread, NULL))
		drained += max(drain(0), 0L);
	if (!hostile && !failures) {
		drain(0);
		check(user.next == user.made, "%lu, not %lu", (unsigned long)user.next,
		      (unsigned long)user.made);
	}
	note("%lu drained, %lu errors", drained, errors);
	ring_free(ring);
out:
	end();
}

#endif
