/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two network namespaces, cpumap_src and cpumap_dst, with two pairs of veth between them:
 *
 *	cpumap_src			cpumap_dst
 *	src0 10.7.0.1 ---- packets ---> dst0 10.7.0.2, program to_cpu, then the entry's program
 *	out1, program sink <----------- out0, where the entry's program redirects to
 *
 * and what sends numbered packets from src0 and counts what becomes of them.
 */
#ifndef __CPUMAP_COMMON_H
#define __CPUMAP_COMMON_H

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <linux/udp.h>
#include "bpf_maps_common.h"
#include "network_helpers.h"
#include "progs/cpumap_redirect.h"
#include "cpumap_leaks.skel.h"
#include "cpumap_redirect.skel.h"

#define SRC "cpumap_src"
#define DST "cpumap_dst"
#define SRC_IP "10.7.0.1"
#define DST_IP "10.7.0.2"
#define SRC_IPV6 "fd07::1"
#define DST_IPV6 "fd07::2"
#define BURST 128		/* packets that neither a veth nor a backlog drops */

static const __u8 src_mac[ETH_ALEN] = { 2, 0, 0, 0, 7, 1 };
static const __u8 dst_mac[ETH_ALEN] = { 2, 0, 0, 0, 7, 2 };

/* Until @cond; a deadline that only a failure meets. */
#define wait_for(cond) ({						\
	__u64 __end = get_time_ns() + 60000000000ULL;			\
	bool __met;							\
									\
	do {								\
		__met = cond;						\
	} while (!__met && get_time_ns() < __end && !usleep(1000));	\
	__met;								\
})

/* --- counters ---------------------------------------------------------------- */

struct counters {
	__u64 enqueued, dropped, passed, prog_passed, prog_dropped, prog_redirected, failed, queued;
};

/* The counters of @index, or of all entries if it is -1, from fdinfo; the number of lines. */
static inline int read_counters(int fd, int index, struct counters *sum)
{
	char path[64], line[512];
	struct counters c;
	int lines = 0, i;
	FILE *file;

	memset(sum, 0, sizeof(*sum));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!ASSERT_OK_PTR(file, "open the map's fdinfo"))
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line,
			   "cpu: %d enqueued %llu dropped %llu passed %llu prog_passed %llu prog_dropped %llu prog_redirected %llu failed %llu queued %llu",
			   &i, &c.enqueued, &c.dropped, &c.passed, &c.prog_passed, &c.prog_dropped,
			   &c.prog_redirected, &c.failed, &c.queued) != 9 ||
		    (index >= 0 && i != index))
			continue;
		sum->enqueued += c.enqueued;
		sum->dropped += c.dropped;
		sum->passed += c.passed;
		sum->prog_passed += c.prog_passed;
		sum->prog_dropped += c.prog_dropped;
		sum->prog_redirected += c.prog_redirected;
		sum->failed += c.failed;
		sum->queued += c.queued;
		lines++;
	}
	fclose(file);
	return lines;
}

static inline __u64 left_ring(const struct counters *c)
{
	return c->passed + c->prog_passed + c->prog_dropped + c->prog_redirected + c->failed;
}

/* All that entered a ring of the map has left it; what fdinfo says is in @c. */
static inline bool is_idle(int fd, const volatile struct tally *tally, struct counters *c)
{
	if (tally->processed != tally->enqueued)
		return false;
	return !read_counters(fd, -1, c) || (!c->queued && left_ring(c) == c->enqueued);
}

/* Waits until the map's rings are empty; fdinfo and tracepoints agree, and miss nothing. */
static inline void assert_sums(int fd, const volatile struct tally *tally, struct counters *c)
{
	bool idle = wait_for(is_idle(fd, tally, c));

	ASSERT_TRUE(idle, "all that was enqueued has left the ring");
	ASSERT_EQ(tally->processed, tally->enqueued, "processed, traced");
	ASSERT_EQ(c->enqueued, tally->enqueued, "enqueued, fdinfo and traced");
	ASSERT_EQ(c->dropped, tally->dropped, "dropped, fdinfo and traced");
	ASSERT_EQ(c->failed, tally->failed, "failed, fdinfo and traced");
	ASSERT_EQ(c->prog_passed, tally->prog_passed, "prog_passed, fdinfo and traced");
	ASSERT_EQ(c->prog_dropped, tally->prog_dropped, "prog_dropped, fdinfo and traced");
	ASSERT_EQ(c->prog_redirected, tally->prog_redirected, "prog_redirected, fdinfo and traced");
	ASSERT_EQ(left_ring(c), c->enqueued, "what left the ring");
	ASSERT_EQ(c->queued, 0, "queued");
}

