/* SPDX-License-Identifier: MIT */

#include "common/hash_set.h"

#define FIRST_CAPACITY 64

void hash_set_done(struct hash_set *s)
{
	free(s->slots);
	*s = (struct hash_set){0};
}

/* 0 marks an empty slot. */
static uint64_t kept(uint64_t hash)
{
	return hash ? hash : 1;
}

/* Where the hash is, or would be. There is an empty slot. */
static uint64_t *slot_of(const struct hash_set *s, uint64_t hash)
{
	size_t at = hash & (s->capacity - 1);

	while (s->slots[at] != 0 && s->slots[at] != hash)
		at = (at + 1) & (s->capacity - 1);
	return &s->slots[at];
}

bool hash_set_has(const struct hash_set *s, uint64_t hash)
{
	return s->capacity > 0 && *slot_of(s, kept(hash)) != 0;
}

static int grow(struct hash_set *s)
{
	struct hash_set larger = {
		.count = s->count, .capacity = s->capacity ? 2 * s->capacity : FIRST_CAPACITY};

	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < s->capacity; i++)
		if (s->slots[i] != 0)
			*slot_of(&larger, s->slots[i]) = s->slots[i];
	free(s->slots);
	*s = larger;
	return 0;
}

int hash_set_add(struct hash_set *s, uint64_t hash)
{
	uint64_t *slot;
	int r = s->count >= s->capacity / 4 * 3 ? grow(s) : 0;

	if (r < 0)
		return r;
	slot = slot_of(s, kept(hash));
	s->count += *slot == 0;
	*slot = kept(hash);
	return 0;
}
