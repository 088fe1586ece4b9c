// SPDX-License-Identifier: GPL-2.0
/*
 * A program that redirects to CPUs, one that runs there and says what it is told to, and others
 * that count what comes of it.
 */
#include <vmlinux.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "cpumap_redirect.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define RF_NO_DIRECT 1		/* BPF_RI_F_RF_NO_DIRECT */
#define TCX_NEXT -1
#define TCX_DROP 2

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, MAX_CPUS);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps"), more_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} devs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* What is to be done. */
__u32 first_cpu, nr_cpus;		/* packet n goes to first_cpu + n % nr_cpus */
__u32 verdicts[MAX_VERDICTS], nr_verdicts;	/* the second program's, in turns */
__u32 rx_ifindex;			/* where the packets come from */

/* What was done. */
__u64 redirected, missed;		/* by the first program; missed: no entry */
__u64 runs[NR_VERDICTS];		/* of the second, each with that verdict */
__u64 strange_md, strange_packets;	/* that the second was given */
__u64 received, forwarded;		/* by the socket, by the device behind V_DEV */
__u64 disorder;				/* packets or segments not in the order they were sent in */
__u64 exceptions;			/* traced with the right device */
__u64 returned, returned_direct;	/* frames that a flush has dropped */
__u32 seen[MAX_SEQ];			/* times that a packet was received or forwarded */
__u64 ip_packets, largest;		/* behind GRO */
__u64 early;				/* datagrams ahead of as many segments as their number */
__u32 next_seq[MAX_FLOWS];		/* of each flow of segments */
struct tally tallies[2];		/* of cpus and more_cpus */

static __u32 last_seq;

static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

/* IP packets that are long enough for one of the tests; the ports are where UDP has them. */
static __always_inline struct udphdr *find_ports(struct xdp_md *ctx, __u8 protocol)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(ip + 1) > end)
		return NULL;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6) && (void *)(ip6 + 1) <= end &&
	    ip6->nexthdr == protocol)
		udp = (void *)(ip6 + 1);
	else if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != protocol)
		return NULL;
	return (void *)(udp + 1) + sizeof(struct numbered) <= end ? udp : NULL;
}

/* A packet of the tests, its number in @seq. */
static __always_inline bool is_numbered(struct xdp_md *ctx, __u32 *seq)
{
	struct udphdr *udp = find_ports(ctx, IPPROTO_UDP);
	struct numbered *n;

	if (!udp || udp->dest != bpf_htons(UDP_PORT))
		return false;
	n = (void *)(udp + 1);
	*seq = n->seq;
	return n->seq == ~n->check;
}

/* Segments of a made up flow, or of a stream. */
static __always_inline bool is_segment(struct xdp_md *ctx)
{
	struct udphdr *ports = find_ports(ctx, IPPROTO_TCP);

	return ports && (ports->dest == bpf_htons(TCP_PORT) ||
			 ports->dest == bpf_htons(STREAM_PORT));
}

SEC("xdp")
int to_cpu(struct xdp_md *ctx)
{
	__u32 seq = 0;
	int ret;

	if (!is_numbered(ctx, &seq) && !is_segment(ctx))
		return XDP_PASS;
	ret = bpf_redirect_map(&cpus, first_cpu + (nr_cpus > 1 ? seq % nr_cpus : 0), XDP_DROP);
	add(ret == XDP_REDIRECT ? &redirected : &missed, 1);
	return ret;
}

SEC("xdp/cpumap")
int second(struct xdp_md *ctx)
{
	__u32 seq = 0, verdict;

	/* CVE-2024-27431: none of these was set. */
	if (ctx->ingress_ifindex != rx_ifindex || ctx->rx_queue_index)
		add(&strange_md, 1);
	if (!is_numbered(ctx, &seq)) {
		add(&strange_packets, 1);
		return XDP_DROP;
	}
	verdict = verdicts[(seq % (nr_verdicts ?: 1)) % MAX_VERDICTS];
	if (verdict < NR_VERDICTS)
		add(&runs[verdict], 1);
	switch (verdict) {
	case V_PASS:
		return XDP_PASS;
	case V_DROP:
		return XDP_DROP;
	case V_DEV:
		return bpf_redirect_map(&devs, 0, XDP_DROP);
	case V_CPU:
		return bpf_redirect_map(&more_cpus, 0, XDP_DROP);
	case V_SOCKET:
		return bpf_redirect_map(&sockets, 0, XDP_DROP);
	case V_UNKNOWN:
		return XDP_REDIRECT + 1;
	default:
		return XDP_ABORTED;
	}
}

