// SPDX-License-Identifier: GPL-2.0
/*
 * Entries are replaced, resized, deleted, created again, and change their programs, while two
 * CPUs redirect to them; devices and CPUs go away; real-time tasks keep kthreads from running.
 * Each packet that was redirected is received or counted, and nothing is left behind.
 *
 * CPUMAP_STRESS_SECS is how long each load runs, 1 second if it is not set.
 *
 * On stock 6.12.117, fdinfo has no counters, and in generic mode what follows a packet that is not
 * passed skips the program.
 */
#include <net/if.h>
#include "cpumap_common.h"

#define QSIZE 512

static struct setup s;
static bool stop;
static __u64 nr_updates;	/* of entries */
static __u64 nr_failed;		/* updates that failed */
static __u64 nr_wrong;		/* times that fdinfo did not add up */

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static __u64 stress_nsecs(void)
{
	const char *secs = getenv("CPUMAP_STRESS_SECS");

	return (secs ? atoi(secs) : 1) * 1000000000ULL;
}

/* --- threads ------------------------------------------------------------------ */

struct worker {
	pthread_t thread;
	void (*work)(struct worker *me);
	int cpu;		/* -1: any */
	bool real_time;
	int socket;
	unsigned int seed;
	__u32 seq;
};

static struct worker workers[6];
static int nr_workers;

static void *run_worker(void *arg)
{
	struct worker *me = arg;

	if ((me->cpu >= 0 && !set_cpu(me->cpu)) ||
	    (me->real_time && !set_policy(SCHED_RR, 1)))
		return (void *)1;
	while (!stopped())
		me->work(me);
	return NULL;
}

static void start_worker(void (*work)(struct worker *me), int cpu, bool real_time)
{
	struct worker *me = &workers[nr_workers];

	*me = (struct worker) {
		.work = work, .cpu = cpu, .real_time = real_time, .seed = nr_workers,
		.socket = open_sender(),
	};
	if (ASSERT_OK(pthread_create(&me->thread, NULL, run_worker, me), "start thread"))
		nr_workers++;
}

static void stop_workers(void)
{
	void *failed;

	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	while (nr_workers) {
		nr_workers--;
		ASSERT_OK(pthread_join(workers[nr_workers].thread, &failed), "join thread");
		ASSERT_NULL(failed, "thread without its CPU or priority");
		close(workers[nr_workers].socket);
	}
	stop = false;
}

static void send_some(struct worker *me)
{
	send_packets(me->socket, me->seq, 32);
	me->seq += 32;
}

/*
 * As a real-time task: nothing else runs on its CPU for 10 ms of each 12, but threads for
 * interrupts and RCU on PREEMPT_RT.
 */
static void hog(struct worker *me)
{
	__u64 end = get_time_ns() + 10000000;

	while (get_time_ns() < end && !stopped())
		;
	usleep(2000);
}

/* The same without a pause. */
static void hog_all(struct worker *me)
{
}

/* --- updates ------------------------------------------------------------------ */

enum change { REPLACE, RESIZE, DELETE, PROGRAM, DEVICE, ALL };

static enum change change;

static void set_device_up(bool up)
{
	struct ifreq request = { .ifr_name = "out0", .ifr_flags = up ? IFF_UP : 0 };

	if (ioctl(s.receiver, SIOCSIFFLAGS, &request))
		__atomic_add_fetch(&nr_failed, 1, __ATOMIC_RELAXED);
}

static const struct bpf_program *any_program(struct worker *me)
{
	switch (rand_r(&me->seed) % 3) {
	case 0:
		return s.skel->progs.second;
	case 1:
		return s.skel->progs.pass_all;
	default:
		return NULL;
	}
}

