/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How many different things there were, in at most 1 KiB: the SKETCH_MAX lowest of their hashes (K minimum values; Bar-Yossef and
 * others, 2002). Exact while there are fewer; then within 9 % (one standard deviation). Two are merged into what one of all
 * would have been, in whatever order. The hashes must be well mixed (common/siphash.h).
 */

#include "common/base.h"

#define SKETCH_MAX   128
#define SKETCH_BYTES (SKETCH_MAX * sizeof(uint64_t))

struct sketch {
	uint64_t hash[SKETCH_MAX]; /* ascending, none twice */
	size_t count;
};

void sketch_add(struct sketch *s, uint64_t hash);
void sketch_merge(struct sketch *to, const struct sketch *from);

/* How many different ones were added. */
uint64_t sketch_estimate(const struct sketch *s);

/* As bytes, little-endian; returns how many. */
size_t sketch_write(const struct sketch *s, uint8_t to[static SKETCH_BYTES]);
/* -EBADMSG: that is none. */
int sketch_read(const void *data, size_t size, struct sketch *ret) _must_check_;
