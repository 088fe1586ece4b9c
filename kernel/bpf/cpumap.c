// SPDX-License-Identifier: GPL-2.0-only
/*
 * BPF_MAP_TYPE_CPUMAP: XDP redirect to another CPU
 */

/**
 * DOC: cpu map
 *
 * A cpumap moves packets that an XDP program redirects to it, with bpf_redirect_map(), to
 * another CPU, where they enter the network stack. So one CPU can spread what a receive queue
 * gets over many, before anything is allocated for it. The key is the number of a CPU; an entry
 * is a ring of qsize packets, a kthread bound to that CPU, and maybe a second program::
 *
 *   CPU that receives                            CPU of the entry
 *
 *   cpu_map_enqueue() --> bulk queue of the CPU
 *   __cpu_map_flush() ---------+--> ring -----> cpu_map_kthread() -+-> program
 *   cpu_map_generic_redirect() +    (ptr_ring)                     +-> GRO --> network stack
 *
 * Native XDP redirects frames (&struct xdp_frame). They are collected, CPU_MAP_BULK_SIZE at
 * most, in a queue of the entry and the receiving CPU, which goes into the ring when it is
 * full or when the driver's NAPI poll ends. Generic XDP redirects skbs, each by itself; in the
 * ring their pointers have CPU_MAP_SKB set. A full ring drops, and counts what it drops.
 *
 * The kthread takes batches out of the ring. A batch meets the program, its redirects are
 * flushed, its frames become skbs and pass GRO. When the ring is empty, after CPU_MAP_BUDGET
 * packets, or when others want the CPU, GRO is flushed in the same section with softirqs off:
 * nothing is held back when no packet follows. Generic XDP rules GRO out for its device, so its
 * skbs go to the stack as they are.
 *
 * Life of an entry: an update publishes it complete. Replacing it, deleting it and freeing the
 * map withdraw it; after a grace period, when no receiving CPU can have it in hand, the
 * kthread is told to stop, which it does when the ring is empty, even if it had not run
 * before. Only then is the entry freed. Until then it holds a reference to the map, whose
 * counters it uses.
 *
 * Packets in a ring hold a reference to the device that received them. The kthread drops what
 * belongs to a device that is being unregistered. It looks under rcu_read_lock(), and
 * unregistering waits for that after it changed the device's state, so all that follows in
 * the section may use the device. Unregistering a device so waits for the kthread.
 *
 * A CPU that goes offline: the scheduler lets the kthread run elsewhere, so nothing is stuck. It
 * binds itself again when it finds that its CPU is back.
 *
 * Contexts: packets are redirected with softirqs off; updates may sleep, lookups and deletions
 * need not. The bulk queues have a local lock for PREEMPT_RT, where sections with
 * softirqs off can be preempted.
 */

#include <linux/bitops.h>
#include <linux/bpf.h>
#include <linux/btf_ids.h>
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/filter.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/kthread.h>
#include <linux/local_lock.h>
#include <linux/lockdep.h>
#include <linux/netdevice.h>
#include <linux/ptr_ring.h>
#include <linux/rcupdate.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/threads.h>
#include <linux/u64_stats_sync.h>
#include <linux/udp.h>
#include <linux/workqueue.h>
#include <net/gro.h>
#include <net/hotdata.h>
#include <net/xdp.h>
#include <trace/events/xdp.h>

#define CPU_MAP_BULK_SIZE	8	/* frames */
#define CPU_MAP_BATCH_SIZE	8	/* packets that the kthread handles at a time; cached */
#define CPU_MAP_BUDGET		64	/* packets that GRO may merge */
#define CPU_MAP_MAX_QSIZE	16384	/* packets */
#define CPU_MAP_SKB		BIT(0)	/* in a pointer in the ring: to an skb, not to a frame */

/* What becomes of a packet; in the order of fdinfo. */
enum cpu_map_counter {
	CPU_MAP_ENQUEUED,		/* entered the ring, */
	CPU_MAP_DROPPED,		/* or did not: it was full, or the device is gone */
	CPU_MAP_PASSED,			/* to the stack; the entry has no program */
	CPU_MAP_PROG_PASSED,		/* to the stack */
	CPU_MAP_PROG_DROPPED,		/* the verdict, or an invalid one, or a failed redirect */
	CPU_MAP_PROG_REDIRECTED,
	CPU_MAP_FAILED,			/* no memory for the skb, or the device is gone */
	CPU_MAP_NR_COUNTERS
};