static void update(struct worker *me)
{
	enum change what = change == ALL ? rand_r(&me->seed) % ALL : change;
	const struct bpf_program *prog = s.skel->progs.second;
	__u32 cpu = rand_r(&me->seed) % 2, qsize = QSIZE;

	switch (what) {
	case RESIZE:
		qsize = 1 << rand_r(&me->seed) % 12;
		break;
	case DELETE:
		qsize = rand_r(&me->seed) % 2 ? QSIZE : 0;
		break;
	case PROGRAM:
		prog = any_program(me);
		break;
	case DEVICE:
		set_device_up(rand_r(&me->seed) % 2);
		break;
	default:
		break;
	}
	if (set_entry(s.cpus, cpu, qsize, prog))
		__atomic_add_fetch(&nr_failed, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&nr_updates, 1, __ATOMIC_RELAXED);
}

/* Counters never go back, and no more leaves the ring than entered it. */
static void check_counters(struct counters *last)
{
	struct counters c;

	if (read_counters(s.cpus, -1, &c) &&
	    (left_ring(&c) > c.enqueued || c.enqueued < last->enqueued ||
	     c.dropped < last->dropped || left_ring(&c) < left_ring(last)))
		nr_wrong++;
	*last = c;
}

/* Until the time is up. */
static void check_for_a_while(void)
{
	__u64 end = get_time_ns() + stress_nsecs();
	struct counters last = {};

	while (get_time_ns() < end) {
		check_counters(&last);
		usleep(10000);
	}
}

/* What was redirected to the map is all accounted for; nobody sends any more. */
static void assert_accounted(void)
{
	struct counters c;

	ASSERT_GT(s.bss->redirected, 0, "packets redirected");
	ASSERT_TRUE(wait_for(s.bss->tallies[0].enqueued + s.bss->tallies[0].dropped ==
			     s.bss->redirected), "all redirected packets are traced");
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(c.enqueued + c.dropped, s.bss->redirected, "enqueued and dropped, in fdinfo");
	ASSERT_EQ(s.bss->strange_packets, 0, "strange packets");
	ASSERT_EQ(s.bss->strange_md, 0, "runs with a strange device or queue");
	ASSERT_EQ(nr_wrong, 0, "counters that did not add up");
}

/* And what was passed was received. */
static void assert_received(void)
{
	__u64 passed = s.bss->tallies[0].enqueued - s.bss->tallies[0].failed -
		       s.bss->tallies[0].prog_dropped - s.bss->tallies[0].prog_redirected;

	ASSERT_TRUE(wait_for(s.bss->received >= passed), "packets come out of the stack");
	ASSERT_EQ(s.bss->received, passed, "received");
}

/* The map is gone, and so is all that it had. */
static void assert_nothing_left(void)
{
	__u32 map = map_id(s.cpus), second = prog_id(s.skel->progs.second);
	__u32 pass_all = prog_id(s.skel->progs.pass_all);

	teardown(&s);
	ASSERT_TRUE(wait_for(!find_kthreads(map, -1, NULL)), "kthreads end");
	ASSERT_TRUE(wait_for(map_is_gone(map)), "map is gone");
	ASSERT_TRUE(wait_for(prog_is_gone(second)), "entry's program is gone");
	ASSERT_TRUE(wait_for(prog_is_gone(pass_all)), "entry's other program is gone");
}

static void change_entries(enum change what, bool hogs, int updaters)
{
	int i;

	change = what;
	nr_updates = 0;
	nr_failed = 0;
	nr_wrong = 0;
	s.bss->nr_cpus = 2;
	s.bss->verdicts[1] = V_DROP;
	if (what == DEVICE || what == ALL)
		s.bss->verdicts[2] = V_DEV;
	s.bss->nr_verdicts = 4;		/* the others are V_PASS */
	if (!set_out(&s, "out0") ||
	    !ASSERT_OK(set_entry(s.cpus, 0, QSIZE, s.skel->progs.second), "entry 0") ||
	    !ASSERT_OK(set_entry(s.cpus, 1, QSIZE, s.skel->progs.second), "entry 1"))
		return;
	for (i = 0; i < 2; i++) {
		start_worker(send_some, i, false);
		if (hogs)
			start_worker(hog, i, true);
	}
	while (updaters--)
		start_worker(update, -1, false);
	check_for_a_while();
	stop_workers();
	set_device_up(true);
	ASSERT_GT(nr_updates, 0, "updates");
	ASSERT_EQ(nr_failed, 0, "updates that failed");
	assert_accounted();
	assert_received();
	printf("%llu updates, %llu packets\n", nr_updates, (__u64)s.bss->redirected);
}

