// SPDX-License-Identifier: GPL-2.0
/* What a program can do with a ring buffer, one thing a program. */
#include <vmlinux.h>
#include <errno.h>
#include <bpf/bpf_helpers.h>
#include "bpf_misc.h"
#include "ringbuf_steps.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} user_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);
	});
} outer SEC(".maps");

/* Of the records of reserve(); the verifier wants a constant. */
const volatile __u64 record_size = 8;

__u8 buf[65536];
__u64 size;		/* of the other programs' records */
__u64 reserve_flags;
__u64 commit_flags;	/* and those of output() */
bool discard;
__u64 what;
__u64 value;
void *user_ptr;

SEC("syscall")
int output(void *ctx)
{
	if (size > sizeof(buf))
		return -ERANGE;
	return bpf_ringbuf_output(&ring, buf, size, commit_flags);
}

SEC("syscall")
int reserve(void *ctx)
{
	__u8 *sample;

	sample = bpf_ringbuf_reserve(&ring, record_size, reserve_flags);
	if (!sample)
		return -ENOSPC;
	if (record_size)
		*sample = buf[0];
	if (discard)
		bpf_ringbuf_discard(sample, commit_flags);
	else
		bpf_ringbuf_submit(sample, commit_flags);
	return 0;
}

SEC("syscall")
int reserve_dynptr(void *ctx)
{
	struct bpf_dynptr ptr;
	long err;

	/* Whether it is null or not. */
	err = bpf_ringbuf_reserve_dynptr(&ring, size, reserve_flags, &ptr);
	if (discard)
		bpf_ringbuf_discard_dynptr(&ptr, commit_flags);
	else
		bpf_ringbuf_submit_dynptr(&ptr, commit_flags);
	return err;
}

SEC("syscall")
int failed_dynptr_is_null(void *ctx)
{
	struct bpf_dynptr ptr;
	int empty = 0;

	if (bpf_ringbuf_reserve_dynptr(&ring, size, reserve_flags, &ptr))
		empty = !bpf_dynptr_data(&ptr, 0, 1) &&
			bpf_dynptr_write(&ptr, 0, buf, 1, 0) == -EINVAL;
	bpf_ringbuf_discard_dynptr(&ptr, 0);
	return empty;
}

SEC("syscall")
int query(void *ctx)
{
	value = bpf_ringbuf_query(&ring, what);
	return 0;
}

static __always_inline void commit(void *sample, bool drop)
{
	if (drop)
		bpf_ringbuf_discard(sample, commit_flags);
	else
		bpf_ringbuf_submit(sample, commit_flags);
}

SEC("syscall")
int hold_one(void *ctx)
{
	__u64 *sample;

	sample = bpf_ringbuf_reserve(&ring, sizeof(*sample), 0);
	if (!sample)
		return -ENOSPC;
	*sample = 1;
	pause();
	commit(sample, discard);
	pause();
	return 0;
}

/* Three records are reserved, and committed the other way around; the middle one may go. */
SEC("syscall")
int hold_three(void *ctx)
{
	__u64 *first, *second, *third;

	first = bpf_ringbuf_reserve(&ring, sizeof(*first), 0);
	if (!first)
		return -ENOSPC;
	second = bpf_ringbuf_reserve(&ring, sizeof(*second), 0);
	if (!second)
		goto free_first;
	third = bpf_ringbuf_reserve(&ring, sizeof(*third), 0);
	if (!third)
		goto free_second;
	*first = 1;
	*second = 2;
	*third = 3;
	pause();
	commit(third, false);
	pause();
	commit(second, discard);
	pause();
	commit(first, false);
	pause();
	return 0;

free_second:
	bpf_ringbuf_discard(second, 0);
free_first:
	bpf_ringbuf_discard(first, 0);
	return -ENOSPC;
}

/* CVE-2024-41009: two records of 3/4 of a ring of 16 KiB at once. */
SEC("syscall")
int hold_two_large(void *ctx)
{
	void *first, *second;
	int both = 0;

	first = bpf_ringbuf_reserve(&ring, 0x3000, 0);
	if (!first)
		return -ENOSPC;
	pause();
	second = bpf_ringbuf_reserve(&ring, 0x3000, 0);
	if (second) {
		both = 1;
		bpf_ringbuf_discard(second, 0);
	}
	bpf_ringbuf_discard(first, 0);
	return both;
}

/* CVE-2021-3489, and what else is larger than any ring may be. */
SEC("syscall")
int reserve_too_large(void *ctx)
{
	int granted = 0;
	void *sample;

#define RESERVE(size)							\
	do {								\
		sample = bpf_ringbuf_reserve(&ring, size, 0);		\
		if (sample) {						\
			granted++;					\
			bpf_ringbuf_discard(sample, 0);			\
		}							\
	} while (0)

	RESERVE(4096 - 8);
	RESERVE(4096);
	RESERVE(4096 + 1);
	RESERVE(0x3fffffff);
	RESERVE(0x40000000);
	RESERVE(0x7ffffff8);
	RESERVE(0xfffffff8);
	RESERVE(0xffffffff);
	RESERVE(0x100000000);
	RESERVE(0x100000008);
	RESERVE(0xffffffffffffffff);
	return granted;
}

SEC("syscall")
int sleep_with_record(void *ctx)
{
	__u64 *sample;
	long err;

	sample = bpf_ringbuf_reserve(&ring, sizeof(*sample), 0);
	if (!sample)
		return -ENOSPC;
	err = bpf_copy_from_user(sample, sizeof(*sample), user_ptr);
	bpf_ringbuf_submit(sample, 0);
	return err;
}

