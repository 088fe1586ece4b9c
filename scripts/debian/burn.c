// SPDX-License-Identifier: GPL-2.0-only
/* Keeps a CPU busy, in functions whose names a profiler must find: burn SECONDS */
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sum;

__attribute__((noinline)) void burn_inner(unsigned long n)
{
	while (n--)
		sum += n * n;
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);

	while (time(NULL) < end)
		burn_inner(1000000);
	return 0;
}
