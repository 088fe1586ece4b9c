/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a sequence of the fuzzer is made of: one function for each kind of call. Its bytes choose
 * among arguments of which most are good, so that calls get far, and some are not.
 */
#ifndef __FUZZ_CALLS_H
#define __FUZZ_CALLS_H

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define NR_SLOTS	8
#define PAGE		4096UL
#define AUX_SIZE	65536
#define AREA_SIZE	(64 * PAGE)	/* of one mapping of a map */
#define BUF_SIZE	(256 * PAGE)
#define COUNT(a)	(sizeof(a) / sizeof(*(a)))

enum op {
	OP_CREATE, OP_STEAL, OP_ELEM, OP_BATCH, OP_INFO, OP_MMAP, OP_REMAP, OP_POLL, OP_CLOSE,
	OP_PROG, OP_RUN, OP_ATTACH, OP_TRIGGER, OP_USE_RING, OP_HOSTILE, OP_FAIL, NR_OPS
};

static const char * const op_names[] = {
	"create", "steal", "elem", "batch", "info", "mmap", "remap", "poll", "close",
	"prog", "run", "attach", "trigger", "use ring", "hostile", "fail",
};

struct call {
	__u8 op;
	__u8 arg[7];
};

/* Numbers at which something may change. */
static __u64 number(__u8 byte)
{
	static const __u64 edges[] = {
		0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 24, 31, 32, 63, 64, 65, 127, 128, 255, 256, 257,
		511, 512, 1000, 1016, 1024, 2040, 2048, 4064, 4088, 4095, 4096, 4097, 8192, 16383,
		16384, 16385, 32768, 65535, 65536, 1 << 18, 1 << 19, 1 << 20, (1 << 24) - 1,
		1 << 24, -1U / 4, -1U / 4 + 1, 1U << 30, (1U << 31) - 1, 1U << 31, (1U << 31) + 1,
		-8U, -1U, 1ULL << 32, 1ULL << 63, -4096ULL, -8ULL, -1ULL,
	};

	if (byte < 96)
		return byte % 8;
	if (byte < 128)
		return byte;
	return edges[(byte - 128) % COUNT(edges)];
}

/* Of a helper for stacks: how many to skip, and bits that mean something. */
static __u64 stack_flags(__u8 byte)
{
	return (byte & 15) << 8 | (byte & 128 ? number(byte * 37) & 255 : byte >> 4 & 7);
}

/* --- the state that a sequence builds up --------------------------------------- */

struct map {
	int fd;
	__u32 type, value_size, max_entries;
};

static struct map maps[NR_SLOTS];
static struct { int fd; __u8 template, type; bool second; } progs[NR_SLOTS];
static int links[NR_SLOTS];
static char *areas;		/* NR_SLOTS mappings of maps, AREA_SIZE each, and nothing else */
static char *buf;		/* BUF_SIZE bytes, then a page that cannot be written, and none */
static int aux_fd, packet_fd, fail_fd;
static int devices[2];
static volatile bool hostile;	/* somebody writes to the areas */

static int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(__NR_bpf, cmd, attr, sizeof(*attr));
}

static void put(int *slot, int fd)
{
	if (*slot > 0)
		close(*slot);
	*slot = fd > 0 ? fd : 0;
}

/* A map of one of the types in a mask, if there is any; mostly. */
static struct map *get_map(__u8 byte, __u64 types)
{
	unsigned int i, slot;

	for (i = 0; i < NR_SLOTS && byte < 240; i++) {
		slot = (byte + i) % NR_SLOTS;
		if (maps[slot].fd && types & 1ULL << maps[slot].type)
			return &maps[slot];
	}
	return &maps[byte % NR_SLOTS];
}

static int get_prog(__u8 byte, __u64 types)
{
	unsigned int i, slot;

	for (i = 0; i < NR_SLOTS && byte < 240; i++) {
		slot = (byte + i) % NR_SLOTS;
		if (progs[slot].fd && types & 1ULL << progs[slot].type)
			return slot;
	}
	return byte % NR_SLOTS;
}

/* Memory for an argument: mostly good. */
static void *memory(__u8 byte, unsigned int at)
{
	if (byte < 216)
		return buf + at;
	switch (byte % 8) {
	case 0:
	case 1:
		return NULL;
	case 2:
		return buf + BUF_SIZE;			/* read-only */
	case 3:
		return buf + BUF_SIZE - 8;		/* its end is */
	case 4:
		return buf + BUF_SIZE + PAGE - 4;	/* its end is missing */
	case 5:
		return (void *)0xffff888000000000UL;
	default:
		return areas + byte % NR_SLOTS * AREA_SIZE + number(byte) % AREA_SIZE;
	}
}

