/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stacks of user space made to order: a chain of frames in memory, and a system call, or a call
 * of a function with a probe, with the frame pointer on it.
 */
#ifndef __STACKMAP_COMMON_H
#define __STACKMAP_COMMON_H

#include <sys/mman.h>
#include "bpf_maps_common.h"
#include "progs/stackmap_forged.h"

struct frame {
	const struct frame *next;
	__u64 ip;
};

long forged_syscall(const struct frame *fp, long nr, long arg1, long arg2);
void forged_call(const struct frame *fp);

/* Where the first frame is, of the system call and of the probe. */
extern const char forged_ip[], forged_probe[];

#ifdef __x86_64__
asm("	.pushsection .text, \"ax\"\n"
"forged_syscall:\n"
"	push	%rbp\n"
"	mov	%rdi, %rbp\n"
"	mov	%rsi, %rax\n"
"	mov	%rdx, %rdi\n"
"	mov	%rcx, %rsi\n"
"	syscall\n"
"forged_ip:\n"
"	pop	%rbp\n"
"	ret\n"
"forged_call:\n"
"	push	%rbp\n"
"	mov	%rdi, %rbp\n"
"forged_probe:\n"
"	nop\n"
"	pop	%rbp\n"
"	ret\n"
"	.popsection\n"
);

static inline bool can_forge(void)
{
	return true;
}
#else
static inline bool can_forge(void)
{
	printf("SKIP: nobody has written this for the architecture yet\n");
	test__skip();
	return false;
}
#endif

/* The program on getpgid() does what slot @slot says. */
static inline void forged_getpgid(const struct frame *fp, __u32 slot)
{
	forged_syscall(fp, __NR_getpgid, FORGED_PID(slot), 0);
}

/* A chain through @nr addresses, in memory for as many frames. */
static inline const struct frame *forge(struct frame *frames, const __u64 *ips, __u32 nr)
{
	__u32 i;

	for (i = 0; i < nr; i++) {
		frames[i].next = i + 1 < nr ? &frames[i + 1] : NULL;
		frames[i].ip = ips[i];
	}
	return nr ? frames : NULL;
}

/*
 * Stack number @n, of @depth frames with the real one: all others tell the number and their
 * place. A stack of one frame has no number.
 */
#define FORGED_IP(n, i) (0x100000000000ULL + (__u64)(n) * 256 + (i))
#define IP_IS_FORGED(ip) ((ip) >> 40 == 0x10)
#define IP_NUMBER(ip) (((ip) & 0xffffffffffULL) / 256)

static inline const struct frame *forge_stack(struct frame *frames, __u64 n, __u32 depth)
{
	__u32 i;

	for (i = 1; i < depth; i++) {
		frames[i - 1].next = i + 1 < depth ? &frames[i] : NULL;
		frames[i - 1].ip = FORGED_IP(n, i);
	}
	return depth > 1 ? frames : NULL;
}

/* Whether a map of that many frames gives back frames @skip to @depth - 1 of the stack. */
static inline bool is_stack(const __u64 *value, __u32 words, __u64 n, __u32 depth, __u32 skip)
{
	__u32 i;
	__u64 ip;

	for (i = 0; i < words; i++) {
		ip = i + skip >= depth ? 0 : i + skip ? FORGED_IP(n, i + skip) : (__u64)forged_ip;
		if (value[i] != ip)
			return false;
	}
	return true;
}

static inline void assert_fdinfo(int fd, unsigned long entries, unsigned long lost)
{
	ASSERT_EQ(fdinfo_line(fd, "entries"), entries, "entries");
	ASSERT_EQ(fdinfo_line(fd, "lost"), lost, "lost");
}

/* As many as walking the keys finds; in ascending order, or it is -1. */
static inline long count_keys(int fd)
{
	__u32 key, next;
	long nr = 0;
	int err;

	for (err = bpf_map_get_next_key(fd, NULL, &next); !err;
	     err = bpf_map_get_next_key(fd, &key, &next)) {
		if (nr++ && next <= key)
			return -1;
		key = next;
	}
	return err == -ENOENT ? nr : -1;
}

#endif
