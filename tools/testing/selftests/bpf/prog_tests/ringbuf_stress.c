// SPDX-License-Identifier: GPL-2.0
/*
 * Ring buffers with producers in every context at once, and with programs that run in the
 * middle of an operation and do another one. Nothing hangs; every record arrives once, whole
 * and in order, or its loss is counted.
 *
 * RINGBUF_STRESS_SECS is how long each load runs, 2 seconds if it is not set.
 */
#include <sys/eventfd.h>
#include "ringbuf_common.h"
#include "progs/ringbuf_stress.h"
#include "ringbuf_free.skel.h"
#include "ringbuf_offline.skel.h"
#include "ringbuf_stress.skel.h"

static struct ringbuf_stress *skel;
static struct ring ring;
static bool overwrite;
static bool timers;	/* not on PREEMPT_RT: the verifier refuses them */

static const char *const kind_names[] = { "task", "timer", "switch", "nmi", "nested" };

static __u64 stress_nsecs(void)
{
	const char *secs = getenv("RINGBUF_STRESS_SECS");

	return (secs ? atoi(secs) : 2) * 1000000000ULL;
}

static int nr_cpus(void)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < NR_CPUS_USED ? cpus : NR_CPUS_USED;
}

/* --- what arrives ------------------------------------------------------------ */

static struct {
	__u64 next[NR_ACTORS];	/* number of its next record */
	__u64 records, small, discarded;
	__u64 damaged, disordered;
} seen;

/* A part of a record that nobody put a tag in. */
static bool is_filler(const __u8 *payload, __u32 from, __u32 to, __u32 actor)
{
	static __u8 filler[NR_ACTORS][MAX_RECORD];

	if (from >= to)
		return true;
	if (!filler[actor][0])
		memset(filler[actor], FILL_BYTE(actor), MAX_RECORD);
	return !memcmp(payload + from, filler[actor], to - from);
}

static void check_record(const void *payload, __u32 len)
{
	__u32 actor, middle = TAG_MIDDLE(len), end = TAG_END(len);
	__u64 tag;

	if (len < 8) {
		seen.small++;
		return;
	}
	tag = *(__u64 *)payload;
	actor = tag >> 56;
	if (actor >= NR_ACTORS || tag != TAG(actor, len, tag) ||
	    *(__u64 *)(payload + middle) != tag || *(__u64 *)(payload + end) != tag ||
	    !is_filler(payload, 8, middle, actor) ||
	    !is_filler(payload, middle + 8, end, actor) ||
	    !is_filler(payload, end + 8, len, actor)) {
		seen.damaged++;
		return;
	}
	/* When the oldest are dropped, there may be gaps. */
	if (overwrite ? (__u32)tag < seen.next[actor] : (__u32)tag != seen.next[actor])
		seen.disordered++;
	seen.next[actor] = (__u64)(__u32)tag + 1;
	seen.records++;
}

/* All committed records from @pos on, one after the other, until a busy one; where that is. */
static unsigned long consume_committed(unsigned long pos)
{
	__u32 len;

	if (overwrite && pos < overwritten(&ring))
		pos = overwritten(&ring);
	while ((long)(producer(&ring) - pos) > 0) {
		len = len_at(&ring, pos);
		if (len & BPF_RINGBUF_BUSY_BIT)
			break;
		if (len & BPF_RINGBUF_DISCARD_BIT)
			seen.discarded++;
		else
			check_record(payload_at(&ring, pos), len);
		pos += record_bytes(len);
		consume_to(&ring, pos);
	}
	return pos;
}

enum consumer { KEEPS_UP, LAGS, SLEEPS, SLEEPS_FOREVER };

static struct {
	pthread_t thread;
	enum consumer how;
	bool stop;
	int stop_fd;		/* that it waits for too */
	__u64 lost_wakeups;
} consumer_thread;

