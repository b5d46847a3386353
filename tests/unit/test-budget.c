/* SPDX-License-Identifier: MIT */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "daemon/capture/budget.h"

#define MSEC USEC_PER_MSEC

/* Spends `cpu` n times; returns how often the interval changed. */
static unsigned spend(struct budget *b, usec_t cpu, unsigned n)
{
	unsigned changes = 0;

	for (unsigned i = 0; i < n; i++)
		changes += budget_spend(b, cpu);
	return changes;
}

static void test_cheap_sweeps_change_nothing(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, USEC_PER_SEC, 50);
	assert_int_equal(spend(&b, 1 * MSEC, 1000), 0);
	assert_int_equal(b.interval_usec, USEC_PER_SEC);
}

static void test_three_dear_sweeps_double(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, USEC_PER_SEC, 50); /* 50 ms a sweep */
	assert_int_equal(spend(&b, 51 * MSEC, 2), 0);
	assert_int_equal(spend(&b, 1 * MSEC, 1), 0); /* weather: the count starts again */
	assert_int_equal(spend(&b, 51 * MSEC, 2), 0);
	assert_int_equal(spend(&b, 51 * MSEC, 1), 1);
	assert_int_equal(b.interval_usec, 2 * USEC_PER_SEC);
	/* 51 ms fit in twice the time. */
	assert_int_equal(spend(&b, 51 * MSEC, 100), 0);
}

static void test_it_comes_back_but_not_below_what_is_configured(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, USEC_PER_SEC, 50);
	assert_int_equal(spend(&b, 500 * MSEC, 12), 4);
	assert_int_equal(b.interval_usec, 16 * USEC_PER_SEC);
	assert_int_equal(spend(&b, 1 * MSEC, 9), 0);
	assert_int_equal(spend(&b, 1 * MSEC, 1), 1);
	assert_int_equal(b.interval_usec, 8 * USEC_PER_SEC);
	assert_int_equal(spend(&b, 1 * MSEC, 1000), 3);
	assert_int_equal(b.interval_usec, USEC_PER_SEC);
}

static void test_an_hour_is_the_end(void **state)
{
	struct budget b;

	(void)state;
	budget_init(&b, 40 * USEC_PER_MINUTE, 1);
	assert_int_equal(spend(&b, USEC_PER_HOUR, 100), 1);
	assert_int_equal(b.interval_usec, INTERVAL_MAX_USEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cheap_sweeps_change_nothing),
		cmocka_unit_test(test_three_dear_sweeps_double),
		cmocka_unit_test(test_it_comes_back_but_not_below_what_is_configured),
		cmocka_unit_test(test_an_hour_is_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