/* --- tasks ------------------------------------------------------------------- */

static inline bool set_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

static inline bool set_policy(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	return !sched_setscheduler(0, policy, &param);
}

/*
 * Until leave_cpu(), nothing of a lower priority runs on @cpu while this thread does, and so no
 * kthread of a cpumap.
 */
static inline bool hold_cpu(int cpu)
{
	return ASSERT_TRUE(set_cpu(cpu), "pin thread") &&
	       ASSERT_TRUE(set_policy(SCHED_FIFO, 1), "real-time priority");
}

static inline void leave_cpu(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	ASSERT_TRUE(set_policy(SCHED_OTHER, 0), "normal priority");
	ASSERT_OK(sched_setaffinity(0, sizeof(set), &set), "free thread");
}

/* The kthreads of map @id for @cpu, or for all if it is -1; @pid is the last one's. */
static inline int find_kthreads(__u32 id, int cpu, pid_t *pid)
{
	char path[300], name[64], expected[64];
	struct dirent *entry;
	int found = 0, c;
	__u32 m;
	FILE *file;
	DIR *dir;

	dir = opendir("/proc");
	if (!ASSERT_OK_PTR(dir, "open /proc"))
		return -1;
	while ((entry = readdir(dir))) {
		if (!isdigit(entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;	/* gone meanwhile */
		if (fgets(name, sizeof(name), file) &&
		    sscanf(name, "cpumap/%d/map:%u", &c, &m) == 2 && m == id &&
		    (cpu < 0 || c == cpu)) {
			snprintf(expected, sizeof(expected), "cpumap/%d/map:%u\n", c, m);
			if (!strcmp(name, expected)) {
				found++;
				if (pid)
					*pid = atoi(entry->d_name);
			}
		}
		fclose(file);
	}
	closedir(dir);
	return found;
}

/* The task may run on @cpu, and on no other. */
static inline bool is_bound(pid_t pid, int cpu)
{
	cpu_set_t set;

	return !sched_getaffinity(pid, sizeof(set), &set) && CPU_COUNT(&set) == 1 &&
	       CPU_ISSET(cpu, &set);
}

static inline __u32 map_id(int fd)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	ASSERT_OK(bpf_map_get_info_by_fd(fd, &info, &len), "info of the map");
	return info.id;
}

static inline __u32 prog_id(const struct bpf_program *prog)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	ASSERT_OK(bpf_prog_get_info_by_fd(bpf_program__fd(prog), &info, &len),
		  "info of the program");
	return info.id;
}

/* Nobody holds the program any more. */
static inline bool prog_is_gone(__u32 id)
{
	int fd = bpf_prog_get_fd_by_id(id);

	if (fd >= 0)
		close(fd);
	return fd == -ENOENT;
}

static inline bool map_is_gone(__u32 id)
{
	int fd = bpf_map_get_fd_by_id(id);

	if (fd >= 0)
		close(fd);
	return fd == -ENOENT;
}

static inline int set_entry(int map, __u32 cpu, __u32 qsize, const struct bpf_program *prog)
{
	struct bpf_cpumap_val val = {
		.qsize = qsize,
		.bpf_prog.fd = prog ? bpf_program__fd(prog) : -1,
	};

	return bpf_map_update_elem(map, &cpu, &val, 0);
}

/* --- network ----------------------------------------------------------------- */

static inline int ifindex_in(const char *netns, const char *dev)
{
	struct nstoken *token = open_netns(netns);
	int index;

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return 0;
	index = if_nametoindex(dev);
	close_netns(token);
	ASSERT_NEQ(index, 0, dev);
	return index;
}

static bool have_net;

static inline void delete_net(void)
{
	SYS_NOFAIL("ip netns del " SRC "; ip netns del " DST);
	have_net = false;
}

