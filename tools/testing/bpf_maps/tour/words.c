// SPDX-License-Identifier: GPL-2.0-only
/* A program to profile: which word is the most frequent one in its input. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define noinline __attribute__((noinline))

struct word {
	struct word *next;
	unsigned long count;
	char text[32];
};

static struct word *table[1024];

static noinline unsigned int hash_text(const char *text)
{
	unsigned int hash = 0;

	while (*text)
		hash = hash * 31 + *text++;
	return hash % 1024;
}

static noinline struct word *find_word(const char *text)
{
	struct word *w, **head = &table[hash_text(text)];

	for (w = *head; w; w = w->next) {
		if (!strcmp(w->text, text))
			return w;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		exit(1);
	strcpy(w->text, text);
	w->next = *head;
	*head = w;
	return w;
}

static noinline size_t read_word(char *text, size_t size)
{
	size_t len = 0;
	int c;

	while ((c = getchar_unlocked()) != EOF && (isalpha(c) || !len)) {
		if (isalpha(c) && len < size - 1)
			text[len++] = c;
	}
	text[len] = 0;
	return len;
}

int main(void)
{
	struct word none = {}, *w, *most = &none;
	char text[32];

	while (read_word(text, sizeof(text))) {
		w = find_word(text);
		if (++w->count > most->count)
			most = w;
	}
	printf("%s: %lu times\n", most->text, most->count);
	return 0;
}
