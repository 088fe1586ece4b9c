// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fuzzer of queue, stack, ring buffer, stack trace and CPU maps: of their system calls, their
 * memory and their helpers. Runs as root in a guest that has nothing to lose.
 *
 *   fuzz [-s SEED] [-t SECONDS] [-n WORKERS]
 *   fuzz -x SEQUENCE [-r ROUNDS]
 *
 * A sequence is a list of calls of 8 bytes each: what to do, and numbers that choose its
 * arguments, so that any bytes are a sequence. Sequences that reach new edges of the maps' files
 * are kept and mutated. Each is written to the kernel's log before it runs, below the console's
 * level: a panic with panic_print=0x20 shows it. If the kernel complains without a panic, the
 * last sequences are repeated at a level that is shown. -x runs one again.
 *
 * The edges are gcov's: a counter that is not 0 any more. Unlike KCOV it also counts in kthreads,
 * interrupts and NMIs, where much of these files runs. The counters are read from /proc/kcore: to
 * open gcov's own files takes a second of allocations under KASAN.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "calls.h"

#define MAX_CALLS	48
#define MAX_CORPUS	4096
#define MAX_COUNTERS	16384

/* How often a new call is each of them. */
static const __u8 op_weights[NR_OPS] = {
	14, 3, 24, 16, 3, 6, 3, 4, 4, 8, 30, 6, 8, 10, 2, 5,
};

struct sequence {
	__u32 len;
	struct call calls[MAX_CALLS];
};

static struct shared {
	unsigned long calls, sequences, nr_edges, tried[NR_OPS], done[NR_OPS];
	unsigned int nr_corpus;
	bool stop;
	bool counted[MAX_COUNTERS];
	struct sequence corpus[MAX_CORPUS];
} *shared;

static __u64 random_state;

static __u64 rnd(__u64 limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1dULL >> 16) % limit;
}

/* --- the hostile thread ------------------------------------------------------------ */

static sigjmp_buf after_fault;

static void on_fault(int sig, siginfo_t *info, void *ctx)
{
	char *at = info->si_addr;

	if (at < areas || at >= areas + NR_SLOTS * AREA_SIZE)
		_exit(99);
	siglongjmp(after_fault, 1);
}

/* Whatever is mapped is written to: positions, headers, and what is between. */
static void *write_to_maps(void *arg)
{
	static __u64 state;	/* survives a fault */
	volatile __u64 *word;
	char *area;

	state = (unsigned long)arg;
	sigsetjmp(after_fault, 1);
	for (;;) {
		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		if (!hostile || state >> 60 == 0) {
			usleep(200);
			continue;
		}
		area = areas + (state >> 20) % NR_SLOTS * AREA_SIZE;
		if (state >> 58 & 3)
			area += (state >> 24) % (state >> 55 & 1 ? 4 : AREA_SIZE / PAGE) * PAGE;
		word = (void *)(area + (state >> 57 & 1 ? 0 : (state >> 32 & 0xff8)));
		switch (state >> 61) {
		case 0:
			*word = state;
			break;
		case 1:
			*word = number(state >> 40);
			break;
		case 2:
			*word += number(state >> 40);
			break;
		case 3:
			*word -= number(state >> 40);
			break;
		case 4:
			*(volatile __u32 *)word ^= 1U << (state >> 40) % 32;
			break;
		default:
			*word += 8;
		}
	}
	return NULL;
}

/* --- a sequence ---------------------------------------------------------------------- */

/* Where counters are in memory, and in /proc/kcore; those of one file are in one place. */
static struct { unsigned long addr, len; off_t at; } counters[16];
static int nr_counters, kcore;
static int kmsg;

static void die(const char *what)
{
	fprintf(stderr, "fuzz: %s: %s\n", what, strerror(errno));
	exit(3);
}

static off_t offset_in_kcore(unsigned long addr)
{
	Elf64_Ehdr header;
	Elf64_Phdr part;
	int i;

	if (pread(kcore, &header, sizeof(header), 0) != sizeof(header))
		die("/proc/kcore");
	for (i = 0; i < header.e_phnum; i++) {
		if (pread(kcore, &part, sizeof(part), header.e_phoff + i * sizeof(part)) < 0)
			die("/proc/kcore");
		if (part.p_type == PT_LOAD && addr - part.p_vaddr < part.p_filesz)
			return part.p_offset + addr - part.p_vaddr;
	}
	die("counters are not in /proc/kcore");
	return 0;
}

