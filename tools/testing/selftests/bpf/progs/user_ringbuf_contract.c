// SPDX-License-Identifier: GPL-2.0
/* Programs that drain a user ring. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_kfuncs.h"
#include "ringbuf_steps.h"

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

__u64 flags;
__u64 stop_after;	/* so many samples, if not 0 */

/* What the callbacks saw. */
__u64 seen;
__u64 sum;		/* of the first eight bytes */
__u32 last_len;
long nested;		/* what a drain inside of a drain returned */
__u64 short_reads;

static long count(struct bpf_dynptr *sample, void *ctx)
{
	__u64 value;

	seen++;
	last_len = bpf_dynptr_size(sample);
	if (!bpf_dynptr_read(&value, sizeof(value), sample, 0, 0))
		sum += value;
	return stop_after && seen >= stop_after;
}

SEC("syscall")
int drain(void *ctx)
{
	return bpf_user_ringbuf_drain(&ring, count, NULL, flags);
}

static long drain_again(struct bpf_dynptr *sample, void *ctx)
{
	seen++;
	nested = bpf_user_ringbuf_drain(&ring, count, NULL, 0);
	return 0;
}

SEC("syscall")
int drain_nested(void *ctx)
{
	return bpf_user_ringbuf_drain(&ring, drain_again, NULL, 0);
}

static long wait_in_callback(struct bpf_dynptr *sample, void *ctx)
{
	seen++;
	pause();
	return 0;
}

SEC("syscall")
int drain_slowly(void *ctx)
{
	return bpf_user_ringbuf_drain(&ring, wait_in_callback, NULL, 0);
}

/* Every 64th byte, and the last one: the sample is as long as it says. */
static long read_sample(struct bpf_dynptr *sample, void *ctx)
{
	__u32 size = bpf_dynptr_size(sample);
	__u8 byte = 0;
	int i;

	bpf_for(i, 0, 128) {
		if (i * 64 >= size)
			break;
		if (bpf_dynptr_read(&byte, 1, sample, i * 64, 0))
			short_reads++;
	}
	if (size && bpf_dynptr_read(&byte, 1, sample, size - 1, 0))
		short_reads++;
	if (!bpf_dynptr_read(&byte, 1, sample, size, 0))
		short_reads++;
	seen++;
	return byte == 0xff;
}

SEC("syscall")
int drain_hostile(void *ctx)
{
	return bpf_user_ringbuf_drain(&ring, read_sample, NULL, BPF_RB_NO_WAKEUP);
}
