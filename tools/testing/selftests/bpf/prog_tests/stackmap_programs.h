/* SPDX-License-Identifier: GPL-2.0 */
/* The programs of stackmap_contract, what makes them run, and what they find. */
#ifndef __STACKMAP_PROGRAMS_H
#define __STACKMAP_PROGRAMS_H

#include <elf.h>
#include "stackmap_common.h"
#include "progs/stackmap_contract.h"
#include "stackmap_contract.skel.h"

#define MAX_STACK "/proc/sys/kernel/perf_event_max_stack"

#define USER BPF_F_USER_STACK
#define IDS_SIZE sizeof(struct bpf_stack_build_id)
#define NO_RET -12345

static struct stackmap_contract *skel;
static struct stack_request *req;	/* the program's first */
static int map;
static __u32 words;		/* of the map's values */
static __u64 value[1024];	/* what was looked up last */
static struct frame chain[320];
static struct bpf_link *probe_link;

/* --- programs ---------------------------------------------------------------- */

static inline bool open_sized(__u32 max_entries, __u32 value_size, __u32 map_flags)
{
	skel = stackmap_contract__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	words = value_size / sizeof(__u64);
	bpf_map__set_max_entries(skel->maps.stacks, max_entries);
	bpf_map__set_value_size(skel->maps.stacks, value_size);
	bpf_map__set_map_flags(skel->maps.stacks, map_flags);
	return true;
}

static inline bool load_skel(void)
{
	if (!ASSERT_OK(stackmap_contract__load(skel), "load skeleton"))
		return false;
	map = bpf_map__fd(skel->maps.stacks);
	req = &skel->bss->requests[0];
	skel->bss->other_pid = getpid();
	return ASSERT_OK(stackmap_contract__attach(skel), "attach");
}

static inline bool load_with(struct bpf_program *prog)
{
	bpf_program__set_autoload(prog, true);
	return load_skel();
}

static inline void teardown(void)
{
	bpf_link__destroy(probe_link);
	probe_link = NULL;
	stackmap_contract__destroy(skel);
	skel = NULL;
}

/* What the program's helper says of this stack, with what is in @req. */
static inline long ask(const struct frame *fp)
{
	__u32 runs = req->runs;

	req->ret = NO_RET;
	forged_getpgid(fp, 0);
	if (req->runs != runs + 1)
		ASSERT_EQ(req->runs, runs + 1, "runs of the program");
	return req->ret;
}

/* A uprobe's program, the same. */
static inline long ask_by_call(const struct frame *fp)
{
	__u32 runs = req->runs;

	req->ret = NO_RET;
	forged_call(fp);
	if (req->runs != runs + 1)
		ASSERT_EQ(req->runs, runs + 1, "runs of the program");
	return req->ret;
}

static inline long take(const struct frame *fp, __u64 flags)
{
	req->what = STACKID;
	req->flags = flags;
	return ask(fp);
}

static inline int lookup(__u32 id)
{
	memset(value, 0xa5, sizeof(value));
	return bpf_map_lookup_elem(map, &id, value);
}

static inline int delete(__u32 id)
{
	return bpf_map_delete_elem(map, &id);
}

static inline long get(enum what what, __u32 size, __u64 flags, const struct frame *fp)
{
	memset(req->buf, 0xa5, sizeof(req->buf));
	req->what = what;
	req->size = size;
	req->flags = flags;
	return ask(fp);
}

/* --- how deep the kernel unwinds ---------------------------------------------- */

static inline __u32 read_max_stack(void)
{
	FILE *file = fopen(MAX_STACK, "r");
	__u32 depth = 0;

	if (!ASSERT_OK_PTR(file, "open " MAX_STACK))
		return 0;
	ASSERT_EQ(fscanf(file, "%u", &depth), 1, "read " MAX_STACK);
	fclose(file);
	return depth;
}

/* Maps of earlier tests are freed in the background, and the limit stays until then. */
static inline bool set_max_stack(__u32 depth)
{
	__u64 end = get_time_ns() + 10000000000ULL;
	int fd, err, len;
	char line[16];

	len = snprintf(line, sizeof(line), "%u", depth);
	do {
		fd = open(MAX_STACK, O_WRONLY);
		err = write(fd, line, len) == len ? 0 : -errno;
		close(fd);
	} while (err == -EBUSY && get_time_ns() < end && !kern_sync_rcu());
	return ASSERT_OK(err, "write " MAX_STACK);
}

/* --- where programs run ------------------------------------------------------ */

static inline bool attach_uprobe(struct bpf_program *prog)
{
	ssize_t offset = get_uprobe_offset(forged_probe);

	probe_link = bpf_program__attach_uprobe(prog, false, 0, "/proc/self/exe", offset);
	return ASSERT_OK_PTR(probe_link, "attach uprobe");
}

/* A thread that waits in a system call. */
static inline void *wait_in_read(void *arg)
{
	int *pipe = arg;
	char byte;

	*(volatile int *)&skel->bss->other_pid = sys_gettid();
	ASSERT_EQ(read(pipe[0], &byte, 1), 1, "read");
	return NULL;
}

static inline bool thread_sleeps(int tid)
{
	char path[64], line[256] = "";
	char *state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	state = strrchr(line, ')');
	return state && state[2] == 'S';
}

/* --- files with build ids ---------------------------------------------------- */