/* Kallsyms goes by address: a range ends where the next symbol is no counter. */
static void find_counters(void)
{
	FILE *symbols = fopen("/proc/kallsyms", "r");
	unsigned long addr, total = 0;
	bool inside = false, counter;
	char line[1024], name[512];

	kcore = open("/proc/kcore", O_RDONLY);
	if (!symbols || kcore < 0)
		die("the kernel's symbols and memory");
	while (fgets(line, sizeof(line), symbols)) {
		if (sscanf(line, "%lx %*c %511s", &addr, name) != 2)
			continue;
		counter = !strncmp(name, "__gcov0.", 8);
		if (counter && !inside) {
			if (nr_counters == COUNT(counters))
				die("too many ranges of counters");
			counters[nr_counters].addr = addr;
			counters[nr_counters].at = offset_in_kcore(addr);
		} else if (!counter && inside) {
			counters[nr_counters].len = addr - counters[nr_counters].addr;
			total += counters[nr_counters++].len;
		}
		inside = counter;
	}
	fclose(symbols);
	if (!nr_counters || total / 8 > MAX_COUNTERS)
		die("counters");
}

static void log_sequence(const char *level, const struct sequence *seq)
{
	char line[64 + MAX_CALLS * 16];
	const __u8 *byte = (const void *)seq->calls;
	unsigned int i, len;

	len = sprintf(line, "%sfuzz -x ", level);
	for (i = 0; i < seq->len * sizeof(struct call); i++)
		len += sprintf(line + len, "%02x", byte[i]);
	if (write(kmsg, line, len) < 0)
		die("kernel log");
}

/* True if there are edges that nobody has taken before. */
static bool new_edges(void)
{
	static unsigned long words[MAX_COUNTERS];
	bool any = false, *counted = shared->counted;
	unsigned long word;
	int i;

	for (i = 0; i < nr_counters; i++) {
		if (pread(kcore, words, counters[i].len, counters[i].at) != counters[i].len)
			die("read counters");
		for (word = 0; word < counters[i].len / 8; word++, counted++) {
			if (!words[word] || *counted)
				continue;
			*counted = true;
			__atomic_add_fetch(&shared->nr_edges, 1, __ATOMIC_RELAXED);
			any = true;
		}
	}
	return any;
}