SEC("?syscall")
int inner_output(void *ctx)
{
	__u32 key = 0;
	void *inner;

	inner = bpf_map_lookup_elem(&outer, &key);
	return inner ? bpf_ringbuf_output(inner, buf, 8, 0) : -ENOENT;
}

/*
 * Records that live at the same time, each filled with a number of its own while another CPU
 * does the same and user space plays with consumer_pos.
 */
__u64 canaries, overlaps, granted, refused;

static __always_inline __u64 fill(volatile __u64 *sample, int words)
{
	__u64 canary;
	int i;

	if (!sample) {
		__sync_fetch_and_add(&refused, 1);
		return 0;
	}
	canary = __sync_fetch_and_add(&canaries, 1);
	for (i = 0; i < words; i++)
		sample[i] = canary;
	return canary;
}

static __always_inline void check(volatile __u64 *sample, int words, __u64 canary)
{
	int i, changed = 0;

	if (!sample)
		return;
	for (i = 0; i < words; i++)
		changed |= sample[i] != canary;
	if (changed)
		__sync_fetch_and_add(&overlaps, 1);
	__sync_fetch_and_add(&granted, 1);
	bpf_ringbuf_submit((void *)sample, BPF_RB_NO_WAKEUP);
}

SEC("?syscall")
int hold_canaries(void *ctx)
{
	__u64 *a, *b, *c, *d, in_a, in_b, in_c, in_d;

	a = bpf_ringbuf_reserve(&ring, 3 * 8, 0);
	in_a = fill(a, 3);
	b = bpf_ringbuf_reserve(&ring, 25 * 8, 0);
	in_b = fill(b, 25);
	c = bpf_ringbuf_reserve(&ring, 60 * 8, 0);
	in_c = fill(c, 60);
	d = bpf_ringbuf_reserve(&ring, 200 * 8, 0);
	in_d = fill(d, 200);
	check(b, 25, in_b);
	check(d, 200, in_d);
	check(c, 60, in_c);
	check(a, 3, in_a);
	return 0;
}

/* The verifier must refuse these. */

SEC("?syscall")
int output_to_array(void *ctx)
{
	return bpf_ringbuf_output(&array, buf, 8, 0);
}

SEC("?syscall")
int output_to_user_ring(void *ctx)
{
	return bpf_ringbuf_output(&user_ring, buf, 8, 0);
}

SEC("?syscall")
int reserve_in_array(void *ctx)
{
	void *sample = bpf_ringbuf_reserve(&array, 8, 0);

	if (sample)
		bpf_ringbuf_submit(sample, 0);
	return 0;
}

SEC("?syscall")
int dynptr_in_array(void *ctx)
{
	struct bpf_dynptr ptr;

	bpf_ringbuf_reserve_dynptr(&array, 8, 0, &ptr);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	return 0;
}

SEC("?syscall")
int query_array(void *ctx)
{
	return bpf_ringbuf_query(&array, 0);
}

static long nothing(struct bpf_dynptr *dynptr, void *ctx)
{
	return 0;
}

SEC("?syscall")
int drain_kernel_ring(void *ctx)
{
	return bpf_user_ringbuf_drain(&ring, nothing, NULL, 0);
}

SEC("?syscall")
int lookup_in_ring(void *ctx)
{
	__u64 key[2] = {};

	return !bpf_map_lookup_elem(&ring, key);
}

SEC("?syscall")
int submit_moved(void *ctx)
{
	void *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	if (sample)
		bpf_ringbuf_submit(sample + 8, 0);
	return 0;
}

SEC("?syscall")
int discard_moved(void *ctx)
{
	void *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	if (sample)
		bpf_ringbuf_discard(sample - 8, 0);
	return 0;
}

SEC("?syscall")
int submit_moved_by_variable(void *ctx)
{
	void *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	if (sample)
		bpf_ringbuf_submit(sample + (size & 8), 0);
	return 0;
}

SEC("?syscall")
int move_unchecked(void *ctx)
{
	void *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	barrier_var(sample);
	sample += 8;
	barrier_var(sample);
	if (sample)
		bpf_ringbuf_submit(sample, 0);
	return 0;
}

SEC("?syscall")
int write_unchecked(void *ctx)
{
	__u64 *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	*sample = 1;
	bpf_ringbuf_submit(sample, 0);
	return 0;
}

SEC("?syscall")
int write_beyond(void *ctx)
{
	__u64 *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	if (!sample)
		return 0;
	sample[8] = 1;
	bpf_ringbuf_submit(sample, 0);
	return 0;
}

SEC("?syscall")
int write_header(void *ctx)
{
	__u64 *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	if (!sample)
		return 0;
	sample[-1] = 1;
	bpf_ringbuf_submit(sample, 0);
	return 0;
}

SEC("?syscall")
int write_after_submit(void *ctx)
{
	__u64 *sample = bpf_ringbuf_reserve(&ring, 64, 0);

	if (!sample)
		return 0;
	bpf_ringbuf_submit(sample, 0);
	*(volatile __u64 *)sample = 1;
	return 0;
}

SEC("?syscall")
int never_commit(void *ctx)
{
	return !bpf_ringbuf_reserve(&ring, 64, 0);
}

SEC("?syscall")
int reserve_variable(void *ctx)
{
	void *sample = bpf_ringbuf_reserve(&ring, size & 63, 0);

	if (sample)
		bpf_ringbuf_submit(sample, 0);
	return 0;
}
