// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that run in the middle of an operation on a queue or stack, and operate on the
 * same map or on another one that is in use on the other CPU. None may hang; what is
 * refused is refused with -EBUSY; and every value is accounted for.
 */
#include <ctype.h>
#include "queue_stack_common.h"

#define KPROBE_EVENTS "/sys/kernel/tracing/kprobe_events"
#define KPROBE_OPTIMIZATION "/proc/sys/debug/kprobes-optimization"
#define RCU_EXPEDITED "/sys/kernel/rcu_expedited"

static enum bpf_map_type other_type(enum bpf_map_type type)
{
	return type == BPF_MAP_TYPE_QUEUE ? BPF_MAP_TYPE_STACK : BPF_MAP_TYPE_QUEUE;
}

static void assert_nested(struct queue_stack_stress *skel)
{
	ASSERT_GT(skel->bss->nested_ops, 0, "operations inside of another");
	ASSERT_EQ(skel->bss->nested_refused_outside, 0,
		  "operations refused that interrupted nothing");
}

/* --- functions and tracepoints ----------------------------------------------- */

/*
 * Everything else runs through raw_spin_unlock_irqrestore(), too. Patching it while it runs has
 * ended in a stray int3 under emulation (in the kernel that carries KASAN and lockdep), so these
 * programs are attached only if asked for: TRACE_UNLOCK=1. The jumps at instructions find the
 * same on stock.
 */
static bool trace_unlock(void)
{
	return getenv("TRACE_UNLOCK");
}

/*
 * Seen on stock 6.12.117: the guest hangs in the first push, whose raw_spin_unlock_irqrestore()
 * runs the program.
 */
static void traced_functions(enum bpf_map_type type)
{
	struct queue_stack_stress *skel = stress_open(type, type, 1, 8);
	struct worker worker = { .skel = skel, .how = BY_BOTH, .msecs = 200 };

	if (!skel)
		return;
	bpf_program__set_autoload(skel->progs.at_unlock, trace_unlock());
	bpf_program__set_autoload(skel->progs.at_push, true);
	bpf_program__set_autoload(skel->progs.after_push, true);
	bpf_program__set_autoload(skel->progs.at_pop, true);
	bpf_program__set_autoload(skel->progs.after_pop, true);
	if (type == BPF_MAP_TYPE_STACK) {
		bpf_program__set_attach_target(skel->progs.at_push, 0, "stack_map_push_elem");
		bpf_program__set_attach_target(skel->progs.after_push, 0, "stack_map_push_elem");
		bpf_program__set_attach_target(skel->progs.at_pop, 0, "stack_map_pop_elem");
		bpf_program__set_attach_target(skel->progs.after_pop, 0, "stack_map_pop_elem");
	}
	if (!stress_load(skel) || !ASSERT_OK(queue_stack_stress__attach(skel), "attach"))
		goto out;

	run_one(&worker);

	assert_nested(skel);
	assert_worked(skel, 0, 0, MIX_ALL);
	assert_settled(skel, 0);
out:
	queue_stack_stress__destroy(skel);
}

/* One CPU operates on the queue and, nested, on the stack; the other one the other way. */
static void opposite_order(struct queue_stack_stress *skel, __u64 nested)
{
	struct worker first = { .skel = skel, .msecs = 300, .nested = nested, .batch = 4 };
	struct worker second = first;

	second.cpu = 1;
	second.map = 1;
	run_two(&first, &second);

	assert_worked(skel, 0, 0, MIX_ALL);
	assert_worked(skel, 1, 1, MIX_ALL);
	assert_settled(skel, 0);
	assert_settled(skel, 1);
}

/*
 * Seen on stock 6.12.117: the guest hangs, each CPU in a program inside of its own push,
 * spinning for the other's lock.
 */
static void opposite_order_function(void)
{
	struct queue_stack_stress *skel;

	if (!trace_unlock()) {
		printf("SKIP: patches a busy function, needs TRACE_UNLOCK=1\n");
		test__skip();
		return;
	}
	skel = stress_open(BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK, 1, 8);
	if (!skel)
		return;
	skel->bss->nest_other = true;
	bpf_program__set_autoload(skel->progs.at_unlock, true);
	if (stress_load(skel) && ASSERT_OK(queue_stack_stress__attach(skel), "attach"))
		opposite_order(skel, 0);
	queue_stack_stress__destroy(skel);
}

/* --- every instruction ------------------------------------------------------- */

