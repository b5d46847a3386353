/* SPDX-License-Identifier: MIT */
#pragma once

/* The word that somebody may have meant. */

#include <limits.h>

#include "common/base.h"

/* A search for the word that is nearest to `text`: start with NEAR(text), then near_try each word there is. */
struct near {
	const char *text;
	const char *best; /* NULL: none is near enough */
	unsigned distance;
};
#define NEAR(text)                                                                                 \
	(struct near)                                                                              \
	{                                                                                          \
		(text), NULL, UINT_MAX                                                             \
	}

/* Keeps `word` where it is nearer than what was tried before; of equals the first stays. */
void near_try(struct near *n, const char *word);