/* Where the thread would sleep on, although there is a record for it. */
static void sleep_until_woken(int epoll, unsigned long pos)
{
	if (!epoll_events(epoll, 3000) && pos != producer(&ring) &&
	    !(len_at(&ring, pos) & BPF_RINGBUF_BUSY_BIT))
		consumer_thread.lost_wakeups++;
}

static void *consume(void *arg)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_on(ring.fd, EPOLLIN | EPOLLET);
	unsigned long pos = 0;

	epoll_ctl(epoll, EPOLL_CTL_ADD, consumer_thread.stop_fd, &event);
	while (!__atomic_load_n(&consumer_thread.stop, __ATOMIC_ACQUIRE)) {
		if (consumer_thread.how == LAGS && producer(&ring) - pos < ring.size / 4 * 3) {
			sched_yield();
			continue;
		}
		pos = consume_committed(pos);
		if (consumer_thread.how == SLEEPS)
			sleep_until_woken(epoll, pos);
		if (consumer_thread.how == SLEEPS_FOREVER)
			epoll_events(epoll, -1);
	}
	consume_committed(pos);
	close(epoll);
	return NULL;
}

/* --- the load ---------------------------------------------------------------- */

static bool setup(__u32 ring_size, __u32 size_bits)
{
	memset(&seen, 0, sizeof(seen));
	skel = ringbuf_stress__open();
	if (!ASSERT_OK_PTR(skel, "open skeleton"))
		return false;
	bpf_map__set_max_entries(skel->maps.ring, ring_size);
	if (overwrite)
		bpf_map__set_map_flags(skel->maps.ring, BPF_F_RB_OVERWRITE);
	skel->rodata->size_bits = size_bits;
	skel->rodata->pid = getpid();
	return true;
}

static bool load_and_attach(void)
{
	int i;

	timers = !preempt_rt();
	bpf_program__set_autoload(skel->progs.start_timer, timers);
	bpf_program__set_autoload(skel->progs.cancel_timers, timers);
	if (!ASSERT_OK(ringbuf_stress__load(skel), "load skeleton"))
		return false;
	for (i = 0; i < NR_ACTORS; i++)
		memset(skel->bss->bufs[i], FILL_BYTE(i), MAX_RECORD);
	return ring_map(&ring, skel->maps.ring) &&
	       ASSERT_OK(ringbuf_stress__attach(skel), "attach");
}

static void teardown(void)
{
	ring_unmap(&ring);
	ring.consumer_pos = NULL;
	ringbuf_stress__destroy(skel);
	skel = NULL;
}

static int drive(__u32 cpu, __u32 ops)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct drive args = { .cpu = cpu, .ops = ops };

	opts.ctx_in = &args;
	opts.ctx_size_in = sizeof(args);
	return bpf_prog_test_run_opts(bpf_program__fd(skel->progs.drive), &opts);
}

static bool half_full(void)
{
	return producer(&ring) - consumer(&ring) > ring.size / 2;
}

struct worker {
	pthread_t thread;
	int cpu, err;
	bool stop;
};

static void *work(void *arg)
{
	struct worker *me = arg;
	int i;

	pin_to(me->cpu);
	while (!me->err && !__atomic_load_n(&me->stop, __ATOMIC_RELAXED)) {
		me->err = drive(me->cpu, 64);
		/* The consumer may need this CPU, or may wait for more. */
		for (i = 0; i < 100 && !overwrite && half_full(); i++)
			sched_yield();
	}
	return NULL;
}

static void start_worker(struct worker *worker, int cpu)
{
	*worker = (struct worker) { .cpu = cpu };
	ASSERT_OK(pthread_create(&worker->thread, NULL, work, worker), "start thread");
}

static void end_worker(struct worker *worker)
{
	__atomic_store_n(&worker->stop, true, __ATOMIC_RELAXED);
	pthread_join(worker->thread, NULL);
	ASSERT_OK(worker->err, "test run");
}

static void start_timers(void)
{
	int cpu, err;

	if (!timers)
		return;
	for (cpu = 0; cpu < nr_cpus(); cpu++) {
		pin_to(cpu);
		/* It takes memory that cannot be waited for. */
		do {
			err = run_prog(skel->progs.start_timer);
		} while (err == -ENOMEM);
		ASSERT_OK(err, "start timer");
	}
	unpin();
}