/*
 * The instructions of the maps' code, as far as the kernel can probe them, dealt out in turn
 * to some probe events: a jump takes the room of several instructions, so that not all of them
 * can be replaced at once.
 */
#define NR_EVENTS 4

static struct {
	__u64 start, end;
	char symbol[256];	/* at the start */
	int count;
	__u64 addrs[4096];
} insns;

/* All between the first and the last operation, so that functions they call are in it too. */
static void add_text(const char *symbol, __u64 start, __u64 end)
{
	if (!insns.start) {
		insns.start = start;
		snprintf(insns.symbol, sizeof(insns.symbol), "%s", symbol);
	}
	insns.end = end;
}

static bool find_text(void)
{
	static const char *const names[] = {
		"queue_map_push_elem", "queue_map_pop_elem", "queue_map_peek_elem",
		"stack_map_push_elem", "stack_map_pop_elem", "stack_map_peek_elem",
		"push_dropping",
	};

	return visit_text(add_text, names, ARRAY_SIZE(names)) &&
	       ASSERT_GT(insns.end, insns.start, "text of the maps");
}

/* If an instruction begins at @offset from the start, one more place of the next event. */
static void add_probe(int events_fd, __u64 offset)
{
	char event[512];
	int len;

	len = snprintf(event, sizeof(event), "p:queue_stack/insn%d %s+%llu",
		       insns.count % NR_EVENTS, insns.symbol, offset);
	if (write(events_fd, event, len) == len)
		insns.addrs[insns.count++] = insns.start + offset;
}

static bool add_probes(void)
{
	int fd, stride = instructions_stride();
	__u64 offset;

	if (insns.count)
		return true;
	if (!find_text())
		return false;
	fd = open(KPROBE_EVENTS, O_WRONLY | O_APPEND);
	if (!ASSERT_OK_FD(fd, "open kprobe events"))
		return false;
	for (offset = 0; offset < insns.end - insns.start; offset += stride)
		if (insns.count < ARRAY_SIZE(insns.addrs))
			add_probe(fd, offset);
	close(fd);
	return ASSERT_GT(insns.count, 50, "instructions");
}

static void remove_probes(void)
{
	char expedited[16], event[64];
	int i;

	if (!insns.count)
		return;
	/* There is a grace period for each of them. */
	read_string(RCU_EXPEDITED, expedited, sizeof(expedited));
	ASSERT_OK(write_string(RCU_EXPEDITED, 0, "1"), "hurry");
	for (i = 0; i < NR_EVENTS; i++) {
		snprintf(event, sizeof(event), "-:queue_stack/insn%d", i);
		ASSERT_OK(write_string(KPROBE_EVENTS, O_APPEND, event), "remove probes");
	}
	ASSERT_OK(write_string(RCU_EXPEDITED, 0, expedited), "hurry no more");
	memset(&insns, 0, sizeof(insns));
}

static struct bpf_link *attach_probe_event(struct queue_stack_stress *skel, int nr)
{
	struct bpf_link *link;
	char event[64];

	snprintf(event, sizeof(event), "insn%d", nr);
	link = bpf_program__attach_tracepoint(skel->progs.at_instruction, "queue_stack", event);
	return ASSERT_OK_PTR(link, "attach to the instructions") ? link : NULL;
}

/*
 * Breakpoints are NMI-like; where a jump to the program can take the place of the instruction,
 * the program runs as if called from there.
 */
static bool set_optimization(bool on)
{
	return ASSERT_OK(write_string(KPROBE_OPTIMIZATION, 0, on ? "1" : "0"),
			 "set kprobes-optimization");
}

static bool have_optimization(void)
{
	if (!access(KPROBE_OPTIMIZATION, W_OK))
		return true;
	printf("SKIP: this kernel does not optimize kprobes\n");
	test__skip();
	return false;
}

static int nr_places(const struct queue_stack_stress *skel)
{
	int i, sum = 0;

	for (i = 0; i < sizeof(skel->bss->nested_at); i++)
		sum += skel->bss->nested_at[i];
	return sum;
}

/* One thread, and programs that use its map. */
static void same_map(struct queue_stack_stress *skel, __u64 nested)
{
	struct worker worker = { .skel = skel, .how = BY_BOTH, .msecs = 200, .nested = nested };

	run_one(&worker);

	assert_worked(skel, 0, 0, MIX_ALL);
	assert_settled(skel, 0);
}