/* ELF's header and one segment at the start, the note with the build id in the second page. */
struct fake_elf {
	struct {
		__u8 ident[EI_NIDENT];
		__u16 type, machine;
		__u32 version;
		__u64 entry, phoff, shoff;
		__u32 flags;
		__u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
	} header;
	struct {
		__u32 type, flags;
		__u64 offset, vaddr, paddr, filesz, memsz, align;
	} segment;
	__u8 pad[4096 - 64 - 56];
	struct {
		__u32 namesz, descsz, type;
		char name[4];
	} note;
	__u8 id[BPF_BUILD_ID_SIZE];
};

static inline void make_id(__u8 *id, __u8 seed, __u32 size)
{
	__u32 i;

	memset(id, 0, BPF_BUILD_ID_SIZE);
	for (i = 0; i < size; i++)
		id[i] = seed * 13 + i * 7 + 1;
}

/* Write a file of @pages that has only a build id, of @size bytes, from @seed. */
static inline bool write_elf(int fd, __u8 seed, __u32 size, int pages)
{
	struct fake_elf elf = {
		.header = {
			.ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				   EV_CURRENT },
			.type = ET_DYN,
			.machine = EM_X86_64,
			.version = EV_CURRENT,
			.phoff = offsetof(struct fake_elf, segment),
			.ehsize = sizeof(elf.header),
			.phentsize = sizeof(elf.segment),
			.phnum = 1,
		},
		.segment = {
			.type = PT_NOTE,
			.offset = offsetof(struct fake_elf, note),
			.filesz = sizeof(elf.note) + (size + 3) / 4 * 4,
		},
		.note = { .namesz = 4, .descsz = size, .type = NT_GNU_BUILD_ID, .name = "GNU" },
	};

	make_id(elf.id, seed, size);
	return ASSERT_EQ(pwrite(fd, &elf, sizeof(elf), 0), sizeof(elf), "write") &&
	       ASSERT_OK(ftruncate(fd, pages * 4096), "size of the file");
}

static inline int make_elf(__u8 seed, __u32 size, int pages)
{
	int fd = memfd_create("stackmap", MFD_CLOEXEC);

	if (!ASSERT_OK_FD(fd, "create file") || !write_elf(fd, seed, size, pages))
		return -1;
	return fd;
}

/* A part of the file, at @addr unless that is NULL. */
static inline void *map_file(int fd, void *addr, int pages, int first_page)
{
	void *mem = mmap(addr, pages * 4096, PROT_READ | PROT_EXEC,
			 MAP_PRIVATE | (addr ? MAP_FIXED : 0), fd, first_page * 4096L);

	return ASSERT_NEQ(mem, MAP_FAILED, "map file") ? mem : NULL;
}

/* Room for mappings, where nobody else maps anything. */
static inline void *empty_range(int pages)
{
	static __u64 end = 0x200000000000ULL;

	end += (pages + 16) * 4096;
	return (void *)end - pages * 4096;
}

/* --- perf events ------------------------------------------------------------- */

#define RING_PAGES 8

static struct perf_event_mmap_page *event_ring;

/*
 * An event at each page fault of this thread, from which the program runs: getcpu() that writes
 * to a fresh page makes one in the kernel, with forged frames below.
 */
static inline int open_event(__u64 sample_type, bool without_kernel, bool without_user)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.size = sizeof(attr),
		.sample_period = 1,
		.sample_type = sample_type,
		.exclude_callchain_kernel = without_kernel,
		.exclude_callchain_user = without_user,
		.disabled = 1,
	};
	void *ring;
	int fd;

	fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (!ASSERT_OK_FD(fd, "open event"))
		return -1;
	ring = mmap(NULL, (1 + RING_PAGES) * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!ASSERT_NEQ(ring, MAP_FAILED, "map the event's buffer")) {
		close(fd);
		return -1;
	}
	event_ring = ring;
	skel->links.at_event = bpf_program__attach_perf_event(skel->progs.at_event, fd);
	if (!ASSERT_OK_PTR(skel->links.at_event, "attach"))
		return -1;
	return fd;
}

static inline void close_event(void)
{
	if (event_ring)
		munmap(event_ring, (1 + RING_PAGES) * 4096);
	event_ring = NULL;
}

/* One fault in the kernel. */
static inline void fault(int event, const struct frame *fp)
{
	void *page;
	int i;

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < NR_SLOTS; i++) {
		memset(req[i].buf, 0xa5, sizeof(req[i].buf));
		req[i].ret = NO_RET;
		req[i].runs = 0;
	}
	skel->bss->fault_addr = (__u64)page;
	event_ring->data_tail = event_ring->data_head;
	ioctl(event, PERF_EVENT_IOC_ENABLE, 0);
	forged_syscall(fp, __NR_getcpu, (long)page, 0);
	ioctl(event, PERF_EVENT_IOC_DISABLE, 0);
	for (i = 0; i < NR_SLOTS; i++)
		if (req[i].runs != 1)
			ASSERT_EQ(req[i].runs, 1, "runs of the program");
	munmap(page, 4096);
}

static inline bool setup_event_sized(__u32 value_size)
{
	if (!open_sized(16, value_size, 0))
		return false;
	bpf_program__set_autoload(skel->progs.at_event, true);
	bpf_program__set_autoattach(skel->progs.at_event, false);
	return load_skel();
}

static inline bool setup_event(void)
{
	return setup_event_sized(127 * 8);
}

#endif