static __u64 pointer(__u8 byte, unsigned int at)
{
	return (unsigned long)memory(byte, at);
}

#define TYPE(t)		(1ULL << BPF_MAP_TYPE_##t)
#define QUEUES		(TYPE(QUEUE) | TYPE(STACK))
#define RINGS		(TYPE(RINGBUF) | TYPE(USER_RINGBUF))
#define OURS		(QUEUES | RINGS | TYPE(STACK_TRACE) | TYPE(CPUMAP))

/* --- maps ---------------------------------------------------------------------- */

static long do_create(const __u8 *arg)
{
	static const __u8 types[] = {
		BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK, BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_RINGBUF,
		BPF_MAP_TYPE_USER_RINGBUF, BPF_MAP_TYPE_STACK_TRACE, BPF_MAP_TYPE_STACK_TRACE,
		BPF_MAP_TYPE_CPUMAP, BPF_MAP_TYPE_CPUMAP, BPF_MAP_TYPE_ARRAY_OF_MAPS,
	};
	struct map *map = &maps[arg[0] % NR_SLOTS];
	union bpf_attr attr = { .map_type = types[arg[1] % COUNT(types)] };
	__u32 frame = 8;

	switch (attr.map_type) {
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		attr.value_size = 1 + number(arg[2]) % 5000;
		attr.max_entries = 1 + arg[3] % 20;
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		attr.max_entries = PAGE << arg[3] % 4;
		if (arg[4] < 64 && attr.map_type == BPF_MAP_TYPE_RINGBUF)
			attr.map_flags = BPF_F_RB_OVERWRITE;
		break;
	case BPF_MAP_TYPE_STACK_TRACE:
		if (arg[4] < 80) {
			attr.map_flags = BPF_F_STACK_BUILD_ID;
			frame = sizeof(struct bpf_stack_build_id);
		}
		attr.key_size = 4;
		attr.value_size = (1 + arg[2] % 127) * frame;
		attr.max_entries = 1 + arg[3] % 9 * (arg[3] % 9);
		break;
	case BPF_MAP_TYPE_CPUMAP:
		attr.key_size = 4;
		attr.value_size = arg[2] % 4 ? 8 : 4;
		attr.max_entries = 1 + arg[3] % 4;
		break;
	default:
		attr.key_size = 4;
		attr.value_size = 4;
		attr.max_entries = 4;
		attr.inner_map_fd = get_map(arg[2], OURS)->fd;
	}
	/* One of them anything. */
	switch (arg[5]) {
	case 0 ... 7:
		attr.key_size = number(arg[6]);
		break;
	case 8 ... 19:
		attr.value_size = number(arg[6]);
		break;
	case 20 ... 31:
		attr.max_entries = number(arg[6]);
		break;
	case 32 ... 43:
		attr.map_flags |= 1U << arg[6] % 32;
		break;
	case 44 ... 47:
		attr.map_flags |= BPF_F_NUMA_NODE;
		attr.numa_node = number(arg[6]);
		break;
	}
	put(&map->fd, bpf(BPF_MAP_CREATE, &attr));
	map->type = attr.map_type;
	map->value_size = attr.value_size;
	map->max_entries = attr.max_entries;
	return map->fd ? 0 : -1;
}

/* The other workers' maps are as good. */
static long do_steal(const __u8 *arg)
{
	struct map *map = &maps[arg[0] % NR_SLOTS];
	struct bpf_map_info info = {};
	union bpf_attr attr = {};
	int steps = 1 + arg[1] % 8, fd;

	do {
		attr.start_id = attr.next_id;
		if (bpf(BPF_MAP_GET_NEXT_ID, &attr))
			break;
	} while (--steps);
	fd = bpf(BPF_MAP_GET_FD_BY_ID, &(union bpf_attr){ .map_id = attr.start_id });
	if (fd < 0)
		return -1;
	attr = (union bpf_attr){
		.info = { .bpf_fd = fd, .info_len = sizeof(info), .info = (unsigned long)&info },
	};
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) || !(OURS & 1ULL << info.type)) {
		close(fd);
		return -1;
	}
	put(&map->fd, fd);
	map->type = info.type;
	map->value_size = info.value_size;
	map->max_entries = info.max_entries;
	return 0;
}

/* A key, and a value that can be an entry of a cpumap, or an inner map. */
static void fill(const __u8 *arg)
{
	struct bpf_cpumap_val val = { .qsize = number(arg[0]) };

	int i;

	*(__u32 *)buf = arg[1] < 160 ? arg[1] % 2 : number(arg[1]);
	/* The second program, if there is one; the others are refused. */
	for (i = 0; i < NR_SLOTS && arg[2] < 160; i++)
		if (progs[i].fd && (progs[i].second || arg[2] < 16))
			val.bpf_prog.fd = progs[i].fd;
	if (arg[2] > 224)
		val.qsize = get_map(arg[0], OURS)->fd;
	memcpy(buf + PAGE, &val, sizeof(val));
}