static void same_map_two_cpus(struct queue_stack_stress *skel, __u64 nested)
{
	struct worker first = { .skel = skel, .how = BY_BOTH, .msecs = 200, .nested = nested };
	struct worker second = first;

	second.cpu = 1;
	run_two(&first, &second);

	assert_worked(skel, 0, 0, MIX_ALL);
	assert_worked(skel, 0, 1, MIX_ALL);
	assert_settled(skel, 0);
}

/* The programs use a map that is in use on the other CPU, which will soon be done with it. */
static void busy_elsewhere(struct queue_stack_stress *skel, __u64 nested)
{
	struct worker interrupted = { .skel = skel, .map = 1, .msecs = 200 };
	struct worker elsewhere = { .skel = skel, .cpu = 1, .msecs = 200 };

	run_two(&interrupted, &elsewhere);

	ASSERT_EQ(skel->bss->accounts[0].actors[ACTOR_NESTED].busy, 0, "operations refused");
	assert_worked(skel, 0, 1, MIX_ALL);
	assert_settled(skel, 0);
	assert_settled(skel, 1);
}

enum probes { BREAKPOINTS, JUMPS };

/*
 * What runs with programs at the instructions. They are on map a, of the type under test, unless
 * nest_other.
 *
 * When both CPUs are interrupted inside of what the other one's program wants, both programs
 * wait for the bound: there they operate only once in nest_one_in times.
 */
static const struct probed {
	const char *name;
	enum probes probes;
	void (*run)(struct queue_stack_stress *skel, __u64 nested);
	__u32 words;
	__u32 nested;		/* so many at least, at each event */
	__u32 nest_one_in;
	bool nest_other;
	bool nest_on_cpu0_only;
	bool queue_only;
} probed[] = {
	/* Passes on stock 6.12.117, which tries the lock once at a breakpoint, as in NMI. */
	{ "breakpoints", BREAKPOINTS, same_map },
	/* Seen on stock 6.12.117: the guest hangs, spinning in a program inside of a push. */
	{ "jumps", JUMPS, same_map, .nested = 1000 },
	{ "jumps_two_cpus", JUMPS, same_map_two_cpus, .nested = 1000, .nest_one_in = 10 },
	/* Seen on stock 6.12.117: fails, refused while the other CPU has the lock. */
	{ "busy_elsewhere", BREAKPOINTS, busy_elsewhere, .words = 1024, .nest_other = true,
	  .nest_on_cpu0_only = true },
	{ "opposite_order_breakpoints", BREAKPOINTS, opposite_order, .nest_one_in = 20,
	  .nest_other = true, .queue_only = true },
	{ "opposite_order_jumps", JUMPS, opposite_order, .nested = 300, .nest_one_in = 10,
	  .nest_other = true, .queue_only = true },
};

static struct queue_stack_stress *load_probed(const struct probed *test, enum bpf_map_type type)
{
	struct queue_stack_stress *skel = stress_open(type, other_type(type), test->words ?: 1, 8);

	if (!skel)
		return NULL;
	skel->bss->text_start = insns.start;
	skel->bss->nest_one_in = test->nest_one_in;
	skel->bss->nest_other = test->nest_other;
	skel->bss->nest_on_cpu0_only = test->nest_on_cpu0_only;
	skel->bss->nest_at_jumps = test->probes == JUMPS;
	bpf_program__set_autoload(skel->progs.at_instruction, true);
	bpf_program__set_autoload(skel->progs.is_jump_at, true);
	if (!stress_load(skel)) {
		queue_stack_stress__destroy(skel);
		return NULL;
	}
	return skel;
}

/* Breakpoints at all instructions at once. */
static void run_at_breakpoints(struct queue_stack_stress *skel, const struct probed *test)
{
	struct bpf_link *links[NR_EVENTS];
	int i;

	set_optimization(false);
	for (i = 0; i < NR_EVENTS; i++)
		links[i] = attach_probe_event(skel, i);
	test->run(skel, 0);
	for (i = 0; i < NR_EVENTS; i++)
		bpf_link__destroy(links[i]);
	set_optimization(true);
}

static bool is_jump_at(struct queue_stack_stress *skel, __u64 addr)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &addr, .ctx_size_in = sizeof(addr));

	ASSERT_OK(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.is_jump_at), &opts),
		  "look for a jump");
	return opts.retval;
}

/* The kernel puts them there in its own time, and tells nobody. */
static bool wait_for_jumps(struct queue_stack_stress *skel, int event)
{
	__u64 end = get_time_ns() + 60ULL * 1000000000;
	int i;

	while (get_time_ns() < end) {
		for (i = event; i < insns.count; i += NR_EVENTS)
			if (is_jump_at(skel, insns.addrs[i]))
				return true;
		usleep(1000);
	}
	return ASSERT_FAIL("no jump came in place of a breakpoint");
}

