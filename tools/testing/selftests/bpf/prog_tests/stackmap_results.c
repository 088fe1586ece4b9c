// SPDX-License-Identifier: GPL-2.0
/*
 * What the helpers for stacks return and write, byte for byte, for stacks that are the same in
 * every run: each skip, sizes, flags, in each kind of program. STACKMAP_RESULTS names a file for
 * the table of it, where addresses are told by names, so that those of two kernels can be compared.
 * It ends with the memory that maps take.
 *
 * Not in the table is the stack in the kernel of the task that calls bpf_get_task_stack() for
 * itself: it begins with the functions of the helper.
 */
#include <sys/wait.h>
#include "stackmap_programs.h"

#define CANARY 64		/* bytes behind the buffer that nobody may write */
#define NR_FILES 2

static FILE *table;
static __u64 text_start, text_end;

/* What one call gave, as text, and the call before. */
static char now[1 << 15], before[sizeof(now)];
static size_t len;

static void put(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	len += vsnprintf(now + len, sizeof(now) - len, format, args);
	va_end(args);
	if (len >= sizeof(now)) {
		ASSERT_FAIL("a result longer than %zu", sizeof(now));
		len = 0;
	}
}

/* --- addresses and buffers --------------------------------------------------- */

static void put_ip(__u64 ip)
{
	struct ksym *sym = ip >= text_start && ip < text_end ? ksym_search(ip) : NULL;

	if (ip == PERF_CONTEXT_KERNEL)
		put(" KERNEL");
	else if (ip == PERF_CONTEXT_USER)
		put(" USER");
	else if (ip == (__u64)forged_ip)
		put(" syscall");
	else if (ip == (__u64)forged_probe)
		put(" probe");
	else if (sym)
		put(" %s+%#llx", sym->name, ip - (__u64)sym->addr);
	else if ((long)ip < 0)
		put(" program");	/* generated, at an address as it comes */
	else
		put(" %#llx", ip);
}

/* Consecutive addresses, and zeros, together. */
static void put_words(const __u64 *ips, __u32 nr)
{
	__u32 i, run;

	for (i = 0; i < nr; i += run) {
		for (run = 1; i + run < nr; run++)
			if (ips[i + run] != ips[i] + (ips[i] ? run : 0))
				break;
		if (!ips[i])
			put(" 0*%u", run);
		else
			put_ip(ips[i]);
		if (ips[i] && run > 1)
			put("..%#llx", ips[i + run - 1]);
	}
}

static void put_frame_with_id(const struct bpf_stack_build_id *frame)
{
	static const struct bpf_stack_build_id empty;
	int i;

	if (!memcmp(frame, &empty, sizeof(empty))) {
		put(" -");
		return;
	}
	put(" %d:", frame->status);
	for (i = 0; i < BPF_BUILD_ID_SIZE; i++)
		put("%02x", frame->build_id[i]);
	if (frame->status == BPF_STACK_BUILD_ID_VALID)
		put("+%#llx", frame->offset);
	else
		put_ip(frame->ip);
}

/* Whole frames, then bytes. */
static void put_bytes(const void *bytes, __u32 size, bool build_ids)
{
	__u32 unit = build_ids ? IDS_SIZE : sizeof(__u64), i;

	if (build_ids)
		for (i = 0; i < size / unit; i++)
			put_frame_with_id((const struct bpf_stack_build_id *)bytes + i);
	else
		put_words(bytes, size / unit);
	for (i = size / unit * unit; i < size; i++)
		put(" %02x", ((const __u8 *)bytes)[i]);
}

/* --- calls ------------------------------------------------------------------- */

/* How the program is made to run, on which stack. */
static enum { SYSCALL, CALL, FAULT } trigger;
static const struct frame *fp;
static int event;
static bool map_of_ids;

