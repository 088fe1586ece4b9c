// SPDX-License-Identifier: GPL-2.0-only
/* words N: a program to profile; reads its input N times for the most frequent word. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct word {
	struct word *next;
	unsigned long count;
	char *text;
};

static struct word *table[4096], *most;

static unsigned int hash_text(const char *text)
{
	unsigned int hash = 0;

	while (*text)
		hash = hash * 31 + *text++;
	return hash % 4096;
}

static struct word *find_word(const char *text)
{
	struct word *w, **head = &table[hash_text(text)];

	for (w = *head; w; w = w->next) {
		if (!strcmp(w->text, text))
			return w;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		exit(1);
	w->text = strdup(text);
	w->next = *head;
	*head = w;
	return w;
}

static int next_char(void)
{
	static unsigned char buf[16384];
	static ssize_t len, at;

	if (at >= len) {
		len = read(STDIN_FILENO, buf, sizeof(buf));
		at = 0;
	}
	return len > 0 ? buf[at++] : EOF;
}

static size_t read_word(char *text, size_t size)
{
	size_t len = 0;
	int c;

	while ((c = next_char()) != EOF && (isalpha(c) || !len)) {
		if (isalpha(c) && len < size - 1)
			text[len++] = c;
	}
	text[len] = 0;
	return len;
}

static void count_words(void)
{
	char text[32];
	struct word *w;

	while (read_word(text, sizeof(text))) {
		w = find_word(text);
		if (++w->count > (most ? most->count : 0))
			most = w;
	}
}

int main(int argc, char **argv)
{
	int i;

	for (i = 0; i < atoi(argv[1]); i++) {
		lseek(STDIN_FILENO, 0, SEEK_SET);
		count_words();
	}
	if (most)
		printf("%s: %lu times\n", most->text, most->count);
	return 0;
}