static const char * const cpu_map_counter_names[] = {
	[CPU_MAP_ENQUEUED]		= "enqueued",
	[CPU_MAP_DROPPED]		= "dropped",
	[CPU_MAP_PASSED]		= "passed",
	[CPU_MAP_PROG_PASSED]		= "prog_passed",
	[CPU_MAP_PROG_DROPPED]		= "prog_dropped",
	[CPU_MAP_PROG_REDIRECTED]	= "prog_redirected",
	[CPU_MAP_FAILED]		= "failed",
};

/**
 * struct cpu_map_counters - what one CPU did for one index of a map
 * @packets: by &enum cpu_map_counter
 * @syncp: for readers where 64 bits are not read at once
 */
struct cpu_map_counters {
	u64_stats_t packets[CPU_MAP_NR_COUNTERS];
	struct u64_stats_sync syncp;
};

/**
 * struct xdp_bulk_queue - frames of one receiving CPU on their way to an entry
 * @frames: of struct xdp_frame
 * @count: how many there are
 * @lock: protects all of it, but for @flush_node's place in the list
 * @flush_node: in the list of the context that flushes, while frames were put in by it
 * @entry: where the frames go
 */
struct xdp_bulk_queue {
	void *frames[CPU_MAP_BULK_SIZE];
	u32 count;
	local_lock_t lock;
	struct list_head flush_node;
	struct bpf_cpu_map_entry *entry;
};

/**
 * struct bpf_cpu_map_entry - where packets for a CPU go
 * @cpu: the index
 * @map_id: for tracepoints
 * @bulkq: bulk queues, one for each receiving CPU
 * @counters: the map's, for this index
 * @kthread: the consumer; a reference
 * @prog: the second program or NULL; a reference
 * @value: as lookups see it
 * @ring: of tagged pointers, each with a reference to the packet's device
 * @gro: GRO's state, of a NAPI that never polls
 * @gro_dev: what @gro has to belong to
 * @map: a reference, once the entry was withdrawn
 * @stopping: no more packets will enter the ring
 * @stopped: the kthread does not use the entry any more
 * @free_work: for the time after the grace period
 */
struct bpf_cpu_map_entry {
	u32 cpu;
	int map_id;
	struct xdp_bulk_queue __percpu *bulkq;
	struct cpu_map_counters __percpu *counters;
	struct task_struct *kthread;
	struct bpf_prog *prog;
	struct bpf_cpumap_val value;
	struct ptr_ring ring;
	struct napi_struct gro;
	struct net_device *gro_dev;
	struct bpf_map *map;
	bool stopping;
	struct completion stopped;
	struct rcu_work free_work;
};

/**
 * struct bpf_cpu_map - a cpumap
 * @map: the generic part; first, since BTF users read it there
 * @entries: max_entries pointers
 * @counters: max_entries pointers, each set with the index's first entry, kept with the map
 */
struct bpf_cpu_map {
	struct bpf_map map;
	struct bpf_cpu_map_entry __rcu **entries;
	struct cpu_map_counters __percpu **counters;
};

static struct bpf_cpu_map *to_cpu_map(const struct bpf_map *map)
{
	return container_of(map, struct bpf_cpu_map, map);
}

/* Context: softirqs off. */
static void cpu_map_count(struct bpf_cpu_map_entry *entry, enum cpu_map_counter first, u32 n,
			  enum cpu_map_counter second, u32 m)
{
	struct cpu_map_counters *counters = this_cpu_ptr(entry->counters);

	u64_stats_update_begin(&counters->syncp);
	u64_stats_add(&counters->packets[first], n);
	u64_stats_add(&counters->packets[second], m);
	u64_stats_update_end(&counters->syncp);
}

/* The receiving side. */

/* Context: softirqs off, bq->lock held. */
static void cpu_map_flush_bulk(struct xdp_bulk_queue *bq)
{
	struct bpf_cpu_map_entry *entry = bq->entry;
	struct ptr_ring *ring = &entry->ring;
	u32 i, sent = 0;

	lockdep_assert_held(&bq->lock);
	if (unlikely(!bq->count))
		return;

	spin_lock(&ring->producer_lock);
	for (i = 0; i < bq->count; i++) {
		struct xdp_frame *frame = bq->frames[i];
		struct net_device *dev = frame->dev_rx;

		/* BPF_PROG_TEST_RUN can still redirect when the device waits to be free. */
		if (likely(READ_ONCE(dev->reg_state) == NETREG_REGISTERED)) {
			dev_hold(dev);
			if (likely(!__ptr_ring_produce(ring, frame))) {
				sent++;
				continue;
			}
			dev_put(dev);
		}
		xdp_return_frame_rx_napi(frame);
	}
	spin_unlock(&ring->producer_lock);

	cpu_map_count(entry, CPU_MAP_ENQUEUED, sent, CPU_MAP_DROPPED, bq->count - sent);
	trace_xdp_cpumap_enqueue(entry->map_id, sent, bq->count - sent, entry->cpu);
	bq->count = 0;
}

