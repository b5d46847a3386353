/* SPDX-License-Identifier: MIT */

#include "common/siphash.h"

#include <endian.h>

struct state {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static void rounds(struct state *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		s->v0 += s->v1;
		s->v2 += s->v3;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v1;
		s->v0 += s->v3;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 = rotate(s->v2, 32);
	}
}

static void absorb(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	rounds(s, 2);
	s->v0 ^= word;
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t size)
{
	struct state s = {
		.v0 = key->k[0] ^ UINT64_C(0x736f6d6570736575),
		.v1 = key->k[1] ^ UINT64_C(0x646f72616e646f6d),
		.v2 = key->k[0] ^ UINT64_C(0x6c7967656e657261),
		.v3 = key->k[1] ^ UINT64_C(0x7465646279746573),
	};
	const uint8_t *bytes = data;
	uint64_t word;
	size_t left;

	for (left = size; left >= 8; left -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		absorb(&s, le64toh(word));
	}
	word = (uint64_t)size << 56;
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)bytes[i] << (8 * i);
	absorb(&s, word);
	s.v2 ^= 0xff;
	rounds(&s, 4);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