static struct actor sum_of(enum kind kind)
{
	struct actor sum = {}, *actor;
	int cpu;

	for (cpu = 0; cpu < NR_CPUS_USED; cpu++) {
		actor = &skel->bss->actors[kind * NR_CPUS_USED + cpu];
		sum.sent += actor->sent;
		sum.sent_small += actor->sent_small;
		sum.discarded += actor->discarded;
		sum.refused += actor->refused;
		sum.inside += actor->inside;
	}
	return sum;
}

static bool nmis_counted(void)
{
	struct actor nmis = sum_of(KIND_NMI);

	return nmis.sent && nmis.inside;
}

/* Longer on a slow machine, until one has found room and another one an operation to interrupt. */
static void send_nmis(__u64 nsecs)
{
	__u64 start = get_time_ns();
	struct console console;
	int cpu = 0;

	silence_console(&console);
	while (get_time_ns() - start < (nmis_counted() ? nsecs : nsecs + 20000000000ULL)) {
		pin_to(cpu++ % nr_cpus());
		if (!raise_nmis())
			break;
	}
	unpin();
	restore_console(&console);
}

/* Nobody produces any more when this is over. */
static void stop_interrupts(void)
{
	skel->bss->stop = true;
	if (timers) {
		ASSERT_OK(run_prog(skel->progs.cancel_timers), "cancel timers");
		ASSERT_OK(run_prog(skel->progs.cancel_timers), "cancel timers");
	}
	ringbuf_stress__detach(skel);
	kern_sync_rcu();
}

/* All that was sent came, or was counted as lost. */
static void assert_settled(void)
{
	struct actor all = {}, one;
	__u64 lost, dropped;
	enum kind kind;
	int i;

	for (kind = 0; kind < NR_KINDS; kind++) {
		one = sum_of(kind);
		if (one.sent || one.refused)
			printf("%s: %llu sent, %llu refused, %llu inside of another operation\n",
			       kind_names[kind], one.sent + one.sent_small, one.refused,
			       one.inside);
		all.sent += one.sent;
		all.sent_small += one.sent_small;
		all.discarded += one.discarded;
		all.refused += one.refused;
	}
	ASSERT_EQ(seen.damaged, 0, "damaged records");
	ASSERT_EQ(seen.disordered, 0, "records in a wrong order, lost or doubled");
	ASSERT_EQ(consumer(&ring), producer(&ring), "end of the last record");
	lost = fdinfo_line(ring.fd, "lost");
	if (overwrite) {
		dropped = all.sent + all.sent_small - seen.records - seen.small;
		ASSERT_EQ(lost, all.refused + dropped, "lost");
		return;
	}
	for (i = 0; i < NR_ACTORS; i++)
		ASSERT_EQ(seen.next[i], skel->bss->actors[i].sent, "records of one actor");
	ASSERT_EQ(seen.small, all.sent_small, "small records");
	ASSERT_EQ(seen.discarded, all.discarded, "discarded records");
	ASSERT_EQ(lost, all.refused, "lost");
}

static bool start_consumer(enum consumer how)
{
	consumer_thread.how = how;
	consumer_thread.stop = false;
	consumer_thread.lost_wakeups = 0;
	consumer_thread.stop_fd = eventfd(0, EFD_CLOEXEC);
	return ASSERT_OK(pthread_create(&consumer_thread.thread, NULL, consume, NULL), "thread");
}

static void end_consumer(void)
{
	__atomic_store_n(&consumer_thread.stop, true, __ATOMIC_RELEASE);
	ASSERT_OK(eventfd_write(consumer_thread.stop_fd, 1), "stop the consumer");
	pthread_join(consumer_thread.thread, NULL);
	close(consumer_thread.stop_fd);
}

