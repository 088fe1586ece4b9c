// SPDX-License-Identifier: GPL-2.0
/*
 * Segments that a cpumap passes to the stack are merged by GRO if their device says so; none is
 * lost, reordered, or held back until others come. What GRO does not know arrives as it is.
 *
 * Bursts hold the CPU of the kthread, so that it finds all of a burst in its ring.
 *
 * On stock 6.12.117, nothing is merged.
 */
#include "cpumap_common.h"

#define QSIZE 512
#define PAYLOAD 1000		/* bytes of a segment; 64 of them fit into one packet */
#define SEGMENT (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct tcphdr) + PAYLOAD)
#define STREAM (4 << 20)	/* bytes of the connection */
#define CHUNK (16 << 10)

static struct setup s;
static __u32 sent_bytes[MAX_FLOWS];	/* of each flow, so far */

static bool send_segment(__u32 flow)
{
	struct tcphdr tcp = {
		.source = htons(FLOW_PORT + flow), .dest = htons(TCP_PORT), .doff = 5, .ack = 1,
		.seq = htonl(sent_bytes[flow]), .window = htons(1000),
	};
	__u8 frame[SEGMENT];
	void *at = frame + sizeof(struct ethhdr) + sizeof(struct iphdr);

	memset(frame, flow, sizeof(frame));
	fill_ip(frame, IPPROTO_TCP, sizeof(tcp) + PAYLOAD);
	memcpy(at, &tcp, sizeof(tcp));
	tcp.check = csum_tcpudp_magic(inet_addr(SRC_IP), inet_addr(DST_IP), sizeof(tcp) + PAYLOAD,
				      IPPROTO_TCP, checksum(at, sizeof(tcp) + PAYLOAD, 0));
	memcpy(at, &tcp, sizeof(tcp));
	sent_bytes[flow] += PAYLOAD;
	return send(s.sender, frame, sizeof(frame), 0) == sizeof(frame);
}

/* Sends @nr segments, of @flows flows in turns. */
static void send_burst(int nr, __u32 flows)
{
	int sent = 0, i;

	if (!hold_cpu(0))
		return;
	for (i = 0; i < nr; i++)
		sent += send_segment(i % flows);
	leave_cpu();
	ASSERT_EQ(sent, nr, "segments sent");
}

static bool flows_arrived(void)
{
	int i;

	for (i = 0; i < MAX_FLOWS; i++)
		if (*(volatile __u32 *)&s.bss->next_seq[i] != sent_bytes[i])
			return false;
	return true;
}

/* All that was sent has come, each flow in its order. */
static void assert_arrived(void)
{
	struct counters c;

	ASSERT_TRUE(wait_for(flows_arrived()), "all bytes arrive");
	ASSERT_EQ(s.bss->disorder, 0, "segments out of order");
	ASSERT_EQ(s.bss->strange_packets, 0, "strange packets");
	assert_sums(s.cpus, &s.bss->tallies[0], &c);
	ASSERT_EQ(s.bss->tallies[0].enqueued, s.bss->redirected, "enqueued");
	ASSERT_EQ(c.passed + c.prog_passed, s.bss->redirected, "passed");
}

static void merge(struct bpf_program *prog)
{
	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, prog), "entry"))
		return;
	send_burst(64, 1);
	assert_arrived();
	ASSERT_EQ(s.bss->redirected, 64, "segments redirected");
	ASSERT_LE(s.bss->ip_packets, 6, "packets that they were merged into");
	ASSERT_GT(s.bss->largest, 10 * PAYLOAD, "bytes of the largest packet");
}

static void segments_are_merged(void)
{
	merge(NULL);
}

static void segments_are_merged_behind_a_program(void)
{
	merge(s.skel->progs.pass_all);
}

static void assert_unmerged(void)
{
	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		return;
	send_burst(64, 1);
	assert_arrived();
	ASSERT_EQ(s.bss->ip_packets, 64, "packets");
	ASSERT_EQ(s.bss->largest, SEGMENT, "bytes of the largest packet");
}

static void device_says_no(void)
{
	if (set_feature(DST, "dst0", ETHTOOL_SGRO, false))
		assert_unmerged();
}

