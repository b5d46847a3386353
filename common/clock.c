/* SPDX-License-Identifier: MIT */

#include "common/clock.h"

#include <time.h>

/* Two readings so close together are of one instant. */
#define INSTANT_USEC 10u
#define TRIES        8u

static usec_t read_clock(clockid_t id)
{
	struct timespec t;
	int r = clock_gettime(id, &t);

	assert(r == 0); /* fails only for a clock that this kernel does not know */
	return (usec_t)t.tv_sec * USEC_PER_SEC + (usec_t)t.tv_nsec / 1000;
}

/* Whoever is kept from the processor between the two readings takes that for a distance of the clocks, which all times of
 * the next sweeps would have: of some tries the quickest. */
struct now clock_now(void)
{
	struct now best = {0};
	usec_t quickest = USEC_UNSET;

	for (unsigned i = 0; i < TRIES && quickest > INSTANT_USEC; i++) {
		usec_t before = read_clock(CLOCK_BOOTTIME), wall = read_clock(CLOCK_REALTIME);
		usec_t took = usec_sub(read_clock(CLOCK_BOOTTIME), before);

		if (took >= quickest)
			continue;
		quickest = took;
		best = (struct now){.boot = before + took / 2, .wall = wall};
	}
	return best;
}

usec_t clock_boot(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

usec_t clock_monotonic_usec(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

usec_t clock_cpu_usec(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}
