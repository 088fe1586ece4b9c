// SPDX-License-Identifier: GPL-2.0
/*
 * Numbered packets through a redirect to CPUs, in native and in generic mode, with each verdict of
 * the entry's program: each packet is where its verdict sent it, once and in order, and what
 * fdinfo and the tracepoints count adds up to what was sent.
 *
 * Packets come in bursts that hold the CPU, so that the kthread always has batches to work on.
 *
 * On stock 6.12.117, fdinfo has no counters; in generic mode, what follows a packet that is not
 * passed skips the program; and nothing traces an exception.
 */
#include <sys/mman.h>
#include "cpumap_common.h"
#include "xsk.h"

#define BURSTS 2
#define PACKETS (BURSTS * BURST)
#define QSIZE 512
#define XSK_FRAME 2048

static struct setup s;
static bool native;

/* --- AF_XDP ------------------------------------------------------------------ */

static struct af_xdp {
	void *area;
	struct xsk_umem *umem;
	struct xsk_socket *socket;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons completion, rx;
} xdp;

static void close_af_xdp(void)
{
	if (xdp.socket)
		xsk_socket__delete(xdp.socket);
	if (xdp.umem)
		xsk_umem__delete(xdp.umem);
	if (xdp.area)
		munmap(xdp.area, PACKETS * XSK_FRAME);
	memset(&xdp, 0, sizeof(xdp));
}

/* A socket of queue 0 of dst0, in the map, with room for @frames packets. */
static bool open_af_xdp(int frames)
{
	struct xsk_socket_config config = {
		.rx_size = PACKETS, .tx_size = PACKETS, .bind_flags = XDP_COPY,
	};
	struct xsk_umem_config umem_config = {
		.fill_size = PACKETS, .comp_size = PACKETS, .frame_size = XSK_FRAME,
	};
	struct nstoken *token;
	__u32 idx;
	int i, err;

	xdp.area = mmap(NULL, PACKETS * XSK_FRAME, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!ASSERT_NEQ(xdp.area, MAP_FAILED, "memory of packets")) {
		xdp.area = NULL;
		return false;
	}
	token = open_netns(DST);
	err = xsk_umem__create(&xdp.umem, xdp.area, PACKETS * XSK_FRAME, &xdp.fill,
			       &xdp.completion, &umem_config);
	if (ASSERT_OK(err, "create umem"))
		err = xsk_socket__create(&xdp.socket, if_nametoindex("dst0"), 0, xdp.umem, &xdp.rx,
					 &xdp.tx, &config);
	close_netns(token);
	if (!ASSERT_OK(err, "create AF_XDP socket"))
		return false;
	if (frames && ASSERT_EQ(xsk_ring_prod__reserve(&xdp.fill, frames, &idx), frames, "fill")) {
		for (i = 0; i < frames; i++)
			*xsk_ring_prod__fill_addr(&xdp.fill, idx + i) = i * XSK_FRAME;
		xsk_ring_prod__submit(&xdp.fill, frames);
	}
	return ASSERT_OK(xsk_update_xskmap(s.skel->maps.sockets, xdp.socket, 0),
			 "put socket into the map");
}

/* Notes the packets that the socket has; how many they are. */
static __u32 drain_af_xdp(void)
{
	__u32 idx, nr, i;

	if (!xdp.socket)
		return 0;
	nr = xsk_ring_cons__peek(&xdp.rx, PACKETS, &idx);
	for (i = 0; i < nr; i++) {
		const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&xdp.rx, idx + i);
		const struct packet *packet = xsk_umem__get_data(xdp.area, desc->addr);

		if (desc->len == sizeof(*packet) && packet->n.seq == ~packet->n.check &&
		    packet->n.seq < MAX_SEQ)
			s.bss->seen[packet->n.seq]++;
		else
			s.bss->strange_packets++;
	}
	if (nr)
		xsk_ring_cons__release(&xdp.rx, nr);
	return nr;
}

/* --- packets ----------------------------------------------------------------- */

