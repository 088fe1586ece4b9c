// SPDX-License-Identifier: GPL-2.0-only
/*
 * steer DEVICE NETNS: UDP packets that DEVICE receives go to another CPU. Sends some to it, from
 * CPU 0 in the namespace where its peer is, and answers those that pass the filter.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/wait.h>
#include "tour.h"
#include "steer.skel.h"

enum { NR = 1000, PORT = 4242, FROM = 0, TO = 1 };

static bool receive(int sock, int *value, struct sockaddr_in *from)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	socklen_t len = sizeof(*from);

	return poll(&pfd, 1, TIMEOUT_MS) == 1 &&
	       recvfrom(sock, value, sizeof(*value), 0, (struct sockaddr *)from, &len) > 0;
}

static void send_to(int sock, int value, const struct sockaddr_in *to)
{
	check(sendto(sock, &value, sizeof(value), 0, (struct sockaddr *)to, sizeof(*to)) > 0,
	      "cannot send");
}

/* Each number to the port that is filtered and to the one that is not; then wait for the answer. */
static void send_packets(const char *netns)
{
	struct sockaddr_in to = { .sin_family = AF_INET }, from;
	int i, answer, sock, fd = open(netns, O_RDONLY);
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(FROM, &cpu);
	check(!sched_setaffinity(0, sizeof(cpu), &cpu), "no CPU %d", FROM);
	check(!setns(fd, CLONE_NEWNET), "no namespace %s", netns);
	sock = socket(AF_INET, SOCK_DGRAM, 0);
	inet_pton(AF_INET, "10.9.0.1", &to.sin_addr);
	for (i = 0; i < NR; i++) {
		to.sin_port = htons(DISCARD);
		send_to(sock, i, &to);
		to.sin_port = htons(PORT);
		send_to(sock, i, &to);
		check(receive(sock, &answer, &from) && answer == i, "no answer to %d", i);
	}
}

/* tour: add */
static int add_cpu(int map_fd, __u32 cpu, int prog_fd)
{
	struct bpf_cpumap_val val = { .qsize = 512, .bpf_prog.fd = prog_fd };

	return bpf_map_update_elem(map_fd, &cpu, &val, BPF_ANY);
}

/* tour: end */
/* What became of packets, by a name in the line "cpu: 1 enqueued 10 dropped 0 ...". */
static long packets(int map_fd, const char *name)
{
	char *at = strstr(map_fdinfo(map_fd, "cpu"), name);

	check(at, "no counter \"%s\"", name);
	return strtol(at + strlen(name), NULL, 10);
}

int main(int argc, char **argv)
{
	struct sockaddr_in from, here = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int i, value, status, fd, sock = socket(AF_INET, SOCK_DGRAM, 0);
	struct steer *skel = steer__open();
	pid_t pid;

	check(argc == 3, "usage: %s DEVICE NETNS", argv[0]);
	check(skel, "cannot open");
	skel->rodata->target = TO;
	check(!steer__load(skel), "cannot load");
	fd = bpf_map__fd(skel->maps.cpus);
	check(!add_cpu(fd, TO, bpf_program__fd(skel->progs.filter)), "cannot add CPU %d", TO);
	check(!bind(sock, (struct sockaddr *)&here, sizeof(here)), "cannot bind");
	skel->links.steer = bpf_program__attach_xdp(skel->progs.steer, if_nametoindex(argv[1]));
	check(skel->links.steer, "cannot attach to %s", argv[1]);

	pid = fork();
	if (!pid) {
		send_packets(argv[2]);
		_exit(0);
	}
	for (i = 0; i < NR; i++) {
		check(receive(sock, &value, &from) && value == i, "packet %d did not come", i);
		send_to(sock, value, &from);
	}
	check(waitpid(pid, &status, 0) == pid && !status, "the sender failed");
	/* The last batch is counted after it was received. */
	for (i = 0; i < TIMEOUT_MS && packets(fd, " queued "); i++)
		usleep(1000);

	printf("%d sent, CPU %d got %llu, CPU %d filtered %llu, %d were received and answered\n",
	       2 * NR, FROM, skel->bss->steered[FROM], TO, skel->bss->filtered[TO], NR);
	printf("fdinfo: cpu: %s", map_fdinfo(fd, "cpu"));
	check(skel->bss->steered[FROM] == 2 * NR && skel->bss->filtered[TO] == 2 * NR,
	      "packets were on other CPUs");
	check(packets(fd, " enqueued ") == 2 * NR && packets(fd, " prog_passed ") == NR &&
	      packets(fd, " prog_dropped ") == NR, "the sums are wrong");
	steer__destroy(skel);
	return 0;
}
