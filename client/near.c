/* SPDX-License-Identifier: MIT */

/*
 * The distance of two words is how many letters are wrong: one too many, one missing, another one, or two swapped
 * (Damerau 1964, adjacent swaps only). A third of a word may be wrong, and no more: a worse guess would be noise.
 */

#include "client/near.h"

#define WORD_MAX 24u /* no verb, option or column is longer */

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = MIN(a, b);

	return MIN(m, c);
}

static unsigned distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned row[WORD_MAX + 1][WORD_MAX + 1];

	for (size_t i = 0; i <= a_length; i++)
		row[i][0] = (unsigned)i;
	for (size_t j = 0; j <= b_length; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++)
		for (size_t j = 1; j <= b_length; j++) {
			row[i][j] = least(row[i - 1][j] + 1, row[i][j - 1] + 1,
				row[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[i][j] = MIN(row[i][j], row[i - 2][j - 2] + 1);
		}
	return row[a_length][b_length];
}

void near_try(struct near *n, const char *word)
{
	size_t length = strlen(n->text), word_length = strlen(word);
	unsigned d;

	if (length > WORD_MAX || word_length > WORD_MAX)
		return;
	d = distance(n->text, length, word, word_length);
	if (d < n->distance && d * 3 <= MAX(length, word_length)) {
		n->best = word;
		n->distance = d;
	}
}