/**
 * cpu_map_enqueue - take over a frame that was redirected to an entry
 * @entry: what the redirect found
 * @frame: the frame; it belongs to the entry after this
 * @dev_rx: the device that received it
 *
 * The frame waits in a bulk queue until __cpu_map_flush(), or until the queue is full.
 *
 * Context: softirqs off, in one section with the lookup and the flush.
 *
 * Return: 0
 */
int cpu_map_enqueue(struct bpf_cpu_map_entry *entry, struct xdp_frame *frame,
		    struct net_device *dev_rx)
{
	struct xdp_bulk_queue *bq;

	frame->dev_rx = dev_rx;

	local_lock_nested_bh(&entry->bulkq->lock);
	bq = this_cpu_ptr(entry->bulkq);
	if (unlikely(bq->count == CPU_MAP_BULK_SIZE))
		cpu_map_flush_bulk(bq);
	bq->frames[bq->count++] = frame;
	/*
	 * On PREEMPT_RT it may be in the list of a task that this one has preempted. That one
	 * will flush this frame, too.
	 */
	if (list_empty(&bq->flush_node))
		list_add(&bq->flush_node, bpf_net_ctx_get_cpu_map_flush_list());
	local_unlock_nested_bh(&entry->bulkq->lock);
	return 0;
}

/**
 * __cpu_map_flush - move what was redirected into the rings, and wake the kthreads
 * @flush_list: of bulk queues, filled by cpu_map_enqueue() in this context; empty after this
 *
 * Context: softirqs off, in one section with the redirects: xdp_do_flush().
 */
void __cpu_map_flush(struct list_head *flush_list)
{
	struct xdp_bulk_queue *bq, *next;

	list_for_each_entry_safe(bq, next, flush_list, flush_node) {
		struct bpf_cpu_map_entry *entry = bq->entry;

		local_lock_nested_bh(&entry->bulkq->lock);
		cpu_map_flush_bulk(bq);
		list_del_init(&bq->flush_node);
		local_unlock_nested_bh(&entry->bulkq->lock);

		/* Its full barrier pairs with the one of set_current_state() in the kthread. */
		wake_up_process(entry->kthread);
	}
}

/**
 * cpu_map_generic_redirect - take over an skb that generic XDP redirected to an entry
 * @entry: what the redirect found
 * @skb: the packet, its data at the MAC header; it belongs to the entry if this succeeds
 *
 * Context: softirqs off, in one section with the lookup.
 *
 * Return: 0, or -ENOSPC if the ring is full
 */
int cpu_map_generic_redirect(struct bpf_cpu_map_entry *entry, struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	int err;

	/* Not mac_len, which nobody has set when the packet comes from a TAP. */
	__skb_pull(skb, skb_network_offset(skb));
	/* Generic XDP shall not see it again. */
	skb_set_redirected(skb, false);

	dev_hold(dev);
	err = ptr_ring_produce(&entry->ring, (void *)((unsigned long)skb | CPU_MAP_SKB));
	if (unlikely(err))
		dev_put(dev);
	else
		wake_up_process(entry->kthread);	/* as in __cpu_map_flush() */

	cpu_map_count(entry, CPU_MAP_ENQUEUED, !err, CPU_MAP_DROPPED, !!err);
	trace_xdp_cpumap_enqueue(entry->map_id, !err, !!err, entry->cpu);
	return err;
}

/* The kthread's side: all with softirqs off, under rcu_read_lock(), in one bpf_net_context. */

/* The packet has left the ring: may its device still be used? If so, the reference can go. */
static bool cpu_map_keep(struct net_device *dev)
{
	if (unlikely(READ_ONCE(dev->reg_state) != NETREG_REGISTERED))
		return false;
	dev_put(dev);
	return true;
}

/*
 * Move skbs into a list, and what stays, the frames, to the front; drop packets of devices that
 * go away. Return: how many those were.
 */
static u32 cpu_map_sort(void **batch, u32 n, u32 *nr_frames, struct list_head *skbs)
{
	u32 i, gone = 0;

	*nr_frames = 0;
	for (i = 0; i < n; i++) {
		struct xdp_frame *frame = batch[i];
		struct sk_buff *skb = (void *)((unsigned long)batch[i] & ~CPU_MAP_SKB);
		struct net_device *dev;

		if ((unsigned long)batch[i] & CPU_MAP_SKB) {
			dev = skb->dev;
			if (likely(cpu_map_keep(dev))) {
				list_add_tail(&skb->list, skbs);
				continue;
			}
			kfree_skb(skb);
		} else {
			dev = frame->dev_rx;
			if (likely(cpu_map_keep(dev))) {
				batch[(*nr_frames)++] = frame;
				continue;
			}
			xdp_return_frame(frame);
		}
		dev_put(dev);
		gone++;
	}
	return gone;
}