/* Producers in all contexts. */
static void all_contexts(enum consumer how)
{
	struct worker workers[NR_CPUS_USED] = {};
	int cpu;

	if (!start_consumer(how))
		return;
	start_timers();
	for (cpu = 0; cpu < nr_cpus(); cpu++)
		start_worker(&workers[cpu], cpu);
	send_nmis(stress_nsecs());
	for (cpu = 0; cpu < nr_cpus(); cpu++)
		end_worker(&workers[cpu]);
	stop_interrupts();
	end_consumer();
}

static const struct load {
	const char *name;
	enum consumer consumer;
	__u32 ring_size;
	__u32 size_bits;	/* half of the ring's */
} loads[] = {
	{ "consumer_keeps_up", KEEPS_UP, 16384, 13 },
	{ "consumer_lags", LAGS, 16384, 13 },
	/* No wakeup is lost: with the default flags, it never sleeps on with a record there. */
	{ "consumer_sleeps", SLEEPS, 16384, 13 },
	{ "ring_of_one_page", KEEPS_UP, 4096, 11 },
	{ "ring_of_one_page_consumer_lags", LAGS, 4096, 11 },
	{ "small_records", LAGS, 65536, 7 },
	{ "large_ring", KEEPS_UP, 256 << 10, 17 },
};

static void run_load(const struct load *test)
{
	if (!setup(test->ring_size, test->size_bits))
		goto out;
	skel->rodata->default_wakeups = test->consumer == SLEEPS;
	bpf_program__set_autoload(skel->progs.at_switch, true);
	bpf_program__set_autoload(skel->progs.at_nmi, true);
	if (!load_and_attach())
		goto out;

	all_contexts(test->consumer);

	assert_settled();
	ASSERT_GT(sum_of(KIND_TASK).sent, 0, "records from tasks");
	if (timers)
		ASSERT_GT(sum_of(KIND_TIMER).sent, 0, "records from soft interrupts");
	ASSERT_GT(sum_of(KIND_SWITCH).sent, 0, "records from the scheduler's tracepoint");
	ASSERT_GT(sum_of(KIND_NMI).sent, 0, "records from NMIs");
	ASSERT_GT(sum_of(KIND_NMI).inside, 0, "NMIs inside of an operation");
	ASSERT_EQ(consumer_thread.lost_wakeups, 0, "lost wakeups");
out:
	teardown();
}

/*
 * Threads that stop while the ring is half full: there is always room, and nobody is inside of
 * another one's operation. Only a virtual CPU that does not run while it has the lock may still
 * cost the others a record, when they have waited long.
 */
static void never_refused(void)
{
	struct worker workers[NR_CPUS_USED] = {};
	struct actor sum;
	int cpu;

	if (!setup(16384, 10))
		goto out;
	skel->rodata->polite = true;
	if (!load_and_attach() || !start_consumer(KEEPS_UP))
		goto out;

	for (cpu = 0; cpu < nr_cpus(); cpu++)
		start_worker(&workers[cpu], cpu);
	usleep(stress_nsecs() / 1000);
	for (cpu = 0; cpu < nr_cpus(); cpu++)
		end_worker(&workers[cpu]);
	end_consumer();

	assert_settled();
	sum = sum_of(KIND_TASK);
	ASSERT_GT(sum.sent, 1000, "records");
	ASSERT_LE(sum.refused, sum.sent / 10000, "records refused");
out:
	teardown();
}

/* --- re-entry ---------------------------------------------------------------- */

/* One thread that produces and consumes in turns. */
static bool produce_and_consume(int rounds)
{
	unsigned long pos = consumer(&ring);

	while (rounds--) {
		if (!ASSERT_OK(drive(0, 16), "test run"))
			return false;
		/* In overwrite mode there are drops too. */
		if (!overwrite || rounds % 4 == 0)
			pos = consume_committed(pos);
	}
	return true;
}

