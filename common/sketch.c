/* SPDX-License-Identifier: MIT */

#include "common/sketch.h"

#include <endian.h>

#define HASH_BITS (8 * SKETCH_HASH_BYTES)

/* Where the hash is, or would be. Without a branch on what it is compared with: none could be foretold. */
static size_t place_of(const struct sketch *s, uint64_t hash)
{
	size_t low = 0, count = s->count;

	for (size_t half; (half = count / 2) > 0; count -= half)
		low += s->hash[low + half - 1] < hash ? half : 0;
	return low + (count > 0 && s->hash[low] < hash);
}

static bool has_at(const struct sketch *s, size_t at, uint64_t hash)
{
	return at < s->count && s->hash[at] == hash;
}

/* Puts it to `to`, and what was from `at` to `end` behind it; what is past SKETCH_MAX then goes. */
static void put(struct sketch *s, size_t at, size_t end, size_t to, uint64_t hash)
{
	if (to >= SKETCH_MAX)
		return;
	memmove(&s->hash[to + 1], &s->hash[at],
		MIN(end - at, SKETCH_MAX - to - 1) * sizeof(s->hash[0]));
	s->hash[to] = hash;
}

void sketch_add(struct sketch *s, uint64_t hash)
{
	size_t at;

	hash >>= 64 - HASH_BITS;
	at = place_of(s, hash);
	if (at == SKETCH_MAX || has_at(s, at, hash))
		return;
	put(s, at, s->count, at, hash);
	s->count = MIN(s->count + 1, (size_t)SKETCH_MAX);
}

uint64_t sketch_estimate(const struct sketch *s)
{
	uint64_t last;

	if (s->count < SKETCH_MAX)
		return s->count;
	/* so many minus one share the room below the highest */
	last = s->hash[SKETCH_MAX - 1];
	return (uint64_t)((SKETCH_MAX - 1) / ((double)last / (double)(UINT64_C(1) << HASH_BITS)));
}

size_t sketch_write(const struct sketch *s, uint8_t to[static SKETCH_BYTES])
{
	for (size_t i = 0; i < s->count; i++)
		for (size_t k = 0; k < SKETCH_HASH_BYTES; k++)
			to[SKETCH_HASH_BYTES * i + k] = (uint8_t)(s->hash[i] >> 8 * k);
	return sketch_size(s);
}

static uint64_t hash_at(const uint8_t *bytes, size_t i)
{
	uint32_t low;

	bytes += SKETCH_HASH_BYTES * i;
	memcpy(&low, bytes, sizeof(low));
	return (uint64_t)bytes[4] << 32 | le32toh(low);
}

/* First the places of those that are new, as the sketch is; then, from the last, each to its own, so that nothing is moved twice. */
int sketch_merge(struct sketch *to, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	/* of the many that are merged into one that is full, most have few hashes, or none, that are low enough */
	uint64_t limit = to->count < SKETCH_MAX ? UINT64_MAX : to->hash[SKETCH_MAX - 1], next = 0;
	struct {
		uint8_t from, place;
	} fresh[SKETCH_MAX];
	size_t count = 0, end = to->count;

	if (size % SKETCH_HASH_BYTES != 0 || size > SKETCH_BYTES)
		return -EBADMSG;
	for (size_t i = 0; i < size / SKETCH_HASH_BYTES; i++) {
		uint64_t hash = hash_at(bytes, i);
		size_t place;

		if (hash < next)
			return -EBADMSG;
		if (hash >= limit)
			break;
		next = hash + 1;
		place = place_of(to, hash);
		fresh[count].from = (uint8_t)i;
		fresh[count].place = (uint8_t)place;
		count += !has_at(to, place, hash);
	}
	to->count = MIN(to->count + count, (size_t)SKETCH_MAX);
	for (size_t i = count; i-- > 0; end = fresh[i].place)
		put(to, fresh[i].place, end, fresh[i].place + i, hash_at(bytes, fresh[i].from));
	return 0;
}