/* What GRO is not asked about comes in turn with what passes it unmerged. */
static void order_is_kept(void)
{
	int sent = 0, i;

	if (!set_feature(DST, "dst0", ETHTOOL_SGRO, false) ||
	    !ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") || !hold_cpu(0))
		return;
	for (i = 1; i <= BURST / 2; i++)
		sent += send_segment(0) + send_packets(s.sender, i, 1);
	leave_cpu();
	ASSERT_EQ(sent, BURST, "packets sent");
	ASSERT_TRUE(wait_for(s.bss->received == BURST / 2), "datagrams arrive");
	assert_arrived();
	ASSERT_EQ(s.bss->early, 0, "datagrams that overtook segments");
}

static void generic_mode_merges_nothing(void)
{
	assert_unmerged();
}

/* As many as GRO can hold without a hash in the packets: eight. */
static void flows_in_turns(void)
{
	int i;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		return;
	for (i = 0; i < 8; i++) {
		send_burst(BURST, 1 << (i % 4));
		ASSERT_TRUE(wait_for(flows_arrived()), "all bytes of a burst arrive");
	}
	assert_arrived();
	ASSERT_LT(s.bss->ip_packets, 8 * BURST, "packets that the segments were merged into");
}

/* Nothing comes behind them, so only their own flush hands them on. */
static void few_segments_are_not_held_back(void)
{
	int i;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		return;
	for (i = 0; i < 40; i++) {
		send_burst(1 + i % 4, 1 + i % 2);
		if (!ASSERT_TRUE(wait_for(flows_arrived()), "segments arrive"))
			return;
	}
	assert_arrived();
}

static void one_datagram_is_not_held_back(void)
{
	int i;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		return;
	for (i = 0; i < 40; i++) {
		send_packets(s.sender, i, 1);
		if (!ASSERT_TRUE(wait_for(s.bss->received == i + 1), "datagram arrives"))
			return;
	}
	assert_arrived();
}

static void datagrams_are_not_merged(void)
{
	int i, wrong = 0;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") || !hold_cpu(0))
		return;
	ASSERT_EQ(send_packets(s.sender, 0, BURST), BURST, "packets sent");
	leave_cpu();
	ASSERT_TRUE(wait_for(s.bss->received >= BURST), "datagrams arrive");
	ASSERT_EQ(s.bss->received, BURST, "received");
	for (i = 0; i < BURST; i++)
		wrong += s.bss->seen[i] != 1;
	ASSERT_EQ(wrong, 0, "datagrams lost or twice");
	assert_arrived();
}

static void datagrams_over_ipv6_are_not_merged(void)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(UDP_PORT) };
	int sender = -1, receiver, sent = 0, i;
	struct numbered n;
	struct nstoken *token;

	receiver = open_receiver(AF_INET6, s.skel->progs.at_socket);
	token = open_netns(SRC);
	sender = socket(AF_INET6, SOCK_DGRAM, 0);
	close_netns(token);
	inet_pton(AF_INET6, DST_IPV6, &to.sin6_addr);
	if (receiver < 0 || !ASSERT_OK_FD(sender, "UDP socket") ||
	    !ASSERT_OK(connect(sender, (void *)&to, sizeof(to)), "connect") ||
	    !set_feature(SRC, "src0", ETHTOOL_STXCSUM, false) ||
	    !ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry"))
		goto out;
	for (i = 0; i < BURST; i++) {
		/* The first one asks for the neighbour. */
		if (i == 1 && (!ASSERT_TRUE(wait_for(s.bss->received == 1), "first arrives") ||
			       !hold_cpu(0)))
			goto out;
		n = (struct numbered){ .seq = i, .check = ~i };
		sent += send(sender, &n, sizeof(n), 0) == sizeof(n);
	}
	leave_cpu();
	ASSERT_EQ(sent, BURST, "packets sent");
	ASSERT_TRUE(wait_for(s.bss->received == BURST), "datagrams arrive");
	ASSERT_EQ(s.bss->redirected, BURST, "datagrams redirected");
	assert_arrived();
out:
	close(sender);
	close(receiver);
	delete_net();
}

static void datagrams_are_merged_where_asked(void)
{
	struct timeval limit = { .tv_sec = 60 };
	int on = 1, calls = 0, wrong = 0, n, i;
	struct numbered values[BURST];
	__u32 seq = 0;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") ||
	    !ASSERT_OK(setsockopt(s.receiver, SOL_SOCKET, SO_DETACH_BPF, &on, sizeof(on)),
		       "detach filter") ||
	    !ASSERT_OK(setsockopt(s.receiver, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)),
		       "limit of time") ||
	    !ASSERT_OK(setsockopt(s.receiver, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)), "ask") ||
	    !hold_cpu(0))
		return;
	ASSERT_EQ(send_packets(s.sender, 0, BURST), BURST, "packets sent");
	leave_cpu();
	for (; seq < BURST; calls++) {
		n = recv(s.receiver, values, sizeof(values), 0);
		if (!ASSERT_GT(n, 0, "datagrams arrive"))
			return;
		for (i = 0; i < n / sizeof(*values); i++)
			wrong += values[i].seq != seq++;
	}
	ASSERT_EQ(wrong, 0, "datagrams lost or out of order");
	ASSERT_LE(calls, BURST / 8, "calls that got them");
	assert_arrived();
}