/* A verdict of the program that is a drop: say so where it is meant to be heard. */
static void cpu_map_drop_verdict(const struct net_device *dev, struct bpf_prog *prog, u32 act)
{
	switch (act) {
	default:
		bpf_warn_invalid_xdp_action(NULL, prog, act);
		fallthrough;
	case XDP_ABORTED:
		trace_xdp_exception(dev, prog, act);
		fallthrough;
	case XDP_DROP:
		break;
	}
}

/* Return: how many of the frames passed; they are the first ones then. */
static u32 cpu_map_run_frames(struct bpf_prog *prog, void **frames, u32 n,
			      struct xdp_cpumap_stats *stats)
{
	struct xdp_rxq_info rxq = {};
	struct xdp_txq_info txq = {};
	struct xdp_buff xdp = { .rxq = &rxq, .txq = &txq };
	u32 i, passed = 0;

	for (i = 0; i < n; i++) {
		struct xdp_frame *frame = frames[i];
		struct net_device *dev = frame->dev_rx;
		u32 act;

		/* All else of the queue that it came from is not known here. */
		rxq.dev = dev;
		rxq.mem = frame->mem;
		xdp_convert_frame_to_buff(frame, &xdp);

		act = bpf_prog_run_xdp(prog, &xdp);
		if (act == XDP_PASS && !xdp_update_frame_from_buff(&xdp, frame)) {
			frames[passed++] = frame;
			continue;
		}
		if (act == XDP_REDIRECT && !xdp_do_redirect(dev, &xdp, prog)) {
			stats->redirect++;
			continue;
		}
		if (act != XDP_PASS && act != XDP_REDIRECT)
			cpu_map_drop_verdict(dev, prog, act);
		xdp_return_frame(frame);
		stats->drop++;
	}
	stats->pass += passed;
	return passed;
}

/* What does not pass leaves the list. */
static void cpu_map_run_skbs(struct bpf_prog *prog, struct list_head *skbs,
			     struct xdp_cpumap_stats *stats)
{
	struct sk_buff *skb, *next;
	struct xdp_buff xdp;
	u32 act;

	list_for_each_entry_safe(skb, next, skbs, list) {
		act = bpf_prog_run_generic_xdp(skb, &xdp, prog);
		if (act == XDP_PASS) {
			stats->pass++;
			continue;
		}
		skb_list_del_init(skb);
		if (act == XDP_REDIRECT && !xdp_do_generic_redirect(skb->dev, skb, &xdp, prog)) {
			stats->redirect++;
			continue;
		}
		if (act != XDP_REDIRECT)
			cpu_map_drop_verdict(skb->dev, prog, act);
		kfree_skb(skb);
		stats->drop++;
	}
}

/*
 * Datagrams are merged only if a device, a tunnel or a socket has asked for it; else GRO would look
 * at each in vain.
 */
static bool cpu_map_wants_gro(const struct sk_buff *skb)
{
	u8 proto = IPPROTO_TCP;

	if (skb->protocol == htons(ETH_P_IP) && skb_headlen(skb) >= sizeof(struct iphdr))
		proto = ((struct iphdr *)skb->data)->protocol;
	else if (skb->protocol == htons(ETH_P_IPV6) && skb_headlen(skb) >= sizeof(struct ipv6hdr))
		proto = ((struct ipv6hdr *)skb->data)->nexthdr;
	return proto != IPPROTO_UDP || (IS_ENABLED(CONFIG_INET) && udp_encap_needed()) ||
	       skb->dev->features & (NETIF_F_GRO_FRAGLIST | NETIF_F_GRO_UDP_FWD);
}

/* Return: how many were lost for want of memory. */
static u32 cpu_map_frames_to_stack(struct bpf_cpu_map_entry *entry, void **frames, u32 n)
{
	void *skbs[CPU_MAP_BATCH_SIZE];
	u32 i, lost = 0;

	if (!n)
		return 0;
	if (unlikely(xdp_alloc_skb_bulk(skbs, n, GFP_ATOMIC | __GFP_ZERO | __GFP_NOWARN))) {
		for (i = 0; i < n; i++)
			xdp_return_frame(frames[i]);
		return n;
	}
	for (i = 0; i < n; i++) {
		struct xdp_frame *frame = frames[i];
		struct sk_buff *skb;

		skb = __xdp_build_skb_from_frame(frame, skbs[i], frame->dev_rx);
		if (unlikely(!skb)) {
			kmem_cache_free(net_hotdata.skbuff_cache, skbs[i]);
			xdp_return_frame(frame);
			lost++;
			continue;
		}
		if (cpu_map_wants_gro(skb))
			napi_gro_receive(&entry->gro, skb);
		else	/* with what GRO does not know, or fragments would come late */
			gro_normal_one(&entry->gro, skb, 1);
	}
	return lost;
}