static void clean_up(void)
{
	int i;

	hostile = false;
	for (i = 0; i < NR_SLOTS; i++) {
		put(&links[i], 0);
		put(&progs[i].fd, 0);
		put(&maps[i].fd, 0);
	}
	mmap(areas, NR_SLOTS * AREA_SIZE, PROT_NONE,
	     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static bool run_sequence(const struct sequence *seq)
{
	unsigned int i, op;
	long ret;

	log_sequence("<7>", seq);
	for (i = 0; i < seq->len; i++) {
		op = seq->calls[i].op % NR_OPS;
		ret = do_op[op](seq->calls[i].arg);
		if (op != OP_FAIL && i && seq->calls[i - 1].op % NR_OPS == OP_FAIL)
			pwrite(fail_fd, "0", 1, 0);
		__atomic_add_fetch(&shared->calls, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&shared->tried[op], 1, __ATOMIC_RELAXED);
		if (ret >= 0)
			__atomic_add_fetch(&shared->done[op], 1, __ATOMIC_RELAXED);
	}
	/* The last call may have been OP_FAIL. */
	pwrite(fail_fd, "0", 1, 0);
	clean_up();
	__atomic_add_fetch(&shared->sequences, 1, __ATOMIC_RELAXED);
	return new_edges();
}

static void new_call(struct call *call)
{
	unsigned int total = 0, op, pick;

	for (op = 0; op < NR_OPS; op++)
		total += op_weights[op];
	pick = rnd(total);
	for (op = 0; pick >= op_weights[op]; op++)
		pick -= op_weights[op];
	call->op = op;
	for (op = 0; op < sizeof(call->arg); op++)
		call->arg[op] = rnd(256);
}

static void insert_call(struct sequence *seq, unsigned int at, const struct call *call)
{
	if (seq->len == MAX_CALLS)
		seq->len--;
	if (at > seq->len)
		at = seq->len;
	memmove(seq->calls + at + 1, seq->calls + at, (seq->len - at) * sizeof(*call));
	seq->calls[at] = *call;
	seq->len++;
}

/* From nothing, or from one or two of those kept. */
static void new_sequence(struct sequence *seq)
{
	unsigned int n = __atomic_load_n(&shared->nr_corpus, __ATOMIC_ACQUIRE), at, rounds;
	const struct sequence *other;
	struct call call;

	seq->len = 0;
	if (!n || !rnd(8)) {
		/* What else could begin? */
		for (at = 0; at < 7; at++) {
			new_call(&call);
			call.op = at < 4 ? OP_CREATE : OP_PROG;
			insert_call(seq, at, &call);
		}
		for (n = 4 + rnd(MAX_CALLS - 16); n; n--) {
			new_call(&call);
			insert_call(seq, seq->len, &call);
		}
		return;
	}
	*seq = shared->corpus[rnd(n < MAX_CORPUS ? n : MAX_CORPUS)];
	for (rounds = 1 + rnd(6); rounds; rounds--) {
		at = rnd(seq->len);
		switch (rnd(8)) {
		case 0:
		case 1:
			new_call(&call);
			insert_call(seq, at + rnd(2), &call);
			break;
		case 2:
			if (seq->len < 2)
				break;
			memmove(seq->calls + at, seq->calls + at + 1,
				(--seq->len - at) * sizeof(call));
			break;
		case 3:
			call = seq->calls[at];
			insert_call(seq, rnd(seq->len), &call);
			break;
		case 4:
			other = &shared->corpus[rnd(n < MAX_CORPUS ? n : MAX_CORPUS)];
			for (n = 0; n < other->len && at + n < MAX_CALLS; n++)
				seq->calls[at + n] = other->calls[n];
			if (seq->len < at + n)
				seq->len = at + n;
			n = shared->nr_corpus;
			break;
		default:
			seq->calls[at].arg[rnd(sizeof(call.arg))] = rnd(256);
		}
	}
}

static void keep(const struct sequence *seq)
{
	unsigned int at = __atomic_fetch_add(&shared->nr_corpus, 1, __ATOMIC_ACQ_REL);

	shared->corpus[at < MAX_CORPUS ? at : rnd(MAX_CORPUS)] = *seq;
}

/* --- workers -------------------------------------------------------------------------- */

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void set_up(int worker)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	pthread_t thread;

	areas = mmap(NULL, NR_SLOTS * AREA_SIZE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	buf = mmap(NULL, BUF_SIZE + 2 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (areas == MAP_FAILED || buf == MAP_FAILED ||
	    mprotect(buf + BUF_SIZE, PAGE, PROT_READ) ||
	    mprotect(buf + BUF_SIZE + PAGE, PAGE, PROT_NONE))
		die("memory");
	aux_fd = bpf(BPF_MAP_CREATE, &(union bpf_attr){
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = AUX_SIZE,
		.max_entries = 1,
	});
	if (aux_fd < 0)
		die("array map");
	/* Devices of its own. */
	if (unshare(CLONE_NEWNET) ||
	    system("ip link set lo up && ip link add fuzz0 type veth peer name fuzz1 && "
		   "ip link set fuzz0 up && ip link set fuzz1 up"))
		die("devices");
	devices[0] = if_nametoindex("fuzz0");
	devices[1] = if_nametoindex("fuzz1");
	packet_fd = socket(AF_PACKET, SOCK_RAW, 0);
	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR);	/* if the kernel has that */
	kmsg = open("/dev/kmsg", O_WRONLY);
	if (packet_fd < 0 || kmsg < 0)
		die("files");
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	pin(worker + 1);
	if (pthread_create(&thread, NULL, write_to_maps, (void *)(random_state | 1)))
		die("thread");
	pin(worker);
}

static int work(int worker, __u64 seed)
{
	struct sequence seq;

	random_state = (seed + worker + 1) * 0x9e3779b97f4a7c15ULL | 1;
	set_up(worker);
	while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		new_sequence(&seq);
		if (run_sequence(&seq))
			keep(&seq);
	}
	return 0;
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, strlen(text)) > 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* With a seed of its own, and not spared when memory is short. */
static void start_worker(__u64 seed)
{
	static int worker;

	fflush(stdout);
	if (!fork()) {
		write_file("/proc/self/oom_score_adj", "0");
		exit(work(worker, seed));
	}
	worker++;
}

static int repeat(const char *text, int rounds)
{
	struct sequence seq = {};
	__u8 *byte = (void *)seq.calls;
	unsigned int value;

	for (; sscanf(text, "%2x", &value) == 1; text += 2) {
		*byte++ = value;
		if (byte == (void *)(seq.calls + MAX_CALLS))
			break;
	}
	seq.len = (byte - (__u8 *)seq.calls) / sizeof(struct call);
	random_state = 1;
	set_up(0);
	while (rounds--)
		run_sequence(&seq);
	printf("%lu of %lu calls succeeded\n", shared->done[OP_RUN], shared->tried[OP_RUN]);
	return 0;
}

/* --- watching the kernel's log --------------------------------------------------------- */

static char last[4][1200];	/* records with sequences */
static int nr_last;

/* True if the kernel complains in what came since. */
static bool complaint(int fd)
{
	static const char * const signs[] = {
		"WARNING:", "BUG:", "KASAN:", "UBSAN:", "ODEBUG:", "refcount_t:", "INFO: possible",
		"INFO: trying", "INFO: inconsistent", "suspicious RCU", "corruption", "INFO: task",
		"rcu: INFO", "lockup", "sleeping function",
	};
	char record[2048], *text;
	unsigned int i;
	ssize_t len;

	while ((len = read(fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		if (len <= 0) {
			errno = 0;
			continue;
		}
		record[len] = '\0';
		text = strchr(record, ';');
		if (!text++)
			continue;
		if (!strncmp(text, "fuzz -x ", 8)) {
			text[strcspn(text, "\n")] = '\0';
			snprintf(last[nr_last++ % 4], sizeof(last[0]), "<3>%s", text);
			continue;
		}
		for (i = 0; i < COUNT(signs); i++)
			if (strstr(text, signs[i]))
				return true;
	}
	return false;
}

static void show_last(void)
{
	int fd = open("/dev/kmsg", O_WRONLY), i;

	for (i = nr_last > 4 ? nr_last - 4 : 0; i < nr_last; i++)
		if (write(fd, last[i % 4], strlen(last[i % 4])) < 0)
			break;
	close(fd);
}

static void status(long seconds)
{
	printf("%ld s: %lu calls, %lu sequences, %lu edges, %u kept\n", seconds, shared->calls,
	       shared->sequences, shared->nr_edges, shared->nr_corpus);
	fflush(stdout);
}

static int watch(long seconds, int workers, __u64 seed)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), ret = 0, wstatus, i;
	time_t start = time(NULL), now, moved = start, shown = start;
	unsigned long calls = 0;

	lseek(fd, 0, SEEK_END);
	do {
		usleep(200000);
		now = time(NULL);
		if (complaint(fd)) {
			printf("the kernel complained\n");
			ret = 1;
		}
		if (!calls)
			start = shown = now;	/* not before they are ready */
		if (shared->calls != calls)
			moved = now;
		calls = shared->calls;
		if (now - moved > 600) {
			printf("no call has ended for ten minutes\n");
			ret = 2;
		}
		if (now - shown >= 60) {
			status(now - start);
			shown = now;
		}
		if (waitpid(-1, &wstatus, WNOHANG) <= 0)
			continue;
		if (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL) {
			printf("a worker was killed for want of memory\n");
			start_worker(seed);
		} else {
			printf("a worker ended with status %#x\n", wstatus);
			ret = 3;
			workers--;
		}
	} while (!ret && now - start < seconds);
	shared->stop = true;
	if (ret)
		show_last();
	if (ret != 2)
		while (workers-- > 0)
			wait(NULL);
	status(now - start);
	for (i = 0; i < NR_OPS; i++)
		printf("%-10s %10lu calls %10lu without an error\n", op_names[i],
		       shared->tried[i], shared->done[i]);
	return ret;
}

int main(int argc, char **argv)
{
	int opt, i, workers = 2, rounds = 1;
	__u64 seed = time(NULL);
	const char *text = NULL;
	long seconds = 60;

	while ((opt = getopt(argc, argv, "s:t:n:x:r:")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atol(optarg);
			break;
		case 'n':
			workers = atoi(optarg);
			break;
		case 'x':
			text = optarg;
			break;
		case 'r':
			rounds = atoi(optarg);
			break;
		default:
			fprintf(stderr, "see the top of fuzz.c\n");
			return 3;
		}
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("memory");
	if (!write_file("/proc/sys/kernel/printk_devkmsg", "on\n"))
		die("printk_devkmsg");
	/* Only fail-nth makes allocations fail, and says nothing. */
	if (!write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") ||
	    !write_file("/sys/kernel/debug/failslab/verbose", "0") ||
	    !write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N") ||
	    !write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N") ||
	    !write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0") ||
	    !write_file("/sys/kernel/debug/fail_page_alloc/verbose", "0"))
		printf("no allocation fails in this kernel\n");
	if (text)
		return repeat(text, rounds);
	find_counters();
	new_edges();
	shared->nr_edges = 0;
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	for (i = 0; i < workers; i++)
		start_worker(seed);
	return watch(seconds, workers, seed);
}
