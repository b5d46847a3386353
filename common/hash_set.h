/* SPDX-License-Identifier: MIT */
#pragma once

/* A set of 64-bit hashes, 11 to 22 bytes each. They must be well mixed (common/siphash.h); nothing is ever taken out. */

#include "common/base.h"

struct hash_set {
	uint64_t *slots; /* owned; 0: empty */
	size_t count, capacity;
};

void hash_set_done(struct hash_set *s);
bool hash_set_has(const struct hash_set *s, uint64_t hash);
/* Puts it in, also where it is in already. 0 or -ENOMEM. */
int hash_set_add(struct hash_set *s, uint64_t hash) _must_check_;