/*
 * Everything else runs through raw_spin_unlock_irqrestore(), too. Patching it while it runs has
 * ended in a stray int3 under emulation (in the kernel that carries KASAN and lockdep), so these
 * programs are attached only if asked for: TRACE_UNLOCK=1. Without it no hang of
 * stock is seen: at a breakpoint, as in NMI, stock only tries its lock.
 */
static bool trace_unlock(void)
{
	return getenv("TRACE_UNLOCK");
}

/*
 * a650d38915c1. Seen on stock 6.12.117: the guest hangs, in a program at
 * raw_spin_unlock_irqrestore() that reserves inside of a reservation.
 */
static void traced_functions(void)
{
	if (!setup(4096, 11))
		goto out;
	bpf_program__set_autoload(skel->progs.at_unlock, trace_unlock());
	bpf_program__set_autoload(skel->progs.at_submit, true);
	if (!load_and_attach())
		goto out;

	pin_to(0);
	produce_and_consume(300);
	unpin();

	stop_interrupts();
	consume_committed(consumer(&ring));
	assert_settled();
	ASSERT_GT(sum_of(KIND_NESTED).inside, 100, "operations inside of another");
out:
	teardown();
}

/* Bytes of the kernel where an instruction may begin. */
static struct {
	__u64 addr;
	bool slow;		/* in the part that has the lock */
	bool hit;		/* by any test so far */
} places[16384];
static int nr_places;
static bool hits_known;	/* elsewhere no instruction begins, or none that was used */

static void add_places(const char *symbol, __u64 start, __u64 end)
{
	for (; start < end && nr_places < ARRAY_SIZE(places); start += instructions_stride()) {
		places[nr_places].addr = start;
		places[nr_places++].slow = strstr(symbol, "slow") ||
					   strstr(symbol, "overwrite") || strstr(symbol, "__");
	}
}

static bool find_places(void)
{
	static const char *const names[] = {
		"bpf_ringbuf_reserve", "bpf_ringbuf_submit", "bpf_ringbuf_discard",
		"bpf_ringbuf_output", "bpf_ringbuf_reserve_dynptr", "bpf_ringbuf_submit_dynptr",
		"ringbuf_reserve_slow", "ringbuf_reserve_overwrite",
		"__bpf_ringbuf_reserve", "bpf_ringbuf_commit",
	};

	return nr_places || (visit_text(add_places, names, ARRAY_SIZE(names)) &&
			     ASSERT_GT(nr_places, 0, "operations' text"));
}

/* What the second CPU does meanwhile. */
enum beside { NOTHING, PRODUCER, CONSUMER, SLEEPER };

static bool start_beside(enum beside beside, struct worker *worker)
{
	if (beside == CONSUMER)
		return start_consumer(KEEPS_UP);
	if (beside == SLEEPER)
		return start_consumer(SLEEPS);
	if (beside == PRODUCER)
		start_worker(worker, 1);
	return true;
}

static void end_beside(enum beside beside, struct worker *worker)
{
	if (beside == PRODUCER)
		end_worker(worker);
	stop_interrupts();
	if (beside == CONSUMER || beside == SLEEPER)
		end_consumer();
	else
		consume_committed(consumer(&ring));
}

/* Until the consumer has left at most so many bytes. */
static bool wait_for_consumer(unsigned long bytes)
{
	__u64 end = get_time_ns() + 10000000000ULL;

	while ((long)(producer(&ring) - consumer(&ring) - bytes) > 0)
		if (get_time_ns() > end || sched_yield())
			return ASSERT_FAIL("consumer stays behind");
	return true;
}

/* One consumer at a time, and none while the oldest records are dropped on another CPU. */
static bool produce(enum beside beside, int rounds)
{
	if (beside == NOTHING || (beside == PRODUCER && !overwrite))
		return produce_and_consume(rounds);
	while (rounds--) {
		if (!ASSERT_OK(drive(0, 16), "test run"))
			return false;
		if (beside == CONSUMER && !wait_for_consumer(ring.size / 2))
			return false;
		/* Let it sleep, so that the next record must wake it. */
		if (beside == SLEEPER && !wait_for_consumer(0))
			return false;
	}
	return true;
}