static void cpu_map_run_batch(struct bpf_cpu_map_entry *entry, void **batch, u32 n, int sched)
{
	struct xdp_cpumap_stats stats = {};
	struct bpf_prog *prog = entry->prog;
	u32 nr_frames, failed, passed, lost;
	LIST_HEAD(skbs);

	/* Nothing that is freed here may use a cache of the NAPI that received it. */
	xdp_set_return_frame_no_direct();

	failed = cpu_map_sort(batch, n, &nr_frames, &skbs);
	if (prog) {
		nr_frames = cpu_map_run_frames(prog, batch, nr_frames, &stats);
		cpu_map_run_skbs(prog, &skbs, &stats);
		/* Always: a broadcast that failed may have put clones into queues. */
		xdp_do_flush();
	}
	xdp_clear_return_frame_no_direct();

	netif_receive_skb_list(&skbs);
	lost = cpu_map_frames_to_stack(entry, batch, nr_frames);
	failed += lost;
	if (prog)
		stats.pass -= lost;

	passed = n - failed - stats.drop - stats.redirect;
	cpu_map_count(entry, prog ? CPU_MAP_PROG_PASSED : CPU_MAP_PASSED, passed,
		      CPU_MAP_FAILED, failed);
	if (prog)
		cpu_map_count(entry, CPU_MAP_PROG_DROPPED, stats.drop,
			      CPU_MAP_PROG_REDIRECTED, stats.redirect);
	trace_xdp_cpumap_kthread(entry->map_id, n, failed, sched, &stats);
}

/* @sched: whether the kthread has slept, or let others run */
static void cpu_map_run(struct bpf_cpu_map_entry *entry, int sched)
{
	struct bpf_net_context __bpf_net_ctx, *bpf_net_ctx;
	void *batch[CPU_MAP_BATCH_SIZE];
	u32 n, total;

	local_bh_disable();
	rcu_read_lock();
	bpf_net_ctx = bpf_net_ctx_set(&__bpf_net_ctx);
	for (total = 0; total < CPU_MAP_BUDGET; total += n, sched = 0) {
		n = __ptr_ring_consume_batched(&entry->ring, batch, CPU_MAP_BATCH_SIZE);
		if (!n)
			break;
		cpu_map_run_batch(entry, batch, n, sched);
		if (need_resched())
			break;
	}
	napi_gro_flush(&entry->gro, false);
	gro_normal_list(&entry->gro);
	bpf_net_ctx_clear(bpf_net_ctx);
	rcu_read_unlock();
	local_bh_enable();
}

/*
 * The scheduler let the kthread run anywhere when the CPU went offline. Not while CPUs come and go:
 * it would stay where it is, and not be allowed there.
 */
static void cpu_map_bind_again(struct bpf_cpu_map_entry *entry)
{
	if (!cpus_read_trylock())
		return;
	if (cpu_online(entry->cpu))
		set_cpus_allowed_ptr(current, cpumask_of(entry->cpu));
	cpus_read_unlock();
}

static int cpu_map_kthread(void *data)
{
	struct bpf_cpu_map_entry *entry = data;
	unsigned long last_qs = jiffies;
	bool stopping;
	int sched = 0;

	for (;;) {
		/* Its full barrier pairs with the one of wake_up_process() by who sets either. */
		set_current_state(TASK_INTERRUPTIBLE);
		/*
		 * Before the ring is looked at: after the flag nothing enters it, but before the
		 * flag it may fill while this is preempted between the two. Acquire pairs with
		 * the release in cpu_map_entry_free().
		 */
		stopping = smp_load_acquire(&entry->stopping);
		if (__ptr_ring_empty(&entry->ring)) {
			if (stopping)
				break;
			schedule();
			sched = 1;
			last_qs = jiffies;
			continue;
		}
		__set_current_state(TASK_RUNNING);

		if (unlikely(!is_percpu_thread() && cpu_online(entry->cpu)))
			cpu_map_bind_again(entry);

		cpu_map_run(entry, sched);
		rcu_softirq_qs_periodic(last_qs);
		sched = cond_resched();
	}
	__set_current_state(TASK_RUNNING);
	complete(&entry->stopped);	/* the entry may be freed from now on */
	return 0;
}

/* Entries. */