/* Sends the packets, and returns when fdinfo and the tracepoints say that all are done with. */
static void send_all(int nr, int cpu)
{
	int i;

	for (i = 0; i < nr; i += BURST) {
		if (!hold_cpu(cpu))
			break;
		ASSERT_EQ(send_packets(s.sender, i, min(nr - i, BURST)), min(nr - i, BURST),
			  "packets sent");
		leave_cpu();
		ASSERT_TRUE(wait_for(s.bss->redirected + s.bss->missed == i + min(nr - i, BURST)),
			    "packets reach the program");
		wait_for(s.bss->tallies[0].processed == s.bss->tallies[0].enqueued);
	}
}

static enum verdict verdict_of(__u32 seq)
{
	return s.bss->verdicts[seq % (s.bss->nr_verdicts ?: 1)];
}

static __u32 sent_with(enum verdict verdict)
{
	__u32 nr = 0, i;

	for (i = 0; i < PACKETS; i++)
		nr += verdict_of(i) == verdict;
	return nr;
}

static bool is_seen(enum verdict verdict)
{
	return verdict == V_PASS || verdict >= V_DEV;
}

static void set_verdicts(const enum verdict *verdicts, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		s.bss->verdicts[i] = verdicts[i];
	s.bss->nr_verdicts = nr;
}

/* Sums, and the runs of the program: it met each packet, and only once. */
static void assert_runs(void)
{
	__u64 runs = 0;
	int i;

	for (i = 0; i < NR_VERDICTS; i++) {
		ASSERT_EQ(s.bss->runs[i], sent_with(i), "runs with a verdict");
		runs += s.bss->runs[i];
	}
	ASSERT_EQ(runs, PACKETS, "runs of the entry's program");
	ASSERT_EQ(s.bss->strange_md, 0, "runs with a strange device or queue");
	ASSERT_EQ(s.bss->strange_packets, 0, "strange packets");
}

/* Each packet was received once if @verdicts say so; @one_order: and in its order. */
static void assert_received(bool one_order)
{
	int i, wrong = 0;

	for (i = 0; i < PACKETS; i++)
		wrong += s.bss->seen[i] != is_seen(verdict_of(i));
	ASSERT_EQ(wrong, 0, "packets lost, twice or where they should not be");
	if (one_order)
		ASSERT_EQ(s.bss->disorder, 0, "packets out of order");
}

static void run_verdicts(const enum verdict *verdicts, int nr)
{
	__u32 pass, to_cpu, to_socket, to_dev, dropped, in_socket = 0;
	struct counters c, more;

	set_verdicts(verdicts, nr);
	pass = sent_with(V_PASS);
	to_cpu = sent_with(V_CPU);
	to_dev = sent_with(V_DEV);
	to_socket = sent_with(V_SOCKET);
	dropped = sent_with(V_DROP) + sent_with(V_ABORTED) + sent_with(V_UNKNOWN);
	if (!set_out(&s, "out0") || (to_socket && !open_af_xdp(to_socket)) ||
	    !ASSERT_OK(set_entry(s.more_cpus, 0, PACKETS, NULL), "second map's entry") ||
	    !ASSERT_OK(set_entry(s.cpus, 0, QSIZE, s.skel->progs.second), "entry"))
		goto out;
	send_all(PACKETS, 0);

	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(c.enqueued, PACKETS, "enqueued");
	ASSERT_EQ(c.dropped, 0, "dropped");
	ASSERT_EQ(c.passed, 0, "passed without a program");
	ASSERT_EQ(s.bss->tallies[0].prog_passed, pass, "prog_passed");
	ASSERT_EQ(s.bss->tallies[0].prog_dropped, dropped, "prog_dropped");
	ASSERT_EQ(s.bss->tallies[0].prog_redirected, to_cpu + to_dev + to_socket,
		  "prog_redirected");
	assert_runs();

	assert_sums(s.more_cpus, &s.bss->tallies[1], &more);
	ASSERT_EQ(s.bss->tallies[1].enqueued, to_cpu, "enqueued by the program");
	ASSERT_EQ(more.passed, to_cpu, "passed by the second entry");

	ASSERT_TRUE(wait_for(s.bss->received >= pass + to_cpu), "packets come out of the stack");
	ASSERT_EQ(s.bss->received, pass + to_cpu, "received");
	ASSERT_TRUE(wait_for(s.bss->forwarded >= to_dev), "packets come out of the device");
	ASSERT_EQ(s.bss->forwarded, to_dev, "forwarded");
	ASSERT_TRUE(wait_for((in_socket += drain_af_xdp()) >= to_socket),
		    "packets come out of the AF_XDP socket");
	ASSERT_EQ(in_socket, to_socket, "in the AF_XDP socket");
	/* Of those to another CPU some may be overtaken. */
	assert_received(!to_cpu);
	/* Skbs are traced, too, but not by all of the stack with this device. */
	if (native)
		ASSERT_EQ(s.bss->exceptions, sent_with(V_ABORTED) + sent_with(V_UNKNOWN),
			  "exceptions traced with the device");
out:
	close_af_xdp();
}

