/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How many different things there were, in at most 640 bytes: the SKETCH_MAX lowest of their hashes (K minimum values; Bar-Yossef and
 * others, 2002). Exact while there are fewer; then within 9 % (one standard deviation). Two are merged into what one of all
 * would have been, in whatever order. The hashes must be well mixed (common/siphash.h).
 *
 * Of a hash the upper 40 bits are enough: two of 128 things are the same by them once in 135 million sketches.
 */

#include "common/base.h"

#define SKETCH_MAX        128u
#define SKETCH_HASH_BYTES 5u
#define SKETCH_BYTES      (SKETCH_MAX * SKETCH_HASH_BYTES)

struct sketch {
	uint64_t hash[SKETCH_MAX]; /* the upper 40 bits of each; ascending, none twice */
	size_t count;
};

void sketch_add(struct sketch *s, uint64_t hash);

/* How many different ones were added. */
uint64_t sketch_estimate(const struct sketch *s);

/* As bytes: the hashes, little-endian. Returns how many. */
size_t sketch_write(const struct sketch *s, uint8_t to[static SKETCH_BYTES]);
static inline size_t sketch_size(const struct sketch *s)
{
	return s->count * SKETCH_HASH_BYTES;
}

/* Adds what the bytes hold. -EBADMSG: they are no sketch, as far as they are looked at; nothing is added then. */
int sketch_merge(struct sketch *to, const void *data, size_t size) _must_check_;
