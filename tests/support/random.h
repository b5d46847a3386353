/* SPDX-License-Identifier: MIT */
#pragma once

/* Numbers that look random and are the same from the same state (xorshift64*; Vigna, 2016). */

#include "common/base.h"

/* Below `below`, which is at most 2^32. *state is not 0, and moves on. */
static inline uint64_t random_below(uint64_t *state, uint64_t below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (*state * UINT64_C(0x2545f4914f6cdd1d) >> 32) % below;
}