static void run_program(void)
{
	__u32 runs = req->runs;

	req->ret = NO_RET;
	if (trigger == FAULT) {
		fault(event, fp);
		return;
	}
	if (trigger == SYSCALL)
		forged_getpgid(fp, 0);
	else
		forged_call(fp);
	if (req->runs != runs + 1)
		ASSERT_EQ(req->runs, runs + 1, "runs of the program");
}

/* One call of a helper; what it said and wrote goes to the text. */
static void call(enum what what, __u32 size, __u64 flags)
{
	const __u8 *behind = (__u8 *)req->buf + size;
	int i;

	snprintf(before, sizeof(before), "%s", now);
	len = 0;
	req->what = what;
	req->size = size;
	req->flags = flags;
	memset(req->buf, 0xa5, size + CANARY);
	run_program();
	if (what != STACKID) {
		put("%lld:", req->ret);
		put_bytes(req->buf, size, flags & BPF_F_USER_BUILD_ID);
		for (i = 0; i < CANARY; i++)
			if (behind[i] != 0xa5)
				break;
		if (i < CANARY)
			ASSERT_FAIL("byte %d behind %u of %d, flags %#llx", i, size, what, flags);
	} else if (req->ret < 0) {
		put("%lld", req->ret);
	} else if (lookup(req->ret)) {
		put("id of nothing");
	} else {
		put("id:");
		put_bytes(value, words * 8, map_of_ids);
		ASSERT_OK(delete(req->ret), "delete");
	}
}

static const char *what_name(enum what what)
{
	static const char *const names[] = { "nothing", "stackid", "stack", "task_stack" };

	return names[what];
}

/* A line for each result that differs from the one before it, over the flags @from + 0 to 255. */
static void all_skips(const char *name, enum what what, __u32 size, __u64 flags)
{
	int skip, first = 0;

	for (skip = 0; skip <= 256; skip++) {
		if (skip < 256)
			call(what, size, flags | skip);
		if (!skip || (skip < 256 && !strcmp(now, before)))
			continue;
		fprintf(table, "%s %s size %u flags %#llx skip %d-%d: %s\n", name, what_name(what),
			size, flags, first, skip - 1, skip < 256 ? before : now);
		first = skip;
	}
}

static void one(const char *name, enum what what, __u32 size, __u64 flags)
{
	call(what, size, flags);
	fprintf(table, "%s %s size %u flags %#llx: %s\n", name, what_name(what), size, flags, now);
}

/* Each flag, with sizes that are right and wrong, no skip, and the largest one. */
static void all_flags(const char *name, enum what what)
{
	static const __u32 sizes_of_both[] = { 64, 63 };
	int bit, i;

	for (bit = 9; bit < 64; bit++) {
		for (i = 0; i < ARRAY_SIZE(sizes_of_both); i++) {
			one(name, what, sizes_of_both[i], 1ULL << bit);
			one(name, what, sizes_of_both[i], 1ULL << bit | 255);
			one(name, what, sizes_of_both[i], 1ULL << bit | USER);
			one(name, what, sizes_of_both[i], 1ULL << bit | USER | 255);
		}
	}
}

/* --- tables ------------------------------------------------------------------ */

#define END UINT_MAX	/* of a table of sizes */

static const __u32 sizes[] = { 0, 8, 16, 24, 40, 64, 126 * 8, 127 * 8, 128 * 8, 130 * 8, END };
static const __u32 deep_sizes[] = { 8, 127 * 8, 128 * 8, 299 * 8, 300 * 8, 301 * 8, END };
static const __u32 few_sizes[] = { 8, 40, 127 * 8, END };
static const __u32 odd_sizes[] = {
	1, 7, 9, 12, 15, 17, 31, 33, 39, 41, 1015, 1017, 1023, 1025, END
};

static const __u32 id_sizes[] = {
	0, 8, 31, 32, 33, 40, 64, 96, 160, 256, 320, 1024, 4064, END
};

static void all_sizes(const __u32 *size, const char *name, enum what what, __u64 flags)
{
	for (; *size != END; size++)
		all_skips(name, what, *size, flags);
}

