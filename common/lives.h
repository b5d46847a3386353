/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The shortest and the longest life among what began within a stretch of time, at whatever moment past its end one asks for
 * them: the shortest of those that had ended by then, the longest of all, cut at that moment.
 *
 * Of what ended within the stretch two numbers are enough. Of what went on, only those are kept that can ever decide: for the
 * longest, whom no other both preceded and outlived; for the shortest, whom no other was both over before and shorter than.
 * There are few of them (of n random ones, about ln n), and at most LIVES_MAX: past it every second one is dropped, and what is
 * said is an estimate.
 */

#include "common/base.h"

#define LIVES_MAX 64u
/* two counts, two numbers, two lists of pairs */
#define LIVES_BYTES (2 + 2 * sizeof(int64_t) + 2 * LIVES_MAX * 2 * sizeof(int64_t))

/* None is both at most another's x and at most its y: ascending by x, descending by y. */
struct lives_stair {
	struct lives_step {
		int64_t x, y;
	} step[LIVES_MAX];
	size_t count;
};

struct lives {
	int64_t shortest, longest; /* usec; of what ended within the stretch, where `ended` */
	struct lives_stair early;  /* x: when it began; y: minus when it ended */
	struct lives_stair quick;  /* x: when it ended; y: its length */
	bool ended, thinned;
};

/* Empty. The steps need not be written: a lives is large, and mostly empty. */
void lives_init(struct lives *l);

/* `end` is of the stretch in which it began. */
void lives_add(struct lives *l, int64_t end, int64_t began, int64_t ended);

/* Adds those of a stretch that lies within one that ends at `end`. */
void lives_merge(struct lives *to, int64_t end, const struct lives *from);

/* At `until`, which is not before the stretch's end. *ret_shortest is INT64_MAX and *ret_longest -1 where there is none. */
void lives_at(const struct lives *l, int64_t until, int64_t *ret_shortest, int64_t *ret_longest);

/* How many bytes it is written as. */
size_t lives_size(const struct lives *l);
/* As bytes, little-endian; returns how many: none of an empty one. */
size_t lives_write(const struct lives *l, uint8_t to[static LIVES_BYTES]);
/* -EBADMSG: they are none. */
int lives_read(const void *data, size_t size, struct lives *ret) _must_check_;
