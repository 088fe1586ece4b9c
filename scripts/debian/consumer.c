// SPDX-License-Identifier: GPL-2.0-only
/*
 * consumer OBJECT: reads a ring buffer and writes a user ring buffer by means of the libbpf
 * that the distribution ships. Prints TAP.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "consumer.h"

#define RECORDS	20000ULL

static struct bpf_object *object;
static int ring_fd, user_ring_fd, tests, failed;
static __u64 expected, received, wrong;

static void result(bool ok, const char *what)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++tests, what);
	failed += !ok;
}

static int run(const char *name)
{
	struct bpf_program *prog = bpf_object__find_program_by_name(object, name);
	struct produce_ctx ctx = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx));
	int err = bpf_prog_test_run_opts(bpf_program__fd(prog), &opts);

	return err ?: (int)opts.retval;
}

static struct state state(void)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".data.state");
	struct state state = {};
	__u32 key = 0;

	bpf_map__lookup_elem(map, &key, sizeof(key), &state, sizeof(state), 0);
	return state;
}

static int record(void *ctx, void *data, size_t size)
{
	__u64 seq = *(__u64 *)data;

	if (expected % DISCARD_EVERY == 0)
		expected++;
	if (seq != expected || size != (seq % 2 ? FIXED_SIZE : VARIABLE_SIZE(seq)))
		wrong++;
	expected = seq + 1;
	received++;
	return 0;
}

static void *produce(void *arg)
{
	while (state().next < RECORDS)
		run("produce");
	return NULL;
}

static void read_ring(void)
{
	struct ring_buffer *ring = ring_buffer__new(ring_fd, record, NULL, NULL);
	struct state now;
	__u64 should;
	time_t end = time(NULL) + 60;
	pthread_t thread;

	result(ring, "ring_buffer__new");
	if (!ring)
		return;

	run("produce");
	result(ring_buffer__consume(ring) == BATCH - (BATCH + DISCARD_EVERY - 1) / DISCARD_EVERY,
	       "ring_buffer__consume");
	result(ring_buffer__poll(ring, 0) == 0, "ring_buffer__poll of an empty ring");

	/* It sleeps in epoll_wait() whenever it has caught up. */
	pthread_create(&thread, NULL, produce, NULL);
	while (expected < RECORDS - 1 && time(NULL) < end)
		if (ring_buffer__poll(ring, 1000) < 0 && errno != EINTR)
			break;
	pthread_join(thread, NULL);
	ring_buffer__consume(ring);
	run("ask");
	now = state();
	should = now.next - (now.next + DISCARD_EVERY - 1) / DISCARD_EVERY;
	printf("# %llu of %llu received, %llu wrong, %llu refused\n", received, should, wrong,
	       now.refused);
	result(received == should && time(NULL) < end, "ring_buffer__poll: each record");
	result(!wrong, "ring_buffer__poll: whole, and in order");
	result(now.lost == now.refused, "BPF_RB_LOST");
	ring_buffer__free(ring);
}

static void write_user_ring(void)
{
	struct user_ring_buffer *ring = user_ring_buffer__new(user_ring_fd, NULL);
	__u64 i, *sample, sum = 0, sent = 0;
	int drained = 0, count;

	result(ring, "user_ring_buffer__new");
	if (!ring)
		return;
	for (i = 0; i < 10000; i++) {
		sample = user_ring_buffer__reserve(ring, 8 + i % 500);
		if (!sample) {
			/* Full. */
			count = run("drain");
			if (count <= 0)
				break;
			drained += count;
			sample = user_ring_buffer__reserve_blocking(ring, 8 + i % 500, 1000);
		}
		if (!sample)
			break;
		if (i % 11 == 0) {
			user_ring_buffer__discard(ring, sample);
			continue;
		}
		*sample = i;
		sum += i;
		sent++;
		user_ring_buffer__submit(ring, sample);
	}
	drained += run("drain");
	printf("# %llu sent, %d drained\n", sent, drained);
	result(i == 10000, "user_ring_buffer__reserve, also blocking");
	result(state().samples == sent && drained == sent, "user ring: each sample");
	result(state().sum == sum, "user ring: their contents");

	while (user_ring_buffer__reserve(ring, 1000))
		;
	result(errno == ENOSPC, "user ring: full");
	result(!user_ring_buffer__reserve(ring, RING_SIZE) && errno == E2BIG,
	       "user ring: too large");
	user_ring_buffer__free(ring);
}

int main(int argc, char **argv)
{
	Dl_info info = {};

	setvbuf(stdout, NULL, _IOLBF, 0);
	dladdr(ring_buffer__new, &info);
	printf("# libbpf %s in %s\n", libbpf_version_string(), info.dli_fname);
	object = argc == 2 ? bpf_object__open_file(argv[1], NULL) : NULL;
	if (!object || bpf_object__load(object)) {
		result(false, "load");
		return 1;
	}
	ring_fd = bpf_object__find_map_fd_by_name(object, "ring");
	user_ring_fd = bpf_object__find_map_fd_by_name(object, "user_ring");
	read_ring();
	write_user_ring();
	printf("1..%d\n", tests);
	return failed > 0;
}