#define VERDICTS(name, list...)						\
static void name(void)							\
{									\
	static const enum verdict verdicts[] = { list };		\
									\
	run_verdicts(verdicts, ARRAY_SIZE(verdicts));			\
}

VERDICTS(pass, V_PASS)
VERDICTS(drop, V_DROP)
/* Row "generic mode: the rest of the batch skips the program after the first drop". */
VERDICTS(pass_and_drop, V_PASS, V_DROP)
VERDICTS(drop_one_of_eight, V_PASS, V_PASS, V_PASS, V_DROP, V_PASS, V_PASS, V_PASS, V_PASS)
VERDICTS(aborted, V_ABORTED)
VERDICTS(aborted_and_pass, V_ABORTED, V_PASS)
VERDICTS(unknown, V_UNKNOWN)
VERDICTS(to_device, V_DEV)
VERDICTS(to_device_and_pass, V_DEV, V_PASS, V_PASS)
VERDICTS(to_other_map, V_CPU)
VERDICTS(to_af_xdp_socket, V_SOCKET)
VERDICTS(all_verdicts, V_SOCKET, V_PASS, V_DROP, V_DEV, V_ABORTED, V_CPU, V_UNKNOWN, V_PASS)

static void no_program(void)
{
	struct counters c;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		return;
	send_all(PACKETS, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(s.bss->tallies[0].enqueued, PACKETS, "enqueued");
	ASSERT_EQ(c.passed, PACKETS, "passed");
	ASSERT_TRUE(wait_for(s.bss->received >= PACKETS), "packets come out of the stack");
	ASSERT_EQ(s.bss->received, PACKETS, "received");
	assert_received(true);
}

static void two_entries(void)
{
	struct counters c, one;
	int cpu;

	if (!two_cpus())
		return;
	s.bss->nr_cpus = 2;
	for (cpu = 0; cpu < 2; cpu++)
		if (!ASSERT_OK(set_entry(s.cpus, cpu, QSIZE, cpu ? s.skel->progs.second : NULL),
			       "entry"))
			return;
	send_all(PACKETS, 1);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(s.bss->tallies[0].enqueued, PACKETS, "enqueued");
	ASSERT_EQ(c.passed, PACKETS / 2, "passed without a program");
	ASSERT_EQ(c.prog_passed, PACKETS / 2, "passed with a program");
	for (cpu = 0; cpu < 2; cpu++) {
		ASSERT_EQ(read_counters(s.cpus, cpu, &one), 1, "lines of an entry");
		ASSERT_EQ(one.enqueued, PACKETS / 2, "enqueued in one entry");
		ASSERT_EQ(cpu ? one.prog_passed : one.passed, PACKETS / 2, "passed by one entry");
	}
	ASSERT_TRUE(wait_for(s.bss->received >= PACKETS), "packets come out of the stack");
	assert_received(false);
}

/* A ring that is full drops, and says so. */
static void full_ring(void)
{
	struct counters c;

	if (!ASSERT_OK(set_entry(s.cpus, 0, 8, s.skel->progs.second), "entry"))
		return;
	send_all(PACKETS, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(s.bss->redirected, PACKETS, "redirected");
	ASSERT_EQ(s.bss->tallies[0].enqueued + s.bss->tallies[0].dropped, PACKETS,
		  "enqueued and dropped");
	ASSERT_EQ(s.bss->tallies[0].enqueued, 8 * BURSTS, "as many as the ring has room for");
	ASSERT_EQ(c.prog_passed, c.enqueued, "prog_passed");
	ASSERT_TRUE(wait_for(s.bss->received >= 8 * BURSTS), "packets come out of the stack");
	ASSERT_EQ(s.bss->received, 8 * BURSTS, "received");
	ASSERT_EQ(s.bss->disorder, 0, "packets out of order");
}

/* An index without an entry is no redirect, and nothing is counted. */
static void no_entry(void)
{
	struct counters c;

	send_all(PACKETS, 0);
	ASSERT_EQ(s.bss->missed, PACKETS, "redirects to no entry");
	ASSERT_EQ(s.bss->tallies[0].enqueued + s.bss->tallies[0].dropped, 0, "traced");
	ASSERT_EQ(read_counters(s.cpus, -1, &c), 0, "lines in fdinfo");
	ASSERT_EQ(s.bss->received, 0, "received");
}

static void counters_survive(void)
{
	struct counters c;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		return;
	send_all(BURST, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(c.passed, BURST, "passed");
	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, s.skel->progs.second), "replace entry"))
		return;
	ASSERT_EQ(read_counters(s.cpus, 0, &c), 1, "lines of the replaced entry");
	ASSERT_EQ(c.passed, BURST, "passed, after replacement");
	s.bss->redirected = 0;
	send_all(BURST, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(c.passed, BURST, "passed before");
	ASSERT_EQ(c.prog_passed, BURST, "prog_passed");
	ASSERT_EQ(c.enqueued, 2 * BURST, "enqueued by both");
	ASSERT_OK(set_entry(s.cpus, 0, 0, NULL), "delete entry");
	ASSERT_EQ(read_counters(s.cpus, 0, &c), 1, "lines of the deleted entry");
	ASSERT_EQ(c.enqueued, 2 * BURST, "enqueued, after deletion");
	ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "create it again");
	s.bss->redirected = 0;
	send_all(BURST, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(c.passed, 2 * BURST, "passed, after creation");
	ASSERT_EQ(c.enqueued, 3 * BURST, "enqueued by all");
}

/* fdinfo shows what waits in the ring; it is received when the kthread gets to run. */
static void queue_length(void)
{
	struct counters c;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") || !hold_cpu(0))
		return;
	send_packets(s.sender, 0, BURST);
	ASSERT_EQ(read_counters(s.cpus, 0, &c), 1, "lines of the entry");
	ASSERT_EQ(s.bss->received, 0, "received while the kthread cannot run");
	leave_cpu();
	ASSERT_EQ(c.queued, BURST, "queued");
	ASSERT_EQ(c.enqueued, BURST, "enqueued");
	ASSERT_EQ(left_ring(&c), 0, "what left the ring");
	ASSERT_TRUE(wait_for(s.bss->received >= BURST), "packets come out of the stack");
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
}

/* A redirect of the entry's program that fails is a drop, and nothing leaks. */
static void run_failing(enum verdict verdict, __u32 works)
{
	struct counters c;

	set_verdicts(&verdict, 1);
	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, s.skel->progs.second), "entry"))
		return;
	send_all(PACKETS, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(s.bss->tallies[0].enqueued, PACKETS, "enqueued");
	ASSERT_EQ(s.bss->tallies[0].prog_redirected, works, "prog_redirected");
	ASSERT_EQ(s.bss->tallies[0].prog_dropped, PACKETS - works, "prog_dropped");
	assert_runs();
	ASSERT_EQ(s.bss->received, 0, "received");
	ASSERT_EQ(s.bss->forwarded, 0, "forwarded");
}