/* In few commands, as each takes long under emulation. */
static inline bool create_net(void)
{
	delete_net();
	SYS(fail, "ip netns add " SRC " && ip netns add " DST);
	SYS(fail, "ip -n " SRC " -batch - <<END\n"
	    "link add src0 type veth peer name dst0 address 02:00:00:00:07:02 netns " DST "\n"
	    "link set src0 address 02:00:00:00:07:01\n"
	    "link add out1 type veth peer name out0 netns " DST "\n"
	    "addr add " SRC_IP "/24 dev src0\n"
	    "addr add " SRC_IPV6 "/64 dev src0 nodad\n"
	    "link set lo up\n"
	    "link set src0 addrgenmode none up\n"
	    "link set out1 addrgenmode none up\n"
	    "END");
	SYS(fail, "ip -n " DST " -batch - <<END\n"
	    "addr add " DST_IP "/24 dev dst0\n"
	    "addr add " DST_IPV6 "/64 dev dst0 nodad\n"
	    "link set lo up\n"
	    "link set dst0 addrgenmode none up\n"
	    "link set out0 addrgenmode none up\n"
	    "END");
	have_net = true;
	return true;
fail:
	delete_net();
	return false;
}

/* @command is ETHTOOL_S... */
static inline bool set_feature(const char *netns, const char *dev, __u32 command, bool on)
{
	struct ethtool_value value = { .cmd = command, .data = on };
	struct ifreq request = { .ifr_data = (void *)&value };
	struct nstoken *token = open_netns(netns);
	int fd, err;

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return false;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", dev);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	err = ioctl(fd, SIOCETHTOOL, &request) ? -errno : 0;
	close(fd);
	close_netns(token);
	return ASSERT_OK(err, "ethtool");
}

static inline bool attach_xdp(const char *netns, const char *dev, struct bpf_program *prog,
			      __u32 flags)
{
	struct nstoken *token = open_netns(netns);
	int err;

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return false;
	err = bpf_xdp_attach(if_nametoindex(dev), bpf_program__fd(prog), flags, NULL);
	close_netns(token);
	return ASSERT_OK(err, "attach XDP program");
}

static inline void detach_xdp(const char *netns, const char *dev, __u32 flags)
{
	struct nstoken *token = open_netns(netns);

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return;
	ASSERT_OK(bpf_xdp_detach(if_nametoindex(dev), flags, NULL), "detach XDP program");
	close_netns(token);
}

/* A socket that sends frames from src0. */
static inline int open_sender(void)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET };
	struct nstoken *token = open_netns(SRC);
	int fd;

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return -1;
	addr.sll_ifindex = if_nametoindex("src0");
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (ASSERT_OK_FD(fd, "packet socket"))
		ASSERT_OK(bind(fd, (void *)&addr, sizeof(addr)), "bind to src0");
	close_netns(token);
	return fd;
}

/* A socket that counts the numbered packets that come to DST. */
static inline int open_receiver(int family, const struct bpf_program *filter)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(UDP_PORT) };
	struct sockaddr_in6 addr6 = { .sin6_family = AF_INET6, .sin6_port = htons(UDP_PORT) };
	struct nstoken *token = open_netns(DST);
	int fd, err, on = 1, prog = bpf_program__fd(filter);

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return -1;
	fd = socket(family, SOCK_DGRAM, 0);
	if (ASSERT_OK_FD(fd, "UDP socket")) {
		ASSERT_OK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)),
			  "attach filter");
		err = family == AF_INET ? bind(fd, (void *)&addr, sizeof(addr)) :
		      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) ?:
		      bind(fd, (void *)&addr6, sizeof(addr6));
		ASSERT_OK(err, "bind to port");
	}
	close_netns(token);
	return fd;
}

/* Of an even number of bytes. */
static inline __u32 checksum(const void *data, int len, __u32 sum)
{
	const __u16 *words = data;

	for (; len > 0; len -= 2)
		sum += *words++;
	return sum;
}

/* The headers for @len bytes of @protocol. */
static inline void fill_ip(void *frame, int protocol, int len)
{
	struct ethhdr eth = { .h_proto = htons(ETH_P_IP) };
	struct iphdr ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = protocol,
		.tot_len = htons(sizeof(ip) + len), .frag_off = htons(0x4000),
		.saddr = inet_addr(SRC_IP), .daddr = inet_addr(DST_IP),
	};

	memcpy(eth.h_dest, dst_mac, ETH_ALEN);
	memcpy(eth.h_source, src_mac, ETH_ALEN);
	ip.check = csum_fold(checksum(&ip, sizeof(ip), 0));
	memcpy(frame, &eth, sizeof(eth));
	memcpy(frame + sizeof(eth), &ip, sizeof(ip));
}

struct packet {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct numbered n;
} __packed;