static long do_elem(const __u8 *arg)
{
	static const __u8 cmds[] = {
		BPF_MAP_UPDATE_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_DELETE_ELEM,
		BPF_MAP_LOOKUP_AND_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
	};
	struct map *map = get_map(arg[0], arg[0] % 3 == 0 ? TYPE(CPUMAP) :
				  arg[0] % 3 == 1 ? QUEUES | TYPE(STACK_TRACE) : ~0ULL);
	int cmd = cmds[arg[1] % COUNT(cmds)];
	union bpf_attr attr = {
		.map_fd = map->fd,
		.key = pointer(arg[2], 0),
		.value = pointer(arg[3], PAGE),
	};

	fill(arg + 4);
	if (QUEUES & 1ULL << map->type && arg[2] < 216)
		attr.key = 0;
	if (arg[1] >= 252)
		return bpf(BPF_MAP_FREEZE, &(union bpf_attr){ .map_fd = map->fd });
	if (cmd == BPF_MAP_UPDATE_ELEM && arg[4] < 128)
		attr.flags = arg[4] % 4;
	else if (arg[4] >= 240)
		attr.flags = number(arg[4]);
	if (cmd == BPF_MAP_DELETE_ELEM && arg[4] < 240)
		attr.value = 0;
	return bpf(cmd, &attr);
}

static long do_batch(const __u8 *arg)
{
	static const __u8 cmds[] = {
		BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH, BPF_MAP_UPDATE_BATCH,
		BPF_MAP_DELETE_BATCH,
	};
	struct map *map = get_map(arg[0], QUEUES | TYPE(STACK_TRACE));
	int cmd = cmds[arg[1] % COUNT(cmds)];
	union bpf_attr attr = { .batch = {
		.map_fd = map->fd,
		.in_batch = arg[5] & 1 ? pointer(arg[6], 2 * PAGE) : 0,
		.out_batch = arg[5] & 2 ? pointer(arg[6] * 3, 3 * PAGE) : pointer(0, 3 * PAGE),
		.keys = pointer(arg[2], 4 * PAGE),
		.values = pointer(arg[3], 8 * PAGE),
		.count = number(arg[4]),
		.elem_flags = arg[5] >= 240 ? number(arg[5]) : 0,
		.flags = arg[5] >= 250 ? 1 : 0,
	} };

	*(__u32 *)(buf + 2 * PAGE) = number(arg[6]);
	if (arg[3] >= 200 && arg[3] < 216)	/* some of the values can be copied */
		attr.batch.values = (unsigned long)buf + BUF_SIZE - 100 * (arg[3] - 199);
	/* Mostly one that there is. */
	if (arg[1] < 224 && QUEUES & 1ULL << map->type && cmd == BPF_MAP_DELETE_BATCH)
		cmd = BPF_MAP_UPDATE_BATCH;
	if (arg[1] < 224 && map->type == BPF_MAP_TYPE_STACK_TRACE && cmd == BPF_MAP_UPDATE_BATCH)
		cmd = BPF_MAP_LOOKUP_BATCH;
	if (cmd == BPF_MAP_UPDATE_BATCH && arg[5] < 100)
		attr.batch.elem_flags = BPF_EXIST;
	return bpf(cmd, &attr);
}

static long do_info(const __u8 *arg)
{
	struct bpf_map_info info = {};
	int map_fd = get_map(arg[0], OURS)->fd, fd;
	union bpf_attr attr = { .info = {
		.bpf_fd = map_fd, .info_len = sizeof(info), .info = (unsigned long)&info,
	} };
	char text[4096];
	long len;

	if (arg[1] < 32)
		return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	snprintf(text, sizeof(text), "/proc/self/fdinfo/%d", map_fd);
	fd = open(text, O_RDONLY);
	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text));
	close(fd);
	return len > 0 ? 0 : -1;
}

static char *area_of(__u8 byte)
{
	return areas + byte % NR_SLOTS * AREA_SIZE;
}

static int protection(__u8 byte)
{
	return byte < 160 ? PROT_READ | PROT_WRITE : byte < 224 ? PROT_READ : byte & 7;
}

