/* SPDX-License-Identifier: GPL-2.0 */
/* What tests of all these maps share. */
#ifndef __BPF_MAPS_COMMON_H
#define __BPF_MAPS_COMMON_H

#include <fcntl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sys/epoll.h>
#include <sys/utsname.h>
#include <bpf/btf.h>
#include "test_progs.h"

#define ENOTSUPP 524

/* --- CPUs -------------------------------------------------------------------- */

static inline bool two_cpus(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) >= 2)
		return true;
	printf("SKIP: needs two CPUs\n");
	test__skip();
	return false;
}

static inline void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	ASSERT_OK(pthread_setaffinity_np(pthread_self(), sizeof(set), &set), "pin thread");
}

static inline void unpin(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	ASSERT_OK(pthread_setaffinity_np(pthread_self(), sizeof(set), &set), "free thread");
}

/* --- the kernel's kind ------------------------------------------------------- */

static inline bool kernel_is(const char *what)
{
	struct utsname name;

	return !uname(&name) && strstr(name.version, what);
}

static inline bool preempt_rt(void)
{
	return kernel_is("PREEMPT_RT");
}

/* --- maps and programs ------------------------------------------------------- */

static inline int create_map(enum bpf_map_type type, __u32 key_size, __u32 value_size,
			     __u32 max_entries, __u32 flags)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = flags);

	return bpf_map_create(type, "contract", key_size, value_size, max_entries, &opts);
}

/* Such a map can be created, or @expected is why not. */
static inline bool assert_create(enum bpf_map_type type, __u32 key_size, __u32 value_size,
				 __u32 max_entries, __u32 flags, int expected, const char *what)
{
	int fd = create_map(type, key_size, value_size, max_entries, flags);
	bool ok = expected ? ASSERT_EQ(fd, expected, what) : ASSERT_OK_FD(fd, what);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* No flag but those of @known is allowed. */
static inline void assert_known_flags(enum bpf_map_type type, __u32 key_size, __u32 value_size,
				      __u32 max_entries, __u32 known)
{
	__u32 flag;

	for (flag = 1; flag; flag <<= 1)
		if (!(flag & known) && !assert_create(type, key_size, value_size, max_entries, flag,
						      -EINVAL, "create with an unknown flag"))
			printf("flag %#x\n", flag);
}

/* Readers of map_ptr expect a map's structure to begin with its struct bpf_map. */
static inline void assert_begins_with_map(const char *structure)
{
	const struct btf_member *first;
	const struct btf_type *t;
	struct btf *btf;
	int id;

	btf = btf__load_vmlinux_btf();
	if (!ASSERT_OK_PTR(btf, "vmlinux BTF"))
		return;
	id = btf__find_by_name_kind(btf, structure, BTF_KIND_STRUCT);
	if (!ASSERT_GT(id, 0, structure))
		goto out;
	first = btf_members(btf__type_by_id(btf, id));
	ASSERT_STREQ(btf__name_by_offset(btf, first->name_off), "map", "first member");
	ASSERT_EQ(first->offset, 0, "its offset");
	t = btf__type_by_id(btf, first->type);
	ASSERT_STREQ(btf__name_by_offset(btf, t->name_off), "bpf_map", "its type");
out:
	btf__free(btf);
}

/* What the program returned: 0, or the error of its operation. */
static inline int run_prog(const struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	ASSERT_OK(bpf_prog_test_run_opts(bpf_program__fd(prog), &opts), "test run");
	return opts.retval;
}

/* An epoll on the map alone. */
static inline int epoll_on(int fd, __u32 events)
{
	struct epoll_event event = { .events = events };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (!ASSERT_OK_FD(epoll, "create epoll"))
		return -1;
	ASSERT_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "add map to epoll");
	return epoll;
}

/* What is ready, at most after this time. */
static inline __u32 epoll_events(int epoll, int msecs)
{
	struct epoll_event event = {};

	return epoll_wait(epoll, &event, 1, msecs) == 1 ? event.events : 0;
}

/* --- files of the kernel ----------------------------------------------------- */