/* Wait until the kthread has drained the ring; nobody can reach the entry any more. */
static void cpu_map_entry_free(struct bpf_cpu_map_entry *entry)
{
	smp_store_release(&entry->stopping, true);	/* see cpu_map_kthread() */
	wake_up_process(entry->kthread);
	wait_for_completion(&entry->stopped);
	put_task_struct(entry->kthread);

	__netif_napi_del(&entry->gro);
	free_netdev(entry->gro_dev);
	if (entry->prog)
		bpf_prog_put(entry->prog);
	ptr_ring_cleanup(&entry->ring, NULL);
	free_percpu(entry->bulkq);
	kfree(entry);
}

static void cpu_map_entry_free_work(struct work_struct *work)
{
	struct bpf_cpu_map_entry *entry = container_of(to_rcu_work(work), typeof(*entry),
						       free_work);
	struct bpf_map *map = entry->map;

	cpu_map_entry_free(entry);
	bpf_map_put(map);
}

/* Context: any in which a map may be changed. The caller has removed the entry from the map. */
static void cpu_map_entry_withdraw(struct bpf_map *map, struct bpf_cpu_map_entry *entry)
{
	bpf_map_inc(map);
	entry->map = map;
	INIT_RCU_WORK(&entry->free_work, cpu_map_entry_free_work);
	queue_rcu_work(system_unbound_wq, &entry->free_work);
}

static int cpu_map_load_prog(struct bpf_map *map, struct bpf_cpu_map_entry *entry, int fd)
{
	struct bpf_prog *prog;

	prog = bpf_prog_get_type(fd, BPF_PROG_TYPE_XDP);
	if (IS_ERR(prog))
		return PTR_ERR(prog);
	if (prog->expected_attach_type != BPF_XDP_CPUMAP || !bpf_prog_map_compatible(map, prog)) {
		bpf_prog_put(prog);
		return -EINVAL;
	}
	entry->prog = prog;
	entry->value.bpf_prog.id = prog->aux->id;
	return 0;
}

static struct bpf_cpu_map_entry *cpu_map_entry_alloc(struct bpf_map *map, u32 cpu,
						     const struct bpf_cpumap_val *value)
{
	int node = map->numa_node == NUMA_NO_NODE ? cpu_to_node(cpu) : map->numa_node;
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN;
	struct bpf_cpu_map *cmap = to_cpu_map(map);
	struct bpf_cpu_map_entry *entry;
	int i, err = -ENOMEM;

	entry = bpf_map_kmalloc_node(map, sizeof(*entry), gfp | __GFP_ZERO, node);
	if (!entry)
		return ERR_PTR(-ENOMEM);
	entry->cpu = cpu;
	entry->map_id = map->id;
	entry->value.qsize = value->qsize;
	entry->counters = cmap->counters[cpu];
	init_completion(&entry->stopped);

	entry->bulkq = bpf_map_alloc_percpu(map, sizeof(*entry->bulkq),
					    __alignof__(*entry->bulkq), gfp);
	if (!entry->bulkq)
		goto free_entry;
	for_each_possible_cpu(i) {
		struct xdp_bulk_queue *bq = per_cpu_ptr(entry->bulkq, i);

		local_lock_init(&bq->lock);
		INIT_LIST_HEAD(&bq->flush_node);
		bq->entry = entry;
	}
	if (ptr_ring_init(&entry->ring, value->qsize, gfp | __GFP_ACCOUNT))
		goto free_bulkq;
	entry->gro_dev = alloc_netdev_dummy(0);
	if (!entry->gro_dev)
		goto free_ring;
	/* The form that is not hashed: no socket will poll it. */
	netif_napi_add_tx(entry->gro_dev, &entry->gro, NULL);

	if (value->bpf_prog.fd > 0) {
		err = cpu_map_load_prog(map, entry, value->bpf_prog.fd);
		if (err)
			goto free_netdev;
	}
	entry->kthread = kthread_create_on_node(cpu_map_kthread, entry, node, "cpumap/%d/map:%d",
						cpu, map->id);
	if (IS_ERR(entry->kthread)) {
		err = PTR_ERR(entry->kthread);
		goto put_prog;
	}
	get_task_struct(entry->kthread);
	kthread_bind(entry->kthread, cpu);
	wake_up_process(entry->kthread);
	return entry;

put_prog:
	if (entry->prog)
		bpf_prog_put(entry->prog);
free_netdev:
	__netif_napi_del(&entry->gro);
	free_netdev(entry->gro_dev);
free_ring:
	ptr_ring_cleanup(&entry->ring, NULL);
free_bulkq:
	free_percpu(entry->bulkq);
free_entry:
	kfree(entry);
	return ERR_PTR(err);
}

/* The map. */

