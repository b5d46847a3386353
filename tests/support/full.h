/* SPDX-License-Identifier: MIT */
#pragma once

/* How much of what can be tried is tried: all of it in the long half of check ($PORTLEDGER_FULL), some of it before every commit. After
 * cmocka.h. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base.h"
#include "common/clock.h"
#include "tests/support/random.h"

static inline bool is_full(void)
{
	const char *said = getenv("PORTLEDGER_FULL");

	return said && streq(said, "yes");
}

static inline unsigned full_or(unsigned all, unsigned some)
{
	return is_full() ? all : some;
}

/* Where databases are made: before a commit in memory, as what a disk does is not what most tests are about (tests/support/disk.h is). */
static inline const char *database_directory(void)
{
	const char *said = getenv("TMPDIR");

	if (said)
		return said;
	return !is_full() && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* A number below `below` by chance, another one in each run: what is left out now is tried some other time. $PORTLEDGER_CHANCE, which
 * is printed, gives the same ones again. */
static inline uint64_t chance_below(uint64_t below)
{
	static uint64_t random;

	if (random == 0) {
		const char *said = getenv("PORTLEDGER_CHANCE");

		random = said ? strtoull(said, NULL, 10) : clock_now().boot;
		print_message("  PORTLEDGER_CHANCE=%llu\n", (unsigned long long)random);
		random |= 1;
	}
	return random_below(&random, below);
}

/* How far on it is to the next one that is tried, of so many: always the same in the long half, else more or less. */
static inline unsigned stride(unsigned every)
{
	return every <= 1 || is_full() ? every : 1 + (unsigned)chance_below(2 * every - 1);
}
