/* SPDX-License-Identifier: MIT */

#include "common/sketch.h"

#include <endian.h>

#define FEW 8u /* so many are sooner added one by one than by a walk over all */

/* Where the hash is, or would be. */
static size_t place_of(const struct sketch *s, uint64_t hash)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (s->hash[middle] < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void sketch_add(struct sketch *s, uint64_t hash)
{
	size_t at = place_of(s, hash);

	if (at == SKETCH_MAX || (at < s->count && s->hash[at] == hash))
		return;
	if (s->count < SKETCH_MAX)
		s->count++;
	memmove(&s->hash[at + 1], &s->hash[at], (s->count - 1 - at) * sizeof(s->hash[0]));
	s->hash[at] = hash;
}

/* Both are ascending: one walk over them. */
static void merge_all(struct sketch *to, const struct sketch *from)
{
	struct sketch merged;
	size_t a = 0, b = 0, n = 0;

	while (n < SKETCH_MAX && (a < to->count || b < from->count)) {
		bool first = b == from->count || (a < to->count && to->hash[a] <= from->hash[b]);
		uint64_t hash = first ? to->hash[a] : from->hash[b];

		b += b < from->count && from->hash[b] == hash;
		a += first;
		merged.hash[n++] = hash;
	}
	memcpy(to->hash, merged.hash, n * sizeof(merged.hash[0]));
	to->count = n;
}

/* Of the many that are merged into one that is full, most have few hashes, or none, that are low enough. */
void sketch_merge(struct sketch *to, const struct sketch *from)
{
	size_t low =
		to->count < SKETCH_MAX ? from->count : place_of(from, to->hash[SKETCH_MAX - 1]);

	if (low > FEW) {
		merge_all(to, from);
		return;
	}
	for (size_t i = 0; i < low; i++)
		sketch_add(to, from->hash[i]);
}

uint64_t sketch_estimate(const struct sketch *s)
{
	uint64_t last;

	if (s->count < SKETCH_MAX)
		return s->count;
	/* so many minus one share the room below the highest */
	last = s->hash[SKETCH_MAX - 1];
	return (uint64_t)((SKETCH_MAX - 1) / ((double)last / (double)UINT64_MAX));
}

size_t sketch_write(const struct sketch *s, uint8_t to[static SKETCH_BYTES])
{
	for (size_t i = 0; i < s->count; i++)
		for (size_t k = 0; k < 8; k++)
			to[8 * i + k] = (uint8_t)(s->hash[i] >> 8 * k);
	return 8 * s->count;
}

static uint64_t hash_at(const uint8_t *bytes, size_t i)
{
	uint64_t hash;

	memcpy(&hash, bytes + 8 * i, sizeof(hash));
	return le64toh(hash);
}

int sketch_read(const void *data, size_t size, struct sketch *ret)
{
	const uint8_t *bytes = data;
	uint64_t before = 0;

	if (size % 8 != 0 || size > SKETCH_BYTES)
		return -EBADMSG;
	for (size_t i = 0; i < size / 8; i++) {
		uint64_t hash = hash_at(bytes, i);

		if (i > 0 && hash <= before)
			return -EBADMSG;
		before = hash;
	}
	ret->count = size / 8;
	for (size_t i = 0; i < ret->count; i++)
		ret->hash[i] = hash_at(bytes, i);
	return 0;
}