static void replace(void)
{
	change_entries(REPLACE, false, 1);
}

static void resize(void)
{
	change_entries(RESIZE, false, 1);
}

static void delete_and_create(void)
{
	change_entries(DELETE, false, 1);
}

static void change_program(void)
{
	change_entries(PROGRAM, false, 1);
}

/* Redirects of the entry's program fail, and work again. */
static void device_up_and_down(void)
{
	change_entries(DEVICE, false, 1);
}

static void all_by_two(void)
{
	change_entries(ALL, false, 2);
}

/*
 * CVE-2023-53441: an entry replaced before its kthread ran; CVE-2023-53577 and, in generic mode,
 * CVE-2023-53660: its ring was not drained then, or its skbs freed as frames.
 */
static void replace_before_kthreads_run(void)
{
	change_entries(DELETE, true, 1);
}

/* --- what goes away ------------------------------------------------------------ */

/* Puts a burst into the ring of CPU 0, whose kthread cannot run until stop_workers(). */
static bool fill_ring(void)
{
	bool filled;

	if (!two_cpus() || !ASSERT_TRUE(set_cpu(1), "pin thread"))
		return false;
	start_worker(hog_all, 0, true);
	/* Now and then the scheduler lets others run for a moment. */
	send_packets(s.sender, 0, BURST);
	filled = ASSERT_TRUE(wait_for(s.bss->tallies[0].enqueued == BURST), "ring is filled");
	if (!filled)
		stop_workers();
	return filled;
}

/* The map's last reference goes while packets are in its ring: they are received. */
static void map_with_packets(void)
{
	struct cpumap_redirect *watch = cpumap_redirect__open_and_load();
	int receiver = -1;

	if (!ASSERT_OK_PTR(watch, "load programs"))
		return;
	close(s.receiver);
	s.receiver = -1;
	receiver = open_receiver(AF_INET, watch->progs.at_socket);
	if (receiver >= 0 && ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") && fill_ring()) {
		__u32 map = map_id(s.cpus);

		detach_xdp(DST, "dst0", s.xdp_flags);
		cpumap_redirect__destroy(s.skel);
		s.skel = NULL;
		ASSERT_OK(kern_sync_rcu(), "grace period");
		stop_workers();
		ASSERT_TRUE(wait_for(watch->bss->received >= BURST), "packets are received");
		ASSERT_EQ(watch->bss->received, BURST, "received");
		ASSERT_TRUE(wait_for(!find_kthreads(map, -1, NULL)), "kthread ends");
		ASSERT_TRUE(wait_for(map_is_gone(map)), "map is gone");
	}
	leave_cpu();
	if (receiver >= 0)
		close(receiver);
	cpumap_redirect__destroy(watch);
}

static void *remove_device(void *arg)
{
	return (void *)(long)system("ip -n " DST " link del dst0");
}

/*
 * How much of each second CPU 0 keeps for those without real-time priority, in ns; returns what it
 * was. Older kernels have another way, and these packets may be received early there.
 */
static long keep_for_others(long ns)
{
	FILE *f = fopen("/sys/kernel/debug/sched/fair_server/cpu0/runtime", "r+");
	long before = 0;

	if (!f)
		return 0;
	ASSERT_EQ(fscanf(f, "%ld", &before), 1, "read runtime");
	rewind(f);
	ASSERT_GT(fprintf(f, "%ld", ns), 0, "write runtime");
	ASSERT_OK(fclose(f), "set runtime");
	return before;
}