/* Up to four places from @from on, as many as there are registers; how many. */
static int next_places(int from, bool only_hit, int *chosen)
{
	int count = 0;

	for (; from < nr_places && count < NR_BREAKPOINTS; from++)
		if (!only_hit || places[from].hit)
			chosen[count++] = from;
	return count;
}

struct tally {
	int attached, slow, fast;
};

/* Produce with programs at these places; false if that fails. */
static bool produce_at(const int *chosen, int count, enum beside beside, struct tally *tally)
{
	struct bpf_link *links[NR_BREAKPOINTS];
	bool ok;
	int i;

	memset(skel->bss->hits, 0, sizeof(skel->bss->hits));
	for (i = 0; i < count; i++) {
		links[i] = attach_breakpoint(skel->progs.at_breakpoint,
					     places[chosen[i]].addr, -1, 0, i);
		tally->attached += !!links[i];
	}
	ok = produce(beside, 3);
	for (i = 0; i < count; i++) {
		bpf_link__destroy(links[i]);
		if (!skel->bss->hits[i])
			continue;
		places[chosen[i]].hit = true;
		if (places[chosen[i]].slow)
			tally->slow++;
		else
			tally->fast++;
	}
	return ok;
}

/*
 * A program at every instruction of the operations, notrace or not, in a context like NMI. It
 * also makes the time between two instructions long, for those who look from another CPU.
 */
static void every_instruction(enum beside beside)
{
	bool only_hit = hits_known && (beside == CONSUMER || beside == SLEEPER), ok = true;
	int chosen[NR_BREAKPOINTS], count, from, stride = instructions_stride();
	struct tally tally = {};
	struct worker worker;

	if (!setup(4096, 11))
		goto out;
	skel->rodata->default_wakeups = beside == SLEEPER;
	bpf_program__set_autoload(skel->progs.at_breakpoint, true);
	bpf_program__set_autoattach(skel->progs.at_breakpoint, false);
	if (!load_and_attach() || !find_places() || !start_beside(beside, &worker))
		goto out;
	pin_to(0);
	for (from = 0; ok; from = chosen[count - 1] + 1) {
		count = next_places(from, only_hit, chosen);
		if (!count)
			break;
		ok = produce_at(chosen, count, beside, &tally);
	}
	unpin();
	end_beside(beside, &worker);

	assert_settled();
	printf("hit at %d instructions of the slow path, %d others; %d breakpoints, %d bytes\n",
	       tally.slow, tally.fast, tally.attached, nr_places);
	if (!tally.attached) {
		printf("SKIP: no breakpoints in the kernel's text\n");
		test__skip();
		goto out;
	}
	if (beside == NOTHING && !overwrite)
		hits_known = true;
	if (beside == SLEEPER)
		ASSERT_EQ(consumer_thread.lost_wakeups, 0, "lost wakeups");
	ASSERT_GT(tally.slow, 20 / stride, "instructions of the slow path");
	ASSERT_GT(tally.fast, 100 / stride, "instructions of the operations");
	ASSERT_GT(sum_of(KIND_NESTED).inside, 200 / stride, "operations inside of another");
out:
	teardown();
}

/* --- the end of a map -------------------------------------------------------- */

/*
 * CVE-2025-40319: a program on the scheduler's tracepoint commits and wants a wakeup; before
 * that comes, the map is freed.
 */
static void freed_while_committing(void)
{
	unsigned long before = taint_flags();
	__u64 end = get_time_ns() + stress_nsecs();
	struct ringbuf_free *obj;
	__u64 committed = 0;
	int rounds;

	for (rounds = 0; get_time_ns() < end || rounds < 4; rounds++) {
		obj = ringbuf_free__open_and_load();
		if (!ASSERT_OK_PTR(obj, "load skeleton"))
			break;
		if (!ASSERT_OK(ringbuf_free__attach(obj), "attach")) {
			ringbuf_free__destroy(obj);
			break;
		}
		/* Whoever is here, there will be other tasks. */
		while (READ_ONCE(obj->bss->committed) < 8)
			usleep(1);
		committed += obj->bss->committed;
		ringbuf_free__destroy(obj);
	}
	kern_sync_rcu();
	printf("%d maps, %llu commits\n", rounds, committed);
	ASSERT_GE(rounds, 4, "maps");
	ASSERT_EQ(taint_flags(), before, "taint flags");
}

