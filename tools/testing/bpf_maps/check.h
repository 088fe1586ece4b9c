/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests share: results in TAP, options, random numbers. */
#ifndef CHECK_H
#define CHECK_H

/* Results */

static int failures, tests, bad_tests;
static const char *test_name = "start", *filter = "";
static double time_scale;
static bool exhaustive, stop_at_failure;
static u64 seed = 1;

static void __printf(1, 2) note(const char *fmt, ...)
{
	char buf[300] = "# ";
	va_list args;
	int len;

	va_start(args, fmt);
	len = 2 + vsnprintf(buf + 2, sizeof(buf) - 3, fmt, args);
	va_end(args);
	len = min(len, (int)sizeof(buf) - 1);
	buf[len++] = '\n';
	/* May be in a signal handler. */
	if (write(STDOUT_FILENO, buf, len) != len)
		_exit(1);
}

/* True if all is well. */
#define check(cond, fmt, ...)							\
({										\
	bool __ok = (cond);							\
										\
	if (unlikely(!__ok) && __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED) < 8) \
		note("line %d: %s: " fmt, __LINE__, #cond, ##__VA_ARGS__);	\
	__ok;									\
})

/* False if it is not to be run. */
static bool begin(const char *name)
{
	test_name = name;
	failures = 0;
	return strstr(name, filter);
}

static void end(void)
{
	tests++;
	if (failures) {
		bad_tests++;
		note("%d checks failed", failures);
	}
	printf("%s %d - %s\n", failures ? "not ok" : "ok", tests, test_name);
	fflush(stdout);
	if (failures && stop_at_failure)
		exit(1);
}

static void hang(int sig)
{
	note("hang in: %s", test_name);
	_exit(1);
}

/* Random numbers */

static u64 mix(u64 x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static u32 rnd(u64 *state, u32 below)
{
	*state = mix(*state);
	return (*state >> 16) % below;
}

/* -t, -s, -f, -x and -e; how many seconds to take in all. */
static double options(int argc, char **argv)
{
	double seconds = 10;
	int opt;

	while ((opt = getopt(argc, argv, "t:s:f:xe")) != -1) {
		if (opt == 't') {
			seconds = atof(optarg);
		} else if (opt == 's') {
			seed = strtoull(optarg, NULL, 0);
		} else if (opt == 'f') {
			filter = optarg;
		} else if (opt == 'x') {
			exhaustive = true;
		} else if (opt == 'e') {
			stop_at_failure = true;
		} else {
			fprintf(stderr, "usage: %s [-t seconds] [-s seed] [-f name] [-x] [-e]\n",
				argv[0]);
			exit(2);
		}
	}
	time_scale = seconds / 10;
	signal(SIGALRM, hang);
	alarm(exhaustive ? 1800 : 120 + 10 * seconds);
	setvbuf(stdout, NULL, _IOLBF, 0);
	return seconds;
}

#endif
