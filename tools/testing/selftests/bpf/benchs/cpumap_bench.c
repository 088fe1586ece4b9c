// SPDX-License-Identifier: GPL-2.0
/*
 * What a redirect to another CPU costs:
 *
 *   cpumap_bench [-t MILLISECONDS] [-p] [-r]
 *
 * measures each point for that long, and prints a line for each: what; what arrived, in bytes
 * or packets a second; frames redirected and packets that reached IP, both a second; how busy
 * the receiving CPU was, in percent; of the frames sent, how many were lost, in percent.
 * -p is plain: what comes is not redirected, for comparison. "paced" is at a fixed rate.
 * -r: only what is forwarded; the caller has set up rules and connection tracking for it.
 *
 * Senders run on CPU 0 (a second one on CPU 1), receivers on CPU 1, to which is redirected. TCP
 * comes through a pair of veth, UDP as live frames of BPF_PROG_TEST_RUN. Expects three
 * namespaces, which the caller prepares:
 *
 *	cpumap_src		cpumap_dst		cpumap_out
 *	10.7.0.1 src0 -----> dst0 10.7.0.2
 *				10.8.0.1 out0 -----> out1 10.8.0.2
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "cpumap_bench.skel.h"

#define PORT		4242
#define QSIZE		2048
#define MAX_FLOWS	16
#define TICK		1		/* ms; of TCP, paced, a chunk each */
#define GAP		25000		/* ns between two packets of UDP, paced */
#define WARM_UP		100		/* ms */
#define CHUNK		32768

static struct cpumap_bench *skel;
static unsigned int ms = 1000;
static bool plain;

static int flows, senders[MAX_FLOWS], receivers[MAX_FLOWS];
static bool paced, stop;
static __u64 nr_bytes;			/* received */

static void fail(const char *what)
{
	fprintf(stderr, "cpumap_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int err, const char *what)
{
	if (err) {
		errno = err < -1 ? -err : errno;
		fail(what);
	}
}

static void enter(const char *netns)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fail(path);
	close(fd);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static __u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void start(pthread_t *thread, void *(*work)(void *), long arg)
{
	check(-pthread_create(thread, NULL, work, (void *)arg), "pthread_create");
}

/* --- what is measured --------------------------------------------------------- */

struct sample {
	__u64 ns, idle, bytes, sent, received, at_ip;
};

/* Of cpumap_dst, where the main thread is. */
static __u64 packets_at_ip(void)
{
	char line[1024];
	__u64 n = 0;
	FILE *file;

	file = fopen("/proc/thread-self/net/snmp", "r");
	if (!file)
		fail("snmp");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Ip: %*u %*u %llu", &n) == 1)
			break;
	fclose(file);
	return n;
}

/* Of CPU 1, in ns. */
static __u64 idle_time(void)
{
	unsigned long idle = 0, iowait = 0;
	char line[1024];
	FILE *file;

	file = fopen("/proc/stat", "r");
	if (!file)
		fail("stat");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "cpu1 %*u %*u %*u %lu %lu", &idle, &iowait) == 2)
			break;
	fclose(file);
	return (idle + iowait) * (1000000000ULL / sysconf(_SC_CLK_TCK));
}

static __u64 sent(void)
{
	volatile typeof(skel->bss->sent[0]) *s = skel->bss->sent;

	return s[0].packets + s[1].packets;
}

static struct sample sample(void)
{
	return (struct sample) {
		.ns = now(), .idle = idle_time(), .at_ip = packets_at_ip(), .sent = sent(),
		.bytes = __atomic_load_n(&nr_bytes, __ATOMIC_RELAXED),
		.received = __atomic_load_n(&skel->bss->received, __ATOMIC_RELAXED),
	};
}

static void print(const char *what, const struct sample *from, const struct sample *to,
		  bool tcp, double lost)
{
	double secs = (to->ns - from->ns) / 1e9;

	printf("%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\n", what,
	       (tcp ? to->bytes - from->bytes : to->received - from->received) / secs,
	       (to->sent - from->sent) / secs, (to->at_ip - from->at_ip) / secs,
	       100 - (to->idle - from->idle) / secs / 1e7, lost);
	fflush(stdout);
}