/* The device that packets in the ring came from is removed: they are received or counted. */
static void device_with_packets(void)
{
	long runtime;
	__u64 end;
	pthread_t remover;
	void *failed;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") || !fill_ring())
		return;
	runtime = keep_for_others(0);
	if (ASSERT_OK(pthread_create(&remover, NULL, remove_device, NULL), "start thread")) {
		/* Removal may have to wait for the packets; two seconds show it if not. */
		end = get_time_ns() + 2000000000ULL;
		while (pthread_tryjoin_np(remover, &failed) && get_time_ns() < end)
			usleep(1000);
		stop_workers();
		if (get_time_ns() >= end)
			ASSERT_OK(pthread_join(remover, &failed), "join thread");
		ASSERT_NULL(failed, "remove device");
	}
	stop_workers();
	keep_for_others(runtime);
	leave_cpu();
	assert_accounted();
	assert_received();
	delete_net();
}

static bool packets_arrive(void)
{
	__u64 before = s.bss->received;

	return wait_for(s.bss->received > before + 10);
}

/* One round: nothing gets stuck, and the kthread comes back. */
static bool cpu_off_and_on(bool replace_meanwhile)
{
	pid_t pid = 0;
	bool ok;

	if (!set_online(false))
		return false;
	ok = ASSERT_TRUE(packets_arrive(), "packets arrive while the CPU is offline");
	if (ok && replace_meanwhile)
		ok = ASSERT_OK(set_entry(s.cpus, 1, QSIZE, s.skel->progs.pass_all),
			       "replace entry of a CPU that is offline") &&
		     ASSERT_TRUE(packets_arrive(), "packets arrive in the new entry");
	if (!set_online(true))
		return false;
	return ok && ASSERT_TRUE(packets_arrive(), "packets arrive when it is back") &&
	       ASSERT_TRUE(wait_for(find_kthreads(map_id(s.cpus), 1, &pid) == 1 &&
				    is_bound(pid, 1)), "kthread is bound to its CPU again") &&
	       ASSERT_OK(set_entry(s.cpus, 1, QSIZE, NULL), "replace entry") &&
	       ASSERT_TRUE(packets_arrive(), "packets arrive in the replaced entry");
}

static void cpu_offline(void)
{
	__u64 end = get_time_ns() + stress_nsecs();
	int rounds = 0;

	if (!can_go_offline())
		return;
	nr_wrong = 0;
	s.bss->first_cpu = 1;
	if (!ASSERT_OK(set_entry(s.cpus, 1, QSIZE, NULL), "entry"))
		return;
	start_worker(send_some, 0, false);
	do {
		if (!cpu_off_and_on(rounds % 2))
			break;
	} while (++rounds < 4 || get_time_ns() < end);
	stop_workers();
	assert_accounted();
	assert_received();
}

static void run(const char *name, void (*test)(void))
{
	char full[64];
	int mode;

	for (mode = 0; mode < 2; mode++) {
		snprintf(full, sizeof(full), "%s_%s", mode ? "generic" : "native", name);
		if (!test__start_subtest(full) ||
		    !setup(&s, mode ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE))
			continue;
		test();
		if (s.skel)
			assert_nothing_left();
		else
			teardown(&s);
	}
}

#define RUN(test) run(#test, test)

void serial_test_cpumap_stress(void)
{
	struct cpumap_leaks *watch = watch_leaks();

	RUN(replace);
	RUN(resize);
	RUN(delete_and_create);
	RUN(change_program);
	RUN(device_up_and_down);
	RUN(all_by_two);
	RUN(replace_before_kthreads_run);
	RUN(map_with_packets);
	RUN(device_with_packets);
	RUN(cpu_offline);
	assert_no_leaks(watch);
}