static long do_mmap(const __u8 *arg)
{
	struct map *map = get_map(arg[0], RINGS);
	unsigned long offset, len;

	offset = arg[2] < 224 ? arg[2] % 4 / 2 * PAGE : number(arg[2] * 5) * PAGE;
	len = arg[3] < 128 ? PAGE : arg[3] < 224 ? map->max_entries * 2UL + 2 * PAGE - offset :
	      number(arg[3] * 5) * PAGE;
	if (len > AREA_SIZE)
		len = AREA_SIZE;
	if (mmap(area_of(arg[1]), len, protection(arg[4]),
		 MAP_FIXED | (arg[5] < 224 ? MAP_SHARED : MAP_PRIVATE), map->fd,
		 offset) != MAP_FAILED)
		return 0;
	/* What was there may be gone. */
	mmap(area_of(arg[1]), AREA_SIZE, PROT_NONE,
	     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return -1;
}

static long do_remap(const __u8 *arg)
{
	char *area = area_of(arg[0]), *page = area + arg[1] % 4 * PAGE;
	unsigned long len = number(arg[2]) % (AREA_SIZE / PAGE) * PAGE;
	void *to;

	switch (arg[3] % 4) {
	case 0:
		return mprotect(page, PAGE, protection(arg[4]));
	case 1:
		return madvise(page, PAGE, number(arg[4]) & 31);
	case 2:
		to = mremap(area, PAGE, len, MREMAP_MAYMOVE | MREMAP_FIXED, area_of(arg[4]));
		if (to != MAP_FAILED)
			mmap(area, PAGE, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return to == MAP_FAILED ? -1 : 0;
	default:
		to = mmap(area, AREA_SIZE, PROT_NONE,
			  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		return to == MAP_FAILED ? -1 : 0;
	}
}

static long do_poll(const __u8 *arg)
{
	struct pollfd fds[2] = {
		{ .fd = get_map(arg[0], OURS)->fd, .events = POLLIN | POLLOUT },
		{ .fd = get_map(arg[1], OURS)->fd, .events = arg[2] },
	};

	return poll(fds, 2, arg[3] < 32) < 0 ? -1 : 0;
}

static long do_close(const __u8 *arg)
{
	switch (arg[1] % 3) {
	case 0:
		put(&maps[arg[0] % NR_SLOTS].fd, 0);
		break;
	case 1:
		put(&progs[arg[0] % NR_SLOTS].fd, 0);
		break;
	default:
		put(&links[arg[0] % NR_SLOTS], 0);
	}
	return 0;
}

/* As a consumer, or a producer, that keeps to the rules, nearly. */
static long do_use_ring(const __u8 *arg)
{
	struct map *map = get_map(arg[0], RINGS);
	bool user = map->type == BPF_MAP_TYPE_USER_RINGBUF;
	unsigned long *cons, *prod, mask = map->max_entries - 1UL, len, pos, size = number(arg[1]);
	int prot = PROT_READ, n = 1 + arg[3] % 32;
	long ret = -1;
	__u32 *hdr;

	cons = mmap(NULL, PAGE, user ? prot : prot | PROT_WRITE, MAP_SHARED, map->fd, 0);
	if (cons == MAP_FAILED)
		return -1;
	len = PAGE + map->max_entries * 2UL;
	prod = mmap(NULL, len, user ? prot | PROT_WRITE : prot, MAP_SHARED, map->fd, PAGE);
	if (prod == MAP_FAILED)
		goto unmap;
	while (n--) {
		pos = user ? __atomic_load_n(prod, __ATOMIC_ACQUIRE) : *cons;
		hdr = (void *)prod + PAGE + (pos & mask & ~7UL);
		if (user) {
			size = size > mask ? mask : size;
			if (pos + size + 8 - *cons > mask + 1)
				break;
			hdr[0] = size | (arg[2] < 32 ? BPF_RINGBUF_DISCARD_BIT : 0) |
				 (arg[2] > 240 ? BPF_RINGBUF_BUSY_BIT : 0);
			hdr[2] = arg[2] + n == 100;	/* for the callback: stop */
			__atomic_store_n(prod, pos + ((size + 15) & ~7UL), __ATOMIC_RELEASE);
		} else {
			if ((long)(__atomic_load_n(prod, __ATOMIC_ACQUIRE) - pos) <= 0)
				break;
			size = __atomic_load_n(hdr, __ATOMIC_ACQUIRE);
			if (size & BPF_RINGBUF_BUSY_BIT)
				break;
			size = (size & ~BPF_RINGBUF_DISCARD_BIT) + 15;
			__atomic_store_n(cons, pos + (size & ~7UL), __ATOMIC_RELEASE);
		}
		ret = 0;
	}
	munmap(prod, len);
unmap:
	munmap(cons, PAGE);
	return ret;
}

/* --- programs ------------------------------------------------------------------- */

enum template {
	T_PUSH, T_POP, T_PEEK, T_RESERVE, T_OUTPUT, T_QUERY, T_DYNPTR, T_DRAIN,
	T_STACKID, T_STACK, T_TASK_STACK, T_REDIRECT, T_VERDICT, NR_TEMPLATES
};

static const __u64 template_maps[NR_TEMPLATES] = {
	QUEUES, QUEUES, QUEUES, TYPE(RINGBUF), TYPE(RINGBUF), RINGS, TYPE(RINGBUF),
	TYPE(USER_RINGBUF), TYPE(STACK_TRACE), OURS, OURS, TYPE(CPUMAP), OURS,
};

static struct bpf_insn insns[64];
static unsigned int nr_insns;

#define EMIT(...)								\
do {										\
	const struct bpf_insn more[] = { __VA_ARGS__ };				\
										\
	memcpy(insns + nr_insns, more, sizeof(more));				\
	nr_insns += COUNT(more);						\
} while (0)

#define CALL(helper) BPF_EMIT_CALL(BPF_FUNC_##helper)

/* r6: ctx, r7 and r8: numbers for the helper's arguments, r9: AUX_SIZE bytes of memory */
static void emit_helper(enum template t, int fd, __u32 size)
{
	EMIT(BPF_LD_MAP_FD(BPF_REG_1, fd), BPF_MOV64_REG(BPF_REG_2, BPF_REG_9));
	switch (t) {
	case T_PUSH:
		EMIT(BPF_MOV64_REG(BPF_REG_3, BPF_REG_7), CALL(map_push_elem));
		break;
	case T_POP:
		EMIT(CALL(map_pop_elem));
		break;
	case T_PEEK:
		EMIT(CALL(map_peek_elem));
		break;
	case T_RESERVE:
		EMIT(BPF_MOV64_IMM(BPF_REG_2, size), BPF_MOV64_IMM(BPF_REG_3, 0),
		     CALL(ringbuf_reserve), BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, 0, size < 8 ? 6 : 7));
		if (size >= 8)
			EMIT(BPF_STX_MEM(BPF_DW, BPF_REG_0, BPF_REG_8, 0));
		EMIT(BPF_MOV64_REG(BPF_REG_1, BPF_REG_0), BPF_MOV64_REG(BPF_REG_2, BPF_REG_7),
		     BPF_JMP_IMM(BPF_JSET, BPF_REG_8, 1, 2), CALL(ringbuf_submit),
		     BPF_JMP_A(1), CALL(ringbuf_discard));
		break;
	case T_OUTPUT:
		EMIT(BPF_MOV64_REG(BPF_REG_3, BPF_REG_8),
		     BPF_ALU64_IMM(BPF_AND, BPF_REG_3, AUX_SIZE - 1),
		     BPF_MOV64_REG(BPF_REG_4, BPF_REG_7), CALL(ringbuf_output));
		break;
	case T_QUERY:
		EMIT(BPF_MOV64_REG(BPF_REG_2, BPF_REG_7), CALL(ringbuf_query));
		break;
	case T_DYNPTR:
		EMIT(BPF_MOV64_REG(BPF_REG_2, BPF_REG_8), BPF_MOV64_IMM(BPF_REG_3, size == 7),
		     BPF_MOV64_REG(BPF_REG_4, BPF_REG_10), BPF_ALU64_IMM(BPF_ADD, BPF_REG_4, -16),
		     CALL(ringbuf_reserve_dynptr),
		     BPF_MOV64_REG(BPF_REG_1, BPF_REG_10), BPF_ALU64_IMM(BPF_ADD, BPF_REG_1, -16),
		     BPF_MOV64_REG(BPF_REG_2, BPF_REG_7), BPF_JMP_IMM(BPF_JSET, BPF_REG_8, 1, 2),
		     CALL(ringbuf_submit_dynptr), BPF_JMP_A(1), CALL(ringbuf_discard_dynptr));
		break;
	case T_DRAIN:
		/* The callback follows the exit. */
		EMIT(BPF_RAW_INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_2, BPF_PSEUDO_FUNC, 0, 5),
		     BPF_RAW_INSN(0, 0, 0, 0, 0), BPF_MOV64_IMM(BPF_REG_3, 0),
		     BPF_MOV64_REG(BPF_REG_4, BPF_REG_7), CALL(user_ringbuf_drain));
		break;
	case T_STACKID:
		EMIT(BPF_MOV64_REG(BPF_REG_2, BPF_REG_1), BPF_MOV64_REG(BPF_REG_1, BPF_REG_6),
		     BPF_MOV64_REG(BPF_REG_3, BPF_REG_7), CALL(get_stackid));
		break;
	case T_TASK_STACK:
		EMIT(CALL(get_current_task_btf), BPF_MOV64_REG(BPF_REG_6, BPF_REG_0));
		fallthrough;
	case T_STACK:
		EMIT(BPF_MOV64_REG(BPF_REG_1, BPF_REG_6), BPF_MOV64_REG(BPF_REG_2, BPF_REG_9),
		     BPF_MOV64_REG(BPF_REG_3, BPF_REG_8),
		     BPF_ALU64_IMM(BPF_AND, BPF_REG_3, AUX_SIZE - 1),
		     BPF_MOV64_REG(BPF_REG_4, BPF_REG_7));
		EMIT(BPF_EMIT_CALL(t == T_STACK ? BPF_FUNC_get_stack : BPF_FUNC_get_task_stack));
		break;
	case T_REDIRECT:
		EMIT(BPF_MOV32_REG(BPF_REG_2, BPF_REG_7), BPF_MOV32_REG(BPF_REG_3, BPF_REG_8),
		     BPF_ALU64_IMM(BPF_AND, BPF_REG_3, size == 7 ? -1 : 3), CALL(redirect_map));
		break;
	default:
		EMIT(BPF_MOV64_REG(BPF_REG_0, BPF_REG_7), BPF_ALU64_IMM(BPF_AND, BPF_REG_0, 7),
		     BPF_JMP_IMM(BPF_JNE, BPF_REG_0, XDP_REDIRECT, 3),
		     BPF_MOV64_IMM(BPF_REG_1, devices[size & 1]), BPF_MOV64_IMM(BPF_REG_2, 0),
		     CALL(redirect));
	}
}

/* main() and a callback, both int (void); the kernel wants no more. */
static const struct {
	struct btf_header header;
	__u32 types[4 + 3 + 3 + 3];
	char strings[16];
} btf = {
	.header = {
		.magic = BTF_MAGIC, .version = BTF_VERSION, .hdr_len = sizeof(struct btf_header),
		.type_len = 13 * 4, .str_off = 13 * 4, .str_len = 16,
	},
	.types = {
		1, BTF_KIND_INT << 24, 4, BTF_INT_SIGNED << 24 | 32,
		0, BTF_KIND_FUNC_PROTO << 24, 1,
		5, BTF_KIND_FUNC << 24, 2,
		10, BTF_KIND_FUNC << 24, 2,
	},
	.strings = "\0int\0main\0each",
};

static __u64 helper_flags(enum template t, __u8 byte)
{
	if (t == T_STACKID || t == T_STACK || t == T_TASK_STACK)
		return stack_flags(byte);
	return byte < 224 ? byte % 7 : number(byte * 5);
}

static long do_prog(const __u8 *arg)
{
	static const __u8 types[] = {
		BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_XDP,
		BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_PERF_EVENT,
		BPF_PROG_TYPE_SYSCALL,
	};
	enum template t = arg[1] % NR_TEMPLATES;
	__u32 size = number(arg[5]), func_info[4] = { 0, 3, 0, 4 };
	__u8 slot = arg[0] % NR_SLOTS;
	union bpf_attr attr = {
		.prog_type = types[arg[2] % COUNT(types)],
		.insns = (unsigned long)insns,
		.license = (unsigned long)"GPL",
	};

	if (t >= T_REDIRECT)
		attr.prog_type = BPF_PROG_TYPE_XDP;
	else if (t >= T_STACKID && attr.prog_type == BPF_PROG_TYPE_XDP)
		attr.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
	if (attr.prog_type == BPF_PROG_TYPE_SYSCALL ||
	    (attr.prog_type == BPF_PROG_TYPE_KPROBE && arg[6] & 2))
		attr.prog_flags = BPF_F_SLEEPABLE;
	if (attr.prog_type == BPF_PROG_TYPE_XDP && (arg[6] & 12) == 12)
		attr.expected_attach_type = BPF_XDP_CPUMAP;

	nr_insns = 0;
	EMIT(BPF_MOV64_REG(BPF_REG_6, BPF_REG_1), BPF_LD_MAP_FD(BPF_REG_9, aux_fd));
	insns[1].src_reg = BPF_PSEUDO_MAP_VALUE;
	if (arg[6] & 1) {
		EMIT(BPF_MOV64_IMM(BPF_REG_7, helper_flags(t, arg[4])),
		     BPF_MOV64_IMM(BPF_REG_8, size));
	} else if (attr.prog_type != BPF_PROG_TYPE_XDP) {
		EMIT(BPF_LDX_MEM(BPF_DW, BPF_REG_7, BPF_REG_6, 0),
		     BPF_LDX_MEM(BPF_DW, BPF_REG_8, BPF_REG_6, 8));
	} else {
		EMIT(BPF_LDX_MEM(BPF_W, BPF_REG_2, BPF_REG_6, offsetof(struct xdp_md, data)),
		     BPF_LDX_MEM(BPF_W, BPF_REG_3, BPF_REG_6, offsetof(struct xdp_md, data_end)),
		     BPF_MOV64_IMM(BPF_REG_0, XDP_PASS), BPF_MOV64_REG(BPF_REG_4, BPF_REG_2),
		     BPF_ALU64_IMM(BPF_ADD, BPF_REG_4, 8),
		     BPF_JMP_REG(BPF_JLE, BPF_REG_4, BPF_REG_3, 1), BPF_EXIT_INSN(),
		     BPF_LDX_MEM(BPF_W, BPF_REG_7, BPF_REG_2, 0),
		     BPF_LDX_MEM(BPF_W, BPF_REG_8, BPF_REG_2, 4));
	}
	emit_helper(t, get_map(arg[3], template_maps[t])->fd, size);
	if (attr.prog_type != BPF_PROG_TYPE_XDP || t < T_REDIRECT)
		EMIT(BPF_MOV64_IMM(BPF_REG_0, attr.prog_type == BPF_PROG_TYPE_XDP ? 2 : 0));
	else
		EMIT(BPF_JMP_A(0));
	EMIT(BPF_EXIT_INSN());
	if (t == T_DRAIN) {
		func_info[2] = nr_insns;
		EMIT(BPF_MOV64_REG(BPF_REG_3, BPF_REG_1), BPF_MOV64_REG(BPF_REG_1, BPF_REG_10),
		     BPF_ALU64_IMM(BPF_ADD, BPF_REG_1, -4), BPF_MOV64_IMM(BPF_REG_2, 4),
		     BPF_MOV64_IMM(BPF_REG_4, 0), BPF_MOV64_IMM(BPF_REG_5, 0), CALL(dynptr_read),
		     BPF_LDX_MEM(BPF_W, BPF_REG_0, BPF_REG_10, -4),
		     BPF_ALU64_IMM(BPF_AND, BPF_REG_0, 1), BPF_EXIT_INSN());
		attr.prog_btf_fd = bpf(BPF_BTF_LOAD, &(union bpf_attr){
			.btf = (unsigned long)&btf, .btf_size = sizeof(btf),
		});
		attr.func_info = (unsigned long)func_info;
		attr.func_info_rec_size = 8;
		attr.func_info_cnt = 2;
	}
	attr.insn_cnt = nr_insns;
	put(&progs[slot].fd, bpf(BPF_PROG_LOAD, &attr));
	if ((int)attr.prog_btf_fd > 0)
		close(attr.prog_btf_fd);
	progs[slot].template = t;
	progs[slot].type = attr.prog_type;
	progs[slot].second = attr.expected_attach_type == BPF_XDP_CPUMAP;
	return progs[slot].fd ? 0 : -1;
}

static long do_run(const __u8 *arg)
{
	int prog = get_prog(arg[0], 1ULL << BPF_PROG_TYPE_RAW_TRACEPOINT |
			    1ULL << BPF_PROG_TYPE_XDP | 1ULL << BPF_PROG_TYPE_SYSCALL);
	__u64 ctx[2] = { helper_flags(progs[prog].template, arg[1]), number(arg[2]) };
	union bpf_attr attr = { .test = { .prog_fd = progs[prog].fd } };
	__u32 packet[64] = { ctx[0], ctx[1], 0, htonl(0x08004500) };

	if (progs[prog].type != BPF_PROG_TYPE_XDP) {
		attr.test.ctx_in = (unsigned long)ctx;
		attr.test.ctx_size_in = sizeof(ctx);
		if (progs[prog].type == BPF_PROG_TYPE_RAW_TRACEPOINT && arg[3] < 64) {
			attr.test.flags = BPF_F_TEST_RUN_ON_CPU;
			attr.test.cpu = arg[3] % 2;
		}
		return bpf(BPF_PROG_TEST_RUN, &attr);
	}
	if (progs[prog].template >= T_REDIRECT)
		packet[0] = arg[1] < 224 ? arg[1] % 4 : number(arg[1] * 5);
	attr.test.data_in = (unsigned long)packet;
	attr.test.data_size_in = 14 + arg[3] % 200;
	attr.test.repeat = 1;
	if (arg[4] < 192) {
		attr.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
		attr.test.repeat = 1 + arg[5] % 100;
		attr.test.batch_size = arg[6] % 65;
	}
	return bpf(BPF_PROG_TEST_RUN, &attr);
}

static int perf_type(const char *name)
{
	char path[64];
	int type = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	file = fopen(path, "r");
	if (file && fscanf(file, "%d", &type) != 1)
		type = -1;
	if (file)
		fclose(file);
	return type;
}

static noinline void probed(int depth)
{
	if (depth)
		probed(depth - 1);
	asm volatile("" ::: "memory");
}

/* Where probed() is in this program's file. */
static __u64 probed_offset(void)
{
	unsigned long start, end, offset, addr = (unsigned long)probed;
	FILE *file = fopen("/proc/self/maps", "r");
	char line[512];
	__u64 found = 0;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    addr >= start && addr < end)
			found = addr - start + offset;
	if (file)
		fclose(file);
	return found;
}