/* Jumps in place of some instructions, in turns. */
static void run_at_jumps(struct queue_stack_stress *skel, const struct probed *test)
{
	struct bpf_link *link;
	int i;

	for (i = 0; i < NR_EVENTS; i++) {
		link = attach_probe_event(skel, i);
		skel->bss->nested_ops = 0;
		if (link && wait_for_jumps(skel, i))
			test->run(skel, test->nested);
		ASSERT_GE(skel->bss->nested_ops, test->nested, "operations at jumps");
		bpf_link__destroy(link);
	}
}

static void run_probed(const struct probed *test, enum bpf_map_type type)
{
	struct queue_stack_stress *skel;

	if (!add_probes())
		return;
	skel = load_probed(test, type);
	if (!skel)
		return;
	if (test->probes == JUMPS)
		run_at_jumps(skel, test);
	else
		run_at_breakpoints(skel, test);

	assert_nested(skel);
	printf("%llu nested operations at %d instructions of %d\n", skel->bss->nested_ops,
	       nr_places(skel), insns.count);
	/* Few have room for a jump: fewer than 20 where not all instructions are tried. */
	if (test->probes == JUMPS && insns.count / 20 < 20)
		ASSERT_GT(nr_places(skel), insns.count / 20, "instructions nested at");
	else
		ASSERT_GT(nr_places(skel), 20, "instructions nested at");
	queue_stack_stress__destroy(skel);
}

/* --- NMI --------------------------------------------------------------------- */

/* NMIs on the other CPUs, until enough of them came in the middle of an operation. */
static void send_nmis(struct queue_stack_stress *skel)
{
	__u64 end = get_time_ns() + 3ULL * 1000000000;
	struct console console;
	int sent = 0;

	silence_console(&console);
	while (READ_ONCE(skel->bss->nested_ops) < 100 && get_time_ns() < end && raise_nmis())
		sent++;
	restore_console(&console);
	printf("%d NMIs, %llu operations nested in another\n", sent, skel->bss->nested_ops);
}

/*
 * Large values, so that most NMIs come while one is copied. The sender's CPU cannot operate
 * on the map at the same time; a third CPU sends where there is one.
 *
 * Passes on stock 6.12.117, which tries the lock once when in NMI.
 */
static void nmi(enum bpf_map_type type)
{
	struct queue_stack_stress *skel = stress_open(type, type, MAX_WORDS, 8);
	struct worker first = { .skel = skel, .how = BY_BOTH, .msecs = 10000 };
	struct worker second = first;

	if (!skel)
		return;
	second.cpu = 1;
	bpf_program__set_autoload(skel->progs.at_nmi, true);
	if (!stress_load(skel) || !ASSERT_OK(queue_stack_stress__attach(skel), "attach"))
		goto out;

	pin_to(sysconf(_SC_NPROCESSORS_ONLN) > 2 ? 2 : 1);
	if (start_worker(&first)) {
		if (start_worker(&second)) {
			send_nmis(skel);
			WRITE_ONCE(second.stop, true);
			end_worker(&second);
		}
		WRITE_ONCE(first.stop, true);
		end_worker(&first);
	}
	unpin();

	assert_nested(skel);
	assert_worked(skel, 0, 0, MIX_ALL);
	assert_settled(skel, 0);
out:
	queue_stack_stress__destroy(skel);
}

static void reentry_type(enum bpf_map_type type)
{
	char name[64];
	int i;

	snprintf(name, sizeof(name), "%s_nmi", type_name(type));
	if (test__start_subtest(name) && two_cpus())
		nmi(type);
	snprintf(name, sizeof(name), "%s_traced_functions", type_name(type));
	if (test__start_subtest(name))
		traced_functions(type);
	for (i = 0; i < ARRAY_SIZE(probed); i++) {
		if (probed[i].queue_only && type != BPF_MAP_TYPE_QUEUE)
			continue;
		snprintf(name, sizeof(name), "%s_%s", type_name(type), probed[i].name);
		if (test__start_subtest(name) && two_cpus() && have_optimization())
			run_probed(&probed[i], type);
	}
}

void serial_test_queue_stack_reentry(void)
{
	reentry_type(BPF_MAP_TYPE_QUEUE);
	reentry_type(BPF_MAP_TYPE_STACK);
	remove_probes();
	if (test__start_subtest("opposite_order_function") && two_cpus())
		opposite_order_function();
}
