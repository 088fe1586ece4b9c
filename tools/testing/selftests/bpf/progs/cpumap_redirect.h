/* SPDX-License-Identifier: GPL-2.0 */
/* What the cpumap tests and their programs agree on. */
#ifndef __CPUMAP_REDIRECT_H
#define __CPUMAP_REDIRECT_H

#define UDP_PORT 4242		/* to which numbered packets go */
#define TCP_PORT 4243		/* to which numbered segments go, and nobody listens */
#define FLOW_PORT 10000		/* from which flow 0 of those comes */
#define STREAM_PORT 4244	/* of a real connection */

#define MAX_SEQ 4096		/* packets whose arrival is noted one by one */
#define MAX_FLOWS 256
#define MAX_CPUS 2		/* that packets are spread over */
#define MAX_VERDICTS 8

enum verdict { V_PASS, V_DROP, V_ABORTED, V_UNKNOWN, V_DEV, V_CPU, V_SOCKET, NR_VERDICTS };

/* What a numbered packet carries behind the UDP header. */
struct numbered {
	__u32 seq;
	__u32 check;		/* ~seq */
};

/* The sums of what the tracepoints say of one map. */
struct tally {
	__u32 map_id;
	__u64 enqueued, dropped;
	__u64 processed, failed, prog_passed, prog_dropped, prog_redirected;
};

#endif