static int cpu_map_alloc_check(union bpf_attr *attr)
{
	if (!attr->max_entries || attr->key_size != sizeof(u32) ||
	    (attr->value_size != offsetofend(struct bpf_cpumap_val, qsize) &&
	     attr->value_size != offsetofend(struct bpf_cpumap_val, bpf_prog.fd)) ||
	    attr->map_flags & ~BPF_F_NUMA_NODE)
		return -EINVAL;
	if (attr->max_entries > CONFIG_NR_CPUS)
		return -E2BIG;
	return 0;
}

static u64 cpu_map_array_size(const struct bpf_map *map)
{
	struct bpf_cpu_map *cmap;

	return (u64)map->max_entries * (sizeof(*cmap->entries) + sizeof(*cmap->counters));
}

static struct bpf_map *cpu_map_alloc(union bpf_attr *attr)
{
	struct bpf_cpu_map *cmap;

	cmap = bpf_map_area_alloc(sizeof(*cmap), NUMA_NO_NODE);
	if (!cmap)
		return ERR_PTR(-ENOMEM);
	bpf_map_init_from_attr(&cmap->map, attr);

	cmap->entries = bpf_map_area_alloc(cpu_map_array_size(&cmap->map), cmap->map.numa_node);
	if (!cmap->entries) {
		bpf_map_area_free(cmap);
		return ERR_PTR(-ENOMEM);
	}
	cmap->counters = (void *)(cmap->entries + attr->max_entries);
	return &cmap->map;
}

/* No program uses the map any more, and every withdrawn entry is gone. */
static void cpu_map_free(struct bpf_map *map)
{
	struct bpf_cpu_map *cmap = to_cpu_map(map);
	struct bpf_cpu_map_entry *entry;
	u32 i;

	/* Until softirqs that had found entries through such a program are through. */
	synchronize_rcu();
	for (i = 0; i < map->max_entries; i++) {
		entry = rcu_dereference_raw(cmap->entries[i]);
		if (entry)
			cpu_map_entry_free(entry);
		free_percpu(cmap->counters[i]);
	}
	bpf_map_area_free(cmap->entries);
	bpf_map_area_free(cmap);
}

/* Elements are kept by rcu_read_lock(), or by softirqs being off in NAPI. */
static void *cpu_map_find(struct bpf_map *map, u32 key)
{
	struct bpf_cpu_map *cmap = to_cpu_map(map);

	if (key >= map->max_entries)
		return NULL;
	return rcu_dereference_check(cmap->entries[key], rcu_read_lock_bh_held());
}

static void *cpu_map_lookup_elem(struct bpf_map *map, void *key)
{
	struct bpf_cpu_map_entry *entry = cpu_map_find(map, *(u32 *)key);

	return entry ? &entry->value : NULL;
}

static void cpu_map_replace(struct bpf_map *map, u32 key, struct bpf_cpu_map_entry *entry)
{
	struct bpf_cpu_map *cmap = to_cpu_map(map);

	entry = unrcu_pointer(xchg(&cmap->entries[key], RCU_INITIALIZER(entry)));
	if (entry)
		cpu_map_entry_withdraw(map, entry);
}

/* An index keeps its counters for the life of the map. */
static int cpu_map_alloc_counters(struct bpf_map *map, u32 key)
{
	struct bpf_cpu_map *cmap = to_cpu_map(map);
	struct cpu_map_counters __percpu *counters;
	int cpu;

	if (READ_ONCE(cmap->counters[key]))
		return 0;
	counters = bpf_map_alloc_percpu(map, sizeof(*counters), __alignof__(*counters),
					GFP_KERNEL | __GFP_NOWARN);
	if (!counters)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		u64_stats_init(&per_cpu_ptr(counters, cpu)->syncp);
	if (cmpxchg(&cmap->counters[key], NULL, counters))
		free_percpu(counters);	/* another update was faster */
	return 0;
}

static long cpu_map_update_elem(struct bpf_map *map, void *key, void *value, u64 flags)
{
	struct bpf_cpumap_val val = {};
	struct bpf_cpu_map_entry *entry;
	u32 cpu = *(u32 *)key;
	int err;

	if (unlikely(flags > BPF_EXIST))
		return -EINVAL;
	if (unlikely(cpu >= map->max_entries))
		return -E2BIG;
	if (unlikely(flags == BPF_NOEXIST))
		return -EEXIST;
	memcpy(&val, value, map->value_size);
	if (unlikely(val.qsize > CPU_MAP_MAX_QSIZE))
		return -EOVERFLOW;
	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return -ENODEV;

	if (!val.qsize) {
		cpu_map_replace(map, cpu, NULL);
		return 0;
	}
	err = cpu_map_alloc_counters(map, cpu);
	if (err)
		return err;
	entry = cpu_map_entry_alloc(map, cpu, &val);
	if (IS_ERR(entry))
		return PTR_ERR(entry);
	cpu_map_replace(map, cpu, entry);
	return 0;
}