/* --- TCP ---------------------------------------------------------------------- */

static void *send_streams(void *arg)
{
	static char chunk[CHUNK];
	__u64 next = now();
	int i = 0;

	pin(0);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (paced) {
			struct timespec t;

			next += TICK * 1000000;
			t = (struct timespec) { next / 1000000000, next % 1000000000 };
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		}
		if (send(senders[i++ % flows], chunk, CHUNK, MSG_NOSIGNAL) < 0)
			break;
	}
	for (i = 0; i < flows; i++)
		shutdown(senders[i], SHUT_WR);
	return NULL;
}

static void *receive_stream(void *arg)
{
	char *chunk = malloc(CHUNK);
	ssize_t n;

	pin(1);
	while (chunk && (n = recv(receivers[(long)arg], chunk, CHUNK, 0)) > 0)
		__atomic_fetch_add(&nr_bytes, n, __ATOMIC_RELAXED);
	free(chunk);
	return NULL;
}

static void connect_streams(const char *netns, const char *ip)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int server, i, on = 1;

	addr.sin_addr.s_addr = inet_addr(ip);
	enter(netns);
	server = socket(AF_INET, SOCK_STREAM, 0);
	if (server < 0 || setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(server, (void *)&addr, sizeof(addr)) || listen(server, MAX_FLOWS))
		fail("listen");
	enter("cpumap_src");
	for (i = 0; i < flows; i++) {
		senders[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (senders[i] < 0 || connect(senders[i], (void *)&addr, sizeof(addr)))
			fail("connect");
		receivers[i] = accept(server, NULL, NULL);
		if (receivers[i] < 0)
			fail("accept");
	}
	close(server);
	enter("cpumap_dst");
}

static void measure_tcp(const char *what, const char *netns, const char *ip, int nr, bool fixed)
{
	pthread_t sender, threads[MAX_FLOWS];
	struct sample from, to;
	int i;

	flows = nr;
	paced = fixed;
	stop = false;
	connect_streams(netns, ip);
	for (i = 0; i < flows; i++)
		start(&threads[i], receive_stream, i);
	start(&sender, send_streams, 0);
	usleep(WARM_UP * 1000);
	from = sample();
	usleep(ms * 1000);
	to = sample();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(sender, NULL);
	for (i = 0; i < flows; i++) {
		pthread_join(threads[i], NULL);
		close(senders[i]);
		close(receivers[i]);
	}
	print(what, &from, &to, true, 0);
}

/* --- UDP ---------------------------------------------------------------------- */

static struct packet {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	char payload[22];
} __packed packet;			/* 64 bytes */

static void fill_packet(void)
{
	static const __u8 dst_mac[] = { 2, 0, 0, 0, 7, 2 };
	struct iphdr ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
		.tot_len = htons(sizeof(packet) - sizeof(packet.eth)),
		.saddr = inet_addr("10.7.0.1"), .daddr = inet_addr("10.7.0.2"),
	};
	__u16 words[sizeof(ip) / 2];
	__u32 sum = 0;
	int i;

	memcpy(packet.eth.h_dest, dst_mac, sizeof(dst_mac));
	packet.eth.h_proto = htons(ETH_P_IP);
	memcpy(words, &ip, sizeof(ip));
	for (i = 0; i < sizeof(ip) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ip.check = ~((sum & 0xffff) + (sum >> 16));
	packet.ip = ip;
	packet.udp.source = htons(PORT);
	packet.udp.dest = htons(PORT);
	packet.udp.len = htons(sizeof(packet.udp) + sizeof(packet.payload));
}

static bool sending[2];

static void *send_frames(void *arg)
{
	int cpu = (long)arg;
	struct xdp_md ctx = {
		.data_end = sizeof(packet), .ingress_ifindex = if_nametoindex("dst0"),
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = &packet, .data_size_in = sizeof(packet),
		    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1 << 30,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);

	pin(cpu);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.to_cpu), &opts) &&
		    errno != EINTR)
			fail("BPF_PROG_TEST_RUN");
	__atomic_store_n(&sending[cpu], false, __ATOMIC_RELEASE);
	return NULL;
}