/* Another one, to replace the first in an entry. */
SEC("xdp/cpumap")
int pass_all(struct xdp_md *ctx)
{
	return XDP_PASS;
}

static __always_inline void note(__u32 seq)
{
	if (seq < MAX_SEQ)
		__sync_fetch_and_add(&seen[seq], 1);
}

/* What was redirected to the device arrives at its peer. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u32 seq;

	if (!is_numbered(ctx, &seq))
		return XDP_PASS;
	note(seq);
	add(&forwarded, 1);
	return XDP_DROP;
}

/* Of a UDP socket: count, and keep no packet. */
SEC("socket")
int at_socket(struct __sk_buff *skb)
{
	struct numbered n;

	if (bpf_skb_load_bytes(skb, sizeof(struct udphdr), &n, sizeof(n)) || n.seq != ~n.check) {
		add(&strange_packets, 1);
		return 0;
	}
	note(n.seq);
	if (n.seq && n.seq <= last_seq)
		add(&disorder, 1);
	last_seq = n.seq;
	add(&received, 1);
	return 0;
}

/* Behind GRO. Segments end here. */
SEC("tcx/ingress")
int behind_gro(struct __sk_buff *skb)
{
	__u32 flow, seq, at = sizeof(struct ethhdr);
	__u8 protocol = 0;
	struct tcphdr tcp;
	struct numbered n;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		bpf_skb_load_bytes(skb, at + offsetof(struct iphdr, protocol), &protocol, 1);
		at += sizeof(struct iphdr);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		bpf_skb_load_bytes(skb, at + offsetof(struct ipv6hdr, nexthdr), &protocol, 1);
		at += sizeof(struct ipv6hdr);
	}
	if (protocol == IPPROTO_UDP &&
	    !bpf_skb_load_bytes(skb, at + sizeof(struct udphdr), &n, sizeof(n)) &&
	    n.seq == ~n.check)
		add(&early, ip_packets < n.seq);
	if (protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp)))
		return TCX_NEXT;
	add(&ip_packets, 1);
	if (skb->len > largest)
		largest = skb->len;
	if (tcp.dest != bpf_htons(TCP_PORT))
		return TCX_NEXT;
	flow = bpf_ntohs(tcp.source) - FLOW_PORT;
	if (flow >= MAX_FLOWS) {
		add(&strange_packets, 1);
		return TCX_DROP;
	}
	seq = bpf_ntohl(tcp.seq);
	if (seq != next_seq[flow])
		add(&disorder, 1);
	next_seq[flow] += skb->len - at - sizeof(tcp);
	return TCX_DROP;
}

static __always_inline struct tally *tally_of(__u32 map_id)
{
	if (map_id == tallies[0].map_id)
		return &tallies[0];
	if (map_id == tallies[1].map_id)
		return &tallies[1];
	return NULL;
}

SEC("tp_btf/xdp_cpumap_enqueue")
int BPF_PROG(at_enqueue, int map_id, unsigned int processed, unsigned int drops, int cpu)
{
	struct tally *tally = tally_of(map_id);

	if (tally) {
		add(&tally->enqueued, processed);
		add(&tally->dropped, drops);
	}
	return 0;
}

SEC("tp_btf/xdp_cpumap_kthread")
int BPF_PROG(at_kthread, int map_id, unsigned int processed, unsigned int drops, int sched,
	     struct xdp_cpumap_stats *stats)
{
	struct tally *tally = tally_of(map_id);

	if (tally) {
		add(&tally->failed, drops);
		add(&tally->prog_passed, stats->pass);
		add(&tally->prog_dropped, stats->drop);
		add(&tally->prog_redirected, stats->redirect);
		add(&tally->processed, processed);
	}
	return 0;
}

SEC("tp_btf/xdp_exception")
int BPF_PROG(at_exception, const struct net_device *dev, const struct bpf_prog *prog, u32 act)
{
	if (dev && dev->ifindex == rx_ifindex)
		add(&exceptions, 1);
	return 0;
}

/* Whether a frame's page may go to the cache of the NAPI that received it, as if this was that. */
SEC("fentry/xdp_return_frame_rx_napi")
int BPF_PROG(at_return)
{
	struct bpf_net_context *ctx_of_task = bpf_get_current_task_btf()->bpf_net_context;

	add(&returned, 1);
	if (!ctx_of_task || !(ctx_of_task->ri.kern_flags & RF_NO_DIRECT))
		add(&returned_direct, 1);
	return 0;
}