static long cpu_map_delete_elem(struct bpf_map *map, void *key)
{
	u32 cpu = *(u32 *)key;

	if (cpu >= map->max_entries)
		return -EINVAL;
	cpu_map_replace(map, cpu, NULL);
	return 0;
}

static int cpu_map_get_next_key(struct bpf_map *map, void *key, void *next_key)
{
	u32 last = key ? *(u32 *)key : U32_MAX;
	u32 *next = next_key;

	if (last >= map->max_entries) {
		*next = 0;
		return 0;
	}
	if (last == map->max_entries - 1)
		return -ENOENT;
	*next = last + 1;
	return 0;
}

static long cpu_map_redirect(struct bpf_map *map, u64 index, u64 flags)
{
	return __bpf_xdp_redirect_map(map, index, flags, 0, cpu_map_find);
}

static u64 cpu_map_mem_usage(const struct bpf_map *map)
{
	struct bpf_cpu_map *cmap = to_cpu_map(map);
	u64 usage = sizeof(*cmap) + cpu_map_array_size(map);
	struct bpf_cpu_map_entry *entry;
	u32 i;

	rcu_read_lock();
	for (i = 0; i < map->max_entries; i++) {
		if (READ_ONCE(cmap->counters[i]))
			usage += (u64)num_possible_cpus() * sizeof(struct cpu_map_counters);
		entry = rcu_dereference(cmap->entries[i]);
		if (!entry)
			continue;
		usage += sizeof(*entry) + sizeof(*entry->gro_dev);
		usage += entry->value.qsize * sizeof(void *);
		usage += (u64)num_possible_cpus() * sizeof(struct xdp_bulk_queue);
	}
	rcu_read_unlock();
	return usage;
}

static u64 cpu_map_sum(const struct cpu_map_counters __percpu *percpu, enum cpu_map_counter what)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct cpu_map_counters *counters = per_cpu_ptr(percpu, cpu);
		unsigned int start;
		u64 packets;

		do {
			start = u64_stats_fetch_begin(&counters->syncp);
			packets = u64_stats_read(&counters->packets[what]);
		} while (u64_stats_fetch_retry(&counters->syncp, start));
		sum += packets;
	}
	return sum;
}

/* For each index that has or had an entry: what became of its packets. */
static void cpu_map_show_fdinfo(const struct bpf_map *map, struct seq_file *m)
{
	struct bpf_cpu_map *cmap = to_cpu_map(map);
	u64 sums[CPU_MAP_NR_COUNTERS], left;
	u32 key;
	int i;

	for (key = 0; key < map->max_entries; key++) {
		struct cpu_map_counters __percpu *counters = READ_ONCE(cmap->counters[key]);

		if (!counters)
			continue;
		left = 0;
		/* First what left the ring: all of that has entered it before. */
		for (i = CPU_MAP_PASSED; i < CPU_MAP_NR_COUNTERS; i++) {
			sums[i] = cpu_map_sum(counters, i);
			left += sums[i];
		}
		for (i = CPU_MAP_ENQUEUED; i <= CPU_MAP_DROPPED; i++)
			sums[i] = cpu_map_sum(counters, i);

		/* What is in the ring is counted a moment later than it can be taken out. */
		sums[CPU_MAP_ENQUEUED] = max(sums[CPU_MAP_ENQUEUED], left);

		seq_printf(m, "cpu:\t%u", key);
		for (i = 0; i < CPU_MAP_NR_COUNTERS; i++)
			seq_printf(m, " %s %llu", cpu_map_counter_names[i], sums[i]);
		seq_printf(m, " queued %llu\n", sums[CPU_MAP_ENQUEUED] - left);
		cond_resched();
	}
}

BTF_ID_LIST_SINGLE(cpu_map_btf_ids, struct, bpf_cpu_map)

const struct bpf_map_ops cpu_map_ops = {
	.map_meta_equal = bpf_map_meta_equal,
	.map_alloc_check = cpu_map_alloc_check,
	.map_alloc = cpu_map_alloc,
	.map_free = cpu_map_free,
	.map_lookup_elem = cpu_map_lookup_elem,
	.map_update_elem = cpu_map_update_elem,
	.map_delete_elem = cpu_map_delete_elem,
	.map_get_next_key = cpu_map_get_next_key,
	.map_redirect = cpu_map_redirect,
	.map_check_btf = map_check_no_btf,
	.map_mem_usage = cpu_map_mem_usage,
	.map_show_fdinfo = cpu_map_show_fdinfo,
	.map_btf_id = &cpu_map_btf_ids[0],
};