static void interrupt(int sig)
{
}

/* Until what was sent is through. */
static void settle(void)
{
	__u64 last;

	do {
		last = __atomic_load_n(&skel->bss->received, __ATOMIC_RELAXED);
		usleep(50000);
	} while (last != __atomic_load_n(&skel->bss->received, __ATOMIC_RELAXED));
}

static void measure_udp(const char *what, int nr, __u64 gap)
{
	struct sample begin, from, to, end;
	pthread_t threads[2];
	long i;

	skel->bss->gap = gap;
	stop = false;
	begin = sample();
	for (i = 0; i < nr; i++) {
		sending[i] = true;
		start(&threads[i], send_frames, i);
	}
	usleep(WARM_UP * 1000);
	from = sample();
	usleep(ms * 1000);
	to = sample();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++) {
		/* A signal ends the run, but not one that has yet to begin. */
		while (__atomic_load_n(&sending[i], __ATOMIC_ACQUIRE)) {
			pthread_kill(threads[i], SIGUSR1);
			usleep(1000);
		}
		pthread_join(threads[i], NULL);
	}
	settle();
	end = sample();
	print(what, &from, &to, false, 100.0 * ((end.sent - begin.sent) -
	      (end.received - begin.received)) / (end.sent - begin.sent));
	skel->bss->gap = 0;
}

static void open_receiver(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd, prog = bpf_program__fd(skel->progs.count);

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)) ||
	    bind(fd, (void *)&addr, sizeof(addr)))
		fail("UDP socket");
}

int main(int argc, char **argv)
{
	struct bpf_cpumap_val value = { .qsize = QSIZE };
	struct sigaction action = { .sa_handler = interrupt };
	bool rules = false;
	__u32 cpu = 1;
	int opt, prog;

	while ((opt = getopt(argc, argv, "t:pr")) != -1) {
		if (opt == 't')
			ms = atoi(optarg);
		else if (opt == 'p')
			plain = true;
		else if (opt == 'r')
			rules = true;
		else
			return 2;
	}
	if (!ms)
		return 2;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		fprintf(stderr, "cpumap_bench: needs two CPUs\n");
		return 1;
	}
	skel = cpumap_bench__open();
	if (!skel)
		fail("open");
	skel->rodata->plain = plain;
	check(cpumap_bench__load(skel), "load");
	prog = bpf_program__fd(skel->progs.to_cpu);
	check(bpf_map_update_elem(bpf_map__fd(skel->maps.cpus), &cpu, &value, 0), "entry");
	check(sigaction(SIGUSR1, &action, NULL), "sigaction");
	enter("cpumap_dst");
	pin(1);

	/* Plain TCP meets no program at all. */
	if (!plain)
		check(bpf_xdp_attach(if_nametoindex("dst0"), prog, XDP_FLAGS_DRV_MODE, NULL),
		      "attach");
	if (rules) {
		measure_tcp("tcp paced, forwarded, rules", "cpumap_out", "10.8.0.2", 1, true);
		return 0;
	}
	measure_tcp("tcp", "cpumap_dst", "10.7.0.2", 1, false);
	measure_tcp("tcp, 16 flows", "cpumap_dst", "10.7.0.2", MAX_FLOWS, false);
	measure_tcp("tcp paced", "cpumap_dst", "10.7.0.2", 1, true);
	measure_tcp("tcp paced, forwarded", "cpumap_out", "10.8.0.2", 1, true);

	/* Live frames need the device's queues as an XDP program has them. */
	if (plain)
		check(bpf_xdp_attach(if_nametoindex("dst0"), prog, XDP_FLAGS_DRV_MODE, NULL),
		      "attach");
	fill_packet();
	open_receiver();
	measure_udp("udp", 1, 0);
	measure_udp("udp, 2 senders", 2, 0);
	measure_udp("udp paced", 1, GAP);
	return 0;
}
