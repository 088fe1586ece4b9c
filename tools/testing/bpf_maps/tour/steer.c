// SPDX-License-Identifier: GPL-2.0-only
/*
 * steer DEVICE NETNS: packets that DEVICE receives go to another CPU. Sends some to it from CPU 0
 * in the namespace, where the device's peer is, and echoes those that pass the filter.
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

enum { NR = 2000, PORT = 4242, FROM = 0, TO = 1 };

static int udp_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	check(fd >= 0, "no socket");
	return fd;
}

static ssize_t receive(int fd, void *buf, size_t size, struct sockaddr_in *from)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	socklen_t len = sizeof(*from);

	check(poll(&pfd, 1, TIMEOUT_MS) == 1, "nothing came");
	return recvfrom(fd, buf, size, 0, (struct sockaddr *)from, &len);
}

/* One of four is for the port that is filtered; the others are answered. */
static bool is_dropped(int i)
{
	return i % 4 == 0;
}

static void send_packets(const char *netns)
{
	struct sockaddr_in from, to = { .sin_family = AF_INET };
	int i, answer, fd = open(netns, O_RDONLY);
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(FROM, &cpu);
	check(!setns(fd, CLONE_NEWNET), "no namespace %s", netns);
	check(!sched_setaffinity(0, sizeof(cpu), &cpu), "no CPU %d", FROM);
	fd = udp_socket();
	inet_pton(AF_INET, "10.9.0.1", &to.sin_addr);
	for (i = 0; i < NR; i++) {
		to.sin_port = htons(is_dropped(i) ? DISCARD : PORT);
		check(sendto(fd, &i, sizeof(i), 0, (struct sockaddr *)&to, sizeof(to)) > 0,
		      "cannot send");
		check(is_dropped(i) || (receive(fd, &answer, sizeof(answer), &from) > 0 &&
					answer == i), "wrong answer");
	}
}

/* tour: add */
static int add_cpu(int map_fd, __u32 cpu, int prog_fd)
{
	struct bpf_cpumap_val val = { .qsize = 512, .bpf_prog.fd = prog_fd };

	return bpf_map_update_elem(map_fd, &cpu, &val, BPF_ANY);
}

/* tour: end */
/* What became of the packets, by a name in a line such as "1 enqueued 10 dropped 0". */
static long counter(int map_fd, const char *name)
{
	char *at = strstr(fdinfo(map_fd, "cpu"), name);

	check(at, "fdinfo has no counter%s", name);
	return strtol(at + strlen(name), NULL, 10);
}

int main(int argc, char **argv)
{
	struct sockaddr_in from, here = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int i, value, status, fd, sock = udp_socket(), received = 0, dropped = 0;
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
		if (is_dropped(i)) {
			dropped++;
			continue;
		}
		check(receive(sock, &value, sizeof(value), &from) > 0 && value == i,
		      "packet %d did not come", i);
		sendto(sock, &value, sizeof(value), 0, (struct sockaddr *)&from, sizeof(from));
		received++;
	}
	check(waitpid(pid, &status, 0) == pid && !status, "the sender failed");
	/* The last batch is counted after it was received. */
	for (i = 0; i < TIMEOUT_MS && counter(fd, " queued "); i++)
		usleep(1000);

	printf("sent %d, arrived on CPU %d: %llu, filtered on CPU %d: %llu, received and answered: %d\n",
	       NR, FROM, skel->bss->steered[FROM], TO, skel->bss->filtered[TO], received);
	printf("fdinfo: cpu: %s", fdinfo(fd, "cpu"));
	check(skel->bss->steered[FROM] == NR && skel->bss->filtered[TO] == NR,
	      "packets were on other CPUs");
	check(counter(fd, " enqueued ") + counter(fd, " dropped ") == NR &&
	      counter(fd, " prog_passed ") == received &&
	      counter(fd, " prog_dropped ") == dropped, "the sums are wrong");
	steer__destroy(skel);
	return 0;
}