static void to_no_device(void)
{
	run_failing(V_DEV, 0);
}

static void to_device_that_is_down(void)
{
	SYS(out, "ip -n " DST " link set out0 down");
	if (set_out(&s, "out0"))
		run_failing(V_DEV, 0);
	SYS(out, "ip -n " DST " link set out0 up");
out:;
}

/* Its peer has no program: the device takes no frames, but skbs. */
static void to_device_without_xdp(void)
{
	detach_xdp(SRC, "out1", XDP_FLAGS_DRV_MODE);
	if (set_out(&s, "out0"))
		run_failing(V_DEV, s.xdp_flags == XDP_FLAGS_DRV_MODE ? 0 : PACKETS);
}

static void to_no_socket(void)
{
	run_failing(V_SOCKET, 0);
}

static void to_full_socket(void)
{
	if (open_af_xdp(100)) {
		run_failing(V_SOCKET, 100);
		ASSERT_EQ(drain_af_xdp(), 100, "packets in the AF_XDP socket");
	}
	close_af_xdp();
}

/*
 * What the second map's ring has no room for is dropped by the flush behind the program. Stock
 * 6.12.117 returns all of that directly, as it clears no_direct before xdp_do_flush().
 */
static void to_full_ring(void)
{
	const enum verdict verdict = V_CPU;
	struct counters c, more;

	set_verdicts(&verdict, 1);
	if (!ASSERT_OK(set_entry(s.more_cpus, 0, 4, NULL), "second map's entry") ||
	    !ASSERT_OK(set_entry(s.cpus, 0, QSIZE, s.skel->progs.second), "entry"))
		return;
	send_all(PACKETS, 0);
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	assert_sums(s.more_cpus, &s.bss->tallies[1], &more);
	assert_runs();
	/* Frames wait in a bulk queue first, skbs are refused at once. */
	if (native) {
		ASSERT_EQ(s.bss->tallies[0].prog_redirected, PACKETS, "prog_redirected");
		ASSERT_EQ(s.bss->returned, s.bss->tallies[1].dropped, "frames returned");
	}
	ASSERT_EQ(s.bss->returned_direct, 0, "returned directly, by who is not their NAPI");
	ASSERT_EQ(s.bss->tallies[1].enqueued + s.bss->tallies[1].dropped, PACKETS,
		  "enqueued and dropped by the second map");
	ASSERT_GT(s.bss->tallies[1].dropped, 0, "dropped by the second map");
	ASSERT_TRUE(wait_for(s.bss->received >= s.bss->tallies[1].enqueued),
		    "packets come out of the stack");
	ASSERT_EQ(s.bss->received, s.bss->tallies[1].enqueued, "received");
}

