/* SPDX-License-Identifier: MIT */
#pragma once

/* SipHash-2-4 (Aumasson and Bernstein, 2012): who does not know the key cannot make two inputs of one hash. */

#include "common/base.h"

struct siphash_key {
	uint64_t k[2];
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t size);