static inline int write_string(const char *path, int flags, const char *string)
{
	int fd = open(path, O_WRONLY | flags), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, string, strlen(string)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static inline void read_string(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, buf, size - 1);

	ASSERT_GE(len, 0, path);
	buf[len > 0 ? len : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

/* A line of the map's fdinfo. */
static inline unsigned long fdinfo_line(int fd, const char *key)
{
	char path[64], line[256], found[64];
	unsigned long value = 0, one;
	int seen = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!ASSERT_OK_PTR(file, "open the map's fdinfo"))
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63[^:]: %lu", found, &one) == 2 && !strcmp(found, key)) {
			value = one;
			seen++;
		}
	}
	fclose(file);
	ASSERT_EQ(seen, 1, key);
	return value;
}

/* --- a CPU that goes away ----------------------------------------------------- */

#define CPU1_ONLINE "/sys/devices/system/cpu/cpu1/online"

static inline bool can_go_offline(void)
{
	if (!two_cpus())
		return false;
	if (!access(CPU1_ONLINE, W_OK))
		return true;
	printf("SKIP: CPU 1 cannot go offline\n");
	test__skip();
	return false;
}

static inline bool set_online(bool online)
{
	return ASSERT_OK(write_string(CPU1_ONLINE, 0, online ? "1" : "0"),
			 online ? "CPU 1 goes online" : "CPU 1 goes offline");
}

/* --- NMIs -------------------------------------------------------------------- */

/* What the console shows, while NMIs are raised. */
struct console {
	char levels[64];
};

static inline void silence_console(struct console *console)
{
	read_string("/proc/sys/kernel/printk", console->levels, sizeof(console->levels));
	ASSERT_OK(write_string("/proc/sys/kernel/printk", 0, "1"), "silence the console");
}

static inline void restore_console(struct console *console)
{
	ASSERT_OK(write_string("/proc/sys/kernel/printk", 0, console->levels),
		  "restore the console");
}

/* sysrq l has all other CPUs show their backtrace, by an NMI. */
static inline bool raise_nmis(void)
{
	return ASSERT_OK(write_string("/proc/sysrq-trigger", 0, "l"), "sysrq");
}

/* --- instructions ------------------------------------------------------------ */

static inline bool is_one_of(const char *symbol, const char *const *names, int nr)
{
	size_t len;
	int i;

	for (i = 0; i < nr; i++) {
		len = strlen(names[i]);
		if (!strncmp(symbol, names[i], len) && (!symbol[len] || symbol[len] == '.'))
			return !strstr(symbol, ".cold");
	}
	return false;
}

/* The text of each of the kernel's functions named, parts that the compiler made included. */
static inline bool visit_text(void (*visit)(const char *symbol, __u64 start, __u64 end),
			      const char *const *names, int nr)
{
	char line[512], symbol[256], last[256];
	unsigned long long addr, start = 0;
	FILE *file;

	file = fopen("/proc/kallsyms", "r");
	if (!ASSERT_OK_PTR(file, "open kallsyms"))
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx %*c %255s", &addr, symbol) != 2)
			continue;
		/* By address: what follows a function is its end. */
		if (start)
			visit(last, start, addr);
		start = is_one_of(symbol, names, nr) ? addr : 0;
		snprintf(last, sizeof(last), "%s", symbol);
	}
	fclose(file);
	return true;
}

/* Where a kernel with its checkers is slow: INSTRUCTIONS_STRIDE=n looks at every nth byte only. */
static inline int instructions_stride(void)
{
	const char *stride = getenv("INSTRUCTIONS_STRIDE");

	return stride && atoi(stride) > 0 ? atoi(stride) : 1;
}

#define NR_BREAKPOINTS 4

/*
 * A breakpoint of the CPU's own, for a thread or a CPU; in the middle of an instruction it is
 * never hit. The program runs in a context like NMI.
 */
static inline struct bpf_link *attach_breakpoint(struct bpf_program *prog, __u64 addr, int pid,
						 int cpu, __u64 cookie)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_X,
		.bp_addr = addr,
		.bp_len = sizeof(long),
		.sample_period = 1,
		.exclude_user = 1,
	};
	LIBBPF_OPTS(bpf_perf_event_opts, opts, .bpf_cookie = cookie);
	struct bpf_link *link;
	int fd;

	fd = syscall(__NR_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return NULL;
	link = bpf_program__attach_perf_event_opts(prog, fd, &opts);
	if (!link)
		close(fd);
	return link;
}

#endif