static void run(const char *name, void (*test)(void))
{
	char full[64];
	int mode;

	for (mode = 0; mode < 2; mode++) {
		native = !mode;
		snprintf(full, sizeof(full), "%s_%s", native ? "native" : "generic", name);
		if (!test__start_subtest(full) ||
		    !setup(&s, native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE))
			continue;
		test();
		teardown(&s);
	}
}

#define RUN(test) run(#test, test)

void serial_test_cpumap_traffic(void)
{
	struct cpumap_leaks *watch = watch_leaks();

	RUN(no_program);
	RUN(pass);
	RUN(drop);
	RUN(pass_and_drop);
	RUN(drop_one_of_eight);
	RUN(aborted);
	RUN(aborted_and_pass);
	RUN(unknown);
	RUN(to_device);
	RUN(to_device_and_pass);
	RUN(to_other_map);
	RUN(to_af_xdp_socket);
	RUN(all_verdicts);
	RUN(two_entries);
	RUN(full_ring);
	RUN(no_entry);
	RUN(counters_survive);
	RUN(queue_length);
	RUN(to_no_device);
	RUN(to_device_that_is_down);
	RUN(to_device_without_xdp);
	RUN(to_no_socket);
	RUN(to_full_socket);
	RUN(to_full_ring);
	assert_no_leaks(watch);
}
