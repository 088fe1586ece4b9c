/* SPDX-License-Identifier: GPL-2.0 */
/* System calls on a queue or stack, for the tests of what they promise. */
#ifndef __QUEUE_STACK_OPS_H
#define __QUEUE_STACK_OPS_H

#include <sys/mman.h>
#include "bpf_maps_common.h"

static inline int create(enum bpf_map_type type, __u32 value_size, __u32 max_entries)
{
	int fd = create_map(type, 0, value_size, max_entries, 0);

	ASSERT_OK_FD(fd, "create");
	return fd;
}

static inline int push(int fd, __u32 value)
{
	return bpf_map_update_elem(fd, NULL, &value, BPF_ANY);
}

static inline int push_exist(int fd, __u32 value)
{
	return bpf_map_update_elem(fd, NULL, &value, BPF_EXIST);
}

static inline int pop(int fd, __u32 *value)
{
	return bpf_map_lookup_and_delete_elem(fd, NULL, value);
}

static inline int peek(int fd, __u32 *value)
{
	return bpf_map_lookup_elem(fd, NULL, value);
}

static inline void assert_push(int fd, __u32 first, __u32 last)
{
	__u32 value;

	for (value = first; value <= last; value++)
		if (!ASSERT_OK(push(fd, value), "push"))
			return;
}

/*
 * The map holds exactly the values from @oldest to @newest: they come out in the order of
 * its type, and leave it empty.
 */
static inline void assert_drains(enum bpf_map_type type, int fd, __u32 oldest, __u32 newest)
{
	__u32 i, n = newest - oldest + 1, value;

	for (i = 0; i < n; i++) {
		if (!ASSERT_OK(pop(fd, &value), "pop"))
			return;
		if (!ASSERT_EQ(value, type == BPF_MAP_TYPE_QUEUE ? oldest + i : newest - i,
			       "popped value"))
			return;
	}
	ASSERT_EQ(pop(fd, &value), -ENOENT, "pop the empty map");
}

/* Neighbouring bytes and equal places in different values differ. */
static inline void fill_pattern(__u8 *value, __u32 size, __u32 seed)
{
	__u32 i;

	for (i = 0; i < size; i++)
		value[i] = i * 37 + (i >> 8) * 11 + (i >> 16) * 7 + seed * 101;
}

static inline bool has_pattern(const __u8 *value, __u32 size, __u32 seed)
{
	__u32 i;

	for (i = 0; i < size; i++)
		if (value[i] != (__u8)(i * 37 + (i >> 8) * 11 + (i >> 16) * 7 + seed * 101))
			return false;
	return true;
}

/* An address that can be read but not written, and one that is not mapped at all. */
static inline void with_bad_buffers(int fd, void (*check)(int fd, void *buffer))
{
	char *pages = mmap(NULL, 2 * getpagesize(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!ASSERT_NEQ(pages, MAP_FAILED, "mmap"))
		return;
	check(fd, pages);
	munmap(pages, 2 * getpagesize());
	check(fd, pages);
}

/* What is checked for queues and for stacks, as a subtest each. */
struct type_case {
	const char *name;
	void (*check)(enum bpf_map_type type);
};

#define CASE(name) { #name, name }

static inline void check_types(const struct type_case *cases, int nr)
{
	static const struct {
		const char *name;
		enum bpf_map_type type;
	} types[] = { { "queue", BPF_MAP_TYPE_QUEUE }, { "stack", BPF_MAP_TYPE_STACK } };
	char name[64];
	int i, t;

	for (t = 0; t < ARRAY_SIZE(types); t++) {
		for (i = 0; i < nr; i++) {
			snprintf(name, sizeof(name), "%s_%s", types[t].name, cases[i].name);
			if (test__start_subtest(name))
				cases[i].check(types[t].type);
		}
	}
}

#endif
