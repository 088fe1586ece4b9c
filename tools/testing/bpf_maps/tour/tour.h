/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs of the tour share. */
#ifndef __TOUR_H
#define __TOUR_H

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/types.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "types.h"

#define TIMEOUT_MS 60000	/* that only a failure meets */
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define check(ok, ...) do { if (!(ok)) errx(1, __VA_ARGS__); } while (0)

/* What follows the key in the map's fdinfo; the next call overwrites it. */
static inline char *map_fdinfo(int map_fd, const char *key)
{
	static char line[512];
	size_t len = strlen(key);
	bool found = false;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", map_fd);
	f = fopen(line, "r");
	check(f, "no %s", line);
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, key, len) && line[len] == ':';
	fclose(f);
	check(found, "fdinfo has no line \"%s:\"", key);
	return line + len + 2;
}

#endif