static long do_attach(const __u8 *arg)
{
	static const char * const tracepoints[] = {
		"sys_enter", "sched_switch", "sys_exit", "xdp_cpumap_kthread", "contention_end",
		"xdp_cpumap_enqueue", "softirq_entry", "mm_page_alloc", "sched_wakeup",
	};
	static int uprobe_type = -1;
	static __u64 offset;
	int prog = get_prog(arg[0], -1ULL), fd = progs[prog].fd, err, event;
	struct perf_event_attr perf = { .size = sizeof(perf) };
	union bpf_attr attr = {};

	switch (progs[prog].type) {
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
		attr.raw_tracepoint.name = (unsigned long)tracepoints[arg[2] % COUNT(tracepoints)];
		attr.raw_tracepoint.prog_fd = fd;
		put(&links[arg[1] % NR_SLOTS], bpf(BPF_RAW_TRACEPOINT_OPEN, &attr));
		return links[arg[1] % NR_SLOTS] ? 0 : -1;
	case BPF_PROG_TYPE_XDP:
		attr.link_create.prog_fd = fd;
		attr.link_create.target_ifindex = devices[1];
		attr.link_create.attach_type = BPF_XDP;
		attr.link_create.flags = arg[2] & 1 ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
		put(&links[arg[1] % NR_SLOTS], bpf(BPF_LINK_CREATE, &attr));
		return links[arg[1] % NR_SLOTS] ? 0 : -1;
	case BPF_PROG_TYPE_KPROBE:
		if (uprobe_type < 0) {
			uprobe_type = perf_type("uprobe");
			offset = probed_offset();
		}
		perf.type = uprobe_type;
		perf.config1 = (unsigned long)"/proc/self/exe";
		perf.config2 = offset;
		perf.config = arg[2] & 1;	/* on return */
		break;
	default:
		perf.type = PERF_TYPE_SOFTWARE;
		perf.config = PERF_COUNT_SW_CPU_CLOCK;
		perf.sample_period = 200000 << arg[2] % 4;
		perf.sample_type = arg[3] & 1 ? PERF_SAMPLE_CALLCHAIN : 0;
		perf.exclude_callchain_user = arg[3] % 16 == 15;
		perf.exclude_callchain_kernel = arg[3] % 16 == 13;
	}
	event = syscall(__NR_perf_event_open, &perf, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return -1;
	err = ioctl(event, PERF_EVENT_IOC_SET_BPF, fd);
	if (err)
		close(event);
	else
		put(&links[arg[1] % NR_SLOTS], event);
	return err;
}

static long do_trigger(const __u8 *arg)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = devices[0] };
	__u32 packet[64] = { number(arg[1]), number(arg[2]), 0, htonl(0x08004500) };
	int n = 1 + arg[3] % 32, sent = 0;

	if (arg[0] < 128) {
		probed(arg[1] % 64);
		return 0;
	}
	if (arg[1] < 128)
		packet[0] = arg[1] % 2;
	while (n--)
		sent += sendto(packet_fd, packet, 14 + arg[4] % 200, 0, (void *)&to,
			       sizeof(to)) > 0;
	return sent ? 0 : -1;
}

static long do_hostile(const __u8 *arg)
{
	hostile = arg[0] & 1;
	return 0;
}

/* The nth allocation of what comes next fails. */
static long do_fail(const __u8 *arg)
{
	char text[8];
	int len = snprintf(text, sizeof(text), "%d", 1 + arg[0] % (arg[1] & 1 ? 8 : 40));

	return pwrite(fail_fd, text, len, 0) == len ? 0 : -1;
}

static long (* const do_op[NR_OPS])(const __u8 *arg) = {
	do_create, do_steal, do_elem, do_batch, do_info, do_mmap, do_remap, do_poll, do_close,
	do_prog, do_run, do_attach, do_trigger, do_use_ring, do_hostile, do_fail,
};

#endif
