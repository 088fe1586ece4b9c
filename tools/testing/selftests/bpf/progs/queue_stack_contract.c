// SPDX-License-Identifier: GPL-2.0
/* The operations of a queue or stack, one a program. The test chooses the type of the map. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__uint(value_size, 8);
} map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} outer SEC(".maps");

/* What an operation reads or writes, and bytes around it that nobody may touch. */
struct {
	__u8 before[64];
	__u8 value[4096];
	__u8 after[64];
} buf;

__u64 flags;

SEC("?syscall")
int push(void *ctx)
{
	return bpf_map_push_elem(&map, buf.value, flags);
}

SEC("?syscall")
int pop(void *ctx)
{
	return bpf_map_pop_elem(&map, buf.value);
}

SEC("?syscall")
int peek(void *ctx)
{
	return bpf_map_peek_elem(&map, buf.value);
}

SEC("?syscall")
int inner_push(void *ctx)
{
	__u32 key = 0;
	void *inner;

	inner = bpf_map_lookup_elem(&outer, &key);
	return inner ? bpf_map_push_elem(inner, buf.value, BPF_ANY) : -1;
}

SEC("?syscall")
int inner_pop(void *ctx)
{
	__u32 key = 0;
	void *inner;

	inner = bpf_map_lookup_elem(&outer, &key);
	return inner ? bpf_map_pop_elem(inner, buf.value) : -1;
}

/* Those that need a key: the verifier must refuse them. */

SEC("?syscall")
int lookup_elem(void *ctx)
{
	return !bpf_map_lookup_elem(&map, buf.value);
}

SEC("?syscall")
int update_elem(void *ctx)
{
	return bpf_map_update_elem(&map, buf.value, buf.value, BPF_ANY);
}

SEC("?syscall")
int delete_elem(void *ctx)
{
	return bpf_map_delete_elem(&map, buf.value);
}

static long nothing(void *map, void *key, void *value, void *ctx)
{
	return 0;
}

SEC("?syscall")
int walk_elems(void *ctx)
{
	return bpf_for_each_map_elem(&map, nothing, NULL, 0);
}