/* --- a CPU that goes away ---------------------------------------------------- */

/* One round: what CPU 1 left behind does not keep the consumer from being woken. */
static bool wakeup_off_and_on(struct ringbuf_offline *obj)
{
	__u64 before = obj->bss->committed;
	bool ok;

	if (!set_online(false))
		return false;
	ok = ASSERT_GT(obj->bss->committed, before, "records of the CPU on its way out") &&
	     ASSERT_OK(run_prog(obj->progs.produce), "record from another CPU") &&
	     wait_for_consumer(0);
	return set_online(true) && ok;
}

/*
 * The last that CPU 1 does is to commit a record and to want a wakeup. Without "irq_work: run what
 * a CPU left that went offline", the consumer sleeps on: at_switch, on PREEMPT_RT, until the CPU
 * is back; at_death, without PREEMPT_RT, for good, and CPU 1 runs no irq_work any more.
 */
static void wakeup_offline(bool at_death)
{
	struct ringbuf_offline *obj;
	int rounds = 0;

	if (!can_go_offline())
		return;
	memset(&seen, 0, sizeof(seen));
	obj = ringbuf_offline__open();
	if (!ASSERT_OK_PTR(obj, "open skeleton"))
		return;
	bpf_program__set_autoload(at_death ? obj->progs.at_death : obj->progs.at_switch, true);
	pin_to(0);
	if (!ASSERT_OK(ringbuf_offline__load(obj), "load skeleton") ||
	    !ring_map(&ring, obj->maps.ring) ||
	    !ASSERT_OK(ringbuf_offline__attach(obj), "attach") || !start_consumer(SLEEPS_FOREVER))
		goto out;

	while (wakeup_off_and_on(obj) && ++rounds < 4)
		;
	ringbuf_offline__detach(obj);
	kern_sync_rcu();
	end_consumer();

	ASSERT_EQ(rounds, 4, "rounds");
	ASSERT_EQ(obj->bss->refused, 0, "records refused");
	ASSERT_EQ(seen.small, obj->bss->committed, "records");
out:
	unpin();
	ring_unmap(&ring);
	ring.consumer_pos = NULL;
	ringbuf_offline__destroy(obj);
}

void serial_test_ringbuf_stress(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(loads); i++)
		if (test__start_subtest(loads[i].name) && two_cpus())
			run_load(&loads[i]);
	if (test__start_subtest("never_refused") && two_cpus())
		never_refused();
	if (test__start_subtest("traced_functions"))
		traced_functions();
	if (test__start_subtest("every_instruction"))
		every_instruction(NOTHING);
	if (test__start_subtest("every_instruction_producer_beside") && two_cpus())
		every_instruction(PRODUCER);
	if (test__start_subtest("every_instruction_consumer_beside") && two_cpus())
		every_instruction(CONSUMER);
	if (test__start_subtest("every_instruction_sleeper_beside") && two_cpus())
		every_instruction(SLEEPER);
	overwrite = true;
	if (test__start_subtest("traced_functions_overwrite"))
		traced_functions();
	if (test__start_subtest("every_instruction_overwrite"))
		every_instruction(NOTHING);
	if (test__start_subtest("every_instruction_overwrite_producer_beside") && two_cpus())
		every_instruction(PRODUCER);
	overwrite = false;
	if (test__start_subtest("freed_while_committing"))
		freed_while_committing();
	if (test__start_subtest("wakeup_cpu_offline"))
		wakeup_offline(false);
	if (test__start_subtest("wakeup_cpu_offline_late"))
		wakeup_offline(true);
}
