/* SPDX-License-Identifier: MIT */

/* The two clocks are read at one instant, also where whoever reads them is kept from the processor in between. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"

#define DISTANCE (50 * USEC_PER_DAY)
#define STALL    (300 * USEC_PER_MSEC)
#define INSTANT  10u

int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __real_clock_gettime(clockid_t id, struct timespec *ret);

/* A reading takes a microsecond; what is in `stalls` also what comes before the n-th, beginning with the lowest bit. */
static usec_t boot;
static uint64_t stalls;
static usec_t stall;

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
	usec_t t;

	if (boot == 0)
		return __real_clock_gettime(id, ret);
	boot += 1 + (stalls & 1 ? stall : 0);
	stalls >>= 1;
	t = id == CLOCK_REALTIME ? boot + DISTANCE : boot;
	*ret = (struct timespec){
		.tv_sec = (time_t)(t / USEC_PER_SEC), .tv_nsec = (long)(t % USEC_PER_SEC) * 1000};
	return 0;
}

/* By how much the pair is not of one instant; and it is one of those at which the clocks were asked. */
static usec_t off(uint64_t which, usec_t by)
{
	usec_t begin = USEC_PER_HOUR, end, distance;
	struct now now;

	boot = begin;
	stalls = which;
	stall = by;
	now = clock_now();
	end = boot;
	boot = 0;
	assert_in_range(now.boot, begin, end);
	assert_in_range(now.wall, begin + DISTANCE, end + DISTANCE);
	distance = now.wall - now.boot;
	return distance > DISTANCE ? distance - DISTANCE : DISTANCE - distance;
}

static void test_one_instant(void **state _unused_)
{
	assert_in_range(off(0, 0), 0, INSTANT);
	for (unsigned i = 0; i < 12; i++)
		for (unsigned k = 0; k < 12; k++)
			assert_in_range(
				off(UINT64_C(1) << i | UINT64_C(1) << k, STALL), 0, INSTANT);
}

/* Nothing is waited for: where each reading takes long it is as good as it can be. */
static void test_always_late(void **state _unused_)
{
	assert_in_range(off(UINT64_MAX, STALL), 0, STALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_instant),
		cmocka_unit_test(test_always_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