static void *write_stream(void *arg)
{
	int fd = *(int *)arg, sent, n;
	__u8 chunk[CHUNK];

	for (sent = 0; sent < STREAM; sent += n) {
		for (n = 0; n < CHUNK; n++)
			chunk[n] = (sent + n) % 251;
		n = send(fd, chunk, CHUNK, MSG_NOSIGNAL);
		if (n <= 0)
			break;
	}
	shutdown(fd, SHUT_WR);
	return (void *)(long)(sent < STREAM);
}

static int read_stream(int fd, int *wrong)
{
	__u8 chunk[CHUNK];
	int got = 0, n, i;

	while ((n = recv(fd, chunk, CHUNK, 0)) > 0)
		for (i = 0; i < n; i++, got++)
			*wrong += chunk[i] != got % 251;
	return got;
}

/* A real connection; what is read is what was written. */
static void run_stream(int family, const char *addr)
{
	int server = -1, client = -1, fd = -1, wrong = 0;
	struct nstoken *token;
	pthread_t writer;
	void *failed;

	if (!ASSERT_OK(set_entry(s.cpus, 0, QSIZE, NULL), "entry") ||
	    !set_feature(SRC, "src0", ETHTOOL_STXCSUM, false))
		return;
	token = open_netns(DST);
	server = start_server(family, SOCK_STREAM, addr, STREAM_PORT, 60000);
	close_netns(token);
	if (!ASSERT_OK_FD(server, "listen"))
		return;
	token = open_netns(SRC);
	client = connect_to_fd(server, 60000);
	close_netns(token);
	if (!ASSERT_OK_FD(client, "connect"))
		goto out;
	fd = accept(server, NULL, NULL);
	if (!ASSERT_OK_FD(fd, "accept") || !ASSERT_OK(settimeo(fd, 60000), "timeout") ||
	    !ASSERT_OK(pthread_create(&writer, NULL, write_stream, &client), "start thread"))
		goto out;
	ASSERT_EQ(read_stream(fd, &wrong), STREAM, "bytes read");
	ASSERT_EQ(wrong, 0, "wrong bytes");
	ASSERT_OK(pthread_join(writer, &failed), "join thread");
	ASSERT_NULL(failed, "failure to write");
	ASSERT_GT(s.bss->redirected, STREAM / 1500, "segments redirected");
	ASSERT_GT(s.bss->largest, 1514, "bytes of the largest packet");
	ASSERT_LT(s.bss->ip_packets, s.bss->redirected, "packets that they were merged into");
out:
	if (fd >= 0)
		close(fd);
	if (client >= 0)
		close(client);
	close(server);
	delete_net();
}

static void stream(void)
{
	run_stream(AF_INET, DST_IP);
}

static void stream_over_ipv6(void)
{
	run_stream(AF_INET6, DST_IPV6);
}

static void run(const char *name, void (*test)(void), __u32 xdp_flags)
{
	struct bpf_link *link = NULL;
	struct nstoken *token;

	if (!test__start_subtest(name) || !setup(&s, xdp_flags))
		return;
	memset(sent_bytes, 0, sizeof(sent_bytes));
	token = open_netns(DST);
	link = bpf_program__attach_tcx(s.skel->progs.behind_gro, if_nametoindex("dst0"), NULL);
	close_netns(token);
	if (ASSERT_OK_PTR(link, "attach behind GRO") &&
	    set_feature(DST, "dst0", ETHTOOL_SGRO, true))
		test();
	bpf_link__destroy(link);
	teardown(&s);
}

#define RUN(test) run(#test, test, XDP_FLAGS_DRV_MODE)

void serial_test_cpumap_gro(void)
{
	struct cpumap_leaks *watch = watch_leaks();

	RUN(segments_are_merged);
	RUN(segments_are_merged_behind_a_program);
	RUN(device_says_no);
	RUN(order_is_kept);
	RUN(flows_in_turns);
	RUN(few_segments_are_not_held_back);
	RUN(one_datagram_is_not_held_back);
	RUN(datagrams_are_not_merged);
	RUN(datagrams_over_ipv6_are_not_merged);
	RUN(datagrams_are_merged_where_asked);
	RUN(stream);
	RUN(stream_over_ipv6);
	run("generic_mode_merges_nothing", generic_mode_merges_nothing, XDP_FLAGS_SKB_MODE);
	assert_no_leaks(watch);
}
