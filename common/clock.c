/* SPDX-License-Identifier: MIT */

#include "common/clock.h"

#include <time.h>

static usec_t read_clock(clockid_t id)
{
	struct timespec t;
	int r = clock_gettime(id, &t);

	assert(r == 0); /* fails only for a clock that this kernel does not know */
	return (usec_t)t.tv_sec * USEC_PER_SEC + (usec_t)t.tv_nsec / 1000;
}

struct now clock_now(void)
{
	return (struct now){
		.boot = read_clock(CLOCK_BOOTTIME),
		.wall = read_clock(CLOCK_REALTIME),
	};
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