/* Files at addresses of our own choice, and memory. */
static __u8 *files;

static void map_files(void)
{
	int i, fd;

	if (files)
		return;
	files = empty_range(16);
	for (i = 0; i < NR_FILES; i++) {
		fd = make_elf(i + 1, 20, 4);
		map_file(fd, files + (1 + 5 * i) * 4096, 3, i);
		close(fd);
	}
	ASSERT_NEQ(mmap(files + 12 * 4096, 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED, "mmap");
}

static const struct frame *stack_in_files(void)
{
	__u64 base = (__u64)files, ips[] = {
		base + 0x1000, base + 0x1001, base + 0x3fff, base + 0xc008, base + 0x6000,
		base + 0x8fff, base + 0x2222, base + 0xcfff, base + 0x7777,
	};

	return forge(chain, ips, ARRAY_SIZE(ips));
}

static void forged_depths(void)
{
	static const __u32 depths[] = { 1, 2, 5, 126, 127, 128, 140 };
	enum what what;
	char name[64];
	int i;

	if (!open_sized(16, 64, 0) || !load_with(skel->progs.at_tracepoint))
		return;
	for (i = 0; i < ARRAY_SIZE(depths); i++) {
		snprintf(name, sizeof(name), "user depth %u", depths[i]);
		fp = forge_stack(chain, i, depths[i]);
		for (what = STACK; what <= TASK_STACK; what++) {
			all_sizes(sizes, name, what, USER);
			all_sizes(odd_sizes, name, what, USER);
		}
	}
	all_sizes(sizes, "kernel", STACK, 0);
	all_sizes(odd_sizes, "kernel", STACK, 0);
	all_sizes(odd_sizes, "kernel", TASK_STACK, 0);
	all_sizes(sizes, "kernel", STACK, BPF_F_USER_BUILD_ID);
	all_sizes(sizes, "kernel", TASK_STACK, BPF_F_USER_BUILD_ID);
	map_files();
	fp = stack_in_files();
	for (what = STACKID; what <= TASK_STACK; what++)
		all_flags("flag", what);
}

/* More than the kernel unwinds if nobody tells it to; more than can be skipped. */
static void deep_stacks(void)
{
	static const __u32 depths[] = { 127, 128, 200, 256, 300, 310 };
	__u32 most = read_max_stack();
	enum what what;
	char name[64];
	int i;

	if (!set_max_stack(300))
		return;
	if (!open_sized(16, 300 * 8, 0) || !load_with(skel->progs.at_tracepoint))
		goto out;
	for (i = 0; i < ARRAY_SIZE(depths); i++) {
		snprintf(name, sizeof(name), "deep, user depth %u", depths[i]);
		fp = forge_stack(chain, i, depths[i]);
		for (what = STACKID; what <= TASK_STACK; what++)
			all_sizes(deep_sizes, name, what, USER);
	}
	teardown();
	trigger = FAULT;
	if (!setup_event())
		goto out;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		goto out;
	fp = forge_stack(chain, 1, 300);
	for (what = STACKID; what <= TASK_STACK; what++)
		all_sizes(deep_sizes, "deep, event", what, USER);
	all_sizes(deep_sizes, "deep, event", STACK, 0);
out:
	close_event();
	teardown();
	set_max_stack(most);
}

static void ids_of_forged_depths(__u32 depth_of_map)
{
	static const __u32 depths[] = { 1, 2, 5, 127, 140 };
	static const __u64 flags[] = { 0, BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID };
	char name[64];
	int i, j;

	if (!open_sized(16, depth_of_map * 8, 0) || !load_with(skel->progs.at_tracepoint))
		return;
	for (i = 0; i < ARRAY_SIZE(depths); i++) {
		snprintf(name, sizeof(name), "map %u, user depth %u", depth_of_map, depths[i]);
		fp = forge_stack(chain, i, depths[i]);
		for (j = 0; j < ARRAY_SIZE(flags); j++)
			all_skips(name, STACKID, 0, USER | flags[j]);
	}
	snprintf(name, sizeof(name), "map %u, kernel", depth_of_map);
	all_skips(name, STACKID, 0, 0);
}

static void forged_one(void)
{
	ids_of_forged_depths(1);
}

static void forged_five(void)
{
	ids_of_forged_depths(5);
}

static void forged_most(void)
{
	ids_of_forged_depths(127);
}

/* Addresses next to mappings: in none of them. */
static const struct frame *stack_at_borders(void)
{
	__u64 base = (__u64)files, ips[] = {
		base + 0xfff, base + 0x1000, base + 0x4000, base + 0x5fff, base + 0x9000,
	};

	return forge(chain, ips, ARRAY_SIZE(ips));
}

static void build_ids(const char *name)
{
	enum what what;
	char border[64];

	snprintf(border, sizeof(border), "border %s", name);
	for (what = STACK; what <= TASK_STACK; what++) {
		fp = stack_in_files();
		all_sizes(id_sizes, name, what, USER | BPF_F_USER_BUILD_ID);
		fp = stack_at_borders();
		all_skips(border, what, 6 * IDS_SIZE, USER | BPF_F_USER_BUILD_ID);
	}
}

static void forged_build_ids(void)
{
	map_files();
	if (open_sized(16, 64, 0) && load_with(skel->progs.at_tracepoint))
		build_ids("build ids");
}

static void ids_of_build_ids(void)
{
	map_files();
	map_of_ids = true;
	if (open_sized(16, 7 * IDS_SIZE, BPF_F_STACK_BUILD_ID) &&
	    load_with(skel->progs.at_tracepoint)) {
		fp = stack_in_files();
		all_skips("map of build ids, user", STACKID, 0, USER);
		all_skips("map of build ids, kernel", STACKID, 0, 0);
		fp = stack_at_borders();
		all_skips("border map of build ids", STACKID, 0, USER);
	}
	map_of_ids = false;
}

/* In programs of one kind: a few sizes, all skips. */
static void few(const char *name, enum what from, bool ids)
{
	enum what what;

	fp = forge_stack(chain, 1, 5);
	for (what = from; what <= TASK_STACK; what++)
		all_sizes(few_sizes, name, what, USER);
	for (what = from; what <= STACK; what++)
		all_sizes(few_sizes, name, what, 0);
	if (ids) {
		map_files();
		build_ids(name);
	}
}

static void raw_tracepoint(void)
{
	if (open_sized(16, 64, 0) && load_with(skel->progs.at_raw_tracepoint))
		few("raw_tp", STACKID, false);
}

static void kprobe(void)
{
	if (open_sized(16, 64, 0) && load_with(skel->progs.at_kprobe))
		few("kprobe", STACKID, false);
}

static void fentry(void)
{
	if (open_sized(16, 64, 0) && load_with(skel->progs.at_fentry))
		few("fentry", STACKID, false);
}

static void sleepable_fentry(void)
{
	if (open_sized(16, 64, 0) && load_with(skel->progs.copy_at_sleepable_fentry))
		few("fentry.s", STACK, true);
}

static void uprobe(void)
{
	trigger = CALL;
	if (open_sized(16, 64, 0) && load_with(skel->progs.at_uprobe) &&
	    attach_uprobe(skel->progs.at_uprobe))
		few("uprobe", STACKID, true);
}

static void sleepable_uprobe(void)
{
	trigger = CALL;
	if (open_sized(16, 64, 0) && load_with(skel->progs.copy_at_sleepable_uprobe) &&
	    attach_uprobe(skel->progs.copy_at_sleepable_uprobe))
		few("uprobe.s", STACK, true);
}

static void in_event(const char *name, __u64 sample_type, bool without_kernel, bool without_user)
{
	enum what what;

	trigger = FAULT;
	if (!setup_event())
		return;
	event = open_event(sample_type, without_kernel, without_user);
	if (event < 0)
		return;
	few(name, STACKID, false);
	fp = forge_stack(chain, 2, 127);
	for (what = STACKID; what <= STACK; what++)
		all_sizes(few_sizes, name, what, USER);
	all_skips(name, STACK, 130 * 8, USER);
	map_files();
	fp = stack_in_files();
	for (what = STACKID; what <= TASK_STACK; what++)
		all_flags(name, what);
	all_sizes(odd_sizes, name, STACK, USER);
	all_skips(name, STACK, 5 * IDS_SIZE, USER | BPF_F_USER_BUILD_ID);
	all_skips(name, STACK, 5 * IDS_SIZE, BPF_F_USER_BUILD_ID);
}

static void event_with_callchain(void)
{
	in_event("event with callchain", PERF_SAMPLE_CALLCHAIN, false, false);
}

static void event_with_user_callchain(void)
{
	in_event("event with user's callchain", PERF_SAMPLE_CALLCHAIN, true, false);
}

static void event_with_kernel_callchain(void)
{
	in_event("event with kernel's callchain", PERF_SAMPLE_CALLCHAIN, false, true);
}

static void event_without_callchain(void)
{
	in_event("event without callchain", PERF_SAMPLE_IP, false, false);
}

/* What the sample's callchain is after one helper, whatever that said. */
static void event_after_another(void)
{
	static const struct {
		enum what what;
		__u32 size;
		__u64 flags;
	} first[] = {
		{ NOTHING },
		{ STACKID, 0, 0 }, { STACKID, 0, 255 }, { STACKID, 0, USER },
		{ STACKID, 0, USER | 255 }, { STACKID, 0, 1ULL << 20 },
		{ STACK, 64, 0 }, { STACK, 63, 0 }, { STACK, 64, 255 },
		{ STACK, 64, BPF_F_USER_BUILD_ID }, { STACK, 64, 1ULL << 20 },
		{ STACK, 64, USER }, { STACK, 63, USER }, { STACK, 64, USER | 255 },
		{ STACK, 64, USER | BPF_F_USER_BUILD_ID },
		{ TASK_STACK, 64, USER }, { TASK_STACK, 64, 0 },
	};
	int i, slot;

	trigger = FAULT;
	if (!setup_event())
		return;
	event = open_event(PERF_SAMPLE_CALLCHAIN, false, false);
	if (event < 0)
		return;
	fp = forge_stack(chain, 1, 10);
	for (slot = 1; slot < 3; slot++) {
		req[slot].what = STACK;
		req[slot].size = 32 * 8;
		req[slot].flags = slot == 1 ? 0 : USER;
	}
	for (i = 0; i < ARRAY_SIZE(first); i++) {
		call(first[i].what, first[i].size, first[i].flags);
		len = 0;
		for (slot = 1; slot < 3; slot++) {
			put(" %lld:", req[slot].ret);
			put_words(req[slot].buf, 32);
		}
		fprintf(table, "event, after %s size %u flags %#llx:%s\n", what_name(first[i].what),
			first[i].size, first[i].flags, now);
	}
}

/* Stacks of a thread that waits, of one of the kernel, and of a process that is no more. */
static void other_tasks(void)
{
	int pipe_fd[2];
	pthread_t thread;
	pid_t pid;

	if (!open_sized(16, 64, 0) || !load_with(skel->progs.take_other) ||
	    !ASSERT_OK(pipe(pipe_fd), "pipe"))
		return;
	fp = NULL;
	skel->bss->other_pid = 0;
	if (!ASSERT_OK(pthread_create(&thread, NULL, wait_in_read, pipe_fd), "start thread"))
		return;
	while (!thread_sleeps(*(volatile int *)&skel->bss->other_pid))
		sched_yield();
	all_sizes(sizes, "thread", TASK_STACK, 0);
	all_sizes(odd_sizes, "thread", TASK_STACK, 0);
	all_sizes(few_sizes, "thread", TASK_STACK, USER);
	all_sizes(id_sizes, "thread", TASK_STACK, USER | BPF_F_USER_BUILD_ID);
	all_sizes(id_sizes, "thread", TASK_STACK, BPF_F_USER_BUILD_ID);
	ASSERT_EQ(write(pipe_fd[1], "", 1), 1, "write");
	pthread_join(thread, NULL);
	close(pipe_fd[0]);
	close(pipe_fd[1]);

	skel->bss->other_pid = 2;
	all_sizes(few_sizes, "kthreadd", TASK_STACK, 0);
	all_sizes(few_sizes, "kthreadd", TASK_STACK, USER);
	all_sizes(id_sizes, "kthreadd", TASK_STACK, USER | BPF_F_USER_BUILD_ID);

	pid = fork();
	if (!pid)
		_exit(0);
	/* It stays as it is until it is waited for. */
	ASSERT_OK(waitid(P_PID, pid, &(siginfo_t){}, WEXITED | WNOWAIT), "wait for the end");
	skel->bss->other_pid = pid;
	all_sizes(few_sizes, "zombie", TASK_STACK, 0);
	all_sizes(few_sizes, "zombie", TASK_STACK, USER);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid, "wait");
}

