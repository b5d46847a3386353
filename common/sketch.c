/* SPDX-License-Identifier: MIT */

#include "common/sketch.h"

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

void sketch_merge(struct sketch *to, const struct sketch *from)
{
	for (size_t i = 0; i < from->count; i++)
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

int sketch_read(const void *data, size_t size, struct sketch *ret)
{
	const uint8_t *bytes = data;
	struct sketch s = {.count = size / 8};

	if (size % 8 != 0 || s.count > SKETCH_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < s.count; i++) {
		for (size_t k = 0; k < 8; k++)
			s.hash[i] |= (uint64_t)bytes[8 * i + k] << 8 * k;
		if (i > 0 && s.hash[i] <= s.hash[i - 1])
			return -EBADMSG;
	}
	*ret = s;
	return 0;
}