/* Sends packets @from to @from + @nr - 1, and returns how many the device took. */
static inline int send_packets(int fd, __u32 from, int nr)
{
	const int len = sizeof(struct udphdr) + sizeof(struct numbered);
	struct packet packet;
	int sent = 0, i;

	memset(&packet, 0, sizeof(packet));
	fill_ip(&packet, IPPROTO_UDP, len);
	packet.udp.source = htons(UDP_PORT);
	packet.udp.dest = htons(UDP_PORT);
	packet.udp.len = htons(len);
	/* The same for all: what a number adds, its complement takes away. */
	packet.n.check = ~packet.n.seq;
	packet.udp.check = csum_tcpudp_magic(packet.ip.saddr, packet.ip.daddr, len, IPPROTO_UDP,
					     checksum(&packet.udp, len, 0));
	for (i = 0; i < nr; i++) {
		packet.n.seq = from + i;
		packet.n.check = ~packet.n.seq;
		sent += send(fd, &packet, sizeof(packet), 0) == sizeof(packet);
	}
	return sent;
}

/* --- all of it --------------------------------------------------------------- */

struct setup {
	struct cpumap_redirect *skel;
	struct cpumap_redirect__bss *bss;
	int cpus, more_cpus;	/* the maps */
	int sender, receiver;
	__u32 xdp_flags;	/* how the first program is attached */
};

/* Namespaces and devices stay for the next subtest; one that changes them says delete_net(). */
static inline void teardown(struct setup *s)
{
	if (have_net) {
		detach_xdp(DST, "dst0", s->xdp_flags);
		detach_xdp(SRC, "out1", XDP_FLAGS_DRV_MODE);
	}
	cpumap_redirect__destroy(s->skel);
	if (s->sender >= 0)
		close(s->sender);
	if (s->receiver >= 0)
		close(s->receiver);
}

/* Namespaces, devices, sockets, and all programs in their places; the maps are empty. */
static inline bool setup(struct setup *s, __u32 xdp_flags)
{
	memset(s, 0, sizeof(*s));
	s->sender = -1;
	s->receiver = -1;
	s->xdp_flags = xdp_flags;
	if (!have_net && !create_net())
		return false;
	s->skel = cpumap_redirect__open_and_load();
	if (!ASSERT_OK_PTR(s->skel, "load programs") ||
	    !ASSERT_OK(cpumap_redirect__attach(s->skel), "attach programs"))
		goto fail;
	s->bss = s->skel->bss;
	s->cpus = bpf_map__fd(s->skel->maps.cpus);
	s->more_cpus = bpf_map__fd(s->skel->maps.more_cpus);
	s->bss->tallies[0].map_id = map_id(s->cpus);
	s->bss->tallies[1].map_id = map_id(s->more_cpus);
	s->bss->rx_ifindex = ifindex_in(DST, "dst0");
	if (!attach_xdp(DST, "dst0", s->skel->progs.to_cpu, xdp_flags) ||
	    !attach_xdp(SRC, "out1", s->skel->progs.sink, XDP_FLAGS_DRV_MODE))
		goto fail;
	s->sender = open_sender();
	s->receiver = open_receiver(AF_INET, s->skel->progs.at_socket);
	if (s->sender >= 0 && s->receiver >= 0)
		return true;
fail:
	teardown(s);
	return false;
}

/* From now on, watch for pages of packets that do not come back. */
static inline struct cpumap_leaks *watch_leaks(void)
{
	struct cpumap_leaks *watch = cpumap_leaks__open_and_load();

	if (ASSERT_OK_PTR(watch, "load program"))
		ASSERT_OK(cpumap_leaks__attach(watch), "attach program");
	return watch;
}

/* Programs are detached, and with that the devices' page pools are given up. */
static inline void assert_no_leaks(struct cpumap_leaks *watch)
{
	__u64 pool;

	delete_net();
	if (!watch)
		return;
	ASSERT_TRUE(wait_for(watch->bss->released &&
			     bpf_map_get_next_key(bpf_map__fd(watch->maps.waiting), NULL, &pool)),
		    "pages of all page pools are back");
	cpumap_leaks__destroy(watch);
}

/* Lets the second program redirect to @dev of DST. */
static inline bool set_out(const struct setup *s, const char *dev)
{
	struct nstoken *token = open_netns(DST);
	__u32 key = 0, index;
	int err;

	if (!ASSERT_OK_PTR(token, "enter namespace"))
		return false;
	index = if_nametoindex(dev);
	err = bpf_map_update_elem(bpf_map__fd(s->skel->maps.devs), &key, &index, 0);
	close_netns(token);
	return ASSERT_OK(err, "put device into the map");
}

#endif