/* What a map takes, as its fdinfo says. */
static void memory(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	static const __u32 values[] = { 8, 64, 127 * 8 }, entries[] = { 1, 1000, 1024, 1 << 16 };
	int i, j, ids, fd;
	__u32 size;

	for (ids = 0; ids < 2; ids++) {
		opts.map_flags = ids ? BPF_F_STACK_BUILD_ID : 0;
		for (i = 0; i < ARRAY_SIZE(values) * ARRAY_SIZE(entries); i++) {
			j = i % ARRAY_SIZE(entries);
			size = values[i / ARRAY_SIZE(entries)] * (ids ? 4 : 1);
			fd = bpf_map_create(BPF_MAP_TYPE_STACK_TRACE, "memory", 4, size,
					    entries[j], &opts);
			if (!ASSERT_OK_FD(fd, "create"))
				return;
			fprintf(table, "memlock %u bytes, %u entries%s: %lu\n", size, entries[j],
				ids ? ", build ids" : "", fdinfo_line(fd, "memlock"));
			close(fd);
		}
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "forged_depths", forged_depths },
	{ "deep_stacks", deep_stacks },
	{ "ids_one_frame", forged_one },
	{ "ids_five_frames", forged_five },
	{ "ids_most_frames", forged_most },
	{ "build_ids", forged_build_ids },
	{ "ids_of_build_ids", ids_of_build_ids },
	{ "raw_tracepoint", raw_tracepoint },
	{ "kprobe", kprobe },
	{ "fentry", fentry },
	{ "sleepable_fentry", sleepable_fentry },
	{ "uprobe", uprobe },
	{ "sleepable_uprobe", sleepable_uprobe },
	{ "event_with_callchain", event_with_callchain },
	{ "event_with_user_callchain", event_with_user_callchain },
	{ "event_with_kernel_callchain", event_with_kernel_callchain },
	{ "event_without_callchain", event_without_callchain },
	{ "event_after_another", event_after_another },
	{ "other_tasks", other_tasks },
	{ "memory", memory },
};

void serial_test_stackmap_results(void)
{
	const char *path = getenv("STACKMAP_RESULTS") ?: "/dev/null";
	int i;

	if (!ASSERT_OK(load_kallsyms(), "load kallsyms"))
		return;
	text_start = ksym_get_addr("_stext");
	text_end = ksym_get_addr("_etext");
	table = fopen(path, "w");
	if (!ASSERT_OK_PTR(table, path))
		return;
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!test__start_subtest(parts[i].name) || !can_forge())
			continue;
		trigger = SYSCALL;
		parts[i].run();
		close_event();
		teardown();
	}
	fclose(table);
}
